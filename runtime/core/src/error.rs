//! Errors of loading and running, each a sentence that names the remedy.

use crate::Elem;
use qc_embed::abi::Status;
use std::path::PathBuf;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{} is not a compiled model: {reason}", path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// How that is known.
        reason: String,
    },
    /// The file was made by us but is not as it was written.
    #[error("{} is damaged: {reason}; copy or compile it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file has another format.
    #[error("{} has format {found}, this version of qc reads format {known}; compile the model again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The CPU lacks what the model needs.
    #[error("{} needs {needed}, this CPU offers {found}; compile it with --target-cpu {found}, or fat for all", path.display())]
    TierMismatch {
        /// The file.
        path: PathBuf,
        /// The lowest tier in the file.
        needed: String,
        /// The tier of this CPU.
        found: String,
    },
    /// The system's loader refused the file.
    #[error("{} cannot be loaded by the system: {reason}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// A different file was loaded under the same path and is still in use.
    #[error("{} was replaced while an earlier build of it is in use; drop that first, or load a path of its own", path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// The tables of a model are not those of this version.
    #[error("the model's tables cannot be used: {reason}")]
    Tables {
        /// What is wrong.
        reason: String,
    },
}

/// Why a model cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is no tensor of this name or index.
    #[error("the model has no {kind} {wanted}; it has {known}")]
    UnknownTensor {
        /// `input` or `output`.
        kind: &'static str,
        /// What was asked for.
        wanted: String,
        /// The names that exist.
        known: String,
    },
    /// The element type differs.
    #[error("{kind} '{name}' is {expected}, not {got}")]
    ElemMismatch {
        /// `input` or `output`.
        kind: &'static str,
        /// The tensor.
        name: String,
        /// Its type.
        expected: Elem,
        /// The type given.
        got: Elem,
    },
    /// The number of elements fits no batch.
    #[error("{kind} '{name}' is {expected}; {got} elements do not make it up")]
    ShapeMismatch {
        /// `input` or `output`.
        kind: &'static str,
        /// The tensor.
        name: String,
        /// Its shape with `n` for the batch, and the elements of one item.
        expected: String,
        /// The number of elements given.
        got: usize,
    },
    /// The shape of an input is not the same in all shapes of the model, and was not stated.
    #[error("input '{name}' is {shapes}; say which with input_shaped")]
    Unstated {
        /// The tensor.
        name: String,
        /// Its element type and shapes.
        shapes: String,
    },
    /// A context is to run a model of another interface, or one from a file.
    #[error("the context cannot go on with model '{name}': {reason}")]
    OtherModel {
        /// The model.
        name: String,
        /// What differs.
        reason: String,
    },
    /// An input has no data, or its data was only lent to an earlier call.
    #[error("{kind} '{name}' is not bound; give it data before running")]
    Unbound {
        /// `input` or `output`.
        kind: &'static str,
        /// The tensor.
        name: String,
    },
    /// An output is read before there is a result for the bound batch.
    #[error("output '{name}' has no result yet; run the model first")]
    NoResult {
        /// The tensor.
        name: String,
    },
    /// The executor refused; the text is its own.
    #[error("{text}")]
    Refused {
        /// The reason as a value.
        status: Status,
        /// The reason as a sentence.
        text: String,
    },
}
