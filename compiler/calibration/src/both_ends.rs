//! Ranges whose two ends are searched for by what the format of 8 bits between them does to the values.
//!
//! Candidates are `low * 2^(-k/8)` and `high * 2^(-j/8)` for k and j of 0 to 40, and 0 itself stays in. Values are counted in 8,192
//! bins with their means, so what repeats is exact. Of equal candidates the wider wins.

use crate::{Interval, Points};
use std::cell::Cell;

const BINS: usize = 8192;
/// Eighths of an octave that an end may move inwards.
const STEPS: i32 = 40;
/// The same where a single sample may be a thousand times as large as others.
const MANY_STEPS: i32 = 96;
/// Ranges that clip more than this share are no candidates for a divergence, which may drop what lies far out for nothing.
const CLIPPED: f64 = 0.01;

/// Counts and means of bins that hold something, and sums of them before each bin.
struct Bins {
    counts: Vec<f64>,
    means: Vec<f64>,
    before: Vec<Sums>,
    low: f64,
    high: f64,
}

/// Sums over bins, with which what a level does to all of its bins is known at once.
#[derive(Clone, Copy, Default)]
struct Sums {
    bins: f64,
    /// Values.
    n: f64,
    /// `Σ x` and `Σ x^2`.
    x: f64,
    squares: f64,
    /// `Σ n ln n` over bins.
    n_ln_n: f64,
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
        Bins::within(points, points.ends()?)
    }

    /// As [`Bins::of`], of values that were seen between `low` and `high`, some of which are not among the points.
    fn within(points: &Points, (low, high): (f64, f64)) -> Option<Bins> {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let per_unit = BINS as f64 / (high - low);
        if points.total() == 0 || low == high || !per_unit.is_finite() {
            return None;
        }
        let mut bins = Bins { counts: Vec::new(), means: Vec::new(), before: Vec::new(), low, high };
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
        let mut sums = Sums::default();
        bins.before.push(sums);
        for (&n, &x) in bins.counts.iter().zip(&bins.means) {
            sums.bins += 1.0;
            sums.n += n;
            sums.x += n * x;
            sums.squares += n * x * x;
            sums.n_ln_n += n * n.ln();
            bins.before.push(sums);
        }
        Some(bins)
    }

    /// Sums over all bins.
    fn all(&self) -> Sums {
        self.before[self.counts.len()]
    }

    /// Sums over bins `from..to`.
    fn sums(&self, from: usize, to: usize) -> Sums {
        let (a, b) = (self.before[from], self.before[to]);
        Sums {
            bins: b.bins - a.bins,
            n: b.n - a.n,
            x: b.x - a.x,
            squares: b.squares - a.squares,
            n_ln_n: b.n_ln_n - a.n_ln_n,
        }
    }

    fn candidate(&self, low: f64, high: f64) -> Option<Candidate> {
        let (from, to) = (self.means.partition_point(|x| *x < low), self.means.partition_point(|x| *x <= high));
        let scale = f64::from(((high - low) / 255.0) as f32);
        let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0);
        (to > from && scale > 0.0).then_some(Candidate { from, to, scale, zero })
    }

    /// How many bins lie below `x`.
    fn up_to(&self, x: f64) -> usize {
        self.means.partition_point(|mean| *mean < x)
    }

    /// The bins of `from..to` that a level takes, level by level: the value that is stored for them, and their sums.
    fn levels(&self, c: &Candidate, (from, to): (usize, usize), mut each: impl FnMut(f64, Sums)) {
        let mut at = from;
        while at < to {
            let level = c.level(self.means[at]);
            let mut end = at + 1;
            // Twice as far each time, then back by halves.
            let mut step = 1;
            while end < to && c.level(self.means[end]) == level {
                end = (end + step).min(to);
                step *= 2;
            }
            let end = at + self.means[at..end].partition_point(|x| c.level(*x) == level);
            each((level - c.zero) * c.scale, self.sums(at, end));
            at = end;
        }
    }

    /// The candidate with the least cost. Of costs that differ by less than sums are exact the first, which is the wider one, is taken.
    fn least(&self, steps: i32, exact: f64, cost: impl Fn(&Candidate) -> f64) -> Interval {
        let parts =
            |end: f64| (0..=if end == 0.0 { 0 } else { steps }).map(move |k| end * 2f64.powf(f64::from(k) / -8.0));
        let mut best: Option<(f64, f64, f64)> = None;
        for low in parts(self.low) {
            for high in parts(self.high) {
                let Some(candidate) = self.candidate(low, high) else { continue };
                let own = cost(&candidate);
                if best.is_none_or(|(least, ..)| own < least - exact) {
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
    Some(least_squares_of(&Bins::of(points)?, STEPS))
}

/// The same among the ranges within `low..=high`.
pub fn least_squares_within(points: &Points, (low, high): (f64, f64)) -> Interval {
    match Bins::within(points, (low, high)) {
        Some(bins) => least_squares_of(&bins, MANY_STEPS),
        None => Interval { low: low as f32, high: high as f32 },
    }
}

fn least_squares_of(bins: &Bins, steps: i32) -> Interval {
    let least = Cell::new(f64::INFINITY);
    bins.least(steps, 1e-12 * bins.all().squares, |c| {
        // What is clipped costs at least this, and most candidates clip too much.
        let clipped = |sums: Sums, end: f64| sums.squares - 2.0 * end * sums.x + end * end * sums.n;
        let (low, high) = (-c.zero * c.scale, (255.0 - c.zero) * c.scale);
        let (below, above) = (bins.sums(0, bins.up_to(low)), bins.sums(bins.up_to(high), bins.counts.len()));
        if clipped(below, low) + clipped(above, high) > least.get() * (1.0 + 1e-9) {
            return f64::INFINITY;
        }
        let mut cost = 0.0;
        bins.levels(c, (0, bins.counts.len()), |stored, sums| cost += clipped(sums, stored));
        least.set(least.get().min(cost));
        cost
    })
}

/// The range in which counts, merged into the levels of the format and spread again, diverge least from the counts.
pub fn entropy(points: &Points) -> Option<Interval> {
    let bins = Bins::of(points)?;
    let all = bins.all();
    Some(bins.least(STEPS, 1e-12, |c| {
        let (below, above) = (bins.before[c.from].n, all.n - bins.before[c.to].n);
        if below + above > CLIPPED * all.n {
            return f64::INFINITY;
        }
        // Σ p ln(p / q), where what is clipped is part of the ends' p, and q is the mean of a level's counts.
        let inside = bins.sums(c.from, c.to);
        let (first, last) = (c.from, c.to - 1);
        let added = |bin: usize| if bin == first { below } else { 0.0 } + if bin == last { above } else { 0.0 };
        let mut own = inside.n_ln_n;
        let ends = if first == last { vec![first] } else { vec![first, last] };
        for &bin in &ends {
            let n = bins.counts[bin];
            own += (n + added(bin)) * (n + added(bin)).ln() - n * n.ln();
        }
        let mut merged = 0.0;
        let mut at = c.from;
        bins.levels(c, (c.from, c.to), |_, sums| {
            let end = at + sums.bins as usize;
            let clipped: f64 = ends.iter().filter(|bin| (at..end).contains(bin)).map(|&bin| added(bin)).sum();
            merged += (sums.n + clipped) * (sums.n / sums.bins).ln();
            at = end;
        });
        (own - merged) / all.n + (inside.n / all.n).ln()
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
