//! Thresholds of magnitudes as Paddle's tools find them.

use crate::divergence::{Search, last_filled, least};
use crate::histogram::{Edges, Histogram};
use crate::{Points, Vote};

const BINS: usize = 2048;

/// The histogram of magnitudes between the smallest and the largest one; nothing if there are no values.
fn magnitudes(points: &Points, edges: Edges) -> Option<Histogram> {
    let points = points.magnitudes();
    Some(Histogram::of(&points, BINS, points.ends()?, edges))
}

/// The middle of a bin, counted from 0 and not from the smallest magnitude.
fn middle(bin: usize, histogram: &Histogram) -> f64 {
    (bin as f64 + 0.5) * histogram.width()
}

/// `KL` of `PostTrainingQuantization`.
pub fn kl(points: &Points) -> Option<f64> {
    let histogram = magnitudes(points, Edges::F64)?;
    let start = (BINS - 1) / 2;
    let search = Search { levels: 127, start, total: histogram.total() as f64 };
    let bin = least(&histogram.counts, search).unwrap_or_else(|| last_filled(&histogram.counts, start));
    Some(middle(bin, &histogram))
}

/// `KL` of the `Calibrator` of Paddle 1.3. What it takes for the number of values does not move the least divergence.
pub fn kl_of_calibrator(points: &Points) -> Option<f64> {
    let histogram = magnitudes(points, Edges::F32)?;
    let start = (BINS - 1) * 7 / 10;
    let search = Search { levels: 255, start, total: 1.0 };
    let bin = least(&histogram.counts, search).unwrap_or_else(|| last_filled(&histogram.counts, start));
    Some(middle(bin, &histogram))
}

/// `hist`: the first bin up to which the share `percent / 100` of magnitudes lies.
pub fn percentile(points: &Points, percent: f64) -> Option<f64> {
    let histogram = magnitudes(points, Edges::F64)?;
    let total = histogram.total() as f64;
    let mut sum = 0.0;
    let reached = histogram.counts.iter().position(|n| {
        sum += *n as f64 / total;
        sum >= percent / 100.0
    });
    Some(reached.map_or(-0.5, |bin| bin as f64 + 0.5) * histogram.width())
}

/// What a search over parts of a sample's largest magnitude minimizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The mean square of the differences.
    MeanSquare,
    /// The difference of means and that of standard deviations.
    EarthMover,
}

/// `mse` and `emd`: the part of a sample's largest magnitude, from 0.3 on by 0.02, at which its loss is least; of equal ones the
/// last. Negative values count as lost, as `clip(x, 0, scale)` loses them.
pub fn least_loss(sample: &Points, loss: Loss) -> Option<Vote> {
    let largest = sample.largest()?;
    let largest = if largest == 0.0 { 1e-8 } else { largest };
    let mut best: Option<Vote> = None;
    let mut part = 0.3;
    while part <= 1.0 {
        let scale = part * largest;
        part += 0.02;
        let rounded = |x: f32| {
            let scale = scale as f32;
            (x.clamp(0.0, scale) / scale * 127.0).round_ties_even() / 127.0 * scale
        };
        let own = match loss {
            Loss::MeanSquare => mean(sample, |x| (x - rounded(x)).powi(2)),
            Loss::EarthMover => {
                let (m, q) = (mean(sample, |x| x), mean(sample, rounded));
                let deviation = |f: &dyn Fn(f32) -> f32, m: f64| mean(sample, |x| (f(x) - m as f32).powi(2)).sqrt();
                (m - q).abs() + (deviation(&|x| x, m) - deviation(&rounded, q)).abs()
            }
        };
        if best.as_ref().is_none_or(|best| own <= best.loss) {
            best = Some(Vote { threshold: scale, loss: own });
        }
    }
    best
}

/// The mean of a function in f32, as the tool computes it.
fn mean(points: &Points, f: impl Fn(f32) -> f32) -> f64 {
    points.iter().map(|(x, n)| f64::from(f(x as f32)) * n as f64).sum::<f64>() / points.total() as f64
}

