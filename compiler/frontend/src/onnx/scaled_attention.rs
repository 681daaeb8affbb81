//! Attention and rotary positions of the standard operators.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Relation, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::{Function, IntFunction};
use qc_ir::Elem;

type Result<T> = std::result::Result<T, Refusal>;

fn count(n: &Node<'_>, name: &str) -> Result<Option<usize>> {
    Ok(n.int(name)?.and_then(|h| usize::try_from(h).ok()).filter(|&h| h > 0))
}

/// An input as `[B, N, S, D]`.
fn in_heads(g: &mut Graph, n: &Node<'_>, i: usize, heads: &str) -> Result<Value> {
    let x = n.input(i)?;
    match g.dims(x).len() {
        4 => Ok(x.clone()),
        _ => {
            let heads = count(n, heads)?.ok_or_else(|| Refusal::invalid(format!("it has no `{heads}`")))?;
            g.split_heads(x, heads)
        }
    }
}

/// Each head `times` after another, so that groups of heads of the queries meet the one they share.
fn repeated(g: &mut Graph, x: &Value, times: usize) -> Result<Value> {
    let dims = g.dims(x);
    if times == 1 {
        return Ok(x.clone());
    }
    let apart = g.reshape(x, &[dims[0], dims[1], 1, dims[2], dims[3]])?;
    let apart = g.expand(&apart, &[dims[0], dims[1], times, dims[2], dims[3]])?;
    g.reshape(&apart, &[dims[0], dims[1] * times, dims[2], dims[3]])
}

/// What a position may look at, and what is added to the scores.
struct Mask {
    keep: Option<Value>,
    addend: Option<Value>,
}

impl Mask {
    fn and(&mut self, g: &mut Graph, other: Value) -> Result<()> {
        self.keep = Some(match &self.keep {
            Some(keep) => g.integers(IntFunction::And, keep, &other)?,
            None => other,
        });
        Ok(())
    }

    /// The mask of a node for `s` queries and `t` keys, of which `past` came before.
    fn of(g: &mut Graph, n: &Node<'_>, [s, t]: [usize; 2], past: usize) -> Result<Mask> {
        let mut mask = Mask { keep: None, addend: None };
        if let Some(given) = n.optional(3) {
            let given = longer(g, given, t)?;
            match g.elem(&given) {
                Elem::Bool => mask.keep = Some(given),
                _ => mask.addend = Some(given),
            }
        }
        let lengths = match n.optional(6) {
            Some(lengths) => {
                let (count, lengths) = (g.dims(lengths).iter().product(), g.cast(lengths, Elem::I64)?);
                Some(g.reshape(&lengths, &[count, 1, 1, 1])?)
            }
            None => None,
        };
        let keys = g.along(Elem::I64, 4, 3, t)?;
        if let Some(lengths) = &lengths {
            let keep = g.compare(Relation::Less, &keys, lengths)?;
            mask.and(g, keep)?;
        }
        if n.flag("is_causal", false)? {
            let queries = g.along(Elem::I64, 4, 2, s)?;
            let before = match &lengths {
                Some(lengths) if past == 0 => {
                    let own = g.integer(Elem::I64, s as i64)?;
                    g.integers(IntFunction::Sub, lengths, &own)?
                }
                _ => g.integer(Elem::I64, past as i64)?,
            };
            let last = g.integers(IntFunction::Add, &queries, &before)?;
            let keep = g.compare(Relation::LessOrEqual, &keys, &last)?;
            mask.and(g, keep)?;
        }
        Ok(mask)
    }
}

impl Mask {
    /// What is added to the scores, if anything is.
    fn added(self, g: &mut Graph) -> Result<Option<Value>> {
        let Some(keep) = self.keep else { return Ok(self.addend) };
        let addend = self.addend.unwrap_or_else(|| scalar(0.0));
        g.select(&keep, &addend, &scalar(f32::NEG_INFINITY)).map(Some)
    }
}

