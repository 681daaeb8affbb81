//! Calibration as commands do it: ranges of a float model's tensors by a method on samples, and which ops have to stay in f32.

use crate::best::{self, Best};
use crate::failure::{Failure, Outcome};
use crate::mixed::{Mended, MixedArgs, Searched};
use crate::pair::Compared;
use crate::pictures::in_parallel;
use crate::quality::{self, Sample};
use crate::samples::{Part, Program, SampleArgs, Turn, turns};
use crate::ui::Ui;
use clap::Args;
use indicatif::ProgressBar;
use qc_compiler::ranges::Range;
use qc_compiler::seen::{Seen, Weights};
use qc_compiler::{Calibrator, CompileOptions, Compiler, Method, ModelFile, Observer, Ranges, Shapes};
use qc_runtime::{Elem, IoInfo};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

/// How ranges are found.
#[derive(Args, Clone, Debug)]
pub struct CalibrationArgs {
    /// How ranges are made of values: `auto` unless given; `hist`, `percentile` and `percentile-ends` take a percentage, as
    /// `percentile:99.9`
    #[arg(long, value_name = "NAME", requires = "data", value_parser = Method::from_str)]
    method: Option<Method>,
    /// Try several methods, and corrections of biases, and take what is best on the samples by --metric, or else by
    /// the least ratio of signal to error of an output
    #[arg(long, requires = "data", conflicts_with = "method")]
    best: bool,
    #[command(flatten)]
    mixed: MixedArgs,
}

/// The most runs that are looked at before values are counted; of few runs, as large a part.
const FIRST: usize = 8;

/// Ranges, and what is to be told about them.
pub struct Calibrated {
    pub ranges: Ranges,
    warnings: Vec<String>,
    /// Shapes of the model that samples were of.
    shapes: usize,
    /// Whether some samples were seen twice, to fill a run.
    filled_up: bool,
    best: Option<Best>,
    mixed: Option<Searched>,
    /// The score of a quantized model as it is.
    as_it_is: Option<f64>,
    seconds: f64,
}

impl From<Mended> for Calibrated {
    fn from(Mended { ranges, without, searched }: Mended) -> Calibrated {
        let (mixed, as_it_is) = (Some(searched), Some(without));
        let (warnings, best) = (Vec::new(), None);
        Calibrated { ranges, warnings, shapes: 1, filled_up: false, best, mixed, as_it_is, seconds: 0.0 }
    }
}

impl CalibrationArgs {
    /// The ranges of a model on samples. What is told about samples and ranges comes with them.
    ///
    /// # Errors
    /// As running the samples.
    pub fn find(
        &self,
        samples: &SampleArgs,
        options: &CompileOptions,
        file: &ModelFile,
        ui: Ui,
    ) -> Outcome<Calibrated> {
        let start = Instant::now();
        if self.mixed.metric.is_some() && !self.mixed.any() && !self.best {
            return Err(Failure::usage("--metric is for --target-drop and --best; give one of them, or leave it out"));
        }
        let is_quantized = self.mixed.any() && samples.compiler_of_first(options, file)?.is_quantized(file)?;
        if let Some(reference) = self.mixed.reference.as_ref().filter(|_| !is_quantized) {
            let text =
                "--ref is for a model that is quantized already, with --target-drop or --target-snr; this one is not";
            return Err(Failure::usage(format!("{}: {text}", reference.display())));
        }
        if is_quantized && (self.best || self.method.is_some()) {
            let text = "is quantized already, and --method and --best make ranges of float models; leave them out";
            return Err(Failure::usage(format!("{} {text}", file.path.display())));
        }
        let mut found = match is_quantized {
            true => self.mixed.mend(samples, options, file, ui)?.into(),
            false => self.ranges(samples, options, file, ui)?,
        };
        if self.mixed.any() && !is_quantized {
            let mixed = self.search(samples, &mut found.ranges, options, file, ui)?;
            found.mixed = Some(mixed);
        }
        found.seconds = start.elapsed().as_secs_f64();
        found.warnings.iter().for_each(|text| ui.warn(text));
        Ok(found)
    }

