//! `qc accuracy`: top-1 and top-5 over a list of labelled pictures.

use crate::args::ModelArgs;
use crate::arrays::{self, Named};
use crate::failure::{CHECK, Failure, Outcome};
use crate::given::{Given, Pictures};
use crate::model::{Model, classes, open, top};
use crate::paddle_bin::PaddleBin;
use crate::paths::Paths;
use crate::pictures::{Listed, default_threads, in_parallel, read_text};
use crate::preprocess::{self, PresetArg};
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_ir::HostTensor;
use qc_runtime::Context;
use qc_runtime::pictures::{Preset, Size};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Classes of each picture that are kept.
const KEPT: usize = 5;

/// Measure accuracy over labelled pictures.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc accuracy resnet50.so --data val_list.txt --image-dir val/ --preprocess imagenet
  qc accuracy digits.so --data test.npz
  qc accuracy resnet50.so --data int8_full_val.bin
  qc accuracy int8.so --data val/list.txt --preprocess imagenet --compare float.txt --min-top1 76")]
pub struct Accuracy {
    /// A model, compiled in this process, or a compiled .so
    model: PathBuf,
    /// Samples with their classes: a list of pictures, lines of `<file> <class>`, a folder with one of pictures for each class,
    /// Paddle's .bin, or an .npz file with arrays named as inputs and one of classes
    #[arg(long, value_name = "SRC", alias = "labels")]
    data: PathBuf,
    /// The folder a list's files are in; the list's own by default
    #[arg(long, value_name = "DIR", alias = "images")]
    image_dir: Option<PathBuf>,
    #[command(flatten)]
    preset: PresetArg,
    /// The array of classes in an .npz file
    #[arg(long, value_name = "NAME", default_value = "label")]
    label_array: String,
    /// Which accuracies to report, up to 5
    #[arg(long, value_name = "K,...", value_delimiter = ',', default_value = "1,5",
          value_parser = clap::value_parser!(u8).range(1..=5))]
    topk: Vec<u8>,
    /// Pictures per run
    #[arg(short, long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Pictures worked on at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Use the first N pictures only
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n: Option<u32>,
    /// Number of the first class among the outputs: 1 for models with a background class
    #[arg(long, value_name = "N", default_value_t = 0)]
    class_offset: u32,
    /// The output with the scores; the first with more than one value by default
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Write lines of `<file> <class> <best five classes>`
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Report how often the best class is that of a file written with --predictions. Quantized scores are often equal;
    /// a picture agrees if the file's class has the best score, alone or with others
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Fail with status 1 below this top-1 accuracy in percent
    #[arg(long, value_name = "PERCENT")]
    min_top1: Option<f64>,
    /// Fail with status 1 below this agreement with --compare in percent
    #[arg(long, value_name = "PERCENT", requires = "compare")]
    min_agreement: Option<f64>,
    #[command(flatten)]
    options: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// The best classes of one picture.
struct Best {
    /// Best first; equal scores by class.
    classes: Vec<i64>,
    /// All classes that have the best score.
    tied: Vec<i64>,
}

/// What was found.
struct Found {
    /// Right answers among the best k, per entry of `--topk`.
    right: Vec<(u8, usize)>,
    /// Pictures.
    n: usize,
    /// Agreements and pictures compared.
    agreement: Option<(usize, usize)>,
    /// Pictures whose best score several classes have.
    ties: usize,
    /// Pictures that are right, each counting by the chance that one of its best classes, drawn blindly, is the right one.
    drawn: f64,
    seconds: f64,
}

