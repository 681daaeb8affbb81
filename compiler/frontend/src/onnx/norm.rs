//! ONNX normalisations: of layers, by the mean square, with what is added before; of planes and groups of channels.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Norm, Value};
use crate::error::Refusal;
use crate::shape;
use qc_dialects::graph::activation::Function;

type Result<T> = std::result::Result<T, Refusal>;

/// `(x - mean) / sqrt(variance + epsilon)` over `axes`.
fn normalised(g: &mut Graph, x: &Value, axes: &[usize], epsilon: f32) -> Result<Value> {
    let centred = g.centred(x, axes)?;
    let square = g.arith(Arith::Mul, &centred, &centred)?;
    let variance = g.reduce_mean(&square, axes, true)?;
    let root = g.plus(&variance, epsilon)?;
    let root = g.function(Function::Sqrt, &root)?;
    g.arith(Arith::Div, &centred, &root)
}

fn attributes(g: &Graph, n: &Node<'_>, x: &Value, rms: bool) -> Result<Norm> {
    let axis = shape::axis(n.int("axis")?.unwrap_or(-1), g.dims(x).len())?;
    Ok(Norm { axis, epsilon: n.float("epsilon")?.unwrap_or(1e-5), rms })
}

fn is_read(n: &Node<'_>, output: usize) -> bool {
    n.used.get(output).copied().unwrap_or(false)
}

/// LayerNormalization, with the mean and the inverse deviation where they are read.
pub(super) fn layer(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let norm = attributes(g, n, x, false)?;
    let y = g.layer_norm(x, [Some(n.input(1)?), n.optional(2)], &norm)?;
    if !is_read(n, 1) && !is_read(n, 2) {
        return Ok(y.into());
    }
    let axes: Vec<usize> = (norm.axis..g.dims(x).len()).collect();
    let (mean, inverse) = (g.reduce_mean(x, &axes, true)?, g.inverse_deviation(x, &norm)?);
    Ok(Lowered::many(vec![y, mean, inverse]))
}

/// RMSNormalization and SimplifiedLayerNormalization: `x / sqrt(mean(x²) + epsilon) * scale`.
pub(super) fn rms(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let norm = attributes(g, n, x, true)?;
    let y = g.layer_norm(x, [Some(n.input(1)?), None], &norm)?;
    Ok(match is_read(n, 1) {
        true => Lowered::many(vec![y, g.inverse_deviation(x, &norm)?]),
        false => y.into(),
    })
}

/// SkipLayerNormalization: a norm of `input + skip + bias`, which is the fourth output.
pub(super) fn skip_layer(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    skip(g, n, [Some(n.input(2)?), n.optional(3)], n.optional(4), false)
}

/// SkipSimplifiedLayerNormalization: the same by the mean square.
pub(super) fn skip_rms(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    skip(g, n, [Some(n.input(2)?), None], n.optional(3), true)
}

fn skip(g: &mut Graph, n: &Node<'_>, params: [Option<&Value>; 2], bias: Option<&Value>, rms: bool) -> Result<Lowered> {
    n.expect_unused(1, "mean")?;
    n.expect_unused(2, "inv_std_var")?;
    let x = n.input(0)?;
    let dims = g.dims(x);
    // The bias goes to the input, whose product may have one of its own.
    let with_bias = bias.map(|bias| g.arith(Arith::Add, x, bias)).transpose()?;
    let sum = g.arith(Arith::Add, with_bias.as_ref().unwrap_or(x), n.input(1)?)?;
    if g.dims(&sum) != dims {
        return Err(Refusal::invalid(format!("what is added does not fit the shape {dims:?}")));
    }
    let axis = shape::axis(-1, dims.len())?;
    let norm = Norm { axis, epsilon: n.float("epsilon")?.unwrap_or(1e-12), rms };
    let y = g.layer_norm(&sum, params, &norm)?;
    Ok(Lowered::many(vec![y.clone(), y.clone(), y, sum]))
}

/// A tensor of one number per channel that stands beside images.
fn per_channel(g: &mut Graph, v: &Value, dims: &[usize]) -> Result<Value> {
    let mut channels = vec![1; dims.len() - 1];
    channels[0] = dims[1];
    g.reshape(v, &channels)
}

/// The input of a normalisation of planes, and its dims.
fn images<'n>(g: &Graph, n: &'n Node<'_>) -> Result<(&'n Value, Vec<usize>)> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    match dims.len() {
        0..3 => Err(Refusal::invalid(format!("the input has the shape {dims:?}, without planes"))),
        _ => Ok((x, dims)),
    }
}

/// Statistics of each plane; scale and bias per channel.
pub(super) fn instance(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, dims) = images(g, n)?;
    let axes: Vec<usize> = (2..dims.len()).collect();
    let (scale, bias) = (per_channel(g, n.input(1)?, &dims)?, per_channel(g, n.input(2)?, &dims)?);
    let y = normalised(g, x, &axes, n.float("epsilon")?.unwrap_or(1e-5))?;
    let y = g.arith(Arith::Mul, &y, &scale)?;
    Ok(g.arith(Arith::Add, &y, &bias)?.into())
}

/// Statistics of each group of channels. Scale and bias are per group in operator set 18, per channel since 21.
pub(super) fn group(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, dims) = images(g, n)?;
    let groups = n.int("num_groups")?.and_then(|g| usize::try_from(g).ok()).unwrap_or(0);
    if groups == 0 || !dims[1].is_multiple_of(groups) {
        return Err(Refusal::invalid(format!("{groups} groups of {} channels", dims[1])));
    }
    let size = dims[1..].iter().product::<usize>() / groups;
    let rows = g.reshape(x, &[dims[0], groups, size])?;
    let norm = Norm { axis: 2, epsilon: n.float("epsilon")?.unwrap_or(1e-5), rms: false };
    let mut y = g.layer_norm(&rows, [None, None], &norm)?;
    let per_group = n.opset < 21;
    if !per_group {
        y = g.reshape(&y, &dims)?;
    }
    for (i, op) in [(1, Arith::Mul), (2, Arith::Add)] {
        let own = if per_group { vec![dims[0], groups, size] } else { dims.clone() };
        let parameter = per_channel(g, n.input(i)?, &own)?;
        y = g.arith(op, &y, &parameter)?;
    }
    Ok(g.reshape(&y, &dims)?.into())
}

#[cfg(test)]
mod tests;
