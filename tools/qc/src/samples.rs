//! Samples for commands that run a model on data: arrays or pictures, a run at a time, and programs for their shapes.

use crate::arrays::{self, feed_rows};
use crate::failure::{Failure, Outcome, USAGE};
use crate::held::Held;
use crate::paddle_bin::{PaddleBin, is_named_bin};
use crate::pictures::{ArraySet, Listed, array_sets, default_threads, folder, folder_of_list, is_array, read_list};
use crate::preprocess::{self, PresetArg};
use crate::quality;
use crate::ui::Ui;
use clap::Args;
use qc_compiler::{CompileOptions, Compiler, Context, ModelFile, Shapes};
use qc_ir::HostTensor;
use qc_runtime::pictures::{Preset, Size};
use qc_runtime::{Elem, IoInfo};
use std::path::PathBuf;
use std::sync::Arc;

/// Which samples a command runs a model on.
#[derive(Args, Clone, Debug)]
pub struct SampleArgs {
    /// Samples: .npy, .npz or .pb (arrays named as inputs), Paddle's .bin, a folder of such files, each of its own shape, or
    /// of ONNX test data or pictures, or a list with lines of `<file> [<class>]`
    #[arg(long, value_name = "SRC")]
    pub data: PathBuf,
    #[command(flatten)]
    pub take: TakeArgs,
}

/// How samples are taken.
#[derive(Args, Clone, Debug)]
pub struct TakeArgs {
    #[command(flatten)]
    pub preset: PresetArg,
    /// The folder a list's files are in; the list's own by default
    #[arg(long, value_name = "DIR", alias = "images")]
    pub image_dir: Option<PathBuf>,
    /// Use the first N samples only
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub n: Option<u32>,
    /// Samples worked on at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
}

/// Samples of one shape.
pub enum Samples {
    /// One tensor per input; items of the leading dimension are samples.
    Arrays { held: Held, name: String },
    /// Paddle's binary form.
    Bin(PaddleBin),
    /// Files.
    Pictures { list: Vec<Listed>, dir: PathBuf, preset: Box<Preset>, size: Size },
}

/// What runs samples of one shape.
pub trait Program: Sized {
    /// Compiles it for one shape of a model.
    ///
    /// # Errors
    /// As the compiler.
    fn make(compiler: &Compiler, file: &ModelFile, at: &Shapes) -> Outcome<Self>;

    /// Its inputs, which a run fills.
    fn inputs(&self) -> &[IoInfo];
}

/// What compiles a program for one shape of a model.
pub type Make<'a, P> = &'a dyn Fn(&Compiler, &ModelFile, &Shapes) -> Outcome<P>;

/// Samples of one shape of the model, and the program for it.
pub struct Part<P> {
    /// Parts of one shape share it.
    pub program: Arc<P>,
    pub samples: Samples,
}

/// One run of a program: some samples of a part.
pub struct Turn<'a, P> {
    pub part: &'a Part<P>,
    /// Its number among the runs of the part, and among all.
    pub run: usize,
    pub number: usize,
    /// The number of its first sample among all, and how many samples it has; what is left of the run is filled up.
    pub first: usize,
    pub samples: usize,
}

/// The runs of all parts, at most `limit` samples, by program: parts of one program share the callers that run it.
///
/// # Errors
/// Tensors that do not fit.
pub fn turns<P: Program>(parts: &[Part<P>], limit: usize) -> Outcome<Vec<Vec<Turn<'_, P>>>> {
    let mut groups: Vec<Vec<Turn<'_, P>>> = Vec::new();
    let (mut first, mut number) = (0, 0);
    for part in parts {
        let (n, rows) = (part.count()?.min(limit - first), part.rows());
        let same = |group: &Vec<Turn<'_, P>>| group.iter().any(|t| Arc::ptr_eq(&t.part.program, &part.program));
        let at = groups.iter().position(same).unwrap_or(groups.len());
        if at == groups.len() && n > 0 {
            groups.push(Vec::new());
        }
        for run in 0..n.div_ceil(rows) {
            let samples = rows.min(n - run * rows);
            groups[at].push(Turn { part, run, number, first: first + run * rows, samples });
            number += 1;
        }
        first += n;
    }
    Ok(groups)
}

