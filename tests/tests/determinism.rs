//! The same input and options give the same bytes, whatever else the process does and without any tool on the PATH.

#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileError, CompileOptions, Compiler, TargetCpu};
use qc_ir::NoSink;
use qc_ladder::ladder::{self, imported};
use qc_ladder::random::{Mode, Recipe, build};

/// The shared object of a random model.
fn bytes(seed: u64, mode: Mode) -> Vec<u8> {
    let recipe = Recipe::random(seed, mode);
    let options = CompileOptions { target: TargetCpu::Fat, ..recipe.options() };
    let import = |batch: Option<usize>| Ok::<_, CompileError>(imported(build(&recipe, batch.unwrap_or(1))));
    let compiled = Compiler::new(options).compile_imported("model", [0; 32], &import, &mut NoSink).unwrap();
    compiled.shared_object("model.so").unwrap()
}

const MODELS: [(u64, Mode); 4] = [(11, Mode::Float), (12, Mode::Pairs), (13, Mode::Ranges), (14, Mode::ExactPairs)];

#[test]
fn twice_the_same_bytes() {
    for (seed, mode) in MODELS {
        assert!(bytes(seed, mode) == bytes(seed, mode), "seed {seed}");
    }
}

#[test]
fn other_bytes_for_other_models() {
    assert!(bytes(11, Mode::Float) != bytes(13, Mode::Float));
}

#[test]
fn compilations_do_not_disturb_each_other() {
    let alone: Vec<Vec<u8>> = MODELS.iter().map(|&(seed, mode)| bytes(seed, mode)).collect();
    let together: Vec<Vec<u8>> = std::thread::scope(|s| {
        let running: Vec<_> = MODELS.iter().map(|&(seed, mode)| s.spawn(move || bytes(seed, mode))).collect();
        running.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(alone == together);
}

/// Runs as a process of its own, because a PATH belongs to the process.
#[test]
fn no_tool_is_needed() {
    const CHILD: &str = "QC_TEST_WITHOUT_TOOLS";
    if std::env::var_os(CHILD).is_some() {
        let recipe = Recipe::random(12, Mode::Pairs);
        let import = |batch: Option<usize>| Ok::<_, CompileError>(imported(build(&recipe, batch.unwrap_or(1))));
        let compiler = Compiler::new(recipe.options());
        let compiled = compiler.compile_imported("model", [0; 32], &import, &mut NoSink).unwrap();
        ladder::shared_object(&compiled).unwrap();
        return;
    }
    let me = std::env::current_exe().unwrap();
    let mut child = std::process::Command::new(me);
    child.args(["--exact", "no_tool_is_needed"]).env("PATH", "").env(CHILD, "1");
    let out = child.output().unwrap();
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}
