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
use qc_dialects::graph::{Constant, Conv2d, Matmul};
use qc_dialects::phase;
use qc_dialects::quant::QDynamicMatmul;
use qc_dialects::quant::product::LONGEST_SUM;
use qc_ir::{Attrs, Builder, Diag, Elem, HostTensor, Keeps, Module, OpDef, OpId, Pass, PassCx, TensorTy, ValueId};

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
    for op in m.walk(m.body()) {
        cx.check_time()?;
        if kept(m, op).is_some() {
            continue;
        }
        if Conv2d::of(m, op).is_some() {
            cx.remark(m.loc(op), "only products are quantized by the ranges of a run; calibrate for convolutions");
        }
        let Some(product) = Matmul::of(m, op) else { continue };
        let long = product.shape(m).is_ok_and(|s| s.k > LONGEST_SUM);
        match obstacle(m, product).or_else(|| long.then_some("its sums could overflow 32 bits")) {
            Some(why) => cx.remark(m.loc(op), why),
            None => cx.count(stored(m, product, QDynamicMatmul::DEF)?),
        }
    }
    for region in m.regions_in(m.body()) {
        qc_ir::remove_dead(m, region);
    }
    Ok(())
}

/// Why a product does not get constant weights of s8 with a scale per column.
pub(super) fn obstacle(m: &Module, product: Matmul) -> Option<&'static str> {
    let known = |v: ValueId| constant(m, v).is_some_and(|t| t.as_f32().is_some());
    let finite = |v: ValueId| constant(m, v).and_then(|t| Some(t.as_f32()?.iter().all(|w| w.is_finite())));
    let (b, shape) = (product.b(m), product.shape(m).ok()?);
    match () {
        () if !known(b) => Some("both of its sides are computed"),
        () if m.dims(b).len() != 2 || product.transpose_a(m) => Some("its weights are no single matrix for all rows"),
        () if !product.bias(m).is_none_or(known) => Some("its bias is computed"),
        () if shape.k.min(shape.n) < LEAST => {
            Some("of fewer than 16 terms or columns, conversions cost more than they win")
        }
        () if finite(b) != Some(true) => Some("its weight holds numbers that are infinite or none"),
        () => None,
    }
}

/// Puts an op `def` with weights of s8 in the place of a product without an obstacle; gives what to count it as.
pub(super) fn stored(m: &mut Module, product: Matmul, def: &'static OpDef) -> Result<&'static str, Diag> {
    let Some(real) = constant(m, product.b(m)) else { return Ok("left") };
    let (s, transposed) = (product.shape(m).map_err(Diag::bug)?, product.transpose_b(m));
    let dims = [s.n, s.k];
    let what = format!("quantize columns, transposed {transposed}");
    let made = m.consts.memo.made(&what, &[&real], || {
        let rows = match transposed {
            true => (*real).clone(),
            false => HostTensor::f32(dims, qc_ir::transposed(real.as_f32().unwrap_or_default(), [s.k, s.n])),
        };
        quantized(&rows, &dims, 0).map_err(Diag::bug)
    })?;
    let [scales, tensor] = &made[..] else { return Ok("left") };
    let format = format_of(0, scales.as_f32().unwrap_or_default().to_vec());
    let ty = TensorTy::new(Elem::Quant(m.intern_quant(format)), dims);
    let name = m.name(product.b(m)).unwrap_or("weight").to_string();
    let c = m.consts.add(&format!("{name}.q"), ty, tensor.clone());
    let (x, bias, old) = (product.a(m), product.bias(m), product.out(m));
    let attrs = Attrs::new().with("min", product.min(m)).with("max", product.max(m));
    let mut b = Builder::before(m, product.0);
    let weight: ValueId = Constant::build(&mut b, &[], Attrs::new().with("value", c))?.out(b.m);
    let new = b.create(def, &[Some(x), Some(weight), bias], attrs)?;
    let new = m.result(new);
    finish(m, product.0, old, new);
    Ok("products")
}

/// Puts `new` in the place of an op.
pub(super) fn finish(m: &mut Module, op: OpId, old: ValueId, new: ValueId) {
    if let Some(name) = m.name(old).map(str::to_string) {
        m.set_name(new, &name);
    }
    m.replace_uses(old, new);
    m.erase(op);
}
