//! The timeline of `qc bench --export-trace`, as Perfetto and Chrome's tracing page read it.

use crate::failure::Outcome;
use qc_runtime::Context;
use serde_json::{Value, json};
use std::path::Path;

/// Runs on the timeline.
const RUNS: usize = 10;

/// Runs a few times and writes what every step took: one event per step and run, times in microseconds.
///
/// The executor finishes a step before it starts the next, so steps stand one after another; the threads that share a
/// step are not told apart.
///
/// # Errors
/// As running, and if `path` cannot be written.
pub fn export(context: &mut Context, path: &Path) -> Outcome {
    let mut events: Vec<Value> = vec![
        json!({"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "qc"}}),
        json!({"ph": "M", "pid": 1, "tid": 1, "name": "thread_name", "args": {"name": "steps"}}),
    ];
    let mut now = 0.0;
    for run in 0..RUNS {
        let mut profile = context.profile();
        context.run_profiled(&mut profile)?;
        let start = now;
        let first = events.len();
        for row in profile.rows().filter(|row| row.calls > 0) {
            let duration = row.ns as f64 / 1e3;
            events.push(json!({
                "ph": "X", "pid": 1, "tid": 1, "ts": now, "dur": duration, "name": row.name, "cat": row.op,
                "args": {"kernel": row.op, "batch": row.batch, "tasks": row.tasks, "calls": row.calls, "macs": row.macs},
            }));
            now += duration;
        }
        let whole =
            json!({"ph": "X", "pid": 1, "tid": 1, "ts": start, "dur": now - start, "name": format!("run {run}")});
        events.insert(first, whole);
    }
    let text = json!({"displayTimeUnit": "ms", "traceEvents": events}).to_string();
    qc_compiler::write_whole(path, text.as_bytes())?;
    Ok(())
}
