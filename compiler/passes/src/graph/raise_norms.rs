//! Finds layer norms that a model writes out op by op.
//!
//! before  %m = graph.reduce_mean(%x)   %d = graph.sub(%x, %m)   %s = graph.mul(%d, %d)   %v = graph.reduce_mean(%s)
//!         %e = graph.add(%v, 1e-5)     %r = graph.sqrt(%e)      %t = graph.div(%d, %r)   %y = graph.add(graph.mul(%t, %g), %b)
//! after   %y = graph.layer_norm(%x, %g, %b) {epsilon = 1e-5}
//!
//! Found are the quotient, the product with an inverse root, and `x * r + (b - mean * r)` with `r = g / root`; norms by the
//! mean square; and factors and addends behind a norm. The differences from the mean may be computed twice. Nothing else
//! reads what is in between.

use super::{add_f32, constant, constant_f32, sole_producer, splat};
use qc_dialects::graph::{Add, Div, LayerNorm, Mul, ReduceMean, Sqrt, Sub};
use qc_ir::{Attrs, Diag, Keeps, Module, OpDef, OpId, Pass, PassCx, Pattern, Rewriter, Use, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "raise-norms",
    summary: "finds layer norms that are written out",
    from: "",
    to: "",
    keeps: Keeps::F32Rounding(1e-4),
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(
        m,
        &[
            Pattern { name: "norm-by-quotient", root: Div::DEF, apply: by_quotient },
            Pattern { name: "norm-by-product", root: Mul::DEF, apply: by_product },
            Pattern { name: "norm-by-line", root: Add::DEF, apply: by_line },
            Pattern { name: "factor-into-norm", root: Mul::DEF, apply: |rw, op| parameter(rw, op, 1) },
            Pattern { name: "addend-into-norm", root: Add::DEF, apply: |rw, op| parameter(rw, op, 2) },
        ],
    )
}

/// What is found of a norm, and the ops that compute it.
#[derive(Clone, Default, Debug)]
struct Found {
    ops: Vec<OpId>,
    /// What is normalised, and its mean where that is subtracted.
    x: Option<ValueId>,
    axis: usize,
    epsilon: f32,
    rms: bool,
}

/// The operands of an op of this kind that computes `v`.
fn operands(m: &Module, v: ValueId, def: &OpDef) -> Option<(OpId, [ValueId; 2])> {
    let op = m.producer(v).filter(|&op| m.def(op) == def)?;
    Some((op, [m.operand(op, 0)?, m.operand(op, 1)?]))
}

fn both(sides: [ValueId; 2]) -> [[ValueId; 2]; 2] {
    [sides, [sides[1], sides[0]]]
}

/// The mean over all dims from one on, which stay as 1: its operand and that dim.
fn mean(m: &Module, v: ValueId) -> Option<(OpId, ValueId, usize)> {
    let mean = ReduceMean::producing(m, v).filter(|mean| mean.keepdims(m))?;
    let mut axes: Vec<i64> = mean.axes(m).to_vec();
    axes.sort_unstable();
    let axis = usize::try_from(*axes.first()?).ok()?;
    let all = axes.iter().copied().eq(axis as i64..m.dims(mean.x(m)).len() as i64);
    all.then_some((mean.0, mean.x(m), axis))
}

/// `x - mean(x)`: both ops, `x`, the mean's first dim.
fn centred(m: &Module, v: ValueId) -> Option<([OpId; 2], ValueId, usize)> {
    let (sub, [x, mean_of_x]) = operands(m, v, Sub::DEF)?;
    let (op, of, axis) = mean(m, mean_of_x)?;
    (of == x).then_some(([sub, op], x, axis))
}

/// `sqrt(mean(d²) + epsilon)` with `d` being `x - mean(x)`, or `x` itself; gives `d` as the squares have it.
fn root(m: &Module, v: ValueId) -> Option<Found> {
    let root = Sqrt::producing(m, v)?;
    let mut found = Found { ops: vec![root.0], ..Found::default() };
    let mut variance = root.x(m);
    if let Some((add, [of, epsilon])) = operands(m, variance, Add::DEF) {
        found.epsilon = splat(m, epsilon).filter(|e| *e >= 0.0 && m.dims(of) == m.dims(variance))?;
        found.ops.push(add);
        variance = of;
    }
    let (op, squares, axis) = mean(m, variance)?;
    let (mul, [d, same]) = operands(m, squares, Mul::DEF)?;
    found.ops.extend([op, mul]);
    found.axis = axis;
    match (centred(m, d), centred(m, same)) {
        (Some((ops, x, first)), Some((twice, same, _))) if x == same && first == axis => {
            found.ops.extend(ops.into_iter().chain(twice));
            found.x = Some(x);
        }
        _ if d == same => (found.x, found.rms) = (Some(d), true),
        _ => return None,
    }
    Some(found)
}

/// `1 / root`.
fn inverse_root(m: &Module, v: ValueId) -> Option<Found> {
    let (div, [one, of]) = operands(m, v, Div::DEF)?;
    let mut found = root(m, of).filter(|_| splat(m, one) == Some(1.0))?;
    found.ops.push(div);
    Some(found)
}

/// The norm if `v` is what it normalises: `x` less its mean, or `x` itself.
fn of_differences(m: &Module, v: ValueId, mut found: Found) -> Option<Found> {
    if found.rms {
        // Of differences from the mean, the mean square is the variance.
        return (found.x == Some(v)).then_some(found);
    }
    let (ops, x, axis) = centred(m, v)?;
    found.ops.extend(ops);
    (found.x == Some(x) && found.axis == axis).then_some(found)
}

