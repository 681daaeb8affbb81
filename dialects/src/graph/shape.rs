//! Ops that move elements: reshape, transpose, expand, concat, slice, pad; and cast.
//!
//! They keep the element type, quantized or not, so per-tensor quantization passes through them unchanged.

use super::items::{kept, pass};
use super::matmul::{broadcast, broadcast_index};
use super::{arg, check_size, dims_of, gather, tensor_of};
use qc_ir::{Data, Elem, Follow, HostTensor, Items, Module, OpId, TensorTy, Type, indices, strides};

qc_ir::ops! { dialect SHAPE = "graph";
    /// The same elements in row-major order under another shape.
    op Reshape = "graph.reshape"(x: Tensor) -> (out) { shape: Ints } [PURE MOVEMENT] infer(infer_reshape) eval(eval_reshape)
        items(items_reshape);
    /// `out[i[perm[0]], i[perm[1]], ..] = x[i]`: output dim `d` is input dim `perm[d]`.
    op Transpose = "graph.transpose"(x: Tensor) -> (out) { perm: Ints } [PURE MOVEMENT]
        infer(infer_transpose) eval(eval_transpose) items(items_transpose);
    /// Repeated by NumPy broadcasting to `shape`, as a view: a dim of 1 repeats, and so do dims in front.
    op Expand = "graph.expand"(x: Tensor) -> (out) { shape: Ints } [PURE MOVEMENT] infer(infer_expand) eval(eval_expand)
        items(items_expand);
    /// The inputs one after the other along `axis`.
    op Concat = "graph.concat"(inputs: Variadic Tensor) -> (out) { axis: Int } [PURE MOVEMENT]
        infer(infer_concat) eval(eval_concat) items(items_concat);
    /// The elements `starts[d], starts[d] + steps[d], .. < ends[d]` of each dim.
    op Slice = "graph.slice"(x: Tensor) -> (out) { starts: Ints, ends: Ints, steps: Ints } [PURE MOVEMENT]
        infer(infer_slice) eval(eval_slice) items(items_slice);
    /// `value` around the input; `pads` are all leading counts, then all trailing ones.
    op Pad = "graph.pad"(x: F32) -> (out) { pads: Ints, value: Float = 0.0 } [PURE] infer(infer_pad) eval(eval_pad)
        items(items_pad);
    /// Elements converted to `to`; floats are truncated towards zero.
    op Cast = "graph.cast"(x: Plain) -> (out) { to: Type } [PURE] infer(infer_cast) eval(eval_cast) items(pass);
}

pub(crate) fn same_elem(m: &Module, op: OpId, dims: Vec<usize>) -> Result<Vec<Type>, String> {
    check_size(&dims)?;
    Ok(vec![Type::Tensor(TensorTy::new(tensor_of(m, op, 0)?.elem, dims))])
}

/// Quantization per axis does not survive a change of axes; only per-tensor formats may be moved.
pub(crate) fn check_per_tensor(m: &Module, op: OpId) -> Result<(), String> {
    match m.operand(op, 0).and_then(|v| m.quant_of(v)) {
        Some(q) if q.axis.is_some() => Err("a tensor quantized per axis cannot be moved".into()),
        _ => Ok(()),
    }
}

fn infer_reshape(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    check_per_tensor(m, op)?;
    let dims = dims_of(m, op, 0)?;
    let shape: Option<Vec<usize>> = Reshape(op).shape(m).iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape.ok_or("`shape` must not be negative")?;
    check_size(&shape)?;
    if shape.iter().product::<usize>() != dims.iter().product::<usize>() {
        return Err(format!("cannot reshape {dims:?} to {shape:?}"));
    }
    same_elem(m, op, shape)
}

/// The dim of the result that begins where that of the items does and holds a multiple of them.
fn items_reshape(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let Items::Along(axis) = kept(m, op, f, |_| true)? else { return Some(Items::Same) };
    let outer: usize = m.dims(m.operand(op, 0)?)[..axis].iter().product();
    let out = m.dims(m.result(op));
    let begins = |a: &usize| out[..*a].iter().product::<usize>() == outer && out[*a].is_multiple_of(f.batch());
    (0..out.len()).find(begins).map(Items::Along)
}

fn eval_reshape(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let shape: Vec<usize> = Reshape(op).shape(m).iter().map(|&d| d as usize).collect();
    arg(args, 0)?.reshaped(shape).map(|t| vec![t]).ok_or_else(|| "wrong number of elements".into())
}

fn infer_transpose(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    check_per_tensor(m, op)?;
    let (dims, perm) = (dims_of(m, op, 0)?, Transpose(op).perm(m));
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if sorted != (0..dims.len() as i64).collect::<Vec<_>>() {
        return Err(format!("{perm:?} is no permutation of {} dims", dims.len()));
    }
    same_elem(m, op, perm.iter().map(|&p| dims[p as usize]).collect())
}