    /// Files that are read.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.mixed.reference.iter()
    }

    fn methods(&self) -> Vec<Method> {
        if self.best { best::methods() } else { vec![self.method.unwrap_or_default()] }
    }

    /// The ranges of one method, or the best ones.
    fn ranges(&self, data: &SampleArgs, options: &CompileOptions, file: &ModelFile, ui: Ui) -> Outcome<Calibrated> {
        let (all, mut found) = self.observe(data, &data.parts(options, file, ui)?, ui)?;
        if self.best {
            let what = Compared { options, file, reference: None };
            let tried = best::best(self.mixed.judged_by(), data, what, all, ui)?;
            (found.ranges, found.best) = (tried.0, Some(tried.1));
        }
        Ok(found)
    }

    /// Finds which ops have to be floats, and notes them with the ranges.
    fn search(
        &self,
        samples: &SampleArgs,
        ranges: &mut Ranges,
        options: &CompileOptions,
        file: &ModelFile,
        ui: Ui,
    ) -> Outcome<Searched> {
        let options = CompileOptions { ranges: Some(ranges.clone()), ..options.clone() };
        let what = Compared { options: &options, file, reference: None };
        let found = self.mixed.search(samples, what, &what.choices(samples, ui)?, ui)?;
        ranges.keep_fp32.clone_from(&found.found.kept);
        Ok(found)
    }

    /// The ranges of each method, and what is to be told, with those of the first.
    fn observe(&self, data: &SampleArgs, parts: &[Part<Calibrator>], ui: Ui) -> Outcome<(Vec<Ranges>, Calibrated)> {
        let methods = self.methods();
        let groups = turns(parts, data.limit())?;
        let mut seen = Seen::of(&methods, self.weights(data, &groups)?);
        let all = || groups.iter().flatten();
        let samples = all().map(|turn| turn.samples).sum();
        let bar = ui.progress(samples, "calibrate");
        let mut looked = Vec::new();
        for group in &groups {
            looked.extend(observe_group(data, group, &mut seen, &bar)?);
        }
        bar.finish_and_clear();
        looked.sort_by_key(|sample| sample.index);
        let names: Vec<String> = parts.iter().flat_map(names_of).collect();
        let (shapes, filled_up) = (groups.len(), all().any(|turn| turn.samples < turn.part.rows()));
        let warnings = quality::warnings(&looked, |i| names.get(i).cloned().unwrap_or_default());
        let first = parts.first().ok_or_else(|| Failure::content(&data.data, "holds no samples"))?;
        let by = |method: &Method| first.program.ranges_by(*method, &seen, samples, first.samples.preprocess());
        let all: Vec<Ranges> = methods.iter().map(by).collect();
        let ranges = all.first().cloned().unwrap_or_default();
        let (best, mixed, as_it_is) = (None, None, None);
        Ok((all, Calibrated { ranges, warnings, shapes, filled_up, best, mixed, as_it_is, seconds: 0.0 }))
    }

    /// How much channels and samples count, for methods that ask: by some of the first runs of all.
    fn weights(&self, data: &SampleArgs, groups: &[Vec<Turn<'_, Calibrator>>]) -> Outcome<Arc<Weights>> {
        let asked = self.methods().iter().any(Method::weighs);
        let Some((group, first)) = groups.first().and_then(|group| Some((group, group.first()?))).filter(|_| asked)
        else {
            return Ok(Arc::default());
        };
        let few = (group.len() / FIRST).clamp(1, FIRST);
        let program = &first.part.program;
        let make = || Ok(program.observer(Method::min_max())?);
        let work = |observer: &mut Observer<'_>, i: usize| {
            let Turn { part, run, number, .. } = &group[i];
            part.samples.fill(observer.context_mut(), *run, part.rows())?;
            observer.observe(*number)?;
            Ok(observer.take())
        };
        let (seen, _) = in_parallel(few, data.threads(), make, work)?;
        Ok(Arc::new(program.weights(&seen)))
    }
}

/// Names of a part's samples.
fn names_of(part: &Part<Calibrator>) -> Vec<String> {
    (0..part.count().unwrap_or(0)).map(|i| part.samples.name(i)).collect()
}

impl Calibrated {
    /// Fields for other programs.
    pub fn json(&self) -> Map<String, Value> {
        let (ranges, mixed) = (&self.ranges, self.mixed.as_ref());
        let fields = json!({
            "samples": ranges.samples,
            "shapes": self.shapes,
            "tensors": ranges.tensors.len(),
            "method": ranges.method,
            "preprocess": ranges.preprocess,
            "always_zero": always_zero(ranges),
            "keep_fp32": ranges.keep_fp32,
            "best": self.best.as_ref().map(Best::json),
            "score": mixed.map(|mixed| mixed.found.score),
            "rescaled": ranges.rescaled,
            "score_without": self.as_it_is.or(mixed.map(|mixed| mixed.found.without)),
            "target_reached": mixed.map(|mixed| mixed.found.reached),
            "ms": mixed.map(Searched::json),
            "warnings": self.warnings,
            "seconds": self.seconds,
        });
        fields.as_object().cloned().unwrap_or_default()
    }

