//! `qc compare`: which tensors of a model in INT8 differ from those of its floats, or of another model, and by how much.

use crate::args::ModelArgs;
use crate::failure::{CHECK, Failure, Outcome};
use crate::judge::{Cost, Judge};
use crate::measure::Measure;
use crate::metric::Metric;
use crate::pair::{Cause, Compared, Line, choices};
use crate::paths::Paths;
use crate::samples::{SampleArgs, TakeArgs};
use crate::sides::{self, Side};
use crate::table::{cut, table};
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::compare::Difference;
use qc_compiler::{CompileOptions, Precision};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Say which ops of a model lose how much in INT8, tensor by tensor.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc compare resnet50.onnx --ranges ranges.json --data pictures/ --preprocess imagenet -n 50
  qc compare resnet50.onnx --ranges ranges.json --data samples.npz --per-op 5     (what the worst ops gain as floats)
  qc compare resnet50_qdq.onnx resnet50.onnx --data samples.npz                    (a quantized model beside its original)
  qc compare model.so model.onnx --data samples.npz                                (outputs)
  qc compare outputs.npz reference.npz

Every tensor of the model in INT8 is compared with that of its floats, or of the floats of OTHER where that is a model. `alone` is
what the op itself loses on right operands, `all` what it and everything before it lose together, both in decibels between signal
and error: 6 dB are one bit. `by` is where the loss is made: in the format of the result (so many times too wide; so much clipped;
its steps), or in the op (weights). The list begins with the op that loses most by itself; names are those of the model, fit for
--keep-fp32. Of a .so and of stored outputs, outputs are compared.")]
pub struct Compare {
    /// A float model with --ranges, one that is quantized, a compiled .so, or outputs as .npz
    model: PathBuf,
    /// What is right: a model, whose floats count, a compiled .so, or outputs as .npz; by default the model's own floats
    other: Option<PathBuf>,
    /// Samples, as for `qc calibrate`; stored outputs need none
    #[arg(long, value_name = "SRC")]
    data: Option<PathBuf>,
    #[command(flatten)]
    take: TakeArgs,
    /// Find what each op loses alone on the first N runs; the interpreter does that, at a tenth of the speed
    #[arg(long, value_name = "N", default_value_t = 2)]
    alone: usize,
    /// Measure for the K worst ops what the model gains with each of them in f32, and what that costs in time
    #[arg(long, value_name = "K", num_args = 0..=1, default_missing_value = "5")]
    per_op: Option<usize>,
    /// Fail with status 1 where an output has less than DB decibels between signal and error
    #[arg(long, value_name = "DB")]
    least: Option<f64>,
    #[command(flatten)]
    options: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// What a comparison found.
struct Report {
    samples: usize,
    outputs: Vec<(String, Vec<String>, Difference)>,
    /// All tensors, from the one whose op loses most; none where there are outputs only.
    lines: Vec<Line>,
    gains: Option<Gains>,
}

/// What ops gain in f32.
struct Gains {
    /// The score of the model as it is.
    score: f64,
    cost: Cost,
    ops: Vec<Gain>,
}

/// What one op gains.
struct Gain {
    nodes: Vec<String>,
    /// The score of the model with it in f32, and its time.
    score: f64,
    seconds: f64,
    /// Its share of the time in INT8.
    share: f64,
}

impl Compare {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let read = self.options.files().chain([&self.model]).chain(&self.other).chain(&self.data);
        Paths::default().reads(read).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let options = self.options.options()?;
        let side = Side::open(&self.model, &self.options, &options)?;
        let floats = CompileOptions { precision: Precision::Fp32, ranges: None, ..options.clone() };
        let other = self.other.as_deref().map(|path| Side::open(path, &self.options, &floats)).transpose()?;
        if let Some(file) = side.model() {
            self.options.open(&file.path, &options)?;
            self.paths().reads(&file.files_read()).check()?;
        }
        let report = match (side.model(), other.as_ref()) {
            (Some(_), None) => self.tensors(&side, None, &options, ui)?,
            (Some(_), Some(right)) if right.model().is_some() => self.tensors(&side, Some(right), &options, ui)?,
            (_, Some(right)) => self.outputs(&side, right, ui)?,
            (None, None) => {
                let text = "has outputs only; name what they are compared with: a model, a .so or outputs as .npz";
                return Err(Failure::usage(format!("{}: {text}", self.model.display())));
            }
        };
        let what = self.other.as_ref().map_or("float".into(), |other| other.display().to_string());
        ui.report(&self.json, || self.as_json(&report), || text(&report, &what, ui.verbose))?;
        let least = self.least.unwrap_or(f64::NEG_INFINITY);
        match report.outputs.iter().find(|(_, _, difference)| difference.sqnr() < least) {
            None => Ok(()),
            Some((name, _, difference)) => {
                let text = format!("FAILED: output '{name}' has {} dB, less than {least}", decibels(difference.sqnr()));
                Err(Failure::new(CHECK, text))
            }
        }
    }

