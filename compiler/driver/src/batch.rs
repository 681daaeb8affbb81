//! Which batches a model can be run with: whether its items stay apart, so that any batch may be dealt out over the
//! variants that have code, or meet, so that only whole batches can be computed, each by code of its own.
//!
//! Two things are proved, both on an import at a batch that no dim of the model happens to be. Items are followed from the
//! inputs through every op to the results ([`qc_ir::Follow`]). And the program is compared with that of the smallest
//! batch: what a model computes from its batch, such as a division by it, shows as another constant or attribute.

use crate::CompileError;
use qc_frontend::{ImportError, Imported, Port};
use qc_ir::{Attr, Elem, Follow, Items, Module, OpId, RegionId, Traits, Type, ValueId, repeats_along};
use std::collections::HashMap;

/// Batches at which items are followed: primes, the largest at which a model can be imported.
pub(crate) const PROBES: [usize; 3] = [67, 13, 5];

/// Batches that a model whose items meet has code for unless told otherwise.
pub(crate) const WHOLE_BATCHES: std::ops::RangeInclusive<usize> = 1..=8;

/// Shapes of arrays that a model is going to be run with, by input name where they have one.
pub type Data = Vec<(Option<String>, Vec<usize>)>;

/// Whether items stay apart: per output, whether it has items; or else a sentence on why they do not.
pub(crate) fn apart(own: &Imported, probe: &Imported, batch: usize) -> Result<Vec<bool>, String> {
    let m = &probe.module;
    let flags: Vec<bool> = probe.inputs.iter().map(|p| p.batched).collect();
    let follow = Follow::through(m, batch, &flags);
    let returns = m.returns(m.body());
    let one = |(i, &v): (usize, &ValueId)| has_items(&follow, m, v, &own.outputs[i], &probe.outputs[i], batch);
    let batched = returns.iter().enumerate().map(one).collect::<Result<Vec<bool>, String>>()?;
    match difference(&own.module, m, batch) {
        None => Ok(batched),
        Some(op) => Err(format!("{} depends on the size of the batch", node(m, op))),
    }
}

fn has_items(f: &Follow, m: &Module, v: ValueId, own: &Port, probe: &Port, batch: usize) -> Result<bool, String> {
    let name = &own.name;
    let scales = || probe.dims.first().zip(own.dims.first()).is_some_and(|(p, o)| *p == o * batch);
    match f.of(v) {
        Items::Same if own.dims == probe.dims => Ok(false),
        Items::Same if scales() && own.dims[1..] == probe.dims[1..] && f.repeats(m, v, 0) => Ok(true),
        Items::Same => Err(format!("output \"{name}\" has a shape that depends on the batch, but no items")),
        Items::Along(0) if scales() && own.dims[1..] == probe.dims[1..] => Ok(true),
        Items::Along(axis) => Err(format!("output \"{name}\" has the batch in dim {axis}")),
        Items::Met(op) => Err(format!("the items of a batch meet in {}", node(m, op))),
    }
}

fn node(m: &Module, op: OpId) -> String {
    match m.locs.nodes(m.loc(op)).first() {
        Some(node) => format!("node \"{}\" ({})", node.name, node.op_type),
        None => m.def(op).name.to_string(),
    }
}

/// The first op that is another one at batch 1 than at `batch`, apart from shapes that grow with it.
fn difference(own: &Module, probe: &Module, batch: usize) -> Option<OpId> {
    let mut same = HashMap::new();
    difference_in([(own, own.body()), (probe, probe.body())], batch, &mut same)
}

/// As [`difference`], in a region of each.
fn difference_in(
    [(own, x), (probe, y)]: [(&Module, RegionId); 2],
    batch: usize,
    same: &mut HashMap<ValueId, ValueId>,
) -> Option<OpId> {
    let (a, b) = (own.ops(x), probe.ops(y));
    same.extend(own.args(x).iter().copied().zip(probe.args(y).iter().copied()));
    for (&x, &y) in a.iter().zip(b) {
        if !same_op(own, x, probe, y, batch, same) || own.regions(x).len() != probe.regions(y).len() {
            return Some(y);
        }
        for (&x, &y) in own.regions(x).iter().zip(probe.regions(y)) {
            if let Some(op) = difference_in([(own, x), (probe, y)], batch, same) {
                return Some(op);
            }
        }
        same.extend(own.results(x).iter().copied().zip(probe.results(y).iter().copied()));
    }
    let given = |(a, b): (&ValueId, &ValueId)| same.get(a) == Some(b);
    let returns =
        own.returns(x).len() == probe.returns(y).len() && own.returns(x).iter().zip(probe.returns(y)).all(given);
    (a.len() != b.len() || !returns).then(|| b.iter().next_back().copied()).flatten()
}

