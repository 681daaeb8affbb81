//! Gives a quantized graph the form in which other engines run pairs as integers, for a file that they read.
//!
//! before  %c = graph.conv2d(%x, %w, %b)      %r = graph.relu(%c)  %q = graph.quantize(%r) {quant = q<u8, s, 0>}
//! after   %d = graph.dequantize(@b as i32)   %c = graph.conv2d(%x, %w, %d)  %q = graph.quantize(%c) {quant}
//!
//! A constant bias is stored in units of the accumulator, `x_scale * w_scale[c]` in f32, rounded half to even: engines add it to the
//! integers. One that does not fit, or of which floats would lose digits, stays as it is. A channel without weights has no unit, so
//! it gets one in which its bias has 20 digits; its weights are 0 in any. Where an activation does no more than the clamp of the
//! quantization behind it, it goes: engines recognize a product only where its quantization follows.

use crate::graph::constant;
use qc_dialects::graph::quantize::{axis_index, centred};
use qc_dialects::graph::{Clamp, Clip, Constant, Dequantize, Linear, Matmul, Quantize, Relu};
use qc_dialects::phase;
use qc_ir::{
    Attrs, Builder, Diag, Elem, HostTensor, Keeps, Module, OpId, Pass, PassCx, Pattern, Quant, Rewriter, Store,
    TensorTy, Use, ValueId,
};

/// The pass.
pub const PASS: Pass = Pass {
    name: "portable-qdq",
    summary: "stores biases as integers and drops activations that a quantization repeats",
    from: phase::QUANTIZED,
    to: "",
    keeps: Keeps::OneStep,
    run,
};

/// Larger biases have more digits than an f32, in which some engines add them.
const LARGEST_BIAS: f32 = 16_777_216.0;
/// What the bias of a channel without weights is stored as, at most.
const STEPS_OF_LONE_BIAS: f32 = 1_048_576.0;

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    for op in m.walk(m.body()) {
        cx.check_time()?;
        let Some(linear) = Linear::of(m, op) else { continue };
        if integer_bias(m, linear)?.is_some() {
            cx.count("biases");
        }
    }
    let clamps = [("idle-relu", Relu::DEF), ("idle-clip", Clip::DEF)];
    cx.rewrite(m, &clamps.map(|(name, root)| Pattern { name, root, apply: idle_clamp }))
}

/// Drops an activation whose bounds hold all that the quantizations behind it can give.
fn idle_clamp(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let m = &*rw.m;
    let clamp = Clamp::of(m, op)?;
    let [min, max] = clamp.bounds(m);
    let repeats = |u: &Use| {
        let Use::Operand(user, _) = u else { return false };
        let Some(quantize) = Quantize::of(m, *user) else { return false };
        let q = m.quant(quantize.quant(m));
        let real = |stored: i32| (stored - q.zero(0)) as f32 * q.scale(0);
        q.axis.is_none() && min <= real(q.lo) && real(q.hi) <= max
    };
    let (x, out) = (clamp.x(m), clamp.out(m));
    (!m.uses(out).is_empty() && m.uses(out).iter().all(repeats)).then_some(())?;
    rw.replace(out, x);
    Some(())
}

/// Stores the bias of a product of quantized sides as integers, if it can be.
fn integer_bias(m: &mut Module, linear: Linear) -> Result<Option<()>, Diag> {
    let Some(bias) = linear.bias(m) else { return Ok(None) };
    let Some(real) = constant(m, bias).filter(|t| t.as_f32().is_some()) else { return Ok(None) };
    let Some((x, weight)) = formats(m, linear) else { return Ok(None) };
    let values = real.as_f32().unwrap_or_default();
    let Some(scales) = units(m, linear, (&x, &weight), values)? else { return Ok(None) };
    let stored: Vec<f32> = values.iter().zip(&scales).map(|(b, s)| (b / (x.scale(0) * s)).round_ties_even()).collect();
    let unit: Vec<f32> = scales.iter().map(|s| x.scale(0) * s).collect();
    let fits = stored.iter().all(|b| b.abs() <= LARGEST_BIAS) && unit.iter().all(|u| u.is_normal());
    if !fits {
        return Ok(None);
    }
    if weight.scales.len() > 1 && scales[..] != weight.scales[..] {
        set_scales(m, linear, &weight, scales)?;
    }
    let format = match weight.axis {
        None => Quant::per_tensor(Store::I32, unit[0], 0),
        Some(_) => Quant::per_axis(Store::I32, 0, unit),
    };
    let tensor = HostTensor::i32([stored.len()], stored.into_iter().map(|b| b as i32).collect());
    let integers = stored_constant(m, linear, bias, format, tensor)?;
    m.set_operand(linear.op(), 2, Some(integers));
    Ok(Some(()))
}

