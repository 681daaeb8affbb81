//! The samples of `qc accuracy`, of any kind, as tensors of a few at a time, and their labels.

use crate::arrays::{self, Named};
use crate::failure::{Failure, Outcome};
use crate::given::{Given, Pictures};
use crate::model::Model;
use crate::paddle_bin::PaddleBin;
use crate::paddle_text;
use crate::pictures::{Listed, read_text};
use crate::preprocess::{self, PresetArg};
use crate::ui::Ui;
use clap::Args;
use qc_ir::{Data, Elem, HostTensor};
use qc_runtime::pictures::{Preset, Size};
use std::path::{Path, PathBuf};

/// Stands for a step of a sequence that has no label.
const NO_LABEL: i64 = i64::MIN;

/// Where samples and labels are.
#[derive(Args, Debug)]
pub struct DataArgs {
    /// Samples with their classes: a list of pictures, lines of `<file> <class>`, a folder with one of pictures for each class,
    /// Paddle's .bin, an .npz file with arrays named as inputs and one of classes, or Paddle's text of tensors with --labels
    #[arg(long, value_name = "SRC", alias = "infer_data", required_unless_present = "labels")]
    data: Option<PathBuf>,
    /// The labels of --data, one line for each sample, where it holds none
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The folder a list's files are in; the list's own by default
    #[arg(long, value_name = "DIR", alias = "images")]
    image_dir: Option<PathBuf>,
    #[command(flatten)]
    preset: PresetArg,
    /// The array of classes in an .npz file; of several for each sample, negative ones are padding
    #[arg(long, value_name = "NAME", default_value = "label")]
    label_array: String,
    /// Use the first N samples only
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub n: Option<u32>,
}

/// What was found at the path of the samples, and labels that were given beside.
pub struct Loaded {
    given: Given,
    labels: Option<Labels>,
}

impl Loaded {
    /// The shapes of `batch` samples, which say what a model leaves open, of these inputs.
    pub fn shapes(&self, inputs: &[String], batch: usize) -> Vec<(Option<String>, Vec<usize>)> {
        let Given::Arrays(arrays) = &self.given else { return Vec::new() };
        let nameless = arrays.len() > 1 && arrays.iter().all(|(name, _)| name.is_none());
        let shape = |(i, (name, t)): (usize, &Named)| {
            let name = if nameless { Some(inputs.get(i)?) } else { name.as_ref() };
            let known = name.is_none_or(|name| inputs.contains(name));
            let dims = std::iter::once(batch).chain(t.dims().iter().skip(1).copied()).collect();
            known.then(|| (name.cloned(), dims))
        };
        arrays.iter().enumerate().filter_map(shape).collect()
    }
}

/// Samples and their labels.
pub struct Samples {
    source: Source,
    /// What they are called.
    pub names: Vec<String>,
    /// What is right.
    pub labels: Option<Labels>,
}

/// Labels, the same number for each sample.
pub struct Labels {
    /// For each sample.
    pub per: usize,
    values: Vec<i64>,
}

/// Where samples come from.
enum Source {
    /// Files.
    Pictures { preset: Box<Preset>, size: Size, dir: PathBuf },
    /// Paddle's binary form.
    Bin(PaddleBin),
    /// Arrays that models read.
    Arrays(Vec<Array>),
}

/// An array with one part for each sample.
struct Array {
    name: Option<String>,
    elem: Elem,
    /// Of the part of one sample, the first dim of which is 1 unless a sample has several rows.
    dims: Vec<usize>,
    bytes: Vec<u8>,
    /// Of the part of one sample.
    stride: usize,
}

impl DataArgs {
    /// The path of the samples. `--labels` alone is the older spelling of `--data`.
    pub fn path(&self) -> &Path {
        self.data.as_deref().or(self.labels.as_deref()).unwrap_or(Path::new(""))
    }

