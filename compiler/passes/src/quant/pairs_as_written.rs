//! Computes every quantize/dequantize pair as the model writes it, for `--exact-qdq`.
//!
//! before  %w = graph.dequantize(@w as s8)   %c = graph.conv2d(%d, %w, %b)   %q = graph.quantize(%c) {quant}
//! after   %w = graph.constant() {value = @w as f32}, all else the same
//!
//! It stands where `lower-to-quant` stands otherwise: tensors are rounded to 8 bits exactly where the model rounds them,
//! and what is between two pairs is computed in f32. This is what a reference without any optimization computes, so
//! its predictions can be compared one by one; integer code rounds a tie of the reference's float sums the other way
//! now and then.

use super::strip_qdq::stored_constant;
use qc_dialects::graph::Dequantize;
use qc_dialects::phase;
use qc_ir::{Diag, Keeps, Module, Pass, PassCx, Pattern};

/// The pass.
pub const PASS: Pass = Pass {
    name: "pairs-as-written",
    summary: "keeps every quantize/dequantize pair, and floats between them",
    from: phase::QUANTIZED,
    to: phase::FUSED,
    keeps: Keeps::Exact,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(m, &[Pattern { name: "constant", root: Dequantize::DEF, apply: stored_constant }])
}
