//! The operators that are understood, one row each.

use super::node::Lower;
use super::{
    attention, choose, detection, dynamic_lstm, einsum, elementwise, fused, indexing, integer, logic, losses, movement,
    nn, norm, qdq, qlinear, recurrent, reduce, resize, sample, scaled_attention, shapes, signal,
};
use crate::error::Refusal;
use crate::functions::FUNCTIONS;

/// Name and lowering, sorted by name. Functions of single elements have rows in [`FUNCTIONS`].
static OPS: &[(&str, Lower)] = &[
    ("Abs", elementwise::abs),
    ("Add", elementwise::add),
    ("AffineGrid", sample::affine_grid),
    ("And", logic::and),
    ("ArgMax", reduce::arg_max),
    ("ArgMin", reduce::arg_min),
    ("Attention", scaled_attention::attention),
    ("AveragePool", nn::average_pool),
    ("BatchNormalization", nn::batch_norm),
    ("BitShift", logic::bit_shift),
    ("BitwiseAnd", logic::bitwise_and),
    ("BitwiseNot", logic::bitwise_not),
    ("BitwiseOr", logic::bitwise_or),
    ("BitwiseXor", logic::bitwise_xor),
    ("BlackmanWindow", signal::blackman),
    ("Cast", movement::cast),
    ("CastLike", movement::cast_like),
    ("Celu", elementwise::celu),
    ("CenterCropPad", movement::center_crop_pad),
    ("Clip", elementwise::clip),
    ("Col2Im", nn::col2im),
    ("Compress", indexing::compress),
    ("Concat", |g, n| qlinear::in_one_format(g, n, movement::concat)),
    ("Constant", shapes::constant),
    ("ConstantOfShape", shapes::constant_of_shape),
    ("Conv", nn::conv),
    ("ConvInteger", integer::conv),
    ("ConvTranspose", nn::conv_transpose),
    ("CumProd", indexing::cumprod),
    ("CumSum", indexing::cumsum),
    ("DFT", signal::dft),
    ("DepthToSpace", movement::depth_to_space),
    ("DequantizeLinear", qdq::dequantize_linear),
    ("Div", elementwise::div),
    ("Dropout", elementwise::dropout),
    ("DynamicQuantizeLinear", integer::dynamic_quantize),
    ("Einsum", einsum::einsum),
    ("Equal", logic::equal),
    ("Expand", shapes::expand),
    ("EyeLike", indexing::eye_like),
    ("Flatten", movement::flatten),
    ("GRU", recurrent::gru),
    ("Gather", indexing::gather),
    ("GatherElements", indexing::gather_elements),
    ("GatherND", indexing::gather_nd),
    ("Gemm", nn::gemm),
    ("GlobalAveragePool", nn::global_average_pool),
    ("GlobalLpPool", nn::global_lp_pool),
    ("GlobalMaxPool", nn::global_max_pool),
    ("Greater", logic::greater),
    ("GreaterOrEqual", logic::greater_or_equal),
    ("GridSample", sample::grid_sample),
    ("GroupNormalization", norm::group),
    ("HammingWindow", signal::hamming),
    ("HannWindow", signal::hann),
    ("Hardmax", losses::hard_max),
    ("Identity", elementwise::identity),
    ("InstanceNormalization", norm::instance),
    ("IsInf", logic::is_inf),
    ("IsNaN", logic::is_nan),
    ("LRN", nn::lrn),
    ("LSTM", recurrent::lstm),
    ("LayerNormalization", norm::layer),
    ("Less", logic::less),
    ("LessOrEqual", logic::less_or_equal),
    ("LogSoftmax", losses::log_softmax),
    ("LpNormalization", losses::by_norm),
    ("LpPool", nn::lp_pool),
    ("MatMul", nn::matmul),
    ("MatMulInteger", integer::matmul),
    ("Max", elementwise::max),
    ("MaxPool", |g, n| qlinear::in_one_format(g, n, nn::max_pool)),
    ("Mean", elementwise::mean),
    ("MeanVarianceNormalization", norm::mean_variance),
    ("MelWeightMatrix", signal::mel_weight_matrix),
    ("Min", elementwise::min),
    ("Mod", logic::modulo),
    ("Mul", elementwise::mul),
    ("Neg", elementwise::neg),
    ("NegativeLogLikelihoodLoss", losses::negative_log_likelihood),
    ("NonMaxSuppression", detection::non_max_suppression),
    ("NonZero", indexing::non_zero),
    ("Not", logic::not),
    ("OneHot", indexing::one_hot),
    ("Or", logic::or),
    ("PRelu", elementwise::prelu),
    ("Pad", movement::pad),
    ("Pow", elementwise::pow),
    ("QLinearConv", qlinear::conv),
    ("QLinearMatMul", qlinear::matmul),
    ("QuantizeLinear", qdq::quantize_linear),
    ("RMSNormalization", norm::rms),
    ("RNN", recurrent::rnn),
    ("Range", indexing::range),
    ("Reciprocal", elementwise::reciprocal),
    ("ReduceL1", reduce::l1),
    ("ReduceL2", reduce::l2),
    ("ReduceLogSum", reduce::log_sum),
    ("ReduceLogSumExp", reduce::log_sum_exp),
    ("ReduceMax", reduce::max),
    ("ReduceMean", reduce::mean),
    ("ReduceMin", reduce::min),
    ("ReduceProd", reduce::product),
    ("ReduceSum", reduce::sum),
    ("ReduceSumSquare", reduce::sum_square),
    ("Relu", elementwise::relu),
    ("Reshape", movement::reshape),
    ("Resize", resize::resize),
    ("ReverseSequence", indexing::reverse_sequence),
    ("RoiAlign", detection::roi_align),
    ("RotaryEmbedding", scaled_attention::rotary),
    ("STFT", signal::stft),
    ("Scatter", choose::scatter_elements),
    ("ScatterElements", choose::scatter_elements),
    ("ScatterND", choose::scatter_nd),
    ("Selu", elementwise::selu),
    ("Shape", shapes::shape),
    ("Sign", logic::sign),
    ("SimplifiedLayerNormalization", norm::rms),
    ("Size", shapes::size),
    ("Slice", movement::slice),
    ("Softmax", nn::softmax),
    ("SoftmaxCrossEntropyLoss", losses::softmax_cross_entropy),
    ("SpaceToDepth", movement::space_to_depth),
    ("Split", movement::split),
    ("Squeeze", movement::squeeze),
    ("Sub", elementwise::sub),
    ("Sum", elementwise::sum),
    ("Tile", shapes::tile),
    ("TopK", choose::top_k),
    ("Transpose", movement::transpose),
    ("Trilu", indexing::triangle),
    ("Unsqueeze", movement::unsqueeze),
    ("Upsample", resize::upsample),
    ("Where", logic::choose),
    ("Xor", logic::xor),
];

