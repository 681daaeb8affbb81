//! Paddle ops whose results are known at import.

use super::op::{Lowered, Op};
use super::params;
use crate::elements::{Stored, checked_dims};
use crate::emit::{Graph, Value, cast_known, gather, known_i64s};
use crate::error::Refusal;
use qc_ir::{Elem, HostTensor};

type Result<T> = std::result::Result<T, Refusal>;

fn elem_of(op: &Op<'_>) -> Result<Elem> {
    let dtype = op.int("dtype")?.unwrap_or(5);
    let stored = i32::try_from(dtype).map_err(|_| format!("type number {dtype}")).and_then(params::stored_type);
    stored.map(Stored::plain).map_err(Refusal::unsupported)
}

pub(super) fn shape(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let dims: Vec<i32> = g.dims(op.input("Input")?).iter().map(|&d| i32::try_from(d).unwrap_or(i32::MAX)).collect();
    Ok(Value::from(HostTensor::i32(vec![dims.len()], dims)).into())
}

/// The shape as 64-bit integers.
pub(super) fn shape_wide(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(known_i64s(g.dims(op.input("Input")?).iter().map(|&d| d as i64).collect()).into())
}

pub(super) fn fill_constant(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let dims = op.ints_from("ShapeTensor", "ShapeTensorList", "shape")?.unwrap_or_default();
    let too_large = || Refusal::unsupported(format!("the constant of shape {dims:?} is too large, or empty"));
    let (sizes, len) = checked_dims(&dims).ok_or_else(too_large)?;
    let text = op.text("str_value")?;
    let value = match (op.known("ValueTensor")?, text.is_empty()) {
        (Some(t), _) if t.len() == 1 => t.clone(),
        (Some(_), _) => return Err(Refusal::invalid("its value is not one number")),
        (None, true) => HostTensor::f32(vec![1], vec![op.float("value")?.unwrap_or(0.0)]),
        (None, false) => parse_number(text)?,
    };
    let elem = elem_of(op)?;
    let make = || gather(&cast_known(&value, elem)?, sizes, std::iter::repeat_n(0, len));
    Ok(g.folded(8 * len, make).ok_or_else(too_large)?.into())
}

/// One number in the shape and, unless the op states another, of the type of its input.
pub(super) fn fill_like(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let value = op.number_from("ValueTensor", "value", 0.0)?;
    let elem = match op.int("dtype")? {
        None | Some(-1) => g.elem(x),
        Some(_) => elem_of(op)?,
    };
    filled(g, value, elem, g.dims(x))
}

/// A constant, one dim of which is a dim of the input.
pub(super) fn fill_batch_size_like(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let from = g.dims(op.input("Input")?);
    let place = |name: &str| Ok::<usize, Refusal>(usize::try_from(op.int(name)?.unwrap_or(0)).unwrap_or(usize::MAX));
    let (input, output) = (place("input_dim_idx")?, place("output_dim_idx")?);
    let mut dims = op.ints("shape")?.unwrap_or_default();
    match (dims.get_mut(output), from.get(input)) {
        (Some(dim), Some(&size)) => *dim = size as i64,
        _ => return Err(Refusal::invalid(format!("dim {output} of {dims:?} is dim {input} of {from:?}"))),
    }
    let sizes = checked_dims(&dims).map(|(sizes, _)| sizes);
    let sizes = sizes.ok_or_else(|| Refusal::invalid(format!("the shape {dims:?} is impossible")))?;
    let text = op.text("str_value")?;
    let value = match text.parse::<f32>() {
        Ok(value) => value,
        Err(_) => op.float("value")?.unwrap_or(0.0),
    };
    filled(g, value, elem_of(op)?, sizes)
}

fn filled(g: &mut Graph, value: f32, elem: Elem, dims: Vec<usize>) -> Result<Lowered> {
    let value = g.cast(&crate::emit::scalar(value), elem)?;
    Ok(g.expand(&value, &dims)?.into())
}

/// `start, start + step, ..` below `end`.
pub(super) fn range(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let number = |slot: &str| -> Result<HostTensor> {
        let t = op.known(slot)?.ok_or_else(|| Refusal::invalid(format!("its input `{slot}` is missing")))?;
        if t.len() == 1 { Ok(t.clone()) } else { Err(Refusal::invalid(format!("its input `{slot}` is no number"))) }
    };
    let range = g.range(&number("Start")?, &number("End")?, &number("Step")?)?;
    Ok(match op.int("dtype")? {
        Some(_) => g.cast(&range, elem_of(op)?)?,
        None => range,
    }
    .into())
}

fn parse_number(text: &str) -> Result<HostTensor> {
    if let Ok(int) = text.parse::<i64>() {
        return Ok(HostTensor::i64(vec![1], vec![int]));
    }
    let float = text.parse::<f32>().map_err(|_| Refusal::invalid(format!("str_value is {text:?}")))?;
    Ok(HostTensor::f32(vec![1], vec![float]))
}

pub(super) fn assign_value(_: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let dims = op.ints("shape")?.unwrap_or_default();
    let elem = elem_of(op)?;
    let floats = match op.floats("fp32_values")? {
        Some(v) if !v.is_empty() => Some(v),
        _ => op.floats("fp64_values")?.filter(|v| !v.is_empty()),
    };
    let t = match floats {
        Some(v) => HostTensor::f32(vec![v.len()], v),
        None => {
            let lists = ["int32_values", "int64_values", "bool_values"];
            let mut ints = Vec::new();
            for name in lists {
                if ints.is_empty() {
                    ints = op.ints(name)?.unwrap_or_default();
                }
            }
            HostTensor::i64(vec![ints.len()], ints)
        }
    };
    let sizes = checked_dims(&dims).filter(|(_, len)| *len == t.len()).map(|(sizes, _)| sizes);
    let value = sizes.and_then(|sizes| cast_known(&t, elem)?.reshaped(sizes));
    let t = value.ok_or_else(|| Refusal::invalid(format!("{} values for the shape {dims:?}", t.len())))?;
    Ok(Value::from(t).into())
}
