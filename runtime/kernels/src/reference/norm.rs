//! Means and local response normalization, with the polynomials that define exp and power.

extern crate alloc;

use super::numbers::clamp_f32;
use super::{Args, Memory};
use crate::numbers::{
    EXP_HI, EXP_LO, EXP_POLY, EXPM1_HI, EXPM1_LO, LN2_HI, LN2_LO, LOG_POLY, LOG2_E, LRN_RUN, MAGIC, MAGIC_BITS,
    SQRT_HALF_BITS, fma_exact,
};
use alloc::vec::Vec;

/// `e^x` within 1.1 ulp for normal results; 0 below -104, infinity above 89, NaN for NaN.
///
/// `x = n ln 2 + r`; a polynomial of degree 6 in `r`; `2^n` in two factors, so that subnormal results are rounded once.
pub fn exp(x: f32) -> f32 {
    let (p, n) = exp_parts(clamp_f32(x, EXP_LO, EXP_HI));
    let half = n >> 1;
    (p + 1.0) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `e^x - 1` for `x <= 30`, and what that gives at 30 above; within 3 ulp.
///
/// `2^n (1 + p) - 1` with the `n` and `p` of [`exp`], so that nothing is lost where the result is small.
pub fn expm1(x: f32) -> f32 {
    let (p, n) = exp_parts(clamp_f32(x, EXPM1_LO, EXPM1_HI));
    let power = power_of_two(n);
    fma_exact(p, power, power - 1.0)
}

/// `p` and `n` with `e^x = 2^n (1 + p)`; if `x` is NaN, so is `p`.
fn exp_parts(x: f32) -> (f32, i32) {
    let shifted = fma_exact(x, LOG2_E, MAGIC);
    let r = fma_exact(shifted - MAGIC, -LN2_HI, x);
    let r = fma_exact(shifted - MAGIC, -LN2_LO, r);
    let q = EXP_POLY.iter().rev().copied().reduce(|q, c| fma_exact(q, r, c)).unwrap_or(0.0);
    (fma_exact(q, r * r, r), (shifted.to_bits() as i32).wrapping_sub(MAGIC_BITS))
}

/// `2^n` for normal powers.
pub(super) fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// `x^-beta` for normal `x > 0`, relative error about `2e-7 * (1 + beta * |ln x|)`.
pub fn pow_neg(x: f32, beta: f32) -> f32 {
    if x.is_nan() || x == f32::INFINITY {
        return exp(-beta * x);
    }
    let above = x.to_bits() as i32 - SQRT_HALF_BITS;
    let exponent = (above >> 23) as f32;
    let f = f32::from_bits(((above & 0x7f_ffff) + SQRT_HALF_BITS) as u32) - 1.0;
    let q = LOG_POLY.iter().rev().copied().reduce(|q, c| fma_exact(q, f, c)).unwrap_or(0.0);
    let square = f * f;
    // ln(1 + f) = f - f²/2 + f³ q, small terms first.
    let log = fma_exact(square, fma_exact(f, q, -0.5), fma_exact(exponent, LN2_LO, f));
    let log = fma_exact(exponent, LN2_HI, log);
    exp(-beta * log)
}

/// The sum in double precision: 16 partial ones by index mod 16.
fn sum_of(values: impl Iterator<Item = f32>) -> f64 {
    let mut partial = [0.0f64; 16];
    for (i, v) in values.enumerate() {
        partial[i % 16] += f64::from(v);
    }
    tree(partial)
}

/// The sum of 16 numbers, by halves.
pub(super) fn tree(mut partial: [f64; 16]) -> f64 {
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            partial[j] += partial[j + width];
        }
    }
    partial[0]
}

pub(super) fn mean<M: Memory>(args: &Args, mem: &mut M) {
    let n = args.int("n");
    for r in 0..args.int("rows") {
        let sum = sum_of((0..n).map(|i| mem.f32(args.ptr("a").plus(r * args.int("a_row") + 4 * i))));
        mem.set_f32(args.ptr("out").plus(r * args.int("out_row")), (sum / n as f64) as f32);
    }
}

pub(super) fn lrn<M: Memory>(args: &Args, mem: &mut M) {
    let (channels, size) = (args.int("channels"), args.int("size"));
    for p in 0..args.int("pixels") {
        let a = |c: i64| args.ptr("a").plus(p * args.int("a_px") + 4 * c);
        for c in 0..channels {
            let window: Vec<i64> = (c - (size - 1) / 2..c + size / 2 + 1).collect();
            let run = |run: &[i64]| {
                let real = run.iter().filter(|j| (0..channels).contains(*j));
                f64::from(real.fold(0.0, |s, &j| fma_exact(mem.f32(a(j)), mem.f32(a(j)), s)))
            };
            let sum = window.chunks(LRN_RUN).map(run).sum::<f64>() as f32;
            let base = fma_exact(args.f32("alpha"), sum, args.f32("k"));
            let v = mem.f32(a(c)) * pow_neg(base, args.f32("beta"));
            mem.set_f32(args.ptr("out").plus(p * args.int("out_px") + 4 * c), v);
        }
    }
}
