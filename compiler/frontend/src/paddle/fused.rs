//! Fused ops of Paddle's own optimised programs.

use super::op::{Lowered, Op};
use crate::emit::{Arith, Graph};
use crate::error::Refusal;

type Result<T> = std::result::Result<T, Refusal>;

fn heads(op: &Op<'_>) -> Result<usize> {
    let heads = op.int("head_number")?.and_then(|h| usize::try_from(h).ok()).filter(|&h| h > 0);
    heads.ok_or_else(|| Refusal::invalid("it has no head_number"))
}

/// `softmax(alpha * q kᵀ + BiasQK) v`: `W` is `[K, 3, N * D]`, or `[K, 3, N, D]`, of q, k and v.
pub(super) fn multihead_matmul(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, w, heads) = (op.input("Input")?, op.input("W")?, heads(op)?);
    let dims = g.dims(w);
    if dims.len() < 3 || dims[1] != 3 {
        return Err(Refusal::unsupported(format!("its weight has the shape {dims:?}, not [K, 3, N * D]"))
            .remedy("save the program unoptimised"));
    }
    let width: usize = dims[2..].iter().product();
    let w = g.reshape(w, &[dims[0], 3 * width])?;
    let bias = g.reshape(op.input("Bias")?, &[3 * width])?;
    let projected = g.matmul(x, &w, Some(&bias), [false, false])?;
    let mut parts = Vec::new();
    for i in 0..3 {
        let axis = g.dims(&projected).len() - 1;
        let part = g.narrow(&projected, axis, i * width, (i + 1) * width)?;
        parts.push(g.split_heads(&part, heads)?);
    }
    let alpha = op.float("alpha")?.unwrap_or(1.0);
    let addends: Vec<_> = op.optional("BiasQK").cloned().into_iter().collect();
    let y = g.attention([&parts[0], &parts[1], &parts[2]], alpha, &addends)?;
    Ok(g.merge_heads(&y)?.into())
}

/// `softmax(alpha * q kᵀ) v` of `X` `[B, S, 3, N, D]`, without a mask.
pub(super) fn self_attention(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let dims = g.dims(x);
    let &[b, s, 3, n, d] = &dims[..] else {
        return Err(Refusal::invalid(format!("its input has the shape {dims:?}, not [B, S, 3, N, D]")));
    };
    let mut parts = Vec::new();
    for i in 0..3 {
        let part = g.narrow(x, 2, i, i + 1)?;
        let part = g.reshape(&part, &[b, s, n, d])?;
        parts.push(g.transpose(&part, &[0, 2, 1, 3])?);
    }
    let y = g.attention([&parts[0], &parts[1], &parts[2]], op.float("alpha")?.unwrap_or(1.0), &[])?;
    Ok(g.transpose(&y, &[0, 2, 1, 3])?.into())
}

/// The sum of a list of tensors.
pub(super) fn sum(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let [first, rest @ ..] = op.all("X") else { return Err(Refusal::invalid("it has no input")) };
    let mut sum = first.clone();
    for v in rest {
        sum = g.arith(Arith::Add, &sum, v)?;
    }
    Ok(Lowered::identity(sum, "a single input is the result"))
}
