//! A model in integers beside floats that are right, tensor by tensor: its own without quantization, or those of another model.

use crate::failure::{Failure, MODEL, Outcome};
use crate::pictures::in_parallel;
use crate::samples::{Part, Program, SampleArgs, Turn, turns};
use crate::ui::Ui;
use indicatif::ProgressBar;
use qc_compiler::biases;
use qc_compiler::compare::{Difference, Differences, Rounding, isolated};
use qc_compiler::mixed::Choice;
use qc_compiler::{CompileOptions, Compiler, Context, ContextOptions, Inside, ModelFile, Shapes};
use qc_ir::{HostTensor, ValueId};
use qc_runtime::{Elem, IoInfo};
use std::collections::{BTreeMap, BTreeSet};

/// What is compared.
#[derive(Clone, Copy)]
pub struct Compared<'a> {
    /// How the model is compiled.
    pub options: &'a CompileOptions,
    /// The model in integers.
    pub file: &'a ModelFile,
    /// The model whose floats are right; its own without one.
    pub reference: Option<&'a ModelFile>,
}

/// A model in floats and in integers.
pub struct Pair {
    pub floats: Inside,
    pub integers: Inside,
    /// Tensors that both have, in the order of the floats, with their numbers among the outputs of each.
    pub common: Vec<(String, usize, usize)>,
    /// What made them, and the shape that both were compiled for.
    pub compiler: Compiler,
    pub at: Shapes,
}

/// Callers of both for one thread.
pub struct Contexts {
    pub floats: Context,
    pub integers: Context,
}

/// What was found of some runs.
#[derive(Default)]
pub struct Looked {
    pub all: Differences,
    pub alone: Differences,
    pub rounding: BTreeMap<String, Rounding>,
}

/// What is known of one tensor.
pub struct Line {
    pub name: String,
    /// Nodes of the model that it is the result of.
    pub nodes: Vec<String>,
    /// Nodes that read it in its format.
    pub readers: Vec<String>,
    pub all: Difference,
    pub alone: Option<Difference>,
    pub rounding: Rounding,
    /// Whether it is an output of the model.
    pub returned: bool,
}

/// Why an op loses what it loses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    /// Its result has a format so many times as wide as its values.
    Wide(f64),
    /// The format of its result leaves out this part of its values.
    Clips(f64),
    /// Values of its result are small beside the largest ones.
    Steps,
    /// Its weights, or how it computes.
    Weights,
}

impl Program for Pair {
    fn make(compiler: &Compiler, file: &ModelFile, at: &Shapes) -> Outcome<Pair> {
        Pair::of(compiler, (file, None), at)
    }

    fn inputs(&self) -> &[IoInfo] {
        self.floats.predictor.inputs()
    }
}

impl Pair {
    /// The integers of `file` beside the floats of `reference`, or its own.
    fn of(compiler: &Compiler, (file, reference): (&ModelFile, Option<&ModelFile>), at: &Shapes) -> Outcome<Pair> {
        let integers = compiler.inside(file, at)?;
        let floats = compiler.float_inside(reference.unwrap_or(file), at)?;
        if reference.is_none() && !integers.is_quantized() {
            let text = "nothing of the model is INT8; give --ranges of `qc calibrate`, or a model that is quantized";
            return Err(Failure::new(MODEL, format!("{}: {text}", file.path.display())));
        }
        let (right, got) = (floats.predictor.outputs(), integers.predictor.outputs());
        if let Some(other) = reference {
            same_inputs((file, integers.predictor.inputs()), (other, floats.predictor.inputs()))?;
        }
        let same = |(at, b): (usize, &IoInfo)| {
            // Of a value and what its pair leaves of it, the latter.
            let is = |a: &IoInfo| integers.float_name(&a.name) == b.name && a.shape == b.shape;
            Some((b.name.clone(), right.iter().rposition(is)?, at))
        };
        let mut common: Vec<_> = got.iter().enumerate().filter_map(same).collect();
        common.sort_by_key(|(_, right, _)| *right);
        Ok(Pair { floats, integers, common, compiler: compiler.clone(), at: at.clone() })
    }

    /// Callers of both.
    ///
    /// # Errors
    /// When memory is short.
    pub fn contexts(&self) -> Outcome<Contexts> {
        let options = ContextOptions { threads: Some(1), ..ContextOptions::default() };
        let of = |inside: &Inside| inside.predictor.context(&options);
        Ok(Contexts { floats: of(&self.floats)?, integers: of(&self.integers)? })
    }

    /// Names of the results of the floats, in their order, as tensors are called.
    pub fn returned(&self) -> Vec<String> {
        let m = &self.floats.module;
        let name = |v: &ValueId| m.name(*v).map(|name| self.integers.float_name(name).to_string());
        m.returns(m.body()).iter().filter_map(name).collect()
    }

