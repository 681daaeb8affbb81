//! `qc quantize`: what it writes, and what it refuses.

#![allow(clippy::unwrap_used)]

mod support;

use support::Shell;

#[test]
fn files_compute_what_the_model_does() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o ranges.json");
    for (model, int8) in [
        ("D/digits.onnx --ranges ranges.json", true),
        ("D/digits_qdq.onnx", true),
        ("D/paddle_qat", true),
        ("D/paddle_float --precision fp32", false),
    ] {
        let said = shell.json(&format!("quantize {model} -o out.onnx"));
        assert_eq!(said["schema"].as_str(), Some("qc.quantize/1"));
        let [all, integer, pairs] = ["products", "integer_products", "pairs"].map(|name| said[name].as_u64().unwrap());
        assert_eq!((integer > 0, pairs > 0), (int8, int8), "{model}: {said}");
        // The last product of the example with pairs is kept in f32.
        assert!(integer == 0 || integer + 1 >= all, "{model}: {said}");
        assert!(said["batch"].is_null() && said["data_bytes"].is_null(), "{said}");
        assert_eq!(said["file_bytes"].as_u64(), Some(shell.read("out.onnx").len() as u64));
        shell.ok(&format!("accuracy {model} --data D/test.npz --predictions own.txt -q"));
        shell.json("accuracy out.onnx --data D/test.npz --compare own.txt --min-agreement 99.7 --min-top1 98.5");
    }
}

#[test]
fn samples_are_as_good_as_ranges_that_were_found_on_them() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/train.npz -n 60 -o ranges.json --method least-squares");
    shell.ok("quantize D/digits.onnx --ranges ranges.json -o a.onnx");
    let line =
        "quantize D/digits.onnx --data D/train.npz -n 60 -o b.onnx --save-ranges saved.json --method least-squares";
    let said = shell.json(line);
    assert_eq!(said["calibration"]["method"], "least-squares");
    assert_eq!(shell.read("a.onnx"), shell.read("b.onnx"));
    assert_eq!(shell.read("ranges.json"), shell.read("saved.json"));
    // With a target, ops that have to be floats are part of the file.
    let said = shell.json("quantize D/digits.onnx --data D/train.npz -n 60 -o c.onnx --target-snr 60");
    let kept = said["calibration"]["keep_fp32"].as_array().unwrap().len();
    assert!(kept > 0 && said["integer_products"].as_u64() < said["products"].as_u64(), "{said}");
}

#[test]
fn ranges_are_given_or_found() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/train.npz -n 8 -o ranges.json");
    for (options, words) in [
        (
            "--data D/train.npz --ranges ranges.json",
            "--ranges are found already, and --data is to find some; leave one of them out",
        ),
        ("--data D/train.npz --precision fp32", "--data has no use with --precision fp32; leave one of them out"),
    ] {
        let ran = shell.qc(&format!("quantize D/digits.onnx -o out.onnx {options}"));
        ran.fails(2, &format!("error: {words}"));
    }
    for option in ["--method minmax", "--target-drop 1%", "--save-ranges r.json", "-n 3"] {
        let ran = shell.qc(&format!("quantize D/digits.onnx -o out.onnx --ranges ranges.json {option}"));
        assert_eq!(ran.status, 2, "{option}: {}", ran.err);
        assert!(ran.err.contains("--data"), "{option}: {}", ran.err);
    }
    assert!(!shell.path("out.onnx").exists() && !shell.path("r.json").exists());
}

#[test]
fn sums_can_be_rounded_as_in_the_file() {
    let shell = Shell::new();
    shell.ok("calibrate D/digits.onnx --data D/train.npz -o ranges.json");
    shell.ok("quantize D/digits.onnx --ranges ranges.json -o out.onnx");
    shell.ok("run D/digits.onnx --ranges ranges.json --sums rounded -i D/test.npz -o a.npz -q");
    shell.ok("run out.onnx --sums rounded -i D/test.npz -o b.npz -q");
    let arrays = |name: &str| qc_arrays::parse(&shell.read(name)).unwrap();
    let (a, b) = (arrays("a.npz"), arrays("b.npz"));
    assert_eq!(a.len(), b.len());
    for ((_, x), (_, y)) in a.iter().zip(&b) {
        assert!(x == y, "{x:?} and {y:?}");
    }
}

#[test]
fn what_makes_no_file_says_what_does() {
    let shell = Shell::new();
    let text =
        "the model has no quantization; give --ranges from `qc calibrate`, or write its floats with --precision fp32";
    shell.qc("quantize D/digits.onnx -o out.onnx").fails(3, &format!("error: {text}"));
    let text = "what is written is ONNX, whose name must end in .onnx; `qc compile` writes .so: out.so";
    shell.qc("quantize D/digits_qdq.onnx -o out.so").fails(2, &format!("error: {text}"));
    let text = "what is compiled is a shared object, whose name must end in .so; write out.so, or an .onnx file by `qc quantize`";
    for name in ["out.foo", "out.onnx"] {
        shell.qc(&format!("compile D/digits_qdq.onnx -o {name}")).fails(2, &format!("error: {name}: {text}"));
    }
    let text = "--exact-qdq says how a model is computed, and this command writes it; leave it out";
    shell.qc("quantize D/digits_qdq.onnx -o out.onnx --exact-qdq").fails(2, &format!("error: {text}"));
    assert!(!shell.path("out.onnx").exists() && !shell.path("out.foo").exists());
    let said = shell.ok("quantize D/digits_qdq.onnx -o out.onnx --batch 2");
    assert!(said.contains("note     for batch 2 only: as --batch says"), "{said}");
    assert_eq!(shell.json("quantize D/digits_qdq.onnx -o out.onnx --batch 2")["batch"].as_u64(), Some(2));
}
