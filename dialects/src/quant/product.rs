//! Integer product of two computed tensors.

use super::compute::{Bias, Epilogue, Stated, finish};
use super::numeric::accumulator_scale;
use super::{activation, check_bounds, result_ty};
use crate::graph::matmul::{MatmulShape, broadcast_index};
use crate::graph::{dims_of, ints};
use qc_ir::{HostTensor, Module, OpId, Type};

qc_ir::ops! { dialect QPRODUCT = "quant";
    /// Integer product of two computed tensors, with NumPy broadcasting of the batch dims.
    ///
    /// `acc[.., i, j] = sum_k (x[.., i, k] - x_zero) * (y[.., k, j] - y_zero)` in units of `x_scale * y_scale`; `transpose_x`
    /// and `transpose_y` swap the last two dims of an operand first. Epilogue as `quant.conv2d`.
    op QBatchMatmul = "quant.batch_matmul"(x: Activation, y: Activation, residual: Optional Activation) -> (out) {
        transpose_x: Bool = false, transpose_y: Bool = false,
        to: Type, lo: Int = 0i64, hi: Int = 255i64, min: Float = f64::NEG_INFINITY, max: Float = f64::INFINITY
    } [PURE] infer(infer) verify(verify) eval(eval);
}

/// Sums of more products than this could overflow 32 bits, with room for a factor of two.
pub const LONGEST_SUM: usize = (i32::MAX / 2) as usize / (255 * 255);

impl QBatchMatmul {
    /// The geometry.
    ///
    /// # Errors
    /// As [`MatmulShape::new`], and when sums could overflow.
    pub fn shape(self, m: &Module) -> Result<MatmulShape, String> {
        let dims = [dims_of(m, self.0, 0)?, dims_of(m, self.0, 1)?];
        let s = MatmulShape::new(dims, [self.transpose_x(m), self.transpose_y(m)])?;
        if s.k <= LONGEST_SUM { Ok(s) } else { Err(format!("sums of {} products could overflow 32 bits", s.k)) }
    }

    /// The epilogue, with one factor per column.
    ///
    /// # Errors
    /// When an operand has no fitting format.
    pub fn epilogue(self, m: &Module) -> Result<Epilogue, String> {
        let (x, y) = (activation(m, self.0, 0)?, activation(m, self.0, 1)?);
        let residual = self.residual(m).map(|_| activation(m, self.0, 2)).transpose()?;
        let stated = Stated { to: self.to(m), lo: self.lo(m), hi: self.hi(m), min: self.min(m), max: self.max(m) };
        let columns = self.shape(m)?.n;
        Epilogue::new(m, &stated, residual, |unit| vec![accumulator_scale(x.scale(0), y.scale(0), unit); columns])
    }
}

fn infer(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let view = QBatchMatmul(op);
    let dims = view.shape(m)?.result()?;
    match view.residual(m) {
        Some(r) if m.dims(r) != dims => Err(format!("residual has shape {:?}, not {dims:?}", m.dims(r))),
        _ => result_ty(m, &view.to(m), dims),
    }
}

fn verify(m: &Module, op: OpId) -> Result<(), String> {
    check_bounds(QBatchMatmul(op).lo(m), QBatchMatmul(op).hi(m))?;
    QBatchMatmul(op).epilogue(m).map(|_| ())
}

fn eval(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let view = QBatchMatmul(op);
    let (s, e) = (view.shape(m)?, view.epilogue(m)?);
    let (x, y) = (ints(args, 0)?, ints(args, 1)?);
    let (x_zero, y_zero) = (activation(m, op, 0)?.zero(0), activation(m, op, 1)?.zero(0));
    let res = args.get(2).copied().flatten().map(|_| ints(args, 2)).transpose()?;
    let (transpose_x, transpose_y) = (view.transpose_x(m), view.transpose_y(m));
    let lead = |i: usize| dims_of(m, op, i).map(|d| broadcast_index(&d[..d.len() - 2], &s.batch));
    let mut acc = Vec::with_capacity(s.batch.iter().product::<usize>() * s.m * s.n);
    for (x_matrix, y_matrix) in lead(0)?.zip(lead(1)?) {
        let (x, y) = (&x[x_matrix * s.m * s.k..][..s.m * s.k], &y[y_matrix * s.k * s.n..][..s.k * s.n]);
        let left = |i: usize, k: usize| x[if transpose_x { k * s.m + i } else { i * s.k + k }] - x_zero;
        let right = |k: usize, j: usize| y[if transpose_y { j * s.k + k } else { k * s.n + j }] - y_zero;
        for (i, j) in (0..s.m).flat_map(|i| (0..s.n).map(move |j| (i, j))) {
            acc.push((0..s.k).map(|k| left(i, k) * right(k, j)).sum::<i32>());
        }
    }
    finish(&e, &Bias::none(s.n), s.result()?, &acc, res.as_deref(), 1)
}
