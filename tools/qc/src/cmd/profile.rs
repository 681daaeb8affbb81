//! The table of steps of `qc bench --pc`: time, speed, and share of what this machine could do.

use super::bound::{Memory, Work};
use crate::failure::Outcome;
use crate::table::{cut, table};
use qc_kernels::Tier;
use qc_kernels::peak::{peak_f32, peak_int8};
use qc_runtime::Context;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Fewest profiled runs.
const LEAST_RUNS: u64 = 10;

/// Times of the steps of a model.
pub struct Steps {
    rows: Vec<Row>,
    /// Measured peak of the threads in use, two operations per multiply-accumulate; none where there is no measure.
    pub peak_int8: Option<f64>,
    /// The same for f32.
    pub peak_f32: Option<f64>,
    /// Measured bandwidths.
    pub memory: Memory,
    /// Sum of all steps in milliseconds per run.
    total_ms: f64,
}

struct Row {
    name: String,
    op: String,
    batch: u32,
    tasks: u64,
    /// Milliseconds per run of the model.
    ms: f64,
    gops: Option<f64>,
    of_peak: Option<f64>,
    bound: &'static str,
}

/// Profiles `context`, of a model with so many bytes of weights, for about `time`, and measures the machine right after.
///
/// # Errors
/// As running.
pub fn steps(context: &mut Context, weights_bytes: u64, time: Duration, sort: bool) -> Outcome<Steps> {
    let mut profile = context.profile();
    let start = Instant::now();
    let mut runs = 0u64;
    while runs < LEAST_RUNS || start.elapsed() < time {
        context.run_profiled(&mut profile)?;
        runs += 1;
    }
    let tier = Tier::from_name(context.tier()).unwrap_or(Tier::Scalar);
    let int8 = peak(context.threads(), |n| peak_int8(tier, n));
    let f32 = peak(context.threads(), |n| peak_f32(tier, n));
    let memory = Memory::measure(context.threads());
    let model_bytes = weights_bytes + context.arena_bytes();
    let mut rows = Vec::new();
    for row in profile.rows().filter(|row| row.calls > 0) {
        let operations = 2.0 * row.macs as f64 * row.calls as f64;
        let gops = (row.macs > 0 && row.ns > 0).then(|| operations / row.ns as f64);
        let peak = if row.op.contains("f32") && !is_integer(row.op) { f32 } else { int8 };
        let work = Work {
            ns: row.ns as f64 / row.calls as f64,
            compute_ns: peak.map_or(0.0, |p| 2.0 * row.macs as f64 / p),
            macs: row.macs,
            weights_bytes: row.weights_bytes,
            data_bytes: row.data_bytes,
        };
        rows.push(Row {
            bound: memory.bound(work, model_bytes),
            name: row.name.to_string(),
            op: row.op.to_string(),
            batch: row.batch,
            tasks: row.tasks,
            ms: row.ns as f64 / 1e6 / runs as f64,
            gops,
            of_peak: gops.zip(peak).map(|(g, p)| 100.0 * g / p),
        });
    }
    if sort {
        rows.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    }
    let total_ms = profile.total_ns() as f64 / 1e6 / runs as f64;
    Ok(Steps { rows, peak_int8: int8, peak_f32: f32, memory, total_ms })
}

/// Whether a kernel multiplies integers: its family is not one of floats, whatever its result is.
fn is_integer(op: &str) -> bool {
    op.split_once('.').is_some_and(|(family, _)| !family.contains("f32"))
}

/// Operations per nanosecond that `threads` threads reach together in the best of a few rounds.
fn peak(threads: u32, run: impl Fn(u64) -> Option<u64> + Sync) -> Option<f64> {
    const ITERATIONS: u64 = 1 << 21;
    run(1)?;
    let round = || {
        let start = Instant::now();
        let macs: u64 = std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| run(ITERATIONS).unwrap_or(0))).collect();
            all.into_iter().map(|t| t.join().unwrap_or(0)).sum()
        });
        2.0 * macs as f64 / start.elapsed().as_nanos().max(1) as f64
    };
    Some((0..6).map(|_| round()).fold(0.0, f64::max))
}

impl Steps {
    /// One object per step.
    pub fn json(&self) -> Value {
        let one = |r: &Row| {
            json!({
                "name": r.name, "op": r.op, "batch": r.batch, "tasks": r.tasks, "ms": r.ms, "gops": r.gops,
                "percent_of_peak": r.of_peak, "bound": r.bound,
            })
        };
        self.rows.iter().map(one).collect()
    }

    /// A table; on a terminal names are cut unless `verbose`.
    pub fn text(&self, verbose: bool) -> String {
        let number = |x: Option<f64>, digits: usize| x.map_or("-".into(), |x| format!("{x:.digits$}"));
        let line = |r: &Row| {
            let share = format!("{:.1}", 100.0 * r.ms / self.total_ms.max(1e-12));
            let cells = [format!("{:.4}", r.ms), share, number(r.gops, 1), number(r.of_peak, 0)];
            cells.into_iter().chain([r.bound.into(), r.op.clone(), cut(&r.name, 56, verbose)]).collect()
        };
        let mut text =
            table(&[">ms", ">%", ">GOP/s", ">% peak", "bound by", "kernel", "nodes"], self.rows.iter().map(line));
        text += &format!(
            "\n{:.4} ms in steps; measured peak {} GOP/s int8, {} GOP/s f32; {:.0}, {:.0}, {:.0} GB/s from L2, L3, DRAM\n",
            self.total_ms,
            number(self.peak_int8, 0),
            number(self.peak_f32, 0),
            self.memory.speeds[0],
            self.memory.speeds[1],
            self.memory.speeds[2],
        );
        text
    }
}
