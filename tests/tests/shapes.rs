//! Models of several shapes: random ones, and those that files describe.
#![allow(clippy::unwrap_used)]

use qc_compiler::{
    AnyShape, AnyShapeOptions, CompileError, CompileOptions, Compiled, Compiler, Context, ContextOptions, ModelFile,
    ShapeSpec, TargetCpu,
};
use qc_ladder::random::Recipe;
use qc_ladder::shapes::Outcome;
use qc_runtime::RunError;
use qc_tests::bombs::Onnx;

#[test]
fn variants_any_shape_and_single_compilations_agree() {
    let (mut agreed, mut apart) = (0, 0);
    for seed in 0..48 {
        match Recipe::of_seed(seed).check_shapes() {
            Ok(Outcome::Agree) => agreed += 1,
            Ok(Outcome::Apart) => apart += 1,
            Err(e) => panic!("seed {seed}: {e}"),
        }
    }
    assert!(agreed > 2 * apart, "{agreed} agreed, {apart} have to be compiled apart");
}

/// Rows of weights.
const IN: usize = 8;
/// Columns of weights.
const OUT: usize = 48;

/// `y[batch, seq, 48] = relu(x[batch, seq, 8] W) * mask[batch, seq, 1] + bias`.
fn encoder() -> ModelFile {
    let mut m = Onnx::default();
    m.input("x", &["batch", "seq", "8"]);
    m.input("mask", &["batch", "seq", "1"]);
    m.floats("w", &[IN as u64, OUT as u64], &weights());
    m.floats("b", &[OUT as u64], &(0..OUT).map(|i| i as f32).collect::<Vec<_>>());
    m.node("MatMul", "x w > p", &[]);
    m.node("Relu", "p > r", &[]);
    m.node("Mul", "r mask > m", &[]);
    m.node("Add", "m b > y", &[]);
    ModelFile::from_bytes("encoder.onnx", m.ending("y"), None)
}

fn weights() -> Vec<f32> {
    (0..IN * OUT).map(|i| ((i * 7919) % 31) as f32 / 16.0 - 1.0).collect()
}

fn input(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 31) % 17) as f32 / 8.0 - 1.0).collect()
}

/// What the encoder means, by definition.
fn expected(x: &[f32], mask: &[f32]) -> Vec<f32> {
    let w = weights();
    let row = |(r, x): (usize, &[f32])| -> Vec<f32> {
        let sum = |o: usize| (0..IN).map(|i| f64::from(x[i]) * f64::from(w[i * OUT + o])).sum::<f64>() as f32;
        (0..OUT).map(|o| sum(o).max(0.0) * mask[r] + o as f32).collect()
    };
    x.chunks(IN).enumerate().flat_map(row).collect()
}

fn options(shapes: &[&str]) -> CompileOptions {
    let shapes = shapes.iter().map(|s| s.parse::<ShapeSpec>().unwrap()).collect();
    CompileOptions { shapes, target: TargetCpu::Host, ..CompileOptions::default() }
}

fn compiled(shapes: &[&str]) -> Result<Compiled, CompileError> {
    Compiler::new(options(shapes)).compile_file(&encoder(), &mut qc_ir::NoSink)
}

fn one_thread() -> ContextOptions {
    ContextOptions { threads: Some(1), cpu: None }
}

/// Runs a context on the encoder's inputs at a shape, and compares.
fn right(cx: &mut Context, batch: usize, seq: usize) {
    let (x, mask) = (input(batch * seq * IN), input(batch * seq));
    cx.input_shaped::<f32>("x", &[batch, seq, IN]).unwrap().copy_from_slice(&x);
    cx.input_shaped::<f32>("mask", &[batch, seq, 1]).unwrap().copy_from_slice(&mask);
    cx.run().unwrap();
    assert_eq!(cx.output_shape("y").unwrap(), [batch, seq, OUT]);
    let (found, wanted) = (cx.output::<f32>("y").unwrap(), expected(&x, &mask));
    assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= 1e-4), "batch {batch}, length {seq}");
    assert_eq!(found.len(), wanted.len());
}

#[test]
fn a_variant_for_every_length_and_one_copy_of_the_weights() {
    let one = compiled(&["seq=16"]).unwrap();
    let all = compiled(&["x[?,{16,3,40},8]"]).unwrap();
    assert_eq!(
        all.note().shapes(),
        ["x [n, 3, 8], mask [n, 3, 1]", "x [n, 16, 8], mask [n, 16, 1]", "x [n, 40, 8], mask [n, 40, 1]"]
    );
    assert_eq!(all.note().weights_bytes, one.note().weights_bytes);
    assert_eq!(all.note().outputs[0].shape_text(), "[n, {3,16,40}, 48]");
    let jit = all.jit().unwrap();
    assert_eq!(jit.inputs()[0].to_string(), "f32 [n, {3,16,40}, 8]");
    let (_dir, loaded) = qc_ladder::ladder::shared_object(&all).unwrap();
    for model in [jit, loaded] {
        let mut cx = model.context(&one_thread()).unwrap();
        for (batch, seq) in [(1, 16), (9, 3), (2, 40), (1, 3), (8, 16)] {
            right(&mut cx, batch, seq);
        }
    }
    let smaller = one.arenas().map(|(_, bytes)| bytes).max();
    assert!(all.arenas().map(|(_, bytes)| bytes).max() >= smaller);
}

