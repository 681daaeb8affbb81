//! What was seen of a tensor in one pass over the data, in memory of a bounded size.
//!
//! Few values are kept as they are. From [`EXACT`] values on, they are counted in bins that depend on nothing: a sign, an exponent,
//! and the first [`BITS`] bits of the mantissa. A bin has its count and the sum of the mantissa bits behind, both integers, so
//! tallies are merged in any order to the same bits, and a value that repeats keeps its place. Memory is 8 KiB per octave.

use crate::Points;

/// Up to this many values are kept as they are.
pub const EXACT: usize = 1 << 16;

/// Bits of the mantissa that tell bins apart: a bin is a 512th of its octave.
const BITS: u32 = 9;
const BINS: usize = 1 << BITS;
const BEHIND: u32 = 23 - BITS;
const SIGNS_AND_EXPONENTS: usize = 1 << 9;

/// Counts, and sums of what the bins leave out, of one sign and exponent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Octave {
    counts: Vec<u64>,
    behind: Vec<u64>,
}

impl Default for Octave {
    fn default() -> Octave {
        Octave { counts: vec![0; BINS], behind: vec![0; BINS] }
    }
}

/// The values of a tensor over all samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The bits of the values, as long as they are few.
    kept: Vec<u32>,
    /// By sign and exponent; nothing as long as values are kept.
    octaves: Vec<Option<Box<Octave>>>,
    /// Values that are NaN or infinite.
    odd: u64,
}

impl Tally {
    /// Takes in values, in any order.
    pub fn observe(&mut self, values: impl IntoIterator<Item = f32>) {
        for x in values {
            if !x.is_finite() {
                self.odd += 1;
            } else if self.octaves.is_empty() {
                self.kept.push(x.to_bits());
                if self.kept.len() > EXACT {
                    self.spill();
                }
            } else {
                self.count(x.to_bits(), 1);
            }
        }
    }

    /// Takes in values that count more than once, or not at all.
    pub fn observe_weighed(&mut self, values: impl IntoIterator<Item = (f32, u64)>) {
        self.spill();
        for (x, weight) in values {
            match x.is_finite() {
                true => self.count(x.to_bits(), weight),
                false => self.odd += 1,
            }
        }
    }

    fn spill(&mut self) {
        if self.octaves.is_empty() {
            self.octaves.resize(SIGNS_AND_EXPONENTS, None);
        }
        for bits in std::mem::take(&mut self.kept) {
            self.count(bits, 1);
        }
    }

    #[inline]
    fn count(&mut self, bits: u32, weight: u64) {
        let octave = self.octaves[(bits >> 23) as usize].get_or_insert_default();
        let bin = (bits >> BEHIND) as usize % BINS;
        octave.counts[bin] += weight;
        octave.behind[bin] = octave.behind[bin].saturating_add(weight * u64::from(bits % (1 << BEHIND)));
    }

    /// Takes in what another one saw.
    pub fn merge(&mut self, other: &Tally) {
        self.odd += other.odd;
        let few = self.octaves.is_empty() && other.octaves.is_empty() && self.kept.len() + other.kept.len() <= EXACT;
        if few {
            return self.kept.extend(&other.kept);
        }
        self.spill();
        other.kept.iter().for_each(|&bits| self.count(bits, 1));
        for (to, from) in self.octaves.iter_mut().zip(&other.octaves) {
            let Some(from) = from else { continue };
            let to = to.get_or_insert_default();
            to.counts.iter_mut().zip(&from.counts).for_each(|(a, b)| *a += b);
            to.behind.iter_mut().zip(&from.behind).for_each(|(a, b)| *a += b);
        }
    }

    /// The values: as they were, or the mean of each bin.
    pub fn points(&self) -> Points {
        let kept = self.kept.iter().map(|&bits| (f64::from(f32::from_bits(bits)), 1));
        let octave = |(key, octave): (usize, &Octave)| {
            let bins = octave.counts.iter().zip(&octave.behind).enumerate().filter(|(_, (n, _))| **n > 0);
            let mean = |(bin, (&n, &behind)): (usize, (&u64, &u64))| {
                let first = f32::from_bits((key as u32) << 23 | (bin as u32) << BEHIND);
                let next = f32::from_bits(first.to_bits() + 1);
                let ulp = f64::from(next) - f64::from(first);
                (f64::from(first) + behind as f64 / n as f64 * ulp, n)
            };
            bins.map(mean).collect::<Vec<_>>()
        };
        let octaves = self.octaves.iter().enumerate().filter_map(|(key, octave)| Some((key, octave.as_deref()?)));
        Points::new(kept.chain(octaves.flat_map(octave)))
    }

    /// Values that are NaN or infinite.
    pub fn odd(&self) -> u64 {
        self.odd
    }

    /// Bytes that the tally takes.
    pub fn bytes(&self) -> usize {
        self.kept.capacity() * 4 + self.octaves.iter().flatten().count() * BINS * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        let mut state = 1u64;
        let next = |_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) as f32 / 8388608.0 - 1.0) * 3.0
        };
        (0..n).map(next).collect()
    }

    #[test]
    fn few_values_are_as_they_were() {
        let mut tally = Tally::default();
        tally.observe([0.75, -1e-39, 0.75, f32::NAN, f32::INFINITY]);
        assert_eq!(tally.points(), Points::of(&[0.75, 0.75, -1e-39]));
        assert_eq!(tally.odd(), 2);
    }

    #[test]
    fn order_and_parts_change_no_bit() {
        let values = numbers(EXACT * 3);
        let mut whole = Tally::default();
        whole.observe(values.iter().copied());
        for parts in [2, 3, 7, 1000] {
            let mut all = Tally::default();
            for chunk in values.rchunks(values.len() / parts) {
                let mut part = Tally::default();
                part.observe(chunk.iter().rev().copied());
                all.merge(&part);
            }
            assert_eq!(all.points(), whole.points(), "{parts} parts");
        }
    }

    #[test]
    fn many_values_keep_their_number_and_nearly_their_place() {
        let values = numbers(EXACT * 2);
        let mut tally = Tally::default();
        tally.observe(values.iter().copied());
        let (points, right) = (tally.points(), Points::of(&values));
        assert_eq!(points.total(), right.total());
        let mean = |p: &Points| p.iter().map(|(x, n)| x * n as f64).sum::<f64>() / p.total() as f64;
        assert!((mean(&points) - mean(&right)).abs() < 1e-9);
        let (low, high) = points.ends().unwrap();
        assert!((low + 3.0).abs() < 0.01 && (high - 3.0).abs() < 0.01);
        assert!(tally.bytes() < 1 << 20, "{}", tally.bytes());
    }

    #[test]
    fn what_has_a_weight_is_there_as_often() {
        let (mut weighed, mut plain) = (Tally::default(), Tally::default());
        weighed.observe_weighed([(0.3, 2), (f32::NAN, 7), (5.0, 0), (-1.0, 1)]);
        plain.observe([0.3, -1.0, 0.3]);
        assert_eq!(weighed.points(), plain.points());
        assert_eq!(weighed.odd(), 1);
    }

    #[test]
    fn what_repeats_stays_where_it_is() {
        let mut tally = Tally::default();
        tally.observe((0..EXACT * 2).map(|i| if i % 2 == 0 { 0.3 } else { -7.0 }));
        let points: Vec<(f64, u64)> = tally.points().iter().collect();
        assert_eq!(points, [(-7.0, EXACT as u64), (f64::from(0.3f32), EXACT as u64)]);
    }
}
