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

/// Refuses integers of 32 bits where their number matters: those of 16 bits are of 32 in a module.
fn expect_own_width(g: &Graph, x: &Value) -> Result<()> {
    match g.elem(x) {
        Elem::I32 => Err(Refusal::unsupported("its integers have 16 or 32 bits").remedy("cast them to 64 bits")),
        _ => Ok(()),
    }
}

/// Every bit is the other one.
pub(super) fn bitwise_not(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    expect_own_width(g, x)?;
    let ones = g.integer(g.elem(x), -1)?;
    Ok(g.integers(IntFunction::Xor, x, &ones)?.into())
}

pub(super) fn bit_shift(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let left = match n.text("direction")? {
        Some("LEFT") => true,
        Some("RIGHT") => false,
        other => return Err(Refusal::invalid(format!("direction is {other:?}"))),
    };
    if left {
        expect_own_width(g, n.input(0)?)?;
    }
    Ok(g.shifted(n.input(0)?, n.input(1)?, left)?.into())
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
    Ok(g.modulo(rounding, n.input(0)?, n.input(1)?)?.into())
}

pub(super) fn sign(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.sign(n.input(0)?)?.into())
}
