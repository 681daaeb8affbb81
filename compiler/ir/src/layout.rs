//! The order of ops in a region: a linked list whose links lie in the ops, with numbers that grow along it.
//!
//! Numbers have gaps. Where one is used up, as few neighbours as have room for it are numbered anew (order maintenance after
//! Dietz and Sleator, in the form with densities of ranges), so that an insertion takes logarithmic time on average.

use crate::edit::Insert;
use crate::id::{OpId, RegionId};
use crate::module::Module;

/// The distance of numbers at the end of a region.
const STEP: u64 = 1 << 24;
/// Numbers lie below this.
const NUMBERS: u64 = 1 << 62;

/// The ops of a region, in program order.
#[derive(Clone, Copy)]
pub struct Ops<'m> {
    m: &'m Module,
    front: Option<&'m OpId>,
    back: Option<&'m OpId>,
    left: usize,
}

impl<'m> Ops<'m> {
    /// The same ops, for code that takes lists.
    pub fn iter(&self) -> Ops<'m> {
        *self
    }

    /// The ops as a list, for code that changes the region meanwhile.
    pub fn to_vec(&self) -> Vec<OpId> {
        self.copied().collect()
    }

    /// The first op.
    pub fn first(&self) -> Option<&'m OpId> {
        self.front.filter(|_| self.left > 0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'m> Iterator for Ops<'m> {
    type Item = &'m OpId;

    fn next(&mut self) -> Option<&'m OpId> {
        let op = self.first()?;
        self.left -= 1;
        self.front = self.m.ops[*op].next.as_ref();
        Some(op)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl DoubleEndedIterator for Ops<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let op = self.back.filter(|_| self.left > 0)?;
        self.left -= 1;
        self.back = self.m.ops[*op].prev.as_ref();
        Some(op)
    }
}

impl ExactSizeIterator for Ops<'_> {}

impl Module {
    /// Ops of a region, in program order.
    pub fn ops(&self, region: RegionId) -> Ops<'_> {
        let r = &self.regions[region];
        Ops { m: self, front: r.first.as_ref(), back: r.last.as_ref(), left: r.len }
    }

    /// The op behind another in its region.
    pub fn next_op(&self, op: OpId) -> Option<OpId> {
        self.ops[op].next
    }

    /// Whether `a` stands before `b`, both in one region.
    pub fn comes_before(&self, a: OpId, b: OpId) -> bool {
        debug_assert_eq!(self.ops[a].parent, self.ops[b].parent, "ops of two regions have no order");
        self.ops[a].order < self.ops[b].order
    }

    /// Takes an op out of its region; says out of which.
    pub(crate) fn unlink(&mut self, op: OpId) -> Option<RegionId> {
        let parent = self.ops[op].parent.take()?;
        let (prev, next) = (self.ops[op].prev.take(), self.ops[op].next.take());
        match prev {
            Some(prev) => self.ops[prev].next = next,
            None => self.regions[parent].first = next,
        }
        match next {
            Some(next) => self.ops[next].prev = prev,
            None => self.regions[parent].last = prev,
        }
        self.regions[parent].len -= 1;
        Some(parent)
    }

    /// Puts a detached op into a region.
    pub(crate) fn insert(&mut self, op: OpId, at: Insert) {
        let (region, prev, next) = match at {
            Insert::End(region) => (region, self.regions[region].last, None),
            Insert::Before(next) => {
                let region = self.ops[next].parent.expect("invariant: insertion point is attached");
                (region, self.ops[next].prev, Some(next))
            }
        };
        self.ops[op].parent = Some(region);
        (self.ops[op].prev, self.ops[op].next) = (prev, next);
        match prev {
            Some(prev) => self.ops[prev].next = Some(op),
            None => self.regions[region].first = Some(op),
        }
        match next {
            Some(next) => self.ops[next].prev = Some(op),
            None => self.regions[region].last = Some(op),
        }
        self.regions[region].len += 1;
        self.number(op, prev, next);
    }

    /// Gives a linked op a number between those of its neighbours.
    fn number(&mut self, op: OpId, prev: Option<OpId>, next: Option<OpId>) {
        let low = prev.map_or(0, |p| self.ops[p].order);
        let high = next.map_or(NUMBERS, |n| self.ops[n].order);
        let between = low + ((high - low) / 2).min(STEP);
        self.ops[op].order = between;
        if between == low || between == high {
            self.renumber(op);
        }
    }

    /// Spreads the ops around `op` over the smallest range of numbers that they do not crowd.
    fn renumber(&mut self, op: OpId) {
        let (mut first, mut last, mut count) = (op, op, 1u64);
        // Of a range of 2^bits numbers, at most (2/3)^bits are to be taken.
        let mut room = 1.0f64;
        for bits in 1..=NUMBERS.trailing_zeros() {
            let base = self.ops[op].order >> bits << bits;
            let end = base + (1 << bits);
            while let Some(prev) = self.ops[first].prev.filter(|&p| self.ops[p].order >= base) {
                (first, count) = (prev, count + 1);
            }
            while let Some(next) = self.ops[last].next.filter(|&n| self.ops[n].order < end) {
                (last, count) = (next, count + 1);
            }
            room *= 4.0 / 3.0;
            if count as f64 <= room && count < 1 << bits {
                let step = (1u64 << bits) / (count + 1);
                let (mut at, mut number) = (Some(first), base);
                for _ in 0..count {
                    let Some(op) = at else { break };
                    number += step.max(1);
                    self.ops[op].order = number;
                    at = self.ops[op].next;
                }
                return;
            }
        }
    }
}
