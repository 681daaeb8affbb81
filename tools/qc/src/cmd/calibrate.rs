//! `qc calibrate`: ranges of a float model's tensors on samples.

use crate::args::{LimitArgs, ModelArgs};
use crate::arrays::{self, batch_of, feed_rows};
use crate::failure::{Failure, Outcome, USAGE};
use crate::paths::Paths;
use crate::pictures::{
    Listed, PresetArg, default_threads, folder, folder_of_list, in_parallel, is_numpy, numpy_files, read_list,
};
use crate::quality::{self, Sample};
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::Method;
use qc_compiler::ranges::Range;
use qc_compiler::seen::Seen;
use qc_compiler::{Calibrator, CompileOptions, Compiler, ModelFile, Observer, Ranges, ShapeSpec};
use qc_ir::HostTensor;
use qc_runtime::Elem;
use qc_runtime::pictures::{Preset, Size};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

/// Find the ranges of a float model's tensors on sample data.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc calibrate resnet50.onnx --data pictures/ --preprocess imagenet -n 200 -o ranges.json
  qc calibrate model.pdmodel --data samples.npz -o ranges.json
  qc calibrate encoder.onnx --data lengths/ -o ranges.json        (a file of samples for each length)")]
pub struct Calibrate {
    /// A float model
    model: PathBuf,
    /// Samples: .npy or .npz (arrays named as inputs), a folder of such files, each of its own shape, or of pictures, or a
    /// list with lines of `<file> [<class>]`
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
    /// How ranges are made of values; `hist`, `percentile` and `percentile-ends` take a percentage, as `percentile:99.9`
    #[arg(long, value_name = "NAME", default_value = "minmax", value_parser = Method::from_str)]
    method: Method,
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
    Arrays { tensors: Vec<HostTensor>, name: String },
    /// Files.
    Pictures { list: Vec<Listed>, dir: PathBuf, preset: &'a Preset, size: Size },
}

/// Samples of one shape of the model.
struct Part {
    calibrator: Calibrator,
    samples: Samples<'static>,
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
        let parts = self.parts(&options, &file, ui)?;
        self.paths().reads(&file.files_read()).check()?;
        let start = Instant::now();
        let Found { ranges, warnings, shapes, filled_up } = self.observe(&parts, ui)?;
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
            text += &format!("wrote    {out}\nnext     qc compile {} -o OUT.so --ranges {out}\n", self.model.display());
            text
        })
    }

    fn observe(&self, parts: &[Part], ui: Ui) -> Outcome<Found> {
        let mut seen = Seen::of(self.method);
        let (mut samples, mut shapes, mut filled_up) = (0, 0, false);
        let (mut looked, mut names) = (Vec::new(), Vec::new());
        let limit = self.n.map_or(usize::MAX, |n| n as usize);
        for part in parts {
            let n = part.samples()?.min(limit - samples);
            if n == 0 {
                continue;
            }
            looked.extend(self.observe_part(part, (samples, n), &mut seen, ui)?);
            names.extend((0..n).map(|i| part.samples.name(i)));
            filled_up |= n.div_ceil(part.rows()) * part.rows() > n;
            seen.ranges.merge(part.calibrator.constants());
            (samples, shapes) = (samples + n, shapes + 1);
        }
        let warnings = quality::warnings(&looked, |i| names.get(i).cloned().unwrap_or_default());
        let spec = match parts.first().map(|part| &part.samples) {
            Some(Samples::Pictures { preset, .. }) => Some(preset.to_string()),
            _ => None,
        };
        let first = parts.first().ok_or_else(|| Failure::content(&self.data, "holds no samples"))?;
        Ok(Found { ranges: first.calibrator.ranges(seen, samples, spec), warnings, shapes, filled_up })
    }

    /// Runs the model on `n` samples of a part, of which the first is number `from` of all; returns what they are like.
    fn observe_part(&self, part: &Part, (from, n): (usize, usize), seen: &mut Seen, ui: Ui) -> Outcome<Vec<Sample>> {
        let rows = part.rows();
        let bar = ui.progress(n, "calibrate");
        let threads = self.threads.map_or_else(default_threads, usize::from);
        let work = |observer: &mut Observer<'_>, run: usize| {
            part.samples.fill(observer, run, rows)?;
            let seen = look(observer, from + run * rows, rows)?;
            observer.observe(from / rows + run)?;
            bar.inc(rows as u64);
            Ok(seen)
        };
        let make = || Ok(part.calibrator.observer(self.method)?);
        let (looked, observers) = in_parallel(n.div_ceil(rows), threads, make, work)?;
        bar.finish_and_clear();
        observers.into_iter().for_each(|o| seen.merge(&o.seen()));
        Ok(looked.into_iter().flatten().take(n).collect())
    }

    /// The samples by shape of the model, each with the model compiled for it.
    fn parts(&self, options: &CompileOptions, file: &ModelFile, ui: Ui) -> Outcome<Vec<Part>> {
        let is_dir = std::fs::metadata(&self.data).map_err(|e| Failure::io(&self.data, &e))?.is_dir();
        let arrays = match is_dir {
            true => numpy_files(&self.data)?,
            false if is_numpy(&self.data)? => vec![self.data.clone()],
            false => Vec::new(),
        };
        if !arrays.is_empty() && self.preset.preset.is_none() {
            return arrays.iter().map(|path| arrays_part(options, file, path, is_dir)).collect();
        }
        if !arrays.is_empty() && !is_dir {
            return Err(Failure::usage("--preprocess is for pictures; arrays are taken as they are"));
        }
        let Some(preset) = self.preset.preset else {
            return Err(Failure::usage("pictures need --preprocess: how they become numbers; -h lists presets"));
        };
        let (list, dir) = match is_dir {
            true => {
                let (list, others) = folder(&self.data)?;
                quality::skipped(&others).iter().for_each(|text| ui.warn(text));
                (list, self.data.clone())
            }
            false => {
                let dir = self.image_dir.clone().unwrap_or_else(|| folder_of_list(&self.data));
                (read_list(&self.data)?, dir)
            }
        };
        let calibrators = Compiler::new(options.clone()).calibrators(file)?;
        let shapes = calibrators.len();
        let one = |(i, calibrator): (usize, Calibrator)| {
            let size = picture_size(&calibrator, preset)?;
            // Shapes take turns; where there are more of them than pictures, each still gets one.
            let turn = list.iter().skip(i).step_by(shapes).cloned().collect::<Vec<Listed>>();
            let list = if turn.is_empty() { list.iter().cycle().skip(i).take(1).cloned().collect() } else { turn };
            Ok(Part { calibrator, samples: Samples::Pictures { list, dir: dir.clone(), preset, size } })
        };
        calibrators.into_iter().enumerate().map(one).collect()
    }
}

