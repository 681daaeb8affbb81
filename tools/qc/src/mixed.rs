//! Which ops have to be floats so that a model in INT8 is as good as it is asked to be: measured on samples, against its own floats.

use crate::args::percentage;
use crate::failure::{Failure, Outcome, USAGE};
use crate::metric::{Apart, Confusion, Metric, answers};
use crate::pictures::in_parallel;
use crate::samples::{Part, Program, SampleArgs, Samples};
use crate::ui::Ui;
use clap::Args;
use qc_compiler::mixed::{Choice, Found, Goal, search};
use qc_compiler::{CompileOptions, Compiler, Context, ContextOptions, ModelFile, Precision, Predictor, Shapes};
use qc_runtime::{Elem, IoInfo};
use std::time::{Duration, Instant};

/// What is asked for.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Mixed precision")]
pub struct MixedArgs {
    /// Keep the fewest ops in f32 with which the metric is at most PCT percent below that of the floats
    #[arg(long, value_name = "PCT", requires = "data", value_parser = percentage)]
    pub target_drop: Option<f64>,
    /// Keep the fewest ops in f32 with which outputs have DB decibels between signal and error
    #[arg(long, value_name = "DB", requires = "data", conflicts_with = "target_drop")]
    pub target_snr: Option<f64>,
    /// How results are compared
    #[arg(long, value_enum, default_value_t, requires = "target_drop")]
    pub metric: Metric,
    /// Which score is that of no symbol, for --metric ctc
    #[arg(long, value_name = "N", default_value_t = 0, requires = "target_drop")]
    pub blank: usize,
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

/// A model as it is run.
struct Whole {
    predictor: Predictor,
    /// The shape it was compiled for.
    at: Shapes,
}

impl Program for Whole {
    fn make(compiler: &Compiler, file: &ModelFile, at: &Shapes) -> Outcome<Whole> {
        Ok(Whole { predictor: compiler.jit_at(file, at)?, at: at.clone() })
    }

    fn inputs(&self) -> &[IoInfo] {
        self.predictor.inputs()
    }
}

/// Results of the floats: of each run, each output.
type Results = Vec<Vec<Vec<f32>>>;

/// A model in floats with its samples, that models in integers are judged by.
struct Judge<'a> {
    args: &'a MixedArgs,
    samples: &'a SampleArgs,
    options: &'a CompileOptions,
    file: &'a ModelFile,
    parts: Vec<Part<Whole>>,
    right: Vec<Results>,
}

impl MixedArgs {
    /// Whether anything is asked for.
    pub fn any(&self) -> bool {
        self.target_drop.is_some() || self.target_snr.is_some()
    }

    /// The score that is asked for, and the metric.
    fn goal(&self) -> (Metric, f64) {
        match self.target_snr {
            Some(decibels) => (Metric::Snr, decibels),
            None => (self.metric, 100.0 - self.target_drop.unwrap_or(0.0)),
        }
    }

