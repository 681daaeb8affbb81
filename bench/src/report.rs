//! The results: a table for people, JSON to keep, Markdown for a page.

use crate::Sample;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::Path;

/// Ratios that moved less than this are called equal.
const NOISE: f64 = 0.05;

/// Everything that was measured.
#[derive(Serialize, Deserialize)]
pub struct Report {
    schema: String,
    tier: String,
    arithmetic: String,
    threads: u32,
    /// Measured peak of the threads together.
    peak_gmacs: f64,
    /// One row per model and engine.
    pub rows: Vec<Row>,
}

/// All rounds of one engine on one model.
#[derive(Serialize, Deserialize)]
pub struct Row {
    model: String,
    engine: String,
    gmacs: f64,
    median_ms: f64,
    min_ms: f64,
    /// Engine time over qc time in the same round: median, smallest, largest.
    ratio: [f64; 3],
    load_ms: f64,
    memory_mb: f64,
    files_mb: f64,
}

impl Row {
    /// The medians over the rounds of an engine, and its ratios to those of qc.
    pub fn new(model: &str, engine: &str, gmacs: f64, own: &[Sample], qc: &[Sample]) -> Row {
        let middle = |f: fn(&Sample) -> f64| spread(own.iter().map(f).collect())[0];
        Row {
            model: model.into(),
            engine: engine.into(),
            gmacs,
            median_ms: middle(|s| s.median_ms),
            min_ms: own.iter().map(|s| s.min_ms).fold(f64::INFINITY, f64::min),
            ratio: spread(own.iter().zip(qc).map(|(a, b)| a.median_ms / b.median_ms).collect()),
            load_ms: middle(|s| s.load_ms),
            memory_mb: middle(|s| s.memory_mb),
            files_mb: middle(|s| s.files_mb),
        }
    }
}

/// Median, smallest and largest.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[values.len() / 2], values[0], values[values.len() - 1]]
}

const COLUMNS: [&str; 9] = [
    "model",
    "engine",
    "median ms",
    "min ms",
    "% of peak",
    "time / qc's (smallest .. largest)",
    "first result ms",
    "memory MB",
    "files MB",
];

impl Report {
    /// A report without rows.
    pub fn new(tier: &str, fp32: bool, threads: u32, peak_gmacs: f64) -> Report {
        let arithmetic = if fp32 { "f32" } else { "int8" };
        Report {
            schema: "qc.bench-peers/2".into(),
            tier: tier.into(),
            arithmetic: arithmetic.into(),
            threads,
            peak_gmacs: peak_gmacs * f64::from(threads),
            rows: Vec::new(),
        }
    }

    /// A report that was written as JSON.
    pub fn read(path: &Path) -> Result<Report, Box<dyn Error>> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: not a report of qc-bench: {e}", path.display()).into())
    }

    fn heading(&self) -> String {
        let (plural, peak) = (if self.threads == 1 { "" } else { "s" }, self.peak_gmacs);
        format!(
            "{} thread{plural}, batch 1, {}; measured peak {peak:.0} GMAC/s {}",
            self.threads, self.tier, self.arithmetic
        )
    }

    fn cells(&self, r: &Row) -> [String; 9] {
        let [median, low, high] = r.ratio;
        [
            r.model.clone(),
            r.engine.clone(),
            format!("{:.3}", r.median_ms),
            format!("{:.3}", r.min_ms),
            format!("{:.0}", 1e5 * r.gmacs / r.median_ms / self.peak_gmacs),
            format!("{median:.2} ({low:.2} .. {high:.2})"),
            format!("{:.0}", r.load_ms),
            format!("{:.0}", r.memory_mb),
            format!("{:.1}", r.files_mb),
        ]
    }

    /// The table for a terminal, with what became of the ratios of `baseline`.
    pub fn table(&self, baseline: Option<&Report>) -> String {
        let mut table = comfy_table::Table::new();
        let change = baseline.map(|_| "ratio before");
        table.set_header(COLUMNS.into_iter().chain(change));
        for r in &self.rows {
            let before = baseline.map(|b| b.change(r));
            table.add_row(self.cells(r).into_iter().chain(before));
        }
        format!("{}\n{table}", self.heading())
    }

    /// What this report, as a baseline, says to a row of today.
    fn change(&self, today: &Row) -> String {
        let Some(old) = self.rows.iter().find(|r| r.model == today.model && r.engine == today.engine) else {
            return "-".into();
        };
        let moved = today.ratio[0] / old.ratio[0] - 1.0;
        let word = match () {
            () if moved.abs() < NOISE => "equal",
            () if moved > 0.0 => "better",
            () => "WORSE",
        };
        format!("{:.2} {word}", old.ratio[0])
    }

    /// The table as a piece of a Markdown page.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("{}\n\n", self.heading());
        text += &line(&COLUMNS.map(str::to_string));
        text += &line(&COLUMNS.map(|_| "---".to_string()));
        for r in &self.rows {
            text += &line(&self.cells(r));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(median_ms: f64) -> Sample {
        Sample { median_ms, min_ms: median_ms, runs: 5, load_ms: 1.0, memory_mb: 2.0, files_mb: 3.0 }
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let (qc, peer) = ([sample(1.0), sample(2.0), sample(4.0)], [sample(2.0), sample(4.4), sample(7.6)]);
        let row = Row::new("m", "ov", 1.0, &peer, &qc);
        assert_eq!((row.median_ms, row.ratio), (4.4, [2.0, 1.9, 2.2]));
    }

    #[test]
    fn a_baseline_is_compared_by_ratio() {
        let row = |x| Row::new("m", "ov", 1.0, &[sample(x)], &[sample(1.0)]);
        let mut old = Report::new("avx2", false, 1, 100.0);
        old.rows.push(row(1.5));
        let words = [1.52, 1.7, 1.2].map(|x| old.change(&row(x)));
        assert_eq!(words, ["1.50 equal", "1.50 better", "1.50 WORSE"]);
        let again: Report = serde_json::from_str(&serde_json::to_string(&old).unwrap_or_default()).expect("a report");
        assert_eq!(again.markdown(), old.markdown());
        assert!(old.markdown().contains("| m | ov | 1.500 | 1.500 | 667 | 1.50 (1.50 .. 1.50) | 1 | 2 | 3.0 |"));
    }
}
