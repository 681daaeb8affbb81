//! Functions of single elements on every tier against double precision: all exponents, special values included, within the
//! bounds that `args::UnaryArgs` states.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::{Family, LOG_BINARY, LOG_DECIMAL, LOG_NATURAL, Variant};
use support::{Bytes, Case, Rng};

/// Mantissas per sign and exponent.
const MANTISSAS: usize = 600;

/// Floats of every sign and exponent: the first and last mantissas, and random ones. The largest exponent is that of
/// infinities and NaN.
fn every_exponent(rng: &mut Rng) -> Vec<f32> {
    let mut all = Vec::new();
    for high in 0..512u32 {
        let random = (0..MANTISSAS - 4).map(|_| rng.next() as u32 & 0x7f_ffff);
        let mantissas = [0, 1, 0x7f_ffff, 0x40_0000].into_iter().chain(random);
        all.extend(mantissas.map(|m| f32::from_bits(high << 23 | m)));
    }
    all
}

/// `1 - erf(z)` for `z >= 0`: the series with positive terms, and the continued fraction where that would cancel.
fn erfc(z: f64) -> f64 {
    let bell = (-z * z).exp();
    if z.is_infinite() || bell == 0.0 {
        return 0.0;
    }
    if z < 2.5 {
        return 1.0 - erf_series(z, bell);
    }
    let fraction = (1..200).rev().fold(z, |f, k| z + f64::from(k) / 2.0 / f);
    bell / (std::f64::consts::PI.sqrt() * fraction)
}

fn erf_series(z: f64, bell: f64) -> f64 {
    let (mut sum, mut term) = (0.0, z);
    for n in 1..200 {
        sum += term;
        term *= 2.0 * z * z / f64::from(2 * n + 1);
    }
    2.0 / std::f64::consts::PI.sqrt() * bell * sum
}

fn erf(x: f64) -> f64 {
    let z = x.abs();
    let value = if z < 1.0 { erf_series(z, (-z * z).exp()) } else { 1.0 - erfc(z) };
    value.copysign(x)
}

/// The exact value and the allowed error in units in the last place.
fn exact(variant: Variant, x: f32, [p0, p1, p2]: [f32; 3]) -> (f64, f64) {
    let (y, p) = (f64::from(x), [p0, p1, p2].map(f64::from));
    let below = if x > 0.0 { 0.0 } else { y };
    let above = if x > 0.0 { y } else { 0.0 };
    match variant {
        Variant::ClampF32 => (if x.is_nan() { y } else { y.clamp(p[0], p[1]) }, 0.0),
        Variant::SigmoidF32 => (1.0 / (1.0 + (-y).exp()), 4.0),
        Variant::SwishF32 => (y / (1.0 + (-y * p[0]).exp()), 4.0 + (y * p[0]).abs()),
        Variant::TanhF32 => (y.tanh(), 5.0),
        Variant::ExpF32 => (y.exp(), 1.1),
        Variant::SqrtF32 => (y.sqrt(), 0.5),
        Variant::AbsF32 => (y.abs(), 0.0),
        Variant::ErfF32 => (erf(y), 3.0),
        Variant::SinF32 => (y.sin(), 2.0),
        Variant::CosF32 => (y.cos(), 2.0),
        Variant::FloorF32 => (y.floor(), 0.0),
        Variant::CeilF32 => (y.ceil(), 0.0),
        Variant::RoundF32 => (if p0 == 0.0 { y.round_ties_even() } else { y.round() }, 0.0),
        Variant::SignF32 => (if y == 0.0 || y.is_nan() { y } else { y.signum() }, 0.0),
        Variant::ShrinkF32 => {
            let moved = y - p[1] * y.signum();
            (if y.abs() > p[0] { moved } else { 0.0 }, 0.500_001)
        }
        Variant::ThresholdF32 => (if y > p[0] { y } else { 0.0 }, 0.0),
        Variant::LogF32 => (logarithm(y, p0), 2.5),
        Variant::Log1pF32 => (y.ln_1p(), 3.0),
        Variant::SoftplusF32 => {
            let line = y * p[0];
            let sum = line.max(0.0) + (-line.abs()).exp().ln_1p();
            let value = if line.is_nan() { line } else { sum / p[0] };
            (if line > p[1] { y } else { value }, 5.0 + line.abs())
        }
        Variant::MishF32 => (y * y.exp().ln_1p().tanh(), 5.0),
        Variant::TanF32 => (y.tan(), 5.0),
        Variant::AsinF32 => (y.asin(), 3.0),
        Variant::AcosF32 => (y.acos(), 3.0),
        Variant::AtanF32 => (y.atan(), 3.0),
        Variant::SinhF32 => (y.sinh(), 5.0),
        Variant::CoshF32 => (y.cosh(), 4.0),
        Variant::AsinhF32 => (y.asinh(), 5.0),
        Variant::AcoshF32 => (y.acosh(), 5.0),
        Variant::AtanhF32 => (y.atanh(), 5.0),
        Variant::SoftsignF32 => (y / (1.0 + y.abs()), 1.5),
        Variant::HardSigmoidF32 => {
            let line = y * p[0] + p[1];
            (if line.is_nan() { line } else { line.clamp(0.0, 1.0) }, 0.500_001)
        }
        Variant::HardSwishF32 => {
            let sum = f64::from(x + p0);
            (y * (if sum.is_nan() { sum } else { sum.clamp(0.0, p[1]) }) * p[2], 1.5)
        }
        Variant::LeakyReluF32 => (below * p[0] + above, 0.500_001),
        Variant::EluF32 => (below.exp_m1() * p[0] + above, 4.0),
        Variant::GeluF32 => {
            let tail = erfc(y.abs() * std::f64::consts::FRAC_1_SQRT_2);
            (y * 0.5 * if x < 0.0 { tail } else { 2.0 - tail } + if x.is_nan() { y } else { 0.0 }, 8.0 + 2.0 * y * y)
        }
        Variant::GeluTanhF32 => {
            let inner = (y * y * p[1] + p[0]) * y;
            (y / (1.0 + (-inner).exp()), 5.0 + 2.0 * inner.abs())
        }
        other => panic!("{other:?} has no exact value here"),
    }
}

