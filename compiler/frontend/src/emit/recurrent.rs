//! Recurrent cells: RNN, GRU and LSTM of both formats in one form.
//!
//! The product of the input with its weights is one matrix product for all steps in front of a scan; inside it are the product of
//! the state with its own weights, and the gates. Gates of an LSTM stand where [`Kind::Lstm`] says, those of a GRU in the order
//! update, reset, new.

use super::scan::{Given, Inside, Over};
use super::{Arith, Graph, Relation, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::activation::Function;
use qc_ir::{Elem, HostTensor};

type Result<T> = std::result::Result<T, Refusal>;

/// A function that gates go through.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Squash {
    /// One of the functions of single elements.
    Function(Function),
    Relu,
    /// `alpha * x + beta`.
    Affine {
        alpha: f32,
        beta: f32,
    },
    /// `x` where it is above `alpha`, else 0.
    Above {
        alpha: f32,
    },
    /// `alpha * tanh(beta * x)`.
    ScaledTanh {
        alpha: f32,
        beta: f32,
    },
}

/// What a state goes through in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `f(x + h)`.
    Plain,
    /// With `reset_after`, the reset gate multiplies the product of the state, else the state. The update gate is how much of the
    /// state is kept, or, with `renews`, how much comes new.
    Gru { reset_after: bool, renews: bool },
    /// With `coupled`, the forget gate is what the input gate leaves. `places` are those of the gates `i, o, f, c`.
    Lstm { coupled: bool, places: [usize; 4] },
}

/// The places of the gates of an LSTM in ONNX.
pub(crate) const IOFC: [usize; 4] = [0, 1, 2, 3];

impl Kind {
    /// How many gates there are.
    pub fn gates(self) -> usize {
        match self {
            Kind::Plain => 1,
            Kind::Gru { .. } => 3,
            Kind::Lstm { .. } => 4,
        }
    }
}

/// A cell.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Cell {
    pub kind: Kind,
    /// Of the gates, of what comes in, of the cell's state.
    pub functions: [Squash; 3],
    /// Between which bounds, one negative and one positive, the operands of functions of gates are held.
    pub clip: Option<f32>,
}

/// The product of a state `[items, units]` with all weights of a cell: `[items, rows]`.
pub(crate) type Product<'a> = &'a dyn Fn(&mut Graph, &Value) -> Result<Value>;

/// Weights of a cell in one direction; rows are gates times units.
pub(crate) struct Weights<'a> {
    /// `[rows, inputs]`; none if the input is their product already.
    pub input: Option<Value>,
    /// `[rows, units]`.
    pub state: Value,
    /// How the state is multiplied with its weights, if not as floats are.
    pub product: Option<Product<'a>>,
    /// `[rows]`, of the input's product and of the state's, where they have one.
    pub bias: [Option<Value>; 2],
    /// `[3 * units]` factors of the cell's state: of `i`, `o` and `f`.
    pub peepholes: Option<Value>,
}

/// What a cell is run over in one direction.
pub(crate) struct Sequence<'a> {
    /// `[steps, items, inputs]`.
    pub x: &'a Value,
    /// `[items]`: how many steps each has; all if there are none.
    pub lengths: Option<&'a Value>,
    /// `[steps, items, 1]`: where the first state takes the place of the one before, since another sequence begins.
    pub restarts: Option<&'a Value>,
    /// 0 if there is none: the state, and the cell's state. `[items, units]`, or for each step if there are restarts.
    pub first: [Option<&'a Value>; 2],
    /// Whether the first state is the last one of an item without steps, which else is 0.
    pub keeps_first: bool,
    pub reverse: bool,
    /// Of how many of the states all steps are wanted.
    pub all: usize,
}

/// What a cell gives.
pub(crate) struct Ran {
    /// `[steps, items, units]` of each that is wanted.
    pub all: Vec<Value>,
    /// The last state, and the last one of the cell.
    pub last: Vec<Value>,
}

impl Graph {
    fn squashed(&mut self, cell: &Cell, f: Squash, x: &Value) -> Result<Value> {
        let x = match cell.clip {
            Some(bound) => self.clip(x, -bound, bound)?,
            None => x.clone(),
        };
        self.squash(f, &x)
    }

    fn squash(&mut self, f: Squash, x: &Value) -> Result<Value> {
        match f {
            Squash::Function(f) => self.function(f, x),
            Squash::Relu => self.relu(x),
            Squash::Affine { alpha, beta } => {
                let scaled = self.times(x, alpha)?;
                self.plus(&scaled, beta)
            }
            Squash::Above { alpha } => {
                let above = self.compare(Relation::Less, &scalar(alpha), x)?;
                self.select(&above, x, &scalar(0.0))
            }
            Squash::ScaledTanh { alpha, beta } => {
                let inner = self.times(x, beta)?;
                let tanh = self.function(Function::Tanh, &inner)?;
                self.times(&tanh, alpha)
            }
        }
    }

