//! What convolutions and matrix products have in common, whatever their operands are called.

use super::{Conv2d, Matmul};
use qc_ir::{Module, OpDef, OpId, ValueId};

/// An op that multiplies its input by a weight, adds a bias and clamps: the view of any of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Linear {
    /// A convolution.
    Conv2d(Conv2d),
    /// A matrix product, whose left side is the input.
    Matmul(Matmul),
}

impl Linear {
    /// All of them.
    pub const DEFS: [&'static OpDef; 2] = [Conv2d::DEF, Matmul::DEF];

    /// The view of `op`, if it is one of these.
    pub fn of(m: &Module, op: OpId) -> Option<Linear> {
        Conv2d::of(m, op).map(Linear::Conv2d).or_else(|| Matmul::of(m, op).map(Linear::Matmul))
    }

    /// Whether `op` is one of these.
    pub fn is(m: &Module, op: OpId) -> bool {
        Linear::of(m, op).is_some()
    }

    /// What is multiplied.
    pub fn input(self, m: &Module) -> ValueId {
        match self {
            Linear::Conv2d(op) => op.input(m),
            Linear::Matmul(op) => op.a(m),
        }
    }

    /// By what it is multiplied; it may be computed.
    pub fn weight(self, m: &Module) -> ValueId {
        match self {
            Linear::Conv2d(op) => op.weight(m),
            Linear::Matmul(op) => op.b(m),
        }
    }

    /// What is added per output channel.
    pub fn bias(self, m: &Module) -> Option<ValueId> {
        match self {
            Linear::Conv2d(op) => op.bias(m),
            Linear::Matmul(op) => op.bias(m),
        }
    }

    /// The bounds of the clamp, lower and upper.
    pub fn bounds(self, m: &Module) -> [f64; 2] {
        match self {
            Linear::Conv2d(op) => [op.min(m), op.max(m)],
            Linear::Matmul(op) => [op.min(m), op.max(m)],
        }
    }
}
