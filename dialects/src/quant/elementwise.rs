//! Element-wise integer ops: sum, product, table.

use super::numeric::{Sum, multiply, ratio};
use super::{activation, check_bounds, result_format, result_ty};
use crate::graph::matmul::{broadcast, broadcast_index};
use crate::graph::{dims_of, ints, u8s};
use qc_ir::{HostTensor, Module, OpId, Quant, Type};

qc_ir::ops! { dialect QELEMENTWISE = "quant";
    /// The sum of two quantized tensors, rescaled to the result's format; NumPy broadcasting.
    op QAdd = "quant.add"(lhs: Activation, rhs: Activation) -> (out) { to: Type, lo: Int = 0i64, hi: Int = 255i64 } [PURE ELEMENTWISE]
        infer(infer_binary) verify(verify_binary) eval(eval_add);
    /// The product of two quantized tensors, rescaled to the result's format; NumPy broadcasting.
    op QMul = "quant.mul"(lhs: Activation, rhs: Activation) -> (out) { to: Type, lo: Int = 0i64, hi: Int = 255i64 } [PURE ELEMENTWISE]
        infer(infer_binary) verify(verify_binary) eval(eval_mul);
    /// Any function of one u8 tensor, as a table of 256 bytes; also the change of one format into another.
    op QLut = "quant.lut"(x: Activation) -> (out) { table: Const, to: Type } [PURE ELEMENTWISE]
        infer(infer_lut) verify(verify_lut) eval(eval_lut);
}

qc_ir::interface! {
    /// An integer op on two tensors element by element, with NumPy broadcasting.
    QBinary [QAdd, QMul] {
        /// The element type of the result.
        to: Type;
        /// The lower bound of the result, stored.
        lo: i64;
        /// The upper bound of the result, stored.
        hi: i64;
    }
}

impl QBinary {
    /// The format of the result.
    fn format(self, m: &Module) -> Result<Quant, String> {
        result_format(m, &self.to(m))?.ok_or_else(|| "the result must be quantized".into())
    }

    /// The bounds of the result.
    pub fn bounds(self, m: &Module) -> [i32; 2] {
        [self.lo(m) as i32, self.hi(m) as i32]
    }

    fn expect(m: &Module, op: OpId) -> Result<QBinary, String> {
        QBinary::of(m, op).ok_or_else(|| "it is no sum or product".into())
    }
}

fn infer_binary(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    result_ty(m, &QBinary::expect(m, op)?.to(m), broadcast(dims_of(m, op, 0)?, dims_of(m, op, 1)?)?)
}

fn verify_binary(m: &Module, op: OpId) -> Result<(), String> {
    activation(m, op, 0)?;
    activation(m, op, 1)?;
    let view = QBinary::expect(m, op)?;
    view.format(m)?;
    check_bounds(view.lo(m), view.hi(m))
}

fn format(q: &Quant) -> (f32, i32) {
    (q.scale(0), q.zero(0))
}

impl QAdd {
    /// The factors of the sum.
    ///
    /// # Errors
    /// When an operand or the result has no fitting format.
    pub fn factors(self, m: &Module) -> Result<Sum, String> {
        let (a, b) = (activation(m, self.0, 0)?, activation(m, self.0, 1)?);
        Ok(Sum::new(format(a), format(b), format(&QBinary::from(self).format(m)?)))
    }
}

impl QMul {
    /// The factor of the product.
    ///
    /// # Errors
    /// When an operand or the result has no fitting format.
    pub fn factor(self, m: &Module) -> Result<f32, String> {
        let (a, b) = (activation(m, self.0, 0)?, activation(m, self.0, 1)?);
        Ok(ratio(a.scale(0), b.scale(0), QBinary::from(self).format(m)?.scale(0)))
    }
}

fn binary(
    m: &Module,
    op: OpId,
    args: &[Option<&HostTensor>],
    f: impl Fn(i32, i32) -> i32,
) -> Result<Vec<HostTensor>, String> {
    let (a, b) = (ints(args, 0)?, ints(args, 1)?);
    let (da, db) = (dims_of(m, op, 0)?, dims_of(m, op, 1)?);
    let dims = broadcast(da, db)?;
    let pairs = broadcast_index(da, &dims).zip(broadcast_index(db, &dims));
    u8s(dims.clone(), pairs.map(|(i, j)| f(a[i], b[j])).collect())
}

fn eval_add(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (sum, [lo, hi]) = (QAdd(op).factors(m)?, QBinary::from(QAdd(op)).bounds(m));
    binary(m, op, args, |a, b| sum.apply(a, b, lo, hi))
}

fn eval_mul(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let view = QBinary::from(QMul(op));
    let ([lo, hi], scale, zero) = (view.bounds(m), QMul(op).factor(m)?, view.format(m)?.zero(0));
    let (za, zb) = (activation(m, op, 0)?.zero(0), activation(m, op, 1)?.zero(0));
    binary(m, op, args, |a, b| multiply(a - za, b - zb, scale, zero, lo, hi))
}

fn infer_lut(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    result_ty(m, &QLut(op).to(m), dims_of(m, op, 0)?.to_vec())
}

fn verify_lut(m: &Module, op: OpId) -> Result<(), String> {
    activation(m, op, 0)?;
    match m.consts.get(QLut(op).table(m)).tensor.as_u8() {
        Some(t) if t.len() == 256 => Ok(()),
        _ => Err("the table must be 256 bytes".into()),
    }
}

fn eval_lut(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let table = m.consts.get(QLut(op).table(m)).tensor.clone();
    let table = table.as_u8().ok_or("the table must be bytes")?;
    let mapped = ints(args, 0)?.into_iter().map(|x| i32::from(table[x as usize])).collect();
    u8s(dims_of(m, op, 0)?.to_vec(), mapped)
}
