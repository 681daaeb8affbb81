//! Writes a module of graph ops as an ONNX model, the way back of the importer: a row of `ops.rs` per op.
//!
//! The file says what the module computes, op by op: quantize/dequantize pairs as `QuantizeLinear` and `DequantizeLinear`, stored
//! weights as integer initializers. Shapes are those of the module; with [`Interface::items`], which followed items of a batch
//! through it, dims along which items lie are left to the batch of a run.

mod builder;
mod elementwise;
mod functions;
mod linear;
mod movement;
mod norm;
mod ops;
mod pool;
mod qdq;
#[cfg(test)]
mod tests;

use super::proto::{
    DimensionProto, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use builder::{Writer, data_type};
use prost::Message;
use prost::bytes::Bytes;
use qc_ir::{Follow, Items, Module, OpId, ValueId};

/// The operator set that is written: the first with `LayerNormalization`, which all that run pairs as integers know.
const OPSET: i64 = 17;
/// The version of the file format that came with it.
const IR_VERSION: i64 = 8;
/// The size of protobuf messages is a positive i32.
const LARGEST_FILE: usize = i32::MAX as usize;
/// Smaller tensors stay in the model file.
const SMALLEST_OUTSIDE: usize = 1024;
/// Where tensors begin in the data file, so that they can be mapped.
const ALIGNMENT: usize = 4096;
/// What a message or a number takes at most besides its contents, with room.
const HEAD: usize = 16;
/// The name of dims along which the items of a batch lie.
const BATCH: &str = "batch";

/// What a model file says about its module from outside.
pub struct Interface<'a> {
    /// Names of inputs, then of outputs.
    pub names: Vec<String>,
    /// How items of a batch go through the module, if the batch is left open.
    pub items: Option<&'a Follow>,
    /// The file that holds weights of a model too large for one message, in the folder of the model.
    pub data_file: String,
}

/// An ONNX model.
#[derive(Debug)]
pub struct Written {
    /// The model file.
    pub model: Vec<u8>,
    /// The file of weights beside it; without one, they are in the model.
    pub data: Option<Vec<u8>>,
}

/// Why an op cannot be written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("node \"{node}\" ({op}): {reason}; {remedy}")]
pub struct Unwritten {
    /// The node of the model that it comes from.
    pub node: String,
    /// The op.
    pub op: String,
    /// What is missing.
    pub reason: String,
    /// What the user can do.
    pub remedy: String,
}

/// Writes the main function of a module.
///
/// # Errors
/// All ops that ONNX cannot express, or that have no row.
pub fn write(m: &Module, interface: &Interface<'_>) -> Result<Written, Vec<Unwritten>> {
    write_within(m, interface, LARGEST_FILE)
}

