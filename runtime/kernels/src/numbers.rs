//! Constants that kernels and reference share, and an exact fma for hosts without the instruction.

/// `1.5 * 2^23`: a float of about this size has a unit in the last place of 1, so adding it rounds to an integer, which
/// stands in the low mantissa bits.
pub const MAGIC: f32 = 12_582_912.0;

/// `MAGIC` as an integer.
pub const MAGIC_BITS: i32 = 0x4b40_0000;

/// Arguments of exp below this give 0 after rounding.
pub const EXP_LO: f32 = -104.0;
/// Arguments of exp above this give infinity.
pub const EXP_HI: f32 = 89.0;
/// Arguments of `e^x - 1` below this give -1 after rounding.
pub const EXPM1_LO: f32 = -87.0;
/// Arguments of `e^x - 1` above this are taken for it: its users need no more.
pub const EXPM1_HI: f32 = 30.0;
/// `1 / ln 2`.
pub const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// High part of `ln 2`: 8 bits, so its product with an exponent is exact.
pub const LN2_HI: f32 = 0.691_406_25;
/// `ln 2 - LN2_HI`.
pub const LN2_LO: f32 = 0.001_740_930_6;
/// `(exp(r) - 1 - r) / r²` on `|r| <= ln 2 / 2`, by powers of `r` (interpolated at Chebyshev nodes); with it exp has
/// degree 6 and a relative error of 1.1e-8 before rounding.
pub const EXP_POLY: [f32; 5] = [0.5, 0.166_665_76, 0.041_666_556, 0.008_363_179, 0.001_392_618_4];

/// Bits of `sqrt(1/2)`, where the range of the logarithm's argument begins.
pub const SQRT_HALF_BITS: i32 = 0x3f35_04f3;
/// `(ln(1 + f) - f + f²/2) / f³` on `sqrt(1/2) - 1 <= f <= sqrt(2) - 1`; with it the logarithm has degree 10 and a relative
/// error of 2e-8 before rounding.
pub const LOG_POLY: [f32; 8] =
    [0.333_333_3, -0.250_003_07, 0.200_010_45, -0.166_412_82, 0.142_144_96, -0.129_981_83, 0.126_223_19, -0.079_027_44];

/// The logarithm to the base e: what `log_f32` multiplies the exponent by, in two parts of which the first has 8 bits, and what
/// it multiplies the logarithm of the mantissa by.
pub const LOG_NATURAL: [f32; 3] = [LN2_HI, LN2_LO, 1.0];
/// The same to the base 2.
pub const LOG_BINARY: [f32; 3] = [1.0, 0.0, LOG2_E];
/// The same to the base 10.
pub const LOG_DECIMAL: [f32; 3] = [0.300_781_25, 2.487_456_6e-4, core::f32::consts::LOG10_E];
/// From here on the inverses of hyperbolic functions are logarithms of twice the number.
pub const FAR_AREA: f32 = 8192.0;
/// `(atan x - x) / x³` by powers of `x²`, `|x|` up to 1 (weighted least squares at Chebyshev's points, weights moved towards the
/// largest errors); relative error of the arctangent 2e-8 before rounding.
pub const ATAN_POLY: [f32; 8] = [
    -0.333_331_53,
    0.199_937_69,
    -0.142_110_24,
    0.106_658_93,
    -0.075_519_934,
    0.043_209_426,
    -0.016_366_52,
    0.002_920_359_8,
];
/// `(asin x - x) / x³` likewise, `|x|` up to 1/2; relative error of the arcsine 5e-9 before rounding.
pub const ASIN_POLY: [f32; 5] = [0.166_667_55, 0.074_952, 0.045_482_095, 0.024_123_5, 0.042_259_175];

/// Coefficients of `erfc(z) ≈ t (a + t (b + ..)) exp(-z²)` with `t = 1 / (1 + ERFC_STEP z)` (weighted least squares at
/// Chebyshev nodes of `0 <= z <= 12`); relative error 9e-8 before rounding.
pub const ERFC_POLY: [f32; 9] = [
    0.169_189_35,
    0.170_690_9,
    0.148_521_51,
    0.214_180_34,
    -0.092_823_245,
    0.544_962_5,
    -0.509_768_2,
    0.484_299_54,
    -0.129_252_73,
];
/// See [`ERFC_POLY`].
pub const ERFC_STEP: f32 = 0.3;
/// `erf(x) / x` on `|x| <= 1`, by powers of `x²` (fitted in the same way); relative error 2e-9 before rounding.
pub const ERF_POLY: [f32; 7] = [
    core::f32::consts::FRAC_2_SQRT_PI,
    -0.376_126_26,
    0.112_835_854,
    -0.026_853_811,
    0.005_188_327_7,
    -0.000_801_019_25,
    7.853_858e-5,
];
/// `(2^f - 1) / f` on `|f| <= 1/2`, by powers of `f`; relative error of `2^f` 1e-7 before rounding.
pub const EXP2_POLY: [f32; 5] = [core::f32::consts::LN_2, 0.240_222_83, 0.055_505_585, 0.009_669_691, 0.001_330_060_7];

/// Coefficients of `erfc(h / sqrt 2) exp(h²/2) / 2 ≈ a + t (b + ..)` with `t = 1 / (1 + NORMAL_STEP h)` (weighted least squares
/// at Chebyshev nodes of `0 <= h <= 14`); relative error `1e-7 (1 + h²/4)` before rounding.
pub const NORMAL_POLY: [f32; 8] =
    [-5.387_65e-5, 0.136_808_38, 0.125_189_41, 0.170_428_17, -0.054_773_546, 0.288_126_07, -0.213_43, 0.047_705_42];
