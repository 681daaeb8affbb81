//! The table of everything that a step of a recipe can be.
//!
//! A row takes the value that a step was given and nine numbers, and makes ops; `None` when the value has the wrong rank
//! or size, in which case the step becomes a relu. **A new op of the graph dialect gets a row here**, or a place in one
//! that exists (functions of single elements have theirs); a test compares the table with the declarations.

use super::build::Graph;
use super::{boxes, dynamic, elementwise, integer, linear, mixing, movement, norms, pattern, recurrent, window};
use qc_dialects::graph::{
    ACTIVATION, AdaptiveAvgPool, Add, AvgPool, BatchNorm, Cast, Clip, Compare, Concat, Constant, Conv2d, CumSum,
    Dequantize, Div, DynamicQuantize, DynamicScale, DynamicZero, Expand, Gather, GlobalAvgPool, GlobalMaxPool, Index,
    IntBinary, IntReduce, IntegerConv2d, IntegerMatmul, LayerNorm, Lrn, Matmul, MatrixNms, Max, MaxPool, Min, Mul, Nms,
    Observe, Offsets, Pad, Pow, Quantize, ReduceMean, Relu, Rem, Resample, Reshape, Scan, Scatter, Select, Slice,
    Softmax, Sub, Take, TopK, Transpose,
};
use qc_ir::{OpDef, ValueId};

/// One kind of step.
pub struct Maker {
    /// How often it comes up, against the sum of all weights.
    pub weight: u32,
    /// The ops it makes.
    pub ops: &'static [&'static OpDef],
    /// Makes them; gives the result.
    pub make: fn(&mut Graph, ValueId, &[u32]) -> Option<ValueId>,
}

/// What comes into models otherwise: weights, quantized pairs, integer inputs, and what the compiler attaches by the
/// ranges and the options of a recipe.
pub const OTHERWISE: &[&OpDef] = &[Constant::DEF, Quantize::DEF, Dequantize::DEF, Cast::DEF, Observe::DEF];

/// All kinds of steps.
pub static MAKERS: &[Maker] = &[
    Maker { weight: 8, ops: &[Conv2d::DEF], make: linear::dense },
    Maker { weight: 3, ops: &[Conv2d::DEF], make: linear::grouped },
    Maker { weight: 4, ops: &[Conv2d::DEF], make: linear::depthwise },
    Maker { weight: 4, ops: &[Matmul::DEF], make: linear::layer },
    Maker { weight: 1, ops: &[Matmul::DEF, Softmax::DEF], make: pattern::attention },
    Maker { weight: 4, ops: &[Relu::DEF], make: elementwise::relu },
    Maker { weight: 3, ops: &[Clip::DEF], make: elementwise::clip },
    Maker { weight: 4, ops: ACTIVATION, make: elementwise::function },
    Maker { weight: 6, ops: &[Add::DEF, Mul::DEF], make: pattern::residual },
    Maker { weight: 2, ops: &[Conv2d::DEF, Add::DEF], make: pattern::two_residuals },
    Maker { weight: 2, ops: &[Slice::DEF, Concat::DEF], make: pattern::split_and_join },
    Maker { weight: 1, ops: &[Conv2d::DEF], make: pattern::dead_branch },
    Maker { weight: 2, ops: &[GlobalAvgPool::DEF, Conv2d::DEF, Mul::DEF], make: pattern::squeeze_excite },
    Maker {
        weight: 3,
        ops: &[Add::DEF, Sub::DEF, Mul::DEF, Div::DEF, Max::DEF, Min::DEF, Pow::DEF, Rem::DEF],
        make: elementwise::with_constant,
    },
    Maker { weight: 2, ops: &[Sub::DEF, Max::DEF, Min::DEF], make: elementwise::with_value },
    Maker { weight: 6, ops: &[MaxPool::DEF, AvgPool::DEF], make: window::pool },
    Maker { weight: 2, ops: &[GlobalMaxPool::DEF, AdaptiveAvgPool::DEF, GlobalAvgPool::DEF], make: window::global },
    Maker { weight: 3, ops: &[Concat::DEF], make: movement::concat },
    Maker { weight: 2, ops: &[Slice::DEF], make: movement::slice },
    Maker { weight: 2, ops: &[Reshape::DEF, Transpose::DEF], make: movement::shuffle },
    Maker { weight: 1, ops: &[Transpose::DEF], make: movement::transpose },
    Maker { weight: 1, ops: &[Reshape::DEF], make: movement::reshape },
    Maker { weight: 1, ops: &[Expand::DEF], make: movement::expand },
    Maker { weight: 2, ops: &[Pad::DEF], make: movement::pad },
    Maker { weight: 2, ops: &[Take::DEF], make: movement::take },
    Maker { weight: 2, ops: &[Resample::DEF], make: movement::resample },
    Maker { weight: 1, ops: &[Softmax::DEF], make: norms::softmax },
    Maker { weight: 1, ops: &[Lrn::DEF], make: norms::lrn },
    Maker { weight: 1, ops: &[ReduceMean::DEF], make: window::mean },
    Maker { weight: 1, ops: &[IntBinary::DEF], make: integer::arithmetic },
    Maker { weight: 1, ops: &[Compare::DEF, Select::DEF], make: integer::choice },
    Maker { weight: 1, ops: &[IntReduce::DEF, CumSum::DEF], make: integer::reduction },
    Maker { weight: 1, ops: &[Index::DEF, Gather::DEF], make: integer::gather },
    Maker { weight: 2, ops: &[Index::DEF, Gather::DEF], make: integer::embedding },
    Maker { weight: 1, ops: &[TopK::DEF, ReduceMean::DEF, Index::DEF, Scatter::DEF], make: integer::joined },
    Maker { weight: 1, ops: &[CumSum::DEF, Offsets::DEF, Gather::DEF], make: integer::sequences },
    Maker {
        weight: 2,
        ops: &[DynamicQuantize::DEF, DynamicScale::DEF, DynamicZero::DEF, IntegerMatmul::DEF, IntBinary::DEF],
        make: dynamic::product,
    },
    Maker { weight: 1, ops: &[DynamicQuantize::DEF, IntegerConv2d::DEF], make: dynamic::conv },
    Maker { weight: 2, ops: &[Mul::DEF, Add::DEF, Softmax::DEF], make: norms::masked_softmax },
    Maker { weight: 3, ops: &[Add::DEF, LayerNorm::DEF], make: norms::layer_norm },
    Maker { weight: 2, ops: &[BatchNorm::DEF], make: linear::batch_norm },
    Maker { weight: 2, ops: &[Softmax::DEF, ReduceMean::DEF, Sub::DEF], make: mixing::items },
    Maker { weight: 1, ops: &[Nms::DEF, MatrixNms::DEF], make: boxes::chosen },
    Maker { weight: 3, ops: &[Scan::DEF], make: recurrent::scan },
];

#[cfg(test)]
mod tests {
    use super::{MAKERS, OTHERWISE};
    use qc_dialects::graph::GRAPH;

    #[test]
    fn every_declared_op_is_made() {
        let made = |name: &str| MAKERS.iter().flat_map(|m| m.ops).chain(OTHERWISE).any(|d| d.name == name);
        let missing: Vec<&str> = GRAPH.iter().map(|d| d.name).filter(|n| !made(n)).collect();
        assert!(missing.is_empty(), "add rows to `MAKERS` that make {missing:?}");
    }
}
