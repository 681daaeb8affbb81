//! exp, power and erfc on vectors, sums of lanes, and loads and stores with strides between lanes.

use super::simd::Simd;
use crate::numbers::{
    ASIN_POLY, COS_POLY, ERF_POLY, ERFC_POLY, ERFC_STEP, EXP_HI, EXP_LO, EXP_POLY, EXP2_LO, EXP2_POLY, EXPM1_HI,
    EXPM1_LO, FAR_ANGLE, HALF_PI, LN2_HI, LN2_LO, LOG_NATURAL, LOG_POLY, LOG2_E, MAGIC, MAGIC_BITS, NORMAL_EXPONENT,
    NORMAL_POLY, NORMAL_STEP, SIN_POLY, SQRT_HALF_BITS, TWO_OVER_PI, far_angle,
};

/// Loads `n` lanes that are `stride` bytes apart and nothing else; the other lanes are 0.
///
/// # Safety
/// The `n` lanes are readable.
#[inline(always)]
pub unsafe fn load_lanes<S: Simd>(s: S, p: *const f32, stride: usize, n: usize) -> S::F {
    // SAFETY: the caller's guarantee; the array has 64 bytes.
    unsafe {
        if stride == 4 && n == 16 {
            return s.load(p);
        }
        let mut lanes = [0.0f32; 16];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            *lane = p.wrapping_byte_add(i * stride).read_unaligned();
        }
        s.load(lanes.as_ptr())
    }
}

/// Stores `n` lanes `stride` bytes apart.
///
/// # Safety
/// The `n` lanes are writable.
#[inline(always)]
pub unsafe fn store_lanes<S: Simd>(s: S, v: S::F, p: *mut f32, stride: usize, n: usize) {
    // SAFETY: the caller's guarantee.
    unsafe {
        if stride == 4 {
            return s.store(v, p, n);
        }
        for (i, lane) in s.lanes(v).into_iter().enumerate().take(n) {
            p.wrapping_byte_add(i * stride).write_unaligned(lane);
        }
    }
}

/// `Σ poly[i] * x^i` by Horner's rule with fma.
#[inline(always)]
pub fn horner<S: Simd, const N: usize>(s: S, poly: [f32; N], x: S::F) -> S::F {
    let mut value = s.splat(poly[N - 1]);
    for i in 1..N {
        value = s.fma(value, x, s.splat(poly[N - 1 - i]));
    }
    value
}

/// `r` and `n + MAGIC` with `x = n ln 2 + r`.
#[inline(always)]
fn reduced<S: Simd>(s: S, x: S::F) -> (S::F, S::F) {
    let shifted = s.fma(x, s.splat(LOG2_E), s.splat(MAGIC));
    let whole = s.sub(shifted, s.splat(MAGIC));
    let r = s.fma(whole, s.splat(-LN2_HI), x);
    (s.fma(whole, s.splat(-LN2_LO), r), shifted)
}

/// `e^x`; see `reference::exp`, whose operations these are.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    exp_of(s, s.clamp(x, s.splat(EXP_LO), s.splat(EXP_HI)))
}

/// `e^x` within the bounds.
#[inline(always)]
fn exp_of<S: Simd>(s: S, x: S::F) -> S::F {
    let (r, shifted) = reduced(s, x);
    let q = horner(s, EXP_POLY, r);
    s.times_power(s.add(s.fma(q, s.mul(r, r), r), s.splat(1.0)), shifted)
}

/// `e^x` for `x <= 0` or NaN: the same operations but for the bound above.
#[inline(always)]
pub fn exp_below<S: Simd>(s: S, x: S::F) -> S::F {
    exp_of(s, s.max(s.splat(EXP_LO), x))
}

/// `e^x - 1`; see `reference::expm1`, whose operations these are.
#[inline(always)]
pub fn expm1<S: Simd>(s: S, x: S::F) -> S::F {
    let (r, shifted) = reduced(s, s.clamp(x, s.splat(EXPM1_LO), s.splat(EXPM1_HI)));
    let q = horner(s, EXP_POLY, r);
    let p = s.fma(q, s.mul(r, r), r);
    let exponent = s.sub_i(s.bits(shifted), s.splat_i(MAGIC_BITS - 127));
    let power = s.as_float(s.shift_left::<23>(exponent));
    s.fma(p, power, s.sub(power, s.splat(1.0)))
}

/// `1 - erf(z)` for `z >= 0`; see `reference::erfc`, whose operations these are.
#[inline(always)]
pub fn erfc<S: Simd>(s: S, z: S::F) -> S::F {
    let t = s.div(s.splat(1.0), s.fma(z, s.splat(ERFC_STEP), s.splat(1.0)));
    let bell = exp(s, s.sub(s.splat(0.0), s.mul(z, z)));
    s.mul(s.mul(horner(s, ERFC_POLY, t), t), bell)
}

