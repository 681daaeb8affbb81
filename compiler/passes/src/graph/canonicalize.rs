//! Brings graphs into one form, so that later passes match one pattern each.
//!
//! before  %p = graph.pad(%x)   %c = graph.conv2d(%p, %w)   %y = graph.add(%c, %bias)   %r = graph.clip(%y) {min = 0, max = inf}
//! after   %c = graph.conv2d(%x, %w, %bias) {pads}          %r = graph.relu(%c)
//!
//! Constants move to the right of commutative ops; additions and products of constants behind a convolution or matrix
//! product, or behind movement of its result (`behind_movement.rs`), go into its bias and weights; what does nothing is removed, activations included whose operand is known to lie
//! within their bounds (`bounds.rs`); two activations in a row are one; means over planes become global pools.

use super::{add_f32, constant_f32, per_channel, sole_producer, splat, unclamped};
use qc_dialects::graph::{
    AdaptiveAvgPool, Add, Clip, Conv2d, Div, GlobalAvgPool, Matmul, Mul, Pad, ReduceMean, Relu, Reshape, Slice,
    Softmax, Sub, Transpose,
};
use qc_dialects::phase;
use qc_ir::{Attrs, Diag, Keeps, Module, OpId, Pass, PassCx, Pattern, Rewriter, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "canonicalize",
    summary: "brings graphs into one form",
    from: "",
    to: "",
    keeps: Keeps::F32Rounding(1e-5),
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let mut patterns = super::bounds::with_own([
        Pattern { name: "constant-to-the-right", root: Add::DEF, apply: constant_to_the_right },
        Pattern { name: "constant-to-the-right", root: Mul::DEF, apply: constant_to_the_right },
        Pattern { name: "sub-to-add", root: Sub::DEF, apply: sub_to_add },
        Pattern { name: "div-to-mul", root: Div::DEF, apply: div_to_mul },
        Pattern { name: "add-into-bias", root: Add::DEF, apply: add_into_bias },
        Pattern { name: "mul-into-weight", root: Mul::DEF, apply: mul_into_weight },
        Pattern { name: "factors-behind-scores", root: Matmul::DEF, apply: factors_behind_scores },
        Pattern { name: "add-zero", root: Add::DEF, apply: add_zero },
        Pattern { name: "mul-one", root: Mul::DEF, apply: mul_one },
        Pattern { name: "pad-into-conv", root: Conv2d::DEF, apply: pad_into_conv },
        Pattern { name: "clip-to-relu", root: Clip::DEF, apply: clip_to_relu },
        Pattern { name: "same-shape", root: Reshape::DEF, apply: same_shape },
        Pattern { name: "reshape-of-reshape", root: Reshape::DEF, apply: reshape_of_reshape },
        Pattern { name: "identity-transpose", root: Transpose::DEF, apply: identity_transpose },
        Pattern { name: "whole-slice", root: Slice::DEF, apply: whole_slice },
        Pattern { name: "mean-to-pool", root: ReduceMean::DEF, apply: mean_to_pool },
        Pattern { name: "adaptive-to-global", root: AdaptiveAvgPool::DEF, apply: adaptive_to_global },
    ]);
    patterns.extend(super::behind_movement::PATTERNS);
    cx.rewrite(m, &patterns)?;
    if m.phase == phase::IMPORTED {
        m.phase = phase::CANONICAL;
    }
    Ok(())
}

fn forward(rw: &mut Rewriter<'_>, op: OpId, v: ValueId) -> Option<()> {
    let out = rw.m.result(op);
    (rw.m.ty(out) == rw.m.ty(v)).then(|| rw.replace(out, v))
}

fn constant_to_the_right(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let (a, b) = (rw.m.operand(op, 0)?, rw.m.operand(op, 1)?);
    super::constant(rw.m, a)?;
    if super::constant(rw.m, b).is_some() {
        return None;
    }
    rw.m.set_operand(op, 0, Some(b));
    rw.m.set_operand(op, 1, Some(a));
    Some(())
}

fn sub_to_add(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    with_mapped_constant(rw, op, Add::DEF, |x| -x)
}

