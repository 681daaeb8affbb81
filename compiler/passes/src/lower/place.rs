//! Decides, before any code is made, where each tensor will live.
//!
//! - The operands of a concat are written straight into their part of its result, where their producer can do so.
//! - A tensor that a padded convolution reads gets its padding in memory, so that it costs nothing; the padding belongs to the
//!   buffer, and so to every part and channel slice of it.
//! - A result of the model is written straight into the caller's memory when its layout is row-major anyway.
//! - A float tensor that is only quantized, or that is only dequantized for ops that can do that themselves, has no
//!   memory: `conversions.rs` says which.

use super::conversions::Conversions;
use qc_dialects::graph::{Concat, Constant, Reshape, Slice, Transpose};
use qc_dialects::interfaces::Convolution;
use qc_ir::{Module, OpId, ValueId};
use std::collections::{HashMap, HashSet};

/// A tensor that is written into part of another.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The concat's result.
    pub whole: ValueId,
    /// The axis of the concat.
    pub axis: usize,
    /// First index along the axis.
    pub start: usize,
}

/// Where tensors live.
#[derive(Default, Debug)]
pub struct Placement {
    parts: HashMap<ValueId, Part>,
    paddings: HashMap<ValueId, [usize; 4]>,
    outputs: HashMap<ValueId, usize>,
    /// Conversions without steps.
    pub conversions: Conversions,
}

impl Placement {
    /// Places all tensors of the main function.
    pub fn of(m: &Module) -> Placement {
        let mut p = Placement { conversions: Conversions::of(m), ..Placement::default() };
        let body = m.body();
        let whole = Whole::of(m);
        // Later concats first, so that a concat inside a concat knows its whole.
        for &op in m.ops(body).iter().rev() {
            if Concat::of(m, op).is_some() {
                p.place_parts(m, op, &whole);
            }
        }
        for &op in m.ops(body) {
            if let Some(conv) = Convolution::of(m, op) {
                let pads = conv.pads(m);
                p.need_padding(m, conv.input(m), std::array::from_fn(|i| pads[i] as usize));
            }
        }
        p.place_outputs(m);
        p
    }

    /// The part of a concat's result that a tensor is written into.
    pub fn part(&self, v: ValueId) -> Option<Part> {
        self.parts.get(&v).copied()
    }

    /// The padding of a tensor's own buffer.
    pub fn padding(&self, v: ValueId) -> [usize; 4] {
        self.paddings.get(&v).copied().unwrap_or([0; 4])
    }

    /// The output of the model that a tensor is written into.
    pub fn output(&self, v: ValueId) -> Option<usize> {
        self.outputs.get(&v).copied()
    }

    /// The quantized tensor that is stored in place of the float tensor `v`.
    pub fn stored(&self, v: ValueId) -> Option<ValueId> {
        self.conversions.stored.get(&v).copied()
    }

    /// The quantized tensor that is read in place of the float tensor `v`.
    pub fn read(&self, v: ValueId) -> Option<ValueId> {
        self.conversions.read.get(&v).copied()
    }

    fn place_parts(&mut self, m: &Module, op: OpId, own: &Whole) {
        let concat = Concat(op);
        let (whole, axis) = (concat.out(m), concat.axis(m) as usize);
        let mut start = 0;
        let mut times: HashMap<ValueId, usize> = HashMap::new();
        concat.inputs(m).into_iter().for_each(|v| *times.entry(v).or_default() += 1);
        for v in concat.inputs(m) {
            let elsewhere = self.parts.contains_key(&v) || own.returned.contains(&v);
            if times[&v] == 1 && !elsewhere && computes(m, v) && (axis == 1 || !own.padded.contains(&v)) {
                self.parts.insert(v, Part { whole, axis, start });
            }
            start += m.dims(v)[axis];
        }
    }

    /// The tensor whose buffer holds `v`.
    fn root(&self, m: &Module, mut v: ValueId) -> ValueId {
        loop {
            if let Some(part) = self.parts.get(&v) {
                v = part.whole;
            } else if let Some(slice) = Slice::producing(m, v).filter(|s| only_channels(m, *s)) {
                v = slice.x(m);
            } else {
                return v;
            }
        }
    }

    fn need_padding(&mut self, m: &Module, v: ValueId, pads: [usize; 4]) {
        let root = self.root(m, v);
        let padding = self.paddings.entry(root).or_insert([0; 4]);
        for (b, p) in padding.iter_mut().zip(pads) {
            *b = (*b).max(p);
        }
    }

    fn place_outputs(&mut self, m: &Module) {
        for (i, &v) in m.returns(m.body()).iter().enumerate() {
            let plain = match m.dims(v) {
                [_, c, h, w] => h * w == 1 || *c == 1,
                _ => true,
            };
            let alone = m.uses(v).len() == 1 && !self.parts.contains_key(&v);
            let holds_parts = Concat::producing(m, v).is_some();
            if plain && alone && !holds_parts && computes(m, v) {
                self.outputs.insert(v, i);
            }
        }
    }
}

/// Whether an op computes `v` into memory, rather than naming memory that exists.
fn computes(m: &Module, v: ValueId) -> bool {
    let views = [Constant::DEF, Reshape::DEF, Transpose::DEF, Slice::DEF];
    m.producer(v).is_some_and(|op| views.iter().all(|d| !m.is(op, d)))
}

/// What keeps tensors from being parts of others.
struct Whole {
    /// Results of the model.
    returned: HashSet<ValueId>,
    /// What padded convolutions read.
    padded: HashSet<ValueId>,
}

impl Whole {
    fn of(m: &Module) -> Whole {
        let pads = |op: &OpId| Convolution::of(m, *op).is_some_and(|conv| conv.pads(m).iter().any(|&p| p != 0));
        let padded = m.ops(m.body()).filter(|op| pads(op));
        Whole {
            returned: m.returns(m.body()).iter().copied().collect(),
            padded: padded.flat_map(|&op| m.operands(op).iter().flatten().copied()).collect(),
        }
    }
}

/// Whether a slice takes whole planes, so that it keeps the padding of its operand.
fn only_channels(m: &Module, slice: Slice) -> bool {
    let (x, starts, steps) = (slice.x(m), slice.starts(m), slice.steps(m));
    let (from, to) = (m.dims(x), m.dims(slice.out(m)));
    from.len() == 4 && steps.iter().all(|&s| s == 1) && [0, 2, 3].iter().all(|&d| starts[d] == 0 && from[d] == to[d])
}
