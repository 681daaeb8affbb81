//! A target that there is no code for is an error, not a file that nothing can run.

#![allow(clippy::unwrap_used)]

use qc_codegen::image::ImageInput;
use qc_codegen::{CodegenError, Target, isa, jit, shared_object};

const OTHER: &str = "riscv64gc-unknown-linux-gnu";

/// An empty model for a target.
fn image<'a>(target: &'a Target) -> ImageInput<'a> {
    ImageInput {
        target,
        name: "empty",
        json: "{}",
        sha256: [0; 32],
        inputs: &[],
        outputs: &[],
        whole_batches: false,
        variants: &[],
        deadline: qc_ir::Limits::default().deadline(),
    }
}

#[test]
fn a_target_that_is_not_there_is_named_with_those_that_are() {
    let host = Target::host().unwrap();
    assert!(host.is_host() && std::ptr::eq(Target::find(host.triple).unwrap(), host));
    let error = Target::find(OTHER).unwrap_err();
    assert!(matches!(error, CodegenError::Target { .. }));
    assert_eq!(error.to_string(), format!("qc makes no code for {OTHER}; it does for {}", host.triple));
}

#[test]
fn code_of_another_machine_is_neither_made_nor_run_here() {
    let host = Target::host().unwrap();
    let other = Target { triple: OTHER, name: "another machine", ..host.clone() };
    assert!(!other.is_host());
    assert!(isa::isa(&other, true, 1).is_err());
    let Err(error) = jit::jit(&image(&other), None, None) else { panic!("it ran") };
    assert!(matches!(error, CodegenError::Target { .. }), "{error}");
    assert!(error.to_string().contains("another machine to run in this process"), "{error}");
    assert!(jit::jit(&image(host), None, None).is_ok());
    assert!(shared_object::shared_object(&image(&other), "empty.so", None).is_err());
    assert!(shared_object::shared_object(&image(host), "empty.so", None).is_ok());
}
