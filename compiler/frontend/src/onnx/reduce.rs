//! ONNX reductions. Sums are means times a count; the largest element is that of a pooled plane.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Value};
use crate::error::Refusal;
use crate::shape;
use qc_dialects::graph::IntFunction;
use qc_dialects::graph::activation::Function;
use qc_ir::Elem;

type Result<T> = std::result::Result<T, Refusal>;

/// The axes of a reduction, all when none are given; an attribute in old operator sets and an input in new ones.
fn axes(g: &Graph, n: &Node<'_>) -> Result<Vec<usize>> {
    let rank = g.dims(n.input(0)?).len();
    let given = n.ints_either("axes", 1)?.unwrap_or_default();
    match given.is_empty() {
        true if n.flag("noop_with_empty_axes", false)? => Ok(Vec::new()),
        true => Ok((0..rank).collect()),
        false => shape::axes(&given, rank),
    }
}

fn done(value: Value) -> Result<Lowered> {
    Ok(Lowered::identity(value, "it reduces no axis"))
}

fn mean_of(g: &mut Graph, n: &Node<'_>, x: &Value) -> Result<Value> {
    let axes = axes(g, n)?;
    g.reduce_mean(x, &axes, n.flag("keepdims", true)?)
}

/// The sum over the axes of a node.
fn sum_of(g: &mut Graph, n: &Node<'_>, x: &Value) -> Result<Value> {
    let axes = axes(g, n)?;
    g.reduce_sum(x, &axes, n.flag("keepdims", true)?)
}

/// The integers over the axes of a node, joined.
fn integers(g: &mut Graph, n: &Node<'_>, f: IntFunction) -> Result<Lowered> {
    let axes = axes(g, n)?;
    done(g.int_reduce(f, n.input(0)?, &axes, n.flag("keepdims", true)?)?)
}

/// Products of integers.
pub(super) fn product(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    if g.elem(n.input(0)?) == Elem::F32 {
        return Err(Refusal::unsupported("products of floats along an axis are not supported"));
    }
    integers(g, n, IntFunction::Mul)
}

pub(super) fn mean(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    done(mean_of(g, n, n.input(0)?)?)
}

pub(super) fn sum(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    if g.elem(x) != Elem::F32 {
        return integers(g, n, IntFunction::Add);
    }
    done(sum_of(g, n, x)?)
}

pub(super) fn l1(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let size = g.function(Function::Abs, n.input(0)?)?;
    done(sum_of(g, n, &size)?)
}

pub(super) fn sum_square(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let square = g.arith(Arith::Mul, x, x)?;
    done(sum_of(g, n, &square)?)
}

pub(super) fn l2(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let square = g.arith(Arith::Mul, x, x)?;
    let sum = sum_of(g, n, &square)?;
    done(g.function(Function::Sqrt, &sum)?)
}

pub(super) fn max(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    if g.elem(n.input(0)?) != Elem::F32 {
        return integers(g, n, IntFunction::Max);
    }
    let axes = axes(g, n)?;
    done(g.reduce_max(n.input(0)?, &axes, n.flag("keepdims", true)?)?)
}

/// The smallest element is the largest of the negated ones, negated.
pub(super) fn min(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    if g.elem(n.input(0)?) != Elem::F32 {
        return integers(g, n, IntFunction::Min);
    }
    let axes = axes(g, n)?;
    let negated = g.times(n.input(0)?, -1.0)?;
    let largest = g.reduce_max(&negated, &axes, n.flag("keepdims", true)?)?;
    done(g.times(&largest, -1.0)?)
}
