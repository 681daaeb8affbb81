//! Types: a closed set, matched exhaustively.
//!
//! Tensors are logical (the model's own dims); buffers are physical (byte strides, origin, size). A quantized element
//! says what its numbers mean, so scales are never operands that a pass could lose.

use crate::id::QuantId;

/// Dims of a tensor or buffer, outermost first.
pub type Dims = Box<[usize]>;

/// The element of a tensor, buffer or scalar.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Elem {
    /// 32-bit float.
    F32,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// Truth value, one byte.
    Bool,
    /// Quantized number; the id names its [`Quant`].
    Quant(QuantId),
}

/// Storage of a quantized element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Store {
    /// Unsigned byte: activations.
    U8,
    /// Signed byte: weights, and activations before they are shifted to `U8`.
    I8,
    /// 32-bit accumulator format: biases.
    I32,
}

impl Store {
    /// Smallest and largest stored value.
    pub fn bounds(self) -> (i32, i32) {
        match self {
            Store::U8 => (0, 255),
            Store::I8 => (-128, 127),
            Store::I32 => (i32::MIN, i32::MAX),
        }
    }

    /// The plain element with the same bytes.
    pub fn elem(self) -> Elem {
        match self {
            Store::U8 => Elem::U8,
            Store::I8 => Elem::I8,
            Store::I32 => Elem::I32,
        }
    }
}

/// A quantized number format: `real = scale * (q - zero)`, with `lo <= q <= hi`.
#[derive(Clone, Debug)]
pub struct Quant {
    /// Storage type.
    pub store: Store,
    /// The dim that `scales` and `zeros` run along; `None` when there is one scale for the tensor.
    pub axis: Option<usize>,
    /// One scale, or one per index of `axis`; finite and positive.
    pub scales: Box<[f32]>,
    /// One zero point, or one per index of `axis`.
    pub zeros: Box<[i32]>,
    /// Smallest value that quantization produces.
    pub lo: i32,
    /// Largest value that quantization produces.
    pub hi: i32,
}

impl Quant {
    /// A format with one scale and the full range of its storage.
    pub fn per_tensor(store: Store, scale: f32, zero: i32) -> Quant {
        let (lo, hi) = store.bounds();
        Quant { store, axis: None, scales: Box::new([scale]), zeros: Box::new([zero]), lo, hi }
    }

    /// A symmetric format with one scale per index of `axis`.
    pub fn per_axis(store: Store, axis: usize, scales: Vec<f32>) -> Quant {
        let (lo, hi) = store.bounds();
        Quant { store, axis: Some(axis), scales: scales.into(), zeros: Box::new([0]), lo, hi }
    }

    /// Checks that the format fits a tensor of `dims`: as many scales as the axis is long, finite and positive, and
    /// zero points and bounds that the storage holds.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(&self, dims: &[usize]) -> Result<(), String> {
        let size = match self.axis {
            None => 1,
            Some(axis) => *dims.get(axis).ok_or_else(|| format!("axis {axis} is outside rank {}", dims.len()))?,
        };
        if self.scales.len() != size && !(self.scales.len() == 1 && self.axis.is_none()) {
            return Err(format!("{} scales for an axis of {size}", self.scales.len()));
        }
        if self.zeros.len() != 1 && self.zeros.len() != size {
            return Err(format!("{} zero points for an axis of {size}", self.zeros.len()));
        }
        if let Some(bad) = self.scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(format!("scale {bad} is not a positive number"));
        }
        let (lo, hi) = self.store.bounds();
        if self.lo < lo || self.hi > hi || self.lo > self.hi {
            return Err(format!("bounds {}..{} do not fit the storage", self.lo, self.hi));
        }
        match self.zeros.iter().find(|&&z| z < lo || z > hi) {
            Some(zero) => Err(format!("zero point {zero} does not fit the storage")),
            None => Ok(()),
        }
    }

    /// The scale at index `i` of the axis.
    pub fn scale(&self, i: usize) -> f32 {
        if self.scales.len() == 1 { self.scales[0] } else { self.scales[i] }
    }

    /// The zero point at index `i` of the axis.
    pub fn zero(&self, i: usize) -> i32 {
        if self.zeros.len() == 1 { self.zeros[0] } else { self.zeros[i] }
    }

    /// What distinguishes two formats, but for their scales.
    fn key(&self) -> (Store, Option<usize>, &[i32], i32, i32) {
        (self.store, self.axis, &self.zeros, self.lo, self.hi)
    }

    fn scale_bits(&self) -> impl Iterator<Item = u32> {
        self.scales.iter().map(|s| s.to_bits())
    }
}

impl PartialEq for Quant {
    fn eq(&self, other: &Quant) -> bool {
        self.key() == other.key() && self.scale_bits().eq(other.scale_bits())
    }
}

impl Eq for Quant {}

impl std::hash::Hash for Quant {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
        self.scale_bits().for_each(|bits| bits.hash(state));
    }
}

/// A tensor: element and static dims.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TensorTy {
    /// Element type.
    pub elem: Elem,
    /// Dims, outermost first; a scalar has none.
    pub dims: Dims,
}

impl TensorTy {
    /// A tensor type.
    pub fn new(elem: Elem, dims: impl Into<Dims>) -> TensorTy {
        TensorTy { elem, dims: dims.into() }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A view of memory: element `[i0, i1, ..]` lies at byte `origin + sum(i * stride)`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BufferTy {
    /// Element type; quantized elements appear as their storage.
    pub elem: Elem,
    /// Logical dims.
    pub dims: Dims,
    /// Bytes from one index to the next, per dim.
    pub strides: Dims,
    /// Byte offset of element 0, behind a border if there is one.
    pub origin: usize,
    /// Bytes of the whole buffer, borders included.
    pub bytes: usize,
}

/// Any type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    /// A tensor value.
    Tensor(TensorTy),
    /// A piece of memory.
    Buffer(BufferTy),
    /// One number.
    Scalar(Elem),
    /// A loop counter or byte count.
    Index,
}

impl Type {
    /// The tensor type, if this is one.
    pub fn tensor(&self) -> Option<&TensorTy> {
        match self {
            Type::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The buffer type, if this is one.
    pub fn buffer(&self) -> Option<&BufferTy> {
        match self {
            Type::Buffer(b) => Some(b),
            _ => None,
        }
    }
}

impl Elem {
    /// Bytes of one element, given the storage of quantized ones.
    pub fn bytes(self, store: impl Fn(QuantId) -> Store) -> usize {
        match self {
            Elem::F32 | Elem::I32 => 4,
            Elem::I64 => 8,
            Elem::I8 | Elem::U8 | Elem::Bool => 1,
            Elem::Quant(q) => match store(q) {
                Store::U8 | Store::I8 => 1,
                Store::I32 => 4,
            },
        }
    }

    /// The name in the text form; `None` for quantized elements.
    pub fn word(self) -> Option<&'static str> {
        Some(match self {
            Elem::F32 => "f32",
            Elem::I8 => "i8",
            Elem::U8 => "u8",
            Elem::I32 => "i32",
            Elem::I64 => "i64",
            Elem::Bool => "bool",
            Elem::Quant(_) => return None,
        })
    }

    /// The plain element that the text form calls `word`.
    pub fn from_word(word: &str) -> Option<Elem> {
        Some(match word {
            "f32" => Elem::F32,
            "i8" => Elem::I8,
            "u8" => Elem::U8,
            "i32" => Elem::I32,
            "i64" => Elem::I64,
            "bool" => Elem::Bool,
            _ => return None,
        })
    }
}
