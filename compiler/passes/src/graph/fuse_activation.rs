//! Makes additions, relus and clips part of the float convolution or matrix product before them, relus and clips also of a
//! layer norm.
//!
//! before  %c = graph.conv2d(%x, %w, %b)   %s = graph.add(%c, %r)   %y = graph.relu(%s)
//! after   %y = graph.conv2d(%x, %w, %b, %r) {min = 0.0}
//!
//! Only when nothing else reads the result before. An activation behind a concat goes in front of it first, where every
//! operand of the concat can take it. Integer ops got theirs in `lower-to-quant`.

use super::bounds::Bounds;
use super::sole_producer;
use super::unclamped;
use qc_dialects::graph::{Add, Clip, Concat, Conv2d, LayerNorm, Linear, Relu};
use qc_dialects::phase;
use qc_ir::{Diag, Keeps, Module, OpId, Pass, PassCx, Pattern, Rewriter, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "fuse-activation",
    summary: "makes activations and residual additions part of float convolutions and matrix products",
    from: phase::FUSED,
    to: "",
    keeps: Keeps::Exact,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(
        m,
        &[
            Pattern { name: "sum-into-conv", root: Add::DEF, apply: sum_into_conv },
            Pattern { name: "relu-into-producer", root: Relu::DEF, apply: into_producer },
            Pattern { name: "clip-into-producer", root: Clip::DEF, apply: into_producer },
            Pattern { name: "relu-through-concat", root: Relu::DEF, apply: through_concat },
            Pattern { name: "clip-through-concat", root: Clip::DEF, apply: through_concat },
        ],
    )
}

/// A convolution or product whose result `v` only `user` reads, and that has no activation yet.
fn open_linear(m: &Module, v: ValueId, user: OpId) -> Option<OpId> {
    let producer = sole_producer(m, v, user)?;
    (Linear::is(m, producer) && unclamped(m, producer)).then_some(producer)
}

/// `op` with the bounds of `activation`, made at `activation`.
fn clamped(rw: &mut Rewriter<'_>, op: OpId, activation: OpId) -> Option<ValueId> {
    let bounds = Bounds::of(rw.m, activation)?;
    let (def, operands) = (rw.m.def(op), rw.m.operands(op).to_vec());
    let attrs = rw.m.attrs(op).clone().with("min", bounds.min).with("max", bounds.max);
    let loc = rw.fuse_locs(&[op, activation]);
    let new = rw.create_at(activation, loc, def, &operands, attrs)?;
    Some(rw.m.result(new))
}

fn into_producer(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let x = rw.m.operand(op, 0)?;
    let norm = || sole_producer(rw.m, x, op).filter(|&norm| rw.m.is(norm, LayerNorm::DEF) && unclamped(rw.m, norm));
    let producer = open_linear(rw.m, x, op).or_else(norm)?;
    let (old, new) = (rw.m.result(op), clamped(rw, producer, op)?);
    rw.replace(old, new);
    Some(())
}

/// Both sides of an addition may be convolutions; the left one takes it, unless it has an addition already. Depthwise
/// kernels do not add.
fn sum_into_conv(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let sides = [rw.m.operand(op, 0)?, rw.m.operand(op, 1)?];
    let takes = |v: ValueId| {
        let conv = Conv2d::of(rw.m, open_linear(rw.m, v, op)?)?;
        let depthwise = conv.shape(rw.m).ok()?.is_depthwise();
        (!depthwise && conv.residual(rw.m).is_none() && rw.m.dims(v) == rw.m.dims(rw.m.result(op))).then_some(conv)
    };
    let (conv, other) = match (takes(sides[0]), takes(sides[1])) {
        (Some(conv), _) => (conv, sides[1]),
        (None, Some(conv)) => (conv, sides[0]),
        (None, None) => return None,
    };
    (rw.m.dims(other) == rw.m.dims(conv.out(rw.m)) && other != conv.out(rw.m)).then_some(())?;
    let operands = [Some(conv.input(rw.m)), Some(conv.weight(rw.m)), conv.bias(rw.m), Some(other)];
    let attrs = rw.m.attrs(conv.0).clone();
    let loc = rw.fuse_locs(&[conv.0, op]);
    let new = rw.create_at(op, loc, Conv2d::DEF, &operands, attrs)?;
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

fn through_concat(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let concat = Concat::of(rw.m, sole_producer(rw.m, rw.m.operand(op, 0)?, op)?)?;
    let parts = concat.inputs(rw.m).into_iter().map(|v| open_linear(rw.m, v, concat.0));
    let parts: Vec<OpId> = parts.collect::<Option<_>>()?;
    let operands = parts.into_iter().map(|linear| clamped(rw, linear, op).map(Some));
    let operands: Vec<Option<ValueId>> = operands.collect::<Option<_>>()?;
    let (attrs, loc) = (rw.m.attrs(concat.0).clone(), rw.fuse_locs(&[concat.0]));
    let new = rw.create_at(op, loc, Concat::DEF, &operands, attrs)?;
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}
