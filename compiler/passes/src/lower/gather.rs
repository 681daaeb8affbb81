//! What computed indices choose.
//!
//! `graph.index` is a step that makes indices safe and notes one that is outside in two numbers of the arena, as `graph.offsets` does
//! with offsets. A `loop.check` at the end of the program names them, so that the run ends with an error.

use super::Lower;
use super::call::{At, Code, Count};
use super::grain;
use super::joined::Embeddings;
use super::layout::Layout;
use super::scalar::Indices;
use super::view::{View, row_major};
use qc_dialects::graph::{Add, Cast, Gather, Index, Offsets};
use qc_dialects::loops::Check;
use qc_dialects::quant::QEmbedding;
use qc_ir::{Attrs, Builder, Diag, Elem, LocId, Module, OpId, Traits, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{GatherCall, GatherMore};

/// A check that the end of the program makes.
pub(super) struct Noted {
    fault: ValueId,
    rule: String,
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
        self.note(&fault, op.0, op.x(src), format!("index of a dim of {size}"));
        Ok(())
    }

    /// `graph.offsets`.
    pub fn offsets(&mut self, op: Offsets) -> Result<(), Diag> {
        let (src, rows) = (self.src, op.rows(self.src));
        let (x, out) = (self.view(op.x(src))?, self.destination(op.out(src))?);
        let fault = self.alloc("fault", Elem::I64, &[2], Layout::Rows)?;
        self.bounds_of_sequences(&Indices { x: &x, out: &out, fault: &fault, size: rows })?;
        self.note(&fault, op.0, op.x(src), Offsets::rule(rows));
        Ok(())
    }

    /// What `op` noted of its operand `x` is looked at when the program has run.
    fn note(&mut self, fault: &View, op: OpId, x: ValueId, rule: String) {
        let src = self.src;
        let node = src.locs.nodes(src.loc(op)).first().map_or(String::new(), |node| node.name.to_string());
        let what = self.origin(x);
        self.checks.push(Noted { fault: fault.buf, rule, what, node, loc: self.loc });
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
        for Noted { fault, rule, what, node, loc } in std::mem::take(&mut self.checks) {
            let body = self.out.body();
            let mut b = Builder::at_end(&mut self.out, body);
            b.loc = loc;
            let attrs = Attrs::new().with("rule", rule).with("what", what).with("node", node);
            b.create(Check::DEF, &[Some(fault)], attrs)?;
        }
        Ok(())
    }

    /// `graph.gather`: rows are what lies behind the axis.
    pub fn gather(&mut self, op: Gather) -> Result<(), Diag> {
        let (src, axis) = (self.src, op.dim(self.src).map_err(Diag::bug)?);
        self.gathered([op.x(src), op.indices(src)], op.out(src), axis, None)
    }

    /// Rows of a table that indices choose, as they are or, with a factor per row, as real numbers.
    pub(super) fn gathered(
        &mut self,
        x: [ValueId; 2],
        out: ValueId,
        axis: usize,
        scale: Option<At>,
    ) -> Result<(), Diag> {
        let choice = self.choice(x, axis, scale)?;
        self.gathered_sum(&[choice], None, out)
    }

    /// A sum of embeddings, the ops of which are one step.
    pub(super) fn sum_of_embeddings(&mut self, sum: &Embeddings, add: Add) -> Result<(), Diag> {
        let src = self.src;
        self.loc = self.joined_loc(add.0, &sum.ops);
        let mut choices = Vec::new();
        for &op in &sum.gathers {
            choices.push(match (Gather::of(src, op), QEmbedding::of(src, op)) {
                (Some(op), _) => self.choice([op.x(src), op.indices(src)], 0, None)?,
                (None, Some(op)) => {
                    let scale = self.table_scale(op)?;
                    self.choice([op.table(src), op.indices(src)], 0, Some(scale))?
                }
                (None, None) => return Err(Diag::bug("a term is no embedding")),
            });
        }
        let first = match sum.first {
            Some(v) => Some(self.in_order(v, "first")?),
            None => None,
        };
        self.gathered_sum(&choices, first.as_ref(), add.out(src))
    }

    fn choice(&mut self, [x, indices]: [ValueId; 2], axis: usize, scale: Option<At>) -> Result<Choice, Diag> {
        let (x, indices) = (self.in_order(x, "table")?, self.in_order(indices, "indices")?);
        Ok(Choice { x, indices, axis, scale })
    }

    fn gathered_sum(&mut self, choices: &[Choice], first: Option<&View>, out: ValueId) -> Result<(), Diag> {
        let out = self.destination(out)?;
        if out.strides == row_major(&out.dims, out.elem) {
            return self.gather_rows(choices, first, &out);
        }
        let rows = self.alloc("gathered", out.elem, &out.dims, Layout::Rows)?;
        self.gather_rows(choices, first, &rows)?;
        self.copy(&rows, &out)
    }

    /// One step: the rows of the first choice, added to `first` if there is one, and those of the others added to the result.
    fn gather_rows(&mut self, choices: &[Choice], first: Option<&View>, out: &View) -> Result<(), Diag> {
        let bytes = out.elements() as i64 * out.elem_bytes();
        let rows = choices.first().map_or(1, |c| c.indices.elements());
        let tasks = if bytes * (choices.len() as i64) < 4 * grain::ELEMENTS as i64 { 1 } else { rows };
        self.emit().step(tasks, |e, begin, end| {
            let count: Count = if tasks == 1 { rows.into() } else { e.arith("sub", end, begin)?.into() };
            let moved = |at: At, by: i64| if tasks == 1 { at } else { at.moved(begin, by) };
            for (i, choice) in choices.iter().enumerate() {
                let out_row = choice.elements() * out.elem_bytes();
                let to = moved(At::from(out), out_row);
                let res = if i == 0 { first.map(|first| moved(At::from(first), out_row)) } else { Some(to.clone()) };
                e.call(&choice.call(moved(At::from(&choice.indices), 4), to, res, count))?;
            }
            Ok(())
        })
    }
}

