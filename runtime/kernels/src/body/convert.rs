//! Conversions between f32 and u8, between planar and channels-last order where asked.

use super::math::{load_lanes, store_lanes};
use super::real::Rounding;
use super::simd::{Simd, unroll};
use crate::args::{DequantizeArgs, DynamicQuantizeArgs, QuantizeArgs, RangeArgs};
use crate::numbers::MAGIC;

/// f32 to u8.
///
/// # Safety
/// `args` points to a [`QuantizeArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn quantize<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let mut g = unsafe { *args.cast::<QuantizeArgs>() };
    let rounding = Rounding::new(s, g.scale, g.zero, g.lo, g.hi);
    let contiguous = g.a_ch == 4 || g.channels == 1;
    if contiguous && g.out_px == g.channels && (g.a_px == 4 * g.channels || g.pixels == 1) {
        g.channels *= g.pixels;
        g.pixels = 1;
        g.a_ch = 4;
    }
    for outer in 0..g.outer {
        let a = g.a.wrapping_byte_add(outer * g.a_outer);
        let out = g.out.wrapping_add(outer * g.out_outer);
        // SAFETY: outer index `outer` exists.
        unsafe {
            if g.a_ch == 4 && g.channels >= 8 {
                for p in 0..g.pixels {
                    let (a, out) = (a.wrapping_byte_add(p * g.a_px), out.wrapping_add(p * g.out_px));
                    quantize_run(s, rounding, a, out, g.channels);
                }
            } else {
                quantize_pixels(s, rounding, &g, a, out);
            }
        }
    }
}

/// The ranges of rows.
///
/// # Safety
/// `args` points to a [`RangeArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn ranges<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<RangeArgs>() };
    for r in 0..g.rows {
        // SAFETY: row `r` exists, and so do the 8 bytes of its range.
        unsafe {
            let found = range(s, g.a.wrapping_byte_add(r * g.a_row), g.n);
            g.out.wrapping_add(2 * r).cast::<[f32; 2]>().write_unaligned(found);
        }
    }
}

/// f32 rows to u8, each in the format of its own range, or all in that of the range of ranges.
///
/// # Safety
/// `args` points to a [`DynamicQuantizeArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn dynamic_quantize<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<DynamicQuantizeArgs>() };
    let shared = !g.ranges.is_null();
    // SAFETY: there are `parts` ranges of two numbers; the range of those is that of all.
    let of_all = if shared { unsafe { range(s, g.ranges, 2 * g.parts) } } else { [0.0; 2] };
    for r in 0..g.rows {
        let (a, out) = (g.a.wrapping_byte_add(r * g.a_row), g.out.wrapping_add(r * g.out_row));
        let format = g.format.wrapping_add(8 * r);
        // SAFETY: row `r` exists, and so do the 8 bytes of its format.
        unsafe {
            let (factor, zero) = format_of(if shared { of_all } else { range(s, a, g.n) });
            format.cast::<f32>().write_unaligned(factor);
            format.add(4).cast::<i32>().write_unaligned(zero as i32);
            quantize_run(s, Rounding::new(s, factor, zero, 0, 255), a, out, g.n);
        }
    }
}

/// The least and the largest of `n` contiguous elements, and of 0.
#[inline(always)]
unsafe fn range<S: Simd>(s: S, a: *const f32, n: usize) -> [f32; 2] {
    let (mut least, mut largest) = (s.splat(0.0), s.splat(0.0));
    let mut i = 0;
    while i < n {
        // SAFETY: only elements of the row are read; the lanes behind them hold 0.
        let v = unsafe { load_lanes(s, a.wrapping_add(i), 4, (n - i).min(16)) };
        // Of NaN and a number, the second operand is taken.
        (least, largest) = (s.min(v, least), s.max(v, largest));
        i += 16;
    }
    let least = s.lanes(least).into_iter().fold(0.0, |m, v| if v < m { v } else { m });
    [least, s.lanes(largest).into_iter().fold(0.0, |m, v| if v > m { v } else { m })]
}

/// Factor and zero point of a range.
#[inline(always)]
fn format_of([lo, hi]: [f32; 2]) -> (f32, f32) {
    let factor = (hi - lo) / 255.0;
    let factor = if factor == 0.0 { 1.0 } else { factor };
    let zero = (0.0 - lo) / factor;
    let zero = if zero > 255.0 { 255.0 } else { zero };
    // Rounded half to even by the steps of 1 that floats have there; a range without end gives NaN, and 0 here.
    let rounded = (zero + MAGIC) - MAGIC;
    (factor, if rounded >= 0.0 { rounded } else { 0.0 })
}

/// Quantizes `n` contiguous elements.
#[inline(always)]
unsafe fn quantize_run<S: Simd>(s: S, rounding: Rounding<S>, a: *const f32, out: *mut u8, n: usize) {
    let mut i = 0;
    while i < n {
        let (a, out) = (a.wrapping_add(i), out.wrapping_add(i));
        let left = n - i;
        // SAFETY: at most 60 bytes past the end are read; only the elements left are stored.
        unsafe {
            let first = rounding.apply(s, s.load(a));
            if left >= 64 {
                let mut q = [first; 4];
                unroll!(v in 0..4 => {
                    q[v] = rounding.apply(s, s.load(a.wrapping_add(16 * v)));
                });
                s.store_b(s.pack(q), out, 64);
                i += 64;
            } else {
                s.store_b(s.pack([first]), out, left.min(16));
                i += 16;
            }
        }
    }
}

