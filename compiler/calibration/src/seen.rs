//! What a method has to know of a tensor, sample by sample.

use crate::method::How;
use crate::{Interval, Method, Points, Tally, Vote};
use std::collections::BTreeMap;

/// Of larger tensors, about this many values of a sample are looked at, at places that change from sample to sample; their ends
/// are those of all values.
const LOOKED_AT: usize = 1 << 15;

/// The values of a sample that are looked at. A step that is odd meets all channels of a tensor, however these lie.
fn looked_at(values: &[f32], sample: usize) -> impl Iterator<Item = f32> {
    let step = (values.len() / LOOKED_AT).max(1) | usize::from(values.len() > LOOKED_AT);
    values.iter().skip(sample % step).step_by(step).copied()
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
    /// Takes in the values of a sample that has `items` items, and what `method` will need of them.
    pub fn observe(&mut self, method: Method, sample: usize, items: usize, values: &[f32]) {
        let Some(ends) = ends(values) else { return };
        self.ends = Some(self.ends.map_or(ends, |all| (all.0.min(ends.0), all.1.max(ends.1))));
        match method.how() {
            How::Ends => {}
            How::Range(_) | How::Threshold(_) => self.tally.observe(looked_at(values, sample)),
            How::First(_) => {
                if self.first.first_key_value().is_none_or(|(first, _)| sample < *first) {
                    let mut tally = Tally::default();
                    tally.observe(looked_at(values, sample));
                    self.first = BTreeMap::from([(sample, tally)]);
                }
            }
            How::EachSample(vote, _) => {
                let mut tally = Tally::default();
                tally.observe(looked_at(values, sample));
                self.votes.extend(vote(&tally.points()).map(|vote| (sample, vote)));
            }
            How::MeanOfEnds => drop(self.samples.insert(sample, ends)),
            How::MeanOfLargest => {
                let items: Vec<f64> = values.chunks((values.len() / items.max(1)).max(1)).map(largest).collect();
                // The mean of f32 numbers is one.
                let mean = (items.iter().sum::<f64>() / items.len() as f64) as f32;
                self.votes.insert(sample, Vote { threshold: f64::from(mean), loss: 0.0 });
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
            How::Ends | How::Range(_) | How::MeanOfEnds => None,
        }
    }

    /// The range of the tensor: what the method finds, within what was seen.
    pub fn range(&self, method: Method) -> Option<Interval> {
        let (low, high) = self.ends?;
        match method.how() {
            How::Ends => Some(Interval { low, high }),
            How::Range(find) => find(&self.tally.points(), method.percent()),
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

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = numbers.fold((0.0, 0usize), |(sum, n), x| (sum + x, n + 1));
    (n > 0).then(|| sum / n as f64)
}

fn largest(values: &[f32]) -> f64 {
    values.iter().filter(|x| x.is_finite()).fold(0.0, |largest, x| f64::from(x.abs()).max(largest))
}

/// Smallest and largest finite value; `None` if there is none.
fn ends(values: &[f32]) -> Option<(f32, f32)> {
    let finite = || values.iter().copied().filter(|x| x.is_finite());
    let (low, high) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
    (low <= high).then_some((low, high))
}
