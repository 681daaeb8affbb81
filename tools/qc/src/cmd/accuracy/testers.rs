//! The options of Paddle's testers, spelt as there: `sample_tester`, `quant2_int8_image_classification_comparison.py`,
//! `quant2_int8_nlp_comparison.py`, their predecessors and the testers in C++.

use super::answers::Best;
use super::report::{Graded, Grader};
use crate::args::no_paddle_ids;
use crate::failure::{CHECK, Failure, Outcome};
use crate::metric::Metric;
use crate::ui::Ui;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Accuracy that both models of a comparison must exceed, as the original asserts.
const LEAST: f64 = 0.5;

/// A model of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// The fake-quant graph as written
    Quant,
    /// The same in integers
    Int8,
    /// --fp32_model
    Fp32,
}

/// What the testers are told.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "As Paddle's testers spell it")]
pub struct Testers {
    /// A model with fake-quant ops, which is emulated and run in INT8: as --qat MODEL and MODEL
    #[arg(long = "quant_model", value_name = "MODEL", alias = "qat_model")]
    pub quant_model: Option<PathBuf>,
    /// Use the first N batches only; 0 for all
    #[arg(long = "batch_num", value_name = "N", alias = "iterations", allow_negative_numbers = true)]
    pub batch_num: Option<i64>,
    /// Batches that are run before times count
    #[arg(long = "skip_batch_num", value_name = "N", aliases = ["warmup_iter", "warmup_iters"])]
    pub skip_batch_num: Option<u32>,
    /// Threads of each run, of which there is one at a time
    #[arg(long = "num_threads", value_name = "N", aliases = ["cpu_num_threads", "paddle_num_threads"],
          conflicts_with = "threads", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub num_threads: Option<u32>,
    /// Fail with status 1 if the accuracy, from 0 to 1, of the INT8 model is more than X below that of the emulated one, or one of both
    /// is 0.5 or less
    #[arg(long = "acc_diff_threshold", value_name = "X", alias = "quantized_accuracy")]
    pub acc_diff_threshold: Option<f64>,
    /// Which models are run: quant, int8, fp32
    #[arg(long = "targets", value_name = "LIST", value_delimiter = ',', value_enum)]
    pub targets: Vec<Target>,
    /// Numbers of nodes of Paddle's graph: nothing, or -1
    #[arg(long = "op_ids_to_skip", value_name = "LIST", allow_hyphen_values = true)]
    op_ids_to_skip: Option<String>,
    /// Whether the model computes its accuracy itself
    #[arg(long = "with_accuracy_layer", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    with_accuracy_layer: Option<bool>,
    /// Show the time of every step
    #[arg(long = "use_profile", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", alias = "enable_profile")]
    use_profile: Option<bool>,
    /// Whether the program is optimized, as it always is here
    #[arg(long = "use_analysis", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", alias = "optimize_fp32_model")]
    use_analysis: Option<bool>,
    /// Not here: `qc opt` shows a model after every pass
    #[arg(long = "debug")]
    debug: bool,
}

impl Testers {
    /// Whether the report of the testers is wanted besides.
    fn any(&self) -> bool {
        self.quant_model.is_some()
            || self.batch_num.is_some()
            || self.skip_batch_num.is_some()
            || self.num_threads.is_some()
            || self.acc_diff_threshold.is_some()
            || !self.targets.is_empty()
            || self.with_accuracy_layer.is_some()
            || self.use_profile.is_some()
    }

    /// Refuses what cannot be followed, and says what has no effect.
    ///
    /// # Errors
    /// A sentence with what does the same.
    pub fn check(&self, ui: Ui) -> Outcome {
        no_paddle_ids(self.op_ids_to_skip.as_deref())?;
        if self.debug {
            return Err(Failure::usage("--debug draws Paddle's graphs; `qc opt` shows a model after every pass"));
        }
        if self.acc_diff_threshold.is_some_and(|x| !(0.0..=1.0).contains(&x)) {
            return Err(Failure::usage(
                "--acc_diff_threshold is a difference of accuracies from 0 to 1; --max-drop takes points",
            ));
        }
        if self.with_accuracy_layer == Some(true) {
            ui.note(
                "note: --with_accuracy_layer: classes are taken from the scores of the model, labels from the data",
            );
        }
        if self.use_analysis == Some(false) {
            ui.note("note: --use_analysis=false: models are always optimized; --emulate-qat computes pairs as they are written");
        }
        Ok(())
    }

    /// Whether a model is wanted.
    pub fn wants(&self, target: Target) -> bool {
        self.targets.is_empty() || self.targets.contains(&target)
    }

    /// Samples, of batches of this size.
    pub fn most(&self, batch: usize) -> usize {
        let batches = self.batch_num.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        batches.map_or(usize::MAX, |n| n.saturating_mul(batch))
    }

