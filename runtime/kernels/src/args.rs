//! Argument structs of the kernel families: the contract between generated code and kernels.
//!
//! A kernel is called with one pointer to the struct of its family. Every field is a pointer, a `usize`, an `i32` or an
//! `f32`, and the table `FIELDS` gives name, offset and kind of each, so that generated code fills any family with the
//! same loop. A field that is not set is zero or null; a field behind whose type stands `=> ..` must be set: in calls of the
//! variants listed, in `ALL`, or in those that set another field (`WITH scale`).
//!
//! A compiler puts a call together in the family's `*Call`, whose fields are those of the argument struct with their kinds:
//! one that is forgotten, if all calls must set it, or set to something of another kind does not compile.
//!
//! Rules that hold for every family:
//! - Strides (`*_row`, `*_px`, `*_outer`, …) are in bytes; 0 repeats the same data. Counts are at least 1.
//! - Exactly the output elements are written; a byte that is not part of an output element keeps its value.
//! - Buffers, outputs included, may be read up to 64 bytes after their last byte; the values read there never matter.
//!   Tables of 256 bytes are an exception: they are not over-read. Nothing is read before a buffer: it may be a caller's.
//! - Scales, offsets and float clamps are not NaN; those of u8 results are finite.
//! - Outputs do not overlap inputs, except where a field says so.
//! - Float clamps are `v = if lo > v { lo } else { v }`, then `v = if hi < v { hi } else { v }`: NaN stays NaN.
//!   A family with clamps needs them set (`-inf`, `inf` for none): unset means 0.
//! - A float result that is NaN is a NaN; which one (sign and payload) is not defined. A u8 result never depends on that.
//! - `lo`, `hi` of u8 results satisfy `0 <= lo <= hi <= 255` and must be set too (`hi = 255` for none).
//! - `lut`, if not null, is a table of 256 bytes that maps each u8 result just before it is stored.
//! - Quantized operands of float kernels stand for `(f32(q) - zero) * scale`, as [`DequantizeArgs`] says; u8 results of
//!   float kernels are what [`QuantizeArgs`] makes of the float result, by `scale`, `zero`, `lo` and `hi`.

pub use crate::field::{Build, Field, FieldKind, KernelCall, Needed, Value};
use crate::field::{FieldType, args};
use crate::table::{Family, Variant};

mod choose;
mod depthwise;
mod nms;
mod norm;
mod resample;
pub use choose::*;
pub use depthwise::*;
pub use nms::*;
pub use norm::*;
pub use resample::*;

