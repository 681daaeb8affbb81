//! How much work an op is: what the account of a compilation, the cost model and shares of a model are counted in.

use crate::{graph, quant};
use qc_ir::{Module, OpId};

/// Multiply-accumulates of one op for its whole batch; 0 for ops other than convolutions and matrix products.
pub fn macs(m: &Module, op: OpId) -> u64 {
    let conv = |s: Result<graph::conv::ConvShape, String>| s.map_or(0, |s| s.macs() as u64);
    let product = |k: usize| m.tensor_ty(m.result(op)).len() as u64 * k as u64;
    if let Some(c) = graph::Conv2d::of(m, op) {
        conv(c.shape(m))
    } else if let Some(c) = quant::QConv2d::of(m, op) {
        conv(c.shape(m))
    } else if let Some(mm) = graph::Matmul::of(m, op) {
        mm.shape(m).map_or(0, |s| product(s.k))
    } else if let Some(mm) = quant::QMatmul::of(m, op) {
        product(m.dims(mm.weight(m))[1])
    } else {
        0
    }
}
