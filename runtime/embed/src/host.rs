//! The instruction tiers, and which of them the host has.
//!
//! Both belong to the kernels. As a crate they are called; in a shared object they are an object of their own, which the
//! compiler's linker joins with the executor.

use core::ffi::CStr;

/// One instruction tier.
#[derive(Clone, Copy)]
pub struct Tier {
    /// Its number: the value of [`Variant::tier`](crate::abi::Variant::tier).
    pub number: u32,
    /// Its name: the word that `QC_CPU` takes.
    pub name: &'static CStr,
}

/// The tiers that this host has: bit `n` for the tier with number `n`.
#[cfg(not(qc_embed))]
pub fn host_tiers() -> u32 {
    qc_kernels::host::tiers()
}

/// The tier with rank `rank`, of which 0 is the least preferred; none beyond the last.
#[cfg(not(qc_embed))]
fn tier(rank: usize) -> Option<Tier> {
    qc_kernels::Tier::ALL.get(rank).map(|&t| Tier { number: t as u32, name: t.c_name() })
}

/// The tiers that this host has: bit `n` for the tier with number `n`.
#[cfg(qc_embed)]
pub fn host_tiers() -> u32 {
    unsafe extern "C" {
        safe fn qc_host_tiers() -> u32;
    }
    qc_host_tiers()
}

/// The tier with rank `rank`, of which 0 is the least preferred; none beyond the last.
#[cfg(qc_embed)]
fn tier(rank: usize) -> Option<Tier> {
    unsafe extern "C" {
        fn qc_tier(rank: usize, number: *mut u32) -> *const core::ffi::c_char;
    }
    let mut number = 0;
    // SAFETY: `number` may be written; a name that is not null is a constant with a NUL at its end.
    unsafe {
        let name = qc_tier(rank, &mut number);
        (!name.is_null()).then(|| Tier { number, name: CStr::from_ptr(name) })
    }
}

/// All tiers, the most preferred last.
pub fn tiers() -> impl Iterator<Item = Tier> {
    (0..).map_while(tier)
}

/// The name of the tier with a number.
pub fn tier_name(number: u32) -> Option<&'static CStr> {
    tiers().find(|t| t.number == number).map(|t| t.name)
}
