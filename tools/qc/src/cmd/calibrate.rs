//! `qc calibrate`: ranges of a float model's tensors on samples.

use crate::args::{LimitArgs, ModelArgs};
use crate::arrays::{self, batch_of, feed_rows};
use crate::failure::{Failure, Outcome, USAGE};
use crate::paths::Paths;
use crate::pictures::{Listed, PresetArg, default_threads, folder, folder_of_list, in_parallel, is_numpy, read_list};
use crate::quality::{self, Sample};
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::ranges::MinMax;
use qc_compiler::{Calibrator, Compiler, ModelFile, Observer, Ranges, ShapeSpec};
use qc_ir::HostTensor;
use qc_runtime::Elem;
use qc_runtime::pictures::{Preset, Size};
use serde_json::json;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

/// Find the ranges of a float model's tensors on sample data.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc calibrate resnet50.onnx --data pictures/ --preprocess imagenet -n 200 -o ranges.json
  qc calibrate model.pdmodel --data samples.npz -o ranges.json")]
pub struct Calibrate {
    /// A float model
    model: PathBuf,
    /// Samples: .npy or .npz (arrays named as inputs), a folder of pictures, or a list with lines of `<file> [<class>]`
    #[arg(long, value_name = "SRC")]
    data: PathBuf,
    /// The ranges file
    #[arg(short, long, value_name = "RANGES.json")]
    out: PathBuf,
    #[command(flatten)]
    preset: PresetArg,
    /// The folder a list's files are in; the list's own by default
    #[arg(long, value_name = "DIR", alias = "images")]
    image_dir: Option<PathBuf>,
    /// Use the first N samples only
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n: Option<u32>,
    /// Samples worked on at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Paddle's combined parameters, if not beside the model
    #[arg(long, value_name = "FILE")]
    params: Option<PathBuf>,
    /// Shape of an input, as for `qc compile`
    #[arg(long, value_name = "NAME[DIMS]", value_parser = ShapeSpec::from_str)]
    shape: Vec<ShapeSpec>,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// Where samples come from.
enum Samples<'a> {
    /// One tensor per input; items of the leading dimension are samples.
    Arrays(Vec<HostTensor>),
    /// Files.
    Pictures { list: Vec<Listed>, dir: PathBuf, preset: &'a Preset, size: Size },
}

impl Calibrate {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        Paths::default()
            .reads([&self.model, &self.data])
            .reads(&self.params)
            .writes([&self.out])
            .writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let (params, shape, limits) = (self.params.clone(), self.shape.clone(), self.limits.clone());
        let options = ModelArgs { params, shape, limits, ..ModelArgs::default() }.options()?;
        let file = ModelFile::open_within(&self.model, self.params.as_deref(), &options.limits)?;
        let calibrator = Compiler::new(options).calibrator(&file)?;
        self.paths().reads(&file.files_read()).check()?;
        let start = Instant::now();
        let (ranges, runs, warnings) = self.observe(&calibrator, ui)?;
        qc_compiler::write_whole(&self.out, ranges.to_json().as_bytes())?;
        let seconds = start.elapsed().as_secs_f64();
        warnings.iter().for_each(|text| ui.warn(text));
        let json = || {
            json!({
                "schema": "qc.calibrate/1",
                "out": self.out,
                "samples": ranges.samples,
                "tensors": ranges.tensors.len(),
                "method": ranges.method,
                "preprocess": ranges.preprocess,
                "always_zero": always_zero(&ranges),
                "warnings": warnings,
                "seconds": seconds,
            })
        };
        ui.report(&self.json, json, || {
            let (n, rate) = (ranges.samples, ranges.samples as f64 / seconds.max(1e-9));
            let out = self.out.display();
            let mut text =
                format!("ranges   {} tensors over {n} samples ({rate:.0}/s), min-max\n", ranges.tensors.len());
            if runs * self.rows(&calibrator) > n {
                text += "note     the last run was filled up with samples seen before\n";
            }
            text += &notes(&ranges);
            text += &format!("wrote    {out}\nnext     qc compile {} -o OUT.so --ranges {out}\n", self.model.display());
            text
        })
    }

    /// Samples per run.
    fn rows(&self, calibrator: &Calibrator) -> usize {
        calibrator.inputs().first().and_then(|io| io.shape.first().copied()).unwrap_or(1).max(1)
    }

