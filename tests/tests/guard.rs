//! `--guard none` has an effect: what would stay float for its cost is integer without the guard.
#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileOptions, Compiler, Fate, Guard, ModelFile, TargetCpu};
use qc_ir::NoSink;
use qc_kernels::Tier;
use qc_tests::bombs::BOMBS;

fn integer_ops(guard: Guard) -> usize {
    let bomb = BOMBS.iter().find(|b| b.name == "quantized additions between float ops").unwrap();
    let file = ModelFile::from_bytes("adds.onnx", (bomb.make)(1000), None);
    let target = TargetCpu::Tier(Tier::Scalar);
    let options = CompileOptions { guard, target, batches: vec![1], ..CompileOptions::default() };
    let compiled = Compiler::new(options).compile_file(&file, &mut NoSink).unwrap();
    let adds = compiled.account.ops.iter().filter(|o| o.op_type == "Add");
    adds.filter(|o| o.fate == Fate::Int8).count()
}

#[test]
fn without_a_guard_more_is_integer() {
    let (guarded, free) = (integer_ops(Guard::NeverSlower), integer_ops(Guard::None));
    assert!(guarded < free, "{guarded} integer additions with the guard, {free} without");
}
