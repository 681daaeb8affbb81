//! Functions of single elements: the definitions behind [`crate::args::UnaryArgs`].

use super::norm::{exp, expm1};
use super::numbers::clamp_f32;
use crate::numbers::{ERF_POLY, ERFC_POLY, ERFC_STEP, FRAC_1_SQRT_2, fma_exact};
use crate::table::Variant;

/// `1 - erf(z)` for `z >= 0`, with a relative error below `4e-7 + 7e-8 z²` where the result is normal: `t P(t) E(-z²)` with
/// `t = 1 / (1 + 0.3 z)`, the form of formula 7.1.26 of Abramowitz and Stegun with a polynomial of degree 8.
pub fn erfc(z: f32) -> f32 {
    let t = 1.0 / fma_exact(z, ERFC_STEP, 1.0);
    let p = ERFC_POLY.iter().rev().copied().reduce(|p, c| fma_exact(p, t, c)).unwrap_or(0.0);
    p * t * exp(0.0 - z * z)
}

/// `erf(x)` for `|x| < 1`: `x` times a polynomial in `x²`.
fn erf_near_zero(x: f32) -> f32 {
    let u = x * x;
    x * ERF_POLY.iter().rev().copied().reduce(|p, c| fma_exact(p, u, c)).unwrap_or(0.0)
}

/// The square root, rounded once; NaN for negative numbers.
pub fn sqrt(x: f32) -> f32 {
    if x.is_nan() || x == 0.0 || x == f32::INFINITY {
        return x;
    }
    if x < 0.0 {
        // The NaN that processors make.
        return f32::from_bits(0xffc0_0000);
    }
    // x = m * 2^e with 24 bits in m; with m shifted so far that e is even, the whole part of its root has 32 bits. One more
    // bit says whether that was exact, which is all that rounding needs.
    let lead = (x.to_bits() >> 23).max(1) as i32;
    let subnormal = x.to_bits() >> 23 == 0;
    let mantissa = x.to_bits() & 0x7f_ffff | if subnormal { 0 } else { 0x80_0000 };
    let shift = mantissa.leading_zeros() - 8;
    let (m, e) = (u64::from(mantissa << shift), lead - 150 - shift as i32);
    let (m, e) = if e & 1 == 0 { (m << 40, e - 40) } else { (m << 39, e - 39) };
    let root = m.isqrt();
    let sticky = u64::from(root * root != m);
    // The sum of root and stickiness is exact in f64, and rounded once to f32.
    let exact = (2 * root + sticky) as f64;
    let half = f64::from_bits(((1023 + i64::from(e / 2) - 1) as u64) << 52);
    (exact * half) as f32
}

/// The function of a unary variant at `x` with parameters `p`; `x` itself for a variant that is no function.
pub fn function(variant: Variant, x: f32, p: [f32; 3]) -> f32 {
    let size = f32::from_bits(x.to_bits() & 0x7fff_ffff);
    match variant {
        Variant::ClampF32 => clamp_f32(x, p[0], p[1]),
        Variant::SigmoidF32 => 1.0 / (exp(0.0 - x) + 1.0),
        Variant::SwishF32 => x / (exp(0.0 - x * p[0]) + 1.0),
        Variant::TanhF32 => {
            let e = expm1(x + x);
            e / (e + 2.0)
        }
        Variant::ExpF32 => exp(x),
        Variant::SqrtF32 => sqrt(x),
        Variant::AbsF32 => size,
        Variant::ErfF32 if size < 1.0 => erf_near_zero(x),
        Variant::ErfF32 => {
            let far = 1.0 - erfc(size);
            f32::from_bits(far.to_bits().wrapping_add(x.to_bits() & 0x8000_0000))
        }
        Variant::HardSigmoidF32 => clamp_f32(fma_exact(x, p[0], p[1]), 0.0, 1.0),
        Variant::HardSwishF32 => x * (clamp_f32(x + p[0], 0.0, p[1]) * p[2]),
        Variant::LeakyReluF32 if x < 0.0 => x * p[0],
        Variant::EluF32 if x < 0.0 => expm1(x) * p[0],
        Variant::GeluF32 => {
            let tail = erfc(size * FRAC_1_SQRT_2);
            x * 0.5 * if x < 0.0 { tail } else { 2.0 - tail }
        }
        Variant::GeluTanhF32 => {
            let y = fma_exact(x * x, p[1], p[0]) * x;
            x / (exp(0.0 - y) + 1.0)
        }
        _ => x,
    }
}
