//! What is odd about samples that ranges are found on: too few, not a number, nothing but zeros, out of all proportion.

use std::fmt::Write;

/// Fewer samples than this say little about a model's values.
const FEW: usize = 4;
/// A sample is out of proportion when its largest magnitude is beyond that of the median sample by this factor, ...
const LEAST_FACTOR: f64 = 16.0;
/// ... and by this many deviations of the logarithm of magnitudes, as their median tells it.
const DEVIATIONS: f64 = 8.0;
/// A median deviation times this is the standard deviation of a normal distribution.
const NORMAL: f64 = 1.4826;
/// Samples that are named.
const NAMED: usize = 5;

/// What one sample is like: all float inputs together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Its number, in the order of the data.
    pub index: usize,
    /// Largest magnitude of its finite values.
    pub largest: f32,
    /// Whether a value is NaN or infinite.
    pub odd: bool,
}

impl Sample {
    /// Sample `index`, of no values so far.
    pub fn new(index: usize) -> Sample {
        Sample { index, largest: 0.0, odd: false }
    }

    /// Takes in values of one input.
    pub fn see(&mut self, values: &[f32]) {
        for x in values {
            match x.is_finite() {
                true => self.largest = self.largest.max(x.abs()),
                false => self.odd = true,
            }
        }
    }
}

/// Sentences about samples that make bad ranges, named by `name`; none for good ones.
pub fn warnings(samples: &[Sample], name: impl Fn(usize) -> String) -> Vec<String> {
    let mut out = Vec::new();
    let list = |found: &[&Sample]| {
        let mut text = String::new();
        for (i, sample) in found.iter().take(NAMED).enumerate() {
            let _ = write!(text, "{}{}", if i == 0 { "" } else { ", " }, name(sample.index));
        }
        match found.len() > NAMED {
            true => format!("{text} and {} more", found.len() - NAMED),
            false => text,
        }
    };
    let mut say = |found: Vec<&Sample>, what: &str| {
        if !found.is_empty() {
            out.push(format!("{} of {} samples {what}: {}", found.len(), samples.len(), list(&found)));
        }
    };
    say(samples.iter().filter(|s| s.odd).collect(), "hold NaN or infinite values, which count for nothing");
    say(samples.iter().filter(|s| !s.odd && s.largest == 0.0).collect(), "are nothing but zeros");
    say(
        outliers(samples),
        "are out of all proportion to the others and widen every range; leave them out if they are not real",
    );
    match samples.len() {
        1 => out.push("1 sample says little about the values of a model; use a hundred".into()),
        n if n < FEW => out.push(format!("{n} samples say little about the values of a model; use a hundred")),
        _ => {}
    }
    out
}

/// Samples whose magnitude has nothing to do with that of the others.
fn outliers(samples: &[Sample]) -> Vec<&Sample> {
    let logarithm = |s: &Sample| f64::from(s.largest).ln();
    let mut all: Vec<f64> = samples.iter().filter(|s| s.largest > 0.0).map(logarithm).collect();
    if all.len() < FEW {
        return Vec::new();
    }
    let center = median(&mut all);
    let mut off: Vec<f64> = all.iter().map(|x| (x - center).abs()).collect();
    let bound = LEAST_FACTOR.ln().max(DEVIATIONS * NORMAL * median(&mut off));
    samples.iter().filter(|s| s.largest > 0.0 && logarithm(s) - center > bound).collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The sentence about files of a folder that are no pictures; none where there is nothing to say.
pub fn skipped(files: &[String]) -> Option<String> {
    let (first, rest) = files.split_first()?;
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    Some(format!("{first}{more}: no .jpg, .jpeg or .png file, not read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(magnitudes: &[f32]) -> Vec<Sample> {
        let one = |(index, &largest): (usize, &f32)| Sample { index, largest, odd: false };
        magnitudes.iter().enumerate().map(one).collect()
    }

    fn said(samples: &[Sample]) -> String {
        warnings(samples, |i| format!("#{i}")).join("\n")
    }

    #[test]
    fn good_samples_raise_no_warning() {
        for good in [vec![1.0; 4], vec![1.0, 1.1, 0.9, 1.0, 2.0], (1..200).map(|i| i as f32).collect()] {
            assert_eq!(said(&samples(&good)), "");
        }
        // Loudness of sounds goes over several orders of magnitude.
        let wide: Vec<f32> = (0..100).map(|i| (i as f32 * 0.07).exp()).collect();
        assert_eq!(said(&samples(&wide)), "");
    }

    #[test]
    fn each_kind_of_bad_sample_is_named() {
        let mut bad: Vec<f32> = (0..20).map(|i| 2.0 + 0.1 * i as f32).collect();
        bad[7] = 3000.0;
        assert!(
            said(&samples(&bad)).starts_with("1 of 20 samples are out of all proportion")
                && said(&samples(&bad)).ends_with("#7")
        );
        bad[7] = 0.0;
        assert_eq!(said(&samples(&bad)), "1 of 20 samples are nothing but zeros: #7");
        let mut odd = samples(&[1.0; 9]);
        for (i, value) in [(2, f32::NAN), (3, f32::INFINITY)] {
            odd[i].see(&[0.5, value]);
        }
        assert_eq!(said(&odd), "2 of 9 samples hold NaN or infinite values, which count for nothing: #2, #3");
        assert_eq!(said(&samples(&[1.0; 3])), "3 samples say little about the values of a model; use a hundred");
        let zeros = said(&samples(&[0.0; 8]));
        assert!(zeros.ends_with("#0, #1, #2, #3, #4 and 3 more"), "{zeros}");
    }

    #[test]
    fn files_that_are_not_read_are_named() {
        assert_eq!(skipped(&[]), None);
        assert_eq!(skipped(&["a.webp".into()]), Some("a.webp: no .jpg, .jpeg or .png file, not read".into()));
        let text = skipped(&["a.webp".into(), "b.bmp".into()]);
        assert_eq!(text, Some("a.webp and 1 more: no .jpg, .jpeg or .png file, not read".into()));
    }
}
