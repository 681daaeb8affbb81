//! Sequences of unequal length that lie one behind the other in the rows of a tensor.
//!
//! All that is known of them is their offsets, i32 that `graph.offsets` has checked: the first row of each sequence, and how many
//! rows there are. What ops on sequences need follows from that by arithmetic: which sequence a row belongs to, and where a row of
//! the result comes from.

use super::{Arith, Graph, Relation, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::{self, IntFunction};
use qc_ir::{Elem, HostTensor, attrs};

type Result<T> = std::result::Result<T, Refusal>;

/// Sequences.
#[derive(Clone, Debug)]
pub(crate) struct Ragged {
    /// `[sequences + 1]`, i32.
    pub offsets: Value,
    /// How many rows there are.
    pub rows: usize,
}

/// How the rows of a sequence become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Joined {
    Sum,
    Mean,
    /// The sum, divided by the square root of the count.
    Root,
    Max,
    First,
    Last,
}

impl Ragged {
    /// How many sequences there are.
    pub fn count(&self, g: &Graph) -> usize {
        g.dims(&self.offsets)[0] - 1
    }

    /// The lengths of the sequences, if they are known.
    pub fn known_lengths(&self) -> Option<Vec<usize>> {
        let offsets = self.offsets.known()?.as_i32()?;
        Some(offsets.windows(2).map(|w| (w[1] - w[0]) as usize).collect())
    }
}

impl Graph {
    /// Sequences in `rows` rows that begin at `offsets`, integers `[sequences + 1]`.
    ///
    /// # Errors
    /// For known numbers that are no offsets; computed ones end the run.
    pub fn ragged(&mut self, offsets: &Value, rows: usize) -> Result<Ragged> {
        if !matches!(self.elem(offsets), Elem::I32 | Elem::I64) {
            return Err(Refusal::invalid("the offsets are no integers"));
        }
        let offsets = self.emit(graph::Offsets::DEF, &[Some(offsets)], attrs! { rows: rows })?;
        Ok(Ragged { offsets, rows })
    }

    /// Sequences of these lengths.
    pub fn ragged_of(&mut self, lengths: &[usize]) -> Result<Ragged> {
        self.charge(4 * lengths.len())?;
        let mut end = 0;
        let ends = lengths.iter().map(|n| {
            end += *n as i32;
            end
        });
        let offsets: Vec<i32> = std::iter::once(0).chain(ends).collect();
        let offsets = HostTensor::i32([offsets.len()], offsets);
        self.ragged(&offsets.into(), end as usize)
    }

    /// `[sequences]`: the first row of each, or with `ends` the row behind its last.
    fn edges(&mut self, r: &Ragged, ends: bool) -> Result<Value> {
        let n = r.count(self);
        self.narrow(&r.offsets, 0, usize::from(ends), n + usize::from(ends))
    }

    /// `[sequences]`: how many rows each has.
    pub fn lengths_of(&mut self, r: &Ragged) -> Result<Value> {
        let (starts, ends) = (self.edges(r, false)?, self.edges(r, true)?);
        self.integers(IntFunction::Sub, &ends, &starts)
    }

    /// Lengths of sequences of at most `steps`, as i32. Another number ends the run, but for a negative one, which is noted as one step
    /// more than there are.
    pub fn checked_lengths(&mut self, lengths: &Value, steps: usize) -> Result<Value> {
        let (zero, beyond) =
            (self.integer(self.elem(lengths), 0)?, self.integer(self.elem(lengths), steps as i64 + 1)?);
        let negative = self.compare(Relation::Less, lengths, &zero)?;
        let lengths = self.select(&negative, &beyond, lengths)?;
        self.index(&lengths, steps + 1)
    }

