//! ONNX models: decoding, constants, inputs, and what the walk over the nodes asks.

mod attention;
mod blocked;
mod body;
mod branch;
mod choose;
mod detection;
mod dynamic_lstm;
mod einsum;
mod elementwise;
mod functions;
mod fused;
mod indexing;
mod integer;
mod logic;
mod losses;
mod movement;
mod nn;
pub(crate) mod node;
mod norm;
pub(crate) mod ops;
mod order;
pub(crate) mod proto;
mod qdq;
mod qlinear;
mod recurrent;
mod reduce;
mod repeat;
mod resize;
mod sample;
mod scaled_attention;
mod shapes;
mod signal;
pub(crate) mod tensor;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod vectors;
pub(crate) mod write;

use crate::constants::Constants;
use crate::elements::Stored;
use crate::emit::{Graph, Known, Value};
use crate::error::{ImportError, ImportErrors, Refusal};
use crate::inputs::{self, Declared};
use crate::options::{Imported, Options, Source};
use crate::walk::{self, Emitted, FrontEnd, Label, Walk};
use crate::{width, wire};
use node::{Lower, Lowered, Node};
use prost::Message;
use proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use qc_ir::{Elem, HostTensor};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The oldest operator set whose operators are understood. Before 7, broadcasting is an attribute.
const OLDEST_OPSET: i64 = 6;

/// What the walk asks of an ONNX model.
struct Importer<'a> {
    source: &'a Source<'a>,
    constants: &'a Constants,
    /// How many graphs inside the walk is in: names there are not those of the model.
    depth: usize,
    /// How many nodes were walked in graphs inside.
    walked: usize,
    /// Constants of graphs inside, by address: a body that repeats has them once.
    decoded: RefCell<HashMap<*const TensorProto, Arc<HostTensor>>>,
    opset: i64,
    initializers: HashMap<&'a str, &'a TensorProto>,
    /// Names that live nodes read or the model gives back.
    read: HashSet<&'a str>,
}

/// How a node is lowered.
enum Operator {
    /// By a row of the table.
    Node(Lower),
    /// `If`.
    Branch,
    /// `Loop`.
    Loop,
    /// `Scan`.
    Scan,
}

/// Imports an ONNX model.
///
/// # Errors
/// Everything that keeps the model from being imported.
pub(crate) fn import(source: &Source<'_>, options: &Options) -> Result<Imported, ImportErrors> {
    let model = functions::written_out(decode(source, options)?, source.model.len(), &options.limits)?;
    let graph = graph_of(&model)?;
    width::check(inputs_of_variadic(graph).into_iter(), source.model.len(), &options.limits)?;
    let opset = opset(&model)?;
    let nodes = order::sorted(graph)?;
    let initializers: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let ports = ports(graph);
    let declared: Vec<Declared> = ports.iter().map(|v| declare(v)).collect();
    let nodes: Vec<(&NodeProto, bool)> = nodes.iter().copied().zip(live_nodes(graph, &nodes)).collect();
    let constants = &options.constants;
    let mut importer = Importer {
        source,
        constants,
        depth: 0,
        walked: 0,
        decoded: RefCell::default(),
        opset,
        initializers,
        read: names_read(graph, &nodes),
    };
    let shapes = inputs::resolve(&declared, options).map_err(|mut list| {
        // Nothing can be lowered without shapes, but which operators are unknown can be told already.
        list.extend(walk::unknown(&importer, &nodes));
        ImportErrors { list }
    })?;
    let mut walk = Walk::new(&source.name, options.deadline);
    walk.inputs(ports.iter().map(|v| (v.name.as_str(), input_elem(v))), &shapes, &options.values);
    walk.nodes(&mut importer, &nodes);
    if graph.output.is_empty() {
        walk.errors.push(ImportError::Broken { reason: "the model has no output".into() });
    }
    let outputs = graph.output.iter().map(|o| o.name.as_str());
    let imported = walk.finish(&mut importer, outputs, shapes.fixed_batch, describe(&model, opset));
    imported.map_err(|e| inputs::blame_options(e, &declared, options))
}

fn decode(source: &Source<'_>, options: &Options) -> Result<ModelProto, ImportErrors> {
    wire::check_model(&source.model, &proto::MODEL, &options.limits)?;
    let broken = |reason: String| ImportErrors::from(ImportError::Broken { reason });
    ModelProto::decode(source.model.clone()).map_err(|e| broken(e.to_string()))
}

