//! Random models: valid graphs from a seed, in float, with quantize/dequantize pairs, or with ranges to quantize by.
//!
//! A [`Recipe`] is a list of steps whose choices are plain numbers. Building resolves every number against what exists
//! at that point (operand 17 of 3 values is value 2, kernel 9 that does not fit becomes one that does), so every recipe
//! gives a valid model. That is what makes shrinking simple: leave steps out, halve sizes, zero choices. The same recipe
//! gives the same model at every batch size. Nothing is shared with the compiler but the builder.

mod build;
mod numbers;
mod pairs;
pub mod shrink;

pub use build::{build, canonical_text};
pub use numbers::Numbers;

use crate::ladder::{Failure, Settings, climb};
use qc_compiler::ranges::{MinMax, Range, Ranges, SCHEMA};
use qc_compiler::{CompileOptions, Compiler, pipeline};
use qc_ir::{Module, NoSink, seeded_inputs};
use std::collections::BTreeMap;

/// What a model brings along about its numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Nothing: it computes in floats.
    Float,
    /// Quantize/dequantize pairs and stored weights; inner pairs are computed as written.
    ExactPairs,
    /// Quantize/dequantize pairs and stored weights.
    Pairs,
    /// Observed ranges, by which the compiler quantizes.
    Ranges,
}

/// One op of a recipe.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Which op.
    pub kind: u32,
    /// All further choices.
    pub picks: [u32; 8],
}

/// A random model.
#[derive(Clone, PartialEq, Debug)]
pub struct Recipe {
    /// What it brings along.
    pub mode: Mode,
    /// Channels, height and width of the input.
    pub input: [usize; 3],
    /// Its ops.
    pub steps: Vec<Step>,
}

impl Recipe {
    /// The recipe of a seed.
    pub fn random(seed: u64, mode: Mode) -> Recipe {
        let mut n = Numbers::new(seed);
        let channels = [1, 2, 3, 4, 5, 8, 12, 16, 17, 32];
        let input = [channels[n.below(channels.len())], n.below(11) + 1, n.below(11) + 1];
        let count = n.below(10) + 1;
        let steps = (0..count).map(|_| Step { kind: n.draw(), picks: std::array::from_fn(|_| n.draw()) }).collect();
        Recipe { mode, input, steps }
    }

    /// How the model is compiled and what is demanded of it.
    pub fn settings(&self) -> Settings {
        let mut options = CompileOptions { exact_qdq: self.mode == Mode::ExactPairs, ..CompileOptions::default() };
        if self.mode == Mode::Ranges {
            options.ranges = Some(self.ranges(&options));
        }
        let quant_tolerance = match self.mode {
            Mode::Float => 1e-4,
            Mode::ExactPairs => 0.1,
            Mode::Pairs | Mode::Ranges => 0.25,
        };
        Settings { options, quant_tolerance }
    }

    /// Ranges of all tensors of the canonical graph, as calibration would find them.
    fn ranges(&self, options: &CompileOptions) -> Ranges {
        let mut m = build(self, 1);
        let compiler = Compiler::new(options.clone());
        let mut seen = MinMax::default();
        if compiler.run(&mut m, &pipeline::float(options), &mut NoSink).is_ok() {
            // An error here shows again, and is reported, when the ladder is climbed.
            let _ = qc_compiler::ranges::observe(&m, &seeded_inputs(&m), &mut seen);
        }
        let tensors: BTreeMap<String, Range> = seen.into_tensors();
        Ranges {
            schema: SCHEMA.into(),
            generator: "qc tests".into(),
            model_sha256: String::new(),
            method: "min-max".into(),
            preprocess: None,
            samples: 1,
            tensors,
        }
    }

    /// Climbs the ladder with the model; a panic is a failure as well.
    ///
    /// # Errors
    /// The rung that does not hold.
    pub fn check(&self) -> Result<(), Failure> {
        let run = || climb(&|batch| build(self, batch), &self.settings());
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
            Err(Failure { rung: "panic".into(), text: text.unwrap_or_default() })
        })
    }

    /// The canonical model as a file test.
    pub fn to_qir(&self) -> String {
        canonical_text(self)
    }
}

/// The module of a recipe at batch 1.
pub fn module(recipe: &Recipe) -> Module {
    build(recipe, 1)
}
