//! `qc data convert`: pictures or arrays to `.npz` or Paddle's `.bin`.

use crate::arrays::{self, Named};
use crate::failure::{Failure, Outcome};
use crate::given::{Given, Pictures};
use crate::paddle_bin::{PaddleBin, Writer, is_named_bin, unwritten};
use crate::paths::Paths;
use crate::pictures::{default_threads, in_parallel};
use crate::preprocess::PresetArg;
use crate::quality;
use crate::ui::Ui;
use clap::Args;
use qc_ir::{Data, HostTensor};
use qc_runtime::pictures::{Layout, PictureError, Preset, Size};
use std::path::{Path, PathBuf};

/// Samples that each thread prepares before they are written.
const PER_THREAD: usize = 8;

/// Prepare pictures, or read arrays, and write them as .npz or as Paddle's .bin.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc data convert val_list.txt --image-dir val/ --preprocess imagenet-paddle -o val.bin
  qc data convert classes/ --preprocess imagenet -o val.npz      (a folder of pictures for each class)
  qc data convert int8_full_val.bin -n 500 -o calibration.npz
  qc data convert --local --data_dir val --label_list val_list.txt --output_file imagenet_small.bin

--local and the options spelt with _ are those of Paddle's full_ILSVRC2012_val_preprocess.py, whose bytes are written.
Other than there, a picture that is missing is an error, and --data_dim counts for the pictures: they are cut to that
size out of those whose short side is 256/224 of it.")]
pub struct Convert {
    /// A list with lines of `<file> [<class>]`, a folder of pictures or of folders for each class, .npz, .npy, .pb (a tensor
    /// of ONNX), a folder with input_0.pb, or .bin
    #[arg(required_unless_present = "local")]
    source: Option<PathBuf>,
    /// What is written: .npz with arrays `image` and `label`, or Paddle's .bin: the count, pictures of 3 x D x D numbers,
    /// classes
    #[arg(short, long, value_name = "OUT", required_unless_present = "local")]
    out: Option<PathBuf>,
    #[command(flatten)]
    preset: PresetArg,
    /// The folder a list's files are in; the list's own by default
    #[arg(long, value_name = "DIR", alias = "images")]
    image_dir: Option<PathBuf>,
    /// Name of the array of samples
    #[arg(long, value_name = "NAME", default_value = "image")]
    name: String,
    /// Name of the array of classes
    #[arg(long, value_name = "NAME", default_value = "label")]
    label_array: String,
    /// How many classes there are; another one is an error
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    classes: Option<u32>,
    /// Use the first N samples only
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n: Option<u32>,
    /// Pictures worked on at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    #[command(flatten)]
    original: Original,
}

/// The options of Paddle's tool.
#[derive(Args, Debug)]
#[command(next_help_heading = "As Paddle's tool spells it")]
struct Original {
    /// Convert pictures of one's own
    #[arg(long, conflicts_with_all = ["source", "out"])]
    local: bool,
    /// The folder of list, pictures and result
    #[arg(long = "data_dir", value_name = "DIR", requires = "local")]
    data_dir: Option<PathBuf>,
    /// The list, in that folder
    #[arg(long = "label_list", value_name = "FILE", requires = "local", default_value = "val_list.txt")]
    label_list: PathBuf,
    /// The result, in that folder
    #[arg(long = "output_file", value_name = "FILE", requires = "local", default_value = "imagenet_small.bin")]
    output_file: PathBuf,
    /// Rows and columns of a result
    #[arg(long = "data_dim", value_name = "N", requires = "local", default_value_t = 224)]
    data_dim: u16,
}

impl Original {
    fn folder(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_default()
    }
}

/// Samples, one after the other.
enum Samples {
    Pictures(Pictures, Box<Preset>, Option<Size>),
    Array(HostTensor),
    Bin(PaddleBin),
}

/// What is converted.
struct Input {
    samples: Samples,
    count: usize,
    labels: Option<Vec<i64>>,
    /// Other arrays of an archive.
    more: Vec<(String, HostTensor)>,
}

