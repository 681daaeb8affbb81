//! Conditions: comparisons, and the choice that a truth value makes.

use super::matmul::{broadcast, broadcast_index};
use super::{arg, check_size, gather, tensor_of};
use qc_ir::{Elem, HostTensor, Module, OpId, TensorTy, Type};

qc_ir::ops! { dialect CONDITION = "graph";
    /// Whether `lhs op rhs`, for two numbers of one type, element by element with NumPy broadcasting. `op` is `eq`, `lt` or `le`;
    /// NaN is neither equal to a number nor less.
    op Compare = "graph.compare"(lhs: Plain, rhs: Plain) -> (out) { op: Str } [PURE ELEMENTWISE]
        infer(infer_compare) eval(eval_compare);
    /// `yes` where the condition holds, `no` elsewhere; NumPy broadcasting of all three.
    op Select = "graph.select"(condition: Truth, yes: Plain, no: Plain) -> (out) {} [PURE ELEMENTWISE]
        infer(infer_select) eval(eval_select);
}

/// What `graph.compare` asks; `None` for an unknown word.
fn relation<T: PartialOrd>(word: &str) -> Option<fn(&T, &T) -> bool> {
    match word {
        "eq" => Some(T::eq),
        "lt" => Some(T::lt),
        "le" => Some(T::le),
        _ => None,
    }
}

fn infer_compare(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (a, b, word) = (tensor_of(m, op, 0)?, tensor_of(m, op, 1)?, Compare(op).op(m));
    if a.elem != b.elem {
        return Err("its operands are of two types".into());
    }
    relation::<i64>(&word).ok_or_else(|| format!("unknown relation `{word}`"))?;
    Ok(vec![Type::Tensor(TensorTy::new(Elem::Bool, broadcast(&a.dims, &b.dims)?))])
}

fn eval_compare(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    fn compared<T: PartialOrd>(word: &str, [a, b]: [&[T]; 2], [da, db, dims]: [&[usize]; 3]) -> Option<Vec<bool>> {
        let holds = relation::<T>(word)?;
        let pairs = broadcast_index(da, dims).zip(broadcast_index(db, dims));
        Some(pairs.map(|(i, j)| holds(&a[i], &b[j])).collect())
    }
    let (a, b, word) = (arg(args, 0)?, arg(args, 1)?, Compare(op).op(m));
    let dims = broadcast(a.dims(), b.dims())?;
    let all = [a.dims(), b.dims(), &dims];
    let out = match (a.as_f32(), b.as_f32()) {
        (Some(x), Some(y)) => compared(&word, [x, y], all),
        _ => compared(&word, [&super::integer::integers(a)?, &super::integer::integers(b)?], all),
    };
    let out = out.ok_or_else(|| format!("unknown relation `{word}`"))?;
    Ok(vec![HostTensor::bool(dims, out)])
}

fn infer_select(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (condition, yes, no) = (tensor_of(m, op, 0)?, tensor_of(m, op, 1)?, tensor_of(m, op, 2)?);
    if yes.elem != no.elem {
        return Err("its operands are of two types".into());
    }
    let dims = broadcast(&broadcast(&condition.dims, &yes.dims)?, &no.dims)?;
    check_size(&dims)?;
    Ok(vec![Type::Tensor(TensorTy::new(yes.elem, dims))])
}

fn eval_select(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (condition, yes, no) = (arg(args, 0)?, arg(args, 1)?, arg(args, 2)?);
    let holds = condition.as_bool().ok_or("operand 0 holds no truth values")?;
    let dims = infer_select(m, op)?[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    // One tensor of both, so that choosing is moving.
    let (elem, mut bytes) = (yes.data().elem(), yes.data().to_bytes());
    bytes.extend(no.data().to_bytes());
    let both = qc_ir::Data::from_bytes(elem, &bytes).and_then(|data| HostTensor::new([yes.len() + no.len()], data));
    let both = both.ok_or("wrong number of elements")?;
    let choices = broadcast_index(yes.dims(), &dims).zip(broadcast_index(no.dims(), &dims));
    let at = broadcast_index(condition.dims(), &dims).zip(choices);
    gather(&both, dims.clone(), at.map(|(c, (y, n))| if holds[c] { y } else { yes.len() + n }))
}
