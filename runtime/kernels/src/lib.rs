//! Microkernels, their table and their packers.
//!
//! A kernel is a function without state that takes one pointer to the argument struct of its family (`args`). The table
//! (`table`) lists them all by family, variant and instruction tier; `tier` the tiers, `host` finds those of the machine. Every tier
//! gives the same bits, and `reference` defines which: plain loops that share no arithmetic with the kernels.
//!
//! The kernels themselves are compiled once, by the build script, with `--cfg qc_embed`: into one object ([`OBJECT`]). It
//! is linked into whatever uses this crate, and the compiler copies kernels out of it into models, so what runs in the
//! process and what runs in a shared object is the same machine code. As a crate, this is everything else: the table, the
//! packers, the reference loops. Kernels allocate nothing, cannot panic, and call nothing but `memcpy` and `memset`.

#![no_std]
// Accumulators are indexed by constants of unrolled loops; iterators over several arrays at once would hide that.
#![allow(clippy::needless_range_loop)]

pub mod args;
// Clippy sees the kernels as part of the crate; the compiler sees them in the build script only.
#[cfg(any(qc_embed, clippy))]
mod body;
mod field;
mod functions;
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
pub mod tier;
mod wide;

/// The kernels of all tiers as a relocatable object: symbols `qc_k_<name>`, one section per function, `qc_host_features` and
/// `qc_tier`.
#[cfg(not(qc_embed))]
pub static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.o"));

#[cfg(not(qc_embed))]
pub use numbers::{LOG_BINARY, LOG_DECIMAL, LOG_NATURAL, fma_exact};
pub use table::{Family, Tile, UKernel, Variant};
pub use tier::{Features, Tier};
pub use wide::{order, power, remainder};
