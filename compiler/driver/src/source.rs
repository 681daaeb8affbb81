//! Model files on disk: which files make up a model, and safe reading of what a model refers to.

use crate::CompileError;
use qc_frontend::{Bytes, Constants, FileError, Files, Source};
use qc_ir::{Exceeded, Limits};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A model's files, read into memory.
pub struct ModelFile {
    /// The model file itself.
    pub path: PathBuf,
    model: Bytes,
    params: Option<Bytes>,
    directory: Directory,
    /// What imports decoded so far.
    pub(crate) constants: Constants,
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
        ModelFile::open_within(path, params, &Limits::default())
    }

    /// As [`ModelFile::open`], with the limits `file` and `params` for what is read.
    ///
    /// # Errors
    /// As [`ModelFile::open`], and [`CompileError::Limit`].
    pub fn open_within(path: &Path, params: Option<&Path>, limits: &Limits) -> Result<ModelFile, CompileError> {
        let metadata = std::fs::metadata(path).map_err(io_error(path))?;
        let model_path = if metadata.is_dir() { find_in(path)? } else { path.to_path_buf() };
        let model = read_within(&model_path, limits)?;
        let params_path = params.map(Path::to_path_buf).or_else(|| params_beside(&model_path));
        let params = match &params_path {
            Some(p) => Some(Bytes::from(read_within(p, limits)?)),
            None => None,
        };
        let root = model_path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = Directory::new(root, limits.clone());
        let constants = Constants::default();
        Ok(ModelFile { path: model_path, model: Bytes::from(model), params, directory, constants })
    }

    /// A model from memory, without files beside it.
    pub fn from_bytes(name: &str, model: Vec<u8>, params: Option<Vec<u8>>) -> ModelFile {
        let directory = Directory::new(Path::new("/nonexistent"), Limits::default());
        let constants = Constants::default();
        ModelFile { path: name.into(), model: model.into(), params: params.map(Bytes::from), directory, constants }
    }

    /// What the front end wants.
    pub fn source(&self) -> Source<'_> {
        let name = self.path.file_name().map_or("model".into(), |n| n.to_string_lossy().into_owned());
        Source { name, model: self.model.clone(), params: self.params.clone(), files: &self.directory }
    }

    /// The limit that the files beside the model went beyond, if they did.
    pub(crate) fn exceeded(&self) -> Option<Exceeded> {
        self.directory.state.borrow().exceeded.clone()
    }

    /// Forgets how much was read beside the model: what is read for another batch counts anew.
    pub(crate) fn start_reading(&self) {
        let files = std::mem::take(&mut self.directory.state.borrow_mut().files);
        *self.directory.state.borrow_mut() = State { files, ..State::default() };
    }

    /// The files beside the model that were read so far: its parameters, if they lie in files of their own.
    pub fn files_read(&self) -> Vec<PathBuf> {
        self.directory.state.borrow().files.iter().cloned().collect()
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
    for name in ["__model__", "model", "inference.pdmodel", "model.pdmodel", "inference.json", "model.json"] {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let entries = std::fs::read_dir(dir).map_err(io_error(dir))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "pdmodel" || e == "onnx" || e == "json"))
        .filter(|p| p.extension().is_none_or(|e| e != "json") || p.with_extension("pdiparams").is_file())
        .collect();
    found.sort();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(CompileError::NoModel {
            path: dir.into(),
            reason: "this directory holds no model; expected `__model__`, `model` with `params`, a `.json` with `.pdiparams`, \
                     or one `.pdmodel` or `.onnx`"
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
        "__model__" => vec![model.with_file_name("__params__"), model.with_file_name("params")],
        "model" => vec![model.with_file_name("params"), model.with_file_name("__params__")],
        _ if model.extension().is_some_and(|e| e == "pdmodel" || e == "json") => {
            vec![model.with_extension("pdiparams")]
        }
        _ => vec![],
    };
    candidates.into_iter().find(|p| p.is_file())
}

/// Reads a whole file, if it is a regular one within the limit `file`.
fn read_within(path: &Path, limits: &Limits) -> Result<Vec<u8>, CompileError> {
    let metadata = std::fs::metadata(path).map_err(io_error(path))?;
    if !metadata.is_file() {
        let reason = "this is neither a regular file nor a folder".into();
        return Err(CompileError::NoModel { path: path.into(), reason });
    }
    let refuse = |e| CompileError::limit(path.display(), &e);
    limits.check(qc_ir::Limit::File, metadata.len(), || "the file has".into()).map_err(refuse)?;
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // A file that grows meanwhile is cut off.
    let file = File::open(path).map_err(io_error(path))?;
    file.take(metadata.len()).read_to_end(&mut bytes).map_err(io_error(path))?;
    Ok(bytes)
}

/// Reads files below one directory and nothing else.
struct Directory {
    root: PathBuf,
    limits: Limits,
    state: RefCell<State>,
}

