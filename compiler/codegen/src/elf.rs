//! Links generated code, the embedded executor and the weights into one shared object.
//!
//! A small static linker for one purpose: ELF relocatables of a [`Target`] in, a self-contained `model.so` out, on machines that
//! have neither compiler nor linker. Only sections that the exports reach are kept. The file has four kinds of memory and
//! none that is both writable and executable:
//!
//! | segment | holds |
//! |---|---|
//! | R | headers, `.note.qc`, dynamic symbols and relocations, `.rodata` |
//! | RX | `.text` and stubs for imported functions |
//! | RW | `.data.rel.ro`, `.dynamic`, `.got` (read-only after loading), then `.data` and `.bss` if there are any |
//! | R | weights, on pages of their own, last, so that distances elsewhere stay within 2 GiB |
//!
//! Symbols are bound when the file is loaded. The output is a function of the input: tables are in the order of the
//! input or sorted by name.

mod dynamic;
mod emit;
mod input;
mod layout;
mod names;
mod program;
mod record;

use crate::Target;
use program::Program;

/// What is linked.
#[derive(Debug, Clone, Copy)]
pub struct LinkInput<'a> {
    /// What the objects are for.
    pub target: &'a Target,
    /// ELF64 relocatables: the generated code and [`Target::objects`].
    pub objects: &'a [&'a [u8]],
    /// Contents of the read-only segment that [`crate::embed_object::WEIGHTS_SYMBOL`] is the address of.
    pub weights: &'a [u8],
    /// Exported names and the symbols they stand for, such as [`crate::embed_object::exports`].
    pub exports: &'a [(String, String)],
    /// C library functions the output may import, such as [`Target::imports`].
    pub imports: &'a [&'a str],
    /// Contents of `.note.qc`.
    pub note: &'a str,
    /// File name that users of the library record (`DT_SONAME`).
    pub soname: &'a str,
}

/// Why linking failed. Any of these is a defect of the compiler, not of the user's model.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// An object cannot be read.
    #[error("object {object} cannot be linked: {reason}")]
    Object {
        /// Index in [`LinkInput::objects`].
        object: usize,
        /// What is wrong.
        reason: String,
    },
    /// A symbol is defined nowhere and is not a C library function that may be imported.
    #[error("'{symbol}', needed by {needed_by}, is not defined")]
    Undefined {
        /// The symbol.
        symbol: String,
        /// The section, or the export, that refers to it.
        needed_by: String,
    },
    /// Two objects define the same symbol.
    #[error("'{symbol}' is defined twice")]
    Duplicate {
        /// The symbol.
        symbol: String,
    },
    /// A relocation cannot be part of a shared object.
    #[error("relocation at {section}+{offset:#x}: {reason}")]
    Relocation {
        /// The section that is patched.
        section: String,
        /// Place in the section.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Links a shared object and returns its bytes.
///
/// # Errors
/// See [`LinkError`].
pub fn link(input: &LinkInput) -> Result<Vec<u8>, LinkError> {
    let program = Program::new(input)?;
    let layout = layout::Layout::new(input, &program);
    emit::emit(input, &program, layout)
}
