//! Elements that are repeated a fixed number of times along dims, as the nearest neighbours of a resize are: a view with strides
//! of 0, of which one copy is made, or none where element-wise ops alone read it.
//!
//! before  %r = graph.take(%x) {axis = 2}   %t = graph.take(%r) {axis = 3}   %y = graph.add(%s, %t)
//! after   one step, in which the kernel reads each element of %x as often as it is repeated; %r and %t have no memory

use super::view::View;
use crate::graph::sole_producer;
use qc_dialects::graph::Take;
use qc_ir::{Module, OpId, ValueId};

/// A tensor that repeats elements of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repeated {
    /// The other.
    pub source: ValueId,
    /// How often each element follows itself, per dim.
    times: Vec<usize>,
    /// The ops in front of the last that repeat.
    pub before: Vec<OpId>,
}

impl Repeated {
    /// What a take gives, together with those in front of it that nothing else reads.
    pub fn of(m: &Module, last: Take) -> Option<Repeated> {
        let rank = m.dims(last.out(m)).len();
        let mut found = Repeated { source: last.out(m), times: vec![1; rank], before: Vec::new() };
        let mut next = Some(last);
        while let Some((take, axis, times)) = next.and_then(|take| repeats(m, take)) {
            // Every dim once, so that the ops are few.
            if found.times[axis] != 1 {
                break;
            }
            found.times[axis] = times;
            found.before.extend((take != last).then_some(take.0));
            found.source = take.x(m);
            next = sole_producer(m, found.source, take.0).and_then(|op| Take::of(m, op));
        }
        (found.source != last.out(m)).then_some(found)
    }

    /// Whether the channels of an image are not repeated.
    pub fn keeps_channels(&self) -> bool {
        self.times.get(1) == Some(&1)
    }

    /// The dims of the result, with one of its own for the repetitions of each dim.
    pub fn dims(&self, m: &Module) -> Vec<usize> {
        let cut = m.dims(self.source).iter().zip(&self.times).map(|(&n, &times)| [n, times]);
        cut.flatten().collect()
    }

    /// The result under these dims, as a view of the source.
    pub fn view(&self, source: &View) -> View {
        let dims = source.dims.iter().zip(&self.times).flat_map(|(&n, &times)| [n, times]).collect();
        let strides = source.strides.iter().flat_map(|&s| [s, 0]).collect();
        View { dims, strides, padding: [0; 4], ..source.clone() }
    }
}

/// The axis and the number of repetitions of a take that repeats every element of its operand in order.
fn repeats(m: &Module, take: Take) -> Option<(Take, usize, usize)> {
    let (axis, places) = take.along(m).ok()?;
    let size = m.dims(take.x(m))[axis];
    let times = places.len().checked_div(size).filter(|times| *times > 1 && times * size == places.len())?;
    places.iter().enumerate().all(|(i, &p)| p as usize == i / times).then_some((take, axis, times))
}
