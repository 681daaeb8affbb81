//! Normalisation: batch norm, layer norm, local response normalisation, softmax.

use super::items::{kept, not_channels};
use super::{arg, dims_of, f32_ty, f32s};
use qc_ir::{Follow, HostTensor, Items, Module, OpId, Type};
use qc_kernels::reference::clamp_f32;

qc_ir::ops! { dialect NORM = "graph";
    /// Batch normalisation in inference form, per channel (axis 1):
    /// `out = (x - mean) / sqrt(var + epsilon) * scale + bias`.
    op BatchNorm = "graph.batch_norm"(x: F32, scale: F32 1, bias: F32 1, mean: F32 1, var: F32 1) -> (out) { epsilon: Float = 1e-5 } [PURE]
        infer(infer_batch_norm) eval(eval_batch_norm) items(not_channels);
    /// Layer normalisation over all dims from `axis` on, whose sizes `scale` and `bias` have: `out = t * scale + bias` with
    /// `t = (x - mean) / sqrt(var + epsilon)`, `var` being the mean of the squares of `x - mean`; with `rms`
    /// `t = x / sqrt(mean(x²) + epsilon)`. The result is clamped to `min..=max`.
    op LayerNorm = "graph.layer_norm"(x: F32, scale: Optional F32, bias: Optional F32) -> (out)
        { axis: Int, epsilon: Float = 1e-5, rms: Bool = false, min: Float = f64::NEG_INFINITY, max: Float = f64::INFINITY } [PURE]
        infer(infer_layer_norm) eval(eval_layer_norm) items(items_layer_norm);
    /// Local response normalisation across channels (axis 1):
    /// `out[c] = x[c] * (bias + alpha * sum x[i]^2)^-beta` over `size` channels starting at `c - (size - 1) / 2`.
    op Lrn = "graph.lrn"(x: F32) -> (out) { size: Int, alpha: Float, beta: Float, bias: Float } [PURE]
        infer(infer_lrn) eval(eval_lrn) items(not_channels);
    /// `exp(x - max) / sum exp(x - max)` along `axis`.
    op Softmax = "graph.softmax"(x: F32) -> (out) { axis: Int } [PURE] infer(infer_softmax) eval(eval_softmax)
        items(items_softmax);
}

fn infer_batch_norm(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let dims = dims_of(m, op, 0)?;
    let channels = *dims.get(1).ok_or("the input has no channel axis")?;
    for i in 1..5 {
        if dims_of(m, op, i)? != [channels] {
            return Err(format!("parameter {i} has shape {:?}, not [{channels}]", dims_of(m, op, i)?));
        }
    }
    f32_ty(dims)
}

fn eval_batch_norm(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let dims = arg(args, 0)?.dims();
    let (x, scale, bias) = (f32s(args, 0)?, f32s(args, 1)?, f32s(args, 2)?);
    let (mean, var) = (f32s(args, 3)?, f32s(args, 4)?);
    let epsilon = BatchNorm(op).epsilon(m) as f32;
    let inner: usize = dims[2..].iter().product();
    let normal = |(i, x): (usize, &f32)| {
        let c = i / inner % dims[1];
        (x - mean[c]) / (var[c] + epsilon).sqrt() * scale[c] + bias[c]
    };
    Ok(vec![HostTensor::f32(dims, x.iter().enumerate().map(normal).collect())])
}

fn infer_layer_norm(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (view, dims) = (LayerNorm(op), dims_of(m, op, 0)?);
    let axis = usize::try_from(view.axis(m)).ok().filter(|&axis| axis < dims.len());
    let own = &dims[axis.ok_or_else(|| format!("axis {} is outside rank {}", view.axis(m), dims.len()))?..];
    for (v, what) in [(view.scale(m), "scale"), (view.bias(m), "bias")] {
        if let Some(v) = v.filter(|&v| m.dims(v) != own) {
            return Err(format!("the {what} has the shape {:?}, not {own:?}", m.dims(v)));
        }
    }
    if view.min(m).is_nan() || view.max(m).is_nan() {
        return Err("`min` and `max` must be numbers".into());
    }
    if !(view.epsilon(m) >= 0.0 && (view.epsilon(m) as f32).is_finite()) {
        return Err(format!("epsilon is {}, not a number from 0 on", view.epsilon(m)));
    }
    f32_ty(dims)
}

