//! Where the items of a batch are in every value of a program, followed from the inputs through every op.
//!
//! Each op says what it does with them (`items` of its declaration). An op that says nothing is taken to mix what it
//! reads. So a result is known to hold one part per item, or it is not split.

use crate::attr::Attr;
use crate::id::{OpId, RegionId, ValueId};
use crate::module::{Module, ValueDef};
use crate::opdef::Traits;
use crate::tensor::{HostTensor, strides};
use std::collections::HashMap;

/// What a value has to do with the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Items {
    /// The same whatever the items are.
    Same,
    /// Items lie one after the other along this dim, each as many indices, and each depends on its own item only.
    Along(usize),
    /// Items met in this op: its result cannot be told apart by items.
    Met(OpId),
}

/// An output of which a run fills a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The dim whose first indices are filled.
    pub axis: usize,
    /// The output, counted from the first one, whose sum says how many.
    pub by: usize,
}

/// What an op makes of its operands' items; `None` when they meet in it. Not asked when they met before.
pub type ItemsFn = fn(&Module, OpId, &Follow) -> Option<Items>;

/// The same for each result of an op.
pub type ItemsOfEachFn = fn(&Module, OpId, &Follow) -> Option<Vec<Items>>;

/// The items of all values so far.
#[derive(Debug)]
pub struct Follow {
    batch: usize,
    of: HashMap<ValueId, Items>,
}

impl Follow {
    /// Follows the items of a batch of `batch` through the main function; `batched` says of each argument whether its
    /// first dim is the batch.
    ///
    /// Dims are compared with `batch` where an op changes them, so a prime that is no dim of the model is best.
    pub fn through(m: &Module, batch: usize, batched: &[bool]) -> Follow {
        let args: Vec<Items> = batched.iter().map(|&b| if b { Items::Along(0) } else { Items::Same }).collect();
        Follow::in_region(m, m.body(), batch, &args)
    }

    /// Follows the items through a region that reads nothing but its arguments, which have these.
    pub fn in_region(m: &Module, region: RegionId, batch: usize, args: &[Items]) -> Follow {
        let of = m.args(region).iter().copied().zip(args.iter().copied()).collect();
        let mut follow = Follow { batch, of };
        for &op in m.ops(region) {
            let items = follow.of_op(m, op);
            follow.of.extend(m.results(op).iter().copied().zip(items));
        }
        follow
    }

    /// What an op makes of items that its operands are given with; there are `batch` of them.
    pub fn through_op(
        m: &Module,
        op: OpId,
        batch: usize,
        operands: impl IntoIterator<Item = (ValueId, Items)>,
    ) -> Vec<Items> {
        Follow { batch, of: operands.into_iter().collect() }.of_op(m, op)
    }

    fn of_op(&self, m: &Module, op: OpId) -> Vec<Items> {
        let operands = || m.operands(op).iter().flatten();
        let (def, count) = (m.def(op), m.results(op).len());
        if let Some(met) = operands().map(|&v| self.of(v)).find(|i| matches!(i, Items::Met(_))) {
            return vec![met; count];
        }
        if let Some(each) = def.items_of_each {
            return each(m, op, self).unwrap_or_else(|| vec![Items::Met(op); count]);
        }
        let said = match def.items {
            Some(items) => items(m, op, self),
            None if operands().all(|&v| self.of(v) == Items::Same) => Some(Items::Same),
            None if def.traits.has(Traits::ELEMENTWISE) => self.broadcast(m, op),
            None => None,
        };
        vec![said.unwrap_or(Items::Met(op)); count]
    }

    /// The size of the batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The items of a value.
    pub fn of(&self, v: ValueId) -> Items {
        self.of.get(&v).copied().unwrap_or(Items::Same)
    }

    /// Whether no operand of an op depends on the batch.
    pub fn all_same(&self, m: &Module, op: OpId) -> bool {
        m.operands(op).iter().flatten().all(|&v| self.of(v) == Items::Same)
    }

    /// Whether operand `i` is absent or the same for all items.
    pub fn is_same(&self, m: &Module, op: OpId, i: usize) -> bool {
        m.operand(op, i).is_none_or(|v| self.of(v) == Items::Same)
    }

    /// The dim of operand `i` along which items lie.
    pub fn along(&self, m: &Module, op: OpId, i: usize) -> Option<usize> {
        match self.of(m.operand(op, i)?) {
            Items::Along(axis) => Some(axis),
            _ => None,
        }
    }

    /// Whether a value that is the same for all items can stand beside items that lie along its dim `axis`: that dim is
    /// 1, or a constant's data repeats there once per item.
    pub fn repeats(&self, m: &Module, v: ValueId, axis: usize) -> bool {
        let dims = m.dims(v);
        if dims[axis] == 1 {
            return true;
        }
        let ValueDef::Result(op, _) = m.value_def(v) else { return false };
        match m.attr(op, "value") {
            Some(Attr::Const(c)) if m.def(op).traits.has(Traits::CONST_LIKE) => {
                repeats_along(&m.consts.get(c).tensor, axis, self.batch)
            }
            _ => false,
        }
    }

    /// The rule of ops that broadcast: all operands that have items have them along the same dim of the result.
    fn broadcast(&self, m: &Module, op: OpId) -> Option<Items> {
        let rank = m.dims(m.result(op)).len();
        let place = |v: ValueId| match self.of(v) {
            Items::Along(axis) => Some(axis + rank - m.dims(v).len()),
            _ => None,
        };
        let operands = || m.operands(op).iter().flatten().copied();
        let axis = operands().find_map(place)?;
        let fits = |v: ValueId| match place(v) {
            Some(own) => own == axis,
            None => (axis + m.dims(v).len()).checked_sub(rank).is_none_or(|a| self.repeats(m, v, a)),
        };
        operands().all(fits).then_some(Items::Along(axis))
    }
}

/// Whether dim `axis` of a tensor is `times` repetitions of the same elements.
pub fn repeats_along(t: &HostTensor, axis: usize, times: usize) -> bool {
    let size = t.dims()[axis];
    if times == 0 || !size.is_multiple_of(times) {
        return false;
    }
    let inner = strides(t.dims())[axis];
    let period = size / times * inner;
    let bytes = t.data().to_bytes();
    let unit = bytes.len() / t.len().max(1);
    let whole = bytes.chunks_exact((size * inner * unit).max(1));
    let mut rows = whole.map(|row| row.chunks_exact((period * unit).max(1)).collect::<Vec<_>>());
    rows.all(|parts| parts.windows(2).all(|w| w[0] == w[1]))
}
