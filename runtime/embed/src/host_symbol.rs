//! A crate of one function that gives the kernels' host detection a name the embedded executor can link to.
#![no_std]

/// The highest tier of this host, one of the `ISA_*` values of `qc_embed::abi`.
#[unsafe(no_mangle)]
pub extern "C" fn qc_host_tier() -> u32 {
    qc_kernels::host::detect(qc_kernels::Isa::Avx512Vnni) as u32
}
