//! The `.npy` format: magic, version, the length of the header, the header, the elements.
//!
//! The header is a literal of Python, `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.

use half::f16;
use qc_ir::{Data, HostTensor};

/// The first bytes of a `.npy` file.
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header that is read; NumPy's own are of a few hundred bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// What a header says.
struct Header {
    /// Element type as NumPy writes it: byte order, kind and size.
    descr: String,
    /// Whether the first axis is the one that moves fastest.
    fortran: bool,
    dims: Vec<usize>,
}

/// Parses the bytes of a `.npy` file. f16 and f64 become f32: f64 is rounded, NumPy's default not being any model's.
///
/// # Errors
/// A sentence: damage, or an element type that no model has.
pub(crate) fn read(bytes: &[u8]) -> Result<HostTensor, String> {
    let (header, data) = split(bytes)?;
    let header = Parser { rest: header }.header()?;
    let data = data_of(&header, data)?;
    let tensor = match header.fortran && header.dims.len() > 1 {
        true => {
            let reversed: Vec<usize> = header.dims.iter().rev().copied().collect();
            HostTensor::new(reversed, data).map(|t| transposed(&t))
        }
        false => HostTensor::new(header.dims, data),
    };
    tensor.ok_or_else(|| "damaged: its data does not match its shape".into())
}

/// The bytes of a `.npy` file that holds `tensor`.
pub(crate) fn write(tensor: &HostTensor) -> Vec<u8> {
    let descr = match tensor.data() {
        Data::F32(_) => "<f4",
        Data::I8(_) => "|i1",
        Data::U8(_) => "|u1",
        Data::I32(_) => "<i4",
        Data::I64(_) => "<i8",
        Data::Bool(_) => "|b1",
    };
    let dims: String = tensor.dims().iter().map(|d| format!("{d}, ")).collect();
    let dims = if tensor.dims().len() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    // Magic, version, length, header and a line feed fill whole units of 64 bytes, so that the elements are aligned.
    let len = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut out = [MAGIC, &[1, 0], &(len as u16).to_le_bytes(), text.as_bytes()].concat();
    out.resize(10 + len - 1, b' ');
    out.push(b'\n');
    out.extend(tensor.data().to_bytes());
    out
}

/// Header and elements.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let cut = || "damaged: its header is cut off".to_string();
    if !bytes.starts_with(MAGIC) {
        return Err("damaged: it does not begin as a .npy file".into());
    }
    let byte = |at: usize| bytes.get(at).copied().map(usize::from).ok_or_else(cut);
    let (start, len) = match byte(6)? {
        1 => (10, byte(8)? | byte(9)? << 8),
        _ => (12, byte(8)? | byte(9)? << 8 | byte(10)? << 16 | byte(11)? << 24),
    };
    if len > MAX_HEADER_BYTES {
        return Err(format!("damaged: its header has {len} bytes"));
    }
    bytes[start.min(bytes.len())..].split_at_checked(len).ok_or_else(cut)
}

/// The elements of the array, once its shape is known to fit them.
fn data_of(header: &Header, bytes: &[u8]) -> Result<Data, String> {
    let dims = &header.dims;
    let (order, kind) = header.descr.split_at_checked(1).unwrap_or_default();
    let size: usize = kind.get(1..).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    // An empty array may have dims whose product is beyond any number; the others are then still counted.
    let most = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d.max(1)));
    let len = most.map(|_| dims.iter().product::<usize>());
    let fits = most.is_some_and(|n| n <= bytes.len().max(1)) || len == Some(0) && most.is_some();
    let needed = len.filter(|_| fits).and_then(|n| n.checked_mul(size.max(1))).filter(|&n| n <= bytes.len());
    let needed = needed.ok_or_else(|| format!("damaged: the file is shorter than its shape {dims:?} says"))?;
    let elements = Elements { bytes: &bytes[..needed], big: order == ">" };
    Ok(match kind {
        "f2" => Data::F32(elements.each(|b| f16::from_le_bytes(b).to_f32())),
        "f4" => Data::F32(elements.each(f32::from_le_bytes)),
        "f8" => Data::F32(elements.each(|b| f64::from_le_bytes(b) as f32)),
        "u1" => Data::U8(elements.bytes.to_vec()),
        "i1" => Data::I8(elements.each(i8::from_le_bytes)),
        "u2" => Data::I32(elements.each(|b| u16::from_le_bytes(b).into())),
        "i2" => Data::I32(elements.each(|b| i16::from_le_bytes(b).into())),
        "i4" => Data::I32(elements.each(i32::from_le_bytes)),
        "i8" => Data::I64(elements.each(i64::from_le_bytes)),
        "b1" => Data::Bool(elements.each(|[b]: [u8; 1]| b != 0)),
        _ => {
            let ty = &header.descr;
            return Err(format!(
                "element type {ty} is not supported; use float32, float16, uint8, int8, uint16, int16, int32, int64 or bool"
            ));
        }
    })
}

