//! Real models: float outputs agree with the stored ones, quantized outputs are the same everywhere.
//!
//! The models are found as [`golden::shared`] says; without them the tests are skipped, and the skip is printed.

#![allow(clippy::unwrap_used)]

use libtest_mimic::{Arguments, Failed, Trial};
use qc_compiler::{CompileOptions, Compiler, ContextOptions, ModelFile, Predictor, TargetCpu, interpret};
use qc_compiler::{REGISTRY, pipeline};
use qc_ir::{Data, HostTensor, Module, NoSink, distance};
use qc_ladder::ladder;
use qc_tests::golden;
use std::path::{Path, PathBuf};

/// What is known about the outputs of a model.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// They are those of the stored arrays, but for float rounding.
    Float,
    /// As `Float`, but the stored arrays were computed in 16 bits, so that predictions must agree and values be near.
    Half,
    /// They are near the stored arrays, and the same to the bit on all ends.
    Int8,
    /// They are the stored arrays, to the bit: ONNX Runtime's of integer operators, no sum of which is fused.
    Exact,
    /// The same, of a network with random weights: its classes mean nothing, so the direction of the output counts.
    RandomInt8,
}
use Kind::{Exact, Float, Half, Int8, RandomInt8};

/// A model of the index: path, stored outputs, inputs (empty: beside the outputs), kind, whether interpreters take it.
struct Row(&'static str, &'static str, &'static str, Kind, bool);

/// Every row of the index that a release must run, and the other forms of the same networks.
const ROWS: &[Row] = &[
    Row("shufflenetv2_x1_0/paddle_separate", "shufflenetv2_x1_0__paddle_separate", "P1", Float, false),
    Row("shufflenetv2_x1_0/shufflenetv2_x1_0.onnx", "shufflenetv2_x1_0", "P1", Float, false),
    Row("shufflenetv2_x1_0/shufflenetv2_x1_0_ort_qdq.onnx", "shufflenetv2_x1_0_ort_qdq", "P1", Int8, false),
    Row("shufflenetv2_x1_0/paddle_ptq_fakequant", "shufflenetv2_x1_0__paddle_ptq_fakequant", "P1", Int8, false),
    Row(
        "mobilenet_v2_100_224_qat/mobilenet_v2_100_224_qat_fp32.onnx",
        "mobilenet_v2_100_224_qat_fp32",
        "P2",
        Float,
        false,
    ),
    Row(
        "mobilenet_v2_100_224_qat/mobilenet_v2_100_224_qat_qdq.onnx",
        "mobilenet_v2_100_224_qat_qdq",
        "P2",
        Int8,
        false,
    ),
    Row("shufflenetv2_x1_0/shufflenetv2_x1_0_ort_qop.onnx", "shufflenetv2_x1_0_ort_qop", "P1", Exact, false),
    Row("squeezenet11/SqueezeNet_fp32_opset13.onnx", "SqueezeNet_fp32_opset13", "P3", Float, false),
    Row("squeezenet11/SqueezeNet_fp16.onnx", "SqueezeNet_fp16", "P3", Half, false),
    Row("squeezenet11/SqueezeNet_ort_qop.onnx", "SqueezeNet_ort_qop", "P3", Exact, false),
    Row("tiny_kws_dscnn/tiny_kws_dscnn_ptq_fp32.onnx", "tiny_kws_dscnn_ptq_fp32", "", Float, true),
    Row("tiny_kws_dscnn/tiny_kws_dscnn_ptq_qdq.onnx", "tiny_kws_dscnn_ptq_qdq", "", Int8, true),
    Row("cifar10_resnet20/cifar10_resnet20.onnx", "cifar10_resnet20", "cifar", Float, true),
    Row("cifar10_resnet20/cifar10_resnet20_ort_qdq.onnx", "cifar10_resnet20_ort_qdq", "cifar", Int8, true),
    Row("cifar10_resnet20/cifar10_resnet20_ort_qop.onnx", "cifar10_resnet20_ort_qop", "cifar", Int8, true),
    Row("cifar10_resnet20/paddle_pd2", "cifar10_resnet20__paddle_pd2", "cifar", Float, false),
    Row("cifar10_resnet20/paddle_old_combined", "cifar10_resnet20__paddle_old_combined", "cifar", Float, false),
    Row("cifar10_resnet20/paddle_old_separate", "cifar10_resnet20__paddle_old_separate", "cifar", Float, false),
    Row("cifar10_resnet20/paddle_pir3", "cifar10_resnet20__paddle_pd2", "cifar", Float, true),
    Row("cifar10_resnet20/paddle_ptq_onnxformat0", "cifar10_resnet20__paddle_ptq_onnxformat0", "cifar", Int8, true),
    Row("cifar10_resnet20/paddle_ptq_onnxformat1", "cifar10_resnet20__paddle_ptq_onnxformat1", "cifar", Int8, true),
    Row("shufflenetv2_x1_0/paddle_pir3", "shufflenetv2_x1_0__paddle_separate", "P1", Float, false),
    Row(
        "shufflenetv2_x1_0/paddle_ptq_quantize_linear",
        "shufflenetv2_x1_0__paddle_ptq_quantize_linear",
        "P1",
        Int8,
        false,
    ),
    Row(
        "mobilenet_v1_075_224_keras/paddle_ptq_quantize_linear",
        "mobilenet_v1_075_224_keras__paddle_ptq_quantize_linear",
        "P2",
        Int8,
        false,
    ),
    Row("tiny_kws_dscnn/inference.pdmodel", "tiny_kws_dscnn__paddle", "kws", Float, true),
    Row("mnist/mnist.onnx", "mnist", "", Float, true),
    Row("mobilenet_v1_075_224_keras/paddle_pdmodel", "mobilenet_v1_075_224_keras__paddle_pdmodel", "P2", Float, false),
    Row(
        "mobilenet_v1_075_224_keras/mobilenet_v1_075_224_keras_ort_qdq.onnx",
        "mobilenet_v1_075_224_keras_ort_qdq",
        "P2",
        Int8,
        false,
    ),
];

/// The digits networks: folder or file below `spec/models`, stored outputs, kind.
const DIGITS: &[(&str, &str, Kind)] = &[
    ("fp32/resnet_p18/combined", "fp32/resnet_p18/golden.npz", Float),
    ("fp32/resnet_p18/separate", "fp32/resnet_p18/golden.npz", Float),
    ("fp32/resnet_p26/model.pdmodel", "fp32/resnet_p26/golden.npz", Float),
    ("fp32/resnet_p26/separate", "fp32/resnet_p26/golden.npz", Float),
    ("fp32/resnet_p26dy/model.pdmodel", "fp32/resnet_p26dy/golden.npz", Float),
    ("qat/resnet_p18_cw_mavg/qat", "qat/resnet_p18_cw_mavg/out_plain.npz", Int8),
    ("qat/resnet_p18_tw_mavg/qat", "qat/resnet_p18_tw_mavg/out_plain.npz", Int8),
    ("qat/resnet_p18_tw_range/qat", "qat/resnet_p18_tw_range/out_plain.npz", Int8),
    ("qat/resnet_p26_cw_mavg", "qat/resnet_p26_cw_mavg/out_exe.npz", Int8),
    ("qat/resnet_p26_tw_range", "qat/resnet_p26_tw_range/out_exe.npz", Int8),
    ("ptq/resnet_p26_KL_fake", "ptq/resnet_p26_KL_fake/out_exe.npz", Int8),
    ("ptq/resnet_p26_abs_max_fake", "ptq/resnet_p26_abs_max_fake/out_exe.npz", Int8),
];

/// Large networks that other engines are compared on: folder below `peers/models`.
const PEERS: &[&str] = &["googlenet", "mobilenet_v1", "mobilenet_v2", "resnet50"];

/// Float outputs may differ from the stored ones by this fraction of the largest magnitude.
const FLOAT_TOLERANCE: f32 = 1e-4;

/// The same for outputs that were computed in 16 bits, which have 11 significant ones.
const HALF_TOLERANCE: f32 = 2e-2;

/// INT8 outputs of networks with random weights point at least this much along the stored float ones.
const RANDOM_COSINE: f64 = 0.95;

/// A model with its stored numbers.
struct Case {
    path: PathBuf,
    inputs: Vec<HostTensor>,
    /// By output name; an empty name stands for the first output.
    outputs: Vec<(String, HostTensor)>,
    kind: Kind,
    interpret: bool,
}

fn row(shared: &Path, Row(path, outputs, input, kind, interpret): &Row) -> Result<Case, String> {
    let goldens = shared.join("models/goldens");
    let stored = goldens.join(format!("{outputs}.npz"));
    let inputs = match *input {
        "" => golden::arrays(&stored, "in|")?.into_iter().map(|(_, t)| t).collect(),
        "kws" => vec![golden::array(&goldens.join("tiny_kws_dscnn_ptq_fp32.npz"), "in|input")?],
        pre => vec![golden::array(&goldens.join(format!("input_{pre}.npz")), "x")?],
    };
    let path = shared.join("models/models").join(path);
    Ok(Case { path, inputs, outputs: golden::arrays(&stored, "out|")?, kind: *kind, interpret: *interpret })
}

fn digits(shared: &Path, (path, outputs, kind): &(&str, &str, Kind)) -> Result<Case, String> {
    let root = shared.join("spec/models");
    let image = golden::array(&root.join("fp32/resnet_p26/golden.npz"), "image")?;
    let prob = golden::array(&root.join(outputs), "prob")?;
    let outputs = vec![(String::new(), prob)];
    Ok(Case { path: root.join(path), inputs: vec![image], outputs, kind: *kind, interpret: true })
}

fn peer(shared: &Path, name: &str) -> Result<Case, String> {
    let stored = shared.join(format!("peers/data/ref_{name}.npz"));
    let inputs = vec![golden::array(&stored, "image")?];
    let outputs = vec![(String::new(), golden::array(&stored, "y")?)];
    let path = shared.join(format!("peers/models/{name}/qdq_u8s8.onnx"));
    Ok(Case { path, inputs, outputs, kind: RandomInt8, interpret: false })
}

fn run_case(case: &Case) -> Result<(), String> {
    let options = CompileOptions { target: TargetCpu::Fat, ..CompileOptions::default() };
    let file = ModelFile::open(&case.path, None).map_err(|e| e.to_string())?;
    let compiler = Compiler::new(options.clone());
    let compiled = compiler.compile_file(&file, &mut NoSink).map_err(|e| e.to_string())?;
    let jit = compiled.jit().map_err(|e| e.to_string())?;
    let items = case.inputs[0].dims()[0];
    let expected = per_item(&jit, ladder::tiers()[0], &case.inputs, items)?;
    compare_with_stored(case, &jit, &expected, items)?;
    for tier in &ladder::tiers()[1..] {
        let two = per_item(&jit, tier, &case.inputs, 2)?;
        all_same(&expected[..2], &two, tier)?;
    }
    if case.kind != Float {
        batches(&jit, "JIT", &case.inputs, &expected, items)?;
        let (_dir, loaded) = ladder::shared_object(&compiled)?;
        batches(&loaded, "shared object", &case.inputs, &expected, items)?;
    }
    if case.interpret {
        interpreters(&compiler, &options, &file, &case.inputs, &expected[0], items)?;
    }
    Ok(())
}

/// The outputs of the first `count` items, one run each.
fn per_item(p: &Predictor, tier: &str, inputs: &[HostTensor], count: usize) -> Result<Vec<Vec<HostTensor>>, String> {
    let options = ContextOptions { threads: Some(1), cpu: Some(tier.into()) };
    let mut cx = p.context(&options).map_err(|e| e.to_string())?;
    let items = inputs[0].dims()[0];
    let one = |i: usize| {
        let item: Vec<HostTensor> = inputs.iter().map(|t| ladder::item(t, items, i)).collect();
        ladder::run(&mut cx, &item)
    };
    (0..count).map(one).collect()
}

fn all_same(a: &[Vec<HostTensor>], b: &[Vec<HostTensor>], what: &str) -> Result<(), String> {
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        for (x, y) in x.iter().zip(y) {
            ladder::same(x, y).map_err(|e| format!("{what}, item {i}: {e}"))?;
        }
    }
    Ok(())
}

