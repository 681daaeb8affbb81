//! What can go wrong in a compilation, and the exit status that belongs to it.

use qc_codegen::CodegenError;
use qc_frontend::ImportErrors;
use qc_ir::{Diag, Module, Severity};
use qc_runtime::{LoadError, RunError};
use std::path::PathBuf;

/// Why a model could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A path where nothing may be written.
    #[error("{path}: {reason}")]
    Output {
        /// The path.
        path: PathBuf,
        /// What is there.
        reason: String,
    },
    /// A path that holds no model.
    #[error("{path}: {reason}")]
    NoModel {
        /// The path.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// The model is broken or has nodes that are not supported; all of them are listed.
    #[error("{file}: {errors}")]
    Import {
        /// The model file.
        file: String,
        /// Everything that is wrong.
        errors: ImportErrors,
    },
    /// A pass refused the model.
    #[error("{text}")]
    Model {
        /// Sentence, place and remedy.
        text: String,
    },
    /// The model goes beyond a limit.
    #[error("{text}")]
    Limit {
        /// The model, the limit, the value and the option that raises it.
        text: String,
    },
    /// An option that does not fit.
    #[error("{0}")]
    Option(String),
    /// A ranges file that cannot be used.
    #[error("{path}: {reason}")]
    Ranges {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A defect of qc.
    #[error("internal error: {text}")]
    Bug {
        /// What happened.
        text: String,
    },
    /// The compiled model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A context could not be made, or not go on with another shape.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl CompileError {
    /// The exit status for scripts: 2 usage, 3 model, 4 I/O, 5 limit, 70 internal error.
    pub fn exit_status(&self) -> u8 {
        match self {
            CompileError::Option(_) => 2,
            CompileError::NoModel { .. }
            | CompileError::Import { .. }
            | CompileError::Model { .. }
            | CompileError::Ranges { .. }
            | CompileError::Load(_)
            | CompileError::Run(_) => 3,
            CompileError::Io { .. } | CompileError::Output { .. } => 4,
            CompileError::Limit { .. } => 5,
            CompileError::Bug { .. } => 70,
        }
    }

    /// A model that goes beyond a limit.
    pub fn limit(model: impl std::fmt::Display, exceeded: &qc_ir::Exceeded) -> CompileError {
        CompileError::Limit { text: format!("{model}: {exceeded}") }
    }

    /// A diagnostic as an error, with its place in `m`.
    pub fn from_diag(diag: &Diag, m: &Module) -> CompileError {
        match diag.severity {
            Severity::Error => CompileError::Model { text: diag.render(m).trim_start_matches("error: ").to_string() },
            Severity::Limit => CompileError::Limit { text: format!("{}: {}", m.name, diag.message) },
            Severity::Bug => {
                CompileError::Bug { text: diag.render(m).trim_start_matches("internal error: ").to_string() }
            }
        }
    }
}

impl From<CodegenError> for CompileError {
    fn from(e: CodegenError) -> CompileError {
        match e {
            CodegenError::Port { .. } => CompileError::Model { text: e.to_string() },
            CodegenError::Target { .. } => CompileError::Option(e.to_string()),
            CodegenError::Limit(_) => CompileError::Limit { text: e.to_string() },
            _ => CompileError::Bug { text: e.to_string() },
        }
    }
}
