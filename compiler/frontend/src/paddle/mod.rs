//! Paddle models: decoding the program, reading its parameters, and what the walk over the ops asks.

mod absorb;
#[cfg(test)]
mod cases;
mod choose;
mod converted;
mod crf;
mod ctc;
mod detection;
mod elementwise;
mod flow;
mod fused;
mod indexing;
mod logic;
mod movement;
mod nn;
pub(crate) mod op;
pub(crate) mod ops;
pub(crate) mod params;
pub(crate) mod pir;
mod priors;
pub(crate) mod program;
mod quant;
mod ragged;
mod recurrent;
mod resize;
mod sequence;
mod shapes;
#[cfg(test)]
pub(crate) mod tests;

use crate::constants::Params;
use crate::elements::Stored;
use crate::emit::{Arith, Graph, Known, Value, scalar};
use crate::error::{ImportError, ImportErrors, MAX_ERRORS, Refusal};
use crate::inputs::{self, Declared};
use crate::options::{Imported, Options, Source};
use crate::walk::{self, Emitted, FrontEnd, Label, Walk};
use crate::{width, wire};
use flow::{is_port, live_ops, ports, readers, reads};
use op::{Lowered, Op, Tensor, arguments};
use program::{BlockDesc, OpDesc, ProgramDesc, VarDesc};
use prost::Message;
use qc_ir::Elem;
use std::collections::{HashMap, HashSet};

/// Variable kinds, as Paddle numbers them, that have no stored tensor.
const KINDS_WITHOUT_DATA: [i32; 4] = [9, 10, 15, 17];

/// What the walk asks of a Paddle program. Its nodes are ops, by their place in the block.
struct Importer<'a> {
    program: &'a Program,
    block: &'a BlockDesc,
    version: i64,
    /// Live ops that read a variable.
    readers: HashMap<&'a str, Vec<usize>>,
    /// `fake_dequantize_*` ops that went into the weights of the product before them.
    absorbed: HashSet<usize>,
    /// What is ragged.
    sequences: ragged::Sequences<'a>,
}

/// A program in one vocabulary, whatever form it was stored in.
struct Program {
    block: BlockDesc,
    /// Per op of the block.
    labels: Vec<Label>,
    /// Ops in the bodies of control flow that are not supported.
    inner: Vec<Label>,
    /// Version of the writer, 0 for 1.x.
    version: i64,
    /// The form, for people.
    format: String,
    /// Whether parameters may lie in files of their own.
    separate: bool,
}

/// Imports a Paddle program with its parameters.
///
/// # Errors
/// Everything that keeps the model from being imported.
pub(crate) fn import(source: &Source<'_>, options: &Options) -> Result<Imported, ImportErrors> {
    import_program(&decode(source, options)?, source, options)
}

/// The inputs that a program declares.
///
/// # Errors
/// A file that is no program.
pub(crate) fn declared(source: &Source<'_>, options: &Options) -> Result<Vec<Declared>, ImportErrors> {
    Ok(inputs_of(&decode(source, options)?))
}

/// The inputs that a Paddle 3 program declares.
///
/// # Errors
/// A file that is no program.
pub(crate) fn declared_pir(source: &Source<'_>) -> Result<Vec<Declared>, ImportErrors> {
    Ok(inputs_of(&pir::read(&source.model)?))
}

fn inputs_of(program: &Program) -> Vec<Declared> {
    let vars: HashMap<&str, &VarDesc> = program.block.vars.iter().map(|v| (v.name.as_str(), v)).collect();
    let feeds = ports(&program.block, "feed");
    let offsets = feeds.iter().map(|name| ragged::offsets_of(name, vars.get(name).copied()).ok().flatten()).collect();
    Feeds { names: feeds, offsets }.declared(&vars)
}

/// The inputs of a program.
struct Feeds<'a> {
    names: Vec<&'a str>,
    /// The names of the offsets of those that are ragged.
    offsets: Vec<Option<String>>,
}

impl Feeds<'_> {
    /// Each input, with its offsets behind it.
    fn declared(&self, vars: &HashMap<&str, &VarDesc>) -> Vec<Declared> {
        let one = |(&name, offsets): (&&str, &Option<String>)| {
            let own = Declared { counts: offsets.is_some(), ..declare(name, vars.get(name).copied()) };
            std::iter::once(own).chain(offsets.as_deref().map(ragged::declared_offsets))
        };
        self.names.iter().zip(&self.offsets).flat_map(one).collect()
    }
}