    fn samples(&self) -> Option<SampleArgs> {
        Some(SampleArgs { data: self.data.clone()?, take: self.take.clone() })
    }

    fn tensors(&self, side: &Side, right: Option<&Side>, options: &CompileOptions, ui: Ui) -> Outcome<Report> {
        let Some(file) = side.model() else { return Err(Failure::usage("no model")) };
        let data = self.samples();
        let data = data.as_ref().ok_or_else(|| Failure::usage("a model is compared on samples; give --data"))?;
        let what = Compared { options, file, reference: right.and_then(Side::model) };
        let (samples, lines) = what.lines(data, self.alone, ui)?;
        let mut outputs: Vec<_> =
            lines.iter().filter(|line| line.returned).map(|l| (l.name.clone(), l.nodes.clone(), l.all)).collect();
        outputs.sort_by(|a, b| a.0.cmp(&b.0));
        if let (true, Some(right)) = (outputs.is_empty(), right) {
            // Outputs that have other names on the other side.
            outputs = self.outputs(side, right, ui)?.outputs;
        }
        let gains = self.per_op.map(|k| gains(what, data, &lines, k, ui)).transpose()?;
        Ok(Report { samples, outputs, lines, gains })
    }

    fn outputs(&self, side: &Side, right: &Side, ui: Ui) -> Outcome<Report> {
        if self.per_op.is_some() {
            return Err(Failure::usage("--per-op is for two models, or one; a .so and stored outputs have no ops"));
        }
        let (samples, found) = sides::compare(side, right, self.samples().as_ref(), ui)?;
        let outputs = found.into_iter().map(|(name, difference)| (name, Vec::new(), difference)).collect();
        Ok(Report { samples, outputs, lines: Vec::new(), gains: None })
    }

    fn as_json(&self, report: &Report) -> Value {
        let output = |(name, nodes, d): &(String, Vec<String>, Difference)| difference_json(name, nodes, d);
        let gain = |gain: &Gain, of: &Gains| {
            json!({
                "nodes": gain.nodes, "snr": finite(gain.score), "gain": finite(gain.score - of.score),
                "time": gain.seconds / of.cost.seconds, "share": gain.share,
            })
        };
        json!({
            "schema": "qc.compare/1",
            "model": self.model,
            "other": self.other,
            "samples": report.samples,
            "outputs": report.outputs.iter().map(output).collect::<Vec<_>>(),
            "tensors": report.lines.iter().map(line_json).collect::<Vec<_>>(),
            "per_op": report.gains.as_ref().map(|of| of.ops.iter().map(|g| gain(g, of)).collect::<Vec<_>>()),
        })
    }
}

/// What each of the `k` worst ops gains, which are measured one by one on the whole model.
fn gains(what: Compared<'_>, data: &SampleArgs, lines: &[Line], k: usize, ui: Ui) -> Outcome<Gains> {
    let judge = Judge::new((Measure::Metric(Metric::Snr), 0), data, what, ui)?;
    let (score, cost) = (judge.score(what.options)?, judge.cost(what.options)?);
    let mut worst = choices(lines);
    worst.truncate(k);
    let bar = ui.progress(worst.len(), "per op");
    let one = |choice: qc_compiler::mixed::Choice| {
        let options = judge.keeping(&choice.nodes);
        let of_node = |step: &str| step.split('+').any(|node| choice.nodes.iter().any(|own| own == node.trim()));
        let share = cost.steps.iter().filter(|(step, _)| of_node(step)).map(|(_, share)| share).sum();
        bar.inc(1);
        Ok(Gain { score: judge.score(&options)?, seconds: judge.cost(&options)?.seconds, nodes: choice.nodes, share })
    };
    let ops = worst.into_iter().map(one).collect::<Outcome<_>>()?;
    bar.finish_and_clear();
    Ok(Gains { score, cost, ops })
}

fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

