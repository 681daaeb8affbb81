//! ONNX normalisations that are written out: means, products, a root.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Value};
use crate::error::Refusal;
use crate::shape;
use qc_dialects::graph::activation::Function;

type Result<T> = std::result::Result<T, Refusal>;

/// `x - mean` over `axes`.
///
/// A mean of 100 in f32 is off by up to 4e-6, much where `x` deviates by 0.01. The mean of the differences is what it is off
/// by, and is small enough to be exact.
fn centred(g: &mut Graph, x: &Value, axes: &[usize]) -> Result<Value> {
    let mean = g.reduce_mean(x, axes, true)?;
    let near = g.arith(Arith::Sub, x, &mean)?;
    let rest = g.reduce_mean(&near, axes, true)?;
    g.arith(Arith::Sub, &near, &rest)
}

/// `(x - mean) / sqrt(variance + epsilon)` over `axes`.
fn normalised(g: &mut Graph, x: &Value, axes: &[usize], epsilon: f32) -> Result<Value> {
    let centred = centred(g, x, axes)?;
    let square = g.arith(Arith::Mul, &centred, &centred)?;
    let variance = g.reduce_mean(&square, axes, true)?;
    let root = g.plus(&variance, epsilon)?;
    let root = g.function(Function::Sqrt, &root)?;
    g.arith(Arith::Div, &centred, &root)
}

pub(super) fn layer(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    n.expect_unused(1, "Mean")?;
    n.expect_unused(2, "InvStdDev")?;
    let x = n.input(0)?;
    let rank = g.dims(x).len();
    let first = shape::axis(n.int("axis")?.unwrap_or(-1), rank)?;
    let axes: Vec<usize> = (first..rank).collect();
    let y = normalised(g, x, &axes, n.float("epsilon")?.unwrap_or(1e-5))?;
    let y = g.arith(Arith::Mul, &y, n.input(1)?)?;
    Ok(match n.optional(2) {
        Some(bias) => g.arith(Arith::Add, &y, bias)?,
        None => y,
    }
    .into())
}

/// `x / sqrt(mean(x²) + epsilon) * scale` over the axes from `axis` on.
pub(super) fn rms(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let rank = g.dims(x).len();
    let first = shape::axis(n.int("axis")?.unwrap_or(-1), rank)?;
    let axes: Vec<usize> = (first..rank).collect();
    let square = g.arith(Arith::Mul, x, x)?;
    let mean = g.reduce_mean(&square, &axes, true)?;
    let root = g.plus(&mean, n.float("epsilon")?.unwrap_or(1e-5))?;
    let root = g.function(Function::Sqrt, &root)?;
    let y = g.arith(Arith::Div, x, &root)?;
    Ok(g.arith(Arith::Mul, &y, n.input(1)?)?.into())
}

/// Statistics of each plane; scale and bias per channel.
pub(super) fn instance(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    if dims.len() < 3 {
        return Err(Refusal::invalid(format!("the input has the shape {dims:?}, without planes")));
    }
    let axes: Vec<usize> = (2..dims.len()).collect();
    let mut channels = vec![1; dims.len() - 1];
    channels[0] = dims[1];
    let (scale, bias) = (g.reshape(n.input(1)?, &channels)?, g.reshape(n.input(2)?, &channels)?);
    let y = normalised(g, x, &axes, n.float("epsilon")?.unwrap_or(1e-5))?;
    let y = g.arith(Arith::Mul, &y, &scale)?;
    Ok(g.arith(Arith::Add, &y, &bias)?.into())
}
