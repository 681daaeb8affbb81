//! Element-wise Paddle ops, and those that change nothing in inference.

use super::op::{Lowered, Op};
use crate::emit::{Arith, Graph, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::activation::Function;
use qc_ir::Elem;

type Result<T> = std::result::Result<T, Refusal>;

/// Paddle's broadcasting: the first dim of the smaller operand meets dim `axis` of the larger one; -1 aligns the last.
fn aligned(g: &mut Graph, small: &Value, rank: usize, axis: i64) -> Result<Value> {
    let mut dims = g.dims(small);
    let Ok(axis) = usize::try_from(axis) else { return Ok(small.clone()) };
    while axis + dims.len() > rank && dims.last() == Some(&1) {
        dims.pop();
    }
    if axis + dims.len() > rank {
        return Err(Refusal::invalid(format!("an operand of shape {dims:?} does not fit behind axis {axis}")));
    }
    dims.resize(rank - axis, 1);
    g.reshape(small, &dims)
}

/// Both operands, the one of smaller rank with the dims that Paddle gives it.
pub(super) fn aligned_pair(g: &mut Graph, x: &Value, y: &Value, axis: i64) -> Result<[Value; 2]> {
    let (rx, ry) = (g.dims(x).len(), g.dims(y).len());
    if axis > rx.max(ry) as i64 {
        return Err(Refusal::invalid(format!("axis {axis} is outside rank {}", rx.max(ry))));
    }
    Ok(match rx >= ry {
        true => [x.clone(), aligned(g, y, rx, axis)?],
        false => [aligned(g, x, ry, axis)?, y.clone()],
    })
}

pub(super) fn binary(g: &mut Graph, op: Arith, x: &Value, y: &Value, axis: i64) -> Result<Value> {
    let [x, y] = aligned_pair(g, x, y, axis)?;
    g.arith(op, &x, &y)
}

fn lower_binary(g: &mut Graph, op: &Op<'_>, arith: Arith) -> Result<Lowered> {
    let axis = op.int("axis")?.unwrap_or(-1);
    Ok(binary(g, arith, op.input("X")?, op.input("Y")?, axis)?.into())
}

pub(super) fn add(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    lower_binary(g, op, Arith::Add)
}

pub(super) fn sub(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    lower_binary(g, op, Arith::Sub)
}

pub(super) fn mul(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    lower_binary(g, op, Arith::Mul)
}

pub(super) fn div(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    lower_binary(g, op, Arith::Div)
}

pub(super) fn max(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    lower_binary(g, op, Arith::Max)
}

pub(super) fn min(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    lower_binary(g, op, Arith::Min)
}

pub(super) fn relu(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(g.relu(op.input("X")?)?.into())
}

pub(super) fn relu6(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let threshold = op.float("threshold")?.unwrap_or(6.0);
    Ok(g.clip(op.input("X")?, 0.0, threshold)?.into())
}

pub(super) fn brelu(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (min, max) = (op.float("t_min")?.unwrap_or(0.0), op.float("t_max")?.unwrap_or(24.0));
    Ok(g.clip(op.input("X")?, min, max)?.into())
}

pub(super) fn clip(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let bound = |slot, name| match op.known_number(slot)? {
        Some(bound) => Ok(Some(bound)),
        None => op.float(name),
    };
    let missing = || Refusal::invalid("a bound is missing");
    let min = bound("Min", "min")?.ok_or_else(missing)?;
    let max = bound("Max", "max")?.ok_or_else(missing)?;
    Ok(Lowered::identity(g.clip(op.input("X")?, min, max)?, "it has no bounds"))
}

pub(super) fn square(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    Ok(g.arith(Arith::Mul, x, x)?.into())
}

pub(super) fn rsqrt(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let root = g.function(Function::Sqrt, op.input("X")?)?;
    Ok(g.arith(Arith::Div, &scalar(1.0), &root)?.into())
}

/// `1 / x`.
pub(super) fn reciprocal(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(g.arith(Arith::Div, &scalar(1.0), op.input("X")?)?.into())
}

/// `ln(1 / (1 + exp(-x)))`.
pub(super) fn log_sigmoid(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let negated = g.times(op.input("X")?, -1.0)?;
    let size = g.function(Function::Softplus { beta: 1.0, bound: f32::INFINITY }, &negated)?;
    Ok(g.times(&size, -1.0)?.into())
}

pub(super) fn selu(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (alpha, scale) = (op.float("alpha")?.unwrap_or(1.673_263_2), op.float("scale")?.unwrap_or(1.050_701));
    Ok(g.selu(op.input("X")?, alpha, scale)?.into())
}

pub(super) fn celu(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(g.celu(op.input("X")?, op.float("alpha")?.unwrap_or(1.0))?.into())
}

/// `b * tanh(a * x)`.
pub(super) fn stanh(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let inner = g.times(op.input("X")?, op.float("scale_a")?.unwrap_or(0.67))?;
    let value = g.function(Function::Tanh, &inner)?;
    Ok(g.times(&value, op.float("scale_b")?.unwrap_or(1.7159))?.into())
}

/// `x - tanh(x)`.
pub(super) fn tanh_shrink(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let value = g.function(Function::Tanh, x)?;
    Ok(g.arith(Arith::Sub, x, &value)?.into())
}

/// The whole number of the same sign that is not larger in size.
pub(super) fn trunc(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(Lowered::identity(g.truncated(op.input("X")?)?, "integers are whole"))
}

/// `max(x, 0) + alpha * min(x, 0)`, with one slope, one per channel, or one per element of a batch item.
pub(super) fn prelu(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, alpha) = (op.input("X")?, op.input("Alpha")?);
    op.expect_nchw("data_format")?;
    let dims = g.dims(x);
    let mut shape = vec![1; dims.len()];
    match (op.text("mode")?, shape.len()) {
        ("channel", 2..) => shape[1] = dims[1],
        ("element", 2..) => shape[1..].copy_from_slice(&dims[1..]),
        ("all", _) => {}
        (other, rank) => return Err(Refusal::invalid(format!("the mode `{other}` does not fit rank {rank}"))),
    }
    let alpha = g.reshape(alpha, &shape)?;
    let above = g.relu(x)?;
    let below = g.clip(x, f32::NEG_INFINITY, 0.0)?;
    let below = g.arith(Arith::Mul, &below, &alpha)?;
    Ok(g.arith(Arith::Add, &above, &below)?.into())
}

