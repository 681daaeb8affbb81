//! `fusion_gru`, `fusion_lstm` and `multi_gru` as oneDNN computes them in programs that Paddle converted to INT8.
//!
//! Input and hidden state are bytes `clamp(round(x * scale + shift), 0, 255)` of one scale; weights are s8 with one scale per
//! column. Sums are exact integers, gates and the state of an LSTM's cell are f32. The state is what its byte stands for.

use super::ragged::{CIFO, functions_are_usual};
use crate::emit::ragged::Ragged;
use crate::emit::scan::{Given, Inside, Over};
use crate::emit::{Arith, Graph, Value, scalar};
use crate::error::Refusal;
use crate::paddle::op::{Lowered, Op};
use qc_dialects::graph::{self, Function, IntFunction};
use qc_ir::{Elem, HostTensor, Quant, Store, attrs};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Refusal>;

/// Whether an op is one of a converted program.
pub(in crate::paddle) fn is_int8(op: &Op<'_>) -> bool {
    op.text("mkldnn_data_type").is_ok_and(|word| word == "int8")
}

/// The format of input and hidden state.
#[derive(Clone, Copy)]
struct Bytes {
    scale: f32,
    shift: i32,
}

impl Bytes {
    fn of(op: &Op<'_>) -> Result<Bytes> {
        let scale = op.float("Scale_data")?.unwrap_or(1.0);
        let shift = op.float("Shift_data")?.unwrap_or(0.0);
        let fits = scale.is_finite() && scale > 0.0 && shift.fract() == 0.0 && (0.0..=255.0).contains(&shift);
        if !fits || !functions_are_usual(op)? {
            return Err(Refusal::invalid("its scale, its shift or its functions are none that INT8 has"));
        }
        Ok(Bytes { scale, shift: shift as i32 })
    }

    /// The bytes of a tensor, which may be bytes already.
    fn stored(self, g: &mut Graph, x: &Value) -> Result<Value> {
        if g.elem(x) == Elem::U8 {
            return Ok(x.clone());
        }
        let scaled = g.times(x, self.scale)?;
        let shifted = g.plus(&scaled, self.shift as f32)?;
        let whole = g.function(Function::Round { away: false }, &shifted)?;
        let inside = g.clip(&whole, 0.0, 255.0)?;
        g.cast(&inside, Elem::U8)
    }

    /// What bytes stand for.
    fn real(self, g: &mut Graph, stored: &Value) -> Result<Value> {
        let floats = g.cast(stored, Elem::F32)?;
        let centred = g.plus(&floats, -self.shift as f32)?;
        g.arith(Arith::Div, &centred, &scalar(self.scale))
    }
}

/// Weights with one scale per column, stored as rows of columns.
struct Stored {
    /// `[columns, inputs]`, s8.
    integers: Arc<HostTensor>,
    sums: Vec<i32>,
}

impl Stored {
    /// Of `[inputs, columns]`, read by row and column.
    fn of(at: impl Fn(usize, usize) -> f32, inputs: usize, scales: &[f32]) -> Stored {
        let one = |(c, k): (usize, usize)| (at(k, c) * scales[c]).round_ties_even().clamp(-128.0, 127.0) as i8;
        let all: Vec<i8> = (0..scales.len()).flat_map(|c| (0..inputs).map(move |k| (c, k))).map(one).collect();
        let sums = all.chunks_exact(inputs.max(1)).map(|row| row.iter().map(|&q| i32::from(q)).sum()).collect();
        Stored { integers: Arc::new(HostTensor::i8([scales.len(), inputs], all)), sums }
    }

    /// Exact sums of products of bytes with columns `from..to`.
    fn product(&self, g: &mut Graph, bytes: &Value, from: usize, to: usize) -> Result<Value> {
        let inputs = self.integers.dims()[1];
        let rows = self.integers.as_i8().unwrap_or_default()[from * inputs..to * inputs].to_vec();
        let part = Arc::new(HostTensor::i8([to - from, inputs], rows));
        let weight = g.quant_constant("weight", part, Quant::per_tensor(Store::I8, 1.0, 0))?;
        g.emit(graph::IntegerMatmul::DEF, &[Some(bytes), Some(&weight)], attrs! {})
    }
}

/// A cell with its weights.
struct Cell {
    bytes: Bytes,
    units: usize,
    input: Stored,
    state: Stored,
    /// What a sum times it is a gate, per column.
    factors: Vec<f32>,
    bias: Vec<f32>,
}

