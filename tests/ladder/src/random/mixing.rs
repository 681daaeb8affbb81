//! Ops by which the items of a batch meet: such a model runs whole batches only.

use super::build::{Graph, MAX_ELEMENTS};
use qc_dialects::graph::{Add, Concat, Matmul, ReduceMean, Slice, Softmax, Sub};
use qc_ir::{Attrs, ValueId};

/// One of the ways to meet. The result has a row per item, as everything in a random model.
pub fn items(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    match p[0] % 4 {
        0 => Some(g.op(Softmax::DEF, &[x], Attrs::new().with("axis", 0i64))),
        1 => {
            let mean = g.op(ReduceMean::DEF, &[x], Attrs::new().with("axes", [0i64]).with("keepdims", true));
            let mean = g.op(if p[1].is_multiple_of(2) { Sub::DEF } else { Add::DEF }, &[x, mean], Attrs::new());
            Some(mean)
        }
        2 => rotated(g, x, 1 + p[1] as usize % 2),
        _ => attention(g, x),
    }
}

/// Items by `by` places further, the last ones in front.
fn rotated(g: &mut Graph, x: ValueId, by: usize) -> Option<ValueId> {
    let dims = g.dims(x);
    let cut = (dims[0].saturating_sub(by)) as i64;
    let mut part = |from: i64, to: i64| {
        let (mut starts, mut ends) = (vec![0i64; dims.len()], dims.iter().map(|&d| d as i64).collect::<Vec<_>>());
        (starts[0], ends[0]) = (from, to);
        let attrs = Attrs::new().with("starts", starts).with("ends", ends).with("steps", vec![1i64; dims.len()]);
        g.op(Slice::DEF, &[x], attrs)
    };
    if cut == 0 {
        return Some(part(0, dims[0] as i64));
    }
    let (front, back) = (part(cut, dims[0] as i64), part(0, cut));
    Some(g.op(Concat::DEF, &[front, back], Attrs::new().with("axis", 0i64)))
}

/// Every item compared with every other, and mixed accordingly.
fn attention(g: &mut Graph, x: ValueId) -> Option<ValueId> {
    (g.elements(x) <= MAX_ELEMENTS / 8).then_some(())?;
    let x = g.flat(x);
    let alike = g.op(Matmul::DEF, &[x, x], Attrs::new().with("transpose_b", true));
    let alike = g.op(Softmax::DEF, &[alike], Attrs::new().with("axis", 1i64));
    Some(g.op(Matmul::DEF, &[alike, x], Attrs::new()))
}