impl Accuracy {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let read = std::iter::once(&self.data).chain(&self.image_dir).chain(&self.compare).chain(self.options.files());
        Paths::default().reads([&self.model]).reads(read).writes(&self.predictions).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let baseline = self.compare.as_deref().map(read_predictions).transpose()?;
        let model = open(&self.model, &self.options, usize::from(self.batch), Vec::new())?;
        let (list, source) = self.source(&model, ui)?;
        self.check_classes(&model, &list)?;
        let start = Instant::now();
        let best = self.predict(&model, &source, &list, ui)?;
        let found = self.judge(&list, &best, baseline.as_ref(), start.elapsed().as_secs_f64())?;
        if let Some(path) = &self.predictions {
            qc_compiler::write_whole(path, predictions(&list, &best).as_bytes())?;
        }
        ui.result(&self.json, || found.json(), || found.text())?;
        self.check(&found)
    }

    /// What is to be classified, and how it gets into the model.
    fn source(&self, model: &Model, ui: Ui) -> Outcome<(Vec<Listed>, Source)> {
        let given = Given::open(&self.data, self.image_dir.as_deref())?;
        if self.preset.is_given() && !matches!(given, Given::Pictures(_)) {
            return Err(Failure::usage("--preprocess is for pictures; arrays are taken as they are"));
        }
        let (mut list, source) = match given {
            Given::Arrays(arrays) => self.arrays(model, &self.data, arrays)?,
            Given::Bin(bin) => of_bin(model, bin)?,
            Given::Pictures(Pictures { list, dir, .. }) => self.pictures(model, list, dir, ui)?,
        };
        list.truncate(self.n.map_or(usize::MAX, |n| n as usize));
        Ok((list, source))
    }

    /// Refuses classes that the model does not have: no answer could be right.
    fn check_classes(&self, model: &Model, list: &[Listed]) -> Outcome {
        let output = model.scores_output(self.output.as_deref())?;
        let n = classes(&model.predictor.outputs()[output]) as i64;
        let first = -i64::from(self.class_offset);
        let beyond = |l: &&Listed| l.label.is_some_and(|class| !(first..first + n).contains(&class));
        let Some(bad) = list.iter().find(beyond) else { return Ok(()) };
        let (class, last) = (bad.label.unwrap_or_default(), first + n - 1);
        let text = format!("`{}` is of class {class}; the model's classes are {first} to {last}", bad.file);
        Err(Failure::content(&self.data, format!("{text}; --class-offset says where they begin")))
    }

    fn pictures(&self, model: &Model, list: Vec<Listed>, dir: PathBuf, ui: Ui) -> Outcome<(Vec<Listed>, Source)> {
        let preset = self.preset.get()?.ok_or_else(unprepared)?;
        let labels = &self.data;
        if let Some(bad) = list.iter().find(|l| l.label.is_none()) {
            return Err(Failure::content(labels, format!("`{}` has no class; lines are `<file> <class>`", bad.file)));
        }
        preprocess::compare(preprocess::recorded(&model.note), &preset, ui);
        let size = preset.size_of(&model.picture_input()?.shape)?;
        Ok((list, Source::Pictures { preset, size, dir }))
    }

    fn arrays(&self, model: &Model, data: &Path, mut arrays: Vec<Named>) -> Outcome<(Vec<Listed>, Source)> {
        let at = arrays.iter().position(|(name, _)| name.as_deref() == Some(&self.label_array));
        let at =
            at.ok_or_else(|| Failure::content(data, format!("holds no array '{}' of classes", self.label_array)))?;
        let labels = arrays.swap_remove(at).1;
        let tensors = arrays::assign(model.predictor.inputs(), vec![(None, arrays)])?;
        for (io, tensor) in model.predictor.inputs().iter().zip(&tensors) {
            let n = arrays::batch_of(io, tensor)?;
            if !io.batched || n != labels.len() {
                let text = format!("input '{}' gets {n} samples, there are {} classes", io.name, labels.len());
                return Err(Failure::content(data, text));
            }
        }
        let listed = |i: usize| Listed { file: i.to_string(), label: labels.int(i) };
        Ok(((0..labels.len()).map(listed).collect(), Source::Arrays(tensors)))
    }

    /// The best classes of every picture.
    fn predict(&self, model: &Model, source: &Source, list: &[Listed], ui: Ui) -> Outcome<Vec<Best>> {
        let output = model.scores_output(self.output.as_deref())?;
        let rows = match model.predictor.inputs() {
            [io, ..] if !io.batched => io.shape.first().copied().unwrap_or(1),
            _ => model.predictor.batch_near(usize::from(self.batch)),
        };
        let bar = ui.progress(list.len(), "accuracy");
        let threads = self.threads.map_or_else(default_threads, usize::from);
        let job = Job { source, output, offset: i64::from(self.class_offset) };
        let work = |context: &mut Context, chunk: usize| {
            let from = chunk * rows;
            let part = &list[from..(from + rows).min(list.len())];
            let best = job.run(context, part, from, rows)?;
            bar.inc(part.len() as u64);
            Ok(best)
        };
        let (best, _) = in_parallel(list.len().div_ceil(rows), threads, || model.context(Some(1)), work)?;
        bar.finish_and_clear();
        Ok(best.into_iter().flatten().collect())
    }

    fn judge(
        &self,
        list: &[Listed],
        best: &[Best],
        baseline: Option<&HashMap<String, i64>>,
        seconds: f64,
    ) -> Outcome<Found> {
        let hits = |k: usize| {
            let hit = |(l, b): &(&Listed, &Best)| b.classes.iter().take(k).any(|&class| Some(class) == l.label);
            list.iter().zip(best).filter(hit).count()
        };
        let right = self.topk.iter().map(|&k| (k, hits(usize::from(k)))).collect();
        let agreement = baseline.map(|known| {
            let known = list.iter().zip(best).filter_map(|(l, b)| Some((known.get(&l.file)?, b)));
            let pairs: Vec<(&i64, &Best)> = known.collect();
            (pairs.iter().filter(|(class, b)| b.tied.contains(class)).count(), pairs.len())
        });
        if let (Some((_, 0)), Some(path)) = (agreement, &self.compare) {
            return Err(Failure::content(path, "names no picture of the list"));
        }
        let ties = best.iter().filter(|b| b.tied.len() > 1).count();
        let drawn = drawn(list, best);
        Ok(Found { right, n: list.len(), agreement, ties, drawn, seconds })
    }

    fn check(&self, found: &Found) -> Outcome {
        if let Some(least) = self.min_top1 {
            let top1 = found.right.iter().find(|(k, _)| *k == 1).map(|(_, n)| percent(*n, found.n));
            let top1 = top1.ok_or_else(|| Failure::usage("--min-top1 needs 1 among --topk"))?;
            if top1 < least {
                return Err(Failure::new(CHECK, format!("FAILED: top-1 {top1:.2} % is below {least} %")));
            }
        }
        if let (Some(least), Some((same, n))) = (self.min_agreement, found.agreement)
            && percent(same, n) < least
        {
            let text = format!("FAILED: agreement {:.2} % is below {least} %", percent(same, n));
            return Err(Failure::new(CHECK, text));
        }
        Ok(())
    }
}

