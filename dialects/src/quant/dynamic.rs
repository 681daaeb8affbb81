//! Integer products whose left side is quantized by the range that it has in a run.

use super::compute::{centred, weight_format};
use super::numeric::MAGIC;
use crate::graph::{arg, check_size, dims_of, f32s};
use qc_ir::{Elem, HostTensor, Module, OpId, Quant, TensorTy, Type};
use qc_kernels::reference::clamp_f32;

qc_ir::ops! { dialect QDYNAMIC = "quant";
    /// Integer product of `x` `[.., k]`, each row of which becomes u8 in the format of its own range, with constant weight
    /// `[n, k]` of s8 with a scale per row.
    ///
    /// For a row: `lo = min(0, min x)`, `hi = max(0, max x)`, `factor = (hi - lo) / 255`, or 1 where that is 0,
    /// `zero = round(-lo / factor)`, `q = clamp(round(x / factor) + zero, 0, 255)`; then
    /// `acc = sum_k (q - zero) * weight`, and the result is `acc * (factor * w_scale[n]) + bias[n]`, clamped to `min..=max`.
    op QDynamicMatmul = "quant.dynamic_matmul"(x: F32, weight: Weight 2, bias: Optional F32 1) -> (out) {
        min: Float = f64::NEG_INFINITY, max: Float = f64::INFINITY
    } [PURE] infer(infer) verify(verify) eval(eval);
}

fn infer(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (x, w) = (dims_of(m, op, 0)?, dims_of(m, op, 1)?);
    let (Some((&k, lead)), &[n, inner]) = (x.split_last(), w) else { return Err("needs [.., k] and [n, k]".into()) };
    if k != inner {
        return Err(format!("rows of {k} and weights of {inner}"));
    }
    if let Some(b) = QDynamicMatmul(op).bias(m)
        && m.dims(b) != [n]
    {
        return Err(format!("bias has shape {:?}, not [{n}]", m.dims(b)));
    }
    let dims = [lead, &[n]].concat();
    check_size(&dims)?;
    Ok(vec![Type::Tensor(TensorTy::new(Elem::F32, dims))])
}

fn format(m: &Module, op: OpId) -> Result<&Quant, String> {
    weight_format(m, QDynamicMatmul(op).weight(m))
}

fn verify(m: &Module, op: OpId) -> Result<(), String> {
    let q = format(m, op)?;
    let k = dims_of(m, op, 1)?[1];
    match () {
        () if q.zeros.iter().any(|&z| z != 0) || q.store != qc_ir::Store::I8 => {
            Err("its weight is not symmetric s8".into())
        }
        () if k > super::product::LONGEST_SUM => Err(format!("sums of {k} products could overflow 32 bits")),
        () => Ok(()),
    }
}

impl QDynamicMatmul {
    /// The scale of each column.
    ///
    /// # Errors
    /// When the weight has no fitting format.
    pub fn scales(self, m: &Module) -> Result<Vec<f32>, String> {
        let q = format(m, self.0)?;
        Ok((0..dims_of(m, self.0, 1)?[0]).map(|n| q.scale(n)).collect())
    }
}

/// Factor, zero point and stored integers of a row.
fn quantized(row: &[f32]) -> (f32, i32, Vec<i32>) {
    let lo = row.iter().fold(0.0f32, |m, &v| if v < m { v } else { m });
    let hi = row.iter().fold(0.0f32, |m, &v| if v > m { v } else { m });
    let factor = (hi - lo) / 255.0;
    let factor = if factor == 0.0 { 1.0 } else { factor };
    let rounded = |v: f32| (v + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32;
    let zero = (0.0 - lo) / factor;
    let zero = if zero >= 0.0 { rounded(zero.min(255.0)) } else { 0 };
    let (least, most) = (-zero as f32, (255 - zero) as f32);
    let one = |&x: &f32| {
        let v = x / factor;
        // NaN becomes the lowest.
        let v = if v > least { v } else { least };
        rounded(if v < most { v } else { most }) + zero
    };
    (factor, zero, row.iter().map(one).collect())
}

fn eval(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let view = QDynamicMatmul(op);
    let (x, w) = (f32s(args, 0)?, centred(format(m, op)?, arg(args, 1)?, 0)?);
    let bias = args.get(2).copied().flatten().map(|_| f32s(args, 2)).transpose()?;
    let (scales, k) = (view.scales(m)?, dims_of(m, op, 1)?[1]);
    let (min, max) = (view.min(m) as f32, view.max(m) as f32);
    let mut out = Vec::with_capacity(x.len() / k * scales.len());
    for row in x.chunks_exact(k) {
        let (factor, zero, q) = quantized(row);
        for (n, column) in w.chunks_exact(k).enumerate() {
            let acc: i32 = q.iter().zip(column).map(|(q, w)| (q - zero) * w).sum();
            let real = acc as f32 * (factor * scales[n]) + bias.map_or(0.0, |b| b[n]);
            out.push(clamp_f32(real, min, max));
        }
    }
    let dims = infer(m, op)?[0].tensor().map(|t| t.dims.to_vec()).unwrap_or_default();
    Ok(vec![HostTensor::f32(dims, out)])
}
