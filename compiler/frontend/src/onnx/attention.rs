//! Attention of `com.microsoft`.

use super::fused;
use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Norm, Relation, Value};
use crate::error::Refusal;
use qc_dialects::graph::IntFunction;
use qc_ir::{Elem, HostTensor, indices};

type Result<T> = std::result::Result<T, Refusal>;

fn heads(n: &Node<'_>) -> Result<usize> {
    let heads = n.int("num_heads")?.and_then(|h| usize::try_from(h).ok()).filter(|&h| h > 0);
    heads.ok_or_else(|| Refusal::invalid("it has no `num_heads`"))
}

/// What a mask adds to scores `[B, N, S, T]`. `mask` is `[B, T]`, `[B, S, T]` or `[B, 1, S, T]` of positions to keep, `[B]` of
/// lengths, or `[2 B]` of ends, then beginnings.
fn mask(g: &mut Graph, mask: &Value, [b, s, t]: [usize; 3], filter: f32) -> Result<Value> {
    let dims = g.dims(mask);
    if dims == [b] || dims == [2 * b] {
        let positions = g.counted(g.elem(mask), t)?;
        let ends = g.narrow(mask, 0, 0, b)?;
        let ends = g.reshape(&ends, &[b, 1, 1, 1])?;
        let mut keep = g.compare(Relation::Less, &positions, &ends)?;
        if dims == [2 * b] {
            let begins = g.narrow(mask, 0, b, 2 * b)?;
            let begins = g.reshape(&begins, &[b, 1, 1, 1])?;
            let begun = g.compare(Relation::LessOrEqual, &begins, &positions)?;
            keep = g.integers(IntFunction::And, &keep, &begun)?;
        }
        return g.mask_of(&keep, filter);
    }
    let shape = match dims.len() {
        2 if dims[1] == t => vec![dims[0], 1, 1, t],
        3 if dims[1..] == [s, t] => vec![dims[0], 1, s, t],
        _ => return Err(Refusal::unsupported(format!("a mask of shape {dims:?} is not supported"))),
    };
    let keep = g.is_positive(mask)?;
    let added = g.mask_of(&keep, filter)?;
    g.reshape(&added, &shape)
}

/// What keeps positions from looking at later ones: the smallest float, where `past` positions lie before the first.
fn causal(g: &mut Graph, s: usize, t: usize) -> Result<Value> {
    g.charge(s.saturating_mul(t).saturating_mul(4))?;
    let past = t.saturating_sub(s);
    let one = |i: Vec<usize>| if i[1] > i[0] + past { f32::MIN } else { 0.0 };
    Ok(HostTensor::f32([1, 1, s, t], indices(&[s, t]).map(one).collect()).into())
}

/// Everything behind the projections: `q`, `k` and `v` are `[B, S, N * D]`; the places of further inputs follow.
struct Core {
    mask: usize,
    addend: usize,
    past: Option<usize>,
    filter: f32,
}

impl Core {
    fn emit(&self, g: &mut Graph, n: &Node<'_>, [q, k, v]: [Value; 3]) -> Result<Lowered> {
        let heads = heads(n)?;
        let q = g.split_heads(&q, heads)?;
        let (mut k, mut v) = (g.split_heads(&k, heads)?, g.split_heads(&v, heads)?);
        if let Some(past) = self.past.and_then(|i| n.optional(i)) {
            let part = |g: &mut Graph, i: usize| -> Result<Value> {
                let dims = g.dims(past);
                let one = g.narrow(past, 0, i, i + 1)?;
                g.reshape(&one, dims.get(1..).unwrap_or_default())
            };
            let before = [part(g, 0)?, part(g, 1)?];
            k = g.concat(&[before[0].clone(), k], 2)?;
            v = g.concat(&[before[1].clone(), v], 2)?;
        }
        let (dims, t) = (g.dims(&q), g.dims(&k)[2]);
        let (b, s) = (dims[0], dims[2]);
        let mut addends = Vec::new();
        if let Some(given) = n.optional(self.mask) {
            addends.push(mask(g, given, [b, s, t], self.filter)?);
        }
        if n.flag("unidirectional", false)? {
            addends.push(causal(g, s, t)?);
        }
        addends.extend(n.optional(self.addend).cloned());
        let scale = n.float("scale")?.filter(|s| *s != 0.0).unwrap_or(1.0 / (dims[3] as f32).sqrt());
        let y = g.attention([&q, &k, &v], scale, &addends)?;
        let mut values = vec![g.merge_heads(&y)?];
        if n.used.get(1).copied().unwrap_or(false) {
            let row = |g: &mut Graph, x: &Value| {
                let dims: Vec<usize> = std::iter::once(1).chain(g.dims(x)).collect();
                g.reshape(x, &dims)
            };
            let (k, v) = (row(g, &k)?, row(g, &v)?);
            values.push(g.concat(&[k, v], 0)?);
        }
        Ok(Lowered::many(values))
    }
}

