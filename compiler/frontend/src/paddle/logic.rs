//! Paddle comparisons, logic, choices and integer arithmetic.

use super::elementwise::aligned_pair;
use super::movement::at_least_one_dim;
use super::op::{Lowered, Op};
use crate::emit::{Arith, Graph, Relation, Rounding, Value, scalar};
use crate::error::Refusal;
use crate::shape;
use qc_dialects::graph::{Function, IntFunction};
use qc_ir::Elem;

type Result<T> = std::result::Result<T, Refusal>;

/// The operands `X` and `Y` of one rank.
fn operands(g: &mut Graph, op: &Op<'_>) -> Result<[Value; 2]> {
    aligned_pair(g, op.input("X")?, op.input("Y")?, op.int("axis")?.unwrap_or(-1))
}

fn compare(g: &mut Graph, op: &Op<'_>, relation: Relation) -> Result<Lowered> {
    let [x, y] = operands(g, op)?;
    Ok(g.compare(relation, &x, &y)?.into())
}

pub(super) fn equal(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    compare(g, op, Relation::Equal)
}

pub(super) fn not_equal(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    compare(g, op, Relation::NotEqual)
}

pub(super) fn less_than(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    compare(g, op, Relation::Less)
}

pub(super) fn less_equal(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    compare(g, op, Relation::LessOrEqual)
}

pub(super) fn greater_than(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    compare(g, op, Relation::Greater)
}

pub(super) fn greater_equal(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    compare(g, op, Relation::GreaterOrEqual)
}

/// Logic takes any numbers for truth values: whether they are not 0.
fn logic(g: &mut Graph, op: &Op<'_>, f: IntFunction) -> Result<Lowered> {
    let [x, y] = operands(g, op)?;
    let (x, y) = (g.cast(&x, Elem::Bool)?, g.cast(&y, Elem::Bool)?);
    Ok(g.integers(f, &x, &y)?.into())
}

pub(super) fn logical_and(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    logic(g, op, IntFunction::And)
}

pub(super) fn logical_or(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    logic(g, op, IntFunction::Or)
}

pub(super) fn logical_xor(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    logic(g, op, IntFunction::Xor)
}

pub(super) fn logical_not(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = g.cast(op.input("X")?, Elem::Bool)?;
    Ok(g.not(&x)?.into())
}

pub(super) fn choose(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(g.select(op.input("Condition")?, op.input("X")?, op.input("Y")?)?.into())
}

pub(super) fn is_nan(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(g.is_nan(op.input("X")?)?.into())
}

/// Rounded down; of floats as well.
pub(super) fn floor_divide(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let [x, y] = operands(g, op)?;
    if g.elem(&x) == Elem::F32 {
        let quotient = g.arith(Arith::Div, &x, &y)?;
        return Ok(g.function(Function::Floor, &quotient)?.into());
    }
    Ok(g.quotient(Rounding::Floor, &x, &y)?.into())
}

/// The sign of what is left is that of the divisor.
pub(super) fn remainder(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let [x, y] = operands(g, op)?;
    Ok(g.modulo(Rounding::Floor, &x, &y)?.into())
}

/// A power with computed exponents.
pub(super) fn raised(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let [x, y] = operands(g, op)?;
    Ok(Lowered::identity(g.raised(&x, &y)?, "the first power is the number itself"))
}

/// Integers and truth values bit by bit.
fn bitwise(g: &mut Graph, op: &Op<'_>, f: IntFunction) -> Result<Lowered> {
    let [x, y] = operands(g, op)?;
    Ok(g.integers(f, &x, &y)?.into())
}

pub(super) fn bitwise_and(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    bitwise(g, op, IntFunction::And)
}

pub(super) fn bitwise_or(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    bitwise(g, op, IntFunction::Or)
}

pub(super) fn bitwise_xor(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    bitwise(g, op, IntFunction::Xor)
}

pub(super) fn bitwise_not(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    if g.elem(x) == Elem::Bool {
        return Ok(g.not(x)?.into());
    }
    let ones = g.integer(g.elem(x), -1)?;
    Ok(g.integers(IntFunction::Xor, x, &ones)?.into())
}

pub(super) fn is_infinite(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let size = g.function(Function::Abs, op.input("X")?)?;
    Ok(g.compare(Relation::Equal, &size, &scalar(f32::INFINITY))?.into())
}

pub(super) fn is_finite(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let size = g.function(Function::Abs, op.input("X")?)?;
    Ok(g.compare(Relation::Less, &size, &scalar(f32::INFINITY))?.into())
}

pub(super) fn sign(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(g.sign(op.input("X")?)?.into())
}

pub(super) fn cumsum(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let mut x = op.input("X")?.clone();
    let given = match op.known_number("AxisTensor")? {
        Some(axis) => Some(axis as i64),
        None => op.int("axis")?,
    };
    if op.flag("flatten", false)? {
        let count = g.dims(&x).iter().product();
        x = g.reshape(&x, &[count])?;
    }
    let axis = shape::axis(given.unwrap_or(-1), g.dims(&x).len())?;
    Ok(g.running(&x, axis, [op.flag("exclusive", false)?, op.flag("reverse", false)?], false)?.into())
}

/// The axes of a reduction.
pub(super) fn axes(op: &Op<'_>, rank: usize) -> Result<Vec<usize>> {
    let given = op.ints_from("AxisTensor", "", "dim")?.unwrap_or_else(|| vec![0]);
    match op.flag("reduce_all", false)? || given.is_empty() {
        true => Ok((0..rank).collect()),
        false => shape::axes(&given, rank),
    }
}

/// The numbers along the axes of a reduction, joined: integers by `f`, floats by `of_floats`.
fn reduced(
    g: &mut Graph,
    op: &Op<'_>,
    f: IntFunction,
    of_floats: fn(&mut Graph, &Value, &[usize], bool) -> Result<Value>,
) -> Result<Lowered> {
    let x = op.input("X")?;
    let (axes, keep) = (axes(op, g.dims(x).len())?, op.flag("keep_dim", false)?);
    let value = match g.elem(x) {
        Elem::F32 => of_floats(g, x, &axes, keep)?,
        // The sum of truth values counts them.
        Elem::Bool if f == IntFunction::Add => {
            let counted = g.cast(x, Elem::I64)?;
            g.int_reduce(f, &counted, &axes, keep)?
        }
        _ => g.int_reduce(f, x, &axes, keep)?,
    };
    let dims = at_least_one_dim(op, g.dims(&value));
    Ok(Lowered::identity(g.reshape(&value, &dims)?, "it reduces no axis"))
}

pub(super) fn sum(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    reduced(g, op, IntFunction::Add, Graph::reduce_sum)
}

pub(super) fn max(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    reduced(g, op, IntFunction::Max, Graph::reduce_max)
}

pub(super) fn min(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    reduced(g, op, IntFunction::Min, |g, x, axes, keep| {
        let negated = g.times(x, -1.0)?;
        let largest = g.reduce_max(&negated, axes, keep)?;
        g.times(&largest, -1.0)
    })
}

fn of_truth(g: &mut Graph, op: &Op<'_>, f: IntFunction) -> Result<Lowered> {
    reduced(g, op, f, |_, _, _, _| Err(Refusal::invalid("its operand holds no truth values")))
}

pub(super) fn all(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    of_truth(g, op, IntFunction::And)
}

pub(super) fn any(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    of_truth(g, op, IntFunction::Or)
}
