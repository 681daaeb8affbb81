//! Random models: valid graphs from a seed, in float, with quantize/dequantize pairs, or with ranges to quantize by.
//!
//! A [`Recipe`] is a list of steps whose choices are plain numbers. Building resolves every number against what exists
//! at that point (operand 17 of 3 values is value 2, kernel 9 that does not fit becomes one that does), so every recipe
//! gives a valid model. That is what makes shrinking simple: leave steps out, halve sizes, zero choices. The same recipe
//! gives the same model at every batch size. Nothing is shared with the compiler but the builder.

mod boxes;
pub mod build;
mod dynamic;
mod elementwise;
pub mod fuzz;
mod integer;
mod linear;
pub mod makers;
mod mixing;
mod movement;
mod norms;
mod numbers;
mod pairs;
mod pattern;
mod recurrent;
pub mod shrink;
mod window;

pub use build::build;
pub use numbers::Numbers;

use crate::ladder::{BATCHES, Failure, Levels, climb_with};
use crate::shapes::{self, Outcome};
use qc_compiler::ranges::{MinMax, Range, Ranges, SCHEMA};
use qc_compiler::{CompileOptions, Compiler, Guard, Precision, Quantize, pipeline};
use qc_ir::{HostTensor, NoSink, PrintOptions, seeded_inputs};
use std::collections::BTreeMap;

/// Shapes at which a model is compared.
const SHAPES: usize = 3;

/// What a model brings along about its numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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

impl Mode {
    /// All modes.
    pub const ALL: [Mode; 4] = [Mode::Float, Mode::ExactPairs, Mode::Pairs, Mode::Ranges];

    /// Name as in the names of files.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Float => "float",
            Mode::ExactPairs => "exact_pairs",
            Mode::Pairs => "pairs",
            Mode::Ranges => "ranges",
        }
    }
}

/// One op of a recipe.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Which op.
    pub kind: u32,
    /// All further choices.
    pub picks: [u32; 10],
}

/// A random model.
#[derive(Clone, PartialEq, Debug)]
pub struct Recipe {
    /// What it brings along.
    pub mode: Mode,
    /// Channels, height and width of the input.
    pub input: [usize; 3],
    /// Whether there is a second input, and which.
    pub second: u32,
    /// What stays float on purpose, and whether integers must pay.
    pub policy: u32,
    /// Its ops.
    pub steps: Vec<Step>,
}

impl Recipe {
    /// The recipe of a seed in the mode that belongs to it: seeds take turns.
    pub fn of_seed(seed: u64) -> Recipe {
        Recipe::random(seed, Mode::ALL[(seed % 4) as usize])
    }

    /// The recipe of a seed.
    pub fn random(seed: u64, mode: Mode) -> Recipe {
        let mut n = Numbers::new(seed ^ (mode as u64) << 62);
        let channels = [1, 2, 3, 4, 5, 8, 12, 16, 17, 32];
        let mut input = [channels[n.below(channels.len())], n.below(11) + 1, n.below(11) + 1];
        if n.below(16) == 0 {
            // A large plane, of few channels.
            input = [1 + n.below(3), 12 + n.below(20), 12 + n.below(30)];
        }
        let (second, policy) = (n.draw(), n.draw());
        let count = n.below(10) + 1;
        let steps = (0..count).map(|_| Step { kind: n.draw(), picks: std::array::from_fn(|_| n.draw()) }).collect();
        Recipe { mode, input, second, policy, steps }
    }

    /// How the model is compiled.
    pub fn options(&self) -> CompileOptions {
        let mut options = CompileOptions { exact_qdq: self.mode == Mode::ExactPairs, ..CompileOptions::default() };
        if matches!(self.mode, Mode::Pairs | Mode::Ranges) {
            // Small models seldom pay for their conversions; without a guard most of them would be float.
            options.guard = if self.policy.is_multiple_of(4) { Guard::NeverSlower } else { Guard::None };
            let kept = ["conv2d", "add", "relu", "concat", "matmul"][self.policy as usize / 64 % 5];
            match self.policy / 4 % 8 {
                1 => options.keep_fp32 = vec![format!("op:{kept}")],
                2 => options.keep_fp32 = vec!["*3*".into()],
                3 => options.quantize_ops = vec!["conv2d".into(), kept.into()],
                // Ranges have no say in a program of floats.
                4 if self.mode == Mode::Pairs => options.precision = Precision::Fp32,
                5 => options.keep_fp32 = vec![format!("*{}*", self.policy / 512 % 10)],
                _ => {}
            }
        }
        if self.mode != Mode::ExactPairs && options.precision != Precision::Fp32 {
            options.quantize = match self.policy / 32768 % 4 {
                0 => Quantize::Dynamic,
                1 => Quantize::Weights,
                _ => Quantize::Given,
            };
        }
        if self.mode == Mode::Ranges {
            options.ranges = Some(self.ranges(&options));
        }
        options
    }

