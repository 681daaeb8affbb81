//! Functions of single elements. ONNX has most of them; the others are written in its ops.

use super::builder::{Call, Writer};
use super::elementwise::clamped;
use crate::error::Refusal;
use qc_dialects::graph::activation::Function;
use qc_ir::OpId;
use std::f32::consts::{LN_2, LN_10, SQRT_2};

/// Writes a function of single elements; `None` for another op.
///
/// # Errors
/// When ONNX's ops would give other numbers.
pub(super) fn write(w: &mut Writer<'_>, op: OpId) -> Result<Option<Call>, Refusal> {
    let Some(function) = Function::of(w.m, op) else { return Ok(None) };
    let x = w.operand(op, 0);
    if let Some(name) = plain(function) {
        return Ok(Some(Call::new(name, [x])));
    }
    let one = || [x.clone()];
    Ok(Some(match function {
        Function::HardSigmoid { alpha, beta } => {
            Call::new("HardSigmoid", one()).float("alpha", alpha).float("beta", beta)
        }
        Function::LeakyRelu { alpha } => Call::new("LeakyRelu", one()).float("alpha", alpha),
        Function::Elu { alpha } => Call::new("Elu", one()).float("alpha", alpha),
        Function::Shrink { bound, bias } => Call::new("Shrink", one()).float("lambd", bound).float("bias", bias),
        Function::Threshold { bound } => Call::new("ThresholdedRelu", one()).float("alpha", bound),
        Function::HardSwish { offset, threshold, scale } => hard_swish(w, &x, [offset, threshold, scale]),
        Function::Swish { beta } => {
            let inner = scaled(w, &x, beta);
            let gate = w.emit(Call::new("Sigmoid", [inner]));
            Call::new("Mul", [x, gate])
        }
        Function::Mish => {
            let plus = w.emit(Call::new("Softplus", one()));
            let gate = w.emit(Call::new("Tanh", [plus]));
            Call::new("Mul", [x, gate])
        }
        Function::Gelu { tanh: false } => gelu(w, &x),
        Function::Gelu { tanh: true } => gelu_by_tanh(w, &x),
        Function::Log2 => quotient_of_log(w, &x, LN_2),
        Function::Log10 => quotient_of_log(w, &x, LN_10),
        Function::Softplus { beta, bound } => softplus(w, &x, beta, bound)?,
        Function::Round { away: true } => return Err(other_numbers("rounds halves to the even number")),
        Function::Log1p => return Err(other_numbers("has no logarithm that is exact near 1")),
        _ => return Ok(None),
    }))
}

fn other_numbers(what: &str) -> Refusal {
    Refusal::unsupported(format!("ONNX {what}"))
        .remedy("compile the model with `qc compile`, which has this op, or cut it off where this node begins")
}

/// The operator of a function without parameters.
fn plain(function: Function) -> Option<&'static str> {
    Some(match function {
        Function::Sigmoid => "Sigmoid",
        Function::Tanh => "Tanh",
        Function::Exp => "Exp",
        Function::Sqrt => "Sqrt",
        Function::Abs => "Abs",
        Function::Softsign => "Softsign",
        Function::Sin => "Sin",
        Function::Cos => "Cos",
        Function::Erf => "Erf",
        Function::Floor => "Floor",
        Function::Ceil => "Ceil",
        Function::Round { away: false } => "Round",
        Function::Sign => "Sign",
        Function::Log => "Log",
        Function::Tan => "Tan",
        Function::Asin => "Asin",
        Function::Acos => "Acos",
        Function::Atan => "Atan",
        Function::Sinh => "Sinh",
        Function::Cosh => "Cosh",
        Function::Asinh => "Asinh",
        Function::Acosh => "Acosh",
        Function::Atanh => "Atanh",
        _ => return None,
    })
}

fn scaled(w: &mut Writer<'_>, x: &str, factor: f32) -> String {
    if factor == 1.0 {
        return x.to_string();
    }
    let factor = w.number(factor);
    w.emit(Call::new("Mul", [x.to_string(), factor]))
}

fn hard_swish(w: &mut Writer<'_>, x: &str, [offset, threshold, scale]: [f32; 3]) -> Call {
    if [offset, threshold, scale] == [3.0, 6.0, 6.0] {
        return Call::new("HardSwish", [x.to_string()]);
    }
    let [offset, scale] = [offset, scale].map(|number| w.number(number));
    let sum = Call::new("Add", [x.to_string(), offset]);
    let gate = clamped(w, sum, [0.0, f64::from(threshold)]);
    let gate = w.emit(gate);
    let product = w.emit(Call::new("Mul", [x.to_string(), gate]));
    Call::new("Div", [product, scale])
}

/// `x / 2 * (1 + erf(x / sqrt 2))`.
fn gelu(w: &mut Writer<'_>, x: &str) -> Call {
    let [root, one, half] = [SQRT_2, 1.0, 0.5].map(|number| w.number(number));
    let inner = w.emit(Call::new("Div", [x.to_string(), root]));
    let erf = w.emit(Call::new("Erf", [inner]));
    let sum = w.emit(Call::new("Add", [erf, one]));
    let product = w.emit(Call::new("Mul", [x.to_string(), sum]));
    Call::new("Mul", [product, half])
}

/// `x / 2 * (1 + tanh(sqrt(2 / π) (x + 0.044715 x³)))`.
fn gelu_by_tanh(w: &mut Writer<'_>, x: &str) -> Call {
    let root = std::f64::consts::FRAC_2_PI.sqrt() as f32;
    let [three, cubic, root, one, half] = [3.0, 0.044_715, root, 1.0, 0.5].map(|number| w.number(number));
    let cube = w.emit(Call::new("Pow", [x.to_string(), three]));
    let cube = w.emit(Call::new("Mul", [cube, cubic]));
    let inner = w.emit(Call::new("Add", [x.to_string(), cube]));
    let inner = w.emit(Call::new("Mul", [inner, root]));
    let tanh = w.emit(Call::new("Tanh", [inner]));
    let sum = w.emit(Call::new("Add", [tanh, one]));
    let product = w.emit(Call::new("Mul", [x.to_string(), sum]));
    Call::new("Mul", [product, half])
}

fn quotient_of_log(w: &mut Writer<'_>, x: &str, of_base: f32) -> Call {
    let log = w.emit(Call::new("Log", [x.to_string()]));
    let of_base = w.number(of_base);
    Call::new("Div", [log, of_base])
}

/// Beyond 15, `ln(1 + e^x)` is x in f32, so a bound from there on changes nothing.
fn softplus(w: &mut Writer<'_>, x: &str, beta: f32, bound: f32) -> Result<Call, Refusal> {
    if bound < 15.0 {
        return Err(other_numbers("has no softplus with a bound"));
    }
    let inner = scaled(w, x, beta);
    let plus = Call::new("Softplus", [inner]);
    if beta == 1.0 {
        return Ok(plus);
    }
    let [plus, beta] = [w.emit(plus), w.number(beta)];
    Ok(Call::new("Div", [plus, beta]))
}