    fn observe(&self, calibrator: &Calibrator, ui: Ui) -> Outcome<(Ranges, usize, Vec<String>)> {
        let samples = self.samples(calibrator, ui)?;
        let rows = self.rows(calibrator);
        let limit = self.n.map_or(usize::MAX, |n| n as usize);
        let n = limit.min(match &samples {
            Samples::Arrays(tensors) => batches(calibrator, tensors)? * rows,
            Samples::Pictures { list, .. } => list.len(),
        });
        let runs = n.div_ceil(rows);
        let bar = ui.progress(n, "calibrate");
        let threads = self.threads.map_or_else(default_threads, usize::from);
        let work = |observer: &mut Observer<'_>, run: usize| {
            samples.fill(observer, run, rows)?;
            let seen = look(observer, run, rows)?;
            observer.observe()?;
            bar.inc(rows as u64);
            Ok(seen)
        };
        let (looked, observers) = in_parallel(runs, threads, || Ok(calibrator.observer()?), work)?;
        bar.finish_and_clear();
        let mut seen = MinMax::default();
        observers.into_iter().for_each(|o| seen.merge(&o.seen()));
        let spec = match &samples {
            Samples::Pictures { preset, .. } => Some(preset.to_string()),
            Samples::Arrays(_) => None,
        };
        let looked: Vec<Sample> = looked.into_iter().flatten().take(n).collect();
        let warnings = quality::warnings(&looked, |i| samples.name(i));
        Ok((calibrator.ranges(seen, n, spec), runs, warnings))
    }

    fn samples(&self, calibrator: &Calibrator, ui: Ui) -> Outcome<Samples<'static>> {
        let is_dir = std::fs::metadata(&self.data).map_err(|e| Failure::io(&self.data, &e))?.is_dir();
        if !is_dir && is_numpy(&self.data)? {
            if self.preset.preset.is_some() {
                return Err(Failure::usage("--preprocess is for pictures; arrays are taken as they are"));
            }
            let arrays = arrays::read(&self.data)?;
            return Ok(Samples::Arrays(arrays::assign(calibrator.inputs(), vec![(None, arrays)])?));
        }
        let Some(preset) = self.preset.preset else {
            return Err(Failure::usage("pictures need --preprocess: how they become numbers; -h lists presets"));
        };
        let [io] = calibrator.inputs() else {
            return Err(Failure::usage("the model has several inputs; give their samples as an .npz file"));
        };
        if io.elem != Elem::F32 {
            return Err(Failure::new(USAGE, format!("input '{}' is {io}; pictures need f32", io.name)));
        }
        let size = preset.size_of(&io.shape)?;
        Ok(match is_dir {
            true => {
                let (list, others) = folder(&self.data)?;
                quality::skipped(&others).iter().for_each(|text| ui.warn(text));
                Samples::Pictures { list, dir: self.data.clone(), preset, size }
            }
            false => {
                let dir = self.image_dir.clone().unwrap_or_else(|| folder_of_list(&self.data));
                Samples::Pictures { list: read_list(&self.data)?, dir, preset, size }
            }
        })
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
    let names = match &always_zero(ranges)[..] {
        [] => return String::new(),
        [first, second, rest @ ..] if rest.len() > 1 => format!("{first}, {second} and {} more", rest.len()),
        few => few.join(", "),
    };
    format!("note     0 in every sample: {names}; ops that read it stay f32, unless the file gets a range for it\n")
}

/// Runs that the arrays give: the same for every input.
fn batches(calibrator: &Calibrator, tensors: &[HostTensor]) -> Outcome<usize> {
    let mut all: Option<usize> = None;
    for (io, tensor) in calibrator.inputs().iter().zip(tensors) {
        let n = batch_of(io, tensor)?;
        if io.batched && *all.get_or_insert(n) != n {
            return Err(Failure::usage("the arrays of the inputs hold different numbers of samples"));
        }
    }
    Ok(all.unwrap_or(1))
}

/// What the samples of a run that is about to begin are like; rows of the leading dimension are samples.
fn look(observer: &mut Observer<'_>, run: usize, rows: usize) -> Outcome<Vec<Sample>> {
    let mut samples: Vec<Sample> = (0..rows).map(|row| Sample::new(run * rows + row)).collect();
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

impl Samples<'_> {
    /// What sample `i` is called.
    fn name(&self, i: usize) -> String {
        match self {
            Samples::Arrays(_) => format!("#{i}"),
            Samples::Pictures { list, .. } => list[i % list.len()].file.clone(),
        }
    }

    /// Fills the inputs for one run.
    fn fill(&self, observer: &mut Observer<'_>, run: usize, rows: usize) -> Outcome {
        match self {
            Samples::Arrays(tensors) => {
                for (i, tensor) in tensors.iter().enumerate() {
                    feed_rows(observer.context_mut(), i, tensor, run, 1)?;
                }
                Ok(())
            }
            Samples::Pictures { list, dir, preset, size } => {
                let buffer = observer.input_mut(0)?;
                for (row, to) in buffer.chunks_exact_mut(preset.values(*size)).enumerate() {
                    let listed = &list[(run * rows + row) % list.len()];
                    preset.load(&dir.join(&listed.file), *size, to)?;
                }
                Ok(())
            }
        }
    }
}
