//! The executor and C ABI that every compiled model carries.
//!
//! The same code runs a model in the process that compiled it and inside a `model.so`: here it is an ordinary crate,
//! there it is built with `--cfg qc_embed` as an object that the compiler's linker puts next to the generated code. It
//! uses `core` and a handful of C library functions ([`sys::IMPORTS`]), nothing else.
#![no_std]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("compiled models run on x86-64 Linux");

pub mod abi;
pub mod api;
#[cfg(qc_embed)]
pub mod capi;
mod checks;
mod create;
pub mod executor;
mod fpu;
pub mod host;
pub mod memory;
pub mod pool;
pub mod sys;
pub mod text;
pub mod threads;
pub mod view;

/// A broken invariant in the embedded executor; there is nobody to unwind to.
#[cfg(qc_embed)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    sys::die()
}
