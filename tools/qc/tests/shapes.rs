//! Models of several shapes on the command line.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Shell, field};

/// `y = relu(x)`, x f32 [batch, seq, 4].
fn relu() -> Vec<u8> {
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Relu")].concat();
    model(4, &field(1, &node))
}

/// `y = x w`, x f32 [batch, seq, 60], w f32 [60, 60].
fn product() -> Vec<u8> {
    let values: Vec<u8> = (0..3600).flat_map(|i| ((i * 7 % 16) as f32 - 6.0).to_le_bytes()).collect();
    let w = [vec![1 << 3, 60, 1 << 3, 60, 2 << 3, 1], field(8, b"w"), field(9, &values)].concat();
    let node = [field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, b"MatMul")].concat();
    model(60, &[field(1, &node), field(5, &w)].concat())
}

/// A model of these nodes and constants, which makes y of x, f32 [batch, seq, n].
fn model(n: u8, nodes: &[u8]) -> Vec<u8> {
    let named = |name: &str| field(1, &field(2, name.as_bytes()));
    let dims = [named("batch"), named("seq"), field(1, &[1 << 3, n])].concat();
    let x = [field(1, b"x"), field(2, &field(1, &[vec![1 << 3, 1], field(2, &dims)].concat()))].concat();
    let y = [field(1, b"y"), field(2, &field(1, &[1 << 3, 1]))].concat();
    let graph = [nodes.to_vec(), field(2, b"g"), field(11, &x), field(12, &y)].concat();
    [vec![1 << 3, 8], field(7, &graph), field(8, &[2 << 3, 13])].concat()
}

/// A .npy file of f32, `dims` written as Python does.
fn npy(dims: &str, n: usize) -> Vec<u8> {
    let values: Vec<u8> = (0..n).flat_map(|i| (i as f32 - 5.0).to_le_bytes()).collect();
    support::npy("<f4", dims, &values)
}

fn shell() -> Shell {
    let shell = Shell::new();
    shell.write("m.onnx", &relu());
    std::fs::create_dir(shell.path("data")).unwrap();
    for (seq, batch) in [(3, 1), (7, 2), (5, 1)] {
        shell.write(&format!("data/{seq}.npy"), &npy(&format!("({batch}, {seq}, 4)"), batch * seq * 4));
    }
    shell
}

#[test]
fn shapes_are_stated_shown_and_chosen() {
    let shell = shell();
    shell.ok("compile m.onnx -o m.so --shape x[?,{3,7},4] -q");
    let shown = shell.ok("inspect m.so");
    for text in ["[n, {3,7}, 4]", "shape    x [n, 3, 4]", "shape    x [n, 7, 4]", "shape = x[?,{3,7},4]"] {
        assert!(shown.contains(text), "{text} is not in\n{shown}");
    }
    let io = shell.json("inspect m.so")["io"].clone();
    assert_eq!(io["inputs"][0]["choices"], serde_json::json!([[1, 3, 4], [1, 7, 4]]));
    assert!(String::from_utf8(shell.read("m.h")).unwrap().contains("x [n, 7, 4]"));
    assert!(shell.ok("check m.onnx --shape seq=8..64:8").contains("shapes   8, from x [n, 8, 4] to x [n, 64, 4]"));
    assert!(shell.ok("run m.so -i data/7.npy").contains("[2, 7, 4]"));
    shell.qc("run m.so -i data/5.npy").fails(
        2,
        "error: input 'x' is f32 [n, {3,7}, 4]; the array has shape [1, 5, 4]; there is code for those shapes only",
    );
    let all = shell.json("bench m.so -t 0.05 --threads 1");
    assert_eq!(all["shapes"].as_array().unwrap().len(), 2);
    let one = shell.json("bench m.so -t 0.05 --threads 1 --shape x[?,7,4]");
    assert!(one["shapes"].is_null() && one["median_ms"].as_f64().unwrap() > 0.0);
    shell
        .qc("bench m.so -t 0.05 --shape x[?,9,4]")
        .fails(2, "error: m.so has no such shape; it has x [n, 3, 4]; x [n, 7, 4]");
}

#[test]
fn a_model_runs_the_shape_of_its_arrays() {
    let shell = shell();
    assert!(shell.ok("run m.onnx -i x:data/5.npy").contains("[1, 5, 4]"));
    assert!(shell.ok("run m.onnx -i data/7.npy --shape seq={3,7}").contains("[2, 7, 4]"));
    let refused = shell.qc("run m.onnx -i data/5.npy --shape seq={3,7}");
    assert_eq!(refused.status, 2);
    assert!(refused.err.contains("there is code for those shapes only"), "{}", refused.err);
}

