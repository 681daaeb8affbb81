//! Writes a shared object and its header, whole or not at all.

use crate::output::{check_output, write_together};
use crate::{CompileError, Compiled};
use std::io::Read;
use std::path::{Path, PathBuf};

/// How the name of a shared object ends.
const SUFFIX: &str = "so";

/// Whether a shared object could be written at `out` and its header beside it; returns the header's path.
///
/// # Errors
/// A name that does not end in `.so`, a header there that qc did not write, and as [`check_output`].
pub fn check_artefact(out: &Path) -> Result<PathBuf, CompileError> {
    let refuse = |path: &Path, reason: String| Err(CompileError::Output { path: path.into(), reason });
    if out.extension().is_none_or(|extension| extension != SUFFIX) {
        let instead = out.with_extension(SUFFIX);
        let text = format!(
            "what is compiled is a shared object, whose name must end in .so; write {}, or an .onnx file by `qc quantize`",
            instead.display()
        );
        return Err(CompileError::Option(format!("{}: {text}", out.display())));
    }
    let header = out.with_extension("h");
    check_output(out)?;
    check_output(&header)?;
    match is_foreign(&header) {
        true => {
            refuse(&header, "this header is not qc's and would be overwritten; move it, or choose another name".into())
        }
        false => Ok(header),
    }
}

/// Whether there is a file at `path` that does not begin as a header of qc.
fn is_foreign(path: &Path) -> bool {
    let Ok(file) = std::fs::File::open(path) else { return path.exists() };
    let mut head = Vec::new();
    let read = file.take(qc_codegen::header::FIRST_LINE.len() as u64).read_to_end(&mut head);
    read.is_err() || head != qc_codegen::header::FIRST_LINE.as_bytes()
}

/// Writes `out` and the header beside it; returns the header's path.
///
/// # Errors
/// As [`check_artefact`], and I/O; then neither file is changed.
pub fn write_artefact(compiled: &Compiled, out: &Path) -> Result<PathBuf, CompileError> {
    let header = check_artefact(out)?;
    let soname = out.file_name().map_or("model.so".into(), |n| n.to_string_lossy().into_owned());
    let bytes = compiled.shared_object(&soname)?;
    write_together(&[(out, &bytes), (&header, compiled.c_header().as_bytes())])?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_of_others_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (so, header) = (dir.path().join("m.so"), dir.path().join("m.h"));
        assert_eq!(check_artefact(&so).unwrap(), header);
        for foreign in ["", "#pragma once\n", "/*"] {
            std::fs::write(&header, foreign).unwrap();
            let text = check_artefact(&so).unwrap_err().to_string();
            assert!(text.contains("m.h: this header is not qc's"), "{text}");
        }
        std::fs::write(&header, format!("{}more", qc_codegen::header::FIRST_LINE)).unwrap();
        assert_eq!(check_artefact(&so).unwrap(), header);
    }

    #[test]
    fn names_say_what_is_written() {
        for name in ["a.onnx", "a", "a.so.1"] {
            let error = check_artefact(Path::new(name)).unwrap_err();
            assert_eq!(error.exit_status(), 2, "{error}");
        }
    }
}
