//! Softmax and local response normalization against the reference, and its functions against f64.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::reference::{exp, pow_neg, sqrt};
use qc_kernels::{Family, Variant};
use support::{Bytes, Case, Rng};

#[test]
fn softmax_of_any_length_and_stride() {
    let mut rng = Rng(1);
    for n in [1, 2, 15, 16, 17, 31, 32, 33, 100, 1000] {
        for (a_elem, out_elem) in [(1, 1), (3, 1), (1, 2)] {
            let mut case = Case::new(Family::Softmax, Variant::F32);
            let (a_row, out_row) = (n * a_elem + 2, n * out_elem + 1);
            let spread = rng.pick(&[1.0, 20.0, 200.0]);
            case.buffer("a", rng.reals(3 * a_row, -spread, spread).bytes(), 0);
            case.buffer("out", rng.bytes(4 * 3 * out_row), 0).int("rows", 3).int("n", n);
            case.int("a_row", 4 * a_row)
                .int("out_row", 4 * out_row)
                .int("a_elem", 4 * a_elem)
                .int("out_elem", 4 * out_elem);
            let out = case.check();
            let sum: f32 =
                (0..n).map(|i| f32::from_le_bytes(out.0[1][4 * i * out_elem..][..4].try_into().unwrap())).sum();
            assert!((sum - 1.0).abs() < 1e-5 || sum.is_nan(), "sum {sum}");
        }
    }
}

/// Distances between elements, results and addends.
const APART: [[usize; 3]; 6] = [[1, 1, 1], [1, 1, 0], [3, 1, 1], [1, 2, 1], [1, 1, 2], [2, 3, 2]];

#[test]
fn softmax_of_products_and_sums_in_floats_and_bytes() {
    let mut rng = Rng(7);
    for n in [1, 2, 15, 16, 17, 33, 64, 65, 100, 128, 300, 513, 1024, 2047, 2049] {
        for [a_elem, out_elem, mask_elem] in APART {
            for bits in 0..8 {
                let [factor, addend, bytes] = std::array::from_fn(|i| bits >> i & 1 == 1);
                let rows = rng.pick(&[1, 3, 17]);
                let mut case = Case::new(Family::Softmax, Variant::F32);
                let (a_row, out_row, size) = (n * a_elem + 1, n * out_elem + 1, if bytes { 1 } else { 4 });
                case.buffer("a", rng.reals(rows * a_row, -20.0, 20.0).bytes(), 0);
                case.buffer("out", rng.bytes(size * rows * out_row), 0);
                case.int("rows", rows).int("n", n).int("a_row", 4 * a_row).int("out_row", size * out_row);
                case.int("a_elem", 4 * a_elem).int("out_elem", size * out_elem);
                if factor {
                    case.f32("factor", rng.pick(&[0.125, -0.3, 7.0]));
                }
                if addend {
                    let masks = [0.0, -10000.0, f32::MIN, f32::NEG_INFINITY];
                    let mask_row = rng.pick(&[0, n * mask_elem + 1]);
                    let values: Vec<f32> = (0..rows * (n * mask_elem + 1)).map(|_| rng.pick(&masks)).collect();
                    case.buffer("mask", values.bytes(), 0)
                        .int("mask_row", 4 * mask_row)
                        .int("mask_elem", 4 * mask_elem);
                }
                if bytes {
                    case.f32("scale", rng.pick(&[1.0 / 255.0, 0.003]))
                        .f32("zero", rng.pick(&[0.0, 7.0]))
                        .int("hi", 255);
                }
                case.check();
            }
        }
    }
}

