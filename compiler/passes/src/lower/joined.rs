//! Element-wise ops that are part of the step of the layer norm or softmax behind them.
//!
//! before  %s = graph.add(%x, %r)   %y = graph.layer_norm(%s)      %m = graph.mul(%q, 0.125)  %t = graph.add(%m, %mask)  %p = graph.softmax(%t)
//! after   one step; %s has memory if others read it               one step; %m and %t have no memory
//!
//! Kernels round what they add and multiply as an op of its own would, so nothing changes but the memory that moves.

use crate::graph::{constant, sole_producer, splat};
use qc_dialects::graph::{Add, LayerNorm, Mul, Softmax};
use qc_ir::{Module, OpId, Use, ValueId};
use std::collections::{HashMap, HashSet};

/// Readers of a sum that are looked at for its norm.
const LOOKED_AT: usize = 32;

/// What a layer norm normalises, where that is a sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sum {
    /// The addition.
    pub add: OpId,
    /// Its operands.
    pub terms: [ValueId; 2],
    /// Whether others read the sum, too.
    pub is_kept: bool,
}

impl Sum {
    /// The sum that is part of the step of a norm.
    pub fn in_front_of(m: &Module, norm: LayerNorm) -> Option<Sum> {
        let add = Add::producing(m, norm.x(m))?;
        let (x, terms) = (add.out(m), [add.lhs(m), add.rhs(m)]);
        let (dims, axis) = (m.dims(x), norm.axis(m) as usize);
        // Images lie channels-last, so their sums are not those of rows.
        let in_rows = dims.len() != 4 || axis == 3;
        let has_rows = |v: &ValueId| m.dims(*v).len() >= dims.len() - axis && m.dims(*v).ends_with(&dims[axis..]);
        (in_rows && terms.iter().all(has_rows)).then_some(())?;
        let is_kept = m.only_user(x) != Some(norm.0);
        // A sum that others read is written where it stands, so all that the norm reads is there; by the first norm.
        let given = |v: Option<ValueId>| v.is_none_or(|v| constant(m, v).is_some());
        let first = || {
            m.uses(x)
                .iter()
                .take(LOOKED_AT)
                .find_map(|u| if let Use::Operand(op, _) = u { LayerNorm::of(m, *op) } else { None })
        };
        let fits = !is_kept || (first() == Some(norm) && given(norm.scale(m)) && given(norm.bias(m)));
        fits.then_some(Sum { add: add.0, terms, is_kept })
    }
}

/// What a softmax is of: `x * factor + mask`.
#[derive(Clone, PartialEq, Debug)]
pub struct Scores {
    /// The scores.
    pub x: ValueId,
    /// Their factor; 0 for none.
    pub factor: f32,
    /// What is added.
    pub mask: Option<ValueId>,
    /// The ops that do so.
    pub ops: Vec<OpId>,
}

impl Scores {
    /// The product and the sum in front of a softmax that nothing else reads.
    pub fn of(m: &Module, softmax: Softmax) -> Scores {
        let plain = |x| Scores { x, factor: 0.0, mask: None, ops: Vec::new() };
        let x = softmax.x(m);
        if let Some(scaled) = scaled(m, x, softmax.0) {
            return scaled;
        }
        let Some(add) = sole_producer(m, x, softmax.0).and_then(|op| Add::of(m, op)) else { return plain(x) };
        let sides = [(add.lhs(m), add.rhs(m)), (add.rhs(m), add.lhs(m))];
        let whole = sides.into_iter().filter(|(scores, mask)| m.dims(*scores) == m.dims(x) && scores != mask);
        let with_factor = whole.clone().find_map(|(scores, mask)| Some((scaled(m, scores, add.0)?, mask)));
        let found = with_factor.or_else(|| whole.map(|(scores, mask)| (plain(scores), mask)).next());
        found.map_or_else(
            || plain(x),
            |(mut scores, mask)| {
                scores.ops.push(add.0);
                Scores { mask: Some(mask), ..scores }
            },
        )
    }
}

/// A product with one number, of which `user` is the only reader.
fn scaled(m: &Module, v: ValueId, user: OpId) -> Option<Scores> {
    let mul = Mul::of(m, sole_producer(m, v, user)?)?;
    let factor = splat(m, mul.rhs(m)).filter(|f| f.is_normal() && m.dims(mul.lhs(m)) == m.dims(v))?;
    Some(Scores { x: mul.lhs(m), factor, mask: None, ops: vec![mul.0] })
}

/// All such ops of a module.
#[derive(Default, Debug)]
pub struct Joined {
    /// Ops that are part of another's step.
    parts: HashSet<OpId>,
    /// Their results, which no memory holds.
    nowhere: HashSet<ValueId>,
    /// Parts of a softmax.
    in_softmax: HashSet<OpId>,
    /// By addition: the norm that is computed with it.
    norms: HashMap<OpId, LayerNorm>,
}

impl Joined {
    /// Those of the main function.
    pub fn of(m: &Module) -> Joined {
        let mut joined = Joined::default();
        for &op in m.ops(m.body()) {
            if let Some(norm) = LayerNorm::of(m, op)
                && let Some(sum) = Sum::in_front_of(m, norm)
            {
                if sum.is_kept {
                    joined.norms.insert(sum.add, norm);
                    joined.parts.insert(op);
                } else {
                    joined.parts.insert(sum.add);
                    joined.nowhere.insert(m.result(sum.add));
                }
            } else if let Some(softmax) = Softmax::of(m, op) {
                let ops = Scores::of(m, softmax).ops;
                joined.nowhere.extend(ops.iter().map(|&op| m.result(op)));
                joined.parts.extend(&ops);
                joined.in_softmax.extend(ops);
            }
        }
        joined
    }

    /// Whether an op is part of the step of another.
    pub fn has_no_step(&self, op: OpId) -> bool {
        self.parts.contains(&op)
    }

    /// Whether a tensor is only inside a step.
    pub fn has_no_memory(&self, v: ValueId) -> bool {
        self.nowhere.contains(&v)
    }

    /// Whether an op is part of a softmax.
    pub fn is_in_softmax(&self, op: OpId) -> bool {
        self.in_softmax.contains(&op)
    }

    /// The norm that is computed together with an addition, in its place.
    pub fn norm_with(&self, add: OpId) -> Option<LayerNorm> {
        self.norms.get(&add).copied()
    }
}
