//! Boxes that overlap no better one. Which they are depends on all items, so such a model runs whole batches.

use super::build::Graph;
use qc_dialects::graph::{Add, Cast, MatrixNms, Nms, ReduceMean, Reshape, Slice};
use qc_ir::{Attrs, Elem, Type, ValueId};

/// The mean of a table of chosen boxes, added to every element of `x`, each of whose items is a picture: boxes and scores.
pub fn chosen(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let (items, elements, rank) = (g.dims(x)[0], g.elements(x), g.dims(x).len());
    let classes = 1 + p[0] as usize % 3;
    let size = (elements / (4 + classes)).min(12);
    (size > 0).then_some(())?;
    let flat = g.flat(x);
    let part = |g: &mut Graph, from: usize, to: usize| {
        let (starts, ends) = ([0, from as i64], [items as i64, to as i64]);
        g.op(Slice::DEF, &[flat], Attrs::new().with("starts", starts).with("ends", ends).with("steps", [1i64, 1]))
    };
    let (boxes, scores) = (part(g, 0, 4 * size), part(g, 4 * size, (4 + classes) * size));
    let (boxes, scores) = (reshaped(g, boxes, &[items, size, 4]), reshaped(g, scores, &[items, classes, size]));
    let form = ["any", "centred", "ordered", "pixels"][p[1] as usize % 4];
    let limit = i64::from(p[3] % 6) - 1;
    let attrs = Attrs::new().with("form", form).with("score", 0.01).with("limit", limit);
    let attrs = attrs.with("keep", i64::from(p[4] % 9) - 1).with("background", i64::from(p[5] % 2) - 1);
    let table = if p[2].is_multiple_of(2) {
        let attrs = attrs.with("iou", 0.3).with("each", i64::from(p[6] % 5) - 1);
        let table = g.op(Nms::DEF, &[boxes, scores], attrs.with("eta", 0.9));
        g.op(Cast::DEF, &[table], Attrs::new().with("to", Type::Scalar(Elem::F32)))
    } else {
        let sigma = f64::from(p[6] % 3) / 2.0;
        g.op(MatrixNms::DEF, &[boxes, scores], attrs.with("post", 0.005).with("sigma", sigma))
    };
    let mean = g.op(ReduceMean::DEF, &[table], Attrs::new().with("axes", [0i64, 1]).with("keepdims", false));
    let mean = reshaped(g, mean, &vec![1; rank]);
    Some(g.op(Add::DEF, &[x, mean], Attrs::new()))
}

fn reshaped(g: &mut Graph, x: ValueId, dims: &[usize]) -> ValueId {
    let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
    g.op(Reshape::DEF, &[x], Attrs::new().with("shape", shape))
}
