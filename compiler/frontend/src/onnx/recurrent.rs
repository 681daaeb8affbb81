//! `RNN`, `GRU` and `LSTM`.

use super::node::{Lowered, Node};
use crate::emit::recurrent::{Cell, IOFC, Kind, Ran, Sequence, Squash, Weights, lengths};
use crate::emit::{Graph, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::activation::Function;

type Result<T> = std::result::Result<T, Refusal>;

/// Names of functions of attributes come with numbers, which are taken in order by those that need them.
struct Numbers<'a> {
    alpha: std::slice::Iter<'a, f32>,
    beta: std::slice::Iter<'a, f32>,
}

impl Numbers<'_> {
    fn alpha(&mut self, default: f32) -> f32 {
        self.alpha.next().copied().unwrap_or(default)
    }

    fn beta(&mut self, default: f32) -> f32 {
        self.beta.next().copied().unwrap_or(default)
    }

    fn function(&mut self, name: &str) -> Result<Squash> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "relu" => Squash::Relu,
            "tanh" => Squash::Function(Function::Tanh),
            "sigmoid" => Squash::Function(Function::Sigmoid),
            "softplus" => Squash::Function(Function::Softplus { beta: 1.0, bound: f32::INFINITY }),
            "softsign" => Squash::Function(Function::Softsign),
            "leakyrelu" => Squash::Function(Function::LeakyRelu { alpha: self.alpha(0.01) }),
            "elu" => Squash::Function(Function::Elu { alpha: self.alpha(1.0) }),
            "thresholdedrelu" => Squash::Above { alpha: self.alpha(1.0) },
            "affine" => Squash::Affine { alpha: self.alpha(1.0), beta: self.beta(0.0) },
            "scaledtanh" => Squash::ScaledTanh { alpha: self.alpha(1.0), beta: self.beta(1.0) },
            "hardsigmoid" => Squash::Function(Function::HardSigmoid { alpha: self.alpha(0.2), beta: self.beta(0.5) }),
            _ => return Err(Refusal::unsupported(format!("the activation `{name}` is not supported"))),
        })
    }
}

const SIGMOID: Squash = Squash::Function(Function::Sigmoid);
const TANH: Squash = Squash::Function(Function::Tanh);

/// The functions of each direction: those of the node, else the usual ones.
fn functions(n: &Node<'_>, usual: &[Squash], directions: usize) -> Result<Vec<[Squash; 3]>> {
    let names = n.texts("activations")?.unwrap_or_default();
    let given = |name| n.floats(name).map(|v| v.unwrap_or_default().iter());
    let mut numbers = Numbers { alpha: given("activation_alpha")?, beta: given("activation_beta")? };
    let all = match names.len() {
        0 => usual.repeat(directions),
        count if count == directions * usual.len() => {
            names.iter().map(|name| numbers.function(name)).collect::<Result<Vec<_>>>()?
        }
        count => return Err(Refusal::invalid(format!("it names {count} activations"))),
    };
    let of = |own: &[Squash]| std::array::from_fn(|i| own.get(i).copied().unwrap_or(TANH));
    Ok(all.chunks(usual.len()).map(of).collect())
}

/// Inputs of the node, brought into the form of time-major sequences.
struct Operands<'n> {
    x: Value,
    lengths: Option<&'n Value>,
    /// `[directions, items, units]`.
    first: [Option<Value>; 2],
}

/// Exchanges the first two dims.
fn turned(g: &mut Graph, v: &Value) -> Result<Value> {
    let rank = g.dims(v).len();
    let perm: Vec<usize> = [1, 0].into_iter().chain(2..rank).take(rank).collect();
    if rank < 2 {
        return Err(Refusal::invalid(format!("a tensor of shape {:?} has no batch", g.dims(v))));
    }
    g.transpose(v, &perm)
}

fn operands<'n>(g: &mut Graph, n: &'n Node<'_>, batch_first: bool) -> Result<Operands<'n>> {
    let mut own = |v: Option<&Value>| -> Result<Option<Value>> {
        match v {
            Some(v) if batch_first => turned(g, v).map(Some),
            v => Ok(v.cloned()),
        }
    };
    let x = own(Some(n.input(0)?))?.ok_or_else(|| Refusal::invalid("input 0 is missing"))?;
    let first = [own(n.optional(5))?, own(n.optional(6))?];
    let &[steps, items, _] = &g.dims(&x)[..] else {
        return Err(Refusal::invalid(format!("its input has shape {:?}", g.dims(&x))));
    };
    Ok(Operands { x, lengths: lengths(g, n.optional(4), steps, items)?, first })
}