    /// `[rows]`, i32: the sequence of each row, which is how many sequences end at it or before.
    fn sequence_of_rows(&mut self, r: &Ragged) -> Result<Value> {
        self.charge(4 * (r.rows + 1))?;
        let n = r.count(self);
        let none = Value::from(HostTensor::f32([r.rows + 1], vec![0.0; r.rows + 1]));
        let mut ended = self.narrow(&none, 0, 0, r.rows)?;
        if n > 1 {
            let ends = self.narrow(&r.offsets, 0, 1, n)?;
            let ones = Value::from(HostTensor::f32([n - 1], vec![1.0; n - 1]));
            let counted = self.joined_rows(&none, &ends, &ones, "add")?;
            ended = self.narrow(&counted, 0, 0, r.rows)?;
        }
        let ended = self.cast(&ended, Elem::I32)?;
        self.running(&ended, 0, [false, false], false)
    }

    /// Rows of `updates` joined to those rows of `x` that `places`, which are rows of it, name.
    fn joined_rows(&mut self, x: &Value, places: &Value, updates: &Value, word: &'static str) -> Result<Value> {
        self.emit(graph::Scatter::DEF, &[Some(x), Some(places), Some(updates)], attrs! { op: word })
    }

    /// Rows of `x` that `places`, which are rows of it, name.
    pub fn rows_at(&mut self, x: &Value, places: &Value) -> Result<Value> {
        self.emit(graph::Gather::DEF, &[Some(x), Some(places)], attrs! { axis: 0usize })
    }

    /// `[rows]`: whether a row is the first of its sequence, or with `last` the last.
    pub fn edge_rows(&mut self, r: &Ragged, last: bool) -> Result<Value> {
        let (of, edges) = (self.sequence_of_rows(r)?, self.edges(r, last)?);
        let edges = self.rows_at(&edges, &of)?;
        let rows = self.counted(Elem::I32, r.rows)?;
        let rows = if last { self.integers(IntFunction::Add, &rows, &self.integer(Elem::I32, 1)?)? } else { rows };
        self.compare(Relation::Equal, &rows, &edges)
    }

    /// For each row the row of `x` that belongs to its sequence.
    pub fn of_sequences(&mut self, r: &Ragged, x: &Value) -> Result<Value> {
        let of = self.sequence_of_rows(r)?;
        self.rows_at(x, &of)
    }

    /// `[sequences, ..]` of `[rows, ..]`: the rows of each sequence as one; `empty` where there are none.
    pub fn joined_sequences(&mut self, r: &Ragged, x: &Value, f: Joined, empty: f32) -> Result<Value> {
        self.expect_f32(x)?;
        let (n, dims) = (r.count(self), self.dims(x));
        let rest = dims.get(1..).unwrap_or_default();
        let lengths = self.lengths_of(r)?;
        let column: Vec<usize> = std::iter::once(n).chain(rest.iter().map(|_| 1)).collect();
        let lengths = self.reshape(&lengths, &column)?;
        let joined = match f {
            Joined::First | Joined::Last => {
                let edge = self.edges(r, f == Joined::Last)?;
                let edge = if f == Joined::Last { self.row_before(&edge)? } else { edge };
                // An empty sequence at the end begins behind the last row.
                let last = self.integer(Elem::I32, r.rows as i64 - 1)?;
                let edge = self.integers(IntFunction::Min, &edge, &last)?;
                self.rows_at(x, &edge)?
            }
            _ => {
                let (start, word) = if f == Joined::Max { (f32::NEG_INFINITY, "max") } else { (0.0, "add") };
                let to: Vec<usize> = std::iter::once(n).chain(rest.iter().copied()).collect();
                let elements = to.iter().product::<usize>();
                self.charge(4 * elements)?;
                let start = HostTensor::f32(to, vec![start; elements]).into();
                let of = self.sequence_of_rows(r)?;
                let sums = self.joined_rows(&start, &of, x, word)?;
                self.by_length(&sums, &lengths, f)?
            }
        };
        let any = self.is_positive(&lengths)?;
        self.select(&any, &joined, &scalar(empty))
    }

