//! `qc calibrate`: ranges of a float model's tensors on samples.

use super::compare;
use crate::args::{LimitArgs, ModelArgs};
use crate::failure::{Failure, Outcome};
use crate::mixed::MixedArgs;
use crate::paths::Paths;
use crate::pictures::in_parallel;
use crate::quality::{self, Sample};
use crate::samples::{Part, Program, SampleArgs};
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::ranges::Range;
use qc_compiler::seen::Seen;
use qc_compiler::{
    Calibrator, CompileOptions, Compiler, Method, ModelFile, Observer, Ranges, ShapeSpec, Shapes, mixed,
};
use qc_runtime::{Elem, IoInfo};
use serde_json::json;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

/// Find the ranges of a float model's tensors on sample data.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc calibrate resnet50.onnx --data pictures/ --preprocess imagenet -n 200 -o ranges.json
  qc calibrate model.pdmodel --data samples.npz -o ranges.json
  qc calibrate encoder.onnx --data lengths/ -o ranges.json        (a file of samples for each length)
  qc calibrate detector.onnx --data samples/ -o ranges.json --target-drop 1%     (and which ops have to stay in f32)")]
pub struct Calibrate {
    /// A float model
    model: PathBuf,
    #[command(flatten)]
    samples: SampleArgs,
    /// The ranges file
    #[arg(short, long, value_name = "RANGES.json")]
    out: PathBuf,
    /// How ranges are made of values; `hist`, `percentile` and `percentile-ends` take a percentage, as `percentile:99.9`
    #[arg(long, value_name = "NAME", default_value = "minmax", value_parser = Method::from_str)]
    method: Method,
    /// Paddle's combined parameters, if not beside the model
    #[arg(long, value_name = "FILE")]
    params: Option<PathBuf>,
    /// Shape of an input, as for `qc compile`
    #[arg(long, value_name = "NAME[DIMS]", value_parser = ShapeSpec::from_str)]
    shape: Vec<ShapeSpec>,
    #[command(flatten)]
    mixed: MixedArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// What was found.
struct Found {
    ranges: Ranges,
    warnings: Vec<String>,
    /// Shapes of the model that samples were of.
    shapes: usize,
    /// Whether some samples were seen twice, to fill a run.
    filled_up: bool,
}

impl Calibrate {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        Paths::default()
            .reads([&self.model, &self.samples.data])
            .reads(&self.params)
            .writes([&self.out])
            .writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let (params, shape, limits) = (self.params.clone(), self.shape.clone(), self.limits.clone());
        let options = ModelArgs { params, shape, limits, ..ModelArgs::default() }.options()?;
        let file = ModelFile::open_within(&self.model, self.params.as_deref(), &options.limits)?;
        let parts = self.samples.parts(&options, &file, ui)?;
        self.paths().reads(&file.files_read()).check()?;
        let start = Instant::now();
        let Found { mut ranges, warnings, shapes, filled_up } = self.observe(&parts, ui)?;
        let mixed = if self.mixed.any() { Some(self.search(&mut ranges, &options, &file, ui)?) } else { None };
        qc_compiler::write_whole(&self.out, ranges.to_json().as_bytes())?;
        let seconds = start.elapsed().as_secs_f64();
        warnings.iter().for_each(|text| ui.warn(text));
        let json = || {
            json!({
                "schema": "qc.calibrate/1",
                "out": self.out,
                "samples": ranges.samples,
                "shapes": shapes,
                "tensors": ranges.tensors.len(),
                "method": ranges.method,
                "preprocess": ranges.preprocess,
                "always_zero": always_zero(&ranges),
                "keep_fp32": ranges.keep_fp32,
                "score": mixed.as_ref().map(|found| found.score),
                "score_without": mixed.as_ref().map(|found| found.without),
                "target_reached": mixed.as_ref().map(|found| found.reached),
                "warnings": warnings,
                "seconds": seconds,
            })
        };
        ui.report(&self.json, json, || {
            let (n, rate) = (ranges.samples, ranges.samples as f64 / seconds.max(1e-9));
            let out = self.out.display();
            let of = if shapes > 1 { format!(" of {shapes} shapes") } else { String::new() };
            let mut text = format!(
                "ranges   {} tensors over {n} samples{of} ({rate:.0}/s), {}\n",
                ranges.tensors.len(),
                ranges.method
            );
            if filled_up {
                text += "note     the last run was filled up with samples seen before\n";
            }
            text += &notes(&ranges);
            text += &mixed.as_ref().map_or(String::new(), |found| self.mixed.text(found));
            text += &format!("wrote    {out}\nnext     qc compile {} -o OUT.so --ranges {out}\n", self.model.display());
            text
        })
    }

    /// Finds which ops have to be floats, and notes them with the ranges.
    fn search(&self, ranges: &mut Ranges, options: &CompileOptions, file: &ModelFile, ui: Ui) -> Outcome<mixed::Found> {
        let options = CompileOptions { ranges: Some(ranges.clone()), ..options.clone() };
        let choices = compare::choices(&self.samples, &options, file, ui)?;
        let found = self.mixed.search(&self.samples, &options, file, &choices, ui)?;
        ranges.keep_fp32.clone_from(&found.kept);
        Ok(found)
    }

    fn observe(&self, parts: &[Part<Calibrator>], ui: Ui) -> Outcome<Found> {
        let mut seen = Seen::of(self.method);
        let (mut samples, mut shapes, mut filled_up) = (0, 0, false);
        let (mut looked, mut names) = (Vec::new(), Vec::new());
        for (i, part) in parts.iter().enumerate() {
            let n = part.count()?.min(self.samples.limit() - samples);
            if n == 0 {
                continue;
            }
            looked.extend(self.observe_part(part, (samples, n), &mut seen, ui)?);
            names.extend((0..n).map(|i| part.samples.name(i)));
            filled_up |= n.div_ceil(part.rows()) * part.rows() > n;
            seen.ranges.merge(part.program.constants());
            let first_of_its_shape = parts[..i].iter().all(|other| !Arc::ptr_eq(&other.program, &part.program));
            (samples, shapes) = (samples + n, shapes + usize::from(first_of_its_shape));
        }
        let warnings = quality::warnings(&looked, |i| names.get(i).cloned().unwrap_or_default());
        let first = parts.first().ok_or_else(|| Failure::content(&self.samples.data, "holds no samples"))?;
        let ranges = first.program.ranges(seen, samples, first.samples.preprocess());
        Ok(Found { ranges, warnings, shapes, filled_up })
    }

    /// Runs the model on `n` samples of a part, of which the first is number `from` of all; returns what they are like.
    fn observe_part(
        &self,
        part: &Part<Calibrator>,
        (from, n): (usize, usize),
        seen: &mut Seen,
        ui: Ui,
    ) -> Outcome<Vec<Sample>> {
        let rows = part.rows();
        let bar = ui.progress(n, "calibrate");
        let work = |observer: &mut Observer<'_>, run: usize| {
            part.samples.fill(observer.context_mut(), run, rows)?;
            let seen = look(observer, from + run * rows, rows)?;
            observer.observe(from / rows + run)?;
            bar.inc(rows as u64);
            Ok(seen)
        };
        let make = || Ok(part.program.observer(self.method)?);
        let (looked, observers) = in_parallel(n.div_ceil(rows), self.samples.threads(), make, work)?;
        bar.finish_and_clear();
        observers.into_iter().for_each(|o| seen.merge(&o.seen()));
        Ok(looked.into_iter().flatten().take(n).collect())
    }
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
