//! The ladder of equivalence: each level of the compiler computes what the level above it does.
//!
//! | rung | relation to the one above |
//! |---|---|
//! | graph interpreter, model as made | reference |
//! | graph interpreter, canonical graph | float rounding |
//! | graph interpreter, before integer ops | equal, unless the lossy step or the dropping of inner pairs is between |
//! | quant interpreter, fused graph | every op by itself within a quantization step ([`crate::stepwise`]) |
//! | quant interpreter, whatever the options | pairs as written, but for their rounding |
//! | loop interpreter, planned loop code | equal if everything between the borders is integer, else float rounding |
//! | the same with a step for every conversion | equal ([`crate::conversions`]) |
//! | JIT, every tier, threads and batch | equal |
//! | `.so`, every tier, threads and batch | equal |
//!
//! Rounding in a float op can flip a quantization behind it, and a network can make much of that. How much is measured:
//! the bound of a rung with float rounding is what noise of that size does to the very model.

pub use crate::everywhere::{first, item, run, same, shared_object, tiers};

use crate::everywhere::{self, Case, everywhere};
use crate::stepwise::Noise;
use crate::{batch, conversions, stepwise, watched};
use qc_compiler::{
    CompileError, CompileOptions, Compiled, Compiler, Guard, ModelFile, Precision, Quantize, REGISTRY, TargetCpu,
    interpret, pipeline,
};
use qc_dialects::graph::{DynamicQuantize, Observe};
use qc_frontend::{Imported, Port};
use qc_ir::{Elem, HostTensor, Keeps, ManagerOptions, Module, NoSink, OpDef, Step, distance, seeded_inputs};

/// Batch sizes that are tried: one with code of its own at either end, one that must be split.
pub const BATCHES: [usize; 3] = [8, 3, 1];

/// Items on which all levels are compared; the compiled model runs on all.
const ITEMS_BY_OP: usize = 2;
/// Difference that float rounding makes in a model without amplification, of the largest magnitude.
const FLOAT_TOLERANCE: f32 = 1e-4;
/// What real rounding may do, compared with the measured effect.
const NOISE_MARGIN: f32 = 8.0;

/// The modules of one model on the rungs of the compiler, at batch 1.
#[derive(Debug)]
pub struct Levels {
    /// Canonical graph.
    pub canonical: Module,
    /// That with observations, if there are ranges.
    pub observed: Module,
    /// Graph with quantize/dequantize pairs, before integer ops.
    pub paired: Module,
    /// Graph with integer ops, as `lower-to-quant` leaves it.
    pub integer: Module,
    /// Fused graph: what rounds for nothing is gone.
    pub fused: Module,
    /// Planned loop code.
    pub planned: Module,
    /// Planned loop code with a step for every conversion, where that is another one.
    pub apart: Option<Module>,
}

/// A rung that does not hold.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    /// Which one.
    pub rung: String,
    /// How.
    pub text: String,
}

impl Failure {
    /// The rung without tier, threads and batch: what stays the same while a model is made small.
    pub fn kind(&self) -> &str {
        self.rung.split(" on ").next().unwrap_or(&self.rung)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rung, self.text)
    }
}

/// A failure at a rung.
pub fn fail(rung: impl Into<String>, text: impl ToString) -> Failure {
    Failure { rung: rung.into(), text: text.to_string() }
}

/// What a module in code looks like to the compiler: every argument and result has the batch in front.
pub fn imported(module: Module) -> Imported {
    let body = module.body();
    let port = |name: &str, v| {
        let t = module.tensor_ty(v);
        Port {
            name: name.to_string(),
            elem: module.storage(t.elem),
            dims: t.dims.to_vec(),
            batched: true,
            counted: None,
        }
    };
    let inputs = module.args(body).iter().map(|&v| port(module.name(v).unwrap_or("x"), v)).collect();
    let names = module.main().map_or(&[][..], |f| &f.outputs);
    let outputs = names.iter().zip(module.returns(body)).map(|(n, &v)| port(n, v)).collect();
    Imported { inputs, outputs, report: Vec::new(), fixed_batch: None, format: "text".into(), module }
}