    fn look(&self, contexts: &mut Contexts, alone: bool) -> Outcome<Looked> {
        contexts.floats.run()?;
        contexts.integers.run()?;
        let mut looked = Looked::default();
        let formats = self.integers.formats();
        for (name, of_floats, of_integers) in &self.common {
            let right = contexts.floats.output::<f32>(*of_floats)?;
            let got = contexts.integers.output::<f32>(*of_integers)?;
            looked.all.entry(name.clone()).or_default().observe(right, got);
            let format = formats.get(&**name).copied().flatten().filter(|format| format.axis.is_none());
            looked.rounding.entry(name.clone()).or_default().observe(format, right);
        }
        looked.alone = if alone { self.alone(&mut contexts.floats)? } else { Differences::new() };
        Ok(looked)
    }

    fn alone(&self, floats: &mut Context) -> Outcome<Differences> {
        let (inputs, right) = self.right(floats)?;
        Ok(isolated(&self.floats, &self.integers, &inputs, &right)?)
    }

    /// How far each op shifts the means of channels, on what the floats got in their last run.
    ///
    /// # Errors
    /// A defect of qc.
    pub fn shifts(&self, floats: &mut Context) -> Outcome<BTreeMap<String, Vec<f64>>> {
        let (inputs, right) = self.right(floats)?;
        Ok(biases::shifts(&self.integers, &inputs, &right)?)
    }

    /// The inputs of the floats' last run, and its tensors.
    fn right(&self, floats: &mut Context) -> Outcome<(Vec<HostTensor>, BTreeMap<String, HostTensor>)> {
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
        Ok((inputs, right))
    }

    /// What is known of each tensor, from the one whose op loses most.
    pub fn lines(&self, found: &Looked) -> Vec<Line> {
        let returned: BTreeSet<String> = self.returned().into_iter().collect();
        let line = |(name, all): (&String, &Difference)| Line {
            name: name.clone(),
            nodes: self.integers.nodes.get(name).cloned().unwrap_or_default(),
            readers: self.integers.readers(name),
            all: *all,
            alone: found.alone.get(name).copied(),
            rounding: found.rounding.get(name).copied().unwrap_or_default(),
            returned: returned.contains(name),
        };
        let mut lines: Vec<Line> = found.all.iter().map(line).collect();
        lines.sort_by(|a, b| {
            let by_all = a.all.sqnr().total_cmp(&b.all.sqnr());
            a.lost().total_cmp(&b.lost()).then(by_all).then(a.name.cmp(&b.name))
        });
        lines
    }
}

/// Refuses two models that do not take the same inputs.
fn same_inputs(a: (&ModelFile, &[IoInfo]), b: (&ModelFile, &[IoInfo])) -> Outcome {
    let alike = |(x, y): (&IoInfo, &IoInfo)| x.elem == y.elem && x.shape == y.shape;
    if a.1.len() == b.1.len() && a.1.iter().zip(b.1).all(alike) {
        return Ok(());
    }
    let text = |all: &[IoInfo]| all.iter().map(|io| format!("'{}' {io}", io.name)).collect::<Vec<_>>().join(", ");
    Err(Failure::usage(format!(
        "{} takes {}, and {} {}; --shape gives both the same",
        a.0.path.display(),
        text(a.1),
        b.0.path.display(),
        text(b.1)
    )))
}

/// What an input was filled with.
pub fn input(context: &mut Context, i: usize) -> Outcome<HostTensor> {
    let io = context.inputs()[i].clone();
    Ok(match io.elem {
        Elem::F32 => HostTensor::f32(io.shape, context.input_mut::<f32>(i, 1)?.to_vec()),
        Elem::I64 => HostTensor::i64(io.shape, context.input_mut::<i64>(i, 1)?.to_vec()),
        Elem::I32 => HostTensor::i32(io.shape, context.input_mut::<i32>(i, 1)?.to_vec()),
        Elem::U8 => HostTensor::u8(io.shape, context.input_mut::<u8>(i, 1)?.to_vec()),
        Elem::I8 => HostTensor::i8(io.shape, context.input_mut::<i8>(i, 1)?.to_vec()),
    })
}

impl Line {
    /// What the op loses alone, in decibels; nothing is lost where that was not measured.
    pub fn lost(&self) -> f64 {
        self.alone.map_or(f64::INFINITY, |alone| alone.sqnr())
    }

    /// Why the op loses what it loses alone, if it loses anything.
    pub fn cause(&self) -> Option<Cause> {
        let (alone, rounding) = (self.alone?.sqnr(), &self.rounding);
        if alone.is_infinite() {
            return None;
        }
        // Half of the noise, at least, is what the format makes of right values.
        if rounding.holds.is_none() || rounding.difference.sqnr() > alone + 3.0 {
            return Some(Cause::Weights);
        }
        let clipped = rounding.clipped as f64 / rounding.elements.max(1) as f64;
        Some(match rounding.width() {
            Some(width) if width >= WIDE => Cause::Wide(width),
            _ if clipped > 1e-3 => Cause::Clips(clipped),
            _ => Cause::Steps,
        })
    }