    /// Runs a cell over a sequence.
    ///
    /// # Errors
    /// What does not fit.
    pub fn recurrent(&mut self, cell: &Cell, w: &Weights<'_>, s: &Sequence<'_>) -> Result<Ran> {
        let (dims, rows) = (self.dims(s.x), self.dims(&w.state));
        let (&[steps, items, inputs], &[_, units]) = (&dims[..], &rows[..]) else {
            return Err(Refusal::invalid(format!("its input has shape {dims:?}, its weights {rows:?}")));
        };
        let gates = cell.kind.gates() * units;
        let input_fits = w.input.as_ref().map_or(inputs == gates, |w| self.dims(w) == [gates, inputs]);
        if rows != [gates, units] || !input_fits || steps == 0 {
            return Err(Refusal::invalid(format!("weights of shape {rows:?} do not fit an input of shape {dims:?}")));
        }
        let states = if matches!(cell.kind, Kind::Lstm { .. }) { 2 } else { 1 };
        let given = s.first.map(|v| v.filter(|_| s.restarts.is_none()));
        let first = given[..states].iter().map(|v| self.first_state(*v, items, units));
        let first = first.collect::<Result<Vec<Value>>>()?;
        let [bias, of_state] = self.biases(cell, w, units)?;
        let projected = match (&w.input, bias) {
            (Some(input), bias) => self.matmul(s.x, input, bias.as_ref(), [false, true])?,
            (None, Some(bias)) => self.arith(Arith::Add, s.x, &bias)?,
            (None, None) => s.x.clone(),
        };
        let mut sequences = vec![projected];
        if let Some(lengths) = s.lengths {
            sequences.push(self.runs_in_step(lengths, steps, items)?);
        }
        if let Some(restarts) = s.restarts {
            sequences.push(restarts.clone());
            sequences.extend(s.first[..states].iter().flatten().map(|&v| v.clone()));
        }
        // What is computed comes into the region as an operand, constants stand in it.
        let parts = [Some(&w.state), of_state.as_ref(), w.peepholes.as_ref()];
        let computed = parts.into_iter().flatten().filter(|v| v.known().is_none()).cloned();
        let same: Vec<Value> = computed.collect();
        let over = Over { states: &first, sequences: &sequences, same: &same, steps, reverse: s.reverse };
        let given = self.scan(&over, |g, inside| {
            let mut computed = inside.same.iter();
            let mut own = |v: Option<&Value>| match v {
                Some(v) if v.known().is_none() => computed.next().cloned(),
                v => v.cloned(),
            };
            let [Some(state), bias, peepholes] = parts.map(&mut own) else {
                return Err(Refusal::invalid("it has no weights"));
            };
            Step { cell, units, state, by: w.product, bias, peepholes }.run(g, &inside, s)
        })?;
        let mut last = given.states;
        if let Some(lengths) = s.lengths.filter(|_| !s.keeps_first) {
            for v in &mut last {
                *v = self.unless_empty(lengths, items, v)?;
            }
        }
        Ok(Ran { all: given.outputs, last })
    }

    /// The first value of a state.
    fn first_state(&mut self, given: Option<&Value>, items: usize, units: usize) -> Result<Value> {
        let Some(v) = given else {
            self.charge(4 * items * units)?;
            return Ok(HostTensor::f32([items, units], vec![0.0; items * units]).into());
        };
        self.expect_f32(v)?;
        match self.dims(v) == [items, units] {
            true => Ok(v.clone()),
            false => Err(Refusal::invalid(format!("a first state has shape {:?}", self.dims(v)))),
        }
    }

    /// What is added to the product of the input, and to that of the state.
    fn biases(&mut self, cell: &Cell, w: &Weights<'_>, units: usize) -> Result<[Option<Value>; 2]> {
        let (input, state) = match &w.bias {
            [Some(input), Some(state)] => (input, state),
            [input, None] => return Ok([input.clone(), None]),
            [None, Some(_)] => return Err(Refusal::invalid("it has half a bias")),
        };
        if !matches!(cell.kind, Kind::Gru { reset_after: true, .. }) {
            return Ok([Some(self.arith(Arith::Add, input, state)?), None]);
        }
        // The reset gate multiplies the last third of the state's.
        let zeros = |n: usize| Value::from(HostTensor::f32([n], vec![0.0; n]));
        let (gates, last) = (self.narrow(state, 0, 0, 2 * units)?, self.narrow(state, 0, 2 * units, 3 * units)?);
        let gates = self.concat(&[gates, zeros(units)], 0)?;
        let last = self.concat(&[zeros(2 * units), last], 0)?;
        Ok([Some(self.arith(Arith::Add, input, &gates)?), Some(last)])
    }

