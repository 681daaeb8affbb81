//! Makes float products of integer ones in formats that are found in a run, for `--precision fp32`.
//!
//! before  %r = graph.mul(graph.cast(..graph.integer_matmul(graph.dynamic_quantize(%x), @w)..), ..)
//! after   %r = graph.matmul(%x, @w as f32) {transpose_b = true}
//!
//! The chain is that of `raise-dynamic`. A product that is written otherwise stays in integers.

use super::raise_dynamic::Written;
use crate::graph::{add_f32, constant};
use qc_dialects::graph::quantize::dequantize_tensor;
use qc_dialects::graph::{Conv2d, Matmul, Mul};
use qc_ir::{Attrs, Diag, Keeps, Module, OpId, Pass, PassCx, Pattern, Rewriter};

/// The pass.
pub const PASS: Pass = Pass {
    name: "strip-dynamic",
    summary: "makes float products of integer ones in formats that are found in a run",
    from: "",
    to: "",
    keeps: Keeps::Decibels(12.0),
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    cx.rewrite(m, &[Pattern { name: "product", root: Mul::DEF, apply: product }])
}

fn product(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let written = Written::of(rw.m, op)?;
    let (stored, format) = (constant(rw.m, written.weight)?, written.format(rw.m)?);
    (rw.m.dims(written.x).len() >= 2).then_some(())?;
    let real = dequantize_tensor(&format, &stored);
    let name = rw.m.name(written.weight).unwrap_or("weight").to_string();
    let weight = add_f32(rw, &name, stored.dims(), real.as_f32()?.to_vec())?;
    let operands = [Some(written.x), Some(weight), None, None];
    let loc = rw.fuse_locs(&written.ops);
    let new = match written.conv {
        Some(geometry) => rw.create_at(op, loc, Conv2d::DEF, &operands, geometry)?,
        None => {
            let attrs = Attrs::new().with("transpose_b", true);
            rw.create_at(op, loc, Matmul::DEF, &operands[..3], attrs)?
        }
    };
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}
