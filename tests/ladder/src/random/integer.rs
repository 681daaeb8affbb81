//! Steps through integers and truth values; what later steps see is float again.

use super::build::{Graph, MAX_ELEMENTS};
use qc_dialects::graph::{
    Add, Cast, Compare, Concat, CumSum, Gather, Index, IntBinary, IntFunction, IntReduce, Offsets, ReduceMean, Reshape,
    Scatter, Select, Slice, TopK,
};
use qc_ir::{Attrs, Data, Elem, HostTensor, TensorTy, Type, ValueId};

const WIDTHS: [Elem; 4] = [Elem::I8, Elem::U8, Elem::I32, Elem::I64];

fn cast(g: &mut Graph, x: ValueId, to: Elem) -> ValueId {
    g.op(Cast::DEF, &[x], Attrs::new().with("to", Type::Scalar(to)))
}

/// A constant of integers of `elem`, none of which is 0.
fn integers(g: &mut Graph, elem: Elem, dims: &[usize], p: u32) -> ValueId {
    let one = |i: usize| ((p >> (i % 29)) & 0x3f) as i64 - 20;
    let values: Vec<i64> = (0..dims.iter().product()).map(|i| if one(i) == 0 { 3 } else { one(i) }).collect();
    let data = match elem {
        Elem::I8 => Data::I8(values.iter().map(|&v| v as i8).collect()),
        Elem::U8 => Data::U8(values.iter().map(|&v| v as u8).collect()),
        Elem::I32 => Data::I32(values.iter().map(|&v| v as i32).collect()),
        _ => Data::I64(values),
    };
    let tensor = HostTensor::new(dims, data).expect("invariant: one value per element");
    g.constant(TensorTy::new(elem, dims), tensor)
}

/// Arithmetic on integers of some width, with a constant or with themselves.
pub fn arithmetic(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let elem = WIDTHS[p[0] as usize % 4];
    let (wide, dims) = (g.op(Cast::DEF, &[x], Attrs::new().with("to", Type::Scalar(elem))), g.dims(x));
    let function = IntFunction::ALL[p[1] as usize % IntFunction::ALL.len()];
    let divides = matches!(function, IntFunction::Div | IntFunction::Rem);
    let other = match p[2] % 3 {
        0 if !divides => wide,
        1 => integers(g, elem, &[], p[3]),
        _ => integers(g, elem, &dims[dims.len() - 1..], p[3]),
    };
    let y = g.op(IntBinary::DEF, &[wide, other], Attrs::new().with("op", function.word()));
    Some(cast(g, y, Elem::F32))
}

/// A choice by a comparison of floats or of integers.
pub fn choice(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    let word = ["eq", "lt", "le"][p[0] as usize % 3];
    let other = g.other(p[1], |d| d == dims).unwrap_or(x);
    let bound = g.floats(&[], vec![[0.0, 0.5, -1.0][p[2] as usize % 3]]);
    let mut holds = match p[3] % 3 {
        0 => g.op(Compare::DEF, &[x, bound], Attrs::new().with("op", word)),
        1 => g.op(Compare::DEF, &[other, x], Attrs::new().with("op", word)),
        _ => {
            let (a, b) = (cast(g, x, Elem::I32), cast(g, other, Elem::I32));
            g.op(Compare::DEF, &[a, b], Attrs::new().with("op", word))
        }
    };
    if p[4].is_multiple_of(2) {
        let more = g.op(Compare::DEF, &[bound, x], Attrs::new().with("op", "le"));
        let logic = ["and", "or", "xor"][p[5] as usize % 3];
        holds = g.op(IntBinary::DEF, &[holds, more], Attrs::new().with("op", logic));
    }
    Some(g.op(Select::DEF, &[holds, x, bound], Attrs::new()))
}

