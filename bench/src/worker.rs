//! What runs inside one measuring process.

use crate::Sample;
use qc_compiler::{CompileOptions, Compiler, ContextOptions, Precision, TargetCpu};
use qc_kernels::{Isa, peak};
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs a model by the JIT at batch 1: half a second to warm up, then `seconds`.
pub fn measure(
    model: &Path,
    seconds: f64,
    threads: u32,
    target: TargetCpu,
    fp32: bool,
) -> Result<Sample, Box<dyn std::error::Error>> {
    let precision = if fp32 { Precision::Fp32 } else { Precision::Auto };
    let options = CompileOptions { target, precision, ..CompileOptions::default() };
    let predictor = Compiler::new(options).compile(model)?.jit()?;
    let mut context = predictor.context(&ContextOptions { threads: Some(threads), cpu: None })?;
    for i in 0..predictor.inputs().len() {
        for (n, x) in context.input_mut::<f32>(i, 1)?.iter_mut().enumerate() {
            *x = ((n * 7919) % 255) as f32 / 64.0 - 2.0;
        }
    }
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_millis(500) {
        context.run()?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds || times.len() < 5 {
        let one = Instant::now();
        context.run()?;
        times.push(one.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(Sample { median_ms: times[times.len() / 2], min_ms: times[0], runs: times.len() })
}

/// Multiply-accumulates per second of one core, in 10^9: the best of a few short runs.
pub fn peak_gmacs(isa: Isa, fp32: bool) -> f64 {
    let run = if fp32 { peak::peak_f32 } else { peak::peak_int8 };
    let one = |_| {
        let start = Instant::now();
        let macs = run(isa, 2_000_000).unwrap_or(0);
        macs as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..10).map(one).fold(0.0, f64::max)
}
