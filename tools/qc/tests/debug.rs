//! Layers that are broken on purpose are named by `qc compare` and `qc debug bisect`, and mended by a search with a target.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::{Shell, digits};

/// The bytes of a constant of an ONNX model, whose name stands in front of them.
fn constant<'m>(model: &'m mut [u8], name: &str) -> &'m mut [u8] {
    let head = [&[0x42, u8::try_from(name.len()).unwrap()], name.as_bytes(), &[0x4a]].concat();
    let at = model.windows(head.len()).position(|w| w == head).unwrap() + head.len();
    let (mut len, mut i) = (0, 0);
    loop {
        let byte = model[at + i];
        len |= usize::from(byte & 127) << (7 * i);
        i += 1;
        if byte < 128 {
            break;
        }
    }
    &mut model[at + i..at + i + len]
}

/// Writes a model of the example with the floats of a constant multiplied: those of one of so many equal parts, a channel.
fn scaled(shell: &Shell, from: &str, to: &str, name: &str, (factor, part, parts): (f32, usize, usize)) {
    let mut model = std::fs::read(digits().join(from)).unwrap();
    let bytes = constant(&mut model, name);
    let count = bytes.len() / parts / 4;
    for x in bytes.chunks_exact_mut(4).skip(part * count).take(count) {
        let value = f32::from_le_bytes([x[0], x[1], x[2], x[3]]) * factor;
        x.copy_from_slice(&value.to_le_bytes());
    }
    shell.write(to, &model);
}

/// Writes a quantized model with a scale of the tensor `wide`, which the node c4 makes, that is 8 times too large.
fn wide_by_8(shell: &Shell) {
    scaled(shell, "digits_qdq.onnx", "wide.onnx", "wide_scale", (8.0, 0, 1));
}

/// As [`wide_by_8`], of the tensor `left`, which the node c2 makes.
fn left_by_8(shell: &Shell) {
    scaled(shell, "digits_qdq.onnx", "left.onnx", "left_scale", (8.0, 0, 1));
}

/// Writes a quantized model, one channel of whose weight of the node `right` is upside down.
fn bad_channel(shell: &Shell) {
    let mut model = std::fs::read(digits().join("digits_qdq.onnx")).unwrap();
    let bytes = constant(&mut model, "c3_w");
    let channel = bytes.len() / 16;
    bytes[..channel].iter_mut().for_each(|w| *w = w.wrapping_neg());
    shell.write("channel.onnx", &model);
}

/// The first node of the first tensor of a comparison, and why it loses.
fn worst(report: &Value) -> (&str, &str) {
    let first = &report["tensors"][0];
    (first["nodes"][0].as_str().unwrap(), first["by"].as_str().unwrap())
}

