//! Removes quantization from a graph, for `--precision fp32`.
//!
//! before  %q = graph.quantize(%x) {quant}  %d = graph.dequantize(%q)  %w = graph.dequantize(@w as s8)
//! after   %c = graph.clip(%x)              %w = graph.constant() {value = @w as f32}
//!
//! The clamp of a pair stays, unless it is known to be idle (`graph/bounds.rs`).

use crate::graph::bounds::{Pair, with_own};
use crate::graph::{add_f32, constant};
use qc_dialects::graph::quantize::dequantize_tensor;
use qc_dialects::graph::{Dequantize, Observe};
use qc_ir::{Diag, Keeps, Module, OpId, Pass, PassCx, Pattern, Rewriter};

/// The pass.
pub const PASS: Pass = Pass {
    name: "strip-qdq",
    summary: "removes quantization, so that everything computes in f32",
    from: "",
    to: "",
    keeps: Keeps::Clamps,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let patterns = with_own([
        Pattern { name: "pair", root: Dequantize::DEF, apply: pair },
        Pattern { name: "constant", root: Dequantize::DEF, apply: stored_constant },
        Pattern { name: "observation", root: Observe::DEF, apply: observation },
    ]);
    cx.rewrite(m, &patterns)
}

fn pair(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    Pair::ending(rw.m, op)?.remove(rw)
}

/// The f32 form of a dequantized constant.
pub fn stored_constant(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let stored = Dequantize(op).q(rw.m);
    let (tensor, format) = (constant(rw.m, stored)?, rw.m.quant_of(stored)?.clone());
    let real = dequantize_tensor(&format, &tensor);
    let name = rw.m.name(stored).unwrap_or("weight").to_string();
    let new = add_f32(rw, &name, tensor.dims(), real.as_f32()?.to_vec())?;
    let out = Dequantize(op).out(rw.m);
    rw.replace(out, new);
    Some(())
}

fn observation(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let (x, out) = (Observe(op).x(rw.m), Observe(op).out(rw.m));
    rw.replace(out, x);
    Some(())
}
