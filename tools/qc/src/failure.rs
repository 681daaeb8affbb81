//! Failures of commands: one sentence and an exit status.

use qc_compiler::CompileError;
use qc_runtime::{LoadError, RunError};
use std::path::Path;

/// A check that the user asked for did not hold.
pub const CHECK: u8 = 1;
/// The command line cannot be followed.
pub const USAGE: u8 = 2;
/// The model is invalid or not supported.
pub const MODEL: u8 = 3;
/// A file cannot be read or written.
pub const IO: u8 = 4;
/// Memory or another limit.
pub const LIMIT: u8 = 5;
/// A defect of qc.
pub const INTERNAL: u8 = 70;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: u8,
    /// What the user is told.
    pub text: String,
}

/// The result of a command or a part of one.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with this status.
    pub fn new(status: u8, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into() }
    }

    /// The command line is at fault.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure::new(USAGE, text)
    }

    /// A file could not be used.
    pub fn io(path: &Path, error: &std::io::Error) -> Failure {
        let status = if error.kind() == std::io::ErrorKind::OutOfMemory { LIMIT } else { IO };
        Failure::new(status, format!("{}: {}", path.display(), reason(error)))
    }

    /// A file holds something else than it should.
    pub fn content(path: &Path, reason: impl std::fmt::Display) -> Failure {
        Failure::new(IO, format!("{}: {reason}", path.display()))
    }
}

/// What the system says, without its error number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

impl From<CompileError> for Failure {
    fn from(e: CompileError) -> Failure {
        match &e {
            CompileError::Io { path, source } => Failure::io(path, source),
            CompileError::Run(e) => e.clone().into(),
            _ => Failure::new(e.exit_status(), e.to_string()),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(e: LoadError) -> Failure {
        match &e {
            LoadError::Io { path, source } => Failure::io(path, source),
            _ => Failure::new(MODEL, e.to_string()),
        }
    }
}

impl From<RunError> for Failure {
    fn from(e: RunError) -> Failure {
        use qc_embed::abi::Status;
        let status = match &e {
            RunError::Refused { status: Status::OutOfMemory, .. } => LIMIT,
            RunError::Refused { status: Status::BadModel, .. } => MODEL,
            _ => USAGE,
        };
        Failure::new(status, e.to_string())
    }
}

impl From<qc_runtime::pictures::PictureError> for Failure {
    fn from(e: qc_runtime::pictures::PictureError) -> Failure {
        use qc_runtime::pictures::PictureError;
        match &e {
            PictureError::Io { path, source } => Failure::io(path, source),
            PictureError::Shape { .. } => Failure::usage(e.to_string()),
            _ => Failure::new(IO, e.to_string()),
        }
    }
}
