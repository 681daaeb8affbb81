//! `qc run`: a model on arrays, or on one picture.

use crate::args::{InputValue, ModelArgs};
use crate::arrays::{self, Named};
use crate::failure::{Failure, Outcome};
use crate::model::{Model, classes, is_folder, is_shared_object, jit_tier, open, open_for, top};
use crate::paths::Paths;
use crate::pictures::{array_sets, read_names};
use crate::preprocess::{self, PresetArg};
use crate::table::table;
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::{AnyShape, AnyShapeOptions, CompileOptions, Compiler, TargetCpu};
use qc_ir::HostTensor;
use qc_runtime::{Context, ContextOptions};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Run a model on NumPy arrays or on one picture.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc run resnet50.so -i image:x.npy -o y.npz
  qc run encoder.onnx -i sentences/ -o results/     (a file of arrays a sentence, of any lengths)
  qc run resnet50.onnx --image cat.jpg --preprocess imagenet --topk 5 --class-names classes.txt")]
pub struct Run {
    /// A model, compiled in this process, or a compiled .so
    model: PathBuf,
    /// Data of an input: NAME:FILE.npy, FILE.npy for the only one left, FILE.npz with arrays named as inputs, or a folder of
    /// such files, of which each is run by itself, whatever its shape; NAME=VALUE is a constant of a model, as --constant has it
    #[arg(short, long = "input", value_name = "[NAME:]FILE", value_parser = InputArg::parse)]
    pub input: Vec<InputArg>,
    /// Write the outputs as arrays of their names; for a folder of data, a folder with an .npz file for each of its files
    #[arg(short, long, value_name = "OUT.npz")]
    out: Option<PathBuf>,
    /// Run on a picture
    #[arg(long, value_name = "PIC", conflicts_with = "input", requires = "preprocess")]
    image: Option<PathBuf>,
    #[command(flatten)]
    preset: PresetArg,
    /// Show the best K classes of the first output
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    topk: Option<u16>,
    /// Names of the classes, one a line
    #[arg(long, value_name = "FILE", alias = "labels")]
    class_names: Option<PathBuf>,
    /// Threads; by default as the environment and the machine say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Option<u32>,
    #[command(flatten)]
    pub options: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// An argument of `-i`.
#[derive(Clone, Debug)]
pub struct InputArg {
    /// The input, if it was named.
    pub name: Option<String>,
    /// The file.
    pub path: PathBuf,
    /// Numbers instead of a file.
    pub value: Option<InputValue>,
}

impl InputArg {
    /// Reads `NAME:FILE`, `FILE` or `NAME=VALUE`. Names may hold colons, and so may a file that exists.
    pub fn parse(text: &str) -> Result<InputArg, String> {
        let exists = PathBuf::from(text).exists();
        if let Some(value) = InputValue::from_str(text).ok().filter(|_| !exists) {
            return Ok(InputArg { name: None, path: PathBuf::new(), value: Some(value) });
        }
        let file = |name, path: &str| InputArg { name, path: path.into(), value: None };
        match text.rsplit_once(':') {
            Some((name, path)) if !exists => match name.is_empty() || path.is_empty() {
                true => Err("expected NAME:FILE.npy".into()),
                false => Ok(file(Some(name.into()), path)),
            },
            _ => Ok(file(None, text)),
        }
    }

    /// Takes the numbers out of the arguments: they are constants of the model.
    pub fn into_constants(all: &mut Vec<InputArg>, options: &mut ModelArgs) {
        options.constant.extend(all.iter().filter_map(|input| input.value.clone()));
        all.retain(|input| input.value.is_none());
    }

