//! Formats that are found in a run, and weights that only are stored as s8: what a batch means to them, what the account
//! says of them, and what they save.
#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileOptions, Compiler, ContextOptions, Fate, ModelFile, Quantize};
use qc_ir::NoSink;
use qc_tests::bombs::Onnx;

const K: usize = 20;
const N: usize = 17;

/// A number of many digits that depends on `i` alone.
fn number(i: usize) -> f32 {
    (i as f32 * 0.731).sin() * 1.7
}

fn compiled(bytes: Vec<u8>, quantize: Quantize) -> qc_compiler::Compiled {
    let file = ModelFile::from_bytes("m.onnx", bytes, None);
    Compiler::new(CompileOptions { quantize, ..CompileOptions::default() }).compile_file(&file, &mut NoSink).unwrap()
}

fn results(compiled: &qc_compiler::Compiled, x: &[f32], batch: usize) -> Vec<f32> {
    let mut cx = compiled.jit().unwrap().context(&ContextOptions::default()).unwrap();
    cx.input_mut::<f32>(0, batch).unwrap().copy_from_slice(x);
    cx.run().unwrap();
    cx.output::<f32>(0).unwrap().to_vec()
}

/// `DynamicQuantizeLinear`, `MatMulInteger` and what `quantize_dynamic` writes behind them.
fn written() -> Vec<u8> {
    let mut m = Onnx::default();
    m.input("x", &["N", &K.to_string()]);
    let w: Vec<u8> = (0..K * N).map(|i| (i * 37 % 255) as u8).collect();
    m.constant("w", 2, &[K as u64, N as u64], &w);
    m.constant("wz", 2, &[], &[128]);
    m.floats("ws", &[], &[0.01]);
    m.floats("b", &[N as u64], &(0..N).map(number).collect::<Vec<_>>());
    m.node("DynamicQuantizeLinear", "x > q s z", &[]);
    m.node("MatMulInteger", "q w z wz > i", &[]);
    m.node("Cast", "i > f", &[qc_tests::bombs::int("to", 1)]);
    m.node("Mul", "s ws > sw", &[]);
    m.node("Mul", "f sw > r", &[]);
    m.node("Add", "r b > y", &[]);
    m.ending("y")
}

/// The same by the definitions of ONNX, for all rows of `x` at once.
fn by_definition(x: &[f32]) -> Vec<f32> {
    let (lo, hi) = x.iter().fold((0.0f32, 0.0f32), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    let scale = (hi - lo) / 255.0;
    let zero = (-lo / scale).round_ties_even().clamp(0.0, 255.0);
    let q: Vec<i32> = x.iter().map(|v| ((v / scale).round_ties_even() + zero).clamp(0.0, 255.0) as i32).collect();
    let weight = |k: usize, n: usize| ((k * N + n) * 37 % 255) as i32 - 128;
    let row = |q: &[i32]| -> Vec<f32> {
        let sum = |n: usize| q.iter().enumerate().map(|(k, q)| (q - zero as i32) * weight(k, n)).sum::<i32>();
        (0..N).map(|n| sum(n) as f32 * (scale * 0.01) + number(n)).collect()
    };
    q.chunks(K).flat_map(row).collect()
}

#[test]
fn one_range_for_the_tensor_is_that_of_the_batch() {
    let compiled = compiled(written(), Quantize::Given);
    assert!(compiled.note().whole_batches.unwrap().contains("the items of a batch meet"));
    let text = |o: &qc_compiler::OpAccount| (o.op_type.clone(), o.fate.clone());
    let all: Vec<_> = compiled.account.ops.iter().map(text).collect();
    assert!(all.contains(&("MatMulInteger".into(), Fate::Int8)), "{all:?}");
    assert_eq!(compiled.account.macs(), ((K * N) as u64, (K * N) as u64));
    // Items of very different size, so that a scale per item would show.
    let x: Vec<f32> = (0..8 * K).map(|i| number(i) * (1 + i / K) as f32).collect();
    for batch in [1, 3, 8] {
        let x = &x[..batch * K];
        let (found, right) = (results(&compiled, x, batch), by_definition(x));
        assert_eq!(found, right, "batch {batch}");
        let apart: Vec<f32> = x.chunks(K).flat_map(by_definition).collect();
        assert_eq!(batch == 1, apart == right, "the batch must matter");
    }
}

/// A product by a constant matrix, one that is too small to be quantized, and one of two computed sides.
fn products() -> Vec<u8> {
    let mut m = Onnx::default();
    m.input("x", &["N", "5", "128"]);
    m.floats("w", &[128, 128], &(0..128 * 128).map(number).collect::<Vec<_>>());
    m.floats("v", &[128, 3], &(0..128 * 3).map(number).collect::<Vec<_>>());
    m.node("MatMul", "x w > a", &[]);
    m.node("Transpose", "x > t", &[qc_tests::bombs::ints("perm", &[0, 2, 1])]);
    m.node("MatMul", "a t > both", &[]);
    m.node("ReduceMean", "both > c", &[qc_tests::bombs::ints("axes", &[2])]);
    m.node("MatMul", "a v > d", &[]);
    m.node("Add", "d c > y", &[]);
    m.ending("y")
}

fn reasons(quantize: Quantize) -> Vec<Option<String>> {
    let compiled = compiled(products(), quantize);
    let products = compiled.account.ops.iter().filter(|o| o.op_type == "MatMul");
    let reason = |o: &qc_compiler::OpAccount| match &o.fate {
        Fate::Float(reason) => Some(reason.clone()),
        _ => None,
    };
    products.map(reason).collect()
}

#[test]
fn the_account_says_which_products_stay_float_and_why() {
    let small = Some("of fewer than 16 terms or columns, conversions cost more than they win".to_string());
    let both = Some("both of its sides are computed".to_string());
    assert_eq!(reasons(Quantize::Dynamic), [None, both.clone(), small.clone()]);
    let stored = Some("only its constants are stored as s8".to_string());
    assert_eq!(reasons(Quantize::Weights), [stored, both, small]);
}

#[test]
fn stored_weights_take_a_quarter_and_change_little() {
    let [float, stored] = [Quantize::Given, Quantize::Weights].map(|q| compiled(products(), q));
    let bytes = |c: &qc_compiler::Compiled| c.note().weights_bytes as f64;
    assert!(bytes(&stored) < 0.4 * bytes(&float), "{} of {}", bytes(&stored), bytes(&float));
    let x: Vec<f32> = (0..2 * 5 * 128).map(number).collect();
    let [float, stored] = [float, stored].map(|c| results(&c, &x, 2));
    let largest = float.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let off = float.iter().zip(&stored).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(off > 0.0 && off < 0.02 * largest, "{off} of {largest}");
}
