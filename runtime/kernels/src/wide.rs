//! Functions that are computed lane by lane in double precision and integers: kernels and reference share them, as nothing in
//! them depends on the width of vectors.

/// `x^y`, within 0.51 units in the last place, with the special cases of C's `pow`.
///
/// `2^(y log2 |x|)`: the logarithm of the mantissa is `2 (s + s³/3 + ..)` with `s = (m - 1) / (m + 1)`, whose next term is 2e-17;
/// the power of e is its series up to the 13th power. So the exponent is off by 1e-13 at most.
#[inline(always)]
pub fn power(x: f32, y: f32) -> f32 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if x.is_nan() || y.is_nan() {
        return f32::NAN;
    }
    let whole = is_whole(y);
    let negative = x.is_sign_negative() && whole && is_odd(y);
    let size = size_of(x);
    let size = if size == 0.0 || size == f32::INFINITY {
        // One of the two, which a negative exponent exchanges.
        if (size == 0.0) == (y < 0.0) { f32::INFINITY } else { 0.0 }
    } else if x < 0.0 && !whole {
        return f32::NAN;
    } else if size == 1.0 {
        1.0
    } else {
        exp2(f64::from(y) * log2(size))
    };
    if negative { -size } else { size }
}

/// What a division leaves, with the sign of `a`, exact; NaN for an infinite `a` and for a `b` of 0.
#[inline(always)]
pub fn remainder(a: f32, b: f32) -> f32 {
    if !a.is_finite() || b.is_nan() || b == 0.0 {
        return f32::NAN;
    }
    let (size, by) = (size_of(a), size_of(b));
    if size < by {
        return a;
    }
    let ((mut rest, exponent), (divisor, unit)) = (parts(size), parts(by));
    // A divisor of 0 has no parts that come here, which the compiler does not see.
    rest = rest.checked_rem(divisor).unwrap_or(0);
    let mut left = exponent - unit;
    while left > 0 {
        // Both have 24 bits, so 32 more fit.
        let step = if left < 32 { left } else { 32 };
        rest = (rest << step).checked_rem(divisor).unwrap_or(0);
        left -= step;
    }
    let value = (rest as f64 * power_of_two(unit)) as f32;
    if a < 0.0 { -value } else { value }
}

#[inline(always)]
fn size_of(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0x7fff_ffff)
}

/// An integer of 24 bits at most and an exponent that give a finite number.
#[inline(always)]
fn parts(x: f32) -> (u64, i32) {
    let (exponent, fraction) = ((x.to_bits() >> 23) as i32, u64::from(x.to_bits() & 0x7f_ffff));
    if exponent == 0 { (fraction, -149) } else { (fraction | 0x80_0000, exponent - 150) }
}

#[inline(always)]
fn power_of_two(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// Whether `y` has no fraction; infinities have none.
#[inline(always)]
fn is_whole(y: f32) -> bool {
    let size = size_of(y);
    size >= 8_388_608.0 || size as i32 as f32 == size
}

/// Whether a whole number is odd.
#[inline(always)]
fn is_odd(y: f32) -> bool {
    size_of(y) < 16_777_216.0 && size_of(y) as i32 & 1 == 1
}

/// The logarithm of a positive, finite number to the base 2.
#[inline(always)]
fn log2(x: f32) -> f64 {
    let bits = f64::from(x).to_bits();
    // Bits of sqrt(1/2): mantissas are from there to its double.
    let above = bits.wrapping_sub(0x3fe6_a09e_667f_3bcd) as i64;
    let n = above >> 52;
    let m = f64::from_bits((above & 0xf_ffff_ffff_ffff) as u64 + 0x3fe6_a09e_667f_3bcd);
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for k in (0..11).rev() {
        sum = sum * square + 1.0 / f64::from(2 * k + 1);
    }
    n as f64 + 2.0 * core::f64::consts::LOG2_E * (s * sum)
}

/// 2 to the power of `t`, rounded to f32.
#[inline(always)]
fn exp2(t: f64) -> f32 {
    // Beyond these, all results are 0 or infinite.
    let t = if t < -160.0 { -160.0 } else { t };
    let t = if t > 140.0 { 140.0 } else { t };
    // 1.5 * 2^52 has no room for a fraction.
    let magic = 6_755_399_441_055_744.0;
    let n = (t + magic) - magic;
    let r = (t - n) * core::f64::consts::LN_2;
    let mut sum = 1.0;
    for k in (1..14).rev() {
        sum = 1.0 + sum * r / f64::from(k);
    }
    (sum * power_of_two(n as i32)) as f32
}

/// `e^x`, within 0.51 units in the last place.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp2(f64::from(x) * core::f64::consts::LOG2_E)
}

/// An integer that is the larger the earlier `x` at place `i` comes: the largest number first, or the least, and of equal ones,
/// 0 and -0 among them, the one at the lower place. NaN is above all numbers.
#[inline(always)]
pub fn order(x: f32, i: usize, least: bool) -> u64 {
    // 0 for both zeros.
    let bits = (x + 0.0).to_bits();
    let above = match bits >> 31 {
        _ if x.is_nan() => u32::MAX,
        0 => bits | 0x8000_0000,
        _ => !bits,
    };
    let above = if least { !above } else { above };
    u64::from(above) << 32 | u64::from(!(i as u32))
}
