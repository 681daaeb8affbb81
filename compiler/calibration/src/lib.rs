//! What the values of a tensor are like, and the ranges that calibration methods give it.
//!
//! A [`Tally`] takes in the values of a tensor in one pass over the data. A [`Method`] makes a range of them: of all values together,
//! or of what it finds for each sample. Methods that other tools have give the numbers of those tools.
//!
//! ```
//! use qc_calibration::{Method, Sample, Seen};
//! let method: Method = "percentile:99".parse()?;
//! let mut seen = Seen::default();
//! let values: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).chain([50.0]).collect();
//! seen.observe(method, &Sample::new(0, 1, &values), (0.0, 50.0));
//! let range = seen.range(method).unwrap();
//! assert!(range.low == 0.0 && range.high < 1.0);
//! # Ok::<(), String>(())
//! ```

pub mod both_ends;
mod divergence;
mod histogram;
mod method;
pub mod onnx_runtime;
pub mod paddle;
mod points;
mod seen;
mod tally;

pub use method::{METHODS, Method};
pub use points::Points;
pub use seen::{Sample, Seen, WHOLE, ends};
pub use tally::{EXACT, Tally};

/// A range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The smallest value.
    pub low: f32,
    /// The largest value.
    pub high: f32,
}

/// What a method finds for one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote {
    /// The threshold of magnitudes.
    pub threshold: f64,
    /// What the threshold costs on the sample.
    pub loss: f64,
}
