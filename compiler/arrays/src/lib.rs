//! Arrays of NumPy: the bytes of `.npy` and `.npz` files as tensors, and back. Any bytes are safe to read.
//!
//! The formats are those of NumPy's `numpy.lib.format` (versions 1 to 3) and of a zip archive whose members are stored or
//! deflated, as `numpy.savez` and `numpy.savez_compressed` write them.

mod npy;
mod npz;

pub use npz::{Archive, write};

use qc_ir::HostTensor;

/// An array with a name; `.npy` files have none.
pub type Named = (Option<String>, HostTensor);

/// Reads all arrays of a `.npy` or `.npz` file, whichever the bytes are.
///
/// # Errors
/// A sentence: bytes of another kind, damage, or an element type that no model has.
pub fn parse(bytes: &[u8]) -> Result<Vec<Named>, String> {
    if bytes.starts_with(npy::MAGIC) {
        return Ok(vec![(None, npy::read(bytes)?)]);
    }
    if !bytes.starts_with(b"PK") {
        return Err("this is neither a .npy nor a .npz file of NumPy".into());
    }
    let mut archive = Archive::new(bytes)?;
    let mut arrays = Vec::new();
    for name in archive.names() {
        let array = archive.get(&name).map_err(|e| format!("array '{name}': {e}"))?;
        arrays.push((Some(name), array));
    }
    Ok(arrays)
}
