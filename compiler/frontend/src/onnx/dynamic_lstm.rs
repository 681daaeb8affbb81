//! `DynamicQuantizeLSTM` of ONNX Runtime: an LSTM whose weights are integers, and whose operands are quantized by the range that they
//! have in a run: the input at once, the states of all items of the batch in each step, those of finished ones included.

use super::fused;
use super::node::{Lowered, Node};
use super::recurrent::{Direction, lstm_by, of_direction, weights};
use crate::emit::recurrent::{Cell, Ran, Sequence};
use crate::emit::{Graph, Value};
use crate::error::Refusal;

type Result<T> = std::result::Result<T, Refusal>;

/// Weights `[operand, gates times units]` of a direction as integers, with their scale and zero point, or one for each column.
struct Stored {
    weight: Value,
    scale: Value,
    zero: Option<Value>,
}

impl Stored {
    fn of(g: &mut Graph, n: &Node<'_>, [weight, scale]: [usize; 2], [d, directions]: Direction) -> Result<Stored> {
        let part = |g: &mut Graph, v: &Value| match g.dims(v)[..] {
            [one] if one == directions => {
                let one = g.narrow(v, 0, d, d + 1)?;
                g.reshape(&one, &[])
            }
            _ => of_direction(g, v, d, directions),
        };
        let zero = n.optional(scale + 1).map(|v| part(g, v)).transpose()?;
        Ok(Stored { weight: of_direction(g, n.input(weight)?, d, directions)?, scale: part(g, n.input(scale)?)?, zero })
    }

    /// The product with `x`, which is quantized by its range.
    fn product(&self, g: &mut Graph, n: &Node<'_>, x: &Value) -> Result<Value> {
        let inputs = [Some(x), Some(&self.weight), Some(&self.scale), self.zero.as_ref()].map(Option::<&Value>::cloned);
        let product = fused::dynamic_quantize_matmul(g, &n.with(inputs.to_vec()))?;
        product.values.into_iter().next().ok_or_else(|| Refusal::invalid("it has no product"))
    }
}

pub(super) fn dynamic_quantize_lstm(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    lstm_by(g, n, run)
}

fn run(g: &mut Graph, n: &Node<'_>, cell: &Cell, s: &Sequence<'_>, at: Direction) -> Result<Ran> {
    let (input, state) = (Stored::of(g, n, [1, 8], at)?, Stored::of(g, n, [2, 10], at)?);
    let product = |g: &mut Graph, h: &Value| state.product(g, n, h);
    let rows = g.transpose(&state.weight, &[1, 0])?;
    let mut w = weights(g, n, cell.kind, [None, Some(rows)], at)?;
    w.product = Some(&product);
    // What is quantized together in a step are the states of items that began together, also where they run backwards.
    let Some(lengths) = s.lengths.filter(|_| s.reverse) else {
        let x = input.product(g, n, s.x)?;
        return g.recurrent(cell, &w, &Sequence { x: &x, ..*s });
    };
    let x = g.reversed_steps(s.x, lengths, [0, 1])?;
    let x = input.product(g, n, &x)?;
    let mut ran = g.recurrent(cell, &w, &Sequence { x: &x, reverse: false, ..*s })?;
    for all in &mut ran.all {
        *all = g.reversed_steps(all, lengths, [0, 1])?;
    }
    Ok(ran)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, bytes, floats, int, longs, text};

    /// A cell of one unit whose weights are 64 steps of `scale`, over items of one input.
    fn cell(steps: i64, items: i64, nodes: &str, direction: &'static str) -> Model {
        let weights = |n: &str| bytes(n, 3, &[1, 1, 4], &[64; 4]);
        Model::new(14, &[steps, items, 1])
            .constant(weights("w"))
            .constant(weights("r"))
            .constant(floats("ws", &[1], &[1.0 / 64.0]))
            .constant(floats("rs", &[1, 4], &[1.0 / 64.0; 4]))
            .constant(bytes("wz", 3, &[1], &[0]))
            .constant(bytes("rz", 3, &[1, 4], &[0; 4]))
            .constant(longs("n", &[2, 1]))
            .node("DynamicQuantizeLSTM", nodes, &[int("hidden_size", 1), text("direction", direction)])
            .of_domain("com.microsoft")
    }

    /// A number in the format of a range.
    fn rounded(v: f64, [lo, hi]: [f64; 2]) -> f64 {
        let scale = (hi.max(0.0) - lo.min(0.0)) / 255.0;
        if scale == 0.0 { 0.0 } else { (v / scale).round_ties_even() * scale }
    }

    fn step(x: f64, [h, c]: [f64; 2]) -> [f64; 2] {
        let gate = 1.0 / (1.0 + (-(x + h)).exp());
        let next = gate * c + gate * (x + h).tanh();
        [gate * next.tanh(), next]
    }

    fn close(got: &[f32], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{got:?}, not {want:?}");
    }

    #[test]
    fn the_states_of_a_batch_are_quantized_together() {
        let m = cell(2, 2, "x w r _ _ _ _ _ ws wz rs rz > y", "forward");
        // Range of the input: 0..2, steps of 2/255; that of the states is theirs.
        let x = [2.0, 0.5, 1.25, 0.25].map(|v| rounded(v, [0.0, 2.0]));
        let first = [step(x[0], [0.0; 2]), step(x[1], [0.0; 2])];
        let range = [0.0, first[0][0].max(first[1][0])];
        let second = |i: usize| step(x[2 + i], [rounded(first[i][0], range), first[i][1]])[0];
        close(&m.run(&[2.0, 0.5, 1.25, 0.25]).1, &[first[0][0], first[1][0], second(0), second(1)]);
        assert!(m.dump().contains("graph.integer_matmul"));
    }

    #[test]
    fn items_that_run_backwards_begin_together() {
        // Lengths 2 and 1: the second item's only step is the first of the two that are run.
        let m = cell(2, 2, "x w r _ n _ _ _ ws wz rs rz > y", "reverse");
        let x = [2.0, 0.5, 1.25, 0.25].map(|v| rounded(v, [0.0, 2.0]));
        let first = [step(x[2], [0.0; 2]), step(x[1], [0.0; 2])];
        let range = [0.0, first[0][0].max(first[1][0])];
        let last = step(x[0], [rounded(first[0][0], range), first[0][1]]);
        close(&m.run(&[2.0, 0.5, 1.25, 0.25]).1, &[last[0], first[1][0], first[0][0], 0.0]);
    }
}
