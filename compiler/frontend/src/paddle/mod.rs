//! Paddle models: decoding the program, reading its parameters, and the walk over the ops.

mod absorb;
mod elementwise;
mod flow;
mod movement;
mod nn;
pub(crate) mod op;
pub(crate) mod ops;
pub(crate) mod params;
pub(crate) mod pir;
pub(crate) mod program;
mod quant;
mod shapes;
#[cfg(test)]
pub(crate) mod tests;

use crate::elements::Stored;
use crate::emit::{Graph, Known, Value, scalar};
use crate::error::{ImportError, ImportErrors, MAX_ERRORS, Refusal};
use crate::inputs::{self, Declared, Shapes};
use crate::onnx::plain_elem;
use crate::options::{Disposition, Imported, NodeReport, Options, Port, Source};
use crate::{width, wire};
use flow::{is_port, live_ops, ports, readers, reads};
use op::{Lowered, Op, Tensor, arguments};
use program::{BlockDesc, OpDesc, ProgramDesc, VarDesc};
use prost::Message;
use qc_ir::Deadline;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Variable kinds, as Paddle numbers them, that have no stored tensor.
const KINDS_WITHOUT_DATA: [i32; 4] = [9, 10, 15, 17];

/// A variable's state during the walk.
enum Slot {
    Ready(Tensor),
    /// Its producer was refused; users are not reported again.
    Failed,
}

struct Importer<'a> {
    g: Graph,
    program: &'a Program,
    block: &'a BlockDesc,
    version: i64,
    env: HashMap<&'a str, Slot>,
    /// Live ops that read a variable.
    readers: HashMap<&'a str, Vec<usize>>,
    /// `fake_dequantize_*` ops that went into the weights of the product before them.
    absorbed: HashSet<usize>,
    errors: Vec<ImportError>,
    report: Vec<NodeReport>,
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

/// What an op is called in reports.
#[derive(Clone)]
struct Label {
    node: String,
    op_type: String,
}