args! {
    /// u8 × s8 direct convolution or matrix product, one panel of up to 64 output columns.
    ///
    /// ```text
    /// acc[o][r][n] = bias[n] + row_bias[o][r] + Σ_{y<seg_y, x<seg_x, k<4*k4}
    ///     a[o*a_outer + r*a_row + y*seg_y_stride + x*seg_x_stride + k] * w[y][x][k/4][n][k%4]
    /// ```
    ///
    /// A k×k convolution on channels-last data is `seg_y = kh` segments of `kw*c` contiguous bytes with `seg_x = 1`; with
    /// dilation or on a view of channels it is `seg_x = kw` segments of `c` bytes. A fully connected layer has
    /// `rows = batch`. `w` is one panel `[seg_y][seg_x][k4][cols16][4]` (see `pack::pack_gemm`), `cols16` being `cols`
    /// rounded up to 16; `bias` and `scale` have `cols16` elements. Weights past the real length of a segment are zero,
    /// so the 1 to 3 bytes of `a` read there do not matter. All three are 64-byte aligned.
    ///
    /// Variants by output:
    /// - `u8`: `round(f32(acc) * scale[n]) + zero`, the product in f32 and rounded half to even, clamped to `lo ..= hi`, `lut`.
    /// - `u8r`: `p = f32(acc) * scale[n]`, clamped to `clamp_lo ..= clamp_hi`; `v = p + fma(f32(res), res_scale, res_offset)`,
    ///   `w = v + MAGIC`, clamped to `lo ..= hi`, `lut`.
    /// - `f32`: `f32(acc) * scale[n] + addend[n]`, clamped to `clamp_lo ..= clamp_hi`.
    /// - `i32`: `acc`.
    /// - `f32_rows`: `f32(acc - zero * col_sum[n]) * (factor * scale[n]) + addend[n]`, clamped as `f32`, with the factor
    ///   (f32) and zero point (i32) of the row, which lie one behind the other at `res`.
    Gemm: GemmArgs, GemmCall, GemmMore {
        /// First byte of the first output pixel's first tap.
        a: *const u8 => ALL,
        /// Packed weight panel.
        w: *const i8 => ALL,
        /// `cols16` accumulator starts.
        bias: *const i32 => ALL,
        /// `cols16` factors (unused by `i32`).
        scale: *const f32 => U8 U8Res F32 F32Rows,
        /// `cols16` real numbers that are added (`f32`, `f32_rows`).
        addend: *const f32 => F32 F32Rows,
        /// `cols16` sums of the weights of a column (`f32_rows`).
        col_sum: *const i32 => F32Rows,
        /// First output element; u8, f32 or i32 by variant; `cols` elements per pixel.
        out: *mut u8 => ALL,
        /// Residual, u8, same geometry as `out` (`u8r`), and may be equal to `out`; factor and zero point of each row
        /// (`f32_rows`).
        res: *const u8 => U8Res F32Rows,
        /// Table of 256 bytes, or null (`u8`, `u8r`).
        lut: *const u8,
        /// One addend per row, or null for none: what the zero point of a computed right side makes of a row.
        row_bias: *const i32,
        /// Input bytes from one output row (pixel) to the next.
        a_row: usize,
        /// Input bytes from one outer index to the next.
        a_outer: usize,
        /// Output bytes between rows.
        out_row: usize,
        /// Output bytes between outer indices.
        out_outer: usize,
        /// Residual bytes between rows.
        res_row: usize,
        /// Residual bytes between outer indices.
        res_outer: usize,
        /// Bytes between the addends of outer indices.
        row_bias_outer: usize,
        /// Segments in y.
        seg_y: usize => ALL,
        /// Input bytes between segments in y.
        seg_y_stride: usize,
        /// Segments in x.
        seg_x: usize => ALL,
        /// Input bytes between segments in x.
        seg_x_stride: usize,
        /// Length of a segment in groups of 4 bytes.
        k4: usize => ALL,
        /// Rows (pixels) per outer index.
        rows: usize => ALL,
        /// Outer indices.
        outer: usize => ALL,
        /// Output columns, 1..=64.
        cols: usize => ALL,
        /// Factor of the residual.
        res_scale: f32 => U8Res,
        /// `f32(zero - res_zero * res_scale)`.
        res_offset: f32,
        /// Output zero point.
        zero: f32,
        /// Lowest u8 result.
        lo: i32,
        /// Highest u8 result.
        hi: i32 => U8 U8Res,
        /// Lowest f32 result, or product that a residual is added to (`f32`, `u8r`).
        clamp_lo: f32 => U8Res F32 F32Rows,
        /// Highest of them.
        clamp_hi: f32 => U8Res F32 F32Rows,
    }
}

