//! Element-wise ONNX operators, and those that change nothing in inference.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Value, scalar};
use crate::error::Refusal;
use crate::shape;
use qc_dialects::graph::activation::Function;
use qc_ir::{Elem, Quant};

type Result<T> = std::result::Result<T, Refusal>;

fn binary(g: &mut Graph, n: &Node<'_>, op: Arith) -> Result<Lowered> {
    let (a, b) = (n.input(0)?, n.input(1)?);
    let b = aligned(g, n, a, b)?;
    Ok(g.arith(op, a, &b)?.into())
}

/// Before operator set 7, an attribute says at which axis of the left operand the dims of the right one begin.
fn aligned(g: &mut Graph, n: &Node<'_>, a: &Value, b: &Value) -> Result<Value> {
    let Some(axis) = n.int("axis")?.filter(|_| n.opset < 7) else { return Ok(b.clone()) };
    let (whole, mut dims) = (g.dims(a), g.dims(b));
    let behind = whole.len().checked_sub(shape::axis(axis, whole.len())? + dims.len());
    let behind = behind.ok_or_else(|| Refusal::invalid(format!("{dims:?} does not fit {whole:?} at axis {axis}")))?;
    dims.extend(std::iter::repeat_n(1, behind));
    g.reshape(b, &dims)
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

/// The operator over all inputs.
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
    let x = n.input(0)?;
    match g.quant_of(x).cloned() {
        Some(format) => Ok(stored_within(g, x, format, 0, i32::MAX)?.into()),
        None => Ok(g.relu(x)?.into()),
    }
}

/// Stored integers within bounds that are stored integers as well; the format stays.
fn stored_within(g: &mut Graph, x: &Value, format: Quant, lo: i32, hi: i32) -> Result<Value> {
    if format.axis.is_some() {
        return Err(Refusal::unsupported("its integers have a scale per index of an axis"));
    }
    let real = |stored: i32| (stored.clamp(format.lo, format.hi) - format.zero(0)) as f32 * format.scale(0);
    let values = g.dequantize(x)?;
    let within = g.clip(&values, real(lo), real(hi))?;
    g.quantize(&within, format)
}

/// Bounds are attributes before operator set 11 and inputs since.
pub(super) fn clip(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let computed = (1..3).any(|i| n.optional(i).is_some_and(|v| v.known().is_none()));
    if let Some(format) = g.quant_of(n.input(0)?).cloned().filter(|_| !computed) {
        let bound =
            |i, other| Ok(n.known_ints(i, "bounds")?.and_then(|v| i32::try_from(*v.first()?).ok()).unwrap_or(other));
        let (lo, hi) = (bound(1, i32::MIN)?, bound(2, i32::MAX)?);
        return Ok(stored_within(g, n.input(0)?, format, lo.min(hi), hi)?.into());
    }
    if computed || g.elem(n.input(0)?) != Elem::F32 {
        return clip_by_operands(g, n);
    }
    let bound = |name, i| match n.known_number(i, name)? {
        Some(bound) => Ok(Some(bound)),
        None => n.float(name),
    };
    let (min, max) = (bound("min", 1)?, bound("max", 2)?);
    // ONNX's own defaults: what has no bound stops at the largest number, infinities included.
    let (min, max) = (min.unwrap_or(f32::MIN), max.unwrap_or(f32::MAX));
    if min > max {
        // ONNX defines this case: everything becomes the maximum.
        return Ok(g.clip(n.input(0)?, max, max)?.into());
    }
    Ok(g.clip(n.input(0)?, min, max)?.into())
}

/// Of integers, or with bounds that are computed. The upper bound comes last, so it holds where it is below the other.
fn clip_by_operands(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let mut x = n.input(0)?.clone();
    for (i, op) in [(1, Arith::Max), (2, Arith::Min)] {
        if let Some(bound) = n.optional(i) {
            let bound = g.reshape(bound, &[])?;
            x = g.arith(op, &x, &bound)?;
        }
    }
    Ok(Lowered::identity(x, "all integers are within its bounds"))
}

fn number(n: &Node<'_>, name: &str, default: f32) -> Result<f32> {
    Ok(n.float(name)?.unwrap_or(default))
}

pub(super) fn selu(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (alpha, gamma) = (number(n, "alpha", 1.673_263_2)?, number(n, "gamma", 1.050_701)?);
    Ok(g.selu(n.input(0)?, alpha, gamma)?.into())
}

pub(super) fn celu(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.celu(n.input(0)?, number(n, "alpha", 1.0)?)?.into())
}

/// `max(x, 0) + slope * min(x, 0)`.
pub(super) fn prelu(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let (above, below) = (g.relu(x)?, g.arith(Arith::Min, x, &scalar(0.0))?);
    let (mut slope, rank) = (n.input(1)?.clone(), g.dims(x).len());
    // Before operator set 7 several slopes are those of the channels.
    if let (&[channels], true) = (g.dims(&slope).as_slice(), n.opset < 7 && rank > 2) {
        let mut dims = vec![1; rank - 1];
        dims[0] = channels;
        slope = g.reshape(&slope, &dims)?;
    }
    let below = g.arith(Arith::Mul, &below, &slope)?;
    if g.dims(&below) != g.dims(x) {
        return Err(Refusal::invalid(format!("a slope for the shape {:?}", g.dims(&below))));
    }
    Ok(g.arith(Arith::Add, &above, &below)?.into())
}

pub(super) fn neg(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    if g.elem(x) == Elem::F32 {
        return Ok(g.times(x, -1.0)?.into());
    }
    let zero = g.integer(g.elem(x), 0)?;
    Ok(g.arith(Arith::Sub, &zero, x)?.into())
}

/// The size of a number.
pub(super) fn abs(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    Ok(Lowered::identity(size(g, x)?, "its numbers have no sign"))
}

/// `x` without its sign. The smallest integer of a type stays, as its size is none of that type.
pub(super) fn size(g: &mut Graph, x: &Value) -> Result<Value> {
    match g.elem(x) {
        Elem::I8 | Elem::I32 | Elem::I64 => {
            let zero = g.integer(g.elem(x), 0)?;
            let negated = g.arith(Arith::Sub, &zero, x)?;
            g.arith(Arith::Max, x, &negated)
        }
        Elem::U8 => Ok(x.clone()),
        _ => g.function(Function::Abs, x),
    }
}

pub(super) fn reciprocal(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.arith(Arith::Div, &scalar(1.0), n.input(0)?)?.into())
}

pub(super) fn pow(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, y) = (n.input(0)?, n.input(1)?);
    let y = aligned(g, n, x, y)?;
    Ok(Lowered::identity(g.raised(x, &y)?, "the first power is the number itself"))
}

/// The mean of all inputs.
pub(super) fn mean(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let sum = variadic(g, n, Arith::Add)?;
    let Some(sum) = sum.values.first() else { return Err(Refusal::invalid("it has no input")) };
    let mean = g.arith(Arith::Div, sum, &scalar(n.inputs.len() as f32))?;
    Ok(mean.into())
}

pub(super) fn identity(_: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(Lowered::identity(n.input(0)?.clone(), "it copies its input"))
}

pub(super) fn dropout(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    if n.known_number(2, "training_mode")?.is_some_and(|t| t != 0.0) {
        return Err(Refusal::unsupported("it is in training mode").remedy("export the model for inference"));
    }
    let mut values = vec![n.input(0)?.clone()];
    if n.used.get(1).copied().unwrap_or(false) {
        values.push(super::losses::dropout_mask(g, n.input(0)?)?);
    }
    Ok(Lowered { values, why: "dropout does nothing in inference" })
}
