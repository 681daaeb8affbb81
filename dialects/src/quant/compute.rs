//! Integer convolution and matrix product.

use super::numeric::{Residual, accumulator_scale, requantize, requantize_residual};
use super::{activation, check_bounds, result_format, result_ty};
use crate::graph::conv::ConvShape;
use crate::graph::quantize::{centred, weight_format};
use crate::graph::{arg, dims_of, ints, nchw, u8s};
use qc_ir::{Elem, HostTensor, Module, OpId, Quant, Type, ValueId};
use qc_kernels::reference::clamp_f32;

qc_ir::ops! { dialect COMPUTE = "quant";
    /// Integer 2-D convolution with its epilogue.
    ///
    /// `acc = bias[o] + sum (x - x_zero) * (weight - w_zero[o])`, a real number in units of `x_scale * w_scale[o]`. An f32
    /// result is that number, clamped to `min..=max`. A quantized result is that number requantized and clamped to
    /// `lo..=hi`; a residual is added before that, to the number clamped to `min..=max`. What lies outside the input
    /// counts as `x_zero`. `bias` is i32; that of an f32 result may be f32, which is added to the number before the clamp.
    op QConv2d = "quant.conv2d"(x: Activation 4, weight: Weight 4, bias: Optional Bias 1, residual: Optional Activation 4) -> (out) {
        strides: Ints = [1, 1], pads: Ints = [0, 0, 0, 0], dilations: Ints = [1, 1], groups: Int = 1,
        to: Type, lo: Int = 0i64, hi: Int = 255i64, min: Float = f64::NEG_INFINITY, max: Float = f64::INFINITY
    } [PURE] infer(infer_conv2d) verify(verify_compute) eval(eval_conv2d);
    /// Integer product of `x` `[.., k]` with constant `weight` `[n, k]`, accumulator and epilogue as `quant.conv2d`.
    op QMatmul = "quant.matmul"(x: Activation, weight: Weight 2, bias: Optional Bias 1, residual: Optional Activation) -> (out) {
        to: Type, lo: Int = 0i64, hi: Int = 255i64, min: Float = f64::NEG_INFINITY, max: Float = f64::INFINITY
    } [PURE] infer(infer_matmul) verify(verify_compute) eval(eval_matmul);
}

qc_ir::interface! {
    /// An integer op that multiplies by a constant weight, with its epilogue.
    QLinear [QConv2d, QMatmul] {
        /// What is multiplied.
        x: ValueId;
        /// By what.
        weight: ValueId;
        /// What is added per output channel: i32 in units of the accumulator, or f32 to an f32 result.
        bias: Option<ValueId>;
        /// What is added to the result.
        residual: Option<ValueId>;
        /// The result.
        out: ValueId;
        /// The element type of the result.
        to: Type;
        /// The lower bound of a quantized result, stored.
        lo: i64;
        /// The upper bound of a quantized result, stored.
        hi: i64;
        /// The lower bound of the product in real numbers.
        min: f64;
        /// The upper bound of the product in real numbers.
        max: f64;
    }
}

impl QLinear {
    fn expect(m: &Module, op: OpId) -> Result<QLinear, String> {
        QLinear::of(m, op).ok_or_else(|| "it is no convolution or product".into())
    }
}

/// What happens to an accumulator of output channel `o`.
pub struct Epilogue {
    /// Factor per output channel: to units of the result.
    pub scales: Vec<f32>,
    /// The result's format; `None` for f32.
    pub out: Option<Quant>,
    /// The residual's factors, and the bounds of what it is added to.
    pub residual: Option<Residual>,
    /// Bounds of a quantized result.
    pub lo: i32,
    /// Upper bound.
    pub hi: i32,
    /// Bounds of the product in real numbers: of a real result, or of what a residual is added to.
    pub min: f32,
    /// Upper bound.
    pub max: f32,
}

