//! The instruction tier of the host.
//!
//! Detection belongs to the kernels. As a crate they are called; in a shared object the executor is optimized as a whole
//! and the kernels are not, since their registers are laid out with care, so there the linker joins the two: a function
//! of `host_symbol.rs`, compiled next to the kernels, calls them.

/// The highest tier of this host, one of the `ISA_*` values.
#[cfg(not(qc_embed))]
pub fn host_tier() -> u32 {
    qc_kernels::host::detect(qc_kernels::Isa::Avx512Vnni) as u32
}

/// The highest tier of this host, one of the `ISA_*` values.
#[cfg(qc_embed)]
pub fn host_tier() -> u32 {
    unsafe extern "C" {
        safe fn qc_host_tier() -> u32;
    }
    qc_host_tier()
}
