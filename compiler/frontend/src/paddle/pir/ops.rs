//! Ops of Paddle 3's dialects and the program ops that they are.
//!
//! Paddle 3 names ops after its kernels, and passes as operands what was an attribute before. A row says which program
//! op a name stands for, which slots the operands fill, and which attributes have another name.

use super::row::{Row, row};
use crate::functions::FUNCTIONS;

const X: &[&str] = &["X"];
const XY: &[&str] = &["X", "Y"];
const NORM: &[&str] = &["X", "Mean", "Variance", "Scale", "Bias"];
const INTERPOLATED: &[&str] = &["X", "OutSize", "SizeTensor", "Scale"];
const TRANSPOSED: &[&str] = &["Input", "Filter", "OutputSizeTensor"];
const LINEAR: &[&str] = &["X", "Scale", "ZeroPoint", "InAccum", "InState"];
const OBSERVED: &[&str] = &["X", "InScale", "InAccum", "InState"];
const DATA_LAYOUT: &[(&str, &str)] = &[("data_format", "data_layout")];
const REDUCED: &[(&str, &str)] = &[("axis", "dim"), ("keepdim", "keep_dim")];

/// The ops of the `pd_op` dialect that are understood, sorted.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = OPS.iter().chain(functions()).map(|row| row.name).collect();
    names.sort_unstable();
    names
}

/// The names of a program op.
pub(crate) fn names_of(program: &str) -> Vec<&'static str> {
    OPS.iter().chain(functions()).filter(|row| row.program == program).map(|row| row.name).collect()
}

/// The ops that are functions of single elements.
fn functions() -> impl Iterator<Item = &'static Row> {
    FUNCTIONS.iter().filter_map(|f| f.pir.as_ref())
}

