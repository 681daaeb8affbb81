//! Depthwise convolution, 16 channels at a time, from the natural section of the packed weights.

use super::real::{Gate, Stored};
use super::simd::{Finish, Simd, div_ceil, unroll};
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
    let magic = s.splat(MAGIC);
    let finish = Finish::new(s, d.zero as i32, d.lo, d.hi, d.lut);
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
                    let w = s.add(s.mul(s.to_float(acc), s.load(d.scale.add(c))), magic);
                    finish.store(s, [w], out.wrapping_add(c), (d.channels - c).min(16));
                }
                c += 16;
            }
        }
    }
}

/// f32: blocks of neighbouring pixels share the loads of weights.
///
/// # Safety
/// `args` points to a [`DwF32Args`] that keeps its contract.
#[inline(always)]
pub unsafe fn f32<S: Simd, O: Stored<S>>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let d = unsafe { *args.cast::<DwF32Args>() };
    // Blocks of nearly equal width, as in the matrix kernels.
    let widest = if S::REGISTERS >= 16 { 8 } else { 4 };
    let blocks = div_ceil(d.cols, widest);
    let low = d.cols.checked_div(blocks).unwrap_or(0);
    let wider = d.cols - low * blocks;
    for r in 0..d.rows {
        let mut p = 0;
        for block in 0..blocks {
            let width = low + usize::from(block < wider);
            let a = d.a.cast::<u8>().wrapping_add(r * d.step_y + p * d.step_x);
            let out = d.out.wrapping_add(r * d.out_row + p * d.out_px);
            // SAFETY: that many pixels are left of the row.
            unsafe {
                match width {
                    1 => pixels::<S, O, 1>(s, &d, a, out),
                    2 => pixels::<S, O, 2>(s, &d, a, out),
                    3 => pixels::<S, O, 3>(s, &d, a, out),
                    4 => pixels::<S, O, 4>(s, &d, a, out),
                    5 if widest >= 5 => pixels::<S, O, 5>(s, &d, a, out),
                    6 if widest >= 6 => pixels::<S, O, 6>(s, &d, a, out),
                    7 if widest >= 7 => pixels::<S, O, 7>(s, &d, a, out),
                    _ if widest >= 8 => pixels::<S, O, 8>(s, &d, a, out),
                    _ => return,
                }
            }
            p += width;
        }
    }
}

/// Computes `P` pixels of a row, all channels.
#[inline(always)]
unsafe fn pixels<S: Simd, O: Stored<S>, const P: usize>(s: S, d: &DwF32Args, a: *const u8, out: *mut u8) {
    let c16 = d.channels.div_ceil(16) * 16;
    let (lo, hi) = (s.splat(d.clamp_lo), s.splat(d.clamp_hi));
    let stored = O::new(s, d.scale, d.zero, d.lo, d.hi);
    let mut c = 0;
    while c < d.channels {
        // SAFETY: input may be read 64 bytes past its end; weights and bias have `c16` channels; only the channels left
        // are stored.
        unsafe {
            let mut acc = [s.splat(0.0); P];
            let mut w = d.w.add(c);
            for y in 0..d.kh {
                for x in 0..d.kw {
                    let weight = s.load(w);
                    // As in the matrix kernels: fewer registers than one pointer per pixel.
                    let a = a.wrapping_add(y * d.a_row + x * d.a_col + 4 * c);
                    let base = [a, a.wrapping_add(3 * d.step_x), a.wrapping_add(6 * d.step_x)];
                    unroll!(p in 0..P => {
                        let a = base[p / 3].wrapping_add(p % 3 * d.step_x);
                        acc[p] = s.fma(s.load(a.cast()), weight, acc[p]);
                    });
                    w = w.wrapping_add(c16);
                }
            }
            let (n, bias) = ((d.channels - c).min(16), s.load(d.bias.add(c)));
            unroll!(p in 0..P => {
                acc[p] = s.clamp(s.add(acc[p], bias), lo, hi);
            });
            if d.gate_factor != 0.0 {
                let swish = [d.gate_offset, d.gate_bound, d.gate_factor];
                let gate = Gate::new(s, swish, d.post_factor, d.post_addend);
                unroll!(p in 0..P => {
                    acc[p] = gate.apply(s, acc[p]);
                });
            }
            unroll!(p in 0..P => {
                stored.store(s, [acc[p]], out.wrapping_add(p * d.out_px + O::BYTES * c), n);
            });
        }
        c += 16;
    }
}