/// The cosine of the angle between two outputs.
fn cosine(a: &HostTensor, b: &HostTensor) -> Option<f64> {
    let (a, b) = (a.as_f32()?, b.as_f32()?);
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    Some(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt())
}

fn compare_with_stored(case: &Case, p: &Predictor, got: &[Vec<HostTensor>], items: usize) -> Result<(), String> {
    for (name, stored) in &case.outputs {
        // Paddle 3 renames outputs; the only one is meant.
        let only = case.outputs.len() == 1 && p.outputs().len() == 1;
        let at = p.outputs().iter().position(|o| only || name.is_empty() || o.name == *name);
        let at = at.ok_or_else(|| format!("the model has no output `{name}`: {:?}", p.outputs()))?;
        let values: Vec<f32> = got.iter().flat_map(|o| o[at].as_f32().unwrap_or(&[]).to_vec()).collect();
        let got = HostTensor::new(stored.dims(), Data::F32(values)).ok_or("the output has a wrong size")?;
        let d = distance(stored, &got).ok_or("the output is no float")?;
        let allowed = match case.kind {
            Float => FLOAT_TOLERANCE,
            Half => HALF_TOLERANCE,
            Int8 | RandomInt8 => f32::INFINITY,
            Exact => 0.0,
        };
        if d.is_nan() || d > allowed {
            return Err(format!("output `{name}` differs by {d:e} of the largest magnitude"));
        }
        if case.kind == RandomInt8 {
            let cosine = cosine(stored, &got).ok_or("the output is no float")?;
            if cosine.is_nan() || cosine < RANDOM_COSINE {
                return Err(format!("output `{name}`: cosine {cosine:.4} to the stored one"));
            }
            continue;
        }
        let agree =
            (0..items).filter(|&i| argmax(&ladder::item(stored, items, i)) == argmax(&ladder::item(&got, items, i)));
        let agree = agree.count();
        if agree * 4 < items * 3 {
            return Err(format!("output `{name}`: {agree} of {items} predictions agree"));
        }
    }
    Ok(())
}