fn items_transpose(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    match kept(m, op, f, |_| true)? {
        Items::Along(axis) => Transpose(op).perm(m).iter().position(|&p| p as usize == axis).map(Items::Along),
        items => Some(items),
    }
}

fn eval_transpose(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let x = arg(args, 0)?;
    let (from, perm) = (strides(x.dims()), Transpose(op).perm(m));
    let dims: Vec<usize> = perm.iter().map(|&p| x.dims()[p as usize]).collect();
    let step: Vec<usize> = perm.iter().map(|&p| from[p as usize]).collect();
    gather(x, dims.clone(), indices(&dims).map(|i| i.iter().zip(&step).map(|(a, b)| a * b).sum()))
}

fn infer_expand(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    check_per_tensor(m, op)?;
    let dims = dims_of(m, op, 0)?;
    let shape: Option<Vec<usize>> = Expand(op).shape(m).iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape.ok_or("`shape` must not be negative")?;
    match broadcast(dims, &shape)? == shape {
        true => same_elem(m, op, shape),
        false => Err(format!("{dims:?} does not repeat to {shape:?}")),
    }
}

/// Items keep their dim, which does not repeat.
fn items_expand(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let more = m.dims(m.result(op)).len() - m.dims(m.operand(op, 0)?).len();
    match kept(m, op, f, |axis| m.dims(Expand(op).x(m))[axis] == m.dims(m.result(op))[axis + more])? {
        Items::Along(axis) => Some(Items::Along(axis + more)),
        items => Some(items),
    }
}

fn eval_expand(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let x = arg(args, 0)?;
    let shape: Vec<usize> = Expand(op).shape(m).iter().map(|&d| d as usize).collect();
    gather(x, shape.clone(), broadcast_index(x.dims(), &shape))
}

fn infer_concat(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let inputs = Concat(op).inputs(m);
    let first = tensor_of(m, op, 0).map_err(|_| "needs an input")?.clone();
    let axis = usize::try_from(Concat(op).axis(m)).ok().filter(|&a| a < first.dims.len());
    let axis = axis.ok_or_else(|| format!("axis {} is outside rank {}", Concat(op).axis(m), first.dims.len()))?;
    let mut dims = first.dims.to_vec();
    dims[axis] = 0;
    for (i, &v) in inputs.iter().enumerate() {
        let t = m.ty(v).tensor().ok_or("inputs must be tensors")?;
        let fits = t.dims.len() == dims.len() && (0..dims.len()).all(|d| d == axis || t.dims[d] == dims[d]);
        if !fits || t.elem != first.elem {
            let (a, b) = (qc_ir::print_type(m, m.ty(v)), qc_ir::print_type(m, &Type::Tensor(first.clone())));
            return Err(format!("input {i} of type {a} does not fit {b} along axis {axis}"));
        }
        dims[axis] += t.dims[axis];
    }
    same_elem(m, op, dims)
}

/// All inputs have their items along one dim, which is not that of the concatenation.
fn items_concat(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    if f.all_same(m, op) {
        return Some(Items::Same);
    }
    let (inputs, axis) = (Concat(op).inputs(m), Concat(op).axis(m) as usize);
    let along = (0..inputs.len()).find_map(|i| f.along(m, op, i))?;
    let fits = |(i, &v): (usize, &qc_ir::ValueId)| match f.along(m, op, i) {
        Some(own) => own == along,
        None => f.repeats(m, v, along),
    };
    (along != axis && inputs.iter().enumerate().all(fits)).then_some(Items::Along(along))
}

fn eval_concat(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let axis = Concat(op).axis(m) as usize;
    let inputs: Vec<&HostTensor> = args.iter().flatten().copied().collect();
    let mut dims = arg(args, 0)?.dims().to_vec();
    dims[axis] = inputs.iter().map(|t| t.dims()[axis]).sum();
    let outer: usize = dims[..axis].iter().product();
    let mut bytes = Vec::new();
    let parts: Vec<(Vec<u8>, usize)> = inputs
        .iter()
        .map(|t| {
            let b = t.data().to_bytes();
            let chunk = b.len() / outer.max(1);
            (b, chunk)
        })
        .collect();
    for o in 0..outer {
        for (b, chunk) in &parts {
            bytes.extend_from_slice(&b[o * chunk..][..*chunk]);
        }
    }
    let elem = arg(args, 0)?.data().elem();
    let data = Data::from_bytes(elem, &bytes).ok_or("wrong number of bytes")?;
    HostTensor::new(dims, data).map(|t| vec![t]).ok_or_else(|| "wrong number of elements".into())
}