#[test]
fn a_folder_is_run_file_by_file() {
    let shell = shell();
    let text = shell.ok("run m.onnx -i data");
    for part in ["3.npy", "[1, 3, 4]", "5.npy", "[1, 5, 4]", "7.npy", "[2, 7, 4]"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    shell.ok("run m.onnx -i data -o results -q");
    for name in ["3.npy.npz", "5.npy.npz", "7.npy.npz"] {
        assert!(shell.path("results").join(name).is_file(), "{name}");
    }
    shell.ok("compile m.onnx -o m.so --shape seq={3,7} -q");
    let refused = shell.qc("run m.so -i data");
    assert_eq!(refused.status, 2);
    assert!(refused.err.starts_with("error: 5.npy: input 'x' is f32 [n, {3,7}, 4]"), "{}", refused.err);
    std::fs::create_dir(shell.path("empty")).unwrap();
    shell.qc("run m.onnx -i empty").fails(4, "error: empty: the folder holds no .npy or .npz file and no input_0.pb");
}

#[test]
fn calibration_merges_what_it_sees_at_every_shape() {
    let shell = shell();
    let report = shell.json("calibrate m.onnx --data data -o r.json");
    assert_eq!((&report["samples"], &report["shapes"]), (&4.into(), &3.into()));
    let ranges: serde_json::Value = serde_json::from_slice(&shell.read("r.json")).unwrap();
    // The longest array reaches furthest.
    let range = |name: &str| [&ranges["tensors"][name]["min"], &ranges["tensors"][name]["max"]];
    assert_eq!(range("x"), [&serde_json::json!(-5.0), &serde_json::json!(50.0)]);
    assert_eq!(range("y"), [&serde_json::json!(0.0), &serde_json::json!(50.0)]);
}

#[test]
fn a_search_takes_the_shapes_of_its_samples() {
    let shell = shell();
    shell.write("m.onnx", &product());
    for (seq, batch) in [(3, 1), (7, 2), (5, 1)] {
        shell.write(&format!("data/{seq}.npy"), &npy(&format!("({batch}, {seq}, 60)"), batch * seq * 60));
    }
    for options in ["--target-drop 1% --metric top1", "--target-snr 20", "--best --metric cosine", "--best"] {
        let report = shell.json(&format!("calibrate m.onnx --data data -o r.json {options}"));
        assert_eq!(report["samples"], 4, "{options}: {report}");
        let measured = if options.contains("best") { &report["best"]["tried"][0]["score"] } else { &report["score"] };
        assert!(measured.as_f64().is_some_and(|score| score > 20.0), "{options}: {report}");
    }
    let told = shell.ok("debug precision m.onnx --ranges r.json --data data");
    assert!(told.contains("MatMul"), "{told}");
    // What is written has the dims of a sample, which is told.
    let text = shell.ok("quantize m.onnx --data data -o q.onnx");
    assert!(
        text.contains("note     for the shape of the first sample only: [1, 3, 60]; --shape states another"),
        "{text}"
    );
    assert!(shell.ok("run q.onnx -i data/3.npy").contains("[1, 3, 60]"));
    assert!(!shell.ok("quantize m.onnx --ranges r.json -o q.onnx --shape x[1,5,60]").contains("first sample"));
}

#[test]
fn a_configuration_file_states_shapes_in_the_same_words() {
    let shell = shell();
    shell.write("qc.toml", b"[compile]\nshape = [\"x[?,S,4]\", \"S=3..7:2\"]\n");
    shell.ok("compile m.onnx -o m.so -q");
    assert!(shell.ok("inspect m.so").contains("[n, {3,5,7}, 4]"));
    shell.write("qc.toml", b"[compile]\nshape = \"x[?,3..8:2,4]\"\n");
    let refused = shell.qc("compile m.onnx -o m.so");
    assert_eq!(refused.status, 2);
    assert!(refused.err.contains("does not end at 8"), "{}", refused.err);
}

#[test]
fn what_cannot_be_stated_is_refused() {
    let shell = shell();
    for (line, status, text) in [
        ("compile m.onnx -o m.so", 3, "state it with `--shape x=?,?,4`"),
        ("compile m.onnx -o m.so --shape length=3", 3, "its named dims"),
        ("compile m.onnx -o m.so --shape x[?,1..300,4]", 5, "raise it with --limit variants=300"),
        ("compile m.onnx -o m.so --shape x[?,3] ", 3, "give one number per dim"),
        ("compile m.onnx -o m.so --shape x[?,?,4]", 2, "only the first dimension, the batch, can be open"),
        ("compile m.onnx -o m.so --shape x[?,{3,4]", 2, "a `{` is not closed"),
    ] {
        let ran = shell.qc(line);
        assert_eq!(ran.status, status, "{line}\n{}", ran.err);
        assert!(ran.err.contains(text), "{line}\n{}", ran.err);
    }
}
