//! The sweep of the matrix kernels, for convolutions and for products with a constant or a computed right side.
//!
//! One call computes a panel of up to 64 output columns for a range of pixels. Around it run loops over images, groups,
//! row blocks and panels. Constant weights stream through once: all pixels of a block, then the next panel. Where every
//! matrix of a batch has a right side of its own, panels are the inner loop. Tasks are matrices, else output rows, else
//! groups, else panels, whichever comes first in sufficient number.

use super::call::{At, Code, Count};
use super::emit::Emit;
use super::grain;
use super::view::Level;
use qc_ir::{Diag, ValueId};
use qc_kernels::args::KernelCall;
use qc_kernels::pack::PANEL;

/// A loop around the kernel: how far each operand moves from one index to the next.
#[derive(Clone, Copy, Default, Debug)]
pub struct Loop {
    /// Iterations.
    pub count: usize,
    /// Bytes of the left side, the packed right side, the result and the residual.
    pub a: i64,
    /// Of the packed right side.
    pub w: i64,
    /// Of the result.
    pub out: i64,
    /// Of the residual.
    pub res: i64,
    /// Columns: bias and scale have four bytes for each.
    pub columns: i64,
    /// Bytes of the bias alone, where matrices have their own.
    pub bias: i64,
    /// Bytes of the addends of rows.
    pub row_bias: i64,
}

impl Loop {
    /// No loop.
    pub const ONE: Loop = Loop { count: 1, a: 0, w: 0, out: 0, res: 0, columns: 0, bias: 0, row_bias: 0 };
}

/// An operand with rows of pixels.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Its first element.
    pub at: At,
    /// Bytes between rows.
    pub row: i64,
    /// Bytes between outer indices.
    pub outer: i64,
}

/// What one call of a matrix kernel computes: a range of rows of one panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Left side.
    pub a: Rows,
    /// Right side, a packed panel.
    pub w: At,
    /// Accumulator starts per column.
    pub bias: At,
    /// Factors per column, of integer kernels.
    pub scale: Option<At>,
    /// What is added to real results per column, of integer kernels.
    pub addend: Option<At>,
    /// Addends per row, of integer kernels.
    pub row_bias: Option<At>,
    /// Result.
    pub out: Rows,
    /// What is added.
    pub res: Option<Rows>,
    /// Rows per outer index.
    pub rows: Count,
    /// Outer indices.
    pub outer: Count,
    /// Columns.
    pub cols: Count,
}

impl Panel {
    /// Moves every operand that there is.
    fn each(mut self, by: &Loop, go: impl Fn(At, i64) -> At) -> Panel {
        self.a.at = go(self.a.at, by.a);
        self.w = go(self.w, by.w);
        self.bias = go(self.bias, 4 * by.columns + by.bias);
        self.row_bias = self.row_bias.map(|row_bias| go(row_bias, by.row_bias));
        self.scale = self.scale.map(|scale| go(scale, 4 * by.columns));
        self.addend = self.addend.map(|addend| go(addend, 4 * by.columns));
        self.out.at = go(self.out.at, by.out);
        self.res = self.res.map(|res| Rows { at: go(res.at, by.res), ..res });
        self
    }

    /// The panel `index` iterations of a loop further.
    fn moved(&self, index: ValueId, by: &Loop) -> Panel {
        self.clone().each(by, |at, factor| at.moved(index, factor))
    }

    /// The panel `count` iterations of a loop further.
    fn plus(&self, count: usize, by: &Loop) -> Panel {
        self.clone().each(by, |at, bytes| at.plus(count as i64 * bytes))
    }
}

/// Where the right side of a product comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rhs {
    /// Packed by the compiler; the whole batch has the same.
    Constant,
    /// Packed by the step before; matrices of the batch may have their own.
    Computed,
}