/// How a model is compiled for the ladder: for every tier, every pass verified.
fn compiler(options: &CompileOptions) -> Compiler {
    let manager = ManagerOptions { verify_each: true, ..ManagerOptions::default() };
    Compiler::new(CompileOptions { target: TargetCpu::Fat, manager, ..options.clone() })
}

/// Brings a module that `make` gives per batch size to every level of the compiler.
///
/// # Errors
/// The rung at which it stops.
pub fn levels(make: &dyn Fn(usize) -> Module, options: &CompileOptions) -> Result<Levels, Failure> {
    let compiler = compiler(options);
    let run = |m: &mut Module, steps: &[Step]| compiler.run(m, steps, &mut NoSink).map(|_| ());
    let mut m = make(1);
    if let Some(d) = qc_ir::verify(&m, &REGISTRY).first() {
        return Err(fail("made", d.render(&m)));
    }
    let keeps_text = |m: &Module, rung: &str| qc_ir::round_trips(m, &REGISTRY).map_err(|d| fail(rung, d));
    keeps_text(&m, "text of the model")?;
    run(&mut m, &pipeline::float(options)).map_err(|e| fail("canonical", e))?;
    keeps_text(&m, "text of the canonical graph")?;
    let canonical = m.clone();
    if let Some(ranges) = &options.ranges {
        qc_compiler::ranges::attach(&mut m, ranges).map_err(|d| fail("ranges", d))?;
    }
    let observed = m.clone();
    let steps = pipeline::int8(options);
    let (pairs, fusing, rest) = pipeline::around_fusing(&steps);
    run(&mut m, pairs).map_err(|e| fail("pairs", e))?;
    keeps_text(&m, "text of the graph with pairs")?;
    let paired = m.clone();
    run(&mut m, fusing).map_err(|e| fail("integer ops", e))?;
    let integer = m.clone();
    run(&mut m, rest).map_err(|e| fail("fused", e))?;
    keeps_text(&m, "text of the fused graph")?;
    let fused = m.clone();
    run(&mut m, &pipeline::loops()).map_err(|e| fail("loops", e))?;
    keeps_text(&m, "text of the loop code")?;
    let mut apart = conversions::apart(&fused);
    if let Some(twin) = &mut apart {
        run(twin, &pipeline::loops()).map_err(|e| fail("conversions apart", e))?;
    }
    Ok(Levels { canonical, observed, paired, integer, fused, planned: m, apart })
}

/// Compiles a module that `make` gives per batch size for every tier.
///
/// # Errors
/// As the compiler.
pub fn compile_module(make: &dyn Fn(usize) -> Module, options: &CompileOptions) -> Result<Compiled, Failure> {
    let import = |batch: Option<usize>| Ok::<_, CompileError>(imported(make(batch.unwrap_or(1))));
    let compiled = compiler(options).compile_imported("model", [0; 32], &import, &mut NoSink);
    compiled.map_err(|e| fail("compile", e))
}

/// Whether a fused module computes nothing in floats, so that interpreter and kernels must agree to the bit.
pub fn is_integer(m: &Module) -> bool {
    let exact = ["graph.constant", "graph.quantize", "graph.dequantize", "graph.reshape", "graph.transpose"];
    let moves = ["graph.slice", "graph.concat", "graph.max_pool", "graph.relu", "graph.clip", "graph.observe"];
    let ok = |name: &str| name.starts_with("quant.") || exact.contains(&name) || moves.contains(&name);
    m.ops(m.body()).iter().all(|&op| ok(m.def(op).name))
}

/// Climbs the whole ladder with a module that `make` gives per batch size; what it was on the way at batch 1.
///
/// # Errors
/// The first rung that does not hold.
pub fn climb(make: &dyn Fn(usize) -> Module, options: &CompileOptions) -> Result<Levels, Failure> {
    let inputs = seeded_inputs(&make(BATCHES[0]));
    climb_with(make, options, &inputs)
}

