//! Holds the repository to its own rules; formatting and lints included.

#![allow(clippy::unwrap_used)]

use qc_tests::tidy;
use std::process::{Command, Output};

fn none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn files_have_shape() {
    none(tidy::shape_of_files(&tidy::files()));
}

#[test]
fn functions_are_short() {
    none(tidy::length_of_functions(&tidy::files()));
}

#[test]
fn unsafe_code_has_its_places_and_reasons() {
    none(tidy::unsafe_code(&tidy::files()));
}

#[test]
fn dependencies_point_down() {
    let out = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    none(tidy::arrows(&String::from_utf8_lossy(&out.stdout)).unwrap());
}

#[test]
fn layers_do_not_know_each_other() {
    none(tidy::layers(&tidy::files()));
}

#[test]
fn passes_and_ops_have_tests() {
    none(tidy::coverage(&tidy::files()));
}

#[test]
fn architecture_names_every_crate() {
    none(tidy::architecture(&tidy::files()));
}

#[test]
fn words_are_those_of_the_glossary() {
    none(qc_tests::words::kept(&tidy::files()));
}

#[test]
fn no_paths_of_one_machine() {
    none(tidy::paths(&tidy::files()));
}

#[test]
fn nothing_uses_the_network() {
    let lock = std::fs::read_to_string(tidy::root().join("Cargo.lock")).unwrap();
    none(tidy::no_network(&tidy::files(), &lock));
}

#[test]
fn nothing_brings_c_code() {
    let lock = std::fs::read_to_string(tidy::root().join("Cargo.lock")).unwrap();
    none(tidy::no_c(&lock));
    let lock = "[[package]]\nname = \"linux-raw-sys\"\n[[package]]\nname = \"cc\"\n[[package]]\nname = \"zstd-sys\"\n";
    assert_eq!(tidy::no_c(lock).len(), 2);
}

#[test]
fn skips_are_counted() {
    none(tidy::skips(&tidy::files()));
    let file = |text: &str| tidy::File { path: "a.rs".into(), text: text.into() };
    let text =
        "println!(\"SKIPPED {n}: x\");\nprintln!(\"SKIP x\");\nprintln!(\"skipped: x\");\nprintln!(\"SKIPPED 3: x\");";
    assert_eq!(tidy::skips(&[file(text)]).len(), 2);
}

fn cargo(args: &[&str]) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Command::new(cargo).args(args).current_dir(tidy::root()).output().unwrap()
}

/// Runs a component of the toolchain, or says that it is not installed.
fn component(args: &[&str]) {
    if !cargo(&[args[0], "--version"]).status.success() {
        println!("SKIPPED 1: `cargo {}` is not installed", args[0]);
        return;
    }
    let out = cargo(args);
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}");
}

#[test]
fn formatted() {
    component(&["fmt", "--all", "--check"]);
}

#[test]
fn no_lints() {
    component(&["clippy", "--workspace", "--all-targets", "--quiet", "--offline", "--", "-D", "warnings"]);
}
