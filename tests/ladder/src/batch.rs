//! A module in text form at another batch size, so that a file test covers the code of every batch.
//!
//! Shapes have the batch in front. Multiplying it changes the arguments, the numbers in reshapes and slices that hold
//! it, and then every result type, which the declarations of the ops infer again.

use qc_dialects::graph::{Concat, ReduceMean, Reshape, Scan, Slice, Softmax};
use qc_ir::{Module, OpId, RegionId, Type, ValueId};

/// `m` with `times` its batch; `None` when an op of it does not treat items alike.
pub fn times(m: &Module, times: usize) -> Option<Module> {
    let mut out = signature(m, times);
    let body = out.body();
    scale_region(&mut out, body, times)?;
    let scaled = |v: &ValueId| out.dims(*v).first().copied() == m.dims(*v).first().map(|d| d * times);
    out.returns(out.body()).iter().all(scaled).then_some(out)
}

/// Infers the types of all ops of a region again.
fn scale_region(out: &mut Module, region: RegionId, times: usize) -> Option<()> {
    for op in out.ops(region).to_vec() {
        if out.operands(op).is_empty() {
            continue;
        }
        scale_attributes(out, op, times)?;
        if let Some(scan) = Scan::of(out, op) {
            let ([states, sequences], body) = (scan.counts(out), scan.body(out));
            for (i, (v, arg)) in scan.operands(out).into_iter().zip(out.args(body).to_vec()).enumerate() {
                let mut t = out.tensor_ty(v).clone();
                if (states..states + sequences).contains(&i) {
                    t.dims = t.dims[1..].into();
                }
                out.set_type(arg, Type::Tensor(t));
            }
            scale_region(out, body, times)?;
        }
        let types = (out.def(op).infer?)(out, op).ok()?;
        for (v, ty) in out.results(op).to_vec().into_iter().zip(types) {
            let (old, new) = (out.ty(v).tensor()?, ty.tensor()?);
            // What is computed from constants alone keeps its shape.
            let differ: Vec<usize> = (0..old.dims.len()).filter(|&d| old.dims[d] != new.dims[d]).collect();
            let scaled = matches!(differ[..], [d] if old.dims[d] * times == new.dims[d]);
            (old.dims.len() == new.dims.len() && (differ.is_empty() || scaled)).then_some(())?;
            out.set_type(v, ty);
        }
    }
    Some(())
}

/// The signature of `m` with `times` its batch: what seeded inputs are made from.
pub fn signature(m: &Module, times: usize) -> Module {
    let mut wide = m.clone();
    for &v in m.args(m.body()) {
        let mut t = m.tensor_ty(v).clone();
        if let Some(batch) = t.dims.first_mut() {
            *batch *= times;
        }
        wide.set_type(v, Type::Tensor(t));
    }
    wide
}

/// Puts the new batch into the attributes that hold the old one; whether operand 0 has it is seen by comparing sizes.
fn scale_attributes(m: &mut Module, op: OpId, times: usize) -> Option<()> {
    let x = m.operand(op, 0)?;
    let dims = m.dims(x).to_vec();
    let batch = *dims.first().unwrap_or(&1) as i64;
    if let Some(reshape) = Reshape::of(m, op) {
        let mut shape = reshape.shape(m).to_vec();
        let wanted: usize = dims.iter().product();
        let now: usize = shape.iter().map(|&d| d as usize).product();
        if now * times == wanted {
            *shape.first_mut()? *= times as i64;
            m.set_attr(op, "shape", shape);
        }
    } else if let Some(slice) = Slice::of(m, op) {
        let (starts, mut ends, steps) = (slice.starts(m).to_vec(), slice.ends(m).to_vec(), slice.steps(m).to_vec());
        if ends.first()? * times as i64 == batch {
            (starts[0] == 0 && steps[0] == 1).then_some(())?;
            ends[0] = batch;
            m.set_attr(op, "ends", ends);
        }
    } else if let Some(c) = Concat::of(m, op) {
        (c.axis(m) != 0).then_some(())?;
    } else if let Some(s) = Softmax::of(m, op) {
        (s.axis(m) != 0).then_some(())?;
    } else if let Some(r) = ReduceMean::of(m, op) {
        (!r.axes(m).contains(&0)).then_some(())?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::times;
    use qc_compiler::REGISTRY;
    use std::collections::HashMap;

    fn at(body: &str) -> Option<Vec<Vec<usize>>> {
        let text = format!(
            "module \"m\" phase canonical\nfunc @main(%x : tensor<2x4x3xf32>) outputs [\"y\"] {{\n{body}\n  return(%y)\n}}\n"
        );
        let m = qc_ir::parse(&text, &REGISTRY, &HashMap::new()).unwrap();
        let wide = times(&m, 3)?;
        assert!(qc_ir::verify(&wide, &REGISTRY).is_empty());
        Some(wide.returns(wide.body()).iter().map(|&v| wide.dims(v).to_vec()).collect())
    }

    #[test]
    fn every_item_gets_the_same() {
        assert_eq!(at("  %y = graph.reshape(%x) {shape = [2, 12]}"), Some(vec![vec![6, 12]]));
        let slice = "  %y = graph.slice(%x) {starts = [0, 1, 0], ends = [2, 3, 3], steps = [1, 1, 1]}";
        assert_eq!(at(slice), Some(vec![vec![6, 2, 3]]));
        assert_eq!(at("  %s = graph.softmax(%x) {axis = 1}\n  %y = graph.add(%s, %x)"), Some(vec![vec![6, 4, 3]]));
    }

    #[test]
    fn ops_across_items_have_no_other_batch() {
        assert_eq!(at("  %y = graph.softmax(%x) {axis = 0}"), None);
        assert_eq!(at("  %y = graph.transpose(%x) {perm = [1, 0, 2]}"), None);
        let slice = "  %y = graph.slice(%x) {starts = [1, 0, 0], ends = [2, 4, 3], steps = [1, 1, 1]}";
        assert_eq!(at(slice), None);
    }
}
