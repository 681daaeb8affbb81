//! `gru`, `lstm` and their fused forms: cells over ragged sequences.
//!
//! Rows are the steps of one scan, sequence after sequence; where one begins, the state starts anew. A cell that runs backwards does
//! so in each sequence, so its rows are gone through from the last to the first.

use super::bytes;
use crate::emit::ragged::Ragged;
use crate::emit::recurrent::{Cell, Kind, Sequence, Squash, Weights};
use crate::emit::{Graph, Value};
use crate::error::Refusal;
use crate::paddle::op::{Lowered, Op, Tensor};
use qc_dialects::graph::activation::Function;

type Result<T> = std::result::Result<T, Refusal>;

/// The most layers of `multi_gru`.
const MAX_LAYERS: usize = 64;

/// The places of `i, o, f, c` where gates stand in the order `c, i, f, o`.
pub(in crate::paddle) const CIFO: [usize; 4] = [1, 3, 2, 0];

fn squash(op: &Op<'_>, attribute: &str, default: &str) -> Result<Squash> {
    let word = op.text(attribute)?;
    Ok(match if word.is_empty() { default } else { word } {
        "sigmoid" => Squash::Function(Function::Sigmoid),
        "tanh" => Squash::Function(Function::Tanh),
        "relu" => Squash::Relu,
        "identity" => Squash::Affine { alpha: 1.0, beta: 0.0 },
        other => return Err(Refusal::unsupported(format!("the function `{other}` is not supported"))),
    })
}

/// Whether gates go through sigmoids and what is new through tanh.
pub(in crate::paddle) fn functions_are_usual(op: &Op<'_>) -> Result<bool> {
    let [sigmoid, tanh] = [Function::Sigmoid, Function::Tanh].map(Squash::Function);
    let others = ["activation", "candidate_activation", "cell_activation"];
    let mut usual = squash(op, "gate_activation", "sigmoid")? == sigmoid;
    for name in others {
        usual &= squash(op, name, "tanh")? == tanh;
    }
    Ok(usual)
}

/// `[a, b]` as `[b, a]`.
fn turned(g: &mut Graph, v: &Value) -> Result<Value> {
    g.transpose(v, &[1, 0])
}

/// The recurrent weights of a GRU, `[units, 3 * units]`: a matrix for the gates of update and reset, and behind it one for the new
/// state.
fn packed(g: &mut Graph, v: &Value) -> Result<Value> {
    let (dims, count) = (g.dims(v), g.dims(v).iter().product::<usize>());
    let units = dims.first().copied().unwrap_or(0);
    if dims != [units, 3 * units] {
        return Err(Refusal::invalid(format!("its weights have shape {dims:?}")));
    }
    let flat = g.reshape(v, &[count])?;
    let mut part = |from: usize, to: usize, columns: usize| {
        let part = g.narrow(&flat, 0, from, to)?;
        let part = g.reshape(&part, &[units, columns])?;
        turned(g, &part)
    };
    let parts = [part(0, 2 * units * units, 2 * units)?, part(2 * units * units, count, units)?];
    g.concat(&parts, 0)
}

/// What a cell runs over.
struct Over<'a> {
    /// `[rows, inputs]`.
    x: &'a Value,
    sequences: &'a Ragged,
    /// `[sequences, units]`.
    first: [Option<&'a Value>; 2],
    reverse: bool,
    /// Of how many states all rows are wanted.
    all: usize,
}

/// The states of all rows.
fn run(g: &mut Graph, cell: &Cell, w: &Weights<'_>, over: &Over<'_>) -> Result<Vec<Value>> {
    let r = over.sequences;
    let steps = |g: &mut Graph, v: &Value| {
        let dims = g.dims(v);
        match dims[..] {
            [rows, columns] if rows == r.rows => g.reshape(v, &[rows, 1, columns]),
            _ => Err(Refusal::invalid(format!("its input has shape {dims:?}, its sequences {} rows", r.rows))),
        }
    };
    let x = steps(g, over.x)?;
    let starts = g.edge_rows(r, over.reverse)?;
    let starts = g.reshape(&starts, &[r.rows, 1, 1])?;
    let mut first = [None, None];
    for (slot, given) in first.iter_mut().zip(over.first) {
        let Some(v) = given else { continue };
        if g.dims(v).first() != Some(&r.count(g)) {
            return Err(Refusal::invalid(format!("a first state has shape {:?}", g.dims(v))));
        }
        let of_row = g.of_sequences(r, v)?;
        *slot = Some(steps(g, &of_row)?);
    }
    let sequence = Sequence {
        x: &x,
        lengths: None,
        restarts: Some(&starts),
        first: [first[0].as_ref(), first[1].as_ref()],
        keeps_first: true,
        reverse: over.reverse,
        all: over.all,
    };
    let all = g.recurrent(cell, w, &sequence)?.all;
    all.iter().map(|v| g.reshape(v, &[r.rows, g.dims(v)[2]])).collect()
}