/// Rows that indices choose.
struct Choice {
    x: View,
    indices: View,
    axis: usize,
    /// A factor per row, of a table that is stored as s8.
    scale: Option<At>,
}

impl Choice {
    /// Elements of a row.
    fn elements(&self) -> i64 {
        self.x.dims[self.axis + 1..].iter().product::<usize>() as i64
    }

    /// The call that stores `rows` rows at `to`, added to `res`.
    fn call(&self, indices: At, to: At, res: Option<At>, rows: Count) -> GatherCall<Code> {
        let (outer, size): (usize, usize) = (self.x.dims[..self.axis].iter().product(), self.x.dims[self.axis]);
        let row = self.elements() * self.x.elem_bytes();
        let variant = match (&self.scale, &res) {
            (Some(_), _) => Variant::F32Bytes,
            (None, Some(_)) => Variant::F32,
            (None, None) => Variant::B1,
        };
        let out_row = if self.scale.is_some() { 4 * self.elements() } else { row };
        GatherCall {
            variant,
            table: At::from(&self.x),
            indices,
            out: to,
            size: size.into(),
            n: if variant == Variant::B1 { row } else { self.elements() }.into(),
            rows,
            outer: outer.into(),
            more: GatherMore {
                scale: self.scale.clone(),
                res,
                table_row: row.into(),
                table_outer: (row * size as i64).into(),
                out_row: out_row.into(),
                out_outer: (out_row * self.indices.elements() as i64).into(),
            },
        }
    }
}

/// Whether an op only moves or widens what it reads.
fn moves(m: &Module, op: OpId) -> bool {
    m.operands(op).len() == 1 && (m.def(op).traits.has(Traits::MOVEMENT) || m.is(op, Cast::DEF))
}
