//! `qc compare`: which tensors of a model in INT8 differ from those of its floats, and by how much.

use crate::args::ModelArgs;
use crate::failure::{Failure, MODEL, Outcome};
use crate::paths::Paths;
use crate::pictures::in_parallel;
use crate::samples::{Part, Program, SampleArgs};
use crate::table::{cut, table};
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::compare::{Difference, Differences, isolated};
use qc_compiler::mixed::Choice;
use qc_compiler::{CompileOptions, Compiler, Context, ContextOptions, Inside, ModelFile, Shapes};
use qc_ir::{HostTensor, ValueId};
use qc_runtime::{Elem, IoInfo};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Say which ops of a model lose how much in INT8, tensor by tensor.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc compare resnet50.onnx --ranges ranges.json --data pictures/ --preprocess imagenet -n 50
  qc compare qat/ --data samples.npz --json
  qc compare model.onnx --ranges ranges.json --data samples.npz --keep-fp32 conv1

Every tensor of the model in INT8 is compared with that of its floats. `alone` is what the op itself loses on right operands, `all` what
it and everything before it lose together, both in decibels between signal and error: 6 dB are one bit. The list begins with
the op that loses most by itself; names are those of the model, fit for --keep-fp32.")]
pub struct Compare {
    /// A float model with --ranges, or one that is quantized
    model: PathBuf,
    #[command(flatten)]
    samples: SampleArgs,
    /// Find what each op loses alone on the first N runs; the interpreter does that, at a tenth of the speed
    #[arg(long, value_name = "N", default_value_t = 2)]
    alone: usize,
    #[command(flatten)]
    options: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// A model in floats and in integers.
struct Pair {
    floats: Inside,
    integers: Inside,
    /// Tensors that both have, with their numbers among the outputs of each.
    common: Vec<(String, usize, usize)>,
}

/// Callers of both for one thread.
struct Contexts {
    floats: Context,
    integers: Context,
}

/// What was found of one run.
struct Looked {
    all: Differences,
    alone: Differences,
}

/// One line of the report.
struct Line {
    name: String,
    nodes: Vec<String>,
    all: Difference,
    alone: Option<Difference>,
}

impl Program for Pair {
    fn make(compiler: &Compiler, file: &ModelFile, at: &Shapes) -> Outcome<Pair> {
        let (floats, integers) = (compiler.float_inside(file, at)?, compiler.inside(file, at)?);
        if !integers.is_quantized() {
            let text = "nothing of the model is INT8; give --ranges of `qc calibrate`, or a model that is quantized";
            return Err(Failure::new(MODEL, format!("{}: {text}", file.path.display())));
        }
        let (right, got) = (floats.predictor.outputs(), integers.predictor.outputs());
        let same = |(at, b): (usize, &IoInfo)| {
            // Of a value and what its pair leaves of it, the latter.
            let is = |a: &IoInfo| integers.float_name(&a.name) == b.name && a.shape == b.shape;
            Some((b.name.clone(), right.iter().rposition(is)?, at))
        };
        let common = got.iter().enumerate().filter_map(same).collect();
        Ok(Pair { floats, integers, common })
    }

    fn inputs(&self) -> &[IoInfo] {
        self.floats.predictor.inputs()
    }
}

impl Pair {
    fn contexts(&self) -> Outcome<Contexts> {
        let options = ContextOptions { threads: Some(1), ..ContextOptions::default() };
        let of = |inside: &Inside| inside.predictor.context(&options);
        Ok(Contexts { floats: of(&self.floats)?, integers: of(&self.integers)? })
    }

    fn look(&self, contexts: &mut Contexts, alone: bool) -> Outcome<Looked> {
        contexts.floats.run()?;
        contexts.integers.run()?;
        let mut all = Differences::new();
        for (name, of_floats, of_integers) in &self.common {
            let right = contexts.floats.output::<f32>(*of_floats)?;
            all.entry(name.clone()).or_default().observe(right, contexts.integers.output::<f32>(*of_integers)?);
        }
        let alone = if alone { self.alone(&mut contexts.floats)? } else { Differences::new() };
        Ok(Looked { all, alone })
    }

