//! Plain loops over single elements, for what no kernel covers: casts, differences of accumulators. They compile to scalar
//! code.

use super::Lower;
use super::emit::Emit;
use super::view::View;
use qc_dialects::graph::Cast;
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
    /// Replaces each element `v` of an i32 tensor by `start - v`.
    pub fn subtract_from(&mut self, start: i32, v: &View) -> Result<(), Diag> {
        self.emit().step(1, |e, _, _| {
            let to = Type::Scalar(Elem::I32);
            let attrs = Attrs::new().with("value", f64::from(start)).with("to", to);
            let start = result(e.op(Scalar::DEF, &[], attrs)?)?;
            over(e, &numbered(&v.dims), vec![], &|e, i| {
                let x = load(e, v, i)?;
                let y = result(e.op(Binary::DEF, &[Some(start), Some(x)], Attrs::new().with("op", "sub"))?)?;
                store(e, y, v, i)
            })
        })
    }

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
}
