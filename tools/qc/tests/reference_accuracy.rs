//! Accuracy of quantized models over 800 labelled pictures, against what ONNX Runtime, or Paddle's emulation in floats,
//! predicted for them.
//!
//! Models and pictures belong to others: the test runs where they are and prints a skip where they are not.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use support::Shell;

/// Model, preprocessing, number of the first class, stored predictions, least agreement in percent.
///
/// The predictions are for pictures that another decoder of JPEG made. With all roundings as written (`--exact-qdq`) 94.0 %
/// agree for Paddle's shufflenet with quantize_linear, so that its default is asked for a point less.
const MODELS: &[(&str, &str, i64, &str, f64)] = &[
    ("shufflenetv2_x1_0/shufflenetv2_x1_0_ort_qop.onnx", "imagenet", 0, "shufflenetv2_x1_0_ort_qop", 95.0),
    ("squeezenet11/SqueezeNet_ort_qop.onnx", "caffe-bgr", 0, "SqueezeNet_ort_qop", 96.0),
    ("squeezenet11/SqueezeNet_fp16.onnx", "caffe-bgr", 0, "SqueezeNet_fp16", 98.0),
    ("mobilenet_v2_100_224_qat/mobilenet_v2_100_224_qat_qdq.onnx", "imagenet-tf", 1, "mobilenet_v2_qat_qdq", 96.5),
    ("shufflenetv2_x1_0/paddle_pir3", "imagenet", 0, "shufflenetv2_paddle_fp32", 99.0),
    ("shufflenetv2_x1_0/paddle_ptq_fakequant", "imagenet", 0, "shufflenetv2_paddle_fakequant", 94.0),
    ("shufflenetv2_x1_0/paddle_ptq_quantize_linear", "imagenet", 0, "shufflenetv2_paddle_quantize_linear", 93.0),
    (
        "mobilenet_v1_075_224_keras/paddle_ptq_quantize_linear",
        "imagenet-tf",
        0,
        "mobilenet_v1_075_paddle_quantize_linear",
        94.0,
    ),
];

/// Points of top-1 accuracy that may lie between qc and the stored predictions: 0.7, and 0.3 for pictures where several
/// classes of a quantized result have the best score, of which the stored predictions name any.
const TOP1_POINTS: f64 = 1.0;

/// Percent of the pictures whose class is the first of the predicted ones.
fn stored_top1(path: &Path) -> f64 {
    let text = std::fs::read_to_string(path).unwrap();
    let words = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let right: Vec<bool> = words.map(|w| w[1] == w[2]).collect();
    100.0 * right.iter().filter(|r| **r).count() as f64 / right.len() as f64
}

#[test]
fn quantized_models_predict_what_the_reference_predicts() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let root = std::env::var_os("QC_SHARED").map_or_else(beside, PathBuf::from).join("models");
    if !root.join("INDEX.md").is_file() {
        println!("SKIPPED {}: the models are not on this machine (QC_SHARED)", MODELS.len());
        return;
    }
    let root = root.canonicalize().unwrap();
    let shell = Shell::new();
    for (model, preset, offset, stored, least) in MODELS {
        let stored = root.join("baselines").join(format!("{stored}.txt"));
        let found = shell.json(&format!(
            "accuracy {root}/models/{model} --labels {root}/images/nips2017_256_eval_labels.txt \
             --images {root}/images/nips2017_256_jpg --preprocess {preset} --class-offset {offset} --compare {}",
            stored.display(),
            root = root.display(),
        ));
        let (top1, agreement) = (found["top1"].as_f64().unwrap(), found["agreement"].as_f64().unwrap());
        println!("{model}: top-1 {top1:.2}, agreement {agreement:.2}, ties {}", found["ties"]);
        assert!(agreement >= *least, "{model}: {agreement} % agree");
        assert!((top1 - stored_top1(&stored)).abs() <= TOP1_POINTS, "{model}: top-1 is {top1}");
    }
}
