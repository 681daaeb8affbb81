//! Element-wise ops on floats, integers and truth values; clamps.

use super::builder::{Call, Writer};
use crate::error::Refusal;
use qc_dialects::graph::{Clamp, Compare, IntBinary};
use qc_ir::{Elem, OpId};

/// An operator that has the op's operands and no attributes.
pub(super) fn named(op_type: &'static str, w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    Ok(Call::new(op_type, w.operands(op)))
}

/// The rest of a division that rounds towards 0, as C has it.
pub(super) fn rem(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    Ok(Call::new("Mod", w.operands(op)).int("fmod", 1))
}

pub(super) fn clamp(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let bounds = Clamp::of(w.m, op).map_or(UNBOUNDED, |clamp| clamp.bounds(w.m).map(f64::from));
    let x = w.operand(op, 0);
    Ok(bounded(w, x, bounds))
}

const UNBOUNDED: [f64; 2] = [f64::NEG_INFINITY, f64::INFINITY];

/// A value between bounds, those of an infinity being none.
pub(super) fn bounded(w: &mut Writer<'_>, x: String, [min, max]: [f64; 2]) -> Call {
    let [low, high] = [min > f64::NEG_INFINITY, max < f64::INFINITY];
    if !low && !high {
        return Call::new("Identity", [x]);
    }
    if !high && min == 0.0 {
        return Call::new("Relu", [x]);
    }
    let mut bound = |is: bool, value: f64| if is { w.number(value as f32) } else { String::new() };
    let inputs = [x, bound(low, min), bound(high, max)];
    let given = if high { 3 } else { 2 };
    Call::new("Clip", &inputs[..given])
}

/// What a node gives, between bounds.
pub(super) fn clamped(w: &mut Writer<'_>, call: Call, bounds: [f64; 2]) -> Call {
    if bounds == UNBOUNDED {
        return call;
    }
    let x = w.emit(call);
    bounded(w, x, bounds)
}

pub(super) fn compare(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let op_type = match &*Compare(op).op(w.m) {
        "eq" => "Equal",
        "lt" => "Less",
        "le" => "LessOrEqual",
        other => return Err(Refusal::unsupported(format!("the relation `{other}` is not written to ONNX"))),
    };
    named(op_type, w, op)
}

/// Sums, products and the like of integers; quotients are left out, since engines do not agree on those by 0, and so are
/// operators on bits, which came with version 18.
pub(super) fn int_binary(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let m = w.m;
    let truth = m.tensor_ty(m.result(op)).elem == Elem::Bool;
    let op_type = match (&*IntBinary(op).op(m), truth) {
        ("add", false) => "Add",
        ("sub", false) => "Sub",
        ("mul", false) => "Mul",
        ("max", false) => "Max",
        ("min", false) => "Min",
        ("and", true) => "And",
        ("or", true) => "Or",
        ("xor", true) => "Xor",
        ("rem", false) => return rem(w, op),
        (other, _) => {
            return Err(Refusal::unsupported(format!("`{other}` of integers is not written to ONNX")).remedy(
                "compile the model with `qc compile`, which has this op, or cut it off where this node begins",
            ));
        }
    };
    named(op_type, w, op)
}
