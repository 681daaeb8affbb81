//! Integer products whose left side is quantized by the range that it has in a run.

use crate::graph::conv::ConvShape;
use crate::graph::dynamic::{Found, LONGEST_INTEGER_SUM};
use crate::graph::quantize::{centred, weight_format};
use crate::graph::{arg, check_size, dims_of, f32_ty, f32s, nchw};
use qc_ir::{Elem, HostTensor, Module, OpId, Quant, TensorTy, Type, ValueId};
use qc_kernels::reference::clamp_f32;

qc_ir::ops! { dialect QDYNAMIC = "quant";
    /// Integer product of `x` `[.., k]`, which becomes u8 in the format of a range that it has in a run, with constant weight
    /// `[n, k]` of s8 or u8. `over` says of what the range is: `row`, each row has its own, or `tensor`.
    ///
    /// For a range: `lo = min(0, min x)`, `hi = max(0, max x)`, `factor = (hi - lo) / 255`, or 1 where that is 0,
    /// `zero = round(-lo / factor)`, `q = clamp(round(x / factor) + zero, 0, 255)`; then
    /// `acc = sum_k (q - zero) * (weight - w_zero[n])`, and the result is `acc * (factor * w_scale[n]) + bias[n]`, clamped to
    /// `min..=max`.
    op QDynamicMatmul = "quant.dynamic_matmul"(x: F32, weight: Weight 2, bias: Optional F32 1) -> (out) {
        over: Str = "row", min: Float = f64::NEG_INFINITY, max: Float = f64::INFINITY
    } [PURE] infer(infer) verify(verify) eval(eval);
    /// Integer 2-D convolution of `x`, which becomes u8 in the format of the range of the whole tensor in a run, as
    /// `quant.dynamic_matmul` says. What lies outside the input counts as the zero point.
    op QDynamicConv2d = "quant.dynamic_conv2d"(x: F32 4, weight: Weight 4, bias: Optional F32 1) -> (out) {
        strides: Ints = [1, 1], pads: Ints = [0, 0, 0, 0], dilations: Ints = [1, 1], groups: Int = 1,
        min: Float = f64::NEG_INFINITY, max: Float = f64::INFINITY
    } [PURE] infer(infer_conv) verify(verify_conv) eval(eval_conv);
}

qc_ir::interface! {
    /// An integer op that multiplies a tensor in the format of a run by a constant weight.
    QDynamic [QDynamicMatmul, QDynamicConv2d] {
        /// What is quantized.
        x: ValueId;
        /// By what it is multiplied.
        weight: ValueId;
        /// What is added per output channel.
        bias: Option<ValueId>;
        /// The result.
        out: ValueId;
        /// The lower bound of the result.
        min: f64;
        /// The upper bound of the result.
        max: f64;
    }
}

impl QDynamic {
    /// The dim of the result that output channels are.
    pub fn channel_axis(self, m: &Module) -> usize {
        if QDynamicConv2d::of(m, self.op()).is_some() { 1 } else { m.dims(self.out(m)).len() - 1 }
    }

    /// The scale of each output channel of the weight.
    ///
    /// # Errors
    /// When the weight has no fitting format.
    pub fn scales(self, m: &Module) -> Result<Vec<f32>, String> {
        let q = weight_format(m, self.weight(m))?;
        Ok((0..m.dims(self.weight(m))[0]).map(|n| q.scale(n)).collect())
    }
}

impl QDynamicConv2d {
    /// The geometry.
    ///
    /// # Errors
    /// As [`ConvShape::new`].
    pub fn shape(self, m: &Module) -> Result<ConvShape, String> {
        let (x, w) = (nchw(m, self.0, 0)?, nchw(m, self.0, 1)?);
        ConvShape::new(x, w, &self.strides(m), &self.pads(m), &self.dilations(m), self.groups(m))
    }
}

/// Of what a range is found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Over {
    /// Of each row, so results are the same whatever the batch is.
    Row,
    /// Of the whole tensor.
    Tensor,
}

impl Over {
    /// The word for it in `over`.
    pub fn word(self) -> &'static str {
        match self {
            Over::Row => "row",
            Over::Tensor => "tensor",
        }
    }
}

/// The type of a product of `[.., k]` and `[n, k]`, whose bias has these dims.
pub(super) fn product_type(x: &[usize], w: &[usize], bias: Option<&[usize]>) -> Result<Vec<Type>, String> {
    let (Some((&k, lead)), &[n, inner]) = (x.split_last(), w) else { return Err("needs [.., k] and [n, k]".into()) };
    if k != inner {
        return Err(format!("rows of {k} and weights of {inner}"));
    }
    if let Some(b) = bias.filter(|b| **b != [n]) {
        return Err(format!("bias has shape {b:?}, not [{n}]"));
    }
    let dims = [lead, &[n]].concat();
    check_size(&dims)?;
    Ok(vec![Type::Tensor(TensorTy::new(Elem::F32, dims))])
}