    /// Inputs for the largest batch. One recipe in eight gets numbers that are none, and zeros of either sign.
    fn inputs(&self) -> Vec<HostTensor> {
        let mut inputs = seeded_inputs(&build(self, BATCHES[0]));
        if !(self.second / 4096).is_multiple_of(8) {
            return inputs;
        }
        let mut n = Numbers::new(u64::from(self.second));
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e-40];
        for t in &mut inputs {
            let Some(mut values) = t.as_f32().map(<[f32]>::to_vec) else { continue };
            for _ in 0..1 + n.below(values.len() / 8 + 1) {
                let i = n.below(values.len());
                values[i] = odd[n.below(odd.len())];
            }
            *t = HostTensor::f32(t.dims(), values);
        }
        inputs
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
        let mut tensors: BTreeMap<String, Range> = seen.into_tensors();
        if self.policy / 4096 % 4 == 1 {
            let mut n = Numbers::new(u64::from(self.policy));
            tensors.values_mut().for_each(|r| *r = other_range(*r, &mut n));
        }
        ranges_of(tensors)
    }

    /// Climbs the ladder with the model; a panic is a failure as well.
    ///
    /// # Errors
    /// The rung that does not hold.
    pub fn check(&self) -> Result<Levels, Failure> {
        let run = || climb_with(&|batch| build(self, batch), &self.options(), &self.inputs());
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(&*panic)))
    }

    /// The model of this recipe on inputs of another height and width, by number; 0 is its own.
    pub fn at_shape(&self, shape: usize) -> Recipe {
        let [c, h, w] = self.input;
        let input = [[c, h, w], [c, h, w + 3], [c, h + 2, w + 1]][shape % SHAPES];
        Recipe { input, ..self.clone() }
    }

    /// Compares all ways to have the model at several shapes; a panic is a failure as well.
    ///
    /// # Errors
    /// The way that differs.
    pub fn check_shapes(&self) -> Result<Outcome, Failure> {
        let own = self.clone();
        let make = move |shape: usize, batch: usize| build(&own.at_shape(shape), batch);
        let run = || shapes::agree(&make, SHAPES, &self.options());
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(&*panic)))
    }

    /// The model as a file test: as it was made, or with its ranges in the form of observations.
    pub fn to_qir(&self) -> String {
        let options = self.options();
        let mut m = build(self, 1);
        if let Some(ranges) = &options.ranges {
            let compiler = Compiler::new(options.clone());
            let canonical = compiler.run(&mut m, &pipeline::float(&options), &mut NoSink);
            if canonical.is_err() || qc_compiler::ranges::attach(&mut m, ranges).is_err() {
                // What fails before ranges matter fails without them.
                m = build(self, 1);
            }
        }
        let words = words_of(&options);
        let text = qc_ir::print(&m, PrintOptions { inline_limit: usize::MAX, locs: !options.keep_fp32.is_empty() });
        format!("// test: ladder{words}\n{text}")
    }
}

/// A panic as a failure.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
    Failure { rung: "panic".into(), text: text.unwrap_or_default() }
}

/// The file that calibration would write, for ranges of these tensors.
pub fn ranges_of(tensors: BTreeMap<String, Range>) -> Ranges {
    Ranges {
        schema: SCHEMA.into(),
        generator: "qc tests".into(),
        model_sha256: String::new(),
        method: "min-max".into(),
        preprocess: None,
        samples: 1,
        keep_fp32: Vec::new(),
        rescaled: BTreeMap::new(),
        biases: Default::default(),
        tensors,
    }
}

/// What other samples, or the hand of a user, can make of a range: mostly nothing; else a single number, one that says
/// nothing at all, one too small for a scale, or one that is much too small or too large.
fn other_range(r: Range, n: &mut Numbers) -> Range {
    let times = |factor: f32| Range::new(r.min * factor, r.max * factor);
    match n.below(16) {
        0 => Range::new(0.0, 0.0),
        1 => Range::new(r.max, r.max),
        2 => times(1e-40),
        3 => times(1e-6),
        4 => times(1e3),
        5 => times(0.3),
        _ => r,
    }
}

/// The options of a recipe behind `ladder` in a file test, which `options_of` reads.
fn words_of(options: &CompileOptions) -> String {
    let mut words: Vec<String> = options.keep_fp32.iter().map(|kept| format!("keep={kept}")).collect();
    if options.exact_qdq {
        words.push("exact-qdq".into());
    }
    if options.precision == Precision::Fp32 {
        words.push("precision=fp32".into());
    }
    match options.quantize {
        Quantize::Given => {}
        Quantize::Dynamic => words.push("quantize=dynamic".into()),
        Quantize::Weights => words.push("quantize=weights".into()),
    }
    if options.guard == Guard::None {
        words.push("guard=none".into());
    }
    if !options.quantize_ops.is_empty() {
        words.push(format!("only={}", options.quantize_ops.join(",")));
    }
    if words.is_empty() { String::new() } else { format!("({})", words.join(" ")) }
}