/// Quantizes with one lane per pixel, up to 4 channels at a time, which are stored as one integer per pixel.
#[inline(always)]
unsafe fn quantize_pixels<S: Simd>(s: S, rounding: Rounding<S>, g: &QuantizeArgs, a: *const f32, out: *mut u8) {
    let mut p = 0;
    while p < g.pixels {
        let n = (g.pixels - p).min(16);
        let mut c = 0;
        while c < g.channels {
            let count = (g.channels - c).min(4);
            let a = a.wrapping_byte_add(p * g.a_px + c * g.a_ch);
            let out = out.wrapping_add(p * g.out_px + c);
            // SAFETY: the lanes of `n` pixels and `count` channels are read, and their bytes written.
            unsafe {
                let mut q = rounding.apply(s, load_lanes(s, a, g.a_px, n));
                if count > 1 {
                    let next = rounding.apply(s, load_lanes(s, a.wrapping_byte_add(g.a_ch), g.a_px, n));
                    q = s.add_i(q, s.shift_left::<8>(next));
                }
                if count > 2 {
                    let next = rounding.apply(s, load_lanes(s, a.wrapping_byte_add(2 * g.a_ch), g.a_px, n));
                    q = s.add_i(q, s.shift_left::<16>(next));
                }
                if count > 3 {
                    let next = rounding.apply(s, load_lanes(s, a.wrapping_byte_add(3 * g.a_ch), g.a_px, n));
                    q = s.add_i(q, s.shift_left::<24>(next));
                }
                if count == 3 && g.out_px == 3 {
                    s.store_b(s.pack_three(q), out, 3 * n);
                } else if count == 4 && g.out_px == 4 {
                    s.store_i(q, out.cast(), n);
                } else {
                    let pixels = s.lanes(s.as_float(q)).map(f32::to_bits);
                    store_pixels(&pixels, n, count, out, g.out_px);
                }
            }
            c += count;
        }
        p += 16;
    }
}

/// Stores the low `count` bytes of `n` integers, `px` bytes apart.
#[inline(always)]
unsafe fn store_pixels(pixels: &[u32; 16], n: usize, count: usize, out: *mut u8, px: usize) {
    for (i, &q) in pixels.iter().enumerate().take(n) {
        let p = out.wrapping_add(i * px);
        // SAFETY: `count` bytes at `p` are writable.
        unsafe {
            match count {
                4 => p.cast::<u32>().write_unaligned(q),
                3 => {
                    p.cast::<u16>().write_unaligned(q as u16);
                    *p.wrapping_add(2) = (q >> 16) as u8;
                }
                2 => p.cast::<u16>().write_unaligned(q as u16),
                _ => *p = q as u8,
            }
        }
    }
}

/// u8 to f32.
///
/// # Safety
/// `args` points to a [`DequantizeArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn dequantize<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let mut g = unsafe { *args.cast::<DequantizeArgs>() };
    let contiguous = g.out_ch == 4 || g.channels == 1;
    if contiguous && g.a_px == g.channels && (g.out_px == 4 * g.channels || g.pixels == 1) {
        g.channels *= g.pixels;
        g.pixels = 1;
        g.out_ch = 4;
    }
    for outer in 0..g.outer {
        let a = g.a.wrapping_add(outer * g.a_outer);
        let out = g.out.wrapping_byte_add(outer * g.out_outer);
        // SAFETY: outer index `outer` exists.
        unsafe {
            if g.out_ch == 4 && g.channels >= 8 {
                dequantize_channels(s, &g, a, out);
            } else {
                dequantize_pixels(s, &g, a, out);
            }
        }
    }
}

/// Dequantizes with one lane per channel.
#[inline(always)]
unsafe fn dequantize_channels<S: Simd>(s: S, g: &DequantizeArgs, a: *const u8, out: *mut f32) {
    let (scale, zero) = (s.splat(g.scale), s.splat(g.zero));
    for p in 0..g.pixels {
        let mut c = 0;
        while c < g.channels {
            // SAFETY: at most 15 bytes past the end are read; only the channels left are stored.
            unsafe {
                let q = s.to_float(s.load_u8(a.wrapping_add(p * g.a_px + c)));
                let out = out.wrapping_byte_add(p * g.out_px + 4 * c);
                s.store(s.mul(s.sub(q, zero), scale), out, (g.channels - c).min(16));
            }
            c += 16;
        }
    }
}

/// Dequantizes blocks of 16 pixels × 16 channels, exchanging rows and columns in between.
#[inline(always)]
unsafe fn dequantize_pixels<S: Simd>(s: S, g: &DequantizeArgs, a: *const u8, out: *mut f32) {
    let (scale, zero) = (s.splat(g.scale), s.splat(g.zero));
    let mut p = 0;
    while p < g.pixels {
        let pixels = (g.pixels - p).min(16);
        let mut c = 0;
        while c < g.channels {
            let channels = (g.channels - c).min(16);
            let mut block = [[0.0f32; 16]; 16];
            for (i, row) in block.iter_mut().enumerate().take(pixels) {
                // SAFETY: pixel `p + i` exists; at most 15 bytes past its end are read.
                unsafe {
                    let q = s.to_float(s.load_u8(a.wrapping_add((p + i) * g.a_px + c)));
                    s.store(s.mul(s.sub(q, zero), scale), row.as_mut_ptr(), 16);
                }
            }
            s.transpose(&mut block);
            for (i, row) in block.iter().enumerate().take(channels) {
                let out = out.wrapping_byte_add(p * g.out_px + (c + i) * g.out_ch);
                // SAFETY: the pixels of channel `c + i` are written.
                unsafe { store_lanes(s, s.load(row.as_ptr()), out, g.out_px, pixels) };
            }
            c += 16;
        }
        p += 16;
    }
}
