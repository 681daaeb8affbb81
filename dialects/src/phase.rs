//! The phases, from the model to the machine: which dialects may appear, and what holds besides.

use qc_ir::{Diag, Module, PhaseDef};

/// Ops as the model has them.
pub const IMPORTED: &str = "imported";
/// No op is left that could fold.
pub const CANONICAL: &str = "canonical";
/// Every int8 edge is an explicit quantize/dequantize pair.
pub const QUANTIZED: &str = "quantized";
/// Integer ops carry their epilogue; what is still `graph` is float.
pub const FUSED: &str = "fused";
/// Buffers, steps, loops, kernel calls.
pub const LOOPS: &str = "loops";
/// Every buffer has an offset in the arena.
pub const PLANNED: &str = "planned";

/// All phases in order.
pub static PHASES: &[PhaseDef] = &[
    PhaseDef { name: IMPORTED, dialects: &["graph"], verify: nothing },
    PhaseDef { name: CANONICAL, dialects: &["graph"], verify: nothing },
    PhaseDef { name: QUANTIZED, dialects: &["graph"], verify: nothing },
    PhaseDef { name: FUSED, dialects: &["graph", "quant"], verify: nothing },
    PhaseDef { name: LOOPS, dialects: &["loop"], verify: nothing },
    PhaseDef { name: PLANNED, dialects: &["loop"], verify: nothing },
];

fn nothing(_: &Module) -> Vec<Diag> {
    Vec::new()
}
