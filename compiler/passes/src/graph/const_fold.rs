//! Evaluates ops whose operands are all constants.
//!
//! before  %c = graph.constant() {value = @a}   %d = graph.transpose(%c) {perm = [1, 0]}
//! after   %d = graph.constant() {value = @a.1}
//!
//! A dequantized constant stays as it is: the stored integers are what integer kernels want, and movement of it goes on with
//! them. An op that computes with dequantized constants only is computed. What folding makes and how much it computes is in
//! proportion to the constants that are there; what goes beyond stays an op of the model.

use qc_dialects::graph::quantize::dequantize_tensor;
use qc_dialects::graph::{AvgPool, Constant, Conv2d, Dequantize, Matmul, MaxPool, Quantize};
use qc_dialects::phase;
use qc_ir::{Attr, Attrs, Builder, Diag, HostTensor, Keeps, Module, OpId, Pass, PassCx, Traits, Use, ValueId};
use std::sync::Arc;

/// The pass.
pub const PASS: Pass = Pass {
    name: "const-fold",
    summary: "evaluates ops whose operands are all constants",
    from: "",
    to: "",
    keeps: Keeps::Exact,
    run,
};

/// Bytes that folding may make besides a multiple of the constants.
const BASE_BYTES: usize = 4 << 20;
/// The multiple.
const BYTES_PER_BYTE: usize = 4;
/// Elementary operations that folding may take besides a multiple of the constants' elements.
const BASE_WORK: usize = 1 << 25;
/// The multiple.
const WORK_PER_BYTE: usize = 16;

/// What folding may still cost.
struct Budget {
    bytes: usize,
    work: usize,
}

impl Budget {
    fn of(m: &Module) -> Budget {
        let constants: usize = m.consts.iter().map(|c| c.tensor.len() * m.elem_bytes(c.tensor.data().elem())).sum();
        let of = |base: usize, factor: usize| constants.saturating_mul(factor).saturating_add(base);
        Budget { bytes: of(BASE_BYTES, BYTES_PER_BYTE), work: of(BASE_WORK, WORK_PER_BYTE) }
    }

    /// Takes what an op costs; false when that is not left.
    fn take(&mut self, m: &Module, op: OpId) -> bool {
        let len = |v: &ValueId| m.tensor_ty(*v).dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
        let made = m.results(op).iter().map(len).try_fold(0usize, |a, n| a.checked_add(n?));
        let bytes = made.and_then(|n| n.checked_mul(4));
        let work = made.and_then(|n| n.checked_mul(work_per_element(m, op)));
        match (bytes, work) {
            (Some(bytes), Some(work)) if bytes <= self.bytes && work <= self.work => {
                self.bytes -= bytes;
                self.work -= work;
                true
            }
            _ => false,
        }
    }
}

/// Elementary operations for one element of the result.
fn work_per_element(m: &Module, op: OpId) -> usize {
    if let Some(conv) = Conv2d::of(m, op) {
        m.dims(conv.weight(m))[1..].iter().product()
    } else if let Some(product) = Matmul::of(m, op) {
        product.shape(m).map_or(usize::MAX, |s| s.k)
    } else if let Some(shape) = MaxPool::of(m, op).map(|p| p.shape(m)).or(AvgPool::of(m, op).map(|p| p.shape(m))) {
        shape.map_or(usize::MAX, |s| s.kernel[0].saturating_mul(s.kernel[1]))
    } else {
        // Reductions read the whole operand for an element; everything else reads a few elements.
        let read = m.operands(op).iter().flatten().map(|&v| m.tensor_ty(v).len()).max().unwrap_or(0);
        1 + read / m.tensor_ty(m.result(op)).len().max(1)
    }
    .max(1)
}

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    if matches!(m.phase, phase::LOOPS | phase::PLANNED) {
        return Ok(());
    }
    let mut budget = Budget::of(m);
    for op in m.walk(m.body()) {
        cx.check_time()?;
        if let Some(results) = fold(m, op, &mut budget)? {
            replace(m, op, results)?;
            cx.count("folded");
        }
    }
    for region in m.regions_in(m.body()) {
        qc_ir::remove_dead(m, region);
    }
    Ok(())
}

fn fold(m: &Module, op: OpId, budget: &mut Budget) -> Result<Option<Vec<Arc<HostTensor>>>, Diag> {
    let def = m.def(op);
    let skip = def.traits.has(Traits::CONST_LIKE) || m.is(op, Dequantize::DEF) || !def.traits.has(Traits::PURE);
    let Some(eval) = def.eval.filter(|_| !skip && !m.operands(op).is_empty()) else { return Ok(None) };
    let mut tensors = Vec::new();
    // What moves between a stored constant and a quantize keeps the integers either way.
    let stays = def.traits.has(Traits::MOVEMENT) && !only_quantized(m, m.result(op));
    for operand in m.operands(op) {
        let real = |v: ValueId| if stays { super::constant(m, v) } else { real_constant(m, v) };
        match operand.map(real) {
            None => tensors.push(None),
            Some(Some(t)) => tensors.push(Some(t)),
            Some(None) => return Ok(None),
        }
    }
    if !budget.take(m, op) {
        return Ok(None);
    }
    let args: Vec<Option<&HostTensor>> = tensors.iter().map(Option::as_deref).collect();
    let types: Vec<String> = m.results(op).iter().map(|&v| format!("{:?} {:?}", m.ty(v), m.quant_of(v))).collect();
    let places: Vec<bool> = tensors.iter().map(Option::is_some).collect();
    // Ids in attributes are those of this module, so what has one is not the same op elsewhere.
    let local = m.attrs(op).iter().any(|(_, a)| matches!(a, Attr::Const(_) | Attr::Quant(_) | Attr::Type(_)));
    let made = || eval(m, op, &args).map_err(|e| Diag::error(format!("{}: {e}", def.name)).at(m.loc(op)));
    if local {
        return made().map(|all| Some(all.into_iter().map(Arc::new).collect()));
    }
    let what = format!("{} {:?} {places:?} {types:?}", def.name, m.attrs(op));
    let from: Vec<&Arc<HostTensor>> = tensors.iter().flatten().collect();
    m.consts.memo.made(&what, &from, made).map(Some)
}

/// The tensor of a constant, dequantized if it is a stored one.
fn real_constant(m: &Module, v: ValueId) -> Option<Arc<HostTensor>> {
    let Some(dequantize) = Dequantize::producing(m, v) else { return super::constant(m, v) };
    let stored = dequantize.q(m);
    let (format, tensor) = (m.quant_of(stored)?, super::constant(m, stored)?);
    let what = format!("dequantize {format:?}");
    Some(m.consts.memo.one(&what, &tensor, || dequantize_tensor(format, &tensor)))
}

/// Whether nothing but quantizes read a value.
fn only_quantized(m: &Module, v: ValueId) -> bool {
    m.uses(v).iter().all(|u| matches!(u, Use::Operand(reader, _) if m.is(*reader, Quantize::DEF)))
}

fn replace(m: &mut Module, op: OpId, results: Vec<Arc<HostTensor>>) -> Result<(), Diag> {
    for (v, tensor) in m.results(op).to_vec().into_iter().zip(results) {
        let ty = m.tensor_ty(v).clone();
        let name = m.name(v).unwrap_or("folded").to_string();
        let c = m.consts.add(&name, ty, tensor);
        let made = Constant::build(&mut Builder::before(m, op), &[], Attrs::new().with("value", c))?;
        let new = made.out(m);
        m.set_name(new, &name);
        m.replace_uses(v, new);
    }
    m.erase(op);
    Ok(())
}
