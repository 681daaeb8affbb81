//! Sums, products, tables, pools and movement of bytes.

use super::{Bounds, Tail, dequantized, element};
use crate::graph::{add_constant, constant_f32};
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::quantize::{quantize, quantize_tensor};
use qc_dialects::graph::{Add, AvgPool, GlobalAvgPool, MaxPool};
use qc_dialects::quant::{QAdd, QAvgPool, QLut, QMaxPool, QMul};
use qc_ir::{Attrs, Elem, HostTensor, Module, OpId, Quant, QuantId, Rewriter, Store, TensorTy, ValueId};

/// Replaces `root` by `new`, which gets the locations of `chain`.
fn finish(rw: &mut Rewriter<'_>, root: OpId, chain: &[OpId], new: OpId) -> Option<()> {
    let loc = rw.fuse_locs(chain);
    rw.m.set_loc(new, loc);
    let (old, new) = (rw.m.result(root), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

/// The table of `f` on real numbers between two formats, exactly as dequantize, `f`, quantize would compute it.
fn table(from: &Quant, to: &Quant, f: impl Fn(f32) -> f32) -> Vec<u8> {
    let one = |q: i32| {
        let real = (q - from.zero(0)) as f32 * from.scale(0);
        quantize(f(real), to.scale(0), to.zero(0), to.lo, to.hi) as u8
    };
    (0..256).map(one).collect()
}

fn lut(rw: &mut Rewriter<'_>, x: ValueId, id: QuantId, table: Vec<u8>) -> Option<ValueId> {
    let ty = TensorTy::new(Elem::U8, [256]);
    let tensor = HostTensor::u8([256], table);
    let c = rw.m.consts.add("table", ty, std::sync::Arc::new(tensor));
    let op = rw.create(QLut::DEF, &[Some(x)], Attrs::new().with("table", c).with("to", element(id)))?;
    Some(rw.m.result(op))
}

/// `x` in format `id`: itself, or through a table.
fn in_format(rw: &mut Rewriter<'_>, x: ValueId, id: QuantId, format: &Quant) -> Option<ValueId> {
    let from = rw.m.quant_of(x)?.clone();
    if rw.m.tensor_ty(x).elem == Elem::Quant(id) {
        return Some(x);
    }
    lut(rw, x, id, table(&from, format, |v| v))
}

/// A change of format, or none.
pub fn requantize(rw: &mut Rewriter<'_>, root: OpId, x: ValueId, id: QuantId, format: &Quant) -> Option<()> {
    let new = in_format(rw, x, id, format)?;
    let old = rw.m.result(root);
    rw.replace(old, new);
    Some(())
}

/// A function of single elements alone, perhaps with a clamp behind it.
pub fn unary(rw: &mut Rewriter<'_>, root: OpId, t: &Tail, id: QuantId, format: &Quant) -> Option<()> {
    let x = dequantized(rw.m, rw.m.operand(t.op, 0)?)?;
    let from = rw.m.quant_of(x)?.clone();
    let clamp = |b: Bounds, v: f32| v.max(b.min).min(b.max);
    let bytes = match (Bounds::of(rw.m, t.op), Function::of(rw.m, t.op)) {
        (Some(bounds), _) => table(&from, format, |v| clamp(t.bounds, clamp(bounds, v))),
        (None, Some(function)) => table(&from, format, |v| clamp(t.bounds, function.value(v))),
        (None, None) => return None,
    };
    let mapped = lut(rw, x, id, bytes)?;
    let new = rw.m.producer(mapped)?;
    finish(rw, root, &t.chain, new)
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
    let attrs = match AvgPool::of(rw.m, t.op) {
        Some(_) => rw.m.attrs(t.op).clone(),
        None => {
            GlobalAvgPool::of(rw.m, t.op)?;
            let plane: Vec<i64> = rw.m.dims(x)[2..].iter().map(|&d| d as i64).collect();
            Attrs::new().with("kernel", plane).with("strides", [1i64, 1])
        }
    };
    if let Some(pool) = AvgPool::of(rw.m, t.op) {
        let padded = pool.pads(rw.m).iter().any(|&p| p != 0) || pool.ceil_mode(rw.m);
        let counts_padding = &*pool.count(rw.m) != "exclusive";
        (!(padded && counts_padding) || rw.m.quant_of(x)?.zero(0) == 0).then_some(())?;
    }
    let (lo, hi) = t.bounds.stored(format);
    let attrs = attrs.with("to", element(id)).with("lo", lo).with("hi", hi);
    let new = rw.create(QAvgPool::DEF, &[Some(x)], attrs)?;
    finish(rw, root, &t.chain, new)
}

/// Sums and products of two quantized tensors, or of one and a constant.
pub fn binary(rw: &mut Rewriter<'_>, root: OpId, t: &Tail, id: QuantId, format: &Quant) -> Option<()> {
    let (a, b) = (rw.m.operand(t.op, 0)?, rw.m.operand(t.op, 1)?);
    let (a, b) = (quantized_operand(rw, a)?, quantized_operand(rw, b)?);
    let (lo, hi) = t.bounds.stored(format);
    let attrs = Attrs::new().with("to", element(id)).with("lo", lo).with("hi", hi);
    let def = if rw.m.is(t.op, Add::DEF) { QAdd::DEF } else { QMul::DEF };
    let new = rw.create(def, &[Some(a), Some(b)], attrs)?;
    finish(rw, root, &t.chain, new)
}

/// A quantized operand: what is behind a dequantization, or a float constant in a format of its own.
fn quantized_operand(rw: &mut Rewriter<'_>, v: ValueId) -> Option<ValueId> {
    if let Some(q) = dequantized(rw.m, v) {
        return Some(q);
    }
    let values = constant_f32(rw.m, v)?;
    let fold = |f: fn(f32, f32) -> f32| values.iter().copied().fold(0.0, f);
    let format = crate::quant::quantize::activation_format((fold(f32::min), fold(f32::max)));
    debug_assert_eq!(format.store, Store::U8);
    let dims = rw.m.dims(v).to_vec();
    let stored = quantize_tensor(&format, &HostTensor::f32(dims.clone(), values)).ok()?;
    let id = rw.m.intern_quant(format);
    add_constant(rw, "addend", TensorTy::new(Elem::Quant(id), dims), stored)
}
