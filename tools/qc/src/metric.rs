//! What is measured of the answers of a model: against labels, or against those of another model.

use clap::ValueEnum;
use qc_compiler::compare::Difference;
use std::collections::BTreeMap;

/// How answers are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// The least cosine of an output, in percent
    #[default]
    Cosine,
    /// Rows whose largest value is at the right place, in percent
    Top1,
    /// The least ratio of signal to error of an output, in decibels
    Snr,
    /// Mean over the classes of 2 TP / (2 TP + FP + FN), in percent
    F1,
    /// Sequences that are right as a whole: of each step the largest value, repetitions and blanks left out, in percent
    Ctc,
}

impl Metric {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::Top1 => "top-1",
            Metric::Snr => "snr",
            Metric::F1 => "f1",
            Metric::Ctc => "ctc",
        }
    }

    /// What a score is counted in.
    pub fn unit(self) -> &'static str {
        if self == Metric::Snr { "dB" } else { "%" }
    }

    /// Whether it compares the numbers of outputs rather than what they say.
    pub fn is_of_numbers(self) -> bool {
        matches!(self, Metric::Cosine | Metric::Snr)
    }
}

/// The place of the largest value; the first of equal ones, and none is larger than NaN.
pub fn largest(row: &[f32]) -> usize {
    let next = |best: (usize, f32), (i, &x): (usize, &f32)| if x > best.1 { (i, x) } else { best };
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), next).0
}

/// Greedy decoding of rows of scores (Graves and others 2006, "best path"): of each the largest, repetitions once, blanks left out.
pub fn greedy<'a>(rows: impl Iterator<Item = &'a [f32]>, blank: usize) -> Vec<i64> {
    let mut last = None;
    let mut sequence = Vec::new();
    for place in rows.map(largest) {
        if last != Some(place) && place != blank {
            sequence.push(place as i64);
        }
        last = Some(place);
    }
    sequence
}

/// The shape of rows of scores: classifiers give theirs as images of one pixel, too.
pub fn of_scores(mut shape: &[usize]) -> &[usize] {
    while let [inner @ .., 1] = shape
        && inner.len() > 1
    {
        shape = inner;
    }
    shape
}

/// What an output of this shape says: the class of each row of the last dim; of [`Metric::Ctc`] the sequence of each item of the first,
/// whose last dims are steps and scores.
pub fn answers(metric: Metric, values: &[f32], shape: &[usize], blank: usize) -> Vec<Vec<i64>> {
    let shape = if metric == Metric::Ctc { shape } else { of_scores(shape) };
    let scores = shape.last().copied().unwrap_or(1).max(1);
    if metric != Metric::Ctc {
        return values.chunks_exact(scores).map(|row| vec![largest(row) as i64]).collect();
    }
    let item = values.len() / shape.first().copied().unwrap_or(1).max(1);
    values.chunks_exact(item.max(1)).map(|item| greedy(item.chunks_exact(scores), blank)).collect()
}

/// Counts of a class: true positives, false positives, false negatives.
type Counts = [u64; 3];

/// Right and wrong classes, for [`Metric::F1`].
#[derive(Clone, Debug, Default)]
pub struct Confusion(BTreeMap<i64, Counts>);

impl Confusion {
    /// Takes in a class and the right one.
    pub fn observe(&mut self, right: i64, got: i64) {
        if right == got {
            self.0.entry(right).or_default()[0] += 1;
        } else {
            self.0.entry(got).or_default()[1] += 1;
            self.0.entry(right).or_default()[2] += 1;
        }
    }

    /// The mean of the F1 of all classes that are right or given at least once (macro average), in percent.
    pub fn f1(&self) -> f64 {
        let one = |[tp, fp, fng]: &Counts| 2.0 * *tp as f64 / (2 * tp + fp + fng).max(1) as f64;
        100.0 * self.0.values().map(one).sum::<f64>() / self.0.len().max(1) as f64
    }
}

/// Two models on the same samples: how far their outputs are apart.
#[derive(Clone, Debug, Default)]
pub struct Apart(Vec<Difference>);

impl Apart {
    /// Takes in the outputs of a run, and the right ones.
    pub fn observe(&mut self, right: &[Vec<f32>], got: &[Vec<f32>]) {
        self.0.resize(self.0.len().max(right.len()), Difference::default());
        for (sum, (right, got)) in self.0.iter_mut().zip(right.iter().zip(got)) {
            sum.observe(right, got);
        }
    }

    /// Takes in what was seen of other samples.
    pub fn merge(&mut self, other: &Apart) {
        self.0.resize(self.0.len().max(other.0.len()), Difference::default());
        self.0.iter_mut().zip(&other.0).for_each(|(sum, other)| sum.merge(other));
    }

    /// The cosine in percent, or decibels between signal and error: of the output where it is least.
    pub fn score(&self, metric: Metric) -> f64 {
        let of = |d: &Difference| if metric == Metric::Snr { d.sqnr() } else { 100.0 * d.cosine() };
        self.0.iter().map(of).fold(f64::INFINITY, f64::min)
    }
}