fn decode(source: &Source<'_>, options: &Options) -> Result<Program, ImportErrors> {
    let broken = |reason: String| ImportErrors::from(ImportError::Broken { reason });
    wire::check_model(&source.model, &program::PROGRAM, &options.limits)?;
    let mut program = ProgramDesc::decode(source.model.clone()).map_err(|e| broken(e.to_string()))?;
    if program.blocks.is_empty() {
        return Err(broken("the program has no block".into()));
    }
    let block = program.blocks.remove(0);
    let version = program.version.and_then(|v| v.version).unwrap_or(0);
    let bodies = program.blocks.iter().flat_map(|b| &b.ops);
    let mut labels = Labels::default();
    Ok(Program {
        labels: block.ops.iter().map(|op| labels.of(op)).collect(),
        inner: bodies.filter(|op| ops::refusal(op).is_some()).map(|op| labels.of(op)).collect(),
        block,
        version,
        format: describe(source, version),
        separate: true,
    })
}

/// Imports a Paddle 3 program with its parameters.
///
/// # Errors
/// Everything that keeps the model from being imported.
pub(crate) fn import_pir(source: &Source<'_>, options: &Options) -> Result<Imported, ImportErrors> {
    import_program(&pir::read(&source.model)?, source, options)
}

fn import_program(program: &Program, source: &Source<'_>, options: &Options) -> Result<Imported, ImportErrors> {
    let block = &program.block;
    let slots = block.ops.iter().flat_map(|op| &op.inputs);
    let bytes = source.model.len() + source.params.as_ref().map_or(0, |p| p.len());
    width::check(slots.map(|slot| slot.arguments.len()), bytes, &options.limits)?;
    let vars: HashMap<&str, &VarDesc> = block.vars.iter().map(|v| (v.name.as_str(), v)).collect();
    let feeds = ports(block, "feed");
    let fetches = ports(block, "fetch");
    if fetches.is_empty() {
        let reason = "the program has no fetch op, so it has no output".into();
        return Err(ImportErrors::from(ImportError::Broken { reason }));
    }
    let live = live_ops(block, &fetches);
    let (params, mut errors) = match options.constants.params(|| read_params(source, program, &live)) {
        Ok(params) => (params, Vec::new()),
        Err(list) => (Params::new(), list),
    };
    let offsets = feeds.iter().map(|name| {
        let own = ragged::offsets_of(name, vars.get(name).copied());
        own.unwrap_or_else(|e| {
            errors.push(e);
            None
        })
    });
    let offsets: Vec<Option<String>> = offsets.collect();
    let feeds = Feeds { names: feeds, offsets };
    // Results that are ragged get theirs when they are known to be.
    let fetched: Vec<String> = fetches.iter().map(|name| format!("{name}.offsets")).collect();
    let declared = feeds.declared(&vars);
    let shapes = inputs::resolve(&declared, options).map_err(|list| errors.extend(list));
    let ops = block.ops.iter().enumerate().filter(|(_, op)| !is_port(op));
    let nodes: Vec<(usize, bool)> = ops.map(|(i, _)| (i, live[i])).collect();
    let (readers, absorbed) = (readers(block, &live), HashSet::new());
    let sequences = ragged::Sequences::default();
    let mut importer = Importer { program, block, version: program.version, readers, absorbed, sequences };
    let (Ok(shapes), true) = (shapes, errors.is_empty()) else {
        // Shapes and parameters are needed for anything else, but what is unknown or ragged can be told already.
        errors.extend(feeds.names.iter().filter_map(|name| input_type(name, &vars).err()));
        let mut unsupported = walk::unknown(&importer, &nodes);
        unsupported.extend(inner_ops(program, &live));
        errors.extend(unsupported.into_iter().take(MAX_ERRORS));
        return Err(ImportErrors { list: errors });
    };
    let mut walk = Walk::new(&source.name, options.deadline);
    parameters(&mut walk, block, params);
    feed(&mut walk, &mut importer, &feeds, &shapes, options);
    walk.nodes(&mut importer, &nodes);
    if walk.errors.iter().any(|e| matches!(e, ImportError::Node { .. })) {
        walk.errors.extend(inner_ops(program, &live));
    }
    let mut results = Vec::new();
    for (&name, offsets) in fetches.iter().zip(&fetched) {
        results.push(name);
        if let Some(v) = importer.sequences.of_output(&mut walk.g, name) {
            walk.define(offsets, Tensor::Plain(v));
            results.push(offsets);
        }
    }
    let imported = walk.finish(&mut importer, results.into_iter(), shapes.fixed_batch, program.format.clone());
    imported.map_err(|e| inputs::blame_options(e, &declared, options))
}

