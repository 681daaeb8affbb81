//! The account of a compilation tells nodes apart that have one name, and warns of what a model can hardly mean.
#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileOptions, Compiler, Fate, Guard, ModelFile, Precision, TargetCpu};
use qc_ir::NoSink;
use qc_kernels::Tier;
use qc_tests::bombs::{quantized_mask, twins};

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

#[test]
fn a_quantized_mask_is_warned_of_whatever_becomes_of_it() {
    let file = ModelFile::from_bytes("mask.onnx", quantized_mask(), None);
    let warnings = |options: CompileOptions| {
        let target = TargetCpu::Tier(Tier::Scalar);
        let options = CompileOptions { target, batches: vec![1], ..options };
        Compiler::new(options).compile_file(&file, &mut NoSink).unwrap().account.warnings
    };
    let said = |end: &str| {
        let text = "Add \"a\", which softmax \"p\" takes, is quantized in steps of 39.0000: a mask has no scale, and the scores \
                    beside it become 0; ";
        vec![text.to_string() + end]
    };
    assert_eq!(
        warnings(CompileOptions { exact_qdq: true, ..Default::default() }),
        said("--keep-fp32 'a' keeps it float")
    );
    assert_eq!(
        warnings(CompileOptions { keep_fp32: vec!["a".into()], ..Default::default() }),
        said("it is float here")
    );
    assert_eq!(warnings(CompileOptions { precision: Precision::Fp32, ..Default::default() }), Vec::<String>::new());
}
