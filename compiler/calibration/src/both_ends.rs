//! Ranges whose two ends are searched for by what the format of 8 bits between them does to the values.
//!
//! Candidates are `low * 2^(-k/8)` and `high * 2^(-j/8)` for k and j of 0 to 40, and 0 itself stays in. Values are counted in 8,192
//! bins with their means, so what repeats is exact. Of equal candidates the wider wins.

use crate::{Interval, Points};

const BINS: usize = 8192;
/// Ranges that clip more than this share are no candidates for a divergence, which may drop what lies far out for nothing.
const CLIPPED: f64 = 0.01;

/// Counts and means of bins that hold something.
struct Bins {
    counts: Vec<f64>,
    means: Vec<f64>,
    /// Counts before each bin, and of all.
    before: Vec<f64>,
    low: f64,
    high: f64,
}

/// A range that is tried.
struct Candidate {
    /// The bins inside.
    from: usize,
    to: usize,
    scale: f64,
    zero: f64,
}

impl Bins {
    /// Nothing if no value is other than 0.
    fn of(points: &Points) -> Option<Bins> {
        let (low, high) = points.ends()?;
        let (low, high) = (low.min(0.0), high.max(0.0));
        let per_unit = BINS as f64 / (high - low);
        if low == high || !per_unit.is_finite() {
            return None;
        }
        let mut bins = Bins { counts: Vec::new(), means: Vec::new(), before: vec![0.0], low, high };
        let mut last = None;
        for (x, n) in points.iter() {
            let bin = (((x - low) * per_unit) as usize).min(BINS - 1);
            if last != Some(bin) {
                bins.counts.push(0.0);
                bins.means.push(0.0);
                last = Some(bin);
            }
            let at = bins.counts.len() - 1;
            bins.counts[at] += n as f64;
            bins.means[at] += x * n as f64;
        }
        bins.means.iter_mut().zip(&bins.counts).for_each(|(sum, n)| *sum /= n);
        let mut sum = 0.0;
        for n in &bins.counts {
            sum += n;
            bins.before.push(sum);
        }
        Some(bins)
    }

    fn total(&self) -> f64 {
        self.before[self.counts.len()]
    }

    fn candidate(&self, low: f64, high: f64) -> Option<Candidate> {
        let (from, to) = (self.means.partition_point(|x| *x < low), self.means.partition_point(|x| *x <= high));
        let scale = f64::from(((high - low) / 255.0) as f32);
        let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0);
        (to > from && scale > 0.0).then_some(Candidate { from, to, scale, zero })
    }

    /// The candidate with the least cost.
    fn least(&self, cost: impl Fn(&Candidate) -> f64) -> Interval {
        let parts = |end: f64| (0..if end == 0.0 { 1 } else { 41 }).map(move |k| end * 2f64.powf(f64::from(k) / -8.0));
        let mut best: Option<(f64, f64, f64)> = None;
        for low in parts(self.low) {
            for high in parts(self.high) {
                let Some(candidate) = self.candidate(low, high) else { continue };
                let own = cost(&candidate);
                if best.is_none_or(|(least, ..)| own < least) {
                    best = Some((own, low, high));
                }
            }
        }
        match best.filter(|(cost, ..)| cost.is_finite()) {
            Some((_, low, high)) => Interval { low: low as f32, high: high as f32 },
            None => Interval { low: self.low as f32, high: self.high as f32 },
        }
    }
}

impl Candidate {
    fn level(&self, x: f64) -> f64 {
        ((x / self.scale).round_ties_even() + self.zero).clamp(0.0, 255.0)
    }
}

/// The range with the least mean square of differences between values and what is stored of them.
pub fn least_squares(points: &Points) -> Option<Interval> {
    let bins = Bins::of(points)?;
    Some(bins.least(|c| {
        let values = bins.counts.iter().zip(&bins.means);
        values.map(|(n, x)| n * ((c.level(*x) - c.zero) * c.scale - x).powi(2)).sum()
    }))
}

/// The range in which counts, merged into the levels of the format and spread again, diverge least from the counts.
pub fn entropy(points: &Points) -> Option<Interval> {
    let bins = Bins::of(points)?;
    Some(bins.least(|c| {
        let clipped = (bins.before[c.from] + bins.total() - bins.before[c.to]) / bins.total();
        if clipped > CLIPPED {
            return f64::INFINITY;
        }
        let (counts, means) = (&bins.counts[c.from..c.to], &bins.means[c.from..c.to]);
        let mut own = counts.to_vec();
        own[0] += bins.before[c.from];
        own[counts.len() - 1] += bins.total() - bins.before[c.to];
        let levels: Vec<usize> = means.iter().map(|x| c.level(*x) as usize).collect();
        let (mut sums, mut filled) = ([0.0; 256], [0.0; 256]);
        for (level, n) in levels.iter().zip(counts) {
            sums[*level] += n;
            filled[*level] += 1.0;
        }
        let merged: Vec<f64> = levels.iter().map(|&level| sums[level] / filled[level]).collect();
        let (of_own, of_merged): (f64, f64) = (own.iter().sum(), merged.iter().sum());
        own.iter().zip(&merged).map(|(p, q)| p / of_own * ((p / of_own) / (q / of_merged)).ln()).sum()
    }))
}

/// The threshold of magnitudes, for signed formats around 0, whose merged counts diverge least: 2,048 bins from 0 on, 128 levels.
pub fn entropy_of_magnitudes(points: &Points) -> Option<f64> {
    const LEVELS: usize = 128;
    const BINS: usize = 2048;
    let magnitudes = points.magnitudes();
    let (_, high) = magnitudes.ends().filter(|(_, high)| *high > 0.0)?;
    let mut counts = vec![0.0; BINS];
    for (x, n) in magnitudes.iter() {
        counts[((x * (BINS as f64 / high)) as usize).min(BINS - 1)] += n as f64;
    }
    let total: f64 = counts.iter().sum();
    let mut best: Option<(f64, usize)> = None;
    for bins in 1..=BINS {
        let above: f64 = counts[bins..].iter().sum();
        if counts[bins - 1] == 0.0 || above > CLIPPED * total {
            continue;
        }
        let (mut sums, mut filled) = ([0.0; LEVELS], [0.0; LEVELS]);
        let level = |i: usize| i * LEVELS / bins.max(LEVELS);
        for (i, n) in counts[..bins].iter().enumerate().filter(|(_, n)| **n > 0.0) {
            sums[level(i)] += n;
            filled[level(i)] += 1.0;
        }
        let spread = |i: usize| sums[level(i)] / f64::max(filled[level(i)], 1.0);
        let merged: f64 = (0..bins).map(spread).sum();
        let own = |(i, n): (usize, &f64)| {
            let p = (n + if i + 1 == bins { above } else { 0.0 }) / total;
            p * (p / (spread(i) / merged)).ln()
        };
        let divergence: f64 = counts[..bins].iter().enumerate().filter(|(_, n)| **n > 0.0).map(own).sum();
        if best.is_none_or(|(least, _)| divergence < least - 1e-12) {
            best = Some((divergence, bins));
        }
    }
    Some(best.map_or(high, |(_, bins)| bins as f64 * high / BINS as f64))
}