/// The parts of a projection to `sizes` columns.
fn parts(g: &mut Graph, x: &Value, sizes: [usize; 3]) -> Result<[Value; 3]> {
    let axis = g.dims(x).len() - 1;
    if sizes.iter().sum::<usize>() != g.dims(x)[axis] {
        return Err(Refusal::invalid(format!("{} columns in parts of {sizes:?}", g.dims(x)[axis])));
    }
    let (q, k) = (sizes[0], sizes[0] + sizes[1]);
    Ok([g.narrow(x, axis, 0, q)?, g.narrow(x, axis, q, k)?, g.narrow(x, axis, k, k + sizes[2])?])
}

fn expect_plain(n: &Node<'_>) -> Result<()> {
    if n.flag("do_rotary", false)? {
        return Err(Refusal::unsupported("it rotates its inputs (do_rotary)").remedy("export the model without it"));
    }
    Ok(())
}

pub(super) fn attention(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    expect_plain(n)?;
    let mut projected = g.matmul(n.input(0)?, n.input(1)?, None, [false, false])?;
    if let Some(bias) = n.optional(2) {
        projected = g.arith(Arith::Add, &projected, bias)?;
    }
    let columns = g.dims(&projected).last().copied().unwrap_or(0);
    let sizes = match n.ints("qkv_hidden_sizes")? {
        Some(&[q, k, v]) => [q, k, v].map(|size| usize::try_from(size).unwrap_or(0)),
        _ => [columns / 3; 3],
    };
    let filter = n.float("mask_filter_value")?.unwrap_or(-10000.0);
    let qkv = parts(g, &projected, sizes)?;
    Core { mask: 3, addend: 5, past: Some(4), filter }.emit(g, n, qkv)
}

pub(super) fn multi_head(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (mut q, mut k, mut v) = (n.input(0)?.clone(), n.input(1)?.clone(), n.input(2)?.clone());
    if n.optional(6).is_some() || n.optional(7).is_some() {
        return Err(Refusal::unsupported("its keys and values of the past are not supported"));
    }
    if let Some(bias) = n.optional(3) {
        let widths = [&q, &k, &v].map(|x| g.dims(x).last().copied().unwrap_or(0));
        let [bq, bk, bv] = parts(g, bias, widths)?;
        q = g.arith(Arith::Add, &q, &bq)?;
        k = g.arith(Arith::Add, &k, &bk)?;
        v = g.arith(Arith::Add, &v, &bv)?;
    }
    let filter = n.float("mask_filter_value")?.unwrap_or(-10000.0);
    Core { mask: 4, addend: 5, past: None, filter }.emit(g, n, [q, k, v])
}

/// Attention whose projection is of 8-bit integers.
pub(super) fn quantized(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    expect_plain(n)?;
    let at = |i: usize| n.optional(i).cloned();
    // The projection is a product of integers with its scales, zero points and bias, whether these are known or not.
    let projected = fused::matmul_integer_to_float(g, &n.with([0, 1, 3, 4, 6, 7, 2].map(at).to_vec()))?;
    let projected = projected.values.into_iter().next().ok_or_else(|| Refusal::invalid("it has no result"))?;
    let columns = g.dims(&projected).last().copied().unwrap_or(0);
    let qkv = parts(g, &projected, [columns / 3; 3])?;
    Core { mask: 5, addend: usize::MAX, past: Some(8), filter: -10000.0 }.emit(g, n, qkv)
}

/// The norm of the sum of word, position and segment embeddings; how many positions of each row the mask keeps, 0 without a
/// mask; the sum.
pub(super) fn embed_layer_norm(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let ids = n.input(0)?;
    let dims = g.dims(ids);
    let mut sum = g.gather(n.input(2)?, ids, 0)?;
    let positions = match n.optional(8) {
        Some(positions) => positions.clone(),
        None => g.counted(g.elem(ids), *dims.last().unwrap_or(&1))?,
    };
    let positions = g.gather(n.input(3)?, &positions, 0)?;
    sum = g.arith(Arith::Add, &sum, &positions)?;
    if let (Some(segments), Some(table)) = (n.optional(1), n.optional(4)) {
        let segments = g.gather(table, segments, 0)?;
        sum = g.arith(Arith::Add, &sum, &segments)?;
    }
    let axis = g.dims(&sum).len() - 1;
    let norm = Norm { axis, epsilon: n.float("epsilon")?.unwrap_or(1e-12), rms: false };
    let y = g.layer_norm(&sum, [Some(n.input(5)?), Some(n.input(6)?)], &norm)?;
    let lengths = match n.optional(7) {
        Some(mask) => g.int_reduce(IntFunction::Add, mask, &[1], false)?,
        None => {
            let zero = g.integer(Elem::I32, 0)?;
            g.expand(&zero, &dims[..1])?
        }
    };
    Ok(Lowered::many(vec![y, lengths, sum]))
}