impl TakeArgs {
    /// Whether anything is given, which makes sense with samples only.
    pub fn any(&self) -> bool {
        self.preset.is_given() || self.image_dir.is_some() || self.n.is_some() || self.threads.is_some()
    }
}

impl SampleArgs {
    /// The first `n` of them.
    pub fn first(&self, n: u32) -> SampleArgs {
        SampleArgs { data: self.data.clone(), take: TakeArgs { n: Some(n), ..self.take.clone() } }
    }

    /// The limit on samples.
    pub fn limit(&self) -> usize {
        self.take.n.map_or(usize::MAX, |n| n as usize)
    }

    /// Threads that work on samples.
    pub fn threads(&self) -> usize {
        self.take.threads.map_or_else(default_threads, usize::from)
    }

    /// A compiler for the shape of the first sample, as far as samples have one; pictures take that of the model.
    ///
    /// # Errors
    /// I/O, and files that hold no arrays.
    pub fn compiler_of_first(&self, options: &CompileOptions, file: &ModelFile) -> Outcome<Compiler> {
        let arrays = self.arrays()?;
        Ok(match arrays.first().filter(|_| !self.take.preset.is_given()) {
            Some(set) => shaped((options, file), &arrays::read_set(set)?).0,
            None if is_named_bin(&self.data) && self.data.is_file() => {
                bin_compiler(options, &PaddleBin::open(&self.data)?)?
            }
            None => Compiler::new(options.clone()),
        })
    }

    /// The sets of arrays that the samples are, if they are arrays.
    fn arrays(&self) -> Outcome<Vec<ArraySet>> {
        let is_dir = std::fs::metadata(&self.data).map_err(|e| Failure::io(&self.data, &e))?.is_dir();
        Ok(match is_dir {
            true => array_sets(&self.data)?,
            false if is_array(&self.data)? => vec![ArraySet { name: String::new(), files: vec![self.data.clone()] }],
            false => Vec::new(),
        })
    }

    /// The samples by shape of the model, each with the model compiled for it.
    ///
    /// # Errors
    /// I/O, data of another kind than the model takes, and what keeps the model from being compiled.
    pub fn parts<P: Program>(&self, options: &CompileOptions, file: &ModelFile, ui: Ui) -> Outcome<Vec<Part<P>>> {
        self.parts_by(options, file, &P::make, ui)
    }

    /// As [`SampleArgs::parts`], of programs that `make` compiles.
    ///
    /// # Errors
    /// As [`SampleArgs::parts`].
    pub fn parts_by<P: Program>(
        &self,
        options: &CompileOptions,
        file: &ModelFile,
        make: Make<'_, P>,
        ui: Ui,
    ) -> Outcome<Vec<Part<P>>> {
        let (arrays, is_dir) = (self.arrays()?, self.data.is_dir());
        if !arrays.is_empty() && !self.take.preset.is_given() {
            let (mut made, many) = (Vec::new(), arrays.len() > 1);
            let (mut parts, mut count): (Vec<Part<P>>, usize) = (Vec::new(), 0);
            for set in arrays {
                if count >= self.limit() {
                    break;
                }
                let part = arrays_part((options, file), set, make, (&mut made, many))?;
                count += part.count()?;
                parts.push(part);
            }
            return Ok(parts);
        }
        let is_bin = !is_dir && is_named_bin(&self.data);
        if is_bin && !self.take.preset.is_given() {
            return Ok(vec![bin_part((options, file), PaddleBin::open(&self.data)?, make)?]);
        }
        if (!arrays.is_empty() || is_bin) && !is_dir {
            return Err(Failure::usage("--preprocess is for pictures; arrays are taken as they are"));
        }
        let Some(preset) = self.take.preset.get()? else {
            return Err(Failure::usage("pictures need --preprocess: how they become numbers; -h lists presets"));
        };
        let recorded = options.ranges.as_ref().and_then(|ranges| ranges.preprocess.as_deref());
        preprocess::compare(recorded, &preset, ui);
        let (list, dir) = match is_dir {
            true => {
                let (list, others) = folder(&self.data)?;
                quality::skipped(&others).iter().for_each(|text| ui.warn(text));
                (list, self.data.clone())
            }
            false => {
                let dir = self.take.image_dir.clone().unwrap_or_else(|| folder_of_list(&self.data));
                (read_list(&self.data)?, dir)
            }
        };
        let compiler = Compiler::new(options.clone());
        let shapes = compiler.shapes(file)?;
        let one = |(i, at): (usize, &Shapes)| {
            let program = Arc::new(make(&compiler, file, at)?);
            let size = preset.size_of(&only_input(program.inputs())?.shape)?;
            let preset = Box::new(preset.clone());
            // Shapes take turns; where there are more of them than pictures, each still gets one.
            let turn = list.iter().skip(i).step_by(shapes.len()).cloned().collect::<Vec<Listed>>();
            let list = if turn.is_empty() { list.iter().cycle().skip(i).take(1).cloned().collect() } else { turn };
            Ok(Part { program, samples: Samples::Pictures { list, dir: dir.clone(), preset, size } })
        };
        shapes.iter().enumerate().map(one).collect()
    }
}

