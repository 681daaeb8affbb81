//! Moves sums and products with constants, and activations, in front of the movement behind a convolution or matrix product,
//! where they can become part of it. Transposed convolutions end with such a movement. The patterns run in `canonicalize`.
//!
//! before  %c = graph.conv2d(%x, %w)  %r = graph.reshape(%c)  %t = graph.transpose(%r)  %y = graph.add(%t, @b)
//! after   %c = graph.conv2d(%x, %w)  %s = graph.add(%c, @b2)  %r = graph.reshape(%s)  %y = graph.transpose(%r)
//!
//! Exact: an element-wise op treats an element alike wherever it lies. Only where nothing else reads what lies between, and where
//! the constant is one number per output channel there.

use super::{add_f32, constant_f32, is_constant_f32, sole_producer, unclamped};
use qc_dialects::graph::{Add, Clip, Conv2d, Linear, Mul, Relu, Reshape, Slice, Transpose};
use qc_ir::{Module, OpId, Pattern, Rewriter, ValueId, indices, strides};
use std::ops::Range;

/// The patterns.
pub const PATTERNS: [Pattern; 4] = [
    Pattern { name: "add-before-movement", root: Add::DEF, apply: before_movement },
    Pattern { name: "mul-before-movement", root: Mul::DEF, apply: before_movement },
    Pattern { name: "relu-before-movement", root: Relu::DEF, apply: before_movement },
    Pattern { name: "clip-before-movement", root: Clip::DEF, apply: before_movement },
];

/// Movements that are looked at in front of an op.
const LOOKED_AT: usize = 8;

fn before_movement(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let x = rw.m.operand(op, 0)?;
    (rw.m.ty(x) == rw.m.ty(rw.m.result(op))).then_some(())?;
    let (source, axis, movements) = behind_linear(rw.m, x, op)?;
    let mut operands = vec![Some(source)];
    if let Some(c) = rw.m.operand(op, 1) {
        let constant = PerChannel::of(rw.m, c, x)?.in_front_of(rw.m, &movements, axis)?;
        operands.push(Some(add_f32(rw, "moved", &constant.dims, constant.values)?));
    }
    let (def, attrs) = (rw.m.def(op), rw.m.attrs(op).clone());
    let new = rw.create(def, &operands, attrs)?;
    let mut v = rw.m.result(new);
    for &movement in movements.iter().rev() {
        let (def, attrs, loc) = (rw.m.def(movement), rw.m.attrs(movement).clone(), rw.m.loc(movement));
        let moved = rw.create_at(op, loc, def, &[Some(v)], attrs)?;
        v = rw.m.result(moved);
    }
    let old = rw.m.result(op);
    rw.replace(old, v);
    Some(())
}

/// What lies in front of the movements that give `v` for `user`, the axis of its channels, and the movements, the last one
/// first: the result of a convolution or product, or of a constant that is about to become part of one.
fn behind_linear(m: &Module, v: ValueId, user: OpId) -> Option<(ValueId, usize, Vec<OpId>)> {
    let mut op = sole_producer(m, v, user)?;
    let mut movements = Vec::new();
    while [Reshape::DEF, Transpose::DEF, Slice::DEF].iter().any(|d| m.is(op, d)) {
        movements.push(op);
        (movements.len() <= LOOKED_AT).then_some(())?;
        op = sole_producer(m, m.operand(op, 0)?, op)?;
    }
    let source = m.result(op);
    for _ in 0..LOOKED_AT {
        if ![Add::DEF, Mul::DEF].iter().any(|d| m.is(op, d)) || !is_constant_f32(m, m.operand(op, 1)?) {
            break;
        }
        op = sole_producer(m, m.operand(op, 0)?, op)?;
    }
    let axis = if m.is(op, Conv2d::DEF) { 1 } else { m.dims(source).len().checked_sub(1)? };
    let open = Linear::is(m, op) && unclamped(m, op) && m.dims(m.result(op)) == m.dims(source);
    (!movements.is_empty() && open).then_some((source, axis, movements))
}

