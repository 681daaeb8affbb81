//! Model files on disk: which files make up a model, and safe reading of what a model refers to.

use crate::CompileError;
use qc_frontend::{Bytes, FileError, Files, Source};
use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A model's files, read into memory.
pub struct ModelFile {
    /// The model file itself.
    pub path: PathBuf,
    model: Bytes,
    params: Option<Bytes>,
    directory: Directory,
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> CompileError + '_ {
    move |source| CompileError::Io { path: path.into(), source }
}

impl ModelFile {
    /// Reads the model at `path`: a file, or a Paddle directory. `params` overrides where combined parameters are.
    ///
    /// # Errors
    /// [`CompileError::Io`], or [`CompileError::NoModel`] for a directory without one.
    pub fn open(path: &Path, params: Option<&Path>) -> Result<ModelFile, CompileError> {
        let metadata = std::fs::metadata(path).map_err(io_error(path))?;
        let model_path = if metadata.is_dir() { find_in(path)? } else { path.to_path_buf() };
        let model = std::fs::read(&model_path).map_err(io_error(&model_path))?;
        let params_path = params.map(Path::to_path_buf).or_else(|| params_beside(&model_path));
        let params = match &params_path {
            Some(p) => Some(Bytes::from(std::fs::read(p).map_err(io_error(p))?)),
            None => None,
        };
        let root = model_path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = Directory { root: root.to_path_buf() };
        Ok(ModelFile { path: model_path, model: Bytes::from(model), params, directory })
    }

    /// A model from memory, without files beside it.
    pub fn from_bytes(name: &str, model: Vec<u8>, params: Option<Vec<u8>>) -> ModelFile {
        let directory = Directory { root: PathBuf::from("/nonexistent") };
        ModelFile { path: name.into(), model: model.into(), params: params.map(Bytes::from), directory }
    }

    /// What the front end wants.
    pub fn source(&self) -> Source<'_> {
        let name = self.path.file_name().map_or("model".into(), |n| n.to_string_lossy().into_owned());
        Source { name, model: self.model.clone(), params: self.params.clone(), files: &self.directory }
    }

    /// Hash of the model file and its combined parameters.
    pub fn sha256(&self) -> [u8; 32] {
        use sha2::Digest;
        let mut hash = sha2::Sha256::new();
        hash.update(&self.model);
        if let Some(params) = &self.params {
            hash.update(params);
        }
        hash.finalize().into()
    }

    /// The name of the model: that of its directory for files whose name says nothing.
    pub fn stem(&self) -> String {
        let stem = self.path.file_stem().map_or("model".into(), |s| s.to_string_lossy().into_owned());
        if !matches!(stem.as_str(), "__model__" | "model" | "inference") {
            return stem;
        }
        let parent = self.path.parent().and_then(Path::file_name);
        parent.map_or(stem, |p| p.to_string_lossy().into_owned())
    }
}

/// The model file in a Paddle directory.
fn find_in(dir: &Path) -> Result<PathBuf, CompileError> {
    for name in ["__model__", "model", "inference.pdmodel", "model.pdmodel"] {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let entries = std::fs::read_dir(dir).map_err(io_error(dir))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "pdmodel" || e == "onnx"))
        .collect();
    found.sort();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(CompileError::NoModel {
            path: dir.into(),
            reason: "this directory holds no model; expected `__model__`, `model` with `params`, or one `.pdmodel` or `.onnx`"
                .into(),
        }),
        several => Err(CompileError::NoModel {
            path: dir.into(),
            reason: format!("this directory holds {} models; name one of them", several.len()),
        }),
    }
}

/// The combined parameters that belong to a model file by name.
fn params_beside(model: &Path) -> Option<PathBuf> {
    let name = model.file_name()?.to_str()?;
    let candidates: Vec<PathBuf> = match name {
        "__model__" => vec![model.with_file_name("__params__")],
        "model" => vec![model.with_file_name("params")],
        _ if model.extension().is_some_and(|e| e == "pdmodel") => vec![model.with_extension("pdiparams")],
        _ => vec![],
    };
    candidates.into_iter().find(|p| p.is_file())
}

/// Reads files below one directory and nothing else.
struct Directory {
    root: PathBuf,
}

impl Files for Directory {
    fn read(&self, name: &str, offset: u64, len: Option<u64>) -> Result<Cow<'_, [u8]>, FileError> {
        let other = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => FileError::NotFound,
            _ => FileError::Other(e.to_string()),
        };
        // Resolving links first, then comparing, refuses every way out of the directory.
        let root = self.root.canonicalize().map_err(other)?;
        let path = root.join(name).canonicalize().map_err(other)?;
        if !path.starts_with(&root) {
            return Err(FileError::Other("the file lies outside the model's directory".into()));
        }
        let metadata = std::fs::metadata(&path).map_err(other)?;
        if !metadata.is_file() {
            return Err(FileError::Other("this is no regular file".into()));
        }
        let wanted = len.unwrap_or(metadata.len().saturating_sub(offset));
        let end = offset.saturating_add(wanted);
        if end > metadata.len() {
            return Err(FileError::Short { has: metadata.len(), wants: end });
        }
        let mut file = File::open(&path).map_err(other)?;
        file.seek(SeekFrom::Start(offset)).map_err(other)?;
        let mut bytes = Vec::new();
        file.take(wanted).read_to_end(&mut bytes).map_err(other)?;
        Ok(Cow::Owned(bytes))
    }
}
