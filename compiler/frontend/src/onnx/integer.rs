//! Operators on plain integers, whose scales are known only at run time: `MatMulInteger`, `ConvInteger`,
//! `DynamicQuantizeLinear`.
//!
//! There is no format to give such integers at import, so they are computed as f32, which holds them exactly: sums that
//! could reach `2^24` are cut into two by the digits of the weights. A sum beyond `2^24` is rounded when the two are
//! added, as the conversion to f32 that follows such an operator rounds it.

use super::nn;
use super::node::{Lower, Lowered, Node};
use super::qdq::MAGIC;
use crate::emit::{Arith, Graph, Relation, Value, scalar};
use crate::error::Refusal;
use qc_ir::{Elem, HostTensor};

type Result<T> = std::result::Result<T, Refusal>;

/// From here on, f32 does not hold every integer.
const EXACT: usize = 1 << 24;

/// Weights are cut into digits of this base.
const BASE: f32 = 16.0;

/// Input `at` minus its zero point, as f32; the zero point has the shape `zeros` when there are several.
fn centred(g: &mut Graph, n: &Node<'_>, at: usize, zero: usize, zeros: &[usize]) -> Result<Value> {
    let x = n.input(at)?;
    if !matches!(g.elem(x), Elem::U8 | Elem::I8) {
        return Err(Refusal::unsupported("its operands are not uint8 or int8"));
    }
    let real = g.cast(x, Elem::F32)?;
    let Some(zero) = n.optional(zero) else { return Ok(real) };
    let count: usize = g.dims(zero).iter().product();
    let zero = g.cast(zero, Elem::F32)?;
    let zero = match count {
        1 => g.reshape(&zero, &[])?,
        _ => g.reshape(&zero, zeros)?,
    };
    g.arith(Arith::Sub, &real, &zero)
}

/// `float` of `a` and `b`, both whole numbers up to 255, whose sums have `taps` terms.
fn whole(g: &mut Graph, n: &Node<'_>, a: &Value, b: &Value, taps: usize, float: Lower) -> Result<Value> {
    let product = |g: &mut Graph, b: &Value| -> Result<Value> {
        let inputs = vec![Some(a.clone()), Some(b.clone())];
        let node = Node { proto: n.proto, inputs, used: n.used.clone(), opset: n.opset, files: n.files };
        let lowered = float(g, &node)?;
        lowered.values.into_iter().next().ok_or_else(|| Refusal::invalid("it has no result"))
    };
    let known = b.known().and_then(|t| Some((t.as_f32()?, t.dims().to_vec())));
    let largest = known.as_ref().map_or(255, |(w, _)| w.iter().fold(0.0f32, |m, w| m.max(w.abs())) as usize);
    let reach = |largest: usize| taps.saturating_mul(255 * largest.max(1));
    let sum = match known {
        _ if reach(largest) < EXACT => product(g, b)?,
        Some((w, dims)) if reach(BASE as usize) < EXACT => {
            let high: Vec<f32> = w.iter().map(|w| (w / BASE).floor()).collect();
            let low: Vec<f32> = w.iter().zip(&high).map(|(w, h)| w - BASE * h).collect();
            let (high, low) = (HostTensor::f32(dims.clone(), high), HostTensor::f32(dims, low));
            g.charge(8 * high.len())?;
            let (high, low) = (product(g, &Value::from(high))?, product(g, &Value::from(low))?);
            let high = g.times(&high, BASE)?;
            g.arith(Arith::Add, &high, &low)?
        }
        _ => return Err(Refusal::unsupported(format!("sums of {taps} products are beyond what f32 holds exactly"))),
    };
    g.cast(&sum, Elem::I32)
}

pub(super) fn matmul(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (rows, columns) = (g.dims(n.input(0)?), g.dims(n.input(1)?));
    let last = |d: &[usize], i: usize| d.len().checked_sub(i).map_or(1, |i| d[i]);
    let a = centred(g, n, 0, 2, &[last(&rows, 2), 1])?;
    let b = centred(g, n, 1, 3, &[last(&columns, 1)])?;
    Ok(whole(g, n, &a, &b, last(&rows, 1), nn::matmul)?.into())
}

pub(super) fn conv(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let [o, channels, kh, kw] = g.nchw(n.input(1)?)?;
    let (x, w) = (centred(g, n, 0, 2, &[])?, centred(g, n, 1, 3, &[o, 1, 1, 1])?);
    Ok(whole(g, n, &x, &w, channels * kh * kw, nn::conv)?.into())
}

fn rounded(g: &mut Graph, x: &Value) -> Result<Value> {
    let moved = g.plus(x, MAGIC)?;
    g.plus(&moved, -MAGIC)
}

/// `scale = (max(x, 0) - min(x, 0)) / 255`, `zero = round(-min / scale)`, `y = round(x / scale) + zero`, both in 0..=255.
/// A tensor of zeros gets the scale 1, as ONNX Runtime gives it.
pub(super) fn dynamic_quantize(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let axes: Vec<usize> = (0..g.dims(x).len()).collect();
    let largest = g.reduce_max(x, &axes, false)?;
    let high = g.relu(&largest)?;
    let negated = g.times(x, -1.0)?;
    let smallest = g.reduce_max(&negated, &axes, false)?;
    // The size of the smallest number.
    let low = g.relu(&smallest)?;
    let range = g.arith(Arith::Add, &high, &low)?;
    let scale = g.arith(Arith::Div, &range, &scalar(255.0))?;
    let zero = g.compare(Relation::Equal, &scale, &scalar(0.0))?;
    let scale = g.select(&zero, &scalar(1.0), &scale)?;
    let zero = g.arith(Arith::Div, &low, &scale)?;
    let zero = g.clip(&zero, 0.0, 255.0)?;
    let zero = rounded(g, &zero)?;
    let steps = g.arith(Arith::Div, x, &scale)?;
    let steps = rounded(g, &steps)?;
    let y = g.arith(Arith::Add, &steps, &zero)?;
    let y = g.clip(&y, 0.0, 255.0)?;
    let (y, zero) = (g.cast(&y, Elem::U8)?, g.cast(&zero, Elem::U8)?);
    Ok(Lowered::many(vec![y, scale, zero]))
}