/// Makes the inputs of a program.
fn feed<'a>(
    walk: &mut Walk<'a, Tensor>,
    importer: &mut Importer<'a>,
    feeds: &'a Feeds<'a>,
    shapes: &inputs::Shapes,
    options: &Options,
) {
    let vars: HashMap<&str, &VarDesc> = importer.block.vars.iter().map(|v| (v.name.as_str(), v)).collect();
    let one = |(&name, offsets): (&&'a str, &'a Option<String>)| {
        let own = (name, input_type(name, &vars).map(Stored::plain));
        std::iter::once(own).chain(offsets.as_deref().map(|name| (name, Ok(Elem::I64))))
    };
    walk.inputs(feeds.names.iter().zip(&feeds.offsets).flat_map(one), shapes, &options.values);
    for (&name, offsets) in feeds.names.iter().zip(&feeds.offsets) {
        let Some(offsets) = offsets else { continue };
        if let (Some(Tensor::Plain(rows)), Some(Tensor::Plain(offsets))) = (walk.get(name), walk.get(offsets)) {
            let (rows, offsets) = (walk.g.dims(rows)[0], offsets.clone());
            let noted = importer.sequences.input(&mut walk.g, name, &offsets, rows);
            walk.errors.extend(noted.err());
        }
    }
}

fn describe(source: &Source<'_>, version: i64) -> String {
    let version = match version {
        0 => "1.x".into(),
        v => format!("{}.{}.{}", v / 1_000_000, v / 1000 % 1000, v % 1000),
    };
    let params = if source.params.is_some() { "combined parameters" } else { "separate parameters" };
    format!("Paddle program, version {version}, {params}")
}

/// Names of ops for people: the type and the variable an op makes. An op that writes what another one like it wrote has
/// its number behind the name.
#[derive(Default)]
struct Labels {
    seen: HashMap<String, usize>,
}