/// Climbs with inputs of the largest of [`BATCHES`].
///
/// # Errors
/// The first rung that does not hold.
pub fn climb_with(
    make: &dyn Fn(usize) -> Module,
    options: &CompileOptions,
    whole: &[HostTensor],
) -> Result<Levels, Failure> {
    let r = levels(make, options)?;
    let all = BATCHES[0];
    let items: Vec<Vec<HostTensor>> = (0..all).map(|i| whole.iter().map(|t| item(t, all, i)).collect()).collect();
    let made = make(1);
    for inputs in &items[..ITEMS_BY_OP] {
        compare_levels(&made, &r, inputs, options)?;
    }
    // What is quantized besides the model's own pairs differs from it by more than their rounding.
    let own = options.ranges.is_none() && options.quantize == Quantize::Given;
    let has = |def: &'static OpDef| made.ops(made.body()).iter().any(|&op| made.is(op, def));
    // What f32 makes of formats that are found in a run is the rounding of no pair.
    let stripped = options.precision == Precision::Fp32 && has(DynamicQuantize::DEF);
    if own && !stripped && !has(Observe::DEF) {
        compare_written(&made, &r.fused, &items)?;
    }
    if let Some(all) = watched::all_floats(&r.fused) {
        let rung = "watched tensors";
        let both = watched::both(&compiler(options), &all).map_err(|e| fail(rung, e))?;
        watched::compare(&both, &items[0]).map_err(|e| fail(rung, e))?;
    }
    let compiled = compile_module(make, options)?;
    let jit = compiled.jit().map_err(|e| fail("jit", e))?;
    let (_dir, loaded) = shared_object(&compiled).map_err(|e| fail("shared object", e))?;
    let ends = [(&jit, "JIT"), (&loaded, "shared object")];
    if jit.whole_batches().is_some() {
        for &batch in &BATCHES {
            let own = levels(&|_| make(batch), options)?;
            let inputs: Vec<HostTensor> = whole.iter().map(|t| first(t, all, batch)).collect();
            compare_levels(&make(batch), &own, &inputs, options)?;
            let expected = [interpreted(&own.planned, &inputs, "loop interpreter")?];
            let case = Case { batch, inputs, expected: &expected };
            ends.iter().try_for_each(|(p, end)| everywhere(p, end, std::slice::from_ref(&case)))?;
        }
        return Ok(r);
    }
    apart(&make(all), &made, whole, &items)?;
    let planned = |inputs: &Vec<HostTensor>| interpreted(&r.planned, inputs, "loop interpreter");
    let expected = items.iter().map(planned).collect::<Result<Vec<_>, Failure>>()?;
    ends.iter().try_for_each(|(p, end)| everywhere::items(p, end, whole, &expected))?;
    Ok(r)
}

/// Whether the model computes each item as if it were alone. Otherwise it may not be split, whatever analysis says.
fn apart(whole_model: &Module, model: &Module, whole: &[HostTensor], items: &[Vec<HostTensor>]) -> Result<(), Failure> {
    let rung = "items of a batch that is split";
    let together = interpreted(whole_model, whole, rung)?;
    for (n, inputs) in items.iter().enumerate() {
        for (a, b) in interpreted(model, inputs, rung)?.iter().zip(&together) {
            same(a, &item(b, items.len(), n)).map_err(|e| fail(rung, format!("item {n}: {e}")))?;
        }
    }
    Ok(())
}

fn interpreted(m: &Module, inputs: &[HostTensor], rung: &str) -> Result<Vec<HostTensor>, Failure> {
    interpret(m, inputs).map_err(|d| fail(rung, d.render(m)))
}

