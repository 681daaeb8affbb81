//! `qc doctor`: what this machine offers and what qc would choose.

use crate::failure::Outcome;
use crate::table::table;
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::options::{host, tiers};
use qc_embed::threads::{default_threads, usable_cpus};
use serde_json::json;

/// Show what this machine offers and what qc would choose.
#[derive(Args, Debug)]
pub struct Doctor {
    #[command(flatten)]
    json: JsonArgs,
}

impl Doctor {
    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let best = host();
        let usable: Vec<&str> = tiers().iter().filter(|t| **t <= best).map(|t| t.name()).collect();
        let missing: Vec<&str> = tiers().iter().filter(|t| **t > best).map(|t| t.name()).collect();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = default_threads().ok();
        let variable = |name: &str| std::env::var(name).ok();
        let variables = ["QC_CPU", "QC_NUM_THREADS", "OMP_NUM_THREADS"].map(|name| (name, variable(name)));
        let decision = match (threads, &variables[1].1, &variables[2].1) {
            (None, ..) => "QC_NUM_THREADS is no number from 0 to 256; running would fail".to_string(),
            (Some(n), Some(_), _) => format!("{n}, by QC_NUM_THREADS"),
            (Some(n), None, Some(_)) => format!("{n}, by OMP_NUM_THREADS"),
            (Some(n), None, None) => format!("{n}, by affinity and cgroup quota"),
        };
        let json = || {
            json!({
                "schema": "qc.doctor/1",
                "version": env!("CARGO_PKG_VERSION"),
                "cpu": cpu_name(),
                "tiers": usable,
                "missing_tiers": missing,
                "usable_cpus": usable_cpus(),
                "threads": threads,
                "environment": variables.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            })
        };
        ui.report(&self.json, json, || {
            let mut rows = vec![
                vec!["qc".into(), env!("CARGO_PKG_VERSION").into()],
                vec!["CPU".into(), cpu_name()],
                vec!["kernels".into(), format!("{} (all give the same integers)", usable.join(", "))],
            ];
            if !missing.is_empty() {
                rows.push(vec!["not here".into(), missing.join(", ")]);
            }
            rows.push(vec!["CPUs".into(), format!("{} usable, {cpus} seen by the system", usable_cpus())]);
            rows.push(vec!["threads".into(), decision.clone()]);
            for (name, value) in &variables {
                if let Some(value) = value {
                    rows.push(vec![name.to_string(), value.clone()]);
                }
            }
            table(&["", ""], rows).trim_start().to_string()
        })
    }
}

/// The processor's own name.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|l| l.starts_with("model name"));
    line.and_then(|l| l.split_once(':')).map_or("unknown".into(), |(_, name)| name.trim().to_string())
}
