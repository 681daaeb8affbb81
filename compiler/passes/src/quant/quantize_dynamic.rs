//! Products with constant weights in integers, without calibration: the rows of their left sides are quantized by the ranges
//! that they have in a run.
//!
//! before  %y = graph.matmul(%x, @w, @b)
//! after   %y = quant.dynamic_matmul(%x, @w as s8, @b)
//!
//! A row depends on nothing but itself, so results are the same whatever the batch is. Weights get one scale per output
//! channel. Products of fewer than 16 terms or columns stay float: their conversions cost more than they win.

use super::keep_float::kept;
use super::quantize::{format_of, quantized};
use crate::graph::constant;
use qc_dialects::graph::{Constant, Matmul};
use qc_dialects::phase;
use qc_dialects::quant::QDynamicMatmul;
use qc_dialects::quant::product::LONGEST_SUM;
use qc_ir::{Attrs, Builder, Diag, Elem, HostTensor, Keeps, Module, OpId, Pass, PassCx, TensorTy, ValueId};

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
        if can_be_integer(m, product) && replace(m, product)? {
            cx.count("products");
        }
    }
    qc_ir::remove_dead(m, m.body());
    Ok(())
}

fn can_be_integer(m: &Module, product: Matmul) -> bool {
    let Ok(s) = product.shape(m) else { return false };
    let known = |v: ValueId| constant(m, v).is_some_and(|t| t.as_f32().is_some());
    let constants = known(product.b(m)) && product.bias(m).is_none_or(known);
    let large = (LEAST..=LONGEST_SUM).contains(&s.k) && s.n >= LEAST;
    constants && large && m.dims(product.b(m)).len() == 2 && !product.transpose_a(m) && kept(m, product.0).is_none()
}

/// Makes the integer product; says whether its weight has a format.
fn replace(m: &mut Module, product: Matmul) -> Result<bool, Diag> {
    let Some(real) = constant(m, product.b(m)) else { return Ok(false) };
    let (s, transposed) = (product.shape(m).map_err(Diag::bug)?, product.transpose_b(m));
    let dims = [s.n, s.k];
    let what = format!("quantize columns, transposed {transposed}");
    let stored = m.consts.memo.made(&what, &[&real], || {
        let rows = match transposed {
            true => (*real).clone(),
            false => HostTensor::f32(dims, qc_ir::transposed(real.as_f32().unwrap_or_default(), [s.k, s.n])),
        };
        quantized(&rows, &dims, 0).map_err(Diag::bug)
    })?;
    let [scales, tensor] = &stored[..] else { return Ok(false) };
    let format = format_of(0, scales.as_f32().unwrap_or_default().to_vec());
    let ty = TensorTy::new(Elem::Quant(m.intern_quant(format)), dims);
    let name = m.name(product.b(m)).unwrap_or("weight").to_string();
    let c = m.consts.add(&format!("{name}.q"), ty, tensor.clone());
    let (x, bias, old) = (product.a(m), product.bias(m), product.out(m));
    let attrs = Attrs::new().with("min", product.min(m)).with("max", product.max(m));
    let mut b = Builder::before(m, product.0);
    let weight: ValueId = Constant::build(&mut b, &[], Attrs::new().with("value", c))?.out(b.m);
    let new = QDynamicMatmul::build(&mut b, &[Some(x), Some(weight), bias], attrs)?.out(b.m);
    finish(m, product.0, old, new);
    Ok(true)
}

/// Puts `new` in the place of a product.
fn finish(m: &mut Module, product: OpId, old: ValueId, new: ValueId) {
    if let Some(name) = m.name(old).map(str::to_string) {
        m.set_name(new, &name);
    }
    m.replace_uses(old, new);
    m.erase(product);
}
