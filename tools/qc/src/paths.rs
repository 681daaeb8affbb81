//! What a command reads and writes, looked at before its work begins.

use crate::failure::{Failure, Outcome};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The paths on a command line. `-`, which stands for a stream, is none.
#[derive(Default)]
pub struct Paths {
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
}

impl Paths {
    /// Adds what is read: files, or folders for all files in them.
    pub fn reads<'a>(mut self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Paths {
        self.reads.extend(paths.into_iter().filter(|path| path.as_os_str() != "-").cloned());
        self
    }

    /// Adds files that are written.
    pub fn writes<'a>(mut self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Paths {
        self.writes.extend(paths.into_iter().filter(|path| path.as_os_str() != "-").cloned());
        self
    }

    /// Refuses to write what is read, to write one file twice, and what cannot be written at all.
    ///
    /// # Errors
    /// A sentence that names the path.
    pub fn check(&self) -> Outcome {
        for (i, path) in self.writes.iter().enumerate() {
            qc_compiler::check_output(path)?;
            if self.writes[..i].contains(path) {
                return Err(Failure::usage(format!("{}: two results would be written here", path.display())));
            }
        }
        let written: Vec<(u64, u64, &PathBuf)> =
            self.writes.iter().filter_map(|path| identity(path).map(|(device, file)| (device, file, path))).collect();
        let is_read = |path: &Path| {
            let id = identity(path)?;
            written.iter().find(|(device, file, _)| (*device, *file) == id).map(|(_, _, path)| *path)
        };
        for path in &self.reads {
            let inside = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
            if let Some(both) = std::iter::once(path.clone()).chain(inside).find_map(|path| is_read(&path)) {
                let text = "this is an input of the same command; write to another file";
                return Err(Failure::usage(format!("{}: {text}", both.display())));
            }
        }
        Ok(())
    }
}

/// Device and number of what is at a path, links followed.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