impl Cell {
    /// Gates `from..to` of sums of integers.
    fn gates(&self, g: &mut Graph, sums: [&Value; 2], from: usize, to: usize) -> Result<Value> {
        let part = |all: &[f32]| {
            let own = all[from * self.units..to * self.units].to_vec();
            Value::from(HostTensor::f32([own.len()], own))
        };
        let x = g.narrow(sums[0], 1, from * self.units, to * self.units)?;
        let sum = g.integers(IntFunction::Add, &x, sums[1])?;
        let sum = g.cast(&sum, Elem::F32)?;
        let gate = g.arith(Arith::Mul, &sum, &part(&self.factors))?;
        g.arith(Arith::Add, &gate, &part(&self.bias))
    }

    fn of_state(&self, g: &mut Graph, bytes: &Value, from: usize, to: usize) -> Result<Value> {
        self.state.product(g, bytes, from * self.units, to * self.units)
    }

    /// `u * h + (1 - u) * c`, of gates in the order update, reset, new.
    fn gru(&self, g: &mut Graph, x: &Value, stored: &Value) -> Result<Value> {
        let h = self.bytes.real(g, stored)?;
        let sums = self.of_state(g, stored, 0, 2)?;
        let gates = self.gates(g, [x, &sums], 0, 2)?;
        let gates = g.function(Function::Sigmoid, &gates)?;
        let (u, r) = (g.narrow(&gates, 1, 0, self.units)?, g.narrow(&gates, 1, self.units, 2 * self.units)?);
        let reset = g.arith(Arith::Mul, &r, &h)?;
        let reset = self.bytes.stored(g, &reset)?;
        let sums = self.of_state(g, &reset, 2, 3)?;
        let new = self.gates(g, [x, &sums], 2, 3)?;
        let new = g.function(Function::Tanh, &new)?;
        let (kept, rest) = (g.arith(Arith::Mul, &u, &h)?, g.arith(Arith::Sub, &scalar(1.0), &u)?);
        let new = g.arith(Arith::Mul, &rest, &new)?;
        let next = g.arith(Arith::Add, &kept, &new)?;
        self.bytes.stored(g, &next)
    }

    /// The state and that of the cell, of gates in the order `i, f, c, o`.
    fn lstm(&self, g: &mut Graph, x: &Value, stored: &Value, c: &Value) -> Result<[Value; 2]> {
        let sums = self.of_state(g, stored, 0, 4)?;
        let all = self.gates(g, [x, &sums], 0, 4)?;
        let gate = |g: &mut Graph, n: usize, f: Function| {
            let own = g.narrow(&all, 1, n * self.units, (n + 1) * self.units)?;
            g.function(f, &own)
        };
        let [i, f] = [gate(g, 0, Function::Sigmoid)?, gate(g, 1, Function::Sigmoid)?];
        let [new, o] = [gate(g, 2, Function::Tanh)?, gate(g, 3, Function::Sigmoid)?];
        let (old, new) = (g.arith(Arith::Mul, &f, c)?, g.arith(Arith::Mul, &i, &new)?);
        let c = g.arith(Arith::Add, &old, &new)?;
        let shown = g.function(Function::Tanh, &c)?;
        let h = g.arith(Arith::Mul, &o, &shown)?;
        Ok([self.bytes.stored(g, &h)?, c])
    }

    /// Rows of bytes, `[rows, units]`, of rows `x`; of an LSTM if there is a state of the cell.
    fn run(&self, g: &mut Graph, x: &Value, r: &Ragged, first: [Option<&Value>; 2], way: Way) -> Result<Value> {
        let (rows, columns) = (r.rows, self.factors.len());
        if g.dims(x) != [rows, self.input.integers.dims()[1]] {
            return Err(Refusal::invalid(format!("its input has shape {:?}", g.dims(x))));
        }
        let stored = self.bytes.stored(g, x)?;
        let sums = self.input.product(g, &stored, 0, columns)?;
        let less = self.input.sums.iter().zip(&self.state.sums).map(|(x, h)| self.bytes.shift * (x + h)).collect();
        let sums = g.integers(IntFunction::Sub, &sums, &HostTensor::i32([columns], less).into())?;
        let starts = g.edge_rows(r, way.reverse)?;
        let mut sequences = vec![g.reshape(&sums, &[rows, 1, columns])?, g.reshape(&starts, &[rows, 1, 1])?];
        let zeros = || Value::from(HostTensor::f32([1, self.units], vec![0.0; self.units]));
        let nothing = self.bytes.stored(g, &zeros())?;
        let mut states = vec![nothing.clone()];
        states.extend(way.is_lstm.then(zeros));
        for (n, v) in first.iter().enumerate().filter_map(|(n, v)| Some((n, (*v)?))) {
            let v = if n == 0 { self.bytes.stored(g, v)? } else { v.clone() };
            let of_row = g.of_sequences(r, &v)?;
            sequences.push(g.reshape(&of_row, &[rows, 1, self.units])?);
        }
        let over = Over { states: &states, sequences: &sequences, same: &[], steps: rows, reverse: way.reverse };
        let given = g.scan(&over, |g, inside| self.step(g, &inside, [&nothing, &zeros()], first))?;
        let all = given.outputs.into_iter().next().ok_or_else(|| Refusal::invalid("it gives nothing"))?;
        g.reshape(&all, &[rows, self.units])
    }

