//! Integers and truth values: arithmetic, logic, reductions, running sums.
//!
//! Arithmetic wraps around at the width of the elements. Truth values are 0 and 1.

use super::items::kept;
use super::matmul::{broadcast, broadcast_index};
use super::reduce::{reduced_dims, reduced_items};
use super::{arg, dims_of, tensor_of};
use qc_ir::{Data, Elem, Follow, HostTensor, Items, Module, OpId, TensorTy, Type, strides};

qc_ir::ops! { dialect INTEGER = "graph";
    /// Two integers of one type, element by element with NumPy broadcasting. `op` is a word of [`IntFunction`].
    op IntBinary = "graph.int_binary"(lhs: Integer, rhs: Integer) -> (out) { op: Str } [PURE ELEMENTWISE]
        infer(infer_binary) eval(eval_binary);
    /// The integers along `axes` joined by `op`, which is add, mul, max, min, and or or; reduced dims stay as 1 with `keepdims`.
    op IntReduce = "graph.int_reduce"(x: Integer) -> (out) { op: Str, axes: Ints, keepdims: Bool = true } [PURE]
        infer(infer_reduce) eval(eval_reduce) items(items_reduce);
    /// Sums of all elements along `axis` up to each, itself included unless `exclusive`; from the end with `reverse`; or their
    /// products, with `product`. Of f32, each is rounded.
    op CumSum = "graph.cumsum"(x: Plain) -> (out) {
        axis: Int, exclusive: Bool = false, reverse: Bool = false, product: Bool = false
    } [PURE] infer(infer_cumsum) eval(eval_cumsum) items(items_cumsum);
}

/// What `graph.int_binary` computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum IntFunction {
    Add,
    Sub,
    Mul,
    /// The quotient, rounded towards zero; 0 for a divisor of 0.
    Div,
    /// What [`IntFunction::Div`] leaves: it has the sign of the dividend.
    Rem,
    Max,
    Min,
    And,
    Or,
    Xor,
}

impl IntFunction {
    /// All of them.
    pub const ALL: [IntFunction; 10] = [
        IntFunction::Add,
        IntFunction::Sub,
        IntFunction::Mul,
        IntFunction::Div,
        IntFunction::Rem,
        IntFunction::Max,
        IntFunction::Min,
        IntFunction::And,
        IntFunction::Or,
        IntFunction::Xor,
    ];

    /// The word for it in `op`; the same one that `loop.binary` has.
    pub fn word(self) -> &'static str {
        match self {
            IntFunction::Add => "add",
            IntFunction::Sub => "sub",
            IntFunction::Mul => "mul",
            IntFunction::Div => "div",
            IntFunction::Rem => "rem",
            IntFunction::Max => "max",
            IntFunction::Min => "min",
            IntFunction::And => "and",
            IntFunction::Or => "or",
            IntFunction::Xor => "xor",
        }
    }

    /// The one that `word` names.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_word(word: &str) -> Result<IntFunction, String> {
        let found = IntFunction::ALL.into_iter().find(|f| f.word() == word);
        found.ok_or_else(|| format!("unknown operation `{word}`"))
    }

    /// Whether it is defined for truth values, as logic.
    fn is_logic(self) -> bool {
        matches!(self, IntFunction::And | IntFunction::Or | IntFunction::Xor)
    }

    /// Whether elements may be joined by it in any order.
    fn joins(self) -> bool {
        !matches!(self, IntFunction::Sub | IntFunction::Div | IntFunction::Rem | IntFunction::Xor)
    }

    /// What joins with any integer of `elem` to that integer.
    pub fn neutral(self, elem: Elem) -> i64 {
        let [least, most] = match elem {
            Elem::I8 => [i64::from(i8::MIN), i64::from(i8::MAX)],
            Elem::U8 => [0, 255],
            Elem::I32 => [i64::from(i32::MIN), i64::from(i32::MAX)],
            _ => [i64::MIN, i64::MAX],
        };
        match self {
            IntFunction::Max => least,
            IntFunction::Min => most,
            IntFunction::And if elem == Elem::Bool => 1,
            IntFunction::And => -1,
            IntFunction::Mul | IntFunction::Div => 1,
            _ => 0,
        }
    }

    /// Its value, before it wraps around at the width of the elements. A division by 0 gives 0.
    pub fn value(self, a: i64, b: i64) -> i64 {
        match self {
            IntFunction::Add => a.wrapping_add(b),
            IntFunction::Sub => a.wrapping_sub(b),
            IntFunction::Mul => a.wrapping_mul(b),
            IntFunction::Div if b == 0 => 0,
            IntFunction::Div => a.wrapping_div(b),
            IntFunction::Rem if b == 0 => 0,
            IntFunction::Rem => a.wrapping_rem(b),
            IntFunction::Max => a.max(b),
            IntFunction::Min => a.min(b),
            IntFunction::And => a & b,
            IntFunction::Or => a | b,
            IntFunction::Xor => a ^ b,
        }
    }
}

/// The elements of an integer tensor.
pub(super) fn integers(t: &HostTensor) -> Result<Vec<i64>, String> {
    (0..t.len()).map(|i| t.int(i)).collect::<Option<_>>().ok_or_else(|| "an operand holds no integers".into())
}

