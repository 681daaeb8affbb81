//! Sums, products, pools and movement of bytes.

use super::table::{in_format, lut, table};
use super::{Tail, dequantized, element, finish, steps_are_resolved};
use crate::graph::{add_constant, constant_f32, per_channel, splat};
use qc_dialects::graph::quantize::{dequantize_tensor, quantize_tensor};
use qc_dialects::graph::{Add, AvgPool, GlobalAvgPool, MaxPool};
use qc_dialects::quant::numeric::ratio;
use qc_dialects::quant::pool::sums_fit;
use qc_dialects::quant::{QAdd, QAvgPool, QConv2d, QMaxPool, QMul, QResample};
use qc_ir::{Attrs, Data, Elem, HostTensor, Module, OpId, Quant, QuantId, Rewriter, Store, TensorTy, ValueId};

/// A change of format, or none.
pub fn requantize(rw: &mut Rewriter<'_>, root: OpId, x: ValueId, id: QuantId, format: &Quant) -> Option<()> {
    let new = in_format(rw, x, id, format)?;
    let old = rw.m.result(root);
    rw.replace(old, new);
    Some(())
}

/// Reshape, transpose, slice, concat: bytes move; inputs in other formats pass through a table.
pub fn movement(rw: &mut Rewriter<'_>, root: OpId, t: &Tail, id: QuantId, format: &Quant) -> Option<()> {
    let sources: Option<Vec<ValueId>> = rw.m.operands(t.op).iter().map(|v| operand_u8(rw.m, (*v)?)).collect();
    let mut operands = Vec::new();
    for x in sources? {
        operands.push(Some(in_format(rw, x, id, format)?));
    }
    let (def, attrs) = (rw.m.def(t.op), rw.m.attrs(t.op).clone());
    let moved = rw.create(def, &operands, attrs)?;
    clamp_then_finish(rw, root, t, moved, id, format)
}

fn operand_u8(m: &Module, v: ValueId) -> Option<ValueId> {
    dequantized(m, v)
}

/// An activation behind bytes that moved or were pooled becomes a table.
fn clamp_then_finish(
    rw: &mut Rewriter<'_>,
    root: OpId,
    t: &Tail,
    moved: OpId,
    id: QuantId,
    format: &Quant,
) -> Option<()> {
    let free = t.bounds.min == f32::NEG_INFINITY && t.bounds.max == f32::INFINITY;
    if free {
        return finish(rw, root, &t.chain, moved);
    }
    let v = rw.m.result(moved);
    let mapped = lut(rw, v, id, table(format, format, |x| x.max(t.bounds.min).min(t.bounds.max)))?;
    let new = rw.m.producer(mapped)?;
    finish(rw, root, &t.chain, new)
}

/// Max pooling commutes with quantization, which is monotonic.
pub fn max_pool(rw: &mut Rewriter<'_>, root: OpId, t: &Tail, id: QuantId, format: &Quant) -> Option<()> {
    let pool = MaxPool(t.op);
    let x = dequantized(rw.m, pool.x(rw.m))?;
    let x = in_format(rw, x, id, format)?;
    let (lo, hi) = t.bounds.stored(format);
    let attrs = rw.m.attrs(t.op).clone().with("lo", lo).with("hi", hi);
    let new = rw.create(QMaxPool::DEF, &[Some(x)], attrs)?;
    finish(rw, root, &t.chain, new)
}

/// Average pooling, windowed or over the plane.
pub fn avg_pool(rw: &mut Rewriter<'_>, root: OpId, t: &Tail, id: QuantId, format: &Quant) -> Option<()> {
    let x = dequantized(rw.m, rw.m.operand(t.op, 0)?)?;
    let (kernel, attrs) = match AvgPool::of(rw.m, t.op) {
        Some(pool) => (pool.kernel(rw.m).to_vec(), rw.m.attrs(t.op).clone()),
        None => {
            GlobalAvgPool::of(rw.m, t.op)?;
            let plane: Vec<i64> = rw.m.dims(x)[2..].iter().map(|&d| d as i64).collect();
            (plane.clone(), Attrs::new().with("kernel", plane).with("strides", [1i64, 1]))
        }
    };
    (sums_fit(&kernel) && steps_are_resolved(rw.m.quant_of(x)?, format)).then_some(())?;
    let (lo, hi) = t.bounds.stored(format);
    let attrs = attrs.with("to", element(id)).with("lo", lo).with("hi", hi);
    let new = rw.create(QAvgPool::DEF, &[Some(x)], attrs)?;
    finish(rw, root, &t.chain, new)
}