    fn by_length(&mut self, sums: &Value, lengths: &Value, f: Joined) -> Result<Value> {
        let count = self.cast(lengths, Elem::F32)?;
        let divisor = match f {
            Joined::Mean => count,
            Joined::Root => self.function(graph::Function::Sqrt, &count)?,
            _ => return Ok(sums.clone()),
        };
        self.arith(Arith::Div, sums, &divisor)
    }

    /// The row before each, and 0 before the first.
    fn row_before(&mut self, rows: &Value) -> Result<Value> {
        let [zero, one] = [self.integer(Elem::I32, 0)?, self.integer(Elem::I32, 1)?];
        let before = self.integers(IntFunction::Sub, rows, &one)?;
        self.integers(IntFunction::Max, &before, &zero)
    }

    /// Softmax over the rows of each sequence, `[rows, ..]`.
    pub fn softmax_of_sequences(&mut self, r: &Ragged, x: &Value) -> Result<Value> {
        let max = self.joined_sequences(r, x, Joined::Max, 0.0)?;
        let max = self.of_sequences(r, &max)?;
        let below = self.arith(Arith::Sub, x, &max)?;
        let powers = self.function(graph::Function::Exp, &below)?;
        let sum = self.joined_sequences(r, &powers, Joined::Sum, 1.0)?;
        let sum = self.of_sequences(r, &sum)?;
        self.arith(Arith::Div, &powers, &sum)
    }

    /// The rows of each sequence from its last to its first.
    pub fn reversed_sequences(&mut self, r: &Ragged, x: &Value) -> Result<Value> {
        let (starts, ends) = (self.edges(r, false)?, self.edges(r, true)?);
        let sum = self.integers(IntFunction::Add, &starts, &ends)?;
        let sum = self.row_before(&sum)?;
        let sum = self.of_sequences(r, &sum)?;
        let rows = self.counted(Elem::I32, r.rows)?;
        let from = self.integers(IntFunction::Sub, &sum, &rows)?;
        self.rows_at(x, &from)
    }

    /// The first `lengths[i]` steps of each item of `x`, whose first two dims are time and batch in some order, from the last to the
    /// first; those behind stay.
    pub fn reversed_steps(&mut self, x: &Value, lengths: &Value, [time, batch]: [usize; 2]) -> Result<Value> {
        let dims = self.dims(x);
        let (steps, items) = (dims[time], dims[batch]);
        let mut column = vec![1; 2];
        column[batch] = items;
        let lengths = self.checked_lengths(lengths, steps)?;
        let lengths = self.reshape(&lengths, &column)?;
        let step = self.along(Elem::I32, 2, time, steps)?;
        let inside = self.compare(Relation::Less, &step, &lengths)?;
        let last = self.integers(IntFunction::Sub, &lengths, &self.integer(Elem::I32, 1)?)?;
        let mirrored = self.integers(IntFunction::Sub, &last, &step)?;
        let from = self.select(&inside, &mirrored, &step)?;
        // Rows are the steps of items, whichever come first.
        let item = self.along(Elem::I32, 2, batch, items)?;
        let [of_step, of_item] = if time == 0 { [items, 1] } else { [1, steps] };
        let from = self.integers(IntFunction::Mul, &from, &self.integer(Elem::I32, of_step as i64)?)?;
        let item = self.integers(IntFunction::Mul, &item, &self.integer(Elem::I32, of_item as i64)?)?;
        let from = self.integers(IntFunction::Add, &from, &item)?;
        let rows: Vec<usize> = std::iter::once(steps * items).chain(dims[2..].iter().copied()).collect();
        let x = self.reshape(x, &rows)?;
        self.gather(&x, &from, 0)
    }