impl Labels {
    fn of(&mut self, op: &OpDesc) -> Label {
        let main = ["Out", "Output", "Y", "Hidden"].iter().find_map(|slot| arguments(&op.outputs, slot).first());
        let any = || op.outputs.iter().flat_map(|o| &o.arguments).next();
        let mut node = format!("{}:{}", op.r#type, main.or_else(any).map_or("", String::as_str));
        let count = self.seen.entry(node.clone()).or_default();
        *count += 1;
        if *count > 1 {
            node = format!("{node}#{count}");
        }
        Label { node, op_type: op.r#type.clone() }
    }
}

/// The unsupported ops in the bodies of control flow that the outputs depend on.
fn inner_ops(program: &Program, live: &[bool]) -> Vec<ImportError> {
    let reached = program.block.ops.iter().zip(live).any(|(op, live)| *live && ops::refusal(op).is_some());
    let one = |label: &Label| {
        let refusal = ops::unsupported(&label.op_type);
        label.error(Refusal { reason: format!("inside control flow: {}", refusal.reason), ..refusal })
    };
    if reached { program.inner.iter().map(one).collect() } else { Vec::new() }
}

/// How the elements of an input are stored; the error says that it is no dense tensor.
fn input_type(name: &str, vars: &HashMap<&str, &VarDesc>) -> Result<Stored, ImportError> {
    let stored = match vars.get(name).and_then(|v| v.r#type.tensor.as_ref()) {
        Some(t) => params::stored_type(t.tensor.data_type),
        None => Err("it is no dense tensor".into()),
    };
    let remedy = "export the model with dense inputs".into();
    stored.map_err(|reason| ImportError::Port { name: name.into(), reason, remedy })
}

/// All parameters of a combined file, or those files that a live op reads.
fn read_params(source: &Source<'_>, program: &Program, live: &[bool]) -> Result<params::Params, Vec<ImportError>> {
    let block = &program.block;
    let stored = |v: &&VarDesc| v.persistable == Some(true) && !KINDS_WITHOUT_DATA.contains(&v.r#type.kind);
    let mut declared: Vec<params::Declared> = block.vars.iter().filter(stored).map(parameter).collect();
    if let Some(bytes) = &source.params {
        return params::read_combined(&declared, bytes);
    }
    if !program.separate && !declared.is_empty() {
        return Err(params::without_file(&declared));
    }
    let live_ops = block.ops.iter().zip(live).filter(|(_, live)| **live);
    let read: HashSet<&str> = live_ops.flat_map(|(op, _)| reads(op)).collect();
    declared.retain(|d| read.contains(d.name.as_str()));
    params::read_separate(&declared, source.files)
}

fn parameter(v: &VarDesc) -> params::Declared {
    let tensor = v.r#type.tensor.as_ref().map(|t| &t.tensor);
    params::Declared {
        name: v.name.clone(),
        data_type: tensor.map_or(-1, |t| t.data_type),
        // Without a description nothing is known about the shape.
        dims: tensor.map_or_else(|| vec![-1], |t| t.dims.clone()),
    }
}

fn declare(name: &str, var: Option<&VarDesc>) -> Declared {
    let tensor = var.and_then(|v| v.r#type.tensor.as_ref());
    let dims = tensor.map(|t| t.tensor.dims.iter().map(|&d| (d > 0).then_some(d)).collect());
    Declared { name: name.into(), dims, names: Vec::new(), counts: false }
}

/// Defines the parameters of a program.
fn parameters<'a>(walk: &mut Walk<'a, Tensor>, block: &'a BlockDesc, mut params: Params) {
    for v in &block.vars {
        if let Some(tensor) = params.remove(&v.name) {
            walk.g.grant(&tensor);
            let known = Known { name: v.name.as_str().into(), tensor, narrow: None };
            walk.define(&v.name, Tensor::Plain(Value::Known(known)));
        }
    }
}

/// Inputs of an op by slot, those without variables left out, and attributes that are variables.
fn slots(desc: &OpDesc) -> impl Iterator<Item = (&str, &[String])> {
    let inputs = desc.inputs.iter().map(|s| (s.parameter.as_str(), s.arguments.as_slice()));
    let attrs = desc.attrs.iter().map(|a| (a.name.as_str(), a.variables()));
    inputs.chain(attrs).filter(|(_, arguments)| !arguments.is_empty())
}

impl<'a> FrontEnd<'a> for Importer<'a> {
    type Node = usize;
    type Operator = &'static op::Row;
    type Tensor = Tensor;

    const EMPTY_IS_LEFT_OUT: bool = false;
    const UNDEFINED: &'static str = "nor a parameter, nor the result of an earlier op";

    fn label(&self, i: usize) -> Label {
        self.program.labels[i].clone()
    }

    fn operator(&self, i: usize) -> Result<&'static op::Row, Refusal> {
        let desc = &self.block.ops[i];
        match (ops::find(&desc.r#type), ops::refusal(desc)) {
            (Some(row), None) => Ok(row),
            (_, refusal) => Err(refusal.unwrap_or_else(|| ops::unsupported(&desc.r#type))),
        }
    }

    /// Nothing of an op that is refused, since operands of control flow need not be tensors.
    fn reads(&self, i: usize) -> Vec<&'a [String]> {
        let desc = &self.block.ops[i];
        match ops::refusal(desc) {
            None => slots(desc).map(|(_, arguments)| arguments).collect(),
            Some(_) => Vec::new(),
        }
    }

    fn writes(&self, i: usize) -> impl Iterator<Item = &'a str> {
        self.block.ops[i].outputs.iter().flat_map(|s| &s.arguments).map(String::as_str)
    }

    /// None: parameters are defined before the walk.
    fn constant(&self, _: &mut Graph, _: &str) -> Option<Result<Tensor, ImportError>> {
        None
    }

    fn emit(
        &mut self,
        walk: &mut Walk<'a, Tensor>,
        i: usize,
        row: &'static op::Row,
        inputs: Vec<Vec<Option<Tensor>>>,
    ) -> Result<Emitted<'a, Tensor>, Refusal> {
        let desc = &self.block.ops[i];
        let inputs = slots(desc).zip(inputs).map(|((name, _), v)| (name, v.into_iter().flatten().collect())).collect();
        let lowered = self.lower(walk, i, row, inputs)?;
        self.sequences.note(&walk.g, desc, row.out, &lowered);
        let Lowered { values, extra, ragged: _, why } = lowered;
        let mut outputs = Vec::new();
        for (name, tensor) in arguments(&desc.outputs, row.out).iter().zip(values) {
            outputs.push((name.as_str(), Some(named(&mut walk.g, tensor, name))));
        }
        for (i, (slot, tensor)) in extra.iter().enumerate() {
            // One tensor stands for all variables of its slot, several for one each.
            let of_slot = |list: &[(&str, Tensor)]| list.iter().filter(|other| other.0 == *slot).count();
            let (place, only) = (of_slot(&extra[..i]), of_slot(&extra) == 1);
            let names = arguments(&desc.outputs, slot).iter().enumerate().filter(|(n, _)| only || *n == place);
            outputs.extend(names.map(|(_, name)| (name.as_str(), Some(tensor.clone()))));
        }
        Ok(Emitted { outputs, why })
    }

    fn value(tensor: &Tensor) -> &Value {
        match tensor {
            Tensor::Plain(value) | Tensor::Measured(value) => value,
            Tensor::Steps { real, .. } | Tensor::Bytes { real, .. } => real,
        }
    }

    fn output(&mut self, g: &mut Graph, tensor: Tensor) -> Result<Value, Refusal> {
        plain_one(g, tensor)
    }

    fn undefined_output(name: &str) -> ImportError {
        let Refusal { reason, remedy, .. } = Refusal::invalid("no op computes it");
        ImportError::Port { name: name.into(), reason, remedy }
    }
}

impl<'a> Importer<'a> {
    fn lower(
        &mut self,
        walk: &mut Walk<'a, Tensor>,
        i: usize,
        row: &op::Row,
        mut inputs: Vec<(&'a str, Vec<Tensor>)>,
    ) -> Result<Lowered, Refusal> {
        let desc = &self.block.ops[i];
        if self.absorbed.contains(&i) {
            let value = inputs.iter().find(|(slot, _)| *slot == "X").and_then(|(_, v)| v.first());
            let Some(Tensor::Plain(value)) = value else { return Err(Refusal::invalid("its input `X` is missing")) };
            return Ok(Lowered::identity(value.clone(), "it is part of the weight's scale"));
        }
        if let Some(real) = self.in_steps(&mut walk.g, desc, &inputs)? {
            return Ok(Lowered::identity(real, "it undoes the quantize before it"));
        }
        if let Some(dequantize) = self.absorb(walk, i, row.out, &mut inputs)? {
            self.absorbed.insert(dequantize);
        }
        let bytes = converted::concerns(desc, &inputs).then(|| inputs.clone());
        // Bytes are not brought into a form of their own before it is known how they are read.
        let inputs = match &bytes {
            Some(_) => Vec::new(),
            None => plain(&mut walk.g, inputs)?,
        };
        let is_read = |name: &String| self.readers.contains_key(name.as_str());
        let read = desc.outputs.iter().filter(|slot| slot.arguments.iter().any(is_read));
        let read = read.map(|slot| slot.parameter.as_str()).collect();
        let ragged = self.sequences.of_operands(desc);
        let op = Op { desc, inputs, version: self.version, ragged, read };
        match bytes {
            Some(tensors) => converted::lower(&mut walk.g, op, &tensors, row.lower),
            None => (row.lower)(&mut walk.g, &op),
        }
    }
}

/// A tensor under the name of a variable. Integers that stand for steps are no constants, and have none.
fn named(g: &mut Graph, tensor: Tensor, name: &str) -> Tensor {
    match tensor {
        Tensor::Plain(value) => Tensor::Plain(g.named(value, name)),
        Tensor::Steps { ref real, .. } | Tensor::Measured(ref real) | Tensor::Bytes { ref real, .. } => {
            g.named(real.clone(), name);
            tensor
        }
    }
}

/// Writes integers that stand for steps as what they are: `real / step`.
fn plain<'a>(g: &mut Graph, inputs: Vec<(&'a str, Vec<Tensor>)>) -> Result<Vec<(&'a str, Vec<Value>)>, Refusal> {
    let mut out = Vec::new();
    for (slot, tensors) in inputs {
        let values = tensors.into_iter().map(|t| plain_one(g, t)).collect::<Result<Vec<_>, _>>()?;
        out.push((slot, values));
    }
    Ok(out)
}

fn plain_one(g: &mut Graph, tensor: Tensor) -> Result<Value, Refusal> {
    match tensor {
        Tensor::Plain(value) => Ok(value),
        Tensor::Steps { real, step: Some(step) } => g.arith(Arith::Div, &real, &scalar(step)),
        Tensor::Bytes { real, format } => converted::stored(g, &real, format),
        Tensor::Steps { step: None, .. } | Tensor::Measured(_) => Err(quant::measured()),
    }
}
