//! Turns `dequantize → op → quantize` into integer ops with their epilogue.
//!
//! before  %d = graph.dequantize(%xq)   %w = graph.dequantize(%wq)   %c = graph.conv2d(%d, %w, %b)
//!         %s = graph.add(%c, %rd)      %r = graph.relu(%s)          %y = graph.quantize(%r) {quant = !q}
//! after   %y = quant.conv2d(%xq, %wq, %bq, %rq) {to = !q, lo}
//!
//! Weights must be constants of 8 bits with scales along the output channels. Where `weight - zero` fits s8, the weight
//! becomes that; else it keeps its zero points, and the kernels multiply it in parts. The bias becomes i32 in units of the
//! accumulator. A convolution whose result is not quantized gives f32, and adds its bias as it is. What does not fit stays float, and the report
//! says why. Movement ops and max pooling pass bytes through when input and output share a format; a change of format is
//! a table.

pub mod compute;
mod elementwise;
mod product;
pub mod reason;
mod table;

use super::keep_float::is_kept;
use crate::graph::bounds::Bounds;
use crate::graph::is_movement;
use qc_dialects::graph::{
    Add, AvgPool, Clip, Conv2d, Dequantize, GlobalAvgPool, Linear, Matmul, MaxPool, Mul, Quantize, Relu, Resample,
};
use qc_dialects::phase;
use qc_ir::{Diag, Elem, Keeps, Module, OpId, Pass, PassCx, Pattern, Quant, QuantId, Rewriter, Store, Type, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "lower-to-quant",
    summary: "turns dequantize, op, quantize into integer ops",
    from: phase::QUANTIZED,
    to: phase::FUSED,
    keeps: Keeps::OneStep,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    // First everything that ends in a quantized result, so that no accumulator becomes f32 that need not.
    cx.rewrite(m, &[Pattern { name: "to-u8", root: Quantize::DEF, apply: to_u8 }])?;
    cx.rewrite(
        m,
        &[
            Pattern { name: "relu-to-f32", root: Relu::DEF, apply: compute::activation_to_f32 },
            Pattern { name: "clip-to-f32", root: Clip::DEF, apply: compute::activation_to_f32 },
        ],
    )?;
    cx.rewrite(
        m,
        &[
            Pattern { name: "conv-to-f32", root: Conv2d::DEF, apply: compute::linear_to_f32 },
            Pattern { name: "matmul-to-f32", root: Matmul::DEF, apply: compute::linear_to_f32 },
        ],
    )?;
    // What is left of dequantized constants belongs to ops that stay float.
    cx.rewrite(
        m,
        &[Pattern { name: "float-constant", root: Dequantize::DEF, apply: super::strip_qdq::stored_constant }],
    )?;
    for op in m.walk(m.body()) {
        // Said here, because later passes take away what it depends on.
        if let Some(reason) = reason::why_float(m, op) {
            cx.remark(m.loc(op), reason);
        }
    }
    Ok(())
}

/// The quantized tensor behind a dequantization, if it is u8 with one scale.
pub(crate) fn dequantized(m: &Module, v: ValueId) -> Option<ValueId> {
    let q = Dequantize::producing(m, v)?.q(m);
    let format = m.quant_of(q)?;
    (format.store == Store::U8 && format.axis.is_none()).then_some(q)
}

/// The format a `graph.quantize` gives, if integer ops can produce it.
fn target(m: &Module, op: Quantize) -> Option<(QuantId, Quant)> {
    let id = op.quant(m);
    let format = m.quant(id);
    (format.store == Store::U8 && format.axis.is_none()).then(|| (id, format.clone()))
}

/// What stands between a quantization and the op that computes: at most one activation.
pub struct Tail {
    /// The op that computes.
    pub op: OpId,
    /// All ops from there to the quantization.
    pub chain: Vec<OpId>,
    /// The activation.
    pub bounds: Bounds,
}

fn tail(m: &Module, root: OpId) -> Option<Tail> {
    let first = crate::graph::sole_producer(m, m.operand(root, 0)?, root)?;
    match Bounds::of(m, first) {
        Some(bounds) => match crate::graph::sole_producer(m, m.operand(first, 0)?, first) {
            Some(op) if !m.is(op, Dequantize::DEF) => Some(Tail { op, chain: vec![op, first, root], bounds }),
            _ => Some(Tail { op: first, chain: vec![first, root], bounds: Bounds::NONE }),
        },
        None => Some(Tail { op: first, chain: vec![first, root], bounds: Bounds::NONE }),
    }
}

fn to_u8(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let quantize = Quantize(root);
    let (id, format) = target(rw.m, quantize)?;
    if let Some(x) = dequantized(rw.m, quantize.x(rw.m)) {
        return elementwise::requantize(rw, root, x, id, &format);
    }
    // An op with several users still moves or pools bytes for this one.
    let t = match tail(rw.m, root) {
        Some(t) => t,
        None => {
            let op = rw.m.producer(quantize.x(rw.m))?;
            Tail { op, chain: vec![op, root], bounds: Bounds::NONE }
        }
    };
    t.chain.iter().all(|&op| !is_kept(rw.m, op)).then_some(())?;
    let def = rw.m.def(t.op);
    let is = |d: &'static qc_ir::OpDef| def == d;
    let shared = tail(rw.m, root).is_none();
    match () {
        () if is_movement(rw.m, t.op) => elementwise::movement(rw, root, &t, id, &format),
        () if is(MaxPool::DEF) => elementwise::max_pool(rw, root, &t, id, &format),
        () if table::function(rw, root, id, &format).is_some() => Some(()),
        () if shared => None,
        () if Linear::is(rw.m, t.op) => compute::linear(rw, root, &t, None, id, &format),
        () if is(Add::DEF) => {
            compute::residual(rw, root, &t, id, &format).or_else(|| elementwise::binary(rw, root, &t, id, &format))
        }
        () if is(Resample::DEF) => elementwise::resample(rw, root, &t, id, &format),
        () if is(Mul::DEF) => elementwise::binary(rw, root, &t, id, &format),
        () if is(AvgPool::DEF) || is(GlobalAvgPool::DEF) => elementwise::avg_pool(rw, root, &t, id, &format),
        () => None,
    }
}

/// Steps of a result that one step of an operand may be: beyond, an f32 of the operand's size, or what zero points become in
/// steps of the result, has no room for a fraction of a step.
const LARGEST_RATIO: f64 = 16384.0;

/// Whether f32 numbers of an operand's size are right to a fraction of a step of the result.
pub(crate) fn steps_are_resolved(operand: &Quant, result: &Quant) -> bool {
    f64::from(operand.scale(0)) / f64::from(result.scale(0)) <= LARGEST_RATIO
}

/// `to` of an integer op.
pub(crate) fn element(id: QuantId) -> Type {
    Type::Scalar(Elem::Quant(id))
}

/// Replaces `root` by `new`, which gets the locations of `chain`.
pub(crate) fn finish(rw: &mut Rewriter<'_>, root: OpId, chain: &[OpId], new: OpId) -> Option<()> {
    let loc = rw.fuse_locs(chain);
    rw.m.set_loc(new, loc);
    let (old, new) = (rw.m.result(root), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}
