//! Tiers: their vectors (the only place of intrinsics) and their rows.

pub mod avx2;
pub mod avx512vnni;
pub mod depthwise_avx512vnni;
pub mod rows_avx2;
pub mod rows_avx512vnni;
pub mod rows_scalar;
pub mod scalar;
