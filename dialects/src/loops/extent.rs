//! How far a kernel reads or writes from each of its pointers, as its argument struct says.

use super::Call;
use qc_ir::Attr;
use qc_kernels::table::{Family, Variant};

/// The bytes that a call touches from a pointer on: `first..end`, the pointer being at 0.
///
/// `count` gives the value of a field that an index fills. Weights are not followed: packers and kernels agree on their
/// layout. Neither is what kernels may read around their buffers. `None` if that leaves 64 bits.
pub fn extent(call: &Call, pointer: &str, count: impl Fn(&str) -> Option<i64>) -> Option<(i64, i64)> {
    let constant = |name: &str| match call.constant.iter().find(|(n, _)| **n == *name) {
        Some((_, Attr::Int(x))) => Some(*x),
        _ => None,
    };
    let value = |name: &str| count(name).or_else(|| constant(name)).unwrap_or(0);
    if call.family == Family::Pack && pointer == "dst" {
        return panel_bytes(call.variant, value("k"), value("cols")).map(|end| (0, end));
    }
    let (levels, run, bytes) = shape(call, pointer);
    let elements = run.map_or(1, value).max(1);
    // The last group of four bytes of a segment may have 3 behind the segment's end.
    let behind = if call.family == Family::Gemm && pointer == "a" { 3 } else { 0 };
    let (mut first, mut end) = (0i64, elements.checked_mul(bytes)? - behind);
    for (count, stride) in levels {
        let reach = value(count).max(1).checked_sub(1)?.checked_mul(value(stride))?;
        (first, end) = (first.checked_add(reach.min(0))?, end.checked_add(reach.max(0))?);
    }
    Some((first, end))
}

/// Bytes of a panel that is packed: whole groups of elements, columns rounded up to 16.
fn panel_bytes(variant: Variant, k: i64, cols: i64) -> Option<i64> {
    let group = if variant == Variant::B1 { 4 } else { 1 };
    let up = |n: i64, to: i64| n.max(1).checked_add(to - 1).map(|n| n / to);
    up(k, group)?.checked_mul(up(cols, 16)?)?.checked_mul(64)
}

type Levels = &'static [(&'static str, &'static str)];

