//! Memory of a predictor that takes any shape: it is that of the largest shape and of the programs that are kept, however
//! many shapes come by. A test binary of its own, since it looks at the memory of the process.
#![allow(clippy::unwrap_used)]

use qc_compiler::{AnyShapeOptions, CompileOptions, Compiler, ContextOptions, ModelFile, TargetCpu};
use qc_kernels::Tier;
use qc_ladder::random::Numbers;
use qc_tests::bombs::Onnx;

/// Shapes that come by.
const SHAPES: usize = 1000;
/// The longest of them, which comes first.
const LONGEST: usize = 2000;

/// Layers of an encoder without attention, over `x[batch, seq, 32]`.
fn model() -> ModelFile {
    let mut m = Onnx::default();
    m.input("x", &["batch", "seq", "32"]);
    let mut last = "x".to_string();
    for layer in 0..6 {
        let weights: Vec<f32> = (0..32 * 32).map(|i| ((i * 31 + layer) % 17) as f32 / 64.0 - 0.1).collect();
        m.floats(&format!("w{layer}"), &[32, 32], &weights);
        m.node("MatMul", &format!("{last} w{layer} > p{layer}"), &[]);
        m.node("Sigmoid", &format!("p{layer} > s{layer}"), &[]);
        m.node("Add", &format!("s{layer} {last} > v{layer}"), &[]);
        last = format!("v{layer}");
    }
    ModelFile::from_bytes("layers.onnx", m.ending(&last), None)
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096 * pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
}

#[test]
fn a_thousand_shapes_take_the_memory_of_a_few() {
    let context = ContextOptions { threads: Some(1), cpu: None };
    let options = CompileOptions { target: TargetCpu::Tier(Tier::Scalar), ..CompileOptions::default() };
    let mut any = Compiler::new(options).any_shape(model(), &AnyShapeOptions { context, ..Default::default() });
    let mut n = Numbers::new(7);
    let (mut settled, mut most) = (0, 0);
    for i in 0..=SHAPES {
        let seq = if i == 0 { LONGEST } else { 1 + n.below(LONGEST) };
        let context = any.context(&[("x", &[1, seq, 32])]).unwrap();
        context.input_shaped::<f32>(0, &[1, seq, 32]).unwrap().fill(0.5);
        context.run().unwrap();
        assert_eq!(context.output::<f32>(0).unwrap().len(), seq * 32);
        // By then as many programs are there as are kept.
        if i == 50 {
            settled = resident();
        }
        most = most.max(resident());
    }
    assert!(any.compiled() > SHAPES / 2);
    let grown = most.saturating_sub(settled);
    assert!(grown < 1 << 20, "{grown} bytes more than {settled} after 50 shapes");
}