    fn step(&self, g: &mut Graph, inside: &Inside, none: [&Value; 2], first: [Option<&Value>; 2]) -> Result<Given> {
        let [x, starts, given @ ..] = &inside.items[..] else { return Err(Refusal::invalid("its operands")) };
        let (mut given, mut states) = (given.iter(), Vec::new());
        for (n, state) in inside.states.iter().enumerate() {
            let anew = first[n].and_then(|_| given.next()).unwrap_or(none[n]);
            states.push(g.select(starts, anew, state)?);
        }
        let next = match &states[..] {
            [h, c] => self.lstm(g, x, h, c)?.to_vec(),
            [h, ..] => vec![self.gru(g, x, h)?],
            [] => return Err(Refusal::invalid("its states")),
        };
        Ok(Given { outputs: next[..1].to_vec(), states: next })
    }
}

/// How a cell is run.
#[derive(Clone, Copy)]
struct Way {
    is_lstm: bool,
    reverse: bool,
}

/// A known matrix of f32.
fn matrix<'v>(v: &'v Value, what: &str) -> Result<(&'v [f32], usize, usize)> {
    let found = v.known().and_then(|t| match t.dims() {
        [rows, columns] => Some((t.as_f32()?, *rows, *columns)),
        _ => None,
    });
    found.ok_or_else(|| Refusal::unsupported(format!("its {what} are no constant matrix of floats")).of_computed(v))
}

/// The elements of a known bias, `count` in number.
fn bias_of(v: Option<&Value>, count: usize) -> Result<Vec<f32>> {
    let Some(v) = v else { return Ok(vec![0.0; count]) };
    let known = v.known().and_then(HostTensor::as_f32).filter(|all| all.len() == count);
    let wrong = || Refusal::invalid(format!("its bias is no constant of {count} numbers"));
    known.map(<[f32]>::to_vec).ok_or_else(|| wrong().of_computed(v))
}

/// Factors of sums, of the scales of columns.
fn factors(scales: &[f32], bytes: Bytes, columns: usize) -> Result<Vec<f32>> {
    if scales.len() != columns || scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return Err(Refusal::invalid(format!("it has {} scales of weights, not {columns}", scales.len())));
    }
    Ok(scales.iter().map(|s| 1.0 / (s * bytes.scale)).collect())
}

/// A GRU; without `origin_mode`, the update gate is that of the other sign.
fn gru_cell(op: &Op<'_>, [wx, wh]: [&Value; 2], bias: Option<&Value>, scales: &[f32]) -> Result<Cell> {
    let bytes = Bytes::of(op)?;
    let ((input, inputs, columns), (state, units, _)) = (matrix(wx, "weights")?, matrix(wh, "recurrent weights")?);
    if columns != 3 * units || state.len() != 3 * units * units {
        return Err(Refusal::invalid(format!("weights of {columns} columns do not fit {units} units")));
    }
    let factors = factors(scales, bytes, columns)?;
    let sign = if op.flag("origin_mode", false)? { 1.0 } else { -1.0 };
    let signed = |c: usize, w: f32| if c < units { sign * w } else { w };
    // The matrix of update and reset, and behind it that of the new state.
    let of_state = |k: usize, c: usize| match c < 2 * units {
        true => state[k * 2 * units + c],
        false => state[2 * units * units + k * units + c - 2 * units],
    };
    Ok(Cell {
        bytes,
        units,
        input: Stored::of(|k, c| signed(c, input[k * columns + c]), inputs, scales),
        state: Stored::of(|k, c| signed(c, of_state(k, c)), units, scales),
        factors,
        bias: bias_of(bias, columns)?.into_iter().enumerate().map(|(c, b)| signed(c, b)).collect(),
    })
}