/// A constant that broadcasts to a tensor of its rank.
struct PerChannel {
    dims: Vec<usize>,
    values: Vec<f32>,
}

impl PerChannel {
    /// The constant `c`, which is combined with `x`.
    fn of(m: &Module, c: ValueId, x: ValueId) -> Option<PerChannel> {
        let values = constant_f32(m, c)?;
        let missing = m.dims(x).len().checked_sub(m.dims(c).len())?;
        let dims = std::iter::repeat_n(1, missing).chain(m.dims(c).iter().copied()).collect();
        Some(PerChannel { dims, values })
    }

    /// The same in front of `movements`, if it has one number per index of `axis` there.
    fn in_front_of(mut self, m: &Module, movements: &[OpId], axis: usize) -> Option<PerChannel> {
        let most = m.dims(m.operand(*movements.last()?, 0)?)[axis];
        for &movement in movements {
            let (before, behind) = (m.dims(m.operand(movement, 0)?), m.dims(m.result(movement)));
            self = match Transpose::of(m, movement) {
                Some(transpose) => self.before_transpose(&transpose.perm(m)),
                None if m.is(movement, Slice::DEF) => self.before_slice(before, behind)?,
                None => self.before_reshape(before, behind, most)?,
            };
        }
        let fits = self.dims.iter().enumerate().all(|(d, &n)| n == 1 || d == axis);
        fits.then_some(self)
    }

    fn before_transpose(self, perm: &[i64]) -> PerChannel {
        let mut dims = vec![1; perm.len()];
        let mut by = vec![0; perm.len()];
        for ((&n, stride), &axis) in self.dims.iter().zip(strides(&self.dims)).zip(perm) {
            (dims[axis as usize], by[axis as usize]) = (n, stride);
        }
        let at = |i: Vec<usize>| self.values[i.iter().zip(&by).map(|(i, s)| i * s).sum::<usize>()];
        PerChannel { values: indices(&dims).map(at).collect(), dims }
    }

    /// Where it is the same for all that is cut off.
    fn before_slice(self, before: &[usize], behind: &[usize]) -> Option<PerChannel> {
        self.dims.iter().zip(before.iter().zip(behind)).all(|(&n, (a, b))| n == 1 || a == b).then_some(self)
    }

    /// With at most `most` numbers.
    fn before_reshape(self, before: &[usize], behind: &[usize], most: usize) -> Option<PerChannel> {
        let (mut dims, mut full) = (Vec::new(), self.dims.clone());
        for (from, to) in runs(before, behind) {
            if self.dims[to.clone()].iter().all(|&n| n == 1) {
                dims.extend(from.map(|_| 1));
            } else {
                full[to.clone()].copy_from_slice(&behind[to]);
                dims.extend_from_slice(&before[from]);
            }
        }
        full.iter().try_fold(1, |n: usize, &d| n.checked_mul(d)).filter(|&n| n <= most)?;
        let own = strides(&self.dims);
        let place = |i: Vec<usize>| (0..i.len()).filter(|&d| self.dims[d] != 1).map(|d| i[d] * own[d]).sum::<usize>();
        Some(PerChannel { dims, values: indices(&full).map(|i| self.values[place(i)]).collect() })
    }
}

/// Dims `a` and `b` of one tensor, cut into runs that hold the same elements.
fn runs(a: &[usize], b: &[usize]) -> Vec<(Range<usize>, Range<usize>)> {
    let (mut i, mut j, mut all) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        let (from, to) = (i, j);
        let (mut left, mut right) = (1, 1);
        loop {
            if i < a.len() && (left <= right || j == b.len()) {
                left *= a[i];
                i += 1;
            } else if j < b.len() {
                right *= b[j];
                j += 1;
            } else {
                break;
            }
            if left == right {
                break;
            }
        }
        all.push((from..i, to..j));
    }
    all
}
