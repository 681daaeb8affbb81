//! The three dialects of qc and the phases a module goes through.
//!
//! An op is declared once; declaration, inference, verification and evaluation stand together in the file of its
//! topic. A fact used by two passes belongs in the declaration; a fact used by one pass belongs in that pass.

pub mod graph;
pub mod interfaces;
pub mod loops;
pub mod phase;
pub mod quant;
pub mod work;

use qc_ir::{Diag, HostTensor, Module, Registry};

/// All dialects and phases: what parsing, verifying and interpreting need.
pub static REGISTRY: Registry = Registry {
    dialects: &[graph::GRAPH, quant::QUANT, loops::LOOPS],
    phases: phase::PHASES,
    interpret,
    unrounded: graph::quantize::unrounded,
};

/// Runs the first function of a module on its inputs, in whatever phase it is.
///
/// # Errors
/// Wrong inputs, or what the evaluation of an op says.
pub fn interpret(m: &Module, inputs: &[HostTensor]) -> Result<Vec<HostTensor>, Diag> {
    match m.phase {
        phase::LOOPS | phase::PLANNED => loops::interp::run(m, inputs),
        _ => qc_ir::run_region(m, m.body(), inputs, &mut |_, _, _| {}),
    }
}