/// What was read so far.
#[derive(Default)]
struct State {
    bytes: u64,
    /// The files that were read.
    files: BTreeSet<PathBuf>,
    exceeded: Option<Exceeded>,
}

impl Directory {
    fn new(root: &Path, limits: Limits) -> Directory {
        Directory { root: root.into(), limits, state: RefCell::default() }
    }

    /// Counts bytes that are about to be read.
    fn count(&self, bytes: u64) -> Result<(), FileError> {
        let mut state = self.state.borrow_mut();
        let total = state.bytes.saturating_add(bytes);
        match self.limits.check(qc_ir::Limit::Params, total, || "the files beside the model have".into()) {
            Ok(()) => {
                state.bytes = total;
                Ok(())
            }
            Err(e) => {
                let text = e.to_string();
                state.exceeded.get_or_insert(e);
                Err(FileError::Other(text))
            }
        }
    }
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
        // What is opened is what was resolved, whatever happened in between, and is looked at before it is read. Pipes
        // and devices do not block.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let mut file = File::options().read(true).custom_flags(flags).open(&path).map_err(other)?;
        let metadata = file.metadata().map_err(other)?;
        if !metadata.is_file() {
            return Err(FileError::Other("this is no regular file".into()));
        }
        if metadata.nlink() > 1 {
            let text = "the file has other names (hard links), which may lie outside the model's directory; copy it";
            return Err(FileError::Other(text.into()));
        }
        let wanted = len.unwrap_or(metadata.len().saturating_sub(offset));
        let end = offset.saturating_add(wanted);
        if end > metadata.len() {
            return Err(FileError::Short { has: metadata.len(), wants: end });
        }
        self.count(wanted)?;
        self.state.borrow_mut().files.insert(path);
        file.seek(SeekFrom::Start(offset)).map_err(other)?;
        let mut bytes = Vec::with_capacity(wanted as usize);
        file.take(wanted).read_to_end(&mut bytes).map_err(other)?;
        Ok(Cow::Owned(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A directory with `w.bin`, beside it a secret.
    fn prepared() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(model.join("w.bin"), [1, 2, 3, 4]).unwrap();
        std::fs::write(dir.path().join("secret"), [9; 4]).unwrap();
        let files = Directory::new(&model, Limits { params: 6, ..Limits::default() });
        (dir, files)
    }

    fn refusal(files: &Directory, name: &str) -> String {
        files.read(name, 0, None).unwrap_err().to_string()
    }

    #[test]
    fn files_of_the_directory_are_read_within_their_bounds() {
        let (_dir, files) = prepared();
        assert_eq!(&*files.read("w.bin", 1, Some(2)).unwrap(), [2, 3]);
        assert_eq!(&*files.read("./w.bin", 2, None).unwrap(), [3, 4]);
        assert_eq!(files.read("w.bin", 3, Some(2)), Err(FileError::Short { has: 4, wants: 5 }));
        assert_eq!(files.read("w.bin", u64::MAX, Some(2)), Err(FileError::Short { has: 4, wants: u64::MAX }));
        assert_eq!(files.read("w.bin", 0, Some(u64::MAX)), Err(FileError::Short { has: 4, wants: u64::MAX }));
        assert_eq!(files.read("gone.bin", 0, None), Err(FileError::NotFound));
    }

    #[test]
    fn no_path_leads_out_of_the_directory() {
        let (dir, files) = prepared();
        let model = dir.path().join("model");
        std::os::unix::fs::symlink("../secret", model.join("link")).unwrap();
        std::os::unix::fs::symlink("..", model.join("up")).unwrap();
        std::os::unix::fs::symlink("w.bin", model.join("inside")).unwrap();
        for way_out in ["../secret", "link", "up/secret", "/etc/passwd"] {
            assert!(refusal(&files, way_out).contains("outside the model's directory"), "{way_out}");
        }
        assert_eq!(&*files.read("inside", 0, None).unwrap(), [1, 2, 3, 4]);
        std::fs::hard_link(dir.path().join("secret"), model.join("hard")).unwrap();
        assert!(refusal(&files, "hard").contains("hard links"));
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let (dir, files) = prepared();
        let pipe = dir.path().join("model/pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::fs::create_dir(dir.path().join("model/folder")).unwrap();
        for name in ["pipe", "folder"] {
            assert_eq!(refusal(&files, name), "this is no regular file", "{name}");
        }
        for path in [&pipe, Path::new("/dev/zero")] {
            let error = ModelFile::open(path, None).map(drop).unwrap_err();
            assert_eq!(error.exit_status(), 3, "{error}");
        }
    }

    #[test]
    fn reading_one_file_again_and_again_ends_at_the_limit() {
        let (_dir, files) = prepared();
        assert!(files.read("w.bin", 0, None).is_ok());
        assert!(refusal(&files, "w.bin").contains("the limit `params` is 6 bytes"));
        assert!(files.state.borrow().exceeded.is_some());
    }
}