/// See [`NORMAL_POLY`].
pub const NORMAL_STEP: f32 = 0.34;
/// `-log2(e) / 2`: `exp(-h²/2)` is 2 to this times `h²`.
pub const NORMAL_EXPONENT: f32 = -0.5 * LOG2_E;
/// Powers of 2 below this are 0.
pub const EXP2_LO: f32 = -150.0;
/// Beyond this, what the normal distribution leaves is 0.
pub const NORMAL_END: f32 = 15.0;

/// `2 / π`.
pub const TWO_OVER_PI: f32 = core::f32::consts::FRAC_2_PI;
/// `π / 2` in three parts, each the nearest to what those before leave; their sum is off by 1e-23. Up to [`FAR_ANGLE`] a
/// multiple of the first taken from an angle is exact.
#[allow(clippy::approx_constant, reason = "the first part is the float, not the number")]
pub const HALF_PI: [f32; 3] = [1.570_796_4, -4.371_139e-8, -1.715_124_5e-15];
/// Angles from here on are reduced by [`far_angle`].
pub const FAR_ANGLE: f32 = 65_536.0;
/// `(sin r - r) / r³` by powers of `r²`, `|r|` up to 1.01 π/4 (weighted least squares at Chebyshev's points, weights moved
/// towards the largest errors); relative error of the sine 4e-9 before rounding.
pub const SIN_POLY: [f32; 3] = [-0.166_666_54, 0.008_332_113, -1.950_874e-4];
/// `(cos r - 1 + r²/2) / r⁴` likewise; relative error of the cosine 1e-10 before rounding.
pub const COS_POLY: [f32; 3] = [0.041_666_646, -0.001_388_725_1, 2.442_568e-5];

/// 32 zeros and the first 224 binary digits of `2 / π`.
const DIGITS: [u32; 8] = [0, 0xa2f9_836e, 0x4e44_1529, 0xfc27_57d1, 0xf534_ddc0, 0xdb62_9599, 0x3c43_9041, 0xfe51_63ab];

/// `r` and `n` with `x = n π/2 + r` and `|r| <= π/4`, for `|x|` of [`FAR_ANGLE`] at least; `n` modulo 4. What is not finite
/// gives NaN.
///
/// `x` is an integer of 24 bits times a power of 2. Digits of `2 / π` that stand for multiples of 4 in the product go (the
/// method of Payne and Hanek, 1983); the 96 digits behind them leave an error of 2^-70.
pub fn far_angle(x: f32) -> (f32, i32) {
    if !x.is_finite() {
        return (f32::NAN, 0);
    }
    let integer = u128::from(x.to_bits() & 0x7f_ffff | 0x80_0000);
    // The weight of the last bit of the integer is 2^(exponent - 150), at least 2^-7.
    let first = ((x.to_bits() >> 23 & 0xff) as usize).wrapping_sub(150 - 30);
    let digits = |i: usize| u128::from(DIGITS.get(first / 32 + i).copied().unwrap_or(0));
    let four = digits(0) << 96 | digits(1) << 64 | digits(2) << 32 | digits(3);
    // Digits of weights 2 to 2^-94, and the product modulo 4.
    let window = four << (first % 32) >> 32;
    let product = (integer * window) & ((1 << 96) - 1);
    let n = (product + (1 << 93)) >> 94;
    let rest = product as i128 - ((n as i128) << 94);
    // The first 63 of 94 bits.
    let r = (rest >> 31) as i64 as f64 * (core::f64::consts::FRAC_PI_2 / (1u64 << 63) as f64);
    if x < 0.0 { (-(r as f32), -(n as i32)) } else { (r as f32, n as i32) }
}

/// `a * b + c` rounded once, without the instruction.
///
/// The product is exact in f64. The sum is rounded to odd, which keeps enough information for the last rounding to be
/// right (Boldo and Melquiond, 2008: two extra bits suffice; f64 has 29 more than f32).
#[inline(always)]
pub fn fma_exact(a: f32, b: f32, c: f32) -> f32 {
    let product = a as f64 * b as f64;
    let c = c as f64;
    let sum = product + c;
    // The rounding error of the sum, exactly (Knuth's two-sum); NaN if something is not finite.
    let part = sum - product;
    let error = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    // An inexact sum with an even mantissa is one unit off on the side of the error; one step back makes it odd.
    let away = (error > 0.0) == (sum > 0.0);
    let odd = if away { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let inexact = error.abs() > 0.0;
    f64::from_bits(if inexact && bits & 1 == 0 { odd } else { bits }) as f32
}

/// Squares that local response normalization adds in f32; sums of as many are added in f64.
pub const LRN_RUN: usize = 8;

/// Partial sums of a sum in runs.
pub const RUNS: usize = 64;
/// Elements that each of them gets before they are added in f64.
pub const RUN: usize = 8;

/// Bytes of f32 weights that stay in the second-level cache together with the next block, which is fetched meanwhile.
pub const BLOCK_BYTES: usize = 320 << 10;
/// The largest f32 panel that is passed over at once.
pub const UNCUT_BYTES: usize = BLOCK_BYTES + BLOCK_BYTES / 2;
