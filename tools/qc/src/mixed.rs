//! Which ops have to be floats so that a model in INT8 is as good as it is asked to be: measured on samples, against floats.

use crate::args::percentage;
use crate::failure::{Failure, Outcome, USAGE};
use crate::judge::{Judge, Times};
use crate::measure::Measure;
use crate::metric::Metric;
use crate::pair::Compared;
use crate::samples::SampleArgs;
use crate::ui::Ui;
use clap::Args;
use qc_compiler::mixed::{Choice, Found, Goal, search};
use qc_compiler::ranges::Range;
use qc_compiler::{CompileOptions, ModelFile, Ranges};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// What is asked for.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Mixed precision")]
pub struct MixedArgs {
    /// Keep the fewest ops in f32 with which the metric is at most PCT points below that of the floats, of a command's number PCT percent
    #[arg(long, value_name = "PCT", requires = "data", value_parser = percentage)]
    pub target_drop: Option<f64>,
    /// Keep the fewest ops in f32 with which outputs have DB decibels between signal and error
    #[arg(long, value_name = "DB", requires = "data", conflicts_with = "target_drop")]
    pub target_snr: Option<f64>,
    /// How results are compared, for --target-drop and --best: `cosine` (least of an output), `top1` (by the classes of a list, else by those
    /// of the floats), `snr`, `f1`, `ctc`, or `cmd:COMMAND` for
    /// one that prints a number, larger ones being better; {outputs} and {right} in it are .npz files of all samples. By default
    /// `cosine`, and without a target `snr`
    #[arg(long, value_name = "METRIC", value_parser = Measure::from_str, requires = "data", conflicts_with = "target_snr")]
    pub metric: Option<Measure>,
    /// Which score is that of no symbol, for --metric ctc
    #[arg(long, value_name = "N", default_value_t = 0, requires = "metric")]
    pub blank: usize,
    /// The float model that is right, for one that is quantized already; its own floats, without their quantization, by default
    #[arg(long = "ref", value_name = "MODEL", requires = "data")]
    pub reference: Option<PathBuf>,
    /// How long to search; what is best then is taken
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub budget: Duration,
}

