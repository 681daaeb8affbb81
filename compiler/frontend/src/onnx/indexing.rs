//! ONNX operators that choose by indices, or make them.

use super::node::{Lowered, Node};
use crate::emit::{Graph, Relation, Rounding, Value};
use crate::error::Refusal;
use crate::shape as resolve;
use qc_dialects::graph::IntFunction;
use qc_ir::{Elem, HostTensor, indices, strides};

type Result<T> = std::result::Result<T, Refusal>;

const KNOWN: &str = "it keeps all elements, or its result is known at import";

pub(super) fn gather(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let axis = resolve::axis(n.int("axis")?.unwrap_or(0), g.dims(x).len())?;
    Ok(Lowered::identity(g.gather(x, n.input(1)?, axis)?, KNOWN))
}

pub(super) fn gather_elements(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let axis = resolve::axis(n.int("axis")?.unwrap_or(0), g.dims(x).len())?;
    Ok(g.gather_elements(x, n.input(1)?, axis)?.into())
}

pub(super) fn gather_nd(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let batch = usize::try_from(n.int("batch_dims")?.unwrap_or(0));
    let batch = batch.map_err(|_| Refusal::invalid("batch_dims is negative"))?;
    Ok(g.gather_nd(n.input(0)?, n.input(1)?, batch)?.into())
}

/// `start, start + delta, ..` up to `limit`, known numbers of one type.
pub(super) fn range(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let number = |i: usize| -> Result<HostTensor> {
        let t = n.known(i, "the bounds")?.ok_or_else(|| Refusal::invalid(format!("input {i} is missing")))?;
        if t.len() == 1 { Ok(t.clone()) } else { Err(Refusal::invalid("a bound is no single number")) }
    };
    Ok(g.range(&number(0)?, &number(1)?, &number(2)?)?.into())
}

pub(super) fn cumsum(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    running(g, n, false)
}

pub(super) fn cumprod(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    running(g, n, true)
}

fn running(g: &mut Graph, n: &Node<'_>, product: bool) -> Result<Lowered> {
    let x = n.input(0)?;
    let axis = n.known_ints(1, "the axis")?.and_then(|a| a.first().copied());
    let axis = resolve::axis(axis.ok_or_else(|| Refusal::invalid("it has no axis"))?, g.dims(x).len())?;
    Ok(g.running(x, axis, [n.flag("exclusive", false)?, n.flag("reverse", false)?], product)?.into())
}

/// A triangle of matrices: what is on the other side of the diagonal becomes 0.
pub(super) fn triangle(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let &[.., rows, columns] = &dims[..] else { return Err(Refusal::invalid("it has no matrix")) };
    let upper = n.flag("upper", true)?;
    if let Some(k) = n.optional(1).filter(|k| k.known().is_none()) {
        return computed_triangle(g, x, k, upper);
    }
    let k = n.known_ints(1, "the diagonal")?.and_then(|k| k.first().copied()).unwrap_or(0);
    g.charge(rows.saturating_mul(columns))?;
    let inside = |i: Vec<usize>| {
        let distance = i[1] as i64 - i[0] as i64;
        if upper { distance >= k } else { distance <= k }
    };
    let mask = HostTensor::bool([rows, columns], indices(&[rows, columns]).map(inside).collect());
    let zero = g.cast(&crate::emit::scalar(0.0), g.elem(x))?;
    Ok(g.select(&mask.into(), x, &zero)?.into())
}

/// The same with a diagonal that is computed.
fn computed_triangle(g: &mut Graph, x: &Value, k: &Value, upper: bool) -> Result<Lowered> {
    let dims = g.dims(x);
    let rank = dims.len();
    let (rows, columns) = (g.along(Elem::I64, 2, 0, dims[rank - 2])?, g.along(Elem::I64, 2, 1, dims[rank - 1])?);
    let (distance, k) = (g.integers(IntFunction::Sub, &columns, &rows)?, g.reshape(k, &[])?);
    let relation = if upper { Relation::GreaterOrEqual } else { Relation::LessOrEqual };
    let mask = g.compare(relation, &distance, &k)?;
    let zero = g.cast(&crate::emit::scalar(0.0), g.elem(x))?;
    Ok(g.select(&mask, x, &zero)?.into())
}

