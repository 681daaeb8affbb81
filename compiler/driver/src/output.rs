//! Files that are written: regular ones only, whole or not at all, several of them together or none.
//!
//! A file is written under another name in the same folder and then takes its place, with the permissions that the user's
//! umask leaves. Nothing is written through a link or to a device. A program that is told to end asks [`hold`] for the
//! right to do so, and ends when no file is half way.

use crate::CompileError;
use std::fs::{FileType, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::{Builder, NamedTempFile, TempPath};

/// Held while files take their places.
static WRITING: Mutex<()> = Mutex::new(());

/// Files that are written piece by piece.
static STREAMED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// How names of files that are not ready begin.
const UNREADY: &str = ".qc-";

/// Waits until no file is half way, and keeps others from being begun as long as the guard lives.
pub fn hold() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a file could be written at `path`: before the work that makes its contents.
///
/// # Errors
/// [`CompileError::Output`] for anything but a regular file or a free name, [`CompileError::Io`] for a folder that does
/// not exist or cannot be written to.
pub fn check_output(path: &Path) -> Result<(), CompileError> {
    let _held = hold();
    fits(path)?;
    unready(path).map(drop)
}

/// Writes one file.
///
/// # Errors
/// As [`check_output`], and I/O.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CompileError> {
    write_together(&[(path, bytes)])
}

/// Writes several files, all of them or none.
///
/// # Errors
/// As [`check_output`], and I/O. What was at the paths is then still there.
pub fn write_together(files: &[(&Path, &[u8])]) -> Result<(), CompileError> {
    let _held = hold();
    let mut ready = Vec::new();
    for (path, bytes) in files {
        fits(path)?;
        let mut file = unready(path)?;
        file.write_all(bytes).map_err(io(path))?;
        ready.push((*path, file));
    }
    let mut undo = Vec::new();
    for (path, file) in ready {
        let before = kept(path)?;
        if let Err(e) = file.persist(path) {
            undo.into_iter().rev().for_each(restore);
            return Err(io(path)(e.error));
        }
        undo.push((path, before));
    }
    Ok(())
}

/// Writes one file piece by piece, whole or not at all, as `write` does. A program that is told to end removes what there is.
///
/// # Errors
/// As [`check_output`], and I/O; the outcome of `write` is inside.
pub fn write_streamed<T, E>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<Result<T, E>, CompileError> {
    let mut file = {
        let _held = hold();
        fits(path)?;
        let file = unready(path)?;
        STREAMED.lock().unwrap_or_else(PoisonError::into_inner).push(file.path().to_path_buf());
        file
    };
    let mut buffered = BufWriter::new(file.as_file_mut());
    let done = write(&mut buffered);
    let flushed = buffered.flush();
    drop(buffered);
    let _held = hold();
    STREAMED.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other != file.path());
    let done = match done {
        Ok(done) => done,
        Err(e) => return Ok(Err(e)),
    };
    flushed.map_err(io(path))?;
    file.persist(path).map_err(|e| io(path)(e.error))?;
    Ok(Ok(done))
}

/// Removes files that are written piece by piece and not ready: for a program that ends now.
pub fn discard() {
    for path in STREAMED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = std::fs::remove_file(path);
    }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> CompileError + '_ {
    move |source| CompileError::Io { path: path.into(), source }
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file in the folder of `path` that can take its place.
fn unready(path: &Path) -> Result<NamedTempFile, CompileError> {
    let folder = folder(path);
    // The system takes the umask off.
    let permissions = Permissions::from_mode(0o666);
    Builder::new().prefix(UNREADY).permissions(permissions).tempfile_in(folder).map_err(io(path))
}

/// A second name of what is at `path`, if there is anything.
fn kept(path: &Path) -> Result<Option<TempPath>, CompileError> {
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let folder = folder(path);
    let second = Builder::new().prefix(UNREADY).make_in(folder, |name| std::fs::hard_link(path, name));
    // A file system without hard links gives no way back, which is no reason not to write.
    Ok(second.ok().map(|file| file.into_temp_path()))
}