/// Compares the interpreters of all levels on one item.
fn compare_levels(made: &Module, r: &Levels, inputs: &[HostTensor], options: &CompileOptions) -> Result<(), Failure> {
    let reference = interpreted(made, inputs, "model")?;
    let canonical = interpreted(&r.canonical, inputs, "graph interpreter")?;
    let paired = interpreted(&r.paired, inputs, "graph interpreter with pairs")?;
    let quant = interpreted(&r.fused, inputs, "quant interpreter")?;
    let loops = interpreted(&r.planned, inputs, "loop interpreter")?;
    if options.precision != Precision::Fp32 {
        let tolerance = FLOAT_TOLERANCE + noise(made, inputs, &reference, "noise in the model")?;
        within(&reference, &canonical, tolerance, "canonical graph against model")?;
    }
    if options.ranges.is_none() && options.exact_qdq {
        within(&canonical, &paired, 0.0, "pairs against canonical graph")?;
    }
    stepwise::compare(&r.paired, &r.integer, inputs).map_err(|text| fail("quant interpreter against graph", text))?;
    let tolerance = match is_integer(&r.fused) {
        true => 0.0,
        false => FLOAT_TOLERANCE + noise(&r.fused, inputs, &quant, "noise in the fused graph")?,
    };
    within(&quant, &loops, tolerance, "loop interpreter against quant interpreter")?;
    match &r.apart {
        None => Ok(()),
        Some(apart) => {
            let rung = "conversions apart";
            let apart = interpreted(apart, inputs, rung)?;
            loops.iter().zip(&apart).try_for_each(|(a, b)| same(a, b).map_err(|e| fail(rung, e)))
        }
    }
}

/// Compares a program under whatever options with its pairs computed as written: what it leaves out must be rounding.
fn compare_written(written: &Module, fused: &Module, items: &[Vec<HostTensor>]) -> Result<(), Failure> {
    let rung = "options against pairs as written";
    let Err(diag) = qc_ir::check(written, fused, Keeps::Clamps, items, &REGISTRY) else { return Ok(()) };
    // Float ops that make much of a rounding error do so with and without pairs.
    for inputs in items {
        let reference = interpreted(written, inputs, rung)?;
        let explained = FLOAT_TOLERANCE + noise(written, inputs, &reference, rung)?;
        let found = interpreted(fused, inputs, rung)?;
        within(&reference, &found, explained, rung).map_err(|_| fail(rung, &diag.message))?;
    }
    Ok(())
}

/// How far rounding errors of float ops move the results of a model.
fn noise(m: &Module, inputs: &[HostTensor], results: &[HostTensor], rung: &str) -> Result<f32, Failure> {
    let mut worst = 0.0f32;
    for kind in Noise::ALL {
        let noisy = stepwise::with_noise(m, inputs, kind).map_err(|d| fail(rung, d.render(m)))?;
        let far = results.iter().zip(&noisy).filter_map(|(a, b)| distance(a, b));
        worst = far.fold(worst, |a, b| if b > a || b.is_nan() { b } else { a });
    }
    Ok(if worst.is_nan() { f32::INFINITY } else { NOISE_MARGIN * worst })
}

fn within(a: &[HostTensor], b: &[HostTensor], tolerance: f32, rung: &str) -> Result<(), Failure> {
    if a.len() != b.len() {
        return Err(fail(rung, format!("{} results against {}", a.len(), b.len())));
    }
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        let d = distance(x, y).ok_or_else(|| fail(rung, "the types differ"))?;
        // A NaN distance must fail, hence the negated comparison.
        if x.dims() != y.dims() || d.is_nan() || d > tolerance {
            return Err(fail(
                rung,
                format!("result {i} differs by {d:e} of the largest magnitude ({tolerance:e} allowed)"),
            ));
        }
    }
    Ok(())
}

/// Climbs the ladder with a module whose shapes have the batch in front. Where its ops treat items alike, other batches
/// have code of their own as well.
///
/// # Errors
/// The first rung that does not hold.
pub fn climb_module(m: &Module, options: CompileOptions) -> Result<(), Failure> {
    let scales = BATCHES.iter().all(|&b| batch::times(m, b).is_some());
    let batches = if scales { options.batches } else { vec![1] };
    let options = CompileOptions { batches, ..options };
    let make = |b: usize| batch::times(m, b).unwrap_or_else(|| batch::signature(m, b));
    climb(&make, &options).map(|_| ())
}

/// The options of a file test, as `exact-qdq` or `precision=fp32`.
///
/// # Errors
/// A word that is none.
pub fn options_of(words: &str) -> Result<CompileOptions, String> {
    let mut options = CompileOptions::default();
    for word in words.split_whitespace() {
        match word {
            "exact-qdq" => options.exact_qdq = true,
            "guard=none" => options.guard = Guard::None,
            "precision=fp32" => options.precision = Precision::Fp32,
            "quantize=weights" => options.quantize = Quantize::Weights,
            "quantize=dynamic" => options.quantize = Quantize::Dynamic,
            _ => match (word.strip_prefix("keep="), word.strip_prefix("only=")) {
                (Some(kept), _) => options.keep_fp32.push(kept.into()),
                (_, Some(list)) => options.quantize_ops = list.split(',').map(str::to_string).collect(),
                _ => return Err(format!("`{word}` is no option of the ladder")),
            },
        }
    }
    Ok(options)
}

