//! Depthwise convolution, 16 channels of one output pixel at a time, from the natural section of the packed weights.

use super::simd::{Finish, Simd};
use crate::args::{DwArgs, DwF32Args};
use crate::numbers::MAGIC;

/// u8 × s8, requantized to u8.
///
/// # Safety
/// `args` points to a [`DwArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn u8s8<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let d = unsafe { *args.cast::<DwArgs>() };
    let c64 = d.channels.div_ceil(64) * 64;
    let zero = s.splat(d.zero + MAGIC);
    let finish = Finish::new(s, d.lo, d.hi, d.lut);
    for r in 0..d.rows {
        for p in 0..d.cols {
            let a = d.a.wrapping_add(r * d.step_y + p * d.step_x);
            let out = d.out.wrapping_add(r * d.out_row + p * d.out_px);
            let mut c = 0;
            while c < d.channels {
                // SAFETY: input, bias and scale may be read 64 bytes past their end; weights have `c64` channels; only
                // the channels left are stored.
                unsafe {
                    let mut acc = s.load_i(d.bias.add(c));
                    let mut w = d.w.add(c);
                    for y in 0..d.kh {
                        for x in 0..d.kw {
                            let a = a.wrapping_add(y * d.a_row + x * d.a_col + c);
                            acc = s.add_i(acc, s.mul_small(s.load_u8(a), s.load_i8(w)));
                            w = w.wrapping_add(c64);
                        }
                    }
                    let w = s.fma(s.to_float(acc), s.load(d.scale.add(c)), zero);
                    finish.store(s, [w], out.wrapping_add(c), (d.channels - c).min(16));
                }
                c += 16;
            }
        }
    }
}

/// f32.
///
/// # Safety
/// `args` points to a [`DwF32Args`] that keeps its contract.
#[inline(always)]
pub unsafe fn f32<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let d = unsafe { *args.cast::<DwF32Args>() };
    let c16 = d.channels.div_ceil(16) * 16;
    let (lo, hi) = (s.splat(d.clamp_lo), s.splat(d.clamp_hi));
    for r in 0..d.rows {
        for p in 0..d.cols {
            let a = d.a.cast::<u8>().wrapping_add(r * d.step_y + p * d.step_x);
            let out = d.out.cast::<u8>().wrapping_add(r * d.out_row + p * d.out_px);
            let mut c = 0;
            while c < d.channels {
                // SAFETY: input may be read 64 bytes past its end; weights and bias have `c16` channels; only the
                // channels left are stored.
                unsafe {
                    let mut acc = s.splat(0.0);
                    let mut w = d.w.add(c);
                    for y in 0..d.kh {
                        for x in 0..d.kw {
                            let a = a.wrapping_add(y * d.a_row + x * d.a_col + 4 * c);
                            acc = s.fma(s.load(a.cast()), s.load(w), acc);
                            w = w.wrapping_add(c16);
                        }
                    }
                    let value = s.add(acc, s.load(d.bias.add(c)));
                    s.store(s.clamp(value, lo, hi), out.wrapping_add(4 * c).cast(), (d.channels - c).min(16));
                }
                c += 16;
            }
        }
    }
}