#[test]
fn a_scale_times_8_is_named_and_mended_by_another_range() {
    let shell = Shell::new();
    left_by_8(&shell);
    for other in ["", "D/digits.onnx"] {
        let report = shell.json(&format!("compare left.onnx {other} --data D/test.npz -n 20"));
        let (node, by) = worst(&report);
        assert!(node == "c2" && by.contains("x too wide"), "{node} {by}");
        let reference = if other.is_empty() { String::new() } else { format!("--ref {other}") };
        let line = format!("left.onnx {reference} --data D/test.npz -n 40");
        let found = shell.json(&format!("debug bisect {line} --metric snr --least 41"));
        assert_eq!((found["node"].as_str(), found["tensor"].as_str()), (Some("c2"), Some("left")), "{found}");
        let mended = shell.json(&format!("calibrate {line} -o mended.json --target-snr 43"));
        assert_eq!(mended["target_reached"], true, "{mended}");
        let names: Vec<&str> = mended["rescaled"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((names, mended["keep_fp32"].as_array().unwrap().len()), (vec!["left"], 0), "{mended}");
        assert!(mended["score_without"].as_f64() < Some(43.0));
    }
    // The file is what a compilation takes, and it says as much as the search.
    let outputs = |extra: &str| {
        let report = shell.json(&format!("compare left.onnx D/digits.onnx --data D/test.npz -n 40 {extra}"));
        report["outputs"][0]["sqnr"].as_f64().unwrap()
    };
    assert!(outputs("--ranges mended.json") > 42.0 && outputs("") < 40.0);
    let ran = shell.qc("compile D/digits.onnx --ranges mended.json --foreign-ranges -o m.so");
    assert!(ran.status == 3 || ran.status == 2, "{}", ran.err);
    assert!(ran.err.contains("of a model that is quantized already"), "{}", ran.err);
}

#[test]
fn what_quantize_writes_of_a_mended_model_is_mended() {
    let shell = Shell::new();
    left_by_8(&shell);
    shell.ok("quantize left.onnx --data D/test.npz -n 40 --target-snr 43 --ref D/digits.onnx -o mended.onnx -q");
    let report = shell.json("compare mended.onnx D/digits.onnx --data D/test.npz -n 40");
    assert!(report["outputs"][0]["sqnr"].as_f64() >= Some(42.0), "{}", report["outputs"]);
    assert!(!report["tensors"].to_string().contains("too wide"), "{report}");
}

#[test]
fn clamps_that_pairs_stand_for_are_part_of_the_op() {
    let shell = Shell::new();
    left_by_8(&shell);
    // Where a pair clamps, the file has no Relu, and the floats of it have a clamp instead.
    shell.ok("quantize left.onnx -o written.onnx -q");
    let report = shell.json("compare written.onnx --data D/test.npz -n 20");
    let (node, by) = worst(&report);
    assert!(node.starts_with("c2") && by.contains("x too wide"), "{node} {by}");
    let alone = |i: usize| report["tensors"][i]["sqnr_alone"].as_f64().unwrap();
    assert!(alone(0) + 6.0 < alone(1), "{report}");
}

#[test]
fn a_bad_weight_channel_is_named_beside_the_original() {
    let shell = Shell::new();
    bad_channel(&shell);
    let report = shell.json("compare channel.onnx D/digits.onnx --data D/test.npz -n 20");
    assert_eq!(worst(&report), ("right", "weights"));
    let line = "debug bisect channel.onnx --ref D/digits.onnx --data D/test.npz";
    let found = shell.json(&format!("{line} --metric snr --least 25"));
    assert_eq!((found["node"].as_str(), found["by"].as_str()), (Some("right"), Some("weights")), "{found}");
    assert!(found["score_before"].as_f64() >= Some(25.0) && found["score"].as_f64() < Some(25.0), "{found}");
    // Its own floats have that channel, too.
    let own = shell.json("debug bisect channel.onnx --data D/test.npz --metric snr --least 25");
    assert_eq!(own["node"], Value::Null);
    // Floats do not mend what the model says.
    let line = "calibrate channel.onnx --ref D/digits.onnx --data D/test.npz -n 20 -o r.json --target-snr 30";
    assert_eq!(shell.json(line)["target_reached"], false);
}

#[test]
fn a_bad_weight_channel_of_floats_is_named_and_kept() {
    let shell = Shell::new();
    scaled(&shell, "digits.onnx", "bad.onnx", "c2_w", (200.0, 3, 16));
    let calibrate = "calibrate bad.onnx --data D/train.npz -n 60 --method minmax";
    let plain = shell.json(&format!("{calibrate} -o plain.json --target-snr 1"));
    let report = shell.json("compare bad.onnx --ranges plain.json --data D/test.npz -n 20");
    let (node, by) = worst(&report);
    assert!(node == "c2" && by.starts_with("format"), "{node} {by}");
    let target = plain["score_without"].as_f64().unwrap() + 3.0;
    // Without a bound, it is the op that makes the outputs half as bad as they are.
    let found = shell.json("debug bisect bad.onnx --ranges plain.json --data D/train.npz -n 60");
    assert_eq!(found["node"], "c2", "{found}");
    // What computes the tensor and what reads it are floats, so it has no format.
    let found = shell.json(&format!("{calibrate} -o mended.json --target-snr {target}"));
    let kept = found["keep_fp32"].to_string();
    assert_eq!(found["target_reached"], true, "{found}");
    assert!(kept.contains("\"c2\"") && kept.contains("\"c3\"") && !kept.contains("\"c5\""), "{kept}");
}

#[test]
fn a_model_is_reduced_to_the_part_that_fails() {
    let shell = Shell::new();
    wide_by_8(&shell);
    // A part fails that holds the scale: its four bytes are in the file.
    let mut model = shell.read("wide.onnx");
    let scale: String = constant(&mut model, "wide_scale").iter().map(|b| format!("{b:02x}")).collect();
    shell.write("check.sh", format!("! od -An -v -tx1 \"$1\" | tr -d ' \\n' | grep -q {scale} || exit 3\n").as_bytes());
    let run = |out: &str, check: &str| {
        let mut words = vec!["debug", "reduce", "wide.onnx", "--data", "test.npz", "--json", "-o", out, "--check"];
        words.push(check);
        shell.words(&words)
    };
    std::fs::copy(digits().join("test.npz"), shell.path("test.npz")).unwrap();
    let ran = run("small", "sh check.sh {model} {input}");
    assert_eq!(ran.status, 0, "{}", ran.err);
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&found["nodes"][0], &found["status"]), (&"c4".into(), &3.into()), "{found}");
    assert_eq!((&found["inputs"][0], &found["outputs"][0]), (&"pooled".into(), &"wide".into()), "{found}");
    // The part runs on its input, and the command fails again.
    shell.ok("run small/model.onnx -i small/input.npz -o y.npz");
    let replay =
        std::process::Command::new("sh").arg("small/replay.sh").current_dir(shell.dir.path()).status().unwrap();
    assert_eq!(replay.code(), Some(3));
    // What is right is not reduced, and leaves nothing behind.
    let ran = run("none", "test -s {model}");
    assert!(ran.status == 1 && !shell.path("none").exists(), "{}", ran.err);
    let ran = run("none", "true");
    assert!(ran.status == 2 && ran.err.contains("the command has to name {model} or {input}"), "{}", ran.err);
}

