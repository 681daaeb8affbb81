//! Makes a relu or clip part of the float convolution or matrix product before it.
//!
//! before  %c = graph.conv2d(%x, %w, %b)   %y = graph.relu(%c)
//! after   %y = graph.conv2d(%x, %w, %b) {min = 0.0}
//!
//! Only when nothing else reads the result before the activation. Integer ops got theirs in `lower-to-quant`.

use super::sole_producer;
use super::unclamped;
use crate::quant::lower_to_quant::Bounds;
use qc_dialects::graph::{Clip, Conv2d, Matmul, Relu};
use qc_dialects::phase;
use qc_ir::{Diag, Keeps, Module, OpId, Pass, PassCx, Pattern, Rewriter};

/// The pass.
pub const PASS: Pass = Pass {
    name: "fuse-activation",
    summary: "makes activations part of float convolutions and matrix products",
    from: phase::FUSED,
    to: "",
    keeps: Keeps::Exact,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(
        m,
        &[
            Pattern { name: "relu-into-linear", root: Relu::DEF, apply: into_linear },
            Pattern { name: "clip-into-linear", root: Clip::DEF, apply: into_linear },
        ],
    )
}

fn into_linear(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let producer = sole_producer(rw.m, rw.m.operand(op, 0)?, op)?;
    let linear = rw.m.is(producer, Conv2d::DEF) || rw.m.is(producer, Matmul::DEF);
    (linear && unclamped(rw.m, producer)).then_some(())?;
    let bounds = Bounds::of(rw.m, op)?;
    let (def, operands) = (rw.m.def(producer), rw.m.operands(producer).to_vec());
    let attrs = rw.m.attrs(producer).clone().with("min", bounds.min).with("max", bounds.max);
    let loc = rw.fuse_locs(&[producer, op]);
    let new = rw.create_at(op, loc, def, &operands, attrs)?;
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}