/// A program with what it was made for: dims of arrays, the shapes that they stand for, and inputs that are constants of it.
struct Made<P> {
    data: Data,
    at: Shapes,
    values: Values,
    program: Arc<P>,
}

/// Arrays by the names of inputs.
type Values = Vec<(String, HostTensor)>;

/// Dims of arrays, by the names of inputs.
type Data = Vec<(Option<String>, Vec<usize>)>;

fn dims_of(arrays: &[arrays::Named]) -> Data {
    arrays.iter().map(|(name, t)| (name.clone(), t.dims().to_vec())).collect()
}

/// A compiler for the shape of arrays, and those whose values the model's shapes or branches depend on: these are constants of what is
/// compiled.
fn shaped((options, file): (&CompileOptions, &ModelFile), arrays: &[arrays::Named]) -> (Compiler, Values) {
    let mut compiler = Compiler::new(CompileOptions { data: dims_of(arrays), ..options.clone() });
    let named: Values = arrays.iter().filter_map(|(name, t)| Some((name.clone()?, t.clone()))).collect();
    let constant = compiler.take_values(file, &named);
    (compiler, named.into_iter().filter(|(name, _)| constant.contains(name)).collect())
}

/// The samples of one set of arrays, perhaps of several, and the model at their shape; that of an earlier set if it fits.
fn arrays_part<P: Program>(
    what: (&CompileOptions, &ModelFile),
    set: ArraySet,
    make: Make<'_, P>,
    (made, many): (&mut Vec<Made<P>>, bool),
) -> Outcome<Part<P>> {
    let arrays = arrays::read_set(&set)?;
    let data = dims_of(&arrays);
    let holds = |values: &Values| {
        values.iter().all(|(name, t)| arrays.iter().any(|(n, own)| n.as_ref() == Some(name) && own == t))
    };
    let found = match made.iter().position(|m| m.data == data && holds(&m.values)) {
        Some(found) => found,
        None => {
            let (compiler, values) = shaped(what, &arrays);
            let at = compiler.shapes(what.1)?.into_iter().next().unwrap_or_default();
            let program = match made.iter().find(|m| m.at == at && m.values == values) {
                Some(found) => found.program.clone(),
                None => Arc::new(make(&compiler, what.1, &at)?),
            };
            made.push(Made { data, at, values, program });
            made.len() - 1
        }
    };
    let Made { values, program, .. } = &made[found];
    let name = if set.name.is_empty() { String::new() } else { format!("{} ", set.name) };
    let constant = values.iter().map(|(name, _)| name.clone()).collect();
    let source = many.then_some((set, constant));
    Ok(Part {
        program: program.clone(),
        samples: Samples::Arrays { held: Held::of(arrays, source, program.inputs())?, name },
    })
}