impl Convert {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let (source, dir, out) = self.places();
        Paths::default().reads([&source]).reads(&dir).reads(&self.preset.file()).writes([&out])
    }

    /// The source, the folder of its files, the result.
    fn places(&self) -> (PathBuf, Option<PathBuf>, PathBuf) {
        match (&self.source, &self.out) {
            (Some(source), Some(out)) => (source.clone(), self.image_dir.clone(), out.clone()),
            _ => {
                let dir = self.original.folder();
                (dir.join(&self.original.label_list), Some(dir.clone()), dir.join(&self.original.output_file))
            }
        }
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        if self.original.local && self.original.data_dir.is_none() {
            return Err(Failure::usage("Once set --local, user need to provide the --data_dir"));
        }
        let (source, dir, out) = self.places();
        let input = self.input(&source, dir.as_deref(), ui)?;
        self.check_classes(&source, &input)?;
        match is_named_bin(&out) || self.original.local {
            true => self.write_bin(&source, &out, input, ui)?,
            false if out.extension().is_some_and(|e| e == "npz") => self.write_npz(&source, &out, input, ui)?,
            false => return Err(Failure::usage(format!("{}: results are called .npz or .bin", out.display()))),
        }
        if self.original.local {
            let text = "Success! The user data output binary file can be found at:";
            return ui.out(&format!("{text} {}", out.display()));
        }
        Ok(())
    }

    fn input(&self, source: &Path, dir: Option<&Path>, ui: Ui) -> Outcome<Input> {
        let limit = self.n.map_or(usize::MAX, |n| n as usize);
        let given = Given::open(source, dir)?;
        if self.preset.is_given() && !matches!(given, Given::Pictures(_)) {
            return Err(Failure::usage("--preprocess is for pictures; numbers are taken as they are"));
        }
        let mut input = match given {
            Given::Pictures(mut pictures) => {
                let (preset, size) = self.preset()?;
                quality::skipped(&pictures.others).iter().for_each(|text| ui.warn(text));
                for (i, name) in pictures.classes.iter().enumerate() {
                    ui.note(&format!("class    {i}  {name}"));
                }
                pictures.list.truncate(limit);
                let labels = pictures.list.iter().map(|l| l.label).collect();
                let count = pictures.list.len();
                Input { samples: Samples::Pictures(pictures, Box::new(preset), size), count, labels, more: Vec::new() }
            }
            Given::Bin(bin) => {
                let labels = Some(bin.labels()?);
                Input { count: bin.count, samples: Samples::Bin(bin), labels, more: Vec::new() }
            }
            Given::Arrays(arrays) => self.arrays(source, arrays)?,
        };
        input.count = input.count.min(limit);
        if let Some(labels) = &mut input.labels {
            labels.truncate(input.count);
        }
        Ok(input)
    }

    /// The preset, and the size that it has to give.
    fn preset(&self) -> Outcome<(Preset, Option<Size>)> {
        let side = usize::from(self.original.data_dim);
        match self.preset.get()? {
            None if self.original.local => {
                let preset = PresetArg::named("imagenet-paddle").get()?;
                let preset = preset.ok_or_else(|| Failure::usage("there is no preset imagenet-paddle"))?;
                Ok((preset, Some(Size { height: side, width: side })))
            }
            None => Err(Failure::usage("pictures need --preprocess: how they become numbers; -h lists presets")),
            Some(preset) if self.original.local => Ok((preset, Some(Size { height: side, width: side }))),
            Some(preset) => Ok((preset, None)),
        }
    }

    /// The array of samples, that of classes, and the others.
    fn arrays(&self, source: &Path, arrays: Vec<Named>) -> Outcome<Input> {
        let is_label = |name: &Option<String>| name.as_ref() == Some(&self.label_array);
        let (labels, mut arrays): (Vec<Named>, Vec<Named>) = arrays.into_iter().partition(|(name, _)| is_label(name));
        let labels =
            labels.into_iter().next().map(|(_, t)| (0..t.len()).map(|i| t.int(i)).collect::<Option<Vec<i64>>>());
        let labels = match labels {
            Some(None) => {
                return Err(Failure::content(source, format!("array '{}' holds no integers", self.label_array)));
            }
            Some(labels) => labels,
            None => None,
        };
        let named = arrays.iter().position(|(name, _)| name.as_ref() == Some(&self.name));
        let at = match (named, arrays.len()) {
            (Some(at), _) => at,
            (None, 1) => 0,
            (None, n) => {
                let text =
                    format!("holds {n} arrays and none is called '{}'; --name says which is the samples", self.name);
                return Err(Failure::content(source, text));
            }
        };
        let samples = arrays.swap_remove(at).1;
        let count = samples.dims().first().copied().unwrap_or(0);
        if samples.is_empty() {
            return Err(Failure::content(source, "holds no samples; give an array whose first dim counts them"));
        }
        if let Some(labels) = labels.as_ref().filter(|l| l.len() != count) {
            let text = format!("there are {count} samples and {} classes; each needs one", labels.len());
            return Err(Failure::content(source, text));
        }
        let more = arrays.into_iter().filter_map(|(name, t)| Some((name?, t))).collect();
        Ok(Input { samples: Samples::Array(samples), count, labels, more })
    }

    fn check_classes(&self, source: &Path, input: &Input) -> Outcome {
        let last = self.classes.map_or(i64::MAX, |n| i64::from(n) - 1);
        let labels = input.labels.iter().flatten().enumerate();
        let Some((i, class)) = labels.into_iter().find(|(_, class)| !(0..=last).contains(*class)) else {
            return Ok(());
        };
        let most = if last == i64::MAX { "on".into() } else { format!("to {last}") };
        let name = input.samples.name(i);
        let text = format!("`{name}` is of class {class}; classes are 0 {most}; correct its class");
        Err(Failure::content(source, text))
    }

    fn write_bin(&self, source: &Path, out: &Path, input: Input, ui: Ui) -> Outcome {
        let Some(labels) = &input.labels else {
            let text = "has no classes, which a .bin needs; give a list of `<file> <class>`, or write .npz";
            return Err(Failure::content(source, text));
        };
        let mut first = true;
        let written = qc_compiler::output::write_streamed(out, |file| {
            let mut writer = Writer::new(file, input.count).map_err(unwritten(out))?;
            self.each(&input, ui, |dims, values| {
                if std::mem::take(&mut first) && !matches!(*dims, [3, h, w] if h == w) {
                    let text = format!("a .bin holds pictures of 3 x D x D numbers, not {dims:?}; write .npz");
                    return Err(Failure::content(source, text));
                }
                writer.picture(values).map_err(unwritten(out))
            })?;
            writer.labels(labels).map_err(unwritten(out))
        });
        written.map_err(Failure::from).and_then(|done: Outcome| done)?;
        if !self.original.local {
            ui.note(&format!("wrote    {}  {} pictures", out.display(), input.count));
        }
        Ok(())
    }

    fn write_npz(&self, source: &Path, out: &Path, input: Input, ui: Ui) -> Outcome {
        let samples = match &input.samples {
            Samples::Array(tensor) if tensor.dims().first() == Some(&input.count) => tensor.clone(),
            Samples::Array(tensor) if tensor.as_f32().is_none() => {
                return Err(Failure::content(source, "-n is for arrays of f32; convert them with NumPy's astype"));
            }
            _ => {
                let (mut all, mut dims) = (Vec::new(), vec![input.count]);
                self.each(&input, ui, |own, values| {
                    if dims.len() == 1 {
                        dims.extend_from_slice(own);
                    }
                    all.extend_from_slice(values);
                    Ok(())
                })?;
                let text = || Failure::content(source, "samples of another size than they say");
                HostTensor::new(dims, Data::F32(all)).ok_or_else(text)?
            }
        };
        let mut arrays = vec![(self.name.clone(), samples)];
        arrays.extend(input.labels.map(|labels| (self.label_array.clone(), HostTensor::i64([labels.len()], labels))));
        arrays.extend(input.more);
        arrays::write_npz(out, &arrays)?;
        let names: Vec<String> = arrays.iter().map(|(name, t)| format!("{name} {:?}", t.dims())).collect();
        ui.note(&format!("wrote    {}  {}", out.display(), names.join(", ")));
        Ok(())
    }

    /// Gives every sample with its shape, in order. All have one shape.
    fn each(&self, input: &Input, ui: Ui, mut to: impl FnMut(&[usize], &[f32]) -> Outcome) -> Outcome {
        let bar = ui.progress(input.count, "convert");
        let threads = self.threads.map_or_else(default_threads, usize::from);
        let mut known: Option<Vec<usize>> = None;
        for from in (0..input.count).step_by(threads * PER_THREAD) {
            let n = (input.count - from).min(threads * PER_THREAD);
            let one = |(): &mut (), i: usize| input.samples.read(from + i);
            let (read, _) = in_parallel(n, threads, || Ok(()), one)?;
            for (i, (dims, values)) in read.into_iter().enumerate() {
                let first = known.get_or_insert_with(|| dims.clone());
                if *first != dims {
                    let name = input.samples.name(from + i);
                    let text =
                        format!("`{name}` becomes {dims:?}, those before {first:?}; --size or --resize stretch gives");
                    return Err(Failure::usage(format!("{text} all one size")));
                }
                to(&dims, &values)?;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }
}

impl Samples {
    fn name(&self, i: usize) -> String {
        match self {
            Samples::Pictures(pictures, ..) => pictures.list[i].file.clone(),
            _ => format!("#{i}"),
        }
    }

    /// The shape and numbers of sample `i`.
    fn read(&self, i: usize) -> Outcome<(Vec<usize>, Vec<f32>)> {
        match self {
            Samples::Pictures(pictures, preset, size) => {
                let prepared = preset.read(&pictures.dir.join(&pictures.list[i].file), *size).map_err(|e| match e {
                    PictureError::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                        let text =
                            "there is no such file; --image-dir says where a list's files are, or take its line out";
                        Failure::content(&path, text)
                    }
                    e => e.into(),
                })?;
                let (h, w, n) = (prepared.size.height, prepared.size.width, preset.channels.count());
                let dims = if preset.layout == Layout::Chw { [n, h, w] } else { [h, w, n] };
                Ok((dims.to_vec(), prepared.values))
            }
            Samples::Array(tensor) => {
                let text = "an array of samples must be f32; convert it with NumPy's astype";
                let values = tensor.as_f32().ok_or_else(|| Failure::usage(text))?;
                let dims = tensor.dims()[1..].to_vec();
                let n: usize = dims.iter().product();
                Ok((dims, values[i * n..(i + 1) * n].to_vec()))
            }
            Samples::Bin(bin) => {
                let mut values = vec![0.0; bin.values];
                bin.load(i, &mut values)?;
                Ok((bin.dims()?.to_vec(), values))
            }
        }
    }
}
