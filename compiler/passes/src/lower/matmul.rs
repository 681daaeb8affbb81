//! Products of two computed matrices.
//!
//! The right side is packed into the panels that the matrix kernel reads by a step of the kernels `pack`, as the compiler
//! does with constant weights ahead of time; then every matrix of the batch is a sweep.

use super::Lower;
use super::call::At;
use super::elementwise::Stored;
use super::emit::sweep;
use super::layout::Layout;
use super::linear::{Bytes, Segments, float_call};
use super::matrix::{Loop, Panel, Rhs, Rows, Sweep};
use super::view::{Level, View, levels, row_major};
use qc_dialects::graph::Matmul;
use qc_dialects::graph::matmul::broadcast;
use qc_ir::{Attrs, Diag, Elem, HostTensor, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{PackCall, PackMore};
use qc_kernels::pack::{PANEL, round16};

/// Columns that are packed alike.
#[derive(Clone, Copy)]
struct Columns {
    /// The first panel.
    panel: usize,
    /// Panels.
    panels: usize,
    /// Columns of each.
    cols: usize,
}

/// A matrix view, its last two dims exchanged if `transpose`.
fn matrix(v: View, transpose: bool) -> View {
    let rank = v.dims.len() as i64;
    let mut perm: Vec<i64> = (0..rank).collect();
    if transpose {
        perm.swap(rank as usize - 1, rank as usize - 2);
    }
    v.permuted(&perm)
}

/// The batch dims of a matrix view, repeated to `batch`.
fn repeated(v: &View, batch: &[usize]) -> View {
    let lead = v.dims.len() - 2;
    let own = View { dims: v.dims[..lead].to_vec(), strides: v.strides[..lead].to_vec(), ..v.clone() };
    own.broadcast(batch)
}

/// The operands of a batch of products, placed: matrices with contiguous rows, and a packed right side.
struct Matrices<'a> {
    a: &'a View,
    w: &'a View,
    out: &'a View,
}

impl Matrices<'_> {
    /// All products of `m` rows, sums of `k` and `n` columns, one for each index of `batch`.
    fn sweep(&self, batch: &[usize], [m, k, n]: [usize; 3], bias: At) -> Sweep {
        let Matrices { a, w, out } = *self;
        let (lead_a, lead_w, lead_out) = (repeated(a, batch), repeated(w, batch), repeated(out, batch));
        let to_loop =
            |l: Level| Loop { count: l.count, a: l.strides[0], w: l.strides[1], out: l.strides[2], ..Loop::ONE };
        let [a_row, out_row] = [a, out].map(|v| v.strides[v.dims.len() - 2]);
        let bytes = Bytes { panel: k * PANEL * 4, out: out.elem_bytes(), res: 0 };
        Sweep {
            panel: Panel {
                a: Rows { at: At::from(a), row: a_row, outer: 0 },
                w: At::from(w),
                bias,
                scale: None,
                addend: None,
                out: Rows { at: At::from(out), row: out_row, outer: 0 },
                res: None,
                rows: m.into(),
                outer: 1usize.into(),
                cols: n.into(),
            },
            rhs: Rhs::Computed,
            rows: Loop { count: m, a: a_row, out: out_row, ..Loop::ONE },
            outer: Loop::ONE,
            macs: batch.iter().product::<usize>() * m * n * k,
            batch: levels(batch, &[&lead_a, &lead_w, &lead_out], 2).into_iter().map(to_loop).collect(),
            groups: Loop::ONE,
            cols: n,
            panels: bytes.panels(n),
        }
    }
}

impl Lower<'_> {
    /// `graph.matmul` where the right side is no constant.
    pub fn matmul_computed(&mut self, op: Matmul) -> Result<(), Diag> {
        let src = self.src;
        let s = op.shape(src).map_err(Diag::bug)?;
        let a = matrix(self.view(op.a(src))?, op.transpose_a(src));
        let a = self.rows_view(a)?;
        let b = matrix(self.view(op.b(src))?, op.transpose_b(src));
        let w = self.panels(&b)?;
        let bias = self.column_bias(op.bias(src), s.n)?;
        let (result, quant) = self.real_destination(op.out(src))?;
        let batch = broadcast(&s.batch, &[]).map_err(Diag::bug)?;
        let (stored, segments) = (Stored::of(quant.as_ref()), Segments::repeated(1, s.k));
        let clamp = [op.min(src) as f32, op.max(src) as f32];
        self.through_rows(&result, |lower, out| {
            let sides = Matrices { a: &a, w: &w, out };
            let sweep = sides.sweep(&batch, [s.m, s.k, s.n], At::from(&bias));
            sweep.emit(lower.emit(), |p| float_call(stored, clamp, &segments, p))
        })
    }

    /// Matrices `[.., k, n]` packed in panels of 64 columns, the last one as wide as it needs in multiples of 16. Of the
    /// result's dims only the batch ones and the place of element 0 mean something.
    fn panels(&mut self, b: &View) -> Result<View, Diag> {
        let lead = b.dims.len() - 2;
        let (k, n) = (b.dims[lead], b.dims[lead + 1]);
        let mut dims = b.dims[..lead].to_vec();
        dims.extend([k, round16(n)]);
        let attrs = Attrs::new().with("layout", "panels");
        let whole = self.alloc_with("panels", Elem::F32, &dims, Layout::Rows, attrs)?;
        let (full, tail) = (n / PANEL, n % PANEL);
        if full > 0 {
            self.pack(b, &whole, Columns { panel: 0, panels: full, cols: PANEL })?;
        }
        if tail > 0 {
            self.pack(b, &whole, Columns { panel: full, panels: 1, cols: tail })?;
        }
        Ok(View { strides: row_major(&dims, Elem::F32), ..whole })
    }

    /// Packs some columns of matrices `b` into their panels of `whole`.
    fn pack(&mut self, b: &View, whole: &View, c: Columns) -> Result<(), Diag> {
        let lead = b.dims.len() - 2;
        let (k, row, column) = (b.dims[lead], b.strides[lead], b.strides[lead + 1]);
        let panel = [PANEL as i64 * column, (k * PANEL * 4) as i64];
        let part = |v: &View, by: i64| View {
            offset: v.offset + c.panel as i64 * by,
            dims: v.dims[..lead].to_vec(),
            strides: v.strides[..lead].to_vec(),
            ..v.clone()
        };
        let (from, to) = (part(b, panel[0]), part(whole, panel[1]));
        let mut all = levels(&from.dims, &[&from, &to], 1);
        if c.panels > 1 {
            all.push(Level { count: c.panels, strides: panel.to_vec() });
        }
        all.push(Level { count: k, strides: vec![row, round16(c.cols) as i64 * 4] });
        all.push(Level { count: c.cols, strides: vec![column, 4] });
        sweep(&mut self.emit(), [&from, &to], all, |[cols, k], [src, dst]| {
            let [src_n, src_k] = src.by;
            let more = PackMore { src_k, src_n, flip: 0 };
            PackCall { variant: Variant::B4, src: src.at, dst: dst.at, k, cols, more }
        })
    }

    /// The bias of `n` columns: zeros if there is none.
    fn column_bias(&mut self, bias: Option<ValueId>, n: usize) -> Result<View, Diag> {
        let Some(bias) = bias else {
            let padded = round16(n);
            let zeros = self.data("bias", HostTensor::f32([padded], vec![0.0; padded]), vec![])?;
            return Ok(self.whole(zeros));
        };
        let view = self.view(bias)?;
        if view.strides[0] == 4 {
            return Ok(view);
        }
        self.row_major_copy("bias", &view)
    }
}