args! {
    /// f32 direct convolution or matrix product, one panel of up to 64 output columns; geometry of [`GemmArgs`].
    ///
    /// `acc` starts at 0 and is one chain of fma over y, x, k in this order; then `+ bias[n]`, `+ res` if not null, and
    /// the clamp, then the gate. Variant `u8` quantizes that. `w` is one panel `[seg_y][seg_x][k][cols16]` (see `pack::pack_gemm_f32`),
    /// 64-byte aligned.
    ///
    /// Variant `f32_bytes` has weights of s8 in the same places (see `pack::pack_gemm_bytes`), which become f32 as they are
    /// read; `acc * w_scale[n]` takes the place of `acc` before the bias is added.
    ///
    /// With a gate, `v` becomes `h * post_factor + post_addend`, two operations, where `h` is what `hard_swish_f32` of [`UnaryArgs`]
    /// gives for `v` by `gate_offset`, `gate_bound` and `gate_factor`.
    GemmF32: GemmF32Args, GemmF32Call, GemmF32More {
        /// First tap of the first output pixel.
        a: *const f32 => ALL,
        /// Packed weight panel, f32 or s8 by variant.
        w: *const u8 => ALL,
        /// `cols16` numbers that are added.
        bias: *const f32 => ALL,
        /// `cols16` factors of the sums (`f32_bytes`).
        w_scale: *const f32 => F32Bytes,
        /// First output element, f32 or u8 by variant; `cols` elements per pixel.
        out: *mut u8 => ALL,
        /// Residual with the geometry of `out`, f32, or null. May be equal to `out` (`f32`).
        res: *const f32,
        /// Input bytes from one output row (pixel) to the next.
        a_row: usize,
        /// Input bytes from one outer index to the next.
        a_outer: usize,
        /// Output bytes between rows.
        out_row: usize,
        /// Output bytes between outer indices.
        out_outer: usize,
        /// Residual bytes between rows.
        res_row: usize,
        /// Residual bytes between outer indices.
        res_outer: usize,
        /// Segments in y.
        seg_y: usize => ALL,
        /// Input bytes between segments in y.
        seg_y_stride: usize,
        /// Segments in x.
        seg_x: usize => ALL,
        /// Input bytes between segments in x.
        seg_x_stride: usize,
        /// Elements per segment.
        k: usize => ALL,
        /// Rows (pixels) per outer index.
        rows: usize => ALL,
        /// Outer indices.
        outer: usize => ALL,
        /// Output columns, 1..=64.
        cols: usize => ALL,
        /// Lowest float result.
        clamp_lo: f32 => ALL,
        /// Highest float result.
        clamp_hi: f32 => ALL,
        /// Factor of the gate, or 0: then there is none, and the fields behind it mean nothing.
        gate_factor: f32,
        /// What the gate adds to `v`.
        gate_offset: f32,
        /// Highest sum of the gate.
        gate_bound: f32,
        /// Factor of what is gated.
        post_factor: f32,
        /// What is added to it.
        post_addend: f32,
        /// Scale of the u8 result; finite, positive.
        scale: f32 => U8,
        /// Zero point of the u8 result.
        zero: f32,
        /// Lowest u8 result.
        lo: i32,
        /// Highest u8 result.
        hi: i32 => U8,
    }
}

args! {
    /// Max or average pooling on channels-last data; windows are clipped to the input, so no border is needed.
    ///
    /// The window of output `(oy, ox)` starts at input `(oy*stride_y - pad_top, ox*stride_x - pad_left)` and has
    /// `kh × kw` elements, of which those inside `in_h × in_w` are real. Output rows `oy_begin .. oy_begin + rows` are
    /// computed; `out` points at row `oy_begin`.
    ///
    /// - `max_u8`: maximum (0 if no element is real), clamped to `lo ..= hi`.
    /// - `avg_u8`: `Σ (q - a_zero)` over real elements, requantized by `a_scale / (scale * f32(count))` and `zero` as variant
    ///   `u8` of [`GemmArgs`] is.
    /// - `max_f32`: maximum, NaN if an element is NaN, `-inf` if none is real; a zero is positive.
    /// - `avg_f32`: `Σ / count`, in f64 in order y, x, rounded once; 0 if no element is real.
    ///
    /// With `cover_h` and `cover_w` set, windows cover the input instead, for an output of `cover_h × cover_w`: that of
    /// `(oy, ox)` is `floor(oy*in_h/cover_h) .. ceil((oy+1)*in_h/cover_h)` vertically, likewise horizontally. Kernel, strides
    /// and padding are not used then.
    Pool: PoolArgs, PoolCall, PoolMore {
        /// Element (0, 0, channel 0) of the input.
        a: *const u8 => ALL,
        /// First pixel of output row `oy_begin`.
        out: *mut u8 => ALL,
        /// Input bytes between pixels.
        a_px: usize,
        /// Input bytes between rows.
        a_row: usize,
        /// Output bytes between pixels.
        out_px: usize,
        /// Output bytes between rows.
        out_row: usize,
        /// Input height.
        in_h: usize => ALL,
        /// Input width.
        in_w: usize => ALL,
        /// Window height.
        kh: usize => ALL,
        /// Window width.
        kw: usize => ALL,
        /// Stride in y.
        stride_y: usize => ALL,
        /// Stride in x.
        stride_x: usize => ALL,
        /// Rows of padding above.
        pad_top: usize,
        /// Columns of padding to the left.
        pad_left: usize,
        /// Rows of padding below (`count_mode` 2 only).
        pad_bottom: usize,
        /// Columns of padding to the right (`count_mode` 2 only).
        pad_right: usize,
        /// Index of the first output row computed.
        oy_begin: usize,
        /// Output rows.
        rows: usize => ALL,
        /// Output pixels per row.
        cols: usize => ALL,
        /// Channels.
        channels: usize => ALL,
        /// Divisor of an average: 0 number of real elements; 1 `kh * kw`; 2 the part of the window inside the padded
        /// input, `(min(y0 + kh, in_h + pad_bottom) - y0) * (min(x0 + kw, in_w + pad_right) - x0)`.
        count_mode: usize,
        /// Height of the output whose windows cover the input, or 0.
        cover_h: usize,
        /// Width of the output whose windows cover the input; 0 where `cover_h` is.
        cover_w: usize => WITH cover_h,
        /// Scale of the input (`avg_u8`).
        a_scale: f32 => AvgU8,
        /// Zero point of the input (`avg_u8`).
        a_zero: i32,
        /// Scale of the result (`avg_u8`).
        scale: f32 => AvgU8,
        /// Zero point of the result (`avg_u8`).
        zero: f32,
        /// Lowest u8 result.
        lo: i32,
        /// Highest u8 result.
        hi: i32 => MaxU8 AvgU8,
    }
}

