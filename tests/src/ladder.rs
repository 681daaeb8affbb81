//! The ladder of equivalence: each level of the compiler computes what the level above it does.
//!
//! | rung | relation to the one above |
//! |---|---|
//! | graph interpreter, canonical graph | reference |
//! | graph interpreter, before integer ops | the one lossy step when ranges were given, else close |
//! | quant interpreter, fused graph | within quantization steps |
//! | loop interpreter, planned loop code | equal if everything between the borders is integer, else float rounding |
//! | JIT, every tier, threads and batch | equal |
//! | `.so`, every tier, threads and batch | equal |

use qc_compiler::{
    CompileError, CompileOptions, Compiled, Compiler, ContextOptions, ModelFile, Predictor, REGISTRY, TargetCpu,
    interpret, pipeline,
};
use qc_frontend::{Imported, Port};
use qc_ir::{Data, Elem, HostTensor, ManagerOptions, Module, NoSink, distance, seeded_inputs};
use std::io::Write;

/// Batch sizes that are tried: one with code of its own at either end, one that must be split.
pub const BATCHES: [usize; 3] = [8, 3, 1];

/// The modules of one model on all rungs, at batch 1.
pub struct Rungs {
    /// Canonical graph.
    pub canonical: Module,
    /// Graph with quantize/dequantize pairs, before integer ops.
    pub paired: Module,
    /// Fused graph.
    pub fused: Module,
    /// Planned loop code.
    pub planned: Module,
    /// All tiers, ready to run.
    pub compiled: Compiled,
}

/// A rung that does not hold.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    /// Which one.
    pub rung: String,
    /// How.
    pub text: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rung, self.text)
    }
}

fn fail(rung: impl Into<String>, text: impl ToString) -> Failure {
    Failure { rung: rung.into(), text: text.to_string() }
}

/// How a module that was made in code is compiled.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Options of the compiler.
    pub options: CompileOptions,
    /// Largest distance between the graph and the quant interpreter, as a fraction of the largest magnitude.
    pub quant_tolerance: f32,
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

/// Compiles a module that `make` gives per batch size for every rung.
///
/// # Errors
/// The rung at which it stops.
pub fn rungs(make: &dyn Fn(usize) -> Module, settings: &Settings) -> Result<Rungs, Failure> {
    let manager = ManagerOptions { verify_each: true, ..ManagerOptions::default() };
    let options = CompileOptions { target: TargetCpu::Fat, manager, ..settings.options.clone() };
    let compiler = Compiler::new(options.clone());
    let run = |m: &mut Module, text: &str| compiler.run(m, text, &mut NoSink).map(|_| ());
    let mut m = make(1);
    if let Some(d) = qc_ir::verify(&m, &REGISTRY).first() {
        return Err(fail("made", d.render(&m)));
    }
    let keeps_text = |m: &Module, rung: &str| qc_ir::round_trips(m, &REGISTRY).map_err(|d| fail(rung, d));
    keeps_text(&m, "text of the model")?;
    run(&mut m, &pipeline::float(&options)).map_err(|e| fail("canonical", e))?;
    keeps_text(&m, "text of the canonical graph")?;
    let canonical = m.clone();
    if let Some(ranges) = &options.ranges {
        qc_compiler::ranges::attach(&mut m, ranges).map_err(|d| fail("ranges", d))?;
    }
    let fusing = if options.exact_qdq { "pairs-as-written" } else { "lower-to-quant" };
    let (pairs, rest) = pipeline::int8(&options).split_once(fusing).unwrap_or_default();
    run(&mut m, pairs).map_err(|e| fail("pairs", e))?;
    keeps_text(&m, "text of the graph with pairs")?;
    let paired = m.clone();
    run(&mut m, &format!("{fusing}{rest}")).map_err(|e| fail("fused", e))?;
    keeps_text(&m, "text of the fused graph")?;
    let fused = m.clone();
    run(&mut m, pipeline::LOOPS).map_err(|e| fail("loops", e))?;
    keeps_text(&m, "text of the loop code")?;
    let import = |batch: Option<usize>| Ok::<_, CompileError>(imported(make(batch.unwrap_or(1))));
    let compiled = compiler.compile_imported("model", [0; 32], &import, &mut NoSink);
    let compiled = compiled.map_err(|e| fail("compile", e))?;
    Ok(Rungs { canonical, paired, fused, planned: m, compiled })
}

