//! Paddle programs with combined parameters, as ONNX models. The input is what `qc_tests::mutants::join` makes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qc_tests::mutants::{Reader, read};

fuzz_target!(|bytes: &[u8]| {
    // A refusal is an answer; a defect is a panic.
    let _ = read(Reader::Paddle, bytes);
});
