//! What a method has to know of a tensor, sample by sample.

use crate::method::How;
use crate::{Interval, Method, Points, Tally, Vote};
use std::collections::BTreeMap;

/// Of larger tensors, about this many values of a sample are looked at, at places that change from sample to sample, and as many of large
/// magnitude; their ends are those of all values.
const LOOKED_AT: usize = 1 << 14;
/// Values that are passed over at once where none is large.
const BLOCK: usize = 32;

/// A tensor of one sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The number of the sample among all.
    pub number: usize,
    /// How many items it holds.
    pub items: usize,
    /// The elements.
    pub values: &'a [f32],
    /// How much the elements of each channel count, for methods that ask what reads them; if there is none, all the same.
    pub weights: &'a [u32],
    /// How many elements of a channel lie side by side.
    pub beside: usize,
    /// How much the sample counts, for the same methods: [`WHOLE`] unless it is out of proportion.
    pub weight: u32,
}

/// The weight of a sample like others. With weights of channels of up to 20, a bin holds 2^29 values at least.
pub const WHOLE: u32 = 1 << 16;

impl<'a> Sample<'a> {
    /// A tensor whose elements count the same.
    pub fn new(number: usize, items: usize, values: &'a [f32]) -> Sample<'a> {
        Sample { number, items, values, weights: &[], beside: 1, weight: WHOLE }
    }

    /// Shows `see` the values that are looked at, by index, and for how many each stands. Those of more than half the largest magnitude
    /// of the sample are all looked at, as long as they are few: what a range clips is among them, and of a hundredth of a tensor it is
    /// not known. The step through the rest has no common factor with the number of elements, so it meets channels, rows and columns
    /// evenly, however these lie.
    fn each(&self, ends: (f32, f32), mut see: impl FnMut(usize, u64)) {
        let (values, n) = (self.values, self.values.len());
        let step = ((n / LOOKED_AT).max(1)..).find(|&step| gcd(step, n) == 1).unwrap_or(1);
        if step == 1 {
            return (0..n).for_each(|i| see(i, 1));
        }
        let edge = ends.0.abs().max(ends.1.abs()) / 2.0;
        let is_far = |x: &&f32| x.abs() > edge;
        for i in (self.number % step..n).step_by(step).filter(|&i| !is_far(&&values[i])) {
            see(i, step as u64);
        }
        let every = (values.iter().filter(is_far).count() / LOOKED_AT).max(1);
        let mut left = self.number % every;
        for (first, block) in values.chunks(BLOCK).enumerate().map(|(i, block)| (i * BLOCK, block)) {
            if block.iter().filter(is_far).count() == 0 {
                continue;
            }
            for (i, _) in block.iter().enumerate().filter(|(_, x)| is_far(x)) {
                if left == 0 {
                    see(first + i, every as u64);
                    left = every;
                }
                left -= 1;
            }
        }
    }

    fn tally(&self, tally: &mut Tally, ends: (f32, f32)) {
        self.each(ends, |i, times| match times {
            1 => tally.observe([self.values[i]]),
            _ => tally.observe_weighed([(self.values[i], times)]),
        });
    }

    fn tally_weighed(&self, tally: &mut Tally, ends: (f32, f32)) {
        let of_channel = |i: usize| match self.weights {
            [] => 1,
            weights => weights[i / self.beside.max(1) % weights.len()],
        };
        let weight = |i: usize| u64::from(of_channel(i)) * u64::from(self.weight);
        self.each(ends, |i, times| tally.observe_weighed([(self.values[i], weight(i) * times)]));
    }
}

/// What was seen of one tensor, for one method.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    ends: Option<(f32, f32)>,
    tally: Tally,
    /// By number of the sample, so that the order in which samples are seen is no matter.
    votes: BTreeMap<usize, Vote>,
    /// Smallest and largest value of each sample.
    samples: BTreeMap<usize, (f32, f32)>,
    first: BTreeMap<usize, Tally>,
}

impl Seen {
    /// Takes in a sample whose smallest and largest finite values are `ends`, and what `method` will need of it.
    pub fn observe(&mut self, method: Method, sample: &Sample<'_>, ends: (f32, f32)) {
        self.ends = Some(self.ends.map_or(ends, |all| (all.0.min(ends.0), all.1.max(ends.1))));
        let number = sample.number;
        match method.how() {
            How::Ends => {}
            How::Range(_) | How::Threshold(_) => sample.tally(&mut self.tally, ends),
            How::Weighed(_) => sample.tally_weighed(&mut self.tally, ends),
            How::First(_) => {
                if self.first.first_key_value().is_none_or(|(first, _)| number < *first) {
                    let mut tally = Tally::default();
                    sample.tally(&mut tally, ends);
                    self.first = BTreeMap::from([(number, tally)]);
                }
            }
            How::EachSample(vote, _) => {
                let mut tally = Tally::default();
                sample.tally(&mut tally, ends);
                self.votes.extend(vote(&tally.points()).map(|vote| (number, vote)));
            }
            How::MeanOfEnds => drop(self.samples.insert(number, ends)),
            How::MeanOfLargest => {
                let each = (sample.values.len() / sample.items.max(1)).max(1);
                let items: Vec<f64> = sample.values.chunks(each).map(largest).collect();
                // The mean of f32 numbers is one.
                let mean = (items.iter().sum::<f64>() / items.len() as f64) as f32;
                self.votes.insert(number, Vote { threshold: f64::from(mean), loss: 0.0 });
            }
        }
    }

