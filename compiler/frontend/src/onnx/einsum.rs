//! Einsum: sums of products over labels of dims, as products of matrices.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Graph, Value};
use crate::error::Refusal;
use qc_ir::{Elem, HostTensor};

type Result<T> = std::result::Result<T, Refusal>;

/// A dim that an ellipsis stands for: the first of these labels is the last dim.
const ELLIPSIS: u32 = 1 << 20;

/// The labels of a term; an ellipsis stands for `extra` dims.
fn labels(term: &str, extra: usize) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut rest = term;
    while let Some(c) = rest.chars().next() {
        match rest.strip_prefix("...") {
            Some(behind) => {
                found.extend((0..extra).rev().map(|i| ELLIPSIS + i as u32));
                rest = behind;
            }
            None if c.is_ascii_alphabetic() => {
                found.push(u32::from(c));
                rest = &rest[1..];
            }
            None => return Err(Refusal::invalid(format!("`{c}` in its equation"))),
        }
    }
    Ok(found)
}

/// A tensor whose dims have labels, each once.
struct Term {
    value: Value,
    labels: Vec<u32>,
}

impl Term {
    /// Dims of the same label become one, their diagonal.
    fn of(g: &mut Graph, value: &Value, mut labels: Vec<u32>) -> Result<Term> {
        let mut value = value.clone();
        while let Some((a, b)) = twice(&labels) {
            let dims = g.dims(&value);
            if dims[a] != dims[b] {
                return Err(Refusal::invalid(format!("one label for dims of {} and {}", dims[a], dims[b])));
            }
            let mut order: Vec<usize> = (0..dims.len()).filter(|d| *d != a && *d != b).collect();
            order.extend([a, b]);
            let moved = g.transpose(&value, &order)?;
            let (n, mut shape) = (dims[a], g.dims(&moved));
            shape.truncate(dims.len() - 2);
            shape.push(n * n);
            let flat = g.reshape(&moved, &shape)?;
            let diagonal = HostTensor::i64([n], (0..n).map(|i| (i * (n + 1)) as i64).collect());
            value = g.gather(&flat, &diagonal.into(), shape.len() - 1)?;
            let label = labels[a];
            labels.retain(|l| *l != label);
            labels.push(label);
        }
        Ok(Term { value, labels })
    }

    fn size(&self, g: &Graph, label: u32) -> usize {
        self.labels.iter().position(|l| *l == label).map_or(1, |d| g.dims(&self.value)[d])
    }

    /// Sums over all labels but those that `keep` holds for.
    fn summed(self, g: &mut Graph, keep: impl Fn(u32) -> bool) -> Result<Term> {
        let axes: Vec<usize> = (0..self.labels.len()).filter(|&d| !keep(self.labels[d])).collect();
        let value = g.reduce_sum(&self.value, &axes, false)?;
        Ok(Term { value, labels: self.labels.into_iter().filter(|l| keep(*l)).collect() })
    }

    /// The dims of `groups` of labels, each joined to one; labels it does not have are dims of 1.
    fn grouped(&self, g: &mut Graph, groups: &[&[u32]]) -> Result<Value> {
        let order: Vec<usize> =
            groups.concat().iter().filter_map(|label| self.labels.iter().position(|l| l == label)).collect();
        let moved = g.transpose(&self.value, &order)?;
        let shape: Vec<usize> = groups.iter().map(|group| group.iter().map(|&l| self.size(g, l)).product()).collect();
        g.reshape(&moved, &shape)
    }
}

/// Two places of one label.
fn twice(labels: &[u32]) -> Option<(usize, usize)> {
    (0..labels.len()).find_map(|b| labels[..b].iter().position(|l| *l == labels[b]).map(|a| (a, b)))
}

