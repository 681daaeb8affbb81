//! `qc fuzz`: random models, compared on every tier of this machine with what they mean.

use crate::failure::{CHECK, Failure, Outcome};
use crate::paths::Paths;
use crate::table::table;
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_ladder::ladder;
use qc_ladder::random::fuzz::{Coverage, Finding, climb};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Run random models on every instruction tier and compare with the interpreter.
#[derive(Args, Debug)]
#[command(after_help = "\
Each seed is a model: float, with quantize/dequantize pairs, or with ranges. Interpreter, JIT and .so must
agree to the bit on every tier, with 1 and 2 threads, at batch 1, 3 and 8. One model in eight is compiled for
several shapes as well: as one .so, shape by shape as they come, and for each alone. A model that fails is made small.

Examples:
  qc fuzz --count 20000
  qc fuzz --seed 4711 --count 1 --keep .       (one model again, its small form as a file)")]
pub struct Fuzz {
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Number of models
    #[arg(long, value_name = "N", default_value_t = 1000)]
    count: u64,
    /// Write what fails to DIR, as tests in text form
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Models at the same time; as many as there are CPUs by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    #[command(flatten)]
    json: JsonArgs,
}

impl Fuzz {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        Paths::default().writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        if let Some(dir) = &self.keep {
            std::fs::create_dir_all(dir).map_err(|e| Failure::io(dir, &e))?;
        }
        let end =
            self.seed.checked_add(self.count).ok_or_else(|| Failure::usage("--seed plus --count is too large"))?;
        let start = Instant::now();
        let (findings, coverage) = self.climb_all(end, ui)?;
        let seconds = start.elapsed().as_secs_f64();
        let json = || {
            let one = |f: &Finding| {
                json!({
                    "seed": f.seed, "mode": f.small.mode.name(), "rung": f.failure.rung, "text": f.failure.text,
                    "small": f.small_failure.to_string(), "model": f.text,
                })
            };
            json!({
                "schema": "qc.fuzz/1", "seed": self.seed, "count": self.count, "seconds": seconds,
                "tiers": ladder::tiers(), "modes": coverage.modes, "ops": coverage.ops, "types": coverage.types,
                "integer": coverage.integer, "shapes": coverage.shapes, "missing": coverage.missing(), "failures": findings.iter().map(one).collect::<Vec<_>>(),
            })
        };
        ui.report(&self.json, json, || {
            let rows = [
                vec!["models".into(), format!("{} from seed {}", self.count, self.seed)],
                vec!["tiers".into(), ladder::tiers().join(", ")],
                vec!["threads".into(), "1, 2".into()],
                vec!["batches".into(), "1, 3, 8".into()],
                vec!["shapes".into(), format!("{} models at three shapes", coverage.shapes)],
                vec!["modes".into(), counts(&coverage.modes)],
                vec!["integer".into(), format!("{} models have integer ops", coverage.integer)],
                vec!["types".into(), counts(&coverage.types)],
                vec!["ops".into(), counts(&coverage.ops)],
                vec!["in no model".into(), coverage.missing().join(", ")],
                vec!["time".into(), format!("{seconds:.1} s, {:.1} models/s", self.count as f64 / seconds.max(1e-9))],
                vec!["failures".into(), findings.len().to_string()],
            ];
            table(&["", ""], rows).trim_start().to_string()
        })?;
        match findings.len() {
            0 => Ok(()),
            n => Err(Failure::new(
                CHECK,
                format!("FAILED: {n} of {} models; the first is seed {}", self.count, findings[0].seed),
            )),
        }
    }

    /// All findings by seed, and what the other models were made of.
    fn climb_all(&self, end: u64, ui: Ui) -> Outcome<(Vec<Finding>, Coverage)> {
        let bar = ui.progress(self.count as usize, "models");
        let next = AtomicU64::new(self.seed);
        let findings = Mutex::new(Vec::new());
        let coverage = Mutex::new(Coverage::default());
        let failed: Mutex<Option<Failure>> = Mutex::new(None);
        let jobs = self.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                match climb(seed) {
                    Ok(seen) => coverage.lock().unwrap_or_else(|e| e.into_inner()).merge(seen),
                    Err(finding) => {
                        bar.suspend(|| ui.note(&finding.to_string()));
                        let kept = self.keep.as_deref().map_or(Ok(()), |dir| keep(&finding, dir, ui));
                        let mut failed = failed.lock().unwrap_or_else(|e| e.into_inner());
                        *failed = failed.take().or(kept.err());
                        findings.lock().unwrap_or_else(|e| e.into_inner()).push(*finding);
                    }
                }
                bar.inc(1);
            }
        };
        std::thread::scope(|s| (0..jobs).for_each(|_| drop(s.spawn(work))));
        bar.finish_and_clear();
        match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(failure) => Err(failure),
            None => {
                let mut findings = findings.into_inner().unwrap_or_else(|e| e.into_inner());
                findings.sort_by_key(|f: &Finding| f.seed);
                Ok((findings, coverage.into_inner().unwrap_or_else(|e| e.into_inner())))
            }
        }
    }
}

/// Names with their numbers of models, on one line.
fn counts<K: std::fmt::Display>(of: &BTreeMap<K, u64>) -> String {
    of.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

fn keep(finding: &Finding, dir: &Path, ui: Ui) -> Outcome {
    let path = dir.join(finding.file_name());
    qc_compiler::write_whole(&path, finding.text.as_bytes())?;
    ui.note(&format!("  {}", path.display()));
    Ok(())
}
