//! Small hostile models: what a hundred kilobytes may take, and how it grows.
//!
//! `QC_KEEP_BOMBS=DIR` writes the models, of one and of two sizes, for measuring the command line.
#![allow(clippy::unwrap_used)]

use qc_compiler::ranges::{MinMax, observe};
use qc_compiler::{CompileOptions, Compiler, ModelFile, TargetCpu};
use qc_ir::{Limits, NoSink, seeded_inputs};
use qc_kernels::Tier;
use qc_tests::bombs::{BOMBS, TOO_WIDE};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// Memory is that of the process, so tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|failed| failed.into_inner())
}

/// Compiles a model as `qc compile` does; says what it took.
fn compile(model: Vec<u8>) -> (Result<(), String>, Duration, f32) {
    let file = ModelFile::from_bytes("bomb.onnx", model, None);
    let options = CompileOptions { target: TargetCpu::Tier(Tier::Scalar), ..CompileOptions::default() };
    MEMORY.reset_peak_usage();
    let (before, start) = (MEMORY.current_usage_as_mb(), Instant::now());
    let compiled = Compiler::new(options).compile_file(&file, &mut NoSink);
    let result = compiled.and_then(|c| c.shared_object("bomb.so")).map(drop).map_err(|e| e.to_string());
    (result, start.elapsed(), MEMORY.peak_usage_as_mb() - before)
}

/// What a model of a hundred kilobytes may take. The time is for slow machines and the profile of tests: a fifth of it is
/// usual.
const SECONDS: u64 = 10;
const MB: f32 = 128.0;

#[test]
fn a_hundred_kilobytes_take_little_time_and_memory() {
    let _turn = turn();
    let only = std::env::var("QC_BOMB").unwrap_or_default();
    let mut beyond = Vec::new();
    for bomb in BOMBS.iter().filter(|b| b.name.contains(&only)) {
        if let Ok(dir) = std::env::var("QC_KEEP_BOMBS") {
            for kb in [50, 100] {
                let path = format!("{dir}/{}-{kb}.onnx", bomb.name.replace(' ', "_"));
                std::fs::write(path, (bomb.make)(kb * 1000)).unwrap();
            }
            continue;
        }
        let (result, time, mb) = compile((bomb.make)(100_000));
        println!("{:<40} {time:>8.2?} {mb:>7.1} MB {result:?}", bomb.name);
        if time > Duration::from_secs(SECONDS) || mb > MB || result.is_err() {
            beyond.push(format!("{}: {time:?}, {mb} MB, {result:?}", bomb.name));
        }
    }
    assert!(beyond.is_empty(), "{}", beyond.join("\n"));
}

#[test]
fn nodes_with_very_many_inputs_are_refused_at_once() {
    let _turn = turn();
    for bomb in TOO_WIDE {
        let (result, time, mb) = compile((bomb.make)(100_000));
        println!("{:<40} {time:>8.2?} {mb:>7.1} MB {result:?}", bomb.name);
        let text = result.unwrap_err();
        assert!(text.contains("the limit `inputs` is 2048; raise it with --limit inputs="), "{}: {text}", bomb.name);
        assert!(time < Duration::from_secs(2) && mb < 32.0, "{}: {time:?}, {mb} MB", bomb.name);
    }
}

#[test]
fn code_that_is_generated_quickly_computes_the_same() {
    let _turn = turn();
    // Sixteen additions in a row are one function.
    let bytes = 300_000;
    let bomb = TOO_WIDE.iter().find(|b| b.name == "Sum with very many inputs").unwrap();
    let file = ModelFile::from_bytes("sum.onnx", (bomb.make)(bytes), None);
    let limits = Limits { inputs: u64::MAX, ..Limits::default() };
    let options = CompileOptions { limits, ..CompileOptions::default() };
    let compiled = Compiler::new(options).compile_file(&file, &mut NoSink).unwrap();
    assert!(compiled.note().ops.iter().map(|o| o.steps).sum::<u32>() > 5000, "more functions than are optimized");
    let mut context = compiled.jit().unwrap().context(&Default::default()).unwrap();
    context.input_mut::<f32>(0, 1).unwrap().fill(1.5);
    context.run().unwrap();
    // The inputs are x and 0.5 in turn, six bytes for both.
    let sum = (bytes / 6) as f32 * 2.0;
    assert_eq!(context.output::<f32>(0).unwrap(), [sum; 8]);
}

#[test]
fn what_is_nested_as_deep_as_a_model_is_long_takes_no_stack() {
    let _turn = turn();
    let bomb = BOMBS.iter().find(|b| b.name == "Concat that grows").unwrap();
    let compile = || {
        let file = ModelFile::from_bytes("bomb.onnx", (bomb.make)(300_000), None);
        let options = CompileOptions { batches: vec![1], ..CompileOptions::default() };
        Compiler::new(options).compile_file(&file, &mut NoSink).map(drop)
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    std::thread::scope(|scope| thread.spawn_scoped(scope, compile).unwrap().join().unwrap()).unwrap();
}

#[test]
fn ranges_of_movement_in_diamonds_take_no_exponential_time() {
    let _turn = turn();
    let bomb = BOMBS.iter().find(|b| b.name == "tensor cut and joined").unwrap();
    let file = ModelFile::from_bytes("bomb.onnx", (bomb.make)(20_000), None);
    let m = Compiler::default().canonical(&file).unwrap().module;
    let mut seen = MinMax::default();
    observe(&m, &seeded_inputs(&m), &mut seen).unwrap();
    let ranges = qc_ladder::random::ranges_of(seen.into_tensors());
    assert!(ranges.tensors.len() > 100, "as many levels as would take for ever");
    let options = CompileOptions { ranges: Some(ranges), batches: vec![1], ..CompileOptions::default() };
    Compiler::new(options).compile_file(&file, &mut NoSink).unwrap();
}