    /// The file of labels beside the samples.
    pub fn labels_beside(&self) -> Option<&Path> {
        self.labels.as_deref().filter(|_| self.data.is_some())
    }

    /// All paths.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.data.iter().chain(&self.labels).chain(&self.image_dir)
    }

    /// Looks at what is there.
    ///
    /// # Errors
    /// I/O, and files that hold no samples or labels.
    pub fn load(&self) -> Outcome<Loaded> {
        let path = self.path();
        let labels = self.labels_beside().map(read_labels).transpose()?;
        let given = match labels.is_some() && paddle_text::is_text(path)? {
            true => Given::Arrays(paddle_text::read(path)?),
            false => Given::open(path, self.image_dir.as_deref())?,
        };
        if self.preset.is_given() && !matches!(given, Given::Pictures(_)) {
            return Err(Failure::usage("--preprocess is for pictures; arrays are taken as they are"));
        }
        Ok(Loaded { given, labels })
    }

    /// The samples, at most `most`; `model` is one of those that will read them. Metrics of numbers need no labels.
    ///
    /// # Errors
    /// Data without a sample or label, and pictures that do not fit the model.
    pub fn samples(&self, loaded: Loaded, model: &Model, needs_labels: bool, most: usize, ui: Ui) -> Outcome<Samples> {
        let Loaded { given, labels: beside } = loaded;
        let mut samples = match given {
            Given::Arrays(arrays) => self.arrays(arrays, beside.is_none() && needs_labels)?,
            Given::Bin(bin) => of_bin(model, bin)?,
            Given::Pictures(pictures) => self.pictures(model, pictures, ui)?,
        };
        if let (Some(labels), Some(path)) = (beside, self.labels_beside()) {
            if labels.values.len() != labels.per * samples.names.len() {
                let (lines, n) = (labels.values.len() / labels.per, samples.names.len());
                return Err(Failure::content(path, format!("holds {lines} lines for {n} samples; give one for each")));
            }
            samples.labels = Some(labels);
        }
        samples.names.truncate(most.min(self.n.map_or(usize::MAX, |n| n as usize)));
        match samples.names.is_empty() {
            true => Err(Failure::content(self.path(), "holds no samples")),
            false => Ok(samples),
        }
    }

    fn pictures(&self, model: &Model, Pictures { list, dir, .. }: Pictures, ui: Ui) -> Outcome<Samples> {
        let preset = self.preset.get()?.ok_or_else(unprepared)?;
        if let Some(bad) = list.iter().find(|l| l.label.is_none()) {
            let text = format!("`{}` has no class; lines are `<file> <class>`", bad.file);
            return Err(Failure::content(self.path(), text));
        }
        preprocess::compare(preprocess::recorded(&model.note), &preset, ui);
        let size = preset.size_of(&model.picture_input()?.shape)?;
        let source = Source::Pictures { preset: Box::new(preset), size, dir };
        let values = list.iter().filter_map(|l| l.label).collect();
        let name = |listed: Listed| listed.file;
        Ok(Samples { source, names: list.into_iter().map(name).collect(), labels: Some(Labels { per: 1, values }) })
    }

    /// Arrays; with labels among them if those are wanted.
    fn arrays(&self, mut arrays: Vec<Named>, wants_labels: bool) -> Outcome<Samples> {
        let path = self.path();
        let is_labels = |(name, _): &Named| name.as_deref() == Some(&self.label_array);
        let labels = arrays.iter().position(is_labels).map(|at| arrays.swap_remove(at).1);
        if wants_labels && labels.is_none() {
            let text = format!("holds no array '{}' of classes", self.label_array);
            return Err(Failure::content(path, text));
        }
        let rows = |t: &HostTensor| t.dims().first().copied().unwrap_or(1);
        let n = labels.as_ref().or(arrays.first().map(|(_, t)| t)).map_or(0, rows);
        if n == 0 {
            return Err(Failure::content(path, "holds no samples"));
        }
        let labels = labels.map(|t| self.labels_of(&t, n)).transpose()?;
        let arrays = arrays.into_iter().filter_map(|(name, t)| Array::of(name, &t, n)).collect();
        let names = (0..n).map(|i| i.to_string()).collect();
        Ok(Samples { source: Source::Arrays(arrays), names, labels })
    }

    fn labels_of(&self, t: &HostTensor, n: usize) -> Outcome<Labels> {
        let values: Option<Vec<i64>> = (0..t.len()).map(|i| t.int(i)).collect();
        let values = values.filter(|values| !values.is_empty() && values.len().is_multiple_of(n));
        let text = || {
            let (name, elem, dims) = (&self.label_array, t.data().elem(), t.dims());
            format!("array '{name}' holds {elem:?} {dims:?}; classes are integers, [n] or [n, steps]")
        };
        let values = values.ok_or_else(|| Failure::content(self.path(), text()))?;
        Ok(Labels { per: values.len() / n, values })
    }
}

