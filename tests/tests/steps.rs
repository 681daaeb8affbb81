//! What the code of real models is made of: steps, copies, kernels, by name and number. Results do not show that a fusion is
//! lost or that a tensor is copied once more, these figures do.
//!
//! `steps.txt` beside this file has them; `QC_BLESS=1` writes it anew. Models that belong to others are counted where they are.

#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileOptions, Compiler, ModelFile, pipeline};
use qc_dialects::loops::{Parallel, Ukernel};
use qc_ir::{Module, NoSink};
use qc_tests::{golden, tidy};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Models of this repository.
const OWN: [&str; 4] = ["digits.onnx", "digits_qdq.onnx", "paddle_float", "paddle_qat"];
/// Models of others, below the shared folder: every family of networks, and every form of one.
const SHARED: [&str; 16] = [
    "models/models/cifar10_resnet20/cifar10_resnet20.onnx",
    "models/models/cifar10_resnet20/cifar10_resnet20_ort_qdq.onnx",
    "models/models/cifar10_resnet20/cifar10_resnet20_ort_qop.onnx",
    "models/models/cifar10_resnet20/paddle_ptq_onnxformat1",
    "models/models/mobilenet_v1_075_224_keras/mobilenet_v1_075_224_keras_ort_qdq.onnx",
    "models/models/mobilenet_v2_100_224_qat/mobilenet_v2_100_224_qat_fp32.onnx",
    "models/models/mobilenet_v2_100_224_qat/mobilenet_v2_100_224_qat_qdq.onnx",
    "models/models/shufflenetv2_x1_0/shufflenetv2_x1_0_ort_qop.onnx",
    "models/models/shufflenetv2_x1_0/paddle_ptq_quantize_linear",
    "models/models/squeezenet11/SqueezeNet_fp32_opset13.onnx",
    "models/models/squeezenet11/SqueezeNet_ort_qop.onnx",
    "models/models/tiny_kws_dscnn/tiny_kws_dscnn_ptq_qdq.onnx",
    "peers/models/googlenet/qdq_u8s8.onnx",
    "peers/models/mobilenet_v1/qdq_u8s8.onnx",
    "peers/models/mobilenet_v2/qdq_u8s8.onnx",
    "peers/models/resnet50/qdq_u8s8.onnx",
];

/// Name and place of all models that are on this machine, and how many are not.
fn models() -> (Vec<(String, PathBuf)>, usize) {
    let digits = tidy::root().join("examples/digits");
    let mut found: Vec<_> = OWN.iter().map(|name| (format!("examples/digits/{name}"), digits.join(name))).collect();
    let Some(shared) = golden::shared() else { return (found, SHARED.len()) };
    found.extend(SHARED.iter().map(|name| (name.to_string(), shared.join(name))));
    (found, 0)
}

/// Steps, and calls of each kernel, of a model in planned loop code at its own batch.
fn count(m: &Module) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for op in m.walk(m.body()) {
        if Parallel::of(m, op).is_some() {
            *counts.entry("steps".to_string()).or_default() += 1;
        } else if let Some(call) = Ukernel::of(m, op) {
            *counts.entry(call.kernel(m).to_string()).or_default() += 1;
        }
    }
    counts
}

fn line(name: &str, path: &Path) -> String {
    let options = CompileOptions::default();
    let compiler = Compiler::new(options.clone());
    let mut m = compiler.canonical(&ModelFile::open(path, None).unwrap()).unwrap().module;
    compiler.run(&mut m, &pipeline::int8(&options), &mut NoSink).unwrap();
    compiler.run(&mut m, &pipeline::loops(), &mut NoSink).unwrap();
    let counts = count(&m).into_iter().map(|(kernel, n)| format!("{kernel} {n}"));
    format!("{name}: {}", counts.collect::<Vec<_>>().join(", "))
}

#[test]
fn no_step_and_no_copy_is_added() {
    let golden = tidy::root().join("tests/tests/steps.txt");
    let stored = std::fs::read_to_string(&golden).unwrap_or_default();
    let (models, missing) = models();
    let lines: Vec<String> = models.iter().map(|(name, path)| line(name, path)).collect();
    if std::env::var_os("QC_BLESS").is_some() {
        assert_eq!(missing, 0, "the figures are written where all models are");
        std::fs::write(&golden, lines.join("\n") + "\n").unwrap();
        return;
    }
    let stored: Vec<&str> = stored.lines().collect();
    let other: Vec<&String> = lines.iter().filter(|l| !stored.contains(&l.as_str())).collect();
    assert!(other.is_empty(), "not in {}: {other:#?}", golden.display());
    assert_eq!(stored.len(), lines.len() + missing);
    if missing > 0 {
        println!("SKIPPED {missing}: the models are not on this machine (QC_SHARED)");
    }
}
