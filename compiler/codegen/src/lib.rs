//! Loop dialect to machine code: JIT and shared objects.

pub mod elf;
pub mod embed_object;
pub mod header;