/// Whether only the ops found and `root` read what the ops compute.
fn is_closed(m: &Module, found: &Found, root: OpId) -> bool {
    let inside = |u: &Use| matches!(u, Use::Operand(op, _) if *op == root || found.ops.contains(op));
    found.ops.iter().all(|&op| m.uses(m.result(op)).iter().all(inside))
}

/// Puts the norm in place of `root`.
fn make(rw: &mut Rewriter<'_>, root: OpId, found: &Found, params: [Option<ValueId>; 2]) -> Option<()> {
    (is_closed(rw.m, found, root) && rw.m.dims(found.x?) == rw.m.dims(rw.m.result(root))).then_some(())?;
    let epsilon = f64::from(found.epsilon);
    let attrs = Attrs::new().with("axis", found.axis).with("epsilon", epsilon).with("rms", found.rms);
    let mut ops = found.ops.clone();
    ops.sort_unstable();
    ops.dedup();
    ops.push(root);
    let loc = rw.fuse_locs(&ops);
    let new = rw.create_at(root, loc, LayerNorm::DEF, &[found.x, params[0], params[1]], attrs)?;
    let (old, new) = (rw.m.result(root), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

/// `d / root`.
fn by_quotient(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let (d, v) = (rw.m.operand(op, 0)?, rw.m.operand(op, 1)?);
    let found = of_differences(rw.m, d, root(rw.m, v)?)?;
    make(rw, op, &found, [None; 2])
}

/// `d * (1 / root)`.
fn by_product(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let sides = [rw.m.operand(op, 0)?, rw.m.operand(op, 1)?];
    let found = both(sides).into_iter().find_map(|[d, r]| of_differences(rw.m, d, inverse_root(rw.m, r)?))?;
    make(rw, op, &found, [None; 2])
}

/// `x * r + (bias - mean * r)` with `r = scale / root`, or without a scale.
fn by_line(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let m = &*rw.m;
    let sides = [m.operand(op, 0)?, m.operand(op, 1)?];
    let (found, scale, bias) = both(sides).into_iter().find_map(|[line, rest]| {
        let (mul, factors) = operands(m, line, Mul::DEF)?;
        let (sub, [bias, shift]) = operands(m, rest, Sub::DEF)?;
        let (by_mean, means) = operands(m, shift, Mul::DEF)?;
        both(factors).into_iter().find_map(|[x, r]| {
            let [mean_of_x, _] = both(means).into_iter().find(|[_, other]| *other == r)?;
            let (op, of, axis) = mean(m, mean_of_x)?;
            let (mut found, scale) = scaled_inverse(m, r)?;
            let same = !found.rms && found.x == Some(x) && of == x && axis == found.axis;
            found.ops.extend([mul, sub, by_mean, op]);
            same.then_some((found, scale, bias))
        })
    })?;
    let own = m.dims(found.x?)[found.axis..].to_vec();
    let scale = match scale {
        Some(scale) => Some(shaped(rw, scale, &own)?),
        None => None,
    };
    let bias = shaped(rw, bias, &own)?;
    make(rw, op, &found, [scale, Some(bias)])
}

/// `scale / root`, or `1 / root`.
fn scaled_inverse(m: &Module, r: ValueId) -> Option<(Found, Option<ValueId>)> {
    if let Some(found) = inverse_root(m, r) {
        return Some((found, None));
    }
    let (mul, factors) = operands(m, r, Mul::DEF)?;
    let (mut found, scale) = both(factors).into_iter().find_map(|[v, scale]| Some((inverse_root(m, v)?, scale)))?;
    found.ops.push(mul);
    Some((found, Some(scale)))
}

/// A parameter with the dims `own`: the value, or a constant that broadcasts to them.
fn shaped(rw: &mut Rewriter<'_>, v: ValueId, own: &[usize]) -> Option<ValueId> {
    if rw.m.dims(v) == own {
        return Some(v);
    }
    constant(rw.m, v)?;
    let dims: Vec<usize> = rw.m.dims(v).to_vec();
    let skip = dims.len().saturating_sub(own.len());
    let (front, dims) = dims.split_at(skip);
    let fits = front.iter().all(|&d| d == 1) && dims.iter().rev().zip(own.iter().rev()).all(|(d, o)| d == o || *d == 1);
    let values = constant_f32(rw.m, v).filter(|_| fits)?;
    let spread = qc_dialects::graph::matmul::broadcast_index(dims, own).map(|i| values[i]).collect();
    add_f32(rw, "parameter", own, spread)
}

/// A factor (operand 1) or addend (operand 2) behind a norm that has none of it, nor of what comes behind it.
fn parameter(rw: &mut Rewriter<'_>, op: OpId, operand: usize) -> Option<()> {
    let m = &*rw.m;
    let sides = [m.operand(op, 0)?, m.operand(op, 1)?];
    let (norm, v) = both(sides).into_iter().find_map(|[x, v]| {
        let norm = LayerNorm::of(m, sole_producer(m, x, op)?)?;
        let free = (operand..3).all(|i| m.operand(norm.0, i).is_none());
        (free && m.dims(x) == m.dims(m.result(op))).then_some((norm, v))
    })?;
    // The new norm stands where the factor or addend is there.
    let own = m.dims(norm.x(m))[norm.axis(m) as usize..].to_vec();
    let mut slots = m.operands(norm.0).to_vec();
    slots.resize(3, None);
    let attrs = m.attrs(norm.0).clone();
    slots[operand] = Some(shaped(rw, v, &own)?);
    let loc = rw.fuse_locs(&[norm.0, op]);
    let new = rw.create_at(op, loc, LayerNorm::DEF, &slots, attrs)?;
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}