fn difference_json(name: &str, nodes: &[String], d: &Difference) -> Value {
    json!({
        "tensor": name,
        "nodes": nodes,
        "sqnr": finite(d.sqnr()),
        "cosine": d.cosine(),
        "max_difference": d.largest,
        "max_magnitude": d.magnitude,
    })
}

fn line_json(line: &Line) -> Value {
    let mut value = difference_json(&line.name, &line.nodes, &line.all);
    value["sqnr_alone"] = line.alone.and_then(|alone| finite(alone.sqnr())).into();
    value["by"] = line.cause().map(cause_text).into();
    value["readers"] = line.readers.clone().into();
    value
}

/// Where a loss is made, for people.
pub fn cause_text(cause: Cause) -> String {
    match cause {
        Cause::Wide(times) => format!("format, {times:.1}x too wide"),
        Cause::Clips(part) => format!("format, clips {:.1} %", 100.0 * part),
        Cause::Steps => "format, its steps".into(),
        Cause::Weights => "weights".into(),
    }
}

/// Decibels for people.
pub fn decibels(x: f64) -> String {
    if x.is_finite() { format!("{x:.1}") } else { "exact".into() }
}

/// Nodes for people: the first one.
pub fn nodes_text(nodes: &[String], name: &str, verbose: bool) -> String {
    match nodes {
        [] => name.to_string(),
        all if verbose => all.join(" + "),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} + {}", rest.len()),
    }
}

fn difference_cells(d: &Difference) -> [String; 3] {
    [decibels(d.sqnr()), format!("{:.4}", d.cosine()), format!("{:.3} of {:.3}", d.largest, d.magnitude)]
}

fn cells(line: &Line, verbose: bool) -> Vec<String> {
    let mut cells = vec![
        cut(&nodes_text(&line.nodes, &line.name, verbose), 48, verbose),
        cut(&line.name, 32, verbose),
        line.alone.map_or("-".into(), |alone| decibels(alone.sqnr())),
    ];
    cells.extend(difference_cells(&line.all));
    cells.push(line.cause().map_or(String::new(), cause_text));
    cells
}

/// The report for people.
fn text(report: &Report, right: &str, verbose: bool) -> String {
    const SHOWN: usize = 20;
    let Report { samples, outputs, lines, gains } = report;
    let mut out = match samples {
        0 => format!("outputs against {right}\n\n"),
        n => format!(
            "{} against {right} over {n} samples\n\noutputs\n",
            if lines.is_empty() { "outputs" } else { "INT8" }
        ),
    };
    let output = |(name, _, d): &(String, Vec<String>, Difference)| {
        [cut(name, 48, verbose)].into_iter().chain(difference_cells(d)).collect()
    };
    out += &table(&["tensor", ">dB", ">cosine", ">max difference"], outputs.iter().map(output));
    if lines.is_empty() {
        return out;
    }
    let headings = ["nodes", "tensor", ">alone dB", ">all dB", ">cosine", ">max difference", "by"];
    let shown = if verbose { lines.len() } else { lines.len().min(SHOWN) };
    out += "\ntensors, from the op that loses most by itself\n";
    out += &table(&headings, lines[..shown].iter().map(|line| cells(line, verbose)));
    if shown < lines.len() {
        out += &format!("{} more; -v shows all\n", lines.len() - shown);
    }
    match (gains, choices(lines).first()) {
        (Some(gains), _) => out += &gains_text(gains, verbose),
        (None, Some(worst)) => {
            out += &format!(
                "next     --per-op says what the worst ops gain in f32; --keep-fp32 '{}' keeps the first\n",
                worst.nodes[0]
            );
        }
        (None, None) => {}
    }
    out
}

fn gains_text(gains: &Gains, verbose: bool) -> String {
    let line = |gain: &Gain| {
        vec![
            cut(&gain.nodes.join(" "), 64, verbose),
            decibels(gain.score),
            format!("{:+.1}", gain.score - gains.score),
            format!("{:.2}x", gain.seconds / gains.cost.seconds.max(1e-12)),
            format!("{:.1}", 100.0 * gain.share),
        ]
    };
    let head = ["in f32", ">outputs dB", ">gain dB", ">time of the model", ">% of the time in INT8"];
    let (score, ms) = (decibels(gains.score), 1e3 * gains.cost.seconds);
    format!("\nthe worst ops in f32, one by one; all in INT8 {score} dB, {ms:.3} ms\n")
        + &table(&head, gains.ops.iter().map(line))
}