    fn alone(&self, floats: &mut Context) -> Outcome<Differences> {
        let mut right = BTreeMap::new();
        for i in 0..floats.outputs().len() {
            let io = floats.outputs()[i].clone();
            let name = self.integers.float_name(&io.name).to_string();
            right.insert(name, HostTensor::f32(io.shape, floats.output::<f32>(i)?.to_vec()));
        }
        let mut inputs = Vec::new();
        for i in 0..floats.inputs().len() {
            let tensor = input(floats, i)?;
            right.insert(self.floats.inputs[i].clone(), tensor.clone());
            inputs.push(tensor);
        }
        Ok(isolated(&self.floats, &self.integers, &inputs, &right)?)
    }
}

/// What an input was filled with.
fn input(context: &mut Context, i: usize) -> Outcome<HostTensor> {
    let io = context.inputs()[i].clone();
    Ok(match io.elem {
        Elem::F32 => HostTensor::f32(io.shape, context.input_mut::<f32>(i, 1)?.to_vec()),
        Elem::I64 => HostTensor::i64(io.shape, context.input_mut::<i64>(i, 1)?.to_vec()),
        Elem::I32 => HostTensor::i32(io.shape, context.input_mut::<i32>(i, 1)?.to_vec()),
        Elem::U8 => HostTensor::u8(io.shape, context.input_mut::<u8>(i, 1)?.to_vec()),
        Elem::I8 => HostTensor::i8(io.shape, context.input_mut::<i8>(i, 1)?.to_vec()),
    })
}

impl Compare {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let read = self.options.files().chain([&self.model, &self.samples.data]);
        Paths::default().reads(read).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let options = self.options.options()?;
        let file = self.options.open(&self.model, &options)?;
        let Compared { samples, outputs, lines } = compared(&self.samples, self.alone, &options, &file, ui)?;
        self.paths().reads(&file.files_read()).check()?;
        let value = || {
            let one = |line: &Line| line.json();
            json!({
                "schema": "qc.compare/1",
                "model": self.model,
                "samples": samples,
                "outputs": outputs.iter().map(one).collect::<Vec<_>>(),
                "tensors": lines.iter().map(one).collect::<Vec<_>>(),
            })
        };
        ui.report(&self.json, value, || text(&outputs, &lines, samples, ui.verbose))
    }
}

/// What a comparison found.
struct Compared {
    samples: usize,
    outputs: Vec<Line>,
    /// All tensors, from the one whose op loses most.
    lines: Vec<Line>,
}

/// Compares on samples; of the first `alone` runs what each op loses alone.
fn compared(data: &SampleArgs, alone: usize, options: &CompileOptions, file: &ModelFile, ui: Ui) -> Outcome<Compared> {
    let parts: Vec<Part<Pair>> = data.parts(options, file, ui)?;
    let mut found = Looked { all: Differences::new(), alone: Differences::new() };
    let (mut samples, mut runs) = (0, 0);
    for part in &parts {
        let n = part.count()?.min(data.limit() - samples);
        for looked in look(data, part, (n, alone.saturating_sub(runs)), ui)? {
            merge(&mut found.all, &looked.all);
            merge(&mut found.alone, &looked.alone);
            runs += 1;
        }
        samples += n;
    }
    let first = parts.first().filter(|_| samples > 0);
    let first = first.ok_or_else(|| Failure::content(&data.data, "holds no samples"))?;
    let (outputs, lines) = report(&first.program, &found);
    Ok(Compared { samples, outputs, lines })
}

/// Runs both on the first `n` samples of a part, and on the first `alone` runs each op for itself.
fn look(data: &SampleArgs, part: &Part<Pair>, (n, alone): (usize, usize), ui: Ui) -> Outcome<Vec<Looked>> {
    let rows = part.rows();
    let bar = ui.progress(n, "compare");
    let work = |contexts: &mut Contexts, run: usize| {
        part.samples.fill(&mut contexts.floats, run, rows)?;
        part.samples.fill(&mut contexts.integers, run, rows)?;
        let looked = part.program.look(contexts, run < alone)?;
        bar.inc(rows as u64);
        Ok(looked)
    };
    let (looked, _) = in_parallel(n.div_ceil(rows), data.threads(), || part.program.contexts(), work)?;
    bar.finish_and_clear();
    Ok(looked)
}

