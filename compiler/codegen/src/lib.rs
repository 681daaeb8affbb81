//! Loop dialect to machine code: JIT and shared objects.
//!
//! The only user of Cranelift. Code generation is generic over `cranelift_module::Module`; only the last step differs
//! between the JIT and a shared object.

pub mod clif;
pub mod elf;
pub mod embed_object;
mod functions;
pub mod header;
pub mod image;
pub mod isa;
pub mod jit;
pub mod shared_object;
pub mod target;
pub mod weights;

pub use target::Target;

/// Why code could not be generated. All but [`CodegenError::Port`], [`CodegenError::Limit`] and
/// [`CodegenError::Target`] are defects of the compiler.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// Loop code that breaks a rule of the dialect.
    #[error("loop code cannot be compiled: {0}")]
    LoopCode(String),
    /// A failure inside Cranelift.
    #[error("Cranelift: {0}")]
    Cranelift(String),
    /// A failure inside the linker.
    #[error("linking failed: {0}")]
    Link(#[from] elf::LinkError),
    /// The time is over.
    #[error(transparent)]
    Limit(#[from] qc_ir::Exceeded),
    /// A machine for which there is no code, or on which code for another one was to run.
    #[error("qc makes no code for {asked}; it does for {known}")]
    Target {
        /// The machine.
        asked: String,
        /// Those for which there is.
        known: String,
    },
    /// An input or output that the artefact's interface cannot describe.
    #[error("input or output `{name}` {reason}")]
    Port {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl From<cranelift_module::ModuleError> for CodegenError {
    fn from(e: cranelift_module::ModuleError) -> CodegenError {
        CodegenError::Cranelift(e.to_string())
    }
}
