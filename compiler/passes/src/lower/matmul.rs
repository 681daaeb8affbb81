//! Products of two computed matrices.
//!
//! The right side is copied into the panels that the matrix kernel reads, as the compiler does with constant weights
//! ahead of time; then every matrix of the batch is a sweep. What a panel has beyond the last column is never written:
//! the kernel computes columns of it that it does not store.

use super::emit::{Call, Emit};
use super::linear::{SMALL_MACS, float_call};
use super::view::{Level, View, levels, row_major};
use super::{Lower, plain_buffer};
use qc_dialects::graph::Matmul;
use qc_dialects::graph::matmul::broadcast;
use qc_ir::{Diag, Elem, HostTensor, ValueId};
use qc_kernels::pack::{PANEL, round16};

/// A product with its operands placed.
struct Product {
    /// Everything set that does not move, with the pointers a, w, bias, out.
    call: Call,
    /// Loops over the batch, with the strides of those pointers.
    batch: Vec<Level>,
    /// Rows of a matrix, with bytes between them.
    rows: Level,
    cols: usize,
    /// Bytes of a full panel, and of an element of the result.
    panel_bytes: i64,
    out_bytes: i64,
    macs: usize,
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

impl Lower<'_> {
    /// `graph.matmul` where the right side is no constant.
    pub fn matmul_computed(&mut self, op: Matmul) -> Result<(), Diag> {
        let src = self.src;
        let s = op.shape(src).map_err(Diag::bug)?;
        let a = matrix(self.view(op.a(src))?, op.transpose_a(src));
        let a = self.contiguous_rows(a)?;
        let b = matrix(self.view(op.b(src))?, op.transpose_b(src));
        let w = self.panels(&b)?;
        let bias = self.column_bias(op.bias(src), s.n)?;
        let (result, quant) = self.real_destination(op.out(src))?;
        let rank = result.dims.len();
        let in_place = result.dims[rank - 1] == 1 || result.strides[rank - 1] == result.elem_bytes();
        let out = match in_place {
            true => result.clone(),
            false => self.alloc("product", plain_buffer(result.elem, &result.dims), [0; 4])?,
        };
        let batch = broadcast(&s.batch, &[]).map_err(Diag::bug)?;
        let (lead_a, lead_w, lead_out) = (repeated(&a, &batch), repeated(&w, &batch), repeated(&out, &batch));
        let all = levels(&batch, &[&lead_a, &lead_w, &lead_out], 2);
        let call = float_call("gemm_f32", quant, [op.min(src), op.max(src)])
            .set("seg_y", 1)
            .set("seg_x", 1)
            .set("k", s.k)
            .set("outer", 1)
            .set("a_row", a.strides[a.dims.len() - 2])
            .set("out_row", out.strides[rank - 2])
            .view("a", &a, &[])
            .view("w", &w, &[])
            .view("bias", &bias, &[])
            .view("out", &out, &[]);
        let with_bias = |l: Level| Level { count: l.count, strides: vec![l.strides[0], l.strides[1], 0, l.strides[2]] };
        let row = vec![a.strides[a.dims.len() - 2], 0, 0, out.strides[rank - 2]];
        let product = Product {
            call,
            batch: all.into_iter().map(with_bias).collect(),
            rows: Level { count: s.m, strides: row },
            cols: s.n,
            panel_bytes: (s.k * PANEL * 4) as i64,
            out_bytes: out.elem_bytes(),
            macs: batch.iter().product::<usize>() * s.m * s.n * s.k,
        };
        product.emit(self.emit())?;
        if in_place { Ok(()) } else { self.copy(&out, &result) }
    }

    /// A matrix view whose rows are contiguous.
    fn contiguous_rows(&mut self, v: View) -> Result<View, Diag> {
        let last = v.dims.len() - 1;
        if v.dims[last] == 1 || v.strides[last] == 4 {
            return Ok(v);
        }
        let copy = self.alloc("rows", plain_buffer(v.elem, &v.dims), [0; 4])?;
        self.copy(&v, &copy)?;
        Ok(copy)
    }