/// The logarithm to the base whose first parameter is given.
fn logarithm(y: f64, first: f32) -> f64 {
    match first {
        1.0 => y.log2(),
        _ if first == LOG_NATURAL[0] => y.ln(),
        _ => y.log10(),
    }
}

/// The distance in units in the last place of the exact value; 0 where both are NaN or the same infinity.
fn units(found: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if found == rounded || (found.is_nan() && exact.is_nan()) {
        return if rounded.is_finite() { (f64::from(found) - exact).abs() / unit(exact) } else { 0.0 };
    }
    if !found.is_finite() || exact.is_nan() {
        // A result next to the largest float may be infinite.
        let edge =
            !found.is_nan() && exact.abs() > f64::from(f32::MAX) * (1.0 - 1e-6) && (found > 0.0) == (exact > 0.0);
        return if edge { 0.0 } else { f64::INFINITY };
    }
    let exact = exact.clamp(-f64::from(f32::MAX) * (1.0 + 2e-8), f64::from(f32::MAX) * (1.0 + 2e-8));
    (f64::from(found) - exact).abs() / unit(exact)
}

/// A unit in the last place of a float at `exact`.
fn unit(exact: f64) -> f64 {
    let exponent = (exact.abs().to_bits() >> 52) as i32 - 1023;
    2f64.powi(exponent.max(-126) - 23)
}

fn parameters(variant: Variant) -> Vec<[f32; 3]> {
    match variant {
        Variant::ClampF32 => vec![[-3.5, f32::INFINITY, 0.0], [f32::NEG_INFINITY, 6.0, 0.0], [0.0, f32::INFINITY, 0.0]],
        Variant::HardSwishF32 => vec![[3.0, 6.0, 1.0 / 6.0]],
        Variant::HardSigmoidF32 => vec![[0.2, 0.5, 0.0], [1.0 / 6.0, 0.5, 0.0]],
        Variant::GeluTanhF32 => vec![[1.595_769_2, 0.071_354_814, 0.0]],
        Variant::SwishF32 => vec![[1.0, 0.0, 0.0], [1.702, 0.0, 0.0]],
        Variant::RoundF32 => vec![[0.0; 3], [1.0, 0.0, 0.0]],
        Variant::ShrinkF32 => vec![[0.5, 0.0, 0.0], [1.5, 1.5, 0.0]],
        Variant::LogF32 => vec![LOG_NATURAL, LOG_BINARY, LOG_DECIMAL],
        Variant::SoftplusF32 => vec![[1.0, f32::INFINITY, 0.0], [1.5, 20.0, 0.0]],
        _ => vec![[0.3, 0.0, 0.0]],
    }
}