    /// Takes in what another one saw of other samples.
    pub fn merge(&mut self, other: &Seen) {
        self.ends = match (self.ends, other.ends) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        self.tally.merge(&other.tally);
        self.votes.extend(&other.votes);
        self.samples.extend(&other.samples);
        if let Some((sample, tally)) = other.first.first_key_value()
            && self.first.first_key_value().is_none_or(|(first, _)| sample < first)
        {
            self.first = BTreeMap::from([(*sample, tally.clone())]);
        }
    }

    /// The threshold of magnitudes that a method finds; nothing for methods that find both ends, or without values.
    pub fn threshold(&self, method: Method) -> Option<f64> {
        match method.how() {
            How::Threshold(find) => find(&self.tally.points(), method.percent()),
            How::First(find) => find(&self.first.first_key_value()?.1.points(), method.percent()),
            How::EachSample(_, join) => join(&self.votes.values().copied().collect::<Vec<_>>()),
            How::MeanOfLargest => mean(self.votes.values().map(|vote| vote.threshold)),
            How::Ends | How::Range(_) | How::Weighed(_) | How::MeanOfEnds => None,
        }
    }

    /// The range of the tensor: what the method finds, within what was seen.
    pub fn range(&self, method: Method) -> Option<Interval> {
        let (low, high) = self.ends?;
        match method.how() {
            How::Ends => Some(Interval { low, high }),
            How::Range(find) => find(&self.tally.points(), method.percent()),
            How::Weighed(find) => Some(find(&self.tally.points(), (low.into(), high.into()))),
            How::MeanOfEnds => {
                let end = |of: fn(&(f32, f32)) -> f32| mean(self.samples.values().map(|s| f64::from(of(s))));
                Some(Interval { low: end(|s| s.0)? as f32, high: end(|s| s.1)? as f32 })
            }
            _ => {
                let threshold = self.threshold(method)? as f32;
                Some(Interval { low: low.max(-threshold), high: high.min(threshold) })
            }
        }
    }

    /// Smallest and largest finite value of all samples.
    pub fn ends(&self) -> Option<(f32, f32)> {
        self.ends
    }

    /// The values, for methods that look at all of them.
    pub fn points(&self) -> Points {
        self.tally.points()
    }

    /// Bytes that this takes.
    pub fn bytes(&self) -> usize {
        let first: usize = self.first.values().map(Tally::bytes).sum();
        self.tally.bytes() + first + (self.votes.len() + self.samples.len()) * 32
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = numbers.fold((0.0, 0usize), |(sum, n), x| (sum + x, n + 1));
    (n > 0).then(|| sum / n as f64)
}

fn largest(values: &[f32]) -> f64 {
    values.iter().filter(|x| x.is_finite()).fold(0.0, |largest, x| f64::from(x.abs()).max(largest))
}

/// Smallest and largest finite value; `None` if there is none.
pub fn ends(values: &[f32]) -> Option<(f32, f32)> {
    const LANES: usize = 16;
    const BLOCK: usize = 64;
    let (mut lo, mut hi) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    // One instruction each; comparisons with NaN are false. Both in one loop become a dozen.
    for block in chunks.chunks(BLOCK) {
        for chunk in block {
            lo.iter_mut().zip(chunk).for_each(|(lo, &x)| *lo = if x < *lo { x } else { *lo });
        }
        for chunk in block {
            hi.iter_mut().zip(chunk).for_each(|(hi, &x)| *hi = if x > *hi { x } else { *hi });
        }
    }
    let min = lo.iter().chain(rest).fold(f32::INFINITY, |m, x| m.min(*x));
    let max = hi.iter().chain(rest).fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    if min.is_finite() && max.is_finite() {
        return Some((min, max));
    }
    let finite = || values.iter().copied().filter(|x| x.is_finite());
    let (min, max) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
    (min <= max).then_some((min, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A large tensor of 12 channels that lie side by side, all of them 0.1 but the second, 0.2, and a few places.
    fn tensor(far: &[(usize, f32)]) -> Vec<f32> {
        let mut values: Vec<f32> = (0..1_200_000).map(|i| if i % 12 == 1 { 0.2 } else { 0.1 }).collect();
        far.iter().for_each(|&(i, x)| values[i] = x);
        values
    }

    fn counts(values: &[f32], number: usize) -> Vec<(f32, u64)> {
        let (mut tally, sample) = (Tally::default(), Sample::new(number, 1, values));
        sample.tally(&mut tally, ends(values).unwrap());
        tally.points().iter().map(|(x, n)| (x as f32, n)).collect()
    }

    #[test]
    fn large_values_are_all_looked_at_and_the_rest_evenly() {
        let values = tensor(&[(7, 9.0), (400_000, -8.0), (400_001, 9.0), (1_199_999, 5.0)]);
        for number in [0, 1, 70] {
            let found = counts(&values, number);
            let n = |x: f32| found.iter().find(|(y, _)| *y == x).map_or(0, |(_, n)| *n);
            assert_eq!([n(9.0), n(-8.0), n(5.0)], [2, 1, 1], "{number}");
            let [most, few] = [n(0.1), n(0.2)].map(|n| n as f64);
            assert!((most - 1_100_000.0).abs() < 1000.0 && (few - 100_000.0).abs() < 1000.0, "{number}: {most} {few}");
        }
    }

    #[test]
    fn of_many_large_values_some_stand_for_all() {
        let mut values = tensor(&[]);
        values[..600_000].fill(3.0);
        let found = counts(&values, 5);
        let n = found.iter().find(|(x, _)| *x == 3.0).map_or(0, |(_, n)| *n) as f64;
        assert!((n - 600_000.0).abs() < 100.0, "{n}");
    }
}
