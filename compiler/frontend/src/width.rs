//! Nodes with very many inputs.
//!
//! An input is three bytes of a file and becomes an op: a `Sum` of `k` inputs is `k - 1` additions, and a `Concat` moves
//! each of its own. So what is bounded is how many inputs there are, compared with the size of the model. Two inputs of
//! each node are not counted, since a node takes sixteen bytes at least, nor are those of operators that take a fixed number.

use qc_ir::{Exceeded, Limit, Limits};

/// Bytes of a model that pay for one more input. Inputs of real models have names that are about as long.
const BYTES_PER_INPUT: u64 = 32;

/// The operators of ONNX that take any number of inputs, of any domain, sorted.
pub(crate) const ONNX_VARIADIC: [&str; 7] = ["Concat", "Einsum", "Max", "Mean", "Min", "QLinearConcat", "Sum"];

/// Whether an operator of ONNX takes any number of inputs.
pub(crate) fn is_variadic(op_type: &str) -> bool {
    ONNX_VARIADIC.contains(&op_type)
}

/// Compares the inputs of all nodes that take any number, beyond two each, with the limit. `bytes` is the size of the model file and of the
/// parameters beside it.
///
/// # Errors
/// There are too many.
pub(crate) fn check(inputs: impl Iterator<Item = usize>, bytes: usize, limits: &Limits) -> Result<(), Exceeded> {
    let more: usize = inputs.map(|n| n.saturating_sub(2)).sum();
    let found = (more as u64).saturating_sub(bytes as u64 / BYTES_PER_INPUT);
    limits.check(Limit::Inputs, found, || {
        format!("beyond two for each and one for {BYTES_PER_INPUT} bytes of the model, nodes like Sum and Concat have inputs:")
    })
}