/// Ops of the model in integers and what they lose alone, on one run: what a search for those that have to be floats begins with.
///
/// # Errors
/// As a comparison.
pub fn choices(data: &SampleArgs, options: &CompileOptions, file: &ModelFile, ui: Ui) -> Outcome<Vec<Choice>> {
    let one = data.first(1);
    let lines = compared(&one, 1, options, file, ui)?.lines;
    // An op also stands for the conversions that its readers had in front; these are named after the readers.
    let first: BTreeSet<&String> = lines.iter().filter_map(|line| line.nodes.first()).collect();
    let mut seen = BTreeSet::new();
    let mut choices = Vec::new();
    for line in lines.iter().filter(|line| line.nodes.first().is_some_and(|node| seen.insert(node))) {
        let own = |(i, node): &(usize, &String)| *i == 0 || !first.contains(node);
        let nodes = line.nodes.iter().enumerate().filter(own).map(|(_, node)| node.clone()).collect();
        let alone = line.alone.map_or(f64::INFINITY, |alone| alone.sqnr());
        choices.push(Choice { nodes, alone });
    }
    Ok(choices)
}

fn merge(all: &mut Differences, of: &Differences) {
    for (name, difference) in of {
        all.entry(name.clone()).or_default().merge(difference);
    }
}

/// The outputs of the model, and all tensors, from the one whose op loses most.
fn report(pair: &Pair, found: &Looked) -> (Vec<Line>, Vec<Line>) {
    let m = &pair.floats.module;
    let name = |v: &ValueId| m.name(*v).map(|name| pair.integers.float_name(name));
    let returned: BTreeSet<&str> = m.returns(m.body()).iter().filter_map(name).collect();
    let line = |(name, all): (&String, &Difference)| Line {
        name: name.clone(),
        nodes: pair.integers.nodes.get(name).cloned().unwrap_or_default(),
        all: *all,
        alone: found.alone.get(name).copied(),
    };
    let outputs = found.all.iter().filter(|(name, _)| returned.contains(&***name)).map(line).collect();
    let mut lines: Vec<Line> = found.all.iter().map(line).collect();
    let lost = |line: &Line| line.alone.map_or(f64::INFINITY, |alone| alone.sqnr());
    lines.sort_by(|a, b| {
        lost(a).total_cmp(&lost(b)).then(a.all.sqnr().total_cmp(&b.all.sqnr())).then(a.name.cmp(&b.name))
    });
    (outputs, lines)
}

impl Line {
    fn json(&self) -> serde_json::Value {
        let finite = |x: f64| x.is_finite().then_some(x);
        json!({
            "tensor": self.name,
            "nodes": self.nodes,
            "sqnr_alone": self.alone.and_then(|alone| finite(alone.sqnr())),
            "sqnr": finite(self.all.sqnr()),
            "cosine": self.all.cosine(),
            "max_difference": self.all.largest,
            "max_magnitude": self.all.magnitude,
        })
    }

    fn cells(&self, verbose: bool) -> Vec<String> {
        let decibels = |x: f64| if x.is_finite() { format!("{x:.1}") } else { "exact".into() };
        let alone = self.alone.map_or("-".into(), |alone| decibels(alone.sqnr()));
        let nodes = match &self.nodes[..] {
            [] => self.name.clone(),
            all if verbose => all.join(" + "),
            [one] => one.clone(),
            [first, rest @ ..] => format!("{first} + {}", rest.len()),
        };
        vec![
            cut(&nodes, 48, verbose),
            cut(&self.name, 32, verbose),
            alone,
            decibels(self.all.sqnr()),
            format!("{:.4}", self.all.cosine()),
            format!("{:.3} of {:.3}", self.all.largest, self.all.magnitude),
        ]
    }
}

/// The report for people.
fn text(outputs: &[Line], lines: &[Line], samples: usize, verbose: bool) -> String {
    const SHOWN: usize = 20;
    let headings = ["nodes", "tensor", ">alone dB", ">all dB", ">cosine", ">max difference"];
    let shown = if verbose { lines.len() } else { lines.len().min(SHOWN) };
    let mut out = format!("INT8 against float over {samples} samples\n\noutputs\n");
    out += &table(&headings, outputs.iter().map(|line| line.cells(verbose)));
    out += "\ntensors, from the op that loses most by itself\n";
    out += &table(&headings, lines[..shown].iter().map(|line| line.cells(verbose)));
    if shown < lines.len() {
        out += &format!("{} more; -v shows all\n", lines.len() - shown);
    }
    if let Some(worst) = lines.first().and_then(|line| line.nodes.first()) {
        out += &format!("next     qc compare .. --keep-fp32 '{worst}' says what keeping it in f32 gains\n");
    }
    out
}
