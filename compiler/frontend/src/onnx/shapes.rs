//! ONNX operators of shape arithmetic: their results are known at import.

use super::node::{Lowered, Node};
use crate::elements::checked_dims;
use crate::emit::{Graph, Known, Value, gather as gather_known, known_i64s};
use crate::error::Refusal;
use qc_dialects::graph::matmul::broadcast;
use qc_ir::HostTensor;

type Result<T> = std::result::Result<T, Refusal>;

/// Why a result is not computed at import.
fn too_large(dims: &[usize]) -> Refusal {
    Refusal::unsupported(format!("the constant of shape {dims:?} is too large to be made at import, or empty"))
}

pub(super) fn constant(_: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    if let Some((t, narrow)) = n.tensor("value")? {
        return Ok(Value::Known(Known { name: "".into(), tensor: t.into(), narrow }).into());
    }
    let t = if let Some(f) = n.float("value_float")? {
        HostTensor::f32(Vec::new(), vec![f])
    } else if let Some(i) = n.int("value_int")? {
        HostTensor::i64(Vec::new(), vec![i])
    } else if let Some(v) = n.floats("value_floats")? {
        HostTensor::f32(vec![v.len()], v.to_vec())
    } else if let Some(v) = n.ints("value_ints")? {
        HostTensor::i64(vec![v.len()], v.to_vec())
    } else {
        return Err(Refusal::unsupported("its value is no tensor, float or integer"));
    };
    Ok(Value::from(t).into())
}

pub(super) fn shape(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let dims = g.dims(n.input(0)?);
    let rank = dims.len() as i64;
    let place = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let start = place(n.int("start")?.unwrap_or(0));
    let end = place(n.int("end")?.unwrap_or(rank)).max(start);
    Ok(known_i64s(dims[start..end].iter().map(|&d| d as i64).collect()).into())
}

pub(super) fn size(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let count = g.dims(n.input(0)?).iter().product::<usize>() as i64;
    Ok(Value::from(HostTensor::i64(Vec::new(), vec![count])).into())
}

pub(super) fn constant_of_shape(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let dims = n.known_ints(0, "the dims")?.ok_or_else(|| Refusal::invalid("it has no shape"))?;
    let impossible = || Refusal::invalid(format!("the shape {dims:?} is impossible"));
    let (sizes, len) = checked_dims(&dims).ok_or_else(impossible)?;
    let value = n.tensor("value")?.map_or_else(|| HostTensor::f32(vec![1], vec![0.0]), |(t, _)| t);
    let filled = g.folded(8 * len, || gather_known(&value, sizes.clone(), std::iter::repeat_n(0, len)));
    Ok(filled.ok_or_else(|| too_large(&sizes))?.into())
}

pub(super) fn expand(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let target = n.known_ints(1, "the dims")?.ok_or_else(|| Refusal::invalid("it has no shape"))?;
    let target =
        checked_dims(&target).ok_or_else(|| Refusal::invalid(format!("the shape {target:?} is impossible")))?;
    let from = g.dims(x);
    let dims = broadcast(&from, &target.0).map_err(Refusal::invalid)?;
    if dims == from {
        return Ok(Lowered::identity(x.clone(), "the shape stays the same"));
    }
    Ok(g.expand(x, &dims)?.into())
}

pub(super) fn tile(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let times = n.known_ints(1, "the repeats")?.ok_or_else(|| Refusal::invalid("it has no repeats"))?;
    let times: Option<Vec<usize>> = times.iter().map(|&t| usize::try_from(t).ok()).collect();
    let times = times.filter(|t| t.len() == g.dims(x).len());
    let times = times.ok_or_else(|| Refusal::invalid("the repeats do not fit its shape"))?;
    Ok(Lowered::identity(g.tile(x, &times)?, "the shape stays the same"))
}
