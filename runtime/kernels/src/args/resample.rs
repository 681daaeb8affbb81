//! The argument struct of weighted sums along an axis.

use super::*;

args! {
    /// Weighted sums of rows along one axis: `sum = Σ_t weights[r, t] * a[o, places[r, t], i]` for `t < taps`, a product for the first
    /// tap whose weight is not 0 and fma in order of `t` for the others. Taps of weight 0 are left out; a sum without taps is 0.
    /// A place that is negative or not less than `size` stands for the last row.
    ///
    /// Operand and result are real: each is u8 where its scale is not 0.
    Resample: ResampleArgs, ResampleCall, ResampleMore {
        /// Row 0.
        a: *const u8 => ALL,
        /// Row 0 of the result.
        out: *mut u8 => ALL,
        /// Places of the first row's taps.
        places: *const i32 => ALL,
        /// Their weights.
        weights: *const f32 => ALL,
        /// Rows of the operand.
        size: usize => ALL,
        /// Taps of a row of the result.
        taps: usize => ALL,
        /// Bytes between the taps of rows: of places, and of weights.
        tap_row: usize => ALL,
        /// Contiguous elements of a row.
        n: usize => ALL,
        /// Rows of the result per outer index.
        rows: usize => ALL,
        /// Outer indices, all with the same taps.
        outer: usize => ALL,
        /// Bytes between rows of the operand.
        a_row: usize,
        /// Bytes between its outer indices.
        a_outer: usize,
        /// Bytes between rows of the result.
        out_row: usize,
        /// Bytes between its outer indices.
        out_outer: usize,
        /// Scale of the operand; 0: it is f32.
        a_scale: f32,
        /// Zero point of the operand.
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
