//! Every form of the two small image networks: what Paddle 1.8 to 3 stored, float, quantization-aware and calibrated.
//!
//! The folders are searched, so that a model added there is tested. Float models agree with Paddle's own outputs;
//! quantized ones reach its accuracy on the 360 test pictures, programs that Paddle already converted to its own integer
//! ops too. Without the folder the tests are skipped, and the skip is printed.

#![allow(clippy::unwrap_used)]

use libtest_mimic::{Arguments, Failed, Trial};
use qc_compiler::{CompileOptions, Compiler, ContextOptions, Fate, ModelFile, Predictor};
use qc_ir::{HostTensor, NoSink, distance};
use qc_ladder::ladder;
use qc_tests::golden;
use std::path::{Path, PathBuf};

/// Float outputs may differ from the stored ones by this fraction of the largest magnitude.
const FLOAT_TOLERANCE: f32 = 1e-4;

/// By how many of the 360 pictures a quantized model may lie below Paddle's figure.
const PICTURES_LESS: f64 = 4.0;

/// How many of the 32 stored predictions a model must share where no accuracy is stored.
const SHARED_OF_32: usize = 31;

/// The program files below a folder of `spec/models`, relative to it.
const PROGRAMS: [&str; 9] = [
    "model.pdmodel",
    "model.json",
    "combined/model",
    "separate/__model__",
    "qat/__model__",
    "qat_int8_weights/__model__",
    "fp32/__model__",
    "int8/__model__",
    "int8_fc/__model__",
];

/// The stored outputs that belong to a program, the best first.
fn stored(program: &str) -> &'static [&'static str] {
    match program {
        "fp32/__model__" => &["out_fp32.npz", "out_plain.npz"],
        "qat/__model__" | "qat_int8_weights/__model__" => &["out_plain.npz"],
        "int8/__model__" => &["out_int8.npz"],
        "int8_fc/__model__" => &["out_int8_fc.npz"],
        _ => &["out_exe.npz", "golden.npz", "golden_train.npz"],
    }
}

/// All models: folder and program.
fn models(root: &Path) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    for kind in ["fp32", "qat", "ptq"] {
        let entries = std::fs::read_dir(root.join(kind)).unwrap();
        for entry in entries {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with("resnet") || name.starts_with("dwnet") {
                let folder = format!("{kind}/{name}");
                let there = PROGRAMS.into_iter().filter(|p| root.join(&folder).join(p).is_file());
                found.extend(there.map(|p| (folder.clone(), p)));
            }
        }
    }
    found.sort();
    found
}

fn check(root: &Path, folder: &str, program: &'static str) -> Result<(), String> {
    let path = root.join(folder).join(program);
    let file = ModelFile::open(&path, None).map_err(|e| e.to_string())?;
    let compiler = Compiler::new(CompileOptions::default());
    let compiled = compiler.compile_file(&file, &mut NoSink);
    let compiled = compiled.map_err(|e| e.to_string())?;
    let jit = compiled.jit().map_err(|e| e.to_string())?;
    let file = stored(program).iter().map(|f| root.join(folder).join(f)).find(|p| p.is_file());
    let file = file.ok_or("there are no stored outputs")?;
    let pictures = golden::array(&root.join("fp32/resnet_p26/golden.npz"), "image")?;
    let prob = golden::array(&file, "prob")?;
    let got = run(&jit, &pictures)?;
    if folder.starts_with("fp32/") {
        let d = distance(&prob, &got).ok_or("the output is no float")?;
        let far = d.is_nan() || d > FLOAT_TOLERANCE;
        return if far { Err(format!("differs by {d:e} of the largest magnitude")) } else { Ok(()) };
    }
    // What has a fixed scale is computed in integers; what has none says why it is float.
    let int8 = compiled.account.ops.iter().filter(|o| o.fate == Fate::Int8 && o.macs > 0).count();
    let measured = folder.contains("absmax");
    if (int8 == 0) != measured {
        return Err(format!("{int8} products are computed in integers"));
    }
    let told = |o: &qc_compiler::OpAccount| matches!(&o.fate, Fate::Folded(why) if why.contains("measured anew"));
    if measured && !compiled.account.ops.iter().any(told) {
        return Err("the account does not say why the scales are missing".into());
    }
    let close = agreement(&prob, &got);
    if close < SHARED_OF_32 {
        return Err(format!("{close} of 32 predictions are those of Paddle"));
    }
    accuracy(root, &jit, &file)
}