/// Opens a model for all rungs.
///
/// # Errors
/// As [`Compiler::compile`].
pub fn compile(path: &std::path::Path, options: &CompileOptions) -> Result<Compiled, CompileError> {
    let file = ModelFile::open(path, options.params.as_deref())?;
    Compiler::new(options.clone()).compile_file(&file, &mut NoSink)
}

/// The element a runtime type stands for.
pub fn elem_of(elem: qc_runtime::Elem) -> Elem {
    match elem {
        qc_runtime::Elem::F32 => Elem::F32,
        qc_runtime::Elem::U8 => Elem::U8,
        qc_runtime::Elem::I8 => Elem::I8,
        qc_runtime::Elem::I32 => Elem::I32,
        qc_runtime::Elem::I64 => Elem::I64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Mode, Recipe, build};

    /// A model whose code for a batch of 8 is that of another model must fall off the ladder there.
    #[test]
    fn a_wrong_variant_is_seen() {
        let pairs = (0..).map(|seed| Recipe::random(seed, Mode::Float)).map(with_other_numbers);
        let (right, wrong) = pairs.filter(differ).find(|(right, _)| !mixes(right)).unwrap();
        let make = |batch: usize| build(if batch == 8 { &wrong } else { &right }, batch);
        let r = climb(&|batch| build(&right, batch), &right.options()).unwrap();
        let failure = climb(&make, &right.options()).map(|_| ()).unwrap_err();
        assert_eq!(failure.rung, "items of a batch that is split", "{failure}");
        let whole = seeded_inputs(&make(BATCHES[0]));
        let one = |i: usize| whole.iter().map(|t| item(t, BATCHES[0], i)).collect::<Vec<_>>();
        let expected: Vec<_> = (0..BATCHES[0]).map(|i| interpret(&r.planned, &one(i)).unwrap()).collect();
        let jit = compile_module(&make, &right.options()).unwrap().jit().unwrap();
        let failure = everywhere::items(&jit, "JIT", &whole, &expected).unwrap_err();
        assert!(failure.rung.starts_with("JIT on") && failure.rung.ends_with("batch 8"), "{failure}");
    }

    #[test]
    fn some_random_models_mix_their_items() {
        let found = (0..150).filter(|seed| mixes(&Recipe::random(*seed, Mode::Float))).count();
        assert!((3..75).contains(&found), "{found} of 150");
    }

    /// Whether the items of a model meet, so that batches are not split.
    fn mixes(recipe: &Recipe) -> bool {
        let compiled = compile_module(&|batch| build(recipe, batch), &recipe.options()).unwrap();
        compiled.jit().unwrap().whole_batches().is_some()
    }

    /// A recipe and the same with other constants.
    fn with_other_numbers(right: Recipe) -> (Recipe, Recipe) {
        let mut wrong = right.clone();
        wrong.steps.iter_mut().for_each(|step| step.picks[5] = step.picks[5].wrapping_add(1));
        (right, wrong)
    }

    /// Whether two recipes have results of one shape with different values.
    fn differ((a, b): &(Recipe, Recipe)) -> bool {
        let run = |m: Module| interpret(&m, &seeded_inputs(&m)).unwrap();
        let (a, b) = (run(build(a, 1)), run(build(b, 1)));
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.dims() == b.dims() && same(a, b).is_err())
    }

    #[test]
    fn tolerances_do_not_forgive_nan() {
        let t = |v: f32| vec![HostTensor::f32([1], vec![v])];
        within(&t(1.0), &t(1.05), 0.1, "r").unwrap();
        within(&t(1.0), &t(1.2), 0.1, "r").unwrap_err();
        within(&t(1.0), &t(f32::NAN), 0.1, "r").unwrap_err();
    }
}
