//! `qc man`: manual pages, one for qc and one for each command.

use crate::Cli;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;
use clap::{Args, CommandFactory};
use std::path::{Path, PathBuf};

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
        let mut pages = Vec::new();
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let commands = std::iter::once(&command).chain(command.get_subcommands().filter(|c| !c.is_hide_set()));
        for page in commands.cloned().map(clap_mangen::Man::new) {
            let mut text = Vec::new();
            page.render(&mut text).map_err(failed)?;
            pages.push((self.dir.join(page.get_filename()), text));
        }
        let pages: Vec<(&Path, &[u8])> = pages.iter().map(|(path, text)| (path.as_path(), &text[..])).collect();
        qc_compiler::write_together(&pages)?;
        ui.note(&format!("wrote the pages qc.1, qc-compile.1 and so on to {}", self.dir.display()));
        Ok(())
    }
}