/// 1 on a diagonal of a matrix of the shape of the input, else 0.
pub(super) fn eye_like(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let &[rows, columns] = &dims[..] else { return Err(Refusal::invalid("its input is no matrix")) };
    g.charge(rows.saturating_mul(columns).saturating_mul(4))?;
    let k = n.int("k")?.unwrap_or(0);
    let one = |i: Vec<usize>| if i[1] as i64 - i[0] as i64 == k { 1.0 } else { 0.0 };
    let eye = HostTensor::f32([rows, columns], indices(&[rows, columns]).map(one).collect());
    let elem = match n.int("dtype")? {
        Some(to) => super::tensor::stored_type(to as i32).map_err(Refusal::unsupported)?.plain(),
        None => g.elem(x),
    };
    Ok(g.cast(&eye.into(), elem)?.into())
}

/// The positions of what is not 0, a column each.
pub(super) fn non_zero(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    if let Some(t) = x.known() {
        return Ok(positions(t).into());
    }
    let dims = g.dims(x);
    let zero = g.cast(&crate::emit::scalar(0.0), g.elem(x))?;
    let mask = g.compare(Relation::Equal, x, &zero)?;
    let mask = g.not(&mask)?;
    let places = held(g, &mask)?;
    let own = strides(&dims);
    let mut columns = Vec::new();
    for (&size, &step) in dims.iter().zip(&own) {
        let [size, step] = [g.integer(Elem::I32, size as i64)?, g.integer(Elem::I32, step as i64)?];
        let column = g.quotient(Rounding::Floor, &places, &step)?;
        columns.push(g.remainder(Rounding::Floor, &column, &size)?);
    }
    let rows = g.stack(&columns)?;
    Ok(g.cast(&rows, Elem::I64)?.into())
}

/// The same of a tensor that is known.
fn positions(t: &HostTensor) -> Value {
    let is_set = |i: usize| t.as_f32().map_or_else(|| t.int(i) != Some(0), |v| v[i] != 0.0);
    let found: Vec<Vec<usize>> = indices(t.dims()).enumerate().filter(|(i, _)| is_set(*i)).map(|(_, at)| at).collect();
    let rows = (0..t.dims().len()).flat_map(|d| found.iter().map(move |at| at[d] as i64)).collect();
    HostTensor::i64([t.dims().len(), found.len()], rows).into()
}

/// The places of what holds in a mask: those that are known, or rows that a run counts.
fn held(g: &mut Graph, mask: &Value) -> Result<Value> {
    if let Some(t) = mask.known() {
        let places: Vec<i32> = (0..t.len()).filter(|&i| t.int(i) != Some(0)).map(|i| i as i32).collect();
        return Ok(HostTensor::i32([places.len()], places).into());
    }
    Ok(g.places_that_hold(mask)?.rows)
}

/// The parts along an axis, or the elements, for which a condition holds. What it does not reach is left out.
pub(super) fn compress(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (mut x, condition) = (n.input(0)?.clone(), n.input(1)?);
    let axis = match n.int("axis")? {
        Some(axis) => resolve::axis(axis, g.dims(&x).len())?,
        None => {
            let count = g.dims(&x).iter().product();
            x = g.reshape(&x, &[count])?;
            0
        }
    };
    let &[count] = &g.dims(condition)[..] else { return Err(Refusal::invalid("its condition is no list")) };
    let condition = g.narrow(condition, 0, 0, count.min(g.dims(&x)[axis]))?;
    let places = held(g, &condition)?;
    Ok(g.gather(&x, &places, axis)?.into())
}

/// The first `lengths[b]` steps of each item of a batch from the last to the first; those behind stay.
pub(super) fn reverse_sequence(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let (time, batch) = (n.int("time_axis")?.unwrap_or(0), n.int("batch_axis")?.unwrap_or(1));
    if dims.len() < 2 || !matches!((time, batch), (0, 1) | (1, 0)) {
        return Err(Refusal::invalid(format!("time along dim {time} and batch along dim {batch} of {dims:?}")));
    }
    let lengths = n.input(1)?;
    if g.dims(lengths) != [dims[batch as usize]] {
        return Err(Refusal::invalid(format!("its lengths have shape {:?}", g.dims(lengths))));
    }
    Ok(g.reversed_steps(x, lengths, [time as usize, batch as usize])?.into())
}

