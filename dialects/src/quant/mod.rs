//! The quant dialect: what integer kernels can do, each op with its whole epilogue.
//!
//! Activations are u8 with a zero point, weights are constants of 8 bits per output channel, with a zero point where they
//! have one; accumulators are exact i32. `to` names the result's element: a quantized format, or `f32` for a result in real numbers. `lo` and
//! `hi` clamp a quantized result (an activation function that fused), `min` and `max` a real one.

pub mod compute;
pub mod dynamic;
pub mod elementwise;
pub mod numeric;
pub mod pool;
pub mod product;
pub mod resample;
pub mod stored;

pub use compute::{QConv2d, QLinear, QMatmul};
pub use dynamic::{Over, QDynamic, QDynamicConv2d, QDynamicMatmul};
pub use elementwise::{QAdd, QBinary, QLut, QMul};
pub use pool::{QAvgPool, QMaxPool, QPool};
pub use product::QBatchMatmul;
pub use resample::{QResample, Requantize};
pub use stored::{QEmbedding, QFloatMatmul};

use qc_ir::{Elem, Module, OpId, Quant, Store, TensorTy, Type};

/// All ops of the dialect.
pub static QUANT: &[&qc_ir::OpDef] = &[
    QConv2d::DEF,
    QMatmul::DEF,
    QBatchMatmul::DEF,
    QDynamicMatmul::DEF,
    QDynamicConv2d::DEF,
    QFloatMatmul::DEF,
    QEmbedding::DEF,
    QAdd::DEF,
    QMul::DEF,
    QLut::DEF,
    QMaxPool::DEF,
    QAvgPool::DEF,
    QResample::DEF,
];

/// The per-tensor u8 format of operand `i`.
pub(crate) fn activation(m: &Module, op: OpId, i: usize) -> Result<&Quant, String> {
    let v = m.operand(op, i).ok_or_else(|| format!("operand {i} is missing"))?;
    let q = m.quant_of(v).ok_or_else(|| format!("operand {i} is not quantized"))?;
    if q.store != Store::U8 || q.axis.is_some() {
        return Err(format!("operand {i} is not u8 with one scale"));
    }
    Ok(q)
}

/// The format that `to` names; `None` for f32.
pub(crate) fn result_format(m: &Module, to: &Type) -> Result<Option<Quant>, String> {
    match to {
        Type::Scalar(Elem::F32) => Ok(None),
        Type::Scalar(Elem::Quant(q)) => {
            let q = m.quant(*q);
            let fits = q.store == Store::U8 && q.axis.is_none();
            fits.then(|| Some(q.clone())).ok_or_else(|| "the result must be u8 with one scale".into())
        }
        _ => Err("`to` must be f32 or a quantized format".into()),
    }
}

/// A tensor type whose element is named by `to`.
pub(crate) fn result_ty(m: &Module, to: &Type, dims: Vec<usize>) -> Result<Vec<Type>, String> {
    result_format(m, to)?;
    let Type::Scalar(elem) = to else { return Err("`to` must be an element type".into()) };
    Ok(vec![Type::Tensor(TensorTy::new(*elem, dims))])
}

/// Checks `lo..=hi` against u8.
pub(crate) fn check_bounds(lo: i64, hi: i64) -> Result<(), String> {
    if 0 <= lo && lo <= hi && hi <= 255 { Ok(()) } else { Err(format!("bounds {lo}..{hi} do not fit u8")) }
}