fn infer(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let bias = QDynamicMatmul(op).bias(m).map(|b| m.dims(b));
    product_type(dims_of(m, op, 0)?, dims_of(m, op, 1)?, bias)
}

fn format(m: &Module, op: OpId) -> Result<&Quant, String> {
    weight_format(m, QDynamicMatmul(op).weight(m))
}

fn verify(m: &Module, op: OpId) -> Result<(), String> {
    format(m, op)?;
    QDynamicMatmul(op).range(m)?;
    let k = dims_of(m, op, 1)?[1];
    if k > LONGEST_INTEGER_SUM { Err(format!("sums of {k} products could overflow 32 bits")) } else { Ok(()) }
}

impl QDynamicMatmul {
    /// Of what a range is found.
    ///
    /// # Errors
    /// When `over` is no word for it.
    pub fn range(self, m: &Module) -> Result<Over, String> {
        let word = self.over(m);
        let found = [Over::Row, Over::Tensor].into_iter().find(|o| o.word() == &*word);
        found.ok_or_else(|| format!("`over` is row or tensor, not `{word}`"))
    }
}

fn eval(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let view = QDynamicMatmul(op);
    let (x, w) = (f32s(args, 0)?, centred(format(m, op)?, arg(args, 1)?, 0)?);
    let bias = args.get(2).copied().flatten().map(|_| f32s(args, 2)).transpose()?;
    let (scales, k) = (QDynamic::from(view).scales(m)?, dims_of(m, op, 1)?[1]);
    let (min, max) = (view.min(m) as f32, view.max(m) as f32);
    let one_range = if view.range(m)? == Over::Row { k } else { x.len() };
    let mut out = Vec::with_capacity(x.len() / k * scales.len());
    for values in x.chunks_exact(one_range) {
        let found = Found::of(values);
        for row in found.stored.chunks_exact(k) {
            for (n, column) in w.chunks_exact(k).enumerate() {
                let acc: i32 = row.iter().zip(column).map(|(q, w)| (q - found.zero) * w).sum();
                let real = acc as f32 * (found.scale * scales[n]) + bias.map_or(0.0, |b| b[n]);
                out.push(clamp_f32(real, min, max));
            }
        }
    }
    let dims = infer(m, op)?[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    Ok(vec![HostTensor::f32(dims, out)])
}

fn infer_conv(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let s = QDynamicConv2d(op).shape(m)?;
    if let Some(b) = QDynamicConv2d(op).bias(m).filter(|b| m.dims(*b) != [s.weight[0]]) {
        return Err(format!("bias has shape {:?}, not [{}]", m.dims(b), s.weight[0]));
    }
    f32_ty(s.out)
}

fn verify_conv(m: &Module, op: OpId) -> Result<(), String> {
    weight_format(m, QDynamicConv2d(op).weight(m))?;
    let taps: usize = dims_of(m, op, 1)?[1..].iter().product();
    if taps > LONGEST_INTEGER_SUM { Err(format!("sums of {taps} products could overflow 32 bits")) } else { Ok(()) }
}

fn eval_conv(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (view, s) = (QDynamicConv2d(op), QDynamicConv2d(op).shape(m)?);
    let (found, w) = (Found::of(f32s(args, 0)?), centred(weight_format(m, view.weight(m))?, arg(args, 1)?, 0)?);
    let bias = args.get(2).copied().flatten().map(|_| f32s(args, 2)).transpose()?;
    let (scales, [n, channels, oh, ow]) = (QDynamic::from(view).scales(m)?, s.out);
    let (min, max) = (view.min(m) as f32, view.max(m) as f32);
    let mut out = Vec::with_capacity(s.out.iter().product());
    for (b, o, i) in (0..n).flat_map(|b| (0..channels).flat_map(move |o| (0..oh * ow).map(move |i| (b, o, i)))) {
        let mut acc = 0;
        s.taps([b, o, i / ow, i % ow], |wi, xi| acc += (found.stored[xi] - found.zero) * w[wi]);
        let real = acc as f32 * (found.scale * scales[o]) + bias.map_or(0.0, |b| b[o]);
        out.push(clamp_f32(real, min, max));
    }
    Ok(vec![HostTensor::f32(s.out, out)])
}
