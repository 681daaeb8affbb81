//! Drops quantize/dequantize pairs between two float ops.
//!
//! before  %a = graph.softmax(%x)  %q = graph.quantize(%a)  %d = graph.dequantize(%q)  %y = graph.sub(%d, %b)
//! after   %a = graph.softmax(%x)                                                      %y = graph.sub(%a, %b)
//!
//! What `lower-to-quant` left of a pair computes nothing but the rounding: both sides are f32 already, so it costs time
//! and accuracy and wins nothing. `--exact-qdq` leaves this pass out.

use qc_dialects::graph::{Dequantize, Quantize};
use qc_dialects::phase;
use qc_ir::{Diag, Keeps, OpId, Pass, PassCx, Pattern, Rewriter};

/// The pass.
pub const PASS: Pass = Pass {
    name: "drop-float-qdq",
    summary: "drops quantization between float ops",
    from: phase::FUSED,
    to: "",
    keeps: Keeps::Budget,
    run,
};

fn run(m: &mut qc_ir::Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(m, &[Pattern { name: "pair", root: Dequantize::DEF, apply: pair }])
}

fn pair(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let quantize = Quantize::producing(rw.m, Dequantize(op).q(rw.m))?;
    let (x, out) = (quantize.x(rw.m), rw.m.result(op));
    // A result of the model that is rounded stays rounded: its reader sees it.
    let returned = rw.m.uses(out).iter().any(|u| matches!(u, qc_ir::Use::Return(..)));
    (!returned).then(|| rw.replace(out, x))
}
