//! Functions of single elements: what the formulas of [`crate::functions`] are made of, and their values.

use super::norm::{exp, expm1, power_of_two};
use super::numbers::clamp_f32;
use crate::functions::functions;
use crate::numbers::{
    ASIN_POLY, ATAN_POLY, COS_POLY, ERF_POLY, ERFC_POLY, ERFC_STEP, EXP2_LO, EXP2_POLY, FAR_ANGLE, FAR_AREA, HALF_PI,
    LOG_NATURAL, LOG_POLY, MAGIC, MAGIC_BITS, NORMAL_END, NORMAL_EXPONENT, NORMAL_POLY, NORMAL_STEP, SIN_POLY,
    SQRT_HALF_BITS, TWO_OVER_PI, far_angle, fma_exact,
};
use crate::table::Variant;

/// `1 - erf(z)` for `z >= 0`, with a relative error below `4e-7 + 7e-8 z²` where the result is normal: `t P(t) E(-z²)` with
/// `t = 1 / (1 + 0.3 z)`, the form of formula 7.1.26 of Abramowitz and Stegun with a polynomial of degree 8.
pub fn erfc(z: f32) -> f32 {
    let t = 1.0 / fma_exact(z, ERFC_STEP, 1.0);
    let p = ERFC_POLY.iter().rev().copied().reduce(|p, c| fma_exact(p, t, c)).unwrap_or(0.0);
    p * t * exp(0.0 - z * z)
}

/// `h e^(-h²/2)` and `e^(h²/2) erfc(h / sqrt 2) / 2` with `h = |u|`: their product is `h` times what the normal distribution
/// leaves behind `h`. The first is a power of 2, of a polynomial of degree 5; the second is one of degree 7 in
/// `1 / (1 + 0.34 h)`.
pub fn normal_tail(u: f32) -> (f32, f32) {
    let h = size(u);
    let exponent = u * u * NORMAL_EXPONENT;
    let exponent = if EXP2_LO > exponent { EXP2_LO } else { exponent };
    let shifted = exponent + MAGIC;
    let f = exponent - (shifted - MAGIC);
    let p = EXP2_POLY.iter().rev().copied().reduce(|p, c| fma_exact(p, f, c)).unwrap_or(0.0);
    let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC_BITS);
    let bell = fma_exact(p, f, 1.0) * power_of_two(n >> 1) * power_of_two(n.wrapping_sub(n >> 1));
    let t = 1.0 / fma_exact(h, NORMAL_STEP, 1.0);
    (h * bell, NORMAL_POLY.iter().rev().copied().reduce(|p, c| fma_exact(p, t, c)).unwrap_or(0.0))
}

/// `erf(x)` for `|x| < 1`: `x` times a polynomial in `x²`.
fn erf_near_zero(x: f32) -> f32 {
    let u = x * x;
    x * ERF_POLY.iter().rev().copied().reduce(|p, c| fma_exact(p, u, c)).unwrap_or(0.0)
}

/// `r` and `n` with `x = n π/2 + r` and `|r|` at most a hundredth above `π/4`; `n` modulo 4. Below 2^16 in three steps of fma,
/// of which the first is exact; beyond by [`far_angle`]. Infinities have no angle: `r` is NaN.
pub fn angle(x: f32) -> (f32, i32) {
    if size(x) < FAR_ANGLE {
        let shifted = fma_exact(x, TWO_OVER_PI, MAGIC);
        let whole = 0.0 - (shifted - MAGIC);
        let r = HALF_PI.iter().fold(x, |r, part| fma_exact(whole, *part, r));
        return (r, (shifted.to_bits() as i32).wrapping_sub(MAGIC_BITS));
    }
    far_angle(x)
}

/// The sine of `n π/2 + r`.
pub fn sine(r: f32, n: i32) -> f32 {
    let u = r * r;
    let poly = |p: [f32; 3]| fma_exact(fma_exact(p[2], u, p[1]), u, p[0]);
    let odd = fma_exact(r * u, poly(SIN_POLY), r);
    let even = fma_exact(u * u, poly(COS_POLY), fma_exact(u, -0.5, 1.0));
    let value = if n & 1 == 0 { odd } else { even };
    f32::from_bits(value.to_bits().wrapping_add((n as u32 & 2) << 30))
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

/// `x` without its sign.
fn size(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0x7fff_ffff)
}

