//! Moves quantization above ops that only move elements, so that they move bytes instead of floats.
//!
//! before  %c = graph.concat(%a, %b)  %q = graph.quantize(%c) {quant}
//! after   %qa = graph.quantize(%a) {quant}  %qb = graph.quantize(%b) {quant}  %q = graph.concat(%qa, %qb)
//!
//! Exact: quantization with one scale treats every element alike, and max pooling commutes with it because it is
//! monotonic (a window of padding only, which could tell, keeps its place). Done when every use of the result is a
//! quantization to one format. A slice waits until all slices of its operand agree.

use qc_dialects::graph::{Dequantize, MaxPool, Quantize, Slice};
use qc_ir::{Attrs, Diag, Keeps, Module, OpId, Pass, PassCx, Pattern, QuantId, Rewriter, Use, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "hoist-quantize",
    summary: "moves quantization above ops that only move elements",
    from: "",
    to: "",
    keeps: Keeps::Exact,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(m, &[Pattern { name: "quantize-above-movement", root: Quantize::DEF, apply: above_movement }])
}

/// The one format that all uses of `v` quantize to.
fn format_of_uses(m: &Module, v: ValueId) -> Option<QuantId> {
    let mut format = None;
    for u in m.uses(v) {
        let Use::Operand(op, _) = u else { return None };
        let own = match Slice::of(m, *op) {
            Some(slice) if super::keep_float::is_kept(m, slice.0) => return None,
            Some(slice) => format_of_uses(m, slice.out(m))?,
            None => Quantize::of(m, *op)?.quant(m),
        };
        if format.is_some_and(|f| f != own) {
            return None;
        }
        format = Some(own);
    }
    format
}

fn above_movement(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let quantize = Quantize(op);
    let (v, format) = (quantize.x(rw.m), quantize.quant(rw.m));
    rw.m.quant(format).axis.is_none().then_some(())?;
    let moved = rw.m.producer(v)?;
    let slice = rw.m.is(moved, Slice::DEF);
    (format_of_uses(rw.m, v)? == format && !super::keep_float::is_kept(rw.m, moved)).then_some(())?;
    if rw.m.is(moved, MaxPool::DEF) {
        return above_pool(rw, moved, format);
    }
    crate::graph::is_movement(rw.m, moved).then_some(())?;
    if slice {
        let source = rw.m.operand(moved, 0)?;
        (format_of_uses(rw.m, source)? == format).then_some(())?;
    }
    let mut quantized = Vec::new();
    for operand in rw.m.operands(moved).to_vec() {
        let loc = rw.m.loc(op);
        let q = rw.create_at(moved, loc, Quantize::DEF, &[operand], Attrs::new().with("quant", format))?;
        quantized.push(Some(rw.m.result(q)));
    }
    let (def, attrs) = (rw.m.def(moved), rw.m.attrs(moved).clone());
    let loc = rw.m.loc(moved);
    let new = rw.create_at(moved, loc, def, &quantized, attrs)?;
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

/// Quantizes what a max pool reads as well, so that it becomes an integer op.
fn above_pool(rw: &mut Rewriter<'_>, pool: OpId, format: QuantId) -> Option<()> {
    let x = rw.m.operand(pool, 0)?;
    Dequantize::producing(rw.m, x).is_none().then_some(())?;
    let loc = rw.m.loc(pool);
    let q = rw.create_at(pool, loc, Quantize::DEF, &[Some(x)], Attrs::new().with("quant", format))?;
    let q = rw.m.result(q);
    let d = rw.create_at(pool, loc, Dequantize::DEF, &[Some(q)], Attrs::new())?;
    let d = rw.m.result(d);
    rw.m.set_operand(pool, 0, Some(d));
    Some(())
}
