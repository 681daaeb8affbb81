//! ONNX `TensorProto` to a host tensor: raw bytes, typed fields, or bytes in another file.

use super::proto::TensorProto;
use crate::elements::{F8, Stored, checked_dims, tensor_from_bytes};
use crate::files::{Files, check_external_path};
use qc_ir::{Data, HostTensor};

/// The element type behind an ONNX type number.
///
/// # Errors
/// The name of a type that has no counterpart.
pub(crate) fn stored_type(data_type: i32) -> Result<Stored, String> {
    Ok(match data_type {
        1 => Stored::F32,
        2 => Stored::U8,
        3 => Stored::I8,
        4 => Stored::U16,
        5 => Stored::I16,
        6 => Stored::I32,
        7 => Stored::I64,
        9 => Stored::Bool,
        10 => Stored::F16,
        11 => Stored::F64,
        16 => Stored::Bf16,
        17 => Stored::F8(F8::E4M3Fn),
        18 => Stored::F8(F8::E4M3FnUz),
        19 => Stored::F8(F8::E5M2),
        20 => Stored::F8(F8::E5M2FnUz),
        other => return Err(format!("element type {} is not supported", type_name(other))),
    })
}

/// The element type of a constant: besides the others, integers of 4 bits, which are of 8 bits in a module.
fn constant_type(data_type: i32) -> Result<Stored, String> {
    match data_type {
        21 => Ok(Stored::U4),
        22 => Ok(Stored::I4),
        other => stored_type(other),
    }
}

/// Least and largest number of an ONNX type of 4-bit or 16-bit integers, which are wider in a module.
pub(crate) fn narrow_bounds(data_type: i32) -> Option<(i32, i32)> {
    match data_type {
        21 => Some((0, 15)),
        22 => Some((-8, 7)),
        4 => Some((0, i32::from(u16::MAX))),
        5 => Some((i32::from(i16::MIN), i32::from(i16::MAX))),
        _ => None,
    }
}

fn type_name(data_type: i32) -> String {
    match data_type {
        0 => "undefined".into(),
        8 => "string".into(),
        12 => "uint32".into(),
        13 => "uint64".into(),
        14 => "complex64".into(),
        15 => "complex128".into(),
        21 => "uint4".into(),
        22 => "int4".into(),
        other => format!("number {other}"),
    }
}

/// Reads a constant.
///
/// # Errors
/// A sentence when the type is not supported, or when shape, fields and bytes do not agree.
pub(crate) fn read(t: &TensorProto, files: &dyn Files) -> Result<HostTensor, String> {
    let stored = constant_type(t.data_type)?;
    if t.data_location == 1 {
        return read_external(t, stored, files);
    }
    if !t.raw_data.is_empty() {
        return tensor_from_bytes(stored, &t.dims, &t.raw_data);
    }
    let (sizes, len) = checked_dims(&t.dims).ok_or_else(|| format!("the shape {:?} is impossible", t.dims))?;
    if matches!(stored, Stored::I4 | Stored::U4) {
        let bytes: Vec<u8> = t.int32_data.iter().map(|&x| x as u8).collect();
        return tensor_from_bytes(stored, &t.dims, &bytes);
    }
    let data = typed_fields(t, stored);
    let has = data.len();
    HostTensor::new(sizes, data)
        .ok_or_else(|| format!("{} ({len} elements) is declared, {has} elements are there", stored.describe(&t.dims)))
}

fn typed_fields(t: &TensorProto, stored: Stored) -> Data {
    let ints = &t.int32_data;
    let halves = |f: fn(u16) -> f32| Data::F32(ints.iter().map(|&x| f(x as u16)).collect());
    match stored {
        Stored::F32 => Data::F32(t.float_data.clone()),
        Stored::F64 => Data::F32(t.double_data.iter().map(|&x| x as f32).collect()),
        Stored::F16 => halves(|x| half::f16::from_bits(x).to_f32()),
        Stored::Bf16 => halves(|x| half::bf16::from_bits(x).to_f32()),
        Stored::I4 | Stored::I8 => Data::I8(ints.iter().map(|&x| x as i8).collect()),
        Stored::U4 | Stored::U8 => Data::U8(ints.iter().map(|&x| x as u8).collect()),
        Stored::I16 | Stored::I32 => Data::I32(ints.clone()),
        Stored::U16 => Data::I32(ints.iter().map(|&x| i32::from(x as u16)).collect()),
        Stored::F8(kind) => Data::F32(ints.iter().map(|&x| kind.value(x as u8)).collect()),
        Stored::I64 => Data::I64(t.int64_data.clone()),
        Stored::Bool => Data::Bool(ints.iter().map(|&x| x != 0).collect()),
    }
}