/// The accuracy on the test pictures against the figure that is stored for `file`.
fn accuracy(root: &Path, jit: &Predictor, file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(root.join("accuracy.json")).map_err(|e| e.to_string())?;
    let figures: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let key = file.strip_prefix(root).map_err(|e| e.to_string())?.display().to_string();
    let Some(theirs) = figures.get(&key).and_then(serde_json::Value::as_f64) else { return Ok(()) };
    let test = root.join("digits_test.npz");
    let (images, labels) = (golden::array(&test, "image")?, golden::integers(&test, "label")?);
    let got = run(jit, &images)?;
    let right = classes(&got).iter().zip(&labels).filter(|(c, l)| **c as i64 == **l).count();
    let (ours, count) = (right as f64 / labels.len() as f64, labels.len() as f64);
    println!("{key}: {ours:.4}, Paddle {theirs:.4}");
    if ours * count + PICTURES_LESS < theirs * count {
        return Err(format!("accuracy {ours:.4}, Paddle has {theirs:.4}"));
    }
    Ok(())
}

/// The first output for all pictures; a model with a fixed batch gets whole batches, the last one filled up.
fn run(jit: &Predictor, pictures: &HostTensor) -> Result<HostTensor, String> {
    let options = ContextOptions { threads: Some(1), cpu: None };
    let mut cx = jit.context(&options).map_err(|e| e.to_string())?;
    let values = pictures.as_f32().ok_or("no floats")?;
    let (count, size) = (pictures.dims()[0], pictures.len() / pictures.dims()[0]);
    let fixed = jit.whole_batches().is_some();
    let batch = if fixed { jit.inputs()[0].shape[0] } else { 8 };
    let mut all = Vec::new();
    for part in values.chunks(batch * size) {
        let mut dims = pictures.dims().to_vec();
        let items = part.len() / size;
        let mut part = part.to_vec();
        dims[0] = if fixed { batch } else { items };
        part.resize(dims[0] * size, 0.0);
        let out = ladder::run(&mut cx, &[HostTensor::f32(dims, part)])?;
        let row = out[0].as_f32().ok_or("no floats")?;
        all.extend_from_slice(&row[..items * 10]);
    }
    Ok(HostTensor::f32([count, 10], all))
}

fn classes(t: &HostTensor) -> Vec<usize> {
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
    t.as_f32().unwrap_or(&[]).chunks(t.dims()[1]).map(best).collect()
}

fn agreement(a: &HostTensor, b: &HostTensor) -> usize {
    classes(a).iter().zip(classes(b)).filter(|(a, b)| *a == b).count()
}

fn main() {
    let arguments = Arguments::from_args();
    let Some(shared) = golden::shared() else {
        println!("SKIPPED 1: the digits models are not on this machine (QC_SHARED)");
        return;
    };
    let root: PathBuf = shared.join("spec/models");
    let all = models(&root);
    let count = all.len();
    let mut trials = vec![Trial::test("all_forms_are_there", move || {
        if count >= 50 { Ok(()) } else { Err(Failed::from(format!("only {count} models were found"))) }
    })];
    trials.extend(all.into_iter().map(|(folder, program)| {
        let root = root.clone();
        let name = format!("{folder}/{program}");
        Trial::test(name, move || check(&root, &folder, program).map_err(Failed::from))
    }));
    libtest_mimic::run(&arguments, trials).exit();
}
