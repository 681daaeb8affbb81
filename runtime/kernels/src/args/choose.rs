//! Argument structs of what orders elements, and of what is stored where indices say.

use super::*;

args! {
    /// The places of the first `k` of each of `rows` rows of `n` contiguous floats, in order: the largest first, or the least with
    /// `least`; of equal ones, 0 and -0 among them, the one at the lower place. NaN is above all numbers.
    ///
    /// `k` is at most `n`, which is at most 2^31. `heap` holds `k` numbers of 64 bits per row afterwards: those of the results,
    /// above the float as an integer that has its order, below the place with all bits turned.
    TopK: TopKArgs, TopKCall, TopKMore {
        /// First row.
        a: *const f32 => ALL,
        /// Places, `k` for a row.
        out: *mut i32 => ALL,
        /// Room for the rows' heaps.
        heap: *mut u8 => ALL,
        /// Bytes between rows of `a`.
        a_row: usize,
        /// Bytes between rows of `out`.
        out_row: usize,
        /// Bytes between heaps.
        heap_row: usize,
        /// Elements of a row.
        n: usize => ALL,
        /// Places for a row.
        k: usize => ALL,
        /// Rows.
        rows: usize => ALL,
        /// 1: the least first.
        least: usize,
    }
}

args! {
    /// Rows of `src`, joined to those rows of `out` that `indices` name, one after the other: `b1` stores the bytes, the others
    /// join floats as [`BinaryF32Args`] says, `out` first. An index outside `0 .. size` stands for the last row.
    Scatter: ScatterArgs, ScatterCall, ScatterMore {
        /// Rows to be joined.
        src: *const u8 => ALL,
        /// An index for each.
        indices: *const i32 => ALL,
        /// `size` rows.
        out: *mut u8 => ALL,
        /// Bytes between rows of `src`.
        src_row: usize,
        /// Bytes between rows of `out`.
        out_row: usize,
        /// Elements of a row; bytes of `b1`.
        n: usize => ALL,
        /// Rows of `src`.
        rows: usize => ALL,
        /// Rows of `out`.
        size: usize => ALL,
    }
}