/// A compiler for one picture of Paddle's binary form.
fn bin_compiler(options: &CompileOptions, bin: &PaddleBin) -> Outcome<Compiler> {
    let data = vec![(None, [1].into_iter().chain(bin.dims()?).collect())];
    Ok(Compiler::new(CompileOptions { data, ..options.clone() }))
}

/// The pictures of Paddle's binary form, and the model at their shape.
fn bin_part<P: Program>(
    (options, file): (&CompileOptions, &ModelFile),
    bin: PaddleBin,
    make: Make<'_, P>,
) -> Outcome<Part<P>> {
    let compiler = bin_compiler(options, &bin)?;
    let at = compiler.shapes(file)?.into_iter().next().unwrap_or_default();
    let program = Arc::new(make(&compiler, file, &at)?);
    bin.fits(only_input(program.inputs())?)?;
    Ok(Part { program, samples: Samples::Bin(bin) })
}

/// The input of a model that takes pictures.
fn only_input(inputs: &[IoInfo]) -> Outcome<&IoInfo> {
    let [io] = inputs else {
        return Err(Failure::usage("the model has several inputs; give their samples as an .npz file"));
    };
    if io.elem != Elem::F32 {
        return Err(Failure::new(USAGE, format!("input '{}' is {io}; pictures need f32", io.name)));
    }
    Ok(io)
}

impl<P: Program> Part<P> {
    /// Samples per run.
    pub fn rows(&self) -> usize {
        self.program.inputs().first().and_then(|io| io.shape.first().copied()).unwrap_or(1).max(1)
    }

    /// How many samples there are.
    ///
    /// # Errors
    /// Arrays that do not fit the model, or each other.
    pub fn count(&self) -> Outcome<usize> {
        Ok(match &self.samples {
            Samples::Arrays { held, .. } => held.runs() * self.rows(),
            Samples::Bin(bin) => bin.count,
            Samples::Pictures { list, .. } => list.len(),
        })
    }
}

impl Samples {
    /// What sample `i` is called.
    pub fn name(&self, i: usize) -> String {
        match self {
            Samples::Arrays { name, .. } => format!("{name}#{i}"),
            Samples::Bin(_) => format!("#{i}"),
            Samples::Pictures { list, .. } => list[i % list.len()].file.clone(),
        }
    }

    /// The classes of all samples, if they have some.
    ///
    /// # Errors
    /// I/O.
    pub fn labels(&self) -> Outcome<Option<Vec<i64>>> {
        Ok(match self {
            Samples::Arrays { .. } => None,
            Samples::Bin(bin) => Some(bin.labels()?),
            Samples::Pictures { list, .. } => list.iter().map(|listed| listed.label).collect(),
        })
    }

    /// How pictures become numbers; nothing for numbers.
    pub fn preprocess(&self) -> Option<String> {
        match self {
            Samples::Arrays { .. } | Samples::Bin(_) => None,
            Samples::Pictures { preset, .. } => Some(preset.to_string()),
        }
    }

    /// Fills the inputs for one run of `rows` samples.
    ///
    /// # Errors
    /// A picture that cannot be read, or an element type that does not fit.
    pub fn fill(&self, context: &mut Context, run: usize, rows: usize) -> Outcome {
        match self {
            Samples::Arrays { held, .. } => {
                let tensors = held.read(run)?;
                tensors.iter().enumerate().try_for_each(|(i, tensor)| feed_rows(context, i, tensor, run, 1))
            }
            Samples::Bin(bin) => {
                let buffer = context.input_mut::<f32>(0, 1)?;
                let mut pictures = buffer.chunks_exact_mut(bin.values).enumerate();
                pictures.try_for_each(|(row, to)| bin.load((run * rows + row) % bin.count, to))
            }
            Samples::Pictures { list, dir, preset, size } => {
                let buffer = context.input_mut::<f32>(0, 1)?;
                for (row, to) in buffer.chunks_exact_mut(preset.values(*size)).enumerate() {
                    let listed = &list[(run * rows + row) % list.len()];
                    preset.load(&dir.join(&listed.file), *size, to)?;
                }
                Ok(())
            }
        }
    }
}
