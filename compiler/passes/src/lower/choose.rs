//! Places of the largest elements, and rows that are stored where indices say.

use super::call::{At, Count};
use super::layout::Layout;
use super::view::row_major;
use super::{Lower, grain};
use qc_dialects::graph::{Scatter, TopK};
use qc_ir::{Diag, Elem};
use qc_kernels::Variant;
use qc_kernels::args::{ScatterCall, ScatterMore, TopKCall, TopKMore};

impl Lower<'_> {
    /// `graph.top_k`: a task takes some of the rows.
    pub fn top_k(&mut self, op: TopK) -> Result<(), Diag> {
        let src = self.src;
        let (x, to) = (self.in_order(op.x(src), "rows")?, self.destination(op.out(src))?);
        let (n, k) = (x.dims.last().copied().unwrap_or(1), op.k(src) as usize);
        let rows = x.elements() / n.max(1);
        let plain = to.strides == row_major(&to.dims, to.elem);
        let out = if plain { to.clone() } else { self.alloc("places", Elem::I32, &to.dims, Layout::Rows)? };
        let heap = self.alloc("heap", Elem::I64, &[rows * k], Layout::Rows)?;
        let tasks = if rows * n < grain::ELEMENTS / 4 { 1 } else { rows };
        self.emit().step(tasks, |e, begin, end| {
            let (mut a, mut to, mut heap) = (At::from(&x), At::from(&out), At::from(&heap));
            let mut count: Count = rows.into();
            if tasks > 1 {
                (a, to, heap) =
                    (a.moved(begin, 4 * n as i64), to.moved(begin, 4 * k as i64), heap.moved(begin, 8 * k as i64));
                count = e.arith("sub", end, begin)?.into();
            }
            let more = TopKMore {
                a_row: (4 * n).into(),
                out_row: (4 * k).into(),
                heap_row: (8 * k).into(),
                least: usize::from(op.least(src)).into(),
            };
            e.call(&TopKCall { variant: Variant::F32, a, out: to, heap, n: n.into(), k: k.into(), rows: count, more })
        })?;
        if plain { Ok(()) } else { self.copy(&out, &to) }
    }

    /// `graph.scatter`: a copy, and one task that joins rows in their order.
    pub fn scatter(&mut self, op: Scatter) -> Result<(), Diag> {
        let src = self.src;
        let (indices, updates) =
            (self.in_order(op.indices(src), "indices")?, self.in_order(op.updates(src), "updates")?);
        let (x, to) = (self.view(op.x(src))?, self.destination(op.out(src))?);
        let plain = to.strides == row_major(&to.dims, to.elem);
        let out = if plain { to.clone() } else { self.alloc("joined", to.elem, &to.dims, Layout::Rows)? };
        self.copy(&x, &out)?;
        let row = out.dims[1..].iter().product::<usize>() as i64;
        let bytes = row * out.elem_bytes();
        let variant = match &*op.op(src) {
            "add" => Variant::AddF32,
            "mul" => Variant::MulF32,
            "max" => Variant::MaxF32,
            "min" => Variant::MinF32,
            _ => Variant::B1,
        };
        let n = if variant == Variant::B1 { bytes } else { row };
        self.emit().step(1, |e, _, _| {
            e.call(&ScatterCall {
                variant,
                src: At::from(&updates),
                indices: At::from(&indices),
                out: At::from(&out),
                n: n.into(),
                rows: indices.elements().into(),
                size: out.dims[0].into(),
                more: ScatterMore { src_row: bytes.into(), out_row: bytes.into() },
            })
        })?;
        if plain { Ok(()) } else { self.copy(&out, &to) }
    }
}