fn argmax(t: &HostTensor) -> usize {
    let values = t.as_f32().unwrap_or(&[]);
    (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0)
}

/// Batches of 8 and 3 with one and two threads give what single items give.
fn batches(
    p: &Predictor,
    end: &str,
    inputs: &[HostTensor],
    expected: &[Vec<HostTensor>],
    items: usize,
) -> Result<(), String> {
    if p.whole_batches().is_some() {
        return Ok(());
    }
    for (batch, threads) in [(8, 1), (8, 2), (3, 2), (1, 2)] {
        let options = ContextOptions { threads: Some(threads), cpu: None };
        let mut cx = p.context(&options).map_err(|e| e.to_string())?;
        let whole: Vec<HostTensor> = inputs.iter().map(|t| repeated(t, items, batch)).collect();
        let out = ladder::run(&mut cx, &whole)?;
        for n in 0..batch {
            for (o, e) in out.iter().zip(&expected[n % items]) {
                let what = || format!("{end}, batch {batch}, {threads} threads, item {n}");
                ladder::same(e, &ladder::item(o, batch, n)).map_err(|e| format!("{}: {e}", what()))?;
            }
        }
    }
    Ok(())
}

/// `batch` items, those of `t` over and over.
fn repeated(t: &HostTensor, items: usize, batch: usize) -> HostTensor {
    let one = |n: usize| ladder::item(t, items, n % items).as_f32().unwrap_or(&[]).to_vec();
    let values: Vec<f32> = (0..batch).flat_map(one).collect();
    let mut dims = t.dims().to_vec();
    dims[0] = batch;
    HostTensor::f32(dims, values)
}

