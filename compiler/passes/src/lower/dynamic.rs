//! Products whose left side is quantized by the ranges of its rows: a step that quantizes, and a sweep that multiplies.

use super::Lower;
use super::call::At;
use super::grain;
use super::layout::Layout;
use super::linear::{Segments, Sides, integer_call};
use super::view::View;
use super::wide::{Weights, stored_sums};
use qc_dialects::quant::QDynamicMatmul;
use qc_dialects::quant::compute::Epilogue;
use qc_ir::{Diag, Elem, HostTensor};
use qc_kernels::Variant;
use qc_kernels::args::{DynamicQuantizeCall, DynamicQuantizeMore};
use qc_kernels::pack::{GemmShape, Taps, pad16};

impl Lower<'_> {
    /// `quant.dynamic_matmul`.
    pub fn dynamic_matmul(&mut self, op: QDynamicMatmul) -> Result<(), Diag> {
        let src = self.src;
        let x = self.view(op.x(src))?;
        let rank = x.dims.len();
        let x = if x.is_row_major() || rank < 2 { x } else { self.row_major_copy("rows", &x)? };
        let out = self.destination(op.out(src))?;
        let q = self.alloc("quantized", Elem::U8, &x.dims, Layout::Rows)?;
        // Factor and zero point of a row are eight bytes.
        let mut of_rows = x.dims.clone();
        of_rows[rank - 1] = 1;
        let formats = self.alloc("formats", Elem::I64, &of_rows, Layout::Rows)?;
        self.quantize_rows(&x, &q, &formats)?;
        let (scales, channels) = (op.scales(src).map_err(Diag::bug)?, x.dims[rank - 1]);
        let w = Weights::of_dynamic(src, op)?;
        let sums = w.stored().map_or_else(Vec::new, |stored| stored_sums(src, stored));
        let (min, max) = (op.min(src) as f32, op.max(src) as f32);
        let e = Epilogue { scales, out: None, residual: None, lo: 0, hi: 0, min, max };
        let shape = GemmShape { cols: w.channels(), channels, kh: 1, kw: 1, taps: Taps::Joined { pitch: channels } };
        let c = self.integer_constants(&w, &e, 1, &shape, 1)?;
        let padded = pad16(&sums);
        let sums = self.data("sums", HostTensor::i32([padded.len()], padded), vec![])?;
        let segments = Segments::repeated(1, shape.k4());
        let sides = Sides { x: &q, out: &out, res: Some(&formats) };
        self.product(&c, &shape, sides, &|p| {
            // Constants of columns move alike.
            let col_sum = At { buf: sums, ..p.bias.clone() };
            let mut call = integer_call(&e, &segments, p);
            call.variant = Variant::F32Rows;
            call.more.col_sum = Some(col_sum);
            call
        })
    }

    /// The step that quantizes rows.
    fn quantize_rows(&mut self, x: &View, q: &View, formats: &View) -> Result<(), Diag> {
        let n = x.dims.last().copied().unwrap_or(1);
        let rows = x.elements() / n.max(1);
        let tasks = if x.elements() < grain::ELEMENTS { 1 } else { rows };
        self.emit().step(tasks, |e, begin, end| {
            let (mut a, mut out, mut format) = (At::from(x), At::from(q), At::from(formats));
            let mut count = rows.into();
            if tasks > 1 {
                (a, out, format) = (a.moved(begin, 4 * n as i64), out.moved(begin, n as i64), format.moved(begin, 8));
                count = e.arith("sub", end, begin)?.into();
            }
            let more = DynamicQuantizeMore { a_row: (4 * n).into(), out_row: n.into() };
            e.call(&DynamicQuantizeCall { variant: Variant::U8, a, out, format, n: n.into(), rows: count, more })
        })
    }
}
