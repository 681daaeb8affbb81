//! ONNX models: decoding, constants, inputs, and the walk over the nodes.

mod elementwise;
mod integer;
mod movement;
mod nn;
pub(crate) mod node;
mod norm;
pub(crate) mod ops;
mod order;
pub(crate) mod proto;
mod qdq;
mod qlinear;
mod reduce;
mod shapes;
pub(crate) mod tensor;
#[cfg(test)]
pub(crate) mod tests;

use crate::elements::Stored;
use crate::emit::{Graph, Known, Value};
use crate::error::{ImportError, ImportErrors, MAX_ERRORS, Refusal};
use crate::inputs::{self, Declared, Shapes};
use crate::options::{Disposition, Imported, NodeReport, Options, Port, Source};
use crate::{width, wire};
use node::{Lowered, Node};
use prost::Message;
use proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use qc_ir::{Deadline, Elem};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The oldest operator set whose operators are understood. Before 7, broadcasting is an attribute.
const OLDEST_OPSET: i64 = 6;

/// A tensor name's state during the walk.
enum Slot {
    Ready(Value),
    /// Its producer was refused; users are not reported again.
    Failed,
}

struct Importer<'a> {
    g: Graph,
    source: &'a Source<'a>,
    opset: i64,
    env: HashMap<&'a str, Slot>,
    initializers: HashMap<&'a str, &'a TensorProto>,
    errors: Vec<ImportError>,
    report: Vec<NodeReport>,
}

/// Imports an ONNX model.
///
/// # Errors
/// Everything that keeps the model from being imported.
pub(crate) fn import(source: &Source<'_>, options: &Options) -> Result<Imported, ImportErrors> {
    let broken = |reason: String| ImportErrors::from(ImportError::Broken { reason });
    wire::check_model(&source.model, &proto::MODEL, &options.limits)?;
    let model = ModelProto::decode(source.model.clone()).map_err(|e| broken(e.to_string()))?;
    let graph = model.graph.as_ref().ok_or_else(|| broken("the model has no graph".into()))?;
    let variadic = graph.node.iter().filter(|n| ops::is_variadic(&n.op_type));
    width::check(variadic.map(|n| n.input.len()), source.model.len(), &options.limits)?;
    let opset = opset(&model)?;
    let nodes = order::sorted(graph)?;
    let initializers: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let ports: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|v| !initializers.contains_key(v.name.as_str())).collect();
    let declared: Vec<Declared> = ports.iter().map(|v| declare(v)).collect();
    let shapes = inputs::resolve(&declared, options).map_err(|mut list| {
        // Nothing can be lowered without shapes, but which operators are unknown can be told already.
        list.extend(unknown_nodes(graph, &nodes));
        ImportErrors { list }
    })?;
    let mut importer = Importer {
        g: Graph::new(&source.name),
        source,
        opset,
        env: HashMap::new(),
        initializers,
        errors: Vec::new(),
        report: Vec::new(),
    };
    let inputs = importer.inputs(&ports, &shapes);
    importer.g.deadline = options.deadline;
    importer.nodes(graph, &nodes, options.deadline);
    let imported = importer.finish(graph, inputs, &shapes, describe(&model, opset));
    imported.map_err(|e| inputs::blame_options(e, &declared, options))
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
    Declared { name: v.name.clone(), dims }
}

/// The plain element type that an input of this stored type has in the module.
pub(crate) fn plain_elem(stored: Stored) -> Elem {
    match stored {
        Stored::F8(_) | Stored::F16 | Stored::Bf16 | Stored::F32 | Stored::F64 => Elem::F32,
        Stored::I8 => Elem::I8,
        Stored::U8 => Elem::U8,
        Stored::I16 | Stored::U16 | Stored::I32 => Elem::I32,
        Stored::I64 => Elem::I64,
        Stored::Bool => Elem::Bool,
    }
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
            needed.extend(node.input.iter().map(String::as_str));
        }
    }
    live
}

fn unknown_nodes(graph: &GraphProto, nodes: &[&NodeProto]) -> Vec<ImportError> {
    let live = live_nodes(graph, nodes);
    let unknown = nodes.iter().zip(live).filter(|(n, live)| *live && ops::find(&n.domain, &n.op_type).is_none());
    unknown.map(|(n, _)| node_error(n, ops::unsupported(&n.domain, &n.op_type))).collect()
}

fn node_error(node: &NodeProto, refusal: Refusal) -> ImportError {
    let Refusal { reason, remedy } = refusal;
    ImportError::Node { node: node_name(node), op_type: node.op_type.clone(), reason, remedy }
}

