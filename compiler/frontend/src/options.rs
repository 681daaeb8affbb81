//! What the caller chooses, and what an import gives back.

use crate::constants::Constants;
use crate::files::Files;
use prost::bytes::Bytes;
use qc_ir::{Counted, Deadline, Elem, HostTensor, Limits, Module, NodeId};
use std::collections::BTreeMap;

/// A model's bytes and the way to the files beside it.
pub struct Source<'a> {
    /// Name for messages: the model's file name.
    pub name: String,
    /// The model file.
    pub model: Bytes,
    /// Paddle's combined parameter file; without it, parameters are files of their own.
    pub params: Option<Bytes>,
    /// The model's directory.
    pub files: &'a dyn Files,
}

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Batch to compile for. `None` is the model's own, or 1 where the model leaves it open.
    pub batch: Option<i64>,
    /// Shapes by input name; a leading -1 stands for the batch.
    pub shapes: BTreeMap<String, Vec<i64>>,
    /// Values of inputs that are constants, by name. Elements are converted to the type of the input; a list of numbers without dims of its
    /// own fits an input of as many elements.
    pub values: BTreeMap<String, HostTensor>,
    /// What the model may ask for.
    pub limits: Limits,
    /// When the import has to be done.
    pub deadline: Option<Deadline>,
    /// Constants that imports of this model before decoded.
    pub constants: Constants,
}

/// An imported model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The program, in phase `imported`.
    pub module: Module,
    /// Inputs, in the model's order.
    pub inputs: Vec<Port>,
    /// Outputs, in the model's order.
    pub outputs: Vec<Port>,
    /// What became of every node of the model, in its order.
    pub report: Vec<NodeReport>,
    /// The batch, when the model fixes it.
    pub fixed_batch: Option<i64>,
    /// Format, version and writer, for people.
    pub format: String,
}

/// An input or output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub elem: Elem,
    /// Static dims.
    pub dims: Vec<usize>,
    /// Whether dim 0 is the batch; said of inputs only. Where the batch is in outputs is followed through the program
    /// ([`qc_ir::Follow`]).
    pub batched: bool,
    /// Of an output, how much of it a run fills, if that differs from run to run.
    pub counted: Option<Counted>,
}

/// What became of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeReport {
    /// The node, as locations in the module have it, in every import of the model.
    pub id: NodeId,
    /// Its name; `op_type:first output` when it has none.
    pub node: String,
    /// Its op type in the model's vocabulary.
    pub op_type: String,
    /// What became of it.
    pub disposition: Disposition,
}

/// What became of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// It is in the module as one or more ops.
    Mapped,
    /// It needs no op, for this reason.
    Folded(&'static str),
}
