//! Ops that are part of the step of an op behind them: sums and factors of a layer norm or softmax, the bias of a function,
//! terms of a sum of embeddings, and element-wise ops in a row. What is part of a step in front of it, see `gate.rs`.
//!
//! before  %s = graph.add(%x, %r)   %y = graph.layer_norm(%s)      %m = graph.mul(%q, 0.125)  %t = graph.add(%m, %mask)  %p = graph.softmax(%t)
//! after   one step; %s has memory if others read it               one step; %m and %t have no memory
//!
//! before  %s = graph.add(%x, @bias)   %y = graph.gelu(%s)
//! after   one step; %s has no memory
//!
//! before  %a = graph.gather(@words, %i)  %b = graph.gather(@types, %j)  %s = graph.add(%a, %b)
//! after   one step; %a and %b have no memory
//!
//! before  %p = graph.mul(%x, %g)  %s = graph.add(%p, %x)  %y = graph.relu(%s)
//! after   one step, by `chain.rs`; %p and %s have no memory
//!
//! Kernels round what they add and multiply as an op of its own would, so nothing changes but the memory that moves.

use super::gate::Gated;
use super::repeat::Repeated;
use crate::graph::{constant, sole_producer, splat};
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::{Add, Binary, Clamp, Conv2d, Dequantize, Gather, LayerNorm, Mul, Quantize, Softmax, Take};
use qc_dialects::quant::QEmbedding;
use qc_ir::{Elem, Module, OpId, Use, ValueId};
use std::collections::{HashMap, HashSet};

/// Readers of a sum that are looked at for its norm.
const LOOKED_AT: usize = 32;
/// Embeddings of one step, at most.
const MOST_EMBEDDINGS: usize = 16;

/// Element-wise ops of one step, at most: what machine code is made for at once stays small.
const MOST_IN_A_ROW: usize = 16;

/// A sum of embeddings: rows of tables, added in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Embeddings {
    /// What the first rows are added to.
    pub first: Option<ValueId>,
    /// The ops that choose rows.
    pub gathers: Vec<OpId>,
    /// These and the additions in between, all but the last.
    pub ops: Vec<OpId>,
}

impl Embeddings {
    /// The sum that ends with `add`, of two embeddings at least.
    pub fn of(m: &Module, add: Add) -> Option<Embeddings> {
        let next = m.only_user(add.out(m)).and_then(|user| Embeddings::up_to(m, Add::of(m, user)?, 1));
        let ends_here = next.is_none_or(|next| !next.ops.contains(&add.0));
        // Kernels of two operands store bytes; that of embeddings does not.
        let quantized = m.uses(add.out(m)).iter().any(|u| matches!(u, Use::Operand(op, _) if m.is(*op, Quantize::DEF)));
        let sum = Embeddings::up_to(m, add, MOST_EMBEDDINGS)?;
        (ends_here && !quantized && sum.gathers.len() > 1).then_some(sum)
    }

    /// The sum with at most `left` additions in front of `add`, whatever becomes of it.
    fn up_to(m: &Module, add: Add, left: usize) -> Option<Embeddings> {
        let sides = [add.lhs(m), add.rhs(m)];
        let [rest, rows] = match sides.map(|v| embedding(m, v, add).is_some()) {
            [_, true] => sides,
            [true, false] => [sides[1], sides[0]],
            [false, false] => return None,
        };
        let dims = m.dims(add.out(m));
        (m.dims(rest) == dims && m.dims(rows) == dims).then_some(())?;
        let before = sole_producer(m, rest, add.0).and_then(|op| Add::of(m, op)).filter(|_| left > 0);
        let longer = before.and_then(|before| Some((before, Embeddings::up_to(m, before, left - 1)?)));
        let mut sum = match (longer, embedding(m, rest, add)) {
            (Some((before, mut sum)), _) => {
                sum.ops.push(before.0);
                sum
            }
            (None, Some(op)) => Embeddings { first: None, gathers: vec![op], ops: vec![op] },
            // A dequantization may have no memory.
            (None, None) if Dequantize::producing(m, rest).is_some() => return None,
            (None, None) => Embeddings { first: Some(rest), gathers: Vec::new(), ops: Vec::new() },
        };
        let op = m.producer(rows)?;
        sum.gathers.push(op);
        sum.ops.push(op);
        Some(sum)
    }
}

