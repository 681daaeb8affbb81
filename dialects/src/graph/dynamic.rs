//! Integers whose format is found in a run: a tensor in the range that it has then, and products of such integers.
//!
//! What one range is taken of makes one unit: items of a batch meet in it, so results depend on the whole batch.

use super::conv::ConvShape;
use super::items::{kept, never_apart};
use super::quantize::{centred, nearest, weight_format};
use super::{arg, check_size, dims_of, f32_ty, f32s, ints, nchw, tensor_of, u8s};
use qc_ir::{Data, Elem, Follow, HostTensor, Items, Module, OpId, TensorTy, Type};

qc_ir::ops! { dialect DYNAMIC = "graph";
    /// `x` as u8 in the format of its own range: `lo = min(0, min x)`, `hi = max(0, max x)`, `scale = (hi - lo) / 255`, or 1
    /// where that is 0, `zero = round(-lo / scale)`, `q = clamp(round(x / scale) + zero, 0, 255)`. ONNX's
    /// `DynamicQuantizeLinear`.
    op DynamicQuantize = "graph.dynamic_quantize"(x: F32) -> (out) {} [PURE]
        infer(infer_quantize) eval(eval_quantize) items(never_apart);
    /// The scale of `graph.dynamic_quantize(x)`, without dims.
    op DynamicScale = "graph.dynamic_scale"(x: F32) -> (out) {} [PURE]
        infer(infer_scale) eval(eval_scale) items(never_apart);
    /// The zero point of `graph.dynamic_quantize(x)`, u8 without dims.
    op DynamicZero = "graph.dynamic_zero"(x: F32) -> (out) {} [PURE]
        infer(infer_zero) eval(eval_zero) items(never_apart);
    /// `sum_k x[.., k] * (weight[n, k] - w_zero[n])` in i32, of `x` of u8 and constant integers; the scales of the weight's
    /// format have no part in it.
    op IntegerMatmul = "graph.integer_matmul"(x: Integer, weight: Weight 2) -> (out) {} [PURE]
        infer(infer_matmul) eval(eval_matmul) items(items_matmul);
    /// `sum x * (weight - w_zero[o])` in i32 with the geometry of `graph.conv2d`, of `x` of u8 and constant integers; what lies
    /// outside the input counts as `pad`, or as 0 without one.
    op IntegerConv2d = "graph.integer_conv2d"(x: Integer 4, weight: Weight 4, pad: Optional Integer 0) -> (out) {
        strides: Ints = [1, 1], pads: Ints = [0, 0, 0, 0], dilations: Ints = [1, 1], groups: Int = 1
    } [PURE] infer(infer_conv) eval(eval_conv) items(items_conv);
}

/// Sums of more products of u8 and 9 bits could overflow 32 bits.
pub const LONGEST_INTEGER_SUM: usize = i32::MAX as usize / (255 * 255);

/// The format of a range and the integers in it.
pub(crate) struct Found {
    /// Scale.
    pub scale: f32,
    /// Zero point.
    pub zero: i32,
    /// What is stored, 0..=255.
    pub stored: Vec<i32>,
}

impl Found {
    /// Numbers in the format of their own range.
    pub fn of(values: &[f32]) -> Found {
        let lo = values.iter().fold(0.0f32, |m, &v| if v < m { v } else { m });
        let hi = values.iter().fold(0.0f32, |m, &v| if v > m { v } else { m });
        let scale = (hi - lo) / 255.0;
        let scale = if scale == 0.0 { 1.0 } else { scale };
        let rounded = |v: f32| nearest(v) as i32;
        let zero = (0.0 - lo) / scale;
        let zero = if zero >= 0.0 { rounded(zero.min(255.0)) } else { 0 };
        let (least, most) = (-zero as f32, (255 - zero) as f32);
        let one = |&x: &f32| {
            let v = x / scale;
            // NaN becomes the lowest.
            let v = if v > least { v } else { least };
            rounded(if v < most { v } else { most }) + zero
        };
        Found { scale, zero, stored: values.iter().map(one).collect() }
    }
}

fn infer_quantize(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Tensor(TensorTy::new(Elem::U8, dims_of(m, op, 0)?))])
}

fn infer_scale(_: &Module, _: OpId) -> Result<Vec<Type>, String> {
    f32_ty([])
}

fn infer_zero(_: &Module, _: OpId) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Tensor(TensorTy::new(Elem::U8, []))])
}