/// The row `scores + mask`.
fn masked(scores: &[f32], mask: &[f32]) -> Vec<f32> {
    let n = scores.len();
    let mut case = Case::new(Family::Softmax, Variant::F32);
    case.buffer("a", scores.to_vec().bytes(), 0).buffer("mask", mask.to_vec().bytes(), 0).buffer(
        "out",
        vec![0; 4 * n],
        0,
    );
    case.int("rows", 1).int("n", n).int("a_elem", 4).int("mask_elem", 4).int("out_elem", 4);
    case.check().0[2].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn rows_that_are_masked_fully_are_as_f32_gives_them() {
    let scores = [0.5, -1.0, 2.0, 0.0];
    let plain = masked(&scores, &[0.0; 4]);
    // The sums are rounded to multiples of about 0.001.
    let shifted = masked(&scores, &[-10000.0; 4]);
    assert!(plain.iter().zip(&shifted).all(|(a, b)| (a - b).abs() < 1e-3), "{shifted:?}");
    assert_eq!(masked(&scores, &[f32::MIN; 4]), [0.25; 4]);
    assert!(masked(&scores, &[f32::NEG_INFINITY; 4]).iter().all(|v| v.is_nan()));
    let half = masked(&scores, &[0.0, f32::NEG_INFINITY, f32::MIN, -10000.0]);
    assert_eq!(half, [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn softmax_in_place_and_with_masked_elements() {
    let mut rng = Rng(2);
    let mut values = rng.floats(50, -4.0, 4.0);
    for i in 0..10 {
        values[i * 5] = f32::NEG_INFINITY;
    }
    let mut case = Case::new(Family::Softmax, Variant::F32);
    case.buffer("a", values.bytes(), 0).same("out", "a").int("rows", 2).int("n", 25);
    case.int("a_row", 100).int("out_row", 100).int("a_elem", 4).int("out_elem", 4);
    let out = case.check();
    assert_eq!(out.0[0][..4], [0; 4]);
}

#[test]
fn means_of_rows() {
    let mut rng = Rng(5);
    for n in [1, 3, 16, 17, 40, 64, 100] {
        for rows in [1, 4] {
            let mut case = Case::new(Family::Mean, Variant::F32);
            case.buffer("a", rng.reals(rows * (n + 1), -3.0, 3.0).bytes(), 0).buffer("out", rng.bytes(8 * rows), 0);
            case.int("a_row", 4 * (n + 1)).int("out_row", 8).int("rows", rows).int("n", n).check();
        }
    }
    let mut case = Case::new(Family::Mean, Variant::F32);
    case.buffer("a", vec![-0.0f32; 21].bytes(), 0).buffer("out", rng.bytes(4), 0);
    case.int("a_row", 84).int("out_row", 4).int("rows", 1).int("n", 21).check();
}

#[test]
fn square_roots_are_those_of_the_processor() {
    let mut rng = Rng(6);
    for x in [0.0, -0.0, f32::INFINITY, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, 1.0, 2.0, 4.0] {
        assert_eq!(sqrt(x).to_bits(), x.sqrt().to_bits(), "{x:e}");
    }
    assert!(sqrt(-1.0).is_nan() && sqrt(f32::NAN).is_nan());
    for _ in 0..1_000_000 {
        let x = f32::from_bits(rng.next() as u32 & 0x7fff_ffff);
        assert!(x.is_nan() || sqrt(x).to_bits() == x.sqrt().to_bits(), "{x:e}");
    }
}

#[test]
fn lrn_of_any_width() {
    let mut rng = Rng(3);
    for channels in [1, 3, 16, 17, 33, 64, 96] {
        for size in [1, 2, 3, 5, 6, 8, 9, 40] {
            let mut case = Case::new(Family::Lrn, Variant::F32);
            case.buffer("a", rng.reals(3 * (channels + 2), -50.0, 50.0).bytes(), 0);
            case.buffer("out", rng.bytes(4 * 3 * (channels + 1)), 0);
            case.int("a_px", 4 * (channels + 2)).int("out_px", 4 * (channels + 1)).int("pixels", 3);
            case.int("channels", channels).int("size", size);
            case.f32("alpha", 1e-4).f32("beta", rng.pick(&[0.75, 0.5, 1.0])).f32("k", rng.pick(&[1.0, 2.0])).check();
        }
    }
}

/// Distance from the exact value in units in the last place of f32.
fn ulps(found: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    let unit = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
    (f64::from(found) - exact).abs() / unit
}

#[test]
fn exp_is_within_1_1_ulp() {
    let mut worst = 0.0f64;
    let mut x = -87.0f32;
    while x < 88.0 {
        worst = worst.max(ulps(exp(x), f64::from(x).exp()));
        x += 0.000_37;
    }
    println!("exp: {worst:.3} ulp");
    assert!(worst < 1.1, "{worst}");
    // Subnormal results have an absolute error of a few units.
    let mut x = -104.0f32;
    while x < -87.0 {
        assert!(ulps(exp(x), f64::from(x).exp()) <= 1.0, "{x}");
        x += 0.003;
    }
    assert_eq!((exp(0.0), exp(-200.0), exp(f32::NEG_INFINITY), exp(100.0)), (1.0, 0.0, 0.0, f32::INFINITY));
}

#[test]
fn power_has_small_relative_error() {
    let mut rng = Rng(4);
    for _ in 0..200_000 {
        let x = rng.float(-3.0, 8.0).exp();
        let beta = rng.pick(&[0.5, 0.75, 1.0]);
        let exact = f64::from(x).powf(-f64::from(beta));
        let error = (f64::from(pow_neg(x, beta)) / exact - 1.0).abs();
        let bound = 2e-7 * (1.0 + f64::from(beta) * f64::from(x).ln().abs());
        assert!(error < bound, "{x}^-{beta}: {error:e} > {bound:e}");
    }
}
