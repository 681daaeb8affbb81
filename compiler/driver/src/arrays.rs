//! Arrays of NumPy: the bytes of `.npy` and `.npz` files as tensors. Any bytes are safe to read.

use npyz::npz::NpzArchive;
use npyz::{DType, NpyFile, Order, TypeChar};
use qc_ir::{Data, HostTensor};
use std::io::{Cursor, Read};

/// An array with a name; `.npy` files have none.
pub type Named = (Option<String>, HostTensor);

/// The longest header of a `.npy` file that is read; NumPy's own are of a few hundred bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;
/// How many brackets a header may open; that of an array of numbers opens two. The parser tries every way to close them,
/// which takes a time that doubles with each.
const MAX_HEADER_BRACKETS: usize = 6;

/// Reads all arrays of a `.npy` or `.npz` file, whichever the bytes are.
///
/// # Errors
/// A sentence: bytes of another kind, damage, or an element type that no model has.
pub fn parse(bytes: &[u8]) -> Result<Vec<Named>, String> {
    if bytes.starts_with(MAGIC) {
        return Ok(vec![(None, array(bytes)?)]);
    }
    if !bytes.starts_with(b"PK") {
        return Err("this is neither a .npy nor a .npz file of NumPy".into());
    }
    let damaged = |e: std::io::Error| format!("the .npz file is damaged: {e}");
    let mut archive = NpzArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let names: Vec<String> = archive.array_names().map(str::to_string).collect();
    let mut arrays = Vec::new();
    for name in names {
        let file = npyz::npz::file_name_from_array_name(&name);
        let mut member = Vec::new();
        let entry = archive.zip_archive().by_name(&file).map_err(|e| damaged(std::io::Error::other(e)))?;
        // What unpacks to more than it says is cut off, and then too short for its shape or of a wrong checksum.
        let size = entry.size();
        entry.take(size).read_to_end(&mut member).map_err(damaged)?;
        arrays.push((Some(name.clone()), array(&member).map_err(|e| format!("array '{name}': {e}"))?));
    }
    Ok(arrays)
}

/// The first bytes of a `.npy` file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Where the data of a `.npy` file begins, if its header is there, and one that a parser can be given.
fn check_header(bytes: &[u8]) -> Result<usize, String> {
    let cut = || "damaged: its header is cut off".to_string();
    let byte = |at: usize| bytes.get(at).copied().map(usize::from).ok_or_else(cut);
    let (start, len) = match byte(6)? {
        1 => (10, byte(8)? | byte(9)? << 8),
        _ => (12, byte(8)? | byte(9)? << 8 | byte(10)? << 16 | byte(11)? << 24),
    };
    if len > MAX_HEADER_BYTES {
        return Err(format!("damaged: its header has {len} bytes"));
    }
    let header = bytes.get(start..start + len).ok_or_else(cut)?;
    if header.iter().filter(|byte| b"([{".contains(byte)).count() > MAX_HEADER_BRACKETS {
        return Err("a structured array, which is not supported, or damaged: its header has too many brackets".into());
    }
    // The reader multiplies dims without looking.
    match header.split(|b| *b == b'(').skip(1).all(|group| possible(group, bytes.len())) {
        true => Ok(start + len),
        false => Err("damaged: the file is shorter than its shape says".into()),
    }
}