/// The elements of a bias of one row.
fn flat(g: &mut Graph, v: Option<&Value>) -> Result<Option<Value>> {
    let Some(v) = v else { return Ok(None) };
    let count = g.dims(v).iter().product();
    g.reshape(v, &[count]).map(Some)
}

fn gru_cell(op: &Op<'_>) -> Result<Cell> {
    let renews = !op.flag("origin_mode", false)?;
    let (gate, new) = (squash(op, "gate_activation", "sigmoid")?, squash(op, "activation", "tanh")?);
    Ok(Cell { kind: Kind::Gru { reset_after: false, renews }, functions: [gate, new, new], clip: None })
}

/// A GRU, whose input is multiplied with `input` unless it is already.
fn gated(g: &mut Graph, op: &Op<'_>, slot: &str, input: Option<&Value>, state: &Value) -> Result<Lowered> {
    let (cell, sequences) = (gru_cell(op)?, op.sequences(slot)?);
    let input = input.map(|w| turned(g, w)).transpose()?;
    let w = Weights {
        input,
        state: packed(g, state)?,
        bias: [flat(g, op.optional("Bias"))?, None],
        product: None,
        peepholes: None,
    };
    let first = [op.optional("H0"), None];
    let over = Over { x: op.input(slot)?, sequences, first, reverse: op.flag("is_reverse", false)?, all: 1 };
    Ok(Lowered::many(run(g, &cell, &w, &over)?).of(sequences.clone()))
}

/// One step of a GRU, whose functions are numbers.
pub(in crate::paddle) fn gru_unit(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let function = |name: &str, default: i64| {
        Ok(match op.int(name)?.unwrap_or(default) {
            0 => Squash::Affine { alpha: 1.0, beta: 0.0 },
            1 => Squash::Function(Function::Sigmoid),
            2 => Squash::Function(Function::Tanh),
            3 => Squash::Relu,
            other => return Err(Refusal::invalid(format!("the function of number {other}"))),
        })
    };
    let (gate, new) = (function("gate_activation", 1)?, function("activation", 2)?);
    let renews = !op.flag("origin_mode", false)?;
    let cell = Cell { kind: Kind::Gru { reset_after: false, renews }, functions: [gate, new, new], clip: None };
    if op.is_read("Gate") || op.is_read("ResetHiddenPrev") {
        return Err(Refusal::unsupported("only its output `Hidden` is supported"));
    }
    let (x, state) = (op.input("Input")?, packed(g, op.input("Weight")?)?);
    let bias = [flat(g, op.optional("Bias"))?, None];
    let &[items, columns] = &g.dims(x)[..] else {
        return Err(Refusal::invalid(format!("its input has shape {:?}", g.dims(x))));
    };
    let x = g.reshape(x, &[1, items, columns])?;
    let sequence = Sequence {
        x: &x,
        lengths: None,
        restarts: None,
        first: [Some(op.input("HiddenPrev")?), None],
        keeps_first: true,
        reverse: false,
        all: 0,
    };
    Ok(Lowered::many(
        g.recurrent(&cell, &Weights { input: None, state, bias, product: None, peepholes: None }, &sequence)?.last,
    ))
}

pub(in crate::paddle) fn gru(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    gated(g, op, "Input", None, op.input("Weight")?)
}

pub(in crate::paddle) fn fusion_gru(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    if bytes::is_int8(op) {
        return bytes::fusion_gru(g, op);
    }
    gated(g, op, "X", Some(op.input("WeightX")?), op.input("WeightH")?)
}