/// The interpreters of all phases on the first item.
fn interpreters(
    compiler: &Compiler,
    options: &CompileOptions,
    file: &ModelFile,
    inputs: &[HostTensor],
    jit: &[HostTensor],
    items: usize,
) -> Result<(), String> {
    let item: Vec<HostTensor> = inputs.iter().map(|t| ladder::item(t, items, 0)).collect();
    let fail = |e: qc_compiler::CompileError| e.to_string();
    let check = |m: &Module, rung: &str| -> Result<Vec<HostTensor>, String> {
        qc_ir::round_trips(m, &REGISTRY).map_err(|d| format!("text of the {rung}: {d}"))?;
        interpret(m, &item).map_err(|d| format!("{rung}: {}", d.render(m)))
    };
    let mut m = compiler.canonical(file).map_err(fail)?.module;
    check(&m, "canonical graph")?;
    compiler.run(&mut m, &pipeline::int8(options), &mut NoSink).map_err(fail)?;
    let integer = ladder::is_integer(&m);
    let quant = check(&m, "fused graph")?;
    compiler.run(&mut m, &pipeline::loops(), &mut NoSink).map_err(fail)?;
    let loops = check(&m, "loop code")?;
    all_same(&[loops], &[jit.to_vec()], "JIT against the loop interpreter")?;
    for (a, b) in quant.iter().zip(jit) {
        let d = distance(a, b).ok_or("the types differ")?;
        let allowed = if integer { 0.0 } else { FLOAT_TOLERANCE };
        if d.is_nan() || d > allowed {
            return Err(format!("JIT against the quant interpreter: {d:e} of the largest magnitude"));
        }
    }
    Ok(())
}

