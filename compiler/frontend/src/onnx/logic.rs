//! ONNX comparisons, logic and rounding.

use super::node::{Lowered, Node};
use crate::emit::{Graph, Relation, Rounding, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::IntFunction;
use qc_ir::Elem;

type Result<T> = std::result::Result<T, Refusal>;

fn compare(g: &mut Graph, n: &Node<'_>, relation: Relation) -> Result<Lowered> {
    Ok(g.compare(relation, n.input(0)?, n.input(1)?)?.into())
}

pub(super) fn equal(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    compare(g, n, Relation::Equal)
}

pub(super) fn less(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    compare(g, n, Relation::Less)
}

pub(super) fn less_or_equal(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    compare(g, n, Relation::LessOrEqual)
}

pub(super) fn greater(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    compare(g, n, Relation::Greater)
}

pub(super) fn greater_or_equal(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    compare(g, n, Relation::GreaterOrEqual)
}

fn logic(g: &mut Graph, n: &Node<'_>, f: IntFunction) -> Result<Lowered> {
    let (a, b) = (n.input(0)?, n.input(1)?);
    if g.elem(a) != Elem::Bool || g.elem(b) != Elem::Bool {
        return Err(Refusal::invalid("an operand holds no truth values"));
    }
    Ok(g.integers(f, a, b)?.into())
}

pub(super) fn and(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    logic(g, n, IntFunction::And)
}

pub(super) fn or(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    logic(g, n, IntFunction::Or)
}

pub(super) fn xor(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    logic(g, n, IntFunction::Xor)
}

pub(super) fn not(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.not(n.input(0)?)?.into())
}

fn bitwise(g: &mut Graph, n: &Node<'_>, f: IntFunction) -> Result<Lowered> {
    Ok(g.integers(f, n.input(0)?, n.input(1)?)?.into())
}

pub(super) fn bitwise_and(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    bitwise(g, n, IntFunction::And)
}

pub(super) fn bitwise_or(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    bitwise(g, n, IntFunction::Or)
}

pub(super) fn bitwise_xor(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    bitwise(g, n, IntFunction::Xor)
}

pub(super) fn choose(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.select(n.input(0)?, n.input(1)?, n.input(2)?)?.into())
}

pub(super) fn is_nan(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.is_nan(n.input(0)?)?.into())
}

pub(super) fn is_inf(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    g.expect_f32(x)?;
    let mut found: Option<Value> = None;
    for (name, value) in [("detect_positive", f32::INFINITY), ("detect_negative", f32::NEG_INFINITY)] {
        if n.flag(name, true)? {
            let holds = g.compare(Relation::Equal, x, &scalar(value))?;
            found = Some(match found {
                Some(other) => g.integers(IntFunction::Or, &other, &holds)?,
                None => holds,
            });
        }
    }
    match found {
        Some(found) => Ok(found.into()),
        // Nothing is less than itself.
        None => Ok(g.compare(Relation::Less, x, x)?.into()),
    }
}

/// The remainder has the sign of the divisor, or of the dividend with `fmod`.
pub(super) fn modulo(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let rounding = if n.flag("fmod", false)? { Rounding::Truncate } else { Rounding::Floor };
    let (a, b) = (n.input(0)?, n.input(1)?);
    if g.elem(a) == Elem::F32 {
        return Err(Refusal::unsupported("remainders of floats are not supported"));
    }
    Ok(g.remainder(rounding, a, b)?.into())
}

fn whole(g: &mut Graph, n: &Node<'_>, f: fn(&mut Graph, &Value) -> Result<Value>) -> Result<Lowered> {
    Ok(f(g, n.input(0)?)?.into())
}

pub(super) fn floor(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    whole(g, n, Graph::floor)
}

pub(super) fn ceil(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    whole(g, n, Graph::ceil)
}

pub(super) fn round(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    whole(g, n, Graph::round)
}

pub(super) fn sign(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    whole(g, n, Graph::sign)
}
