//! What runs inside one measuring process of qc.

use crate::Sample;
use qc_kernels::{Tier, peak};
use qc_runtime::{Context, ContextOptions, Elem, Predictor};
use std::path::Path;
use std::time::{Duration, Instant};

/// Loads a compiled model and runs it at batch 1: half a second to warm up, then `seconds`.
pub fn measure(artefact: &Path, seconds: f64, threads: u32) -> Result<Sample, Box<dyn std::error::Error>> {
    let before = resident_mb();
    let begin = Instant::now();
    // SAFETY: the file was written by the process that started this one.
    let predictor = unsafe { Predictor::load(artefact) }?;
    let mut context = predictor.context(&ContextOptions { threads: Some(threads), cpu: None })?;
    fill(&mut context)?;
    context.run()?;
    let load_ms = begin.elapsed().as_secs_f64() * 1e3;
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
    Ok(Sample {
        median_ms: times[times.len() / 2],
        min_ms: times[0],
        runs: times.len(),
        load_ms,
        memory_mb: resident_mb() - before,
        files_mb: std::fs::metadata(artefact)?.len() as f64 / 1e6,
    })
}

/// Fills inputs with the numbers that the peers get: integers are indices of the smallest tables, and what masks hold.
fn fill(context: &mut Context) -> Result<(), Box<dyn std::error::Error>> {
    let number = |n: usize| (n * 7919) % 255;
    for i in 0..context.inputs().len() {
        match context.inputs()[i].elem {
            Elem::I64 => {
                context.input_mut::<i64>(i, 1)?.iter_mut().zip(0..).for_each(|(x, n)| *x = number(n) as i64 % 2)
            }
            Elem::I32 => {
                context.input_mut::<i32>(i, 1)?.iter_mut().zip(0..).for_each(|(x, n)| *x = number(n) as i32 % 2)
            }
            _ => {
                let all = context.input_mut::<f32>(i, 1)?.iter_mut();
                all.zip(0..).for_each(|(x, n)| *x = number(n) as f32 / 64.0 - 2.0);
            }
        }
    }
    Ok(())
}

/// Resident memory of this process.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kb = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kb.unwrap_or(0.0) * 1024.0 / 1e6
}

/// Multiply-accumulates per second of one core, in 10^9: the best of a few short runs.
pub fn peak_gmacs(tier: Tier, fp32: bool) -> f64 {
    let run = if fp32 { peak::peak_f32 } else { peak::peak_int8 };
    let one = |_| {
        let start = Instant::now();
        let macs = run(tier, 2_000_000).unwrap_or(0);
        macs as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..10).map(one).fold(0.0, f64::max)
}
