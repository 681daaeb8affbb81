//! What computed indices choose.
//!
//! `graph.index` is a step that makes indices safe and notes one that is outside in two numbers of the arena. A
//! `loop.check` at the end of the program names them, so that the run ends with an error.

use super::Lower;
use super::call::{At, Count};
use super::grain;
use super::layout::Layout;
use super::scalar::Indices;
use super::view::{View, row_major};
use qc_dialects::graph::{Cast, Gather, Index};
use qc_dialects::loops::Check;
use qc_ir::{Attrs, Builder, Diag, Elem, LocId, Module, OpId, Traits, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{GatherCall, GatherMore};

/// A check that the end of the program makes.
pub(super) struct Noted {
    fault: ValueId,
    size: i64,
    what: String,
    node: String,
    loc: LocId,
}

impl Lower<'_> {
    /// `graph.index`.
    pub fn index(&mut self, op: Index) -> Result<(), Diag> {
        let (src, size) = (self.src, op.size(self.src));
        let (x, out) = (self.view(op.x(src))?, self.destination(op.out(src))?);
        let fault = self.alloc("fault", Elem::I64, &[2], Layout::Rows)?;
        self.indices(&Indices { x: &x, out: &out, fault: &fault, size })?;
        let node = src.locs.nodes(src.loc(op.0)).first().map_or(String::new(), |node| node.name.to_string());
        let what = self.origin(op.x(src));
        self.checks.push(Noted { fault: fault.buf, size, what, node, loc: self.loc });
        Ok(())
    }

    /// What holds the numbers of a tensor of indices, in words: an input of the model if they only moved since.
    fn origin(&self, mut v: ValueId) -> String {
        let src = self.src;
        while let Some(op) = src.producer(v).filter(|&op| moves(src, op)) {
            let Some(x) = src.operand(op, 0) else { break };
            v = x;
        }
        let name = src.name(v).unwrap_or("?");
        match src.producer(v) {
            None => format!("input \"{name}\""),
            Some(_) => format!("tensor \"{name}\""),
        }
    }

    /// What the program looks at when it has run.
    pub(super) fn checks(&mut self) -> Result<(), Diag> {
        for Noted { fault, size, what, node, loc } in std::mem::take(&mut self.checks) {
            let body = self.out.body();
            let mut b = Builder::at_end(&mut self.out, body);
            b.loc = loc;
            let attrs = Attrs::new().with("size", size).with("what", what).with("node", node);
            b.create(Check::DEF, &[Some(fault)], attrs)?;
        }
        Ok(())
    }

    /// `graph.gather`: rows are what lies behind the axis.
    pub fn gather(&mut self, op: Gather) -> Result<(), Diag> {
        let (src, axis) = (self.src, op.dim(self.src).map_err(Diag::bug)?);
        self.gathered([op.x(src), op.indices(src), op.out(src)], axis, None)
    }

    /// Rows of a table that indices choose, as they are or, with a factor per row, as real numbers.
    pub(super) fn gathered(
        &mut self,
        [x, indices, out]: [ValueId; 3],
        axis: usize,
        scale: Option<At>,
    ) -> Result<(), Diag> {
        let x = self.view(x)?;
        let x = if x.is_row_major() || x.dims.len() < 2 { x } else { self.row_major_copy("table", &x)? };
        let indices = self.view(indices)?;
        let indices = if indices.is_row_major() { indices } else { self.row_major_copy("indices", &indices)? };
        let out = self.destination(out)?;
        let table = Table { x, axis, scale };
        if out.strides == row_major(&out.dims, out.elem) {
            return self.gather_rows(&table, &indices, &out);
        }
        let rows = self.alloc("gathered", out.elem, &out.dims, Layout::Rows)?;
        self.gather_rows(&table, &indices, &rows)?;
        self.copy(&rows, &out)
    }

    fn gather_rows(&mut self, table: &Table, indices: &View, out: &View) -> Result<(), Diag> {
        let Table { x, axis, scale } = table;
        let (outer, size): (usize, usize) = (x.dims[..*axis].iter().product(), x.dims[*axis]);
        let elements = x.dims[axis + 1..].iter().product::<usize>() as i64;
        let (row, out_row) = (elements * x.elem_bytes(), elements * out.elem_bytes());
        let rows = indices.elements();
        let out_outer = out_row * rows as i64;
        let call = |first: At, index: At, to: At, rows: Count| GatherCall {
            variant: if scale.is_some() { Variant::F32Bytes } else { Variant::B1 },
            table: first,
            indices: index,
            out: to,
            size: size.into(),
            n: row.into(),
            rows,
            outer: outer.into(),
            more: GatherMore {
                scale: scale.clone(),
                table_row: row.into(),
                table_outer: (row * size as i64).into(),
                out_row: out_row.into(),
                out_outer: out_outer.into(),
            },
        };
        let bytes = out.elements() as i64 * out.elem_bytes();
        let tasks = if bytes < 4 * grain::ELEMENTS as i64 { 1 } else { rows };
        self.emit().step(tasks, |e, begin, end| {
            let (table, index, to) = (At::from(x), At::from(indices), At::from(out));
            if tasks == 1 {
                return e.call(&call(table, index, to, rows.into()));
            }
            let count = e.arith("sub", end, begin)?;
            e.call(&call(table, index.moved(begin, 4), to.moved(begin, out_row), count.into()))
        })
    }
}

/// What rows are taken from.
struct Table {
    x: View,
    axis: usize,
    /// A factor per row, of a table that is stored as s8.
    scale: Option<At>,
}

/// Whether an op only moves or widens what it reads.
fn moves(m: &Module, op: OpId) -> bool {
    m.operands(op).len() == 1 && (m.def(op).traits.has(Traits::MOVEMENT) || m.is(op, Cast::DEF))
}