/// Weighted sums of neighbours.
pub fn resample(rw: &mut Rewriter<'_>, root: OpId, t: &Tail, id: QuantId, format: &Quant) -> Option<()> {
    let x = dequantized(rw.m, rw.m.operand(t.op, 0)?)?;
    steps_are_resolved(rw.m.quant_of(x)?, format).then_some(())?;
    let (lo, hi) = t.bounds.stored(format);
    let attrs = rw.m.attrs(t.op).clone().with("to", element(id)).with("lo", lo).with("hi", hi);
    let new = rw.create(QResample::DEF, &[Some(x)], attrs)?;
    finish(rw, root, &t.chain, new)
}

/// Sums and products of two quantized tensors, or of one and a constant.
pub fn binary(rw: &mut Rewriter<'_>, root: OpId, t: &Tail, id: QuantId, format: &Quant) -> Option<()> {
    let sum = rw.m.is(t.op, Add::DEF);
    let operands = [rw.m.operand(t.op, 0)?, rw.m.operand(t.op, 1)?];
    let quantized = operands.map(|v| dequantized(rw.m, v));
    if let Some(new) = per_channel_constant(rw, t, operands, quantized, id, format) {
        return finish(rw, root, &t.chain, new);
    }
    let reach = |q: Option<ValueId>| q.and_then(|q| rw.m.quant_of(q)).map_or(0.0, reach);
    // What an error of 1 in a constant is in steps of the result, at most.
    let factor = |other: f64| if sum { 1.0 } else { other } / f64::from(format.scale(0));
    let factors = [factor(reach(quantized[1])), factor(reach(quantized[0]))];
    let mut stored = [None; 2];
    for i in 0..2 {
        stored[i] = Some(match quantized[i] {
            Some(q) => q,
            None => stored_constant(rw, operands[i], factors[i])?,
        });
    }
    let formats = stored.map(|v| v.and_then(|v| rw.m.quant_of(v)).cloned());
    let [Some(a), Some(b)] = &formats else { return None };
    let fits = match sum {
        true => steps_are_resolved(a, format) && steps_are_resolved(b, format),
        false => ratio(a.scale(0), b.scale(0), format.scale(0)).is_finite(),
    };
    fits.then_some(())?;
    let (lo, hi) = t.bounds.stored(format);
    let attrs = Attrs::new().with("to", element(id)).with("lo", lo).with("hi", hi);
    let new = rw.create(if sum { QAdd::DEF } else { QMul::DEF }, &stored, attrs)?;
    finish(rw, root, &t.chain, new)
}

/// Why a sum or product of a quantized tensor and a constant that could be integer is not.
pub fn obstacle(m: &Module, op: OpId) -> Option<String> {
    let (a, b) = (m.operand(op, 0)?, m.operand(op, 1)?);
    let constant = |x: ValueId, c: ValueId| dequantized(m, x).is_some() && constant_f32(m, c).is_some();
    let fits = (constant(a, b) || constant(b, a)) && super::compute::result_step(m, op).is_some();
    fits.then(|| "in 8 bits its constant would be off by more than half a step of its result".into())
}

/// The largest magnitude of a real number in a format.
fn reach(q: &Quant) -> f64 {
    f64::from((q.hi - q.zero(0)).max(q.zero(0) - q.lo)) * f64::from(q.scale(0))
}

/// Error of a constant that is stored in 8 bits, in steps of the result: half of what its own rounding makes.
const CONSTANT_ERROR: f64 = 0.5;

