//! The reference's rounding against f64 and integer arithmetic.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::reference::{Residual, clamp_f32, maximum, minimum, quantize, requantize, requantize_residual};
use support::Rng;

/// `v` rounded half to even, clamped.
fn rounded(v: f64, lo: i32, hi: i32) -> u8 {
    v.round_ties_even().clamp(f64::from(lo), f64::from(hi)) as u8
}

#[test]
fn requantization_rounds_the_product_then_adds_the_zero_point() {
    let mut rng = Rng(1);
    for i in 0..2_000_000 {
        let acc = if i % 2 == 0 { rng.range(-40_000, 40_000) } else { rng.range(-(1 << 24), 1 << 24) };
        // Powers of two make ties, which go to the even number before the zero point is added.
        let scale = if i % 3 == 0 { rng.pick(&[0.5, 0.25, 0.125, 1.0]) } else { 10f32.powf(rng.float(-5.0, -1.5)) };
        let zero = rng.range(0, 255);
        let (lo, hi) = rng.pick(&[(0, 255), (zero, 255), (3, 100)]);
        let whole = f64::from(acc as f32 * scale).round_ties_even() + f64::from(zero);
        assert_eq!(requantize(acc, scale, zero as f32, lo, hi), rounded(whole, lo, hi), "{acc} * {scale:e} + {zero}");
    }
}

#[test]
fn requantization_saturates_for_every_accumulator() {
    for acc in [i32::MIN, i32::MIN + 1, -1, 1, i32::MAX] {
        for scale in [1e-3, 1.0, 1e10, 1e38] {
            let exact = f64::from(acc as f32) * f64::from(scale) + 7.0;
            assert_eq!(requantize(acc, scale, 7.0, 0, 255), rounded(exact, 0, 255));
            assert_eq!(requantize(acc, scale, 7.0, 7, 9), rounded(exact, 7, 9));
        }
    }
}

#[test]
fn residual_is_added_before_the_only_rounding_to_integer() {
    let mut rng = Rng(2);
    let mut off = 0;
    for _ in 0..1_000_000 {
        let acc = rng.range(-30_000, 30_000);
        let (scale, res_scale) = (rng.float(0.001, 0.01), rng.float(0.1, 2.0));
        let (res, offset) = (rng.below(256) as u8, rng.float(-200.0, 200.0));
        let clamp = if rng.below(2) == 0 { (f32::NEG_INFINITY, f32::INFINITY) } else { (rng.float(-50.0, 0.0), 60.0) };
        let product = (f64::from(acc) * f64::from(scale)).clamp(f64::from(clamp.0), f64::from(clamp.1));
        let exact = product + (f64::from(res) * f64::from(res_scale) + f64::from(offset));
        let residual = Residual { value: res, scale: res_scale, offset, clamp };
        let found = requantize_residual(acc, scale, residual, 0, 255);
        // Three roundings to f32 (units of 2^-15 here) can move a value over a tie, no further.
        if found != rounded(exact, 0, 255) {
            assert!((exact - exact.floor() - 0.5).abs() < 1e-4, "{exact} gave {found}");
            off += 1;
        }
    }
    assert!(off < 200, "{off} of 1000000 differ");
}

#[test]
fn clamps_and_maxima_keep_nan_and_infinities() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for (lo, hi) in [(0.0, 6.0), (-inf, inf), (0.0, inf), (f32::MIN, f32::MAX)] {
        assert!(clamp_f32(nan, lo, hi).is_nan());
        assert_eq!((clamp_f32(-inf, lo, hi), clamp_f32(inf, lo, hi)), (lo, hi));
    }
    for (a, b) in [(nan, 1.0), (1.0, nan), (nan, -inf), (inf, nan)] {
        assert!(maximum(a, b).is_nan() && minimum(a, b).is_nan());
    }
    assert_eq!((maximum(-inf, -inf), maximum(-inf, 1.0), minimum(inf, 1.0)), (-inf, 1.0, 1.0));
}

#[test]
fn quantization_divides_and_rounds_half_to_even() {
    let mut rng = Rng(3);
    for _ in 0..1_000_000 {
        let scale = 10f32.powf(rng.float(-3.0, 1.0));
        let zero = rng.range(0, 255);
        let x = if rng.below(2) == 0 { rng.float(-300.0, 300.0) * scale } else { rng.range(-300, 300) as f32 * 0.5 };
        let quotient = f64::from(x / scale).round_ties_even() + f64::from(zero);
        assert_eq!(quantize(x, scale, zero as f32, 0, 255), quotient.clamp(0.0, 255.0) as u8, "{x} / {scale}");
    }
    assert_eq!(quantize(f32::NAN, 1.0, 128.0, 3, 255), 3);
    assert_eq!(quantize(f32::INFINITY, 1.0, 128.0, 3, 250), 250);
    assert_eq!(quantize(f32::NEG_INFINITY, 1.0, 128.0, 3, 250), 3);
}
