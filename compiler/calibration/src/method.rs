//! The methods by name.

use crate::paddle::Loss;
use crate::{Interval, Points, Vote, both_ends, onnx_runtime, paddle};
use std::fmt;
use std::str::FromStr;

/// How the range of a tensor is made of its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Method {
    row: &'static Row,
    /// The share of values, in percent, that percentiles keep.
    percent: f64,
}

/// A method and what it is.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What it does, for people.
    pub about: &'static str,
    /// The percentage it takes if it is given none; 0 for methods that take no percentage.
    pub percent: f64,
    pub(crate) how: How,
}

/// Rows are told apart by their names.
impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.name == other.name
    }
}

/// What a method looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// The smallest and the largest value.
    Ends,
    /// All values together, for both ends.
    Range(fn(&Points, f64) -> Option<Interval>),
    /// All values together, each as often as its channel counts, for a range within the ends of all.
    Weighed(fn(&Points, (f64, f64)) -> Interval),
    /// All magnitudes together, for a threshold.
    Threshold(fn(&Points, f64) -> Option<f64>),
    /// The values of the first sample.
    First(fn(&Points, f64) -> Option<f64>),
    /// Each sample, and what is made of what was found there.
    EachSample(fn(&Points) -> Option<Vote>, fn(&[Vote]) -> Option<f64>),
    /// The mean over samples of the mean over items of their largest magnitude.
    MeanOfLargest,
    /// The means over samples of their smallest and largest value.
    MeanOfEnds,
}

const fn row(name: &'static str, about: &'static str, how: How) -> Row {
    Row { name, about, percent: 0.0, how }
}

const fn share(name: &'static str, about: &'static str, percent: f64, how: How) -> Row {
    Row { name, about, percent, how }
}

/// All methods.
pub static METHODS: &[Row] = &[
    row(
        "auto",
        "both ends by the least square error at what reads the tensor: channels count by the weights behind them",
        How::Weighed(both_ends::least_squares_within),
    ),
    row("minmax", "the smallest and the largest value", How::Ends),
    row(
        "least-squares",
        "both ends by the least square error of 8 bits",
        How::Range(|p, _| both_ends::least_squares(p)),
    ),
    row("entropy", "both ends by the least divergence of 8 bits", How::Range(|p, _| both_ends::entropy(p))),
    row(
        "entropy-s8",
        "a threshold by the least divergence of signed 8 bits",
        How::Threshold(|p, _| both_ends::entropy_of_magnitudes(p)),
    ),
    row("kl", "KL of Paddle's PostTrainingQuantization", How::Threshold(|p, _| paddle::kl(p))),
    row(
        "kl-cpp",
        "KL of Paddle's C++ quantizer, which takes the first sample",
        How::First(|p, _| paddle::kl_of_cpp(p)),
    ),
    row("kl-calibrator", "KL of the Calibrator of Paddle 1.3", How::Threshold(|p, _| paddle::kl_of_calibrator(p))),
    share("hist", "the share of magnitudes that Paddle's hist keeps", 99.999, How::Threshold(paddle::percentile)),
    row(
        "mse",
        "mse of Paddle: the sample with the least square error decides",
        How::EachSample(|p| paddle::least_loss(p, Loss::MeanSquare), least),
    ),
    row(
        "emd",
        "emd of Paddle: the sample with the least difference of means and deviations decides",
        How::EachSample(|p| paddle::least_loss(p, Loss::EarthMover), least),
    ),
    row(
        "ptf",
        "ptf of Paddle: a power of two of the largest magnitude of the last sample",
        How::EachSample(paddle::power_of_two_factor, last),
    ),
    row("avg", "avg of Paddle: the mean of the samples' largest magnitudes", How::MeanOfLargest),
    row(
        "moving-average",
        "the means of the samples' smallest and largest values, as ONNX Runtime's moving average",
        How::MeanOfEnds,
    ),
    row(
        "ort-entropy",
        "Entropy of ONNX Runtime with its 128 bins, which keeps all",
        How::Range(|p, _| onnx_runtime::entropy(p, 128, 128)),
    ),
    row(
        "ort-entropy-2048",
        "Entropy of ONNX Runtime with 2048 bins and 256 levels",
        How::Range(|p, _| onnx_runtime::entropy(p, 2048, 256)),
    ),
    share(
        "percentile",
        "the share of magnitudes that Percentile of ONNX Runtime keeps",
        99.999,
        How::Range(onnx_runtime::percentile),
    ),
    share(
        "percentile-ends",
        "the same, cut off on each side by itself",
        99.999,
        How::Range(onnx_runtime::percentile_of_each_side),
    ),
];

/// The vote with the least loss; of equal ones the last.
fn least(votes: &[Vote]) -> Option<f64> {
    let mut best: Option<&Vote> = None;
    for vote in votes {
        if best.is_none_or(|best| vote.loss <= best.loss) {
            best = Some(vote);
        }
    }
    best.map(|vote| vote.threshold)
}

fn last(votes: &[Vote]) -> Option<f64> {
    votes.last().map(|vote| vote.threshold)
}

impl Method {
    /// The one that takes ends as they are.
    pub fn min_max() -> Method {
        let row = METHODS.iter().find(|row| matches!(row.how, How::Ends));
        Method { row: row.unwrap_or(&METHODS[0]), percent: 0.0 }
    }

    /// The row of the table.
    pub fn row(&self) -> &'static Row {
        self.row
    }

    /// Whether it looks at more than the ends of all values.
    pub fn looks_inside(&self) -> bool {
        !matches!(self.row.how, How::Ends)
    }

    /// Whether it asks how much the elements of each channel count.
    pub fn weighs(&self) -> bool {
        matches!(self.row.how, How::Weighed(_))
    }

    pub(crate) fn how(&self) -> How {
        self.row.how
    }

    pub(crate) fn percent(&self) -> f64 {
        self.percent
    }
}

impl Default for Method {
    fn default() -> Method {
        Method { row: &METHODS[0], percent: 0.0 }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.percent {
            0.0 => f.write_str(self.row.name),
            percent => write!(f, "{}:{percent}", self.row.name),
        }
    }
}

impl FromStr for Method {
    type Err = String;

    /// A name, and behind a colon a percentage for methods that take one.
    fn from_str(text: &str) -> Result<Method, String> {
        let (name, percent) = text.split_once(':').map_or((text, None), |(name, percent)| (name, Some(percent)));
        let names = || METHODS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
        let row = METHODS.iter().find(|row| row.name == name).ok_or_else(|| format!("methods are {}", names()))?;
        let percent = match percent {
            None => row.percent,
            Some(_) if row.percent == 0.0 => return Err(format!("{name} takes no percentage")),
            Some(text) => {
                let percent: Option<f64> = text.parse().ok().filter(|p| (50.0..=100.0).contains(p));
                percent.ok_or_else(|| format!("`{text}` is no percentage of 50 to 100"))?
            }
        };
        Ok(Method { row, percent })
    }
}
