//! The ladder of equivalence: each level of the compiler computes what the level above it does.
//!
//! | rung | relation to the one above |
//! |---|---|
//! | graph interpreter, model as made | reference |
//! | graph interpreter, canonical graph | float rounding |
//! | graph interpreter, before integer ops | equal, unless the lossy step or the dropping of inner pairs is between |
//! | quant interpreter, fused graph | every op by itself within a quantization step ([`crate::stepwise`]) |
//! | loop interpreter, planned loop code | equal if everything between the borders is integer, else float rounding |
//! | the same with a step for every conversion | equal ([`crate::borders`]) |
//! | JIT, every tier, threads and batch | equal |
//! | `.so`, every tier, threads and batch | equal |
//!
//! Rounding in a float op can flip a quantization behind it, and a network can make much of that. How much is measured:
//! the bound of a rung with float rounding is what noise of that size does to the very model.

use crate::stepwise::Noise;
use crate::{batch, borders, stepwise};
use qc_compiler::{
    CompileError, CompileOptions, Compiled, Compiler, ContextOptions, Guard, ModelFile, Precision, Predictor, REGISTRY,
    TargetCpu, interpret, pipeline,
};
use qc_frontend::{Imported, Port};
use qc_ir::{Data, Elem, HostTensor, ManagerOptions, Module, NoSink, Step, distance, seeded_inputs};
use qc_runtime::{Check, TrustOfUser};

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

fn fail(rung: impl Into<String>, text: impl ToString) -> Failure {
    Failure { rung: rung.into(), text: text.to_string() }
}

