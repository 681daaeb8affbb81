//! ONNX operators that order elements, or store them where indices say.

use super::node::{Lowered, Node};
use crate::emit::Graph;
use crate::error::Refusal;
use crate::shape;

type Result<T> = std::result::Result<T, Refusal>;

pub(super) fn top_k(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let axis = shape::axis(n.int("axis")?.unwrap_or(-1), g.dims(x).len())?;
    let k = match n.known_ints(1, "k")? {
        Some(k) => k.first().copied(),
        None => n.int("k")?,
    };
    let k = k.and_then(|k| usize::try_from(k).ok()).ok_or_else(|| Refusal::invalid("it has no k"))?;
    Ok(Lowered::many(g.top_k(x, axis, k, n.flag("largest", true)?)?.to_vec()))
}

/// How updates are joined.
fn word(n: &Node<'_>) -> Result<&'static str> {
    match n.text("reduction")?.unwrap_or("none") {
        "none" => Ok("set"),
        "add" => Ok("add"),
        "mul" => Ok("mul"),
        "max" => Ok("max"),
        "min" => Ok("min"),
        other => Err(Refusal::invalid(format!("reduction is `{other}`"))),
    }
}

/// ScatterElements, and Scatter of old operator sets.
pub(super) fn scatter_elements(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let axis = shape::axis(n.int("axis")?.unwrap_or(0), g.dims(x).len())?;
    Ok(g.scatter_elements(x, [n.input(1)?, n.input(2)?], axis, word(n)?)?.into())
}

pub(super) fn scatter_nd(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.scatter_nd(n.input(0)?, n.input(1)?, n.input(2)?, word(n)?)?.into())
}
