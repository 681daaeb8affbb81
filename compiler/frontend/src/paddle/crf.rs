//! `crf_decoding`: the most likely tags of each sequence (Viterbi).
//!
//! One scan goes through the rows with the best score of a path to each tag, and notes from which tag it came. Another one goes back
//! and follows the notes.

use super::op::{Lowered, Op};
use crate::emit::scan::{Given, Over};
use crate::emit::{Arith, Graph, Relation, Value};
use crate::error::Refusal;
use qc_dialects::graph::IntFunction;
use qc_ir::{Elem, HostTensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) fn decode(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    match op.optional("Length") {
        Some(lengths) => padded(g, op, lengths),
        None => ragged(g, op),
    }
}

fn ragged(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (scores, r) = (op.input("Emission")?, op.sequences("Emission")?);
    let rows = g.dims(scores).first().copied().unwrap_or(0);
    if rows != r.rows {
        return Err(Refusal::invalid(format!("its scores have shape {:?}", g.dims(scores))));
    }
    let [first, last] = [g.edge_rows(r, false)?, g.edge_rows(r, true)?];
    let path = best(g, op, scores, [&first, &last])?;
    let path = or_hits(g, op, &path)?;
    Ok(Lowered::from(path).of(r.clone()))
}

/// Scores `[items, steps, tags]`, of which each item has as many steps as its length says. Steps behind it get the tag 0.
fn padded(g: &mut Graph, op: &Op<'_>, lengths: &Value) -> Result<Lowered> {
    let scores = op.input("Emission")?;
    let (&[items, steps, tags], count) = (&g.dims(scores)[..], g.dims(lengths).iter().product::<usize>()) else {
        return Err(Refusal::invalid(format!("its scores have shape {:?}", g.dims(scores))));
    };
    if count != items || !matches!(g.elem(lengths), Elem::I32 | Elem::I64) {
        return Err(Refusal::invalid(format!("its lengths have shape {:?}", g.dims(lengths))));
    }
    let lengths = g.checked_lengths(lengths, steps)?;
    let lengths = g.reshape(&lengths, &[items, 1])?;
    let step = g.along(Elem::I32, 2, 1, steps)?;
    let next = g.integers(IntFunction::Add, &step, &g.integer(Elem::I32, 1)?)?;
    let last = g.compare(Relation::Equal, &next, &lengths)?;
    let zero = g.integer(Elem::I32, 0)?;
    let first = g.compare(Relation::Equal, &step, &zero)?;
    let first = g.expand(&first, &[items, steps])?;
    let (first, last) = (g.reshape(&first, &[items * steps])?, g.reshape(&last, &[items * steps])?);
    let rows = g.reshape(scores, &[items * steps, tags])?;
    let path = best(g, op, &rows, [&first, &last])?;
    let path = g.reshape(&path, &[items, steps])?;
    let inside = g.compare(Relation::Less, &step, &lengths)?;
    let path = or_hits(g, op, &path)?;
    let none = g.integer(Elem::I64, 0)?;
    Ok(g.select(&inside, &path, &none)?.into())
}

/// The best tags of rows of sequences, whose first and last rows are told; i64 `[rows, 1]`.
fn best(g: &mut Graph, op: &Op<'_>, scores: &Value, [first, last]: [&Value; 2]) -> Result<Value> {
    let weights = op.input("Transition")?;
    let &[_, tags] = &g.dims(scores)[..] else {
        return Err(Refusal::invalid(format!("its scores have shape {:?}", g.dims(scores))));
    };
    if g.dims(weights) != [tags + 2, tags] {
        return Err(Refusal::invalid(format!("weights of shape {:?} do not fit {tags} tags", g.dims(weights))));
    }
    let [from, ends] = paths(g, scores, weights, first)?;
    let path = followed(g, &from, &ends, last)?;
    g.cast(&path, Elem::I64)
}

/// With labels, whether they are the tags.
fn or_hits(g: &mut Graph, op: &Op<'_>, path: &Value) -> Result<Value> {
    let Some(labels) = op.optional("Label") else { return Ok(path.clone()) };
    let labels = g.reshape(labels, &g.dims(path))?;
    let labels = g.cast(&labels, Elem::I64)?;
    let equal = g.compare(Relation::Equal, path, &labels)?;
    g.cast(&equal, Elem::I64)
}

/// `[rows, tags]`: the tag before on the best path to a tag; `[rows, 1]`: the best tag if the sequence ends there.
fn paths(g: &mut Graph, scores: &Value, weights: &Value, first: &Value) -> Result<[Value; 2]> {
    let &[rows, tags] = &g.dims(scores)[..] else { return Err(Refusal::invalid("its scores")) };
    let none = HostTensor::f32([tags], vec![0.0; tags]).into();
    let over = Over {
        states: &[none],
        sequences: &[scores.clone(), first.clone()],
        same: std::slice::from_ref(weights),
        steps: rows,
        reverse: false,
    };
    let given = g.scan(&over, |g, inside| {
        let ([before], [score, starts], [w]) = (&inside.states[..], &inside.items[..], &inside.same[..]) else {
            return Err(Refusal::invalid("its operands"));
        };
        let (start, stop, moves) = (g.narrow(w, 0, 0, 1)?, g.narrow(w, 0, 1, 2)?, g.narrow(w, 0, 2, tags + 2)?);
        let before = g.reshape(before, &[tags, 1])?;
        let all = g.arith(Arith::Add, &moves, &before)?;
        let best = g.reduce_max(&all, &[0], false)?;
        let from = g.place_of_extreme(true, &all, 0, false, false)?;
        let from = g.cast(&from, Elem::I32)?;
        let (start, stop) = (g.reshape(&start, &[tags])?, g.reshape(&stop, &[tags])?);
        let before = g.select(starts, &start, &best)?;
        let next = g.arith(Arith::Add, &before, score)?;
        let end = g.arith(Arith::Add, &next, &stop)?;
        let end = g.place_of_extreme(true, &end, 0, false, true)?;
        let end = g.cast(&end, Elem::I32)?;
        Ok(Given { states: vec![next], outputs: vec![from, end] })
    })?;
    <[Value; 2]>::try_from(given.outputs).map_err(|_| Refusal::invalid("its paths"))
}

