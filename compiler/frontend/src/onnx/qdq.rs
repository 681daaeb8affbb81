//! `QuantizeLinear` and `DequantizeLinear`: one to one, with scales and zero points moved into the type. What they are
//! made of serves the operators on quantized tensors as well.

use super::node::{Lowered, Node};
use crate::emit::{Graph, Value};
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

/// Scale, zero point and axis of a quantized tensor, as a node states them in neighbouring inputs.
pub(super) struct Stated<'a> {
    scales: &'a [f32],
    zero: Option<&'a HostTensor>,
    /// The axis of several scales; `None` when there can be only one.
    axis: Option<i64>,
    /// The storage of a result whose zero point is left out.
    default: Store,
}

impl<'a> Stated<'a> {
    /// Reads input `scale` of a node as the scales and the input behind it as the zero points.
    ///
    /// # Errors
    /// When they are computed by the model, or when there is no scale.
    pub fn at(n: &'a Node<'_>, scale: usize, axis: Option<i64>) -> Result<Stated<'a>> {
        let scales = n.known(scale, "the scales")?.and_then(HostTensor::as_f32);
        let scales = scales.ok_or_else(|| Refusal::invalid("it has no float scale"))?;
        Ok(Stated { scales, zero: n.known(scale + 1, "the zero points")?, axis, default: Store::U8 })
    }

    /// The scales, one or one per index of the axis.
    pub fn scales(&self) -> &'a [f32] {
        self.scales
    }

    /// The format for a tensor of `dims`; `store` is that of its elements, if they are there already.
    fn format(&self, dims: &[usize], store: Option<Store>) -> Result<Quant> {
        let zero_store = self.zero.map(|z| store_of(z.data().elem()).ok_or_else(|| unsupported_store(z.data().elem())));
        let store = match (store, zero_store.transpose()?) {
            (Some(a), Some(b)) if a != b => return Err(Refusal::invalid("input and zero point differ in type")),
            (Some(s), _) | (None, Some(s)) => s,
            (None, None) => self.default,
        };
        let count = self.scales.len();
        let axis = match (count, self.axis) {
            (1, _) => None,
            (_, Some(axis)) => Some(shape::axis(axis, dims.len())?),
            (_, None) => {
                return Err(Refusal::unsupported(format!("{count} scales for one tensor of activations"))
                    .remedy("quantize activations with one scale per tensor"));
            }
        };
        if axis.is_some_and(|a| dims[a] != count) {
            return Err(Refusal::invalid(format!("{count} scales for the shape {dims:?}")));
        }
        let zeros = match self.zero {
            None => vec![0],
            Some(z) if z.len() != 1 && z.len() != count => {
                return Err(Refusal::invalid(format!("{count} scales and {} zero points", z.len())));
            }
            Some(z) => (0..z.len()).map(|i| z.int(i).unwrap_or(0) as i32).collect(),
        };
        let (lo, hi) = store.bounds();
        Ok(Quant { store, axis, scales: self.scales.into(), zeros: zeros.into(), lo, hi })
    }
}

/// What `QuantizeLinear` and `DequantizeLinear` state.
fn stated<'a>(n: &'a Node<'_>) -> Result<Stated<'a>> {
    if n.int("block_size")?.unwrap_or(0) != 0 {
        return Err(Refusal::unsupported("blocked quantization is not supported"));
    }
    let default = default_store(n)?;
    Ok(Stated { default, ..Stated::at(n, 1, Some(n.int("axis")?.unwrap_or(1)))? })
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
    quantized(g, n.input(0)?, &stated(n)?)
}

/// A float tensor in the format that is stated.
///
/// # Errors
/// When there is no such format, or when the tensor is not f32.
pub(super) fn quantized(g: &mut Graph, x: &Value, stated: &Stated<'_>) -> Result<Lowered> {
    g.expect_f32(x)?;
    let dims = g.dims(x);
    let quant = stated.format(&dims, None)?;
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
    Ok(dequantized(g, n.input(0)?, &stated(n)?)?.into())
}

/// What stored integers stand for in the format that is stated.
///
/// # Errors
/// When there is no such format, or when it is not the format that the integers were made in.
pub(super) fn dequantized(g: &mut Graph, x: &Value, stated: &Stated<'_>) -> Result<Value> {
    let dims = g.dims(x);
    if let Value::Known(k) = x {
        let elem = k.tensor.data().elem();
        let store = store_of(elem).ok_or_else(|| unsupported_store(elem))?;
        let quant = stated.format(&dims, Some(store))?;
        let (quant, tensor) = without_zero_scales(quant, &k.tensor);
        return g.dequantized_constant(&k.name, tensor, quant);
    }
    let Some(own) = g.quant_of(x).cloned() else { return dequantized_plain(g, x, stated) };
    if !same_format(&own, &stated.format(&dims, Some(own.store))?) {
        return Err(Refusal::unsupported("its scale or zero point differs from that of its QuantizeLinear"));
    }
    g.dequantize(x)
}

fn same_format(a: &Quant, b: &Quant) -> bool {
    let same_zeros = |a: &[i32], b: &[i32]| {
        let len = a.len().max(b.len());
        (0..len).all(|i| a.get(i).or(a.first()) == b.get(i).or(b.first()))
    };
    a.store == b.store && a.axis == b.axis && a.scales == b.scales && same_zeros(&a.zeros, &b.zeros)
}

/// Integers that the model is fed with, or computes without saying what they mean: `(x - zero) * scale` in floats. Bytes
/// are quantized again, which is exact, so that integer ops can read them.
fn dequantized_plain(g: &mut Graph, x: &Value, stated: &Stated<'_>) -> Result<Value> {
    let elem = g.elem(x);
    let store = store_of(elem).ok_or_else(|| unsupported_store(elem))?;
    let dims = g.dims(x);
    let quant = stated.format(&dims, Some(store))?;
    if quant.axis.is_some() || quant.zeros.len() != 1 {
        return Err(Refusal::unsupported("integers that the model computes have one scale per channel"));
    }
    let (scale, zero) = (quant.scales[0], quant.zeros[0] as f32);
    let real = g.cast(x, Elem::F32)?;
    let real = g.plus(&real, -zero)?;
    let real = g.times(&real, scale)?;
    if store == Store::I32 {
        return Ok(real);
    }
    let stored = g.quantize(&real, quant)?;
    g.dequantize(&stored)
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
