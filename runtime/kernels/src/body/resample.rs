//! Weighted sums of rows along an axis.

use super::real::{Sink, Source};
use super::simd::Simd;
use crate::args::ResampleArgs;

/// Weighted sums of rows.
///
/// # Safety
/// `args` points to a [`ResampleArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn resample<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<ResampleArgs>() };
    let (source, sink) = (Source::new(s, g.a_scale, g.a_zero), Sink::new(s, g.scale, g.zero, g.lo, g.hi));
    for o in 0..g.outer {
        let (a, out) = (g.a.wrapping_add(o * g.a_outer), g.out.wrapping_add(o * g.out_outer));
        for r in 0..g.rows {
            let places = g.places.wrapping_byte_add(r * g.tap_row);
            let weights = g.weights.wrapping_byte_add(r * g.tap_row);
            let row = out.wrapping_add(r * g.out_row);
            let mut i = 0;
            while i < g.n {
                // SAFETY: the places stand for rows of the operand, which may be read 64 bytes past their end; only the elements
                // left are stored.
                unsafe {
                    let sum = sum(s, &g, source, [a, places.cast()], weights, i);
                    sink.store(s, sum, row, i, (g.n - i).min(16));
                }
                i += 16;
            }
        }
    }
}

/// The sums of 16 elements from `i` on.
///
/// # Safety
/// Each of the taps has a place and a weight; element `i` of a row exists, and the row may be read 64 bytes past its end.
#[inline(always)]
unsafe fn sum<S: Simd>(
    s: S,
    g: &ResampleArgs,
    source: Source<S>,
    [a, places]: [*const u8; 2],
    weights: *const f32,
    i: usize,
) -> S::F {
    let (mut sum, mut is_empty) = (s.splat(0.0), true);
    for t in 0..g.taps {
        // SAFETY: there are so many taps; a place outside stands for the last row.
        unsafe {
            let w = weights.add(t).read_unaligned();
            if w == 0.0 {
                continue;
            }
            // A negative place is a large one without sign.
            let p = (places.cast::<i32>().add(t).read_unaligned() as u32 as usize).min(g.size - 1);
            let v = source.load(s, a.wrapping_add(p * g.a_row), i);
            sum = if is_empty { s.mul(s.splat(w), v) } else { s.fma(s.splat(w), v, sum) };
        }
        is_empty = false;
    }
    sum
}