/// The op that gives `v` if it chooses rows of a table and only `user` reads them.
fn embedding(m: &Module, v: ValueId, user: Add) -> Option<OpId> {
    let op = sole_producer(m, v, user.0)?;
    // Images lie channels-last, so their rows are others.
    (m.dims(v).len() < 4).then_some(())?;
    let of_rows = |gather: Gather| {
        let table = m.tensor_ty(gather.x(m));
        table.elem == Elem::F32 && table.dims.len() == 2 && gather.dim(m) == Ok(0)
    };
    let chooses =
        Gather::of(m, op).is_some_and(of_rows) || QEmbedding::of(m, op).is_some_and(|e| m.dims(e.table(m)).len() == 2);
    chooses.then_some(op)
}

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
        let add = Add::producing(m, norm.x(m)).filter(|add| Embeddings::of(m, *add).is_none())?;
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
        let add = sole_producer(m, x, softmax.0).and_then(|op| Add::of(m, op));
        let Some(add) = add.filter(|add| Embeddings::of(m, *add).is_none()) else { return plain(x) };
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

/// What a function is of, where that is a sum with numbers of a row: `x + addend`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Biased {
    /// The addition.
    pub add: OpId,
    /// What has the dims of the sum.
    pub x: ValueId,
    /// A constant for each element of the last dim.
    pub addend: ValueId,
}

impl Biased {
    /// The sum in front of a function or clamp that nothing else reads.
    pub fn in_front_of(m: &Module, op: OpId) -> Option<Biased> {
        (Function::of(m, op).is_some() || Clamp::is(m, op)).then_some(())?;
        let add = Add::of(m, sole_producer(m, m.operand(op, 0)?, op)?)?;
        let dims = m.dims(add.out(m));
        // Images lie channels-last, so their rows are others.
        let row = *dims.last().filter(|_| dims.len() != 4)?;
        let is_row = |v: ValueId| {
            let own = m.dims(v);
            own.last() == Some(&row) && own.iter().product::<usize>() == row && constant(m, v).is_some()
        };
        let sides = [(add.lhs(m), add.rhs(m)), (add.rhs(m), add.lhs(m))];
        let (x, addend) = sides.into_iter().find(|&(x, addend)| m.dims(x) == dims && is_row(addend))?;
        Embeddings::of(m, add).is_none().then_some(Biased { add: add.0, x, addend })
    }
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
    /// By last addition.
    sums: HashMap<OpId, Embeddings>,
    /// By last op: element-wise ops of floats, each the only reader of the one before.
    rows: HashMap<OpId, Vec<OpId>>,
    /// What element-wise ops read as repeated elements of other tensors.
    repeated: HashMap<ValueId, Repeated>,
}