    /// What was found, for people, of ranges by `how`.
    pub fn text(&self, how: &CalibrationArgs) -> String {
        let ranges = &self.ranges;
        let mixed = self.mixed.as_ref().map_or(String::new(), |found| how.mixed.text(found));
        if let Some(score) = self.as_it_is {
            return how.mixed.rescaled_text(score, ranges) + &mixed;
        }
        let (n, rate) = (ranges.samples, ranges.samples as f64 / self.seconds.max(1e-9));
        let of = if self.shapes > 1 { format!(" of {} shapes", self.shapes) } else { String::new() };
        let tensors = ranges.tensors.len();
        let mut text = format!("ranges   {tensors} tensors over {n} samples{of} ({rate:.0}/s), {}\n", ranges.method);
        if self.filled_up {
            text += "note     the last run was filled up with samples seen before\n";
        }
        text += &notes(ranges);
        text += &self.best.as_ref().map_or(String::new(), Best::text);
        text + &mixed
    }
}

/// Runs one program on all its samples; returns what they are like.
fn observe_group(
    data: &SampleArgs,
    group: &[Turn<'_, Calibrator>],
    seen: &mut Seen,
    bar: &ProgressBar,
) -> Outcome<Vec<Sample>> {
    let Some(program) = group.first().map(|turn| &turn.part.program) else { return Ok(Vec::new()) };
    let work = |observer: &mut Observer<'_>, i: usize| {
        let turn = &group[i];
        let rows = turn.part.rows();
        turn.part.samples.fill(observer.context_mut(), turn.run, rows)?;
        let mut samples = look(observer, turn.first, rows)?;
        samples.truncate(turn.samples);
        observer.observe(turn.number)?;
        bar.inc(turn.samples as u64);
        Ok(samples)
    };
    let none = seen.of_nothing();
    let make = || Ok(program.observer_of(none.clone())?);
    let (looked, observers) = in_parallel(group.len(), data.threads(), make, work)?;
    observers.into_iter().for_each(|o| seen.merge(&o.seen()));
    seen.ranges.merge(program.constants());
    Ok(looked.into_iter().flatten().collect())
}

impl Program for Calibrator {
    fn make(compiler: &Compiler, file: &ModelFile, at: &Shapes) -> Outcome<Calibrator> {
        Ok(compiler.calibrator_at(file, at)?)
    }

    fn inputs(&self) -> &[IoInfo] {
        Calibrator::inputs(self)
    }
}

/// Tensors that were nothing but 0.
fn always_zero(ranges: &Ranges) -> Vec<&str> {
    ranges.tensors.iter().filter(|(_, r)| r.min == 0.0 && r.max == 0.0).map(|(name, _)| name.as_str()).collect()
}

/// What the user should know about the ranges.
fn notes(ranges: &Ranges) -> String {
    if ranges.tensors.is_empty() {
        return "note     the model has no float tensors; it compiles with or without this file\n".into();
    }
    let text = clipped(ranges);
    let names = match &always_zero(ranges)[..] {
        [] => return text,
        [first, second, rest @ ..] if rest.len() > 1 => format!("{first}, {second} and {} more", rest.len()),
        few => few.join(", "),
    };
    text + &format!(
        "note     0 in every sample: {names}; ops that read it stay f32, unless the file gets a range for it\n"
    )
}

/// The tensors of which a range leaves values out, in words.
fn clipped(ranges: &Ranges) -> String {
    let share = |r: &Range| r.seen.map(|[low, high]| (r.max - r.min) / (high - low));
    let parts = ranges.tensors.iter().filter_map(|(name, r)| Some((share(r)?, name)));
    let Some((least, name)) = parts.clone().min_by(|a, b| a.0.total_cmp(&b.0)) else { return String::new() };
    let (n, percent) = (parts.count(), least * 100.0);
    format!("clipped  {n} tensors; most of all {name}, whose range is {percent:.0} % of what was seen\n")
}

/// What the samples of a run that is about to begin are like; rows of the leading dimension are samples.
fn look(observer: &mut Observer<'_>, first: usize, rows: usize) -> Outcome<Vec<Sample>> {
    let mut samples: Vec<Sample> = (0..rows).map(|row| Sample::new(first + row)).collect();
    let context = observer.context_mut();
    for i in 0..context.inputs().len() {
        let io = &context.inputs()[i];
        if io.elem != Elem::F32 {
            continue;
        }
        let leading = io.shape.first() == Some(&rows);
        let values = context.input_mut::<f32>(i, 1)?;
        let n = values.len().checked_div(rows).filter(|n| leading && *n > 0).unwrap_or(values.len());
        samples.iter_mut().zip(values.chunks(n.max(1))).for_each(|(sample, values)| sample.see(values));
    }
    Ok(samples)
}
