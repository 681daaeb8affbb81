//! What ops of the graph dialect do with the items of a batch: the rules that several declarations share.
//!
//! Each gives the place of items in the result, or `None` where items meet.

use qc_ir::{Follow, Items, Module, OpId};

/// An op that computes each element from elements of operand 0 that have the same place along the dim of the items;
/// `apart` says whether that holds for a dim. Its other operands are parameters.
pub(crate) fn kept(m: &Module, op: OpId, f: &Follow, apart: impl Fn(usize) -> bool) -> Option<Items> {
    if f.all_same(m, op) {
        return Some(Items::Same);
    }
    let others_same = (1..m.operands(op).len()).all(|i| f.is_same(m, op, i));
    let axis = f.along(m, op, 0)?;
    (others_same && apart(axis)).then_some(Items::Along(axis))
}

/// Ops that keep every element where it is.
pub(crate) fn pass(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    kept(m, op, f, |_| true)
}

/// Ops on images that compute each plane by itself.
pub(crate) fn within_planes(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    kept(m, op, f, |axis| axis < 2)
}

/// Ops with parameters along the channels, dim 1, or that mix them.
pub(crate) fn not_channels(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    kept(m, op, f, |axis| axis != 1)
}

/// Ops of which each result depends on all elements.
pub(crate) fn never_apart(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    f.all_same(m, op).then_some(Items::Same)
}