/// The formats of both sides, the left one's with one scale.
fn formats(m: &Module, linear: Linear) -> Option<(Quant, Quant)> {
    let format = |v: ValueId| m.quant_of(Dequantize::producing(m, v)?.q(m)).cloned();
    let (x, weight) = (format(linear.input(m))?, format(linear.weight(m))?);
    Constant::producing(m, Dequantize::producing(m, linear.weight(m))?.q(m))?;
    let axis = match Matmul::of(m, linear.op()) {
        Some(product) => m.dims(product.b(m)).len() - if product.transpose_b(m) { 2 } else { 1 },
        None => 0,
    };
    (x.axis.is_none() && weight.axis.is_none_or(|a| a == axis)).then_some((x, weight))
}

/// The scale of the weights per element of the bias, with those of channels that hold nothing but 0 by their bias.
fn units(m: &Module, linear: Linear, (x, weight): (&Quant, &Quant), bias: &[f32]) -> Result<Option<Vec<f32>>, Diag> {
    let mut scales: Vec<f32> = (0..bias.len()).map(|c| weight.scale(c)).collect();
    let Some(axis) = weight.axis else { return Ok(Some(scales)) };
    let stored = Dequantize::producing(m, linear.weight(m)).map(|d| d.q(m));
    let Some(tensor) = stored.and_then(|v| constant(m, v)) else { return Ok(None) };
    let values = centred(weight, &tensor, axis).map_err(Diag::bug)?;
    let channel = axis_index(weight, tensor.dims());
    let mut lone = vec![true; bias.len()];
    values.iter().enumerate().filter(|(_, w)| **w != 0).for_each(|(i, _)| lone[channel(i)] = false);
    for (c, scale) in scales.iter_mut().enumerate().filter(|(c, _)| lone[*c]) {
        let own = bias[c].abs() / STEPS_OF_LONE_BIAS / x.scale(0);
        if (own * x.scale(0)).is_normal() {
            *scale = own;
        }
    }
    Ok(Some(scales))
}

/// Gives the weight of a product other scales for the same integers.
fn set_scales(m: &mut Module, linear: Linear, weight: &Quant, scales: Vec<f32>) -> Result<(), Diag> {
    let old = linear.weight(m);
    let Some(stored) = Dequantize::producing(m, old).map(|d| d.q(m)) else { return Ok(()) };
    let Some(tensor) = constant(m, stored) else { return Ok(()) };
    let format = Quant { scales: scales.into(), ..weight.clone() };
    let new = stored_constant(m, linear, stored, format, (*tensor).clone())?;
    m.set_operand(linear.op(), 1, Some(new));
    Ok(())
}

/// What integers stand for in a format, before a product; they are called after another value.
fn stored_constant(
    m: &mut Module,
    linear: Linear,
    like: ValueId,
    format: Quant,
    tensor: HostTensor,
) -> Result<ValueId, Diag> {
    let ty = TensorTy::new(Elem::Quant(m.intern_quant(format)), tensor.dims());
    let name = format!("{}.q", m.name(like).unwrap_or("bias"));
    let tensor = m.consts.memo.kept(tensor);
    let c = m.consts.add(&name, ty, tensor);
    let mut b = Builder::before(m, linear.op());
    let stored = Constant::build(&mut b, &[], Attrs::new().with("value", c))?.out(b.m);
    Ok(Dequantize::build(&mut b, &[Some(stored)], Attrs::new())?.out(b.m))
}
