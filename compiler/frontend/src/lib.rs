//! Reads ONNX and PaddlePaddle models into the graph dialect.

mod elements;
mod error;
mod files;
mod onnx;
mod paddle;
mod sniff;
mod wire;

pub use error::{ImportError, ImportErrors};
pub use files::{FileError, Files, NoFiles, PathError, check_external_path};
pub use sniff::{Format, sniff};
