//! Quantize/dequantize pairs.

use super::builder::{Call, Writer};
use super::elementwise::bounded;
use crate::error::Refusal;
use qc_dialects::graph::{Dequantize, Quantize};
use qc_ir::{Data, HostTensor, OpId, Quant, Store};

/// Scale and zero point as literals. What is stored in 32 bits has none, as all biases have 0.
fn format(w: &mut Writer<'_>, q: &Quant) -> Vec<String> {
    let dims = |n: usize| if q.axis.is_some() { vec![n] } else { Vec::new() };
    let count = q.scales.len();
    let scales = w.literal(&HostTensor::f32(dims(count), q.scales.to_vec()));
    let zeros = (0..count).map(|i| q.zero(i));
    let data = match q.store {
        Store::U8 => Data::U8(zeros.map(|z| z as u8).collect()),
        Store::I8 => Data::I8(zeros.map(|z| z as i8).collect()),
        Store::I32 => return vec![scales],
    };
    let zeros = HostTensor::new(dims(count), data).map(|t| w.literal(&t));
    [scales].into_iter().chain(zeros).collect()
}

fn along(call: Call, q: &Quant) -> Call {
    match q.axis {
        Some(axis) => call.int("axis", axis as i64),
        None => call,
    }
}

/// A format with fewer numbers than its storage is a clamp, and a quantization that rounds only.
pub(super) fn quantize(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let m = w.m;
    let q = m.quant(Quantize(op).quant(m)).clone();
    if q.store == Store::I32 {
        return Err(Refusal::unsupported(
            "ONNX quantizes to more than 8 bits from version 21 of its operators on only",
        )
        .remedy("quantize the model to 8 bits"));
    }
    let mut x = w.operand(op, 0);
    let (lo, hi) = q.store.bounds();
    if (q.lo, q.hi) != (lo, hi) {
        if q.axis.is_some() {
            return Err(Refusal::unsupported("its channels have bounds of their own")
                .remedy("quantize activations with one scale per tensor"));
        }
        let bound = |own: i32, storage: i32, none: f64| {
            if own == storage { none } else { f64::from((own - q.zero(0)) as f32 * q.scale(0)) }
        };
        let bounds = [bound(q.lo, lo, f64::NEG_INFINITY), bound(q.hi, hi, f64::INFINITY)];
        let clip = bounded(w, x, bounds);
        x = w.emit(clip);
    }
    let inputs: Vec<String> = [x].into_iter().chain(format(w, &q)).collect();
    Ok(along(Call::new("QuantizeLinear", inputs), &q))
}

pub(super) fn dequantize(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let m = w.m;
    let q = m.quant_of(Dequantize(op).q(m)).cloned().ok_or_else(|| Refusal::invalid("its operand has no format"))?;
    if q.store == Store::I32 && q.zeros.iter().any(|&zero| zero != 0) {
        return Err(Refusal::unsupported("ONNX has no zero points of 32 bits").remedy("quantize the model to 8 bits"));
    }
    let inputs: Vec<String> = [w.operand(op, 0)].into_iter().chain(format(w, &q)).collect();
    Ok(along(Call::new("DequantizeLinear", inputs), &q))
}
