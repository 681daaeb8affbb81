//! Pools.

use super::builder::{Call, Writer};
use crate::error::Refusal;
use qc_dialects::graph::pool::{Count, PoolShape};
use qc_dialects::graph::{AvgPool, MaxPool};
use qc_ir::OpId;

/// Pads up to the end of the last window. Engines do not agree on where a last window may begin that is cut off, so it is
/// written as padding; `None` if that would hold a whole window, which they refuse.
fn with_end(s: &PoolShape) -> Option<[i64; 4]> {
    let mut pads = s.pads;
    for d in 0..2 {
        let reach = (s.out[d] - 1) * s.strides[d] + s.kernel[d];
        pads[2 + d] = pads[2 + d].max(reach.saturating_sub(s.input[2 + d] + s.pads[d]));
        (pads[2 + d] < s.kernel[d] && pads[d] < s.kernel[d]).then_some(())?;
    }
    Some(pads.map(|pad| pad as i64))
}

fn window(op_type: &'static str, x: String, s: &PoolShape, pads: [i64; 4]) -> Call {
    let pair = |of: [usize; 2]| of.map(|n| n as i64);
    Call::new(op_type, [x]).ints("kernel_shape", pair(s.kernel)).ints("strides", pair(s.strides)).ints("pads", pads)
}

fn too_wide() -> Refusal {
    Refusal::unsupported("its padding holds whole windows, which ONNX does not allow")
        .remedy("export the model with padding narrower than the kernel")
}

pub(super) fn max_pool(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let s = MaxPool(op).shape(w.m).map_err(Refusal::invalid)?;
    let pads = with_end(&s).ok_or_else(too_wide)?;
    Ok(window("MaxPool", w.operand(op, 0), &s, pads))
}

pub(super) fn avg_pool(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let view = AvgPool(op);
    let s = view.shape(w.m).map_err(Refusal::invalid)?;
    let count = Count::from_name(&view.count(w.m)).map_err(Refusal::invalid)?;
    let pads = with_end(&s).ok_or_else(too_wide)?;
    let is_cut = pads.iter().zip(s.pads).any(|(&written, own)| written != own as i64);
    if is_cut && count == Count::Inclusive {
        return Err(Refusal::unsupported("engines do not agree on what the mean of a window is that is cut off")
            .remedy("export the model without ceil_mode, or compile it with `qc compile`"));
    }
    let x = w.operand(op, 0);
    Ok(window("AveragePool", x, &s, pads).int("count_include_pad", i64::from(count != Count::Exclusive)))
}
