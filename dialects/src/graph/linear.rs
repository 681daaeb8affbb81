//! What convolutions and matrix products have in common, whatever their operands are called.

use super::{Conv2d, Matmul};
use qc_ir::ValueId;

qc_ir::interface! {
    /// An op that multiplies its input by a weight, adds a bias and clamps.
    Linear [Conv2d, Matmul] {
        /// What is multiplied.
        input: ValueId = [Conv2d.input, Matmul.a];
        /// By what it is multiplied; it may be computed.
        weight: ValueId = [Conv2d.weight, Matmul.b];
        /// What is added per output channel.
        bias: Option<ValueId>;
        /// The lower bound of the clamp.
        min: f64;
        /// The upper bound of the clamp.
        max: f64;
    }
}