/// Whether a fused module computes nothing in floats, so that interpreter and kernels must agree to the bit.
pub fn is_integer(m: &Module) -> bool {
    let exact = ["graph.constant", "graph.quantize", "graph.dequantize", "graph.reshape", "graph.transpose"];
    let moves = ["graph.slice", "graph.concat", "graph.max_pool", "graph.relu", "graph.clip", "graph.observe"];
    let ok = |name: &str| name.starts_with("quant.") || exact.contains(&name) || moves.contains(&name);
    m.ops(m.body()).iter().all(|&op| ok(m.def(op).name))
}

/// Climbs the whole ladder with a module that `make` gives per batch size.
///
/// # Errors
/// The first rung that does not hold.
pub fn climb(make: &dyn Fn(usize) -> Module, settings: &Settings) -> Result<(), Failure> {
    let r = rungs(make, settings)?;
    let all = BATCHES[0];
    let whole = seeded_inputs(&make(all));
    let items: Vec<Vec<HostTensor>> = (0..all).map(|i| whole.iter().map(|t| item(t, all, i)).collect()).collect();
    let run = |m: &Module, rung: &str, i: usize| interpret(m, &items[i]).map_err(|d| fail(rung, d.render(m)));
    let mut expected: Vec<Vec<HostTensor>> = Vec::new();
    for i in 0..all {
        let loops = run(&r.planned, "loop interpreter", i)?;
        if i < 2 {
            let float = run(&r.canonical, "graph interpreter", i)?;
            let paired = run(&r.paired, "graph interpreter with pairs", i)?;
            let quant = run(&r.fused, "quant interpreter", i)?;
            if settings.options.ranges.is_none() && settings.options.exact_qdq {
                within(&float, &paired, 1e-3, "pairs against canonical graph")?;
            }
            within(&paired, &quant, settings.quant_tolerance, "quant interpreter against graph")?;
            let tolerance = if is_integer(&r.fused) { 0.0 } else { settings.quant_tolerance.max(1e-4) };
            within(&quant, &loops, tolerance, "loop interpreter against quant interpreter")?;
        }
        expected.push(loops);
    }
    let jit = r.compiled.jit().map_err(|e| fail("jit", e))?;
    everywhere(&jit, "JIT", &whole, &expected)?;
    let (_dir, loaded) = shared_object(&r.compiled).map_err(|e| fail("shared object", e))?;
    everywhere(&loaded, "shared object", &whole, &expected)
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
    let mut file = std::fs::File::create(&path).map_err(|e| e.to_string())?;
    file.write_all(&bytes).map_err(|e| e.to_string())?;
    // SAFETY: the file was just written by our own linker into a folder of our own, and is not changed afterwards.
    let predictor = unsafe { Predictor::load(&path) }.map_err(|e| e.to_string())?;
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

/// Climbs the ladder with a canonical module in text form whose shapes have a batch of 1 in front. Other batches are
/// made by running batch 1 as it is, so only batch 1 has code.
///
/// # Errors
/// The first rung that does not hold.
pub fn check_text(text: &str) -> Result<(), String> {
    let m = crate::filetest::module(text)?;
    let manager = ManagerOptions::default();
    let options = CompileOptions { batches: vec![1], manager, ..CompileOptions::default() };
    let settings = Settings { options, quant_tolerance: 0.1 };
    climb(&|batch| if batch == 1 { m.clone() } else { with_batch(&m, batch) }, &settings).map_err(|f| f.to_string())
}

/// The signature of `m` at another batch: what seeded inputs are made from.
fn with_batch(m: &Module, batch: usize) -> Module {
    let mut wide = m.clone();
    for &v in m.args(m.body()) {
        let mut t = m.tensor_ty(v).clone();
        t.dims[0] *= batch;
        wide.set_type(v, qc_ir::Type::Tensor(t));
    }
    wide
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
        assert!(climb(&|batch| build(&right, batch), &right.settings()).is_ok());
        let failure = climb(&make, &right.settings()).unwrap_err();
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