/// `v`, which has no sign, with the sign of `x`.
fn with_sign(v: f32, x: f32) -> f32 {
    f32::from_bits(v.to_bits().wrapping_add(x.to_bits() & 0x8000_0000))
}

/// `Σ poly[i] * x^i` by Horner's rule with fma.
fn horner<const N: usize>(poly: [f32; N], x: f32) -> f32 {
    poly.iter().rev().copied().reduce(|p, c| fma_exact(p, x, c)).unwrap_or(0.0)
}

/// The nearest whole number, the even one of two, with the sign of `x`: below 2^23 in size adding that rounds; what is larger,
/// or no number, stays.
fn nearest(x: f32) -> f32 {
    const WHOLE: f32 = 8_388_608.0;
    if size(x) < WHOLE { with_sign(size(x) + WHOLE - WHOLE, x) } else { x }
}

/// The logarithm of `x` to the base whose parameters are given (see [`LOG_NATURAL`]): minus infinity at 0, NaN below.
///
/// `x = 2^n (1 + f)`, and `f - f²/2 + f³ q` with a polynomial `q`, small terms first.
pub fn log(x: f32, [high, low, factor]: [f32; 3]) -> f32 {
    let above_zero = 0.0 < x;
    if !above_zero {
        return sqrt(x) - f32::INFINITY;
    }
    if x == f32::INFINITY {
        return x;
    }
    let (scaled, steps) = if x < f32::MIN_POSITIVE { (x * 8_388_608.0, 23.0) } else { (x, 0.0) };
    let above = scaled.to_bits() as i32 - SQRT_HALF_BITS;
    let n = (above >> 23) as f32 - steps;
    let f = f32::from_bits(((above & 0x7f_ffff) + SQRT_HALF_BITS) as u32) - 1.0;
    let part = fma_exact(f * f, fma_exact(f, horner(LOG_POLY, f), -0.5), f);
    fma_exact(n, high, fma_exact(part, factor, n * low))
}

/// The natural logarithm of `1 + x`: that of the rounded sum `u`, and what rounding took by `u`.
pub fn log1p(x: f32) -> f32 {
    let u = 1.0 + x;
    let rest = if 0.0 < u && u < 16_777_216.0 { (x - (u - 1.0)) / u } else { 0.0 };
    log(u, LOG_NATURAL) + rest
}

/// `e^x / 2`, as half of the square of `e^(x/2)`.
fn half_exp(x: f32) -> f32 {
    let half = exp(x * 0.5);
    half * 0.5 * half
}

/// The arcsine of the size of `x` up to 1/2; beyond that, which the second result tells, the arcsine of
/// `sqrt((1 - |x|) / 2)`, which is half of what is left to a right angle.
fn arcsine(x: f32) -> (f32, bool) {
    let beyond = 0.5 < size(x);
    let square = if beyond { fma_exact(size(x), -0.5, 0.5) } else { x * x };
    let t = if beyond { sqrt(square) } else { size(x) };
    (fma_exact(t * square, horner(ASIN_POLY, square), t), beyond)
}

macro_rules! arms {
    ({} $($(#[$doc:meta])* $kernel:ident $variant:ident $name:ident {
        reference($rx:ident, $rp:pat) => $reference:expr;
        vectors($s:ident, $x:ident, $p:pat) => $vectors:expr;
    })*) => {
        /// The function of a unary variant at `x` with parameters `p`; `x` itself for a variant that is no function.
        pub fn function(variant: Variant, x: f32, p: [f32; 3]) -> f32 {
            match variant {
                $(Variant::$variant => {
                    let ($rx, $rp) = (x, p);
                    $reference
                })*
                _ => x,
            }
        }
    };
}

functions! { arms, {} }