args! {
    /// Element-wise operation on two u8 tensors, `rows` rows of `n` bytes.
    ///
    /// - `add_u8`: `v = fma(f32(a), a_scale, fma(f32(b), b_scale, offset))`, `w = v + MAGIC`.
    /// - `mul_u8`: `(a - a_zero) * (b - b_zero)`, requantized by `scale` and `zero` as variant `u8` of [`GemmArgs`] is.
    ///
    /// Then `w` is clamped to `MAGIC + lo ..= MAGIC + hi`; low byte; `lut`. A row stride of 0 repeats one row (a vector
    /// over channels). `out` may be equal to `a` or `b`.
    BinaryU8: BinaryU8Args, BinaryU8Call, BinaryU8More {
        /// First operand.
        a: *const u8 => ALL,
        /// Second operand.
        b: *const u8 => ALL,
        /// Result.
        out: *mut u8 => ALL,
        /// Table of 256 bytes, or null.
        lut: *const u8,
        /// Bytes between rows of `a`.
        a_row: usize,
        /// Bytes between rows of `b`.
        b_row: usize,
        /// Bytes between rows of `out`.
        out_row: usize,
        /// Rows.
        rows: usize => ALL,
        /// Bytes per row.
        n: usize => ALL,
        /// 1: `b` has one element per row, used for all `n`.
        b_scalar: usize,
        /// Factor of `a` (add).
        a_scale: f32 => AddU8,
        /// Factor of `b` (add).
        b_scale: f32 => AddU8,
        /// Addend (add).
        offset: f32,
        /// Factor of the product (mul).
        scale: f32 => MulU8,
        /// Output zero point (mul).
        zero: f32,
        /// Zero point of `a` (mul).
        a_zero: i32,
        /// Zero point of `b` (mul).
        b_zero: i32,
        /// Lowest result.
        lo: i32,
        /// Highest result.
        hi: i32 => ALL,
    }
}

args! {
    /// Element-wise operation on two tensors of real numbers, `rows` rows of `n` elements, then the clamp.
    ///
    /// An operand whose scale is not 0 is quantized, and so is the result: u8 instead of f32. `max_f32` is
    /// `if a > b or a is NaN { a } else { b }`, `min_f32` likewise with `<`: NaN if an operand is. `pow_f32` and `rem_f32` are
    /// `wide::power` and `wide::remainder`. `out` may be equal to an
    /// operand of its type.
    BinaryF32: BinaryF32Args, BinaryF32Call, BinaryF32More {
        /// First operand.
        a: *const u8 => ALL,
        /// Second operand.
        b: *const u8 => ALL,
        /// Result.
        out: *mut u8 => ALL,
        /// Bytes between rows of `a`.
        a_row: usize,
        /// Bytes between rows of `b`.
        b_row: usize,
        /// Bytes between rows of `out`.
        out_row: usize,
        /// Rows.
        rows: usize => ALL,
        /// Elements per row.
        n: usize => ALL,
        /// 1: `b` has one element per row, used for all `n`.
        b_scalar: usize,
        /// Lowest float result.
        clamp_lo: f32 => ALL,
        /// Highest float result.
        clamp_hi: f32 => ALL,
        /// Scale of `a`; 0: it is f32.
        a_scale: f32,
        /// Zero point of `a`.
        a_zero: f32,
        /// Scale of `b`; 0: it is f32.
        b_scale: f32,
        /// Zero point of `b`.
        b_zero: f32,
        /// Scale of the result; 0: it is f32.
        scale: f32,
        /// Zero point of the result.
        zero: f32,
        /// Lowest u8 result.
        lo: i32,
        /// Highest u8 result.
        hi: i32 => WITH scale,
    }
}

