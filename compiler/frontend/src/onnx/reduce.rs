//! ONNX reductions, and places of the largest. Sums are means times a count; the largest element is that of a pooled plane.
//! Integers are joined as such, and their means are rounded towards zero.

use super::elementwise;
use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Rounding, Value};
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
    let (axes, keepdims) = (axes(g, n)?, n.flag("keepdims", true)?);
    match g.elem(x) {
        Elem::I8 | Elem::U8 | Elem::I32 | Elem::I64 => g.int_reduce(IntFunction::Add, x, &axes, keepdims),
        _ => g.reduce_sum(x, &axes, keepdims),
    }
}

pub(super) fn product(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let axes = axes(g, n)?;
    done(g.reduce_product(n.input(0)?, &axes, n.flag("keepdims", true)?)?)
}

pub(super) fn log_sum(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let sum = sum_of(g, n, n.input(0)?)?;
    done(g.function(Function::Log, &sum)?)
}

pub(super) fn log_sum_exp(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let axes = axes(g, n)?;
    done(g.log_sum_exp(n.input(0)?, &axes, n.flag("keepdims", true)?)?)
}

fn place(g: &mut Graph, n: &Node<'_>, largest: bool) -> Result<Lowered> {
    let x = n.input(0)?;
    let axis = shape::axis(n.int("axis")?.unwrap_or(0), g.dims(x).len())?;
    let (last, keepdims) = (n.flag("select_last_index", false)?, n.flag("keepdims", true)?);
    Ok(g.place_of_extreme(largest, x, axis, last, keepdims)?.into())
}

pub(super) fn arg_max(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    place(g, n, true)
}

pub(super) fn arg_min(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    place(g, n, false)
}

pub(super) fn mean(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    if g.elem(x) == Elem::F32 {
        return done(mean_of(g, n, x)?);
    }
    let (axes, dims) = (axes(g, n)?, g.dims(x));
    let count = axes.iter().map(|&a| dims[a] as i64).product();
    let (sum, count) = (sum_of(g, n, x)?, g.integer(g.elem(x), count)?);
    done(g.quotient(Rounding::Truncate, &sum, &count)?)
}

pub(super) fn sum(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    done(sum_of(g, n, n.input(0)?)?)
}

pub(super) fn l1(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let size = elementwise::size(g, n.input(0)?)?;
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

fn extreme(g: &mut Graph, n: &Node<'_>, largest: bool) -> Result<Lowered> {
    let axes = axes(g, n)?;
    done(g.reduce_extreme(largest, n.input(0)?, &axes, n.flag("keepdims", true)?)?)
}

pub(super) fn max(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    extreme(g, n, true)
}

pub(super) fn min(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    extreme(g, n, false)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, int, ints};

    /// `op` of integers of a type, as floats.
    fn of_integers(to: i64, op: &str, x: &[f32]) -> Vec<f32> {
        let attributes = if op == "Abs" { vec![] } else { vec![ints("axes", &[0])] };
        let model = Model::new(13, &[x.len() as i64])
            .node("Cast", "x > i", &[int("to", to)])
            .node(op, "i > j", &attributes)
            .node("Cast", "j > y", &[int("to", 1)]);
        model.run(x).1
    }

    #[test]
    fn sizes_and_reductions_of_integers() {
        let (u8, i8, i32) = (2, 3, 6);
        assert_eq!(of_integers(u8, "Abs", &[0.0, 4.0, 200.0]), [0.0, 4.0, 200.0]);
        assert_eq!(of_integers(i8, "Abs", &[-4.0, 4.0, -128.0]), [4.0, 4.0, -128.0]);
        let x = [-3.0, 2.0, -4.0];
        assert_eq!(of_integers(i32, "ReduceMean", &x), [-1.0]);
        assert_eq!(of_integers(i32, "ReduceL1", &x), [9.0]);
        assert_eq!(of_integers(i32, "ReduceSumSquare", &x), [29.0]);
        assert_eq!(of_integers(i32, "ReduceSum", &x), [-5.0]);
    }
}
