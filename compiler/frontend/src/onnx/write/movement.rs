//! What moves elements, or changes their type.

use super::builder::{Call, Writer, data_type};
use crate::error::Refusal;
use qc_dialects::graph::{Cast, Concat, Expand, Gather, Index, Pad, Resample, Reshape, Slice, Take, Transpose};
use qc_ir::{HostTensor, OpId, Type, Use};

pub(super) fn reshape(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, out) = (w.m, Reshape(op).out(w.m));
    let mut shape: Vec<i64> = m.dims(out).iter().map(|&d| d as i64).collect();
    if let Some(axis) = w.along(out) {
        shape[axis] = -1;
    }
    let empty = shape.contains(&0);
    let inputs = [w.operand(op, 0), w.list(shape)];
    let call = Call::new("Reshape", inputs);
    Ok(if empty { call.int("allowzero", 1) } else { call })
}

pub(super) fn transpose(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    Ok(Call::new("Transpose", w.operands(op)).ints("perm", Transpose(op).perm(w.m)))
}

/// A dim of 1 in the shape leaves that of the operand, as the batch does.
pub(super) fn expand(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, Expand(op));
    let mut shape: Vec<i64> = m.dims(view.out(m)).iter().map(|&d| d as i64).collect();
    if let Some(axis) = w.along(view.out(m)) {
        shape[axis] = 1;
    }
    let inputs = [w.operand(op, 0), w.list(shape)];
    Ok(Call::new("Expand", inputs))
}

pub(super) fn concat(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    Ok(Call::new("Concat", w.operands(op)).int("axis", Concat(op).axis(w.m)))
}

/// Dims that are whole are left out, the batch among them.
pub(super) fn slice(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, Slice(op));
    let (starts, ends, steps) = (view.starts(m), view.ends(m), view.steps(m));
    let dims = m.dims(view.x(m));
    let cut = |&d: &usize| starts[d] != 0 || ends[d] < dims[d] as i64 || steps[d] != 1;
    let axes: Vec<usize> = (0..dims.len()).filter(cut).collect();
    let x = w.operand(op, 0);
    if axes.is_empty() {
        return Ok(Call::new("Identity", [x]));
    }
    let of = |values: &[i64]| axes.iter().map(|&d| values[d]).collect::<Vec<i64>>();
    let [starts, ends, steps] = [&starts, &ends, &steps].map(|values| of(values));
    let axes: Vec<i64> = axes.iter().map(|&d| d as i64).collect();
    let inputs = [x, w.list(starts), w.list(ends), w.list(axes), w.list(steps)];
    Ok(Call::new("Slice", inputs))
}

pub(super) fn pad(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, Pad(op));
    let inputs = [w.operand(op, 0), w.list(view.pads(m)), w.number(view.value(m) as f32)];
    Ok(Call::new("Pad", inputs))
}

pub(super) fn cast(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let Type::Scalar(elem) = Cast(op).to(w.m) else { return Err(Refusal::invalid("it casts to no type of numbers")) };
    Ok(Call::new("Cast", w.operands(op)).int("to", i64::from(data_type(elem))))
}

/// Negative indices count from the end, which `Gather` knows itself; for others it is written out.
pub(super) fn index(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, Index(op));
    let out = view.out(m);
    let cast = Call::new("Cast", w.operands(op)).int("to", i64::from(data_type(m.tensor_ty(out).elem)));
    let gathers = |u: &Use| matches!(u, Use::Operand(user, 1) if m.is(*user, Gather::DEF));
    if m.uses(out).iter().all(gathers) {
        return Ok(cast);
    }
    let number = |value: i64| HostTensor::i32(Vec::new(), vec![value as i32]);
    let x = w.emit(cast);
    let [size, zero] = [view.size(m), 0].map(|value| w.literal(&number(value)));
    let from_end = w.emit(Call::new("Add", [x.clone(), size]));
    let is_negative = w.emit(Call::new("Less", [x.clone(), zero]));
    Ok(Call::new("Where", [is_negative, from_end, x]))
}

pub(super) fn gather(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    Ok(Call::new("Gather", w.operands(op)).int("axis", Gather(op).axis(w.m)))
}

pub(super) fn take(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, Take(op));
    let places = m.consts.get(view.places(m)).tensor.clone();
    let inputs = [w.operand(op, 0), w.literal(&places)];
    Ok(Call::new("Gather", inputs).int("axis", view.axis(m)))
}

/// Per axis a weighted sum of the elements that each tap takes.
pub(super) fn resample(w: &mut Writer<'_>, op: OpId) -> Result<Call, Refusal> {
    let (m, view) = (w.m, Resample(op));
    let rank = m.dims(view.x(m)).len();
    let mut x = w.operand(op, 0);
    let mut last = Call::new("Identity", [x.clone()]);
    for (i, along) in view.along(m).map_err(Refusal::invalid)?.into_iter().enumerate() {
        if i > 0 {
            x = w.emit(last);
        }
        let tap = |values: usize| (0..along.size).map(move |o| o * along.taps + values);
        let mut sum: Option<String> = None;
        let mut call = None;
        for t in 0..along.taps {
            let places: Vec<i32> = tap(t).map(|at| along.places[at]).collect();
            let weights: Vec<f32> = tap(t).map(|at| along.weights[at]).collect();
            let places = w.literal(&HostTensor::i32([places.len()], places));
            let taken = Call::new("Gather", [x.clone(), places]).int("axis", along.axis as i64);
            let product = if weights.iter().all(|&weight| weight == 1.0) {
                taken
            } else {
                let mut dims = vec![1; rank];
                dims[along.axis] = along.size;
                let inputs = [w.emit(taken), w.literal(&HostTensor::f32(dims, weights))];
                Call::new("Mul", inputs)
            };
            let next = match sum.take() {
                None => product,
                Some(sum) => {
                    let product = w.emit(product);
                    Call::new("Add", [sum, product])
                }
            };
            if t + 1 < along.taps { sum = Some(w.emit(next)) } else { call = Some(next) }
        }
        last = call.ok_or_else(|| Refusal::invalid("it has no taps"))?;
    }
    Ok(last)
}