args! {
    /// Element-wise operation on one tensor, `rows` rows of `n` elements.
    ///
    /// `lut_u8` maps every byte by `lut`. The others are functions of real numbers, of `a_i + addend_i` rounded where `addend`
    /// is not null; an operand whose scale is not 0 is quantized, and so is the result: u8 instead of f32. With `E(x)` for `reference::exp`, `M(x)` for `reference::expm1`,
    /// `T(x)` for `reference::erfc`, `fma(..)` rounded once, the `max` and `min` of [`BinaryF32Args`], and `p0`, `p1`, `p2`
    /// the parameters (errors against exact values of the same parameters; `u` is a unit in the last place of the result;
    /// results below `max(1, |x|) * 2^-126` may be off by that much), the formula of each is said by its
    /// [`Variant`].
    ///
    /// Infinities give what these formulas make of them, as they do in ONNX Runtime: `gelu(-inf)` and `swish(-inf)` are NaN.
    ///
    /// `out` may be equal to `a` where both have the same type.
    Unary: UnaryArgs, UnaryCall, UnaryMore {
        /// Operand (u8 or f32).
        a: *const u8 => ALL,
        /// Result.
        out: *mut u8 => ALL,
        /// Table of 256 bytes (`lut_u8`).
        lut: *const u8 => LutU8,
        /// What is added to the operand, or null for nothing (all but `lut_u8`).
        addend: *const f32,
        /// Bytes between rows of `a`.
        a_row: usize,
        /// Bytes between rows of addends.
        addend_row: usize,
        /// Bytes between rows of `out`.
        out_row: usize,
        /// Rows.
        rows: usize => ALL,
        /// Elements per row.
        n: usize => ALL,
        /// First parameter.
        p0: f32 => ClampF32,
        /// Second parameter.
        p1: f32 => ClampF32,
        /// Third parameter.
        p2: f32,
        /// Scale of `a`; 0: it is f32.
        a_scale: f32,
        /// Zero point of `a`.
        a_zero: f32,
        /// Scale of the result; 0: it is f32.
        scale: f32,
        /// Zero point of the result.
        zero: f32,
        /// Lowest u8 result.
        lo: i32,
        /// Highest u8 result.
        hi: i32 => WITH scale,
    }
}

args! {
    /// Means of `rows` rows of `n` contiguous floats.
    ///
    /// In f64: partial sums `s_j = Σ a_i` over `i ≡ j mod 16` in order of `i`, starting at 0, added by a fixed tree (`j` with
    /// `j + 8`, then `+ 4`, `+ 2`, `+ 1`); `out = sum / n`, rounded once.
    Mean: MeanArgs, MeanCall, MeanMore {
        /// Source.
        a: *const f32 => ALL,
        /// Results, one per row.
        out: *mut f32 => ALL,
        /// Bytes between rows of `a`.
        a_row: usize,
        /// Bytes between results.
        out_row: usize,
        /// Rows.
        rows: usize => ALL,
        /// Elements per row.
        n: usize => ALL,
    }
}