fn items_layer_norm(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    kept(m, op, f, |axis| (axis as i64) < LayerNorm(op).axis(m))
}

fn eval_layer_norm(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (view, dims) = (LayerNorm(op), arg(args, 0)?.dims());
    let n: usize = dims[view.axis(m) as usize..].iter().product();
    let parameter = |i: usize| args.get(i).copied().flatten().map(|_| f32s(args, i)).transpose();
    let (scale, bias) = (parameter(1)?, parameter(2)?);
    let mut out = Vec::with_capacity(n);
    for row in f32s(args, 0)?.chunks(n.max(1)) {
        let mean_of = |f: &dyn Fn(f64) -> f64| row.iter().map(|&x| f(f64::from(x))).sum::<f64>() / n as f64;
        let mean = if view.rms(m) { 0.0 } else { mean_of(&|x| x) };
        let root = (mean_of(&|x| (x - mean).powi(2)) + view.epsilon(m)).sqrt();
        out.extend(row.iter().enumerate().map(|(i, &x)| {
            let t = (f64::from(x) - mean) / root;
            let y = t * scale.map_or(1.0, |s| f64::from(s[i])) + bias.map_or(0.0, |b| f64::from(b[i]));
            clamp_f32(y as f32, view.min(m) as f32, view.max(m) as f32)
        }));
    }
    Ok(vec![HostTensor::f32(dims, out)])
}

fn infer_lrn(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let dims = dims_of(m, op, 0)?;
    if dims.len() < 2 || Lrn(op).size(m) < 1 {
        return Err("needs a channel axis and a positive size".into());
    }
    f32_ty(dims)
}

fn eval_lrn(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let view = Lrn(op);
    let (x, dims) = (f32s(args, 0)?, arg(args, 0)?.dims());
    let (alpha, beta, bias) = (view.alpha(m) as f32, view.beta(m) as f32, view.bias(m) as f32);
    let (channels, inner): (usize, usize) = (dims[1], dims[2..].iter().product());
    let size = view.size(m) as usize;
    let before = (size - 1) / 2;
    let one = |(i, &value): (usize, &f32)| {
        let c = i / inner % channels;
        let base = i - c * inner;
        let window = c.saturating_sub(before)..(c + size - before).min(channels);
        let sum: f64 = window.map(|j| f64::from(x[base + j * inner]).powi(2)).sum();
        value * (bias + alpha * sum as f32).powf(-beta)
    };
    Ok(vec![HostTensor::f32(dims, x.iter().enumerate().map(one).collect())])
}

fn infer_softmax(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let dims = dims_of(m, op, 0)?;
    let axis = Softmax(op).axis(m);
    if usize::try_from(axis).map_or(true, |a| a >= dims.len()) {
        return Err(format!("axis {axis} is outside rank {}", dims.len()));
    }
    f32_ty(dims)
}

fn items_softmax(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    kept(m, op, f, |axis| axis as i64 != Softmax(op).axis(m))
}

fn eval_softmax(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (x, dims) = (f32s(args, 0)?, arg(args, 0)?.dims());
    let axis = Softmax(op).axis(m) as usize;
    let (n, inner): (usize, usize) = (dims[axis], dims[axis + 1..].iter().product());
    let mut out = x.to_vec();
    for start in (0..x.len() / n.max(1)).map(|i| i / inner * inner * n + i % inner) {
        let at = |k: usize| start + k * inner;
        let max = (0..n).fold(f32::NEG_INFINITY, |a, k| a.max(x[at(k)]));
        (0..n).for_each(|k| out[at(k)] = (x[at(k)] - max).exp());
        let sum: f64 = (0..n).map(|k| f64::from(out[at(k)])).sum();
        (0..n).for_each(|k| out[at(k)] /= sum as f32);
    }
    Ok(vec![HostTensor::f32(dims, out)])
}
