//! Integers whose formats are found in a run: steps that quantize, and sweeps that multiply.
//!
//! A tensor is quantized once for all ops that read it in formats of one kind. The range of a whole tensor is found in two
//! steps, so that threads share both: the ranges of pieces, and then each piece in the range of these.

use super::Lower;
use super::call::At;
use super::grain;
use super::layout::Layout;
use super::linear::{Constants, Segments, Sides, accumulator_call, gemm_pack, integer_call};
use super::view::View;
use super::wide::{Weights, of_run};
use qc_dialects::graph::{DynamicQuantize, DynamicScale, DynamicZero, IntegerMatmul};
use qc_dialects::quant::compute::Epilogue;
use qc_dialects::quant::{Over, QDynamic, QDynamicMatmul};
use qc_ir::{Diag, Elem, HostTensor, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{DynamicQuantizeCall, DynamicQuantizeMore, RangeCall, RangeMore};
use qc_kernels::pack::{GemmShape, Taps, pad16, round16, round64};
use std::ops::Range;

/// A tensor in formats that are found in a run.
#[derive(Clone)]
pub(super) struct Quantized {
    /// u8, in the order of the tensor: row-major, or channels-last.
    pub q: View,
    /// Factor and zero point, eight bytes, with the dims of the tensor but for the last, which is 1.
    pub formats: View,
}

/// Contiguous elements that a call quantizes, as rows.
#[derive(Clone, Copy)]
struct Pieces {
    rows: usize,
    n: usize,
}

impl Pieces {
    /// All elements of a tensor, in pieces of one size that are worth a call, or in one.
    fn of(elements: usize) -> Pieces {
        let n = (grain::PIECE..=grain::ELEMENTS).rev().find(|n| elements.is_multiple_of(*n)).unwrap_or(elements);
        Pieces { rows: elements / n.max(1), n }
    }

    fn tasks(self) -> usize {
        if self.rows * self.n < grain::ELEMENTS { 1 } else { self.rows }
    }
}

impl Lower<'_> {
    /// `quant.dynamic_matmul`.
    pub fn dynamic_matmul(&mut self, op: QDynamicMatmul) -> Result<(), Diag> {
        let src = self.src;
        let Quantized { q, formats } = self.quantized(op.x(src), op.range(src).map_err(Diag::bug)?)?;
        let q = self.rows_view(q)?;
        let out = self.destination(op.out(src))?;
        let w = Weights::of_run_time(src, op.weight(src), op.bias(src))?;
        let (scales, sums) = (QDynamic::from(op).scales(src).map_err(Diag::bug)?, w.sums(src));
        let (min, max) = (op.min(src) as f32, op.max(src) as f32);
        let e = Epilogue { scales, out: None, residual: None, lo: 0, hi: 0, min, max };
        self.each_run(&w, &out, |lower, run, w, parts, out| {
            let shape = shape_of(w, parts, &q);
            let e = of_run(&e, run.clone());
            let c = lower.integer_constants(w, &e, parts, &shape, 1)?;
            let padded = pad16(&sums[run]);
            let sums = lower.data("sums", HostTensor::i32([padded.len()], padded), vec![])?;
            let segments = Segments::repeated(parts, shape.k4());
            lower.product(&c, &shape, Sides { x: &q, out, res: Some(&formats) }, &|p| {
                // Constants of columns move alike.
                let col_sum = At { buf: sums, ..p.bias.clone() };
                let mut call = integer_call(&e, &segments, p);
                call.variant = Variant::F32Rows;
                call.more.col_sum = Some(col_sum);
                call
            })
        })
    }

    /// `graph.integer_matmul`.
    pub fn integer_matmul(&mut self, op: IntegerMatmul) -> Result<(), Diag> {
        let src = self.src;
        let x = self.view(op.x(src))?;
        let x = self.rows_view(x)?;
        let out = self.destination(op.out(src))?;
        let w = Weights::of_run_time(src, op.weight(src), None)?;
        self.each_run(&w, &out, |lower, _, w, parts, out| {
            let shape = shape_of(w, parts, &x);
            let zeros = vec![0; round16(w.channels())];
            let c = Constants {
                weight: lower.weight_data(w, parts, 1, gemm_pack(&shape, 1))?,
                bias: lower.data("bias", HostTensor::i32([zeros.len()], zeros), vec![])?,
                scale: None,
                addend: None,
                panel_bytes: shape.panel_bytes(0),
                group_bytes: round64(shape.bytes()),
            };
            let segments = Segments::repeated(parts, shape.k4());
            lower.product(&c, &shape, Sides { x: &x, out, res: None }, &|p| accumulator_call(&segments, p))
        })
    }

    /// Calls `columns` for all output columns in one part each, and then for those whose weights need more parts.
    fn each_run(
        &mut self,
        w: &Weights,
        out: &View,
        mut columns: impl FnMut(&mut Self, Range<usize>, &Weights, usize, &View) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        let (runs, all) = (w.wide_runs(1), 0..w.channels());
        if runs.first() != Some(&all) {
            columns(self, all, w, 1, out)?;
        }
        for run in runs {
            let part = w.of_run(run.clone());
            let out = out.narrow(out.dims.len() - 1, run.start, run.len(), 1);
            columns(self, run, &part, part.parts(), &out)?;
        }
        Ok(())
    }

    /// `graph.dynamic_quantize`.
    pub fn dynamic_quantize(&mut self, op: DynamicQuantize) -> Result<(), Diag> {
        let Quantized { q, .. } = self.quantized(op.x(self.src), Over::Tensor)?;
        let out = self.destination(op.out(self.src))?;
        self.copy(&q, &out)
    }

    /// `graph.dynamic_scale`.
    pub fn dynamic_scale(&mut self, op: DynamicScale) -> Result<(), Diag> {
        self.part_of_format(op.x(self.src), op.out(self.src), 0)
    }

    /// `graph.dynamic_zero`: the low byte of a zero point.
    pub fn dynamic_zero(&mut self, op: DynamicZero) -> Result<(), Diag> {
        self.part_of_format(op.x(self.src), op.out(self.src), 4)
    }

    fn part_of_format(&mut self, x: ValueId, out: ValueId, byte: i64) -> Result<(), Diag> {
        let Quantized { formats, .. } = self.quantized(x, Over::Tensor)?;
        let to = self.destination(out)?;
        let from = View { dims: vec![], strides: vec![], elem: to.elem, offset: formats.offset + byte, ..formats };
        self.copy(&from, &to)
    }

    /// A tensor in formats of ranges that it has in a run, quantized by the first op that asks.
    pub(super) fn quantized(&mut self, x: ValueId, over: Over) -> Result<Quantized, Diag> {
        if let Some(found) = self.dynamic.get(&(x, over)) {
            return Ok(found.clone());
        }
        let view = self.view(x)?;
        // The range of a whole tensor does not depend on the order of its elements.
        let packed = Layout::ChannelsLast { padding: [0; 4] };
        let channels_last = over == Over::Tensor
            && view.dims.len() == 4
            && view.is_channels_last()
            && packed.buffer(view.elem, &view.dims).strides.iter().zip(&view.strides).all(|(a, b)| *a as i64 == *b);
        let view = if channels_last { view } else { self.in_order(x, "rows")? };
        let layout = if channels_last { packed } else { Layout::Rows };
        let q = self.alloc("quantized", Elem::U8, &view.dims, layout)?;
        let mut of_rows = view.dims.clone();
        if let Some(last) = of_rows.last_mut() {
            *last = 1;
        }
        let formats = match over {
            Over::Row => {
                let n = view.dims.last().copied().unwrap_or(1);
                let formats = self.alloc("formats", Elem::I64, &of_rows, Layout::Rows)?;
                self.quantize_pieces(Pieces { rows: view.elements() / n.max(1), n }, &view, &q, &formats, None)?;
                formats
            }
            // Every piece writes the same format; that of the first is read for all rows.
            Over::Tensor => {
                let pieces = Pieces::of(view.elements());
                let formats = self.alloc("formats", Elem::I64, &[pieces.rows], Layout::Rows)?;
                let ranges = if pieces.rows > 1 { Some(self.ranges(pieces, &view)?) } else { None };
                self.quantize_pieces(pieces, &view, &q, &formats, ranges.as_ref())?;
                View { strides: vec![0; of_rows.len()], dims: of_rows, ..formats }
            }
        };
        let found = Quantized { q, formats };
        self.dynamic.insert((x, over), found.clone());
        Ok(found)
    }

    /// The step that finds the range of each piece.
    fn ranges(&mut self, pieces: Pieces, x: &View) -> Result<View, Diag> {
        let Pieces { rows, n } = pieces;
        let ranges = self.alloc("ranges", Elem::I64, &[rows], Layout::Rows)?;
        let tasks = pieces.tasks();
        self.emit().step(tasks, |e, begin, end| {
            let (mut a, mut out, mut count) = (At::from(x), At::from(&ranges), rows.into());
            if tasks > 1 {
                (a, out) = (a.moved(begin, 4 * n as i64), out.moved(begin, 8));
                count = e.arith("sub", end, begin)?.into();
            }
            let more = RangeMore { a_row: (4 * n).into() };
            e.call(&RangeCall { variant: Variant::F32, a, out, n: n.into(), rows: count, more })
        })?;
        Ok(ranges)
    }

    /// The step that quantizes pieces, each by its own range or all by that of `ranges`.
    fn quantize_pieces(
        &mut self,
        pieces: Pieces,
        x: &View,
        q: &View,
        formats: &View,
        ranges: Option<&View>,
    ) -> Result<(), Diag> {
        let Pieces { rows, n } = pieces;
        let tasks = pieces.tasks();
        self.emit().step(tasks, |e, begin, end| {
            let (mut a, mut out, mut format) = (At::from(x), At::from(q), At::from(formats));
            let mut count = rows.into();
            if tasks > 1 {
                (a, out, format) = (a.moved(begin, 4 * n as i64), out.moved(begin, n as i64), format.moved(begin, 8));
                count = e.arith("sub", end, begin)?.into();
            }
            let more = DynamicQuantizeMore {
                ranges: ranges.map(At::from),
                parts: ranges.map_or(0, View::elements).into(),
                a_row: (4 * n).into(),
                out_row: n.into(),
            };
            e.call(&DynamicQuantizeCall { variant: Variant::U8, a, out, format, n: n.into(), rows: count, more })
        })
    }
}

/// The geometry of weights in `parts` that rows of `x` are multiplied by.
fn shape_of(w: &Weights, parts: usize, x: &View) -> GemmShape {
    let channels = x.dims.last().copied().unwrap_or(1);
    GemmShape { cols: w.channels(), channels, kh: parts, kw: 1, taps: Taps::Joined { pitch: channels } }
}
