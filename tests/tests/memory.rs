//! Memory of code is never writable and executable at once: neither that of the JIT nor that of a loaded `.so`.
#![allow(clippy::unwrap_used)]

use qc_compiler::{Compiler, ContextOptions};
use qc_runtime::{Check, Predictor, TrustOfUser};
use qc_tests::tidy;

/// Mappings of this process: access, and the line.
fn mappings() -> Vec<(String, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().map(|l| (l.split(' ').nth(1).unwrap_or_default().to_string(), l.to_string())).collect()
}

fn writable_code() -> Vec<String> {
    let both = |access: &str| access.contains('w') && access.contains('x');
    mappings().into_iter().filter(|(access, _)| both(access)).map(|(_, line)| line).collect()
}

fn code() -> usize {
    mappings().iter().filter(|(access, _)| access.contains('x')).count()
}

#[test]
fn no_memory_is_both_writable_and_executable() {
    assert_eq!(writable_code(), [""; 0], "before anything was compiled");
    let before = code();
    let compiled = Compiler::default().compile(&tidy::root().join("examples/digits/digits_qdq.onnx")).unwrap();
    let jit = compiled.jit().unwrap();
    assert!(code() > before, "code of the JIT is mapped");
    assert_eq!(writable_code(), [""; 0], "with code of the JIT");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("digits.so");
    std::fs::write(&path, compiled.shared_object("digits.so").unwrap()).unwrap();
    let loaded = Predictor::load_named_by_user(&path, Check::All, TrustOfUser).unwrap();
    assert_eq!(writable_code(), [""; 0], "with a loaded model");
    for model in [&jit, &loaded] {
        let mut context = model.context(&ContextOptions { threads: Some(2), cpu: None }).unwrap();
        context.input_mut::<f32>(0, 3).unwrap().fill(0.5);
        context.run().unwrap();
        assert_eq!(writable_code(), [""; 0], "with a context");
    }
}
