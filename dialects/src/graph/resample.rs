//! Weighted sums of neighbours along axes: resizing by interpolation.

use super::items::kept;
use super::{check_size, dims_of, f32_ty, f32s, sizes};
use crate::interfaces::Resampling;
use qc_ir::{ConstId, Follow, HostTensor, Items, Module, OpId, Type, strides};

qc_ir::ops! { dialect RESAMPLE = "graph";
    /// One axis of `axes` after the other becomes `sizes` long, by sums of `taps` elements:
    /// `out[.., o, ..] = Σ_t weights[o, t] * x[.., places[o, t], ..]`, a product for the first tap whose weight is not 0 and fma in
    /// the order of `t` for the others; taps of weight 0 are left out, and a sum without taps is 0. `places` and `weights` are those
    /// of all axes, one axis behind the other.
    op Resample = "graph.resample"(x: F32) -> (out) { axes: Ints, sizes: Ints, taps: Ints, places: Const, weights: Const } [PURE]
        infer(infer_resample) eval(eval_resample) items(items_resample);
}

/// How one axis is resampled.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'m> {
    /// The axis.
    pub axis: usize,
    /// Its size afterwards.
    pub size: usize,
    /// Elements per sum.
    pub taps: usize,
    /// Where they are along the axis.
    pub places: &'m [i32],
    /// What each is multiplied by.
    pub weights: &'m [f32],
}

/// The axes of an op with these attributes over an operand of `dims`, in order.
///
/// # Errors
/// One sentence on what does not fit.
pub(crate) fn axes<'m>(
    m: &'m Module,
    dims: &[usize],
    lists: [&[i64]; 3],
    [places, weights]: [ConstId; 2],
) -> Result<Vec<Axis<'m>>, String> {
    let mut places = m.consts.get(places).tensor.as_i32().ok_or("`places` are no i32")?;
    let mut weights = m.consts.get(weights).tensor.as_f32().ok_or("`weights` are no f32")?;
    let count = lists[0].len();
    if count == 0 || lists.iter().any(|list| list.len() != count) {
        return Err("needs an axis, a size and a number of taps per axis".into());
    }
    let mut all: Vec<Axis<'m>> = Vec::new();
    for i in 0..count {
        let [axis, size, taps] = sizes("axes, sizes and taps", &lists.map(|list| list[i]))?;
        let Some(&from) = dims.get(axis).filter(|_| all.iter().all(|a| a.axis != axis)) else {
            return Err(format!("axis {axis} of {dims:?} is no axis, or named twice"));
        };
        let total = size.checked_mul(taps).filter(|&n| n > 0 && n <= places.len() && n <= weights.len());
        let total = total.ok_or("there are not as many places and weights as taps")?;
        let (own, rest) = places.split_at(total);
        let (factors, other) = weights.split_at(total);
        if own.iter().any(|&p| usize::try_from(p).map_or(true, |p| p >= from)) {
            return Err(format!("a place is outside a dim of {from}"));
        }
        all.push(Axis { axis, size, taps, places: own, weights: factors });
        (places, weights) = (rest, other);
    }
    match places.is_empty() && weights.is_empty() {
        true => Ok(all),
        false => Err("there are more places or weights than taps".into()),
    }
}

/// The dims behind all axes.
pub(crate) fn resampled_dims(dims: &[usize], axes: &[Axis<'_>]) -> Result<Vec<usize>, String> {
    let mut dims = dims.to_vec();
    for a in axes {
        dims[a.axis] = a.size;
        check_size(&dims)?;
    }
    Ok(dims)
}

/// The sums along one axis of `x` with these dims.
pub(crate) fn along(dims: &[usize], x: &[f32], a: &Axis<'_>) -> Vec<f32> {
    let (from, inner) = (dims[a.axis], strides(dims)[a.axis]);
    let mut out = Vec::with_capacity(x.len() / from.max(1) * a.size);
    for outer in x.chunks_exact((from * inner).max(1)) {
        for (places, weights) in a.places.chunks_exact(a.taps).zip(a.weights.chunks_exact(a.taps)) {
            for i in 0..inner {
                let mut sum = None;
                for (&p, &w) in places.iter().zip(weights).filter(|(_, w)| **w != 0.0) {
                    let v = outer[p as usize * inner + i];
                    sum = Some(sum.map_or(w * v, |sum| w.mul_add(v, sum)));
                }
                out.push(sum.unwrap_or(0.0));
            }
        }
    }
    out
}

impl Resample {
    /// The axes, in order.
    ///
    /// # Errors
    /// One sentence on what does not fit.
    pub fn along(self, m: &Module) -> Result<Vec<Axis<'_>>, String> {
        Resampling::from(self).along(m)
    }
}

fn infer_resample(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    f32_ty(resampled_dims(dims_of(m, op, 0)?, &Resample(op).along(m)?)?)
}

fn items_resample(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let along = Resample(op).along(m).ok()?;
    kept(m, op, f, |axis| along.iter().all(|a| a.axis != axis))
}

fn eval_resample(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (mut dims, mut x) = (dims_of(m, op, 0)?.to_vec(), f32s(args, 0)?.to_vec());
    for a in Resample(op).along(m)? {
        x = along(&dims, &x, &a);
        dims[a.axis] = a.size;
    }
    Ok(vec![HostTensor::f32(dims, x)])
}
