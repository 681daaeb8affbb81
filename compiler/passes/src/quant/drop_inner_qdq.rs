//! Drops quantize/dequantize pairs inside what one kernel computes.
//!
//! before  %c = graph.conv2d(..)  %q = graph.quantize(%c)  %d = graph.dequantize(%q)  %y = graph.add(%d, %r)
//! after   %c = graph.conv2d(..)  %l = graph.clip(%c)   %y = graph.add(%l, %r)
//!
//! The rule, which users see as "inner pairs": the pair stands between a convolution or matrix product and the
//! residual addition or the activation that becomes part of its epilogue. The kernel holds the accumulator there, so
//! rounding it to 8 bits would only cost accuracy. The clamp of the pair stays, and becomes part of the epilogue too. The
//! sum must be quantized itself, its other side too. Of two convolutions that meet in an addition, the later one takes
//! it. With the option `sums` pairs in front of additions stay. `--exact-qdq` keeps all pairs (`pairs_as_written.rs`).

use super::keep_float::is_kept;
use crate::graph::bounds::{Pair, with_own};
use crate::graph::{from_constant, unclamped};
use qc_dialects::graph::{Add, Clamp, Clip, Dequantize, Linear, Quantize, Relu};
use qc_ir::{Diag, Keeps, Module, OpId, Pass, PassCx, Pattern, Rewriter, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "drop-inner-qdq",
    summary: "drops quantization between an accumulator and its epilogue",
    from: "",
    to: "",
    keeps: Keeps::Clamps,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let mut patterns = with_own([
        Pattern { name: "before-add", root: Add::DEF, apply: before_add },
        Pattern { name: "before-relu", root: Relu::DEF, apply: before_activation },
        Pattern { name: "before-clip", root: Clip::DEF, apply: before_activation },
    ]);
    let sums = cx.flag("sums");
    patterns.retain(|pattern| !sums || pattern.root != Add::DEF);
    cx.rewrite(m, &patterns)
}

/// The accumulator behind `v = dequantize(quantize(acc))`, if nothing else sees the pair.
pub fn accumulator(m: &Module, v: ValueId, user: OpId) -> Option<ValueId> {
    let dq = super::super::graph::sole_producer(m, v, user)?;
    let q = Dequantize::of(m, dq)?.q(m);
    let quantize = Quantize::of(m, super::super::graph::sole_producer(m, q, dq)?)?;
    let acc = quantize.x(m);
    let op = super::super::graph::sole_producer(m, acc, quantize.0)?;
    (Linear::is(m, op) && !is_kept(m, op) && !is_kept(m, user)).then_some(acc)
}

/// Whether `v` is quantized by its only user, perhaps behind an activation.
fn ends_quantized(m: &Module, v: ValueId) -> bool {
    let Some(user) = m.only_user(v).filter(|&u| !is_kept(m, u)) else { return false };
    if Clamp::is(m, user) {
        return m.only_user(m.result(user)).is_some_and(|u| m.is(u, Quantize::DEF));
    }
    m.is(user, Quantize::DEF)
}

/// Whether `a` is computed behind `b`, for choosing the later of two.
pub fn is_later(m: &Module, a: ValueId, b: ValueId) -> bool {
    match (m.producer(a), m.producer(b)) {
        (Some(a), Some(b)) => m.comes_before(b, a),
        (a, _) => a.is_some(),
    }
}

fn before_add(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let m = &*rw.m;
    let (a, b) = (m.operand(op, 0)?, m.operand(op, 1)?);
    (m.ty(a) == m.ty(b) && ends_quantized(m, m.result(op))).then_some(())?;
    let quantized = |v: ValueId| Dequantize::producing(m, v).is_some() && !from_constant(m, v);
    (quantized(a) && quantized(b)).then_some(())?;
    // The residual is added before an epilogue's bounds, so the convolution must have none of its own.
    let free = |v: ValueId| accumulator(m, v, op).filter(|&acc| m.producer(acc).is_some_and(|p| unclamped(m, p)));
    let pick = match (free(a), free(b)) {
        (Some(x), Some(y)) if is_later(m, x, y) => (0, x),
        (_, Some(y)) => (1, y),
        (Some(x), None) => (0, x),
        (None, None) => return None,
    };
    let real = Pair::giving(rw.m, rw.m.operand(op, pick.0)?)?.real(rw)?;
    rw.m.set_operand(op, pick.0, Some(real));
    Some(())
}

fn before_activation(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let v = rw.m.operand(op, 0)?;
    accumulator(rw.m, v, op)?;
    Pair::giving(rw.m, v)?.remove(rw)
}
