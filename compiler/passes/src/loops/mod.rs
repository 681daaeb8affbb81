//! Passes on loop code.

pub mod pack_weights;
pub mod plan_memory;
pub mod select_kernels;