/// The refusal of pictures without a preset.
fn unprepared() -> Failure {
    Failure::usage("--preprocess is missing: how the model's pictures are prepared; -h lists presets")
}

/// The pictures of Paddle's binary form.
fn of_bin(model: &Model, bin: PaddleBin) -> Outcome<(Vec<Listed>, Source)> {
    bin.fits(model.picture_input()?)?;
    let labels = bin.labels()?.into_iter().enumerate();
    let list = labels.map(|(i, label)| Listed { file: format!("#{i}"), label: Some(label) }).collect();
    Ok((list, Source::Bin(bin)))
}

/// Where samples come from.
enum Source {
    /// Files.
    Pictures { preset: Preset, size: Size, dir: PathBuf },
    /// Paddle's binary form.
    Bin(PaddleBin),
    /// One tensor per input.
    Arrays(Vec<HostTensor>),
}

/// What each thread needs to know.
struct Job<'a> {
    source: &'a Source,
    output: usize,
    offset: i64,
}

impl Job<'_> {
    /// The best classes of the samples of `part`, which begin at `from`; a full run has `rows` of them.
    fn run(&self, context: &mut Context, part: &[Listed], from: usize, rows: usize) -> Outcome<Vec<Best>> {
        // A model for one batch only is filled up; the rest of its answers is dropped.
        let batched = context.inputs().first().is_none_or(|io| io.batched);
        let batch = if !batched { 1 } else { part.len() };
        debug_assert!(part.len() <= rows);
        match self.source {
            Source::Pictures { preset, size, dir } => {
                let buffer = context.input_mut::<f32>(0, batch)?;
                for (listed, to) in part.iter().zip(buffer.chunks_exact_mut(preset.values(*size))) {
                    preset.load(&dir.join(&listed.file), *size, to)?;
                }
            }
            Source::Bin(bin) => {
                let buffer = context.input_mut::<f32>(0, batch)?;
                for (i, to) in buffer.chunks_exact_mut(bin.values).take(part.len()).enumerate() {
                    bin.load(from + i, to)?;
                }
            }
            Source::Arrays(tensors) => {
                for (i, tensor) in tensors.iter().enumerate() {
                    arrays::feed_rows(context, i, tensor, from, batch)?;
                }
            }
        }
        context.run()?;
        let n = classes(&context.outputs()[self.output]);
        let scores = context.output::<f32>(self.output)?;
        let class = |i: usize| i as i64 - self.offset;
        let best = |row: &[f32]| {
            let classes = top(row, KEPT);
            let best = classes.first().map_or(f32::NAN, |(_, score)| *score);
            let tied = row.iter().enumerate().filter(|(_, score)| **score == best).map(|(i, _)| class(i)).collect();
            Best { classes: classes.into_iter().map(|(i, _)| class(i)).collect(), tied }
        };
        Ok(scores.chunks_exact(n).take(part.len()).map(best).collect())
    }
}