    /// Reads the files of all arguments.
    pub fn read_all(all: &[InputArg]) -> Outcome<Vec<(Option<String>, Vec<Named>)>> {
        all.iter().map(|i| Ok((i.name.clone(), arrays::read(&i.path)?))).collect()
    }
}

impl Run {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let read = self.input.iter().map(|input| &input.path).chain(&self.image).chain(&self.class_names);
        let options = self.options.files();
        Paths::default().reads([&self.model]).reads(read).reads(options).writes(&self.out).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        if let [InputArg { name: None, path, .. }] = &self.input[..]
            && is_folder(path)?
        {
            return self.folder(path, ui);
        }
        let mut given = InputArg::read_all(&self.input)?;
        let names = self.class_names.as_deref().map(read_names).transpose()?;
        let guess = given.iter().flat_map(|(_, a)| a).filter_map(|(_, t)| t.dims().first().copied()).max().unwrap_or(1);
        let shape = |(name, t): &Named, asked: &Option<String>| (asked.clone().or(name.clone()), t.dims().to_vec());
        let data = given.iter().flat_map(|(asked, all)| all.iter().map(|a| shape(a, asked))).collect();
        // Arrays whose values the model's shapes depend on are constants of what is compiled here.
        let named = given.iter().flat_map(|(asked, all)| {
            all.iter().filter_map(|(name, t)| Some((asked.clone().or(name.clone())?, t.clone())))
        });
        let named: Vec<(String, HostTensor)> = named.collect();
        let (model, constant) = open_for(&self.model, &self.options, guess.min(8), data, &named)?;
        for (asked, all) in &mut given {
            all.retain(|(name, _)| asked.as_ref().or(name.as_ref()).is_none_or(|name| !constant.contains(name)));
        }
        given.retain(|(_, all)| !all.is_empty());
        if !constant.is_empty() {
            ui.note(&format!("constant {}: compiled for their values", constant.join(", ")));
        }
        let outputs = match &self.image {
            Some(_) => self.picture(&model, ui)?,
            None => self.arrays(&model, given)?,
        };
        if let Some(out) = &self.out {
            arrays::write_npz(out, &outputs)?;
            let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
            ui.note(&format!("wrote    {}  {}", out.display(), names.join(", ")));
        }
        let k = self.topk.map(usize::from).or(self.image.is_some().then_some(5));
        if let Some(k) = k {
            return self.show_best(&model, &outputs, k, names.as_deref(), ui);
        }
        if self.out.is_some() && self.json.json.is_none() {
            return Ok(());
        }
        ui.result(
            &self.json,
            || json!({"schema": "qc.run/1", "outputs": summaries(&outputs)}),
            || summary_table(&outputs),
        )
    }

    /// Runs every file of a folder.
    fn folder(&self, dir: &Path, ui: Ui) -> Outcome {
        let files = array_sets(dir)?;
        if files.is_empty() {
            return Err(Failure::content(dir, "the folder holds no .npy or .npz file and no input_0.pb"));
        }
        if let Some(out) = &self.out {
            std::fs::create_dir_all(out).map_err(|e| Failure::io(out, &e))?;
        }
        let mut runner = Runner::open(&self.model, &self.options, self.threads)?;
        let mut texts = Vec::new();
        for set in &files {
            let name = &set.name;
            let named = |e: Failure| Failure::new(e.status, format!("{name}: {}", e.text));
            let outputs = runner.run(arrays::read_set(set)?).map_err(named)?;
            if let Some(out) = &self.out {
                arrays::write_npz(&out.join(format!("{name}.npz")), &outputs)?;
            }
            texts.push((
                json!({"file": name, "outputs": summaries(&outputs)}),
                format!("{name}\n{}", summary_table(&outputs)),
            ));
        }
        if let Some(out) = &self.out {
            ui.note(&format!("wrote    {}  results of {} files", out.display(), files.len()));
            if self.json.json.is_none() {
                return Ok(());
            }
        }
        let json = || json!({"schema": "qc.run/1", "files": texts.iter().map(|(json, _)| json).collect::<Vec<_>>()});
        ui.result(&self.json, json, || texts.iter().map(|(_, text)| text.as_str()).collect())
    }

    fn picture(&self, model: &Model, ui: Ui) -> Outcome<Vec<(String, HostTensor)>> {
        let (Some(path), Some(preset)) = (&self.image, self.preset.get()?) else {
            return Err(Failure::usage("--image needs --preprocess"));
        };
        preprocess::compare(preprocess::recorded(&model.note), &preset, ui);
        let io = model.picture_input()?;
        let size = preset.size_of(&io.shape)?;
        let mut context = model.context(self.threads)?;
        let values = preset.values(size);
        let buffer = context.input_mut::<f32>(0, 1)?;
        preset.load(path, size, &mut buffer[..values])?;
        // A model for several pictures at once gets the same one in every row.
        let (first, rest) = buffer.split_at_mut(values);
        rest.chunks_exact_mut(values).for_each(|row| row.copy_from_slice(first));
        context.run()?;
        arrays::results(&context)
    }

    fn arrays(&self, model: &Model, given: Vec<(Option<String>, Vec<Named>)>) -> Outcome<Vec<(String, HostTensor)>> {
        let inputs = arrays::assign(model.predictor.inputs(), given)?;
        let mut context = model.context(self.threads)?;
        for (i, tensor) in inputs.iter().enumerate() {
            arrays::feed(&mut context, i, tensor)?;
        }
        context.run()?;
        arrays::results(&context)
    }

