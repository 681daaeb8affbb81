//! Drops quantize/dequantize pairs between two float ops.
//!
//! before  %a = graph.softmax(%x)  %q = graph.quantize(%a)  %d = graph.dequantize(%q)  %y = graph.sub(%d, %b)
//! after   %a = graph.softmax(%x)  %c = graph.clip(%a)                                 %y = graph.sub(%c, %b)
//!
//! What `lower-to-quant` left of a pair computes a rounding and a clamp: both sides are f32 already, so the rounding costs
//! time and accuracy and wins nothing. The clamp stays, unless it is known to be idle (`graph/bounds.rs`).
//! `--exact-qdq` leaves this pass out. The marks of `keep-float` have done their work, and go.

use crate::graph::bounds::{Pair, is_returned, with_own};
use qc_dialects::graph::Dequantize;
use qc_dialects::phase;
use qc_ir::{Diag, Keeps, OpId, Pass, PassCx, Pattern, Rewriter, Use};

/// The pass.
pub const PASS: Pass = Pass {
    name: "drop-float-qdq",
    summary: "drops quantization between float ops",
    from: phase::FUSED,
    to: "",
    keeps: Keeps::Clamps,
    run,
};

fn run(m: &mut qc_ir::Module, cx: &mut PassCx) -> Result<(), Diag> {
    // What is integer is decided.
    super::keep_float::remove_marks(m);
    let patterns = with_own([Pattern { name: "pair", root: Dequantize::DEF, apply: pair }]);
    cx.rewrite(m, &patterns)
}

fn pair(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    // A result of the model that is rounded stays rounded: its reader sees it. Then so do the others, since a difference of
    // two readings of one tensor is 0.
    let seen = |u: &Use| matches!(u, Use::Operand(reader, _) if is_returned(rw.m, rw.m.result(*reader)));
    (!rw.m.uses(Dequantize(op).q(rw.m)).iter().any(seen)).then_some(())?;
    let pair = Pair::ending(rw.m, op)?;
    let quantized = rw.m.result(pair.quantize);
    let real = pair.real(rw)?;
    // What others quantize is the same behind the clamp, which then is all that reads the op in front, and may join it.
    if rw.m.only_user(quantized) != Some(op) {
        rw.m.set_operand(pair.quantize, 0, Some(real));
    }
    let out = rw.m.result(op);
    rw.replace(out, real);
    Some(())
}