#[test]
fn outputs_are_judged_by_a_command() {
    let shell = Shell::new();
    bad_channel(&shell);
    shell.ok("run D/digits.onnx -i D/test.npz -o right.npz -q");
    std::fs::copy(digits().join("test.npz"), shell.path("test.npz")).unwrap();
    std::fs::copy(digits().join("digits.onnx"), shell.path("digits.onnx")).unwrap();
    let run = |check: &str| {
        let line =
            ["debug", "bisect", "channel.onnx", "--ref", "digits.onnx", "--data", "test.npz", "-n", "360", "--json"];
        shell.words(&[&line[..], &["--check", check]].concat())
    };
    let check = format!("{} compare {{outputs}} right.npz --least 25", env!("CARGO_BIN_EXE_qc"));
    let ran = run(&check);
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["node"], "right");
    for (check, why) in [
        ("false {outputs}", "the outputs of the floats are wrong already"),
        ("exit 125 # {outputs}", "--check cannot tell (status 125)"),
        ("no-such-command {outputs}", "the shell cannot run"),
        ("true", "the command has to name {outputs}"),
    ] {
        let ran = run(check);
        assert!(ran.status == 2 && ran.err.contains(why), "{check}: {} {}", ran.status, ran.err);
    }
    let ran = shell.qc("debug bisect channel.onnx --data test.npz --metric snr");
    assert!(ran.status == 2 && ran.err.contains("--least"), "{}", ran.err);
    let halved = shell.json("debug bisect channel.onnx --ref digits.onnx --data test.npz");
    assert_eq!(halved["node"], "right", "{halved}");
}

