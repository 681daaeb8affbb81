//! Random models climb the ladder of equivalence. `QC_SEEDS=first..last` chooses seeds; a failing model is made small
//! and written as a file test into the build folder. `qc fuzz` runs more.

#![allow(clippy::unwrap_used)]

use libtest_mimic::{Arguments, Failed, Trial};
use qc_ladder::ladder;
use qc_ladder::random::{Mode, Recipe, build, fuzz};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

/// Seeds that run by default.
const DEFAULT_SEEDS: Range<u64> = 0..2000;
/// Seeds of one trial: trials run side by side.
const SEEDS_OF_TRIAL: u64 = 125;
/// Failures of a trial after which it stops.
const FAILURES_OF_TRIAL: usize = 3;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("QC_SEEDS") else { return DEFAULT_SEEDS };
    let range = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    range.unwrap_or_else(|| panic!("QC_SEEDS is `first..last`, not `{text}`"))
}

/// Climbs the ladder with all models of a trial.
fn climb(seeds: Range<u64>) -> Result<(), Failed> {
    let mut failures = Vec::new();
    for seed in seeds {
        let Err(found) = fuzz::climb(seed) else { continue };
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(found.file_name());
        std::fs::write(&path, &found.text)?;
        failures.push(format!("{found}\n  {}", path.display()));
        if failures.len() >= FAILURES_OF_TRIAL {
            break;
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failed::from(failures.join("\n"))) }
}

/// Random models are worth little if they never contain an op, or if nothing of them becomes integer.
fn coverage() -> Result<(), Failed> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for mode in Mode::ALL {
        let mut fused: BTreeSet<&str> = BTreeSet::new();
        let mut joined = 0;
        for seed in 0..160 {
            let recipe = Recipe::random(seed, mode);
            let Ok(r) = ladder::levels(&|batch| build(&recipe, batch), &recipe.options()) else { continue };
            joined += usize::from(r.apart.is_some());
            fused.extend(r.fused.ops(r.fused.body()).iter().map(|&op| r.fused.def(op).name));
            for m in [&build(&recipe, 1), &r.canonical, &r.paired] {
                seen.extend(m.ops(m.body()).iter().map(|&op| m.def(op).name));
            }
        }
        if joined == 0 && mode != Mode::Float {
            return Err(Failed::from(format!("no conversion is joined with a float op with {mode:?}")));
        }
        let integer = [
            "quant.conv2d",
            "quant.matmul",
            "quant.batch_matmul",
            "quant.add",
            "quant.mul",
            "quant.max_pool",
            "quant.avg_pool",
        ];
        for name in integer {
            // What is measured gives no format to the right side of a product, unless something else reads it, too.
            if mode == Mode::Ranges && name == "quant.batch_matmul" {
                continue;
            }
            let integer = matches!(mode, Mode::Pairs | Mode::Ranges);
            if fused.contains(name) != integer {
                return Err(Failed::from(format!("{name} with {mode:?}: {}", fused.contains(name))));
            }
        }
        seen.extend(fused);
    }
    // Observations are removed by the pass that reads them.
    let declared = qc_dialects::graph::GRAPH.iter().chain(qc_dialects::quant::QUANT).map(|d| d.name);
    let missing: Vec<&str> = declared.filter(|n| !seen.contains(n) && *n != "graph.observe").collect();
    if missing.is_empty() { Ok(()) } else { Err(Failed::from(format!("no random model has {missing:?}"))) }
}

fn main() {
    let seeds = seeds();
    let mut trials = vec![Trial::test("models_cover_the_ops", coverage)];
    let starts = seeds.clone().step_by(SEEDS_OF_TRIAL as usize);
    trials.extend(starts.map(|from| {
        let own = from..(from + SEEDS_OF_TRIAL).min(seeds.end);
        Trial::test(format!("seeds_{:05}_to_{:05}", own.start, own.end - 1), move || climb(own))
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
