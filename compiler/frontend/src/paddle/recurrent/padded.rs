//! `rnn`: layers of cells over padded sequences, in one or both directions.

use crate::emit::recurrent::{Cell, IOFC, Kind, Sequence, Squash, Weights, lengths};
use crate::emit::{Graph, Value};
use crate::error::Refusal;
use crate::paddle::op::{Lowered, Op, Tensor};
use qc_dialects::graph::activation::Function;

type Result<T> = std::result::Result<T, Refusal>;

/// The most layers of one op.
const MAX_LAYERS: usize = 64;

/// The cell of a mode, and for each of our gates the place that it has in Paddle's order.
fn cell(mode: &str) -> Result<(Cell, &'static [usize])> {
    let (sigmoid, tanh) = (Squash::Function(Function::Sigmoid), Squash::Function(Function::Tanh));
    let of = |kind, functions| Cell { kind, functions, clip: None };
    Ok(match mode {
        // i, f, c, o there.
        "LSTM" => (of(Kind::Lstm { coupled: false, places: IOFC }, [sigmoid, tanh, tanh]), &[0, 3, 1, 2]),
        // r, z, c there.
        "GRU" => (of(Kind::Gru { reset_after: true, renews: false }, [sigmoid, tanh, tanh]), &[1, 0, 2]),
        "RNN_TANH" => (of(Kind::Plain, [tanh; 3]), &[0]),
        "RNN_RELU" => (of(Kind::Plain, [Squash::Relu; 3]), &[0]),
        other => return Err(Refusal::unsupported(format!("the mode `{other}` is not supported"))),
    })
}

/// Rows of gates in our order.
fn ordered(g: &mut Graph, v: &Value, order: &[usize]) -> Result<Value> {
    let rows = g.dims(v).first().copied().unwrap_or(0);
    if order.len() == 1 || rows % order.len() != 0 {
        return Ok(v.clone());
    }
    let units = rows / order.len();
    let parts = order.iter().map(|&gate| g.narrow(v, 0, gate * units, (gate + 1) * units));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    g.concat(&parts, 0)
}

/// Index `i` of the first dim, without it.
fn at(g: &mut Graph, v: &Value, i: usize) -> Result<Value> {
    let dims = g.dims(v);
    if dims.len() != 3 || i >= dims[0] {
        return Err(Refusal::invalid(format!("a first state has shape {dims:?}")));
    }
    g.item(v, i)
}

pub(in crate::paddle) fn rnn(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (cell, order) = cell(op.text("mode")?)?;
    let directions = if op.flag("is_bidirec", false)? { 2 } else { 1 };
    let layers = usize::try_from(op.int("num_layers")?.unwrap_or(1)).ok().filter(|n| (1..=MAX_LAYERS).contains(n));
    let layers = layers.ok_or_else(|| Refusal::invalid("its number of layers"))?;
    if !op.flag("is_test", true)? && op.float("dropout_prob")?.unwrap_or(0.0) != 0.0 && layers > 1 {
        return Err(Refusal::unsupported("it drops elements at random").remedy("export the model for inference"));
    }
    let mut x = op.input("Input")?.clone();
    let (weights, first) = (op.all("WeightList"), op.all("PreState"));
    // Matrices of all layers, then biases of all layers.
    let count = layers * directions;
    if weights.len() != 4 * count {
        return Err(Refusal::invalid(format!("it has {} weights, not {}", weights.len(), 4 * count)));
    }
    let &[steps, items, _] = &g.dims(&x)[..] else {
        return Err(Refusal::invalid(format!("its input has shape {:?}", g.dims(&x))));
    };
    let lens = lengths(g, op.optional("SequenceLength"), steps, items)?;
    let mut last: Vec<Vec<Value>> = Vec::new();
    for layer in 0..layers {
        let mut all = Vec::new();
        for d in 0..directions {
            let n = layer * directions + d;
            let mut own = |i: usize| ordered(g, &weights[i], order);
            let (input, state) = (own(2 * n)?, own(2 * n + 1)?);
            let bias = [own(2 * (count + n))?, own(2 * (count + n) + 1)?].map(Some);
            let given = first.iter().map(|v| at(g, v, n)).collect::<Result<Vec<_>>>()?;
            let s = Sequence {
                x: &x,
                lengths: lens,
                restarts: None,
                first: [given.first(), given.get(1)],
                keeps_first: true,
                reverse: d == 1,
                all: 1,
            };
            let ran =
                g.recurrent(&cell, &Weights { input: Some(input), state, bias, product: None, peepholes: None }, &s)?;
            all.extend(ran.all);
            last.push(ran.last);
        }
        x = g.concat(&all, 2)?;
    }
    let mut lowered = Lowered::from(x);
    for state in 0..last[0].len() {
        let parts: Vec<Value> = last.iter().map(|own| own[state].clone()).collect();
        lowered.extra.push(("State", Tensor::Plain(g.stack(&parts)?)));
    }
    Ok(lowered)
}

#[cfg(test)]
mod tests {
    use crate::paddle::tests::{Program, int, text};

    /// A layer of one unit over two steps; `gates` are what each takes of the input.
    fn layer(mode: &'static str, gates: &[f32]) -> Program {
        let n = gates.len() as i64;
        let zeros = vec![0.0; gates.len()];
        Program::new(&[2, 1, 1])
            .floats("w", &[n, 1], gates)
            .floats("r", &[n, 1], &vec![1.0; gates.len()])
            .floats("b", &[n], &zeros)
            .floats("c", &[n], &zeros)
            .floats("h", &[1, 1, 1], &[0.5])
            .op(
                "rnn",
                "Input=x PreState=h WeightList=w,r,b,c",
                "Out=y State=s",
                &[text("mode", mode), int("num_layers", 1), int("hidden_size", 1)],
            )
            .finish()
    }

    #[test]
    fn gates_stand_in_another_order() {
        // r, z, c: the update gate is the second.
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let step = |x: f64, h: f64| {
            let (r, z) = (sigmoid(x + h), sigmoid(2.0 * x + h));
            let c = (3.0 * x + r * h).tanh();
            z * h + (1.0 - z) * c
        };
        let (_, y) = layer("GRU", &[1.0, 2.0, 3.0]).run(&[0.25, -1.0]);
        let first = step(0.25, 0.5);
        let want = [first, step(-1.0, first)];
        assert!(y.iter().zip(want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{y:?}, not {want:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let reasons = layer("MGU", &[1.0]).reasons();
        assert!(reasons[0].contains("the mode `MGU` is not supported"), "{reasons:?}");
        let reasons = layer("LSTM", &[1.0; 3]).reasons();
        assert!(reasons[0].contains("do not fit an input"), "{reasons:?}");
    }
}
