//! Functions of single elements beyond `relu` and `clip`.
//!
//! The kernels' reference defines their values. Here stand their names, their parameters, and which kernel computes them
//! with which constants. Quantized forms are tables of the values.

use super::{arg, dims_of, f32_ty, f32s};
use qc_ir::{HostTensor, Module, OpId, Type};
use qc_kernels::{Variant, reference};

qc_ir::ops! { dialect ACTIVATION = "graph";
    /// `1 / (1 + exp(-x))`.
    op Sigmoid = "graph.sigmoid"(x: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// The hyperbolic tangent.
    op Tanh = "graph.tanh"(x: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `e^x`.
    op Exp = "graph.exp"(x: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// The square root; NaN for negative numbers.
    op Sqrt = "graph.sqrt"(x: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// The error function.
    op Erf = "graph.erf"(x: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `max(x, -x)`.
    op Abs = "graph.abs"(x: F32) -> (out) {} [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `clip(alpha * x + beta, 0, 1)`.
    op HardSigmoid = "graph.hard_sigmoid"(x: F32) -> (out) { alpha: Float, beta: Float } [PURE ELEMENTWISE]
        infer(infer) eval(eval);
    /// `x * clip(x + offset, 0, threshold) / scale`.
    op HardSwish = "graph.hard_swish"(x: F32) -> (out) { offset: Float = 3.0, threshold: Float = 6.0, scale: Float = 6.0 }
        [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `x` where it is not negative, `alpha * x` elsewhere.
    op LeakyRelu = "graph.leaky_relu"(x: F32) -> (out) { alpha: Float } [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `x` where it is positive, `alpha * (exp(x) - 1)` elsewhere.
    op Elu = "graph.elu"(x: F32) -> (out) { alpha: Float = 1.0 } [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `x * sigmoid(beta * x)`.
    op Swish = "graph.swish"(x: F32) -> (out) { beta: Float = 1.0 } [PURE ELEMENTWISE] infer(infer) eval(eval);
    /// `x * Φ(x)` with the normal distribution's `Φ`; its usual approximation by tanh if `tanh`.
    op Gelu = "graph.gelu"(x: F32) -> (out) { tanh: Bool = false } [PURE ELEMENTWISE] infer(infer) eval(eval);
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

    /// The kernel that computes the function, and its parameters.
    pub fn kernel(self) -> (Variant, [f32; 3]) {
        match self {
            Function::Sigmoid => (Variant::SigmoidF32, [0.0; 3]),
            Function::Tanh => (Variant::TanhF32, [0.0; 3]),
            Function::Exp => (Variant::ExpF32, [0.0; 3]),
            Function::Sqrt => (Variant::SqrtF32, [0.0; 3]),
            Function::Erf => (Variant::ErfF32, [0.0; 3]),
            Function::Abs => (Variant::AbsF32, [0.0; 3]),
            Function::HardSigmoid { alpha, beta } => (Variant::HardSigmoidF32, [alpha, beta, 0.0]),
            Function::HardSwish { offset, threshold, scale } => {
                (Variant::HardSwishF32, [offset, threshold, (1.0 / f64::from(scale)) as f32])
            }
            Function::LeakyRelu { alpha } => (Variant::LeakyReluF32, [alpha, 0.0, 0.0]),
            Function::Elu { alpha } => (Variant::EluF32, [alpha, 0.0, 0.0]),
            Function::Swish { beta } => (Variant::SwishF32, [beta, 0.0, 0.0]),
            Function::Gelu { tanh: false } => (Variant::GeluF32, [0.0; 3]),
            // 2 sqrt(2/π) (x + 0.044715 x³), of which the sigmoid is the form with tanh.
            Function::Gelu { tanh: true } => {
                let linear = 2.0 * (2.0 * std::f64::consts::FRAC_1_PI).sqrt();
                (Variant::GeluTanhF32, [linear as f32, (linear * 0.044_715) as f32, 0.0])
            }
        }
    }

    /// The function's value at one number.
    pub fn value(self, x: f32) -> f32 {
        let (variant, parameters) = self.kernel();
        reference::function(variant, x, parameters)
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
