//! The operators that are understood, one row each.

use super::node::Lower;
use super::{elementwise, movement, nn, qdq, shapes};
use crate::error::Refusal;

/// Name and lowering, sorted by name.
static OPS: &[(&str, Lower)] = &[
    ("Add", elementwise::add),
    ("AveragePool", nn::average_pool),
    ("BatchNormalization", nn::batch_norm),
    ("Cast", movement::cast),
    ("Clip", elementwise::clip),
    ("Concat", movement::concat),
    ("Constant", shapes::constant),
    ("ConstantOfShape", shapes::constant_of_shape),
    ("Conv", nn::conv),
    ("DequantizeLinear", qdq::dequantize_linear),
    ("Div", elementwise::div),
    ("Dropout", elementwise::dropout),
    ("Expand", shapes::expand),
    ("Flatten", movement::flatten),
    ("Gather", shapes::gather),
    ("Gemm", nn::gemm),
    ("GlobalAveragePool", nn::global_average_pool),
    ("GlobalMaxPool", nn::global_max_pool),
    ("Identity", elementwise::identity),
    ("LRN", nn::lrn),
    ("MatMul", nn::matmul),
    ("Max", elementwise::max),
    ("MaxPool", nn::max_pool),
    ("Min", elementwise::min),
    ("Mul", elementwise::mul),
    ("Pad", movement::pad),
    ("QuantizeLinear", qdq::quantize_linear),
    ("ReduceMean", nn::reduce_mean),
    ("Relu", elementwise::relu),
    ("Reshape", movement::reshape),
    ("Shape", shapes::shape),
    ("Slice", movement::slice),
    ("Softmax", nn::softmax),
    ("Split", movement::split),
    ("Squeeze", movement::squeeze),
    ("Sub", elementwise::sub),
    ("Sum", elementwise::sum),
    ("Transpose", movement::transpose),
    ("Unsqueeze", movement::unsqueeze),
];

/// The lowering of an operator.
pub(super) fn find(domain: &str, op_type: &str) -> Option<Lower> {
    if !(domain.is_empty() || domain == "ai.onnx") {
        return None;
    }
    OPS.binary_search_by(|(name, _)| (*name).cmp(op_type)).ok().map(|i| OPS[i].1)
}

/// Why an operator that is not in the table is refused.
pub(super) fn unsupported(domain: &str, op_type: &str) -> Refusal {
    if !(domain.is_empty() || domain == "ai.onnx") {
        return Refusal::unsupported(format!("operators of the domain \"{domain}\" are not supported"))
            .remedy("export the model with standard ONNX operators");
    }
    let remedy = match op_type {
        "QLinearConv" | "QLinearMatMul" | "ConvInteger" | "MatMulInteger" | "DynamicQuantizeLinear" => {
            "quantize the model in QDQ form (QuantizeLinear/DequantizeLinear pairs)"
        }
        "If" | "Loop" | "Scan" => "export the model without control flow",
        _ => "export the model without it, or report the need for it",
    };
    Refusal::unsupported("this operator is not supported").remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(OPS.is_sorted_by_key(|(name, _)| *name));
        assert!(find("", "Conv").is_some() && find("ai.onnx", "Add").is_some());
        assert!(find("com.microsoft", "Conv").is_none() && find("", "conv").is_none());
    }
}
