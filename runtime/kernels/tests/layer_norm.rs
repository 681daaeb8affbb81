//! Layer normalization against the reference, and the reference against double precision.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::{Family, Variant};
use support::{Bytes, Case, Rng};

const VARIANTS: [Variant; 2] = [Variant::F32, Variant::Rms];

/// Which operands a call has.
#[derive(Clone, Copy, Debug)]
struct With {
    res: bool,
    sum: bool,
    gamma: bool,
    beta: bool,
}

/// Numbers of a row stride of `stride` elements, as bytes where `scale` is not 0.
fn operand(rng: &mut Rng, elements: usize, quantized: bool) -> Vec<u8> {
    if quantized { rng.bytes(elements) } else { rng.reals(elements, -4.0, 9.0).bytes() }
}

fn case(rng: &mut Rng, variant: Variant, rows: usize, n: usize, with: With) -> Case {
    let mut case = Case::new(Family::LayerNorm, variant);
    let quantized: [bool; 3] = std::array::from_fn(|_| rng.below(3) == 0);
    let size = quantized.map(|q| if q { 1 } else { 4 });
    let strides: [usize; 4] = std::array::from_fn(|_| n + rng.below(3));
    case.buffer("a", operand(rng, rows * strides[0], quantized[0]), 0).int("a_row", size[0] * strides[0]);
    if with.res {
        // A row that repeats, or rows.
        let row = if rng.below(4) == 0 { 0 } else { size[1] * strides[1] };
        case.buffer("res", operand(rng, rows * strides[1], quantized[1]), 0).int("res_row", row);
    }
    if with.gamma {
        case.buffer("gamma", rng.reals(n, -2.0, 2.0).bytes(), 0);
    }
    if with.beta {
        case.buffer("beta", rng.reals(n, -2.0, 2.0).bytes(), 0);
    }
    if with.sum {
        case.buffer("sum", rng.bytes(4 * rows * strides[2]), 0).int("sum_row", 4 * strides[2]);
    }
    case.buffer("out", rng.bytes(size[2] * rows * strides[3]), 0).int("out_row", size[2] * strides[3]);
    let formats = [("a_scale", "a_zero"), ("res_scale", "res_zero"), ("scale", "zero")];
    for ((scale, zero), _) in formats.into_iter().zip(quantized).filter(|(_, q)| *q) {
        case.f32(scale, rng.pick(&[0.03, 0.117])).f32(zero, rng.pick(&[0.0, 128.0]));
    }
    if quantized[2] {
        case.int("lo", rng.below(3)).int("hi", rng.pick(&[255, 100]));
    }
    case.int("rows", rows).int("n", n).f32("epsilon", rng.pick(&[1e-5, 1e-12, 0.0, 1.0]));
    case.f32("clamp_lo", rng.pick(&[f32::NEG_INFINITY, -0.5])).f32("clamp_hi", rng.pick(&[f32::INFINITY, 0.75]));
    case
}

#[test]
fn rows_of_any_length_with_any_operands() {
    let mut rng = Rng(31);
    for n in [1, 2, 7, 15, 16, 17, 48, 63, 64, 65, 100, 128, 500, 512, 513, 575, 768, 1030, 2049] {
        for rows in [1, 2, 9] {
            for bits in 0..16 {
                let [res, sum, gamma, beta] = std::array::from_fn(|i| bits >> i & 1 == 1);
                let with = With { res, sum: sum && res, gamma, beta };
                for variant in VARIANTS {
                    case(&mut rng, variant, rows, n, with).check();
                }
            }
        }
    }
}

fn unclamped(case: &mut Case) -> &mut Case {
    case.f32("clamp_lo", f32::NEG_INFINITY).f32("clamp_hi", f32::INFINITY)
}

#[test]
fn in_place() {
    let mut rng = Rng(32);
    for n in [5, 80, 768] {
        for (out, sum) in [("a", None), ("res", None), ("a", Some("res")), ("res", Some("a"))] {
            for variant in VARIANTS {
                let mut case = Case::new(Family::LayerNorm, variant);
                for name in ["a", "res"] {
                    case.buffer(name, rng.floats(3 * n, -3.0, 3.0).bytes(), 0);
                }
                case.same("out", out);
                if let Some(sum) = sum {
                    case.same("sum", sum);
                }
                for row in ["a_row", "res_row", "sum_row", "out_row"] {
                    case.int(row, 4 * n);
                }
                unclamped(&mut case).int("rows", 3).int("n", n).f32("epsilon", 1e-5).check();
            }
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn normal(values: &[f32], variant: Variant, epsilon: f32) -> Vec<f32> {
    let n = values.len();
    let mut case = Case::new(Family::LayerNorm, variant);
    case.buffer("a", values.to_vec().bytes(), 0).buffer("out", vec![0; 4 * n], 0);
    unclamped(&mut case).int("rows", 1).int("n", n).f32("epsilon", epsilon);
    floats(&case.check().0[1])
}

/// In double precision.
fn exact(values: &[f32], variant: Variant, epsilon: f32) -> Vec<f64> {
    let n = values.len() as f64;
    let mean = if variant == Variant::Rms { 0.0 } else { values.iter().map(|&v| f64::from(v)).sum::<f64>() / n };
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let root = (variance + f64::from(epsilon)).sqrt();
    values.iter().map(|&v| (f64::from(v) - mean) / root).collect()
}

#[test]
fn results_are_those_of_double_precision() {
    let mut rng = Rng(33);
    for n in [8, 100, 768, 5000, 100_000] {
        for (centre, spread) in [(0.0, 1.0), (3.0, 0.1), (1000.0, 0.01), (-1e6, 3.0), (1e-3, 1e-6)] {
            let values = rng.floats(n, centre - spread, centre + spread);
            for variant in VARIANTS {
                let exact = exact(&values, variant, 1e-12);
                let largest = exact.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                for (found, exact) in normal(&values, variant, 1e-12).into_iter().zip(exact) {
                    let off = (f64::from(found) - exact).abs();
                    assert!(off <= 6e-7 * largest.max(1.0), "{variant:?} {n} around {centre}: {found} not {exact}");
                }
            }
        }
    }
}

#[test]
fn equal_numbers_are_their_mean() {
    let mut rng = Rng(34);
    for n in [1, 3, 7, 100, 768, 1000] {
        let value = rng.float(-1000.0, 1000.0);
        assert_eq!(normal(&vec![value; n], Variant::F32, 1e-12), vec![0.0; n], "{n} times {value}");
    }
}

#[test]
fn nan_and_infinities_spread_over_their_row() {
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![1.0, -2.0, 3.0];
        values.push(special);
        assert!(normal(&values, Variant::F32, 1e-5).iter().all(|v| v.is_nan()));
    }
}
