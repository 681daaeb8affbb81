//! What Cranelift compiles for.
//!
//! Generated code is loops, addresses and calls, and must be the same on every machine the artefact may run on, so it
//! is compiled for the baseline of its target whatever the host offers; vector instructions are the kernels' matter.

use crate::{CodegenError, Target};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};

/// Functions from which on code is generated quickly: twenty times what large networks have in all variants. Without
/// optimization the addresses of a call take a few instructions more, which do not show beside the kernel.
const MANY_FUNCTIONS: usize = 5000;

/// The settings for generated code; shared objects need position-independent code, the JIT wants the other kind. `functions`
/// says how many there will be.
///
/// # Errors
/// When this build of Cranelift lacks the target, which would be a defect.
pub fn isa(target: &Target, position_independent: bool, functions: usize) -> Result<OwnedTargetIsa, CodegenError> {
    let mut flags = settings::builder();
    let many = functions >= MANY_FUNCTIONS;
    let options = [
        ("opt_level", if many { "none" } else { "speed" }),
        ("regalloc_algorithm", if many { "single_pass" } else { "backtracking" }),
        ("is_pic", if position_independent { "true" } else { "false" }),
        ("use_colocated_libcalls", "false"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
    ];
    for (name, value) in options {
        flags.set(name, value).map_err(|e| CodegenError::Cranelift(e.to_string()))?;
    }
    let triple = target.triple.parse().map_err(|e| CodegenError::Cranelift(format!("{}: {e}", target.triple)))?;
    let builder = cranelift_codegen::isa::lookup(triple).map_err(|e| CodegenError::Cranelift(e.to_string()))?;
    builder.finish(settings::Flags::new(flags)).map_err(|e| CodegenError::Cranelift(e.to_string()))
}