impl Epilogue {
    /// The epilogue of an op.
    ///
    /// # Errors
    /// When an operand has no fitting format.
    pub fn of(m: &Module, view: QLinear) -> Result<Epilogue, String> {
        let x = activation(m, view.op(), 0)?;
        let w = weight_format(m, view.weight(m))?;
        let channels = dims_of(m, view.op(), 1)?[0];
        let real_bias = view.bias(m).is_some_and(|b| m.tensor_ty(b).elem == Elem::F32);
        if real_bias && result_format(m, &view.to(m))?.is_some() {
            return Err("the bias of a quantized result must be i32".into());
        }
        let residual = view.residual(m).map(|_| activation(m, view.op(), 3)).transpose()?;
        let stated = Stated { to: view.to(m), lo: view.lo(m), hi: view.hi(m), min: view.min(m), max: view.max(m) };
        let scales = |unit| (0..channels).map(|o| accumulator_scale(x.scale(0), w.scale(o), unit)).collect();
        Epilogue::new(m, &stated, residual, scales)
    }

    /// The epilogue that the attributes of an op state; `scales` are the factors to a result with this scale.
    pub(super) fn new(
        m: &Module,
        stated: &Stated,
        residual: Option<&Quant>,
        scales: impl FnOnce(f32) -> Vec<f32>,
    ) -> Result<Epilogue, String> {
        let out = result_format(m, &stated.to)?;
        let scales = scales(out.as_ref().map_or(1.0, |q| q.scale(0)));
        if !scales.iter().all(|s| s.is_finite()) {
            return Err("the factor from its accumulator to its result is no f32".into());
        }
        let (min, max) = (stated.min as f32, stated.max as f32);
        if min.is_nan() || max.is_nan() {
            return Err("`min` and `max` must be numbers".into());
        }
        let residual = match (residual, &out) {
            (None, Some(_)) if min != f32::NEG_INFINITY || max != f32::INFINITY => {
                return Err("`lo` and `hi` bound a quantized result without a residual".into());
            }
            (None, _) => None,
            (Some(_), None) => return Err("a residual needs a quantized result".into()),
            (Some(r), Some(q)) => Some(Residual::new((r.scale(0), r.zero(0)), (q.scale(0), q.zero(0)), (min, max))),
        };
        Ok(Epilogue { scales, out, residual, lo: stated.lo as i32, hi: stated.hi as i32, min, max })
    }
}

/// What the attributes of an op say of its result.
pub(super) struct Stated {
    pub to: Type,
    pub lo: i64,
    pub hi: i64,
    pub min: f64,
    pub max: f64,
}

fn check_extra(m: &Module, view: QLinear, out: &[usize], channels: usize) -> Result<(), String> {
    if let Some(bias) = view.bias(m)
        && m.dims(bias) != [channels]
    {
        return Err(format!("bias has shape {:?}, not [{channels}]", m.dims(bias)));
    }
    match view.residual(m) {
        Some(r) if m.dims(r) != out => Err(format!("residual has shape {:?}, not {out:?}", m.dims(r))),
        _ => Ok(()),
    }
}

impl QConv2d {
    /// The geometry.
    ///
    /// # Errors
    /// As [`ConvShape::new`].
    pub fn shape(self, m: &Module) -> Result<ConvShape, String> {
        let (x, w) = (nchw(m, self.0, 0)?, nchw(m, self.0, 1)?);
        ConvShape::new(x, w, &self.strides(m), &self.pads(m), &self.dilations(m), self.groups(m))
    }
}

fn infer_conv2d(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let s = QConv2d(op).shape(m)?;
    check_extra(m, QConv2d(op).into(), &s.out, s.weight[0])?;
    result_ty(m, &QConv2d(op).to(m), s.out.to_vec())
}

fn infer_matmul(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (x, w) = (dims_of(m, op, 0)?, dims_of(m, op, 1)?);
    match (x, w) {
        ([batch @ .., k], [n, k2]) if k == k2 => {
            let dims: Vec<usize> = batch.iter().copied().chain([*n]).collect();
            check_extra(m, QMatmul(op).into(), &dims, *n)?;
            result_ty(m, &QMatmul(op).to(m), dims)
        }
        _ => Err(format!("shapes {x:?} and {w:?} do not multiply")),
    }
}