/// As [`write()`], with weights beside the model where it would have more than `largest` bytes.
fn write_within(m: &Module, interface: &Interface<'_>, largest: usize) -> Result<Written, Vec<Unwritten>> {
    let body = m.body();
    let mut w = Writer::new(m, interface.items);
    let (inputs, outputs) = interface.names.split_at(m.args(body).len());
    m.args(body).iter().zip(inputs).for_each(|(&v, name)| w.give_name(v, name));
    outputs.iter().for_each(|name| w.reserve(name));
    let mut copied = Vec::new();
    for (&v, name) in m.returns(body).iter().zip(outputs) {
        // A name for a value that has one already, or that no node makes, is a node of its own.
        if w.is_called(v, name) {
            continue;
        }
        let made = m.producer(v).is_some_and(|op| !ops::makes_initializer(m, op));
        if made && !w.has_name(v) { w.give_name(v, name) } else { copied.push((v, name)) }
    }
    let mut refused = Vec::new();
    for &op in m.ops(body) {
        if let Err(refusal) = ops::write(&mut w, op) {
            let (node, op) = place(m, op);
            refused.push(Unwritten { node, op, reason: refusal.reason, remedy: refusal.remedy });
        }
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    copied.into_iter().for_each(|(v, name)| w.copy(v, name));
    let ports = |values: &[ValueId], names: &[String]| -> Vec<ValueInfoProto> {
        values.iter().zip(names).map(|(&v, name)| port(m, interface.items, v, name)).collect()
    };
    let (node, initializer) = w.finish();
    let graph = GraphProto {
        node,
        name: m.name.clone(),
        initializer,
        input: ports(m.args(body), inputs),
        output: ports(m.returns(body), outputs),
    };
    Ok(encoded(graph, interface, largest))
}

/// The node behind an op, and what the op is called.
fn place(m: &Module, op: OpId) -> (String, String) {
    let name = m.def(op).name.to_string();
    match m.locs.nodes(m.loc(op)).first() {
        Some(node) => (node.name.to_string(), format!("{}, as {name}", node.op_type)),
        None => (m.results(op).first().and_then(|&v| m.name(v)).unwrap_or_default().to_string(), name),
    }
}

fn port(m: &Module, items: Option<&Follow>, v: ValueId, name: &str) -> ValueInfoProto {
    let along = |axis: usize| items.filter(|follow| follow.of(v) == Items::Along(axis));
    let dim = |(axis, &size): (usize, &usize)| match along(axis) {
        None => DimensionProto { dim_value: Some(size as i64), dim_param: None },
        Some(follow) if size == follow.batch() => DimensionProto { dim_value: None, dim_param: Some(BATCH.into()) },
        // Several rows per item have no name in ONNX.
        Some(_) => DimensionProto::default(),
    };
    let shape = TensorShapeProto { dim: m.dims(v).iter().enumerate().map(dim).collect() };
    let tensor = TensorTypeProto { elem_type: data_type(m.storage(m.tensor_ty(v).elem)), shape: Some(shape) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

/// The bytes of a model; beyond `largest`, weights go to a file of their own.
fn encoded(mut graph: GraphProto, interface: &Interface<'_>, largest: usize) -> Written {
    let weights: usize = graph.initializer.iter().map(|t| t.raw_data.len()).sum();
    // Besides weights there are names, dims and attributes, whose messages have heads of a few bytes.
    let rest: usize = graph.node.iter().map(|node| node.encoded_len() + HEAD).sum();
    let names: usize = graph.initializer.iter().map(|t| t.name.len() + t.dims.len() * HEAD + HEAD).sum();
    let data = (weights + rest + names > largest).then(|| outside(&mut graph, interface));
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: format!("qc {}", env!("CARGO_PKG_VERSION")),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        functions: Vec::new(),
    };
    Written { model: model.encode_to_vec(), data }
}

/// Moves large initializers to a data file, and gives its bytes.
fn outside(graph: &mut GraphProto, interface: &Interface<'_>) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::new();
    for t in graph.initializer.iter_mut().filter(|t| t.raw_data.len() >= SMALLEST_OUTSIDE) {
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        let (offset, bytes) = (data.len(), std::mem::replace(&mut t.raw_data, Bytes::new()));
        data.extend_from_slice(&bytes);
        t.data_location = 1;
        t.external_data = entries(&interface.data_file, offset, bytes.len());
    }
    data
}

fn entries(file: &str, offset: usize, length: usize) -> Vec<StringStringEntryProto> {
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: key.into(), value };
    let all = [("location", file.to_string()), ("offset", offset.to_string()), ("length", length.to_string())];
    all.into_iter().map(entry).collect()
}

/// A tensor as an initializer.
fn initializer(name: &str, t: &qc_ir::HostTensor) -> TensorProto {
    TensorProto {
        dims: t.dims().iter().map(|&d| d as i64).collect(),
        data_type: data_type(t.data().elem()),
        name: name.into(),
        raw_data: t.data().to_bytes().into(),
        ..TensorProto::default()
    }
}
