//! Plain loops over single elements, for what no kernel covers: casts, odd reductions, products of two computed
//! matrices. They compile to scalar code.

use super::Lower;
use super::emit::Emit;
use super::view::View;
use qc_dialects::graph::matmul::broadcast;
use qc_dialects::graph::{Cast, Matmul, ReduceMean};
use qc_dialects::loops::{Binary, Convert, Load, Scalar, Store};
use qc_ir::{Attrs, Diag, Elem, Type, ValueId};

/// An element's address: a view and one index per dim that matters.
fn at(view: &View, indices: &[(ValueId, usize)]) -> (Vec<Option<ValueId>>, Vec<i64>) {
    let mut row = vec![view.offset];
    row.extend(indices.iter().map(|&(_, d)| view.strides[d]));
    (indices.iter().map(|&(v, _)| Some(v)).collect(), row)
}

fn load(e: &mut Emit<'_>, view: &View, indices: &[(ValueId, usize)]) -> Result<ValueId, Diag> {
    let (values, row) = at(view, indices);
    let operands: Vec<_> = std::iter::once(Some(view.buf)).chain(values).collect();
    result(e.op(Load::DEF, &operands, Attrs::new().with("at", row))?)
}

fn store(e: &mut Emit<'_>, value: ValueId, view: &View, indices: &[(ValueId, usize)]) -> Result<(), Diag> {
    let (values, row) = at(view, indices);
    let operands: Vec<_> = [Some(value), Some(view.buf)].into_iter().chain(values).collect();
    e.op(Store::DEF, &operands, Attrs::new().with("at", row)).map(|_| ())
}

fn result(v: Option<ValueId>) -> Result<ValueId, Diag> {
    v.ok_or_else(|| Diag::bug("an op without result"))
}

fn scalar(e: &mut Emit<'_>, value: f32) -> Result<ValueId, Diag> {
    result(e.op(Scalar::DEF, &[], Attrs::new().with("value", value).with("to", Type::Scalar(Elem::F32)))?)
}

fn binary(e: &mut Emit<'_>, word: &str, a: ValueId, b: ValueId) -> Result<ValueId, Diag> {
    result(e.op(Binary::DEF, &[Some(a), Some(b)], Attrs::new().with("op", word))?)
}

/// Loops over `dims`; the body gets one index per dim of more than one element, with the dim.
fn over(
    e: &mut Emit<'_>,
    dims: &[(usize, usize)],
    mut indices: Vec<(ValueId, usize)>,
    body: &dyn Fn(&mut Emit<'_>, &[(ValueId, usize)]) -> Result<(), Diag>,
) -> Result<(), Diag> {
    match dims {
        [] => body(e, &indices),
        [(1, _), rest @ ..] => over(e, rest, indices, body),
        [(count, d), rest @ ..] => e.for_count(*count, |e, i| {
            indices.push((i, *d));
            over(e, rest, indices, body)
        }),
    }
}

fn numbered(dims: &[usize]) -> Vec<(usize, usize)> {
    dims.iter().copied().enumerate().map(|(d, n)| (n, d)).collect()
}

impl Lower<'_> {
    /// `graph.cast`.
    pub fn cast(&mut self, op: Cast) -> Result<(), Diag> {
        let (a, out) = (self.view(op.x(self.src))?, self.destination(op.out(self.src))?);
        let to = op.to(self.src);
        self.emit().step(1, |e, _, _| {
            over(e, &numbered(&out.dims), vec![], &|e, i| {
                let x = load(e, &a, i)?;
                let y = result(e.op(Convert::DEF, &[Some(x)], Attrs::new().with("to", to.clone()))?)?;
                store(e, y, &out, i)
            })
        })
    }

    /// `graph.reduce_mean`: sums into the result, then divides.
    pub fn reduce_mean(&mut self, op: ReduceMean) -> Result<(), Diag> {
        let src = self.src;
        let axes = op.axes(src);
        let a = self.view(op.x(src))?;
        let out = self.destination(op.out(src))?;
        // The result seen with the operand's rank: reduced dims repeat one element.
        let mut wide = View { dims: a.dims.clone(), strides: Vec::new(), ..out.clone() };
        let mut kept = out.strides.iter();
        for d in 0..a.dims.len() {
            let reduced = axes.contains(&(d as i64));
            let own = if reduced && !op.keepdims(src) { None } else { kept.next() };
            wide.strides.push(if reduced { 0 } else { own.copied().unwrap_or(0) });
        }
        let count: usize = axes.iter().map(|&d| a.dims[d as usize]).product();
        let results: Vec<(usize, usize)> =
            numbered(&a.dims).into_iter().filter(|(_, d)| !axes.contains(&(*d as i64))).collect();
        let inner: Vec<(usize, usize)> = axes.iter().map(|&d| (a.dims[d as usize], d as usize)).collect();
        self.emit().step(1, |e, _, _| {
            over(e, &results, vec![], &|e, i| {
                let zero = scalar(e, 0.0)?;
                store(e, zero, &wide, i)?;
                over(e, &inner, i.to_vec(), &|e, j| {
                    let (sum, x) = (load(e, &wide, j)?, load(e, &a, j)?);
                    let next = binary(e, "add", sum, x)?;
                    store(e, next, &wide, j)
                })?;
                let (sum, n) = (load(e, &wide, i)?, scalar(e, count as f32)?);
                let mean = binary(e, "div", sum, n)?;
                store(e, mean, &wide, i)
            })
        })
    }
}