/// What a module in code looks like to the compiler: every argument and result has the batch in front.
pub fn imported(module: Module) -> Imported {
    let body = module.body();
    let port = |name: &str, v| {
        let t = module.tensor_ty(v);
        Port { name: name.to_string(), elem: module.storage(t.elem), dims: t.dims.to_vec(), batched: true }
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
    let mut apart = borders::apart(&fused);
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
    let r = levels(make, options)?;
    let all = BATCHES[0];
    let whole = seeded_inputs(&make(all));
    let items: Vec<Vec<HostTensor>> = (0..all).map(|i| whole.iter().map(|t| item(t, all, i)).collect()).collect();
    let made = make(1);
    for inputs in &items[..ITEMS_BY_OP] {
        compare_levels(&made, &r, inputs, options)?;
    }
    let planned = |inputs: &Vec<HostTensor>| interpreted(&r.planned, inputs, "loop interpreter");
    let expected = items.iter().map(planned).collect::<Result<Vec<_>, Failure>>()?;
    let compiled = compile_module(make, options)?;
    let jit = compiled.jit().map_err(|e| fail("jit", e))?;
    everywhere(&jit, "JIT", &whole, &expected)?;
    let (_dir, loaded) = shared_object(&compiled).map_err(|e| fail("shared object", e))?;
    everywhere(&loaded, "shared object", &whole, &expected)?;
    Ok(r)
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

/// Runs a predictor on every tier of this machine, with 1 and 2 threads and at all [`BATCHES`], and compares bits.
fn everywhere(p: &Predictor, end: &str, whole: &[HostTensor], expected: &[Vec<HostTensor>]) -> Result<(), Failure> {
    for tier in tiers() {
        for threads in [1, 2] {
            let rung = format!("{end} on {tier}, {threads} threads");
            let options = ContextOptions { threads: Some(threads), cpu: Some(tier.into()) };
            let mut cx = p.context(&options).map_err(|e| fail(rung.as_str(), e))?;
            for batch in BATCHES {
                let rung = format!("{rung}, batch {batch}");
                let inputs: Vec<HostTensor> = whole.iter().map(|t| first(t, expected.len(), batch)).collect();
                let out = run(&mut cx, &inputs, batch).map_err(|e| fail(rung.as_str(), e))?;
                for (i, out) in out.iter().enumerate() {
                    for (n, e) in expected[..batch].iter().enumerate() {
                        same(&e[i], &item(out, batch, n)).map_err(|e| fail(rung.as_str(), format!("item {n}: {e}")))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// The tiers of this machine, highest first.
pub fn tiers() -> Vec<&'static str> {
    qc_compiler::options::here().into_iter().rev().map(|t| t.name()).collect()
}

/// Writes, loads and hands back a shared object; the folder must live as long as it is in use.
///
/// # Errors
/// A sentence.
pub fn shared_object(compiled: &Compiled) -> Result<(tempfile::TempDir, Predictor), String> {
    let bytes = compiled.shared_object("model.so").map_err(|e| e.to_string())?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = dir.path().join("model.so");
    std::fs::write(&path, bytes).map_err(|e| e.to_string())?;
    // The file was just written by our own linker into a folder of our own, and is not changed afterwards.
    let predictor = Predictor::load_named_by_user(&path, Check::All, TrustOfUser).map_err(|e| e.to_string())?;
    Ok((dir, predictor))
}

/// Item `i` of a tensor that holds `batch` of them.
pub fn item(t: &HostTensor, batch: usize, i: usize) -> HostTensor {
    rows(t, batch, i, 1)
}

/// The first `count` items of a tensor that holds `batch`.
pub fn first(t: &HostTensor, batch: usize, count: usize) -> HostTensor {
    rows(t, batch, 0, count)
}

fn rows(t: &HostTensor, batch: usize, start: usize, count: usize) -> HostTensor {
    let mut dims = t.dims().to_vec();
    dims[0] = dims[0] / batch * count;
    let n = t.len() / batch;
    let range = start * n..(start + count) * n;
    let data = match t.data() {
        Data::F32(v) => Data::F32(v[range].to_vec()),
        Data::I8(v) => Data::I8(v[range].to_vec()),
        Data::U8(v) => Data::U8(v[range].to_vec()),
        Data::I32(v) => Data::I32(v[range].to_vec()),
        Data::I64(v) => Data::I64(v[range].to_vec()),
        Data::Bool(v) => Data::Bool(v[range].to_vec()),
    };
    HostTensor::new(dims, data).expect("invariant: whole rows")
}

/// Runs a context on inputs that hold `batch` items.
///
/// # Errors
/// A sentence.
pub fn run(cx: &mut qc_compiler::Context, inputs: &[HostTensor], batch: usize) -> Result<Vec<HostTensor>, String> {
    for (i, input) in inputs.iter().enumerate() {
        match input.data() {
            Data::F32(v) => cx.input_mut::<f32>(i, batch).map(|b| b.copy_from_slice(v)),
            Data::I64(v) => cx.input_mut::<i64>(i, batch).map(|b| b.copy_from_slice(v)),
            Data::I32(v) => cx.input_mut::<i32>(i, batch).map(|b| b.copy_from_slice(v)),
            Data::U8(v) => cx.input_mut::<u8>(i, batch).map(|b| b.copy_from_slice(v)),
            Data::I8(v) => cx.input_mut::<i8>(i, batch).map(|b| b.copy_from_slice(v)),
            Data::Bool(_) => return Err("inputs of truth values are not supported".into()),
        }
        .map_err(|e| e.to_string())?;
    }
    cx.run().map_err(|e| e.to_string())?;
    let outputs = cx.outputs().to_vec();
    let one = |(i, info): (usize, &qc_runtime::IoInfo)| {
        let data = match info.elem {
            qc_runtime::Elem::F32 => cx.output::<f32>(i).map(|v| Data::F32(v.to_vec())),
            qc_runtime::Elem::U8 => cx.output::<u8>(i).map(|v| Data::U8(v.to_vec())),
            qc_runtime::Elem::I8 => cx.output::<i8>(i).map(|v| Data::I8(v.to_vec())),
            qc_runtime::Elem::I32 => cx.output::<i32>(i).map(|v| Data::I32(v.to_vec())),
            qc_runtime::Elem::I64 => cx.output::<i64>(i).map(|v| Data::I64(v.to_vec())),
        };
        HostTensor::new(info.shape_at(batch), data.map_err(|e| e.to_string())?)
            .ok_or("an output has a wrong size".into())
    };
    outputs.iter().enumerate().map(one).collect()
}

/// Whether two tensors have the same bits; any NaN equals any other.
///
/// # Errors
/// The first element that differs, and how many do.
pub fn same(a: &HostTensor, b: &HostTensor) -> Result<(), String> {
    let differ: Vec<usize> = match (a.as_f32(), b.as_f32()) {
        (Some(x), Some(y)) if x.len() == y.len() => {
            let equal = |i: &usize| x[*i].to_bits() == y[*i].to_bits() || (x[*i].is_nan() && y[*i].is_nan());
            (0..x.len()).filter(|i| !equal(i)).collect()
        }
        (None, None) if a.len() == b.len() => (0..a.len()).filter(|&i| a.int(i) != b.int(i)).collect(),
        _ => return Err(format!("{:?} {:?} against {:?} {:?}", a.data().elem(), a.dims(), b.data().elem(), b.dims())),
    };
    let Some(&i) = differ.first() else { return Ok(()) };
    let show = |t: &HostTensor| t.as_f32().map_or_else(|| format!("{:?}", t.int(i)), |v| format!("{:?}", v[i]));
    Err(format!("{} of {} elements differ, first {i}: {} against {}", differ.len(), a.len(), show(a), show(b)))
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
        let (right, wrong) =
            (0..).map(|seed| Recipe::random(seed, Mode::Float)).map(with_other_numbers).find(differ).unwrap();
        let make = |batch: usize| build(if batch == 1 { &right } else { &wrong }, batch);
        assert!(climb(&|batch| build(&right, batch), &right.options()).is_ok());
        let failure = climb(&make, &right.options()).unwrap_err();
        assert!(failure.rung.starts_with("JIT on") && failure.rung.ends_with("batch 8"), "{failure}");
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
    fn bits_are_compared() {
        let t = |v: &[f32]| HostTensor::f32([v.len()], v.to_vec());
        same(&t(&[1.0, f32::NAN]), &t(&[1.0, f32::NAN])).unwrap();
        same(&t(&[0.0]), &t(&[-0.0])).unwrap_err();
        same(&t(&[1.0]), &t(&[1.0, 2.0])).unwrap_err();
        let i = |v: Vec<u8>| HostTensor::u8([v.len()], v);
        assert!(same(&i(vec![1, 2]), &i(vec![1, 3])).unwrap_err().contains("1 of 2 elements differ, first 1"));
    }

    #[test]
    fn tolerances_do_not_forgive_nan() {
        let t = |v: f32| vec![HostTensor::f32([1], vec![v])];
        within(&t(1.0), &t(1.05), 0.1, "r").unwrap();
        within(&t(1.0), &t(1.2), 0.1, "r").unwrap_err();
        within(&t(1.0), &t(f32::NAN), 0.1, "r").unwrap_err();
    }

    #[test]
    fn items_are_rows() {
        let t = HostTensor::f32([6, 2], (0..12).map(|x| x as f32).collect());
        assert_eq!(item(&t, 3, 1), HostTensor::f32([2, 2], vec![4.0, 5.0, 6.0, 7.0]));
        assert_eq!(first(&t, 3, 2).dims(), [4, 2]);
    }
}
