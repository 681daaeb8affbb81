//! Bins of equal width, as NumPy makes them.

use crate::Points;

/// Counts between edges; bin `i` is from edge `i` to edge `i + 1`, the last one with its end.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// How many values are in each bin.
    pub counts: Vec<u64>,
    /// Ends of the bins, one more than there are bins.
    pub edges: Vec<f64>,
}

/// How exact edges are: those of an array of f32 are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edges {
    /// `numpy.linspace` of f64.
    F64,
    /// `numpy.linspace` of f32.
    F32,
}

impl Histogram {
    /// `bins` bins over `low..=high`; where these are equal, half a unit around them, as NumPy does.
    pub fn of(points: &Points, bins: usize, (low, high): (f64, f64), edges: Edges) -> Histogram {
        let (low, high) = if low == high { (low - 0.5, high + 0.5) } else { (low, high) };
        let edges = linspace(low, high, bins, edges);
        let mut counts = vec![0u64; bins];
        for (x, n) in points.iter().filter(|(x, _)| *x >= edges[0] && *x <= edges[bins]) {
            let bin = edges.partition_point(|edge| *edge <= x).saturating_sub(1);
            counts[bin.min(bins - 1)] += n;
        }
        Histogram { counts, edges }
    }

    /// The width of a bin.
    pub fn width(&self) -> f64 {
        self.edges[1] - self.edges[0]
    }

    /// Sums of the counts before each bin, and of all.
    pub fn before(&self) -> Vec<u64> {
        let mut sums = vec![0];
        sums.extend(self.counts.iter().scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        }));
        sums
    }

    /// How many values there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

fn linspace(low: f64, high: f64, bins: usize, edges: Edges) -> Vec<f64> {
    let inner: Vec<f64> = match edges {
        Edges::F64 => {
            let step = (high - low) / bins as f64;
            (0..bins).map(|i| i as f64 * step + low).collect()
        }
        Edges::F32 => {
            let step = (high as f32 - low as f32) / bins as f32;
            (0..bins).map(|i| f64::from(i as f32 * step + low as f32)).collect()
        }
    };
    inner.into_iter().chain([high]).collect()
}