args! {
    /// f32 to u8: `v = x / scale`, clamped to `lo - zero ..= hi - zero` (NaN gives the lower bound), rounded half to even,
    /// plus `zero`.
    ///
    /// The source may be planar (`a_px = 4`, `a_ch` = bytes of a plane) or channels-last (`a_ch = 4`); channels of the
    /// result are contiguous.
    Quantize: QuantizeArgs, QuantizeCall, QuantizeMore {
        /// Source, pixel 0, channel 0.
        a: *const f32 => ALL,
        /// Result.
        out: *mut u8 => ALL,
        /// Source bytes between pixels.
        a_px: usize,
        /// Source bytes between channels.
        a_ch: usize,
        /// Source bytes between outer indices.
        a_outer: usize,
        /// Result bytes between pixels.
        out_px: usize,
        /// Result bytes between outer indices.
        out_outer: usize,
        /// Pixels per outer index.
        pixels: usize => ALL,
        /// Channels.
        channels: usize => ALL,
        /// Outer indices.
        outer: usize => ALL,
        /// Scale of the result; finite, positive.
        scale: f32 => ALL,
        /// Zero point of the result.
        zero: f32,
        /// Lowest result.
        lo: i32,
        /// Highest result.
        hi: i32 => ALL,
    }
}

args! {
    /// The ranges of `rows` rows of `n` contiguous floats: the least element and the largest, or 0 where that is nearer to 0, as
    /// two f32 one behind the other. NaN has no part in a range.
    Range: RangeArgs, RangeCall, RangeMore {
        /// First row.
        a: *const f32 => ALL,
        /// Results, eight bytes per row.
        out: *mut f32 => ALL,
        /// Bytes between rows of `a`.
        a_row: usize,
        /// Elements of a row.
        n: usize => ALL,
        /// Rows.
        rows: usize => ALL,
    }
}

args! {
    /// f32 rows to u8, each in the format of its own range: `lo = min(0, min a)`, `hi = max(0, max a)`,
    /// `factor = (hi - lo) / 255`, or 1 where that is 0, `zero = round(clamp(-lo / factor, 0, 255))`,
    /// `q = clamp(round(a / factor) + zero, 0, 255)`, rounded half to even; every operation in f32. NaN has no part in a range,
    /// and becomes `zero`. Where `ranges` is set, all rows have the format of the range that holds those: `lo` is the least
    /// of their first numbers, `hi` the largest of the second ones.
    DynamicQuantize: DynamicQuantizeArgs, DynamicQuantizeCall, DynamicQuantizeMore {
        /// First row; elements are contiguous.
        a: *const f32 => ALL,
        /// Result, as contiguous.
        out: *mut u8 => ALL,
        /// Factor (f32) and zero point (i32) of each row, one behind the other.
        format: *mut u8 => ALL,
        /// Ranges as [`RangeArgs`] gives them, or null.
        ranges: *const f32,
        /// Source bytes between rows.
        a_row: usize,
        /// Result bytes between rows.
        out_row: usize,
        /// Elements of a row.
        n: usize => ALL,
        /// Rows.
        rows: usize => ALL,
        /// Number of ranges; 0 where there are none.
        parts: usize,
    }
}

args! {
    /// u8 to f32: `(f32(q) - zero) * scale`; mirror image of [`QuantizeArgs`].
    Dequantize: DequantizeArgs, DequantizeCall, DequantizeMore {
        /// Source, channels contiguous.
        a: *const u8 => ALL,
        /// Result, pixel 0, channel 0.
        out: *mut f32 => ALL,
        /// Source bytes between pixels.
        a_px: usize,
        /// Source bytes between outer indices.
        a_outer: usize,
        /// Result bytes between pixels.
        out_px: usize,
        /// Result bytes between channels.
        out_ch: usize,
        /// Result bytes between outer indices.
        out_outer: usize,
        /// Pixels per outer index.
        pixels: usize => ALL,
        /// Channels.
        channels: usize => ALL,
        /// Outer indices.
        outer: usize => ALL,
        /// Scale of the source.
        scale: f32 => ALL,
        /// Zero point of the source.
        zero: f32,
    }
}