/// `ptf`: a whole, half, quarter or eighth of a sample's largest magnitude, by the least error of what is not negative.
pub fn power_of_two_factor(sample: &Points) -> Option<Vote> {
    let largest = sample.largest()?;
    let error = |step: f32| mean(sample, |x| (x - (x / step).round_ties_even().clamp(0.0, 127.0) * step).powi(2));
    let mut best: Option<Vote> = None;
    for part in [0.125, 0.25, 0.5, 1.0] {
        let loss = error((largest / 127.0 * part) as f32);
        if best.as_ref().is_none_or(|best| loss < best.loss) {
            best = Some(Vote { threshold: largest * part, loss });
        }
    }
    best
}

/// `KL` of the C++ `MkldnnQuantizer`, which looks at one sample. Its running least is an integer, and a bin that is empty makes the
/// divergence NaN, so in practice the first number of bins whose last one is filled wins. Bins of data with negative values are
/// counted from the negative end, so that the threshold may be more than the largest magnitude.
pub fn kl_of_cpp(sample: &Points) -> Option<f64> {
    let (min, max) = sample.ends().map(|(low, high)| (low as f32, high as f32))?;
    let reach = max.abs().max(min.abs());
    let (low, high) = if min >= 0.0 { (min, max) } else { (-reach, reach) };
    let width = (high - low).abs() / BINS as f32;
    let mut counts = vec![0u64; BINS];
    for (x, n) in sample.iter() {
        let bin = ((x as f32 - low) / width).floor();
        counts[if bin.is_nan() { 0 } else { (bin as usize).min(BINS - 1) }] += n;
    }
    let last = BINS - 1;
    let (start, end) = if min >= 0.0 {
        (last * 7 / 10, last)
    } else if max.abs() > min.abs() {
        let first = counts[..last].iter().position(|n| *n != 0).unwrap_or(last);
        (first + (((last - first) as f64) * 0.6) as usize, last)
    } else {
        let end = counts.iter().rposition(|n| *n != 0).unwrap_or(0);
        ((0.6 * end as f64) as usize, end)
    };
    let mut best: Option<(i64, usize)> = None;
    for bins in (start..=end).filter(|&i| i > 0 && counts[i - 1] != 0) {
        let divergence = truncated(divergence_in_integers(&counts, bins));
        if best.is_none_or(|(least, _)| divergence.1 < least as f64) {
            best = Some((divergence.0, bins));
        }
    }
    let bin = best.map_or_else(|| last_filled(&counts, start), |(_, bins)| bins);
    Some((bin as f64 + 0.5) * f64::from(width))
}

/// A divergence as C++ stores it in an integer of 32 bits, and as it is.
fn truncated(x: f64) -> (i64, f64) {
    let fits = x.abs() < 2f64.powi(31);
    (if fits { x as i64 } else { -(1 << 31) }, x)
}

/// The divergence with sums and means of groups that are cut off to integers.
fn divergence_in_integers(counts: &[u64], bins: usize) -> f64 {
    const LEVELS: usize = 255;
    let total: u64 = counts.iter().sum();
    let mut reference = counts[..bins].to_vec();
    reference[bins - 1] += counts[bins..].iter().sum::<u64>();
    if reference.contains(&0) {
        return f64::NAN;
    }
    let group = bins / LEVELS;
    let mut candidate = vec![0u64; bins];
    for level in 0..LEVELS {
        let (from, to) = (level * group, if level + 1 == LEVELS { bins } else { (level + 1) * group });
        let filled = reference[from..to].iter().filter(|n| **n != 0).count() as f64;
        let sum: u64 = counts[from..to].iter().sum();
        let value = if filled > 0.0 { (sum as f64 / filled) as u64 } else { 0 };
        candidate[from..to]
            .iter_mut()
            .zip(&reference[from..to])
            .for_each(|(q, p)| *q = if *p == 0 { 0 } else { value });
    }
    if candidate.contains(&0) {
        return f64::INFINITY;
    }
    let sum: u64 = candidate.iter().sum();
    let (own, other) = reference.iter().zip(&candidate).fold((0.0, 0.0), |(own, other), (&p, &q)| {
        let p = p as f64;
        (own + p * (sum as f64 * p).ln(), other + p * (total as f64 * q as f64).ln())
    });
    (own - other) / total as f64
}