/// The refusal of pictures without a preset.
fn unprepared() -> Failure {
    Failure::usage("--preprocess is missing: how the model's pictures are prepared; -h lists presets")
}

/// The pictures of Paddle's binary form.
fn of_bin(model: &Model, bin: PaddleBin) -> Outcome<Samples> {
    bin.fits(model.picture_input()?)?;
    let labels = Labels { per: 1, values: bin.labels()? };
    let names = (0..labels.values.len()).map(|i| format!("#{i}")).collect();
    Ok(Samples { source: Source::Bin(bin), names, labels: Some(labels) })
}

/// Labels from a file: one of each line, or a sequence of them.
fn read_labels(path: &Path) -> Outcome<Labels> {
    let text = read_text(path)?;
    let parse = |(number, line): (usize, &str)| {
        let labels: Result<Vec<i64>, _> = line.split_whitespace().map(str::parse).collect();
        let text = || format!("line {}: `{line}` is no integer and no sequence of them", number + 1);
        labels.map_err(|_| Failure::content(path, text()))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let lines: Vec<Vec<i64>> = lines.map(parse).collect::<Outcome<_>>()?;
    let per = lines.iter().map(Vec::len).max().unwrap_or(0);
    if per == 0 {
        return Err(Failure::content(path, "holds no labels; give one line for each sample"));
    }
    let padded = |line: Vec<i64>| line.into_iter().chain(std::iter::repeat(NO_LABEL)).take(per).collect::<Vec<_>>();
    Ok(Labels { per, values: lines.into_iter().flat_map(padded).collect() })
}

impl Labels {
    /// The labels of sample `i`; padding is none.
    pub fn of(&self, i: usize) -> impl Iterator<Item = Option<i64>> {
        let padding = |label: i64| label == NO_LABEL || (self.per > 1 && label < 0);
        self.values[i * self.per..(i + 1) * self.per].iter().map(move |&label| (!padding(label)).then_some(label))
    }
}

impl Array {
    /// An array with parts for `n` samples; none if it has another number.
    fn of(name: Option<String>, t: &HostTensor, n: usize) -> Option<Array> {
        let &[rows, ref rest @ ..] = t.dims() else { return None };
        (rows > 0 && rows.is_multiple_of(n)).then_some(())?;
        let bytes = t.data().to_bytes();
        let dims = std::iter::once(rows / n).chain(rest.iter().copied()).collect();
        Some(Array { name, elem: t.data().elem(), dims, stride: bytes.len() / n, bytes })
    }

    /// The parts of `n` samples from `from` on.
    fn part(&self, from: usize, n: usize) -> Option<HostTensor> {
        let mut dims = self.dims.clone();
        dims[0] *= n;
        let bytes = self.bytes.get(from * self.stride..(from + n) * self.stride)?;
        HostTensor::new(dims, Data::from_bytes(self.elem, bytes)?)
    }
}

impl Samples {
    /// Which array each input of a model reads.
    ///
    /// # Errors
    /// An input without one, or of another shape.
    pub fn wiring(&self, model: &Model, data: &Path) -> Outcome<Vec<usize>> {
        let all = match &self.source {
            Source::Arrays(all) => all,
            Source::Bin(bin) => return bin.fits(model.picture_input()?).map(|()| vec![0]),
            Source::Pictures { preset, size, .. } => {
                let io = model.picture_input()?;
                let wanted: usize = io.shape.iter().skip(1).product();
                return match wanted == preset.values(*size) {
                    true => Ok(vec![0]),
                    false => Err(Failure::usage(format!(
                        "input '{}' of {} is {io}, and pictures are prepared as {} numbers for the first model; models that \
                         are compared need inputs of one size",
                        io.name,
                        model.predictor.name(),
                        preset.values(*size)
                    ))),
                };
            }
        };
        let inputs = model.predictor.inputs();
        // Without names the order is that of the inputs, and there may be more.
        let places: Vec<usize> = match all.iter().all(|array| array.name.is_none()) && all.len() > 1 {
            true if all.len() < inputs.len() => {
                let text =
                    format!("holds {} tensors for each sample, the model has {} inputs", all.len(), inputs.len());
                return Err(Failure::content(data, text));
            }
            true => (0..inputs.len()).collect(),
            false => {
                let place = |(i, array): (usize, &Array)| (array.name.clone(), HostTensor::i64([], vec![i as i64]));
                let places = arrays::assign(inputs, vec![(None, all.iter().enumerate().map(place).collect())])?;
                places.iter().map(|place| place.int(0).unwrap_or(0) as usize).collect()
            }
        };
        for (io, &at) in inputs.iter().zip(&places) {
            let one = all[at].part(0, 1).unwrap_or_else(|| HostTensor::f32([0], Vec::new()));
            // A model for one batch only is filled up.
            let rest = |dims: &[usize]| dims.len() == io.shape.len() && dims.get(1..) == io.shape.get(1..);
            if io.batched || !rest(one.dims()) || one.dims()[0] != 1 {
                arrays::batch_of(io, &one)?;
            }
        }
        Ok(places)
    }

    /// `n` samples from `from` on, as the tensors that models are wired to.
    ///
    /// # Errors
    /// What cannot be read, and numbers that are none.
    pub fn part(&self, from: usize, n: usize, data: &Path) -> Outcome<Vec<HostTensor>> {
        let tensors = match &self.source {
            Source::Pictures { preset, size, dir } => {
                let mut values = vec![0.0; n * preset.values(*size)];
                let files = self.names[from..from + n].iter();
                for (file, to) in files.zip(values.chunks_exact_mut(preset.values(*size))) {
                    preset.load(&dir.join(file), *size, to)?;
                }
                vec![HostTensor::f32([n, preset.values(*size)], values)]
            }
            Source::Bin(bin) => {
                let mut values = vec![0.0; n * bin.values];
                for (i, to) in values.chunks_exact_mut(bin.values).enumerate() {
                    bin.load(from + i, to)?;
                }
                vec![HostTensor::f32([n, bin.values], values)]
            }
            Source::Arrays(all) => {
                let part = |array: &Array| array.part(from, n);
                let parts = all.iter().map(part).collect::<Option<Vec<HostTensor>>>();
                parts.ok_or_else(|| Failure::content(data, "an array has another length than its shape says"))?
            }
        };
        for tensor in &tensors {
            let values = tensor.as_f32().unwrap_or(&[]);
            if let Some(at) = values.iter().position(|x| x.is_nan()) {
                let name = &self.names[from + at * n / values.len()];
                return Err(Failure::content(data, format!("sample `{name}` holds NaN; repair it or leave it out")));
            }
        }
        Ok(tensors)
    }
}