/// A product of two computed matrices.
pub fn matmul(lower: &mut Lower<'_>, op: Matmul) -> Result<(), Diag> {
    let src = lower.src;
    let s = op.shape(src).map_err(Diag::bug)?;
    let matrix = |v: View, transpose: bool| {
        let rank = v.dims.len() as i64;
        let mut perm: Vec<i64> = (0..rank).collect();
        if transpose {
            perm.swap(rank as usize - 1, rank as usize - 2);
        }
        v.permuted(&perm)
    };
    let a = matrix(lower.view(op.a(src))?, op.transpose_a(src));
    let b = matrix(lower.view(op.b(src))?, op.transpose_b(src));
    let bias = op.bias(src).map(|v| lower.view(v)).transpose()?;
    let out = lower.destination(op.out(src))?;
    // All three over the loops [batch.., row, column, k]; a stride of 0 repeats.
    let batch = broadcast(&s.batch, &[]).map_err(Diag::bug)?;
    let dims: Vec<usize> = batch.iter().copied().chain([s.m, s.n, s.k]).collect();
    let rank = dims.len();
    let spread = |v: &View, own: [Option<usize>; 3]| {
        let lead = v.dims.len() - 2;
        let mut strides = vec![0; rank];
        for d in 0..lead {
            strides[rank - 3 - lead + d] = if v.dims[d] == 1 { 0 } else { v.strides[d] };
        }
        for (slot, from) in own.into_iter().enumerate() {
            strides[rank - 3 + slot] = from.map_or(0, |f| v.strides[lead + f]);
        }
        View { dims: dims.clone(), strides, ..v.clone() }
    };
    let (a, b) = (spread(&a, [Some(0), None, Some(1)]), spread(&b, [None, Some(1), Some(0)]));
    let bias = bias.map(|v| {
        let mut strides = vec![0; rank];
        strides[rank - 2] = v.strides[0];
        View { dims: dims.clone(), strides, ..v }
    });
    let out = spread(&out, [Some(0), Some(1), None]);
    let (results, inner) = (numbered(&dims[..rank - 1]), [(s.k, rank - 1)]);
    let clamps = [("max", op.min(src) as f32), ("min", op.max(src) as f32)];
    lower.emit().step(1, |e, _, _| {
        over(e, &results, vec![], &|e, i| {
            let first = match &bias {
                Some(bias) => load(e, bias, i)?,
                None => scalar(e, 0.0)?,
            };
            store(e, first, &out, i)?;
            over(e, &inner, i.to_vec(), &|e, j| {
                let (x, y) = (load(e, &a, j)?, load(e, &b, j)?);
                let product = binary(e, "mul", x, y)?;
                let sum = load(e, &out, j)?;
                let next = binary(e, "add", sum, product)?;
                store(e, next, &out, j)
            })?;
            for (word, bound) in clamps.iter().filter(|(_, b)| b.is_finite()) {
                let (value, bound) = (load(e, &out, i)?, scalar(e, *bound)?);
                let clamped = binary(e, word, value, bound)?;
                store(e, clamped, &out, i)?;
            }
            Ok(())
        })
    })
}
