//! The op types that are understood, one row each.

use super::op::{Lower, Row};
use super::program::OpDesc;
use super::recurrent::{padded, ragged};
use super::{
    choose, converted, crf, ctc, detection, elementwise, fused, indexing, logic, movement, nn, priors, quant, resize,
    sequence, shapes,
};
use crate::error::Refusal;
use crate::functions::FUNCTIONS;

const fn row(name: &'static str, out: &'static str, lower: Lower) -> Row {
    Row { name, out, lower }
}

/// The op types that are understood, sorted.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = OPS.iter().chain(functions()).map(|row| row.name).collect();
    names.sort_unstable();
    names
}

/// The op types that are functions of single elements.
fn functions() -> impl Iterator<Item = &'static Row> {
    FUNCTIONS.iter().filter_map(|f| f.paddle.as_ref())
}

/// Sorted by name. Functions of single elements have rows in [`FUNCTIONS`].
static OPS: &[Row] = &[
    row("affine_channel", "Out", nn::affine_channel),
    row("anchor_generator", "Anchors", priors::anchor_generator),
    row("arg_max", "Out", choose::arg_max),
    row("arg_min", "Out", choose::arg_min),
    row("argsort", "Out", choose::arg_sort),
    row("assign", "Out", elementwise::identity),
    row("assign_value", "Out", shapes::assign_value),
    row("batch_norm", "Y", nn::batch_norm),
    row("bicubic_interp", "Out", resize::cubic),
    row("bicubic_interp_v2", "Out", resize::cubic),
    row("bilinear_interp", "Out", resize::linear),
    row("bilinear_interp_v2", "Out", resize::linear),
    row("bitwise_and", "Out", logic::bitwise_and),
    row("bitwise_not", "Out", logic::bitwise_not),
    row("bitwise_or", "Out", logic::bitwise_or),
    row("bitwise_xor", "Out", logic::bitwise_xor),
    row("box_clip", "Output", detection::box_clip),
    row("box_coder", "OutputBox", detection::box_coder),
    row("brelu", "Out", elementwise::brelu),
    row("cast", "Out", movement::cast),
    row("celu", "Out", elementwise::celu),
    row("clip", "Out", elementwise::clip),
    row("concat", "Out", movement::concat),
    row("conv2d", "Output", nn::conv),
    row("conv2d_transpose", "Output", nn::conv_transpose),
    row("conv3d", "Output", nn::conv),
    row("conv3d_transpose", "Output", nn::conv_transpose),
    row("crf_decoding", "ViterbiPath", crf::decode),
    row("ctc_align", "Output", ctc::align),
    row("cumprod", "Out", choose::running_product),
    row("cumsum", "Out", logic::cumsum),
    row("density_prior_box", "Boxes", priors::density_prior_box),
    row("depthwise_conv2d", "Output", nn::conv),
    row("depthwise_conv2d_transpose", "Output", nn::conv_transpose),
    row("dequantize", "Output", converted::of_floats),
    row("dequantize_linear", "Y", quant::dequantize_linear),
    row("dropout", "Out", elementwise::dropout),
    row("elementwise_add", "Out", elementwise::add),
    row("elementwise_div", "Out", elementwise::div),
    row("elementwise_floordiv", "Out", logic::floor_divide),
    row("elementwise_max", "Out", elementwise::max),
    row("elementwise_min", "Out", elementwise::min),
    row("elementwise_mod", "Out", logic::remainder),
    row("elementwise_mul", "Out", elementwise::mul),
    row("elementwise_pow", "Out", logic::raised),
    row("elementwise_sub", "Out", elementwise::sub),
    row("equal", "Out", logic::equal),
    row("expand", "Out", movement::expand_times),
    row("expand_v2", "Out", movement::expand),
    row("fake_channel_wise_dequantize_max_abs", "Out", quant::fake_dequantize),
    row("fake_channel_wise_quantize_abs_max", "Out", quant::fake_quantize_abs_max),
    row("fake_channel_wise_quantize_dequantize_abs_max", "Out", quant::fake_quantize_dequantize_abs_max),
    row("fake_dequantize_max_abs", "Out", quant::fake_dequantize),
    row("fake_quantize_abs_max", "Out", quant::fake_quantize_abs_max),
    row("fake_quantize_dequantize_abs_max", "Out", quant::fake_quantize_dequantize_abs_max),
    row("fake_quantize_dequantize_moving_average_abs_max", "Out", quant::fake_quantize_dequantize),
    row("fake_quantize_moving_average_abs_max", "Out", quant::fake_quantize),
    row("fake_quantize_range_abs_max", "Out", quant::fake_quantize),
    row("fc", "Out", nn::fc),
    row("fill_any_like", "Out", shapes::fill_like),
    row("fill_constant", "Out", shapes::fill_constant),
    row("fill_constant_batch_size_like", "Out", shapes::fill_batch_size_like),
    row("fill_zeros_like", "Out", shapes::fill_like),
    row("flatten", "Out", movement::flatten2),
    row("flatten2", "Out", movement::flatten2),
    row("flatten_contiguous_range", "Out", movement::flatten_range),
    row("flip", "Out", movement::flip),
    row("fused_conv2d", "Output", nn::conv),
    row("fused_conv3d", "Output", nn::conv),
    row("fused_elementwise_add", "Out", fused::add),
    row("fused_elementwise_div", "Out", fused::div),
    row("fused_elementwise_mul", "Out", fused::mul),
    row("fused_elementwise_sub", "Out", fused::subtract),
    row("fused_embedding_eltwise_layernorm", "Out", fused::embedding_layernorm),
    row("fused_fc_elementwise_layernorm", "Out", fused::fc_layernorm),
    row("fused_matmul", "Out", nn::fused_matmul),
    row("fused_transpose", "Out", fused::transpose),
    row("fusion_gru", "Hidden", ragged::fusion_gru),
    row("fusion_lstm", "Hidden", ragged::fusion_lstm),
    row("gather", "Out", indexing::gather),
    row("gather_nd", "Out", indexing::gather_nd),
    row("greater_equal", "Out", logic::greater_equal),
    row("greater_than", "Out", logic::greater_than),
    row("grid_sampler", "Output", choose::grid_sample),
    row("group_norm", "Y", choose::group_norm),
    row("gru", "Hidden", ragged::gru),
    row("gru_unit", "Hidden", ragged::gru_unit),
    row("im2sequence", "Out", sequence::im2sequence),
    row("index_select", "Out", indexing::index_select),
    row("instance_norm", "Y", choose::instance_norm),
    row("iou_similarity", "Out", detection::iou_similarity),
    row("isfinite_v2", "Out", logic::is_finite),
    row("isinf_v2", "Out", logic::is_infinite),
    row("isnan_v2", "Out", logic::is_nan),
    row("layer_norm", "Y", nn::layer_norm),
    row("less_equal", "Out", logic::less_equal),
    row("less_than", "Out", logic::less_than),
    row("linear_interp", "Out", resize::linear),
    row("linear_interp_v2", "Out", resize::linear),
    row("lod_reset", "Out", sequence::lod_reset),
    row("log_softmax", "Out", choose::log_softmax),
    row("logical_and", "Out", logic::logical_and),
    row("logical_not", "Out", logic::logical_not),
    row("logical_or", "Out", logic::logical_or),
    row("logical_xor", "Out", logic::logical_xor),
    row("logsigmoid", "Out", elementwise::log_sigmoid),
    row("logsumexp", "Out", choose::log_sum_exp),
    row("lookup_table", "Out", indexing::lookup_table),
    row("lookup_table_v2", "Out", indexing::lookup_table_v2),
    row("lrn", "Out", nn::lrn),
    row("lstm", "Hidden", ragged::lstm),
    row("matmul", "Out", nn::matmul),
    row("matmul_v2", "Out", nn::matmul_v2),
    row("matrix_nms", "Out", detection::matrix_nms),
    row("max_pool2d_with_index", "Out", nn::max_pool_with_index),
    row("max_pool3d_with_index", "Out", nn::max_pool_with_index),
    row("mean", "Out", nn::mean),
    row("moving_average_abs_max_scale", "Out", elementwise::identity),
    row("mul", "Out", nn::mul),
    row("multi_gru", "Hidden", ragged::multi_gru),
    row("multiclass_nms", "Out", detection::multiclass_nms),
    row("multiclass_nms2", "Out", detection::multiclass_nms),
    row("multiclass_nms3", "Out", detection::multiclass_nms),
    row("multihead_matmul", "Out", fused::multihead_matmul),
    row("nearest_interp", "Out", resize::nearest),
    row("nearest_interp_v2", "Out", resize::nearest),
    row("nms", "KeepBoxesIdxs", detection::nms),
    row("norm", "Out", choose::l2_normalized),
    row("not_equal", "Out", logic::not_equal),
    row("one_hot", "Out", choose::one_hot_of_column),
    row("one_hot_v2", "Out", choose::one_hot),
    row("p_norm", "Out", choose::p_norm),
    row("pad", "Out", movement::pad),
    row("pad2d", "Out", movement::pad2d),
    row("pad3d", "Out", movement::pad3d),
    row("pixel_shuffle", "Out", movement::pixel_shuffle),
    row("pool2d", "Out", nn::pool),
    row("pool3d", "Out", nn::pool),
    row("pow", "Out", elementwise::pow),
    row("prelu", "Out", elementwise::prelu),
    row("prior_box", "Boxes", priors::prior_box),
    row("quantize", "Output", converted::quantize),
    row("quantize_linear", "Y", quant::quantize_linear),
    row("range", "Out", shapes::range),
    row("reciprocal", "Out", elementwise::reciprocal),
    row("reduce_all", "Out", logic::all),
    row("reduce_any", "Out", logic::any),
    row("reduce_max", "Out", logic::max),
    row("reduce_mean", "Out", nn::reduce_mean),
    row("reduce_min", "Out", logic::min),
    row("reduce_prod", "Out", choose::product),
    row("reduce_sum", "Out", logic::sum),
    row("relu", "Out", elementwise::relu),
    row("relu6", "Out", elementwise::relu6),
    row("requantize", "Output", converted::of_floats),
    row("reshape", "Out", movement::reshape),
    row("reshape2", "Out", movement::reshape),
    row("rnn", "Out", padded::rnn),
    row("roi_align", "Out", detection::roi_align),
    row("rsqrt", "Out", elementwise::rsqrt),
    row("scale", "Out", elementwise::scale),
    row("self_dp_attention", "Out", fused::self_attention),
    row("selu", "Out", elementwise::selu),
    row("sequence_concat", "Out", sequence::concat),
    row("sequence_conv", "Out", sequence::conv),
    row("sequence_expand", "Out", sequence::expand),
    row("sequence_expand_as", "Out", sequence::expand_as),
    row("sequence_mask", "Y", sequence::mask),
    row("sequence_pad", "Out", sequence::pad),
    row("sequence_pool", "Out", sequence::pool),
    row("sequence_reverse", "Y", sequence::reverse),
    row("sequence_softmax", "Out", sequence::softmax),
    row("sequence_unpad", "Out", sequence::unpad),
    row("shape", "Out", shapes::shape),
    row("shape64", "Out", shapes::shape_wide),
    row("share_data", "Out", elementwise::identity),
    row("shuffle_channel", "Out", movement::shuffle_channel),
    row("sign", "Out", logic::sign),
    row("skip_layernorm", "Out", fused::skip_layernorm),
    row("slice", "Out", movement::slice),
    row("softmax", "Out", nn::softmax),
    row("split", "Out", movement::split),
    row("square", "Out", elementwise::square),
    row("squeeze", "Out", movement::squeeze),
    row("squeeze2", "Out", movement::squeeze),
    row("stack", "Y", movement::stack),
    row("stanh", "Out", elementwise::stanh),
    row("strided_slice", "Out", movement::slice),
    row("sum", "Out", fused::sum),
    row("sync_batch_norm", "Y", nn::batch_norm),
    row("take_along_axis", "Result", indexing::take_along_axis),
    row("tanh_shrink", "Out", elementwise::tanh_shrink),
    row("tile", "Out", movement::tile),
    row("top_k", "Out", choose::top_k),
    row("top_k_v2", "Out", choose::top_k),
    row("transpose", "Out", movement::transpose),
    row("transpose2", "Out", movement::transpose),
    row("tril", "Out", choose::lower),
    row("tril_triu", "Out", choose::lower_or_upper),
    row("trilinear_interp", "Out", resize::linear),
    row("trilinear_interp_v2", "Out", resize::linear),
    row("triu", "Out", choose::upper),
    row("trunc", "Out", elementwise::trunc),
    row("unsqueeze", "Out", movement::unsqueeze),
    row("unsqueeze2", "Out", movement::unsqueeze),
    row("unstack", "Y", movement::unstack),
    row("where", "Out", logic::choose),
    row("yolo_box", "Boxes", detection::yolo_box),
];