    /// What was found, for people.
    pub fn text(&self, found: &Found) -> String {
        let (metric, goal) = self.goal();
        let unit = if metric == Metric::Snr { " dB" } else { " %" };
        let mut text = format!("{:<9}{:.2}{unit} with everything in INT8", metric.name(), found.without);
        if !found.kept.is_empty() {
            text += &format!(", {:.2}{unit} with {} ops in f32", found.score, found.ops);
        }
        text += &format!("; {} tries\n", found.measured);
        if !found.kept.is_empty() {
            text += &format!("f32      {}\n", found.kept.join(" "));
        }
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
    pub fn search(
        &self,
        samples: &SampleArgs,
        options: &CompileOptions,
        file: &ModelFile,
        choices: &[Choice],
        ui: Ui,
    ) -> Outcome<Found> {
        if self.target_drop.is_some() && self.metric == Metric::Snr {
            let text = "a drop in percent is for --metric cosine, top1, f1 and ctc; give --target-snr in decibels";
            return Err(Failure::new(USAGE, text));
        }
        let until = Instant::now() + self.budget;
        let judge = Judge::new(self, samples, options, file, ui)?;
        let bar = ui.progress(choices.len(), "search");
        let mut measure = |kept: &[String]| {
            bar.set_position(kept.len() as u64);
            judge.score(kept)
        };
        let found = search(choices, Goal { least: self.goal().1, until }, &mut measure)?;
        bar.finish_and_clear();
        Ok(found)
    }
}

impl<'a> Judge<'a> {
    fn new(
        args: &'a MixedArgs,
        samples: &'a SampleArgs,
        options: &'a CompileOptions,
        file: &'a ModelFile,
        ui: Ui,
    ) -> Outcome<Judge<'a>> {
        let floats = CompileOptions {
            precision: Precision::Fp32,
            ranges: None,
            keep_fp32: Vec::new(),
            quantize_ops: Vec::new(),
            ..options.clone()
        };
        let parts: Vec<Part<Whole>> = samples.parts(&floats, file, ui)?;
        let mut judge = Judge { args, samples, options, file, parts, right: Vec::new() };
        for part in &judge.parts {
            let right = judge.run(&part.program.predictor, part, outputs)?;
            judge.right.push(right);
        }
        Ok(judge)
    }

    /// What `look` makes of every run on a part's samples.
    fn run<R: Send>(
        &self,
        predictor: &Predictor,
        part: &Part<Whole>,
        look: impl Fn(&mut Context) -> Outcome<R> + Sync,
    ) -> Outcome<Vec<R>> {
        let (rows, n) = (part.rows(), part.count()?.min(self.samples.limit()));
        let make = || Ok(predictor.context(&ContextOptions { threads: Some(1), ..ContextOptions::default() })?);
        let samples: &Samples = &part.samples;
        let work = |context: &mut Context, run: usize| {
            samples.fill(context, run, rows)?;
            context.run()?;
            look(context)
        };
        Ok(in_parallel(n.div_ceil(rows), self.samples.threads(), make, work)?.0)
    }

    /// The score of the model with these nodes in f32.
    fn score(&self, kept: &[String]) -> Outcome<f64> {
        let keep_fp32 = self.options.keep_fp32.iter().chain(kept).cloned().collect();
        let options = CompileOptions { keep_fp32, ..self.options.clone() };
        let metric = self.args.goal().0;
        let (mut apart, mut classes, mut same, mut rows) = (Apart::default(), Confusion::default(), 0, 0);
        for (part, right) in self.parts.iter().zip(&self.right) {
            let whole = Whole::make(&Compiler::new(options.clone()), self.file, &part.program.at)?;
            let shape = first_of_floats(part.program.predictor.outputs());
            for (got, right) in self.run(&whole.predictor, part, outputs)?.iter().zip(right) {
                apart.observe(right, got);
                if metric.is_of_numbers() {
                    continue;
                }
                let say = |outputs: &[Vec<f32>]| {
                    outputs.first().map_or(Vec::new(), |values| answers(metric, values, shape, self.args.blank))
                };
                let (right, got) = (say(right), say(got));
                same += right.iter().zip(&got).filter(|(right, got)| right == got).count();
                rows += right.len();
                right.iter().flatten().zip(got.iter().flatten()).for_each(|(right, got)| classes.observe(*right, *got));
            }
        }
        Ok(match metric {
            Metric::Cosine | Metric::Snr => apart.score(metric),
            Metric::Top1 | Metric::Ctc => 100.0 * same as f64 / rows.max(1) as f64,
            Metric::F1 => classes.f1(),
        })
    }
}

/// The shape of the first float output.
fn first_of_floats(outputs: &[IoInfo]) -> &[usize] {
    outputs.iter().find(|io| io.elem == Elem::F32).map_or(&[], |io| &io.shape)
}

/// The float outputs of the last run.
fn outputs(context: &mut Context) -> Outcome<Vec<Vec<f32>>> {
    let float = |i: &usize| context.outputs()[*i].elem == Elem::F32;
    let one = |i: usize| Ok(context.output::<f32>(i)?.to_vec());
    (0..context.outputs().len()).filter(float).map(one).collect()
}
