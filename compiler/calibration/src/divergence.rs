//! The threshold whose quantized histogram diverges least (Kullback and Leibler) from the histogram itself, as TensorRT and Paddle
//! search for it: counts above a threshold are added to its last bin, and the bins below are merged into as many groups as there are
//! levels.

/// How a search over the bins of magnitudes goes.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Groups that bins are merged into.
    pub levels: usize,
    /// The first number of bins that is tried; all up to the number of bins follow.
    pub start: usize,
    /// What the divergence takes for the number of values.
    pub total: f64,
}

/// The number of bins that diverges least, the first of equal ones; nothing if the last bin is empty at all of them.
pub fn least(counts: &[u64], search: Search) -> Option<usize> {
    let mut before = vec![0.0];
    before.extend(counts.iter().scan(0.0, |sum, n| {
        *sum += *n as f64;
        Some(*sum)
    }));
    let mut best: Option<(f64, usize)> = None;
    for bins in search.start..counts.len() {
        if bins == 0 || counts[bins - 1] == 0 {
            continue;
        }
        let divergence = divergence(&counts[..bins], &before, search);
        if best.is_none_or(|(least, _)| divergence < least) {
            best = Some((divergence, bins));
        }
    }
    best.map(|(_, bins)| bins)
}

/// The divergence at a number of bins; `before` has the counts before each bin.
fn divergence(counts: &[u64], before: &[f64], search: Search) -> f64 {
    let (bins, all) = (counts.len(), before[before.len() - 1]);
    let reference = |i: usize| counts[i] as f64 + if i + 1 == bins { all - before[bins] } else { 0.0 };
    let group = bins / search.levels;
    let first = |level: usize| if level == search.levels { bins } else { (level * group).min(bins) };
    let value = |level: usize| {
        let (from, to) = (first(level), first(level + 1));
        let filled = (from..to).filter(|&i| reference(i) != 0.0).count();
        let sum = before[to] - before[from];
        (from, to, if filled > 0 { sum / filled as f64 } else { 0.0 })
    };
    let values: Vec<(usize, usize, f64)> = (0..search.levels).map(value).collect();
    let filled = || {
        let bins = values.iter().flat_map(|&(from, to, q)| (from..to).map(move |i| (reference(i), q)));
        bins.filter(|(p, _)| *p != 0.0)
    };
    let merged: f64 = filled().map(|(_, q)| q).sum();
    let (own, other) = filled().fold((0.0, 0.0), |(own, other), (p, q)| {
        (own + p * (merged * p).ln(), other + p * (search.total * q.max(1e-300)).ln())
    });
    (own - other) / search.total
}

/// The last bin up to `start` that holds something: what is taken where no search finds anything.
pub fn last_filled(counts: &[u64], start: usize) -> usize {
    counts[..=start].iter().rposition(|n| *n != 0).unwrap_or(0)
}