fn div_to_mul(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let b = rw.m.operand(op, 1)?;
    let exact = |x: &f32| x.is_normal() && (1.0 / x).is_normal();
    constant_f32(rw.m, b)?.iter().all(exact).then_some(())?;
    with_mapped_constant(rw, op, Mul::DEF, |x| 1.0 / x)
}

fn with_mapped_constant(
    rw: &mut Rewriter<'_>,
    op: OpId,
    def: &'static qc_ir::OpDef,
    f: impl Fn(f32) -> f32,
) -> Option<()> {
    let (a, b) = (rw.m.operand(op, 0)?, rw.m.operand(op, 1)?);
    let mapped = constant_f32(rw.m, b)?.into_iter().map(f).collect();
    let dims = rw.m.dims(b).to_vec();
    let c = add_f32(rw, "mapped", &dims, mapped)?;
    let new = rw.create(def, &[Some(a), Some(c)], Attrs::new())?;
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

/// The convolution or matrix product that computes `v` for `user` alone, with the axis of its output channels.
fn linear(m: &Module, v: ValueId, user: OpId) -> Option<(OpId, usize)> {
    let op = sole_producer(m, v, user).filter(|&op| unclamped(m, op))?;
    let axis = match () {
        () if m.is(op, Conv2d::DEF) => 1,
        () if m.is(op, Matmul::DEF) => m.dims(v).len() - 1,
        () => return None,
    };
    Some((op, axis))
}

fn add_into_bias(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let (x, c) = (rw.m.operand(op, 0)?, rw.m.operand(op, 1)?);
    let (producer, axis) = linear(rw.m, x, op)?;
    let dims = rw.m.dims(x).to_vec();
    (rw.m.ty(rw.m.result(op)) == rw.m.ty(x)).then_some(())?;
    let mut bias = per_channel(rw.m, c, &dims, axis)?;
    if let Some(old) = rw.m.operand(producer, 2) {
        for (b, o) in bias.iter_mut().zip(constant_f32(rw.m, old)?) {
            *b += o;
        }
    }
    let bias = add_f32(rw, "bias", &[dims[axis]], bias)?;
    rebuild(rw, op, producer, |operands| operands[2] = Some(bias))
}

/// Makes a copy of `producer` with changed operands in place of `op`, which consumes it.
fn rebuild(
    rw: &mut Rewriter<'_>,
    op: OpId,
    producer: OpId,
    change: impl FnOnce(&mut Vec<Option<ValueId>>),
) -> Option<()> {
    let mut operands = rw.m.operands(producer).to_vec();
    operands.resize(3, None);
    change(&mut operands);
    let (def, attrs) = (rw.m.def(producer), rw.m.attrs(producer).clone());
    let loc = rw.fuse_locs(&[producer, op]);
    let new = rw.create_at(op, loc, def, &operands, attrs)?;
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

fn mul_into_weight(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let (x, c) = (rw.m.operand(op, 0)?, rw.m.operand(op, 1)?);
    let (producer, axis) = linear(rw.m, x, op)?;
    let dims = rw.m.dims(x).to_vec();
    (rw.m.ty(rw.m.result(op)) == rw.m.ty(x)).then_some(())?;
    let factors = per_channel(rw.m, c, &dims, axis)?;
    super::fold_batch_norm::scale_linear(rw, op, producer, &factors, None)
}

/// Factors of both operands of a product whose result a softmax reads: one behind it, which is part of the softmax's step.
fn factors_behind_scores(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let m = &*rw.m;
    let product = Matmul(op);
    let (scores, scaled) = (product.out(m), [product.a(m), product.b(m)]);
    let reader = m.only_user(scores)?;
    let masked =
        || m.is(reader, Add::DEF) && m.only_user(m.result(reader)).is_some_and(|user| m.is(user, Softmax::DEF));
    (m.is(reader, Softmax::DEF) || masked()).then_some(())?;
    (product.bias(m).is_none() && unclamped(m, op)).then_some(())?;
    let part = |v: ValueId| {
        let mul = sole_producer(m, v, op).filter(|&mul| m.is(mul, Mul::DEF))?;
        let (x, factor) = (m.operand(mul, 0)?, splat(m, m.operand(mul, 1)?)?);
        (m.dims(x) == m.dims(v)).then_some((mul, x, factor))
    };
    let [(a, x, p), (b, y, q)] = [part(scaled[0])?, part(scaled[1])?];
    (p * q).is_normal().then_some(())?;
    let (attrs, loc) = (m.attrs(op).clone(), rw.fuse_locs(&[a, b, op]));
    let plain = rw.create_at(op, loc, Matmul::DEF, &[Some(x), Some(y), None], attrs)?;
    let factor = add_f32(rw, "factor", &[], vec![p * q])?;
    let plain = rw.m.result(plain);
    let new = rw.create_at(op, loc, Mul::DEF, &[Some(plain), Some(factor)], Attrs::new())?;
    let new = rw.m.result(new);
    rw.replace(scores, new);
    Some(())
}

fn add_zero(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    (splat(rw.m, rw.m.operand(op, 1)?)? == 0.0).then_some(())?;
    let x = rw.m.operand(op, 0)?;
    forward(rw, op, x)
}

fn mul_one(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    (splat(rw.m, rw.m.operand(op, 1)?)? == 1.0).then_some(())?;
    let x = rw.m.operand(op, 0)?;
    forward(rw, op, x)
}

fn pad_into_conv(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let conv = Conv2d(op);
    let pad = Pad::of(rw.m, rw.m.producer(conv.input(rw.m))?)?;
    let pads = pad.pads(rw.m);
    let spatial_only = pads.len() == 8 && [0, 1, 4, 5].iter().all(|&i| pads[i] == 0);
    (spatial_only && pad.value(rw.m) == 0.0).then_some(())?;
    let old = conv.pads(rw.m);
    let sum = vec![old[0] + pads[2], old[1] + pads[3], old[2] + pads[6], old[3] + pads[7]];
    let x = pad.x(rw.m);
    let loc = rw.fuse_locs(&[pad.0, op]);
    rw.m.set_operand(op, 0, Some(x));
    rw.m.set_attr(op, "pads", sum);
    rw.m.set_loc(op, loc);
    Some(())
}

fn clip_to_relu(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let clip = Clip(op);
    (clip.min(rw.m) == 0.0 && clip.max(rw.m) == f64::INFINITY).then_some(())?;
    let x = clip.x(rw.m);
    let relu = rw.create(Relu::DEF, &[Some(x)], Attrs::new())?;
    let (old, new) = (rw.m.result(op), rw.m.result(relu));
    rw.replace(old, new);
    Some(())
}

fn same_shape(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let x = Reshape(op).x(rw.m);
    forward(rw, op, x)
}

fn reshape_of_reshape(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let first = Reshape::producing(rw.m, Reshape(op).x(rw.m))?;
    let loc = rw.fuse_locs(&[first.0, op]);
    let x = first.x(rw.m);
    rw.m.set_operand(op, 0, Some(x));
    rw.m.set_loc(op, loc);
    Some(())
}

fn identity_transpose(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let t = Transpose(op);
    t.perm(rw.m).is_sorted().then_some(())?;
    let x = t.x(rw.m);
    forward(rw, op, x)
}

fn whole_slice(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    Slice(op).steps(rw.m).iter().all(|&s| s == 1).then_some(())?;
    let x = Slice(op).x(rw.m);
    forward(rw, op, x)
}

fn mean_to_pool(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let mean = ReduceMean(op);
    let x = mean.x(rw.m);
    let mut axes = mean.axes(rw.m).to_vec();
    axes.sort_unstable();
    (rw.m.dims(x).len() == 4 && axes == [2, 3]).then_some(())?;
    let pool = rw.create(GlobalAvgPool::DEF, &[Some(x)], Attrs::new())?;
    let pooled = rw.m.result(pool);
    let shape: Vec<i64> = rw.m.dims(rw.m.result(op)).iter().map(|&d| d as i64).collect();
    let shaped = rw.create(Reshape::DEF, &[Some(pooled)], Attrs::new().with("shape", shape))?;
    let (old, new) = (rw.m.result(op), rw.m.result(shaped));
    rw.replace(old, new);
    Some(())
}

fn adaptive_to_global(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let pool = AdaptiveAvgPool(op);
    (*pool.output(rw.m) == [1, 1]).then_some(())?;
    let x = pool.x(rw.m);
    let new = rw.create(GlobalAvgPool::DEF, &[Some(x)], Attrs::new())?;
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}
