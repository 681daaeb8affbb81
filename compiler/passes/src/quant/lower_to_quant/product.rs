//! Products of two computed tensors.

use super::dequantized;
use crate::graph::from_constant;
use crate::quant::keep_float::kept;
use qc_dialects::graph::Matmul;
use qc_dialects::quant::QBatchMatmul;
use qc_dialects::quant::numeric::accumulator_scale;
use qc_dialects::quant::product::LONGEST_SUM;
use qc_ir::{Attrs, Module, OpId, Quant, Rewriter, ValueId};

/// Operands of an integer product that were found to fit.
struct Fitting {
    x: ValueId,
    y: ValueId,
    transposed: [bool; 2],
}

/// The product, if `op` is one of two computed tensors.
fn product(m: &Module, op: OpId) -> Option<Matmul> {
    Matmul::of(m, op).filter(|product| !from_constant(m, product.b(m)))
}

fn operands(m: &Module, product: Matmul) -> Result<Fitting, String> {
    if let Some(reason) = kept(m, product.0) {
        return Err(reason.into());
    }
    let x = dequantized(m, product.a(m)).ok_or("its input has no quantized range")?;
    let y = dequantized(m, product.b(m)).ok_or("its right side is computed and has no quantized range")?;
    if product.bias(m).is_some() {
        return Err("its right side is computed, and there is no integer kernel for that with a bias".into());
    }
    let k = product.shape(m)?.k;
    if k > LONGEST_SUM {
        return Err("its accumulator could overflow 32 bits".into());
    }
    let unit = |v| m.quant_of(v).map_or(1.0, |q| q.scale(0));
    if !accumulator_scale(unit(x), unit(y), 1.0).is_normal() {
        return Err("the unit of its accumulator is too small or too large for f32".into());
    }
    Ok(Fitting { x, y, transposed: [product.transpose_a(m), product.transpose_b(m)] })
}

/// Why a product of two computed tensors cannot be computed in integers, if at all; `None` for other ops.
pub fn obstacle(m: &Module, op: OpId) -> Option<Option<String>> {
    product(m, op).map(|product| operands(m, product).err())
}

/// Whether the factor from its accumulator to a result of `format` is a number; `None` for other ops.
pub fn factor_is_number(m: &Module, op: OpId, format: &Quant) -> Option<bool> {
    let fits = operands(m, product(m, op)?);
    let scale = |v| m.quant_of(v).map_or(1.0, |q: &Quant| q.scale(0));
    Some(fits.is_ok_and(|l| accumulator_scale(scale(l.x), scale(l.y), format.scale(0)).is_finite()))
}

/// Makes the integer op before `root`, with the locations of `chain`; `None` for other ops.
pub fn build(
    rw: &mut Rewriter<'_>,
    root: OpId,
    op: OpId,
    chain: &[OpId],
    residual: Option<ValueId>,
    epilogue: &Attrs,
) -> Option<Option<()>> {
    let product = product(rw.m, op)?;
    let made = |rw: &mut Rewriter<'_>| {
        let Fitting { x, y, transposed } = operands(rw.m, product).ok()?;
        let mut attrs = epilogue.clone();
        attrs.set("transpose_x", transposed[0].into());
        attrs.set("transpose_y", transposed[1].into());
        let loc = rw.fuse_locs(chain);
        let new = rw.create_at(root, loc, QBatchMatmul::DEF, &[Some(x), Some(y), residual], attrs)?;
        let (old, new) = (rw.m.result(root), rw.m.result(new));
        rw.replace(old, new);
        Some(())
    };
    Some(made(rw))
}
