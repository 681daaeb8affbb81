//! `qc man`: manual pages, one for qc and one for each command.

use crate::Cli;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;
use clap::{Args, CommandFactory};
use std::path::PathBuf;

/// Write manual pages to a folder.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  qc man ~/.local/share/man/man1 && man qc-compile")]
pub struct Man {
    /// The folder; made if it does not exist
    dir: PathBuf,
}

impl Man {
    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let failed = |e: std::io::Error| Failure::io(&self.dir, &e);
        std::fs::create_dir_all(&self.dir).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &self.dir).map_err(failed)?;
        ui.note(&format!("wrote the pages qc.1, qc-compile.1 and so on to {}", self.dir.display()));
        Ok(())
    }
}
