//! Element-wise ops. The interpreter, quantization through tables and fusion follow from the declarations.

use super::matmul::{broadcast, broadcast_index};
use super::{arg, dims_of, f32_ty, f32s};
use qc_ir::{HostTensor, Module, OpId, Type, ValueId};
use qc_kernels::reference::clamp_f32;
/// What [`Max`] and [`Min`] make of two numbers.
pub use qc_kernels::reference::{maximum, minimum};

qc_ir::ops! { dialect ELEMENTWISE = "graph";
    /// `lhs + rhs` with NumPy broadcasting.
    op Add = "graph.add"(lhs: F32, rhs: F32) -> (out) {} [PURE ELEMENTWISE COMMUTATIVE] infer(infer_binary) eval(eval_add);
    /// `lhs - rhs` with NumPy broadcasting.
    op Sub = "graph.sub"(lhs: F32, rhs: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer_binary) eval(eval_sub);
    /// `lhs * rhs` with NumPy broadcasting.
    op Mul = "graph.mul"(lhs: F32, rhs: F32) -> (out) {} [PURE ELEMENTWISE COMMUTATIVE] infer(infer_binary) eval(eval_mul);
    /// `lhs / rhs` with NumPy broadcasting.
    op Div = "graph.div"(lhs: F32, rhs: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer_binary) eval(eval_div);
    /// The larger of `lhs` and `rhs`, NaN if one of them is NaN, with NumPy broadcasting.
    op Max = "graph.max"(lhs: F32, rhs: F32) -> (out) {} [PURE ELEMENTWISE COMMUTATIVE] infer(infer_binary) eval(eval_max);
    /// The smaller of `lhs` and `rhs`, NaN if one of them is NaN, with NumPy broadcasting.
    op Min = "graph.min"(lhs: F32, rhs: F32) -> (out) {} [PURE ELEMENTWISE COMMUTATIVE] infer(infer_binary) eval(eval_min);
    /// `lhs` to the power of `rhs`, as C's `pow`, with NumPy broadcasting.
    op Pow = "graph.pow"(lhs: F32, rhs: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer_binary) eval(eval_pow);
    /// What `lhs / rhs` leaves when the quotient is rounded towards 0, with NumPy broadcasting.
    op Rem = "graph.rem"(lhs: F32, rhs: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer_binary) eval(eval_rem);
    /// `max(x, 0)`; NaN stays NaN.
    op Relu = "graph.relu"(x: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer_unary) eval(eval_relu);
    /// `min(max(x, min), max)`; NaN stays NaN.
    op Clip = "graph.clip"(x: F32) -> (out) { min: Float, max: Float } [PURE ELEMENTWISE]
        infer(infer_unary) verify(verify_clip) eval(eval_clip);
}

qc_ir::interface! {
    /// An op on two tensors element by element, with NumPy broadcasting.
    Binary [Add, Sub, Mul, Div, Max, Min, Pow, Rem] {
        /// Its first operand.
        lhs: ValueId;
        /// Its second operand.
        rhs: ValueId;
        /// The result.
        out: ValueId;
    }
}

qc_ir::interface! {
    /// An op that bounds its operand.
    Clamp [Relu, Clip] {
        /// What is bounded.
        x: ValueId;
        /// The result.
        out: ValueId;
    }
}

impl Clamp {
    /// The lower and the upper bound.
    pub fn bounds(self, m: &Module) -> [f32; 2] {
        match self {
            Clamp::Relu(_) => [0.0, f32::INFINITY],
            Clamp::Clip(clip) => [clip.min(m) as f32, clip.max(m) as f32],
        }
    }
}

fn infer_binary(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    f32_ty(broadcast(dims_of(m, op, 0)?, dims_of(m, op, 1)?)?)
}

fn infer_unary(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    f32_ty(dims_of(m, op, 0)?)
}

fn verify_clip(m: &Module, op: OpId) -> Result<(), String> {
    let (min, max) = (Clip(op).min(m), Clip(op).max(m));
    if min <= max { Ok(()) } else { Err(format!("min {min} is not at most max {max}")) }
}

fn binary(args: &[Option<&HostTensor>], f: impl Fn(f32, f32) -> f32) -> Result<Vec<HostTensor>, String> {
    let (a, b) = (f32s(args, 0)?, f32s(args, 1)?);
    let (da, db) = (arg(args, 0)?.dims(), arg(args, 1)?.dims());
    let dims = broadcast(da, db)?;
    let out = broadcast_index(da, &dims).zip(broadcast_index(db, &dims)).map(|(i, j)| f(a[i], b[j])).collect();
    Ok(vec![HostTensor::f32(dims, out)])
}

fn unary(args: &[Option<&HostTensor>], f: impl Fn(f32) -> f32) -> Result<Vec<HostTensor>, String> {
    let out = f32s(args, 0)?.iter().map(|&x| f(x)).collect();
    Ok(vec![HostTensor::f32(arg(args, 0)?.dims(), out)])
}

fn eval_add(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    binary(args, |a, b| a + b)
}

fn eval_sub(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    binary(args, |a, b| a - b)
}

fn eval_mul(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    binary(args, |a, b| a * b)
}

fn eval_div(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    binary(args, |a, b| a / b)
}

fn eval_max(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    binary(args, maximum)
}

fn eval_min(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    binary(args, minimum)
}

fn eval_pow(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    binary(args, qc_kernels::power)
}

fn eval_rem(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    binary(args, qc_kernels::remainder)
}

fn eval_relu(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    unary(args, |x| clamp_f32(x, 0.0, f32::INFINITY))
}

fn eval_clip(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (min, max) = (Clip(op).min(m) as f32, Clip(op).max(m) as f32);
    unary(args, |x| clamp_f32(x, min, max))
}
