//! Products with constant weights in integers, without calibration: the rows of their left sides are quantized by the ranges
//! that they have in a run.
//!
//! before  %y = graph.matmul(%x, @w, @b)
//! after   %y = quant.dynamic_matmul(%x, @w as s8, @b)
//!
//! A row depends on nothing but itself, so results are the same whatever the batch is. Weights get one scale per output
//! channel. Products of fewer than 16 terms or columns stay float: their conversions cost more than they win.

use super::keep_float::kept;
use super::quantize::weight_format;
use crate::graph::constant_f32;
use qc_dialects::graph::quantize::quantize_tensor;
use qc_dialects::graph::{Constant, Matmul};
use qc_dialects::phase;
use qc_dialects::quant::QDynamicMatmul;
use qc_dialects::quant::product::LONGEST_SUM;
use qc_ir::{Attrs, Builder, Diag, Elem, HostTensor, Keeps, Module, OpId, Pass, PassCx, Quant, TensorTy, ValueId};
use std::sync::Arc;

/// The pass.
pub const PASS: Pass = Pass {
    name: "quantize-dynamic",
    summary: "multiplies by constant weights in integers, with formats that rows have in a run",
    from: phase::FUSED,
    to: phase::FUSED,
    keeps: Keeps::Decibels(12.0),
    run,
};

/// The fewest terms and columns of a product that is worth its conversions.
const LEAST: usize = 16;

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    for op in m.ops(m.body()).to_vec() {
        cx.check_time()?;
        let Some(product) = Matmul::of(m, op) else { continue };
        if let Some((dims, values)) = weights(m, product) {
            replace(m, product, dims, &values)?;
            cx.count("products");
        }
    }
    qc_ir::remove_dead(m, m.body());
    Ok(())
}

/// The weight of a product as `[n, k]`, if it can be integer.
fn weights(m: &Module, product: Matmul) -> Option<([usize; 2], Vec<f32>)> {
    let s = product.shape(m).ok()?;
    let values = constant_f32(m, product.b(m))?;
    let bias = product.bias(m).is_none_or(|b| constant_f32(m, b).is_some());
    let fits = m.dims(product.b(m)).len() == 2 && !product.transpose_a(m) && (LEAST..=LONGEST_SUM).contains(&s.k);
    if !fits || !bias || s.n < LEAST || kept(m, product.0).is_some() || values.iter().any(|w| !w.is_finite()) {
        return None;
    }
    let rows = match product.transpose_b(m) {
        true => values,
        false => (0..s.n * s.k).map(|i| values[i % s.k * s.n + i / s.k]).collect(),
    };
    Some(([s.n, s.k], rows))
}

fn replace(m: &mut Module, product: Matmul, dims: [usize; 2], values: &[f32]) -> Result<(), Diag> {
    let format: Quant = weight_format(values, &dims, 0);
    let tensor = quantize_tensor(&format, &HostTensor::f32(dims, values.to_vec())).map_err(Diag::bug)?;
    let ty = TensorTy::new(Elem::Quant(m.intern_quant(format)), dims);
    let name = m.name(product.b(m)).unwrap_or("weight").to_string();
    let c = m.consts.add(&format!("{name}.q"), ty, Arc::new(tensor));
    let (x, bias, old) = (product.a(m), product.bias(m), product.out(m));
    let attrs = Attrs::new().with("min", product.min(m)).with("max", product.max(m));
    let mut b = Builder::before(m, product.0);
    let weight: ValueId = Constant::build(&mut b, &[], Attrs::new().with("value", c))?.out(b.m);
    let new = QDynamicMatmul::build(&mut b, &[Some(x), Some(weight), bias], attrs)?.out(b.m);
    finish(m, product.0, old, new)
}

/// Puts `new` in the place of a product.
fn finish(m: &mut Module, product: OpId, old: ValueId, new: ValueId) -> Result<(), Diag> {
    if let Some(name) = m.name(old).map(str::to_string) {
        m.set_name(new, &name);
    }
    m.replace_uses(old, new);
    m.erase(product);
    Ok(())
}