/// Direction `d` of an input, without that dim.
pub(super) fn of_direction(g: &mut Graph, v: &Value, d: usize, directions: usize) -> Result<Value> {
    let dims = g.dims(v);
    if dims.first() != Some(&directions) || dims.len() < 2 {
        return Err(Refusal::invalid(format!("an input of shape {dims:?} does not have {directions} directions")));
    }
    g.item(v, d)
}

/// Direction `d` of `directions` of a node.
pub(super) type Direction = [usize; 2];

/// Weights of a direction, which are these, with the bias and the peepholes of the node.
pub(super) fn weights(
    g: &mut Graph,
    n: &Node<'_>,
    kind: Kind,
    [input, state]: [Option<Value>; 2],
    [d, directions]: Direction,
) -> Result<Weights<'static>> {
    let state = state.ok_or_else(|| Refusal::invalid("it has no weights"))?;
    let rows = g.dims(&state).first().copied().unwrap_or(0);
    if rows % kind.gates() != 0 || n.int("hidden_size")?.is_some_and(|h| h != (rows / kind.gates()) as i64) {
        return Err(Refusal::invalid(format!("its weights have {rows} rows")));
    }
    let vector = |g: &mut Graph, v: &Value, len: usize| -> Result<Value> {
        let v = of_direction(g, v, d, directions)?;
        match g.dims(&v) == [len] {
            true => Ok(v),
            false => Err(Refusal::invalid(format!("an input has shape {:?}, not [{len}]", g.dims(&v)))),
        }
    };
    let bias = match n.optional(3) {
        None => [None, None],
        Some(b) => {
            let b = vector(g, b, 2 * rows)?;
            [g.narrow(&b, 0, 0, rows)?, g.narrow(&b, 0, rows, 2 * rows)?].map(Some)
        }
    };
    let peepholes = match (kind, n.optional(7)) {
        (Kind::Lstm { .. }, Some(p)) => Some(vector(g, p, 3 * (rows / kind.gates()))?),
        _ => None,
    };
    Ok(Weights { input, state, product: None, bias, peepholes })
}

/// How a direction of a node is run.
pub(super) type Run = fn(&mut Graph, &Node<'_>, &Cell, &Sequence<'_>, Direction) -> Result<Ran>;

/// By the products of floats.
fn as_floats(g: &mut Graph, n: &Node<'_>, cell: &Cell, s: &Sequence<'_>, at: Direction) -> Result<Ran> {
    let [d, directions] = at;
    let [input, state] = [1, 2].map(|i| n.input(i).and_then(|v| of_direction(g, v, d, directions)));
    let w = weights(g, n, cell.kind, [Some(input?), Some(state?)], at)?;
    g.recurrent(cell, &w, s)
}

/// The results of a node whose cells have these functions where it names none.
fn recurrent(g: &mut Graph, n: &Node<'_>, kind: Kind, usual: &[Squash], run: Run) -> Result<Lowered> {
    let (directions, backwards) = match n.text("direction")?.unwrap_or("forward") {
        "forward" => (1, false),
        "reverse" => (1, true),
        "bidirectional" => (2, false),
        other => return Err(Refusal::invalid(format!("the direction `{other}`"))),
    };
    let clip = n.float("clip")?.filter(|c| *c != 0.0);
    if clip.is_some_and(|c| c.is_nan() || c < 0.0) {
        return Err(Refusal::invalid("`clip` is no bound"));
    }
    let batch_first = match n.int("layout")?.unwrap_or(0) {
        0 => false,
        1 => true,
        other => return Err(Refusal::invalid(format!("the layout {other}"))),
    };
    let functions = functions(n, usual, directions)?;
    let own = operands(g, n, batch_first)?;
    let mut ran = Vec::new();
    for (d, functions) in functions.into_iter().enumerate() {
        let cell = Cell { kind, functions, clip };
        let mut first = [None, None];
        for (slot, given) in first.iter_mut().zip(&own.first) {
            *slot = given.as_ref().map(|v| of_direction(g, v, d, directions)).transpose()?;
        }
        let [h, c] = &first;
        let (reverse, all) = (backwards || d == 1, usize::from(n.used.first().copied().unwrap_or(true)));
        let first = [h.as_ref(), c.as_ref()];
        let (x, lengths) = (&own.x, own.lengths);
        let sequence = Sequence { x, lengths, restarts: None, first, keeps_first: false, reverse, all };
        ran.push(run(g, n, &cell, &sequence, [d, directions])?);
    }
    results(g, &own.x, &ran, batch_first)
}