/// The row of an op type.
pub(super) fn find(op_type: &str) -> Option<&'static Row> {
    let found = OPS.binary_search_by(|row| row.name.cmp(op_type)).ok().map(|i| &OPS[i]);
    found.or_else(|| functions().find(|row| row.name == op_type))
}

/// Why an op is refused whatever its operands are, if it is.
pub(super) fn refusal(op: &OpDesc) -> Option<Refusal> {
    if find(&op.r#type).is_none() {
        return Some(unsupported(&op.r#type));
    }
    (converted::says_int8(op) && !converted::is_known(&op.r#type)).then(of_bytes)
}

fn of_bytes() -> Refusal {
    Refusal::unsupported("the INT8 form of this op in converted programs is not supported")
        .remedy("give the float or quantization-aware program it was made from")
}

/// Why an op type that is not in the table is refused.
pub(super) fn unsupported(op_type: &str) -> Refusal {
    let word = op_type.strip_prefix("pd_op.").unwrap_or(op_type);
    match word {
        "while"
        | "conditional_block"
        | "conditional_block_infer"
        | "recurrent"
        | "if"
        | "select_input"
        | "select_output" => {
            Refusal::unsupported("control flow is not supported").remedy("export the model without control flow")
        }
        _ if op_type.starts_with("cf.") => {
            Refusal::unsupported("control flow is not supported").remedy("export the model without control flow")
        }
        "write_to_array"
        | "read_from_array"
        | "array_to_lod_tensor"
        | "lod_tensor_to_array"
        | "lod_array_length"
        | "lod_rank_table"
        | "max_sequence_len"
        | "shrink_rnn_memory"
        | "array_write_"
        | "array_read"
        | "array_length"
        | "create_array"
        | "tensor_array_to_tensor" => Refusal::unsupported("arrays of tensors, which loops use, are not supported")
            .remedy("export the model without control flow"),
        _ if is_ragged(word) => Refusal::unsupported("this op on ragged sequences (LoD) is not supported")
            .remedy("export the model with padded, dense sequences"),
        _ if op_type.starts_with("custom_op.") => {
            Refusal::unsupported("it is a custom operator").remedy("export the model without it")
        }
        _ => Refusal::unsupported("this op is not supported"),
    }
}

/// Ops whose meaning depends on the lengths of sequences.
fn is_ragged(word: &str) -> bool {
    const OTHERS: [&str; 8] = [
        "beam_search",
        "beam_search_decode",
        "dynamic_gru",
        "dynamic_lstm",
        "lstmp",
        "reorder_lod_tensor_by_rank",
        "row_conv",
        "chunk_eval",
    ];
    word.starts_with("sequence_") || OTHERS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(OPS.is_sorted_by_key(|row| row.name));
        assert!(names().windows(2).all(|pair| pair[0] < pair[1]), "an op type has two rows");
        assert!(find("conv2d").is_some() && find("conv4d").is_none());
    }
}
