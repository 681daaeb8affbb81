//! Operators of `com.microsoft` that ONNX Runtime fuses from others: products, sums and activations in one.

use super::node::{Lower, Lowered, Node};
use super::qdq::{Stated, dequantized};
use super::{integer, nn};
use crate::emit::{Arith, Graph, Value};
use crate::error::Refusal;
use qc_dialects::graph::activation::Function;
use qc_ir::Elem;

type Result<T> = std::result::Result<T, Refusal>;

/// The single result of a float operator on the inputs of this node, or on others.
fn float(g: &mut Graph, n: &Node<'_>, inputs: Vec<Option<Value>>, lower: Lower) -> Result<Value> {
    let lowered = lower(g, &n.with(inputs))?;
    lowered.values.into_iter().next().ok_or_else(|| Refusal::invalid("it has no result"))
}

/// The activation that a node names, applied to `y`.
fn activated(g: &mut Graph, n: &Node<'_>, y: &Value) -> Result<Lowered> {
    let alpha = |default: f32| Ok::<f32, Refusal>(n.float("activation_alpha")?.unwrap_or(default));
    let first = |default: f32| match n.floats("activation_params")? {
        Some(&[first, ..]) => Ok(first),
        _ => alpha(default),
    };
    let second = |default: f32| match n.floats("activation_params")? {
        Some(&[_, second, ..]) => Ok::<f32, Refusal>(second),
        _ => Ok(n.float("activation_beta")?.unwrap_or(default)),
    };
    let function = match n.text("activation")?.unwrap_or("") {
        "" => return Ok(y.clone().into()),
        "Relu" => return Ok(g.relu(y)?.into()),
        "Clip" => {
            let (min, max) = (first(f32::MIN)?, second(f32::MAX)?);
            return Ok(g.clip(y, min, max)?.into());
        }
        "Sigmoid" => Function::Sigmoid,
        "Tanh" => Function::Tanh,
        "LeakyRelu" => Function::LeakyRelu { alpha: first(0.01)? },
        "HardSigmoid" => Function::HardSigmoid { alpha: first(0.2)?, beta: second(0.5)? },
        other => return Err(Refusal::unsupported(format!("the activation `{other}` is not supported"))),
    };
    Ok(g.function(function, y)?.into())
}

/// A convolution, plus an addend, through an activation.
pub(super) fn conv(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let mut y = float(g, n, n.inputs.iter().take(3).cloned().collect(), nn::conv)?;
    if let Some(addend) = n.optional(3) {
        y = g.arith(Arith::Add, &y, addend)?;
    }
    activated(g, n, &y)
}

pub(super) fn gemm(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let y = float(g, n, n.inputs.clone(), nn::gemm)?;
    activated(g, n, &y)
}

/// `alpha * a * b`; the last two dims, or before them the first and the last but one, change places.
pub(super) fn matmul(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let moved = |g: &mut Graph, x: &Value, name: &str| -> Result<Value> {
        if !n.flag(name, false)? {
            return Ok(x.clone());
        }
        let rank = g.dims(x).len();
        if rank < 3 {
            return Err(Refusal::invalid(format!("`{name}` of rank {rank}")));
        }
        // The first dim goes to the place before the last.
        let perm: Vec<usize> = (1..rank - 1).chain([0, rank - 1]).collect();
        g.transpose(x, &perm)
    };
    let (a, b) = (moved(g, n.input(0)?, "transBatchA")?, moved(g, n.input(1)?, "transBatchB")?);
    let flags = [n.flag("transA", false)?, n.flag("transB", false)?];
    let product = g.matmul(&a, &b, None, flags)?;
    Ok(g.times(&product, n.float("alpha")?.unwrap_or(1.0))?.into())
}

/// A function of the sum of the inputs, of which the second may be left out.
fn biased(g: &mut Graph, n: &Node<'_>, function: Function) -> Result<Lowered> {
    let x = match n.optional(1) {
        Some(bias) => g.arith(Arith::Add, n.input(0)?, bias)?,
        None => n.input(0)?.clone(),
    };
    Ok(g.function(function, &x)?.into())
}

pub(super) fn gelu(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    biased(g, n, Function::Gelu { tanh: false })
}

pub(super) fn fast_gelu(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    biased(g, n, Function::Gelu { tanh: true })
}

pub(super) fn quick_gelu(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let beta = n.float("alpha")?.unwrap_or(1.702);
    Ok(g.function(Function::Swish { beta }, n.input(0)?)?.into())
}

/// The product of two tensors of 8-bit integers, as real numbers: inputs `a`, `b` and their scales and zero points at
/// `a_at`, `b_at`.
fn real_product(g: &mut Graph, n: &Node<'_>, [a_at, b_at]: [usize; 2], bias: usize) -> Result<Lowered> {
    let at = |i: usize| n.optional(i).cloned();
    let [a, b] = [(0, a_at, None), (1, b_at, Some(-1))].map(|(i, scale, axis)| {
        let node = n.with(vec![at(i), at(scale), at(scale + 2)]);
        let stated = Stated::at(&node, 1, axis);
        stated.and_then(|stated| dequantized(g, node.input(0)?, &stated))
    });
    if let (Ok(a), Ok(b)) = (a, b) {
        let product = g.matmul(&a, &b, None, [false, false])?;
        return plus_bias(g, n, &product, bias);
    }
    // A scale that the model computes multiplies the product of the integers.
    let integers = n.with(vec![at(0), at(1), at(a_at + 2), at(b_at + 2)]);
    let sum = integer::matmul(g, &integers)?;
    let sum = sum.values.first().ok_or_else(|| Refusal::invalid("it has no result"))?;
    let sum = g.cast(sum, Elem::F32)?;
    let scale = g.arith(Arith::Mul, n.input(a_at)?, n.input(b_at)?)?;
    let product = g.arith(Arith::Mul, &sum, &scale)?;
    plus_bias(g, n, &product, bias)
}

fn plus_bias(g: &mut Graph, n: &Node<'_>, product: &Value, bias: usize) -> Result<Lowered> {
    Ok(match n.optional(bias) {
        Some(bias) => g.arith(Arith::Add, product, bias)?,
        None => product.clone(),
    }
    .into())
}

pub(super) fn matmul_integer_to_float(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    real_product(g, n, [2, 3], 6)
}

/// The left side is quantized by the range that it has in a run.
pub(super) fn dynamic_quantize_matmul(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let at = |i: usize| n.optional(i).cloned();
    let quantized = integer::dynamic_quantize(g, &n.with(vec![at(0)]))?;
    let [q, scale, zero] = &quantized.values[..] else { return Err(Refusal::invalid("it has no input")) };
    let inputs = vec![Some(q.clone()), at(1), Some(scale.clone()), at(2), Some(zero.clone()), at(3), at(4)];
    matmul_integer_to_float(g, &n.with(inputs))
}
