//! Tensors on the host: constants, and the values of the interpreters. Row-major, no views.

use crate::types::Elem;

/// The elements of a [`HostTensor`].
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Data {
    F32(Vec<f32>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
}

/// A dense tensor. Quantized tensors hold their stored integers.
#[derive(Clone, PartialEq, Debug)]
pub struct HostTensor {
    dims: Vec<usize>,
    data: Data,
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::I8(v) => v.len(),
            Data::U8(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::Bool(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The plain element type.
    pub fn elem(&self) -> Elem {
        match self {
            Data::F32(_) => Elem::F32,
            Data::I8(_) => Elem::I8,
            Data::U8(_) => Elem::U8,
            Data::I32(_) => Elem::I32,
            Data::I64(_) => Elem::I64,
            Data::Bool(_) => Elem::Bool,
        }
    }

    /// Little-endian bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I8(v) => v.iter().map(|&x| x as u8).collect(),
            Data::U8(v) => v.clone(),
            Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::Bool(v) => v.iter().map(|&x| u8::from(x)).collect(),
        }
    }

    /// The inverse of [`Data::to_bytes`]; `None` if the length is no multiple of the element's or `elem` is quantized.
    pub fn from_bytes(elem: Elem, bytes: &[u8]) -> Option<Data> {
        let width = elem.word().map(|_| elem.bytes(|_| crate::types::Store::U8))?;
        if !bytes.len().is_multiple_of(width) {
            return None;
        }
        let four = || bytes.as_chunks::<4>().0.iter();
        Some(match elem {
            Elem::F32 => Data::F32(four().map(|b| f32::from_le_bytes(*b)).collect()),
            Elem::I32 => Data::I32(four().map(|b| i32::from_le_bytes(*b)).collect()),
            Elem::I64 => Data::I64(bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
            Elem::I8 => Data::I8(bytes.iter().map(|&b| b as i8).collect()),
            Elem::U8 => Data::U8(bytes.to_vec()),
            Elem::Bool => Data::Bool(bytes.iter().map(|&b| b != 0).collect()),
            Elem::Quant(_) => return None,
        })
    }
}

macro_rules! access {
    ($($elem:ident $t:ty, $make:ident, $as:ident;)*) => {
        impl HostTensor {
            $(
                /// A tensor of these elements.
                ///
                /// # Panics
                /// When the element count does not match the dims: a bug of the caller.
                pub fn $make(dims: impl Into<Vec<usize>>, data: Vec<$t>) -> HostTensor {
                    HostTensor::new(dims, Data::$elem(data)).expect("invariant: data matches dims")
                }

                /// The elements, if they are of this type.
                pub fn $as(&self) -> Option<&[$t]> {
                    match &self.data {
                        Data::$elem(v) => Some(v),
                        _ => None,
                    }
                }
            )*
        }
    };
}

access! {
    F32 f32, f32, as_f32;
    I8 i8, i8, as_i8;
    U8 u8, u8, as_u8;
    I32 i32, i32, as_i32;
    I64 i64, i64, as_i64;
    Bool bool, bool, as_bool;
}

impl HostTensor {
    /// A tensor, or `None` if the number of elements does not match the dims.
    pub fn new(dims: impl Into<Vec<usize>>, data: Data) -> Option<HostTensor> {
        let dims = dims.into();
        let len = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d))?;
        (len == data.len()).then_some(HostTensor { dims, data })
    }

    /// Dims, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The same elements under other dims; `None` if the counts differ.
    pub fn reshaped(&self, dims: impl Into<Vec<usize>>) -> Option<HostTensor> {
        HostTensor::new(dims, self.data.clone())
    }

    /// Element `i` of an integer tensor.
    pub fn int(&self, i: usize) -> Option<i64> {
        match &self.data {
            Data::I8(v) => v.get(i).map(|&x| i64::from(x)),
            Data::U8(v) => v.get(i).map(|&x| i64::from(x)),
            Data::I32(v) => v.get(i).map(|&x| i64::from(x)),
            Data::I64(v) => v.get(i).copied(),
            Data::Bool(v) => v.get(i).map(|&x| i64::from(x)),
            Data::F32(_) => None,
        }
    }
}

/// A matrix of `rows` rows with its columns as rows.
pub fn transposed<T: Copy>(matrix: &[T], [rows, columns]: [usize; 2]) -> Vec<T> {
    // Rows that are read one element at a time stay in the cache for the next columns.
    const BLOCK: usize = 64;
    let mut out = matrix.to_vec();
    for begin in (0..rows).step_by(BLOCK) {
        let end = rows.min(begin + BLOCK);
        for c in 0..columns {
            for (r, slot) in (begin..end).zip(&mut out[c * rows + begin..c * rows + end]) {
                *slot = matrix[r * columns + c];
            }
        }
    }
    out
}

/// Row-major strides of `dims`, in elements.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    let mut out = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        out[i - 1] = out[i] * dims[i];
    }
    out
}

/// All multi-indices of `dims` in row-major order.
pub fn indices(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let dims = dims.to_vec();
    let total: usize = dims.iter().product();
    let mut at = vec![0; dims.len()];
    (0..total).map(move |n| {
        if n > 0 {
            for d in (0..dims.len()).rev() {
                at[d] += 1;
                if at[d] < dims[d] {
                    break;
                }
                at[d] = 0;
            }
        }
        at.clone()
    })
}
