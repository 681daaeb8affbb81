//! Makes one op of an integer product in the format of a run and of what scales and shifts its sums.
//!
//! before  %i = graph.int_binary(graph.integer_matmul(graph.dynamic_quantize(%x), @w),
//!                               graph.int_binary(graph.cast(graph.dynamic_zero(%x)), @sums) {op = "mul"}) {op = "sub"}
//!         %r = graph.mul(graph.cast(%i), graph.mul(graph.dynamic_scale(%x), @s))   %y = graph.add(%r, @b)
//! after   %y = quant.dynamic_matmul(%x, @w, @b) {over = "tensor"}
//!
//! Convolutions likewise, whose padding is the zero point.
//!
//! Quantizers write products so (`quantize_dynamic` of ONNX Runtime), and readers of `DynamicQuantizeMatMul` and its kin do.
//! The numbers are the same, rounding by rounding. Relus and clips behind become bounds. What is written otherwise has a step
//! per op: its sums are integers, too. For `--precision fp32`, `strip-dynamic` makes float products of the same chains.

use crate::graph::bounds::Bounds;
use crate::graph::{add_shared_constant, constant, per_channel, sole_producer, unclamped};
use qc_dialects::graph::quantize::centred;
use qc_dialects::graph::{
    Add, Cast, Clip, DynamicQuantize, DynamicScale, DynamicZero, IntBinary, IntFunction, IntegerConv2d, IntegerMatmul,
    Mul, Relu,
};
use qc_dialects::phase;
use qc_dialects::quant::{Over, QDynamic, QDynamicConv2d, QDynamicMatmul};
use qc_ir::{Attrs, Diag, Elem, Keeps, Module, OpId, Pass, PassCx, Pattern, Quant, Rewriter, TensorTy, Type, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "raise-dynamic",
    summary: "makes one op of an integer product in the format of a run and of what scales its sums",
    from: phase::FUSED,
    to: phase::FUSED,
    keeps: Keeps::Exact,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(
        m,
        &[
            Pattern { name: "product", root: Mul::DEF, apply: product },
            Pattern { name: "bias", root: Add::DEF, apply: bias },
            Pattern { name: "relu", root: Relu::DEF, apply: bounded },
            Pattern { name: "clip", root: Clip::DEF, apply: bounded },
        ],
    )
}

/// A product of a tensor in the format of a run, in real numbers.
pub(super) struct Written {
    /// What is quantized.
    pub x: ValueId,
    /// By what it is multiplied, `[n, k]`.
    pub weight: ValueId,
    /// Scales of the output channels of the weight.
    pub scales: Vec<f32>,
    /// The geometry of a convolution; a product has none.
    pub conv: Option<Attrs>,
    /// The ops that it is written as, but for those of the scale.
    pub ops: Vec<OpId>,
}

impl Written {
    /// The product whose sums `root` scales.
    pub fn of(m: &Module, root: OpId) -> Option<Written> {
        let sides = [m.operand(root, 0)?, m.operand(root, 1)?];
        Written::scaled(m, root, sides).or_else(|| Written::scaled(m, root, [sides[1], sides[0]]))
    }

    fn scaled(m: &Module, root: OpId, [sums, scale]: [ValueId; 2]) -> Option<Written> {
        let cast = Cast::of(m, sole_producer(m, sums, root)?)?;
        (cast.to(m) == Type::Scalar(Elem::F32)).then_some(())?;
        let [left, right] = integers(m, sole_producer(m, cast.x(m), cast.0)?, IntFunction::Sub)?;
        let product = sole_producer(m, left, m.producer(cast.x(m))?)?;
        let conv = IntegerConv2d::of(m, product);
        (conv.is_some() || IntegerMatmul::of(m, product).is_some()).then_some(())?;
        let (q, weight) = (m.operand(product, 0)?, m.operand(product, 1)?);
        let x = DynamicQuantize::producing(m, q)?.x(m);
        let of_x = |pad: ValueId| DynamicZero::producing(m, pad).is_some_and(|zero| zero.x(m) == x);
        let padded = conv.is_none_or(|c| c.pads(m).iter().all(|&p| p == 0) || c.pad(m).is_some_and(of_x));
        let dims = m.dims(left);
        (padded && m.dims(m.result(root)) == dims && is_share_of_zero(m, right, x, weight)?).then_some(())?;
        let axis = if conv.is_some() { 1 } else { dims.len() - 1 };
        let scales = weight_scales(m, scale, x, dims, axis)?;
        let fits = scales.iter().all(|s| s.is_finite() && *s > 0.0);
        let ops = [m.producer(q)?, product, m.producer(cast.x(m))?, cast.0, root].to_vec();
        fits.then_some(Written { x, weight, scales, conv: conv.map(|c| m.attrs(c.0).clone()), ops })
    }

    /// The weight in its scales.
    pub fn format(&self, m: &Module) -> Option<Quant> {
        let stored = m.quant_of(self.weight)?;
        let one = stored.zeros.len() == 1 && self.scales.iter().all(|s| s.to_bits() == self.scales[0].to_bits());
        let (axis, scales) = match one {
            true => (None, vec![self.scales[0]]),
            false => (Some(0), self.scales.clone()),
        };
        Some(Quant { axis, scales: scales.into(), ..stored.clone() })
    }
}

