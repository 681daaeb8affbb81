//! ONNX operators of shape arithmetic: their results are known at import.

use super::node::{Lowered, Node};
use crate::elements::{bounded, checked_dims};
use crate::emit::{Graph, Known, Value, gather as gather_known, known_i64s};
use crate::error::Refusal;
use crate::shape as resolve;
use qc_dialects::graph::matmul::{broadcast, broadcast_index};
use qc_ir::{Data, HostTensor};

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
    let len = bounded(&dims).ok_or_else(|| too_large(&dims))?;
    if dims == from {
        return Ok(Lowered::identity(x.clone(), "the shape stays the same"));
    }
    let picked = |g: &mut Graph, x: &Value| {
        let t = x.known().ok_or_else(|| too_large(&dims))?;
        let make = || gather_known(t, dims.clone(), broadcast_index(&from, &dims));
        g.folded(8 * len, make).ok_or_else(|| too_large(&dims))
    };
    if x.known().is_some() {
        let moved = g.moved(x, None, picked);
        return Ok(moved.map_or_else(|| picked(g, x), Ok)?.into());
    }
    let mut aligned = vec![1; dims.len() - from.len()];
    aligned.extend(&from);
    let x = g.reshape(x, &aligned)?;
    let times: Vec<usize> = dims.iter().zip(&aligned).map(|(d, a)| if d == a { 1 } else { *d }).collect();
    Ok(repeated(g, &x, &times)?.into())
}

/// A tensor is repeated at most this often.
const MAX_COPIES: usize = 4096;

/// The tensor repeated along every axis.
fn repeated(g: &mut Graph, x: &Value, times: &[usize]) -> Result<Value> {
    let copies = times.iter().try_fold(1usize, |a, &t| a.checked_mul(t).filter(|&n| n <= MAX_COPIES && t > 0));
    if copies.is_none() {
        return Err(Refusal::unsupported(format!("it repeats computed values {times:?} times")));
    }
    if let Some(format) = g.quant_of(x).cloned() {
        let real = g.dequantize(x)?;
        let value = repeated(g, &real, times)?;
        return g.quantize(&value, format);
    }
    let mut value = x.clone();
    for (axis, &count) in times.iter().enumerate() {
        value = g.concat(&vec![value; count], axis)?;
    }
    Ok(value)
}

pub(super) fn tile(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let times = n.known_ints(1, "the repeats")?.ok_or_else(|| Refusal::invalid("it has no repeats"))?;
    let times: Option<Vec<usize>> = times.iter().map(|&t| usize::try_from(t).ok()).collect();
    let times = times.filter(|t| t.len() == g.dims(x).len());
    let times = times.ok_or_else(|| Refusal::invalid("the repeats do not fit its shape"))?;
    Ok(Lowered::identity(repeated(g, x, &times)?, "the shape stays the same"))
}

/// Gathering along an axis: on known data, or a single index or a run of indices of computed data.
pub(super) fn gather(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let axis = resolve::axis(n.int("axis")?.unwrap_or(0), dims.len())?;
    let indices = n.known(1, "the indices")?.ok_or_else(|| Refusal::invalid("it has no indices"))?;
    if matches!(indices.data(), Data::F32(_)) {
        return Err(Refusal::invalid("the indices are no integers"));
    }
    g.charge(8 * indices.len())?;
    let at: Vec<usize> = (0..indices.len())
        .map(|i| resolve::axis(indices.int(i).unwrap_or(-1), dims[axis]))
        .collect::<Result<_>>()
        .map_err(|_| Refusal::invalid(format!("an index is outside dim {} of {dims:?}", dims[axis])))?;
    let mut out = dims.clone();
    out.splice(axis..=axis, indices.dims().iter().copied());
    let len = bounded(&out).ok_or_else(|| too_large(&out))?;
    let picked = |g: &mut Graph, x: &Value| {
        let t = x.known().ok_or_else(|| too_large(&out))?;
        let inner: usize = dims[axis + 1..].iter().product();
        let outer: usize = dims[..axis].iter().product();
        let row = |o: usize| {
            let at = &at;
            at.iter().flat_map(move |&i| (0..inner).map(move |k| (o * t.dims()[axis] + i) * inner + k))
        };
        let make = || gather_known(t, out.clone(), (0..outer).flat_map(row));
        g.folded(8 * len, make).ok_or_else(|| too_large(&out))
    };
    if x.known().is_some()
        && let Ok(v) = g.moved(x, None, picked).map_or_else(|| picked(g, x), Ok)
    {
        return Ok(v.into());
    }
    if at.is_empty() || at.windows(2).any(|w| w[1] != w[0] + 1) {
        return Err(Refusal::unsupported("only a run of consecutive indices can be gathered from computed values"));
    }
    let part = g.narrow(x, axis, at[0], at[0] + at.len())?;
    Ok(Lowered::identity(g.reshape(&part, &out)?, "it keeps all elements"))
}
