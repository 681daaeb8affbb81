//! The gate behind a float convolution, and what follows it: part of its step.
//!
//! before  %c = graph.conv2d(%x, %w)   %h = graph.hard_swish(%c)   %m = graph.mul(%h, 0.7)   %y = graph.add(%m, 0.3)
//! after   one step that stores %y; %c, %h and %m have no memory
//!
//! The kernel rounds each of them as an op of its own would, so nothing changes but the memory that moves. Factor and addend are
//! one number each, such as networks learn behind their activations.

use super::conversions::sums_spill;
use crate::graph::splat;
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::{Add, Conv2d, Mul, Quantize};
use qc_ir::{Module, OpId, ValueId};

/// What a convolution does behind its clamp.
#[derive(Clone, PartialEq, Debug)]
pub struct Gate {
    /// Offset, bound and factor of `hard_swish`, of which a factor of 0 is none.
    pub swish: [f32; 3],
    /// Factor and addend of what is gated.
    pub post: [f32; 2],
}

impl Gate {
    /// No gate.
    pub const NONE: Gate = Gate { swish: [0.0; 3], post: [0.0; 2] };
}

/// The ops behind a convolution that are part of its step.
#[derive(Clone, PartialEq, Debug)]
pub struct Gated {
    pub gate: Gate,
    /// The ops, in their order.
    pub ops: Vec<OpId>,
    /// The result of the last.
    pub result: ValueId,
}

impl Gated {
    /// Those behind `conv`, each the only reader of the one before.
    pub fn behind(m: &Module, conv: Conv2d) -> Option<Gated> {
        let op = m.only_user(conv.out(m))?;
        let function = Function::of(m, op).filter(|f| matches!(f, Function::HardSwish { .. }))?;
        let (_, swish) = function.kernel();
        // A factor of 0 would say that there is no gate.
        (swish[2] != 0.0).then_some(())?;
        // Adding -0 changes no number, not even -0.
        let mut gated = Gated { gate: Gate { swish, post: [1.0, -0.0] }, ops: vec![op], result: m.result(op) };
        gated.then(m, |m, op, v| Mul::of(m, op).filter(|p| p.lhs(m) == v).and_then(|p| splat(m, p.rhs(m))), 0);
        gated.then(m, |m, op, v| Add::of(m, op).filter(|p| p.lhs(m) == v).and_then(|p| splat(m, p.rhs(m))), 1);
        let quantized = m.only_user(gated.result).is_some_and(|user| m.is(user, Quantize::DEF));
        (!quantized || !conv.shape(m).is_ok_and(|s| sums_spill(&s))).then_some(gated)
    }

    /// Takes in the next op, if `number` says that it combines with one number.
    fn then(&mut self, m: &Module, number: impl Fn(&Module, OpId, ValueId) -> Option<f32>, place: usize) {
        let user = m.only_user(self.result).filter(|&op| m.dims(m.result(op)) == m.dims(self.result));
        if let Some((op, by)) = user.and_then(|op| Some((op, number(m, op, self.result)?))) {
            self.gate.post[place] = by;
            self.ops.push(op);
            self.result = m.result(op);
        }
    }
}
