//! How much work an op is: what the account of a compilation, the cost model and shares of a model are counted in.

use crate::interfaces::Convolution;
use crate::{graph, quant};
use qc_ir::{Module, OpId};

/// Multiply-accumulates of one op for its whole batch, and for all steps of a scan around it; 0 for ops other than convolutions
/// and matrix products.
pub fn macs(m: &Module, op: OpId) -> u64 {
    match macs_once(m, op) {
        0 => 0,
        once => once.saturating_mul(graph::scan::times(m, op)),
    }
}

/// Of one run of the op.
fn macs_once(m: &Module, op: OpId) -> u64 {
    let product = |k: usize| m.tensor_ty(m.result(op)).len() as u64 * k as u64;
    if let Some(c) = Convolution::of(m, op) {
        c.shape(m).map_or(0, |s| s.macs() as u64)
    } else if let Some(mm) = graph::Matmul::of(m, op) {
        mm.shape(m).map_or(0, |s| product(s.k))
    } else if let Some(mm) = quant::QMatmul::of(m, op) {
        product(m.dims(mm.weight(m))[1])
    } else if let Some(mm) = quant::QDynamicMatmul::of(m, op) {
        product(m.dims(mm.weight(m))[1])
    } else if let Some(conv) = quant::QDynamicConv2d::of(m, op) {
        conv.shape(m).map_or(0, |s| s.macs() as u64)
    } else if let Some(conv) = graph::IntegerConv2d::of(m, op) {
        conv.shape(m).map_or(0, |s| s.macs() as u64)
    } else if let Some(mm) = quant::QFloatMatmul::of(m, op) {
        product(m.dims(mm.weight(m))[1])
    } else if let Some(mm) = graph::IntegerMatmul::of(m, op) {
        product(m.dims(mm.weight(m))[1])
    } else if let Some(mm) = quant::QBatchMatmul::of(m, op) {
        mm.shape(m).map_or(0, |s| product(s.k))
    } else {
        0
    }
}