/// The tensor of a file of its own, and its name if it has one.
pub(crate) fn tensor_file(bytes: crate::Bytes) -> Result<(Option<String>, HostTensor), String> {
    wire::check(&bytes, &proto::TENSOR).map_err(|e| e.to_string())?;
    let proto = TensorProto::decode(bytes).map_err(|e| e.to_string())?;
    let tensor = tensor::read(&proto, &crate::NoFiles)?;
    Ok((Some(proto.name).filter(|name| !name.is_empty()), tensor))
}

fn graph_of(model: &ModelProto) -> Result<&GraphProto, ImportErrors> {
    let broken = || ImportErrors::from(ImportError::Broken { reason: "the model has no graph".into() });
    model.graph.as_ref().ok_or_else(broken)
}

/// The inputs of a graph that are no initializers.
fn ports(graph: &GraphProto) -> Vec<&ValueInfoProto> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    graph.input.iter().filter(|v| !constants.contains(v.name.as_str())).collect()
}

/// The inputs that a model declares.
///
/// # Errors
/// A file that is no model.
pub(crate) fn declared(source: &Source<'_>, options: &Options) -> Result<Vec<Declared>, ImportErrors> {
    let model = decode(source, options)?;
    Ok(ports(graph_of(&model)?).into_iter().map(declare).collect())
}

/// How many inputs the nodes that take any number have, those in branches included.
fn inputs_of_variadic(graph: &GraphProto) -> Vec<usize> {
    let own = graph.node.iter().filter(|n| width::is_variadic(&n.op_type)).map(|n| n.input.len());
    own.chain(graph.node.iter().flat_map(body::bodies).flat_map(inputs_of_variadic)).collect()
}

