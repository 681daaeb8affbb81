//! The account of a compilation tells nodes apart that have one name.
#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileOptions, Compiler, Fate, Guard, ModelFile, TargetCpu};
use qc_ir::NoSink;
use qc_kernels::Tier;
use qc_tests::bombs::twins;

#[test]
fn two_nodes_of_one_name_are_two() {
    let file = ModelFile::from_bytes("twins.onnx", twins(), None);
    let target = TargetCpu::Tier(Tier::Scalar);
    let options = CompileOptions { guard: Guard::None, target, batches: vec![1], ..CompileOptions::default() };
    let compiled = Compiler::new(options).compile_file(&file, &mut NoSink).unwrap();
    let account = &compiled.account;
    let convs: Vec<_> = account.ops.iter().filter(|o| o.node == "c").map(|o| (o.macs, &o.fate)).collect();
    let why = "its input has no quantized range".to_string();
    assert_eq!(convs, [(2 * 2 * 16, &Fate::Int8), (2 * 2 * 9 * 16, &Fate::Float(why))]);
    assert_eq!(account.macs(), (64, 640));
}
