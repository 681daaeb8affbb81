//! What makes a model in INT8 better than ranges of one method: tried one after the other, measured on the samples, kept where it helps.

use crate::failure::Outcome;
use crate::judge::Judge;
use crate::measure::Measure;
use crate::pair::{Compared, Contexts, Pair};
use crate::pictures::in_parallel;
use crate::samples::{Part, SampleArgs, Turn, turns};
use crate::ui::Ui;
use qc_compiler::biases::{Biases, correctable};
use qc_compiler::{CompileOptions, Method, Ranges};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Methods whose ranges are tried. The first is the one that is taken without trying.
const METHODS: &[&str] =
    &["auto", "minmax", "least-squares", "percentile:99.99", "percentile:99.999", "moving-average"];

/// The most samples by which biases are corrected: the interpreter runs them, and a mean over all places of some is enough.
const SAMPLES: u32 = 8;

/// What a correction has to gain, in the metric's unit, to be worth its place in the file.
const GAIN: f64 = 0.01;

/// One thing that was tried.
struct Tried {
    what: String,
    score: f64,
}

/// Everything that was tried, and what was taken.
pub struct Best {
    measure: Measure,
    tried: Vec<Tried>,
    /// Whether biases are corrected.
    corrected: bool,
}

/// The methods.
pub fn methods() -> Vec<Method> {
    METHODS.iter().filter_map(|name| name.parse().ok()).collect()
}

/// The best of `candidates`, ranges of the same samples, with what else helps.
///
/// # Errors
/// As compiling and running the model.
pub fn best(
    (measure, blank): (Measure, usize),
    samples: &SampleArgs,
    what: Compared<'_>,
    candidates: Vec<Ranges>,
    ui: Ui,
) -> Outcome<(Ranges, Best)> {
    let judge = Judge::new((measure.clone(), blank), samples, what, ui)?;
    let with = |ranges: &Ranges| CompileOptions { ranges: Some(ranges.clone()), ..what.options.clone() };
    let bar = ui.progress(candidates.len() + 1, "best");
    let mut found = Best { measure, tried: Vec::new(), corrected: false };
    let mut best: Option<(Ranges, f64)> = None;
    for ranges in candidates {
        let score = judge.score(&with(&ranges))?;
        bar.inc(1);
        found.tried.push(Tried { what: ranges.method.clone(), score });
        if best.as_ref().is_none_or(|(_, least)| score > *least) {
            best = Some((ranges, score));
        }
    }
    let Some((mut ranges, score)) = best else { return Ok((Ranges::default(), found)) };
    let biases = shifts(samples, what, &with(&ranges), ui)?;
    let corrected = Ranges { biases, ..ranges.clone() };
    let own = judge.score(&with(&corrected))?;
    found.tried.push(Tried { what: "corrected biases".into(), score: own });
    if own >= score + GAIN {
        found.corrected = true;
        ranges = corrected;
    }
    bar.finish_and_clear();
    Ok((ranges, found))
}

/// How far the means of the channels of products are from those of the floats.
fn shifts(samples: &SampleArgs, what: Compared<'_>, options: &CompileOptions, ui: Ui) -> Outcome<Biases> {
    let few = samples.first(SAMPLES);
    let parts: Vec<Part<Pair>> = few.parts(options, what.file, ui)?;
    let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut runs = 0;
    for group in turns(&parts, few.limit())? {
        let Some(pair) = group.first().map(|turn| turn.part.program.clone()) else { continue };
        let names: BTreeSet<String> = correctable(&pair.floats.module).into_iter().collect();
        let work = |contexts: &mut Contexts, i: usize| {
            let Turn { part, run, .. } = &group[i];
            part.samples.fill(&mut contexts.floats, *run, part.rows())?;
            contexts.floats.run()?;
            pair.shifts(&mut contexts.floats)
        };
        let (looked, _) = in_parallel(group.len(), few.threads(), || pair.contexts(), work)?;
        for (name, shift) in looked.into_iter().flatten().filter(|(name, _)| names.contains(name)) {
            let sum = sums.entry(name).or_insert_with(|| vec![0.0; shift.len()]);
            sum.iter_mut().zip(shift).for_each(|(sum, s)| *sum += s);
        }
        runs += group.len();
    }
    let mean = |sum: Vec<f64>| sum.into_iter().map(|s| (s / runs.max(1) as f64) as f32).collect();
    Ok(sums.into_iter().map(|(name, sum)| (name, mean(sum))).collect())
}

impl Best {
    /// What was tried, for other programs.
    pub fn json(&self) -> Value {
        let one = |t: &Tried| json!({ "what": t.what, "score": t.score });
        json!({
            "metric": self.measure.name(),
            "tried": self.tried.iter().map(one).collect::<Vec<_>>(),
            "biases_corrected": self.corrected,
        })
    }

    /// What was tried, for people.
    pub fn text(&self) -> String {
        let unit = self.measure.unit();
        let one = |t: &Tried| format!("{} {:.2}", t.what, t.score);
        let tried: Vec<String> = self.tried.iter().map(one).collect();
        format!("best     {}{unit}: {}\n", self.measure.name(), tried.join(", "))
    }
}
