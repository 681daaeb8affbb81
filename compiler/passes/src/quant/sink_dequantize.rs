//! Moves dequantization below ops that only move elements, so that the op behind them sees its quantized operand.
//!
//! before  %d = graph.dequantize(%q)  %r = graph.reshape(%d)
//! after   %r = graph.reshape(%q)     %d = graph.dequantize(%r)
//!
//! Exact: dequantization with one scale treats every element alike. A concat needs all its operands in one format.

use qc_dialects::graph::{Concat, Dequantize, Reshape, Slice, Transpose};
use qc_ir::{Attrs, Diag, Keeps, Module, OpId, Pass, PassCx, Pattern, Rewriter, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "sink-dequantize",
    summary: "moves dequantization below ops that only move elements",
    from: "",
    to: "",
    keeps: Keeps::Exact,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let pattern = |root| Pattern { name: "dequantize-below-movement", root, apply: below_movement };
    cx.rewrite(m, &[Reshape::DEF, Transpose::DEF, Slice::DEF, Concat::DEF].map(pattern))
}

fn below_movement(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let m = &*rw.m;
    (!super::keep_float::is_kept(m, op)).then_some(())?;
    let sources: Option<Vec<ValueId>> =
        m.operands(op).iter().map(|v| Some(Dequantize::producing(m, (*v)?)?.q(m))).collect();
    let sources = sources?;
    let format = m.quant_of(*sources.first()?)?;
    let elem = m.tensor_ty(sources[0]).elem;
    (format.axis.is_none() && sources.iter().all(|&v| m.tensor_ty(v).elem == elem)).then_some(())?;
    let (def, attrs) = (m.def(op), m.attrs(op).clone());
    let operands: Vec<Option<ValueId>> = sources.into_iter().map(Some).collect();
    let moved = rw.create(def, &operands, attrs)?;
    let moved = rw.m.result(moved);
    let real = rw.create(Dequantize::DEF, &[Some(moved)], Attrs::new())?;
    let (old, new) = (rw.m.result(op), rw.m.result(real));
    rw.replace(old, new);
    Some(())
}
