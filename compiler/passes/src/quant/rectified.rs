//! What a tensor was like before a ReLU, by what is left of it.
//!
//! Calibration watches what an activation leaves, which is what is quantized, and not the accumulator that the activation is an epilogue
//! of. Noise is compared with the accumulator's variance. Accumulators are sums of many terms, so they are taken for normal: with
//! mean `t σ` and variance `σ^2`, the positive part has the mean `σ (φ(t) + t Φ(t))` and the mean square `σ^2 ((1 + t^2) Φ(t) + t φ(t))`
//! ([rectified Gaussian distribution], by integration by parts). The ratio of both grows with `t`, which is found by halving.
//!
//! [rectified Gaussian distribution]: https://en.wikipedia.org/wiki/Rectified_Gaussian_distribution

use std::f64::consts::{PI, SQRT_2};

/// Where everything is cut off, and where nothing is.
const RANGE: (f64, f64) = (-8.0, 64.0);

/// Mean and mean square of a normal distribution whose positive part has these.
pub fn before((mean, square): (f64, f64)) -> (f64, f64) {
    if mean <= 0.0 || square <= 0.0 {
        return (0.0, 0.0);
    }
    let ratio = mean * mean / square;
    let (mut low, mut high) = RANGE;
    for _ in 0..60 {
        let t = (low + high) / 2.0;
        let (first, second) = positive_part(t);
        if first * first / second < ratio { low = t } else { high = t }
    }
    let t = (low + high) / 2.0;
    let variance = square / positive_part(t).1;
    (t * variance.sqrt(), (1.0 + t * t) * variance)
}

/// Mean and mean square of the positive part of a normal distribution with mean `t` and variance 1.
fn positive_part(t: f64) -> (f64, f64) {
    let density = (-t * t / 2.0).exp() / (2.0 * PI).sqrt();
    // Far out the two terms of each sum are each other's rounding; the first term of the asymptotic series is exact enough.
    if t < -5.0 {
        return (density / (t * t), 2.0 * density / -(t * t * t));
    }
    let share = normal(t);
    (density + t * share, (1.0 + t * t) * share + t * density)
}

/// `Φ(t)` to 1e-7: Abramowitz and Stegun, 7.1.26.
fn normal(t: f64) -> f64 {
    let x = t.abs() / SQRT_2;
    let k = 1.0 / (1.0 + 0.327_591_1 * x);
    let factors = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    let sum = factors.iter().rev().fold(0.0, |sum, a| (sum + a) * k);
    let erf = 1.0 - sum * (-x * x).exp();
    if t < 0.0 { (1.0 - erf) / 2.0 } else { (1.0 + erf) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::before;

    /// Mean and mean square of the positive part of numbers that are spread like a normal distribution.
    fn cut(mean: f64, deviation: f64) -> (f64, f64) {
        let n = 40_000;
        let of = |i: i32| {
            let z = (f64::from(i) + 0.5) / f64::from(n) * 16.0 - 8.0;
            let (x, weight) = ((mean + deviation * z).max(0.0), (-z * z / 2.0).exp());
            (weight, weight * x, weight * x * x)
        };
        let (w, x, s) = (0..n).map(of).fold((0.0, 0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
        (x / w, s / w)
    }

    #[test]
    fn a_normal_distribution_is_found_again() {
        for (mean, deviation) in [(0.0, 1.0), (1.5, 1.0), (-1.0, 0.5), (-3.0, 1.0), (40.0, 2.0), (0.001, 0.02)] {
            let (got_mean, got_square) = before(cut(mean, deviation));
            let variance = got_square - got_mean * got_mean;
            assert!((got_mean - mean).abs() < 0.02 * deviation, "{mean} {deviation}: {got_mean}");
            assert!((variance / (deviation * deviation) - 1.0).abs() < 0.02, "{mean} {deviation}: {variance}");
        }
    }

    #[test]
    fn what_was_always_cut_off_is_nothing() {
        assert_eq!(before((0.0, 0.0)), (0.0, 0.0));
        let (mean, square) = before((1e-30, 1e-40));
        assert!(mean.is_finite() && square.is_finite() && square > 0.0);
        // A constant has no spread.
        let (mean, square) = before((2.0, 4.0));
        assert!((mean - 2.0).abs() < 0.01 && square - mean * mean < 0.01);
    }
}
