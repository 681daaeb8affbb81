//! Element-wise ONNX operators, and those that change nothing in inference.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph};
use crate::error::Refusal;

type Result<T> = std::result::Result<T, Refusal>;

fn binary(g: &mut Graph, n: &Node<'_>, op: Arith) -> Result<Lowered> {
    Ok(g.arith(op, n.input(0)?, n.input(1)?)?.into())
}

pub(super) fn add(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    binary(g, n, Arith::Add)
}

pub(super) fn sub(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    binary(g, n, Arith::Sub)
}

pub(super) fn mul(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    binary(g, n, Arith::Mul)
}

pub(super) fn div(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    binary(g, n, Arith::Div)
}

fn variadic(g: &mut Graph, n: &Node<'_>, op: Arith) -> Result<Lowered> {
    let inputs = n.all()?;
    let [first, rest @ ..] = inputs.as_slice() else { return Err(Refusal::invalid("it has no input")) };
    let mut value = first.clone();
    for v in rest {
        value = g.arith(op, &value, v)?;
    }
    Ok(Lowered::identity(value, "a single input is the result"))
}

pub(super) fn sum(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    variadic(g, n, Arith::Add)
}

pub(super) fn max(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    variadic(g, n, Arith::Max)
}

pub(super) fn min(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    variadic(g, n, Arith::Min)
}

pub(super) fn relu(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.relu(n.input(0)?)?.into())
}

/// Bounds are attributes before operator set 11 and inputs since.
pub(super) fn clip(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let bound = |name, i| match n.known_number(i, name)? {
        Some(bound) => Ok(Some(bound)),
        None => n.float(name),
    };
    let min = bound("min", 1)?.unwrap_or(f32::NEG_INFINITY);
    let max = bound("max", 2)?.unwrap_or(f32::INFINITY);
    if min > max {
        // ONNX defines this case: everything becomes the maximum.
        return Ok(g.clip(n.input(0)?, max, max)?.into());
    }
    Ok(Lowered::identity(g.clip(n.input(0)?, min, max)?, "it has no bounds"))
}

pub(super) fn identity(_: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(Lowered::identity(n.input(0)?.clone(), "it copies its input"))
}

pub(super) fn dropout(_: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    n.expect_unused(1, "mask")?;
    if n.known_number(2, "training_mode")?.is_some_and(|t| t != 0.0) {
        return Err(Refusal::unsupported("it is in training mode").remedy("export the model for inference"));
    }
    Ok(Lowered::identity(n.input(0)?.clone(), "dropout does nothing in inference"))
}
