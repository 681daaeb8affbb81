//! The executor and C ABI that every compiled model carries.
//!
//! The same code runs a model in the process that compiled it and inside a `model.so`: here it is an ordinary crate,
//! there it is built with `--cfg qc_embed` as an object that the compiler's linker puts next to the generated code. It
//! uses `core` and a handful of C library functions, nothing else.
#![no_std]

pub mod abi;
pub mod executor;