fn same_op(own: &Module, x: OpId, probe: &Module, y: OpId, batch: usize, same: &HashMap<ValueId, ValueId>) -> bool {
    let (ops, moves) = ((own.operands(x), probe.operands(y)), own.def(x).traits.has(Traits::MOVEMENT));
    let operand = |(a, b): (&Option<ValueId>, &Option<ValueId>)| a.map(|a| same.get(&a).copied()) == b.map(Some);
    let operands = ops.0.len() == ops.1.len() && ops.0.iter().zip(ops.1).all(operand);
    let (a, b) = (own.attrs(x), probe.attrs(y));
    let attrs = a.iter().count() == b.iter().count()
        && a.iter().all(|(name, v)| b.get(name).is_some_and(|w| same_attr(own, v, probe, w, moves.then_some(batch))));
    own.def(x) == probe.def(y) && operands && attrs
}

/// Whether two attributes are the same; with `batch`, numbers of a shape may also be that many times as large.
fn same_attr(own: &Module, a: &Attr, probe: &Module, b: &Attr, batch: Option<usize>) -> bool {
    match (a, b) {
        (Attr::Const(a), Attr::Const(b)) => {
            let (a, b) = (&own.consts.get(*a).tensor, &probe.consts.get(*b).tensor);
            a.dims() == b.dims() && a.data().to_bytes() == b.data().to_bytes() || repeated(a, b)
        }
        (Attr::Quant(a), Attr::Quant(b)) => own.quant(*a) == probe.quant(*b),
        // Ids of formats are those of their module; no op of an imported program names one by a type.
        (Attr::Type(Type::Scalar(a)), Attr::Type(Type::Scalar(b))) => a == b && !matches!(a, Elem::Quant(_)),
        (Attr::Type(_), _) => false,
        (Attr::Ints(a), Attr::Ints(b)) => {
            let grows = |(a, b): (&i64, &i64)| a == b || batch.is_some_and(|n| *b == *a * n as i64);
            a.len() == b.len() && a.iter().zip(b.iter()).all(grows)
        }
        _ => a == b,
    }
}

/// Whether `b` is `a` repeated along one dim.
fn repeated(a: &qc_ir::HostTensor, b: &qc_ir::HostTensor) -> bool {
    let differ = || (0..b.dims().len()).filter(|&d| a.dims()[d] != b.dims()[d]);
    if a.dims().len() != b.dims().len() || differ().count() != 1 || a.is_empty() {
        return false;
    }
    let axis = differ().next().unwrap_or(0);
    let times = b.dims()[axis] / a.dims()[axis].max(1);
    let inner: usize = a.dims()[axis..].iter().product();
    let (x, y) = (a.data().to_bytes(), b.data().to_bytes());
    let unit = x.len() / a.len();
    let rows = x.chunks_exact(inner * unit).zip(y.chunks_exact(inner * times * unit));
    b.dims()[axis] == times * a.dims()[axis]
        && a.data().elem() == b.data().elem()
        && repeats_along(b, axis, times)
        && rows.into_iter().all(|(x, y)| y.starts_with(x))
}

/// Whether an import failed because of what nodes compute at this batch, so that another batch may do.
pub(crate) fn may_fit_another(e: &CompileError) -> bool {
    let CompileError::Import { errors, .. } = e else { return false };
    errors.list.iter().all(|e| matches!(e, ImportError::Node { .. }))
}

/// The batch of the arrays that a model is going to be run with, given its inputs at batch `own`.
pub(crate) fn of_data(inputs: &[Port], own: usize, data: &Data) -> Option<usize> {
    inputs.iter().filter(|p| p.batched).find_map(|p| {
        let named = data.iter().find(|(name, _)| name.as_ref() == Some(&p.name));
        let fits = |dims: &[usize]| dims.len() == p.dims.len() && dims[1..] == p.dims[1..];
        let (_, dims) = named.or_else(|| data.iter().find(|(name, dims)| name.is_none() && fits(dims)))?;
        let rows = (p.dims.first()? / own.max(1)).max(1);
        dims.first().filter(|first| fits(dims) && **first > 0 && first.is_multiple_of(rows)).map(|first| first / rows)
    })
}
