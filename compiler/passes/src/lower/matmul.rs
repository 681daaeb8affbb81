//! Products of two computed matrices.
//!
//! The right side is packed into the panels that the matrix kernel reads by a step of the kernels `pack`, as the compiler
//! does with constant weights ahead of time; then every matrix of the batch is a sweep.

use super::Lower;
use super::call::At;
use super::elementwise::Stored;
use super::emit::sweep;
use super::layout::Layout;
use super::linear::{Bytes, Finish, Segments, float_call};
use super::matrix::{Loop, Panel, Rhs, Rows, Sweep};
use super::view::{Level, View, levels};
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
pub fn matrix(v: View, transpose: bool) -> View {
    let rank = v.dims.len() as i64;
    let mut perm: Vec<i64> = (0..rank).collect();
    if transpose {
        perm.swap(rank as usize - 1, rank as usize - 2);
    }
    v.permuted(&perm)
}

/// The batch dims of a view, all but its last `own`, repeated to `batch`.
fn repeated(v: &View, own: usize, batch: &[usize]) -> View {
    let lead = v.dims.len() - own;
    let own = View { dims: v.dims[..lead].to_vec(), strides: v.strides[..lead].to_vec(), ..v.clone() };
    own.broadcast(batch)
}

/// The operands of a batch of products, placed: matrices `[.., rows, columns]` with contiguous rows, a packed right side,
/// and what is added and multiplied. Batch dims repeat.
pub struct Matrices<'a> {
    /// Left side.
    pub a: &'a View,
    /// Panels.
    pub w: &'a View,
    /// Result.
    pub out: &'a View,
    /// What is added to it.
    pub res: Option<&'a View>,
    /// `[.., columns]` accumulator starts.
    pub bias: &'a View,
    /// Factors per column, of integer kernels.
    pub scale: Option<At>,
    /// What is added to real results per column, of integer kernels.
    pub addend: Option<At>,
    /// `[.., rows, 1]` addends, of integer kernels.
    pub row_bias: Option<&'a View>,
}

impl Matrices<'_> {
    /// All products of `m` rows, sums of `k` and `n` columns, one for each index of `batch`.
    pub fn sweep(&self, batch: &[usize], [m, k, n]: [usize; 3]) -> Sweep {
        let Matrices { a, w, out, .. } = *self;
        let none = View { dims: vec![], strides: vec![], ..out.clone() };
        let optional = |v: Option<&View>| v.map_or_else(|| none.broadcast(batch), |v| repeated(v, 2, batch));
        let lead = [
            repeated(a, 2, batch),
            repeated(w, 2, batch),
            repeated(out, 2, batch),
            optional(self.res),
            repeated(self.bias, 1, batch),
            optional(self.row_bias),
        ];
        let to_loop = |l: Level| {
            let [a, w, out, res, bias, row_bias] = std::array::from_fn(|i| l.strides[i]);
            Loop { count: l.count, a, w, out, res, columns: 0, bias, row_bias }
        };
        let row = |v: &View| v.strides[v.dims.len() - 2];
        let rows = |v: &View| Rows { at: At::from(v), row: row(v), outer: 0 };
        let res = self.res.map(rows);
        let panel = w.dims[w.dims.len() - 2] * PANEL * w.elem_bytes() as usize;
        let bytes = Bytes { panel, out: out.elem_bytes(), res: self.res.map_or(0, View::elem_bytes) };
        Sweep {
            rhs: Rhs::Computed,
            rows: Loop {
                count: m,
                a: row(a),
                out: row(out),
                res: res.as_ref().map_or(0, |r| r.row),
                row_bias: self.row_bias.map_or(0, row),
                ..Loop::ONE
            },
            panel: Panel {
                a: rows(a),
                w: At::from(w),
                bias: At::from(self.bias),
                scale: self.scale.clone(),
                addend: self.addend.clone(),
                row_bias: self.row_bias.map(At::from),
                out: rows(out),
                res,
                rows: m.into(),
                outer: 1usize.into(),
                cols: n.into(),
            },
            outer: Loop::ONE,
            macs: batch.iter().product::<usize>() * m * n * k,
            batch: levels(batch, &lead.each_ref(), 2).into_iter().map(to_loop).collect(),
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
            let sides =
                Matrices { a: &a, w: &w, out, res: None, bias: &bias, scale: None, addend: None, row_bias: None };
            sides
                .sweep(&batch, [s.m, s.k, s.n])
                .emit(lower.emit(), |p| float_call(&Finish::plain(stored, clamp), &segments, p))
        })
    }

    /// Matrices `[.., k, n]` packed in panels of 64 columns, the last one as wide as it needs in multiples of 16: floats, or
    /// bytes less 128, whose columns are whole groups of four. Of the result's dims only the batch ones, the bytes of a
    /// column and the place of element 0 mean something.
    pub fn panels(&mut self, b: &View) -> Result<View, Diag> {
        let lead = b.dims.len() - 2;
        let (k, n) = (b.dims[lead], b.dims[lead + 1]);
        let (elem, k) = if b.elem == Elem::U8 { (Elem::I8, k.next_multiple_of(4)) } else { (b.elem, k) };
        let mut dims = b.dims[..lead].to_vec();
        dims.extend([k, round16(n)]);
        let attrs = Attrs::new().with("layout", "panels");
        let whole = self.alloc_with("panels", elem, &dims, Layout::Rows, attrs)?;
        let (full, tail) = (n / PANEL, n % PANEL);
        if full > 0 {
            self.pack(b, &whole, Columns { panel: 0, panels: full, cols: PANEL })?;
        }
        if tail > 0 {
            self.pack(b, &whole, Columns { panel: full, panels: 1, cols: tail })?;
        }
        Ok(whole)
    }

    /// Packs some columns of matrices `b` into their panels of `whole`.
    fn pack(&mut self, b: &View, whole: &View, c: Columns) -> Result<(), Diag> {
        let (lead, e) = (b.dims.len() - 2, b.elem_bytes());
        let (k, row, column) = (b.dims[lead], b.strides[lead], b.strides[lead + 1]);
        let panel = [PANEL as i64 * column, (whole.dims[lead] * PANEL) as i64 * e];
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
        // Groups of four bytes stay whole: a level of one keeps the columns of a lone panel from being split.
        if all.is_empty() && e == 1 {
            all.push(Level { count: 1, strides: vec![0, 0] });
        }
        all.push(Level { count: k, strides: vec![row, round16(c.cols) as i64 * e] });
        all.push(Level { count: c.cols, strides: vec![column, e] });
        let (variant, flip) = if e == 1 { (Variant::B1, 128) } else { (Variant::B4, 0) };
        sweep(&mut self.emit(), [&from, &to], all, |[cols, k], [src, dst]| {
            let [src_n, src_k] = src.by;
            PackCall { variant, src: src.at, dst: dst.at, k, cols, more: PackMore { src_k, src_n, flip } }
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