fn eval_quantize(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let stored = Found::of(f32s(args, 0)?).stored;
    u8s(dims_of(m, op, 0)?.to_vec(), stored)
}

fn eval_scale(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    Ok(vec![HostTensor::f32([], vec![Found::of(f32s(args, 0)?).scale])])
}

fn eval_zero(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    Ok(vec![HostTensor::u8([], vec![Found::of(f32s(args, 0)?).zero as u8])])
}

fn infer_matmul(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (x, w) = (tensor_of(m, op, 0)?, dims_of(m, op, 1)?);
    if x.elem != Elem::U8 {
        return Err("its left side is not u8".into());
    }
    let (Some((&k, lead)), &[n, inner]) = (x.dims.split_last(), w) else {
        return Err("needs [.., k] and [n, k]".into());
    };
    if k != inner {
        return Err(format!("rows of {k} and weights of {inner}"));
    }
    if k > LONGEST_INTEGER_SUM {
        return Err(format!("sums of {k} products could overflow 32 bits"));
    }
    let dims = [lead, &[n]].concat();
    check_size(&dims)?;
    Ok(vec![Type::Tensor(TensorTy::new(Elem::I32, dims))])
}

/// Rows stay where they are; sums run along the last dim.
fn items_matmul(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let rank = m.dims(IntegerMatmul(op).x(m)).len();
    f.is_same(m, op, 1).then(|| kept(m, op, f, |axis| axis + 1 < rank)).flatten()
}

fn eval_matmul(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let x = match arg(args, 0)?.data() {
        Data::U8(x) => x,
        _ => return Err("its left side is not u8".into()),
    };
    let w = centred(weight_format(m, IntegerMatmul(op).weight(m))?, arg(args, 1)?, 0)?;
    let k = dims_of(m, op, 1)?[1];
    let sum = |row: &[u8], column: &[i32]| row.iter().zip(column).map(|(&x, w)| i32::from(x) * w).sum::<i32>();
    let rows = x.chunks_exact(k);
    let out = rows.flat_map(|row| w.chunks_exact(k).map(move |column| sum(row, column))).collect();
    let dims = infer_matmul(m, op)?[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    Ok(vec![HostTensor::i32(dims, out)])
}

impl IntegerConv2d {
    /// The geometry.
    ///
    /// # Errors
    /// As [`ConvShape::new`].
    pub fn shape(self, m: &Module) -> Result<ConvShape, String> {
        let (x, w) = (nchw(m, self.0, 0)?, nchw(m, self.0, 1)?);
        ConvShape::new(x, w, &self.strides(m), &self.pads(m), &self.dilations(m), self.groups(m))
    }
}

fn infer_conv(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let s = IntegerConv2d(op).shape(m)?;
    let u8s = |i: usize| m.operand(op, i).is_none_or(|v| m.tensor_ty(v).elem == Elem::U8);
    let taps: usize = s.weight[1..].iter().product();
    match () {
        () if !u8s(0) || !u8s(2) => Err("its input is not u8".into()),
        () if taps > LONGEST_INTEGER_SUM => Err(format!("sums of {taps} products could overflow 32 bits")),
        () => Ok(vec![Type::Tensor(TensorTy::new(Elem::I32, s.out))]),
    }
}

fn items_conv(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    (f.is_same(m, op, 1) && f.is_same(m, op, 2)).then(|| kept(m, op, f, |axis| axis == 0)).flatten()
}

fn eval_conv(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let s = IntegerConv2d(op).shape(m)?;
    let x = ints(args, 0)?;
    let pad = args.get(2).copied().flatten().map_or(Ok(0), |_| ints(args, 2).map(|pad| pad[0]))?;
    let w = centred(weight_format(m, IntegerConv2d(op).weight(m))?, arg(args, 1)?, 0)?;
    let [n, channels, oh, ow] = s.out;
    let taps: usize = s.weight[1..].iter().product();
    let mut out = Vec::with_capacity(s.out.iter().product());
    for (b, o, i) in (0..n).flat_map(|b| (0..channels).flat_map(move |o| (0..oh * ow).map(move |i| (b, o, i)))) {
        // Taps outside the input are all but those inside.
        let mut sum = pad * w[o * taps..][..taps].iter().sum::<i32>();
        s.taps([b, o, i / ow, i % ow], |wi, xi| sum += (x[xi] - pad) * w[wi]);
        out.push(sum);
    }
    Ok(vec![HostTensor::i32(s.out, out)])
}
