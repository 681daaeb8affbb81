//! Random models climb the ladder of equivalence. `QC_SEEDS=first..last` chooses seeds; a failing model is made small
//! and written as a file test into the build folder.

#![allow(clippy::unwrap_used)]

use qc_tests::ladder;
use qc_tests::random::{Mode, Recipe, build, shrink};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// Seeds that run by default, per mode.
const DEFAULT_SEEDS: std::ops::Range<u64> = 0..80;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("QC_SEEDS") else { return DEFAULT_SEEDS };
    let range = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    range.unwrap_or_else(|| panic!("QC_SEEDS is `first..last`, not `{text}`"))
}

fn climb(mode: Mode) {
    let started = Instant::now();
    let mut failures = Vec::new();
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let recipe = Recipe::random(seed * 4 + mode as u64, mode);
        let Err(failure) = recipe.check() else { continue };
        let small = shrink::shrink(&recipe, &|r| r.check().is_err_and(|f| f.rung == failure.rung));
        let text = small.check().err().map_or(String::new(), |f| f.to_string());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("random_{mode:?}_{seed}.qir"));
        std::fs::write(&path, small.to_qir()).unwrap();
        failures.push(format!("seed {seed}: {failure}\n  made small: {text}\n  {}", path.display()));
        if failures.len() >= 5 {
            break;
        }
    }
    println!("{mode:?}: {count} seeds in {:?}", started.elapsed());
    assert!(failures.is_empty(), "{} models fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn float_models() {
    climb(Mode::Float);
}

#[test]
fn models_with_pairs() {
    climb(Mode::Pairs);
}

#[test]
fn models_with_exact_pairs() {
    climb(Mode::ExactPairs);
}

#[test]
fn models_with_ranges() {
    climb(Mode::Ranges);
}

/// Random models are worth little if they never contain an op, or if nothing of them becomes integer.
#[test]
fn models_cover_the_ops() {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for mode in [Mode::Float, Mode::ExactPairs, Mode::Pairs, Mode::Ranges] {
        let mut fused: BTreeSet<&str> = BTreeSet::new();
        for seed in DEFAULT_SEEDS {
            let recipe = Recipe::random(seed * 4 + mode as u64, mode);
            let Ok(r) = ladder::rungs(&|batch| build(&recipe, batch), &recipe.settings()) else { continue };
            fused.extend(r.fused.ops(r.fused.body()).iter().map(|&op| r.fused.def(op).name));
            for m in [&build(&recipe, 1), &r.canonical, &r.paired] {
                seen.extend(m.ops(m.body()).iter().map(|&op| m.def(op).name));
            }
        }
        let integer = ["quant.conv2d", "quant.matmul", "quant.add", "quant.mul", "quant.max_pool", "quant.avg_pool"];
        for name in integer {
            let integer = matches!(mode, Mode::Pairs | Mode::Ranges);
            assert_eq!(fused.contains(name), integer, "{name} with {mode:?}");
        }
        seen.extend(fused);
    }
    // Casts are not continuous, so float rungs would differ; observations are removed by the pass that reads them.
    let left_out = ["graph.cast", "graph.observe"];
    let declared = qc_dialects::graph::GRAPH.iter().chain(qc_dialects::quant::QUANT).map(|d| d.name);
    let missing: Vec<&str> = declared.filter(|n| !seen.contains(n) && !left_out.contains(n)).collect();
    assert!(missing.is_empty(), "no random model has {missing:?}");
}
