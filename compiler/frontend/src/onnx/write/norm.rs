//! Norms, means, running sums and softmax.

use super::builder::{Call, Writer};
use super::elementwise::clamped;
use crate::error::Refusal;
use qc_dialects::graph::{BatchNorm, CumSum, LayerNorm, Lrn, ReduceMean, Softmax};
use qc_ir::{Elem, HostTensor, OpId};

pub(super) fn batch_norm(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let epsilon = BatchNorm(op).epsilon(w.m) as f32;
    Ok(Call::new("BatchNormalization", w.operands(op)).float("epsilon", epsilon))
}

pub(super) fn layer_norm(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, LayerNorm(op));
    let (x, epsilon) = (w.name(view.x(m)), view.epsilon(m) as f32);
    let dims = &m.dims(view.x(m))[view.axis(m) as usize..];
    let bias = view.bias(m).map(|bias| w.name(bias));
    let own = view.scale(m).map(|scale| w.name(scale));
    let normed = if view.rms(m) {
        let axes: Vec<i64> = (view.axis(m)..m.dims(view.x(m)).len() as i64).collect();
        let mut call = by_mean_square(w, &x, axes, epsilon);
        for (op_type, by) in [("Mul", own), ("Add", bias)] {
            if let Some(by) = by {
                let so_far = w.emit(call);
                call = Call::new(op_type, [so_far, by]);
            }
        }
        call
    } else {
        // ONNX wants a scale.
        let scale = own.unwrap_or_else(|| w.literal(&HostTensor::f32(dims, vec![1.0; dims.iter().product()])));
        let inputs: Vec<String> = [x, scale].into_iter().chain(bias).collect();
        Call::new("LayerNormalization", inputs).int("axis", view.axis(m)).float("epsilon", epsilon)
    };
    Ok(clamped(w, normed, [view.min(m), view.max(m)]))
}

/// `x / sqrt(mean(x²) + epsilon)`.
fn by_mean_square(w: &mut Writer<'_>, x: &str, axes: Vec<i64>, epsilon: f32) -> Call {
    let square = w.emit(Call::new("Mul", [x.to_string(), x.to_string()]));
    let mean = w.emit(Call::new("ReduceMean", [square]).ints("axes", axes).int("keepdims", 1));
    let epsilon = w.number(epsilon);
    let sum = w.emit(Call::new("Add", [mean, epsilon]));
    let root = w.emit(Call::new("Sqrt", [sum]));
    Call::new("Div", [x.to_string(), root])
}

/// ONNX divides `alpha` by the size of the window.
pub(super) fn lrn(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, Lrn(op));
    let size = view.size(m);
    Ok(Call::new("LRN", w.operands(op))
        .int("size", size)
        .float("alpha", (view.alpha(m) * size as f64) as f32)
        .float("beta", view.beta(m) as f32)
        .float("bias", view.bias(m) as f32))
}

pub(super) fn softmax(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    Ok(Call::new("Softmax", w.operands(op)).int("axis", Softmax(op).axis(w.m)))
}

pub(super) fn reduce_mean(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, ReduceMean(op));
    let mean = Call::new("ReduceMean", w.operands(op));
    Ok(mean.ints("axes", view.axes(m)).int("keepdims", i64::from(view.keepdims(m))))
}

/// Sums up to each element; ONNX has no running products, and no sums of bytes.
pub(super) fn cumsum(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, CumSum(op));
    if view.product(m) || !matches!(m.tensor_ty(view.out(m)).elem, Elem::F32 | Elem::I32 | Elem::I64) {
        return Err(Refusal::unsupported("ONNX has running sums of floats and integers of 32 bits or more only")
            .remedy("compile the model with `qc compile`, which has this op, or cut it off where this node begins"));
    }
    let axis = w.literal(&HostTensor::i64(Vec::new(), vec![view.axis(m)]));
    let sum = Call::new("CumSum", [w.operand(op, 0), axis]).int("exclusive", i64::from(view.exclusive(m)));
    Ok(sum.int("reverse", i64::from(view.reverse(m))))
}
