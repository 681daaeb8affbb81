//! Diagnostics: what is wrong, where in the user's model, and what to do about it.

use crate::id::LocId;
use crate::module::Module;
use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The user's model or options are at fault.
    Error,
    /// The model goes beyond a limit.
    Limit,
    /// qc is at fault.
    Bug,
}

/// One finding.
#[derive(Clone, Debug)]
pub struct Diag {
    /// How bad it is.
    pub severity: Severity,
    /// Where; `None` when no op is concerned.
    pub loc: Option<LocId>,
    /// One sentence.
    pub message: String,
    /// Further facts.
    pub notes: Vec<String>,
    /// What the user can do.
    pub help: Option<String>,
}

impl Diag {
    /// An error of the user's model.
    pub fn error(message: impl Into<String>) -> Diag {
        Diag { severity: Severity::Error, loc: None, message: message.into(), notes: Vec::new(), help: None }
    }

    /// A violated invariant of qc itself.
    pub fn bug(message: impl Into<String>) -> Diag {
        Diag { severity: Severity::Bug, ..Diag::error(message) }
    }

    /// The model goes beyond a limit.
    pub fn limit(exceeded: &crate::Exceeded) -> Diag {
        Diag { severity: Severity::Limit, ..Diag::error(exceeded.to_string()) }
    }

    /// Adds the place.
    pub fn at(mut self, loc: LocId) -> Diag {
        self.loc = Some(loc);
        self
    }

    /// Adds a fact.
    pub fn note(mut self, note: impl Into<String>) -> Diag {
        self.notes.push(note.into());
        self
    }

    /// Adds the remedy.
    pub fn help(mut self, help: impl Into<String>) -> Diag {
        self.help = Some(help.into());
        self
    }

    /// The text shown to a user; `m` resolves the location.
    pub fn render(&self, m: &Module) -> String {
        let mut text = format!("{self}");
        if let Some(loc) = self.loc {
            for node in m.locs.nodes(loc).iter().take(4) {
                text += &format!("\n  at {}, node \"{}\" ({})", m.name, node.name, node.op_type);
            }
        }
        for note in &self.notes {
            text += &format!("\n  note: {note}");
        }
        if let Some(help) = &self.help {
            text += &format!("\n  help: {help}");
        }
        text
    }
}

impl fmt::Display for Diag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error | Severity::Limit => "error",
            Severity::Bug => "internal error",
        };
        write!(f, "{word}: {}", self.message)
    }
}

impl std::error::Error for Diag {}