/// Two factors of what the normal distribution leaves behind `|u|`; see `reference::normal_tail`, whose operations these are.
#[inline(always)]
pub fn normal_tail<S: Simd>(s: S, u: S::F) -> (S::F, S::F) {
    let h = s.as_float(s.and_i(s.bits(u), s.splat_i(i32::MAX)));
    let exponent = s.max(s.splat(EXP2_LO), s.mul(s.mul(u, u), s.splat(NORMAL_EXPONENT)));
    let shifted = s.add(exponent, s.splat(MAGIC));
    let f = s.sub(exponent, s.sub(shifted, s.splat(MAGIC)));
    let bell = s.times_power(s.fma(horner(s, EXP2_POLY, f), f, s.splat(1.0)), shifted);
    let t = s.div(s.splat(1.0), s.fma(h, s.splat(NORMAL_STEP), s.splat(1.0)));
    (s.mul(h, bell), horner(s, NORMAL_POLY, t))
}

/// `erf(x)` for `|x| < 1`; see `reference::erf_near_zero`, whose operations these are.
#[inline(always)]
pub fn erf_near_zero<S: Simd>(s: S, x: S::F) -> S::F {
    s.mul(x, horner(s, ERF_POLY, s.mul(x, x)))
}

/// Lanes `j` and `j + 8` added, then `+ 4`, `+ 2`, `+ 1`.
#[inline(always)]
pub fn tree_sum(v: [f64; 16]) -> f64 {
    let eight = |j: usize| v[j] + v[j + 8];
    let four = |j: usize| eight(j) + eight(j + 4);
    (four(0) + four(2)) + (four(1) + four(3))
}

/// `x^-beta`; see `reference::pow_neg`, whose operations these are.
#[inline(always)]
pub fn pow_neg<S: Simd>(s: S, x: S::F, beta: f32) -> S::F {
    let above = s.sub_i(s.bits(x), s.splat_i(SQRT_HALF_BITS));
    let exponent = s.to_float(s.shift_right::<23>(above));
    let mantissa = s.add_i(s.and_i(above, s.splat_i(0x7f_ffff)), s.splat_i(SQRT_HALF_BITS));
    let f = s.sub(s.as_float(mantissa), s.splat(1.0));
    let q = horner(s, LOG_POLY, f);
    let square = s.mul(f, f);
    let small = s.fma(exponent, s.splat(LN2_LO), f);
    let log = s.fma(square, s.fma(f, q, s.splat(-0.5)), small);
    let log = s.fma(exponent, s.splat(LN2_HI), log);
    // What has no mantissa is its own logarithm: infinity and NaN.
    let log = s.if_less(x, s.splat(f32::INFINITY), log, x);
    exp(s, s.mul(s.splat(-beta), log))
}

/// `r` and `n` with `x = n π/2 + r`, as `reference::angle`.
#[inline(always)]
pub fn angle<S: Simd>(s: S, x: S::F) -> (S::F, S::I) {
    let shifted = s.fma(x, s.splat(TWO_OVER_PI), s.splat(MAGIC));
    let whole = s.sub(s.splat(0.0), s.sub(shifted, s.splat(MAGIC)));
    let mut r = x;
    for part in HALF_PI {
        r = s.fma(whole, s.splat(part), r);
    }
    let n = s.sub_i(s.bits(shifted), s.splat_i(MAGIC_BITS));
    let values = s.lanes(x);
    // NaN is far, too.
    if values.iter().all(|v| v.abs() < FAR_ANGLE) {
        return (r, n);
    }
    far_angles(s, values, r, n)
}

/// The angle of each lane that is far; those of the others are `r` and `n`.
#[inline(always)]
fn far_angles<S: Simd>(s: S, x: [f32; 16], r: S::F, n: S::I) -> (S::F, S::I) {
    let (mut near, mut whole) = (s.lanes(r), s.lanes(s.as_float(n)));
    for (i, x) in x.into_iter().enumerate() {
        if x.abs() >= FAR_ANGLE || x.is_nan() {
            let (r, n) = far_angle(x);
            (near[i], whole[i]) = (r, f32::from_bits(n as u32));
        }
    }
    // SAFETY: the arrays have 64 bytes.
    unsafe { (s.load(near.as_ptr()), s.load_i(whole.as_ptr().cast())) }
}

