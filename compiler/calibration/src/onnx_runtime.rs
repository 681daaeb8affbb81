//! Ranges as the calibrators of ONNX Runtime find them where they get all data at once.

use crate::histogram::{Edges, Histogram};
use crate::{Interval, Points};

/// The histogram of values over both signs of the largest magnitude.
fn values(points: &Points, bins: usize) -> Option<Histogram> {
    let reach = points.largest()?;
    Some(Histogram::of(points, bins, (-reach, reach), Edges::F32))
}

/// What both the search and the data allow.
fn within(points: &Points, low: f64, high: f64) -> Option<Interval> {
    let (min, max) = points.ends()?;
    Some(Interval { low: low.max(min) as f32, high: high.min(max) as f32 })
}

/// `Entropy`: the bins around 0 whose merged counts diverge least from the counts, of equal ones the fewest. With as many bins as
/// levels, which is the default there, all are taken.
pub fn entropy(points: &Points, bins: usize, levels: usize) -> Option<Interval> {
    let histogram = values(points, bins)?;
    let before = histogram.before();
    let zero = bins / 2;
    let mut best: Option<(f32, usize, usize)> = None;
    for side in levels / 2..=zero {
        let (from, to) = (zero - side, (zero + side + 1).min(bins));
        let divergence = divergence(&histogram.counts[from..to], before[from], before[bins] - before[to], levels);
        if best.is_none_or(|(least, ..)| divergence < least) {
            best = Some((divergence, from, to));
        }
    }
    let (_, from, to) = best?;
    within(points, histogram.edges[from], histogram.edges[to])
}

/// The divergence of merged counts from counts with `below` and `above` added at the ends. Means of groups are cut off to integers,
/// and of what is left over behind the last group only the sum counts.
fn divergence(counts: &[u64], below: u64, above: u64, levels: usize) -> f32 {
    let n = counts.len();
    let mut own = counts.to_vec();
    own[0] += below;
    own[n - 1] += above;
    let group = n / levels;
    let mut merged = vec![0u64; n];
    for level in 0..levels {
        let (from, to) = (level * group, (level + 1) * group);
        let rest: u64 = if level + 1 == levels { counts[to..].iter().sum() } else { 0 };
        let sum = counts[from..to].iter().sum::<u64>() + rest;
        let filled = own[from..to].iter().filter(|n| **n != 0).count() as u64;
        if filled > 0 {
            let mean = (sum as f64 / filled as f64) as u64;
            merged[from..to].fill(mean);
        }
    }
    let (Some(p), Some(q)) = (smoothed(&own), smoothed(&merged)) else { return f32::INFINITY };
    let sum = |all: &[f32]| all.iter().map(|&x| f64::from(x)).sum::<f64>() as f32;
    let (of_p, of_q) = (sum(&p), sum(&q));
    let one = |(p, q): (&f32, &f32)| f64::from((p / of_p) * ((p / of_p) / (q / of_q)).ln());
    p.iter().zip(&q).map(one).sum::<f64>() as f32
}

/// Counts with a little in empty bins, taken from the others.
fn smoothed(counts: &[u64]) -> Option<Vec<f32>> {
    const LITTLE: f64 = 1e-4;
    let filled = counts.iter().filter(|n| **n != 0).count();
    let taken = (LITTLE * (counts.len() - filled) as f64 / filled as f64) as f32;
    let one = |n: &u64| if *n == 0 { LITTLE as f32 } else { *n as f32 - taken };
    (filled > 0).then(|| counts.iter().map(one).collect())
}

/// `Percentile`: magnitudes up to the first edge at which the share `percent / 100` lies, on both sides of 0.
pub fn percentile(points: &Points, percent: f64) -> Option<Interval> {
    let magnitudes = points.magnitudes();
    let histogram = Histogram::of(&magnitudes, 2048, magnitudes.ends()?, Edges::F32);
    let edge = histogram.edges[reached(&histogram, percent / 100.0)];
    within(points, -edge, edge)
}

/// `Percentile` that cuts off half of the rest on each side.
pub fn percentile_of_each_side(points: &Points, percent: f64) -> Option<Interval> {
    let histogram = values(points, 2048)?;
    let side = (100.0 - percent) / 200.0;
    let [low, high] = [side, 1.0 - side].map(|share| histogram.edges[reached(&histogram, share)]);
    within(points, low, high)
}

/// The first bin at whose end a share of the values lies.
fn reached(histogram: &Histogram, share: f64) -> usize {
    let total = histogram.total() as f64;
    let mut sum = 0.0;
    let found = histogram.counts.iter().position(|n| {
        sum += *n as f64 / total;
        sum >= share
    });
    found.unwrap_or(histogram.counts.len())
}