    /// Whether steps are to be profiled.
    pub fn profiles(&self) -> bool {
        self.use_profile == Some(true)
    }

    /// The lines that scripts look for, figures as the testers write them; those of language models have labels beside the samples.
    pub fn lines(&self, grader: &Grader<'_>, all: &[Graded<'_>], threads: u32, is_language: bool) -> String {
        if !self.any() || !matches!(grader.metric, Metric::Top1) {
            return String::new();
        }
        let fraction = |graded: &Graded<'_>, k: usize| {
            let held = |(i, best): &(usize, &Best)| grader.truth.holds(*i, best, k);
            graded.answers.best.iter().enumerate().filter(held).count() as f64 / graded.n.max(1) as f64
        };
        match all {
            [one] if self.quant_model.is_none() => sample_lines(grader, one, threads, fraction),
            all => self.comparison_lines(grader, all, is_language, fraction),
        }
    }

    /// As the comparison scripts.
    fn comparison_lines(
        &self,
        grader: &Grader<'_>,
        all: &[Graded<'_>],
        is_language: bool,
        fraction: impl Fn(&Graded<'_>, usize) -> f64,
    ) -> String {
        let of = if is_language { "predictions per sec" } else { "fps" };
        let (what, short) = if is_language { ("accuracy", "acc") } else { ("top1 accuracy", "top1_acc") };
        let mut text = "\n--- Performance summary ---\n".to_string();
        for graded in all {
            let [batch_ms, speed] = grader.speed(graded);
            let each = batch_ms / graded.form.rows as f64;
            text += &format!("{}: avg {of}: {speed:.2}, avg latency: {each:.4} ms\n", label(graded.form.name));
        }
        text += "--- Accuracy summary ---\n";
        if let Some(most) = self.acc_diff_threshold {
            text += &format!(
                "Accepted {what} drop threshold: {most}. (condition: (Quant_{short} - INT8_{short}) <= threshold && Quant_{short} > 0.5 \
                 && INT8_{short} > 0.5)\n"
            );
        }
        for graded in all {
            let (name, one, five) = (label(graded.form.name), fraction(graded, 1), fraction(graded, 5));
            text += &match is_language {
                true => format!("{name}: avg accuracy: {one:.6}\n"),
                false => format!("{name}: avg top1 accuracy: {one:.4}, avg top5 accuracy: {five:.4}\n"),
            };
        }
        text
    }

    /// Compares as the testers do: the INT8 model with the emulated one, or with the float one where there is no emulated one.
    ///
    /// # Errors
    /// When the difference is larger than asked for.
    pub fn verdict(&self, all: &[Graded<'_>]) -> Outcome {
        let Some(most) = self.acc_diff_threshold else { return Ok(()) };
        let find = |name: &str| all.iter().find(|graded| graded.form.name == name);
        // A selection of targets without both has nothing to assert.
        let (Some(base), Some(int8)) = (find("qat").or(find("ref")), find("model")) else { return Ok(()) };
        let Some((a, b)) = base.score.zip(int8.score).map(|(a, b)| (a / 100.0, b / 100.0)) else { return Ok(()) };
        if a - b <= most && a > LEAST && b > LEAST {
            return Ok(());
        }
        let text = format!(
            "FAILED: accuracy {b:.4} of INT8, {a:.4} of {}; --acc_diff_threshold {most} and both above {LEAST} were asked for",
            label(base.form.name)
        );
        Err(Failure::new(CHECK, text))
    }
}

/// As `sample_tester`.
fn sample_lines(
    grader: &Grader<'_>,
    graded: &Graded<'_>,
    threads: u32,
    fraction: impl Fn(&Graded<'_>, usize) -> f64,
) -> String {
    let [batch_ms, _] = grader.speed(graded);
    let each = batch_ms / graded.form.rows as f64;
    let (rows, n) = (graded.form.rows, graded.answers.best.len());
    let mut text = format!("\nModel: {}\n====== num of threads: {threads} ======\n", graded.form.path.display());
    text += &format!("====== batch size: {rows}, iterations: {}\n", n.div_ceil(rows));
    text += &format!("====== batch latency: {batch_ms:.4}ms, number of samples: {n}\n");
    text += &format!(", sample latency: {each:.4}ms, fps: {:.2} ======\n", 1e3 / each.max(1e-9));
    text + &format!("Top1 accuracy: {:6.4}\nTop5 accuracy: {:6.4}\n", fraction(graded, 1), fraction(graded, 5))
}

/// What the testers call a model.
fn label(name: &str) -> &'static str {
    match name {
        "ref" => "FP32",
        "qat" => "Quant",
        _ => "INT8",
    }
}
