//! Functions of single elements beyond `relu` and `clip`.
//!
//! Each function is written once, over an algebra of scalars: [`Scalars`] on `f32` is its evaluation, on values of the
//! loop dialect its code. Quantized forms are tables of the evaluation.

use super::{arg, dims_of, f32_ty, f32s};
use qc_ir::{HostTensor, Module, OpId, Type};

qc_ir::ops! { dialect ACTIVATION = "graph";
    /// `1 / (1 + exp(-x))`.
    op Sigmoid = "graph.sigmoid"(x) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// The hyperbolic tangent.
    op Tanh = "graph.tanh"(x) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `e^x`.
    op Exp = "graph.exp"(x) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// The square root; NaN for negative numbers.
    op Sqrt = "graph.sqrt"(x) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// The error function.
    op Erf = "graph.erf"(x) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `max(x, -x)`.
    op Abs = "graph.abs"(x) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `clip(alpha * x + beta, 0, 1)`.
    op HardSigmoid = "graph.hard_sigmoid"(x) -> (out) { alpha: Float, beta: Float } [PURE ELEMENTWISE]
        infer(infer) eval(eval);
    /// `x * clip(x + offset, 0, threshold) / scale`.
    op HardSwish = "graph.hard_swish"(x) -> (out) { offset: Float = 3.0, threshold: Float = 6.0, scale: Float = 6.0 }
        [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `x` where it is not negative, `alpha * x` elsewhere.
    op LeakyRelu = "graph.leaky_relu"(x) -> (out) { alpha: Float } [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `x` where it is positive, `alpha * (exp(x) - 1)` elsewhere.
    op Elu = "graph.elu"(x) -> (out) { alpha: Float = 1.0 } [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `x * sigmoid(beta * x)`.
    op Swish = "graph.swish"(x) -> (out) { beta: Float = 1.0 } [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `x * Φ(x)` with the normal distribution's `Φ`; its usual approximation by tanh if `tanh`.
    op Gelu = "graph.gelu"(x) -> (out) { tanh: Bool = false } [PURE ELEMENTWISE] infer(infer) eval(eval);
}

/// The arithmetic that functions are written in: on numbers, or on code that computes numbers.
pub trait Scalars {
    /// A number.
    type V: Copy;
    /// Why making one can fail.
    type E;

    /// A constant.
    ///
    /// # Errors
    /// As the implementor; so for the others.
    fn constant(&mut self, value: f32) -> Result<Self::V, Self::E>;
    /// `add`, `sub`, `mul`, `div`, `max` or `min` of two numbers, rounded once.
    fn binary(&mut self, op: &'static str, a: Self::V, b: Self::V) -> Result<Self::V, Self::E>;
    /// The square root.
    fn sqrt(&mut self, x: Self::V) -> Result<Self::V, Self::E>;
    /// `e^x`.
    fn exp(&mut self, x: Self::V) -> Result<Self::V, Self::E>;

    /// A number and a constant.
    fn with(&mut self, op: &'static str, a: Self::V, b: f32) -> Result<Self::V, Self::E> {
        let b = self.constant(b)?;
        self.binary(op, a, b)
    }

    /// A constant and a number.
    fn from(&mut self, a: f32, op: &'static str, b: Self::V) -> Result<Self::V, Self::E> {
        let a = self.constant(a)?;
        self.binary(op, a, b)
    }
}

/// One of the functions with its parameters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Function {
    /// [`Sigmoid`].
    Sigmoid,
    /// [`Tanh`].
    Tanh,
    /// [`Exp`].
    Exp,
    /// [`Sqrt`].
    Sqrt,
    /// [`Erf`].
    Erf,
    /// [`Abs`].
    Abs,
    /// [`HardSigmoid`].
    HardSigmoid {
        /// Factor.
        alpha: f32,
        /// Summand.
        beta: f32,
    },
    /// [`HardSwish`].
    HardSwish {
        /// Summand.
        offset: f32,
        /// Upper bound.
        threshold: f32,
        /// Divisor.
        scale: f32,
    },
    /// [`LeakyRelu`].
    LeakyRelu {
        /// Slope of the negative side.
        alpha: f32,
    },
    /// [`Elu`].
    Elu {
        /// Depth of the negative side.
        alpha: f32,
    },
    /// [`Swish`].
    Swish {
        /// Factor inside the sigmoid.
        beta: f32,
    },
    /// [`Gelu`].
    Gelu {
        /// Whether by tanh.
        tanh: bool,
    },
}

impl Function {
    /// The function that an op computes, if it is one of these.
    pub fn of(m: &Module, op: OpId) -> Option<Function> {
        let is = |def| m.is(op, def);
        Some(match () {
            () if is(Sigmoid::DEF) => Function::Sigmoid,
            () if is(Tanh::DEF) => Function::Tanh,
            () if is(Exp::DEF) => Function::Exp,
            () if is(Sqrt::DEF) => Function::Sqrt,
            () if is(Erf::DEF) => Function::Erf,
            () if is(Abs::DEF) => Function::Abs,
            () if is(HardSigmoid::DEF) => {
                Function::HardSigmoid { alpha: HardSigmoid(op).alpha(m) as f32, beta: HardSigmoid(op).beta(m) as f32 }
            }
            () if is(HardSwish::DEF) => Function::HardSwish {
                offset: HardSwish(op).offset(m) as f32,
                threshold: HardSwish(op).threshold(m) as f32,
                scale: HardSwish(op).scale(m) as f32,
            },
            () if is(LeakyRelu::DEF) => Function::LeakyRelu { alpha: LeakyRelu(op).alpha(m) as f32 },
            () if is(Elu::DEF) => Function::Elu { alpha: Elu(op).alpha(m) as f32 },
            () if is(Swish::DEF) => Function::Swish { beta: Swish(op).beta(m) as f32 },
            () if is(Gelu::DEF) => Function::Gelu { tanh: Gelu(op).tanh(m) },
            () => return None,
        })
    }

    /// The function's value at `x`.
    ///
    /// # Errors
    /// Those of the algebra.
    pub fn apply<S: Scalars>(self, s: &mut S, x: S::V) -> Result<S::V, S::E> {
        match self {
            Function::Sigmoid => sigmoid(s, x),
            Function::Tanh => tanh(s, x),
            Function::Exp => s.exp(x),
            Function::Sqrt => s.sqrt(x),
            Function::Erf => erf(s, x),
            Function::Abs => abs(s, x),
            Function::HardSigmoid { alpha, beta } => {
                let line = s.with("mul", x, alpha)?;
                let line = s.with("add", line, beta)?;
                clip(s, line, 1.0)
            }
            Function::HardSwish { offset, threshold, scale } => {
                let moved = s.with("add", x, offset)?;
                let gate = clip(s, moved, threshold)?;
                let product = s.binary("mul", x, gate)?;
                s.with("div", product, scale)
            }
            Function::LeakyRelu { alpha } => {
                let (above, below) = (s.with("max", x, 0.0)?, s.with("min", x, 0.0)?);
                let below = s.with("mul", below, alpha)?;
                s.binary("add", above, below)
            }
            Function::Elu { alpha } => {
                let (above, below) = (s.with("max", x, 0.0)?, s.with("min", x, 0.0)?);
                let power = s.exp(below)?;
                let power = s.with("sub", power, 1.0)?;
                let below = s.with("mul", power, alpha)?;
                s.binary("add", above, below)
            }
            Function::Swish { beta } => {
                let inner = s.with("mul", x, beta)?;
                let gate = sigmoid(s, inner)?;
                s.binary("mul", x, gate)
            }
            Function::Gelu { tanh: false } => gelu(s, x),
            Function::Gelu { tanh: true } => gelu_tanh(s, x),
        }
    }

    /// The function's value at one number.
    pub fn value(self, x: f32) -> f32 {
        match self.apply(&mut Numbers, x) {
            Ok(y) => y,
            Err(never) => match never {},
        }
    }
}

fn clip<S: Scalars>(s: &mut S, x: S::V, max: f32) -> Result<S::V, S::E> {
    let x = s.with("max", x, 0.0)?;
    s.with("min", x, max)
}

fn abs<S: Scalars>(s: &mut S, x: S::V) -> Result<S::V, S::E> {
    let negative = s.from(0.0, "sub", x)?;
    s.binary("max", x, negative)
}

fn sigmoid<S: Scalars>(s: &mut S, x: S::V) -> Result<S::V, S::E> {
    let negative = s.from(0.0, "sub", x)?;
    let power = s.exp(negative)?;
    let below = s.with("add", power, 1.0)?;
    s.from(1.0, "div", below)
}

/// `1 - 2 / (e^2x + 1)`: exact to rounding of 1 everywhere.
fn tanh<S: Scalars>(s: &mut S, x: S::V) -> Result<S::V, S::E> {
    let double = s.binary("add", x, x)?;
    let power = s.exp(double)?;
    let below = s.with("add", power, 1.0)?;
    let part = s.from(2.0, "div", below)?;
    s.from(1.0, "sub", part)
}

/// Coefficients of `erfc(z) ≈ t (a + t (b + ..)) exp(-z²)`, `t = 1 / (1 + 0.3275911 z)`: formula 7.1.26 of Abramowitz and
/// Stegun, with an error below 1.5e-7.
const ERFC: [f32; 5] = [0.254_829_6, -0.284_496_74, 1.421_413_7, -1.453_152, 1.061_405_4];

/// `1 - erf(z)` for `z` that is not negative.
fn erfc<S: Scalars>(s: &mut S, z: S::V) -> Result<S::V, S::E> {
    let below = s.with("mul", z, 0.327_591_1)?;
    let below = s.with("add", below, 1.0)?;
    let t = s.from(1.0, "div", below)?;
    let mut sum = s.constant(0.0)?;
    for a in ERFC.into_iter().rev() {
        sum = s.with("add", sum, a)?;
        sum = s.binary("mul", sum, t)?;
    }
    let square = s.binary("mul", z, z)?;
    let negative = s.from(0.0, "sub", square)?;
    let bell = s.exp(negative)?;
    s.binary("mul", sum, bell)
}

/// `max(x, 0) - |x| / 2 * erfc(|x| / sqrt 2)`, which needs no case for the sign.
fn gelu<S: Scalars>(s: &mut S, x: S::V) -> Result<S::V, S::E> {
    let size = abs(s, x)?;
    let z = s.with("mul", size, std::f32::consts::FRAC_1_SQRT_2)?;
    let erfc = erfc(s, z)?;
    let half = s.with("mul", size, 0.5)?;
    let tail = s.binary("mul", half, erfc)?;
    let above = s.with("max", x, 0.0)?;
    s.binary("sub", above, tail)
}

/// The size of `erf` with the sign of `x`, which is `x / |x|`, and 0 at 0.
fn erf<S: Scalars>(s: &mut S, x: S::V) -> Result<S::V, S::E> {
    let size = abs(s, x)?;
    let erfc = erfc(s, size)?;
    let above = s.from(1.0, "sub", erfc)?;
    let size = s.with("max", size, f32::MIN_POSITIVE)?;
    let sign = s.binary("div", x, size)?;
    s.binary("mul", sign, above)
}

/// `x * sigmoid(2 sqrt(2/π) (x + 0.044715 x³))`, which is the form with tanh.
fn gelu_tanh<S: Scalars>(s: &mut S, x: S::V) -> Result<S::V, S::E> {
    let square = s.binary("mul", x, x)?;
    let inner = s.with("mul", square, 0.044_715)?;
    let inner = s.with("add", inner, 1.0)?;
    let inner = s.binary("mul", inner, x)?;
    let inner = s.with("mul", inner, 2.0 * 0.797_884_6)?;
    let gate = sigmoid(s, inner)?;
    s.binary("mul", x, gate)
}

/// The algebra of numbers.
struct Numbers;

impl Scalars for Numbers {
    type V = f32;
    type E = std::convert::Infallible;

    fn constant(&mut self, value: f32) -> Result<f32, Self::E> {
        Ok(value)
    }

    fn binary(&mut self, op: &'static str, a: f32, b: f32) -> Result<f32, Self::E> {
        Ok(match op {
            "add" => a + b,
            "sub" => a - b,
            "mul" => a * b,
            "div" => a / b,
            "max" if a > b => a,
            "min" if a < b => a,
            _ => b,
        })
    }

    fn sqrt(&mut self, x: f32) -> Result<f32, Self::E> {
        Ok(x.sqrt())
    }

    fn exp(&mut self, x: f32) -> Result<f32, Self::E> {
        // The kernels' definition, so that tables do not depend on the system's library.
        Ok(qc_kernels::reference::exp(x))
    }
}

fn infer(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    f32_ty(dims_of(m, op, 0)?)
}

fn eval(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let function = Function::of(m, op).ok_or("not an activation")?;
    let out = f32s(args, 0)?.iter().map(|&x| function.value(x)).collect();
    Ok(vec![HostTensor::f32(arg(args, 0)?.dims(), out)])
}

#[cfg(test)]
mod tests {
    use super::Function;

    #[test]
    fn functions_have_their_textbook_values() {
        let close = |f: Function, x: f32, want: f64| {
            let got = f64::from(f.value(x));
            assert!((got - want).abs() <= 3e-7 * want.abs().max(1.0), "{f:?} of {x}: {got}, not {want}");
        };
        for x in [-90.0f32, -5.5, -1.0, -0.25, 0.0, 1e-4, 0.7, 3.0, 20.0] {
            let y = f64::from(x);
            close(Function::Sigmoid, x, 1.0 / (1.0 + (-y).exp()));
            close(Function::Tanh, x, y.tanh());
            close(Function::Exp, x, y.exp());
            close(Function::Swish { beta: 1.5 }, x, y / (1.0 + (-1.5 * y).exp()));
            close(Function::Elu { alpha: 0.5 }, x, if x > 0.0 { y } else { 0.5 * y.exp_m1() });
            close(Function::LeakyRelu { alpha: 0.1 }, x, if x > 0.0 { y } else { f64::from(0.1f32) * y });
            close(
                Function::HardSwish { offset: 3.0, threshold: 6.0, scale: 6.0 },
                x,
                y * (y + 3.0).clamp(0.0, 6.0) / 6.0,
            );
        }
        // Φ(1) and Φ(-0.5) from tables of the normal distribution.
        close(Function::Gelu { tanh: false }, 1.0, 0.841_344_746);
        close(Function::Gelu { tanh: false }, -0.5, -0.5 * 0.308_537_539);
        close(Function::Gelu { tanh: true }, 1.0, 0.841_191_990);
        close(Function::Erf, 0.5, 0.520_499_878);
        close(Function::Erf, -1.0, -0.842_700_793);
        close(Function::Erf, 0.0, 0.0);
        close(Function::Sqrt, 2.0, std::f64::consts::SQRT_2);
        close(Function::Abs, -2.5, 2.5);
    }
}