/// Those that have graphs inside; the importer walks them.
const CONTROL: [&str; 3] = ["If", "Loop", "Scan"];

/// Those of the domain `com.microsoft`, sorted by name.
static MICROSOFT: &[(&str, Lower)] = &[
    ("Attention", attention::attention),
    ("BiasGelu", fused::gelu),
    ("DequantizeLinear", qdq::dequantize_linear),
    ("DynamicQuantizeLSTM", dynamic_lstm::dynamic_quantize_lstm),
    ("DynamicQuantizeMatMul", fused::dynamic_quantize_matmul),
    ("EmbedLayerNormalization", attention::embed_layer_norm),
    ("FastGelu", fused::fast_gelu),
    ("FusedConv", fused::conv),
    ("FusedGemm", fused::gemm),
    ("FusedMatMul", fused::matmul),
    ("Gelu", fused::gelu),
    ("MatMulIntegerToFloat", fused::matmul_integer_to_float),
    ("MultiHeadAttention", attention::multi_head),
    ("QAttention", attention::quantized),
    ("QGemm", qlinear::gemm),
    ("QLinearAdd", qlinear::add),
    ("QLinearAveragePool", qlinear::average_pool),
    ("QLinearConcat", qlinear::concat),
    ("QLinearGlobalAveragePool", qlinear::global_average_pool),
    ("QLinearLeakyRelu", qlinear::function),
    ("QLinearMul", qlinear::mul),
    ("QLinearReduceMean", qlinear::reduce_mean),
    ("QLinearSigmoid", qlinear::function),
    ("QLinearSoftmax", qlinear::softmax),
    ("QuantizeLinear", qdq::quantize_linear),
    ("QuickGelu", fused::quick_gelu),
    ("SimplifiedLayerNormalization", norm::rms),
    ("SkipLayerNormalization", norm::skip_layer),
    ("SkipSimplifiedLayerNormalization", norm::skip_rms),
];

/// The operators of a domain.
fn table(domain: &str) -> Option<&'static [(&'static str, Lower)]> {
    match domain {
        "" | "ai.onnx" => Some(OPS),
        "com.microsoft" => Some(MICROSOFT),
        _ => None,
    }
}

/// The operators of a domain that are functions of single elements.
fn functions(domain: &str) -> impl Iterator<Item = (&'static str, Lower)> {
    let standard = matches!(domain, "" | "ai.onnx");
    FUNCTIONS.iter().filter(move |_| standard).filter_map(|f| f.onnx)
}

/// The operators of a domain that are understood, sorted.
pub(crate) fn names(domain: &str) -> Vec<&'static str> {
    let ops = table(domain).unwrap_or_default().iter().copied();
    let control = CONTROL.into_iter().filter(|_| matches!(domain, "" | "ai.onnx"));
    let mut names: Vec<&str> = ops.chain(functions(domain)).map(|(name, _)| name).chain(control).collect();
    names.sort_unstable();
    names
}

/// The lowering of an operator.
pub(super) fn find(domain: &str, op_type: &str) -> Option<Lower> {
    let ops = table(domain)?;
    let found = ops.binary_search_by(|(name, _)| (*name).cmp(op_type)).ok().map(|i| ops[i].1);
    found.or_else(|| functions(domain).find(|(name, _)| *name == op_type).map(|(_, lower)| lower))
}

/// Why an operator that is not in the table is refused.
pub(super) fn unsupported(domain: &str, op_type: &str) -> Refusal {
    if table(domain).is_none() {
        return Refusal::unsupported(format!("operators of the domain \"{domain}\" are not supported"))
            .remedy("export the model with standard ONNX operators");
    }
    let remedy = match op_type {
        _ if domain == "com.microsoft" => "export the model with standard ONNX operators",
        _ => "export the model without it, or report the need for it (README.md of qc says where)",
    };
    Refusal::unsupported("this operator is not supported").remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::width::ONNX_VARIADIC;

    #[test]
    fn the_table_is_sorted() {
        assert!([OPS, MICROSOFT].iter().all(|ops| ops.is_sorted_by_key(|(name, _)| *name)));
        assert!(names("").windows(2).all(|pair| pair[0] < pair[1]), "an operator has two rows");
        let exists = |name: &str| find("", name).or_else(|| find("com.microsoft", name)).is_some();
        assert!(ONNX_VARIADIC.is_sorted() && ONNX_VARIADIC.iter().all(|name| exists(name)));
        assert!(find("", "Conv").is_some() && find("ai.onnx", "Add").is_some());
        assert!(find("com.microsoft", "Conv").is_none() && find("", "conv").is_none());
    }
}
