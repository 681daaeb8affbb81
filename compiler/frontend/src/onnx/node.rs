//! One ONNX node as the lowering of its operator sees it: resolved inputs and typed attributes.

use super::proto::{AttributeProto, NodeProto};
use super::tensor;
use crate::emit::{Graph, Value};
use crate::error::Refusal;
use crate::files::Files;
use qc_ir::HostTensor;

/// A node with its inputs.
pub(crate) struct Node<'a> {
    pub proto: &'a NodeProto,
    /// `None` where an optional input is left out.
    pub inputs: Vec<Option<Value>>,
    /// Per output: whether anything reads it.
    pub used: Vec<bool>,
    /// Version of the operator set.
    pub opset: i64,
    pub files: &'a dyn Files,
}

/// What lowering a node gives.
pub(crate) struct Lowered {
    /// The outputs, in order; trailing unused ones may be missing.
    pub values: Vec<Value>,
    /// Why the node needs no op, if it needs none.
    pub why: &'static str,
}

impl From<Value> for Lowered {
    fn from(value: Value) -> Lowered {
        Lowered { values: vec![value], why: "its result is known at import" }
    }
}

impl Lowered {
    /// The input under another name.
    pub fn identity(value: Value, why: &'static str) -> Lowered {
        Lowered { values: vec![value], why }
    }

    /// Several outputs.
    pub fn many(values: Vec<Value>) -> Lowered {
        Lowered { values, why: "its results are known at import" }
    }
}

/// The longest list of integers that an input may stand for.
const MAX_INTS: usize = 4096;