    /// Whether the tensor has a format that does not fit its values, whatever 8 bits can hold.
    pub fn misfits(&self) -> bool {
        matches!(self.cause(), Some(Cause::Wide(_) | Cause::Clips(_)))
    }
}

/// A format so many times as wide as its values is called wide: one bit of eight is lost.
const WIDE: f64 = 2.0;

impl Compared<'_> {
    /// The samples with the programs that are compared on them.
    ///
    /// # Errors
    /// As the compiler, and as reading samples.
    pub fn parts(&self, data: &SampleArgs, ui: Ui) -> Outcome<Vec<Part<Pair>>> {
        let make = |compiler: &Compiler, file: &ModelFile, at: &Shapes| Pair::of(compiler, (file, self.reference), at);
        data.parts_by(self.options, self.file, &make, ui)
    }

    /// Compares on samples, of the first `alone` runs what each op loses alone: how many there were, and what is known of each tensor,
    /// from the one whose op loses most.
    ///
    /// # Errors
    /// As [`Compared::parts`]; no samples.
    pub fn lines(&self, data: &SampleArgs, alone: usize, ui: Ui) -> Outcome<(usize, Vec<Line>)> {
        let parts = self.parts(data, ui)?;
        let groups = turns(&parts, data.limit())?;
        let samples = groups.iter().flatten().map(|turn| turn.samples).sum();
        let bar = ui.progress(samples, "compare");
        let mut found = Looked::default();
        for group in &groups {
            look(data, (group, alone), &bar)?.iter().for_each(|looked| found.merge(looked));
        }
        bar.finish_and_clear();
        let first = parts.first().filter(|_| samples > 0);
        let first = first.ok_or_else(|| Failure::content(&data.data, "holds no samples"))?;
        Ok((samples, first.program.lines(&found)))
    }

    /// Ops of the model in integers and what they lose alone, on one run: what a search for those that have to be floats begins with.
    ///
    /// # Errors
    /// As a comparison.
    pub fn choices(&self, data: &SampleArgs, ui: Ui) -> Outcome<Vec<Choice>> {
        let one = data.first(1);
        Ok(choices(&self.lines(&one, 1, ui)?.1))
    }
}

/// Runs both on the samples of one program, and on the first `alone` runs of all each op for itself.
fn look(data: &SampleArgs, (group, alone): (&[Turn<'_, Pair>], usize), bar: &ProgressBar) -> Outcome<Vec<Looked>> {
    let Some(pair) = group.first().map(|turn| &turn.part.program) else { return Ok(Vec::new()) };
    let work = |contexts: &mut Contexts, i: usize| {
        let Turn { part, run, number, samples, .. } = &group[i];
        part.samples.fill(&mut contexts.floats, *run, part.rows())?;
        part.samples.fill(&mut contexts.integers, *run, part.rows())?;
        let looked = pair.look(contexts, *number < alone)?;
        bar.inc(*samples as u64);
        Ok(looked)
    };
    Ok(in_parallel(group.len(), data.threads(), || pair.contexts(), work)?.0)
}

/// The ops of lines as choices of a search, from the one that loses most.
pub fn choices(lines: &[Line]) -> Vec<Choice> {
    // An op also stands for the conversions that its readers had in front; these are named after the readers.
    let first: BTreeSet<&String> = lines.iter().filter_map(|line| line.nodes.first()).collect();
    let mut seen = BTreeSet::new();
    let mut choices = Vec::new();
    for line in lines.iter().filter(|line| line.nodes.first().is_some_and(|node| seen.insert(node))) {
        let own = |(i, node): &(usize, &String)| *i == 0 || !first.contains(node);
        let own: Vec<String> = line.nodes.iter().enumerate().filter(own).map(|(_, node)| node.clone()).collect();
        // A format is gone when neither what computes the tensor nor what reads it is in integers.
        let by_format = line.cause().is_some_and(|cause| cause != Cause::Weights);
        let readers = line.readers.iter().filter(|_| by_format).cloned();
        let mut nodes: Vec<String> = own;
        nodes.extend(readers.filter(|reader| !nodes.contains(reader)).collect::<Vec<_>>());
        choices.push(Choice { nodes, alone: line.lost() });
    }
    choices
}

impl Looked {
    fn merge(&mut self, other: &Looked) {
        let all = |to: &mut Differences, of: &Differences| {
            of.iter().for_each(|(name, d)| to.entry(name.clone()).or_default().merge(d));
        };
        all(&mut self.all, &other.all);
        all(&mut self.alone, &other.alone);
        for (name, rounding) in &other.rounding {
            self.rounding.entry(name.clone()).or_default().merge(rounding);
        }
    }
}
