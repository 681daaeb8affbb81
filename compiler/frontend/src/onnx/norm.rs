//! ONNX normalisations: of layers, by the mean square, with what is added before; of planes and groups of channels.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Norm, Value};
use crate::error::Refusal;
use crate::shape;
use qc_dialects::graph::activation::Function;

type Result<T> = std::result::Result<T, Refusal>;

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

/// The input of a normalisation of planes, and its dims.
fn images<'n>(g: &Graph, n: &'n Node<'_>) -> Result<(&'n Value, Vec<usize>)> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    match dims.len() {
        0..3 => Err(Refusal::invalid(format!("the input has the shape {dims:?}, without planes"))),
        _ => Ok((x, dims)),
    }
}

/// `(x - mean) / (deviation + 1e-9)` over the axes of the node.
pub(super) fn mean_variance(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let axes = shape::axes(n.ints("axes")?.unwrap_or(&[0, 2, 3]), g.dims(x).len())?;
    let centred = g.centred(x, &axes)?;
    let square = g.arith(Arith::Mul, &centred, &centred)?;
    let variance = g.reduce_mean(&square, &axes, true)?;
    let root = g.function(Function::Sqrt, &variance)?;
    let deviation = g.plus(&root, 1e-9)?;
    Ok(g.arith(Arith::Div, &centred, &deviation)?.into())
}

/// Statistics of each plane; scale and bias per channel.
pub(super) fn instance(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, _) = images(g, n)?;
    let epsilon = n.float("epsilon")?.unwrap_or(1e-5);
    Ok(g.instance_norm(x, [Some(n.input(1)?), Some(n.input(2)?)], epsilon)?.into())
}

/// Statistics of each group of channels. Scale and bias are per group in operator set 18, per channel since 21.
pub(super) fn group(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, _) = images(g, n)?;
    let groups = n.int("num_groups")?.and_then(|g| usize::try_from(g).ok()).unwrap_or(0);
    let epsilon = n.float("epsilon")?.unwrap_or(1e-5);
    Ok(g.group_norm(x, groups, [Some(n.input(1)?), Some(n.input(2)?)], epsilon, n.opset < 21)?.into())
}

#[cfg(test)]
mod tests;