/// How an operator is lowered.
pub(crate) type Lower = fn(&mut Graph, &Node<'_>) -> Result<Lowered, Refusal>;

/// Attribute kinds as ONNX numbers them.
mod kind {
    pub const FLOAT: i32 = 1;
    pub const INT: i32 = 2;
    pub const STRING: i32 = 3;
    pub const TENSOR: i32 = 4;
    pub const FLOATS: i32 = 6;
    pub const INTS: i32 = 7;
    pub const STRINGS: i32 = 8;
}

impl<'a> Node<'a> {
    /// The same node with other inputs.
    pub fn with(&self, inputs: Vec<Option<Value>>) -> Node<'a> {
        Node { proto: self.proto, inputs, used: self.used.clone(), opset: self.opset, files: self.files }
    }

    /// Input `i`, if it is there.
    pub fn optional(&self, i: usize) -> Option<&Value> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// Input `i`.
    ///
    /// # Errors
    /// When it is left out.
    pub fn input(&self, i: usize) -> Result<&Value, Refusal> {
        self.optional(i).ok_or_else(|| Refusal::invalid(format!("input {i} is missing")))
    }

    /// All inputs of a variadic operator.
    ///
    /// # Errors
    /// When one is left out.
    pub fn all(&self) -> Result<Vec<Value>, Refusal> {
        debug_assert!(crate::width::is_variadic(&self.proto.op_type), "their inputs are counted");
        (0..self.inputs.len()).map(|i| self.input(i).cloned()).collect()
    }

    /// Input `i` as a known tensor; `None` when it is left out.
    ///
    /// # Errors
    /// When it is computed by the model.
    pub fn known(&self, i: usize, what: &str) -> Result<Option<&HostTensor>, Refusal> {
        let Some(v) = self.optional(i) else { return Ok(None) };
        v.known().map(Some).ok_or_else(|| {
            Refusal::unsupported(format!("the model computes {what}, which must be constant"))
                .remedy("export the model with constant shapes and attributes, or simplify it first")
                .of_computed(v)
        })
    }

    /// Input `i` as known integers; `None` when it is left out.
    ///
    /// # Errors
    /// As [`Node::known`], and for tensors of other types.
    pub fn known_ints(&self, i: usize, what: &str) -> Result<Option<Vec<i64>>, Refusal> {
        let Some(t) = self.known(i, what)? else { return Ok(None) };
        if t.len() > MAX_INTS {
            return Err(Refusal::unsupported(format!("{what} are {} numbers", t.len())));
        }
        let ints: Option<Vec<i64>> = (0..t.len()).map(|i| t.int(i)).collect();
        ints.map(Some).ok_or_else(|| Refusal::invalid(format!("{what} are no integers")))
    }

    /// Input `i` as a known number; `None` when it is left out.
    ///
    /// # Errors
    /// As [`Node::known`], and for tensors of more than one element.
    pub fn known_number(&self, i: usize, what: &str) -> Result<Option<f32>, Refusal> {
        let Some(t) = self.known(i, what)? else { return Ok(None) };
        if t.len() != 1 {
            return Err(Refusal::invalid(format!("{what} has {} elements, not 1", t.len())));
        }
        Ok(t.as_f32().map(|v| v[0]).or_else(|| t.int(0).map(|v| v as f32)))
    }

    /// Integers that are an attribute in old operator sets and an input in new ones.
    ///
    /// # Errors
    /// As [`Node::known_ints`] and [`Node::ints`].
    pub fn ints_either(&self, name: &str, i: usize) -> Result<Option<Vec<i64>>, Refusal> {
        match self.known_ints(i, name)? {
            Some(ints) => Ok(Some(ints)),
            None => Ok(self.ints(name)?.map(<[i64]>::to_vec)),
        }
    }

    fn attr(&self, name: &str, kind: i32) -> Result<Option<&'a AttributeProto>, Refusal> {
        let Some(attr) = self.proto.attribute.iter().find(|a| a.name == name) else { return Ok(None) };
        if attr.kind == kind || attr.kind == 0 {
            return Ok(Some(attr));
        }
        Err(Refusal::invalid(format!("attribute `{name}` has the wrong kind {}", attr.kind)))
    }

    /// An integer attribute.
    ///
    /// # Errors
    /// When it is of another kind; so for the others below.
    pub fn int(&self, name: &str) -> Result<Option<i64>, Refusal> {
        Ok(self.attr(name, kind::INT)?.map(|a| a.i))
    }

    /// A truth value, written as an integer.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Result<Option<f32>, Refusal> {
        Ok(self.attr(name, kind::FLOAT)?.map(|a| a.f))
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, Refusal> {
        Ok(self.attr(name, kind::INTS)?.map(|a| a.ints.as_slice()))
    }

    /// A list of floats.
    pub fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, Refusal> {
        Ok(self.attr(name, kind::FLOATS)?.map(|a| a.floats.as_slice()))
    }

    /// A text attribute.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let Some(attr) = self.attr(name, kind::STRING)? else { return Ok(None) };
        let text = std::str::from_utf8(&attr.s);
        text.map(Some).map_err(|_| Refusal::invalid(format!("attribute `{name}` is no text")))
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>, Refusal> {
        let Some(attr) = self.attr(name, kind::STRINGS)? else { return Ok(None) };
        let texts = attr.strings.iter().map(|s| std::str::from_utf8(s));
        texts
            .collect::<Result<_, _>>()
            .map(Some)
            .map_err(|_| Refusal::invalid(format!("attribute `{name}` is no text")))
    }

    /// A tensor attribute, and the bounds of its 4-bit or 16-bit integers if it has such.
    pub fn tensor(&self, name: &str) -> Result<Option<(HostTensor, Option<(i32, i32)>)>, Refusal> {
        let Some(t) = self.attr(name, kind::TENSOR)?.and_then(|a| a.t.as_deref()) else { return Ok(None) };
        let read = tensor::read(t, self.files).map(|read| Some((read, tensor::narrow_bounds(t.data_type))));
        read.map_err(|e| Refusal::invalid(format!("attribute `{name}`: {e}")))
    }

    /// Refuses nodes whose output `i` is read.
    pub fn expect_unused(&self, i: usize, what: &str) -> Result<(), Refusal> {
        match self.used.get(i) {
            Some(true) => Err(Refusal::unsupported(format!("its output `{what}` is used"))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, int};

    #[test]
    fn inputs_whose_values_are_needed_are_named_if_they_are_small() {
        let reason = |elements: i64| {
            let model = Model::new(13, &[elements]).node("Cast", "x > shape", &[int("to", 7)]).node(
                "Reshape",
                "x shape > y",
                &[],
            );
            model.reasons().join(" ")
        };
        assert!(reason(3).contains("with `--input x=VALUE`, or"), "{}", reason(3));
        assert!(reason(5000).contains("the model computes") && !reason(5000).contains("--input"), "{}", reason(5000));
    }
}
