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
    /// The option that gave it, for errors.
    option: &'static str,
    text: &'a str,
}

impl Checker<'_> {
    /// The command `text` of an option, for a shell; it has to name one of `words`, which stand for files.
    ///
    /// # Errors
    /// A command that names none of them.
    pub fn new<'a>(option: &'static str, text: &'a str, words: &[&str]) -> Outcome<Checker<'a>> {
        match words.iter().any(|word| text.contains(word)) {
            true => Ok(Checker { option, text }),
            false => {
                let text = format!("{option} '{text}': the command has to name {}", words.join(" or "));
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
        Ok(match self.done(files)?.0 {
            0 => Verdict::Right,
            UNTESTED => Verdict::Untested,
            status => Verdict::Wrong(status),
        })
    }

    /// Runs it for the number in the last line that it prints.
    ///
    /// # Errors
    /// As [`Checker::run`]; a command that fails, or prints no number.
    pub fn number(&self, files: &[(&str, &Path)]) -> Outcome<f64> {
        let (status, printed) = self.done(files)?;
        if status != 0 {
            return Err(self.failure(format!("`{}` ended with status {status}", self.line(files))));
        }
        let last = printed.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let number = last.parse().ok().filter(|x: &f64| x.is_finite());
        number
            .ok_or_else(|| self.failure(format!("`{}` prints no number in its last line: '{last}'", self.line(files))))
    }

    /// The status with which the command ends, and what it prints.
    fn done(&self, files: &[(&str, &Path)]) -> Outcome<(i32, String)> {
        let line = self.line(files);
        let mut command = Command::new("sh");
        command.args(["-c", &line]).stdin(Stdio::null()).stderr(Stdio::null());
        let done = command.output().map_err(|e| self.failure(format!("`sh` cannot be run: {e}")))?;
        match done.status.code() {
            Some(status @ (126 | 127)) => Err(self.failure(format!("the shell cannot run `{line}` (status {status})"))),
            Some(status) => Ok((status, String::from_utf8_lossy(&done.stdout).into_owned())),
            None => Err(self.failure(format!("a signal ended `{line}`"))),
        }
    }

    fn failure(&self, text: String) -> Failure {
        Failure::new(USAGE, format!("{}: {text}", self.option))
    }
}