fn opset(model: &ModelProto) -> Result<i64, ImportErrors> {
    let refuse = |reason: String| {
        let remedy = "convert it with onnx.version_converter to operator set 13 or newer".into();
        ImportErrors::from(ImportError::NotAModel { reason, remedy })
    };
    let main = model.opset_import.iter().filter(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let version = main.map(|o| o.version).max().ok_or_else(|| refuse("the model names no ONNX operator set".into()))?;
    if version < OLDEST_OPSET {
        return Err(refuse(format!(
            "the model uses ONNX operator set {version}, {OLDEST_OPSET} is the oldest supported"
        )));
    }
    Ok(version)
}

fn describe(model: &ModelProto, opset: i64) -> String {
    let mut text = format!("ONNX, operator set {opset}, IR version {}", model.ir_version);
    if !model.producer_name.is_empty() {
        text += &format!(", written by {}", model.producer_name);
    }
    text
}

fn declare(v: &ValueInfoProto) -> Declared {
    let tensor = v.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let shape = tensor.and_then(|t| t.shape.as_ref());
    // Some writers put 0 or -1 for a dim they do not know.
    let dims = shape.map(|s| s.dim.iter().map(|d| d.dim_value.filter(|&n| n > 0)).collect());
    // Some write `?` into every dim they do not know, which is no name of a dim.
    let name = |d: &proto::DimensionProto| d.dim_param.clone().filter(|name| !name.is_empty() && name != "?");
    let names = shape.map_or_else(Vec::new, |s| s.dim.iter().map(name).collect());
    Declared { name: v.name.clone(), dims, names, counts: false }
}

/// The element type of an input in the module.
fn input_elem(v: &ValueInfoProto) -> Result<Elem, ImportError> {
    let tensor = v.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let stored = match tensor {
        Some(t) => tensor::stored_type(t.elem_type),
        None => Err("it is no tensor".into()),
    };
    let remedy = "export the model with float inputs".into();
    stored.map(Stored::plain).map_err(|reason| ImportError::Port { name: v.name.clone(), reason, remedy })
}

/// The name of a node for people.
fn node_name(node: &NodeProto) -> String {
    match node.name.is_empty() {
        false => node.name.clone(),
        true => format!("{}:{}", node.op_type, node.output.first().map_or("", String::as_str)),
    }
}

/// Which of these sorted nodes the outputs depend on.
fn live_nodes(graph: &GraphProto, nodes: &[&NodeProto]) -> Vec<bool> {
    let mut needed: HashSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let mut live = vec![false; nodes.len()];
    for (node, live) in nodes.iter().zip(&mut live).rev() {
        *live = node.output.iter().any(|o| needed.contains(o.as_str()));
        if *live {
            needed.extend(body::reads(node));
        }
    }
    live
}

/// The names that live nodes read or the model gives back.
fn names_read<'a>(graph: &'a GraphProto, nodes: &[(&'a NodeProto, bool)]) -> HashSet<&'a str> {
    let inputs = nodes.iter().filter(|(_, live)| *live).flat_map(|(n, _)| body::reads(n));
    inputs.chain(graph.output.iter().map(|o| o.name.as_str())).collect()
}

impl Importer<'_> {
    /// A constant of a graph inside, which `decode` makes the first time.
    fn once(
        &self,
        proto: &TensorProto,
        decode: impl FnOnce() -> Result<HostTensor, String>,
    ) -> Result<Arc<HostTensor>, String> {
        let at = std::ptr::from_ref(proto);
        if let Some(known) = self.decoded.borrow().get(&at) {
            return Ok(known.clone());
        }
        let tensor = Arc::new(decode()?);
        self.decoded.borrow_mut().insert(at, tensor.clone());
        Ok(tensor)
    }
}

impl<'a> FrontEnd<'a> for Importer<'a> {
    type Node = &'a NodeProto;
    type Operator = Operator;
    type Tensor = Value;

    const EMPTY_IS_LEFT_OUT: bool = true;
    const UNDEFINED: &'static str = "nor a constant, nor the result of a node";

    fn label(&self, node: &'a NodeProto) -> Label {
        Label { node: node_name(node), op_type: node.op_type.clone() }
    }

    fn operator(&self, node: &'a NodeProto) -> Result<Operator, Refusal> {
        if matches!(&*node.domain, "" | "ai.onnx") {
            match &*node.op_type {
                "If" => return Ok(Operator::Branch),
                "Loop" => return Ok(Operator::Loop),
                "Scan" => return Ok(Operator::Scan),
                _ => {}
            }
        }
        let found = ops::find(&node.domain, &node.op_type).ok_or_else(|| ops::unsupported(&node.domain, &node.op_type));
        found.map(Operator::Node)
    }

    fn reads(&self, node: &'a NodeProto) -> Vec<&'a [String]> {
        node.input.iter().map(std::slice::from_ref).collect()
    }

    fn writes(&self, node: &'a NodeProto) -> impl Iterator<Item = &'a str> {
        node.output.iter().map(String::as_str).filter(|name| !name.is_empty())
    }

    fn constant(&self, g: &mut Graph, name: &str) -> Option<Result<Value, ImportError>> {
        let proto = *self.initializers.get(name)?;
        let decode = || tensor::read(proto, self.source.files);
        let read = match self.depth {
            0 => self.constants.read(name, decode),
            _ => self.once(proto, decode),
        };
        let read = read.map(|tensor| {
            g.grant(&tensor);
            let narrow = tensor::narrow_bounds(proto.data_type);
            Value::Known(Known { name: name.into(), tensor, narrow })
        });
        Some(read.map_err(|reason| {
            let expected = match tensor::stored_type(proto.data_type) {
                Ok(stored) => stored.describe(&proto.dims),
                Err(_) => format!("{:?}", proto.dims),
            };
            ImportError::Parameter { name: name.into(), expected, reason }
        }))
    }

    fn emit(
        &mut self,
        walk: &mut Walk<'a, Value>,
        proto: &'a NodeProto,
        operator: Operator,
        inputs: Vec<Vec<Option<Value>>>,
    ) -> Result<Emitted<'a, Value>, Refusal> {
        let mut inputs = inputs.into_iter().flatten();
        let lower = match operator {
            Operator::Node(lower) => lower,
            Operator::Branch => return self.branch(walk, proto, inputs.next().flatten()),
            Operator::Loop => return self.rounds(walk, proto, inputs.collect()),
            Operator::Scan => return self.scan(walk, proto, inputs.collect()),
        };
        let inputs = inputs.collect();
        let used = proto.output.iter().map(|o| self.read.contains(o.as_str())).collect();
        let node = Node { proto, inputs, used, opset: self.opset, files: self.source.files };
        let Lowered { values, why } = lower(&mut walk.g, &node)?;
        let mut values = values.into_iter();
        let all = proto.output.iter().map(|name| (name.as_str(), values.next()));
        let named = all.filter(|(name, _)| !name.is_empty());
        let is_constant = proto.op_type == "Constant";
        let kept = |name: &str, value: Value| match value {
            Value::Known(k) if is_constant && self.depth == 0 => {
                Value::Known(Known { tensor: self.constants.keep(name, k.tensor), ..k })
            }
            other => other,
        };
        let one =
            |(name, value): (&'a str, Option<Value>)| (name, value.map(|value| kept(name, walk.g.named(value, name))));
        let outputs = named.map(one).collect();
        Ok(Emitted { outputs, why })
    }

    fn value(value: &Value) -> &Value {
        value
    }

    fn output(&mut self, _: &mut Graph, value: Value) -> Result<Value, Refusal> {
        Ok(value)
    }

    fn undefined_output(name: &str) -> ImportError {
        ImportError::Broken { reason: format!("\"{name}\" is neither an input, {}", Self::UNDEFINED) }
    }
}
