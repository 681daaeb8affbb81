//! Fused ops of Paddle's own optimised programs.

use super::elementwise::binary;
use super::movement::{permuted, with_ones};
use super::nn::fused_activation;
use super::op::{Lowered, Op};
use crate::emit::{Arith, Graph, Norm, Value};
use crate::error::Refusal;
use crate::shape;

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

/// The norm that an op states, over the dims from `begin_norm_axis` on.
fn norm(g: &mut Graph, op: &Op<'_>, x: &Value, bias: &str) -> Result<Lowered> {
    let rank = g.dims(x).len();
    let axis = match op.int("begin_norm_axis")? {
        Some(axis) if axis >= 0 => shape::axis(axis, rank)?,
        _ => shape::axis(-1, rank)?,
    };
    let norm = Norm { axis, epsilon: op.float("epsilon")?.unwrap_or(1e-5), rms: false };
    Ok(g.layer_norm(x, [op.optional("Scale"), op.optional(bias)], &norm)?.into())
}

/// `layer_norm(X + Y)`.
pub(super) fn skip_layernorm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let sum = g.arith(Arith::Add, op.input("X")?, op.input("Y")?)?;
    norm(g, op, &sum, "Bias")
}

/// `layer_norm(Σ Embs[i][Ids[i]])`; the first version has a slot for each.
pub(super) fn embedding_layernorm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let slots = [["WordId", "WordEmb"], ["PosId", "PosEmb"], ["SentId", "SentEmb"]];
    let named = |i: usize| slots.iter().filter_map(|s| op.optional(s[i])).cloned().collect::<Vec<_>>();
    let ids = [op.all("Ids").to_vec(), named(0)].concat();
    let tables = [op.all("Embs").to_vec(), named(1)].concat();
    if ids.is_empty() || ids.len() != tables.len() {
        return Err(Refusal::invalid(format!("it has {} ids and {} tables", ids.len(), tables.len())));
    }
    let mut sum: Option<Value> = None;
    for (ids, table) in ids.iter().zip(&tables) {
        let ids = match g.dims(ids)[..] {
            [b, s, 1] => g.reshape(ids, &[b, s])?,
            _ => ids.clone(),
        };
        let rows = g.gather(table, &ids, 0)?;
        sum = Some(match sum {
            Some(sum) => g.arith(Arith::Add, &sum, &rows)?,
            None => rows,
        });
    }
    let sum = sum.ok_or_else(|| Refusal::invalid("it has no ids"))?;
    norm(g, op, &sum, "Bias")
}

/// `layer_norm(act(X W + Bias0) + Y)`.
pub(super) fn fc_layernorm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let y = super::nn::fully_connected(g, op, ["X", "W", "Bias0"], "x_num_col_dims")?;
    let sum = g.arith(Arith::Add, &y, op.input("Y")?)?;
    norm(g, op, &sum, "Bias1")
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

/// An element-wise op with what optimised programs keep in it: an activation, a factor, another shape.
fn elementwise(g: &mut Graph, op: &Op<'_>, arith: Arith) -> Result<Lowered> {
    let axis = op.int("axis")?.unwrap_or(-1);
    let value = binary(g, arith, op.input("X")?, op.input("Y")?, axis)?;
    let mut value = fused_activation(g, op, value)?;
    if let Some(axes) = op.ints("fused_unsqueeze2_axes")?.filter(|v| !v.is_empty()) {
        let dims = with_ones(g.dims(&value), &axes)?;
        value = g.reshape(&value, &dims)?;
    }
    Ok(value.into())
}

pub(super) fn add(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    elementwise(g, op, Arith::Add)
}

pub(super) fn subtract(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    elementwise(g, op, Arith::Sub)
}

pub(super) fn mul(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    elementwise(g, op, Arith::Mul)
}

pub(super) fn div(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    elementwise(g, op, Arith::Div)
}

/// A transposition, before or behind which dims of 1 go or come.
pub(super) fn transpose(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let set = |name: &str| Ok::<_, Refusal>(op.ints(name)?.filter(|v| !v.is_empty()));
    if set("fused_squeeze2_axes")?.is_some() || set("fused_reshape2_shape")?.is_some() {
        return Err(
            Refusal::unsupported("another shape fused with it is not supported").remedy("save the program unoptimised")
        );
    }
    let mut value = permuted(g, op)?;
    if let Some(axes) = set("fused_unsqueeze2_axes")? {
        let dims = with_ones(g.dims(&value), &axes)?;
        value = g.reshape(&value, &dims)?;
    }
    Ok(value.into())
}
