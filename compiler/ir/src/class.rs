//! Classes of values: what an operand slot accepts and what may appear in a phase.

use crate::module::Module;
use crate::types::{Elem, Quant, Store, TensorTy, Type};

/// The values that an operand slot accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Tensors of f32.
    F32,
    /// Tensors of plain i32 or f32: biases of integer ops.
    Bias,
    /// Tensors of integers that are not quantized, or of truth values.
    Integer,
    /// Tensors of truth values.
    Truth,
    /// Tensors of any elements that are not quantized.
    Plain,
    /// Tensors of u8 with one scale.
    Activation,
    /// Tensors of s8 or u8 with one scale, or with one per index of their first dim.
    Weight,
    /// Tensors of any quantized format.
    Quantized,
    /// Any tensor.
    Tensor,
    /// A buffer.
    Buffer,
    /// An index.
    Index,
    /// A scalar.
    Scalar,
    /// Buffers and indices; the op's own verifier says which where.
    Address,
}

impl Class {
    /// All classes.
    pub const ALL: &'static [Class] = &[
        Class::F32,
        Class::Bias,
        Class::Integer,
        Class::Truth,
        Class::Plain,
        Class::Activation,
        Class::Weight,
        Class::Quantized,
        Class::Tensor,
        Class::Buffer,
        Class::Index,
        Class::Scalar,
        Class::Address,
    ];

    /// The class in words, with an article.
    pub fn describe(self) -> &'static str {
        match self {
            Class::F32 => "an f32 tensor",
            Class::Bias => "an i32 or f32 tensor",
            Class::Integer => "a tensor of integers or truth values",
            Class::Truth => "a tensor of truth values",
            Class::Plain => "a tensor that is not quantized",
            Class::Activation => "a u8 tensor with one scale",
            Class::Weight => "an s8 or u8 tensor with one scale, or one per output channel",
            Class::Quantized => "a quantized tensor",
            Class::Tensor => "a tensor",
            Class::Buffer => "a buffer",
            Class::Index => "an index",
            Class::Scalar => "a scalar",
            Class::Address => "a buffer or an index",
        }
    }

    /// The name in documentation.
    pub fn name(self) -> &'static str {
        match self {
            Class::F32 => "f32",
            Class::Bias => "bias",
            Class::Integer => "integer",
            Class::Truth => "truth",
            Class::Plain => "plain",
            Class::Activation => "activation",
            Class::Weight => "weight",
            Class::Quantized => "quantized",
            Class::Tensor => "tensor",
            Class::Buffer => "buffer",
            Class::Index => "index",
            Class::Scalar => "scalar",
            Class::Address => "buffer or index",
        }
    }

    /// Whether a type belongs to the class.
    pub fn holds(self, m: &Module, ty: &Type) -> bool {
        match self {
            Class::F32 => is_elem(ty, Elem::F32),
            Class::Bias => is_elem(ty, Elem::I32) || is_elem(ty, Elem::F32),
            Class::Integer => Class::Plain.holds(m, ty) && !is_elem(ty, Elem::F32),
            Class::Truth => is_elem(ty, Elem::Bool),
            Class::Plain => ty.tensor().is_some() && format(m, ty).is_none(),
            Class::Activation => format(m, ty).is_some_and(|q| q.store == Store::U8 && q.axis.is_none()),
            Class::Weight => format(m, ty).is_some_and(is_weight),
            Class::Quantized => format(m, ty).is_some(),
            Class::Tensor => Kind::Tensor.holds(ty),
            Class::Buffer => Kind::Buffer.holds(ty),
            Class::Index => Kind::Index.holds(ty),
            Class::Scalar => Kind::Scalar.holds(ty),
            Class::Address => Kind::Buffer.holds(ty) || Kind::Index.holds(ty),
        }
    }
}

fn is_elem(ty: &Type, elem: Elem) -> bool {
    matches!(ty, Type::Tensor(TensorTy { elem: e, .. }) if *e == elem)
}

fn format<'m>(m: &'m Module, ty: &Type) -> Option<&'m Quant> {
    match ty.tensor()?.elem {
        Elem::Quant(id) => Some(m.quant(id)),
        _ => None,
    }
}

fn is_weight(q: &Quant) -> bool {
    q.store != Store::I32 && q.axis.is_none_or(|axis| axis == 0) && (q.axis.is_some() || q.zeros.len() == 1)
}

/// The kinds of types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Tensors.
    Tensor,
    /// Buffers.
    Buffer,
    /// Scalars.
    Scalar,
    /// Indices.
    Index,
}

impl Kind {
    /// Whether a type is of this kind.
    pub fn holds(self, ty: &Type) -> bool {
        self == Kind::of(ty)
    }

    /// The kind of a type.
    pub fn of(ty: &Type) -> Kind {
        match ty {
            Type::Tensor(_) => Kind::Tensor,
            Type::Buffer(_) => Kind::Buffer,
            Type::Scalar(_) => Kind::Scalar,
            Type::Index => Kind::Index,
        }
    }

    /// The kind in words, in plural.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Tensor => "tensors",
            Kind::Buffer => "buffers",
            Kind::Scalar => "scalars",
            Kind::Index => "indices",
        }
    }
}
