//! Scans over parts of an item: cells of recurrent networks, and states that change places.

use super::build::{Graph, MAX_ELEMENTS, MAX_MACS};
use super::numbers::Numbers;
use qc_dialects::graph::{Add, Function, Matmul, Mul, Slice, Sub, Transpose};
use qc_ir::{Attrs, ValueId};

/// What a scan is made of.
struct Cell {
    kind: u32,
    inputs: usize,
    units: usize,
    seed: u32,
}

/// A scan over equal parts of each item. The result has a row per item.
pub fn scan(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let elements = g.elements(x);
    let steps =
        *[7, 5, 4, 3, 2, 1].iter().cycle().skip(p[0] as usize % 6).take(6).find(|s| elements.is_multiple_of(**s))?;
    let inputs = elements / steps;
    let units = [1, 2, 5, 8, 17, 40][p[1] as usize % 6].min(MAX_ELEMENTS / (4 * steps)).max(1);
    (steps * 4 * units * (inputs + units) <= MAX_MACS).then_some(())?;
    let cell = Cell { kind: p[2] % 4, inputs, units, seed: p[3] };
    let parts = g.reshaped(x, &[steps, inputs]);
    let turned = |g: &mut Graph, v: ValueId| g.op(Transpose::DEF, &[v], Attrs::new().with("perm", [1i64, 0, 2]));
    let sequence = turned(g, parts);
    let first = |g: &mut Graph, from: usize| match p[4].is_multiple_of(3) && inputs >= units {
        true => {
            let flat = g.flat(x);
            slice(g, flat, from.min(inputs - units), units)
        }
        false => {
            let row: Vec<f32> = (0..units).map(|i| ((i + from) % 3) as f32 / 4.0).collect();
            g.floats(&[g.batch, units], row.repeat(g.batch))
        }
    };
    let states = [first(g, 0), first(g, 1)];
    let rest = first(g, 2);
    let operands = [states[0], states[1], sequence, rest];
    let attrs = Attrs::new().with("states", 2i64).with("sequences", 1i64).with("steps", steps);
    let results = g.scan(&operands, attrs.with("reverse", p[5].is_multiple_of(2)), 2..3, |g, args| cell.step(g, args));
    match results[..] {
        [_, _, all] => {
            let all = turned(g, all);
            Some(if p[6].is_multiple_of(2) { g.flat(all) } else { all })
        }
        [first, second, ..] => Some(g.op(Add::DEF, &[first, second], Attrs::new())),
        _ => None,
    }
}

/// Some elements of each row.
fn slice(g: &mut Graph, x: ValueId, from: usize, count: usize) -> ValueId {
    let rows = g.dims(x)[0] as i64;
    let bounds = |first: i64, second: usize| [first, second as i64];
    let attrs = Attrs::new().with("starts", bounds(0, from)).with("ends", bounds(rows, from + count));
    g.op(Slice::DEF, &[x], attrs.with("steps", [1i64, 1]))
}

fn function(g: &mut Graph, f: Function, x: ValueId) -> ValueId {
    let (def, attrs) = f.op();
    g.op(def, &[x], attrs)
}

impl Cell {
    /// `x` times a constant of so many columns.
    fn product(&self, g: &mut Graph, x: ValueId, rows: usize, columns: usize, which: u32) -> ValueId {
        let mut n = Numbers::new(u64::from(self.seed ^ which << 8));
        let w = (0..rows * columns).map(|_| (n.unit() - 0.5) / (rows as f32).sqrt()).collect();
        let w = g.floats(&[rows, columns], w);
        g.op(Matmul::DEF, &[x, w], Attrs::new())
    }

    /// The next two states, and what the step adds to the output, if anything.
    fn step(&self, g: &mut Graph, args: &[ValueId]) -> Vec<ValueId> {
        let &[h, c, x, rest] = args else { return Vec::new() };
        let (units, op) = (self.units, |g: &mut Graph, def, a, b| g.op(def, &[a, b], Attrs::new()));
        if self.kind == 0 {
            // States change places, and the output is what one was before.
            let projected = self.product(g, x, self.inputs, units, 0);
            let sum = op(g, Add::DEF, projected, c);
            let next = function(g, Function::Tanh, sum);
            return vec![c, next, h];
        }
        let gates = if self.kind == 1 { 1 } else { 4 };
        let own = self.product(g, x, self.inputs, gates * units, 0);
        let state = self.product(g, h, units, gates * units, 1);
        let sum = op(g, Add::DEF, state, own);
        if self.kind == 1 {
            let next = function(g, Function::Tanh, sum);
            let other = op(g, Sub::DEF, next, rest);
            return vec![next, other];
        }
        let squashed = function(g, Function::Sigmoid, sum);
        let gate: [ValueId; 4] = std::array::from_fn(|i| slice(g, squashed, i * units, units));
        let (kept, new) = (op(g, Mul::DEF, gate[2], c), op(g, Mul::DEF, gate[0], gate[3]));
        let cell = op(g, Add::DEF, kept, new);
        let shown = function(g, Function::Tanh, cell);
        let next = op(g, Mul::DEF, gate[1], shown);
        if self.kind == 2 { vec![next, cell, next] } else { vec![next, cell, op(g, Add::DEF, next, rest)] }
    }
}
