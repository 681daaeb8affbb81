//! Instruction tiers: the vectors of each and the kernels stamped from them.

#[cfg(any(qc_embed, clippy))]
pub mod avx2;
#[cfg(any(qc_embed, clippy))]
pub mod avx512vnni;
#[cfg(any(qc_embed, clippy))]
pub mod avxvnni;
#[cfg(any(qc_embed, clippy))]
pub mod depthwise_avx512vnni;
#[cfg(any(qc_embed, clippy))]
pub mod depthwise_avxvnni;
#[cfg(any(qc_embed, clippy))]
pub mod gemm_avx2;
pub mod rows_avx2;
pub mod rows_avx512vnni;
pub mod rows_avxvnni;
pub mod rows_scalar;
#[cfg(any(qc_embed, clippy))]
pub mod scalar;
mod whole;
