//! Elements that indices choose.
//!
//! Computed indices become safe in one place: `graph.index` gives those of a dim, and an index outside is an error value of
//! the run. What reads by them takes its results. Places that are known are part of `graph.take`, which only moves.

use super::items::{kept, never_apart};
use super::shape::{check_per_tensor, same_elem};
use super::{arg, check_size, gather, tensor_of};
use qc_ir::{Elem, Follow, HostTensor, Items, Module, OpId, TensorTy, Type, strides};

qc_ir::ops! { dialect GATHER = "graph";
    /// Indices of a dim of `size`: negative ones count from its end. An index outside `-size..size` ends the run with an error
    /// that names input and value.
    op Index = "graph.index"(x: Integer) -> (out) { size: Int } [ELEMENTWISE] infer(infer_index) eval(eval_index);
    /// Where sequences that lie one behind the other in `rows` rows begin, and where the last one ends: the first number is 0,
    /// none is below the one before, the last is `rows`. Another number ends the run with an error that names input and value.
    op Offsets = "graph.offsets"(x: Integer) -> (out) { rows: Int } [PURE]
        infer(infer_offsets) eval(eval_offsets) items(never_apart);
    /// `out[.., i0, i1, .., ..] = x[.., indices[i0, i1, ..], ..]`: the dims of `indices` take the place of `axis`. Indices
    /// are those of the dim.
    op Gather = "graph.gather"(x: Tensor, indices: Integer) -> (out) { axis: Int } [PURE]
        infer(infer_gather) eval(eval_gather) items(items_gather);
    /// `out[.., i, ..] = x[.., places[i], ..]` along `axis`; `places` are i32 within the dim.
    op Take = "graph.take"(x: Tensor) -> (out) { axis: Int, places: Const } [PURE MOVEMENT]
        infer(infer_take) eval(eval_take) items(items_take);
}

fn infer_index(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let size = Index(op).size(m);
    if !(1..=1 << 31).contains(&size) {
        return Err(format!("a dim of {size}"));
    }
    Ok(vec![Type::Tensor(TensorTy::new(Elem::I32, tensor_of(m, op, 0)?.dims.clone()))])
}

fn eval_index(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (x, size) = (arg(args, 0)?, Index(op).size(m));
    let name = || m.name(Index(op).x(m)).unwrap_or("?").to_string();
    let one = |i: i64| match i {
        _ if (0..size).contains(&i) => Ok(i as i32),
        _ if (-size..0).contains(&i) => Ok((i + size) as i32),
        _ => Err(format!("`{}` holds {i}, which is no index of a dim of {size}", name())),
    };
    let out = super::integer::integers(x)?.into_iter().map(one).collect::<Result<_, _>>()?;
    Ok(vec![HostTensor::i32(x.dims(), out)])
}

impl Offsets {
    /// What a number is not that has no place among the offsets.
    pub fn rule(rows: i64) -> String {
        format!("offset of {rows} rows: offsets go from 0 to {rows} and never down")
    }
}

fn infer_offsets(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (x, rows) = (tensor_of(m, op, 0)?, Offsets(op).rows(m));
    match *x.dims {
        [n] if n >= 2 && (1..1 << 31).contains(&rows) => {
            Ok(vec![Type::Tensor(TensorTy::new(Elem::I32, x.dims.clone()))])
        }
        _ => Err(format!("{:?} offsets of {rows} rows", x.dims)),
    }
}

fn eval_offsets(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (x, rows) = (arg(args, 0)?, Offsets(op).rows(m));
    let (all, last) = (super::integer::integers(x)?, x.len() - 1);
    for (k, &i) in all.iter().enumerate() {
        let low = if k == last { rows } else { k.checked_sub(1).map_or(0, |before| all[before]) };
        if !(low..=if k == 0 { 0 } else { rows }).contains(&i) {
            let name = m.name(Offsets(op).x(m)).unwrap_or("?");
            return Err(format!("`{name}` holds {i}, which is no {}", Offsets::rule(rows)));
        }
    }
    Ok(vec![HostTensor::i32(x.dims(), all.into_iter().map(|i| i as i32).collect())])
}