    /// A copy of matrices `[.., k, n]` in panels of 64 columns, the last one as wide as it needs in multiples of 16. Of
    /// the result's dims only the batch ones and the place of element 0 mean something.
    fn panels(&mut self, b: &View) -> Result<View, Diag> {
        let lead = b.dims.len() - 2;
        let (k, n) = (b.dims[lead], b.dims[lead + 1]);
        let mut dims = b.dims[..lead].to_vec();
        dims.extend([k, round16(n)]);
        let whole = self.alloc("panels", plain_buffer(Elem::F32, &dims), [0; 4])?;
        let (full, tail) = (n / PANEL, n % PANEL);
        let panel_bytes = (k * PANEL * 4) as i64;
        // Dims [batch.., panel, k, column] of both sides.
        let part = |v: &View, offset: i64, panels: usize, cols: usize, own: [i64; 3]| {
            let (mut dims, mut strides) = (v.dims[..lead].to_vec(), v.strides[..lead].to_vec());
            dims.extend([panels, k, cols]);
            strides.extend(own);
            View { offset: v.offset + offset, dims, strides, border: [0; 4], ..v.clone() }
        };
        let (row, column) = (b.strides[lead], b.strides[lead + 1]);
        if full > 0 {
            let from = part(b, 0, full, PANEL, [PANEL as i64 * column, row, column]);
            self.copy(&from, &part(&whole, 0, full, PANEL, [panel_bytes, PANEL as i64 * 4, 4]))?;
        }
        if tail > 0 {
            let from = part(b, (full * PANEL) as i64 * column, 1, tail, [0, row, column]);
            let width = round16(tail) as i64 * 4;
            self.copy(&from, &part(&whole, full as i64 * panel_bytes, 1, tail, [0, width, 4]))?;
        }
        Ok(View { strides: row_major(&dims, Elem::F32), ..whole })
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
        let copy = self.alloc("bias", plain_buffer(Elem::F32, &[n]), [0; 4])?;
        self.copy(&view, &copy)?;
        Ok(copy)
    }
}

impl Product {
    /// One step: the outermost level of the batch is its tasks, or the rows of a single matrix.
    fn emit(self, e: Emit<'_>) -> Result<(), Diag> {
        let mut e = e.with_macs(self.macs);
        let split = self.macs >= SMALL_MACS;
        let Some((first, rest)) = self.batch.split_first() else {
            let tasks = if split { self.rows.count } else { 1 };
            return e.step(tasks, |e, begin, end| {
                if !split {
                    return self.all_panels(e, self.call.clone().set("rows", self.rows.count));
                }
                let count = e.arith("sub", end, begin)?;
                self.all_panels(e, self.call.clone().moved(begin, &self.rows.strides).dynamic("rows", count))
            });
        };
        let call = self.call.clone().set("rows", self.rows.count);
        e.step(if split { first.count } else { 1 }, |e, begin, end| match split {
            true => e.for_range(begin, end, |e, i| self.nest(e, call.moved(i, &first.strides), rest)),
            false => e.for_count(first.count, |e, i| self.nest(e, call.moved(i, &first.strides), rest)),
        })
    }

    fn nest(&self, e: &mut Emit<'_>, call: Call, batch: &[Level]) -> Result<(), Diag> {
        match batch {
            [] => self.all_panels(e, call),
            [first, rest @ ..] => e.for_count(first.count, |e, i| self.nest(e, call.moved(i, &first.strides), rest)),
        }
    }

    fn all_panels(&self, e: &mut Emit<'_>, call: Call) -> Result<(), Diag> {
        let (full, tail) = (self.cols / PANEL, self.cols % PANEL);
        let columns = PANEL as i64;
        let by = |panels: i64| [0, self.panel_bytes * panels, 4 * columns * panels, self.out_bytes * columns * panels];
        if full > 0 {
            e.for_count(full, |e, p| e.call(call.clone().set("cols", PANEL).moved(p, &by(1))))?;
        }
        match tail {
            0 => Ok(()),
            _ => e.call(call.set("cols", tail).offset(&by(full as i64))),
        }
    }
}