/// A matrix sweep: all panels of all groups for all pixels.
pub struct Sweep {
    /// The first panel of the first group, for all rows of the first matrix.
    pub panel: Panel,
    /// Where the right side comes from.
    pub rhs: Rhs,
    /// Rows of the kernel, and outer indices of the kernel.
    pub rows: Loop,
    /// See `rows`.
    pub outer: Loop,
    /// Images or matrices, outermost loop first.
    pub batch: Vec<Loop>,
    /// Groups.
    pub groups: Loop,
    /// Output columns of a group.
    pub cols: usize,
    /// From one full panel to the next, as many as fit.
    pub panels: Loop,
    /// Multiply-accumulates of all of it.
    pub macs: usize,
}

/// Emits the kernel call for a panel.
type Body<'f> = &'f dyn Fn(&mut Emit<'_>, Panel) -> Result<(), Diag>;

impl Sweep {
    /// Builds the step; `call` makes the kernel's call for a panel.
    pub fn emit<C: KernelCall<Code>>(&self, e: Emit<'_>, call: impl Fn(Panel) -> C) -> Result<(), Diag> {
        let body = |e: &mut Emit<'_>, panel: Panel| e.call(&call(panel));
        let mut e = e.with_macs(self.macs);
        let split = e.tasks(self.macs >= grain::MACS, 2) > 1;
        let (panel, panels) = (&self.panel, self.cols.div_ceil(PANEL));
        if let Some((first, rest)) = self.batch.split_first() {
            let tasks = if split { first.count } else { 1 };
            return e.step(tasks, |e, begin, end| {
                let (lo, hi) = if split { (begin, end) } else { (e.index(0)?, e.index(first.count as i64)?) };
                self.matrices(e, [lo, hi], first, rest, &body)
            });
        }
        if split && self.rhs == Rhs::Computed {
            return e.step(self.rows.count, |e, begin, end| {
                let rows = e.arith("sub", end, begin)?.into();
                self.all_columns(e, &Panel { rows, ..panel.moved(begin, &self.rows) }, &body)
            });
        }
        if split && self.outer.count >= grain::ROWS {
            return e.step(self.outer.count, |e, begin, end| self.rows_of_task(e, begin, end, &body));
        }
        if split && self.groups.count > 1 {
            return e.step(self.groups.count, |e, begin, end| {
                e.for_range(begin, end, |e, g| self.each_panel(e, &panel.moved(g, &self.groups), &body))
            });
        }
        if split && panels > 1 {
            return e.step(panels, |e, begin, end| e.for_range(begin, end, |e, p| self.panel_of_task(e, p, &body)));
        }
        e.step(1, |e, _, _| self.all_columns(e, panel, &body))
    }

    /// Matrices `lo..hi` of the outermost loop of the batch, with all that is in them.
    fn matrices(
        &self,
        e: &mut Emit<'_>,
        [lo, hi]: [ValueId; 2],
        first: &Loop,
        rest: &[Loop],
        body: Body<'_>,
    ) -> Result<(), Diag> {
        let batch = |e: &mut Emit<'_>, panel: &Panel, body: Body<'_>| {
            e.for_range(lo, hi, |e, n| nest(e, panel.moved(n, first), rest, body))
        };
        match self.rhs {
            Rhs::Constant => self.all_columns(e, &self.panel, &|e, panel| batch(e, &panel, body)),
            Rhs::Computed => batch(e, &self.panel, &|e, panel| self.all_columns(e, &panel, body)),
        }
    }

    /// Output rows `begin..end` in blocks, all panels for each block.
    fn rows_of_task(&self, e: &mut Emit<'_>, begin: ValueId, end: ValueId, body: Body<'_>) -> Result<(), Diag> {
        let block = (grain::BLOCK_PIXELS / self.rows.count.max(1)).max(1);
        let panels = self.cols.div_ceil(PANEL) * self.groups.count;
        let rows =
            |first: ValueId, outer: ValueId| Panel { outer: outer.into(), ..self.panel.moved(first, &self.outer) };
        if panels == 1 || block >= self.outer.count {
            let count = e.arith("sub", end, begin)?;
            return self.all_columns(e, &rows(begin, count), body);
        }
        e.for_step(begin, end, block as i64, |e, row| {
            let left = e.arith("sub", end, row)?;
            let count = e.arith_const("min", left, block as i64)?;
            self.all_columns(e, &rows(row, count), body)
        })
    }

    /// Panel `p`, which may be the last one and not full.
    fn panel_of_task(&self, e: &mut Emit<'_>, p: ValueId, body: Body<'_>) -> Result<(), Diag> {
        let done = e.arith_const("mul", p, PANEL as i64)?;
        let all = e.index(self.cols as i64)?;
        let left = e.arith("sub", all, done)?;
        let cols = e.arith_const("min", left, PANEL as i64)?.into();
        body(e, Panel { cols, ..self.panel.moved(p, &self.panels) })
    }

    /// All panels of all groups.
    fn all_columns(&self, e: &mut Emit<'_>, panel: &Panel, body: Body<'_>) -> Result<(), Diag> {
        match self.groups.count {
            1 => self.each_panel(e, panel, body),
            n => e.for_count(n, |e, g| self.each_panel(e, &panel.moved(g, &self.groups), body)),
        }
    }

    /// All panels of one group.
    fn each_panel(&self, e: &mut Emit<'_>, panel: &Panel, body: Body<'_>) -> Result<(), Diag> {
        let (full, tail) = (self.panels.count, self.cols % PANEL);
        let whole = Panel { cols: PANEL.into(), ..panel.clone() };
        match full {
            0 => {}
            1 => body(e, whole)?,
            // Where a scan repeats the sweep, the weights of the last panels are still in the cache: with 2 MB of them and a
            // cache of 2 MB, passing over them in one direction would never find the next one there.
            n if self.rhs == Rhs::Constant => e.for_count(n, |e, p| {
                let p = e.in_turn(p, n)?;
                body(e, whole.moved(p, &self.panels))
            })?,
            n => e.for_count(n, |e, p| body(e, whole.moved(p, &self.panels)))?,
        }
        if tail > 0 {
            body(e, Panel { cols: tail.into(), ..panel.plus(full, &self.panels) })?;
        }
        Ok(())
    }
}

fn nest(e: &mut Emit<'_>, panel: Panel, loops: &[Loop], body: Body<'_>) -> Result<(), Diag> {
    match loops {
        [] => body(e, panel),
        [first, rest @ ..] => e.for_count(first.count, |e, i| nest(e, panel.moved(i, first), rest, body)),
    }
}

/// Loops over pixels as kernels want them.
pub struct Pixels {
    /// The pixels of a row.
    pub rows: Loop,
    /// Rows.
    pub outer: Loop,
    /// What is around them, outermost first.
    pub batch: Vec<Loop>,
}

/// The loops over pixels, outermost first, with the strides of left side, result and residual. Rows too short to fill
/// tiles are joined where they lie one behind the other.
pub fn pixel_loops(mut outer_first: Vec<Level>) -> Pixels {
    outer_first.retain(|l| l.count != 1);
    if let [.., next, last] = &outer_first[..] {
        let joins = next.strides.iter().zip(&last.strides).all(|(o, s)| *o == s * last.count as i64);
        if joins && grain::is_short_row(last.count) {
            let joined = Level { count: next.count * last.count, strides: last.strides.clone() };
            outer_first.truncate(outer_first.len() - 2);
            outer_first.push(joined);
        }
    }
    let to_loop =
        |l: Level| Loop { count: l.count, a: l.strides[0], out: l.strides[1], res: l.strides[2], ..Loop::ONE };
    let (rows, outer) = (outer_first.pop().map_or(Loop::ONE, to_loop), outer_first.pop().map_or(Loop::ONE, to_loop));
    Pixels { rows, outer, batch: outer_first.into_iter().map(to_loop).collect() }
}
