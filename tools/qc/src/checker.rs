//! Commands of the user that say whether something is right.

use crate::failure::{Failure, Outcome, USAGE};
use std::path::Path;
use std::process::{Command, Stdio};

/// The exit status with which a command says that it cannot tell, as `git bisect run` has it.
const UNTESTED: i32 = 125;

/// What a command says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Status 0.
    Right,
    /// Another status.
    Wrong(i32),
    /// Status 125: what it was given is no case for it.
    Untested,
}

/// A command with words that stand for files.
pub struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    /// The command `text`, for a shell; it has to name one of `words`, which stand for files.
    ///
    /// # Errors
    /// A command that names none of them.
    pub fn new<'a>(text: &'a str, words: &[&str]) -> Outcome<Checker<'a>> {
        match words.iter().any(|word| text.contains(word)) {
            true => Ok(Checker { text }),
            false => {
                let text = format!("--check '{text}': the command has to name {}", words.join(" or "));
                Err(Failure::new(USAGE, text))
            }
        }
    }

    /// The command with files in the place of words.
    pub fn line(&self, files: &[(&str, &Path)]) -> String {
        let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        files.iter().fold(self.text.to_string(), |line, (word, path)| line.replace(word, &quoted(path)))
    }

    /// Runs it.
    ///
    /// # Errors
    /// A command that cannot be run, or that a signal ended.
    pub fn run(&self, files: &[(&str, &Path)]) -> Outcome<Verdict> {
        let line = self.line(files);
        let mut command = Command::new("sh");
        command.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let done = command.status().map_err(|e| Failure::new(USAGE, format!("--check: `sh` cannot be run: {e}")))?;
        match done.code() {
            Some(0) => Ok(Verdict::Right),
            Some(UNTESTED) => Ok(Verdict::Untested),
            Some(status @ (126 | 127)) => {
                Err(Failure::new(USAGE, format!("--check: the shell cannot run `{line}` (status {status})")))
            }
            Some(status) => Ok(Verdict::Wrong(status)),
            None => Err(Failure::new(USAGE, format!("--check: a signal ended `{line}`"))),
        }
    }
}