    /// `[steps, items, 1]`: whether an item has that step.
    fn runs_in_step(&mut self, lengths: &Value, steps: usize, items: usize) -> Result<Value> {
        let elem = self.elem(lengths);
        let counted = self.counted(elem, steps)?;
        let (at, lengths) = (self.reshape(&counted, &[steps, 1, 1])?, self.reshape(lengths, &[1, items, 1])?);
        self.compare(Relation::Less, &at, &lengths)
    }

    /// What stands for the last state of an item without steps is 0.
    fn unless_empty(&mut self, lengths: &Value, items: usize, v: &Value) -> Result<Value> {
        let zero = self.integer(self.elem(lengths), 0)?;
        let lengths = self.reshape(lengths, &[items, 1])?;
        let any = self.compare(Relation::Less, &zero, &lengths)?;
        self.select(&any, v, &scalar(0.0))
    }
}

/// One step of a cell.
struct Step<'c> {
    cell: &'c Cell,
    units: usize,
    state: Value,
    by: Option<Product<'c>>,
    bias: Option<Value>,
    peepholes: Option<Value>,
}

impl Step<'_> {
    /// The next states, and what stands for this step.
    fn run(&self, g: &mut Graph, inside: &Inside, s: &Sequence<'_>) -> Result<Given> {
        let mut items = inside.items.iter();
        let x = items.next().ok_or_else(|| Refusal::invalid("it has no input"))?;
        let runs = s.lengths.and_then(|_| items.next());
        let mut before = inside.states.clone();
        if let Some(restart) = s.restarts.and_then(|_| items.next()) {
            for (state, given) in before.iter_mut().zip(s.first) {
                let first = given.and_then(|_| items.next()).cloned().unwrap_or_else(|| scalar(0.0));
                *state = g.select(restart, &first, state)?;
            }
        }
        let before = &before[..];
        let mut next = match self.cell.kind {
            Kind::Plain => {
                let h = self.product(g, &before[0], 0, 1)?;
                let sum = g.arith(Arith::Add, x, &h)?;
                vec![g.squashed(self.cell, self.cell.functions[0], &sum)?]
            }
            Kind::Gru { reset_after, renews } => vec![self.gru(g, x, &before[0], [reset_after, renews])?],
            Kind::Lstm { coupled, places } => self.lstm(g, x, [&before[0], &before[1]], coupled, places)?,
        };
        let mut outputs = next[..s.all.min(next.len())].to_vec();
        if let Some(runs) = runs {
            for output in &mut outputs {
                *output = g.select(runs, output, &scalar(0.0))?;
            }
            for (new, old) in next.iter_mut().zip(before) {
                *new = g.select(runs, new, old)?;
            }
        }
        Ok(Given { states: next, outputs })
    }

    /// The product of a state with the weights of gates `from..to`.
    fn product(&self, g: &mut Graph, h: &Value, from: usize, to: usize) -> Result<Value> {
        if let Some(product) = self.by {
            return self.product_by(g, h, product, [from, to]);
        }
        let rows = [from * self.units, to * self.units];
        let part = |g: &mut Graph, v: &Value| g.narrow(v, 0, rows[0], rows[1]);
        let (w, bias) = (part(g, &self.state)?, self.bias.as_ref().map(|b| part(g, b)).transpose()?);
        g.matmul(h, &w, bias.as_ref(), [false, true])
    }

    /// The same by a product of its own, which is that of all gates.
    fn product_by(&self, g: &mut Graph, h: &Value, product: Product<'_>, [from, to]: [usize; 2]) -> Result<Value> {
        let mut all = product(g, h)?;
        if let Some(bias) = &self.bias {
            all = g.arith(Arith::Add, &all, bias)?;
        }
        self.gates(g, &all, from, to)
    }

    /// Gates `from..to` of a matrix of gates.
    fn gates(&self, g: &mut Graph, a: &Value, from: usize, to: usize) -> Result<Value> {
        g.narrow(a, 1, from * self.units, to * self.units)
    }

    fn gru(&self, g: &mut Graph, x: &Value, h: &Value, [reset_after, renews]: [bool; 2]) -> Result<Value> {
        let [f, of_new, _] = self.cell.functions;
        let (x_gates, x_new) = (self.gates(g, x, 0, 2)?, self.gates(g, x, 2, 3)?);
        let (h_gates, h_new) = match reset_after {
            true => {
                let all = self.product(g, h, 0, 3)?;
                (self.gates(g, &all, 0, 2)?, Some(self.gates(g, &all, 2, 3)?))
            }
            false => (self.product(g, h, 0, 2)?, None),
        };
        let sum = g.arith(Arith::Add, &h_gates, &x_gates)?;
        let gates = g.squashed(self.cell, f, &sum)?;
        let (z, r) = (self.gates(g, &gates, 0, 1)?, self.gates(g, &gates, 1, 2)?);
        let h_new = match h_new {
            Some(h_new) => g.arith(Arith::Mul, &h_new, &r)?,
            None => {
                let reset = g.arith(Arith::Mul, h, &r)?;
                let reset = g.beside(h, reset, "reset");
                self.product(g, &reset, 2, 3)?
            }
        };
        let sum = g.arith(Arith::Add, &h_new, &x_new)?;
        let new = g.squashed(self.cell, of_new, &sum)?;
        // (1 - z) * n + z * h, or the other way round.
        let (from, to) = if renews { (h, &new) } else { (&new, h) };
        let far = g.arith(Arith::Sub, to, from)?;
        let part = g.arith(Arith::Mul, &far, &z)?;
        g.arith(Arith::Add, from, &part)
    }

    fn lstm(
        &self,
        g: &mut Graph,
        x: &Value,
        [h, c]: [&Value; 2],
        coupled: bool,
        places: [usize; 4],
    ) -> Result<Vec<Value>> {
        let [f, of_new, of_cell] = self.cell.functions;
        let product = self.product(g, h, 0, 4)?;
        let a = g.arith(Arith::Add, &product, x)?;
        // The three that have one function are one block where they stand beside each other.
        let start = if places[3] == 0 { 1 } else { 0 };
        let one_by_one = self.peepholes.is_some() || coupled || !matches!(places[3], 0 | 3);
        let gates = if one_by_one { None } else { Some(self.gates(g, &a, start, start + 3)?) };
        let gates = gates.map(|gates| g.squashed(self.cell, f, &gates)).transpose()?;
        let gate = |g: &mut Graph, n: usize, c: &Value| match &gates {
            Some(gates) => self.gates(g, gates, places[n] - start, places[n] - start + 1),
            None => {
                let own = self.gates(g, &a, places[n], places[n] + 1)?;
                let own = self.peeped(g, own, n, c)?;
                g.squashed(self.cell, f, &own)
            }
        };
        let i = gate(g, 0, c)?;
        let kept = if coupled { g.arith(Arith::Sub, &scalar(1.0), &i)? } else { gate(g, 2, c)? };
        let new = self.gates(g, &a, places[3], places[3] + 1)?;
        let new = g.squashed(self.cell, of_new, &new)?;
        let (old, new) = (g.arith(Arith::Mul, &kept, c)?, g.arith(Arith::Mul, &i, &new)?);
        let next = g.arith(Arith::Add, &old, &new)?;
        let o = gate(g, 1, &next)?;
        // Its operand is not clipped.
        let shown = g.squash(of_cell, &next)?;
        Ok(vec![g.arith(Arith::Mul, &o, &shown)?, next])
    }

    /// Gate `n` with what it takes of the cell's state.
    fn peeped(&self, g: &mut Graph, own: Value, n: usize, c: &Value) -> Result<Value> {
        let Some(peepholes) = &self.peepholes else { return Ok(own) };
        let factors = g.narrow(peepholes, 0, n * self.units, (n + 1) * self.units)?;
        let part = g.arith(Arith::Mul, c, &factors)?;
        g.arith(Arith::Add, &own, &part)
    }
}

/// The lengths of sequences, if they say anything: known ones that are all of `steps` do not.
///
/// # Errors
/// Lengths that are beyond the sequence.
pub(crate) fn lengths<'v>(g: &Graph, v: Option<&'v Value>, steps: usize, items: usize) -> Result<Option<&'v Value>> {
    let Some(v) = v else { return Ok(None) };
    if g.dims(v) != [items] || !matches!(g.elem(v), Elem::I32 | Elem::I64) {
        return Err(Refusal::invalid(format!("the lengths of sequences have shape {:?}", g.dims(v))));
    }
    let Some(known) = v.known() else { return Ok(Some(v)) };
    let all: Vec<i64> = (0..items).filter_map(|i| known.int(i)).collect();
    if let Some(bad) = all.iter().find(|n| !(0..=steps as i64).contains(n)) {
        return Err(Refusal::invalid(format!("a sequence of {steps} steps has the length {bad}")));
    }
    Ok(all.iter().any(|&n| n != steps as i64).then_some(v))
}
