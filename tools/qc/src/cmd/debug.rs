//! `qc debug`: which op breaks a model in INT8, a small model that is still broken, and what every op computes in.

mod bisect;
mod precision;
mod reduce;

use crate::failure::Outcome;
use crate::paths::Paths;
use crate::ui::Ui;
use clap::{Args, Subcommand};

/// Find out why a model in INT8 is wrong.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc debug bisect model.onnx --ranges ranges.json --data samples.npz --metric snr --least 30
  qc debug bisect qdq.onnx --ref float.onnx --data samples.npz --check 'python3 check.py {outputs}'
  qc debug reduce qdq.onnx --data samples.npz --check 'python3 check.py {model} {input}' -o small/
  qc debug precision model.onnx --ranges ranges.json --data samples.npz --save-all-tensors all.npz")]
pub struct Debug {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Name the first op from which on a model in INT8 is wrong
    Bisect(Box<bisect::Bisect>),
    /// Cut a model to a small part that still fails a check
    Reduce(Box<reduce::Reduce>),
    /// List for every op what it computes in and why, the format of its result, and what that clips and loses
    Precision(Box<precision::Precision>),
}

impl Debug {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        match &self.what {
            What::Bisect(c) => c.paths(),
            What::Reduce(c) => c.paths(),
            What::Precision(c) => c.paths(),
        }
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        match &self.what {
            What::Bisect(c) => c.run(ui),
            What::Reduce(c) => c.run(ui),
            What::Precision(c) => c.run(ui),
        }
    }
}