#[test]
fn the_header_and_the_options_name_the_shapes() {
    let all = compiled(&["seq=8..24:8"]).unwrap();
    let header = all.c_header();
    for text in
        ["x [n, 8, 8], mask [n, 8, 1]", "x [n, 24, 8], mask [n, 24, 1]", "const int64_t dims[3])", "BAD_SHAPE = 13"]
    {
        assert!(header.contains(text), "{text} is not in\n{header}");
    }
    assert_eq!(all.note().options["shape"], "seq[{8,16,24}]");
}

#[test]
fn a_length_without_a_variant_is_an_error_with_those_that_have_one() {
    let mut cx = compiled(&["seq={16,40}"]).unwrap().jit().unwrap().context(&one_thread()).unwrap();
    let error = cx.input_shaped::<f32>("x", &[1, 17, IN]).unwrap_err().to_string();
    assert_eq!(error, "input 'x' has shape [1, 17, 8]; this model runs [n, 16, 8], [n, 40, 8]");
    let error = cx.input_mut::<f32>("x", 1).unwrap_err().to_string();
    assert!(error.contains("several shapes"), "{error}");
    let data = [0.0; 17 * IN];
    let error = cx.call().input_shaped("x", &[1, 17, IN], &data).unwrap_err().to_string();
    assert!(error.contains("this model runs [n, 16, 8], [n, 40, 8]"), "{error}");
    let error = cx.call().input("x", &data[..16 * IN]).unwrap_err();
    assert!(matches!(error, RunError::Unstated { .. }), "{error}");
    let error = cx.call().input_shaped("x", &[1, 16, IN], &data).unwrap_err();
    assert!(matches!(error, RunError::ShapeMismatch { .. }), "{error}");
    right(&mut cx, 1, 16);
}

#[test]
fn inputs_of_different_lengths_are_not_computed() {
    let mut cx = compiled(&["seq={16,40}"]).unwrap().jit().unwrap().context(&one_thread()).unwrap();
    cx.input_shaped::<f32>("x", &[1, 16, IN]).unwrap().fill(1.0);
    cx.input_shaped::<f32>("mask", &[1, 40, 1]).unwrap().fill(1.0);
    let error = cx.run().unwrap_err().to_string();
    assert_eq!(error, "input 'x' is bound with shape [n, 16, 8]; with the last bound input belongs [n, 40, 8]");
    assert!(cx.output::<f32>(0).is_err());
    right(&mut cx, 2, 40);
}

#[test]
fn lent_data_has_a_shape_too() {
    let mut cx = compiled(&["seq={16,40}"]).unwrap().jit().unwrap().context(&one_thread()).unwrap();
    let (x, mask) = (input(2 * 40 * IN), input(2 * 40));
    let (mut y, mut short) = (vec![0.0; 2 * 40 * OUT], [0.0; 3]);
    let mut call = cx.call();
    call.input_shaped("x", &[2, 40, IN], &x).unwrap();
    call.input_shaped("mask", &[2, 40, 1], &mask).unwrap();
    assert!(call.output("y", &mut short[..]).is_err());
    call.output("y", &mut y).unwrap();
    call.run().unwrap();
    assert!(y.iter().zip(expected(&x, &mask)).all(|(a, b)| (a - b).abs() <= 1e-4));
}

#[test]
fn what_cannot_be_stated_is_one_sentence() {
    let says = |shapes: &[&str], text: &str| {
        let error = compiled(shapes).map(drop).unwrap_err();
        assert!(error.to_string().contains(text), "{error} lacks {text}");
    };
    says(&[], "the shape [?, ?, 8] is not fixed in the model");
    says(&["x[?,16,8]", "mask[?,17,1]"], "its dim `seq` is 17, but 16 in \"x\"");
    says(&["seq=1..300"], "the limit `variants` is 256");
    says(&["seq=1..129"], "shapes times batches are 258; the limit `variants` is 256");
    says(&["x[?,{16,17},9]"], "for mask[?,16,1] x[?,16,9]");
}

fn any(kept: usize) -> AnyShape {
    Compiler::default().any_shape(encoder(), &AnyShapeOptions { kept, context: one_thread() })
}

#[test]
fn a_shape_is_compiled_when_it_is_first_seen() {
    let mut model = any(2);
    for (at, (seq, compiled)) in [(16, 1), (40, 2), (16, 2), (7, 3), (16, 3), (40, 4)].into_iter().enumerate() {
        let cx = model.context(&[("x", &[2, seq, IN])]).unwrap();
        right(cx, 2, seq);
        assert_eq!(model.compiled(), compiled, "step {at}");
    }
    let error =
        |model: &mut AnyShape, shapes: &[(&str, &[usize])]| model.context(shapes).map(drop).unwrap_err().to_string();
    let text = error(&mut model, &[("x", &[1, 16, IN]), ("mask", &[1, 17, 1])]);
    assert!(text.contains("its dim `seq` is 17, but 16 in \"x\""), "{text}");
    let text = error(&mut model, &[("x", &[1, 16, 9])]);
    assert!(text.contains("the shape [1, 16, 9] is not one of [?, ?, 8]"), "{text}");
    let text = error(&mut model, &[]);
    assert!(text.contains("\"x\": it has no shape"), "{text}");
    // What failed left the context as it was.
    let cx = model.context(&[("x", &[2, 40, IN])]).unwrap();
    right(cx, 2, 40);
    assert_eq!(model.compiled(), 4);
}

#[test]
fn the_working_memory_is_that_of_the_largest_shape() {
    let mut model = any(4);
    let mut arena = |seq: usize| model.context(&[("x", &[1, seq, IN])]).unwrap().arena_bytes();
    let (small, large) = (arena(8), arena(512));
    assert!(small < large);
    assert_eq!([arena(8), arena(100), arena(512)], [large; 3]);
}