/// Layers of GRUs in both directions.
pub(in crate::paddle) fn multi_gru(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let layers = usize::try_from(op.int("layers")?.unwrap_or(1)).ok().filter(|n| (1..=MAX_LAYERS).contains(n));
    let layers = layers.ok_or_else(|| Refusal::invalid("its number of layers"))?;
    let (inputs, states, biases) = (op.all("WeightX"), op.all("WeightH"), op.all("Bias"));
    let fits = inputs.len() == 2 * layers && states.len() == 2 * layers && [0, 2 * layers].contains(&biases.len());
    if !fits {
        return Err(Refusal::invalid(format!("{layers} layers do not have {} weights", inputs.len())));
    }
    if bytes::is_int8(op) {
        return bytes::multi_gru(g, op, layers);
    }
    let (cell, sequences) = (gru_cell(op)?, op.sequences("X")?);
    let mut x = op.input("X")?.clone();
    for layer in 0..layers {
        let mut sides = Vec::new();
        for n in [2 * layer, 2 * layer + 1] {
            let bias = [flat(g, biases.get(n))?, None];
            let w = Weights {
                input: Some(turned(g, &inputs[n])?),
                state: packed(g, &states[n])?,
                bias,
                product: None,
                peepholes: None,
            };
            let over = Over { x: &x, sequences, first: [None; 2], reverse: n % 2 == 1, all: 1 };
            sides.extend(run(g, &cell, &w, &over)?);
        }
        x = g.concat(&sides, 1)?;
    }
    Ok(Lowered::from(x).of(sequences.clone()))
}

/// An LSTM, whose input is multiplied with `input` unless it is already.
fn long_short(g: &mut Graph, op: &Op<'_>, slot: &str, input: Option<&Value>, state: &Value) -> Result<Lowered> {
    let sequences = op.sequences(slot)?;
    let functions = [
        squash(op, "gate_activation", "sigmoid")?,
        squash(op, "candidate_activation", "tanh")?,
        squash(op, "cell_activation", "tanh")?,
    ];
    let cell = Cell { kind: Kind::Lstm { coupled: false, places: CIFO }, functions, clip: None };
    let state = turned(g, state)?;
    let units = g.dims(&state)[1];
    let bias = flat(g, op.optional("Bias"))?;
    let (bias, peepholes) = match bias {
        Some(all) if op.flag("use_peepholes", true)? => {
            if g.dims(&all) != [7 * units] {
                return Err(Refusal::invalid(format!("a bias of {:?} has no peepholes", g.dims(&all))));
            }
            // Of `i`, `f` and `o` there.
            let mut own = |n: usize| g.narrow(&all, 0, n * units, (n + 1) * units);
            let parts = [own(4)?, own(6)?, own(5)?];
            (Some(g.narrow(&all, 0, 0, 4 * units)?), Some(g.concat(&parts, 0)?))
        }
        bias => (bias, None),
    };
    let input = input.map(|w| turned(g, w)).transpose()?;
    let w = Weights { input, state, product: None, bias: [bias, None], peepholes };
    let first = [op.optional("H0"), op.optional("C0")];
    let all = if op.is_read("Cell") { 2 } else { 1 };
    let over = Over { x: op.input(slot)?, sequences, first, reverse: op.flag("is_reverse", false)?, all };
    let mut all = run(g, &cell, &w, &over)?.into_iter();
    let hidden = all.next().ok_or_else(|| Refusal::invalid("it gives nothing"))?;
    let mut lowered = Lowered::from(hidden).of(sequences.clone());
    lowered.extra.extend(all.next().map(|cell| ("Cell", Tensor::Plain(cell))));
    Ok(lowered)
}

pub(in crate::paddle) fn lstm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    long_short(g, op, "Input", None, op.input("Weight")?)
}

pub(in crate::paddle) fn fusion_lstm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    if bytes::is_int8(op) {
        return bytes::fusion_lstm(g, op);
    }
    long_short(g, op, "X", Some(op.input("WeightX")?), op.input("WeightH")?)
}

#[cfg(test)]
mod tests {
    use crate::paddle::tests::{Program, flag};

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    fn close(y: &[f32], want: &[f64]) {
        assert!(
            y.len() == want.len() && y.iter().zip(want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6),
            "{y:?}, not {want:?}"
        );
    }