/// `values[1]` where a class is, `values[0]` elsewhere, along a new axis of `depth`.
pub(super) fn one_hot(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = g.cast(n.input(0)?, Elem::I64)?;
    let depth = n.known_number(1, "the depth")?.unwrap_or(0.0) as usize;
    let values = n.input(2)?;
    let mut dims = g.dims(&x);
    let axis = resolve::axis(n.int("axis")?.unwrap_or(-1), dims.len() + 1)?;
    dims.insert(axis, 1);
    let x = g.reshape(&x, &dims)?;
    let mut classes = vec![1; dims.len()];
    classes[axis] = depth;
    g.charge(8usize.saturating_mul(depth))?;
    let depth_of = |v: i64| HostTensor::i64(Vec::new(), vec![v]).into();
    let below = g.compare(Relation::Less, &x, &depth_of(0))?;
    let counted = g.integers(IntFunction::Add, &x, &depth_of(depth as i64))?;
    let x = g.select(&below, &counted, &x)?;
    let classes = HostTensor::i64(classes, (0..depth as i64).collect()).into();
    let hit = g.compare(Relation::Equal, &x, &classes)?;
    let (off, on) = (g.narrow(values, 0, 0, 1)?, g.narrow(values, 0, 1, 2)?);
    Ok(g.select(&hit, &on, &off)?.into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, bytes, floats, int, longs};
    use crate::Options;
    use qc_ir::{HostTensor, Store, indices};

    #[test]
    fn tables_of_signed_bytes_are_read_as_activations_are() {
        let model = Model::new(13, &[2])
            .constant(bytes("table", 3, &[3, 2], &[-128, 127, 0, 1, -5, 9]))
            .constant(floats("scale", &[], &[0.5]))
            .constant(bytes("zero", 3, &[], &[-3]))
            .node("DequantizeLinear", "table scale zero > rows", &[])
            .node("Cast", "x > ids", &[int("to", 7)])
            .node("Gather", "rows ids > y", &[]);
        assert_eq!(model.run(&[2.0, 0.0]), (vec![2, 2], vec![-1.0, 6.0, -62.5, 65.0]));
        let m = model.import(&Default::default()).unwrap().module;
        let formats = m.ops(m.body()).iter().flat_map(|&op| m.results(op)).filter_map(|&v| m.quant_of(v));
        let stores: Vec<Store> = formats.map(|q| q.store).collect();
        assert_eq!(stores, [Store::U8, Store::U8]);
    }

    /// The rows of an output that a run counts, cut by their number.
    fn filled(model: &Model, x: &[f32]) -> (Vec<usize>, Vec<i64>) {
        let imported = model.import(&Options::default()).unwrap();
        let counted = imported.outputs[0].counted.expect("its rows are counted");
        let x = HostTensor::f32(imported.inputs[0].dims.clone(), x.to_vec());
        let out = qc_dialects::interpret(&imported.module, &[x]).unwrap();
        let count = out[counted.by].int(0).unwrap() as usize;
        let mut dims = out[0].dims().to_vec();
        let kept = |at: &[usize]| at[counted.axis] < count;
        let ints =
            (0..out[0].len()).zip(indices(&dims)).filter(|(_, at)| kept(at)).map(|(i, _)| out[0].int(i).unwrap());
        let ints = ints.collect();
        dims[counted.axis] = count;
        (dims, ints)
    }

    #[test]
    fn positions_of_what_a_run_computes_are_counted() {
        let model = Model::new(13, &[2, 3]).node("NonZero", "x > y", &[]);
        let some = filled(&model, &[0.0, 2.0, 0.0, f32::NAN, 0.0, -1.0]);
        assert_eq!(some, (vec![2, 3], vec![0, 1, 1, 1, 0, 2]));
        assert_eq!(filled(&model, &[0.0; 6]), (vec![2, 0], vec![]));
        assert_eq!(filled(&model, &[1.0; 6]), (vec![2, 6], vec![0, 0, 0, 1, 1, 1, 0, 1, 2, 0, 1, 2]));
    }

    #[test]
    fn rows_for_which_a_condition_holds_are_kept() {
        let ones = Model::new(13, &[4, 2]).constant(floats("one", &[1], &[1.0])).constant(longs("columns", &[0]));
        let model = ones
            .node("Gather", "x columns > first", &[int("axis", 1)])
            .node("Squeeze", "first columns1 > list", &[])
            .constant(longs("columns1", &[1]))
            .node("Greater", "list one > keep", &[])
            .node("Cast", "x > whole", &[int("to", 7)])
            .node("Compress", "whole keep > y", &[int("axis", 0)]);
        let rows = [2.0, 3.0, 0.0, 5.0, 1.0, 7.0, 9.0, 8.0];
        assert_eq!(filled(&model, &rows), (vec![2, 2], vec![2, 3, 9, 8]));
        assert_eq!(filled(&model, &[0.0; 8]), (vec![0, 2], vec![]));
    }
}
