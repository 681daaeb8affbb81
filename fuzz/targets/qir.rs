//! Modules in text form: parsed, verified, and run through the passes that follow their phase.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qc_tests::mutants::{Reader, read};

fuzz_target!(|bytes: &[u8]| {
    // A refusal is an answer; a defect is a panic.
    let _ = read(Reader::Qir, bytes);
});
