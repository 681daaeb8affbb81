//! Which variables are ragged: rows of sequences that lie one behind the other, with the offsets of the sequences (LoD).
//!
//! A ragged input `NAME` has a second one beside it, `NAME.offsets`. What an op gives has the sequences of what it reads if the op
//! keeps rows; ops on sequences say what theirs are.

use super::op::{Lowered, Tensor, arguments};
use super::program::{OpDesc, VarDesc};
use crate::emit::ragged::Ragged;
use crate::emit::{Graph, Value};
use crate::error::{ImportError, Refusal};
use crate::functions::FUNCTIONS;
use crate::inputs::{Declared, port};
use qc_ir::Elem;
use std::collections::HashMap;

/// Ops that make row `i` of each result from row `i` of their operands, where the first dim stays, sorted. So do the functions of
/// single elements.
const KEEP_ROWS: &[&str] = &[
    "affine_channel",
    "assign",
    "batch_norm",
    "brelu",
    "cast",
    "celu",
    "clip",
    "concat",
    "dequantize",
    "dequantize_linear",
    "dropout",
    "elementwise_add",
    "elementwise_div",
    "elementwise_max",
    "elementwise_min",
    "elementwise_mul",
    "elementwise_pow",
    "elementwise_sub",
    "fake_channel_wise_dequantize_max_abs",
    "fake_channel_wise_quantize_abs_max",
    "fake_channel_wise_quantize_dequantize_abs_max",
    "fake_dequantize_max_abs",
    "fake_quantize_abs_max",
    "fake_quantize_dequantize_abs_max",
    "fake_quantize_dequantize_moving_average_abs_max",
    "fake_quantize_moving_average_abs_max",
    "fake_quantize_range_abs_max",
    "fc",
    "fill_any_like",
    "fill_zeros_like",
    "flatten",
    "flatten2",
    "fused_elementwise_add",
    "fused_elementwise_div",
    "fused_elementwise_mul",
    "fused_elementwise_sub",
    "layer_norm",
    "log_softmax",
    "lookup_table",
    "lookup_table_v2",
    "moving_average_abs_max_scale",
    "mul",
    "one_hot_v2",
    "pow",
    "prelu",
    "quantize",
    "quantize_linear",
    "relu",
    "relu6",
    "requantize",
    "reshape",
    "reshape2",
    "scale",
    "selu",
    "softmax",
    "split",
    "square",
    "squeeze",
    "squeeze2",
    "stanh",
    "sum",
    "top_k",
    "top_k_v2",
    "unsqueeze",
    "unsqueeze2",
];

/// What is behind the name of a ragged input in that of its offsets.
const OFFSETS: &str = ".offsets";

/// How many levels of sequences a variable has.
fn levels(var: Option<&VarDesc>) -> i32 {
    var.and_then(|v| v.r#type.tensor.as_ref()).and_then(|t| t.lod_level).unwrap_or(0)
}

/// The name of the offsets of an input, if it is ragged.
///
/// # Errors
/// For sequences of sequences.
pub(super) fn offsets_of(name: &str, var: Option<&VarDesc>) -> Result<Option<String>, ImportError> {
    match levels(var) {
        0 => Ok(None),
        1 => Ok(Some(format!("{name}{OFFSETS}"))),
        n => Err(port(
            name,
            format!("its sequences are made of sequences ({n} levels)"),
            "export the model with sequences of one level",
        )),
    }
}

/// The input that holds the offsets of a ragged one.
pub(super) fn declared_offsets(name: &str) -> Declared {
    Declared { name: name.into(), dims: Some(vec![None]), names: Vec::new(), counts: true }
}

/// The sequences of variables.
#[derive(Default)]
pub(super) struct Sequences<'a> {
    of: HashMap<&'a str, Ragged>,
    /// Those of inputs, which the caller knows.
    given: Vec<Value>,
}

impl<'a> Sequences<'a> {
    /// The sequences of a ragged input.
    pub fn input(&mut self, g: &mut Graph, name: &'a str, offsets: &Value, rows: usize) -> Result<(), ImportError> {
        let r = g.ragged(offsets, rows).map_err(|Refusal { reason, .. }| {
            port(&format!("{name}{OFFSETS}"), reason, format!("give offsets that go from 0 to {rows}"))
        })?;
        self.given.push(r.offsets.clone());
        self.of.insert(name, r);
        Ok(())
    }

    /// Those of the operands of an op, by slot.
    pub fn of_operands(&self, desc: &'a OpDesc) -> Vec<(&'a str, Vec<Option<Ragged>>)> {
        let one = |name: &String| self.of.get(name.as_str()).cloned();
        desc.inputs.iter().map(|s| (s.parameter.as_str(), s.arguments.iter().map(one).collect())).collect()
    }

    /// Notes those of the results of an op, whose main slot is `out`.
    pub fn note(&mut self, g: &Graph, desc: &'a OpDesc, out: &str, lowered: &Lowered) {
        let rows = |t: &Tensor| match t {
            Tensor::Plain(v) | Tensor::Steps { real: v, .. } | Tensor::Measured(v) | Tensor::Bytes { real: v, .. } => {
                g.dims(v).first().copied()
            }
        };
        let mut operands = desc.inputs.iter().flat_map(|s| &s.arguments).filter_map(|name| self.of.get(name.as_str()));
        let kept = operands.next().cloned().filter(|_| keeps_rows(&desc.r#type));
        for name in desc.outputs.iter().flat_map(|s| &s.arguments) {
            self.of.remove(name.as_str());
        }
        let main = arguments(&desc.outputs, out).iter().zip(&lowered.values);
        let others =
            lowered.extra.iter().flat_map(|(slot, t)| arguments(&desc.outputs, slot).iter().map(move |n| (n, t)));
        for (name, tensor) in main.chain(others) {
            let own = lowered.ragged.as_ref().or(kept.as_ref());
            if let Some(own) = own.filter(|own| rows(tensor) == Some(own.rows)) {
                self.of.insert(name, own.clone());
            }
        }
    }

    /// The offsets of a result of the model as integers of 64 bits, unless they are those of an input or known.
    pub fn of_output(&self, g: &mut Graph, name: &str) -> Option<Value> {
        let own = self.of.get(name)?;
        let is_given = |v: &Value| matches!((v, &own.offsets), (Value::Runtime(a), Value::Runtime(b)) if a == b);
        match own.offsets.known().is_some() || self.given.iter().any(is_given) {
            true => None,
            false => g.cast(&own.offsets, Elem::I64).ok(),
        }
    }
}

fn keeps_rows(op_type: &str) -> bool {
    let is_function = || FUNCTIONS.iter().filter_map(|f| f.paddle.as_ref()).any(|row| row.name == op_type);
    KEEP_ROWS.binary_search(&op_type).is_ok() || is_function()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_of_known_ops() {
        assert!(KEEP_ROWS.is_sorted());
        let known = super::super::ops::names();
        let unknown: Vec<&&str> = KEEP_ROWS.iter().filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
