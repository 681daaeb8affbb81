//! The functions of single elements in the words of the formats: one row each.

use crate::error::Refusal;
use crate::onnx::node::Lower as LowerNode;
use crate::paddle::op::{Row as PaddleRow, VERSION_2};
use crate::paddle::pir::row::Row as PirRow;
use qc_dialects::graph::Function;

/// What the formats call a function; a format that does not have it has no row.
pub(crate) struct Names {
    /// Operator of ONNX.
    pub onnx: Option<(&'static str, LowerNode)>,
    /// Op of Paddle 1 and 2.
    pub paddle: Option<PaddleRow>,
    /// Op of Paddle 3, by way of the op of a program.
    pub pir: Option<PirRow>,
}

/// Stamps rows: `onnx "Name" |node| function;` and `paddle "program_op" "pir_op" |op| function;`, each where the format has
/// it. Attributes that Paddle 3 calls otherwise stand in brackets behind its name: name there, name in a program.
macro_rules! functions {
    ($($row:ident {
        $(onnx $onnx:literal |$node:pat_param| $of_node:expr;)?
        $(paddle $program:literal $pir:literal $([$($renamed:expr),+])? |$op:pat_param| $of_op:expr;)?
    })*) => {
        /// All functions.
        pub(crate) static FUNCTIONS: &[Names] = &[$(Names {
            onnx: functions!(@option $(($onnx, |g, n| {
                let $node = n;
                let function = $of_node;
                Ok(g.function(function, n.input(0)?)?.into())
            }))?),
            paddle: functions!(@option $(PaddleRow { name: $program, out: "Out", lower: |g, op| {
                let $op = op;
                let function = $of_op;
                Ok(g.function(function, op.input("X")?)?.into())
            } })?),
            pir: functions!(@option $(PirRow {
                name: $pir, program: $program, inputs: &["X"], output: "Out", more: &[], renamed: &[$($($renamed),+)?],
            })?),
        }),*];
    };
    (@option) => { None };
    (@option $row:expr) => { Some($row) };
}

functions! {
    Abs { paddle "abs" "abs" |_| Function::Abs; }
    Acos { onnx "Acos" |_| Function::Acos; paddle "acos" "acos" |_| Function::Acos; }
    Acosh { onnx "Acosh" |_| Function::Acosh; paddle "acosh" "acosh" |_| Function::Acosh; }
    Asin { onnx "Asin" |_| Function::Asin; paddle "asin" "asin" |_| Function::Asin; }
    Asinh { onnx "Asinh" |_| Function::Asinh; paddle "asinh" "asinh" |_| Function::Asinh; }
    Atan { onnx "Atan" |_| Function::Atan; paddle "atan" "atan" |_| Function::Atan; }
    Atanh { onnx "Atanh" |_| Function::Atanh; paddle "atanh" "atanh" |_| Function::Atanh; }
    Ceil { onnx "Ceil" |_| Function::Ceil; paddle "ceil" "ceil" |_| Function::Ceil; }
    Cos { onnx "Cos" |_| Function::Cos; paddle "cos" "cos" |_| Function::Cos; }
    Cosh { onnx "Cosh" |_| Function::Cosh; paddle "cosh" "cosh" |_| Function::Cosh; }
    Elu {
        onnx "Elu" |n| Function::Elu { alpha: n.float("alpha")?.unwrap_or(1.0) };
        paddle "elu" "elu" |op| Function::Elu { alpha: op.float("alpha")?.unwrap_or(1.0) };
    }
    Erf { onnx "Erf" |_| Function::Erf; paddle "erf" "erf" |_| Function::Erf; }
    Exp { onnx "Exp" |_| Function::Exp; paddle "exp" "exp" |_| Function::Exp; }
    Floor { onnx "Floor" |_| Function::Floor; paddle "floor" "floor" |_| Function::Floor; }
    Gelu {
        onnx "Gelu" |n| match n.text("approximate")?.unwrap_or("none") {
            "none" => Function::Gelu { tanh: false },
            "tanh" => Function::Gelu { tanh: true },
            other => return Err(Refusal::invalid(format!("approximate is `{other}`"))),
        };
        paddle "gelu" "gelu" |op| Function::Gelu { tanh: op.flag("approximate", false)? };
    }
    HardShrink {
        onnx "Shrink" |n| Function::Shrink {
            bound: n.float("lambd")?.unwrap_or(0.5),
            bias: n.float("bias")?.unwrap_or(0.0),
        };
        paddle "hard_shrink" "hardshrink" |op| Function::Shrink {
            bound: op.float("threshold")?.unwrap_or(0.5),
            bias: 0.0,
        };
    }
    HardSigmoid {
        onnx "HardSigmoid" |n| Function::HardSigmoid {
            alpha: n.float("alpha")?.unwrap_or(0.2),
            beta: n.float("beta")?.unwrap_or(0.5),
        };
        paddle "hard_sigmoid" "hardsigmoid" |op| Function::HardSigmoid {
            alpha: op.float("slope")?.unwrap_or(0.2),
            beta: op.float("offset")?.unwrap_or(0.5),
        };
    }
    HardSwish {
        onnx "HardSwish" |_| Function::HardSwish { offset: 3.0, threshold: 6.0, scale: 6.0 };
        // The kernels of 2.x have fixed numbers, whatever the attributes say.
        paddle "hard_swish" "hardswish" |op| if op.version >= VERSION_2 {
            Function::HardSwish { offset: 3.0, threshold: 6.0, scale: 6.0 }
        } else {
            let number = |name, default| Ok::<f32, Refusal>(op.float(name)?.unwrap_or(default));
            Function::HardSwish {
                offset: number("offset", 3.0)?,
                threshold: number("threshold", 6.0)?,
                scale: number("scale", 6.0)?,
            }
        };
    }
    LeakyRelu {
        onnx "LeakyRelu" |n| Function::LeakyRelu { alpha: n.float("alpha")?.unwrap_or(0.01) };
        paddle "leaky_relu" "leaky_relu" [("negative_slope", "alpha")]
            |op| Function::LeakyRelu { alpha: op.float("alpha")?.unwrap_or(0.02) };
    }
    Log { onnx "Log" |_| Function::Log; paddle "log" "log" |_| Function::Log; }
    Log10 { paddle "log10" "log10" |_| Function::Log10; }
    Log1p { paddle "log1p" "log1p" |_| Function::Log1p; }
    Log2 { paddle "log2" "log2" |_| Function::Log2; }
    Mish { onnx "Mish" |_| Function::Mish; paddle "mish" "mish" |_| Function::Mish; }
    Round {
        onnx "Round" |_| Function::Round { away: false };
        paddle "round" "round" |op| match op.int("decimals")?.unwrap_or(0) {
            0 => Function::Round { away: true },
            other => return Err(Refusal::unsupported(format!("it rounds to {other} decimals"))),
        };
    }
    Sigmoid { onnx "Sigmoid" |_| Function::Sigmoid; paddle "sigmoid" "sigmoid" |_| Function::Sigmoid; }
    Silu { paddle "silu" "silu" |_| Function::Swish { beta: 1.0 }; }
    Sin { onnx "Sin" |_| Function::Sin; paddle "sin" "sin" |_| Function::Sin; }
    Sinh { onnx "Sinh" |_| Function::Sinh; paddle "sinh" "sinh" |_| Function::Sinh; }
    SoftShrink {
        paddle "softshrink" "softshrink" [("threshold", "lambda")] |op| {
            let bound = op.float("lambda")?.unwrap_or(0.5);
            Function::Shrink { bound, bias: bound }
        };
    }
    Softplus {
        onnx "Softplus" |_| Function::Softplus { beta: 1.0, bound: f32::INFINITY };
        paddle "softplus" "softplus" |op| Function::Softplus {
            beta: op.float("beta")?.unwrap_or(1.0),
            bound: op.float("threshold")?.unwrap_or(20.0),
        };
    }
    Softsign { onnx "Softsign" |_| Function::Softsign; paddle "softsign" "softsign" |_| Function::Softsign; }
    Sqrt { onnx "Sqrt" |_| Function::Sqrt; paddle "sqrt" "sqrt" |_| Function::Sqrt; }
    Swish {
        onnx "Swish" |n| Function::Swish { beta: n.float("alpha")?.unwrap_or(1.0) };
        // The kernel of 2.x does not look at `beta`.
        paddle "swish" "swish" |op| Function::Swish {
            beta: if op.version >= VERSION_2 { 1.0 } else { op.float("beta")?.unwrap_or(1.0) },
        };
    }
    Tan { onnx "Tan" |_| Function::Tan; paddle "tan" "tan" |_| Function::Tan; }
    Tanh { onnx "Tanh" |_| Function::Tanh; paddle "tanh" "tanh" |_| Function::Tanh; }
    Threshold {
        onnx "ThresholdedRelu" |n| Function::Threshold { bound: n.float("alpha")?.unwrap_or(1.0) };
        paddle "thresholded_relu" "thresholded_relu" |op| match op.float("value")?.unwrap_or(0.0) {
            0.0 => Function::Threshold { bound: op.float("threshold")?.unwrap_or(1.0) },
            other => return Err(Refusal::unsupported(format!("what is below the threshold becomes {other}, not 0"))),
        };
    }
}
