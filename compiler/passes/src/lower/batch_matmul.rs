//! Integer products of two computed tensors.
//!
//! The kernel multiplies u8 by s8, so the right side is packed as `w = y - 128`, with the zero point `w_zero = y_zero - 128`:
//!
//! ```text
//! sum (x - x_zero) * (w - w_zero) = sum x * w - w_zero * sum x - x_zero * sum w + k * x_zero * w_zero
//! ```
//!
//! The second term is one addend per row and the last two are one per column. They are products themselves, by the same
//! kernel: of `x` and a constant column of `-w_zero`, and of a constant row of `x_zero` and the packed right side. What is
//! multiplied by a zero point of 0 has no step.

use super::Lower;
use super::call::At;
use super::layout::Layout;
use super::linear::{Constants, Segments, Sides, accumulator_call, gemm_pack, integer_call};
use super::matmul::{Matrices, matrix};
use super::view::View;
use qc_dialects::quant::QBatchMatmul;
use qc_ir::{Diag, Elem, HostTensor};
use qc_kernels::pack::{GemmShape, Taps, pad16, round16, round64};

impl Lower<'_> {
    /// `quant.batch_matmul`.
    pub fn batch_matmul(&mut self, op: QBatchMatmul) -> Result<(), Diag> {
        let src = self.src;
        let (s, e) = (op.shape(src).map_err(Diag::bug)?, op.epilogue(src).map_err(Diag::bug)?);
        let (x_zero, w_zero) = (self.zero_of(op.x(src)), self.zero_of(op.y(src)) - 128);
        let x = matrix(self.view(op.x(src))?, op.transpose_x(src));
        let x = self.rows_view(x)?;
        let y = matrix(self.view(op.y(src))?, op.transpose_y(src));
        let w = self.panels(&y)?;
        let row_bias = if w_zero == 0 { None } else { Some(self.row_products(&x, -w_zero)?) };
        let bias = self.start_of_columns(&w, [s.k, s.n], [x_zero, w_zero])?;
        let scales = pad16(&e.scales);
        let scale = self.data("scale", HostTensor::f32([scales.len()], scales.clone()), vec![])?;
        let addend = match e.out {
            Some(_) => None,
            None => Some(self.data("addend", HostTensor::f32([scales.len()], vec![0.0; scales.len()]), vec![])?),
        };
        let out = self.destination(op.out(src))?;
        let res = op.residual(src).map(|r| self.view(r)).transpose()?;
        let res = res.map(|r| self.rows_view(r)).transpose()?;
        let segments = Segments::repeated(1, s.k.div_ceil(4));
        self.through_rows(&out, |lower, out| {
            let [scale, addend] = [Some(scale), addend].map(|v| v.map(At::start));
            let sides = Matrices {
                a: &x,
                w: &w,
                out,
                res: res.as_ref(),
                bias: &bias,
                scale,
                addend,
                row_bias: row_bias.as_ref(),
            };
            sides.sweep(&s.batch, [s.m, s.k, s.n]).emit(lower.emit(), |p| integer_call(&e, &segments, p))
        })
    }

    /// `factor` times the sum of each row of `x` `[.., m, k]`, as `[.., m, 1]`. Factors beyond s8 are two halves.
    fn row_products(&mut self, x: &View, factor: i32) -> Result<View, Diag> {
        let (last, k) = (x.dims.len() - 1, x.dims.last().copied().unwrap_or(1));
        let parts = if i8::try_from(factor).is_ok() { 1 } else { 2 };
        let shape = GemmShape { cols: 1, channels: k, kh: parts, kw: 1, taps: Taps::Joined { pitch: k } };
        let column = vec![(factor / parts as i32) as i8; parts * k];
        let zeros = vec![0; round16(1)];
        let c = Constants {
            weight: self.data("zero", HostTensor::i8([column.len()], column), gemm_pack(&shape, 1))?,
            bias: self.data("bias", HostTensor::i32([zeros.len()], zeros), vec![])?,
            scale: None,
            addend: None,
            panel_bytes: shape.panel_bytes(0),
            group_bytes: round64(shape.bytes()),
        };
        let dims: Vec<usize> = x.dims[..last].iter().copied().chain([1]).collect();
        let out = self.alloc("row_bias", Elem::I32, &dims, Layout::Rows)?;
        let segments = Segments::repeated(parts, shape.k4());
        self.product(&c, &shape, Sides { x, out: &out, res: None }, &|p| accumulator_call(&segments, p))?;
        Ok(out)
    }

    /// What accumulators of each column of `w` `[.., k, n]` start at, as `[.., n]`.
    fn start_of_columns(&mut self, w: &View, [k, n]: [usize; 2], [x_zero, w_zero]: [i32; 2]) -> Result<View, Diag> {
        let padded = round16(n);
        let zeros = self.data("bias", HostTensor::i32([padded], vec![0; padded]), vec![])?;
        let zeros = self.whole(zeros);
        if x_zero == 0 {
            return Ok(zeros);
        }
        let row = self.data("zero", HostTensor::u8([1, k], vec![x_zero as u8; k]), vec![])?;
        let row = self.whole(row);
        let batch = &w.dims[..w.dims.len() - 2];
        let dims: Vec<usize> = batch.iter().copied().chain([1, padded]).collect();
        let sums = self.alloc("column_bias", Elem::I32, &dims, Layout::Rows)?;
        let out = sums.narrow(dims.len() - 1, 0, n, 1);
        let segments = Segments::repeated(1, k.div_ceil(4));
        let sides =
            Matrices { a: &row, w, out: &out, res: None, bias: &zeros, scale: None, addend: None, row_bias: None };
        sides.sweep(batch, [1, k, n]).emit(self.emit(), |p| accumulator_call(&segments, p))?;
        self.subtract_from(k as i32 * x_zero * w_zero, &out)?;
        Ok(View {
            dims: batch.iter().copied().chain([n]).collect(),
            strides: out.strides[..batch.len()].iter().copied().chain([4]).collect(),
            ..out
        })
    }
}