/// The result, in bytes or as what they stand for.
fn given(g: &mut Graph, op: &Op<'_>, bytes: Bytes, stored: &Value, r: &Ragged) -> Result<Lowered> {
    let hidden = match op.flag("force_fp32_output", false)? {
        true => bytes.real(g, stored)?,
        false => stored.clone(),
    };
    Ok(Lowered::from(hidden).of(r.clone()))
}

pub(in crate::paddle) fn fusion_gru(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, r, scales) = (op.input("X")?, op.sequences("X")?, op.floats("Scale_weights")?.unwrap_or_default());
    let cell = gru_cell(op, [op.input("WeightX")?, op.input("WeightH")?], op.optional("Bias"), &scales)?;
    let way = Way { is_lstm: false, reverse: op.flag("is_reverse", false)? };
    let stored = cell.run(g, x, r, [op.optional("H0"), None], way)?;
    given(g, op, cell.bytes, &stored, r)
}

pub(in crate::paddle) fn fusion_lstm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, r, scales) = (op.input("X")?, op.sequences("X")?, op.floats("Scale_weights")?.unwrap_or_default());
    if op.flag("use_peepholes", true)? || op.is_read("Cell") {
        return Err(Refusal::unsupported("INT8 of it has neither peepholes nor the states of cells"));
    }
    let bytes = Bytes::of(op)?;
    let (input, inputs, columns) = matrix(op.input("WeightX")?, "weights")?;
    let (state, units, state_columns) = matrix(op.input("WeightH")?, "recurrent weights")?;
    if columns != 4 * units || state_columns != columns {
        return Err(Refusal::invalid(format!("weights of {columns} columns do not fit {units} units")));
    }
    // Columns move to the order i, f, c, o; their scales do not.
    let place = |c: usize| [CIFO[0], CIFO[2], CIFO[3], CIFO[1]][c / units] * units + c % units;
    let (bias, factors) = (bias_of(op.optional("Bias"), columns)?, factors(&scales, bytes, columns)?);
    let cell = Cell {
        bytes,
        units,
        input: Stored::of(|k, c| input[k * columns + place(c)], inputs, &scales),
        state: Stored::of(|k, c| state[k * columns + place(c)], units, &scales),
        factors,
        bias: (0..columns).map(|c| bias[place(c)]).collect(),
    };
    let way = Way { is_lstm: true, reverse: op.flag("is_reverse", false)? };
    let stored = cell.run(g, x, r, [op.optional("H0"), op.optional("C0")], way)?;
    given(g, op, bytes, &stored, r)
}

/// Layers of both directions; between them the data stay bytes.
pub(in crate::paddle) fn multi_gru(g: &mut Graph, op: &Op<'_>, layers: usize) -> Result<Lowered> {
    let (r, all) = (op.sequences("X")?, op.all("Scale_weights"));
    let (inputs, states, biases) = (op.all("WeightX"), op.all("WeightH"), op.all("Bias"));
    let bytes = Bytes::of(op)?;
    let mut x = bytes.stored(g, op.input("X")?)?;
    for layer in 0..layers {
        let mut sides = Vec::new();
        for n in [2 * layer, 2 * layer + 1] {
            let given = all.get(n).ok_or_else(|| Refusal::invalid("its weights have no scales"))?;
            let wrong = || Refusal::invalid("its scales of weights are no constants").of_computed(given);
            let scales = given.known().and_then(HostTensor::as_f32).ok_or_else(wrong)?;
            let cell = gru_cell(op, [&inputs[n], &states[n]], biases.get(n), scales)?;
            let way = Way { is_lstm: false, reverse: n % 2 == 1 };
            sides.push(cell.run(g, &x, r, [None; 2], way)?);
        }
        x = g.concat(&sides, 1)?;
    }
    given(g, op, bytes, &x, r)
}

#[cfg(test)]
mod tests {
    use crate::paddle::tests::{Program, flag, float, floats, text};

    const SCALE: f32 = 100.0;

    fn stored(x: f32) -> f32 {
        (x * SCALE + 128.0).round_ties_even().clamp(0.0, 255.0)
    }

    fn sigmoid(x: f32) -> f32 {
        1.0 / (1.0 + (-x).exp())
    }

