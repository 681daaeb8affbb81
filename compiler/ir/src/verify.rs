//! The verifier. What holds for every module that passes:
//!
//! - every op has the operands and attributes its declaration asks for, and no others (optional operands at the end may be
//!   left out), each operand of the class and rank that its slot states;
//! - its result types are those that inference gives;
//! - its own verifier agrees;
//! - operands are defined before their use, in the same region or one around it;
//! - use lists and operand lists agree;
//! - constants hold as many elements as their type says, stored as it says;
//! - only dialects and kinds of types of the module's phase appear, and the phase's own check agrees.
//!
//! It reports all errors, not the first.

use crate::class::Kind;
use crate::consts::Const;
use crate::diag::Diag;
use crate::id::{OpId, RegionId, ValueId};
use crate::module::{Module, Use, ValueDef};
use crate::opdef::{PhaseDef, Registry, SlotKind};
use crate::types::{TensorTy, Type};
use std::collections::HashSet;

/// Checks a module; an empty list means it is valid.
pub fn verify(m: &Module, registry: &Registry) -> Vec<Diag> {
    let mut errors = Vec::new();
    if m.main().is_none() {
        errors.push(Diag::error("the module has no function"));
    }
    for (_, func) in m.funcs() {
        let mut seen = HashSet::new();
        verify_region(m, func.body, &mut seen, &mut errors);
    }
    errors.extend(m.consts.iter().filter_map(|c| check_const(m, c).err()));
    match registry.phase(m.phase) {
        None => errors.push(Diag::bug(format!("unknown phase `{}`", m.phase))),
        Some(phase) => {
            for (_, func) in m.funcs() {
                verify_phase(m, phase, func.body, &mut errors);
            }
            if errors.is_empty() {
                errors.extend((phase.verify)(m));
            }
        }
    }
    errors
}

/// A constant's elements are those of its type.
fn check_const(m: &Module, c: &Const) -> Result<(), Diag> {
    let (stored, dims) = (c.tensor.data().elem(), c.tensor.dims());
    if stored == m.storage(c.ty.elem) && *dims == *c.ty.dims {
        return m
            .check_format(&Type::Tensor(c.ty.clone()))
            .map_err(|e| Diag::error(format!("constant {}: {e}", c.name)));
    }
    let ty = |t: TensorTy| crate::print::ty(m, &Type::Tensor(t));
    let (stated, found) = (ty(c.ty.clone()), ty(TensorTy::new(stored, dims)));
    Err(Diag::error(format!("constant {}: its type is {stated}, its elements are {found}", c.name)))
}

/// Only dialects and kinds of types of the phase appear in a function.
fn verify_phase(m: &Module, phase: &PhaseDef, body: RegionId, errors: &mut Vec<Diag>) {
    let foreign = |v: &ValueId| Some(Kind::of(m.ty(*v))).filter(|kind| !phase.kinds.contains(kind));
    if let Some(kind) = m.args(body).iter().find_map(foreign) {
        errors.push(Diag::error(format!("{} may not be arguments in phase `{}`", kind.plural(), phase.name)));
    }
    for op in m.walk(body) {
        let mut fail = |text: String| errors.push(Diag::error(text).at(m.loc(op)));
        let name = m.def(op).name;
        if !phase.dialects.contains(&m.def(op).dialect()) {
            fail(format!("{name} may not appear in phase `{}`", phase.name));
            continue;
        }
        let inner = m.regions(op).iter().flat_map(|&r| m.args(r));
        if let Some(kind) = m.results(op).iter().chain(inner).find_map(foreign) {
            fail(format!("{name}: {} may not appear in phase `{}`", kind.plural(), phase.name));
        }
    }
}

fn verify_region(m: &Module, region: RegionId, seen: &mut HashSet<ValueId>, errors: &mut Vec<Diag>) {
    let mut local: Vec<ValueId> = m.args(region).to_vec();
    seen.extend(local.iter().copied());
    for &op in m.ops(region) {
        let mut fail = |message: String| {
            errors.push(Diag::error(format!("{}: {message}", m.def(op).name)).at(m.loc(op)));
        };
        for (i, v) in m.operands(op).iter().enumerate() {
            let Some(v) = *v else { continue };
            if !seen.contains(&v) {
                fail(format!("operand {i} is used before it is defined"));
            }
            if !m.is_listed(v, Use::Operand(op, i)) {
                fail(format!("operand {i} is missing from its use list"));
            }
        }
        if let Err(message) = check_signature(m, op).and_then(|()| check_types(m, op)).and_then(|()| check_op(m, op)) {
            fail(message);
        }
        for &inner in m.regions(op) {
            verify_region(m, inner, seen, errors);
        }
        for (i, &v) in m.results(op).iter().enumerate() {
            if m.value_def(v) != ValueDef::Result(op, i) {
                errors.push(Diag::bug(format!("{}: result {i} has another definition", m.def(op).name)));
            }
            seen.insert(v);
            local.push(v);
        }
    }
    for &v in m.returns(region) {
        if !seen.contains(&v) {
            errors.push(Diag::error("a returned value is not defined in the region"));
        }
    }
    let returned = m.returns(region).iter().enumerate();
    let listed = returned.into_iter().all(|(i, &v)| m.is_listed(v, Use::Return(region, i)));
    if !listed || local.iter().any(|&v| m.uses(v).iter().any(|&used| !is_use(m, v, used))) {
        errors.push(Diag::bug("a use list and what uses the value do not agree"));
    }
    for v in local {
        seen.remove(&v);
    }
}

