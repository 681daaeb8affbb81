//! Steps that move elements.

use super::build::{Graph, MAX_ELEMENTS};
use qc_dialects::graph::{Concat, Expand, Pad, Relu, Resample, Slice, Sub, Take, Tanh, Transpose};
use qc_ir::{Attrs, HostTensor, ValueId};

/// Values one after the other: of one format or several, sometimes twice the same.
pub fn concat(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    let axis = if p[0].is_multiple_of(4) { 1 + p[1] as usize % (dims.len() - 1) } else { 1 };
    let fits = |d: &[usize]| d.len() == dims.len() && (0..d.len()).all(|i| i == axis || d[i] == dims[i]);
    let mut operands = vec![x];
    for pick in &p[2..3 + p[5] as usize % 3] {
        let total: usize = operands.iter().map(|&v| g.elements(v)).sum();
        operands.extend(g.other(*pick, fits).filter(|&v| total + g.elements(v) <= MAX_ELEMENTS));
    }
    if p[6].is_multiple_of(2) {
        operands.reverse();
    }
    Some(g.op(Concat::DEF, &operands, Attrs::new().with("axis", axis)))
}

/// A part of one dim, or of all.
pub fn slice(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    let mut starts = vec![0i64; dims.len()];
    let mut ends: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
    let mut steps = vec![1i64; dims.len()];
    let only = if p[0].is_multiple_of(3) { 1 + p[1] as usize % (dims.len() - 1) } else { 1 };
    for axis in 1..dims.len() {
        if axis == only || p[0].is_multiple_of(7) {
            starts[axis] = i64::from(p[2] >> axis) % ends[axis];
            ends[axis] -= i64::from(p[3] >> axis) % (ends[axis] - starts[axis]);
            steps[axis] = [1, 1, 1, 2, 3][(p[4] >> axis) as usize % 5];
        }
    }
    Some(g.op(Slice::DEF, &[x], Attrs::new().with("starts", starts).with("ends", ends).with("steps", steps)))
}

/// A channel shuffle.
pub fn shuffle(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let [_, c, h, w] = g.plane(x)?;
    let divisors: Vec<usize> = (1..=c).filter(|g| c % g == 0).collect();
    let groups = divisors[p[0] as usize % divisors.len()];
    let split = g.reshaped(x, &[groups, c / groups, h, w]);
    let swapped = g.op(Transpose::DEF, &[split], Attrs::new().with("perm", [0i64, 2, 1, 3, 4]));
    Some(g.reshaped(swapped, &[c, h, w]))
}

/// Dims of an item in another order.
pub fn transpose(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let rank = g.m.dims(x).len();
    let mut rest: Vec<i64> = (1..rank as i64).collect();
    let mut perm = vec![0i64];
    for pick in &p[..rank - 1] {
        perm.push(rest.remove(*pick as usize % rest.len()));
    }
    Some(g.op(Transpose::DEF, &[x], Attrs::new().with("perm", perm)))
}

/// The elements of an item under another shape.
pub fn reshape(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let n = g.elements(x);
    let divisors: Vec<usize> = (1..=n).filter(|d| n.is_multiple_of(*d)).collect();
    let a = divisors[p[0] as usize % divisors.len()];
    let rest = n / a;
    let inner: Vec<usize> = (1..=rest).filter(|d| rest.is_multiple_of(*d)).collect();
    let b = inner[p[1] as usize % inner.len()];
    Some(match p[2] % 4 {
        0 => g.reshaped(x, &[n]),
        1 => g.reshaped(x, &[a, n / a]),
        _ => g.reshaped(x, &[a, b, rest / b]),
    })
}

/// Every element several times along a dim of its own, which may come to lie within another.
pub fn expand(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    let (axis, count) = (1 + p[0] as usize % (dims.len() - 1), 2 + p[1] as usize % 3);
    (g.elements(x) * count <= MAX_ELEMENTS && dims.len() < 6).then_some(())?;
    let mut shape = dims.clone();
    shape.insert(axis, 1);
    let apart = g.reshaped(x, &shape[1..]);
    shape[axis] = count;
    let to: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    let repeated = g.op(Expand::DEF, &[apart], Attrs::new().with("shape", to));
    let mut joined = dims[1..].to_vec();
    joined[axis - 1] *= count;
    Some(g.reshaped(repeated, &joined))
}