#[test]
fn every_op_says_what_it_computes_in() {
    let shell = Shell::new();
    wide_by_8(&shell);
    let line = "debug precision wide.onnx --data D/test.npz -n 10 --save-all-tensors all.npz";
    let report = shell.json(line);
    let ops = report["ops"].as_array().unwrap();
    let of = |node: &str| ops.iter().find(|op| op["node"] == node).unwrap();
    assert_eq!((&of("c4")["computes"], &of("c4")["holds"][1]), (&"INT8".into(), &48.0.into()));
    assert_eq!(of("prob")["computes"], "f32");
    assert!(of("c4")["seen"][1].as_f64() < Some(6.1) && !of("prob")["reason"].as_str().unwrap().is_empty());
    let all = qc_arrays::parse(&shell.read("all.npz")).unwrap();
    let tensor = |name: &str| {
        let found = all.iter().find(|(n, _)| n.as_deref() == Some(name)).unwrap();
        found.1.as_f32().unwrap().to_vec()
    };
    let (got, right) = (tensor("wide"), tensor("wide.float"));
    assert_eq!(got.len(), right.len());
    // Roundings to steps of 48 / 255.
    let step = 48.0 / 255.0f32;
    assert!(got.iter().all(|x| (x / step - (x / step).round()).abs() < 1e-3));
    assert!(got.iter().zip(&right).any(|(g, r)| g != r) && got.iter().zip(&right).all(|(g, r)| (g - r).abs() < step));
    // Infinities are found where they are first.
    scaled(&shell, "digits.onnx", "infinite.onnx", "c4_w", (f32::INFINITY, 0, 32));
    shell.ok("calibrate infinite.onnx --data D/train.npz -n 8 -o r.json -q");
    let report = shell.json("debug precision infinite.onnx --ranges r.json --data D/test.npz -n 4");
    assert_eq!(report["not_finite"].as_str(), Some("wide"), "{}", report["not_finite"]);
}

#[test]
fn stored_and_compiled_outputs_are_compared() {
    let shell = Shell::new();
    shell.ok("compile D/digits_qdq.onnx -o m.so -q");
    shell.ok("run m.so -i D/test.npz -o int8.npz -q");
    shell.ok("run D/digits.onnx -i D/test.npz -o float.npz -q");
    let outputs = |line: &str| {
        let report = shell.json(&format!("compare {line}"));
        assert_eq!(report["tensors"].as_array().unwrap().len(), 0);
        report["outputs"][0]["sqnr"].as_f64()
    };
    let stored = outputs("int8.npz float.npz");
    assert!(stored > Some(30.0));
    for line in [
        "m.so D/digits.onnx --data D/test.npz",
        "m.so float.npz --data D/test.npz",
        "int8.npz D/digits.onnx --data D/test.npz",
    ] {
        assert_eq!(outputs(line), stored, "{line}");
    }
    assert_eq!(outputs("m.so int8.npz --data D/test.npz"), None);
    shell.qc("compare int8.npz float.npz --least 30").fails(0, "");
    let ran = shell.qc("compare int8.npz float.npz --least 90");
    assert!(ran.status == 1 && ran.err.contains("FAILED: output 'prob' has"), "{}", ran.err);
    for (line, why) in [
        ("int8.npz", "has outputs only; name what they are compared with"),
        ("m.so D/digits.onnx", "give --data"),
        ("m.so float.npz --data D/test.npz -n 7", "'prob' has 70 elements on one side and 3600 on the other"),
        ("int8.npz float.npz --per-op", "have no ops"),
    ] {
        let ran = shell.qc(&format!("compare {line}"));
        assert!(ran.status == 2 && ran.err.contains(why), "{line}: {}", ran.err);
    }
}

#[test]
fn what_the_worst_ops_gain_is_measured() {
    let shell = Shell::new();
    wide_by_8(&shell);
    let report = shell.json("compare wide.onnx --data D/test.npz -n 20 --per-op 3");
    let ops = report["per_op"].as_array().unwrap();
    let gain = |op: &Value| op["gain"].as_f64().unwrap();
    assert_eq!(ops.len(), 3);
    assert!(ops[0]["nodes"].to_string().contains("\"c4\"") && gain(&ops[0]) > 1.5, "{ops:?}");
    assert!(ops[1..].iter().all(|op| gain(op) < gain(&ops[0])), "{ops:?}");
    assert!(ops.iter().all(|op| op["time"].as_f64() > Some(0.0) && op["share"].as_f64() >= Some(0.0)));
}
