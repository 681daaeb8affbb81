//! Logarithms of probabilities, and what is lost by them.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Relation, Value, scalar};
use crate::error::Refusal;
use crate::shape;
use qc_ir::Elem;

type Result<T> = std::result::Result<T, Refusal>;

/// A function along an axis. Before operator set 13 all dims from the axis on are one.
fn along(
    g: &mut Graph,
    n: &Node<'_>,
    f: fn(&mut Graph, &Value, usize) -> std::result::Result<Value, Refusal>,
) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let axis = n.int("axis")?.unwrap_or(if n.opset < 13 { 1 } else { -1 });
    if n.opset >= 13 {
        return Ok(f(g, x, shape::axis(axis, dims.len())?)?.into());
    }
    let axis = if axis == dims.len() as i64 { dims.len() } else { shape::axis(axis, dims.len())? };
    let flat = g.reshape(x, &shape::two_d(&dims, axis))?;
    let out = f(g, &flat, 1)?;
    Ok(g.reshape(&out, &dims)?.into())
}

pub(super) fn log_softmax(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    along(g, n, Graph::log_softmax)
}

pub(super) fn hard_max(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    along(g, n, Graph::hard_max)
}

/// The negated logarithms `[N, C, ..]` at the classes `[N, ..]`, weighted by class and joined as the node says. What has the
/// class to be ignored counts nothing.
fn negative_log(g: &mut Graph, n: &Node<'_>, logs: &Value) -> Result<Value> {
    let classes = n.input(1)?;
    let (dims, own) = (g.dims(logs), g.dims(classes));
    let fits = dims.len() >= 2 && own.len() + 1 == dims.len() && own[0] == dims[0] && own[1..] == dims[2..];
    if !fits {
        return Err(Refusal::invalid(format!("classes of shape {own:?} for {dims:?}")));
    }
    let ignored = match n.int("ignore_index")? {
        Some(class) => {
            let class = g.integer(g.elem(classes), class)?;
            Some(g.compare(Relation::Equal, classes, &class)?)
        }
        None => None,
    };
    let zero = g.integer(g.elem(classes), 0)?;
    let class = match &ignored {
        Some(ignored) => g.select(ignored, &zero, classes)?,
        None => classes.clone(),
    };
    let mut one = own.clone();
    one.insert(1, 1);
    let at = g.reshape(&class, &one)?;
    let chosen = g.gather_elements(logs, &at, 1)?;
    let chosen = g.reshape(&chosen, &own)?;
    let mut weight = n.optional(2).map(|w| g.gather(w, &class, 0)).transpose()?;
    if let Some(ignored) = &ignored {
        let counted = weight.unwrap_or_else(|| scalar(1.0));
        weight = Some(g.select(ignored, &scalar(0.0), &counted)?);
    }
    let mut loss = g.times(&chosen, -1.0)?;
    if let Some(weight) = &weight {
        loss = g.arith(Arith::Mul, &loss, weight)?;
    }
    let all: Vec<usize> = (0..own.len()).collect();
    match (n.text("reduction")?.unwrap_or("mean"), weight) {
        ("none", _) => Ok(loss),
        ("sum", _) => g.reduce_sum(&loss, &all, false),
        ("mean", None) => g.reduce_mean(&loss, &all, false),
        ("mean", Some(weight)) => {
            let (loss, weight) = (g.reduce_sum(&loss, &all, false)?, g.reduce_sum(&weight, &all, false)?);
            g.arith(Arith::Div, &loss, &weight)
        }
        (other, _) => Err(Refusal::invalid(format!("reduction is `{other}`"))),
    }
}

pub(super) fn negative_log_likelihood(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(negative_log(g, n, n.input(0)?)?.into())
}

/// The same of scores, whose logarithms of probabilities are the second output.
pub(super) fn softmax_cross_entropy(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let axis = shape::axis(1, g.dims(x).len())?;
    let logs = g.log_softmax(x, axis)?;
    Ok(Lowered::many(vec![negative_log(g, n, &logs)?, logs]))
}

/// LpNormalization.
pub(super) fn by_norm(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let axis = shape::axis(n.int("axis")?.unwrap_or(-1), g.dims(x).len())?;
    let p = n.int("p")?.unwrap_or(2);
    if !(1..=2).contains(&p) {
        return Err(Refusal::invalid(format!("p is {p}")));
    }
    Ok(g.by_norm(x, &[axis], p as f32)?.into())
}

/// The input as f32 where a node asks for the mask of a dropout, which is true everywhere.
pub(super) fn dropout_mask(g: &mut Graph, x: &Value) -> Result<Value> {
    let dims = g.dims(x);
    let yes = g.cast(&scalar(1.0), Elem::Bool)?;
    g.expand(&yes, &dims)
}
