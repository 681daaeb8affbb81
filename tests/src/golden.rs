//! Models with stored inputs and outputs of other engines. They belong to others, so they are not part of the
//! repository: tests read them where they lie and count a skip where they do not.

use qc_ir::HostTensor;
use std::path::{Path, PathBuf};

/// The folder of models: `QC_SHARED`, or `shared` beside the repository.
pub fn shared() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = std::env::var_os("QC_SHARED").map_or_else(beside, PathBuf::from);
    path.join("models/INDEX.md").is_file().then_some(path)
}

/// The float arrays of an npz file whose names begin with `prefix`, without it, in the file's order; those of 16 bits as
/// f32.
///
/// # Errors
/// I/O, or a file that is no npz.
pub fn arrays(path: &Path, prefix: &str) -> Result<Vec<(String, HostTensor)>, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut npz = qc_arrays::Archive::new(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut out = Vec::new();
    for name in npz.names() {
        let Some(short) = name.strip_prefix(prefix) else { continue };
        match npz.get(&name) {
            Ok(tensor) if tensor.as_f32().is_some() => out.push((short.to_string(), tensor)),
            _ => continue,
        }
    }
    Ok(out)
}

/// One array of an npz file.
///
/// # Errors
/// As [`arrays`], and when there is no such array of floats.
pub fn array(path: &Path, name: &str) -> Result<HostTensor, String> {
    let all = arrays(path, name)?;
    let found = all.into_iter().find(|(rest, _)| rest.is_empty());
    found.map(|(_, t)| t).ok_or_else(|| format!("{} has no float array `{name}`", path.display()))
}

/// One array of 64-bit integers of an npz file.
///
/// # Errors
/// I/O, a file that is no npz, or no such array.
pub fn integers(path: &Path, name: &str) -> Result<Vec<i64>, String> {
    let fail = |e: String| format!("{}: {e}", path.display());
    let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
    let array = qc_arrays::Archive::new(&bytes).and_then(|mut npz| npz.get(name)).map_err(fail)?;
    array.as_i64().map(<[i64]>::to_vec).ok_or_else(|| fail(format!("`{name}` holds no 64-bit integers")))
}