    /// Rows of update, reset and new state, of sequences of 2 and 1 rows with first states of their own.
    #[test]
    fn a_gru_begins_anew_in_each_sequence() {
        let x = [0.1f32, 0.2, 0.3, -0.4, 0.5, -0.6, 0.7, 0.8, -0.9];
        let step = |row: usize, h: f64, renews: bool| {
            let [u, r, n] = [0, 1, 2].map(|i| f64::from(x[3 * row + i]));
            let (u, r) = (sigmoid(u + 0.5 * h), sigmoid(r - 0.25 * h));
            let n = (n + 2.0 * r * h).tanh();
            if renews { (1.0 - u) * h + u * n } else { u * h + (1.0 - u) * n }
        };
        for (reverse, renews) in [(false, true), (true, true), (false, false), (true, false)] {
            let program = Program::new(&[3, 3]).ragged();
            let program = program.floats("w", &[1, 3], &[0.5, -0.25, 2.0]).floats("h", &[2, 1], &[0.3, -0.7]);
            let attrs = [flag("is_reverse", reverse), flag("origin_mode", !renews)];
            let program = program.op("gru", "Input=x Weight=w H0=h", "Hidden=y", &attrs).finish();
            let y = program.run_ragged(&x, &[0, 2, 3]);
            let order = if reverse { [1, 0] } else { [0, 1] };
            let first = step(order[0], f64::from(0.3f32), renews);
            let second = step(order[1], first, renews);
            let pair = if reverse { [second, first] } else { [first, second] };
            close(y[0].1.as_f32().unwrap(), &[pair[0], pair[1], step(2, f64::from(-0.7f32), renews)]);
        }
    }

    #[test]
    fn a_unit_is_one_step() {
        let program = Program::new(&[1, 3]).floats("w", &[1, 3], &[0.5, -0.25, 2.0]).floats("h", &[1, 1], &[0.3]);
        let program = program.op("gru_unit", "Input=x Weight=w HiddenPrev=h", "Hidden=y", &[]).finish();
        let h = f64::from(0.3f32);
        let (u, r) = (sigmoid(f64::from(0.1f32) + 0.5 * h), sigmoid(f64::from(0.2f32) - 0.25 * h));
        let n = (f64::from(0.4f32) + 2.0 * r * h).tanh();
        close(&program.run(&[0.1, 0.2, 0.4]).1, &[(1.0 - u) * h + u * n]);
    }

    #[test]
    fn an_lstm_has_its_gates_in_another_order_and_peepholes() {
        let x = [0.1f32, 0.2, 0.3, -0.4, 0.5, -0.6, 0.7, 0.8];
        let bias = [0.01f32, 0.02, 0.03, 0.04, 0.5, -0.5, 0.25];
        let step = |row: usize, [h, c]: [f64; 2]| {
            let gate = |i: usize| f64::from(x[4 * row + i]) + f64::from(bias[i]) + [0.5, -0.25, 2.0, 1.0][i] * h;
            let i = sigmoid(gate(1) + 0.5 * c);
            let f = sigmoid(gate(2) - 0.5 * c);
            let c = f * c + i * gate(0).tanh();
            [sigmoid(gate(3) + 0.25 * c) * c.tanh(), c]
        };
        let program = Program::new(&[2, 4]).ragged();
        let program = program.floats("w", &[1, 4], &[0.5, -0.25, 2.0, 1.0]).floats("b", &[1, 7], &bias);
        let attrs = [flag("use_peepholes", true)];
        let program = program.op("lstm", "Input=x Weight=w Bias=b", "Hidden=h Cell=y", &attrs).finish();
        let y = program.run_ragged(&x, &[0, 2]);
        let first = step(0, [0.0; 2]);
        close(y[0].1.as_f32().unwrap(), &[first[1], step(1, first)[1]]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let program = Program::new(&[3, 3]).floats("w", &[1, 3], &[0.5, -0.25, 2.0]);
        let reasons = program.op("gru", "Input=x Weight=w", "Hidden=y", &[]).finish().reasons();
        assert!(reasons[0].contains("`Input` has no sequences"), "{reasons:?}");
    }
}
