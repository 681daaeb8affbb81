//! The instruction tiers, what they need, and what the host offers.
//!
//! Both belong to the kernels. As a crate they are called; in a shared object they are an object of their own, which the
//! compiler's linker joins with the executor.

use core::ffi::CStr;

/// One instruction tier.
#[derive(Clone, Copy)]
pub struct Tier {
    /// Its number: the value of [`ContextInfo::tier`](crate::abi::ContextInfo::tier).
    pub number: u32,
    /// Its name: the word that `QC_CPU` takes.
    pub name: &'static CStr,
    /// The features that it needs: those of its variants, [`Variant::features`](crate::abi::Variant::features).
    pub needs: u64,
}

/// The features of this host.
#[cfg(not(qc_embed))]
pub fn host_features() -> u64 {
    qc_kernels::host::features().bits()
}

/// The tier with rank `rank`, of which 0 is the least preferred; none beyond the last.
#[cfg(not(qc_embed))]
fn tier(rank: usize) -> Option<Tier> {
    qc_kernels::Tier::ALL.get(rank).map(|&t| Tier { number: t as u32, name: t.c_name(), needs: t.needs().bits() })
}

/// The features of this host.
#[cfg(qc_embed)]
pub fn host_features() -> u64 {
    unsafe extern "C" {
        safe fn qc_host_features() -> u64;
    }
    qc_host_features()
}

/// The tier with rank `rank`, of which 0 is the least preferred; none beyond the last.
#[cfg(qc_embed)]
fn tier(rank: usize) -> Option<Tier> {
    unsafe extern "C" {
        fn qc_tier(rank: usize, number: *mut u32, needs: *mut u64) -> *const core::ffi::c_char;
    }
    let (mut number, mut needs) = (0, 0);
    // SAFETY: both may be written; a name that is not null is a constant with a NUL at its end.
    unsafe {
        let name = qc_tier(rank, &mut number, &mut needs);
        (!name.is_null()).then(|| Tier { number, name: CStr::from_ptr(name), needs })
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