/// A constant around the elements, mostly zeros around planes.
pub fn pad(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    let rank = dims.len();
    let mut pads = vec![0i64; 2 * rank];
    for i in 1..rank {
        let spatial = i >= 2 || p[0].is_multiple_of(4);
        pads[i] = if spatial { i64::from(p[1] >> (2 * i) & 1) } else { 0 };
        pads[rank + i] = if spatial { i64::from(p[1] >> (2 * i + 1) & 1) } else { 0 };
    }
    let grown: usize = (1..rank).map(|i| dims[i] + (pads[i] + pads[rank + i]) as usize).product();
    (grown <= MAX_ELEMENTS).then_some(())?;
    let value = if p[2].is_multiple_of(3) { 0.5 } else { 0.0 };
    Some(g.op(Pad::DEF, &[x], Attrs::new().with("pads", pads).with("value", value)))
}

/// Places of one dim in any order, some of them twice, as resizing and padding by elements choose them.
pub fn take(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    if dims.len() == 4 && p[4].is_multiple_of(3) {
        return nearest(g, x, p);
    }
    let axis = 1 + p[0] as usize % (dims.len() - 1);
    let count = 1 + p[1] as usize % (2 * dims[axis] + 2);
    (g.elements(x) / dims[axis] * count <= MAX_ELEMENTS).then_some(())?;
    let place = |i: usize| match p[2] % 3 {
        0 => i * dims[axis] / count,
        1 => dims[axis] - 1 - i % dims[axis],
        _ => (p[3] as usize).wrapping_mul(i + 1) % dims[axis],
    };
    let places = g.stored(HostTensor::i32([count], (0..count).map(|i| place(i) as i32).collect()));
    Some(g.op(Take::DEF, &[x], Attrs::new().with("axis", axis).with("places", places)))
}

/// Pixels that are repeated, as a resize to a multiple of the size does, together with what is computed from them.
fn nearest(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let times = [1 + p[0] as usize % 3, 1 + p[1] as usize % 3];
    (g.elements(x) * times[0] * times[1] <= MAX_ELEMENTS).then_some(())?;
    let repeated = |g: &mut Graph, x: ValueId| {
        [2, 3].into_iter().zip(times).fold(x, |x, (axis, times)| {
            let count = g.dims(x)[axis] * times;
            let places = g.stored(HostTensor::i32([count], (0..count).map(|i| (i / times) as i32).collect()));
            g.op(Take::DEF, &[x], Attrs::new().with("axis", axis).with("places", places))
        })
    };
    let pixels = repeated(g, x);
    if p[2].is_multiple_of(3) {
        return Some(pixels);
    }
    let other = g.op(Relu::DEF, &[x], Attrs::new());
    let other = repeated(g, other);
    let other = g.op(Tanh::DEF, &[other], Attrs::new());
    let sides = if p[3].is_multiple_of(2) { [pixels, other] } else { [other, pixels] };
    Some(g.op(Sub::DEF, &sides, Attrs::new()))
}

/// Weighted sums of neighbours along one dim or two.
pub fn resample(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let mut dims = g.dims(x);
    let rank = dims.len();
    let first = 1 + p[0] as usize % (rank - 1);
    let mut all = vec![first];
    all.extend((p[1].is_multiple_of(2) && rank > 2).then(|| 1 + first % (rank - 1)));
    let [mut sizes, mut taps, mut axes] = [vec![], vec![], vec![]];
    let (mut places, mut weights) = (Vec::new(), Vec::new());
    for (k, axis) in all.into_iter().enumerate() {
        let (size, n) = (1 + p[2 + k] as usize % 9, 1 + p[4 + k] as usize % 3);
        let from = std::mem::replace(&mut dims[axis], size);
        for i in 0..size * n {
            places.push(((i / n * from / size + i % n) % from) as i32);
            let weight = (p[6] >> (i % 16) & 3) as f32 - 1.0;
            weights.push(weight / n as f32);
        }
        axes.push(axis as i64);
        sizes.push(size as i64);
        taps.push(n as i64);
    }
    (dims[1..].iter().product::<usize>() <= MAX_ELEMENTS).then_some(())?;
    let places = g.stored(HostTensor::i32([places.len()], places));
    let weights = g.stored(HostTensor::f32([weights.len()], weights));
    let attrs = Attrs::new().with("axes", axes).with("sizes", sizes).with("taps", taps);
    Some(g.op(Resample::DEF, &[x], attrs.with("places", places).with("weights", weights)))
}