/// Sorted by name. Functions of single elements have rows in [`FUNCTIONS`].
static OPS: &[Row] = &[
    row("add", "elementwise_add", XY),
    row("add_n", "sum", X),
    row("affine_channel", "affine_channel", &["X", "Scale", "Bias"]),
    row("all", "reduce_all", X).renamed(REDUCED),
    row("any", "reduce_any", X).renamed(REDUCED),
    row("arange", "range", &["Start", "End", "Step"]),
    row("argmax", "arg_max", &["X", "Axis"]),
    row("argmin", "arg_min", &["X", "Axis"]),
    row("argsort", "argsort", X).more(&["Indices"]),
    row("assign", "assign", X),
    row("assign_value", "assign_value", &["Replaced"]),
    row("batch_norm", "batch_norm", NORM).out("Y").renamed(DATA_LAYOUT),
    row("bicubic_interp", "bicubic_interp_v2", INTERPOLATED).renamed(DATA_LAYOUT),
    row("bilinear_interp", "bilinear_interp_v2", INTERPOLATED).renamed(DATA_LAYOUT),
    row("bitwise_and", "bitwise_and", XY),
    row("bitwise_not", "bitwise_not", X),
    row("bitwise_or", "bitwise_or", XY),
    row("bitwise_xor", "bitwise_xor", XY),
    row("box_clip", "box_clip", &["Input", "ImInfo"]).out("Output"),
    row("box_coder", "box_coder", &["PriorBox", "PriorBoxVar", "TargetBox"]).out("OutputBox"),
    row("cast", "cast", X).renamed(&[("dtype", "out_dtype")]),
    row("celu", "celu", X),
    row("clip", "clip", &["X", "Min", "Max"]),
    row("concat", "concat", &["X", "AxisTensor"]),
    row("conv2d", "conv2d", &["Input", "Filter"]).out("Output"),
    row("conv2d_transpose", "conv2d_transpose", TRANSPOSED).out("Output"),
    row("conv3d", "conv3d", &["Input", "Filter"]).out("Output"),
    row("conv3d_transpose", "conv3d_transpose", TRANSPOSED).out("Output"),
    row("cumprod", "cumprod", X),
    row("cumsum", "cumsum", &["X", "AxisTensor"]),
    row("depthwise_conv2d", "depthwise_conv2d", &["Input", "Filter"]).out("Output"),
    row("depthwise_conv2d_transpose", "depthwise_conv2d_transpose", TRANSPOSED).out("Output"),
    row("dequantize_linear", "dequantize_linear", LINEAR).out("Y"),
    row("divide", "elementwise_div", XY),
    row("dropout", "dropout", &["X", "Seed", "Probability"])
        .renamed(&[("mode", "dropout_implementation"), ("p", "dropout_prob")]),
    row("elementwise_pow", "elementwise_pow", XY),
    row("embedding", "lookup_table_v2", &["Ids", "W"]),
    row("equal", "equal", XY),
    row("expand", "expand_v2", &["X", "Shape"]),
    row("fake_channel_wise_quantize_dequantize_abs_max", "fake_channel_wise_quantize_dequantize_abs_max", X),
    row("fake_quantize_abs_max", "fake_quantize_abs_max", X),
    row("fake_quantize_dequantize_abs_max", "fake_quantize_dequantize_abs_max", X),
    row("fake_quantize_dequantize_moving_average_abs_max", "fake_quantize_dequantize_moving_average_abs_max", OBSERVED),
    row("fc", "fc", &["Input", "W", "Bias"]),
    row("flatten", "flatten_contiguous_range", X),
    row("flip", "flip", X),
    row("floor_divide", "elementwise_floordiv", XY),
    row("full", "fill_constant", &[]),
    row("full_batch_size_like", "fill_constant_batch_size_like", &["Input"]),
    row("full_int_array", "assign_value", &[]),
    row("full_like", "fill_any_like", &["X", "ValueTensor"]),
    row("full_with_tensor", "fill_constant", &["ValueTensor", "ShapeTensor"]),
    row("gather", "gather", &["X", "Index", "Axis"]),
    row("gather_nd", "gather_nd", &["X", "Index"]),
    row("greater_equal", "greater_equal", XY),
    row("greater_than", "greater_than", XY),
    row("grid_sample", "grid_sampler", &["X", "Grid"]).out("Output"),
    row("group_norm", "group_norm", &["X", "Scale", "Bias"]).out("Y").more(&["Mean", "Variance"]).renamed(DATA_LAYOUT),
    row("index_select", "index_select", &["X", "Index"]).renamed(&[("axis", "dim")]),
    row("instance_norm", "instance_norm", &["X", "Scale", "Bias"]).out("Y").more(&["SavedMean", "SavedVariance"]),
    row("isfinite", "isfinite_v2", X),
    row("isinf", "isinf_v2", X),
    row("isnan", "isnan_v2", X),
    row("layer_norm", "layer_norm", &["X", "Scale", "Bias"]).out("Y").more(&["Mean", "Variance"]),
    row("less_equal", "less_equal", XY),
    row("less_than", "less_than", XY),
    row("linear_interp", "linear_interp_v2", INTERPOLATED).renamed(DATA_LAYOUT),
    row("log_softmax", "log_softmax", X),
    row("logical_and", "logical_and", XY),
    row("logical_not", "logical_not", X),
    row("logical_or", "logical_or", XY),
    row("logical_xor", "logical_xor", XY),
    row("logsigmoid", "logsigmoid", X),
    row("logsumexp", "logsumexp", X),
    row("matmul", "matmul_v2", XY).renamed(&[("transpose_x", "trans_x"), ("transpose_y", "trans_y")]),
    row("matrix_nms", "matrix_nms", &["BBoxes", "Scores"]).more(&["Index", "RoisNum"]),
    row("max", "reduce_max", &["X", "AxisTensor"]).renamed(REDUCED),
    row("max_pool2d_with_index", "max_pool2d_with_index", X).renamed(&[("kernel_size", "ksize")]).more(&["Mask"]),
    row("max_pool3d_with_index", "max_pool3d_with_index", X).renamed(&[("kernel_size", "ksize")]).more(&["Mask"]),
    row("maximum", "elementwise_max", XY),
    row("mean", "reduce_mean", &["X", "AxisTensor"]).renamed(REDUCED),
    row("min", "reduce_min", &["X", "AxisTensor"]).renamed(REDUCED),
    row("minimum", "elementwise_min", XY),
    row("multiclass_nms3", "multiclass_nms3", &["BBoxes", "Scores", "RoisNum"]).more(&["Index", "NmsRoisNum"]),
    row("multiply", "elementwise_mul", XY),
    row("nearest_interp", "nearest_interp_v2", INTERPOLATED).renamed(DATA_LAYOUT),
    row("nms", "nms", &["Boxes"]).out("KeepBoxesIdxs").renamed(&[("threshold", "iou_threshold")]),
    row("norm", "norm", X),
    row("not_equal", "not_equal", XY),
    row("one_hot", "one_hot_v2", &["X", "depth_tensor"]).renamed(&[("num_classes", "depth")]),
    row("p_norm", "p_norm", X),
    row("pad", "pad", &["X", "PadValue"]),
    row("pad3d", "pad3d", &["X", "Paddings"]).renamed(&[("pad_value", "value")]),
    row("pixel_shuffle", "pixel_shuffle", X),
    row("pool2d", "pool2d", &["X", "KernelSize"]),
    row("pool3d", "pool3d", X).renamed(&[("kernel_size", "ksize")]),
    row("pow", "pow", X).renamed(&[("y", "factor")]),
    row("prelu", "prelu", &["X", "Alpha"]),
    row("prior_box", "prior_box", &["Input", "Image"]).out("Boxes").more(&["Variances"]),
    row("prod", "reduce_prod", &["X", "AxisTensor"]).renamed(REDUCED),
    row("quantize_linear", "quantize_linear", LINEAR).out("Y"),
    row("reciprocal", "reciprocal", X),
    row("relu", "relu", X),
    row("relu6", "relu6", X),
    row("remainder", "elementwise_mod", XY),
    row("reshape", "reshape2", &["X", "Shape"]),
    row("rnn", "rnn", &["Input", "PreState", "WeightList", "SequenceLength", "DropoutState"])
        .more(&["DropoutState", "State"]),
    row("roi_align", "roi_align", &["X", "ROIs", "RoisNum"]),
    row("rsqrt", "rsqrt", X),
    row("scale", "scale", &["X", "ScaleTensor", "BiasTensor"]),
    row("selu", "selu", X),
    row("shape", "shape", &["Input"]),
    row("shape64", "shape64", &["Input"]),
    row("share_data", "share_data", X),
    row("sign", "sign", X),
    row("slice", "slice", &["Input", "StartsTensor", "EndsTensor"]),
    row("softmax", "softmax", X),
    row("split", "split", &["X", "SectionsTensorList", "AxisTensor"]),
    row("split_with_num", "split", &["X", "AxisTensor"]),
    row("square", "square", X),
    row("squeeze", "squeeze2", &["X", "AxesTensor"]).renamed(&[("axis", "axes")]),
    row("stack", "stack", X).out("Y"),
    row("stanh", "stanh", X),
    row("strided_slice", "strided_slice", &["Input", "StartsTensor", "EndsTensor", "StridesTensor"]),
    row("subtract", "elementwise_sub", XY),
    row("sum", "reduce_sum", &["X", "AxisTensor"]).renamed(REDUCED),
    row("sync_batch_norm", "sync_batch_norm", NORM).out("Y").renamed(DATA_LAYOUT),
    row("take_along_axis", "take_along_axis", &["Input", "Index"]).out("Result").renamed(&[("axis", "Axis")]),
    row("tanh_shrink", "tanh_shrink", X),
    row("tile", "tile", &["X", "RepeatTimes"]),
    row("topk", "top_k_v2", &["X", "K"]).more(&["Indices"]),
    row("transpose", "transpose2", X).renamed(&[("perm", "axis")]),
    row("tril", "tril", X),
    row("trilinear_interp", "trilinear_interp_v2", INTERPOLATED).renamed(DATA_LAYOUT),
    row("triu", "triu", X),
    row("trunc", "trunc", X),
    row("unsqueeze", "unsqueeze2", &["X", "AxesTensor"]).renamed(&[("axis", "axes")]),
    row("unstack", "unstack", X).out("Y"),
    row("where", "where", &["Condition", "X", "Y"]),
    row("yolo_box", "yolo_box", &["X", "ImgSize"]).out("Boxes").more(&["Scores"]),
];

/// The row of an op. A trailing `_` says that Paddle computes it in place.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    let name = name.strip_suffix('_').unwrap_or(name);
    let found = OPS.binary_search_by(|row| row.name.cmp(name)).ok().map(|i| &OPS[i]);
    found.or_else(|| functions().find(|row| row.name == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_known() {
        assert!(OPS.is_sorted_by_key(|row| row.name));
        assert!(names().windows(2).all(|pair| pair[0] < pair[1]), "an op has two rows");
        for row in OPS.iter().chain(functions()) {
            assert!(super::super::super::ops::find(row.program).is_some(), "{}", row.program);
        }
        assert_eq!(find("batch_norm_").map(|r| r.program), Some("batch_norm"));
        assert!(find("conv4d").is_none());
    }
}