    /// One unit of one input; the columns of both weights have the scales 50, 60, ..
    struct Column {
        x: f32,
        h: f32,
        scale: f32,
    }

    impl Column {
        fn gate(&self, x: f32, h: f32) -> f32 {
            let integer = |w: f32| (w * self.scale).round_ties_even().clamp(-128.0, 127.0);
            (integer(self.x) * (x - 128.0) + integer(self.h) * (h - 128.0)) * (1.0 / (self.scale * SCALE))
        }
    }

    fn converted(program: Program, op: &str, columns: usize) -> Program {
        let scales: Vec<f32> = (0..columns).map(|c| 50.0 + 10.0 * c as f32).collect();
        let attrs = [
            text("mkldnn_data_type", "int8"),
            float("Scale_data", SCALE),
            float("Shift_data", 128.0),
            floats("Scale_weights", &scales),
            flag("force_fp32_output", true),
            flag("use_peepholes", false),
        ];
        program.op(op, "X=x WeightX=w WeightH=r", "Hidden=y", &attrs).finish()
    }

    #[test]
    fn a_gru_carries_a_byte() {
        let (w, r) = ([0.5f32, -0.25, 1.5], [1.25f32, 0.75, -2.0]);
        let program = Program::new(&[3, 1]).ragged().floats("w", &[1, 3], &w).floats("r", &[1, 3], &r);
        let y = converted(program, "fusion_gru", 3).run_ragged(&[0.3, -0.9, 3.0], &[0, 2, 3]);
        let mut h = stored(0.0);
        let mut want = Vec::new();
        for (t, x) in [0.3f32, -0.9, 3.0].into_iter().enumerate() {
            h = if t == 2 { stored(0.0) } else { h };
            let column = |c: usize, sign: f32| Column { x: sign * w[c], h: sign * r[c], scale: 50.0 + 10.0 * c as f32 };
            let (x, real) = (stored(x), (h - 128.0) / SCALE);
            // The update gate has the other sign without `origin_mode`.
            let (u, reset) = (sigmoid(column(0, -1.0).gate(x, h)), sigmoid(column(1, 1.0).gate(x, h)));
            let new = column(2, 1.0).gate(x, stored(reset * real)).tanh();
            h = stored(u * real + (1.0 - u) * new);
            want.push((h - 128.0) / SCALE);
        }
        assert_eq!(y[0].1.as_f32(), Some(&want[..]));
    }

    #[test]
    fn scales_of_an_lstm_stay_where_its_gates_move() {
        let (w, r) = ([0.5f32, -0.25, 1.5, 0.75], [1.25f32, 0.75, -2.0, 1.0]);
        let program = Program::new(&[2, 1]).ragged().floats("w", &[1, 4], &w).floats("r", &[1, 4], &r);
        let y = converted(program, "fusion_lstm", 4).run_ragged(&[0.3, -0.9], &[0, 2]);
        let (mut h, mut c, mut want) = (stored(0.0), 0.0f32, Vec::new());
        for x in [0.3f32, -0.9] {
            // c, i, f, o there; i, f, c, o with scales in this order.
            let column = |place: usize, n: usize| Column { x: w[place], h: r[place], scale: 50.0 + 10.0 * n as f32 };
            let gate = |place, n| column(place, n).gate(stored(x), h);
            c = sigmoid(gate(2, 1)) * c + sigmoid(gate(1, 0)) * gate(0, 2).tanh();
            h = stored(sigmoid(gate(3, 3)) * c.tanh());
            want.push((h - 128.0) / SCALE);
        }
        assert_eq!(y[0].1.as_f32(), Some(&want[..]));
    }

    #[test]
    fn what_int8_does_not_have_is_refused() {
        let program = |n: usize| Program::new(&[2, 1]).ragged().floats("w", &[1, n as i64], &vec![1.0; n]);
        let of = |n: usize| program(n).floats("r", &[1, n as i64], &vec![1.0; n]);
        let shapes = || crate::Options { shapes: [("x.offsets".to_string(), vec![2])].into(), ..Default::default() };
        let errors = converted(of(3), "fusion_gru", 2).import(&shapes()).unwrap_err();
        assert!(errors[0].to_string().contains("2 scales of weights, not 3"), "{}", errors[0]);
        let errors = converted(of(4), "fusion_lstm", 3).import(&shapes()).unwrap_err();
        assert!(errors[0].to_string().contains("3 scales of weights, not 4"), "{}", errors[0]);
    }
}
