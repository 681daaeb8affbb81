//! The files beside a model, as the driver hands them over. Nothing in this crate opens a file.

use std::borrow::Cow;
use thiserror::Error;

/// Reads files that a model names. The implementor keeps every read inside the model's own directory.
pub trait Files {
    /// `len` bytes at `offset` of the file `name`; without `len`, everything from `offset` on.
    ///
    /// `name` has passed [`check_external_path`]: it is relative, without `..`, and uses `/`.
    ///
    /// # Errors
    /// [`FileError`] when there is no such file, or when it cannot be read.
    fn read(&self, name: &str, offset: u64, len: Option<u64>) -> Result<Cow<'_, [u8]>, FileError>;
}

/// Why a file could not be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FileError {
    /// There is no such file.
    #[error("the file does not exist")]
    NotFound,
    /// The file ends before the bytes asked for.
    #[error("the file has {has} bytes, {wants} are needed")]
    Short {
        /// Size of the file in bytes.
        has: u64,
        /// Bytes needed from its start.
        wants: u64,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// No files: for models that hold everything in themselves.
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str, _: u64, _: Option<u64>) -> Result<Cow<'_, [u8]>, FileError> {
        Err(FileError::NotFound)
    }
}

/// Why a path inside a model is refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("the path {path:?} {reason}")]
pub struct PathError {
    /// The path.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Accepts a path written in a model only if it names something below the model's directory.
///
/// The check is on the text alone; symbolic links are the concern of whoever opens the file.
///
/// # Errors
/// [`PathError`] for an empty or absolute path, one with a `..` or empty component, a backslash, a colon in its first
/// component (a drive or a scheme) or a control character.
pub fn check_external_path(path: &str) -> Result<(), PathError> {
    let refuse = |reason| Err(PathError { path: path.into(), reason });
    if path.is_empty() {
        return refuse("is empty");
    }
    if path.starts_with('/') {
        return refuse("is absolute");
    }
    if path.contains('\\') {
        return refuse("has a backslash");
    }
    if path.chars().any(char::is_control) {
        return refuse("has a control character");
    }
    if path.split('/').next().is_some_and(|first| first.contains(':')) {
        return refuse("names a drive or a scheme");
    }
    if path.split('/').any(|part| part == "..") {
        return refuse("leaves the model's directory");
    }
    if path.split('/').any(str::is_empty) {
        return refuse("has an empty component");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_model_pass() {
        for good in ["w.bin", "a/b.bin", "conv1_w.w_0", "x@scale", "./w", "a/..b", "..."] {
            assert_eq!(check_external_path(good), Ok(()), "{good}");
        }
        for bad in ["", "/etc/passwd", "../w", "a/../../w", "a/..", "..", "c:w", "a\\b", "a\0b", "a//b", "a/", "file:w"]
        {
            assert!(check_external_path(bad).is_err(), "{bad}");
        }
    }
}
