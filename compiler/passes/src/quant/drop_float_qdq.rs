//! Drops quantize/dequantize pairs between two float ops.
//!
//! before  %a = graph.softmax(%x)  %q = graph.quantize(%a)  %d = graph.dequantize(%q)  %y = graph.sub(%d, %b)
//! after   %a = graph.softmax(%x)  %c = graph.clip(%a)                                 %y = graph.sub(%c, %b)
//!
//! before  %a = graph.gather(@t, %i)    %q = graph.quantize(%a)  %d = graph.dequantize(%q)  %y = graph.sub(%d, %b)
//! after   %a = graph.gather(@rounded, %i)                                                  %y = graph.sub(%a, %b)
//!
//! What `lower-to-quant` left of a pair computes a rounding and a clamp: both sides are f32 already, so the rounding costs
//! time and accuracy and wins nothing. The clamp stays, unless it is known to be idle (`graph/bounds.rs`). A network that was trained with
//! its roundings is not the same without them, so those that cost nothing stay: where integers read the same bytes, floats read
//! these, too, and rows of a table are rounded in the table.
//! `--exact-qdq` leaves this pass out. The marks of `keep-float` have done their work, and go.

use crate::graph::bounds::{Pair, is_returned, with_own};
use crate::graph::{add_shared_constant, constant};
use qc_dialects::graph::quantize::{dequantize_tensor, quantize_tensor};
use qc_dialects::graph::{Dequantize, Gather, Quantize};
use qc_dialects::phase;
use qc_ir::{Diag, Elem, Keeps, Module, OpId, Pass, PassCx, Pattern, Quant, Rewriter, TensorTy, Use, ValueId};

/// Readers of a tensor that are looked at for another form of it.
const LOOKED_AT: usize = 32;

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
    // What integers read is there, and reading it costs less than reading floats: that pair stays, and so does one beside it.
    (!is_stored(rw.m, rw.m.result(pair.quantize))).then_some(())?;
    if let Some(beside) = stored_beside(rw.m, &pair) {
        rw.m.set_operand(op, 0, Some(beside));
        return Some(());
    }
    if let Some(rounded) = rounded_table(rw, &pair) {
        let out = rw.m.result(op);
        rw.replace(out, rounded);
        return Some(());
    }
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

/// Whether integers read a quantized tensor, so that it exists whatever becomes of its pairs.
fn is_stored(m: &Module, quantized: ValueId) -> bool {
    m.uses(quantized).iter().any(|u| matches!(u, Use::Operand(reader, _) if !m.is(*reader, Dequantize::DEF)))
}

/// What else is quantized of the operand of a pair, and read by integers, if its format differs by a step in the bounds at most: formats of
/// fake-quant ops end at -127, those of quantize_linear at -128.
fn stored_beside(m: &Module, pair: &Pair) -> Option<ValueId> {
    let format = m.quant_of(m.result(pair.quantize))?;
    let close = |q: &Quant| {
        let same = Quant { lo: q.lo, hi: q.hi, ..format.clone() } == *q;
        same && (q.lo - format.lo).abs() <= 1 && (q.hi - format.hi).abs() <= 1
    };
    m.uses(pair.x).iter().take(LOOKED_AT).find_map(|u| {
        let Use::Operand(reader, _) = u else { return None };
        let other = Quantize::of(m, *reader)?.out(m);
        let fits = *reader != pair.quantize && m.quant_of(other).is_some_and(close) && is_stored(m, other);
        (fits && m.comes_before(*reader, pair.dequantize)).then_some(other)
    })
}

/// The pair behind rows of a constant table that nothing else reads, as rows of a rounded table: that costs no step.
fn rounded_table(rw: &mut Rewriter<'_>, pair: &Pair) -> Option<ValueId> {
    let quantized = rw.m.result(pair.quantize);
    let alone = |rw: &Rewriter<'_>, v: ValueId, user: OpId| rw.m.only_user(v) == Some(user);
    let gather = Gather::producing(rw.m, pair.x).filter(|gather| alone(rw, gather.x(rw.m), gather.0))?;
    (alone(rw, pair.x, pair.quantize) && alone(rw, quantized, pair.dequantize)).then_some(())?;
    let (table, format) = (constant(rw.m, gather.x(rw.m))?, rw.m.quant_of(quantized)?.clone());
    let stored = quantize_tensor(&format, &table).ok().filter(|_| format.axis.is_none())?;
    let rounded = rw.m.consts.memo.one(&format!("round {format:?}"), &table, || dequantize_tensor(&format, &stored));
    let name = rw.m.name(gather.x(rw.m)).unwrap_or("table").to_string();
    let new = add_shared_constant(rw, &name, TensorTy::new(Elem::F32, table.dims()), rounded)?;
    let (indices, attrs) = (gather.indices(rw.m), rw.m.attrs(gather.0).clone());
    let rows = rw.create(Gather::DEF, &[Some(new), Some(indices)], attrs)?;
    Some(rw.m.result(rows))
}
