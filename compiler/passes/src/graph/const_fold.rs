//! Evaluates ops whose operands are all constants.
//!
//! before  %c = graph.constant() {value = @a}   %d = graph.transpose(%c) {perm = [1, 0]}
//! after   %d = graph.constant() {value = @a.1}
//!
//! A dequantized constant stays as it is: the stored integers are what integer kernels want.

use qc_dialects::graph::{Constant, Dequantize};
use qc_dialects::phase;
use qc_ir::{Attrs, Builder, Diag, HostTensor, Keeps, Module, OpId, Pass, PassCx, Traits};
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

/// Results larger than this are not folded: they would make the artefact larger than the model.
const MAX_ELEMENTS: usize = 1 << 26;

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    if matches!(m.phase, phase::LOOPS | phase::PLANNED) {
        return Ok(());
    }
    let body = m.body();
    for op in m.ops(body).to_vec() {
        cx.check_time()?;
        if let Some(results) = fold(m, op)? {
            replace(m, op, results)?;
            cx.count("folded");
        }
    }
    qc_ir::remove_dead(m, body);
    Ok(())
}

fn fold(m: &Module, op: OpId) -> Result<Option<Vec<HostTensor>>, Diag> {
    let def = m.def(op);
    let skip = def.traits.has(Traits::CONST_LIKE) || m.is(op, Dequantize::DEF) || !def.traits.has(Traits::PURE);
    let Some(eval) = def.eval.filter(|_| !skip && !m.operands(op).is_empty()) else { return Ok(None) };
    if m.results(op).iter().any(|&v| m.tensor_ty(v).len() > MAX_ELEMENTS) {
        return Ok(None);
    }
    let mut tensors = Vec::new();
    for operand in m.operands(op) {
        match operand.map(|v| super::constant(m, v)) {
            None => tensors.push(None),
            Some(Some(t)) => tensors.push(Some(t)),
            Some(None) => return Ok(None),
        }
    }
    let args: Vec<Option<&HostTensor>> = tensors.iter().map(Option::as_deref).collect();
    eval(m, op, &args).map(Some).map_err(|e| Diag::error(format!("{}: {e}", def.name)).at(m.loc(op)))
}

fn replace(m: &mut Module, op: OpId, results: Vec<HostTensor>) -> Result<(), Diag> {
    for (v, tensor) in m.results(op).to_vec().into_iter().zip(results) {
        let ty = m.tensor_ty(v).clone();
        let name = m.name(v).unwrap_or("folded").to_string();
        let c = m.consts.add(&name, ty, Arc::new(tensor));
        let made = Constant::build(&mut Builder::before(m, op), &[], Attrs::new().with("value", c))?;
        let new = made.out(m);
        m.set_name(new, &name);
        m.replace_uses(v, new);
    }
    m.erase(op);
    Ok(())
}
