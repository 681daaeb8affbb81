//! The instruction tiers of the host.
//!
//! Detection belongs to the kernels. As a crate they are called; in a shared object they are an object of their own, which
//! the compiler's linker joins with the executor.

/// The tiers that this host has: bit `n` for the tier with the value `n` among the `ISA_*`.
#[cfg(not(qc_embed))]
pub fn host_tiers() -> u32 {
    qc_kernels::host::tiers()
}

/// The tiers that this host has: bit `n` for the tier with the value `n` among the `ISA_*`.
#[cfg(qc_embed)]
pub fn host_tiers() -> u32 {
    unsafe extern "C" {
        safe fn qc_host_tiers() -> u32;
    }
    qc_host_tiers()
}