impl Gather {
    /// The axis.
    ///
    /// # Errors
    /// When there is no such axis.
    pub fn dim(self, m: &Module) -> Result<usize, String> {
        let (axis, rank) = (self.axis(m), tensor_of(m, self.0, 0)?.dims.len());
        let found = usize::try_from(axis).ok().filter(|&a| a < rank);
        found.ok_or_else(|| format!("axis {axis} is outside rank {rank}"))
    }
}

fn infer_gather(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (x, indices, axis) = (tensor_of(m, op, 0)?, tensor_of(m, op, 1)?, Gather(op).dim(m)?);
    if m.operand(op, 0).and_then(|v| m.quant_of(v)).is_some_and(|q| q.axis.is_some()) {
        return Err("a tensor quantized per axis cannot be moved".into());
    }
    if indices.elem != Elem::I32 {
        return Err("its indices are not those of `graph.index`".into());
    }
    let mut dims = x.dims.to_vec();
    dims.splice(axis..=axis, indices.dims.iter().copied());
    check_size(&dims)?;
    Ok(vec![Type::Tensor(TensorTy::new(x.elem, dims))])
}

/// Items of the table stay where they are; those of the indices come to lie behind the dims before the axis.
fn items_gather(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let axis = Gather(op).dim(m).ok()?;
    match (f.is_same(m, op, 0), f.is_same(m, op, 1)) {
        (true, true) => Some(Items::Same),
        (true, false) => f.along(m, op, 1).map(|own| Items::Along(axis + own)),
        (false, true) => {
            let own = f.along(m, op, 0).filter(|own| *own != axis)?;
            let more = m.dims(Gather(op).indices(m)).len();
            Some(Items::Along(if own < axis { own } else { own + more - 1 }))
        }
        (false, false) => None,
    }
}

fn eval_gather(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (x, indices, axis) = (arg(args, 0)?, arg(args, 1)?, Gather(op).dim(m)?);
    let indices = indices.as_i32().ok_or("its indices are not those of `graph.index`")?;
    let (size, inner) = (x.dims()[axis], strides(x.dims())[axis]);
    if indices.iter().any(|&i| i < 0 || i as usize >= size) {
        return Err(format!("an index is outside a dim of {size}"));
    }
    let dims = infer_gather(m, op)?[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    let outer: usize = x.dims()[..axis].iter().product();
    let row = |(o, i): (usize, usize)| (0..inner).map(move |k| (o * size + i) * inner + k);
    let rows = (0..outer).flat_map(|o| indices.iter().map(move |&i| (o, i as usize)));
    gather(x, dims, rows.flat_map(row))
}

impl Take {
    /// The axis and the place along it of each element of the result.
    ///
    /// # Errors
    /// When there is no such axis, or a place outside it.
    pub fn along(self, m: &Module) -> Result<(usize, &[i32]), String> {
        let (axis, dims) = (self.axis(m), &tensor_of(m, self.0, 0)?.dims);
        let found = usize::try_from(axis).ok().filter(|&a| a < dims.len());
        let axis = found.ok_or_else(|| format!("axis {axis} is outside rank {}", dims.len()))?;
        let places = m.consts.get(self.places(m)).tensor.as_i32().ok_or("`places` are no i32")?;
        match places.iter().all(|&p| usize::try_from(p).is_ok_and(|p| p < dims[axis])) {
            true => Ok((axis, places)),
            false => Err(format!("a place is outside a dim of {}", dims[axis])),
        }
    }
}

fn infer_take(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    check_per_tensor(m, op)?;
    let (axis, places) = Take(op).along(m)?;
    let mut dims = tensor_of(m, op, 0)?.dims.to_vec();
    dims[axis] = places.len();
    same_elem(m, op, dims)
}

fn items_take(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let (own, _) = Take(op).along(m).ok()?;
    kept(m, op, f, |axis| axis != own)
}

fn eval_take(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (x, (axis, places)) = (arg(args, 0)?, Take(op).along(m)?);
    let (size, inner) = (x.dims()[axis], strides(x.dims())[axis]);
    let mut dims = x.dims().to_vec();
    dims[axis] = places.len();
    let outer: usize = x.dims()[..axis].iter().product();
    let row = |(o, i): (usize, usize)| (0..inner).map(move |k| (o * size + i) * inner + k);
    let rows = (0..outer).flat_map(|o| places.iter().map(move |&i| (o, i as usize)));
    gather(x, dims, rows.flat_map(row))
}