/// The best class by file of a file written with `--predictions`.
fn read_predictions(path: &Path) -> Outcome<HashMap<String, i64>> {
    let text = read_text(path)?;
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_string(), words.nth(1)?.parse().ok()?))
    };
    let lines = text.lines().filter(|l| !l.trim().is_empty());
    let all: Option<HashMap<String, i64>> = lines.map(parse).collect();
    all.ok_or_else(|| Failure::content(path, "lines must be `<file> <class> <best classes>`"))
}

fn predictions(list: &[Listed], best: &[Best]) -> String {
    let line = |(l, b): (&Listed, &Best)| {
        let classes: Vec<String> = l.label.iter().chain(&b.classes).map(i64::to_string).collect();
        format!("{} {}\n", l.file, classes.join(" "))
    };
    list.iter().zip(best).map(line).collect()
}

/// How many pictures are right if one of the best classes of each is drawn blindly.
fn drawn(list: &[Listed], best: &[Best]) -> f64 {
    let chance = |(l, b): (&Listed, &Best)| match l.label {
        Some(class) if b.tied.contains(&class) => 1.0 / b.tied.len() as f64,
        _ => 0.0,
    };
    list.iter().zip(best).map(chance).sum()
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

impl Found {
    fn json(&self) -> Value {
        let mut all = Map::new();
        all.insert("schema".into(), json!("qc.accuracy/1"));
        all.insert("images".into(), json!(self.n));
        for (k, right) in &self.right {
            all.insert(format!("top{k}"), json!(percent(*right, self.n)));
        }
        all.insert("ties".into(), json!(self.ties));
        all.insert("top1_drawn".into(), json!(100.0 * self.drawn / self.n.max(1) as f64));
        if let Some((same, n)) = self.agreement {
            all.insert("agreement".into(), json!(percent(same, n)));
            all.insert("compared".into(), json!(n));
        }
        all.insert("images_per_s".into(), json!(self.n as f64 / self.seconds.max(1e-9)));
        Value::Object(all)
    }

    fn text(&self) -> String {
        let mut text = format!("pictures   {}  ({:.0}/s)\n", self.n, self.n as f64 / self.seconds.max(1e-9));
        for (k, right) in &self.right {
            text += &format!("top-{k}      {:.2} %\n", percent(*right, self.n));
        }
        if let Some((same, n)) = self.agreement {
            text += &format!("agreement  {:.2} %  ({} of {n} differ)\n", percent(same, n), n - same);
        }
        if self.ties > 0 {
            let drawn = 100.0 * self.drawn / self.n.max(1) as f64;
            let what = "pictures have several best classes, of which the first counts";
            text += &format!("ties       {} {what}; one drawn at random: top-1 {drawn:.2} %\n", self.ties);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tied_classes_share_a_right_answer() {
        let list = [3, 3, 3].map(|class| Listed { file: "x".into(), label: Some(class) });
        let best = [vec![3], vec![1, 3], vec![1, 2]].map(|tied| Best { classes: tied.clone(), tied });
        assert_eq!(drawn(&list, &best), 1.5);
    }
}