/// Whether what a use says is so.
fn is_use(m: &Module, v: ValueId, used: Use) -> bool {
    let there = match used {
        Use::Operand(op, i) => m.operands(op).get(i).copied().flatten(),
        Use::Return(region, i) => m.returns(region).get(i).copied(),
    };
    there == Some(v)
}

/// Operand count and types, attribute names and kinds.
pub(crate) fn check_signature(m: &Module, op: OpId) -> Result<(), String> {
    let def = m.def(op);
    let operands = m.operands(op);
    let variadic = def.operands.last().is_some_and(|s| s.kind == SlotKind::Variadic);
    let fixed = def.operands.len() - usize::from(variadic);
    // Optional operands at the end may be left out.
    let last = def.operands[..fixed].iter().rposition(|s| s.kind != SlotKind::Optional);
    let least = if variadic { fixed } else { last.map_or(0, |last| last + 1) };
    if operands.len() < least || (!variadic && operands.len() > fixed) {
        return Err(format!("takes {fixed} operands, not {}", operands.len()));
    }
    for (i, v) in operands.iter().enumerate() {
        let slot = def.operands[i.min(def.operands.len() - 1)];
        match *v {
            None if slot.kind != SlotKind::Optional => return Err(format!("operand `{}` is missing", slot.name)),
            Some(v) if !slot.accepts(m, m.ty(v)) => {
                let ty = crate::print::ty(m, m.ty(v));
                return Err(format!("operand `{}` must be {}, not {ty}", slot.name, slot.describe()));
            }
            _ => {}
        }
    }
    for (name, value) in m.attrs(op).iter() {
        let spec = def.attr(name).ok_or_else(|| format!("has no attribute `{name}`"))?;
        if value.kind() != spec.kind {
            return Err(format!("attribute `{name}` must be {:?}, not {:?}", spec.kind, value.kind()));
        }
    }
    match def.attrs.iter().find(|s| s.default.is_none() && m.attrs(op).get(s.name).is_none()) {
        Some(spec) => Err(format!("attribute `{}` is missing", spec.name)),
        None => Ok(()),
    }
}

fn check_types(m: &Module, op: OpId) -> Result<(), String> {
    let Some(infer) = m.def(op).infer else { return Ok(()) };
    let inferred = infer(m, op)?;
    let actual: Vec<_> = m.results(op).iter().map(|&v| m.ty(v).clone()).collect();
    if inferred == actual {
        return Ok(());
    }
    Err(format!(
        "result type {} differs from inferred {}",
        crate::print::types(m, &actual),
        crate::print::types(m, &inferred)
    ))
}

/// The op's own verifier.
pub(crate) fn check_op(m: &Module, op: OpId) -> Result<(), String> {
    m.def(op).verify.map_or(Ok(()), |verify| verify(m, op))
}

#[cfg(test)]
#[path = "../tests/toy/mod.rs"]
mod toy;

#[cfg(test)]
mod tests {
    use super::{toy, verify};
    use crate::module::Use;

    fn errors(m: &crate::Module) -> Vec<String> {
        verify(m, &toy::REGISTRY).into_iter().map(|d| d.message).collect()
    }

    #[test]
    fn use_lists_and_operands_agree() {
        let sound = toy::module("%a = toy.add(%x, %y)\n%b = toy.scale(%a, _)\nreturn(%b)");
        assert_eq!(errors(&sound), [""; 0]);
        let (a, b) = (toy::value(&sound, "a"), toy::op(&sound, "b"));
        let mut m = sound.clone();
        m.values[a].uses.clear();
        assert_eq!(errors(&m), ["toy.scale: operand 0 is missing from its use list"]);
        let mut m = sound;
        m.values[a].uses.push(Use::Operand(b, 1));
        assert_eq!(errors(&m), ["a use list and what uses the value do not agree"]);
        m.values[a].uses.pop();
        let b = toy::value(&m, "b");
        m.values[b].uses.clear();
        assert_eq!(errors(&m), ["a use list and what uses the value do not agree"]);
    }
}
