//! `qc completions`: the script that makes a shell complete qc's commands and options.

use crate::Cli;
use crate::failure::Outcome;
use crate::ui::Ui;
use clap::{Args, CommandFactory};

/// Print the completion script of a shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc completions bash > ~/.local/share/bash-completion/completions/qc
  qc completions fish > ~/.config/fish/completions/qc.fish")]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Completions {
    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "qc", &mut script);
        ui.out(&String::from_utf8_lossy(&script))
    }
}
