//! What machine code is made for: all that depends on a processor, its operating system and their object files.
//!
//! A [`Target`] is a table, one file per target. The linker, Cranelift's settings and the image read it from there, so
//! another target is another file here, with kernels and an executor for it.

mod triple;
mod x86_64_linux;

use crate::CodegenError;
use object::{Architecture, elf};

/// All targets.
pub const ALL: &[&Target] = &[&x86_64_linux::TARGET];

/// A processor with an operating system.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name for people.
    pub name: &'static str,
    /// Name for compilers.
    pub triple: &'static str,
    /// Size of a page: segments begin on one, so that no page has two kinds of access.
    pub page_bytes: u64,
    /// The processor in headers of object files.
    pub machine: elf::Machine,
    /// The same, as readers of object files call it.
    pub architecture: Architecture,
    /// Relocations that the loader carries out.
    pub loaded: LoadedRelocations,
    /// What a relocation of an object asks for; `None` if it is not known.
    pub relocation: fn(elf::RelocationType) -> Option<Relocation>,
    /// The instruction whose last operand, an address in a slot, comes after `before`, with the address itself; `None` if
    /// it has no such form. The operand ends the instruction.
    pub direct: fn(before: &[u8]) -> Option<&'static Direct>,
    /// Bytes of a stub.
    pub stub_bytes: u64,
    /// The stub that jumps to the address in a slot, given the distance from the stub to the slot.
    pub stub: fn(distance: u64) -> Vec<u8>,
    /// The libraries that imported functions come from.
    pub libraries: &'static [&'static str],
    /// C library functions that the objects may import.
    pub imports: &'static [&'static str],
    /// Relocatable objects: kernels (`qc_k_*`) with the features of the host, and the executor with the C interface
    /// (`qc_model_*`), which needs `QC_MODEL`.
    pub objects: [&'static [u8]; 2],
}

/// Types of the relocations that the loader carries out.
#[derive(Debug, Clone, Copy)]
pub struct LoadedRelocations {
    /// An address of the object's own.
    pub relative: elf::RelocationType,
    /// The address of a symbol, in a slot.
    pub slot: elf::RelocationType,
    /// The address of a symbol and an addend.
    pub address: elf::RelocationType,
}

/// What a relocation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relocation {
    /// Nothing.
    None,
    /// The 64-bit address.
    Address,
    /// A 32-bit address, which a shared object cannot have.
    Address32,
    /// The 32-bit distance to data or code.
    Distance,
    /// The 32-bit distance to a function, or to a stub for it.
    Call,
    /// The 64-bit distance.
    Distance64,
    /// The 32-bit distance to a slot with the address.
    Slot,
}

/// How an instruction that takes an address from a slot takes it directly: bytes that change and where the 32-bit distance
/// is, counted from the place of the relocation.
#[derive(Debug, PartialEq, Eq)]
pub struct Direct {
    /// Place and new value.
    pub bytes: &'static [(isize, u8)],
    /// Place of the distance.
    pub distance: isize,
}

impl Target {
    /// The target called `triple`.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(triple: &str) -> Result<&'static Target, CodegenError> {
        ALL.iter().copied().find(|target| target.triple == triple).ok_or_else(|| {
            let known = ALL.iter().map(|target| target.triple).collect::<Vec<_>>().join(", ");
            CodegenError::Target { asked: triple.into(), known }
        })
    }

    /// The target that this process runs on.
    ///
    /// # Errors
    /// When there is no code for it.
    pub fn host() -> Result<&'static Target, CodegenError> {
        match ALL.iter().copied().find(|target| target.is_host()) {
            Some(target) => Ok(target),
            None => Target::find(&target_lexicon::Triple::host().to_string()),
        }
    }

    /// Whether this process runs on it, whatever its C library.
    pub fn is_host(&self) -> bool {
        let host = target_lexicon::Triple::host();
        self.triple.parse().is_ok_and(|own: target_lexicon::Triple| {
            (own.architecture, own.operating_system) == (host.architecture, host.operating_system)
        })
    }
}