/// Integers as elements of `elem`, each wrapped around at its width.
///
/// # Errors
/// When `elem` is no integer, or the dims do not fit.
pub fn wrapped(elem: Elem, dims: &[usize], values: Vec<i64>) -> Result<HostTensor, String> {
    let data = match elem {
        Elem::I8 => Data::I8(values.into_iter().map(|v| v as i8).collect()),
        Elem::U8 => Data::U8(values.into_iter().map(|v| v as u8).collect()),
        Elem::I32 => Data::I32(values.into_iter().map(|v| v as i32).collect()),
        Elem::I64 => Data::I64(values),
        Elem::Bool => Data::Bool(values.into_iter().map(|v| v != 0).collect()),
        Elem::F32 | Elem::Quant(_) => return Err("the result holds no integers".into()),
    };
    HostTensor::new(dims, data).ok_or_else(|| "wrong number of elements".into())
}

fn function(m: &Module, op: OpId, elem: Elem) -> Result<IntFunction, String> {
    let word = m.attr(op, "op").and_then(|a| if let qc_ir::Attr::Str(word) = a { Some(word) } else { None });
    let function = IntFunction::from_word(&word.unwrap_or_default())?;
    match elem == Elem::Bool && !function.is_logic() {
        true => Err(format!("`{}` of truth values", function.word())),
        false => Ok(function),
    }
}

fn infer_binary(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (a, b) = (tensor_of(m, op, 0)?, tensor_of(m, op, 1)?);
    if a.elem != b.elem {
        return Err("its operands are of two types".into());
    }
    function(m, op, a.elem)?;
    Ok(vec![Type::Tensor(TensorTy::new(a.elem, broadcast(&a.dims, &b.dims)?))])
}

fn eval_binary(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (a, b) = (arg(args, 0)?, arg(args, 1)?);
    let elem = a.data().elem();
    let f = function(m, op, elem)?;
    let dims = broadcast(a.dims(), b.dims())?;
    let pairs = broadcast_index(a.dims(), &dims).zip(broadcast_index(b.dims(), &dims));
    let (x, y) = (integers(a)?, integers(b)?);
    Ok(vec![wrapped(elem, &dims, pairs.map(|(i, j)| f.value(x[i], y[j])).collect())?])
}

fn infer_reduce(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let x = tensor_of(m, op, 0)?;
    let f = function(m, op, x.elem)?;
    if !f.joins() {
        return Err(format!("`{}` does not reduce", f.word()));
    }
    let dims = reduced_dims(&x.dims, &IntReduce(op).axes(m), IntReduce(op).keepdims(m))?;
    Ok(vec![Type::Tensor(TensorTy::new(x.elem, dims))])
}

fn items_reduce(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    reduced_items(m, op, f, &IntReduce(op).axes(m), IntReduce(op).keepdims(m))
}

fn eval_reduce(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (x, axes) = (arg(args, 0)?, IntReduce(op).axes(m));
    let elem = x.data().elem();
    let f = function(m, op, elem)?;
    let kept = reduced_dims(x.dims(), &axes, true)?;
    let mut joined = vec![f.neutral(elem); kept.iter().product()];
    for (value, at) in integers(x)?.into_iter().zip(broadcast_index(&kept, x.dims())) {
        joined[at] = f.value(joined[at], value);
    }
    let dims = reduced_dims(x.dims(), &axes, IntReduce(op).keepdims(m))?;
    Ok(vec![wrapped(elem, &dims, joined)?])
}

fn infer_cumsum(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let x = tensor_of(m, op, 0)?;
    let axis = CumSum(op).axis(m);
    if axis < 0 || axis as usize >= x.dims.len() {
        return Err(format!("axis {axis} is outside rank {}", x.dims.len()));
    }
    match x.elem {
        Elem::Bool => Err("truth values have no sum".into()),
        _ => Ok(vec![Type::Tensor(x.clone())]),
    }
}

fn items_cumsum(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    kept(m, op, f, |axis| axis as i64 != CumSum(op).axis(m))
}

/// Running sums of `values`, by `add`.
fn running<T: Copy>(op: CumSum, m: &Module, values: &[T], zero: T, add: impl Fn(T, T) -> T) -> Vec<T> {
    let (dims, axis) = (m.dims(op.out(m)), op.axis(m) as usize);
    let (step, count) = (strides(dims)[axis], dims[axis]);
    let mut out = vec![zero; values.len()];
    for first in (0..values.len()).filter(|i| (i / step).is_multiple_of(count)) {
        let mut sum = zero;
        for k in 0..count {
            let at = first + step * if op.reverse(m) { count - 1 - k } else { k };
            let before = sum;
            sum = if k == 0 { values[at] } else { add(sum, values[at]) };
            out[at] = if op.exclusive(m) { before } else { sum };
        }
    }
    out
}

fn eval_cumsum(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (x, dims) = (arg(args, 0)?, dims_of(m, op, 0)?);
    if let Some(values) = x.as_f32() {
        let all = match CumSum(op).product(m) {
            false => running(CumSum(op), m, values, 0.0, |a, b| a + b),
            true => running(CumSum(op), m, values, 1.0, |a, b| a * b),
        };
        return Ok(vec![HostTensor::f32(dims, all)]);
    }
    let sums = match CumSum(op).product(m) {
        false => running(CumSum(op), m, &integers(x)?, 0, i64::wrapping_add),
        true => running(CumSum(op), m, &integers(x)?, 1, i64::wrapping_mul),
    };
    Ok(vec![wrapped(x.data().elem(), dims, sums)?])
}
