//! Damaged models through the whole compiler: each compiles or is refused with a sentence, quickly.
//!
//! `QC_MUTANTS` sets how many are tried in all; the seeds are the models shipped under `examples/`, and small ones of
//! the shared folder where it exists (beside the repository, or `QC_SHARED`).
#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileError, CompileOptions, Compiler, ModelFile, TargetCpu};
use qc_ir::NoSink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() % n as u64) as usize }
    }
}

/// One to four changes; positions are as often in the first and last 4 KiB, where the graph is, as anywhere.
fn mutate(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..1 + rng.below(4) {
        if out.is_empty() {
            return out;
        }
        let at = match rng.below(3) {
            0 => rng.below(out.len().min(4096)),
            1 => out.len() - 1 - rng.below(out.len().min(4096)),
            _ => rng.below(out.len()),
        };
        let len = 1 + rng.below(24.min(out.len() - at));
        match rng.below(8) {
            0 => out[at] ^= 1 << rng.below(8),
            1 => out[at] = rng.next() as u8,
            2 => out[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
            3 => drop(out.drain(at..at + len)),
            4 => {
                let piece = out[at..at + len].to_vec();
                out.splice(at..at, piece);
            }
            5 => out.truncate(at),
            6 => drop(out.splice(at..at, (0..len).map(|_| rng.next() as u8).collect::<Vec<_>>())),
            _ => {
                let from = rng.below(out.len() - len + 1);
                let piece = out[from..from + len].to_vec();
                let end = (at + len).min(out.len());
                out[at..end].copy_from_slice(&piece[..end - at]);
            }
        }
    }
    out
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Model bytes and combined parameters.
fn seeds() -> Vec<(String, Vec<u8>, Option<Vec<u8>>)> {
    let shared = std::env::var_os("QC_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let spec = shared.join("spec/models");
    let digits = root().join("examples/digits");
    let candidates = [
        (digits.join("digits.onnx"), None),
        (digits.join("digits_qdq.onnx"), None),
        (digits.join("paddle_float/model"), Some(digits.join("paddle_float/params"))),
        (shared.join("models/models/mnist/mnist.onnx"), None),
        (spec.join("fp32/resnet_p18/combined/model"), Some(spec.join("fp32/resnet_p18/combined/params"))),
        (spec.join("fp32/resnet_p26/model.pdmodel"), Some(spec.join("fp32/resnet_p26/model.pdiparams"))),
    ];
    let mut out = Vec::new();
    for (model, params) in candidates {
        let Ok(bytes) = std::fs::read(&model) else { continue };
        let params = params.map(|p| std::fs::read(p).unwrap());
        out.push((model.display().to_string(), bytes, params));
    }
    out
}

#[test]
fn damaged_models_compile_or_are_refused() {
    let count: usize = std::env::var("QC_MUTANTS").ok().and_then(|v| v.parse().ok()).unwrap_or(600);
    let seeds = seeds();
    assert!(!seeds.is_empty(), "no seed model was found");
    let options = CompileOptions { target: TargetCpu::Host, batches: vec![1], ..CompileOptions::default() };
    let compiler = Compiler::new(options);
    let (mut compiled, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    let mut failures = Vec::new();
    for n in 0..count {
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15 ^ (n as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9));
        let (name, model, params) = &seeds[n % seeds.len()];
        let in_params = params.is_some() && rng.below(4) == 0;
        let model = if in_params { model.clone() } else { mutate(model, &mut rng) };
        let params = params.as_ref().map(|p| if in_params { mutate(p, &mut rng) } else { p.clone() });
        let file = ModelFile::from_bytes(name, model, params);
        let start = Instant::now();
        let outcome = std::panic::catch_unwind(|| compiler.compile_file(&file, &mut NoSink));
        let time = start.elapsed();
        slowest = slowest.max(time);
        match outcome {
            Err(_) => failures.push(format!("mutant {n} of {name}: the compiler panicked")),
            Ok(Err(e @ CompileError::Bug { .. })) => failures.push(format!("mutant {n} of {name}: {e}")),
            Ok(Err(e)) => {
                assert!(!e.to_string().is_empty());
                refused += 1;
            }
            Ok(Ok(_)) => compiled += 1,
        }
        if time > Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 }) {
            failures.push(format!("mutant {n} of {name} took {time:?}"));
        }
    }
    println!("{count} mutants of {} models: {compiled} compiled, {refused} refused; slowest {slowest:?}", seeds.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures[..failures.len().min(20)].join("\n"));
}