/// `[rows, 1]`: the tags, from the last row of each sequence on.
fn followed(g: &mut Graph, from: &Value, ends: &Value, last: &Value) -> Result<Value> {
    let rows = g.dims(from)[0];
    let none = HostTensor::i32([1], vec![0]).into();
    let sequences = [from.clone(), ends.clone(), last.clone()];
    let over = Over { states: &[none], sequences: &sequences, same: &[], steps: rows, reverse: true };
    let given = g.scan(&over, |g, inside| {
        let ([behind], [from, end, is_last]) = (&inside.states[..], &inside.items[..]) else {
            return Err(Refusal::invalid("its operands"));
        };
        let tag = g.select(is_last, end, behind)?;
        let before = g.rows_at(from, &tag)?;
        Ok(Given { states: vec![before], outputs: vec![tag] })
    })?;
    given.outputs.into_iter().next().ok_or_else(|| Refusal::invalid("its tags"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Program, int, ints};

    /// The best path by trying all.
    fn best(scores: &[[f32; 3]], w: &[[f32; 3]; 5]) -> Vec<i64> {
        let paths = 3usize.pow(scores.len() as u32);
        let tags = |n: usize| (0..scores.len()).map(move |t| n / 3usize.pow(t as u32) % 3);
        let score = |n: &usize| {
            let all: Vec<usize> = tags(*n).collect();
            let moves: f32 = all.windows(2).map(|p| w[2 + p[0]][p[1]]).sum();
            let own: f32 = all.iter().zip(scores).map(|(&tag, row)| row[tag]).sum();
            w[0][all[0]] + w[1][all[all.len() - 1]] + moves + own
        };
        let best = (0..paths).max_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
        tags(best).map(|tag| tag as i64).collect()
    }

    #[test]
    fn each_sequence_has_its_best_path() {
        let number = |i: usize| ((i * 37 % 101) as f32 * 0.7).sin() * 2.0;
        let scores: Vec<[f32; 3]> = (0..9).map(|r| [0, 1, 2].map(|c| number(3 * r + c))).collect();
        let w: [[f32; 3]; 5] = std::array::from_fn(|r| [0, 1, 2].map(|c| number(200 + 3 * r + c)));
        let program = Program::new(&[9, 3]).ragged().floats("w", &[5, 3], w.as_flattened());
        let program = program.op("crf_decoding", "Emission=x Transition=w", "ViterbiPath=y", &[]).finish();
        let offsets = [0usize, 4, 4, 5, 9];
        let given: Vec<i64> = offsets.iter().map(|&o| o as i64).collect();
        let y = program.run_ragged(scores.as_flattened(), &given);
        let want: Vec<i64> =
            offsets.windows(2).filter(|o| o[0] < o[1]).flat_map(|o| best(&scores[o[0]..o[1]], &w)).collect();
        assert_eq!(y[0].1.as_i64(), Some(&want[..]));
    }

    #[test]
    fn padded_steps_have_the_tag_0() {
        let number = |i: usize| ((i * 37 % 101) as f32 * 0.7).sin() * 2.0;
        let scores: Vec<[f32; 3]> = (0..8).map(|r| [0, 1, 2].map(|c| number(3 * r + c))).collect();
        let w: [[f32; 3]; 5] = std::array::from_fn(|r| [0, 1, 2].map(|c| number(200 + 3 * r + c)));
        let program = Program::new(&[2, 4, 3]).floats("w", &[5, 3], w.as_flattened());
        let lengths = [ints("int32_values", &[3, 4]), int("dtype", 2), ints("shape", &[2])];
        let program = program.op("assign_value", "", "Out=n", &lengths);
        let program = program.op("crf_decoding", "Emission=x Transition=w Length=n", "ViterbiPath=y", &[]).finish();
        let imported = program.import(&crate::Options::default()).unwrap();
        let x = qc_ir::HostTensor::f32([2, 4, 3], scores.as_flattened().to_vec());
        let y = qc_dialects::interpret(&imported.module, &[x]).unwrap();
        let mut want = best(&scores[..3], &w);
        want.push(0);
        want.extend(best(&scores[4..], &w));
        assert_eq!((y[0].dims(), y[0].as_i64()), (&[2, 4][..], Some(&want[..])));
    }

    #[test]
    fn a_length_beyond_the_steps_is_no_length() {
        for bad in [5, -1] {
            let lengths = [ints("int32_values", &[3, bad]), int("dtype", 2), ints("shape", &[2])];
            let program =
                Program::new(&[2, 4, 3]).floats("w", &[5, 3], &[0.0; 15]).op("assign_value", "", "Out=n", &lengths);
            let program = program.op("crf_decoding", "Emission=x Transition=w Length=n", "ViterbiPath=y", &[]);
            let reasons = program.finish().reasons();
            assert!(reasons[0].contains("holds 5, which is no index of a dim of 5"), "{reasons:?}");
        }
    }
}
