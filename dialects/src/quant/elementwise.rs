//! Element-wise integer ops: sum, product, table.

use super::numeric::{Sum, multiply, ratio};
use super::{activation, check_bounds, ints, result_format, result_ty, u8s};
use crate::graph::dims_of;
use crate::graph::matmul::{broadcast, broadcast_index};
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

fn infer_binary(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    result_ty(m, &QAdd(op).to(m), broadcast(dims_of(m, op, 0)?, dims_of(m, op, 1)?)?)
}

fn verify_binary(m: &Module, op: OpId) -> Result<(), String> {
    activation(m, op, 0)?;
    activation(m, op, 1)?;
    quantized_result(m, op)?;
    check_bounds(QAdd(op).lo(m), QAdd(op).hi(m))
}

fn quantized_result(m: &Module, op: OpId) -> Result<Quant, String> {
    result_format(m, &QAdd(op).to(m))?.ok_or_else(|| "the result must be quantized".into())
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
        Ok(Sum::new(format(a), format(b), format(&quantized_result(m, self.0)?)))
    }
}

impl QMul {
    /// The factor of the product.
    ///
    /// # Errors
    /// When an operand or the result has no fitting format.
    pub fn factor(self, m: &Module) -> Result<f32, String> {
        let (a, b) = (activation(m, self.0, 0)?, activation(m, self.0, 1)?);
        Ok(ratio(a.scale(0), b.scale(0), quantized_result(m, self.0)?.scale(0)))
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
    let (sum, lo, hi) = (QAdd(op).factors(m)?, QAdd(op).lo(m) as i32, QAdd(op).hi(m) as i32);
    binary(m, op, args, |a, b| sum.apply(a, b, lo, hi))
}

fn eval_mul(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (lo, hi) = (QMul(op).lo(m) as i32, QMul(op).hi(m) as i32);
    let (scale, zero) = (QMul(op).factor(m)?, quantized_result(m, op)?.zero(0));
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