/// Whether the numbers of a tuple have a product that is no more than `most`, zeros left out.
fn possible(group: &[u8], most: usize) -> bool {
    let tuple = group.split(|b| *b == b')').next().unwrap_or_default();
    let numbers = tuple.split(|b| !b.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let mut values = numbers.map(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
    values.try_fold(1usize, |a, n| a.checked_mul(n?.max(1))).is_some_and(|product| product <= most)
}

/// Parses the bytes of a `.npy` file. f64 is rounded to f32, NumPy's default not being any model's.
fn array(bytes: &[u8]) -> Result<HostTensor, String> {
    let data = bytes.len() - check_header(bytes)?;
    let file = NpyFile::new(bytes).map_err(|e| format!("damaged: {e}"))?;
    let dims: Option<Vec<usize>> = file.shape().iter().map(|&d| usize::try_from(d).ok()).collect();
    let DType::Plain(ty) = file.dtype() else { return Err("structured arrays are not supported".into()) };
    let len = dims.as_ref().and_then(|d| d.iter().try_fold(1usize, |a, &d| a.checked_mul(d)));
    let (Some(dims), Some(len)) = (dims, len) else { return Err("damaged: its shape is impossible".into()) };
    let size = ty.num_bytes().unwrap_or(0).max(1);
    if len.checked_mul(size).is_none_or(|n| n > data) {
        return Err(format!("damaged: shorter than its shape {dims:?} says"));
    }
    let fortran = file.order() == Order::Fortran && dims.len() > 1;
    let failed = |e: std::io::Error| format!("damaged: {e}");
    let data = match (ty.type_char(), ty.size_field()) {
        (TypeChar::Float, 4) => Data::F32(file.into_vec().map_err(failed)?),
        (TypeChar::Float, 8) => {
            Data::F32(file.into_vec::<f64>().map_err(failed)?.into_iter().map(|x| x as f32).collect())
        }
        (TypeChar::Uint, 1) => Data::U8(file.into_vec().map_err(failed)?),
        (TypeChar::Int, 1) => Data::I8(file.into_vec().map_err(failed)?),
        (TypeChar::Int, 4) => Data::I32(file.into_vec().map_err(failed)?),
        (TypeChar::Int, 8) => Data::I64(file.into_vec().map_err(failed)?),
        (TypeChar::Bool, 1) => Data::Bool(file.into_vec().map_err(failed)?),
        _ => return Err(format!("element type {ty} is not supported; use float32, uint8, int8, int32 or int64")),
    };
    let tensor = match fortran {
        true => HostTensor::new(dims.iter().rev().copied().collect::<Vec<_>>(), data).map(|t| transposed(&t)),
        false => HostTensor::new(dims, data),
    };
    tensor.ok_or_else(|| "damaged: its data does not match its shape".into())
}

/// The same array with the order of its axes reversed.
fn transposed(t: &HostTensor) -> HostTensor {
    let dims: Vec<usize> = t.dims().iter().rev().copied().collect();
    let stored = qc_ir::strides(t.dims());
    let place = |at: Vec<usize>| -> usize { at.iter().rev().zip(&stored).map(|(i, s)| i * s).sum() };
    let order: Vec<usize> = qc_ir::indices(&dims).map(place).collect();
    macro_rules! pick {
        ($($variant:ident),*) => {
            match t.data() { $(Data::$variant(v) => Data::$variant(order.iter().map(|&i| v[i]).collect())),* }
        };
    }
    let data = pick!(F32, I8, U8, I32, I64, Bool);
    HostTensor::new(dims, data).unwrap_or_else(|| t.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn npy(header: &str, data: usize) -> Vec<u8> {
        let line = format!("{header}\n");
        [MAGIC, b"\x01\x00", &(line.len() as u16).to_le_bytes()[..], line.as_bytes(), &vec![0; data]].concat()
    }

    fn refusal(header: &str) -> String {
        parse(&npy(header, 16)).unwrap_err()
    }

    #[test]
    fn shapes_are_compared_with_the_file_before_anything_is_made() {
        let good = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", 16);
        assert_eq!(parse(&good).unwrap()[0].1.dims(), [2, 2]);
        let shape = |dims: &str| refusal(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}"));
        for dims in ["5000, 2", "4294967296, 4294967296, 4", "99999999999999999999, 1", "0, 9223372036854775807, 3"] {
            assert!(shape(dims).contains("shorter than its shape"), "{dims}: {}", shape(dims));
        }
        assert!(shape("2, 3").contains("shorter than its shape"), "{}", shape("2, 3"));
    }

    #[test]
    fn headers_are_bounded() {
        assert!(refusal(&"(".repeat(5000)).contains("too many brackets"));
        let half_open = format!("{{'descr': '<f4', {}", "{'shape': (1, ".repeat(60));
        assert!(refusal(&half_open).contains("too many brackets"));
        assert!(parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").unwrap_err().contains("4294967295 bytes"));
        assert!(parse(b"\x93NUMPY").unwrap_err().contains("cut off"));
        assert!(parse(b"PK\x03\x04").is_err() && parse(b"").is_err());
    }
}