/// A float constant in a format of its own; `None` where that would be off by more than [`CONSTANT_ERROR`], given what
/// an error of 1 makes of the result in steps.
fn stored_constant(rw: &mut Rewriter<'_>, v: ValueId, factor: f64) -> Option<ValueId> {
    let values = constant_f32(rw.m, v)?;
    let fold = |f: fn(f32, f32) -> f32| values.iter().copied().fold(0.0, f);
    // Zeros are exact in any format, and a small scale disturbs no sum.
    let zeros = Quant::per_tensor(Store::U8, f32::MIN_POSITIVE, 0);
    let format = match values.iter().all(|x| *x == 0.0) {
        true => zeros,
        false => crate::quant::quantize::activation_format((fold(f32::min), fold(f32::max)))?,
    };
    let real = HostTensor::f32(rw.m.dims(v).to_vec(), values);
    let stored = quantize_tensor(&format, &real).ok()?;
    let back = dequantize_tensor(&format, &stored);
    let exact = |(x, y): (&f32, &f32)| f64::from((x - y).abs()) * factor <= CONSTANT_ERROR;
    real.as_f32()?.iter().zip(back.as_f32()?).all(exact).then_some(())?;
    let ty = TensorTy::new(Elem::Quant(rw.m.intern_quant(format)), real.dims());
    add_constant(rw, "operand", ty, stored)
}

/// A factor or addend per channel of images: a convolution of each channel with one weight, which is closer than a
/// constant in one format for all channels.
fn per_channel_constant(
    rw: &mut Rewriter<'_>,
    t: &Tail,
    operands: [ValueId; 2],
    quantized: [Option<ValueId>; 2],
    id: QuantId,
    format: &Quant,
) -> Option<OpId> {
    let (x, c) = match quantized {
        [Some(x), None] => (x, operands[1]),
        [None, Some(x)] => (x, operands[0]),
        _ => return None,
    };
    let dims = rw.m.dims(x).to_vec();
    (dims.len() == 4 && dims == rw.m.dims(rw.m.result(t.op)) && splat(rw.m, c).is_none()).then_some(())?;
    let values = per_channel(rw.m, c, &dims, 1)?;
    let (weights, scales, bias) = match rw.m.is(t.op, Add::DEF) {
        true => addends(&values, rw.m.quant_of(x)?.scale(0), format.scale(0))?,
        false => factors(&values),
    };
    let fits =
        |s: &f32| s.is_normal() && ratio(rw.m.quant_of(x).map_or(0.0, |q| q.scale(0)), *s, format.scale(0)).is_finite();
    scales.iter().all(fits).then_some(())?;
    let n = values.len();
    let ty = TensorTy::new(Elem::Quant(rw.m.intern_quant(Quant::per_axis(Store::I8, 0, scales))), [n, 1, 1, 1]);
    let weight = add_constant(rw, "factor", ty, HostTensor::new([n, 1, 1, 1], Data::I8(weights))?)?;
    let bias = match bias {
        Some(b) => Some(add_constant(rw, "addend", TensorTy::new(Elem::I32, [n]), HostTensor::i32([n], b))?),
        None => None,
    };
    let (lo, hi) = t.bounds.stored(format);
    let attrs = Attrs::new().with("groups", n).with("to", element(id)).with("lo", lo).with("hi", hi);
    rw.create(QConv2d::DEF, &[Some(x), Some(weight), bias, None], attrs)
}

/// Weights, scales and biases.
type Channels = (Vec<i8>, Vec<f32>, Option<Vec<i32>>);

/// A product as weights that are signs, in scales that are magnitudes.
fn factors(values: &[f32]) -> Channels {
    let weight = |v: &f32| if *v == 0.0 { 0 } else { v.signum() as i8 };
    let scale = |v: &f32| if *v == 0.0 { 1.0 } else { v.abs() };
    (values.iter().map(weight).collect(), values.iter().map(scale).collect(), None)
}

/// A sum as weights of 1 in the finest unit that they can have, and biases; `None` where these would be off by more than
/// [`CONSTANT_ERROR`] of a `step` of the result.
fn addends(values: &[f32], scale: f32, step: f32) -> Option<Channels> {
    let weight = 1.0 / f32::from(i8::MAX);
    let unit = f64::from(scale) * f64::from(weight);
    let bias = |v: &f32| {
        let exact = f64::from(*v) / unit;
        let b = exact.round_ties_even();
        let close = (exact - b).abs() * unit <= CONSTANT_ERROR * f64::from(step);
        (close && b.abs() < f64::from(1 << 30)).then_some(b as i32)
    };
    let biases: Option<Vec<i32>> = values.iter().map(bias).collect();
    Some((vec![i8::MAX; values.len()], vec![weight; values.len()], Some(biases?)))
}