fn time(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` is no time such as 90s, 10m or 1h")),
    };
    let number: Option<f64> = number.parse().ok().filter(|n: &f64| (0.0..=1e6).contains(n));
    number
        .map(|n| Duration::from_secs_f64(n * seconds))
        .ok_or_else(|| format!("`{text}` is no time such as 90s, 10m or 1h"))
}
impl MixedArgs {
    /// Whether anything is asked for.
    pub fn any(&self) -> bool {
        self.target_drop.is_some() || self.target_snr.is_some()
    }

    /// What models are judged by, with or without a target.
    pub fn judged_by(&self) -> (Measure, usize) {
        let usual = if self.target_drop.is_some() { Metric::Cosine } else { Metric::Snr };
        (self.metric.clone().unwrap_or(Measure::Metric(usual)), self.blank)
    }

    /// The least score that is good enough.
    fn least(&self, judge: &Judge<'_>) -> Outcome<f64> {
        let drop = self.target_drop.unwrap_or(0.0);
        match self.target_snr {
            Some(decibels) => Ok(decibels),
            None => judge.of_floats().map(|top| top - if judge.is_command() { top.abs() * drop / 100.0 } else { drop }),
        }
    }

    /// What was found, for people.
    pub fn text(&self, searched: &Searched) -> String {
        let found = &searched.found;
        let measure = self.judged_by().0;
        let (unit, name, goal) = (measure.unit(), measure.name(), searched.least);
        let mut text = format!("{name:<9}{:.2}{unit} with everything in INT8", found.without);
        if !found.kept.is_empty() {
            text += &format!(", {:.2}{unit} with {} ops in f32", found.score, found.ops);
        }
        text += &format!("; {} tries\n", found.measured);
        if !found.kept.is_empty() {
            text += &format!("f32      {}\n", found.kept.join(" "));
        }
        text += &searched.cost_text();
        if !found.reached {
            let why = if found.cut_off { "the time was up" } else { "more floats do not help" };
            text += &format!("note     {goal:.2}{unit} was not reached: {why}\n");
        }
        text
    }

    /// Searches among ops that lose `alone`, of a model with `options` that are those of integers.
    ///
    /// # Errors
    /// As running samples; a target that the metric does not have.
    pub fn search(&self, samples: &SampleArgs, what: Compared<'_>, choices: &[Choice], ui: Ui) -> Outcome<Searched> {
        let until = Instant::now() + self.budget;
        let judge = self.judge(samples, what, ui)?;
        let least = self.least(&judge)?;
        let bar = ui.progress(choices.len(), "search");
        let mut measure = |kept: &[String]| {
            bar.set_position(kept.len() as u64);
            judge.score(&judge.keeping(kept))
        };
        let found = search(choices, Goal { least, until }, &mut measure)?;
        let times = judge.times(&found.kept)?;
        bar.finish_and_clear();
        Ok(Searched { found, least, times })
    }

    /// Who says how good a model is.
    fn judge<'a>(&self, samples: &'a SampleArgs, what: Compared<'a>, ui: Ui) -> Outcome<Judge<'a>> {
        if self.target_drop.is_some() && self.metric == Some(Measure::Metric(Metric::Snr)) {
            let text = "a drop in percent is for --metric cosine, top1, f1 and ctc; give --target-snr in decibels";
            return Err(Failure::new(USAGE, text));
        }
        Judge::new(self.judged_by(), samples, what, ui)
    }

    /// What a quantized model scores as it is, and which tensors got other ranges, for people.
    pub fn rescaled_text(&self, score: f64, ranges: &Ranges) -> String {
        let measure = self.judged_by().0;
        let mut text = format!("{:<9}{score:.2}{} of the model as it is\n", measure.name(), measure.unit());
        for (name, range) in &ranges.rescaled {
            text += &format!("rescaled {name}  {}..{}\n", range.min, range.max);
        }
        text
    }

    /// Mends a model that is quantized already: tensors whose formats do not fit their values get other ranges, one after the other, from
    /// that of the op that loses most, while the target is not reached; then ops become floats.
    ///
    /// # Errors
    /// As [`MixedArgs::search`].
    pub fn mend(&self, samples: &SampleArgs, options: &CompileOptions, file: &ModelFile, ui: Ui) -> Outcome<Mended> {
        let until = Instant::now() + self.budget;
        let (params, limits) = (options.params.as_deref(), &options.limits);
        let open = |path: &PathBuf| ModelFile::open_within(path, params, limits);
        let reference = self.reference.as_ref().map(open).transpose()?;
        let what = Compared { options, file, reference: reference.as_ref() };
        let (n, lines) = what.lines(samples, 1, ui)?;
        let judge = self.judge(samples, what, ui)?;
        let least = self.least(&judge)?;
        let with = |ranges: &Ranges| CompileOptions { ranges: Some(ranges.clone()), ..options.clone() };
        let mut ranges = Ranges::of_quantized(file, n);
        let without = judge.score(&with(&ranges))?;
        let mut best = without;
        for line in lines.iter().filter(|line| line.misfits()) {
            let goes_on = best < least && Instant::now() < until;
            let Some([low, high]) = line.rounding.seen.filter(|_| goes_on) else { continue };
            let mut tried = ranges.clone();
            tried.rescaled.insert(line.name.clone(), Range::new(low, high));
            // A tensor whose bytes are read by something else than its pair keeps its format.
            let Ok(score) = judge.score(&with(&tried)) else { continue };
            if score > best {
                (ranges, best) = (tried, score);
            }
        }
        let options = with(&ranges);
        let what = Compared { options: &options, ..what };
        let choices = what.choices(samples, ui)?;
        let searched = self.search(samples, what, &choices, ui)?;
        ranges.keep_fp32.clone_from(&searched.found.kept);
        Ok(Mended { ranges, without, searched })
    }
}

/// What mends a quantized model.
pub struct Mended {
    /// What a compilation is given.
    pub ranges: Ranges,
    /// What was measured of the model as it is.
    pub without: f64,
    /// What was found behind the ranges that were changed.
    pub searched: Searched,
}

/// What a search found, and what it costs.
pub struct Searched {
    pub found: Found,
    /// The score that was asked for.
    pub least: f64,
    pub times: Times,
}

/// Integers that take more than this part of the floats' time are not worth their errors.
const WORTH: f64 = 0.95;

impl Searched {
    /// What it costs, for people.
    fn cost_text(&self) -> String {
        let ms = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
        let Times { int8, mixed, f32 } = self.times;
        let kept = if self.found.kept.is_empty() { String::new() } else { format!(", {} so", ms(mixed)) };
        let mut text =
            format!("time     {} in INT8{kept}, {} in f32; the first sample, one thread\n", ms(int8), ms(f32));
        if mixed > f32 * WORTH {
            text += "note     INT8 is not worth it here: f32 takes no longer; compile without ranges\n";
        }
        text
    }

    /// The milliseconds, for other programs.
    pub fn json(&self) -> Value {
        let Times { int8, mixed, f32 } = self.times;
        json!({ "int8": int8 * 1e3, "mixed": mixed * 1e3, "f32": f32 * 1e3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(int8: f64, mixed: f64, f32: f64, kept: &[&str]) -> String {
        let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
        let found =
            Found { ops: kept.len(), kept, score: 1.0, without: 1.0, reached: true, cut_off: false, measured: 1 };
        Searched { found, least: 0.0, times: Times { int8, mixed, f32 } }.cost_text()
    }

    #[test]
    fn integers_that_save_no_time_are_not_worth_their_errors() {
        let plain = "time     1.00 ms in INT8, 2.00 ms in f32; the first sample, one thread\n";
        assert_eq!(text(0.001, 0.001, 0.002, &[]), plain);
        let mixed = text(0.001, 0.00195, 0.002, &["a"]);
        assert!(mixed.starts_with("time     1.00 ms in INT8, 1.95 ms so, 2.00 ms in f32;"), "{mixed}");
        assert!(
            mixed.ends_with("note     INT8 is not worth it here: f32 takes no longer; compile without ranges\n"),
            "{mixed}"
        );
    }
}
