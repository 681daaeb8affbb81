//! Paddle's parameter files: one tensor stream per file, or all streams in one file in the order of the sorted names.
//!
//! A stream is `u32 version = 0`, `u64 levels` with their offsets, `u32 version = 0`, `i32` size of a `TensorDesc`, the
//! `TensorDesc`, and the elements, little endian, without padding.

use super::program::{TENSOR_DESC, TensorDesc};
use crate::elements::{Stored, checked_dims, tensor_from_bytes};
use crate::error::ImportError;
use crate::files::{Files, check_external_path};
use crate::wire;
use prost::Message;
use qc_ir::HostTensor;
use std::collections::BTreeMap;

/// A parameter that the program declares.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Declared {
    /// Variable name.
    pub name: String,
    /// Element type, as a Paddle type number.
    pub data_type: i32,
    /// Dims; authoritative only when all are positive.
    pub dims: Vec<i64>,
}

/// The tensors by name.
pub(crate) type Params = BTreeMap<String, HostTensor>;

/// The element type behind a Paddle type number.
///
/// # Errors
/// The number of a type that has no counterpart.
pub(crate) fn stored_type(data_type: i32) -> Result<Stored, String> {
    Ok(match data_type {
        0 => Stored::Bool,
        1 => Stored::I16,
        2 => Stored::I32,
        3 => Stored::I64,
        4 => Stored::F16,
        5 => Stored::F32,
        6 => Stored::F64,
        20 => Stored::U8,
        21 => Stored::I8,
        22 => Stored::Bf16,
        other => return Err(format!("element type number {other} is not supported")),
    })
}

impl Declared {
    fn describe(&self) -> String {
        match stored_type(self.data_type) {
            Ok(stored) => stored.describe(&self.dims),
            Err(_) => format!("{:?}", self.dims),
        }
    }

    fn error(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Parameter { name: self.name.clone(), expected: self.describe(), reason: reason.into() }
    }

    fn check(&self, desc: &TensorDesc) -> Result<(), ImportError> {
        let known = self.dims.iter().all(|&d| d > 0);
        // Writers differ in dims of 1: a number is [] or [1], a row of scales [16] or [1, 16].
        let real = |dims: &[i64]| dims.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
        if known && real(&self.dims) != real(&desc.dims) {
            return Err(self.error(format!("the stored tensor has the shape {:?}", desc.dims)));
        }
        Ok(())
    }
}

/// One tensor stream, not yet decoded.
struct Stream<'a> {
    desc: TensorDesc,
    stored: Stored,
    data: &'a [u8],
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], String> {
        let left = self.bytes.len() - self.at;
        if len > left as u64 {
            return Err(format!("byte {}: {len} bytes of {what} are needed, {left} are left", self.at));
        }
        let slice = &self.bytes[self.at..self.at + len as usize];
        self.at += slice.len();
        Ok(slice)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let slice = self.take(N as u64, what)?;
        slice.try_into().map_err(|_| format!("{what} is cut off"))
    }

    fn version(&mut self) -> Result<(), String> {
        let at = self.at;
        match u32::from_le_bytes(self.array("a version")?) {
            0 => Ok(()),
            other => Err(format!("byte {at}: tensor version {other}, only 0 is known; this is no parameter file")),
        }
    }

    fn stream(&mut self) -> Result<Stream<'a>, String> {
        self.version()?;
        let levels = u64::from_le_bytes(self.array("the number of levels")?);
        for _ in 0..levels {
            let bytes = u64::from_le_bytes(self.array("the size of a level")?);
            self.take(bytes, "a level")?;
        }
        self.version()?;
        let size = i32::from_le_bytes(self.array("the size of the description")?);
        let size = u64::try_from(size).map_err(|_| format!("the description has the size {size}"))?;
        let bytes = self.take(size, "a description")?;
        wire::check(bytes, &TENSOR_DESC).map_err(|e| format!("tensor description: {e}"))?;
        let desc = TensorDesc::decode(bytes).map_err(|e| format!("tensor description: {e}"))?;
        let stored = stored_type(desc.data_type)?;
        let (_, len) = checked_dims(&desc.dims).ok_or_else(|| format!("the shape {:?} is impossible", desc.dims))?;
        let data = self.take(stored.bytes_of(len) as u64, &stored.describe(&desc.dims))?;
        Ok(Stream { desc, stored, data })
    }
}

impl Stream<'_> {
    fn tensor(&self) -> Result<HostTensor, String> {
        tensor_from_bytes(self.stored, &self.desc.dims, self.data)
    }
}