pub(super) fn scale(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let factor = op.number_from("ScaleTensor", "scale", 1.0)?;
    let bias = op.number_from("BiasTensor", "bias", 0.0)?;
    if g.elem(x) != Elem::F32 {
        return scale_integers(g, x, [factor, bias], op.flag("bias_after_scale", true)?);
    }
    let value = if op.flag("bias_after_scale", true)? {
        let scaled = g.times(x, factor)?;
        g.plus(&scaled, bias)?
    } else {
        let moved = g.plus(x, bias)?;
        g.times(&moved, factor)?
    };
    Ok(Lowered::identity(value, "a scale of 1 and a bias of 0 change nothing"))
}

/// The same of integers, whose factors are whole.
fn scale_integers(g: &mut Graph, x: &Value, [factor, bias]: [f32; 2], bias_after: bool) -> Result<Lowered> {
    if factor.fract() != 0.0 || bias.fract() != 0.0 {
        return Err(Refusal::unsupported(format!("integers are scaled by {factor} and moved by {bias}")));
    }
    let (factor, bias) = (g.integer(g.elem(x), factor as i64)?, g.integer(g.elem(x), bias as i64)?);
    let value = if bias_after {
        let scaled = g.arith(Arith::Mul, x, &factor)?;
        g.arith(Arith::Add, &scaled, &bias)?
    } else {
        let moved = g.arith(Arith::Add, x, &bias)?;
        g.arith(Arith::Mul, &moved, &factor)?
    };
    Ok(value.into())
}

/// A power with one known exponent.
pub(super) fn pow(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let exponent = op.number_from("FactorTensor", "factor", 1.0)?;
    Ok(Lowered::identity(g.power(op.input("X")?, exponent)?, "the first power is the number itself"))
}

pub(super) fn identity(_: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(Lowered::identity(op.input("X")?.clone(), "it copies its input"))
}

pub(super) fn dropout(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    // Old files have a truth value, which means `upscale_in_train`.
    let upscale = match op.text("dropout_implementation") {
        Ok(text) => text == "upscale_in_train",
        Err(_) => op.flag("dropout_implementation", false)?,
    };
    let keep = 1.0 - op.number_from("Probability", "dropout_prob", 0.5)?;
    let value = if upscale { x.clone() } else { g.times(x, keep)? };
    Ok(Lowered::identity(value, "dropout does nothing in inference"))
}