/// Integers joined along a dim, or summed up along it.
pub fn reduction(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let rank = g.dims(x).len();
    let axis = 1 + p[0] as usize % (rank - 1);
    if p[1].is_multiple_of(3) {
        let sum = Attrs::new().with("axis", axis).with("exclusive", p[2].is_multiple_of(2));
        let sum = sum.with("reverse", p[3].is_multiple_of(2)).with("product", p[5].is_multiple_of(2));
        return Some(g.op(CumSum::DEF, &[x], sum));
    }
    let wide = cast(g, x, WIDTHS[p[4] as usize % 4]);
    if p[1] % 3 == 1 {
        let y = g.op(CumSum::DEF, &[wide], Attrs::new().with("axis", axis).with("reverse", p[3].is_multiple_of(2)));
        return Some(cast(g, y, Elem::F32));
    }
    let word = ["add", "mul", "max", "min", "and", "or"][p[2] as usize % 6];
    let y = g.op(IntReduce::DEF, &[wide], Attrs::new().with("op", word).with("axes", [axis as i64]));
    Some(cast(g, y, Elem::F32))
}

/// Rows of a table that the elements choose, or elements of a dim in another order.
pub fn gather(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    if p[0].is_multiple_of(2) {
        let axis = 1 + p[1] as usize % (dims.len() - 1);
        let chosen: Vec<i64> = (0..1 + p[2] % 5).map(|i| i64::from(p[3] >> (i * 3)) % dims[axis] as i64).collect();
        let ids = g.constant(TensorTy::new(Elem::I64, [chosen.len()]), HostTensor::i64([chosen.len()], chosen.clone()));
        let ids = g.op(Index::DEF, &[ids], Attrs::new().with("size", dims[axis]));
        (g.elements(x) / dims[axis] * chosen.len() <= MAX_ELEMENTS).then_some(())?;
        return Some(g.op(Gather::DEF, &[x, ids], Attrs::new().with("axis", axis)));
    }
    let (rows, columns) = (1 + p[1] as usize % 9, 1 + p[2] as usize % 20);
    embedded(g, x, [rows, columns])
}

/// Rows joined to those of the same tensor that come first in an order.
pub fn joined(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let dims = g.dims(x);
    let (rank, n) = (dims.len(), *dims.last()?);
    let k = 1 + p[0] as usize % n;
    let order = Attrs::new().with("k", k).with("least", p[1].is_multiple_of(2));
    let places = g.op(TopK::DEF, &[x], order);
    if p[2].is_multiple_of(2) || rank < 2 {
        return Some(cast(g, places, Elem::F32));
    }
    // The mean of the items, whose rows do not depend on their number.
    let mean = g.op(ReduceMean::DEF, &[x], Attrs::new().with("axes", [0i64]).with("keepdims", true));
    let own = g.dims(mean);
    let size: usize = own.iter().product();
    let shape = |dims: &[usize]| Attrs::new().with("shape", dims.iter().map(|&d| d as i64).collect::<Vec<_>>());
    let rows = g.op(Reshape::DEF, &[mean], shape(&[size, 1]));
    let chosen: Vec<i64> = (0..1 + i64::from(p[3] % 7)).map(|i| (i * 5 + i64::from(p[4] % 11)) % size as i64).collect();
    let count = chosen.len();
    let ids = g.constant(TensorTy::new(Elem::I64, [count]), HostTensor::i64([count], chosen));
    let index = g.op(Index::DEF, &[ids], Attrs::new().with("size", size));
    let updates = g.floats(&[count, 1], (0..count).map(|i| (i as f32 * 0.37).sin()).collect());
    let word = ["set", "add", "mul", "max", "min"][p[5] as usize % 5];
    let joined = g.op(Scatter::DEF, &[rows, index, updates], Attrs::new().with("op", word));
    let back = g.op(Reshape::DEF, &[joined], shape(&own));
    Some(g.op(Add::DEF, &[x, back], Attrs::new()))
}

