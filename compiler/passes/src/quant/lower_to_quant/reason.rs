//! Why an op is computed in f32, where nobody asked for that.

use super::{compute, dequantized, elementwise};
use crate::graph::{from_constant, is_movement};
use crate::quant::keep_float::kept;
use qc_dialects::graph::{
    ACTIVATION, Add, AvgPool, Clamp, GlobalAvgPool, LayerNorm, Linear, Lrn, MaxPool, Mul, Resample, Softmax,
    computes_nothing,
};
use qc_ir::{Elem, Module, OpDef, OpId, Traits, ValueId};

/// Why an op of a graph that `lower-to-quant` has left is float: a sentence without the op's name. `None` for ops that
/// compute nothing in f32.
pub fn why_float(m: &Module, op: OpId) -> Option<String> {
    let is = |defs: &[&'static qc_ir::OpDef]| defs.iter().any(|d| m.is(op, d));
    let real = |v: &ValueId| m.ty(*v).tensor().is_some_and(|t| t.elem == Elem::F32);
    if computes_nothing(m, op) || m.def(op).dialect() != "graph" || !m.results(op).iter().any(real) {
        return None;
    }
    let specific = match () {
        () if kept(m, op).is_some() => kept(m, op).map(str::to_string),
        () if Linear::is(m, op) => compute::obstacle(m, op),
        () if is(&[Add::DEF, Mul::DEF]) => elementwise::obstacle(m, op),
        () if is(&[Softmax::DEF, LayerNorm::DEF, Lrn::DEF]) => Some("kept in f32 for accuracy".into()),
        () if is_movement(m, op) => Some("moves f32 data".into()),
        () => None,
    };
    let has_kernel = matches!(form(m.def(op)), Form::Kernel | Form::Table);
    let name = m.def(op).name.trim_start_matches("graph.");
    Some(match specific {
        Some(reason) => reason,
        None if !has_kernel => format!("there is no integer kernel for {name}"),
        None => unquantized(m, op).unwrap_or_else(|| "its result is read in f32".into()),
    })
}

/// What becomes of an op between quantized tensors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A kernel for integers, or a part of one.
    Kernel,
    /// A table of 256 results.
    Table,
    /// Bytes are moved.
    Moved,
    /// It stays f32, or has nothing to do with real numbers.
    None,
}

/// The integer form of a kind of op.
pub fn form(def: &OpDef) -> Form {
    let is = |list: &[&'static OpDef]| list.iter().any(|d| d.name == def.name);
    let others = [Add::DEF, Mul::DEF, MaxPool::DEF, AvgPool::DEF, GlobalAvgPool::DEF, Resample::DEF];
    match () {
        () if is(Linear::DEFS) || is(Clamp::DEFS) || is(&others) => Form::Kernel,
        () if is(ACTIVATION) => Form::Table,
        () if def.traits.has(Traits::MOVEMENT) => Form::Moved,
        () => Form::None,
    }
}

/// Which operand that is computed has no quantized range.
fn unquantized(m: &Module, op: OpId) -> Option<String> {
    let all = m.operands(op).iter().flatten().copied();
    let v = all.into_iter().find(|&v| !from_constant(m, v) && dequantized(m, v).is_none())?;
    Some(match m.name(v) {
        Some(name) => format!("its input \"{name}\" has no quantized range"),
        None => "its input has no quantized range".into(),
    })
}