/// A mask whose last dim is shorter than the keys keeps none of those behind it.
fn longer(g: &mut Graph, mask: &Value, t: usize) -> Result<Value> {
    let dims = g.dims(mask);
    let Some(&own) = dims.last() else { return Err(Refusal::invalid("its mask is a single number")) };
    if own >= t || own == 1 {
        return Ok(mask.clone());
    }
    let mut rest = dims.clone();
    if let Some(last) = rest.last_mut() {
        *last = t - own;
    }
    let fill = match g.elem(mask) {
        Elem::Bool => g.cast(&scalar(0.0), Elem::Bool)?,
        _ => scalar(f32::NEG_INFINITY),
    };
    let fill = g.expand(&fill, &rest)?;
    g.concat(&[mask.clone(), fill], dims.len() - 1)
}

pub(super) fn attention(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    for name in ["left_window_size", "right_window_size"] {
        if n.int(name)?.unwrap_or(-1) >= 0 {
            return Err(Refusal::unsupported(format!("`{name}` is not supported")));
        }
    }
    let flat = g.dims(n.input(0)?).len() == 3;
    let q = in_heads(g, n, 0, "q_num_heads")?;
    let (mut k, mut v) = (in_heads(g, n, 1, "kv_num_heads")?, in_heads(g, n, 2, "kv_num_heads")?);
    let mut past = 0;
    if let (Some(before_k), Some(before_v)) = (n.optional(4), n.optional(5)) {
        past = g.dims(before_k).get(2).copied().unwrap_or(0);
        k = g.concat(&[before_k.clone(), k], 2)?;
        v = g.concat(&[before_v.clone(), v], 2)?;
    }
    let present = [k.clone(), v.clone()];
    let (dims, own) = (g.dims(&q), g.dims(&k));
    if dims.len() != 4 || own.len() != 4 || own[1] == 0 || !dims[1].is_multiple_of(own[1]) {
        return Err(Refusal::invalid(format!("queries of shape {dims:?} with keys of {own:?}")));
    }
    let (k, v) = (repeated(g, &k, dims[1] / own[1])?, repeated(g, &v, dims[1] / own[1])?);
    let scale = n.float("scale")?.unwrap_or(1.0 / (dims[3] as f32).sqrt());
    let mask = Mask::of(g, n, [dims[2], own[2]], past)?.added(g)?;
    let (weights, scores) = weights(g, n, [&q, &k], scale, mask.as_ref())?;
    let y = g.matmul(&weights, &v, None, [false, false])?;
    let y = if flat { g.merge_heads(&y)? } else { y };
    let [k, v] = present;
    Ok(Lowered::many(vec![y, k, v, scores]))
}

/// The weights of an attention, and the scores that the node gives besides.
fn weights(
    g: &mut Graph,
    n: &Node<'_>,
    [q, k]: [&Value; 2],
    scale: f32,
    mask: Option<&Value>,
) -> Result<(Value, Value)> {
    let scores = g.matmul(q, k, None, [false, true])?;
    let scores = g.times(&scores, scale)?;
    let shape = g.dims(&scores);
    let capped = match n.float("softcap")?.unwrap_or(0.0) {
        cap if cap > 0.0 => {
            let inner = g.times(&scores, 1.0 / cap)?;
            let bent = g.function(Function::Tanh, &inner)?;
            g.times(&bent, cap)?
        }
        _ => scores.clone(),
    };
    let masked = match mask {
        Some(mask) => g.arith(Arith::Add, &capped, mask)?,
        None => capped.clone(),
    };
    if g.dims(&masked) != shape {
        return Err(Refusal::invalid(format!("a mask does not fit scores of shape {shape:?}")));
    }
    let mut weights = g.softmax(&masked, 3)?;
    if let Some(mask) = mask {
        // A position that may look at none has no weights.
        let best = g.reduce_max(mask, &[g.dims(mask).len() - 1], true)?;
        let any = g.compare(Relation::Less, &scalar(f32::NEG_INFINITY), &best)?;
        if !any.known().is_some_and(|t| (0..t.len()).all(|i| t.int(i) == Some(1))) {
            weights = g.select(&any, &weights, &scalar(0.0))?;
        }
    }
    let given = match n.int("qk_matmul_output_mode")?.unwrap_or(0) {
        0 => scores,
        1 => capped,
        2 => masked,
        3 => weights.clone(),
        other => return Err(Refusal::invalid(format!("qk_matmul_output_mode is {other}"))),
    };
    Ok((weights, given))
}

