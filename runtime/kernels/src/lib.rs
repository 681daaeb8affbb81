//! Microkernels, their table and their packers.
//!
//! A kernel is a function without state that takes one pointer to the argument struct of its family (`args`). The table
//! (`table`) lists them all by family, variant and instruction tier; `host` finds the tier of the machine. Every tier
//! gives the same bits, and `reference` defines which: plain loops that share no arithmetic with the kernels.
//!
//! The crate is compiled twice: as a dependency, and with `--cfg qc_embed` into every compiled model. The latter leaves
//! out what only a compiler needs (`pack`, `reference`, `peak`). Kernels allocate nothing, cannot panic, and call nothing
//! but `memcpy` and `memset`.

#![no_std]
// Accumulators are indexed by constants of unrolled loops; iterators over several arrays at once would hide that.
#![allow(clippy::needless_range_loop)]

pub mod args;
mod body;
pub mod host;
mod isa;
mod numbers;
#[cfg(not(qc_embed))]
pub mod pack;
#[cfg(not(qc_embed))]
pub mod peak;
#[cfg(not(qc_embed))]
pub mod reference;
mod row;
pub mod table;

#[cfg(not(qc_embed))]
pub use numbers::fma_exact;
pub use table::{Family, Isa, Tile, UKernel, Variant};