fn infer_slice(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    check_per_tensor(m, op)?;
    let dims = dims_of(m, op, 0)?;
    let (starts, ends, steps) = (Slice(op).starts(m), Slice(op).ends(m), Slice(op).steps(m));
    if [starts.len(), ends.len(), steps.len()] != [dims.len(); 3] {
        return Err(format!("needs one start, end and step for each of {} dims", dims.len()));
    }
    let size = |d: usize| {
        let ok = 0 <= starts[d] && starts[d] <= ends[d] && ends[d] <= dims[d] as i64 && steps[d] > 0;
        let count = || (ends[d] - starts[d]) as usize;
        ok.then(|| count().div_ceil(steps[d] as usize))
            .ok_or_else(|| format!("{}..{} step {} is outside dim {}", starts[d], ends[d], steps[d], dims[d]))
    };
    let out = (0..dims.len()).map(size).collect::<Result<Vec<_>, _>>()?;
    same_elem(m, op, out)
}

fn items_slice(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let whole = |axis: usize| m.dims(Slice(op).x(m))[axis] == m.dims(m.result(op))[axis];
    kept(m, op, f, whole)
}

fn eval_slice(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let x = arg(args, 0)?;
    let (starts, steps, from) = (Slice(op).starts(m), Slice(op).steps(m), strides(x.dims()));
    let dims = infer_slice(m, op)?[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    let place = |i: Vec<usize>| {
        let one = |(d, n): (usize, usize)| (starts[d] as usize + n * steps[d] as usize) * from[d];
        i.into_iter().enumerate().map(one).sum()
    };
    gather(x, dims.clone(), indices(&dims).map(place))
}

fn infer_pad(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    check_per_tensor(m, op)?;
    let (dims, pads) = (dims_of(m, op, 0)?, Pad(op).pads(m));
    if pads.len() != 2 * dims.len() || pads.iter().any(|&p| p < 0) {
        return Err(format!("`pads` must be {} non-negative numbers", 2 * dims.len()));
    }
    let grown = |(d, &n): (usize, &usize)| n.checked_add(pads[d] as usize)?.checked_add(pads[d + dims.len()] as usize);
    let out: Option<Vec<usize>> = dims.iter().enumerate().map(grown).collect();
    same_elem(m, op, out.ok_or("the padded shape is too large")?)
}

fn items_pad(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let (pads, rank) = (Pad(op).pads(m), m.dims(m.result(op)).len());
    kept(m, op, f, |axis| pads[axis] == 0 && pads[axis + rank] == 0)
}

fn eval_pad(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let x = arg(args, 0)?;
    let values = x.as_f32().ok_or("operand 0 is not f32")?;
    let (pads, from) = (Pad(op).pads(m), strides(x.dims()));
    let dims = infer_pad(m, op)?[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    let fill = Pad(op).value(m) as f32;
    let place = |i: Vec<usize>| {
        let one =
            |(d, n): (usize, &usize)| Some(n.checked_sub(pads[d] as usize).filter(|&n| n < x.dims()[d])? * from[d]);
        i.iter().enumerate().map(one).sum::<Option<usize>>().map_or(fill, |at| values[at])
    };
    Ok(vec![HostTensor::f32(dims.clone(), indices(&dims).map(place).collect())])
}

fn infer_cast(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    match Cast(op).to(m) {
        Type::Scalar(to) if to.word().is_some() => {
            Ok(vec![Type::Tensor(TensorTy::new(to, tensor_of(m, op, 0)?.dims.clone()))])
        }
        _ => Err("`to` must be a plain element type".into()),
    }
}

fn eval_cast(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let x = arg(args, 0)?;
    let Type::Scalar(to) = Cast(op).to(m) else { return Err("`to` must be a plain element type".into()) };
    let float = |i: usize| x.as_f32().map_or_else(|| x.int(i).unwrap_or(0) as f64, |v| f64::from(v[i]));
    let all = 0..x.len();
    let data = match to {
        Elem::F32 => Data::F32(all.map(|i| float(i) as f32).collect()),
        Elem::I8 => Data::I8(all.map(|i| float(i) as i8).collect()),
        Elem::U8 => Data::U8(all.map(|i| float(i) as u8).collect()),
        Elem::I32 => Data::I32(all.map(|i| float(i) as i32).collect()),
        Elem::I64 => Data::I64(all.map(|i| x.int(i).unwrap_or(float(i) as i64)).collect()),
        Elem::Bool => Data::Bool(all.map(|i| float(i) != 0.0).collect()),
        Elem::Quant(_) => return Err("`to` must be a plain element type".into()),
    };
    HostTensor::new(x.dims(), data).map(|t| vec![t]).ok_or_else(|| "wrong number of elements".into())
}
