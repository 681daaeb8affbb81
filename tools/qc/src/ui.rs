//! What the user sees: results on stdout, everything else on stderr.

use crate::failure::{Failure, Outcome};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};

/// How much is said, and where results go.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    /// Only results and errors.
    pub quiet: bool,
    /// Complete lists.
    pub verbose: bool,
}

impl Ui {
    /// Prints a result. A reader that has gone away is no failure.
    pub fn out(&self, text: &str) -> Outcome {
        let mut out = stdout().lock();
        let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
        let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes()));
        match written.and_then(|()| out.flush()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::io(Path::new("stdout"), &e)),
            _ => Ok(()),
        }
    }

    /// Says something besides the result.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(stderr().lock(), "{text}");
        }
    }

    /// Says what may be wrong with what was given.
    pub fn warn(&self, text: &str) {
        self.note(&format!("warning: {text}"));
    }

    /// Gives what was asked for, which is said under `-q` too: as JSON where that was asked for, else as text.
    pub fn result(&self, json: &JsonArgs, value: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Outcome {
        Ui { quiet: false, ..*self }.report(json, value, text)
    }

    /// Gives a report: as JSON where that was asked for, else as text.
    pub fn report(&self, json: &JsonArgs, value: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Outcome {
        let Some(to) = &json.json else {
            return if self.quiet { Ok(()) } else { self.out(&text()) };
        };
        let line = serde_json::to_string_pretty(&value()).unwrap_or_default() + "\n";
        if to.as_os_str() == "-" {
            return self.out(&line);
        }
        qc_compiler::write_whole(to, line.as_bytes())?;
        if self.quiet { Ok(()) } else { self.out(&text()) }
    }

    /// A bar over `total` pieces of work; shown only to people.
    pub fn progress(&self, total: usize, what: &'static str) -> ProgressBar {
        let shown = !self.quiet && stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        bar
    }
}

impl JsonArgs {
    /// The file to write to, if it is one.
    pub fn file(&self) -> Option<&PathBuf> {
        self.json.as_ref()
    }
}

/// `--json`, for commands that report.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct JsonArgs {
    /// Report as JSON, on stdout or to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}