/// Outputs of runs beside the right ones, for any metric.
#[derive(Clone, Debug)]
pub struct Tally {
    metric: Metric,
    blank: usize,
    apart: Apart,
    classes: Confusion,
    same: usize,
    rows: usize,
}

impl Tally {
    /// Nothing seen yet; `blank` is the score that is no symbol, of [`Metric::Ctc`].
    pub fn new(metric: Metric, blank: usize) -> Tally {
        Tally { metric, blank, apart: Apart::default(), classes: Confusion::default(), same: 0, rows: 0 }
    }

    /// Takes in the outputs of a run and the right ones, of which the first has this shape.
    pub fn observe(&mut self, right: &[Vec<f32>], got: &[Vec<f32>], shape: &[usize]) {
        self.apart.observe(right, got);
        if self.metric.is_of_numbers() {
            return;
        }
        let say = |outputs: &[Vec<f32>]| {
            outputs.first().map_or(Vec::new(), |values| answers(self.metric, values, shape, self.blank))
        };
        let (right, got) = (say(right), say(got));
        self.same += right.iter().zip(&got).filter(|(right, got)| right == got).count();
        self.rows += right.len();
        right.iter().flatten().zip(got.iter().flatten()).for_each(|(right, got)| self.classes.observe(*right, *got));
    }

    /// How good the outputs are.
    pub fn score(&self) -> f64 {
        match self.metric {
            Metric::Cosine | Metric::Snr => self.apart.score(self.metric),
            Metric::Top1 | Metric::Ctc => 100.0 * self.same as f64 / self.rows.max(1) as f64,
            Metric::F1 => self.classes.f1(),
        }
    }
}

/// The drop from one model to another on the same `n` samples, in points, and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drop {
    /// Positive where the second is worse.
    pub points: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Drop {
    /// The drop where of `n` samples `lost` are right in the first model only and `won` in the second only.
    ///
    /// The interval is Wald's for matched pairs with half a sample added to each cell of the table (Agresti and Min, "Simple improved
    /// confidence intervals for comparing matched proportions", Statistics in Medicine 24, 2005): with `b`, `c` and `N` the counts so
    /// enlarged, `(b - c) / N ± 1.96 sqrt(b + c - (b - c)^2 / N) / N`. Unlike Wald's own it is no point where nothing differs.
    pub fn of(lost: usize, won: usize, n: usize) -> Drop {
        let (b, c, all) = (lost as f64 + 0.5, won as f64 + 0.5, n as f64 + 2.0);
        let middle = (b - c) / all;
        let half = 1.96 * (b + c - (b - c).powi(2) / all).sqrt() / all;
        let points = 100.0 * (lost as f64 - won as f64) / n.max(1) as f64;
        Drop { points, low: 100.0 * (middle - half), high: 100.0 * (middle + half) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_and_blanks_are_left_out() {
        let rows = [1, 1, 0, 1, 2, 2, 0, 0].map(|place: usize| {
            let mut row = [0.0; 3];
            row[place] = 1.0;
            row
        });
        assert_eq!(greedy(rows.iter().map(|row| &row[..]), 0), [1, 1, 2]);
        assert_eq!(greedy(rows.iter().map(|row| &row[..]), 2), [1, 0, 1, 0]);
        assert_eq!(greedy(std::iter::empty(), 0), [0; 0]);
    }

    #[test]
    fn scores_may_be_images_of_one_pixel() {
        let values = [0.0, 2.0, 1.0, 5.0, 3.0, 4.0];
        for shape in [&[2, 3][..], &[2, 3, 1, 1], &[1, 2, 3]] {
            assert_eq!(answers(Metric::Top1, &values, shape, 0), [[1], [0]], "{shape:?}");
        }
        assert_eq!(of_scores(&[6, 1]), [6, 1]);
    }

    #[test]
    fn f1_is_the_mean_over_classes() {
        let mut seen = Confusion::default();
        [(0, 0), (0, 0), (0, 1), (1, 1)].iter().for_each(|(right, got)| seen.observe(*right, *got));
        // Class 0 has 2 TP and 1 FN, class 1 has 1 TP and 1 FP.
        assert!((seen.f1() - 50.0 * (4.0 / 5.0 + 2.0 / 3.0)).abs() < 1e-9, "{}", seen.f1());
    }

    #[test]
    fn an_interval_is_that_of_the_paired_difference() {
        // b = 12.5, c = 4.5, N = 102: 8 / 102 and 1.96 sqrt(17 - 64 / 102) / 102.
        let drop = Drop::of(12, 4, 100);
        assert!((drop.points - 8.0).abs() < 1e-9);
        assert!((drop.low - 0.067_89).abs() < 1e-4 && (drop.high - 15.618_38).abs() < 1e-4, "{drop:?}");
        let same = Drop::of(0, 0, 100);
        assert!(same.points == 0.0 && same.low < 0.0 && same.high > 0.0, "{same:?}");
    }
}
