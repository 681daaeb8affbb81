//! The argument structs of depthwise convolutions.

use super::*;

args! {
    /// Depthwise u8 × s8 convolution on channels-last data, any window, stride and dilation.
    ///
    /// ```text
    /// acc[r][p][c] = bias[c] + Σ_{y<kh, x<kw} a[r*step_y + p*step_x + y*a_row + x*a_col + c] * w[y][x][c]
    /// ```
    ///
    /// requantized as in [`GemmArgs`] variant `u8`. `w` is what `pack::pack_dw` made, 64-byte aligned; `bias` and `scale`
    /// have `channels` elements rounded up to 16.
    Dw: DwArgs, DwCall, DwMore {
        /// First tap of the first output pixel, channel 0.
        a: *const u8 => ALL,
        /// Packed weights.
        w: *const i8 => ALL,
        /// Accumulator starts, one per channel.
        bias: *const i32 => ALL,
        /// Factors, one per channel.
        scale: *const f32 => ALL,
        /// First output pixel; `channels` bytes per pixel.
        out: *mut u8 => ALL,
        /// Table of 256 bytes, or null.
        lut: *const u8,
        /// Input bytes between taps in x (pixel stride × dilation).
        a_col: usize,
        /// Input bytes between taps in y (row stride × dilation).
        a_row: usize,
        /// Input bytes from one output pixel to the next.
        step_x: usize,
        /// Input bytes from one output row to the next.
        step_y: usize,
        /// Output bytes between pixels.
        out_px: usize,
        /// Output bytes between rows.
        out_row: usize,
        /// Window height.
        kh: usize => ALL,
        /// Window width.
        kw: usize => ALL,
        /// Output rows.
        rows: usize => ALL,
        /// Output pixels per row.
        cols: usize => ALL,
        /// Channels.
        channels: usize => ALL,
        /// Output zero point.
        zero: f32,
        /// Lowest result.
        lo: i32,
        /// Highest result.
        hi: i32 => ALL,
    }
}

args! {
    /// Depthwise f32 convolution; geometry of [`DwArgs`].
    ///
    /// The accumulator starts at 0 and is one chain of fma over y, x; then `+ bias[c]`, the clamp and the gate, which is that of
    /// [`GemmF32Args`]. Variant `u8` quantizes that. `w` is `[kh][kw][c16]` (see `pack::pack_dw_f32`), `c16` being `channels` rounded up to 16; `bias` has `c16`
    /// elements.
    DwF32: DwF32Args, DwF32Call, DwF32More {
        /// First tap of the first output pixel, channel 0.
        a: *const f32 => ALL,
        /// Packed weights.
        w: *const f32 => ALL,
        /// Accumulator starts, one per channel.
        bias: *const f32 => ALL,
        /// First output pixel, f32 or u8 by variant; `channels` elements per pixel.
        out: *mut u8 => ALL,
        /// Input bytes between taps in x.
        a_col: usize,
        /// Input bytes between taps in y.
        a_row: usize,
        /// Input bytes from one output pixel to the next.
        step_x: usize,
        /// Input bytes from one output row to the next.
        step_y: usize,
        /// Output bytes between pixels.
        out_px: usize,
        /// Output bytes between rows.
        out_row: usize,
        /// Window height.
        kh: usize => ALL,
        /// Window width.
        kw: usize => ALL,
        /// Output rows.
        rows: usize => ALL,
        /// Output pixels per row.
        cols: usize => ALL,
        /// Channels.
        channels: usize => ALL,
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
