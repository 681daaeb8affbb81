//! qc against ONNX Runtime without optimizations, on random ONNX models: runs `tests/oracle/run.py`, which makes its own
//! Python environment. `QC_ORACLE=count` sets how many models of each kind; `QC_BIN` names another binary of qc.
//!
//! A machine without python3 or without a package registry is a skip, which is counted in print.
#![allow(clippy::unwrap_used)]

use qc_tests::tidy::root;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Models of each kind that run by default.
const DEFAULT_COUNT: usize = 100;
/// Models on which the judge itself is checked, for each engine.
const SELF_CHECK_COUNT: usize = 30;
/// What `run.py` returns where its environment cannot be made.
const NO_ENVIRONMENT: i32 = 4;

/// The folder of this profile below cargo's target folder, where `qc` is.
fn profile() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_path_buf()
}

/// The binary of qc, built in the profile of this test.
fn qc() -> PathBuf {
    if let Some(path) = std::env::var_os("QC_BIN") {
        return PathBuf::from(path);
    }
    let folder = profile();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let profile = if name == "debug" { "dev" } else { &name };
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "-p", "qc", "--bin", "qc", "--profile", profile]).current_dir(root());
    let built = command.arg("--target-dir").arg(folder.parent().unwrap()).status().unwrap();
    assert!(built.success(), "{command:?}");
    folder.join("qc")
}

/// Runs `run.py` with arguments, prints what it says, and fails when a model is wrong.
fn oracle(kinds: &[&str], count: usize) {
    let target = profile().parent().unwrap().to_path_buf();
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let mut command = Command::new("python3");
    command.arg(root().join("tests/oracle/run.py")).arg("--qc").arg(qc()).arg("--kind").args(kinds);
    command.args(["--count", &count.to_string(), "--jobs", &jobs.to_string()]);
    command.arg("--venv").arg(target.join("oracle-venv"));
    let Ok(output) = command.output() else {
        println!("SKIPPED {}: python3 is not on this machine", kinds.len());
        return;
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    if output.status.code() == Some(NO_ENVIRONMENT) {
        println!("SKIPPED {}: python3 cannot install ONNX Runtime here", kinds.len());
        return;
    }
    assert!(output.status.success(), "{}", said.lines().rev().take(40).collect::<Vec<_>>().join("\n"));
}

fn count() -> usize {
    let Some(text) = std::env::var_os("QC_ORACLE") else { return DEFAULT_COUNT };
    text.to_str().and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("QC_ORACLE is a number, not {text:?}"))
}

#[test]
fn random_models_are_right_by_onnx_runtime() {
    oracle(&["float", "qdq", "qop", "static", "dynamic"], count());
}

#[test]
fn shared_cases_are_right() {
    oracle(&["cases"], 1);
}

/// The judge passes engines that are right and catches those with a known fault.
#[test]
fn the_judge_passes_what_is_right_and_catches_what_is_wrong() {
    oracle(&["self"], SELF_CHECK_COUNT);
}