/// Reads every declared parameter from a file of its own, named like the variable.
///
/// # Errors
/// One entry per parameter that is missing, short, too long or of another shape.
pub(crate) fn read_separate(declared: &[Declared], files: &dyn Files) -> Result<Params, Vec<ImportError>> {
    let (mut params, mut errors) = (Params::new(), Vec::new());
    for d in declared {
        match read_one(d, files) {
            Ok(tensor) => {
                params.insert(d.name.clone(), tensor);
            }
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() {
        return Ok(params);
    }
    if params.is_empty() && errors.len() > 1 {
        let reason = "none of the parameter files is there or readable; if all parameters are in one file (params, \
                      __params__, .pdiparams), give that file"
            .into();
        errors.insert(0, ImportError::Broken { reason });
    }
    Err(errors)
}

/// What is said about every parameter when the one file that holds them is not there.
pub(crate) fn without_file(declared: &[Declared]) -> Vec<ImportError> {
    let reason =
        "the parameter file is not there; it is the .pdiparams beside the model, or what `--params` names".into();
    let each = declared.iter().map(|d| d.error("missing: there is no parameter file"));
    std::iter::once(ImportError::Broken { reason }).chain(each).collect()
}

fn read_one(d: &Declared, files: &dyn Files) -> Result<HostTensor, ImportError> {
    check_external_path(&d.name).map_err(|e| d.error(e.to_string()))?;
    let bytes = files.read(&d.name, 0, None).map_err(|e| d.error(e.to_string()))?;
    let mut cursor = Cursor { bytes: &bytes, at: 0 };
    let stream = cursor.stream().map_err(|e| d.error(e))?;
    d.check(&stream.desc)?;
    if cursor.at != bytes.len() {
        return Err(d.error(format!("{} bytes are left over behind the tensor", bytes.len() - cursor.at)));
    }
    stream.tensor().map_err(|e| d.error(e))
}

/// Reads all declared parameters from one file that holds them in the order of their sorted names.
///
/// # Errors
/// One entry per parameter that is missing or of another shape, and one per tensor that no parameter claims.
pub(crate) fn read_combined(declared: &[Declared], bytes: &[u8]) -> Result<Params, Vec<ImportError>> {
    let mut sorted: Vec<&Declared> = declared.iter().collect();
    sorted.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    let (mut params, mut errors) = (Params::new(), Vec::new());
    let mut cursor = Cursor { bytes, at: 0 };
    let mut rest = sorted.iter();
    while let Some(d) = rest.next() {
        if cursor.at == bytes.len() {
            errors.push(d.error("missing: the parameter file ends before it"));
            continue;
        }
        let Some(stream) = cursor.stream().map_err(|e| errors.push(d.error(e))).ok() else {
            // Where the next tensor begins is no longer certain.
            let unread = "not read: the parameter file is cut off or damaged before it";
            errors.extend(rest.map(|d| d.error(unread)));
            break;
        };
        match d.check(&stream.desc).and_then(|()| stream.tensor().map_err(|e| d.error(e))) {
            Ok(tensor) => {
                params.insert(d.name.clone(), tensor);
            }
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() {
        errors.extend(surplus(&mut cursor));
    }
    if errors.is_empty() { Ok(params) } else { Err(errors) }
}

fn surplus(cursor: &mut Cursor<'_>) -> Vec<ImportError> {
    let mut errors = Vec::new();
    while cursor.at < cursor.bytes.len() {
        let at = cursor.at;
        let found = cursor.stream();
        let expected = found.as_ref().map_or("nothing".into(), |s| s.stored.describe(&s.desc.dims));
        errors.push(ImportError::Parameter {
            name: format!("byte {at} of the parameter file"),
            expected,
            reason: "no variable of the program claims this tensor; program and parameters do not belong together"
                .into(),
        });
        if found.is_err() {
            break;
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileError;
    use std::borrow::Cow;

    pub(crate) fn stream(data_type: i32, dims: &[i64], data: &[u8]) -> Vec<u8> {
        let desc = TensorDesc { data_type, dims: dims.to_vec() }.encode_to_vec();
        let mut out = vec![0; 16];
        out.extend((desc.len() as i32).to_le_bytes());
        out.extend(desc);
        out.extend(data);
        out
    }

    fn declared(name: &str, dims: &[i64]) -> Declared {
        Declared { name: name.into(), data_type: 5, dims: dims.to_vec() }
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn combined_files_follow_the_sorted_names() {
        let file = [stream(5, &[1], &floats(&[1.0])), stream(5, &[2], &floats(&[2.0, 3.0]))].concat();
        let params = read_combined(&[declared("b", &[2]), declared("a", &[1])], &file).unwrap();
        assert_eq!(params["a"].as_f32(), Some(&[1.0][..]));
        assert_eq!(params["b"].as_f32(), Some(&[2.0, 3.0][..]));
        // "B" sorts before "a", "_" between them.
        let file = ["B", "_", "a"].iter().flat_map(|n| stream(5, &[], &floats(&[n.len() as f32]))).collect::<Vec<_>>();
        assert!(read_combined(&[declared("a", &[1]), declared("_", &[]), declared("B", &[1])], &file).is_ok());
    }

    #[test]
    fn missing_and_surplus_parameters_are_named() {
        let one = stream(5, &[1], &floats(&[1.0]));
        let all = [declared("a", &[1]), declared("b", &[2, 3]), declared("c", &[1])];
        let errors = read_combined(&all, &one).unwrap_err();
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 2);
        assert_eq!(text[0], "parameter \"b\" (float32 [2, 3], 24 bytes): missing: the parameter file ends before it");
        let errors = read_combined(&all[..1], &[one.clone(), one.clone(), one].concat()).unwrap_err();
        assert_eq!(errors.len(), 2);
        assert!(errors[0].to_string().contains("float32 [1], 4 bytes"), "{}", errors[0]);
    }

    #[test]
    fn a_cut_file_names_what_is_short_and_all_behind_it() {
        let all = [declared("a", &[1]), declared("b", &[2, 3]), declared("c", &[1]), declared("d", &[5])];
        let file = [stream(5, &[1], &floats(&[1.0])), stream(5, &[2, 3], &floats(&[2.0; 6]))].concat();
        let errors = read_combined(&all, &file[..file.len() - 4]).unwrap_err();
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 3);
        assert!(text[0].starts_with("parameter \"b\" (float32 [2, 3], 24 bytes): byte "), "{}", text[0]);
        assert!(text[0].ends_with("24 bytes of float32 [2, 3], 24 bytes are needed, 20 are left"), "{}", text[0]);
        assert!(text[1].starts_with("parameter \"c\" (float32 [1], 4 bytes): not read"), "{}", text[1]);
        assert!(text[2].starts_with("parameter \"d\" (float32 [5], 20 bytes): not read"), "{}", text[2]);
    }

    #[test]
    fn wrong_shapes_are_reported_not_guessed() {
        let file = stream(5, &[2], &floats(&[1.0, 2.0]));
        let errors = read_combined(&[declared("a", &[3])], &file).unwrap_err();
        assert!(errors[0].to_string().contains("has the shape [2]"));
        // Unknown dims are taken from the file.
        assert!(read_combined(&[declared("a", &[-1])], &file).is_ok());
    }

    #[test]
    fn hostile_streams_are_errors() {
        let good = stream(5, &[2], &floats(&[1.0, 2.0]));
        for cut in 0..good.len() {
            assert!(read_combined(&[declared("a", &[2])], &good[..cut]).is_err(), "{cut}");
        }
        let mut levels = good.clone();
        levels[4..12].fill(0xff);
        assert!(read_combined(&[declared("a", &[2])], &levels).is_err());
        let huge = stream(5, &[1 << 30], &[]);
        assert!(read_combined(&[declared("a", &[-1])], &huge).unwrap_err()[0].to_string().contains("are needed"));
    }

    struct Dir(Vec<(&'static str, Vec<u8>)>);
    impl Files for Dir {
        fn read(&self, name: &str, _: u64, _: Option<u64>) -> Result<Cow<'_, [u8]>, FileError> {
            let file = self.0.iter().find(|(n, _)| *n == name).ok_or(FileError::NotFound)?;
            Ok(Cow::Borrowed(&file.1))
        }
    }

    #[test]
    fn separate_files_are_named_like_variables() {
        let dir = Dir(vec![("fc/w", stream(5, &[1], &floats(&[4.0]))), ("long", vec![0; 99])]);
        let params = read_separate(&[declared("fc/w", &[1])], &dir).unwrap();
        assert_eq!(params["fc/w"].as_f32(), Some(&[4.0][..]));
        let bad = [declared("gone", &[1]), declared("../x", &[1]), declared("long", &[1])];
        let errors = read_separate(&bad, &dir).unwrap_err();
        assert_eq!(errors.len(), 4);
        assert!(errors[0].to_string().contains(".pdiparams"));
        assert!(errors[1].to_string().contains("does not exist"));
        assert!(errors[2].to_string().contains("leaves"));
    }
}
