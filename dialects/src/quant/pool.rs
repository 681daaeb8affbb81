//! Integer pooling.

use super::numeric::average;
use super::{activation, check_bounds, result_format, result_ty};
use crate::graph::pool::{Count, PoolShape, Span};
use crate::graph::{ints, nchw, u8s};
use qc_ir::{HostTensor, Module, OpId, Type};

qc_ir::ops! { dialect QPOOL = "quant";
    /// The largest stored integer under each window, clamped to `lo..=hi`; input and result share one format.
    op QMaxPool = "quant.max_pool"(x: Activation 4) -> (out) {
        kernel: Ints, strides: Ints, pads: Ints = [0, 0, 0, 0], ceil_mode: Bool = false, lo: Int = 0i64, hi: Int = 255i64
    } [PURE] infer(infer_max_pool) verify(verify_max_pool) eval(eval_max_pool);
    /// The mean under each window, rescaled to the result's format. Padding adds nothing to a sum; whether it counts in
    /// the divisor, `count` says.
    op QAvgPool = "quant.avg_pool"(x: Activation 4) -> (out) {
        kernel: Ints, strides: Ints, pads: Ints = [0, 0, 0, 0], ceil_mode: Bool = false, count: Str = "exclusive",
        to: Type, lo: Int = 0i64, hi: Int = 255i64
    } [PURE] infer(infer_avg_pool) verify(verify_avg_pool) eval(eval_avg_pool);
}

qc_ir::interface! {
    /// An integer pool under a window.
    QPool [QMaxPool, QAvgPool] {
        /// Height and width of the window.
        kernel: Box<[i64]>;
        /// Steps of the window.
        strides: Box<[i64]>;
        /// Padding: top, left, bottom, right.
        pads: Box<[i64]>;
        /// Whether a last window may be cut off.
        ceil_mode: bool;
    }
}

impl QPool {
    /// The geometry.
    ///
    /// # Errors
    /// As [`PoolShape::new`].
    pub fn shape(self, m: &Module) -> Result<PoolShape, String> {
        PoolShape::new(nchw(m, self.op(), 0)?, &self.kernel(m), &self.strides(m), &self.pads(m), self.ceil_mode(m))
    }
}

impl QMaxPool {
    /// The geometry.
    ///
    /// # Errors
    /// As [`PoolShape::new`].
    pub fn shape(self, m: &Module) -> Result<PoolShape, String> {
        QPool::from(self).shape(m)
    }
}

impl QAvgPool {
    /// The geometry.
    ///
    /// # Errors
    /// As [`PoolShape::new`].
    pub fn shape(self, m: &Module) -> Result<PoolShape, String> {
        QPool::from(self).shape(m)
    }

    /// What the sums are divided by.
    ///
    /// # Errors
    /// For an unknown word.
    pub fn count_mode(self, m: &Module) -> Result<Count, String> {
        Count::from_name(&self.count(m))
    }

    /// Scale and zero point of the input, and of the result.
    ///
    /// # Errors
    /// When input or result have no fitting format, or scales whose ratio is no f32.
    pub fn formats(self, m: &Module) -> Result<[(f32, i32); 2], String> {
        let x = activation(m, self.0, 0)?;
        let out = result_format(m, &self.to(m))?.ok_or("the result must be quantized")?;
        if !(x.scale(0) / out.scale(0)).is_finite() {
            return Err("the factor from its sums to its result is no f32".into());
        }
        Ok([(x.scale(0), x.zero(0)), (out.scale(0), out.zero(0))])
    }
}

fn infer_max_pool(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let s = QMaxPool(op).shape(m)?;
    let elem = crate::graph::tensor_of(m, op, 0)?.elem;
    result_ty(m, &Type::Scalar(elem), vec![s.input[0], s.input[1], s.out[0], s.out[1]])
}

fn verify_max_pool(m: &Module, op: OpId) -> Result<(), String> {
    activation(m, op, 0)?;
    check_bounds(QMaxPool(op).lo(m), QMaxPool(op).hi(m))
}

fn infer_avg_pool(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let s = QAvgPool(op).shape(m)?;
    result_ty(m, &QAvgPool(op).to(m), vec![s.input[0], s.input[1], s.out[0], s.out[1]])
}

fn verify_avg_pool(m: &Module, op: OpId) -> Result<(), String> {
    let view = QAvgPool(op);
    check_bounds(view.lo(m), view.hi(m))?;
    view.formats(m)?;
    if !sums_fit(&view.kernel(m)) {
        return Err("the sums of its windows could overflow 32 bits".into());
    }
    view.count_mode(m).map(|_| ())
}

/// Whether the sum of bytes under a window of this size fits an accumulator.
pub fn sums_fit(kernel: &[i64]) -> bool {
    let taps = kernel.iter().try_fold(1i64, |taps, &k| taps.checked_mul(k));
    taps.is_some_and(|taps| taps <= i64::from(i32::MAX / 255))
}

fn windows(
    s: &PoolShape,
    x: &[i32],
    mut window: impl FnMut(&mut dyn Iterator<Item = i32>, Span, Span) -> i32,
) -> Vec<i32> {
    let (h, w) = (s.input[2], s.input[3]);
    let mut out = Vec::new();
    for plane in x.chunks_exact((h * w).max(1)) {
        for oy in 0..s.out[0] {
            for ox in 0..s.out[1] {
                let (ys, xs) = (s.span(0, oy), s.span(1, ox));
                let mut taps = (ys.start..ys.end).flat_map(|y| plane[y * w..][xs.start..xs.end].iter().copied());
                out.push(window(&mut taps, ys, xs));
            }
        }
    }
    out
}

fn eval_max_pool(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let s = QMaxPool(op).shape(m)?;
    let (lo, hi) = (QMaxPool(op).lo(m) as i32, QMaxPool(op).hi(m) as i32);
    let out = windows(&s, &ints(args, 0)?, |taps, _, _| taps.fold(0, i32::max).clamp(lo, hi));
    u8s(vec![s.input[0], s.input[1], s.out[0], s.out[1]], out)
}

fn eval_avg_pool(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let view = QAvgPool(op);
    let (s, count, [(x_scale, x_zero), out]) = (view.shape(m)?, view.count_mode(m)?, view.formats(m)?);
    let (lo, hi) = (view.lo(m) as i32, view.hi(m) as i32);
    let out = windows(&s, &ints(args, 0)?, |taps, y, x| {
        average(taps.map(|q| q - x_zero).sum(), s.divisor(count, y, x), x_scale, out, lo, hi)
    });
    u8s(vec![s.input[0], s.input[1], s.out[0], s.out[1]], out)
}
