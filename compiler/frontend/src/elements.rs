//! Stored element types and their little-endian bytes. Floats of any width become f32.

use half::{bf16, f16};
use qc_ir::{Data, Elem, HostTensor};

/// How the elements of a stored tensor are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stored {
    F8(F8),
    F16,
    Bf16,
    F32,
    F64,
    I4,
    U4,
    I8,
    U8,
    I16,
    U16,
    I32,
    I64,
    Bool,
}

/// The floats of 8 bits. `Uz` formats have no negative zero: its bits are NaN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum F8 {
    E4M3Fn,
    E4M3FnUz,
    E5M2,
    E5M2FnUz,
}

impl F8 {
    /// The number behind these bits, by the tables of the ONNX documentation.
    pub fn value(self, bits: u8) -> f32 {
        let (mantissa_bits, bias) = match self {
            F8::E4M3Fn => (3, 7),
            F8::E4M3FnUz => (3, 8),
            F8::E5M2 => (2, 15),
            F8::E5M2FnUz => (2, 16),
        };
        let magnitude = bits & 0x7f;
        let special = match self {
            F8::E4M3Fn if magnitude == 0x7f => Some(f32::NAN),
            F8::E5M2 if magnitude == 0x7c => Some(f32::INFINITY),
            F8::E5M2 if magnitude > 0x7c => Some(f32::NAN),
            F8::E4M3FnUz | F8::E5M2FnUz if bits == 0x80 => return f32::NAN,
            _ => None,
        };
        let exponent = i32::from(magnitude >> mantissa_bits);
        let fraction = f32::from(magnitude & ((1 << mantissa_bits) - 1)) / f32::from(1u8 << mantissa_bits);
        let number = match exponent {
            0 => fraction * 2f32.powi(1 - bias),
            _ => (1.0 + fraction) * 2f32.powi(exponent - bias),
        };
        special.unwrap_or(number) * if bits & 0x80 == 0 { 1.0 } else { -1.0 }
    }
}

impl Stored {
    /// The element type that such a tensor has in the module.
    pub fn plain(self) -> Elem {
        match self {
            Stored::F8(_) | Stored::F16 | Stored::Bf16 | Stored::F32 | Stored::F64 => Elem::F32,
            Stored::I4 | Stored::I8 => Elem::I8,
            Stored::U4 | Stored::U8 => Elem::U8,
            Stored::I16 | Stored::U16 | Stored::I32 => Elem::I32,
            Stored::I64 => Elem::I64,
            Stored::Bool => Elem::Bool,
        }
    }

    /// Bits of one element.
    fn bits(self) -> usize {
        match self {
            Stored::I4 | Stored::U4 => 4,
            Stored::I8 | Stored::U8 | Stored::Bool | Stored::F8(_) => 8,
            Stored::F16 | Stored::Bf16 | Stored::I16 | Stored::U16 => 16,
            Stored::F32 | Stored::I32 => 32,
            Stored::F64 | Stored::I64 => 64,
        }
    }

    /// Bytes of `len` elements, at most [`MAX_ELEMENTS`].
    pub fn bytes_of(self, len: usize) -> usize {
        (len * self.bits()).div_ceil(8)
    }

    /// The name users know.
    pub fn word(self) -> &'static str {
        match self {
            Stored::F16 => "float16",
            Stored::Bf16 => "bfloat16",
            Stored::F32 => "float32",
            Stored::F64 => "float64",
            Stored::I4 => "int4",
            Stored::U4 => "uint4",
            Stored::I8 => "int8",
            Stored::U8 => "uint8",
            Stored::I16 => "int16",
            Stored::U16 => "uint16",
            Stored::F8(_) => "float8",
            Stored::I32 => "int32",
            Stored::I64 => "int64",
            Stored::Bool => "bool",
        }
    }

    /// Decodes whole elements; a remainder is ignored. 16-bit integers become i32. Of two elements of 4 bits in a byte the first
    /// has the lower half; an odd number of them leaves one too many.
    pub fn decode(self, bytes: &[u8]) -> Data {
        let two = || bytes.as_chunks::<2>().0.iter();
        let four = || bytes.as_chunks::<4>().0.iter();
        let eight = || bytes.as_chunks::<8>().0.iter();
        match self {
            Stored::F16 => Data::F32(two().map(|b| f16::from_le_bytes(*b).to_f32()).collect()),
            Stored::Bf16 => Data::F32(two().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()),
            Stored::F32 => Data::F32(four().map(|b| f32::from_le_bytes(*b)).collect()),
            Stored::F64 => Data::F32(eight().map(|b| f64::from_le_bytes(*b) as f32).collect()),
            Stored::I4 => Data::I8(bytes.iter().flat_map(|&b| [(b << 4) as i8 >> 4, b as i8 >> 4]).collect()),
            Stored::U4 => Data::U8(bytes.iter().flat_map(|&b| [b & 15, b >> 4]).collect()),
            Stored::I8 => Data::I8(bytes.iter().map(|&b| b as i8).collect()),
            Stored::U8 => Data::U8(bytes.to_vec()),
            Stored::I16 => Data::I32(two().map(|b| i32::from(i16::from_le_bytes(*b))).collect()),
            Stored::U16 => Data::I32(two().map(|b| i32::from(u16::from_le_bytes(*b))).collect()),
            Stored::F8(kind) => Data::F32(bytes.iter().map(|&b| kind.value(b)).collect()),
            Stored::I32 => Data::I32(four().map(|b| i32::from_le_bytes(*b)).collect()),
            Stored::I64 => Data::I64(eight().map(|b| i64::from_le_bytes(*b)).collect()),
            Stored::Bool => Data::Bool(bytes.iter().map(|&b| b != 0).collect()),
        }
    }

    /// "float32 [64, 3, 7, 7], 37632 bytes".
    pub fn describe(self, dims: &[i64]) -> String {
        let bits = dims.iter().try_fold(self.bits() as i64, |a, &d| a.checked_mul(d));
        let size = bits.map(|bits| bits / 8 + i64::from(bits % 8 != 0));
        match size.filter(|_| dims.iter().all(|&d| d >= 0)) {
            Some(size) => format!("{} {dims:?}, {size} bytes", self.word()),
            None => format!("{} {dims:?}", self.word()),
        }
    }
}