/// The first column of the index rows that a release must run, each with a model here.
fn index_is_covered(shared: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(shared.join("models/INDEX.md")).map_err(|e| e.to_string())?;
    let rows = text.lines().filter(|l| l.contains("| spine |"));
    let folder = |row: &str| Some(row.split('`').nth(1)?.split('/').next()?.to_string());
    for row in rows {
        let folder = folder(row).ok_or_else(|| format!("no model in `{row}`"))?;
        if !ROWS.iter().any(|r| r.0.split('/').next() == Some(folder.as_str())) {
            return Err(format!("no test for `{folder}`"));
        }
    }
    Ok(())
}

/// Every ONNX file that the index names in a row a release must run has a test here; `*` stands for the folder's name.
fn onnx_files_are_covered(shared: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(shared.join("models/INDEX.md")).map_err(|e| e.to_string())?;
    for row in text.lines().filter(|l| l.contains("| spine |") || l.contains("| doors |")) {
        let names: Vec<&str> = row.split('|').nth(1).unwrap_or("").split('`').skip(1).step_by(2).collect();
        let folder = names.first().and_then(|n| n.split('/').next()).unwrap_or("");
        for name in names.iter().filter(|n| n.ends_with(".onnx")) {
            let end = name.rsplit(['/', '*']).next().unwrap_or(name);
            if !ROWS.iter().any(|r| r.0.starts_with(&format!("{folder}/")) && r.0.ends_with(end)) {
                return Err(format!("no test for `{name}` of `{folder}`"));
            }
        }
    }
    Ok(())
}

fn trial(name: &str, make: impl FnOnce() -> Result<Case, String> + Send + 'static) -> Trial {
    Trial::test(name, move || make().and_then(|c| run_case(&c)).map_err(Failed::from))
}

fn main() {
    let arguments = Arguments::from_args();
    let Some(shared) = golden::shared() else {
        println!("SKIPPED {}: the models are not on this machine (QC_SHARED)", ROWS.len() + DIGITS.len() + PEERS.len());
        return;
    };
    let mut trials = Vec::new();
    let root = shared.clone();
    let covered = move || onnx_files_are_covered(&root).map_err(Failed::from);
    trials.push(Trial::test("onnx_files_are_covered", covered));
    let root = shared.clone();
    trials.push(Trial::test("index_is_covered", move || index_is_covered(&root).map_err(Failed::from)));
    for r in ROWS {
        let root = shared.clone();
        trials.push(trial(r.0, move || row(&root, r)));
    }
    for d in DIGITS {
        let root = shared.clone();
        trials.push(trial(d.0, move || digits(&root, d)));
    }
    for name in PEERS {
        let root = shared.clone();
        trials.push(trial(name, move || peer(&root, name)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}