/// RotaryEmbedding: pairs of numbers turn by the angle of their position, halves of a head apart or side by side.
pub(super) fn rotary(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let heads = match dims.len() {
        4 => g.transpose(x, &[0, 2, 1, 3])?,
        3 => {
            let heads = count(n, "num_heads")?.ok_or_else(|| Refusal::invalid("it has no `num_heads`"))?;
            if !dims[2].is_multiple_of(heads) {
                return Err(Refusal::invalid(format!("a width of {} for {heads} heads", dims[2])));
            }
            g.reshape(x, &[dims[0], dims[1], heads, dims[2] / heads])?
        }
        _ => return Err(Refusal::invalid(format!("it turns the shape {dims:?}"))),
    };
    let own = g.dims(&heads);
    let turned = count(n, "rotary_embedding_dim")?.unwrap_or(own[3]);
    if turned > own[3] || !turned.is_multiple_of(2) {
        return Err(Refusal::invalid(format!("it turns {turned} of {} numbers", own[3])));
    }
    let half = turned / 2;
    let mut angles = Vec::new();
    for i in [1, 2] {
        let cache = match n.optional(3) {
            Some(positions) => g.gather(n.input(i)?, positions, 0)?,
            None => n.input(i)?.clone(),
        };
        let dims = g.dims(&cache);
        if dims.len() != 3 || dims[2] != half {
            return Err(Refusal::invalid(format!("angles of shape {dims:?} for {half} pairs")));
        }
        angles.push(g.reshape(&cache, &[dims[0], dims[1], 1, half])?);
    }
    let part = g.narrow(&heads, 3, 0, turned)?;
    let interleaved = n.flag("interleaved", false)?;
    let (apart, axis) = if interleaved { ([half, 2], 4) } else { ([2, half], 3) };
    let pairs = g.reshape(&part, &[own[0], own[1], own[2], apart[0], apart[1]])?;
    let side = |g: &mut Graph, i: usize| -> Result<Value> {
        let one = g.narrow(&pairs, axis, i, i + 1)?;
        g.reshape(&one, &[own[0], own[1], own[2], half])
    };
    let (a, b) = (side(g, 0)?, side(g, 1)?);
    let product = |g: &mut Graph, x: &Value, i: usize| g.arith(Arith::Mul, x, &angles[i]);
    let (ac, bs) = (product(g, &a, 0)?, product(g, &b, 1)?);
    let (bc, az) = (product(g, &b, 0)?, product(g, &a, 1)?);
    let sides = [g.arith(Arith::Sub, &ac, &bs)?, g.arith(Arith::Add, &bc, &az)?];
    let mut one = vec![own[0], own[1], own[2], half];
    one.insert(axis, 1);
    let sides = [g.reshape(&sides[0], &one)?, g.reshape(&sides[1], &one)?];
    let joined = g.concat(&sides, axis)?;
    let mut y = g.reshape(&joined, &[own[0], own[1], own[2], turned])?;
    if turned < own[3] {
        let rest = g.narrow(&heads, 3, turned, own[3])?;
        y = g.concat(&[y, rest], 3)?;
    }
    let y = if dims.len() == 4 { g.transpose(&y, &[0, 2, 1, 3])? } else { g.reshape(&y, &dims)? };
    Ok(y.into())
}