    fn show_best(
        &self,
        model: &Model,
        outputs: &[(String, HostTensor)],
        k: usize,
        names: Option<&[String]>,
        ui: Ui,
    ) -> Outcome {
        let i = model.scores_output(None)?;
        let n = classes(&model.predictor.outputs()[i]);
        let scores = outputs[i].1.as_f32().unwrap_or_default();
        let rows = if self.image.is_some() { 1 } else { usize::MAX };
        let best: Vec<Vec<(usize, f32)>> = scores.chunks_exact(n).take(rows).map(|s| top(s, k)).collect();
        if let Some(names) = names.filter(|names| names.len() != n) {
            ui.warn(&format!("--class-names has {} names, the model {n} classes", names.len()));
        }
        let name = |class: usize| names.and_then(|n| n.get(class)).cloned();
        let json = || {
            let one = |(class, score): &(usize, f32)| match name(*class) {
                Some(label) => json!({"class": class, "score": score, "label": label}),
                None => json!({"class": class, "score": score}),
            };
            let rows: Vec<Vec<Value>> = best.iter().map(|row| row.iter().map(one).collect()).collect();
            json!({"schema": "qc.run/1", "outputs": summaries(outputs), "topk": rows})
        };
        ui.result(&self.json, json, || {
            let several = best.len() > 1;
            let line = |row: usize, (class, score): &(usize, f32)| {
                let mut cells = if several { vec![row.to_string()] } else { vec![] };
                cells.extend([class.to_string(), format!("{score:.6}"), name(*class).unwrap_or_default()]);
                cells
            };
            let lines = best.iter().enumerate().flat_map(|(row, b)| b.iter().map(move |c| line(row, c)));
            let headings: &[&str] = if several { &[">row", ">class", ">score", ""] } else { &[">class", ">score", ""] };
            table(headings, lines)
        })
    }
}

/// A model that is run on arrays of one shape after another.
enum Runner {
    /// A compiled one, which has the shapes that it has.
    Compiled(Box<Context>),
    /// One that is compiled for each shape that comes.
    AnyShape { model: Box<AnyShape>, inputs: Vec<String> },
}

impl Runner {
    fn open(path: &Path, options: &ModelArgs, threads: Option<u32>) -> Outcome<Runner> {
        if is_shared_object(path)? || !options.shape.is_empty() {
            let model = open(path, options, 1, Vec::new())?;
            return Ok(Runner::Compiled(Box::new(model.context(threads)?)));
        }
        let compile = CompileOptions { target: TargetCpu::Tier(jit_tier()), ..options.options()? };
        let file = options.open(path, &compile)?;
        let compiler = Compiler::new(compile);
        let inputs = compiler.input_names(&file)?;
        let context = ContextOptions { threads, cpu: None };
        let model = compiler.any_shape(file, &AnyShapeOptions { context, ..AnyShapeOptions::default() });
        Ok(Runner::AnyShape { model: Box::new(model), inputs })
    }

    fn run(&mut self, arrays: Vec<Named>) -> Outcome<Vec<(String, HostTensor)>> {
        let context = match self {
            Runner::Compiled(context) => context,
            Runner::AnyShape { model, inputs } => {
                let own = |(name, _): &&Named| name.as_ref().is_none_or(|name| inputs.contains(name));
                let shape = |(name, t): &'_ Named| (name.clone().unwrap_or_default(), t.dims().to_vec());
                let shapes: Vec<(String, Vec<usize>)> = arrays.iter().filter(own).map(shape).collect();
                let shapes: Vec<(&str, &[usize])> = shapes.iter().map(|(name, dims)| (&name[..], &dims[..])).collect();
                model.context(&shapes)?
            }
        };
        for (i, tensor) in arrays::assign(context.inputs(), vec![(None, arrays)])?.iter().enumerate() {
            arrays::feed(context, i, tensor)?;
        }
        context.run()?;
        arrays::results(context)
    }
}

/// Shape and spread of each output.
fn summaries(outputs: &[(String, HostTensor)]) -> Value {
    let one = |(name, t): &(String, HostTensor)| {
        let spread = t.as_f32().map(spread);
        match spread {
            Some([min, max, mean]) => json!({"name": name, "shape": t.dims(), "min": min, "max": max, "mean": mean}),
            None => json!({"name": name, "shape": t.dims()}),
        }
    };
    outputs.iter().map(one).collect()
}

fn spread(values: &[f32]) -> [f64; 3] {
    let all = || values.iter().map(|&x| f64::from(x));
    let mean = all().sum::<f64>() / values.len().max(1) as f64;
    [all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max), mean]
}

fn summary_table(outputs: &[(String, HostTensor)]) -> String {
    let line = |(name, t): &(String, HostTensor)| {
        let mut cells = vec![name.clone(), format!("{:?}", t.dims())];
        let spread = t.as_f32().map(spread);
        cells.extend(spread.map_or(vec![String::new(); 3], |s| s.map(|x| format!("{x:.6}")).to_vec()));
        cells
    };
    table(&["output", "shape", ">min", ">max", ">mean"], outputs.iter().map(line))
}
