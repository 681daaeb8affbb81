//! Ops that stay float whatever ranges say, since 8 bits would not hold what they read or carry.

use super::keep_float::mark;
use crate::graph::is_movement;
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::{Constant, Conversion, LayerNorm, Linear, Mul, Scan, Softmax};
use qc_ir::{Module, OpId, Traits, Use, ValueId};
use std::collections::HashSet;

/// Marks them all.
pub(super) fn keep(m: &mut Module) {
    keep_exponents(m);
    keep_squares(m);
    keep_logarithms(m);
    keep_gates(m);
}

/// Why what a softmax or a norm takes stays float.
const EXPONENTS: &str =
    "a softmax or a norm takes its result, which a mask or a few large numbers would leave no steps";

/// Marks the ops whose results nothing but softmaxes, norms and ops like them read. What a softmax takes are exponents, and one
/// mask of -10,000 among them makes a step of a format 39 wide; what a norm takes are sums that it adds up itself.
fn keep_exponents(m: &mut Module) {
    let mut inside: HashSet<OpId> = HashSet::new();
    for op in m.walk(m.body()).into_iter().rev() {
        let reader = m.is(op, Softmax::DEF) || m.is(op, LayerNorm::DEF);
        let within = |u: &Use| matches!(u, Use::Operand(user, _) if inside.contains(user));
        let uses = m.uses(m.result(op));
        if reader || (passes_on(m, op) && !uses.is_empty() && uses.iter().all(within)) {
            inside.insert(op);
            if !reader {
                mark(m, op, EXPONENTS);
            }
        }
    }
}

fn passes_on(m: &Module, op: OpId) -> bool {
    m.def(op).traits.has(Traits::ELEMENTWISE) || is_movement(m, op)
}

/// Why sums of squares stay float.
const SQUARES: &str = "a logarithm or a root takes its sums of squares, of which 8 bits would keep half of the digits";

/// Marks squares and what follows them up to a root or a logarithm: a power spectrum. A square has twice as many digits as
/// what it is the square of, and a root or a logarithm needs those of the small ones, too.
fn keep_squares(m: &mut Module) {
    let ops = m.walk(m.body());
    let mut squares: HashSet<ValueId> = HashSet::new();
    let reads = |m: &Module, op: OpId, of: &HashSet<ValueId>| match Linear::is(m, op) {
        true => m.operand(op, 0).is_some_and(|x| of.contains(&x)),
        false => passes_on(m, op) && m.operands(op).iter().flatten().any(|x| of.contains(x)),
    };
    for &op in &ops {
        let is_square = m.is(op, Mul::DEF) && m.operand(op, 0) == m.operand(op, 1);
        if is_square || (reads(m, op, &squares) && !ends(m, op)) {
            squares.insert(m.result(op));
        }
    }
    let mut inside: HashSet<OpId> = HashSet::new();
    for &op in ops.iter().rev() {
        let within = |u: &Use| matches!(u, Use::Operand(user, _) if inside.contains(user));
        let leads = squares.contains(&m.result(op)) && m.uses(m.result(op)).iter().any(within);
        if leads || (ends(m, op) && reads(m, op, &squares)) {
            inside.insert(op);
            mark(m, op, SQUARES);
        }
    }
}

/// Why logarithms stay float.
const RATIOS: &str =
    "a logarithm tells numbers apart by their ratio, and steps of one width hold no small ratios of small numbers";

/// Marks logarithms, whose slope has no bound: 256 numbers from 0 on hold half of one decade of ratios to a tenth.
fn keep_logarithms(m: &mut Module) {
    use Function::{Log, Log2, Log10};
    for op in m.walk(m.body()) {
        if matches!(Function::of(m, op), Some(Log | Log2 | Log10)) {
            mark(m, op, RATIOS);
        }
    }
}

/// Whether a function takes the digits of small numbers as seriously as those of large ones.
fn ends(m: &Module, op: OpId) -> bool {
    use Function::{Log, Log1p, Log2, Log10, Sqrt};
    matches!(Function::of(m, op), Some(Log | Log2 | Log10 | Log1p | Sqrt))
}

/// Why gates stay float.
const CARRIED: &str = "a scan carries it from step to step, where roundings would add up";

/// Marks what a scan computes in its steps besides products: their operands alone are quantized.
fn keep_gates(m: &mut Module) {
    for op in m.walk(m.body()) {
        let moves = is_movement(m, op) || Conversion::is(m, op);
        if Scan::around(m, op).is_some() && !moves && !Linear::is(m, op) && !m.is(op, Constant::DEF) {
            mark(m, op, CARRIED);
        }
    }
}