fn verify_compute(m: &Module, op: OpId) -> Result<(), String> {
    let view = QLinear::expect(m, op)?;
    check_bounds(view.lo(m), view.hi(m))?;
    Epilogue::of(m, view).map(|_| ())
}

/// What accumulators start at, and what is added to their real numbers, per output channel.
pub(super) struct Bias {
    start: Vec<i32>,
    addend: Vec<f32>,
}

impl Bias {
    pub fn none(channels: usize) -> Bias {
        Bias { start: vec![0; channels], addend: vec![0.0; channels] }
    }

    pub fn of(args: &[Option<&HostTensor>], channels: usize) -> Result<Bias, String> {
        let Bias { start, addend } = Bias::none(channels);
        Ok(match args.get(2).copied().flatten() {
            None => Bias { start, addend },
            Some(t) => match t.as_f32() {
                Some(real) => Bias { start, addend: real.to_vec() },
                None => Bias { start: ints(args, 2)?, addend },
            },
        })
    }
}

/// Applies the epilogue to accumulators whose output channel is `index / inner % channels`.
pub(super) fn finish(
    e: &Epilogue,
    bias: &Bias,
    dims: Vec<usize>,
    acc: &[i32],
    res: Option<&[i32]>,
    inner: usize,
) -> Result<Vec<HostTensor>, String> {
    let channel = |i: usize| i / inner % e.scales.len();
    let Some(out) = &e.out else {
        let real = |(i, &a): (usize, &i32)| {
            let c = channel(i);
            clamp_f32(a as f32 * e.scales[c] + bias.addend[c], e.min, e.max)
        };
        return Ok(vec![HostTensor::f32(dims, acc.iter().enumerate().map(real).collect())]);
    };
    let one = |(i, &a): (usize, &i32)| match (e.residual, res) {
        (Some(r), Some(res)) => requantize_residual(a, e.scales[channel(i)], res[i], r, e.lo, e.hi),
        _ => requantize(a, e.scales[channel(i)], out.zero(0), e.lo, e.hi),
    };
    u8s(dims, acc.iter().enumerate().map(one).collect())
}

fn eval_conv2d(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (s, e) = (QConv2d(op).shape(m)?, Epilogue::of(m, QConv2d(op).into())?);
    let zero = activation(m, op, 0)?.zero(0);
    let x: Vec<i32> = ints(args, 0)?.into_iter().map(|v| v - zero).collect();
    let w = centred(weight_format(m, QConv2d(op).weight(m))?, arg(args, 1)?, 0)?;
    let res = args.get(3).copied().flatten().map(|_| ints(args, 3)).transpose()?;
    let [n, channels, oh, ow] = s.out;
    let bias = Bias::of(args, channels)?;
    let mut acc = Vec::with_capacity(s.out.iter().product());
    for b in 0..n {
        for o in 0..channels {
            for i in 0..oh * ow {
                let mut sum = bias.start[o];
                s.taps([b, o, i / ow, i % ow], |wi, xi| sum += x[xi] * w[wi]);
                acc.push(sum);
            }
        }
    }
    finish(&e, &bias, s.out.to_vec(), &acc, res.as_deref(), oh * ow)
}

fn eval_matmul(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let e = Epilogue::of(m, QMatmul(op).into())?;
    let zero = activation(m, op, 0)?.zero(0);
    let x = ints(args, 0)?;
    let w = centred(weight_format(m, QMatmul(op).weight(m))?, arg(args, 1)?, 0)?;
    let res = args.get(3).copied().flatten().map(|_| ints(args, 3)).transpose()?;
    let (n, k) = (dims_of(m, op, 1)?[0], dims_of(m, op, 1)?[1]);
    let bias = Bias::of(args, n)?;
    let mut acc = Vec::new();
    for row in x.chunks_exact(k.max(1)) {
        for o in 0..n {
            let dot: i32 = row.iter().zip(&w[o * k..][..k]).map(|(a, b)| (a - zero) * b).sum();
            acc.push(bias.start[o] + dot);
        }
    }
    let ty = infer_matmul(m, op)?;
    let dims = ty[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    finish(&e, &bias, dims, &acc, res.as_deref(), 1)
}