/// The counts and strides of a pointer, the count of elements one behind the other, and their size in bytes.
fn shape(call: &Call, pointer: &str) -> (Levels, Option<&'static str>, i64) {
    use Family::*;
    let is_set = |name: &str| call.constant.iter().any(|(n, _)| **n == *name);
    let stored = |scale: &str| if is_set(scale) { 1 } else { 4 };
    let one_byte = matches!(call.variant, Variant::U8 | Variant::U8Res | Variant::MaxU8 | Variant::AvgU8 | Variant::B1);
    let bytes = if one_byte { 1 } else { 4 };
    let b_run = (!is_one(call, "b_scalar")).then_some("n");
    match (call.family, pointer) {
        (_, "lut") => (&[], None, 256),
        (_, "w") => (&[], None, 1),
        (Gemm, "a") => (SEGMENTS, Some("k4"), 4),
        (GemmF32, "a") => (SEGMENTS, Some("k"), 4),
        (Gemm | GemmF32, "bias" | "scale" | "addend" | "col_sum" | "w_scale") => (&[], Some("cols"), 4),
        (Gemm, "res") if call.variant == Variant::F32Rows => (&[("outer", "res_outer"), ("rows", "res_row")], None, 8),
        (Gemm, "row_bias") => (&[("outer", "row_bias_outer")], Some("rows"), 4),
        (Gemm | GemmF32, "res") => (&[("outer", "res_outer"), ("rows", "res_row")], Some("cols"), res_bytes(call)),
        (Gemm | GemmF32, _) => (&[("outer", "out_outer"), ("rows", "out_row")], Some("cols"), bytes),
        (Dw | DwF32, "bias" | "scale") => (&[], Some("channels"), 4),
        (Dw, "a") => (WINDOWS, Some("channels"), 1),
        (DwF32, "a") => (WINDOWS, Some("channels"), 4),
        (Pool, "a") => (&[("in_h", "a_row"), ("in_w", "a_px")], Some("channels"), bytes),
        (Dw | DwF32 | Pool, _) => (&[("rows", "out_row"), ("cols", "out_px")], Some("channels"), bytes),
        (BinaryU8, "b") => (&[("rows", "b_row")], b_run, 1),
        (BinaryF32, "b") => (&[("rows", "b_row")], b_run, stored("b_scale")),
        (BinaryU8, "a") => (&[("rows", "a_row")], Some("n"), 1),
        (BinaryU8, _) => (&[("rows", "out_row")], Some("n"), 1),
        (Unary, "a") if call.variant == Variant::LutU8 => (&[("rows", "a_row")], Some("n"), 1),
        (Unary, _) if call.variant == Variant::LutU8 => (&[("rows", "out_row")], Some("n"), 1),
        (Unary, "addend") => (&[("rows", "addend_row")], Some("n"), 4),
        (BinaryF32 | Unary, "a") => (&[("rows", "a_row")], Some("n"), stored("a_scale")),
        (BinaryF32 | Unary, _) => (&[("rows", "out_row")], Some("n"), stored("scale")),
        (Quantize, "a") => (&[("outer", "a_outer"), ("pixels", "a_px"), ("channels", "a_ch")], None, 4),
        (Quantize, _) => (&[("outer", "out_outer"), ("pixels", "out_px")], Some("channels"), 1),
        (Dequantize, "a") => (&[("outer", "a_outer"), ("pixels", "a_px")], Some("channels"), 1),
        (Dequantize, _) => (&[("outer", "out_outer"), ("pixels", "out_px"), ("channels", "out_ch")], None, 4),
        (Gather, "table") => {
            let bytes = if call.variant == Variant::F32 { 4 } else { 1 };
            (&[("outer", "table_outer"), ("size", "table_row")], Some("n"), bytes)
        }
        (Gather, "indices") => (&[], Some("rows"), 4),
        (Gather, "scale") => (&[], Some("size"), 4),
        (Gather, _) => (&[("outer", "out_outer"), ("rows", "out_row")], Some("n"), bytes),
        (Resample, "places" | "weights") => (&[("rows", "tap_row")], Some("taps"), 4),
        (Resample, "a") => (&[("outer", "a_outer"), ("size", "a_row")], Some("n"), stored("a_scale")),
        (Resample, _) => (&[("outer", "out_outer"), ("rows", "out_row")], Some("n"), stored("scale")),
        (TopK, "a") => (&[("rows", "a_row")], Some("n"), 4),
        (TopK, "heap") => (&[("rows", "heap_row")], Some("k"), 8),
        (TopK, _) => (&[("rows", "out_row")], Some("k"), 4),
        (Nms, "boxes") => (&[("images", "box_image")], Some("size"), 16),
        (Nms, "scores") => (&[("images", "score_image"), ("classes", "score_class")], Some("size"), 4),
        (Nms, "order") => (&[], Some("size"), 8),
        (Nms, "kept") => (&[], Some("most"), 16),
        (Nms, "heap") => (&[], Some("keep"), 8),
        (Nms, _) => (&[("rows", "out_row")], None, if call.variant == Variant::F32 { 16 } else { 12 }),
        (Scatter, "src") => (&[("rows", "src_row")], Some("n"), bytes),
        (Scatter, "indices") => (&[], Some("rows"), 4),
        (Scatter, _) => (&[("size", "out_row")], Some("n"), bytes),
        (Pack, _) => (&[("k", "src_k"), ("cols", "src_n")], None, bytes),
        (Range, "a") => (&[("rows", "a_row")], Some("n"), 4),
        (Range, _) => (&[], Some("rows"), 8),
        (DynamicQuantize, "ranges") => (&[], Some("parts"), 8),
        (DynamicQuantize, "a") => (&[("rows", "a_row")], Some("n"), 4),
        (DynamicQuantize, "format") => (&[], Some("rows"), 8),
        (DynamicQuantize, _) => (&[("rows", "out_row")], Some("n"), 1),
        (Move, "src") => (&[("n0", "src_s0"), ("n1", "src_s1"), ("n2", "src_s2"), ("n3", "src_s3")], None, bytes),
        (Move, _) => (&[("n0", "dst_s0"), ("n1", "dst_s1"), ("n2", "dst_s2"), ("n3", "dst_s3")], None, bytes),
        (Fill, "from") => (&[], None, 1),
        (Fill, _) => (&[("outer", "outer_stride"), ("rows", "row_stride")], Some("n"), bytes),
        (Softmax, "a") => (&[("rows", "a_row"), ("n", "a_elem")], None, 4),
        (Softmax, "mask") => (&[("rows", "mask_row"), ("n", "mask_elem")], None, 4),
        (Softmax, _) => (&[("rows", "out_row"), ("n", "out_elem")], None, stored("scale")),
        (LayerNorm, "gamma" | "beta") => (&[], Some("n"), 4),
        (LayerNorm, "a") => (&[("rows", "a_row")], Some("n"), stored("a_scale")),
        (LayerNorm, "res") => (&[("rows", "res_row")], Some("n"), stored("res_scale")),
        (LayerNorm, "sum") => (&[("rows", "sum_row")], Some("n"), 4),
        (LayerNorm, _) => (&[("rows", "out_row")], Some("n"), stored("scale")),
        (Mean, "a") => (&[("rows", "a_row")], Some("n"), 4),
        (Mean, _) => (&[("rows", "out_row")], None, 4),
        (Lrn, "a") => (&[("pixels", "a_px")], Some("channels"), 4),
        (Lrn, _) => (&[("pixels", "out_px")], Some("channels"), 4),
    }
}

const SEGMENTS: Levels =
    &[("outer", "a_outer"), ("rows", "a_row"), ("seg_y", "seg_y_stride"), ("seg_x", "seg_x_stride")];
const WINDOWS: Levels = &[("rows", "step_y"), ("cols", "step_x"), ("kh", "a_row"), ("kw", "a_col")];

fn res_bytes(call: &Call) -> i64 {
    if call.family == Family::Gemm { 1 } else { 4 }
}

fn is_one(call: &Call, name: &str) -> bool {
    call.constant.iter().any(|(n, value)| **n == *name && *value == Attr::Int(1))
}