fn read_external(t: &TensorProto, stored: Stored, files: &dyn Files) -> Result<HostTensor, String> {
    let (mut location, mut offset, mut length) = ("", 0u64, None);
    for entry in &t.external_data {
        let number = || {
            let text = &entry.value;
            text.parse::<u64>().map_err(|_| format!("external data has the {} {text:?}", entry.key))
        };
        match entry.key.as_str() {
            "location" => location = &entry.value,
            "offset" => offset = number()?,
            "length" => length = Some(number()?),
            _ => {}
        }
    }
    check_external_path(location).map_err(|e| format!("external data: {e}"))?;
    let (_, len) = checked_dims(&t.dims).ok_or_else(|| format!("the shape {:?} is impossible", t.dims))?;
    let bytes = stored.bytes_of(len) as u64;
    if length.is_some_and(|l| l != bytes) {
        let says = length.unwrap_or_default();
        return Err(format!("{} are declared, external data says {says} bytes", stored.describe(&t.dims)));
    }
    let data = files.read(location, offset, Some(bytes)).map_err(|e| format!("external file {location:?}: {e}"))?;
    tensor_from_bytes(stored, &t.dims, &data)
}

#[cfg(test)]
mod tests {
    use super::super::proto::StringStringEntryProto;
    use super::*;
    use crate::files::{FileError, NoFiles};
    use std::borrow::Cow;

    fn proto(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { data_type, dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn typed_fields_and_raw_bytes_agree() {
        let typed = TensorProto { float_data: vec![1.5, -2.0], ..proto(1, &[2]) };
        let raw = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
        let raw = TensorProto { raw_data: raw.into(), ..proto(1, &[2]) };
        assert_eq!(read(&typed, &NoFiles), read(&raw, &NoFiles));
        let bytes = TensorProto { int32_data: vec![-1, 127], ..proto(3, &[2]) };
        assert_eq!(read(&bytes, &NoFiles).unwrap().as_i8(), Some(&[-1, 127][..]));
        let halves = TensorProto { int32_data: vec![0x3c00], ..proto(10, &[1, 1]) };
        assert_eq!(read(&halves, &NoFiles).unwrap().as_f32(), Some(&[1.0][..]));
    }

    #[test]
    fn counts_must_match() {
        let short = TensorProto { float_data: vec![1.0], ..proto(1, &[2]) };
        assert!(read(&short, &NoFiles).unwrap_err().contains("1 elements are there"));
        assert!(read(&proto(8, &[1]), &NoFiles).unwrap_err().contains("string"));
        assert!(read(&proto(1, &[0]), &NoFiles).unwrap().is_empty());
    }

    struct One(Vec<u8>);
    impl Files for One {
        fn read(&self, name: &str, offset: u64, len: Option<u64>) -> Result<Cow<'_, [u8]>, FileError> {
            assert_eq!(name, "w.bin");
            let end = len.map_or(self.0.len(), |l| (offset + l) as usize);
            let short = FileError::Short { has: self.0.len() as u64, wants: end as u64 };
            self.0.get(offset as usize..end).map(Cow::Borrowed).ok_or(short)
        }
    }

    #[test]
    fn external_bytes_come_from_the_resolver() {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        let make = |location: &str, length: &str| TensorProto {
            data_location: 1,
            external_data: vec![entry("location", location), entry("offset", "4"), entry("length", length)],
            ..proto(6, &[1])
        };
        let file = One(vec![0, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(read(&make("w.bin", "4"), &file).unwrap().as_i32(), Some(&[7][..]));
        assert!(read(&make("../w.bin", "4"), &file).unwrap_err().contains("leaves"));
        assert!(read(&make("w.bin", "5"), &file).unwrap_err().contains("5 bytes"));
        assert!(read(&make("w.bin", "4"), &One(vec![1])).unwrap_err().contains("8 are needed"));
    }
}
