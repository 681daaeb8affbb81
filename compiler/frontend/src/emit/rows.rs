//! Tensors of which a run fills a part: their rows are as many as a run finds, their dims say how many there can be. The number is
//! a tensor of the program. Rows are followed through every op that is made, by what it says of the items of a batch: a row that
//! depends on itself only stays one of those that are counted, and whatever joins rows is refused.

use super::{Graph, Value};
use crate::error::Refusal;
use qc_dialects::graph::IntFunction;
use qc_ir::{Elem, Follow, HostTensor, Items, OpId, ValueId};

type Result<T> = std::result::Result<T, Refusal>;

/// The dim of a tensor of which a run fills a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// The tensor whose sum is the number of rows.
    pub counts: ValueId,
    pub axis: usize,
    /// How many there can be.
    pub room: usize,
}

/// What is left when boxes or elements were chosen: their rows and the numbers of rows.
pub(crate) struct Chosen {
    /// A row for each, as the op that chooses has it.
    pub rows: Value,
    /// `[N]`, i32: how many there are of each picture, or altogether.
    pub counts: Value,
}

fn unknown_number(what: &str) -> Refusal {
    Refusal::unsupported(format!(
        "{what} of a tensor the number of whose rows only a run tells, such as that of chosen boxes"
    ))
    .remedy("cut the model in front of it: take its input as an output, of which a run gives the rows that there are")
}

impl Graph {
    /// Notes that a run fills as many rows of a tensor along `axis` as the sum of `counts`.
    fn count_rows(&mut self, x: &Value, axis: usize, counts: &Value) {
        if let (Value::Runtime(x), Value::Runtime(counts)) = (x, counts) {
            let room = self.m.dims(*x)[axis];
            self.counted.insert(*x, Rows { counts: *counts, axis, room });
        }
    }

    /// How the rows of a tensor are counted, if a run finds their number.
    pub fn rows_of(&self, v: &Value) -> Option<Rows> {
        match v {
            Value::Runtime(v) => self.counted.get(v).copied(),
            Value::Known(_) | Value::Dequantized(_) => None,
        }
    }

    /// Refuses a node that made of rows which are counted something else.
    pub fn expect_counted<'v>(&self, mut made: impl Iterator<Item = &'v Value>) -> Result<()> {
        match made.all(|v| self.rows_of(v).is_some()) {
            true => Ok(()),
            false => Err(unknown_number("it depends on the shape")),
        }
    }

    /// Follows rows that are counted through an op that was just made.
    pub(super) fn follow_rows(&mut self, op: OpId) -> Result<()> {
        let operands = self.m.operands(op).iter().flatten();
        let given: Vec<(ValueId, Option<Rows>)> = operands.map(|&v| (v, self.counted.get(&v).copied())).collect();
        let Some(rows) = given.iter().find_map(|(_, rows)| *rows) else { return Ok(()) };
        if given.iter().filter_map(|(_, rows)| *rows).any(|other| other.counts != rows.counts) {
            return Err(unknown_number("it joins those of another tensor with rows"));
        }
        let items = given.iter().map(|&(v, rows)| (v, rows.map_or(Items::Same, |rows| Items::Along(rows.axis))));
        let made = Follow::through_op(&self.m, op, rows.room, items);
        for (&v, items) in self.m.results(op).iter().zip(made) {
            let Items::Along(axis) = items else { return Err(unknown_number("it joins rows")) };
            self.counted.insert(v, Rows { axis, ..rows });
        }
        Ok(())
    }

    /// The parts of what an op that chooses boxes gives: a row for each of `images` with their number, then room for them. None
    /// if there is no room.
    pub(super) fn chosen(&mut self, table: &Value, images: usize) -> Result<Option<Chosen>> {
        let rows = self.dims(table)[0];
        if rows == images {
            return Ok(None);
        }
        let counts = self.narrow(table, 0, 0, images)?;
        let counts = self.narrow(&counts, 1, 0, 1)?;
        let counts = self.reshape(&counts, &[images])?;
        let counts = self.cast(&counts, Elem::I32)?;
        let rows = self.narrow(table, 0, images, rows)?;
        self.count_rows(&rows, 0, &counts);
        Ok(Some(Chosen { rows, counts }))
    }

    /// The places of what holds in a tensor of truth values, counted through it and in order: `[elements]`, i32, of which as many
    /// as there are in the counts `[1]` are filled.
    pub fn places_that_hold(&mut self, mask: &Value) -> Result<Chosen> {
        let count: usize = self.dims(mask).iter().product();
        let mask = self.reshape(mask, &[count])?;
        let ones = self.cast(&mask, Elem::I32)?;
        let before = self.running(&ones, 0, [true, false], false)?;
        // What does not hold goes to a row that is cut off.
        let beyond = self.integer(Elem::I32, count as i64)?;
        let target = self.select(&mask, &before, &beyond)?;
        self.charge(4 * (count + 1))?;
        let none = HostTensor::i32([count + 1], vec![0; count + 1]).into();
        let places = self.counted(Elem::I32, count)?;
        let rows = self.scatter_elements(&none, [&target, &places], 0, "set")?;
        let rows = self.narrow(&rows, 0, 0, count)?;
        let counts = self.int_reduce(IntFunction::Add, &ones, &[0], true)?;
        self.count_rows(&rows, 0, &counts);
        Ok(Chosen { rows, counts })
    }

    /// No rows of an element type.
    pub fn no_rows(&self, elem: Elem, dims: &[usize]) -> Value {
        match elem {
            Elem::F32 => HostTensor::f32(dims, Vec::new()).into(),
            Elem::I64 => HostTensor::i64(dims, Vec::new()).into(),
            _ => HostTensor::i32(dims, Vec::new()).into(),
        }
    }
}
