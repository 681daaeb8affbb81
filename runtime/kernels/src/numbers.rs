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
