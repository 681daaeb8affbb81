//! Paddle ops that choose by indices, and embeddings.

use super::op::{Lowered, Op};
use crate::emit::{Graph, Value};
use crate::error::Refusal;
use crate::shape;
use qc_ir::HostTensor;

type Result<T> = std::result::Result<T, Refusal>;

/// A table whose row `padding` reads as zeros, whatever it holds.
fn padded(g: &mut Graph, table: &Value, padding: i64) -> Result<Value> {
    let dims = g.dims(table);
    let Ok(row) = usize::try_from(padding) else { return Ok(table.clone()) };
    let width: usize = dims.iter().skip(1).product();
    if dims.first().is_none_or(|&rows| row >= rows) {
        return Err(Refusal::invalid(format!("its padding_idx {padding} is no row of a table of shape {dims:?}")));
    }
    let values = table.known().and_then(HostTensor::as_f32).ok_or_else(|| {
        Refusal::unsupported("it has a padding_idx, and its table is computed by the model")
            .remedy("export the model with the table as a parameter")
    })?;
    if values[row * width..][..width].iter().all(|&v| v == 0.0) {
        return Ok(table.clone());
    }
    let mut values = values.to_vec();
    values[row * width..][..width].fill(0.0);
    g.charge(4 * values.len())?;
    let name = table.name().unwrap_or("").to_string();
    Ok(Value::from(HostTensor::f32(dims, values)).named(&name))
}

/// Rows of `W`; ids have a last dim of 1, which goes, in the first version.
fn embedding(g: &mut Graph, op: &Op<'_>, ids: &Value) -> Result<Lowered> {
    let table = padded(g, op.input("W")?, op.int("padding_idx")?.unwrap_or(-1))?;
    Ok(g.gather(&table, ids, 0)?.into())
}

pub(super) fn lookup_table(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let ids = op.input("Ids")?;
    let mut dims = g.dims(ids);
    if dims.pop() != Some(1) {
        return Err(Refusal::invalid(format!("its ids have the shape {:?}, not [.., 1]", g.dims(ids))));
    }
    let ids = g.reshape(ids, &dims)?;
    embedding(g, op, &ids)
}

pub(super) fn lookup_table_v2(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    embedding(g, op, op.input("Ids")?)
}

/// The axis of an op, which may come as a tensor.
fn axis(op: &Op<'_>, name: &str, rank: usize) -> Result<usize> {
    let axis = match op.known_number("Axis")? {
        Some(axis) => axis as i64,
        None => op.int(name)?.unwrap_or(0),
    };
    shape::axis(axis, rank)
}

/// Indices of two dims, the second of 1, count as a vector.
pub(super) fn gather(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, index) = (op.input("X")?, op.input("Index")?);
    let index = match g.dims(index)[..] {
        [count, 1] => g.reshape(index, &[count])?,
        _ => index.clone(),
    };
    let axis = axis(op, "axis", g.dims(x).len())?;
    Ok(Lowered::identity(g.gather(x, &index, axis)?, "it keeps all elements, or its result is known at import"))
}

pub(super) fn gather_nd(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(g.gather_nd(op.input("X")?, op.input("Index")?, 0)?.into())
}

pub(super) fn index_select(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axis = shape::axis(op.int("dim")?.unwrap_or(0), g.dims(x).len())?;
    Ok(g.gather(x, op.input("Index")?, axis)?.into())
}

pub(super) fn take_along_axis(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("Input")?;
    let axis = shape::axis(op.int("Axis")?.unwrap_or(0), g.dims(x).len())?;
    Ok(g.gather_elements(x, op.input("Index")?, axis)?.into())
}
