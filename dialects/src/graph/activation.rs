//! Functions of single elements beyond `relu` and `clip`.
//!
//! A function is one row of `activations!`: the op, its parameters, the bounds of its values, and the kernel that computes
//! it with which constants. Its values are the kernels' (`functions.rs` of `qc-kernels`). Quantized forms are tables of the
//! values.

use super::{arg, dims_of, f32_ty, f32s};
use qc_ir::{Attr, Attrs, HostTensor, Module, OpDef, OpId, Type};
use qc_kernels::{Variant, reference};

/// Declares functions: the op of each, its form as a [`Function`], and the ways between the two.
///
/// ```text
/// activations! {
///     /// What it is.
///     Name = "graph.name" { attribute: Kind = default, .. } in least .. most => (Variant, parameters);
/// }
/// ```
///
/// Attributes are numbers (`Float`, f32 in the function) or truth values (`Bool`); a function without any has no braces.
/// `in` gives bounds of all values, where there are some; behind the arrow stands the kernel, of the attributes.
macro_rules! activations {
    ($( $(#[doc = $doc:literal])* $name:ident = $op:literal $({ $($attr:ident: $kind:ident $(= $default:expr)?),+ })?
        $(in [$least:expr, $most:expr])? => $kernel:expr; )*) => {
        qc_ir::ops! { dialect ACTIVATION = "graph";
            $( $(#[doc = $doc])* op $name = $op(x: F32) -> (out) { $($($attr: $kind $(= $default)?),+)? }
                [PURE ELEMENTWISE] infer(infer) eval(eval); )*
        }

        /// One of the functions with its parameters.
        #[derive(Clone, Copy, PartialEq, Debug)]
        pub enum Function {
            $(#[doc = concat!("[`", stringify!($name), "`].")]
            $name $({ $(#[doc = concat!("Its attribute `", stringify!($attr), "`.")] $attr: activations!(@type $kind)),+ })?,)*
        }

        impl Function {
            /// The function that ops of `def` compute, if it is one of these, with the attributes that `given` tells.
            pub fn with(def: &OpDef, given: &dyn Fn(&str) -> Option<Attr>) -> Option<Function> {
                match def.name {
                    $($op => Some(Function::$name {
                        $($($attr: activations!(@from $kind, given(stringify!($attr)))),+)?
                    }),)*
                    _ => None,
                }
            }

            /// The function that an op computes, if it is one of these.
            pub fn of(m: &Module, op: OpId) -> Option<Function> {
                Function::with(m.def(op), &|name| m.attr(op, name))
            }

            /// The op that computes the function, and its attributes.
            pub fn op(self) -> (&'static OpDef, Attrs) {
                match self {
                    $(Function::$name { $($($attr),+)? } => {
                        ($name::DEF, Attrs::new()$($(.with(stringify!($attr), $attr))+)?)
                    })*
                }
            }

            /// The kernel that computes the function, and its parameters.
            pub fn kernel(self) -> (Variant, [f32; 3]) {
                match self {
                    $(Function::$name { $($($attr),+)? } => $kernel,)*
                }
            }

            /// The least and the largest value whatever the operand; NaN is beside them.
            pub fn range(self) -> [f32; 2] {
                match self {
                    $(Function::$name { .. } => activations!(@range $($least, $most)?),)*
                }
            }
        }
    };
    (@type Float) => { f32 };
    (@type Bool) => { bool };
    (@from $kind:ident, $given:expr) => {
        match $given {
            Some(Attr::$kind(value)) => value as activations!(@type $kind),
            _ => return None,
        }
    };
    (@range) => { [f32::NEG_INFINITY, f32::INFINITY] };
    (@range $least:expr, $most:expr) => { [$least, $most] };
}

activations! {
    /// `1 / (1 + exp(-x))`.
    Sigmoid = "graph.sigmoid" in [0.0, 1.0] => (Variant::SigmoidF32, [0.0; 3]);
    /// The hyperbolic tangent.
    Tanh = "graph.tanh" in [-1.0, 1.0] => (Variant::TanhF32, [0.0; 3]);
    /// `e^x`.
    Exp = "graph.exp" in [0.0, f32::INFINITY] => (Variant::ExpF32, [0.0; 3]);
    /// The square root; NaN for negative numbers.
    Sqrt = "graph.sqrt" in [0.0, f32::INFINITY] => (Variant::SqrtF32, [0.0; 3]);
    /// `max(x, -x)`.
    Abs = "graph.abs" in [0.0, f32::INFINITY] => (Variant::AbsF32, [0.0; 3]);
    /// `clip(alpha * x + beta, 0, 1)`.
    HardSigmoid = "graph.hard_sigmoid" { alpha: Float, beta: Float } in [0.0, 1.0]
        => (Variant::HardSigmoidF32, [alpha, beta, 0.0]);
    /// `x * clip(x + offset, 0, threshold) / scale`.
    HardSwish = "graph.hard_swish" { offset: Float = 3.0, threshold: Float = 6.0, scale: Float = 6.0 }
        => (Variant::HardSwishF32, [offset, threshold, (1.0 / f64::from(scale)) as f32]);
    /// `x` where it is not negative, `alpha * x` elsewhere.
    LeakyRelu = "graph.leaky_relu" { alpha: Float } => (Variant::LeakyReluF32, [alpha, 0.0, 0.0]);
    /// `x` where it is positive, `alpha * (exp(x) - 1)` elsewhere.
    Elu = "graph.elu" { alpha: Float = 1.0 } => (Variant::EluF32, [alpha, 0.0, 0.0]);
    /// `x * sigmoid(beta * x)`.
    Swish = "graph.swish" { beta: Float = 1.0 } => (Variant::SwishF32, [beta, 0.0, 0.0]);
    /// `x * Φ(x)` with the normal distribution's `Φ`; its usual approximation by tanh if `tanh`.
    Gelu = "graph.gelu" { tanh: Bool = false } => match tanh {
        false => (Variant::GeluF32, [0.0; 3]),
        // 2 sqrt(2/π) (x + 0.044715 x³), of which the sigmoid is the form with tanh.
        true => {
            let linear = 2.0 * (2.0 * std::f64::consts::FRAC_1_PI).sqrt();
            (Variant::GeluTanhF32, [linear as f32, (linear * 0.044_715) as f32, 0.0])
        }
    };
    /// `x / (1 + |x|)`.
    Softsign = "graph.softsign" in [-1.0, 1.0] => (Variant::SoftsignF32, [0.0; 3]);
    /// The sine of an angle in radians.
    Sin = "graph.sin" in [-1.0, 1.0] => (Variant::SinF32, [0.0; 3]);
    /// The cosine of an angle in radians.
    Cos = "graph.cos" in [-1.0, 1.0] => (Variant::CosF32, [0.0; 3]);
    /// The error function.
    Erf = "graph.erf" in [-1.0, 1.0] => (Variant::ErfF32, [0.0; 3]);
    /// The largest whole number that is not above `x`.
    Floor = "graph.floor" => (Variant::FloorF32, [0.0; 3]);
    /// The smallest whole number that is not below `x`.
    Ceil = "graph.ceil" => (Variant::CeilF32, [0.0; 3]);
    /// The nearest whole number; of two, the even one, or the one that is further from 0 if `away`.
    Round = "graph.round" { away: Bool = false } => (Variant::RoundF32, [f32::from(u8::from(away)), 0.0, 0.0]);
    /// -1, 0 or 1, by the sign of `x`.
    Sign = "graph.sign" in [-1.0, 1.0] => (Variant::SignF32, [0.0; 3]);
    /// `x + bias` below `-bound`, `x - bias` above `bound`, 0 between.
    Shrink = "graph.shrink" { bound: Float = 0.5, bias: Float = 0.0 } => (Variant::ShrinkF32, [bound, bias, 0.0]);
    /// `x` above `bound`, else 0.
    Threshold = "graph.threshold" { bound: Float = 1.0 } => (Variant::ThresholdF32, [bound, 0.0, 0.0]);
    /// The natural logarithm; NaN for negative numbers.
    Log = "graph.log" => (Variant::LogF32, qc_kernels::LOG_NATURAL);
    /// The logarithm to the base 2.
    Log2 = "graph.log2" => (Variant::LogF32, qc_kernels::LOG_BINARY);
    /// The logarithm to the base 10.
    Log10 = "graph.log10" => (Variant::LogF32, qc_kernels::LOG_DECIMAL);
    /// The natural logarithm of `1 + x`.
    Log1p = "graph.log1p" => (Variant::Log1pF32, [0.0; 3]);
    /// `ln(1 + exp(beta * x)) / beta`, or `x` where `beta * x` is above `bound`.
    Softplus = "graph.softplus" { beta: Float = 1.0, bound: Float = f64::INFINITY } => (Variant::SoftplusF32, [beta, bound, 0.0]);
    /// `x * tanh(ln(1 + exp(x)))`.
    Mish = "graph.mish" => (Variant::MishF32, [0.0; 3]);
    /// The tangent of an angle in radians.
    Tan = "graph.tan" => (Variant::TanF32, [0.0; 3]);
    /// The angle whose sine is `x`.
    Asin = "graph.asin" in [-1.570_796_4, 1.570_796_4] => (Variant::AsinF32, [0.0; 3]);
    /// The angle whose cosine is `x`.
    Acos = "graph.acos" in [0.0, 3.141_592_8] => (Variant::AcosF32, [0.0; 3]);
    /// The angle whose tangent is `x`.
    Atan = "graph.atan" in [-1.570_796_4, 1.570_796_4] => (Variant::AtanF32, [0.0; 3]);
    /// The hyperbolic sine.
    Sinh = "graph.sinh" => (Variant::SinhF32, [0.0; 3]);
    /// The hyperbolic cosine.
    Cosh = "graph.cosh" in [1.0, f32::INFINITY] => (Variant::CoshF32, [0.0; 3]);
    /// The inverse of the hyperbolic sine.
    Asinh = "graph.asinh" => (Variant::AsinhF32, [0.0; 3]);
    /// The inverse of the hyperbolic cosine; NaN below 1.
    Acosh = "graph.acosh" in [0.0, f32::INFINITY] => (Variant::AcoshF32, [0.0; 3]);
    /// The inverse of the hyperbolic tangent; NaN beyond -1 and 1.
    Atanh = "graph.atanh" => (Variant::AtanhF32, [0.0; 3]);
}

impl Function {
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
        close(Function::Log2, 8.0, 3.0);
        close(Function::Log10, 1e-3, -3.0);
        close(Function::Round { away: true }, 2.5, 3.0);
        close(Function::Round { away: false }, 2.5, 2.0);
        close(Function::Softplus { beta: 2.0, bound: 20.0 }, 0.5, 0.656_630_8);
        close(Function::Shrink { bound: 0.5, bias: 0.25 }, -2.0, -1.75);
        close(Function::Sqrt, 2.0, std::f64::consts::SQRT_2);
        close(Function::Abs, -2.5, 2.5);
    }
}
