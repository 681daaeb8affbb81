//! `QuantizeLinear` and `DequantizeLinear`: one to one, with scales and zero points moved into the type.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Value};
use crate::error::Refusal;
use crate::shape;
use qc_dialects::graph::{self, quantize};
use qc_ir::{Data, Elem, HostTensor, Quant, Store, attrs};

type Result<T> = std::result::Result<T, Refusal>;

/// The store behind an element type.
fn store_of(elem: Elem) -> Option<Store> {
    match elem {
        Elem::U8 => Some(Store::U8),
        Elem::I8 => Some(Store::I8),
        Elem::I32 => Some(Store::I32),
        _ => None,
    }
}

/// The format that scale, zero point and axis of a node describe for a tensor of `dims`.
fn format(n: &Node<'_>, dims: &[usize], store: Option<Store>) -> Result<Quant> {
    let scales = n.known(1, "the scales")?.and_then(HostTensor::as_f32);
    let scales = scales.ok_or_else(|| Refusal::invalid("it has no float scale"))?;
    let zero = n.known(2, "the zero points")?;
    let zero_store = zero.map(|z| store_of(z.data().elem()).ok_or_else(|| unsupported_store(z.data().elem())));
    let zero_store = zero_store.transpose()?;
    let store = match (store, zero_store) {
        (Some(a), Some(b)) if a != b => return Err(Refusal::invalid("input and zero point differ in type")),
        (Some(s), _) | (None, Some(s)) => s,
        (None, None) => default_store(n)?,
    };
    if n.int("block_size")?.unwrap_or(0) != 0 {
        return Err(Refusal::unsupported("blocked quantization is not supported"));
    }
    let axis = match scales.len() {
        1 => None,
        _ => Some(shape::axis(n.int("axis")?.unwrap_or(1), dims.len())?),
    };
    if axis.is_some_and(|a| dims[a] != scales.len()) {
        return Err(Refusal::invalid(format!("{} scales for the shape {dims:?}", scales.len())));
    }
    let zeros = match zero {
        None => vec![0],
        Some(z) if z.len() != 1 && z.len() != scales.len() => {
            return Err(Refusal::invalid(format!("{} scales and {} zero points", scales.len(), z.len())));
        }
        Some(z) => (0..z.len()).map(|i| z.int(i).unwrap_or(0) as i32).collect(),
    };
    let (lo, hi) = store.bounds();
    Ok(Quant { store, axis, scales: scales.into(), zeros: zeros.into(), lo, hi })
}

fn unsupported_store(elem: Elem) -> Refusal {
    Refusal::unsupported(format!("quantization to {} is not supported", elem.word().unwrap_or("this type")))
        .remedy("quantize the model to uint8 or int8")
}

fn default_store(n: &Node<'_>) -> Result<Store> {
    match n.int("output_dtype")?.unwrap_or(2) {
        0 | 2 => Ok(Store::U8),
        3 => Ok(Store::I8),
        other => Err(Refusal::unsupported(format!("output_dtype {other} is not supported"))),
    }
}

pub(super) fn quantize_linear(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    g.expect_f32(x)?;
    let dims = g.dims(x);
    let quant = format(n, &dims, None)?;
    if quant.store == Store::I32 {
        return Err(unsupported_store(Elem::I32));
    }
    let id = g.quant(quant, &dims)?;
    if let Value::Known(k) = x {
        let quant = g.m.quant(id).clone();
        let stored = quantize::quantize_tensor(&quant, &k.tensor).map_err(Refusal::invalid)?;
        let value = g.quant_constant(&k.name, stored, quant)?;
        return Ok(Lowered::identity(value, "the constant is stored quantized"));
    }
    Ok(g.emit_f32(graph::Quantize::DEF, &[Some(x)], attrs! { quant: id })?.into())
}

pub(super) fn dequantize_linear(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let value = match x {
        Value::Known(k) => {
            let elem = k.tensor.data().elem();
            let store = store_of(elem).ok_or_else(|| unsupported_store(elem))?;
            let quant = format(n, &dims, Some(store))?;
            let (quant, tensor) = without_zero_scales(quant, &k.tensor);
            return Ok(g.dequantized_constant(&k.name, tensor, quant)?.into());
        }
        Value::Runtime(_) => match g.quant_of(x).cloned() {
            Some(own) => {
                let stated = format(n, &dims, Some(own.store))?;
                if !same_format(&own, &stated) {
                    return Err(Refusal::unsupported(
                        "its scale or zero point differs from that of its QuantizeLinear",
                    ));
                }
                x.clone()
            }
            None => return dequantize_plain(g, n, x),
        },
    };
    Ok(g.emit(graph::Dequantize::DEF, &[Some(&value)], attrs! {})?.into())
}

fn same_format(a: &Quant, b: &Quant) -> bool {
    let same_zeros = |a: &[i32], b: &[i32]| {
        let len = a.len().max(b.len());
        (0..len).all(|i| a.get(i).or(a.first()) == b.get(i).or(b.first()))
    };
    a.store == b.store && a.axis == b.axis && a.scales == b.scales && same_zeros(&a.zeros, &b.zeros)
}

/// Integers that the model is fed with, or computes without saying what they mean: `(x - zero) * scale` in floats.
fn dequantize_plain(g: &mut Graph, n: &Node<'_>, x: &Value) -> Result<Lowered> {
    let elem = g.elem(x);
    let store = store_of(elem).ok_or_else(|| unsupported_store(elem))?;
    let quant = format(n, &g.dims(x), Some(store))?;
    if quant.axis.is_some() || quant.zeros.len() != 1 {
        return Err(Refusal::unsupported("integers that the model computes have one scale per channel"));
    }
    let real = g.cast(x, Elem::F32)?;
    let zero = HostTensor::f32(Vec::new(), vec![quant.zeros[0] as f32]).into();
    let shifted = if quant.zeros[0] == 0 { real } else { g.arith(Arith::Sub, &real, &zero)? };
    Ok(g.times(&shifted, quant.scales[0])?.into())
}

/// A scale of 0 makes every number 0. The same numbers are written here as zero points with the scale 1, because a scale
/// must be positive.
fn without_zero_scales(quant: Quant, t: &HostTensor) -> (Quant, HostTensor) {
    if !quant.scales.contains(&0.0) || quantize::check_quant(&ones(&quant), t.dims()).is_err() {
        return (quant, t.clone());
    }
    let axis = quantize::axis_index(&quant, t.dims());
    let stored = (0..t.len()).map(|i| {
        let c = axis(i);
        if quant.scale(c) == 0.0 { i64::from(quant.zero(c)) } else { t.int(i).unwrap_or(0) }
    });
    let data = match quant.store {
        Store::U8 => Data::U8(stored.map(|v| v as u8).collect()),
        Store::I8 => Data::I8(stored.map(|v| v as i8).collect()),
        Store::I32 => Data::I32(stored.map(|v| v as i32).collect()),
    };
    let tensor = HostTensor::new(t.dims(), data).unwrap_or_else(|| t.clone());
    (ones(&quant), tensor)
}

/// The format with every scale of 0 replaced.
fn ones(quant: &Quant) -> Quant {
    let scales = quant.scales.iter().map(|&s| if s == 0.0 { 1.0 } else { s }).collect();
    Quant { scales, ..quant.clone() }
}
