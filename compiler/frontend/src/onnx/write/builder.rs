//! What rows make nodes with: names of values, initializers, attributes.

use super::super::proto::{AttributeProto, NodeProto, TensorProto};
use super::initializer;
use qc_ir::{Elem, Follow, HostTensor, Items, Module, OpId, ValueId};
use std::collections::{HashMap, HashSet};

/// ONNX's number of an element type.
pub(super) fn data_type(elem: Elem) -> i32 {
    match elem {
        Elem::F32 => 1,
        Elem::U8 => 2,
        Elem::I8 => 3,
        Elem::I32 | Elem::Quant(_) => 6,
        Elem::I64 => 7,
        Elem::Bool => 9,
    }
}

/// A node whose output has no name yet.
pub(super) struct Call {
    op_type: &'static str,
    inputs: Vec<String>,
    attributes: Vec<AttributeProto>,
}

impl Call {
    /// An application of an operator.
    pub fn new(op_type: &'static str, inputs: impl Into<Vec<String>>) -> Call {
        Call { op_type, inputs: inputs.into(), attributes: Vec::new() }
    }

    fn with(mut self, name: &str, kind: i32, set: impl FnOnce(&mut AttributeProto)) -> Call {
        let mut attribute = AttributeProto { name: name.into(), kind, ..AttributeProto::default() };
        set(&mut attribute);
        self.attributes.push(attribute);
        self
    }

    /// With a whole number.
    pub fn int(self, name: &str, value: i64) -> Call {
        self.with(name, 2, |a| a.i = value)
    }

    /// With a number.
    pub fn float(self, name: &str, value: f32) -> Call {
        self.with(name, 1, |a| a.f = value)
    }

    /// With whole numbers.
    pub fn ints(self, name: &str, values: impl Into<Vec<i64>>) -> Call {
        self.with(name, 7, |a| a.ints = values.into())
    }
}

/// The graph that is being written.
pub(super) struct Writer<'m> {
    pub m: &'m Module,
    items: Option<&'m Follow>,
    names: HashMap<ValueId, String>,
    used: HashSet<String>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// Small constants that rows made, by type, dims and bytes.
    literals: HashMap<(i32, Vec<usize>, Vec<u8>), String>,
    /// What nodes of the op that is being written are called after.
    stem: String,
}

impl<'m> Writer<'m> {
    pub fn new(m: &'m Module, items: Option<&'m Follow>) -> Writer<'m> {
        Writer {
            m,
            items,
            names: HashMap::new(),
            used: HashSet::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            literals: HashMap::new(),
            stem: String::new(),
        }
    }

    /// Keeps a name from being given to a value of its own accord.
    pub fn reserve(&mut self, name: &str) {
        self.used.insert(name.into());
    }

    pub fn give_name(&mut self, v: ValueId, name: &str) {
        self.reserve(name);
        self.names.insert(v, name.into());
    }

    /// Whether a value has this very name, as an input that is a result may have.
    pub fn is_called(&self, v: ValueId, name: &str) -> bool {
        self.names.get(&v).is_some_and(|own| own == name)
    }

    pub fn has_name(&self, v: ValueId) -> bool {
        self.names.contains_key(&v)
    }

    /// A name that nothing has.
    fn unused(&mut self, stem: &str) -> String {
        let mut name = stem.to_string();
        let mut number = 1;
        while name.is_empty() || !self.used.insert(name.clone()) {
            number += 1;
            name = format!("{stem}_{number}");
        }
        name
    }

    /// The name of a value.
    pub fn name(&mut self, v: ValueId) -> String {
        if let Some(name) = self.names.get(&v) {
            return name.clone();
        }
        let stem = self.m.name(v).map_or_else(|| self.stem.clone(), str::to_string);
        let name = self.unused(&stem);
        self.names.insert(v, name.clone());
        name
    }

    /// The name of an operand.
    pub fn operand(&mut self, op: OpId, i: usize) -> String {
        let v = self.m.operand(op, i);
        v.map_or_else(String::new, |v| self.name(v))
    }

    /// The names of all operands.
    pub fn operands(&mut self, op: OpId) -> Vec<String> {
        (0..self.m.operands(op).len()).map(|i| self.operand(op, i)).collect()
    }

    /// The dim of a value along which items of a batch lie, if the batch is left open.
    pub fn along(&self, v: ValueId) -> Option<usize> {
        match self.items?.of(v) {
            Items::Along(axis) => Some(axis),
            _ => None,
        }
    }

    /// Begins an op: nodes of it are called after its node in the model.
    pub fn begin(&mut self, op: OpId) {
        let node = self.m.locs.nodes(self.m.loc(op)).first().map(|node| node.name.to_string());
        let own = self.m.results(op).first().and_then(|&v| self.m.name(v)).map(str::to_string);
        self.stem = own.or(node).unwrap_or_else(|| self.m.def(op).name.replace('.', "_"));
    }

    fn push(&mut self, call: Call, output: String) {
        let Call { op_type, inputs, attributes } = call;
        let name = format!("{output}:{op_type}");
        let node = NodeProto {
            input: inputs,
            output: vec![output],
            name,
            op_type: op_type.into(),
            attribute: attributes,
            domain: String::new(),
        };
        self.nodes.push(node);
    }

    /// A node whose output another one reads.
    pub fn emit(&mut self, call: Call) -> String {
        let stem = self.stem.clone();
        let output = self.unused(&stem);
        self.push(call, output.clone());
        output
    }

    /// The node that gives a value.
    pub fn define(&mut self, v: ValueId, call: Call) {
        let output = self.name(v);
        self.push(call, output);
    }

    /// A node that gives a value another name.
    pub fn copy(&mut self, v: ValueId, name: &str) {
        let input = self.name(v);
        self.push(Call::new("Identity", [input]), name.into());
    }

    /// The initializer of a value.
    pub fn constant(&mut self, v: ValueId, t: &HostTensor) {
        let name = self.name(v);
        self.initializers.push(initializer(&name, t));
    }

    /// A constant that the module does not have, once for all who need it.
    pub fn literal(&mut self, t: &HostTensor) -> String {
        let key = (data_type(t.data().elem()), t.dims().to_vec(), t.data().to_bytes());
        if let Some(name) = self.literals.get(&key) {
            return name.clone();
        }
        let name = self.unused("constant");
        self.initializers.push(initializer(&name, t));
        self.literals.insert(key, name.clone());
        name
    }

    /// A number as a literal.
    pub fn number(&mut self, value: f32) -> String {
        self.literal(&HostTensor::f32(Vec::new(), vec![value]))
    }

    /// A list of whole numbers as a literal.
    pub fn list(&mut self, values: impl Into<Vec<i64>>) -> String {
        let values = values.into();
        self.literal(&HostTensor::i64([values.len()], values))
    }

    /// What has been written.
    pub fn finish(self) -> (Vec<NodeProto>, Vec<TensorProto>) {
        (self.nodes, self.initializers)
    }
}