/// Rows of a table in which sequences begin, whose offsets follow from numbers of the tensor.
pub fn sequences(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    // The mean of the items does not depend on their number.
    let mean = g.op(ReduceMean::DEF, &[x], Attrs::new().with("axes", [0i64]).with("keepdims", true));
    let size: usize = g.dims(mean).iter().product();
    let count = 1 + p[0] as usize % size.min(6);
    let shape = |dims: &[usize]| Attrs::new().with("shape", dims.iter().map(|&d| d as i64).collect::<Vec<_>>());
    let flat = g.op(Reshape::DEF, &[mean], shape(&[size]));
    let some = Attrs::new().with("starts", [0i64]).with("ends", [count as i64]).with("steps", [1i64]);
    let some = g.op(Slice::DEF, &[flat], some);
    let lengths = cast(g, some, Elem::I64);
    let rows = 1 + i64::from(p[1] % 40);
    let number = |g: &mut Graph, n: i64| g.constant(TensorTy::new(Elem::I64, [1]), HostTensor::i64([1], vec![n]));
    let (zero, last) = (number(g, 0), number(g, rows));
    let lengths = g.op(IntBinary::DEF, &[lengths, zero], Attrs::new().with("op", "max"));
    let lengths = g.op(IntBinary::DEF, &[lengths, last], Attrs::new().with("op", "min"));
    let ends = g.op(CumSum::DEF, &[lengths], Attrs::new().with("axis", 0i64));
    let ends = g.op(IntBinary::DEF, &[ends, last], Attrs::new().with("op", "min"));
    let offsets = g.op(Concat::DEF, &[zero, ends, last], Attrs::new().with("axis", 0i64));
    let offsets = g.op(Offsets::DEF, &[offsets], Attrs::new().with("rows", rows));
    let table = g.floats(&[rows as usize + 1, 3], (0..3 * (rows + 1)).map(|i| (i as f32 * 0.37).sin()).collect());
    let begin = g.op(Gather::DEF, &[table, offsets], Attrs::new().with("axis", 0i64));
    let sum = g.op(ReduceMean::DEF, &[begin], Attrs::new().with("axes", [0i64, 1]).with("keepdims", true));
    let ones = vec![1; g.dims(x).len()];
    let sum = g.op(Reshape::DEF, &[sum], shape(&ones));
    Some(g.op(Add::DEF, &[x, sum], Attrs::new()))
}

/// Rows of a table so large that it may be stored as s8, alone or as a sum with rows of small ones.
pub fn embedding(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let columns = 5 + p[0] as usize % 20;
    let mut sum = embedded(g, x, [4200 / columns, columns])?;
    for i in 0..p[1] as usize % 3 {
        let rows = embedded(g, x, [2 + 3 * i, columns])?;
        let sides = if p[1].is_multiple_of(2) { [sum, rows] } else { [rows, sum] };
        sum = g.op(Add::DEF, &sides, Attrs::new());
    }
    Some(sum)
}

/// Rows of a table of so many rows and columns that the elements of `x` choose.
fn embedded(g: &mut Graph, x: ValueId, [rows, columns]: [usize; 2]) -> Option<ValueId> {
    (g.elements(x) * columns <= MAX_ELEMENTS).then_some(())?;
    let values = (0..rows * columns).map(|i| (i as f32 * 0.37).sin()).collect();
    let table = g.floats(&[rows, columns], values);
    let flat = g.flat(x);
    let wide = cast(g, flat, Elem::I64);
    let low = g.constant(TensorTy::new(Elem::I64, []), HostTensor::i64([], vec![-(rows as i64)]));
    let high = g.constant(TensorTy::new(Elem::I64, []), HostTensor::i64([], vec![rows as i64 - 1]));
    let ids = g.op(IntBinary::DEF, &[wide, low], Attrs::new().with("op", "max"));
    let ids = g.op(IntBinary::DEF, &[ids, high], Attrs::new().with("op", "min"));
    let ids = g.op(Index::DEF, &[ids], Attrs::new().with("size", rows));
    Some(g.op(Gather::DEF, &[table, ids], Attrs::new().with("axis", 0i64)))
}
