//! Means and local response normalization.

use super::math::{load_lanes, pow_neg};
use super::simd::Simd;
use crate::args::{LrnArgs, MeanArgs};
use crate::numbers::LRN_RUN;

/// Means of rows.
///
/// # Safety
/// `args` points to a [`MeanArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn mean<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<MeanArgs>() };
    for r in 0..g.rows {
        let (a, out) = (g.a.wrapping_byte_add(r * g.a_row), g.out.wrapping_byte_add(r * g.out_row));
        // SAFETY: row `r` exists and may be read 64 bytes past its end.
        unsafe {
            let mut sums = s.splat_d(0.0);
            let mut i = 0;
            while i + 16 <= g.n {
                sums = s.add_wide(sums, s.load(a.wrapping_add(i)));
                i += 16;
            }
            if i < g.n {
                // No sum that begins at 0 is -0, so adding 0 for lanes past the end keeps its bits.
                sums = s.add_wide(sums, s.first(s.load(a.wrapping_add(i)), g.n - i, s.splat(0.0)));
            }
            out.write_unaligned((s.sum_wide(sums) / g.n as f64) as f32);
        }
    }
}

/// Local response normalization of pixels.
///
/// # Safety
/// `args` points to an [`LrnArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn lrn<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<LrnArgs>() };
    let (before, after) = (g.size.saturating_sub(1) / 2, g.size / 2);
    for p in 0..g.pixels {
        let (a, out) = (g.a.wrapping_byte_add(p * g.a_px), g.out.wrapping_byte_add(p * g.out_px));
        let mut c = 0;
        while c < g.channels {
            let n = (g.channels - c).min(16);
            // SAFETY: `n` channels are left of this pixel.
            unsafe {
                let sum = squares(s, &g, a, c as isize - before as isize, before + after + 1);
                let base = s.fma(s.splat(g.alpha), sum, s.splat(g.k));
                let x = load_lanes(s, a.wrapping_add(c), 4, n);
                s.store(s.mul(x, pow_neg(s, base, g.beta)), out.wrapping_add(c), n);
            }
            c += 16;
        }
    }
}

/// Sums of squares of `count` channels each, the first of them from channel `first` on.
#[inline(always)]
unsafe fn squares<S: Simd>(s: S, g: &LrnArgs, a: *const f32, first: isize, count: usize) -> S::F {
    let mut total = s.splat_d(0.0);
    let mut begin = 0;
    loop {
        let end = (begin + LRN_RUN).min(count);
        let mut sum = s.splat(0.0);
        for shift in begin..end {
            // SAFETY: `window_lanes` reads channels of this pixel only.
            let x = unsafe { window_lanes(s, a, first + shift as isize, g.channels as isize) };
            sum = s.fma(x, x, sum);
        }
        if count <= LRN_RUN {
            return sum;
        }
        total = s.add_wide(total, sum);
        if end == count {
            return s.div_wide(total, s.splat_d(1.0));
        }
        begin = end;
    }
}

/// 16 channels from `first` on; 0 where there is no channel.
#[inline(always)]
unsafe fn window_lanes<S: Simd>(s: S, a: *const f32, first: isize, channels: isize) -> S::F {
    // SAFETY: only lanes inside `0..channels` are read; the array has 64 bytes.
    unsafe {
        if first >= 0 && first + 16 <= channels {
            return s.load(a.wrapping_offset(first));
        }
        let mut lanes = [0.0f32; 16];
        for (i, lane) in lanes.iter_mut().enumerate() {
            let c = first + i as isize;
            if (0..channels).contains(&c) {
                *lane = a.wrapping_offset(c).read_unaligned();
            }
        }
        s.load(lanes.as_ptr())
    }
}