/// The samples of one file of arrays, perhaps of several, and the model at their shape.
fn arrays_part(options: &CompileOptions, file: &ModelFile, path: &Path, several: bool) -> Outcome<Part> {
    let mut arrays = arrays::read(path)?;
    let data = arrays.iter().map(|(name, t)| (name.clone(), t.dims().to_vec())).collect();
    let mut compiler = Compiler::new(CompileOptions { data, ..options.clone() });
    let named: Vec<_> = arrays.iter().filter_map(|(name, t)| Some((name.clone()?, t.clone()))).collect();
    // Arrays whose values the model's shapes or branches depend on are constants of what is compiled here.
    let constant = compiler.take_values(file, &named);
    arrays.retain(|(name, _)| name.as_ref().is_none_or(|name| !constant.contains(name)));
    let calibrator = compiler.calibrator(file)?;
    let tensors = arrays::assign(calibrator.inputs(), vec![(None, arrays)])?;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned() + " ");
    let name = if several { name } else { String::new() };
    Ok(Part { calibrator, samples: Samples::Arrays { tensors, name } })
}

/// The size of the pictures that a model takes.
fn picture_size(calibrator: &Calibrator, preset: &Preset) -> Outcome<Size> {
    let [io] = calibrator.inputs() else {
        return Err(Failure::usage("the model has several inputs; give their samples as an .npz file"));
    };
    if io.elem != Elem::F32 {
        return Err(Failure::new(USAGE, format!("input '{}' is {io}; pictures need f32", io.name)));
    }
    Ok(preset.size_of(&io.shape)?)
}

impl Part {
    /// Samples per run.
    fn rows(&self) -> usize {
        self.calibrator.samples()
    }

    /// How many samples there are.
    fn samples(&self) -> Outcome<usize> {
        Ok(match &self.samples {
            Samples::Arrays { tensors, .. } => batches(&self.calibrator, tensors)? * self.rows(),
            Samples::Pictures { list, .. } => list.len(),
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

impl Samples<'_> {
    /// What sample `i` is called.
    fn name(&self, i: usize) -> String {
        match self {
            Samples::Arrays { name, .. } => format!("{name}#{i}"),
            Samples::Pictures { list, .. } => list[i % list.len()].file.clone(),
        }
    }

    /// Fills the inputs for one run.
    fn fill(&self, observer: &mut Observer<'_>, run: usize, rows: usize) -> Outcome {
        match self {
            Samples::Arrays { tensors, .. } => {
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