/// `Y`, `Y_h` and `Y_c`.
fn results(g: &mut Graph, x: &Value, ran: &[Ran], batch_first: bool) -> Result<Lowered> {
    let [steps, items] = [g.dims(x)[0], g.dims(x)[1]];
    let units = ran.first().and_then(|r| r.last.first()).map_or(0, |h| g.dims(h)[1]);
    let mut values = Vec::new();
    let all: Option<Vec<Value>> = ran.iter().map(|r| r.all.first().cloned()).collect();
    values.push(match all {
        // Directions lie beside each other, which is how they are read.
        Some(all) => {
            let joined = g.concat(&all, 2)?;
            let apart = g.reshape(&joined, &[steps, items, ran.len(), units])?;
            g.transpose(&apart, if batch_first { &[1, 0, 2, 3] } else { &[0, 2, 1, 3] })?
        }
        // Nothing reads it.
        None => scalar(0.0),
    });
    for state in 0..ran[0].last.len() {
        let mut parts = Vec::new();
        for r in ran {
            parts.push(g.reshape(&r.last[state], &[1, items, units])?);
        }
        let last = g.concat(&parts, 0)?;
        values.push(if batch_first { turned(g, &last)? } else { last });
    }
    Ok(Lowered { values, why: "its results are known at import" })
}

pub(super) fn rnn(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    recurrent(g, n, Kind::Plain, &[TANH], as_floats)
}

pub(super) fn gru(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let reset_after = n.flag("linear_before_reset", false)?;
    recurrent(g, n, Kind::Gru { reset_after, renews: false }, &[SIGMOID, TANH], as_floats)
}

pub(super) fn lstm(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    lstm_by(g, n, as_floats)
}

pub(super) fn lstm_by(g: &mut Graph, n: &Node<'_>, run: Run) -> Result<Lowered> {
    let coupled = n.flag("input_forget", false)?;
    recurrent(g, n, Kind::Lstm { coupled, places: IOFC }, &[SIGMOID, TANH, TANH], run)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, floats, int, longs, text};

    /// A cell of one unit over `[3 steps, 1 item, 1 input]` with weights of 1.
    fn cell(kind: &str, gates: usize, nodes: &str) -> Model {
        let ones = |n: &str| floats(n, &[1, gates as i64, 1], &vec![1.0; gates]);
        Model::new(14, &[3, 1, 1]).constant(ones("w")).constant(ones("r")).node(kind, nodes, &[int("hidden_size", 1)])
    }

    fn close(got: &[f32], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{got:?}, not {want:?}");
    }

    #[test]
    fn a_state_goes_from_step_to_step() {
        let m = cell("RNN", 1, "x w r > y");
        let h1 = 0.5f64.tanh();
        let h2 = (h1 - 1.0).tanh();
        close(&m.run(&[0.5, -1.0, 2.0]).1, &[h1, h2, (h2 + 2.0).tanh()]);
        assert!(m.dump().contains("graph.scan"));
    }

    #[test]
    fn a_forget_gate_may_be_what_the_input_gate_leaves() {
        let ones = |n: &str| floats(n, &[1, 4, 1], &[1.0; 4]);
        let m = Model::new(14, &[1, 1, 1]).constant(ones("w")).constant(ones("r"));
        let m = m.constant(floats("c", &[1, 1, 1], &[2.0])).constant(floats("h", &[1, 1, 1], &[0.0]));
        let m = m.node("LSTM", "x w r _ _ h c > _ y", &[int("hidden_size", 1), int("input_forget", 1)]);
        let i = 1.0 / (1.0 + (-0.5f64).exp());
        close(&m.run(&[0.5]).1, &[i * ((1.0 - i) * 2.0 + i * 0.5f64.tanh()).tanh()]);
        assert!(!m.dump().contains("graph.scan"), "one step needs no region");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |m: Model, part: &str| {
            let reasons = m.reasons();
            assert!(reasons[0].contains(part), "{reasons:?}");
        };
        refused(cell("GRU", 4, "x w r > y"), "its weights have 4 rows");
        let lengths = cell("RNN", 1, "x w r _ n > y").constant(longs("n", &[4]));
        refused(lengths, "a sequence of 3 steps has the length 4");
        let ones = |n: &str| floats(n, &[1, 1, 1], &[1.0]);
        let m = Model::new(14, &[3, 1, 1]).constant(ones("w")).constant(ones("r"));
        refused(m.node("RNN", "x w r > y", &[text("direction", "upwards")]), "the direction `upwards`");
    }
}
