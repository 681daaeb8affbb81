//! Reductions.

use super::items::kept;
use super::{arg, dims_of, f32_ty, f32s};
use qc_ir::{Follow, HostTensor, Items, Module, OpId, Type};

qc_ir::ops! { dialect REDUCE = "graph";
    /// The mean over `axes`; reduced dims stay as 1 with `keepdims`.
    op ReduceMean = "graph.reduce_mean"(x: F32) -> (out) { axes: Ints, keepdims: Bool = true } [PURE]
        infer(infer_reduce_mean) eval(eval_reduce_mean) items(items_reduce);
}

/// The dims that a reduction over `axes` leaves.
pub(super) fn reduced_dims(dims: &[usize], axes: &[i64], keepdims: bool) -> Result<Vec<usize>, String> {
    if axes.iter().any(|&a| a < 0 || a as usize >= dims.len()) {
        return Err(format!("axes {axes:?} are outside rank {}", dims.len()));
    }
    let reduced = |i: usize| axes.contains(&(i as i64));
    let out = dims.iter().enumerate().filter(|(i, _)| keepdims || !reduced(*i));
    Ok(out.map(|(i, &d)| if reduced(i) { 1 } else { d }).collect())
}

/// Items along a dim that a reduction over `axes` leaves.
pub(super) fn reduced_items(m: &Module, op: OpId, f: &Follow, axes: &[i64], keepdims: bool) -> Option<Items> {
    match kept(m, op, f, |axis| !axes.contains(&(axis as i64)))? {
        Items::Along(axis) if !keepdims => {
            Some(Items::Along(axis - axes.iter().filter(|&&a| (a as usize) < axis).count()))
        }
        items => Some(items),
    }
}

fn infer_reduce_mean(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    f32_ty(reduced_dims(dims_of(m, op, 0)?, &ReduceMean(op).axes(m), ReduceMean(op).keepdims(m))?)
}

fn items_reduce(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    reduced_items(m, op, f, &ReduceMean(op).axes(m), ReduceMean(op).keepdims(m))
}

fn eval_reduce_mean(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (x, dims) = (f32s(args, 0)?, arg(args, 0)?.dims());
    let axes = ReduceMean(op).axes(m);
    let kept = reduced_dims(dims, &axes, true)?;
    let mut sums = vec![0.0f64; kept.iter().product()];
    for (&value, at) in x.iter().zip(super::matmul::broadcast_index(&kept, dims)) {
        sums[at] += f64::from(value);
    }
    let count = (x.len() / sums.len().max(1)) as f64;
    let ty = infer_reduce_mean(m, op)?;
    let dims = ty[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    Ok(vec![HostTensor::f32(dims, sums.into_iter().map(|s| (s / count) as f32).collect())])
}
