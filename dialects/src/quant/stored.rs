//! Float ops whose constants are stored as s8 with a scale per row: memory is what binds them, and they read a quarter of it.

use crate::graph::quantize::weight_format;
use crate::graph::{arg, check_size, dims_of, f32s, ints, tensor_of};
use qc_ir::{Elem, HostTensor, Module, OpId, Quant, Store, TensorTy, Type};
use qc_kernels::reference::clamp_f32;

qc_ir::ops! { dialect QSTORED = "quant";
    /// f32 product of `x` `[.., k]` with constant weight `[n, k]` of symmetric s8 with a scale per row:
    /// `(sum_k x * weight[n, k]) * w_scale[n] + bias[n]`, the sum by fma in order of k, clamped to `min..=max`.
    op QFloatMatmul = "quant.float_matmul"(x: F32, weight: Weight 2, bias: Optional F32 1) -> (out) {
        min: Float = f64::NEG_INFINITY, max: Float = f64::INFINITY
    } [PURE] infer(infer_matmul) verify(verify) eval(eval_matmul);
    /// Rows that indices choose of a constant table `[size, ..]` of symmetric s8, each times the scale of its row, as f32.
    /// Indices are those of `graph.index`.
    op QEmbedding = "quant.embedding"(table: Weight, indices: Integer) -> (out) {} [PURE]
        infer(infer_embedding) verify(verify_embedding) eval(eval_embedding);
}

/// Whether an op of the dialect computes in f32.
pub fn computes_floats(m: &Module, op: OpId) -> bool {
    m.is(op, QFloatMatmul::DEF) || m.is(op, QEmbedding::DEF)
}

/// The scale of each row of a constant that operand `i` is.
fn row_scales(m: &Module, op: OpId, i: usize) -> Result<Vec<f32>, String> {
    let v = m.operand(op, i).ok_or_else(|| format!("operand {i} is missing"))?;
    let q = weight_format(m, v)?;
    symmetric(q)?;
    Ok((0..dims_of(m, op, i)?[0]).map(|n| q.scale(n)).collect())
}

fn symmetric(q: &Quant) -> Result<(), String> {
    let fits = q.zeros.iter().all(|&z| z == 0) && q.store == Store::I8;
    fits.then_some(()).ok_or_else(|| "its constant is not symmetric s8".into())
}

impl QFloatMatmul {
    /// The scale of each column.
    ///
    /// # Errors
    /// When the weight has no fitting format.
    pub fn scales(self, m: &Module) -> Result<Vec<f32>, String> {
        row_scales(m, self.0, 1)
    }
}

impl QEmbedding {
    /// The scale of each row of the table.
    ///
    /// # Errors
    /// When the table has no fitting format.
    pub fn scales(self, m: &Module) -> Result<Vec<f32>, String> {
        row_scales(m, self.0, 0)
    }
}

fn infer_matmul(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let bias = QFloatMatmul(op).bias(m).map(|b| m.dims(b));
    super::dynamic::product_type(dims_of(m, op, 0)?, dims_of(m, op, 1)?, bias)
}

fn verify(m: &Module, op: OpId) -> Result<(), String> {
    QFloatMatmul(op).scales(m).map(|_| ())
}

fn eval_matmul(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let view = QFloatMatmul(op);
    let (x, w, scales) = (f32s(args, 0)?, ints(args, 1)?, view.scales(m)?);
    let bias = args.get(2).copied().flatten().map(|_| f32s(args, 2)).transpose()?;
    let k = dims_of(m, op, 1)?[1];
    let (min, max) = (view.min(m) as f32, view.max(m) as f32);
    let mut out = Vec::with_capacity(x.len() / k * scales.len());
    for row in x.chunks_exact(k) {
        for (n, column) in w.chunks_exact(k).enumerate() {
            let sum = row.iter().zip(column).fold(0.0f32, |sum, (x, &w)| x.mul_add(w as f32, sum));
            out.push(clamp_f32(sum * scales[n] + bias.map_or(0.0, |b| b[n]), min, max));
        }
    }
    let dims = infer_matmul(m, op)?[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    Ok(vec![HostTensor::f32(dims, out)])
}

fn infer_embedding(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (table, indices) = (dims_of(m, op, 0)?, tensor_of(m, op, 1)?);
    let Some((_, row)) = table.split_first() else { return Err("its table has no rows".into()) };
    if indices.elem != Elem::I32 {
        return Err("its indices are not those of `graph.index`".into());
    }
    let dims = [&indices.dims, row].concat();
    check_size(&dims)?;
    Ok(vec![Type::Tensor(TensorTy::new(Elem::F32, dims))])
}

fn verify_embedding(m: &Module, op: OpId) -> Result<(), String> {
    QEmbedding(op).scales(m).map(|_| ())
}

fn eval_embedding(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let (table, scales) = (ints(args, 0)?, QEmbedding(op).scales(m)?);
    let indices = arg(args, 1)?.as_i32().ok_or("its indices are not those of `graph.index`")?;
    let row = table.len() / scales.len().max(1);
    let mut out = Vec::with_capacity(indices.len() * row);
    for &i in indices {
        let i = usize::try_from(i).ok().filter(|&i| i < scales.len());
        let i = i.ok_or_else(|| format!("an index is outside a dim of {}", scales.len()))?;
        out.extend(table[i * row..][..row].iter().map(|&q| q as f32 * scales[i]));
    }
    let dims = infer_embedding(m, op)?[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    Ok(vec![HostTensor::f32(dims, out)])
}
