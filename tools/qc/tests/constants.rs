//! Inputs that are constants of what is compiled.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Shell, field, npy};

/// A port of `dims`, of the element type that ONNX gives this number.
fn port(name: &str, elem: u8, dims: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&d| field(1, &[1 << 3, d])).collect();
    let tensor = [vec![1 << 3, elem], field(2, &dims)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// `y = reshape(x, s)`, x f32 [2, 3], s i64 [2].
fn reshape() -> Vec<u8> {
    let node = [field(1, b"x"), field(1, b"s"), field(2, b"y"), field(3, b"n"), field(4, b"Reshape")].concat();
    let ports = [field(11, &port("x", 1, &[2, 3])), field(11, &port("s", 7, &[2]))].concat();
    let y = [field(1, b"y"), field(2, &field(1, &[1 << 3, 1]))].concat();
    let graph = [field(1, &node), field(2, b"g"), ports, field(12, &y)].concat();
    [vec![1 << 3, 8], field(7, &graph), field(8, &[2 << 3, 13])].concat()
}

fn shell() -> Shell {
    let shell = Shell::new();
    shell.write("m.onnx", &reshape());
    let floats: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    shell.write("x.npy", &npy("<f4", "(2, 3)", &floats));
    let ints = |values: [i64; 2]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    shell.write("s.npy", &npy("<i8", "(2,)", &ints([3, 2])));
    shell.write("t.npy", &npy("<i8", "(2,)", &ints([-1, 1])));
    shell
}

#[test]
fn an_input_is_bound_at_compile_time() {
    let shell = shell();
    let refused = shell.qc("compile m.onnx -o m.so");
    assert_eq!(refused.status, 3);
    assert!(
        refused.err.contains("node \"n\" (Reshape)") && refused.err.contains("`--input s=VALUE`"),
        "{}",
        refused.err
    );
    shell.ok("compile m.onnx -o m.so --input s=3,2 -q");
    let shown = shell.ok("inspect m.so");
    assert!(shown.contains("[3, 2]") && shown.contains("input = s=3,2"), "{shown}");
    assert!(shell.ok("run m.so -i x.npy").contains("[3, 2]"));
    assert!(
        shell.ok("check m.onnx --constant s=6,1").contains("can be compiled"),
        "{}",
        shell.ok("check m.onnx --constant s=6,1")
    );
}

#[test]
fn numbers_are_given_to_a_run_as_to_a_compilation() {
    let shell = shell();
    assert!(shell.ok("run m.onnx -i x.npy --input s=3,2").contains("[3, 2]"));
    assert!(shell.ok("run m.onnx -i x:x.npy -i s=6,1").contains("[6, 1]"));
    shell.ok("bench m.onnx -i x.npy -i s=3,2 -t 0.01");
    shell.ok("compile m.onnx -o m.so --input s=3,2 -q");
    let refused = shell.qc("run m.so -i x.npy -i s=3,2");
    assert!(refused.status == 2 && refused.err.contains("--constant are for models"), "{}", refused.err);
}

#[test]
fn arrays_that_shapes_depend_on_are_constants_of_the_run() {
    let shell = shell();
    assert!(shell.ok("run m.onnx -i x:x.npy -i s:s.npy").contains("[3, 2]"));
    assert!(shell.ok("run m.onnx -i x:x.npy -i s:t.npy").contains("[6, 1]"));
}

#[test]
fn what_does_not_fit_is_told() {
    let shell = shell();
    for (option, text) in [
        ("s=3,2,1", "3 numbers are no constant of shape [2]"),
        ("s=1.5,4", "its numbers are no i64"),
        ("t=1", "the model has no such input; its inputs are x, s"),
        ("s=7,1", "cannot reshape [2, 3] to [7, 1]"),
    ] {
        let ran = shell.qc(&format!("compile m.onnx -o m.so --input {option}"));
        assert!(ran.status == 3 && ran.err.contains(text), "{option}: {}", ran.err);
    }
    assert!(shell.qc("compile m.onnx -o m.so --input s=a").err.contains("no number"));
}