    /// For each row the row `by` places further in its sequence, and 0 where there is none.
    pub fn shifted_in_sequences(&mut self, r: &Ragged, x: &Value, by: i64) -> Result<Value> {
        let mut column = vec![1; self.dims(x).len()];
        column[0] = r.rows;
        let rows = self.counted(Elem::I32, r.rows)?;
        let at = self.integers(IntFunction::Add, &rows, &self.integer(Elem::I32, by)?)?;
        let (starts, ends) = (self.edges(r, false)?, self.edges(r, true)?);
        let (starts, ends) = (self.of_sequences(r, &starts)?, self.of_sequences(r, &ends)?);
        let before = self.compare(Relation::Less, &at, &starts)?;
        let inside = self.compare(Relation::Less, &at, &ends)?;
        let (inside, before) = (self.reshape(&inside, &column)?, self.reshape(&before, &column)?);
        let [zero, last] = [self.integer(Elem::I32, 0)?, self.integer(Elem::I32, r.rows as i64 - 1)?];
        let at = self.integers(IntFunction::Max, &at, &zero)?;
        let at = self.integers(IntFunction::Min, &at, &last)?;
        let moved = self.rows_at(x, &at)?;
        let none = self.cast(&scalar(0.0), self.elem(x))?;
        let moved = self.select(&inside, &moved, &none)?;
        self.select(&before, &none, &moved)
    }

    /// The sequences of all operands joined: of each the first one behind the other, then the second ones, and so on.
    pub fn concat_of_sequences(&mut self, parts: &[(Value, Ragged)]) -> Result<(Value, Ragged)> {
        let rows: usize = parts.iter().map(|(_, r)| r.rows).sum();
        let (mut offsets, mut places) = (None, Vec::new());
        for (k, (_, own)) in parts.iter().enumerate() {
            offsets = Some(match offsets {
                None => own.offsets.clone(),
                Some(sum) => self.integers(IntFunction::Add, &sum, &own.offsets)?,
            });
            // In front of a row lie its own row number, of later operands the sequences before, and of earlier ones its own too.
            let mut place = self.counted(Elem::I32, own.rows)?;
            for (j, (_, other)) in parts.iter().enumerate().filter(|(j, _)| *j != k) {
                let edge = self.edges(other, j < k)?;
                let more = self.of_sequences(own, &edge)?;
                place = self.integers(IntFunction::Add, &place, &more)?;
            }
            places.push(place);
        }
        let offsets = offsets.ok_or_else(|| Refusal::invalid("it joins nothing"))?;
        let (values, places) = (parts.iter().map(|p| p.0.clone()).collect::<Vec<_>>(), self.concat(&places, 0)?);
        let all = self.concat(&values, 0)?;
        // Rows are taken from where they lie, so a list of places to store at becomes one to read from.
        self.charge(4 * rows)?;
        let nowhere = HostTensor::i32([rows], vec![0; rows]).into();
        let from = self.counted(Elem::I32, rows)?;
        let from = self.joined_rows(&nowhere, &places, &from, "set")?;
        Ok((self.rows_at(&all, &from)?, Ragged { offsets, rows }))
    }

    /// `[sequences, length, ..]` of `[rows, ..]`, filled with `padding` behind the end of each. A sequence that is longer ends the run.
    pub fn padded_sequences(&mut self, r: &Ragged, x: &Value, length: usize, padding: &Value) -> Result<Value> {
        let (n, dims) = (r.count(self), self.dims(x));
        let lengths = self.lengths_of(r)?;
        let lengths = self.index(&lengths, length + 1)?;
        let (starts, step) = (self.edges(r, false)?, self.along(Elem::I32, 2, 1, length)?);
        let (starts, lengths) = (self.reshape(&starts, &[n, 1])?, self.reshape(&lengths, &[n, 1])?);
        let at = self.integers(IntFunction::Add, &starts, &step)?;
        let last = self.integer(Elem::I32, r.rows as i64 - 1)?;
        let at = self.integers(IntFunction::Min, &at, &last)?;
        let rows = self.rows_at(x, &at)?;
        let inside = self.compare(Relation::Less, &step, &lengths)?;
        let shape: Vec<usize> = [n, length].into_iter().chain(dims.iter().skip(1).map(|_| 1)).collect();
        let inside = self.reshape(&inside, &shape)?;
        self.select(&inside, &rows, padding)
    }
}
