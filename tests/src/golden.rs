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
    let fail = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut npz = npyz::npz::NpzArchive::open(path).map_err(fail)?;
    let names: Vec<String> = npz.array_names().map(str::to_string).collect();
    let mut out = Vec::new();
    for name in names {
        let Some(short) = name.strip_prefix(prefix) else { continue };
        let array = npz.by_name(&name).map_err(fail)?.ok_or("invariant: the name was listed")?;
        let dims: Vec<usize> = array.shape().iter().map(|&d| d as usize).collect();
        let values = match array.dtype().descr().trim_matches('\'') {
            "<f2" => array.into_vec::<half::f16>().map(|v| v.into_iter().map(half::f16::to_f32).collect()),
            _ => array.into_vec::<f32>(),
        };
        let Ok(values) = values else { continue };
        let tensor = HostTensor::new(dims, qc_ir::Data::F32(values)).ok_or("the array has a wrong size")?;
        out.push((short.to_string(), tensor));
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
    let fail = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut npz = npyz::npz::NpzArchive::open(path).map_err(fail)?;
    let array = npz.by_name(name).map_err(fail)?.ok_or_else(|| format!("{} has no `{name}`", path.display()))?;
    array.into_vec::<i64>().map_err(fail)
}
