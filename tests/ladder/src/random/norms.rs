//! What is normalized over an axis, with the sums and products in front of it that become part of its step.

use super::Numbers;
use super::build::Graph;
use qc_dialects::graph::{Add, LayerNorm, Lrn, Mul, Softmax};
use qc_ir::{Attrs, ValueId};

/// A softmax along any axis of an item.
pub fn softmax(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let axis = 1 + p[1] as usize % (g.m.dims(x).len() - 1);
    Some(g.op(Softmax::DEF, &[x], Attrs::new().with("axis", axis)))
}

/// A softmax of scores with a factor, a mask or both. The mask repeats along some dims; others may read the sum.
pub fn masked_softmax(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let mut n = Numbers::new(u64::from(p[0]));
    let mut scores = x;
    if !p[1].is_multiple_of(3) {
        let factor = g.floats(&[], vec![[0.125, -0.5, 2.0][p[2] as usize % 3]]);
        scores = g.op(Mul::DEF, &[scores, factor], Attrs::new());
    }
    if p[1] % 3 < 2 {
        let dims = g.dims(x);
        let own: Vec<usize> =
            dims.iter().enumerate().map(|(i, &d)| if i > 0 && p[3] >> i & 1 == 0 { d } else { 1 }).collect();
        let least = [-10000.0, f32::MIN, -3.0][p[4] as usize % 3];
        let values = (0..own.iter().product()).map(|_| if n.below(4) == 0 { least } else { 0.0 }).collect();
        let mask = g.floats(&own, values);
        let sides = if p[5].is_multiple_of(2) { [scores, mask] } else { [mask, scores] };
        scores = g.op(Add::DEF, &sides, Attrs::new());
    }
    if p[6].is_multiple_of(5) {
        scores = g.keep(scores, p[6] / 5);
    }
    softmax(g, scores, &[0, p[7]])
}

/// A layer norm over the last dims, of a sum or not, with parameters or not. Rows that hardly vary are not made larger than
/// rounding allows.
pub fn layer_norm(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    let axis = 1 + p[0] as usize % (dims.len() - 1);
    let mut x = x;
    if p[1].is_multiple_of(2) {
        let whole = |d: &[usize]| d == dims;
        let other = g.other(p[2], whole)?;
        x = g.op(Add::DEF, &[x, other], Attrs::new());
        x = if p[3].is_multiple_of(2) { x } else { g.keep(x, p[3]) };
    }
    let mut n = Numbers::new(u64::from(p[4]));
    let size = dims[axis..].iter().product();
    let mut operands = vec![x];
    for _ in 0..p[5] % 3 {
        let values = n.floats(size, 1.5);
        operands.push(g.floats(&dims[axis..], values));
    }
    let attrs = Attrs::new().with("axis", axis).with("epsilon", 0.01).with("rms", p[6].is_multiple_of(3));
    Some(g.op(LayerNorm::DEF, &operands, attrs))
}

/// A local response normalization, which is made for images.
pub fn lrn(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    g.plane(x)?;
    let attrs = Attrs::new().with("size", 1 + i64::from(p[1] % 5)).with("alpha", 0.1);
    Some(g.op(Lrn::DEF, &[x], attrs.with("beta", 0.75).with("bias", 1.0 + f64::from(p[2] % 2))))
}
