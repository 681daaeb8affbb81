//! Passes on float graphs.

mod behind_movement;
pub mod bounds;
pub mod canonicalize;
pub mod const_fold;
pub mod cse;
pub mod fold_batch_norm;
pub mod fuse_activation;
pub mod name_operands;
pub mod raise_functions;
pub mod raise_norms;
pub mod sum_depthwise;

use qc_dialects::graph::Constant;
use qc_ir::{Attrs, Elem, HostTensor, Module, OpId, Rewriter, TensorTy, Traits, ValueId};
use std::sync::Arc;

/// The tensor of a value that a `graph.constant` defines.
pub fn constant(m: &Module, v: ValueId) -> Option<Arc<HostTensor>> {
    let c = Constant::producing(m, v)?;
    Some(m.consts.get(c.value(m)).tensor.clone())
}

/// Whether a value is a constant behind any number of ops with one operand, such as a quantized pair. It has no batch,
/// so at batch 1 it may have the shape of a tensor that it does not have at others.
pub fn from_constant(m: &Module, mut v: ValueId) -> bool {
    for _ in 0..LOOKED_AT {
        let Some(op) = m.producer(v) else { return false };
        match m.operands(op) {
            [Some(x)] => v = *x,
            _ => return m.is(op, Constant::DEF),
        }
    }
    false
}

/// Ops that are looked at for one answer, so that questions about every op of a chain do not take quadratic time.
const LOOKED_AT: usize = 32;

/// The elements of a constant f32 value.
pub fn constant_f32(m: &Module, v: ValueId) -> Option<Vec<f32>> {
    constant(m, v)?.as_f32().map(<[f32]>::to_vec)
}

/// Whether a value is a constant of f32.
pub fn is_constant_f32(m: &Module, v: ValueId) -> bool {
    constant(m, v).is_some_and(|t| t.as_f32().is_some())
}

/// The value of a constant that has one element everywhere.
pub fn splat(m: &Module, v: ValueId) -> Option<f32> {
    let values = constant_f32(m, v)?;
    let first = *values.first()?;
    values.iter().all(|x| x.to_bits() == first.to_bits()).then_some(first)
}

/// Makes a constant op before the root.
pub fn add_constant(rw: &mut Rewriter<'_>, name: &str, ty: TensorTy, tensor: HostTensor) -> Option<ValueId> {
    let tensor = rw.m.consts.memo.kept(tensor);
    add_shared_constant(rw, name, ty, tensor)
}

/// As [`add_constant`], of a tensor that other programs may have as well.
pub fn add_shared_constant(
    rw: &mut Rewriter<'_>,
    name: &str,
    ty: TensorTy,
    tensor: Arc<HostTensor>,
) -> Option<ValueId> {
    let c = rw.m.consts.add(name, ty, tensor);
    let op = rw.create(Constant::DEF, &[], Attrs::new().with("value", c))?;
    let v = rw.m.result(op);
    let unique = rw.m.consts.get(c).name.clone();
    rw.m.set_name(v, &unique);
    Some(v)
}

/// Makes an f32 constant named after `like`.
pub fn add_f32(rw: &mut Rewriter<'_>, like: &str, dims: &[usize], data: Vec<f32>) -> Option<ValueId> {
    add_constant(rw, like, TensorTy::new(Elem::F32, dims), HostTensor::f32(dims, data))
}

/// The values of a constant operand that broadcasts along `axis` of `dims` and is 1 elsewhere; one value is repeated.
pub fn per_channel(m: &Module, v: ValueId, dims: &[usize], axis: usize) -> Option<Vec<f32>> {
    let values = constant_f32(m, v)?;
    let own = m.dims(v);
    let skip = dims.len().checked_sub(own.len())?;
    let fits = own.iter().enumerate().all(|(i, &d)| d == 1 || (i + skip == axis && d == dims[axis]));
    let size = dims[axis];
    match values.len() {
        1 if fits => Some(vec![values[0]; size]),
        n if fits && n == size => Some(values),
        _ => None,
    }
}

/// Whether an op moves elements.
pub fn is_movement(m: &Module, op: OpId) -> bool {
    m.def(op).traits.has(Traits::MOVEMENT)
}

/// Whether no activation is part of an op yet, so that more can be folded into its weights.
pub fn unclamped(m: &Module, op: OpId) -> bool {
    m.attrs(op).get("min").is_none() && m.attrs(op).get("max").is_none()
}

/// The op that computes `v`, if `v` has no other user than `user`.
pub fn sole_producer(m: &Module, v: ValueId, user: OpId) -> Option<OpId> {
    (m.only_user(v) == Some(user)).then(|| m.producer(v)).flatten()
}
