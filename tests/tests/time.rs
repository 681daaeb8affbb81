//! Time: a compilation grows with its model, and ends soon after its deadline.
#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileError, CompileOptions, Compiler, ModelFile, TargetCpu};
use qc_ir::{Limits, NoSink};
use qc_kernels::Tier;
use qc_tests::bombs::{BOMBS, TOO_WIDE, field, varint};
use std::time::{Duration, Instant};

/// A float tensor of shape `[1, n]`.
fn value(name: &str, n: u8) -> Vec<u8> {
    let dim = |n: u8| field(1, &[0x08, n]);
    let tensor = [&[0x08, 1][..], &field(2, &[dim(1), dim(n)].concat())].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// A network of `n` additions: each adds the result before it to one far behind, so that many are alive at once.
fn additions(n: usize) -> ModelFile {
    let name = |i: usize| format!("v{i}");
    let mut graph = Vec::new();
    for i in 0..n {
        let operands = [name(i), name(i / 2)].map(|name| field(1, name.as_bytes())).concat();
        let node = [operands, field(2, name(i + 1).as_bytes()), field(4, b"Add")].concat();
        graph.extend(field(1, &node));
    }
    graph.extend(field(2, b"g"));
    graph.extend(field(11, &value("v0", 8)));
    graph.extend(field(12, &value(&name(n), 8)));
    let opset = field(8, &[0x10, 13]);
    let model = [&[0x08, 8][..], &field(7, &graph), &opset].concat();
    ModelFile::from_bytes("additions.onnx", model, None)
}

fn compile(n: usize, seconds: u64) -> (Duration, Result<(), CompileError>) {
    let limits = Limits { time: seconds, ..Limits::default() };
    let target = TargetCpu::Tier(Tier::Scalar);
    let options = CompileOptions { limits, target, batches: vec![1], ..CompileOptions::default() };
    let (file, start) = (additions(n), Instant::now());
    let result = Compiler::new(options).compile_file(&file, &mut NoSink).map(drop);
    (start.elapsed(), result)
}

#[test]
fn time_grows_with_the_model() {
    for n in [500, 1000, 2000, 4000] {
        let (time, result) = compile(n, 600);
        result.unwrap();
        println!("{n} nodes: {time:?}");
    }
}

#[test]
fn a_compilation_ends_soon_after_its_deadline() {
    let (time, result) = compile(60_000, 1);
    println!("ended after {time:?}");
    assert!(matches!(result, Err(CompileError::Limit { .. })), "{result:?}");
    assert!(time < Duration::from_secs(3), "{time:?}");
}

#[test]
fn a_deadline_is_looked_at_inside_nodes_passes_and_code_generation() {
    // Of these, one takes long to import, others in passes, others in code generation.
    for name in ["Sum with very many inputs", "Concat with very many inputs", "chain of convolutions"] {
        let bomb = BOMBS.iter().chain(TOO_WIDE).find(|b| b.name == name).unwrap();
        let file = ModelFile::from_bytes("bomb.onnx", (bomb.make)(1_500_000), None);
        let limits = Limits { time: 1, inputs: u64::MAX, ..Limits::default() };
        let options = CompileOptions { limits, target: TargetCpu::Tier(Tier::Scalar), ..CompileOptions::default() };
        let start = Instant::now();
        let result = Compiler::new(options).compile_file(&file, &mut NoSink).and_then(|c| c.shared_object("b.so"));
        println!("{name}: ended after {:?}", start.elapsed());
        assert!(matches!(result, Err(CompileError::Limit { .. })), "{:?}", result.map(|so| so.len()));
        assert!(start.elapsed() < Duration::from_secs(3), "{name}: {:?}", start.elapsed());
    }
}

/// A network that adds `constants` to its input, each made from a single number by one node of `make`.
fn blown_up(count: usize, make: impl Fn(&str, &str) -> Vec<u8>) -> ModelFile {
    let mut graph = Vec::new();
    for i in 0..count {
        graph.extend(field(1, &make("seed", &format!("c{i}"))));
        let operands = [format!("v{i}"), format!("c{i}")].map(|name| field(1, name.as_bytes())).concat();
        let node = [operands, field(2, format!("v{}", i + 1).as_bytes()), field(4, b"Add")].concat();
        graph.extend(field(1, &node));
    }
    graph.extend(field(2, b"g"));
    // A float tensor [1, 1, 1, 1] called "seed".
    let seed = [&[0x08, 1, 0x08, 1, 0x08, 1, 0x08, 1, 0x10, 1][..], &field(8, b"seed"), &field(9, &[0; 4])].concat();
    graph.extend(field(5, &seed));
    graph.extend(field(11, &value("v0", 1)));
    graph.extend(field(12, &value(&format!("v{count}"), 1)));
    let model = [&[0x08, 8][..], &field(7, &graph), &field(8, &[0x10, 10])].concat();
    ModelFile::from_bytes("blown_up.onnx", model, None)
}

/// An attribute of integers.
fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    let list: Vec<u8> = values.iter().flat_map(|&v| [vec![0x40], varint(v)].concat()).collect();
    field(5, &[field(1, name.as_bytes()), list, vec![0xa0, 0x01, 7]].concat())
}

#[test]
fn constants_are_not_blown_up_at_compile_time() {
    let pads = |side: u64| [0, 0, 0, 0, 0, 0, side, side];
    let node = |op: &[u8], from: &str, to: &str, attrs: Vec<u8>| {
        [field(1, from.as_bytes()), field(2, to.as_bytes()), field(4, op), attrs].concat()
    };
    let pad = blown_up(200, |from, to| node(b"Pad", from, to, ints("pads", &pads(8000))));
    let pool = blown_up(50, |from, to| {
        let attrs = [ints("kernel_shape", &[1000, 1000]), ints("pads", &[1999; 4])].concat();
        node(b"MaxPool", from, to, attrs)
    });
    for file in [pad, pool] {
        let options = CompileOptions { target: TargetCpu::Tier(Tier::Scalar), batches: vec![1], ..Default::default() };
        let start = Instant::now();
        let result = Compiler::new(options).compile_file(&file, &mut NoSink).map(drop);
        println!("{:?} after {:?}", result.map_err(|e| e.to_string()), start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