/// Puts back what was at a path.
fn restore((path, before): (&Path, Option<TempPath>)) {
    let _ = match before {
        Some(before) => before.persist(path).map_err(|e| e.error),
        None => std::fs::remove_file(path),
    };
}

/// Refuses what is not a regular file or a free name.
fn fits(path: &Path) -> Result<(), CompileError> {
    let refuse = |reason: String| Err(CompileError::Output { path: path.into(), reason });
    if path.file_name().is_none() {
        return refuse("this is no name of a file".into());
    }
    let kind = match path.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(path)(e)),
    };
    if kind.is_symlink() {
        let to = std::fs::read_link(path).unwrap_or_else(|_| "elsewhere".into());
        return refuse(format!("this is a link to {}; name the file itself", to.display()));
    }
    match kind.is_file() {
        true => Ok(()),
        false => refuse(format!("this is a {}; results are written to regular files only", name_of(kind))),
    }
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        k if k.is_dir() => "folder",
        k if k.is_fifo() => "pipe",
        k if k.is_socket() => "socket",
        k if k.is_char_device() || k.is_block_device() => "device",
        _ => "special file",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn only_regular_files_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "old").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("gone", at("dangling")).unwrap();
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        for (path, reason) in [
            (at("link"), "this is a link to file; name the file itself"),
            (at("dangling"), "this is a link to gone; name the file itself"),
            (at("pipe"), "this is a pipe; "),
            (dir.path().into(), "this is a folder; "),
            ("/dev/null".into(), "this is a device; "),
            (at(".."), "this is no name of a file"),
        ] {
            for error in [check_output(&path), write_whole(&path, b"new")].map(Result::unwrap_err) {
                assert!(error.to_string().contains(reason), "{error}");
                assert_eq!(error.exit_status(), 4);
            }
        }
        assert_eq!(std::fs::read(at("file")).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["dangling", "file", "link", "pipe"]);
        let error = check_output(&at("none/x")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }

    #[test]
    fn all_files_are_written_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a"), "old").unwrap();
        std::fs::create_dir(at("c")).unwrap();
        let (a, b, c) = (at("a"), at("b"), at("c"));
        assert!(write_together(&[(&a, b"1"), (&b, b"2"), (&c, b"3")]).is_err());
        assert_eq!(
            (std::fs::read(&a).unwrap().as_slice(), names(dir.path())),
            (&b"old"[..], vec!["a".into(), "c".into()])
        );
        write_together(&[(&a, b"1"), (&b, b"2")]).unwrap();
        assert_eq!((std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap()), (b"1".to_vec(), b"2".to_vec()));
        assert_eq!(names(dir.path()), ["a", "b", "c"]);
    }

    #[test]
    fn what_is_streamed_is_there_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let during = |out: &mut dyn Write| {
            out.write_all(b"new").unwrap();
            names(dir.path()).len()
        };
        let ran = write_streamed(&path, |out| Ok::<usize, ()>(during(out)));
        assert_eq!((ran.unwrap(), std::fs::read(&path).unwrap()), (Ok(1), b"new".to_vec()));
        let ran = write_streamed(&path, |out| Err::<(), usize>(during(out)));
        assert_eq!((ran.unwrap(), std::fs::read(&path).unwrap()), (Err(2), b"new".to_vec()));
        assert_eq!(names(dir.path()), ["a"]);
        let left = write_streamed(&path, |_| {
            discard();
            Ok::<_, ()>(names(dir.path()))
        });
        assert!(left.is_err(), "the file was taken away");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn what_was_there_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "old").unwrap();
        let before = kept(&a).unwrap();
        std::fs::remove_file(&a).unwrap();
        std::fs::write(&a, "new").unwrap();
        std::fs::write(&b, "new").unwrap();
        restore((&a, before));
        restore((&b, None));
        assert_eq!(std::fs::read(&a).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a"]);
    }
}
