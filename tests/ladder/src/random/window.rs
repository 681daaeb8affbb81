//! Pools and means.

use super::build::Graph;
use qc_dialects::graph::{AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool, ReduceMean};
use qc_ir::{Attrs, ValueId};

/// A max or average pool, with padding that differs on all sides and perhaps rounded-up sizes.
pub fn pool(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.plane(x)?;
    let (mut kernel, mut strides, mut pads) = ([1i64; 2], [1i64; 2], [0i64; 4]);
    for d in 0..2 {
        let (size, bits) = (dims[2 + d] as i64, i64::from(p[d]));
        kernel[d] = (1 + bits % 4).min(size);
        strides[d] = 1 + bits / 4 % 3;
        pads[d] = (bits / 12 % 3).min(kernel[d] - 1);
        pads[2 + d] = (bits / 36 % 3).min(kernel[d] - 1);
    }
    // With rounding up, the last window may begin behind the input; a mean of nothing is not asked for.
    let starts_inside = |d: usize| {
        let padded = dims[2 + d] as i64 + pads[d] + pads[2 + d];
        let last = (padded - kernel[d] + strides[d] - 1) / strides[d] * strides[d];
        last < dims[2 + d] as i64 + pads[d]
    };
    let ceil = p[2].is_multiple_of(2) && starts_inside(0) && starts_inside(1);
    let attrs = Attrs::new().with("kernel", kernel).with("strides", strides).with("pads", pads).with("ceil_mode", ceil);
    Some(match ["max", "max", "exclusive", "kernel", "inclusive"][p[3] as usize % 5] {
        "max" => g.op(MaxPool::DEF, &[x], attrs),
        count => g.op(AvgPool::DEF, &[x], attrs.with("count", count)),
    })
}

/// A pool to a fixed size.
pub fn global(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    g.plane(x)?;
    Some(match p[0] % 4 {
        0 => g.op(GlobalMaxPool::DEF, &[x], Attrs::new()),
        1 => {
            let output = [1 + i64::from(p[1] % 4), 1 + i64::from(p[2] % 4)];
            g.op(AdaptiveAvgPool::DEF, &[x], Attrs::new().with("output", output))
        }
        _ => g.op(GlobalAvgPool::DEF, &[x], Attrs::new()),
    })
}

/// A mean over one axis or several; at least one dim besides the batch stays.
pub fn mean(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let rank = g.m.dims(x).len();
    let mut axes: Vec<i64> = (1..rank as i64).filter(|a| p[0] >> a & 1 == 1).collect();
    if axes.is_empty() {
        axes.push(rank as i64 - 1);
    }
    let keepdims = rank - axes.len() < 2 || p[1].is_multiple_of(2);
    Some(g.op(ReduceMean::DEF, &[x], Attrs::new().with("axes", axes).with("keepdims", keepdims)))
}