impl<'a> Importer<'a> {
    fn inputs(&mut self, ports: &[&'a ValueInfoProto], shapes: &Shapes) -> Vec<Port> {
        let mut made = Vec::new();
        for (v, (dims, batched)) in ports.iter().zip(&shapes.inputs) {
            let tensor = v.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
            let stored = match tensor {
                Some(t) => tensor::stored_type(t.elem_type),
                None => Err("it is no tensor".into()),
            };
            match stored {
                Ok(stored) => {
                    let elem = plain_elem(stored);
                    let value = self.g.input(&v.name, elem, dims);
                    self.env.insert(&v.name, Slot::Ready(value));
                    made.push(Port { name: v.name.clone(), elem, dims: dims.clone(), batched: *batched });
                }
                Err(reason) => {
                    let remedy = "export the model with float inputs".into();
                    self.errors.push(ImportError::Port { name: v.name.clone(), reason, remedy });
                    self.env.insert(&v.name, Slot::Failed);
                }
            }
        }
        made
    }

    fn nodes(&mut self, graph: &'a GraphProto, nodes: &[&'a NodeProto], deadline: Option<Deadline>) {
        let live = live_nodes(graph, nodes);
        let outputs = graph.output.iter().map(|o| o.name.as_str());
        let live_inputs = nodes.iter().zip(&live).filter(|(_, l)| **l).flat_map(|(n, _)| &n.input);
        let read: HashSet<&str> = live_inputs.map(String::as_str).chain(outputs).collect();
        for (&node, live) in nodes.iter().zip(live) {
            if self.errors.len() >= MAX_ERRORS {
                break;
            }
            let source = self.g.at_node(&node_name(node), &node.op_type);
            let disposition = if live {
                self.node(node, &read)
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

    /// Lowers one node; `None` when it was refused.
    fn node(&mut self, proto: &'a NodeProto, read: &HashSet<&str>) -> Option<Disposition> {
        let lower = ops::find(&proto.domain, &proto.op_type);
        if lower.is_none() {
            self.refuse(proto, ops::unsupported(&proto.domain, &proto.op_type));
        }
        let inputs = self.node_inputs(proto);
        let result = match (lower, inputs) {
            (Some(lower), Some(inputs)) => {
                let used = proto.output.iter().map(|o| read.contains(o.as_str())).collect();
                let node = Node { proto, inputs, used, opset: self.opset, files: self.source.files };
                let before = self.g.made();
                let lowered = lower(&mut self.g, &node);
                lowered.map_err(|r| self.refuse(proto, r)).ok().map(|l| (l, self.g.made() > before))
            }
            _ => None,
        };
        let Some((lowered, mapped)) = result else {
            self.fail_outputs(proto);
            return None;
        };
        let why = lowered.why;
        self.bind(proto, lowered);
        Some(if mapped { Disposition::Mapped } else { Disposition::Folded(why) })
    }

    fn refuse(&mut self, node: &NodeProto, refusal: Refusal) {
        self.errors.push(node_error(node, refusal));
    }

    fn fail_outputs(&mut self, node: &'a NodeProto) {
        for name in node.output.iter().filter(|o| !o.is_empty()) {
            self.env.insert(name, Slot::Failed);
        }
    }

    fn bind(&mut self, node: &'a NodeProto, lowered: Lowered) {
        let mut values = lowered.values.into_iter();
        for name in node.output.iter() {
            let value = values.next();
            if name.is_empty() {
                continue;
            }
            let slot = match value {
                Some(value) => {
                    let value = value.named(name);
                    if let Value::Runtime(v) = value
                        && self.g.m.name(v).is_none()
                    {
                        self.g.m.set_name(v, name);
                    }
                    Slot::Ready(value)
                }
                None => Slot::Failed,
            };
            self.env.insert(name, slot);
        }
    }

    /// The inputs of a node; `None` if one comes from a refused node or is itself at fault.
    fn node_inputs(&mut self, node: &'a NodeProto) -> Option<Vec<Option<Value>>> {
        let mut values = Some(Vec::new());
        for name in &node.input {
            let value = if name.is_empty() { Some(None) } else { self.lookup(name, Some(node)).map(Some) };
            values = match (values, value) {
                (Some(mut list), Some(value)) => {
                    list.push(value);
                    Some(list)
                }
                _ => None,
            };
        }
        values
    }

    fn lookup(&mut self, name: &'a str, user: Option<&NodeProto>) -> Option<Value> {
        match self.env.get(name) {
            Some(Slot::Ready(value)) => return Some(value.clone()),
            Some(Slot::Failed) => return None,
            None => {}
        }
        let Some(&proto) = self.initializers.get(name) else {
            let reason = format!("\"{name}\" is neither an input, nor a constant, nor the result of a node");
            match user {
                Some(node) => self.refuse(node, Refusal::invalid(reason)),
                None => self.errors.push(ImportError::Broken { reason }),
            }
            self.env.insert(name, Slot::Failed);
            return None;
        };
        match tensor::read(proto, self.source.files) {
            Ok(tensor) => {
                self.g.grant(&tensor);
                let narrow = tensor::narrow_bounds(proto.data_type);
                let value = Value::Known(Known { name: name.into(), tensor: Arc::new(tensor), narrow });
                self.env.insert(name, Slot::Ready(value.clone()));
                Some(value)
            }
            Err(reason) => {
                let expected = match tensor::stored_type(proto.data_type) {
                    Ok(stored) => stored.describe(&proto.dims),
                    Err(_) => format!("{:?}", proto.dims),
                };
                self.errors.push(ImportError::Parameter { name: name.into(), expected, reason });
                self.env.insert(name, Slot::Failed);
                None
            }
        }
    }

    fn finish(
        mut self,
        graph: &'a GraphProto,
        inputs: Vec<Port>,
        shapes: &Shapes,
        format: String,
    ) -> Result<Imported, ImportErrors> {
        let mut values = Vec::new();
        let mut outputs = Vec::new();
        for o in &graph.output {
            if let Some(value) = self.lookup(&o.name, None) {
                let dims = self.g.dims(&value);
                let elem = self.g.m.storage(self.g.elem(&value));
                outputs.push(Port { name: o.name.clone(), elem, dims, batched: false });
                values.push((o.name.clone(), value));
            }
        }
        if graph.output.is_empty() {
            self.errors.push(ImportError::Broken { reason: "the model has no output".into() });
        }
        if !self.errors.is_empty() {
            return Err(ImportErrors { list: self.errors });
        }
        let module = self.g.finish(&values);
        Ok(Imported { module, inputs, outputs, report: self.report, fixed_batch: shapes.fixed_batch, format })
    }
}
