//! Undoing the form of frozen programs: products of integers between a fake quantize and a fake dequantize.
//!
//! The importer meets a product whose data are steps and looks at what reads its result; [`quant`] does the numbers.

use super::op::{Op, Tensor, arguments};
use super::program::OpDesc;
use super::{Importer, quant};
use crate::emit::{Graph, Value, scalar};
use crate::error::Refusal;
use crate::walk::Walk;

impl<'a> Importer<'a> {
    /// What a `fake_dequantize_*` op gives whose operand is still in steps: the real tensor times what the two scales
    /// differ by, which is nothing in a valid model.
    pub(super) fn in_steps(
        &self,
        g: &mut Graph,
        desc: &OpDesc,
        inputs: &[(&'a str, Vec<Tensor>)],
    ) -> Result<Option<Value>, Refusal> {
        if !quant::is_fake_dequantize(&desc.r#type) {
            return Ok(None);
        }
        let mut real_and_step = None;
        for (slot, tensors) in inputs {
            if let ("X", Some(Tensor::Steps { real, step })) = (*slot, tensors.first()) {
                real_and_step = Some((real.clone(), *step));
            }
        }
        let Some((real, step)) = real_and_step else { return Ok(None) };
        let mut scales = Vec::new();
        for (slot, tensors) in inputs.iter().filter(|(slot, _)| *slot != "X") {
            let known = |t: &Tensor| match t {
                Tensor::Plain(value) => Some(value.clone()),
                Tensor::Measured(of) if same(of, &real) => Some(scalar(quant::MAX_LEVEL as f32)),
                _ => None,
            };
            let Some(values) = tensors.iter().map(known).collect() else { return Ok(None) };
            scales.push((*slot, values));
        }
        let factors = quant::Factors::of(&Op {
            desc,
            inputs: scales,
            version: self.version,
            ragged: Vec::new(),
            read: Vec::new(),
        })?;
        let [factor] = factors.list[..] else { return Ok(None) };
        let ratio = factor / f64::from(step.unwrap_or(1.0));
        let ratio = if (ratio - 1.0).abs() < 1e-6 { 1.0 } else { ratio };
        g.times(&real, ratio as f32).map(Some)
    }

    /// If op `i` is a product of quantized operands that a `fake_dequantize_*` follows: gives it real operands, and says
    /// which op that is. See [`quant`].
    pub(super) fn absorb(
        &self,
        walk: &mut Walk<'a, Tensor>,
        i: usize,
        out: &str,
        inputs: &mut [(&'a str, Vec<Tensor>)],
    ) -> Result<Option<usize>, Refusal> {
        let desc = &self.block.ops[i];
        let (data_slot, weight_slot) = match desc.r#type.as_str() {
            "conv2d" | "depthwise_conv2d" => ("Input", "Filter"),
            "mul" | "matmul" | "matmul_v2" => ("X", "Y"),
            _ => return Ok(None),
        };
        let find = |name: &str| inputs.iter().find(|(slot, _)| *slot == name).and_then(|(_, v)| v.first());
        let (Some(Tensor::Steps { real, step }), Some(Tensor::Plain(Value::Known(weight)))) =
            (find(data_slot), find(weight_slot))
        else {
            return Ok(None);
        };
        if find("Bias").is_some() || find("ResidualData").is_some() {
            return Ok(None);
        }
        let Some((dequantize, factors)) = self.dequantize_behind(walk, i, out, real)? else { return Ok(None) };
        let view = Op { desc, inputs: Vec::new(), version: self.version, ragged: Vec::new(), read: Vec::new() };
        let (real, weight) = (real.clone(), weight.clone());
        let product = quant::Product {
            op_type: &desc.r#type,
            weight: &weight,
            step: step.unwrap_or(1.0),
            rank: walk.g.dims(&real).len(),
            transposed: view.flag("trans_y", false)? || view.flag("transpose_Y", false)?,
            columns: view.int("x_num_col_dims")?.unwrap_or(1),
        };
        let Some(weight) = quant::weight_of_product(&mut walk.g, &product, &factors)? else { return Ok(None) };
        for (slot, values) in inputs {
            if *slot == data_slot {
                *values = vec![Tensor::Plain(real.clone())];
            } else if *slot == weight_slot {
                *values = vec![Tensor::Plain(weight.clone())];
            }
        }
        Ok(Some(dequantize))
    }

    /// The `fake_dequantize_*` op that alone reads the result of op `i`, with its factors.
    ///
    /// A threshold that is measured in every run counts as 127, its step as 1: the product of the two cancels.
    fn dequantize_behind(
        &self,
        walk: &Walk<'a, Tensor>,
        i: usize,
        out: &str,
        real: &Value,
    ) -> Result<Option<(usize, quant::Factors)>, Refusal> {
        let desc = &self.block.ops[i];
        let Some(name) = arguments(&desc.outputs, out).first() else { return Ok(None) };
        let Some(&[reader]) = self.readers.get(name.as_str()).map(Vec::as_slice) else { return Ok(None) };
        let next = &self.block.ops[reader];
        let fits = matches!(next.r#type.as_str(), "fake_dequantize_max_abs" | "fake_channel_wise_dequantize_max_abs");
        if reader <= i || !fits || arguments(&next.inputs, "X").first() != Some(name) {
            return Ok(None);
        }
        let mut scales = Vec::new();
        for slot in next.inputs.iter().filter(|s| s.parameter != "X") {
            let known = |name: &String| match walk.get(name) {
                Some(Tensor::Plain(value)) => Some(value.clone()),
                Some(Tensor::Measured(of)) if same(of, real) => Some(scalar(quant::MAX_LEVEL as f32)),
                _ => None,
            };
            let Some(values) = slot.arguments.iter().map(known).collect() else { return Ok(None) };
            scales.push((slot.parameter.as_str(), values));
        }
        let op = Op { desc: next, inputs: scales, version: self.version, ragged: Vec::new(), read: Vec::new() };
        Ok(quant::Factors::of(&op).ok().map(|factors| (reader, factors)))
    }
}

/// Whether two values are one tensor of the model.
fn same(a: &Value, b: &Value) -> bool {
    matches!((a, b), (Value::Runtime(a), Value::Runtime(b)) if a == b)
}
