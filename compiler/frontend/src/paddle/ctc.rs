//! `ctc_align`: the labels that are left of a best path (CTC), without repetitions and blanks.

use super::op::{Lowered, Op};
use crate::emit::ragged::Ragged;
use crate::emit::{Graph, Relation, Value, known_i64s};
use crate::error::Refusal;
use qc_dialects::graph::IntFunction;
use qc_ir::{Elem, HostTensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) fn align(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    match op.optional("InputLength") {
        Some(lengths) => padded(g, op, lengths),
        None => ragged(g, op),
    }
}

/// Whether labels are left: those that are not blank and, if repetitions merge, not those of the step before. `before` are these
/// labels, and `first` says which have none before them.
fn left(g: &mut Graph, op: &Op<'_>, x: &Value, before: &Value, first: &Value) -> Result<Value> {
    let blank = g.integer(g.elem(x), op.int("blank")?.unwrap_or(0))?;
    let is_blank = g.compare(Relation::Equal, x, &blank)?;
    let kept = g.not(&is_blank)?;
    if !op.flag("merge_repeated", true)? {
        return Ok(kept);
    }
    let same = g.compare(Relation::Equal, x, before)?;
    let other = g.not(&same)?;
    let begins = g.integers(IntFunction::Or, &other, first)?;
    g.integers(IntFunction::And, &kept, &begins)
}

/// The labels one step before, along the last dim of `x` `[.., steps]`; the first ones stay.
fn before(g: &mut Graph, x: &Value) -> Result<Value> {
    let dims = g.dims(x);
    let (axis, steps) = (dims.len() - 1, dims[dims.len() - 1]);
    let [first, all_but_last] = [g.narrow(x, axis, 0, 1)?, g.narrow(x, axis, 0, steps - 1)?];
    if steps == 1 { Ok(first) } else { g.concat(&[first, all_but_last], axis) }
}

/// Rows that a run counts, and the sequences that they are of.
fn ragged(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, r) = (op.input("Input")?, op.sequences("Input")?);
    let dims = g.dims(x);
    if dims.iter().product::<usize>() != r.rows || !matches!(g.elem(x), Elem::I32 | Elem::I64) {
        return Err(Refusal::invalid(format!("its labels have shape {dims:?}")));
    }
    let labels = g.reshape(x, &[r.rows])?;
    let (previous, first) = (before(g, &labels)?, g.edge_rows(r, false)?);
    let kept = left(g, op, &labels, &previous, &first)?;
    let places = g.places_that_hold(&kept)?;
    let rows = g.gather(&labels, &places.rows, 0)?;
    // A sequence begins behind what is left of those in front of it.
    let ones = g.cast(&kept, Elem::I32)?;
    let counted = g.running(&ones, 0, [false, false], false)?;
    let none = Value::from(HostTensor::i32([1], vec![0]));
    let counted = g.concat(&[none, counted], 0)?;
    let offsets = g.gather(&counted, &r.offsets, 0)?;
    Ok(Lowered::from(g.reshape(&rows, &[r.rows, 1])?).of(Ragged { offsets, rows: r.rows }))
}

/// Labels `[items, steps]`, of which each item has as many as its length says; what is left stands in front, then `padding_value`.
fn padded(g: &mut Graph, op: &Op<'_>, lengths: &Value) -> Result<Lowered> {
    let x = op.input("Input")?;
    let (&[items, steps], count) = (&g.dims(x)[..], g.dims(lengths).iter().product::<usize>()) else {
        return Err(Refusal::invalid(format!("its labels have shape {:?}", g.dims(x))));
    };
    if count != items || !matches!(g.elem(x), Elem::I32 | Elem::I64) {
        return Err(Refusal::invalid(format!("its lengths have shape {:?}", g.dims(lengths))));
    }
    let lengths = g.reshape(lengths, &[items, 1])?;
    let lengths = g.checked_lengths(&lengths, steps)?;
    let step = g.along(Elem::I32, 2, 1, steps)?;
    let inside = g.compare(Relation::Less, &step, &lengths)?;
    let first = g.compare(Relation::Equal, &step, &g.integer(Elem::I32, 0)?)?;
    let previous = before(g, x)?;
    let kept = left(g, op, x, &previous, &first)?;
    let kept = g.integers(IntFunction::And, &kept, &inside)?;
    let ones = g.cast(&kept, Elem::I32)?;
    let place = g.running(&ones, 1, [true, false], false)?;
    // What is not left goes to a column more, which is cut off.
    let place = g.select(&kept, &place, &g.integer(Elem::I32, steps as i64)?)?;
    g.charge(8 * items * (steps + 1))?;
    let padding = known_i64s(vec![op.int("padding_value")?.unwrap_or(0); items * (steps + 1)]);
    let padding = g.reshape(&padding, &[items, steps + 1])?;
    let padding = g.cast(&padding, g.elem(x))?;
    let all = g.scatter_elements(&padding, [&place, x], 1, "set")?;
    let all = g.narrow(&all, 1, 0, steps)?;
    let length = g.int_reduce(IntFunction::Add, &ones, &[1], true)?;
    let length = g.cast(&length, Elem::I64)?;
    Ok(Lowered::beside(all, "OutputLength", length))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Program, flag, float, int, ints};

    /// Labels of two sequences with one without any between them.
    const LABELS: [f32; 7] = [0.0, 2.0, 2.0, 2.0, 2.0, 0.0, 2.0];

    fn labels(x: &[i64]) -> Program {
        Program::new(x).op("cast", "X=x", "Out=n", &[int("in_dtype", 5), int("out_dtype", 3)])
    }

    #[test]
    fn what_is_left_of_a_sequence_is_counted() {
        let aligned = |attrs: &[_]| {
            let program = labels(&[7, 1]).ragged().op("ctc_align", "Input=n", "Output=y", attrs).finish();
            let out = program.run_ragged(&LABELS, &[0, 3, 3, 7]);
            let of = |name: &str| {
                let (_, t) = out.iter().find(|(n, _)| n == name).unwrap();
                (0..t.len()).map(|i| t.int(i).unwrap()).collect::<Vec<i64>>()
            };
            let rows = of("y.rows")[0] as usize;
            (of("y")[..rows].to_vec(), of("y.offsets"))
        };
        // A label is no repetition of the last one of the sequence before.
        assert_eq!(aligned(&[int("blank", 0)]), (vec![2, 2, 2], vec![0, 1, 1, 3]));
        assert_eq!(aligned(&[int("blank", 2)]), (vec![0, 0], vec![0, 1, 1, 2]));
        let all = aligned(&[int("blank", 0), flag("merge_repeated", false)]);
        assert_eq!(all, (vec![2; 5], vec![0, 2, 2, 5]));
    }

    #[test]
    fn padded_rows_are_filled_behind_what_is_left() {
        let program = labels(&[2, 4]).op(
            "fill_constant",
            "",
            "Out=l",
            &[int("dtype", 3), float("value", 3.0), ints("shape", &[2, 1])],
        );
        let attrs = [int("blank", 0), int("padding_value", 9)];
        let program = program.op("ctc_align", "Input=n InputLength=l", "Output=a OutputLength=m", &attrs);
        let program = program.op("cast", "X=a", "Out=y", &[int("in_dtype", 3), int("out_dtype", 5)]).finish();
        let (dims, y) = program.run(&[1.0, 1.0, 3.0, 4.0, 0.0, 5.0, 0.0, 5.0]);
        assert_eq!((dims, y), (vec![2, 4], vec![1.0, 3.0, 9.0, 9.0, 5.0, 9.0, 9.0, 9.0]));
    }
}