args! {
    /// Strided copy over four levels, `n0` innermost, of elements of 1 (`b1`) or 4 (`b4`) bytes.
    ///
    /// `dst[Σ i_l * dst_sl] = src[Σ i_l * src_sl]` for all `i_l < n_l`. Source and destination do not overlap.
    Move: MoveArgs, MoveCall, MoveMore {
        /// Source.
        src: *const u8 => ALL,
        /// Destination.
        dst: *mut u8 => ALL,
        /// Elements of the innermost level.
        n0: usize => ALL,
        /// Count of level 1.
        n1: usize => ALL,
        /// Count of level 2.
        n2: usize => ALL,
        /// Count of level 3 (outermost).
        n3: usize => ALL,
        /// Source bytes between elements of level 0.
        src_s0: usize,
        /// Source bytes, level 1.
        src_s1: usize,
        /// Source bytes, level 2.
        src_s2: usize,
        /// Source bytes, level 3.
        src_s3: usize,
        /// Destination bytes between elements of level 0.
        dst_s0: usize,
        /// Destination bytes, level 1.
        dst_s1: usize,
        /// Destination bytes, level 2.
        dst_s2: usize,
        /// Destination bytes, level 3.
        dst_s3: usize,
    }
}

args! {
    /// Rows of a table that indices choose: `out[o*out_outer + r*out_row + b] = table[o*table_outer + i*table_row + b]` for `b < n`
    /// bytes, with `i = indices[r]`. An index that is negative or not less than `size` stands for the last row, so that
    /// nothing outside the table is read.
    ///
    /// Variant `f32` reads `n` floats; `f32_bytes` reads `n` numbers of s8 and takes each times `scale[i]`. Both add `res`, if
    /// there is one, and store f32.
    Gather: GatherArgs, GatherCall, GatherMore {
        /// Row 0 of the table.
        table: *const u8 => ALL,
        /// `rows` contiguous indices.
        indices: *const i32 => ALL,
        /// Factor of each row of the table (`f32_bytes`).
        scale: *const f32 => F32Bytes,
        /// What is added, in the places of the result; null for nothing (`f32`, `f32_bytes`).
        res: *const f32,
        /// First row of the result.
        out: *mut u8 => ALL,
        /// Rows of the table.
        size: usize => ALL,
        /// Bytes between rows of the table.
        table_row: usize,
        /// Bytes between tables.
        table_outer: usize,
        /// Result bytes between rows.
        out_row: usize,
        /// Result bytes between outer indices.
        out_outer: usize,
        /// Elements of a row: bytes (`b1`), s8 (`f32_bytes`) or floats (`f32`).
        n: usize => ALL,
        /// Rows per outer index.
        rows: usize => ALL,
        /// Outer indices, each with a table of its own and the same indices.
        outer: usize => ALL,
    }
}

args! {
    /// Packs a matrix of `k × cols` elements, in any order, into one panel of a matrix kernel with one segment.
    ///
    /// - `b1`: bytes, each xor `flip`, which is 0 or 128, into `[⌈k/4⌉][cols16][4]` as [`GemmArgs`] reads them; 128 turns u8
    ///   into the s8 that is less by 128.
    /// - `b4`: floats, into `[k][cols16]` as [`GemmF32Args`] reads them.
    ///
    /// What a panel has beyond the last column and behind the end of K is set to zero bytes. `pack::pack_gemm` and
    /// `pack::pack_gemm_f32` do the same to constants.
    Pack: PackArgs, PackCall, PackMore {
        /// Element 0 of column 0.
        src: *const u8 => ALL,
        /// The panel.
        dst: *mut u8 => ALL,
        /// Elements of a column.
        k: usize => ALL,
        /// Columns, 1..=64.
        cols: usize => ALL,
        /// Source bytes between elements of a column.
        src_k: usize,
        /// Source bytes between columns.
        src_n: usize,
        /// Bits of a byte to turn over (`b1`).
        flip: i32,
    }
}

args! {
    /// Fills `outer × rows` runs of `n` contiguous elements with one value.
    Fill: FillArgs, FillCall, FillMore {
        /// First run.
        dst: *mut u8 => ALL,
        /// Where the value is read, or null for `value` (`b1`).
        from: *const u8,
        /// Elements per run, of 1 (`b1`) or 4 (`b4`) bytes.
        n: usize => ALL,
        /// Runs per outer index.
        rows: usize => ALL,
        /// Bytes between runs.
        row_stride: usize,
        /// Outer indices.
        outer: usize => ALL,
        /// Bytes between outer indices.
        outer_stride: usize,
        /// The element's bits (`b1`: the low byte).
        value: i32,
    }
}
