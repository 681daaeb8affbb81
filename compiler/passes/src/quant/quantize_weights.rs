//! Stores the weights of products and the tables of embeddings as s8, and computes in f32: a quarter of the memory, which is
//! what binds a product with few rows.
//!
//! before  %y = graph.matmul(%x, @w, @b)                 %e = graph.gather(@table, %i) {axis = 0}
//! after   %y = quant.float_matmul(%x, @w as s8, @b)     %e = quant.embedding(@table as s8, %i)
//!
//! Weights get one scale per output channel, tables one per row. Products of fewer than 16 terms or columns and tables of
//! fewer than 4,096 numbers stay as they are: there is nothing to win.

use super::keep_float::kept;
use super::quantize::{format_of, quantized};
use super::quantize_dynamic::{finish, obstacle, stored};
use crate::graph::constant;
use qc_dialects::graph::{Constant, Conv2d, Gather, Matmul};
use qc_dialects::phase;
use qc_dialects::quant::{QEmbedding, QFloatMatmul};
use qc_ir::{Attrs, Builder, Diag, Elem, Keeps, Module, Pass, PassCx, TensorTy, ValueId};

/// The pass.
pub const PASS: Pass = Pass {
    name: "quantize-weights",
    summary: "stores weights of products and tables as s8, and computes in f32",
    from: phase::FUSED,
    to: phase::FUSED,
    keeps: Keeps::Decibels(12.0),
    run,
};

/// What becomes of an op that this pass replaces.
pub const STORED: &str = "only its constants are stored as s8";

/// The fewest numbers of a table that is stored as s8.
const LEAST_TABLE: usize = 4096;

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    for op in m.walk(m.body()) {
        cx.check_time()?;
        if kept(m, op).is_some() {
            continue;
        }
        if let Some(product) = Matmul::of(m, op) {
            match obstacle(m, product) {
                Some(why) => cx.remark(m.loc(op), why),
                None => {
                    cx.remark(m.loc(op), STORED);
                    cx.count(stored(m, product, QFloatMatmul::DEF)?);
                }
            }
        } else if let Some(gather) = Gather::of(m, op) {
            let loc = m.loc(op);
            if replace_table(m, gather)? {
                cx.remark(loc, STORED);
                cx.count("tables");
            }
        } else if Conv2d::of(m, op).is_some() {
            cx.remark(m.loc(op), "only weights of products and tables are stored as s8");
        }
    }
    for region in m.regions_in(m.body()) {
        qc_ir::remove_dead(m, region);
    }
    Ok(())
}

/// Makes the embedding of a gather from a large constant table of floats; says whether it did.
fn replace_table(m: &mut Module, gather: Gather) -> Result<bool, Diag> {
    let Some(real) = constant(m, gather.x(m)).filter(|t| t.as_f32().is_some() && t.len() >= LEAST_TABLE) else {
        return Ok(false);
    };
    let dims = real.dims().to_vec();
    if gather.axis(m) != 0 || dims.len() < 2 {
        return Ok(false);
    }
    let made = m.consts.memo.made("quantize rows", &[&real], || quantized(&real, &dims, 0).map_err(Diag::bug))?;
    let [scales, tensor] = &made[..] else { return Ok(false) };
    let format = format_of(0, scales.as_f32().unwrap_or_default().to_vec());
    let ty = TensorTy::new(Elem::Quant(m.intern_quant(format)), dims);
    let name = m.name(gather.x(m)).unwrap_or("table").to_string();
    let c = m.consts.add(&format!("{name}.q"), ty, tensor.clone());
    let (indices, old) = (gather.indices(m), gather.out(m));
    let mut b = Builder::before(m, gather.0);
    let table: ValueId = Constant::build(&mut b, &[], Attrs::new().with("value", c))?.out(b.m);
    let new = QEmbedding::build(&mut b, &[Some(table), Some(indices)], Attrs::new())?.out(b.m);
    finish(m, gather.0, old, new);
    Ok(true)
}