/// The sine of `n π/2 + r`.
#[inline(always)]
pub fn sine<S: Simd>(s: S, r: S::F, n: S::I) -> S::F {
    let u = s.mul(r, r);
    let odd = s.fma(s.mul(r, u), horner(s, SIN_POLY, u), r);
    let even = s.fma(s.mul(u, u), horner(s, COS_POLY, u), s.fma(u, s.splat(-0.5), s.splat(1.0)));
    let is_even = s.to_float(s.and_i(n, s.splat_i(1)));
    let value = s.if_less(is_even, s.splat(0.5), odd, even);
    s.as_float(s.add_i(s.bits(value), s.shift_left::<30>(s.and_i(n, s.splat_i(2)))))
}

/// `x` without its sign.
#[inline(always)]
pub fn size<S: Simd>(s: S, x: S::F) -> S::F {
    s.as_float(s.and_i(s.bits(x), s.splat_i(i32::MAX)))
}

/// `v`, which has no sign, with the sign of `x`.
#[inline(always)]
pub fn with_sign<S: Simd>(s: S, v: S::F, x: S::F) -> S::F {
    s.as_float(s.add_i(s.bits(v), s.and_i(s.bits(x), s.splat_i(i32::MIN))))
}

/// The nearest whole number, the even one of two; see `reference::function::nearest`.
#[inline(always)]
pub fn nearest<S: Simd>(s: S, x: S::F) -> S::F {
    let (size, whole) = (size(s, x), s.splat(8_388_608.0));
    s.if_less(size, whole, with_sign(s, s.sub(s.add(size, whole), whole), x), x)
}

/// The logarithm to a base; see `reference::log`, whose operations these are.
#[inline(always)]
pub fn log<S: Simd>(s: S, x: S::F, [high, low, factor]: [S::F; 3]) -> S::F {
    let (normal, infinity) = (s.splat(f32::MIN_POSITIVE), s.splat(f32::INFINITY));
    let scaled = s.if_less(x, normal, s.mul(x, s.splat(8_388_608.0)), x);
    let steps = s.if_less(x, normal, s.splat(23.0), s.splat(0.0));
    let above = s.sub_i(s.bits(scaled), s.splat_i(SQRT_HALF_BITS));
    let n = s.sub(s.to_float(s.shift_right::<23>(above)), steps);
    let mantissa = s.add_i(s.and_i(above, s.splat_i(0x7f_ffff)), s.splat_i(SQRT_HALF_BITS));
    let f = s.sub(s.as_float(mantissa), s.splat(1.0));
    let part = s.fma(s.mul(f, f), s.fma(f, horner(s, LOG_POLY, f), s.splat(-0.5)), f);
    let value = s.fma(n, high, s.fma(part, factor, s.mul(n, low)));
    let value = s.if_less(x, infinity, value, x);
    s.if_less(s.splat(0.0), x, value, s.sub(s.sqrt(x), infinity))
}

/// The natural logarithm; see [`log`].
#[inline(always)]
pub fn natural_log<S: Simd>(s: S, x: S::F) -> S::F {
    log(s, x, LOG_NATURAL.map(|v| s.splat(v)))
}

/// `ln(2x)` of an `x` so large that `2x` may be none.
#[inline(always)]
pub fn log_of_twice<S: Simd>(s: S, x: S::F) -> S::F {
    s.add(natural_log(s, x), s.splat(core::f32::consts::LN_2))
}

/// `ln(1 + x)`; see `reference::log1p`, whose operations these are.
#[inline(always)]
pub fn log1p<S: Simd>(s: S, x: S::F) -> S::F {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let u = s.add(one, x);
    let rest = s.div(s.sub(x, s.sub(u, one)), u);
    let rest = s.if_less(u, s.splat(16_777_216.0), rest, zero);
    s.add(natural_log(s, u), s.if_less(zero, u, rest, zero))
}

/// `e^x / 2`; see `reference::function::half_exp`.
#[inline(always)]
pub fn half_exp<S: Simd>(s: S, x: S::F) -> S::F {
    let half = exp(s, s.mul(x, s.splat(0.5)));
    s.mul(s.mul(half, s.splat(0.5)), half)
}

/// What the arcsine is made of; see `reference::function::arcsine`.
#[inline(always)]
pub fn arcsine<S: Simd>(s: S, x: S::F) -> S::F {
    let (size, half) = (size(s, x), s.splat(0.5));
    let outer = s.fma(size, s.splat(-0.5), half);
    let square = s.if_less(half, size, outer, s.mul(x, x));
    let t = s.if_less(half, size, s.sqrt(outer), size);
    s.fma(s.mul(t, square), horner(s, ASIN_POLY, square), t)
}
