//! The graph dialect: named tensor ops as models have them, with f32 meaning, over logical NCHW shapes.
//!
//! A quantized graph is the same ops between `graph.dequantize` and `graph.quantize`. Each file holds one topic:
//! declarations first, then per op its inference, verification and evaluation.

pub mod activation;
pub mod choose;
pub mod condition;
pub mod constant;
pub mod conv;
pub mod dynamic;
pub mod elementwise;
pub mod gather;
pub mod integer;
pub(crate) mod items;
pub mod linear;
pub mod matmul;
pub mod nms;
pub mod norm;
pub mod pool;
pub mod quantize;
pub mod reduce;
pub mod resample;
pub mod scan;
pub mod shape;

pub use activation::*;
pub use choose::{Scatter, TopK};
pub use condition::{Compare, Select};
pub use constant::Constant;
pub use conv::Conv2d;
pub use dynamic::{DynamicQuantize, DynamicScale, DynamicZero, IntegerConv2d, IntegerMatmul};
pub use elementwise::{Add, Binary, Clamp, Clip, Div, Max, Min, Mul, Pow, Relu, Rem, Sub};
pub use gather::{Gather, Index, Offsets, Take};
pub use integer::{CumSum, IntBinary, IntFunction, IntReduce};
pub use linear::Linear;
pub use matmul::Matmul;
pub use nms::{MatrixNms, Nms};
pub use norm::{BatchNorm, LayerNorm, Lrn, Softmax};
pub use pool::{AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool};
pub use quantize::{Conversion, Dequantize, Observe, Quantize};
pub use reduce::ReduceMean;
pub use resample::Resample;
pub use scan::Scan;
pub use shape::{Cast, Concat, Expand, Pad, Reshape, Slice, Transpose};

use qc_ir::{Data, Elem, HostTensor, Module, OpId, TensorTy, Type};

/// The dims of operand `i`.
pub(crate) fn dims_of(m: &Module, op: OpId, i: usize) -> Result<&[usize], String> {
    tensor_of(m, op, i).map(|t| &t.dims[..])
}

/// The tensor type of operand `i`.
pub(crate) fn tensor_of(m: &Module, op: OpId, i: usize) -> Result<&TensorTy, String> {
    let v = m.operand(op, i).ok_or_else(|| format!("operand {i} is missing"))?;
    m.ty(v).tensor().ok_or_else(|| format!("operand {i} is no tensor"))
}

/// The dims of operand `i`, which must have rank 4.
pub(crate) fn nchw(m: &Module, op: OpId, i: usize) -> Result<[usize; 4], String> {
    let dims = dims_of(m, op, i)?;
    <[usize; 4]>::try_from(dims).map_err(|_| format!("operand {i} has rank {}, not 4", dims.len()))
}

/// One f32 tensor type.
pub(crate) fn f32_ty(dims: impl Into<Box<[usize]>>) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Tensor(TensorTy::new(Elem::F32, dims))])
}

/// The f32 elements of argument `i` of an evaluation.
pub(crate) fn f32s<'a>(args: &[Option<&'a HostTensor>], i: usize) -> Result<&'a [f32], String> {
    args.get(i).copied().flatten().and_then(HostTensor::as_f32).ok_or_else(|| format!("operand {i} is not f32"))
}

/// A required argument of an evaluation.
pub(crate) fn arg<'a>(args: &[Option<&'a HostTensor>], i: usize) -> Result<&'a HostTensor, String> {
    args.get(i).copied().flatten().ok_or_else(|| format!("operand {i} is missing"))
}

/// Attribute values as unsigned numbers of a fixed count.
pub(crate) fn sizes<const N: usize>(name: &str, values: &[i64]) -> Result<[usize; N], String> {
    let all: Option<Vec<usize>> = values.iter().map(|&x| usize::try_from(x).ok()).collect();
    all.and_then(|v| v.try_into().ok()).ok_or_else(|| format!("`{name}` must be {N} non-negative numbers"))
}

