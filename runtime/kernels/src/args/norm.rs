//! Argument structs of what is normalized over rows or channels.

use super::*;

args! {
    /// Softmax of `rows` vectors of `n` numbers with any element stride.
    ///
    /// `t_i = a_i * factor + mask_i`, the product and the sum each rounded, what is not set left out;
    /// `e_i = exp(t_i - max)` by the fixed polynomial of `reference::exp`; `out_i = e_i * (1 / sum)` with `sum` the sum of `e` in
    /// runs, rounded to f32. The result is real: u8 if `scale` is not 0. `out` may be equal to `a` where it is f32.
    ///
    /// A *sum in runs* cuts its elements into blocks of 512. In each, 64 partial sums in f32, by index mod 64 and in order of the
    /// index, start at 0 and get up to 8 elements. In order of their index they are added to 16 sums in f64, that of index
    /// `j` to sum `j mod 16`. These are added by a fixed tree: `j` with `j + 8`, then `+ 4`, `+ 2`, `+ 1`.
    Softmax: SoftmaxArgs, SoftmaxCall, SoftmaxMore {
        /// Source.
        a: *const f32 => ALL,
        /// Addends, such as a mask, or null for none.
        mask: *const f32,
        /// Result.
        out: *mut u8 => ALL,
        /// Vectors.
        rows: usize => ALL,
        /// Elements per vector.
        n: usize => ALL,
        /// Source bytes between vectors.
        a_row: usize,
        /// Bytes between vectors of addends.
        mask_row: usize,
        /// Result bytes between vectors.
        out_row: usize,
        /// Source bytes between elements.
        a_elem: usize,
        /// Bytes between addends.
        mask_elem: usize,
        /// Result bytes between elements.
        out_elem: usize,
        /// Factor of the source; 0: none.
        factor: f32,
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
    /// Layer normalization of `rows` rows of `n` contiguous numbers.
    ///
    /// `v_i = a_i`, or `a_i + res_i` rounded, which goes to `sum` where that is not null. With sums in runs as in
    /// [`SoftmaxArgs`], everything about them in f64 until it is rounded to f32 as said, and `fma` rounded once:
    ///
    /// - `f32`: `m = f32(Σ v / n)`; `d = v - m`; `rest = Σ d / n`; `var = Σ d² / n - rest²`, not below 0, squares added by fma;
    ///   `r = 1 / sqrt(f32(var + epsilon))`; `t = fma(d, r, -f32(rest) * r)`.
    /// - `rms`: `r = 1 / sqrt(f32(Σ v² / n + epsilon))`; `t = v * r`.
    ///
    /// `out = fma(t, gamma_i, beta_i)`, 1 and 0 for those that are null, clamped to `clamp_lo ..= clamp_hi`. Operands whose scale
    /// is not 0 are quantized, and so is the result. `out` and `sum` may be equal to `a` or `res` of the same type, but not to each other.
    LayerNorm: LayerNormArgs, LayerNormCall, LayerNormMore {
        /// Operand.
        a: *const u8 => ALL,
        /// What is added to it, or null for nothing.
        res: *const u8,
        /// `n` factors, or null for 1.
        gamma: *const f32,
        /// `n` addends, or null for 0.
        beta: *const f32,
        /// Where the sum of operand and residual goes, or null.
        sum: *mut f32,
        /// Result.
        out: *mut u8 => ALL,
        /// Bytes between rows of `a`.
        a_row: usize,
        /// Bytes between rows of `res`.
        res_row: usize,
        /// Bytes between rows of `sum`.
        sum_row: usize,
        /// Bytes between rows of `out`.
        out_row: usize,
        /// Rows.
        rows: usize => ALL,
        /// Elements per row.
        n: usize => ALL,
        /// What is added to the variance.
        epsilon: f32,
        /// Lowest float result.
        clamp_lo: f32 => ALL,
        /// Highest float result.
        clamp_hi: f32 => ALL,
        /// Scale of `a`; 0: it is f32.
        a_scale: f32,
        /// Zero point of `a`.
        a_zero: f32,
        /// Scale of `res`; 0: it is f32.
        res_scale: f32,
        /// Zero point of `res`.
        res_zero: f32,
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
    /// Local response normalization across channels, channels-last f32.
    ///
    /// `out[c] = a[c] * (k + alpha * Σ a[j]²)^-beta` with `j` from `c - (size-1)/2` to `c + size/2`, clipped to the
    /// channels; sum by fma in order of `j`, in f32 for each eight of the window, whose sums are added in f64; power by
    /// `reference::pow_neg`. `k > 0`, `alpha >= 0`.
    Lrn: LrnArgs, LrnCall, LrnMore {
        /// Source; `channels` contiguous floats per pixel.
        a: *const f32 => ALL,
        /// Result.
        out: *mut f32 => ALL,
        /// Source bytes between pixels.
        a_px: usize,
        /// Result bytes between pixels.
        out_px: usize,
        /// Pixels.
        pixels: usize => ALL,
        /// Channels.
        channels: usize => ALL,
        /// Channels in a window.
        size: usize => ALL,
        /// Factor of the sum of squares, already divided by `size` where the model's operator says so.
        alpha: f32,
        /// Negated exponent.
        beta: f32,
        /// Addend.
        k: f32 => ALL,
    }
}