/// Elements as bytes in the file's order.
struct Elements<'a> {
    bytes: &'a [u8],
    /// Whether the first byte of an element is its highest.
    big: bool,
}

impl Elements<'_> {
    fn each<const N: usize, T>(&self, value: impl Fn([u8; N]) -> T) -> Vec<T> {
        let in_order = |bytes: &[u8; N]| match self.big {
            true => {
                let mut turned = *bytes;
                turned.reverse();
                value(turned)
            }
            false => value(*bytes),
        };
        self.bytes.as_chunks::<N>().0.iter().map(in_order).collect()
    }
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

/// Reads the header: a dictionary of three keys, nothing else of Python.
struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn header(mut self) -> Result<Header, String> {
        let unreadable = || "damaged: its header cannot be read".to_string();
        let (mut descr, mut fortran, mut dims) = (None, None, None);
        self.token(b'{').ok_or_else(unreadable)?;
        while self.token(b'}').is_none() {
            let key = self.string().ok_or_else(unreadable)?;
            self.token(b':').ok_or_else(unreadable)?;
            match key {
                b"descr" => {
                    let text = self.string().ok_or("a structured array, which is not supported, or damaged")?;
                    descr = Some(String::from_utf8_lossy(text).into_owned());
                }
                b"fortran_order" => fortran = Some(self.boolean().ok_or_else(unreadable)?),
                b"shape" => dims = Some(self.tuple()?),
                _ => return Err(unreadable()),
            }
            if self.token(b',').is_none() && self.peek() != Some(b'}') {
                return Err(unreadable());
            }
        }
        match (descr, fortran, dims) {
            (Some(descr), Some(fortran), Some(dims)) => Ok(Header { descr, fortran, dims }),
            _ => Err(unreadable()),
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn token(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.rest = &self.rest[1..])
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let quote = self.peek().filter(|b| b"'\"".contains(b))?;
        let inside = &self.rest[1..];
        let len = inside.iter().position(|&b| b == quote)?;
        self.rest = &inside[len + 1..];
        Some(&inside[..len])
    }

    fn boolean(&mut self) -> Option<bool> {
        self.peek()?;
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Some(value);
            }
        }
        None
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        let impossible = || "damaged: its shape is impossible".to_string();
        let mut dims = Vec::new();
        self.token(b'(').ok_or_else(impossible)?;
        while self.token(b')').is_none() {
            self.peek();
            let digits = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let text = std::str::from_utf8(&self.rest[..digits]).map_err(|_| impossible())?;
            dims.push(text.parse().map_err(|_| impossible())?);
            self.rest = &self.rest[digits..];
            // Python 2 wrote long numbers so.
            let _ = self.token(b'L');
            if self.token(b',').is_none() && self.peek() != Some(b')') {
                return Err(impossible());
            }
        }
        Ok(dims)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let line = format!("{header}\n");
        [MAGIC, b"\x01\x00", &(line.len() as u16).to_le_bytes()[..], line.as_bytes(), data].concat()
    }

    fn header(descr: &str, fortran: &str, dims: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({dims}), }}")
    }

    fn refusal(header: &str) -> String {
        read(&npy(header, &[0; 16])).unwrap_err()
    }

    #[test]
    fn integers_of_16_bits_become_those_of_32() {
        let ints = |descr: &str| read(&npy(&header(descr, "False", "2,"), &[0xfe, 0xff, 1, 0])).unwrap();
        assert_eq!(ints("<i2"), HostTensor::i32([2], vec![-2, 1]));
        assert_eq!(ints("<u2"), HostTensor::i32([2], vec![65534, 1]));
        assert_eq!(ints(">u2"), HostTensor::i32([2], vec![65279, 256]));
    }

    #[test]
    fn shapes_are_compared_with_the_file_before_anything_is_made() {
        let good = npy(&header("<f4", "False", "2, 2"), &[0; 16]);
        assert_eq!(read(&good).unwrap().dims(), [2, 2]);
        let shape = |dims: &str| refusal(&header("<f4", "False", dims));
        for dims in ["5000, 2", "4294967296, 4294967296, 4", "0, 9223372036854775807, 3", "2, 3"] {
            assert!(shape(dims).contains("shorter than its shape"), "{dims}: {}", shape(dims));
        }
        for dims in ["99999999999999999999, 1", "-1, 2", "2 2", "(1,)", "2,, 2"] {
            assert!(shape(dims).contains("shape is impossible"), "{dims}: {}", shape(dims));
        }
    }

    #[test]
    fn headers_are_bounded_and_literal() {
        for text in ["((((", "{'descr': '<f4'", "{}", "[1]", "{'descr': '<f4', 'other': 1, 'shape': (1,)}"] {
            assert!(refusal(text).contains("header cannot be read"), "{text}: {}", refusal(text));
        }
        assert!(refusal("{'descr': [('a', '<f4')], }").contains("structured array"));
        assert!(read(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").unwrap_err().contains("4294967295 bytes"));
        assert!(read(b"\x93NUMPY").unwrap_err().contains("cut off"));
        assert!(read(b"").is_err() && read(b"\x93NUMPX\x01\x00").is_err());
    }

    #[test]
    fn every_element_type_and_byte_order() {
        let values = |descr: &str, data: &[u8]| read(&npy(&header(descr, "False", "2,"), data)).unwrap();
        assert_eq!(values("<f2", &[0x00, 0x3c, 0x00, 0xc0]).as_f32(), Some(&[1.0, -2.0][..]));
        assert_eq!(values(">f2", &[0x3c, 0x00, 0xc0, 0x00]).as_f32(), Some(&[1.0, -2.0][..]));
        assert_eq!(values("<f8", &[1.5f64, 1e-3].map(f64::to_le_bytes).concat()).as_f32(), Some(&[1.5, 1e-3][..]));
        assert_eq!(values(">i4", &[0, 0, 0, 7, 255, 255, 255, 255]).as_i32(), Some(&[7, -1][..]));
        assert_eq!(values("|b1", &[0, 2]).as_bool(), Some(&[false, true][..]));
        assert_eq!(values("|i1", &[255, 1]).as_i8(), Some(&[-1, 1][..]));
        for other in ["<c8", "<U4", "|O", "<M8", "<f16", "<u4", ""] {
            assert!(refusal(&header(other, "False", "1,")).contains("is not supported"), "{other}");
        }
    }

    #[test]
    fn columns_first_is_turned() {
        let bytes = npy(&header("|u1", "True", "2, 3"), &[0, 10, 1, 11, 2, 12]);
        assert_eq!(read(&bytes).unwrap().as_u8(), Some(&[0, 1, 2, 10, 11, 12][..]));
    }

    #[test]
    fn what_is_written_is_read() {
        let data = || Data::I64(vec![i64::MIN, -1, 0, 1, 2, i64::MAX]);
        for dims in [vec![6], vec![2, 3], vec![1, 6, 1], vec![6, 1]] {
            let tensor = HostTensor::new(dims, data()).unwrap();
            let bytes = write(&tensor);
            assert_eq!((read(&bytes).unwrap(), (bytes.len() - 48) % 64), (tensor, 0));
        }
        let scalar = HostTensor::f32(Vec::<usize>::new(), vec![2.5]);
        assert_eq!(read(&write(&scalar)).unwrap(), scalar);
    }
}