/// Product of dims, refusing tensors that cannot be addressed.
pub(crate) fn check_size(dims: &[usize]) -> Result<(), String> {
    let len = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d)).filter(|&n| n <= 1 << 31);
    len.map(|_| ()).ok_or_else(|| format!("shape {dims:?} has more than 2^31 elements"))
}

/// The elements of `x` at the given positions, in order.
pub(crate) fn gather(
    x: &HostTensor,
    dims: Vec<usize>,
    at: impl Iterator<Item = usize>,
) -> Result<Vec<HostTensor>, String> {
    fn pick<T: Copy>(v: &[T], at: impl Iterator<Item = usize>) -> Vec<T> {
        at.map(|i| v[i]).collect()
    }
    let data = match x.data() {
        Data::F32(v) => Data::F32(pick(v, at)),
        Data::I8(v) => Data::I8(pick(v, at)),
        Data::U8(v) => Data::U8(pick(v, at)),
        Data::I32(v) => Data::I32(pick(v, at)),
        Data::I64(v) => Data::I64(pick(v, at)),
        Data::Bool(v) => Data::Bool(pick(v, at)),
    };
    HostTensor::new(dims, data).map(|t| vec![t]).ok_or_else(|| "wrong number of elements".into())
}

/// Whether an op computes nothing: it holds a constant, or converts to and from quantized numbers.
pub fn computes_nothing(m: &Module, op: OpId) -> bool {
    Constant::of(m, op).is_some() || Conversion::is(m, op)
}

/// The ops of each topic.
const TOPICS: [&[&qc_ir::OpDef]; 18] = [
    constant::CONSTANT,
    conv::CONV,
    matmul::MATMUL,
    elementwise::ELEMENTWISE,
    ACTIVATION,
    norm::NORM,
    pool::POOL,
    reduce::REDUCE,
    integer::INTEGER,
    condition::CONDITION,
    gather::GATHER,
    choose::CHOOSE,
    nms::NMS,
    resample::RESAMPLE,
    shape::SHAPE,
    quantize::QUANTIZE,
    dynamic::DYNAMIC,
    scan::SCAN,
];

const fn number_of_ops() -> usize {
    let (mut n, mut i) = (0, 0);
    while i < TOPICS.len() {
        n += TOPICS[i].len();
        i += 1;
    }
    n
}

const fn all_ops() -> [&'static qc_ir::OpDef; number_of_ops()] {
    let (mut ops, mut n, mut i) = ([Constant::DEF; number_of_ops()], 0, 0);
    while i < TOPICS.len() {
        let mut k = 0;
        while k < TOPICS[i].len() {
            ops[n] = TOPICS[i][k];
            (n, k) = (n + 1, k + 1);
        }
        i += 1;
    }
    ops
}

/// All ops of the dialect.
pub static GRAPH: &[&qc_ir::OpDef] = &all_ops();

/// The stored integers of argument `i` of an evaluation.
pub(crate) fn ints(args: &[Option<&HostTensor>], i: usize) -> Result<Vec<i32>, String> {
    let t = args.get(i).copied().flatten().ok_or_else(|| format!("operand {i} is missing"))?;
    match t.data() {
        Data::U8(v) => Ok(v.iter().map(|&x| i32::from(x)).collect()),
        Data::I8(v) => Ok(v.iter().map(|&x| i32::from(x)).collect()),
        Data::I32(v) => Ok(v.clone()),
        _ => Err(format!("operand {i} holds no small integers")),
    }
}

/// A u8 tensor from integers within its range.
pub(crate) fn u8s(dims: Vec<usize>, values: Vec<i32>) -> Result<Vec<HostTensor>, String> {
    let data = Data::U8(values.into_iter().map(|v| v as u8).collect());
    HostTensor::new(dims, data).map(|t| vec![t]).ok_or_else(|| "wrong number of elements".into())
}