impl Joined {
    /// Those of the main function and its regions.
    pub fn of(m: &Module) -> Joined {
        let mut joined = Joined::default();
        for op in m.walk(m.body()) {
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
            } else if let Some(gated) = Conv2d::of(m, op).and_then(|conv| Gated::behind(m, conv)) {
                joined.nowhere.insert(m.result(op));
                joined.nowhere.extend(gated.ops.iter().map(|&op| m.result(op)).filter(|v| *v != gated.result));
                joined.parts.extend(gated.ops);
            } else if let Some(biased) = Biased::in_front_of(m, op) {
                joined.parts.insert(biased.add);
                joined.nowhere.insert(m.result(biased.add));
            } else if let Some(sum) = Add::of(m, op).and_then(|add| Embeddings::of(m, add)) {
                joined.nowhere.extend(sum.ops.iter().map(|&op| m.result(op)));
                joined.parts.extend(&sum.ops);
                joined.sums.insert(op, sum);
            }
        }
        joined.put_rows(m);
        joined.put_repeated(m);
        joined
    }

    /// Element-wise ops in a row, of those that are no part of other steps.
    fn put_rows(&mut self, m: &Module) {
        for op in m.walk(m.body()).into_iter().filter(|&op| Joined::is_real(m, op)) {
            let v = m.result(op);
            // A result that is stored as bytes is no place for what comes before.
            let quantized = m.only_user(v).is_some_and(|user| m.is(user, Quantize::DEF));
            if quantized || self.is_elsewhere(m, op) {
                continue;
            }
            let before = m.operands(op).iter().flatten().find_map(|&x| {
                let before = sole_producer(m, x, op).filter(|&p| Joined::is_real(m, p) && m.dims(x) == m.dims(v))?;
                let short = self.rows.get(&before).is_none_or(|row| row.len() < MOST_IN_A_ROW);
                (short && !self.is_elsewhere(m, before)).then_some(before)
            });
            if let Some(before) = before {
                let mut row = self.rows.remove(&before).unwrap_or_else(|| vec![before]);
                row.push(op);
                self.parts.insert(before);
                self.nowhere.insert(m.result(before));
                self.rows.insert(op, row);
            }
        }
    }

    /// Takes that repeat elements: those that read one another, and what one element-wise op reads.
    fn put_repeated(&mut self, m: &Module) {
        let last_of = self.rows.iter().flat_map(|(&last, row)| row.iter().map(move |&op| (op, last)));
        let last_of: HashMap<OpId, OpId> = last_of.collect();
        // The loops of a step have the dims of one such tensor.
        let mut steps = HashSet::new();
        for op in m.walk(m.body()) {
            let Some(repeated) = Take::of(m, op).and_then(|take| Repeated::of(m, take)) else { continue };
            let v = m.result(op);
            self.parts.extend(&repeated.before);
            self.nowhere.extend(repeated.before.iter().map(|&op| m.result(op)));
            let reader = m.only_user(v).filter(|&user| Binary::is(m, user) && m.dims(m.result(user)) == m.dims(v));
            let in_row = |user: &OpId| last_of.contains_key(user) || !self.is_elsewhere(m, *user);
            let step = reader.filter(in_row).map(|user| last_of.get(&user).copied().unwrap_or(user));
            // Images have the channels of a pixel together, so that rows of repeated elements are runs in memory.
            let in_runs = m.dims(v).len() == 4 && repeated.keeps_channels() && m.tensor_ty(v).elem == Elem::F32;
            if in_runs && step.is_some_and(|step| steps.insert(step)) {
                self.parts.insert(op);
                self.nowhere.insert(v);
                self.repeated.insert(v, repeated);
            }
        }
    }

    /// How an element-wise op reads `v`, if that has no memory since it repeats elements of another tensor.
    pub fn repeated(&self, v: ValueId) -> Option<&Repeated> {
        self.repeated.get(&v)
    }

    /// Whether an op is computed by the kernels of one or two operands of real numbers.
    fn is_real(m: &Module, op: OpId) -> bool {
        Binary::is(m, op) || Clamp::is(m, op) || Function::of(m, op).is_some()
    }

    /// Whether an op is part of another step than that of a row, or has one with others.
    fn is_elsewhere(&self, m: &Module, op: OpId) -> bool {
        let with_others = self.norms.contains_key(&op) || self.sums.contains_key(&op);
        self.parts.contains(&op) || with_others || Biased::in_front_of(m, op).is_some()
    }

    /// The element-wise ops that are computed together with the last of them.
    pub fn row(&self, last: OpId) -> Option<&[OpId]> {
        self.rows.get(&last).map(Vec::as_slice)
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

    /// The sum of embeddings that ends with an addition.
    pub fn embeddings(&self, add: OpId) -> Option<&Embeddings> {
        self.sums.get(&add)
    }

    /// The norm that is computed together with an addition, in its place.
    pub fn norm_with(&self, add: OpId) -> Option<LayerNorm> {
        self.norms.get(&add).copied()
    }
}
