//! Resizing of bytes by interpolation.

use super::numeric::{MAGIC, ratio};
use super::{activation, check_bounds, result_format, result_ty};
use crate::graph::resample::{Axis, along, resampled_dims};
use crate::graph::{dims_of, ints, u8s};
use crate::interfaces::Resampling;
use qc_ir::{HostTensor, Module, OpId, Type};

qc_ir::ops! { dialect QRESAMPLE = "quant";
    /// As `graph.resample` of the integers without their zero point, in f32; behind the last axis `v = sum / (out_scale / x_scale)`,
    /// rounded half to even, plus the zero point of the result, within `lo..=hi`. Between equal scales nothing is rounded but
    /// the weights and the result.
    op QResample = "quant.resample"(x: Activation) -> (out) {
        axes: Ints, sizes: Ints, taps: Ints, places: Const, weights: Const, to: Type, lo: Int = 0i64, hi: Int = 255i64
    } [PURE] infer(infer_resample) verify(verify_resample) eval(eval_resample);
}

/// From the sums to the result.
#[derive(Clone, Copy, Debug)]
pub struct Requantize {
    /// Zero point of the input.
    pub x_zero: i32,
    /// A step of the result in steps of the input.
    pub step: f32,
    /// Zero point of the result.
    pub zero: i32,
}

impl QResample {
    /// The axes, in order.
    ///
    /// # Errors
    /// One sentence on what does not fit.
    pub fn along(self, m: &Module) -> Result<Vec<Axis<'_>>, String> {
        Resampling::from(self).along(m)
    }

    /// How sums become results.
    ///
    /// # Errors
    /// When input or result have no fitting format, or scales whose ratio is no usual f32.
    pub fn requantize(self, m: &Module) -> Result<Requantize, String> {
        let x = activation(m, self.0, 0)?;
        let out = result_format(m, &self.to(m))?.ok_or("the result must be quantized")?;
        let step = ratio(out.scale(0), 1.0, x.scale(0));
        match step.is_normal() {
            true => Ok(Requantize { x_zero: x.zero(0), step, zero: out.zero(0) }),
            false => Err("the factor from its sums to its result is no f32".into()),
        }
    }
}

fn infer_resample(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let view = QResample(op);
    result_ty(m, &view.to(m), resampled_dims(dims_of(m, op, 0)?, &view.along(m)?)?)
}

fn verify_resample(m: &Module, op: OpId) -> Result<(), String> {
    let view = QResample(op);
    check_bounds(view.lo(m), view.hi(m))?;
    view.requantize(m).map(|_| ())
}

fn eval_resample(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let view = QResample(op);
    let Requantize { x_zero, step, zero } = view.requantize(m)?;
    let mut dims = dims_of(m, op, 0)?.to_vec();
    let mut x: Vec<f32> = ints(args, 0)?.into_iter().map(|q| (q - x_zero) as f32).collect();
    for a in view.along(m)? {
        x = along(&dims, &x, &a);
        dims[a.axis] = a.size;
    }
    let (lo, hi) = ((view.lo(m) as i32 - zero) as f32, (view.hi(m) as i32 - zero) as f32);
    let one = |sum: f32| {
        let v = (sum / step).max(lo).min(hi);
        (v + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32 + zero
    };
    u8s(dims, x.into_iter().map(one).collect())
}
