//! What a search judges models by: a metric, or a command of the user.

use crate::arrays;
use crate::checker::Checker;
use crate::failure::{Failure, Outcome};
use crate::metric::Metric;
use clap::ValueEnum;
use qc_ir::HostTensor;
use std::path::PathBuf;
use std::str::FromStr;
use tempfile::TempDir;

/// How results are compared, as it is written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A metric of qc's.
    Metric(Metric),
    /// A command for a shell, which prints a number; larger ones are better.
    Command(String),
}

/// What a command begins with.
const COMMAND: &str = "cmd:";

/// Words that stand for files of a command: outputs of the model that is judged, and those that are right.
const WORDS: [&str; 2] = ["{outputs}", "{right}"];

impl FromStr for Measure {
    type Err = String;

    fn from_str(text: &str) -> Result<Measure, String> {
        if let Some(command) = text.strip_prefix(COMMAND) {
            return Ok(Measure::Command(command.into()));
        }
        let known = || {
            let all =
                Metric::value_variants().iter().filter_map(|m| Some(m.to_possible_value()?.get_name().to_string()));
            all.collect::<Vec<_>>().join(", ")
        };
        let found = <Metric as ValueEnum>::from_str(text, false);
        found.map(Measure::Metric).map_err(|_| format!("metrics are {}, and {COMMAND}COMMAND", known()))
    }
}

impl Measure {
    /// In a column.
    pub fn name(&self) -> &str {
        match self {
            Measure::Metric(metric) => metric.name(),
            Measure::Command(_) => "cmd",
        }
    }

    /// What a score is counted in, behind a number.
    pub fn unit(&self) -> String {
        match self {
            Measure::Metric(metric) => format!(" {}", metric.unit()),
            Measure::Command(_) => String::new(),
        }
    }
}

/// A command with the right outputs, in a file of this run.
pub struct Command {
    text: String,
    dir: TempDir,
}

impl Command {
    /// Keeps the right outputs for a command.
    ///
    /// # Errors
    /// I/O, and a command that names no file of outputs.
    pub fn new(text: &str, right: &[(String, HostTensor)]) -> Outcome<Command> {
        Checker::new("--metric", text, &WORDS[..1])?;
        let dir = tempfile::tempdir().map_err(|e| Failure::io(&std::env::temp_dir(), &e))?;
        let command = Command { text: text.into(), dir };
        arrays::write_npz(&command.right(), right)?;
        Ok(command)
    }

    fn right(&self) -> PathBuf {
        self.dir.path().join("right.npz")
    }

    /// The number that it prints for outputs; for the right ones without any.
    ///
    /// # Errors
    /// I/O, and a command that fails or prints no number.
    pub fn score(&self, outputs: Option<&[(String, HostTensor)]>) -> Outcome<f64> {
        let right = self.right();
        let got = match outputs {
            Some(outputs) => {
                let got = self.dir.path().join("outputs.npz");
                arrays::write_npz(&got, outputs)?;
                got
            }
            None => right.clone(),
        };
        Checker::new("--metric", &self.text, &WORDS[..1])?.number(&[(WORDS[0], &got), (WORDS[1], &right)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_prints_its_number_last() {
        let right = [("y".to_string(), HostTensor::f32([2], vec![1.0, 2.0]))];
        let score = |text: &str| Command::new(text, &right).and_then(|command| command.score(Some(&right)));
        assert_eq!(score("cmp {outputs} {right} && echo words && echo ' 1.5 ' && echo").unwrap(), 1.5);
        for (text, why) in [
            ("echo {outputs}", "prints no number"),
            ("echo 1e999 {outputs}; echo nan", "prints no number"),
            ("echo 3; test -z {outputs}", "ended with status 1"),
            ("no-such-command {outputs}", "the shell cannot run"),
            ("echo 1", "has to name {outputs}"),
        ] {
            let said = format!("{:?}", score(text).unwrap_err());
            assert!(said.contains(why) && said.contains("--metric"), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_no_metric_says_which_there_are() {
        assert_eq!("ctc".parse(), Ok(Measure::Metric(Metric::Ctc)));
        assert_eq!("cmd:a b".parse(), Ok(Measure::Command("a b".into())));
        let text = "metrics are cosine, top1, snr, f1, ctc, and cmd:COMMAND";
        assert_eq!("psnr".parse::<Measure>(), Err(text.into()));
    }
}
