//! The commands.

mod accuracy;
pub mod bench;
mod bound;
mod calibrate;
mod check;
mod compare;
mod compile;
mod completions;
mod data;
mod debug;
mod doctor;
mod fuzz;
mod inspect;
mod man;
mod opt;
mod profile;
mod quantize;
mod run;
mod trace;

use crate::failure::Outcome;
use crate::paths::Paths;
use crate::ui::Ui;
use clap::Subcommand;

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Compile a model to a self-contained .so and its C header
    Compile(Box<compile::Compile>),
    /// Say whether a model can be compiled: all problems at once, and what of it would be float
    Check(Box<check::Check>),
    /// Find the ranges of a float model's tensors on sample data
    Calibrate(Box<calibrate::Calibrate>),
    /// Write a model as ONNX with quantize/dequantize pairs, or its optimized floats, for other engines
    Quantize(Box<quantize::Quantize>),
    /// Run a model on arrays or a picture
    Run(Box<run::Run>),
    /// Measure latency and throughput
    Bench(Box<bench::Bench>),
    /// Measure top-1 and top-5 accuracy over labelled pictures
    Accuracy(Box<accuracy::Accuracy>),
    /// Say which ops of a model lose how much in INT8, tensor by tensor
    Compare(Box<compare::Compare>),
    /// Find which op breaks a model in INT8, make a small model that is still broken, list formats and precision
    Debug(debug::Debug),
    /// Convert pictures and arrays, and say what files of them hold
    Data(data::Data),
    /// Run passes over a model or a module in text form
    Opt(Box<opt::Opt>),
    /// Show what a model or .so is, without executing it
    Inspect(Box<inspect::Inspect>),
    /// Show what this machine offers and what qc would choose
    Doctor(doctor::Doctor),
    /// Print the completion script of a shell
    Completions(completions::Completions),
    /// Write manual pages to a folder
    Man(man::Man),
    /// Run random models on every instruction tier and compare with the interpreter
    Fuzz(fuzz::Fuzz),
}

impl Command {
    /// Numbers among the inputs of a run are constants of the model, as those of a compilation are.
    pub fn bind_numbers(&mut self) {
        let (input, options) = match self {
            Command::Run(c) => (&mut c.input, &mut c.options),
            Command::Bench(c) => (&mut c.input, &mut c.options),
            _ => return,
        };
        run::InputArg::into_constants(input, options);
    }

    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        match self {
            Command::Compile(c) => c.paths(),
            Command::Check(c) => c.paths(),
            Command::Calibrate(c) => c.paths(),
            Command::Quantize(c) => c.paths(),
            Command::Run(c) => c.paths(),
            Command::Bench(c) => c.paths(),
            Command::Accuracy(c) => c.paths(),
            Command::Compare(c) => c.paths(),
            Command::Data(c) => c.paths(),
            Command::Debug(c) => c.paths(),
            Command::Opt(c) => c.paths(),
            Command::Inspect(c) => c.paths(),
            Command::Doctor(c) => c.paths(),
            Command::Completions(_) | Command::Man(_) => Paths::default(),
            Command::Fuzz(c) => c.paths(),
        }
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        match self {
            Command::Compile(c) => c.run(ui),
            Command::Check(c) => c.run(ui),
            Command::Calibrate(c) => c.run(ui),
            Command::Quantize(c) => c.run(ui),
            Command::Run(c) => c.run(ui),
            Command::Bench(c) => c.run(ui),
            Command::Accuracy(c) => c.run(ui),
            Command::Compare(c) => c.run(ui),
            Command::Data(c) => c.run(ui),
            Command::Debug(c) => c.run(ui),
            Command::Opt(c) => c.run(ui),
            Command::Inspect(c) => c.run(ui),
            Command::Doctor(c) => c.run(ui),
            Command::Completions(c) => c.run(ui),
            Command::Man(c) => c.run(ui),
            Command::Fuzz(c) => c.run(ui),
        }
    }
}
