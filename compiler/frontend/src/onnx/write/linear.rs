//! Convolutions and matrix products.

use super::builder::{Call, Writer};
use super::elementwise::clamped;
use crate::error::Refusal;
use qc_dialects::graph::{Conv2d, Matmul};
use qc_ir::OpId;

pub(super) fn conv2d(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, Conv2d(op));
    let mut inputs = vec![w.name(view.input(m)), w.name(view.weight(m))];
    inputs.extend(view.bias(m).map(|bias| w.name(bias)));
    let kernel: Vec<i64> = m.dims(view.weight(m))[2..].iter().map(|&d| d as i64).collect();
    let conv = Call::new("Conv", inputs)
        .ints("kernel_shape", kernel)
        .ints("strides", view.strides(m))
        .ints("pads", view.pads(m))
        .ints("dilations", view.dilations(m))
        .int("group", view.groups(m));
    let sum = match view.residual(m) {
        None => conv,
        Some(residual) => {
            let product = w.emit(conv);
            let residual = w.name(residual);
            Call::new("Add", [product, residual])
        }
    };
    Ok(clamped(w, sum, [view.min(m), view.max(m)]))
}

/// Products of matrices are `Gemm`, which has the bias and takes transposed sides; of stacks of matrices `MatMul`.
pub(super) fn matmul(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, Matmul(op));
    let bounds = [view.min(m), view.max(m)];
    let sides = [(view.a(m), view.transpose_a(m)), (view.b(m), view.transpose_b(m))];
    let bias = view.bias(m).map(|bias| w.name(bias));
    let [mut a, mut b] = sides.map(|(v, _)| w.name(v));
    if sides.iter().all(|(v, _)| m.dims(*v).len() == 2) && (bias.is_some() || sides.iter().any(|(_, t)| *t)) {
        let inputs: Vec<String> = [a, b].into_iter().chain(bias).collect();
        let gemm = Call::new("Gemm", inputs)
            .int("transA", i64::from(view.transpose_a(m)))
            .int("transB", i64::from(view.transpose_b(m)));
        return Ok(clamped(w, gemm, bounds));
    }
    for ((v, transposed), side) in sides.into_iter().zip([&mut a, &mut b]) {
        if transposed {
            let rank = m.dims(v).len() as i64;
            let perm: Vec<i64> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            *side = w.emit(Call::new("Transpose", [side.clone()]).ints("perm", perm));
        }
    }
    let product = Call::new("MatMul", [a, b]);
    let sum = match bias {
        None => product,
        Some(bias) => {
            let product = w.emit(product);
            Call::new("Add", [product, bias])
        }
    };
    Ok(clamped(w, sum, bounds))
}
