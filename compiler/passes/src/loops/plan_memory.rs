//! Gives every buffer its place in the arena; buffers whose lives do not overlap share memory.
//!
//! before  %t = loop.alloc() : buf<..>
//! after   %t = loop.alloc() {offset = 4096} : buf<..>
//!
//! A buffer lives from the first step that uses it to the last. Buffers are placed largest first, each at the lowest
//! offset that is free during its life; where more than a thousand live at the same time as it, above them all, so that
//! time stays in proportion to the model. The verifier of the planned phase recomputes lives and rejects overlaps.

use qc_dialects::loops::Alloc;
use qc_dialects::phase::{self, buffer_lives};
use qc_ir::{Diag, Keeps, Module, Pass, PassCx};
use std::collections::BTreeSet;

/// The pass.
pub const PASS: Pass = Pass {
    name: "plan-memory",
    summary: "places buffers in the arena",
    from: phase::LOOPS,
    to: phase::PLANNED,
    keeps: Keeps::Exact,
    run,
};

/// Buffers start at multiples of a cache line.
const ALIGN_BYTES: usize = 64;

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let mut lives = buffer_lives(m);
    lives.sort_by_key(|l| (std::cmp::Reverse(l.bytes), l.first));
    let mut placed = Placed::new(m.ops(m.body()).len());
    for life in &lives {
        cx.check_time()?;
        let bytes = life.bytes.next_multiple_of(ALIGN_BYTES);
        let offset = match placed.during(life.first, life.last) {
            Some(mut taken) => {
                taken.sort_unstable();
                lowest_gap(&taken, bytes)
            }
            None => placed.top(life.first, life.last),
        };
        placed.add((offset, offset + bytes), life.first, life.last);
        m.set_attr(Alloc(life.op).0, "offset", offset);
        cx.count("placed");
    }
    Ok(())
}

/// The lowest offset at which `bytes` are free between sorted extents.
fn lowest_gap(taken: &[(usize, usize)], bytes: usize) -> usize {
    let mut offset = 0;
    for &(start, end) in taken {
        if offset + bytes <= start {
            break;
        }
        offset = offset.max(end);
    }
    offset
}

/// Buffers that live at the same time as another are looked at up to this number.
const LOOKED_AT: usize = 1000;

/// Start and end of a buffer in the arena.
type Extent = (usize, usize);

/// Extents by the time during which they are taken: a tree whose node `i` stands for the times of its children `2 * i` and
/// `2 * i + 1`; the leaves, from `times` on, for one time each.
struct Placed {
    times: usize,
    nodes: Vec<Node>,
    /// Extents by the first time at which they are taken.
    starting: Vec<Vec<Extent>>,
    /// Which times have any, so that others are not looked at.
    starts: BTreeSet<usize>,
}

#[derive(Clone, Default)]
struct Node {
    /// What is taken during all of the node's times, and not during all of its parent's.
    whole: Vec<Extent>,
    /// The greatest end of these.
    whole_end: usize,
    /// The greatest end of what is taken at any of the node's times.
    end: usize,
}

impl Placed {
    fn new(times: usize) -> Placed {
        let times = times.next_power_of_two();
        Placed {
            times,
            nodes: vec![Node::default(); 2 * times],
            starting: vec![Vec::new(); times],
            starts: BTreeSet::new(),
        }
    }

    /// The nodes that together stand for the times `first..=last`.
    fn cover(&self, first: usize, last: usize) -> Vec<usize> {
        let (mut a, mut b, mut nodes) = (first + self.times, last + self.times + 1, Vec::new());
        while a < b {
            if a % 2 == 1 {
                nodes.push(a);
                a += 1;
            }
            if b % 2 == 1 {
                b -= 1;
                nodes.push(b);
            }
            (a, b) = (a / 2, b / 2);
        }
        nodes
    }

    fn add(&mut self, extent: Extent, first: usize, last: usize) {
        self.starting[first].push(extent);
        self.starts.insert(first);
        for node in self.cover(first, last) {
            let whole = &mut self.nodes[node];
            whole.whole.push(extent);
            whole.whole_end = whole.whole_end.max(extent.1);
            for up in std::iter::successors(Some(node), |&n| (n > 1).then_some(n / 2)) {
                self.nodes[up].end = self.nodes[up].end.max(extent.1);
            }
        }
    }

    /// What is taken at any time of `first..=last`; `None` if that is too much to look at.
    fn during(&self, first: usize, last: usize) -> Option<Vec<Extent>> {
        let mut taken = Vec::new();
        // What is taken at `first`, then what begins later.
        let up = std::iter::successors(Some(first + self.times), |&n| (n > 1).then_some(n / 2));
        let later = self.starts.range(first + 1..=last.max(first + 1)).filter(|&&t| t <= last);
        for list in up.map(|n| &self.nodes[n].whole).chain(later.map(|&t| &self.starting[t])) {
            if taken.len() + list.len() > LOOKED_AT {
                return None;
            }
            taken.extend(list);
        }
        Some(taken)
    }

    /// The end of all that is taken at any time of `first..=last`.
    fn top(&self, first: usize, last: usize) -> usize {
        let own = self.cover(first, last).into_iter().flat_map(|node| {
            let above = std::iter::successors(Some(node / 2), |&n| (n > 1).then_some(n / 2));
            above.filter(|&n| n > 0).map(|n| self.nodes[n].whole_end).chain([self.nodes[node].end])
        });
        own.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Placed, lowest_gap};

    #[test]
    fn what_is_taken_is_found() {
        let lives = [(0, 3), (2, 5), (5, 9), (9, 9), (0, 9), (4, 4), (6, 8)];
        let mut placed = Placed::new(10);
        for (i, &(first, last)) in lives.iter().enumerate() {
            placed.add((100 * i, 100 * i + 50), first, last);
        }
        for first in 0..10 {
            for last in first..10 {
                let mut found = placed.during(first, last).unwrap();
                found.sort_unstable();
                let overlaps = |i: &usize| lives[*i].0 <= last && first <= lives[*i].1;
                let wanted: Vec<_> = (0..lives.len()).filter(overlaps).map(|i| (100 * i, 100 * i + 50)).collect();
                assert_eq!(found, wanted, "{first}..={last}");
                assert_eq!(placed.top(first, last), wanted.last().map_or(0, |e| e.1), "{first}..={last}");
            }
        }
    }

    #[test]
    fn gaps_are_filled() {
        let taken = [(0, 64), (128, 192), (256, 512)];
        assert_eq!([64, 65, 1].map(|bytes| lowest_gap(&taken, bytes)), [64, 512, 64]);
    }

    #[test]
    fn too_many_at_once_are_not_looked_at() {
        let mut placed = Placed::new(4);
        (0..1001).for_each(|i| placed.add((i, i + 1), 1, 2));
        assert_eq!(placed.during(2, 3), None);
        assert_eq!(placed.top(2, 3), 1001);
        assert_eq!(placed.during(3, 3), Some(vec![]));
    }
}
