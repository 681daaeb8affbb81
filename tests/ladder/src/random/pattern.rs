//! Patterns of several ops as networks have them: residuals, branches, gates, attention.

use super::Numbers;
use super::build::{Graph, MAX_ELEMENTS, MAX_MACS};
use super::linear::same_size;
use qc_dialects::graph::{Add, Clip, Concat, Conv2d, GlobalAvgPool, Matmul, Mul, Relu, Slice, Softmax};
use qc_ir::{Attrs, ValueId};

/// The sum, perhaps the product, with another value of the same shape.
pub fn residual(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    let y = g.other(p[0], |d| d == dims).unwrap_or(x);
    let def = if p[1] % 4 == 3 { Mul::DEF } else { Add::DEF };
    let operands = if p[2].is_multiple_of(2) { [x, y] } else { [y, x] };
    let sum = g.op(def, &operands, Attrs::new());
    Some(if p[3].is_multiple_of(2) { g.op(Relu::DEF, &[sum], Attrs::new()) } else { sum })
}

/// Two convolutions of one value, summed with it and with each other: which of them takes the sum, and where the middle
/// is quantized, is for the compiler to find out.
pub fn two_residuals(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let [_, c, ..] = g.plane(x)?;
    let a = same_size(g, x, p, c)?;
    let a = if g.dims(a) == g.dims(x) { a } else { return Some(a) };
    let a = g.keep(a, p[7]);
    let first = g.op(Add::DEF, &[a, x], Attrs::new());
    let first = if p[2].is_multiple_of(2) { g.op(Relu::DEF, &[first], Attrs::new()) } else { first };
    let first = g.keep(first, p[7] / 5);
    let b = same_size(g, first, &[p[1], p[2], p[3], p[4], p[5], p[0], p[6]], c)?;
    let b = g.keep(b, p[7] / 25);
    let other = if p[3].is_multiple_of(2) { first } else { a };
    (g.dims(b) == g.dims(other)).then_some(())?;
    let operands = if p[2].is_multiple_of(3) { [b, other] } else { [other, b] };
    Some(g.op(Add::DEF, &operands, Attrs::new()))
}

/// Parts along the channels, some of them computed with, put together again.
pub fn split_and_join(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    let c = dims[1];
    (c >= 2).then_some(())?;
    let cut = 1 + p[0] as usize % (c - 1);
    let second = cut + (p[2] as usize % (c - cut)).max(1);
    let mut parts = Vec::new();
    for (n, (from, to)) in [(0, cut), (cut, second), (second, c)].into_iter().enumerate() {
        if from == to {
            continue;
        }
        let mut starts = vec![0i64; dims.len()];
        let mut ends: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        (starts[1], ends[1]) = (from as i64, to as i64);
        let steps = vec![1i64; dims.len()];
        let attrs = Attrs::new().with("starts", starts).with("ends", ends).with("steps", steps);
        let mut part = g.op(Slice::DEF, &[x], attrs);
        if p[3] >> n & 1 == 1 {
            part = g.keep(part, p[4] >> n);
        }
        part = match (p[5] >> (2 * n)) % 4 {
            0 => g.op(Relu::DEF, &[part], Attrs::new()),
            1 if g.plane(part).is_some() => {
                let made = same_size(g, part, p, to - from)?;
                g.keep(made, p[6] >> n)
            }
            _ => part,
        };
        parts.push(part);
    }
    if p[7].is_multiple_of(3) {
        parts.reverse();
    }
    Some(g.op(Concat::DEF, &parts, Attrs::new().with("axis", 1i64)))
}

/// A convolution that nothing reads beside a relu that goes on.
pub fn dead_branch(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let [_, c, ..] = g.plane(x)?;
    let dead = same_size(g, x, p, c)?;
    g.op(Relu::DEF, &[dead], Attrs::new());
    Some(g.op(Relu::DEF, &[x], Attrs::new()))
}

/// Channels weighted by what a small network says about their means.
pub fn squeeze_excite(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let [_, c, ..] = g.plane(x)?;
    let pooled = g.op(GlobalAvgPool::DEF, &[x], Attrs::new());
    let pooled = g.keep(pooled, p[1]);
    let mut n = Numbers::new(u64::from(p[2]));
    let weights = n.floats(c * c, 1.7 / (c as f32).sqrt());
    let mut operands = vec![pooled];
    g.parameters(&mut operands, &[c, c, 1, 1], 0, weights, &mut n, p[3]);
    let gate = g.op(Conv2d::DEF, &operands, Attrs::new());
    let gate = g.op(Clip::DEF, &[gate], Attrs::new().with("min", 0.0).with("max", 1.0));
    let gate = g.keep(gate, p[4]);
    Some(g.op(Mul::DEF, &[x, gate], Attrs::new()))
}

/// Every row of an item compared with every other, and rows mixed accordingly: products of two computed values.
pub fn attention(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let n = g.elements(x);
    let divisors: Vec<usize> =
        (1..=n).filter(|d| n.is_multiple_of(*d) && d * d <= MAX_ELEMENTS && n * d <= MAX_MACS).collect();
    let rows = *divisors.get(p[0] as usize % divisors.len().max(1))?;
    let x = g.reshaped(x, &[rows, n / rows]);
    let x = g.keep(x, p[7]);
    let alike = g.op(Matmul::DEF, &[x, x], Attrs::new().with("transpose_b", true));
    let alike = g.op(Softmax::DEF, &[alike], Attrs::new().with("axis", 2i64));
    let alike = g.keep(alike, p[7] / 5);
    let transposed = p[1].is_multiple_of(2);
    Some(g.op(Matmul::DEF, &[alike, x], Attrs::new().with("transpose_a", transposed)))
}