/// The operands of an op that computes `f` of integers.
fn integers(m: &Module, op: OpId, f: IntFunction) -> Option<[ValueId; 2]> {
    let binary = IntBinary::of(m, op)?;
    (&*binary.op(m) == f.word()).then(|| [binary.lhs(m), binary.rhs(m)])
}

/// Whether `v` is the zero point of `x` times the sum of each column of `weight`.
fn is_share_of_zero(m: &Module, v: ValueId, x: ValueId, weight: ValueId) -> Option<bool> {
    let [a, b] = integers(m, m.producer(v)?, IntFunction::Mul)?;
    let (zero, sums) = if constant(m, b).is_some() { (a, b) } else { (b, a) };
    let zero = Cast::producing(m, zero)?;
    let of_x = zero.to(m) == Type::Scalar(Elem::I32) && DynamicZero::producing(m, zero.x(m))?.x(m) == x;
    let (stored, sums) = (constant(m, weight)?, constant(m, sums)?);
    let columns = centred(m.quant_of(weight)?, &stored, 0).ok()?;
    let (channels, taps) = (stored.dims()[0], stored.dims()[1..].iter().product());
    let mut found = columns.chunks(taps).map(|column| column.iter().sum::<i32>());
    let fits = if stored.dims().len() == 4 { sums.dims() == [channels, 1, 1] } else { sums.dims() == [channels] };
    Some(of_x && fits && sums.as_i32()?.iter().all(|&s| found.next() == Some(s)))
}

/// The factors of `v` per channel, which dim `axis` is, of a result of `dims`, besides the scale of `x`.
fn weight_scales(m: &Module, v: ValueId, x: ValueId, dims: &[usize], axis: usize) -> Option<Vec<f32>> {
    let both = Mul::producing(m, v)?;
    let [a, b] = [m.operand(both.0, 0)?, m.operand(both.0, 1)?];
    let (scale, own) = if constant(m, b).is_some() { (a, b) } else { (b, a) };
    (DynamicScale::producing(m, scale)?.x(m) == x).then_some(())?;
    per_channel(m, own, dims, axis)
}

fn product(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let written = Written::of(rw.m, root)?;
    let format = written.format(rw.m)?;
    let stored = constant(rw.m, written.weight)?;
    let ty = TensorTy::new(Elem::Quant(rw.m.intern_quant(format)), stored.dims());
    let name = rw.m.name(written.weight).unwrap_or("weight").to_string();
    let weight = add_shared_constant(rw, &name, ty, stored)?;
    let (def, attrs) = match written.conv {
        Some(geometry) => (QDynamicConv2d::DEF, geometry),
        None => (QDynamicMatmul::DEF, Attrs::new().with("over", Over::Tensor.word())),
    };
    let loc = rw.fuse_locs(&written.ops);
    let new = rw.create_at(root, loc, def, &[Some(written.x), Some(weight), None], attrs)?;
    let (old, new) = (rw.m.result(root), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

/// A product whose result `v` only `user` reads, and that has no bounds yet.
fn open(m: &Module, v: ValueId, user: OpId) -> Option<QDynamic> {
    QDynamic::of(m, sole_producer(m, v, user)?).filter(|p| unclamped(m, p.op()))
}

fn bias(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let sides = [rw.m.operand(root, 0)?, rw.m.operand(root, 1)?];
    let (product, addend) = match open(rw.m, sides[0], root) {
        Some(product) => (product, sides[1]),
        None => (open(rw.m, sides[1], root)?, sides[0]),
    };
    let (dims, axis) = (rw.m.dims(product.out(rw.m)).to_vec(), product.channel_axis(rw.m));
    (product.bias(rw.m).is_none() && rw.m.dims(rw.m.result(root)) == dims).then_some(())?;
    let values = per_channel(rw.m, addend, &dims, axis)?;
    let name = rw.m.name(addend).unwrap_or("bias").to_string();
    let bias = match rw.m.dims(addend) == [dims[axis]] {
        true => addend,
        false => crate::graph::add_f32(rw, &name, &[dims[axis]], values)?,
    };
    let operands = [Some(product.x(rw.m)), Some(product.weight(rw.m)), Some(bias)];
    let attrs = rw.m.attrs(product.op()).clone();
    again(rw, product, root, &operands, attrs)
}

fn bounded(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let product = open(rw.m, rw.m.operand(root, 0)?, root)?;
    let bounds = Bounds::of(rw.m, root)?;
    let attrs = rw.m.attrs(product.op()).clone().with("min", bounds.min).with("max", bounds.max);
    let operands = rw.m.operands(product.op()).to_vec();
    again(rw, product, root, &operands, attrs)
}

/// The product again, in the place of `root`, which it computes as well.
fn again(
    rw: &mut Rewriter<'_>,
    product: QDynamic,
    root: OpId,
    operands: &[Option<ValueId>],
    attrs: Attrs,
) -> Option<()> {
    let (loc, def) = (rw.fuse_locs(&[product.op(), root]), rw.m.def(product.op()));
    let new = rw.create_at(root, loc, def, operands, attrs)?;
    let (old, new) = (rw.m.result(root), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}