/// Dims as sizes and the number of elements, if none is negative, the rank is at most [`MAX_RANK`] and the product fits.
pub(crate) fn checked_dims(dims: &[i64]) -> Option<(Vec<usize>, usize)> {
    if dims.len() > MAX_RANK {
        return None;
    }
    let sizes: Vec<usize> = dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    bounded(&sizes).map(|len| (sizes, len))
}

/// The number of elements of these dims, if rank and size are within bounds. Zero dims do not hide the size of others.
pub(crate) fn bounded(dims: &[usize]) -> Option<usize> {
    let bound = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d.max(1)))?;
    (dims.len() <= MAX_RANK && bound <= MAX_ELEMENTS).then(|| dims.iter().product())
}

/// The largest rank of any tensor.
pub(crate) const MAX_RANK: usize = 8;
/// The largest number of elements of any tensor: the same bound as the graph dialect has.
pub(crate) const MAX_ELEMENTS: usize = 1 << 31;

/// A tensor of `dims` from raw bytes.
///
/// # Errors
/// A sentence when the dims are impossible or the byte count does not match them.
pub(crate) fn tensor_from_bytes(stored: Stored, dims: &[i64], bytes: &[u8]) -> Result<HostTensor, String> {
    let (sizes, len) = checked_dims(dims).ok_or_else(|| format!("the shape {dims:?} is impossible"))?;
    if bytes.len() != stored.bytes_of(len) {
        return Err(format!("{} are declared, {} bytes are there", stored.describe(dims), bytes.len()));
    }
    let data = match stored.decode(bytes) {
        Data::I8(mut v) => {
            v.truncate(len);
            Data::I8(v)
        }
        Data::U8(mut v) => {
            v.truncate(len);
            Data::U8(v)
        }
        data => data,
    };
    HostTensor::new(sizes, data).ok_or_else(|| format!("the shape {dims:?} does not fit the data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_and_wide_floats_become_f32() {
        let t = tensor_from_bytes(Stored::F16, &[2], &[0x00, 0x3c, 0x01, 0x00]).unwrap();
        assert_eq!(t.as_f32(), Some(&[1.0, 2f32.powi(-24)][..]));
        let t = tensor_from_bytes(Stored::Bf16, &[1], &[0xc0, 0xbf]).unwrap();
        assert_eq!(t.as_f32(), Some(&[-1.5][..]));
        let t = tensor_from_bytes(Stored::F64, &[], &0.1f64.to_le_bytes()).unwrap();
        assert_eq!(t.as_f32(), Some(&[0.1f32][..]));
    }

    #[test]
    fn two_elements_of_4_bits_are_a_byte() {
        let t = tensor_from_bytes(Stored::I4, &[3], &[0x8f, 0x07]).unwrap();
        assert_eq!(t.as_i8(), Some(&[-1, -8, 7][..]));
        let t = tensor_from_bytes(Stored::U4, &[2], &[0x8f]).unwrap();
        assert_eq!(t.as_u8(), Some(&[15, 8][..]));
        assert!(tensor_from_bytes(Stored::U4, &[3], &[0x8f]).unwrap_err().contains("uint4 [3], 2 bytes"));
    }

    #[test]
    fn floats_of_8_bits_have_their_own_specials() {
        let values = |kind: F8| [0x38, 0x01, 0x7e, 0xc0].map(|b| kind.value(b));
        assert_eq!(values(F8::E4M3Fn), [1.0, 2f32.powi(-9), 448.0, -2.0]);
        assert_eq!(values(F8::E4M3FnUz), [0.5, 2f32.powi(-10), 224.0, -1.0]);
        assert_eq!(F8::E5M2.value(0x3c), 1.0);
        assert_eq!((F8::E5M2.value(0x7b), F8::E5M2.value(0xfc)), (57344.0, f32::NEG_INFINITY));
        assert_eq!((F8::E5M2FnUz.value(0x40), F8::E5M2FnUz.value(0x7f)), (1.0, 57344.0));
        let nans = [F8::E4M3Fn.value(0x7f), F8::E4M3FnUz.value(0x80), F8::E5M2.value(0x7d), F8::E5M2FnUz.value(0x80)];
        assert!(nans.iter().all(|x| x.is_nan()));
    }

    #[test]
    fn impossible_shapes_are_errors() {
        assert!(tensor_from_bytes(Stored::F32, &[-1], &[]).is_err());
        assert!(tensor_from_bytes(Stored::F32, &[1 << 62, 1 << 62], &[]).is_err());
        assert!(tensor_from_bytes(Stored::F32, &[1 << 62, 0], &[]).is_err());
        assert!(tensor_from_bytes(Stored::F32, &[1; 9], &[0; 4]).is_err());
        assert!(tensor_from_bytes(Stored::F32, &[2], &[0; 7]).unwrap_err().contains("8 bytes"));
        assert!(tensor_from_bytes(Stored::F32, &[3, 0], &[]).is_ok());
    }
}
