//! Places of the largest elements, and rows that are joined to those of a tensor where indices say.

use super::items::{kept, never_apart};
use super::{arg, dims_of, f32s, tensor_of};
use qc_ir::{Data, Elem, HostTensor, Module, OpId, TensorTy, Type};
use qc_kernels::reference::{maximum, minimum};

qc_ir::ops! { dialect CHOOSE = "graph";
    /// The places along the last dim of the `k` largest elements, or the least ones, in order; of equal ones the first comes
    /// first, and NaN is above all numbers.
    op TopK = "graph.top_k"(x: F32) -> (out) { k: Int, least: Bool = false } [PURE]
        infer(infer_top_k) eval(eval_top_k) items(|m, op, f| kept(m, op, f, |axis| axis + 1 < m.dims(TopK(op).x(m)).len()));
    /// `x` with the rows of `updates` joined, one after the other, to those that `indices`, of the dim 0, name: `op` is set, or of
    /// f32 add, mul, max or min.
    op Scatter = "graph.scatter"(x: Tensor, indices: Integer, updates: Tensor) -> (out) { op: Str } [PURE]
        infer(infer_scatter) eval(eval_scatter) items(never_apart);
}

fn infer_top_k(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (mut dims, k) = (dims_of(m, op, 0)?.to_vec(), TopK(op).k(m));
    let last = dims.last_mut().ok_or("a single number has no largest elements")?;
    match usize::try_from(k) {
        Ok(k) if (1..=*last).contains(&k) => *last = k,
        _ => return Err(format!("{k} of {last} elements")),
    }
    Ok(vec![Type::Tensor(TensorTy::new(Elem::I32, dims))])
}

fn eval_top_k(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (x, dims, k) = (f32s(args, 0)?, arg(args, 0)?.dims(), TopK(op).k(m) as usize);
    let n = dims.last().copied().unwrap_or(1).max(1);
    let first = |row: &[f32]| {
        let mut all: Vec<u64> =
            row.iter().enumerate().map(|(i, &x)| qc_kernels::order(x, i, TopK(op).least(m))).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.into_iter().take(k).map(|v| !(v as u32) as i32).collect::<Vec<i32>>()
    };
    let out = x.chunks_exact(n).flat_map(first).collect();
    let mut dims = dims.to_vec();
    if let Some(last) = dims.last_mut() {
        *last = k;
    }
    Ok(vec![HostTensor::i32(dims, out)])
}

fn infer_scatter(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (x, indices, updates) = (tensor_of(m, op, 0)?, tensor_of(m, op, 1)?, tensor_of(m, op, 2)?);
    if matches!(x.elem, Elem::Quant(_)) || x.elem != updates.elem || indices.elem != Elem::I32 {
        return Err("its operands do not fit".into());
    }
    let word = Scatter(op).op(m);
    if &*word != "set" && (x.elem != Elem::F32 || !["add", "mul", "max", "min"].contains(&&*word)) {
        return Err(format!("`{word}` of these elements"));
    }
    let fits = !x.dims.is_empty() && indices.dims.len() == 1 && updates.dims.first() == indices.dims.first();
    if !fits || x.dims[1..] != updates.dims[1..] {
        return Err(format!("rows of {:?} do not fit those of {:?}", updates.dims, x.dims));
    }
    Ok(vec![Type::Tensor(x.clone())])
}

fn eval_scatter(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (x, indices, updates) = (arg(args, 0)?, arg(args, 1)?, arg(args, 2)?);
    let (size, row) = (x.dims()[0], x.dims()[1..].iter().product::<usize>());
    let indices = indices.as_i32().ok_or("its indices are not those of `graph.index`")?;
    if indices.iter().any(|&i| i < 0 || i as usize >= size) {
        return Err(format!("an index is outside a dim of {size}"));
    }
    fn joined<T: Copy>(x: &[T], indices: &[i32], updates: &[T], row: usize, f: impl Fn(T, T) -> T) -> Vec<T> {
        let mut out = x.to_vec();
        for (r, &i) in indices.iter().enumerate() {
            for k in 0..row {
                let at = i as usize * row + k;
                out[at] = f(out[at], updates[r * row + k]);
            }
        }
        out
    }
    let data = match (x.data(), updates.data()) {
        (Data::F32(x), Data::F32(u)) => Data::F32(joined(
            x,
            indices,
            u,
            row,
            match &*Scatter(op).op(m) {
                "add" => |a: f32, b: f32| a + b,
                "mul" => |a: f32, b: f32| a * b,
                "max" => maximum,
                "min" => minimum,
                _ => |_: f32, b: f32| b,
            },
        )),
        (Data::I8(x), Data::I8(u)) => Data::I8(joined(x, indices, u, row, |_, b| b)),
        (Data::U8(x), Data::U8(u)) => Data::U8(joined(x, indices, u, row, |_, b| b)),
        (Data::I32(x), Data::I32(u)) => Data::I32(joined(x, indices, u, row, |_, b| b)),
        (Data::I64(x), Data::I64(u)) => Data::I64(joined(x, indices, u, row, |_, b| b)),
        (Data::Bool(x), Data::Bool(u)) => Data::Bool(joined(x, indices, u, row, |_, b| b)),
        _ => return Err("its operands do not fit".into()),
    };
    HostTensor::new(x.dims(), data).map(|t| vec![t]).ok_or_else(|| "wrong number of elements".into())
}
