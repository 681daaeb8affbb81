//! Which op of a model loses how much, from the command line.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::Shell;

fn ranges(shell: &Shell) -> Value {
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o ranges.json -q");
    serde_json::from_slice(&shell.read("ranges.json")).unwrap()
}

/// The tensors of a report, from the one whose op loses most.
fn tensors(report: &Value) -> Vec<(String, f64)> {
    let one = |t: &Value| {
        let alone = t["sqnr_alone"].as_f64().unwrap_or(f64::INFINITY);
        (t["tensor"].as_str().unwrap().to_string(), alone)
    };
    report["tensors"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn the_layer_with_a_bad_range_is_named() {
    let shell = Shell::new();
    let good = ranges(&shell);
    let line = |file: &str| format!("compare D/digits.onnx --ranges {file} --data D/test.npz -n 20");
    let right = shell.json(&line("ranges.json"));
    let before = tensors(&right);
    assert!(before.iter().all(|(_, alone)| *alone > 30.0), "{before:?}");
    assert!(right["outputs"][0]["sqnr"].as_f64().unwrap() > 30.0);
    for tensor in ["stem", "wide", "mixed"] {
        for factor in [8.0, 0.125] {
            let mut ranges = good.clone();
            let t = &mut ranges["tensors"][tensor];
            *t = json!({"min": t["min"].as_f64().unwrap() * factor, "max": t["max"].as_f64().unwrap() * factor});
            shell.write("bad.json", ranges.to_string().as_bytes());
            let report = shell.json(&line("bad.json"));
            let found = tensors(&report);
            assert_eq!(found[0].0, tensor, "{factor}: {found:?}");
            assert!(found[0].1 + 6.0 < found[1].1, "{found:?}");
            assert!(!report["tensors"][0]["nodes"].as_array().unwrap().is_empty());
        }
    }
    let said = shell.ok(&line("bad.json"));
    assert!(said.contains("INT8 against float over 20 samples"), "{said}");
}

#[test]
fn a_node_that_is_kept_loses_nothing() {
    let shell = Shell::new();
    ranges(&shell);
    let with = |extra: &str| {
        let report = shell.json(&format!("compare D/digits.onnx --ranges ranges.json --data D/test.npz -n 10 {extra}"));
        tensors(&report).into_iter().find(|(name, _)| name == "wide").unwrap().1
    };
    assert!(with("--guard none") < 60.0);
    assert!(with("--guard none --keep-fp32 c4") > 60.0);
}

#[test]
fn stored_forms_have_the_tensors_of_their_floats() {
    let shell = Shell::new();
    for (model, expected) in [("digits_qdq.onnx", "wide"), ("paddle_qat", "relu6_0.tmp_0")] {
        let report = shell.json(&format!("compare D/{model} --data D/test.npz -n 8"));
        let found = tensors(&report);
        assert!(found.len() >= 9, "{model}: {found:?}");
        let (_, alone) = found.iter().find(|(name, _)| name == expected).unwrap();
        assert!((25.0..60.0).contains(alone), "{model}: {found:?}");
    }
}

#[test]
fn threads_change_no_digit() {
    let shell = Shell::new();
    ranges(&shell);
    let with = |threads: usize| {
        shell.json(&format!("compare D/digits.onnx --ranges ranges.json --data D/test.npz -n 30 --threads {threads}"))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn a_float_model_without_ranges_has_nothing_to_compare() {
    let shell = Shell::new();
    let ran = shell.qc("compare D/digits.onnx --data D/test.npz");
    assert_ne!(ran.status, 0);
    assert!(ran.err.contains("nothing of the model is INT8; give --ranges"), "{}", ran.err);
}