#[test]
fn functions_keep_their_bounds_at_every_exponent() {
    let mut rng = Rng(11);
    let all = every_exponent(&mut rng);
    for &variant in Family::Unary.variants().iter().filter(|v| **v != Variant::LutU8) {
        for p in parameters(variant) {
            let (mut worst, mut at) = (0.0f64, 0.0);
            for part in all.chunks(100_000) {
                for (&x, found) in part.iter().zip(on_every_tier(variant, part, p)) {
                    let (exact, bound) = exact(variant, x, p);
                    // Where a factor of the result is no normal float.
                    let least = f64::from(f32::MIN_POSITIVE) * f64::from(x.abs()).max(1.0);
                    let small = exact.abs() < least && (f64::from(found) - exact).abs() < least;
                    let off = units(found, exact);
                    let fine = small || off == 0.0 || off <= bound;
                    assert!(
                        fine,
                        "{variant:?} {p:?} of {x:e}: {found:e}, not {exact:e}: {off} units, allowed are {bound}"
                    );
                    if !small && off / bound > worst {
                        (worst, at) = (off / bound, x);
                    }
                }
            }
            println!("{variant:?} {p:?}: {worst:.2} of its bound at {at:e}");
        }
    }
}

#[test]
fn powers_and_remainders_are_those_of_double_precision() {
    let mut rng = Rng(16);
    let special = [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.5, -0.5, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let pairs = special.iter().flat_map(|&x| special.map(|y| (x, y)));
    let random = (0..60_000).map(|i| {
        let x = f32::from_bits(rng.next() as u32);
        // Exponents that give finite results of most numbers, some of them whole.
        let y = rng.float(-4.0, 4.0);
        (x, if i % 3 == 0 { y.round() } else { y })
    });
    let pairs: Vec<(f32, f32)> = pairs.chain(random).collect();
    for &(x, y) in &pairs {
        let exact = f64::from(x).powf(f64::from(y));
        let off = units(qc_kernels::power(x, y), exact);
        assert!(off <= 0.51, "{x:e} to the power of {y:e} is off by {off} units");
        let (left, exact) = (qc_kernels::remainder(x, y), x % y);
        assert!(left == exact || (left.is_nan() && exact.is_nan()), "{x:e} by {y:e} leaves {left:e}, not {exact:e}");
    }
    for pair in pairs.windows(2) {
        let ((x, _), (y, _)) = (pair[0], pair[1]);
        let (left, exact) = (qc_kernels::remainder(x, y), x % y);
        assert!(left == exact || (left.is_nan() && exact.is_nan()), "{x:e} by {y:e} leaves {left:e}, not {exact:e}");
    }
}

/// What the reference makes of `x`, after all tiers have given the same.
fn on_every_tier(variant: Variant, x: &[f32], p: [f32; 3]) -> Vec<f32> {
    let mut case = Case::new(Family::Unary, variant);
    case.buffer("a", x.to_vec().bytes(), 0).buffer("out", vec![0; 4 * x.len()], 0);
    case.int("a_row", 0).int("out_row", 0).int("rows", 1).int("n", x.len());
    case.f32("p0", p[0]).f32("p1", p[1]).f32("p2", p[2]);
    floats(&case.check().0[1])
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Whether `found` is `exact`, rounded.
fn nearest(found: f32, exact: f64) -> bool {
    units(found, exact) <= 0.500_001
}

/// `n` floats around 1000 that a float accumulator adds badly.
fn around_1000(rng: &mut Rng, n: usize) -> Vec<f32> {
    rng.floats(n, 998.0, 1003.0)
}

fn mean(values: impl ExactSizeIterator<Item = f32>) -> f64 {
    let n = values.len() as f64;
    values.map(f64::from).sum::<f64>() / n
}

#[test]
fn means_of_long_rows_are_rounded_once() {
    let mut rng = Rng(12);
    for n in [1000, 65_537, 250_000] {
        let values = around_1000(&mut rng, n);
        let exact = mean(values.iter().copied());
        let mut case = Case::new(Family::Mean, Variant::F32);
        case.buffer("a", values.bytes(), 0).buffer("out", vec![0; 4], 0);
        case.int("a_row", 0).int("out_row", 0).int("rows", 1).int("n", n);
        let found = floats(&case.check().0[1])[0];
        assert!(nearest(found, exact), "{n}: {found} not {exact}");
    }
}

/// A pool over all of a `h x w` plane of `c` channels.
fn whole_plane(variant: Variant, values: Vec<f32>, [h, w, c]: [usize; 3]) -> Vec<f32> {
    let mut case = Case::new(Family::Pool, variant);
    case.buffer("a", values.bytes(), 0).buffer("out", vec![0; 4 * c], 0);
    case.int("a_px", 4 * c).int("a_row", 4 * c * w).int("out_px", 4 * c).int("out_row", 4 * c);
    case.int("in_h", h).int("in_w", w).int("kh", h).int("kw", w).int("stride_y", 1).int("stride_x", 1);
    case.int("rows", 1).int("cols", 1).int("channels", c);
    floats(&case.check().0[1])
}

#[test]
fn averages_of_large_planes_are_rounded_once() {
    let mut rng = Rng(13);
    for [h, w, c] in [[400, 500, 1], [100, 120, 17], [7, 7, 64]] {
        let values = around_1000(&mut rng, h * w * c);
        for (i, found) in whole_plane(Variant::AvgF32, values.clone(), [h, w, c]).into_iter().enumerate() {
            let exact = mean(values.iter().skip(i).step_by(c).copied());
            assert!(nearest(found, exact), "{h}x{w} channel {i}: {found} not {exact}");
        }
    }
}

#[test]
fn sums_that_pass_the_largest_float_have_a_mean() {
    assert_eq!(whole_plane(Variant::AvgF32, vec![f32::MAX; 9], [3, 3, 1]), [f32::MAX]);
}

#[test]
fn maxima_see_nan_and_minus_infinity() {
    let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
    // Windows 2 and 3 wide have code of their own.
    for w in [2, 3, 4] {
        for at in 0..2 * w {
            let mut values = vec![1.0; 2 * w];
            values[at] = nan;
            assert!(whole_plane(Variant::MaxF32, values, [2, w, 1])[0].is_nan(), "place {at} of 2x{w}");
        }
        assert_eq!(whole_plane(Variant::MaxF32, vec![low; 2 * w], [2, w, 1]), [low]);
        assert_eq!(whole_plane(Variant::MaxF32, vec![-0.0; 2 * w], [2, w, 1])[0].to_bits(), 0);
    }
}

#[test]
fn softmax_of_long_rows_sums_to_one() {
    let mut rng = Rng(14);
    let n = 100_000;
    let values = rng.floats(n, -4.0, 4.0);
    let max = values.iter().copied().fold(f32::MIN, f32::max);
    let exact: Vec<f64> = values.iter().map(|&v| (f64::from(v) - f64::from(max)).exp()).collect();
    let sum: f64 = exact.iter().sum();
    let mut case = Case::new(Family::Softmax, Variant::F32);
    case.buffer("a", values.bytes(), 0).buffer("out", vec![0; 4 * n], 0);
    case.int("a_row", 0).int("out_row", 0).int("a_elem", 4).int("out_elem", 4).int("rows", 1).int("n", n);
    for (found, e) in floats(&case.check().0[1]).into_iter().zip(exact) {
        // exp, the sum in runs, its inverse and a product: 4 units, and the difference that exp is given: half a unit of up to 8.
        assert!(units(found, e / sum) <= 8.0, "{found:e} not {:e}", e / sum);
    }
}

#[test]
fn lrn_of_wide_windows_keeps_its_precision() {
    let mut rng = Rng(15);
    let (channels, size) = (300, 201);
    let values = rng.floats(channels, -30.0, 30.0);
    let mut case = Case::new(Family::Lrn, Variant::F32);
    case.buffer("a", values.bytes(), 0).buffer("out", vec![0; 4 * channels], 0).int("a_px", 0).int("out_px", 0);
    case.int("pixels", 1).int("channels", channels).int("size", size);
    case.f32("alpha", 0.5).f32("beta", 0.75).f32("k", 1.0);
    for (c, found) in floats(&case.check().0[1]).into_iter().enumerate() {
        let window = &values[c.saturating_sub(size / 2)..(c + size / 2 + 1).min(channels)];
        let base = 1.0 + 0.5 * window.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        let exact = f64::from(values[c]) * base.powf(-0.75);
        // The power's own bound is 2e-7 (1 + beta |ln base|).
        assert!(
            (f64::from(found) / exact - 1.0).abs() < 2e-7 * (2.0 + 0.75 * base.ln()),
            "{c}: {found:e} not {exact:e}"
        );
    }
}