/// Imports a Paddle program with its parameters.
///
/// # Errors
/// Everything that keeps the model from being imported.
pub(crate) fn import(source: &Source<'_>, options: &Options) -> Result<Imported, ImportErrors> {
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
    let program = Program {
        labels: block.ops.iter().map(|op| labels.of(op)).collect(),
        inner: bodies.filter(|op| ops::refusal(op).is_some()).map(|op| labels.of(op)).collect(),
        block,
        version,
        format: describe(source, version),
        separate: true,
    };
    import_program(&program, source, options)
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
    let (params, mut errors) = match read_params(source, program, &live) {
        Ok(params) => (params, Vec::new()),
        Err(list) => (params::Params::new(), list),
    };
    let declared: Vec<Declared> = feeds.iter().map(|name| declare(name, vars.get(name).copied())).collect();
    let shapes = inputs::resolve(&declared, options).map_err(|list| errors.extend(list));
    let (Ok(shapes), true) = (shapes, errors.is_empty()) else {
        // Shapes and parameters are needed for anything else, but what is unknown or ragged can be told already.
        errors.extend(feeds.iter().filter_map(|name| input_type(name, &vars).err()));
        errors.extend(unsupported(program, &live));
        return Err(ImportErrors { list: errors });
    };
    let mut importer = Importer {
        g: Graph::new(&source.name),
        program,
        block,
        version: program.version,
        env: HashMap::new(),
        readers: readers(block, &live),
        absorbed: HashSet::new(),
        errors,
        report: Vec::new(),
    };
    importer.parameters(params);
    let inputs = importer.inputs(&feeds, &vars, &shapes);
    importer.g.deadline = options.deadline;
    importer.ops(&live, options.deadline);
    if importer.errors.iter().any(|e| matches!(e, ImportError::Node { .. })) {
        importer.errors.extend(inner_ops(program, &live));
    }
    importer.finish(&fetches, inputs, &shapes, program.format.clone())
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
        let main = ["Out", "Output", "Y"].iter().find_map(|slot| arguments(&op.outputs, slot).first());
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

/// What can be told of ops without shapes and parameters.
fn unsupported(program: &Program, live: &[bool]) -> Vec<ImportError> {
    let all = program.block.ops.iter().zip(&program.labels).zip(live).filter(|(_, live)| **live);
    let mut errors: Vec<ImportError> =
        all.filter_map(|((op, label), _)| Some(node_error(label, ops::refusal(op)?))).collect();
    errors.extend(inner_ops(program, live));
    errors.truncate(MAX_ERRORS);
    errors
}

/// The unsupported ops in the bodies of control flow that the outputs depend on.
fn inner_ops(program: &Program, live: &[bool]) -> Vec<ImportError> {
    let reached = program.block.ops.iter().zip(live).any(|(op, live)| *live && ops::refusal(op).is_some());
    let one = |label: &Label| {
        let refusal = ops::unsupported(&label.op_type);
        node_error(label, Refusal { reason: format!("inside control flow: {}", refusal.reason), ..refusal })
    };
    if reached { program.inner.iter().map(one).collect() } else { Vec::new() }
}

fn node_error(label: &Label, refusal: Refusal) -> ImportError {
    let Refusal { reason, remedy } = refusal;
    ImportError::Node { node: label.node.clone(), op_type: label.op_type.clone(), reason, remedy }
}

/// How the elements of an input are stored; the error says that it is no dense tensor.
fn input_type(name: &str, vars: &HashMap<&str, &VarDesc>) -> Result<Stored, ImportError> {
    let stored = match vars.get(name).and_then(|v| v.r#type.tensor.as_ref()) {
        Some(t) if t.lod_level.unwrap_or(0) > 0 => Err("it is a ragged sequence (LoD)".into()),
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
    Declared { name: name.into(), dims }
}

impl<'a> Importer<'a> {
    fn parameters(&mut self, mut params: params::Params) {
        for v in &self.block.vars {
            if let Some(tensor) = params.remove(&v.name) {
                self.g.grant(&tensor);
                let known = Known { name: v.name.as_str().into(), tensor: Arc::new(tensor), narrow: None };
                self.env.insert(&v.name, Slot::Ready(Tensor::Plain(Value::Known(known))));
            }
        }
    }

    fn inputs(&mut self, feeds: &[&'a str], vars: &HashMap<&str, &VarDesc>, shapes: &Shapes) -> Vec<Port> {
        let mut made = Vec::new();
        for (&name, (dims, batched)) in feeds.iter().zip(&shapes.inputs) {
            match input_type(name, vars) {
                Ok(stored) => {
                    let elem = plain_elem(stored);
                    let value = self.g.input(name, elem, dims);
                    self.env.insert(name, Slot::Ready(Tensor::Plain(value)));
                    made.push(Port { name: name.into(), elem, dims: dims.clone(), batched: *batched });
                }
                Err(e) => {
                    self.errors.push(e);
                    self.env.insert(name, Slot::Failed);
                }
            }
        }
        made
    }

    fn ops(&mut self, live: &[bool], deadline: Option<Deadline>) {
        for (i, op) in self.block.ops.iter().enumerate().filter(|(_, op)| !is_port(op)) {
            if self.errors.len() >= MAX_ERRORS {
                break;
            }
            let Label { node, op_type } = &self.program.labels[i];
            let source = self.g.at_node(node, op_type);
            let disposition = if live[i] {
                self.op(i, op)
            } else {
                Some(Disposition::Folded("no output of the model depends on it"))
            };
            if let Some(disposition) = disposition {
                self.report.push(NodeReport { node: source, disposition });
            }
            if let Some(Err(over)) = deadline.map(|d| d.check()) {
                self.errors.push(over.into());
                break;
            }
        }
    }

    /// Lowers one op; `None` when it was refused.
    fn op(&mut self, i: usize, desc: &'a OpDesc) -> Option<Disposition> {
        let label = &self.program.labels[i];
        let row = match (ops::find(&desc.r#type), ops::refusal(desc)) {
            (Some(row), None) => row,
            (_, refusal) => {
                let refusal = refusal.unwrap_or_else(|| ops::unsupported(&desc.r#type));
                self.errors.push(node_error(label, refusal));
                self.fail_outputs(desc);
                return None;
            }
        };
        let Some(inputs) = self.op_inputs(desc, label) else {
            self.fail_outputs(desc);
            return None;
        };
        let before = self.g.made();
        match self.lower(i, desc, row, inputs) {
            Ok(lowered) => {
                let why = lowered.why;
                self.bind(desc, row.out, lowered);
                Some(if self.g.made() > before { Disposition::Mapped } else { Disposition::Folded(why) })
            }
            Err(refusal) => {
                self.errors.push(node_error(label, refusal));
                self.fail_outputs(desc);
                None
            }
        }
    }

    fn lower(
        &mut self,
        i: usize,
        desc: &'a OpDesc,
        row: &ops::Row,
        mut inputs: Vec<(&'a str, Vec<Tensor>)>,
    ) -> Result<Lowered, Refusal> {
        if self.absorbed.contains(&i) {
            let value = inputs.iter().find(|(slot, _)| *slot == "X").and_then(|(_, v)| v.first());
            let Some(Tensor::Plain(value)) = value else { return Err(Refusal::invalid("its input `X` is missing")) };
            return Ok(Lowered::identity(value.clone(), "it is part of the weight's scale"));
        }
        if let Some(real) = self.in_steps(desc, &inputs)? {
            return Ok(Lowered::identity(real, "it undoes the quantize before it"));
        }
        if let Some(dequantize) = self.absorb(i, desc, row.out, &mut inputs)? {
            self.absorbed.insert(dequantize);
        }
        let inputs = self.plain(inputs)?;
        let op = Op { desc, inputs, version: self.version };
        (row.lower)(&mut self.g, &op)
    }

    /// Writes integers that stand for steps as what they are: `real / step`.
    fn plain(&mut self, inputs: Vec<(&'a str, Vec<Tensor>)>) -> Result<Vec<(&'a str, Vec<Value>)>, Refusal> {
        let mut out = Vec::new();
        for (slot, tensors) in inputs {
            let mut values = Vec::new();
            for t in tensors {
                values.push(match t {
                    Tensor::Plain(value) => value,
                    Tensor::Steps { real, step: Some(step) } => {
                        let by = scalar(step);
                        self.g.arith(crate::emit::Arith::Div, &real, &by)?
                    }
                    Tensor::Steps { step: None, .. } | Tensor::Measured(_) => return Err(quant::measured()),
                });
            }
            out.push((slot, values));
        }
        Ok(out)
    }

    /// The inputs of an op; `None` if one comes from a refused op or is not defined.
    fn op_inputs(&mut self, desc: &'a OpDesc, label: &Label) -> Option<Vec<(&'a str, Vec<Tensor>)>> {
        let mut slots = Some(Vec::new());
        let inputs = desc.inputs.iter().map(|s| (s.parameter.as_str(), s.arguments.as_slice()));
        let attrs = desc.attrs.iter().map(|a| (a.name.as_str(), a.variables()));
        for (name, arguments) in inputs.chain(attrs).filter(|(_, arguments)| !arguments.is_empty()) {
            let values: Option<Vec<Tensor>> = arguments.iter().map(|name| self.lookup(name, label)).collect();
            slots = match (slots, values) {
                (Some(mut list), Some(values)) => {
                    list.push((name, values));
                    Some(list)
                }
                _ => None,
            };
        }
        slots
    }

    fn lookup(&mut self, name: &'a str, user: &Label) -> Option<Tensor> {
        match self.env.get(name) {
            Some(Slot::Ready(tensor)) => Some(tensor.clone()),
            Some(Slot::Failed) => None,
            None => {
                let reason =
                    format!("\"{name}\" is neither an input, nor a parameter, nor the result of an earlier op");
                self.errors.push(node_error(user, Refusal::invalid(reason)));
                self.env.insert(name, Slot::Failed);
                None
            }
        }
    }

    fn fail_outputs(&mut self, desc: &'a OpDesc) {
        for name in desc.outputs.iter().flat_map(|s| &s.arguments) {
            self.env.insert(name, Slot::Failed);
        }
    }

    fn bind(&mut self, desc: &'a OpDesc, out: &str, lowered: Lowered) {
        for (name, tensor) in arguments(&desc.outputs, out).iter().zip(lowered.values) {
            let tensor = match tensor {
                Tensor::Plain(value) => Tensor::Plain(value.named(name)),
                steps => steps,
            };
            let (Tensor::Plain(value) | Tensor::Steps { real: value, .. } | Tensor::Measured(value)) = &tensor;
            if let Value::Runtime(v) = *value
                && self.g.m.name(v).is_none()
            {
                self.g.m.set_name(v, name);
            }
            self.env.insert(name, Slot::Ready(tensor));
        }
        if let Some((slot, value)) = lowered.extra {
            for name in arguments(&desc.outputs, slot) {
                self.env.insert(name, Slot::Ready(value.clone()));
            }
        }
    }

    fn finish(
        mut self,
        fetches: &[&'a str],
        inputs: Vec<Port>,
        shapes: &Shapes,
        format: String,
    ) -> Result<Imported, ImportErrors> {
        let (mut values, mut outputs) = (Vec::new(), Vec::new());
        for &name in fetches {
            let value = match self.env.get(name) {
                Some(Slot::Ready(tensor)) => self.plain(vec![(name, vec![tensor.clone()])]),
                Some(Slot::Failed) => continue,
                None => Err(Refusal::invalid("no op computes it")),
            };
            match value.map(|list| list.into_iter().flat_map(|(_, v)| v).next()) {
                Ok(Some(value)) => {
                    let dims = self.g.dims(&value);
                    outputs.push(Port { name: name.into(), elem: self.g.elem(&value), dims, batched: false });
                    values.push((name.to_string(), value));
                }
                Ok(None) => {}
                Err(Refusal { reason, remedy }) => {
                    self.errors.push(ImportError::Port { name: name.into(), reason, remedy });
                }
            }
        }
        if !self.errors.is_empty() {
            return Err(ImportErrors { list: self.errors });
        }
        let module = self.g.finish(&values);
        Ok(Imported { module, inputs, outputs, report: self.report, fixed_batch: shapes.fixed_batch, format })
    }
}
