//! Writes a shared object and its header, whole or not at all.

use crate::{CompileError, Compiled};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes `out` and the header beside it; returns the header's path.
///
/// # Errors
/// I/O; neither file is left half written.
pub fn write_artefact(compiled: &Compiled, out: &Path) -> Result<PathBuf, CompileError> {
    let soname = out.file_name().map_or("model.so".into(), |n| n.to_string_lossy().into_owned());
    let bytes = compiled.shared_object(&soname)?;
    let header = out.with_extension("h");
    write_whole(out, &bytes)?;
    write_whole(&header, compiled.c_header().as_bytes())?;
    Ok(header)
}

/// Writes a file through a temporary one in the same directory.
///
/// # Errors
/// I/O.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CompileError> {
    let fail = |source: std::io::Error| CompileError::Io { path: path.into(), source };
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".qc-").tempfile_in(dir).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}