/// The product of two terms, summed over labels that neither the result nor what follows has.
fn product(g: &mut Graph, a: Term, b: Term, keep: &dyn Fn(u32) -> bool) -> Result<Term> {
    let (in_a, in_b) = (a.labels.clone(), b.labels.clone());
    let a = a.summed(g, |l| keep(l) || in_b.contains(&l))?;
    let b = b.summed(g, |l| keep(l) || in_a.contains(&l))?;
    // An ellipsis may stand for dims of 1 on one side, which repeat: those are no dims of a matrix.
    let same = |g: &Graph, l: u32| a.size(g, l) == b.size(g, l);
    let both: Vec<u32> = a.labels.iter().copied().filter(|l| b.labels.contains(l)).collect();
    if both.iter().any(|&l| !same(g, l)) {
        let all: Vec<u32> =
            a.labels.iter().copied().chain(b.labels.iter().copied().filter(|l| !a.labels.contains(l))).collect();
        let one = |t: &Term, g: &mut Graph| t.grouped(g, &all.iter().map(std::slice::from_ref).collect::<Vec<_>>());
        let (x, y) = (one(&a, g)?, one(&b, g)?);
        let value = g.arith(Arith::Mul, &x, &y)?;
        return Term { value, labels: all }.summed(g, keep);
    }
    let batch: Vec<u32> = both.iter().copied().filter(|l| keep(*l)).collect();
    let inner: Vec<u32> = both.iter().copied().filter(|l| !keep(*l)).collect();
    let rows: Vec<u32> = a.labels.iter().copied().filter(|l| !both.contains(l)).collect();
    let columns: Vec<u32> = b.labels.iter().copied().filter(|l| !both.contains(l)).collect();
    let (x, y) = (a.grouped(g, &[&batch, &rows, &inner])?, b.grouped(g, &[&batch, &inner, &columns])?);
    let value = g.matmul(&x, &y, None, [false, false])?;
    let labels: Vec<u32> = [batch, rows, columns].concat();
    let shape: Vec<usize> = labels.iter().map(|&l| a.size(g, l).max(b.size(g, l))).collect();
    Ok(Term { value: g.reshape(&value, &shape)?, labels })
}

/// How many dims the ellipsis of a term stands for.
fn extra(term: &str, rank: usize) -> usize {
    rank.saturating_sub(term.chars().filter(char::is_ascii_alphabetic).count())
}

pub(super) fn einsum(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let equation: String = n.text("equation")?.unwrap_or("").chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = equation.split_once("->").map_or((&*equation, None), |(l, r)| (l, Some(r)));
    let (terms, inputs): (Vec<&str>, Vec<Value>) = (left.split(',').collect(), n.all()?);
    if terms.len() != inputs.len() {
        return Err(Refusal::invalid(format!("{} terms for {} inputs", terms.len(), inputs.len())));
    }
    let mut all = Vec::new();
    let mut most = 0;
    for (term, value) in terms.iter().zip(&inputs) {
        let rank = g.dims(value).len();
        let more = if term.contains("...") { extra(term, rank) } else { 0 };
        most = most.max(more);
        let labels = labels(term, more)?;
        if labels.len() != rank {
            return Err(Refusal::invalid(format!("the term `{term}` for rank {rank}")));
        }
        let value = if matches!(g.elem(value), Elem::F32) { value.clone() } else { g.cast(value, Elem::F32)? };
        all.push(Term::of(g, &value, labels)?);
    }
    let out = match right {
        Some(right) => labels(right, most)?,
        None => implicit(left, most)?,
    };
    let mut terms = all.into_iter();
    let mut sum = terms.next().ok_or_else(|| Refusal::invalid("it has no input"))?;
    let rest: Vec<Term> = terms.collect();
    let behind = |i: usize| -> Vec<u32> { rest[i + 1..].iter().flat_map(|t| t.labels.clone()).collect() };
    let needed: Vec<Vec<u32>> = (0..rest.len()).map(behind).collect();
    for (term, needed) in rest.into_iter().zip(needed) {
        sum = product(g, sum, term, &|l| out.contains(&l) || needed.contains(&l))?;
    }
    let sum = sum.summed(g, |l| out.contains(&l))?;
    if out.iter().any(|l| !sum.labels.contains(l)) || twice(&out).is_some() {
        return Err(Refusal::invalid("its result has a label that no term has, or one twice"));
    }
    let groups: Vec<&[u32]> = out.iter().map(std::slice::from_ref).collect();
    Ok(Lowered::identity(sum.grouped(g, &groups)?, "its result is its input"))
}

/// The labels of a result that is not told: the ellipsis, then what comes once, in order of the alphabet.
fn implicit(left: &str, most: usize) -> Result<Vec<u32>> {
    let letters: Vec<char> = left.chars().filter(char::is_ascii_alphabetic).collect();
    let mut once: Vec<char> =
        letters.iter().copied().filter(|c| letters.iter().filter(|l| *l == c).count() == 1).collect();
    once.sort_unstable();
    let mut out = labels(if left.contains("...") { "..." } else { "" }, most)?;
    out.extend(once.into_iter().map(u32::from));
    Ok(out)
}
