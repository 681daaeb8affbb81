//! `qc data`: pictures and arrays in the forms that models, calibration and Paddle's tools read.

mod convert;
mod info;

use crate::failure::Outcome;
use crate::paths::Paths;
use crate::ui::Ui;
use clap::{Args, Subcommand};

/// Convert pictures and arrays, and say what files of them hold.
#[derive(Args, Debug)]
pub struct Data {
    #[command(subcommand)]
    what: What,
}

/// What to do.
#[derive(Subcommand, Debug)]
enum What {
    /// Prepare pictures, or read arrays, and write them as .npz or as Paddle's .bin
    Convert(Box<convert::Convert>),
    /// Say what data holds, and refuse what is damaged: every picture is read
    Info(info::Info),
    /// Show the first samples
    Head(info::Head),
}

impl Data {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        match &self.what {
            What::Convert(c) => c.paths(),
            What::Info(c) => c.paths(),
            What::Head(c) => c.paths(),
        }
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        match &self.what {
            What::Convert(c) => c.run(ui),
            What::Info(c) => c.run(ui),
            What::Head(c) => c.run(ui),
        }
    }
}
