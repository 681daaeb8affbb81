//! Finds what the host offers: CPU features, and registers that the operating system saves.

use crate::tier::{FEATURES, Features, NO_STATE, Register, Tier};
use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

// CPUID leaf 1, ecx.
const OSXSAVE: u32 = 1 << 27;
const AVX: u32 = 1 << 28;

/// The features of this host.
pub fn features() -> Features {
    let leaves = __cpuid(0).eax;
    let extensions = __cpuid(1).ecx;
    // Features with registers of their own mean nothing without AVX, with which their encoding came.
    let state = if extensions & (OSXSAVE | AVX) == OSXSAVE | AVX {
        // SAFETY: OSXSAVE says that xgetbv may be executed.
        unsafe { saved_state() }
    } else {
        NO_STATE
    };
    let mut found = Features::NONE;
    for (number, &(_, report, registers)) in FEATURES.iter().enumerate() {
        // A leaf says in eax how many subleaves it has.
        let exists = report.0 <= leaves && (report.1 == 0 || report.1 <= __cpuid_count(report.0, 0).eax);
        if exists && state & registers == registers {
            let leaf = __cpuid_count(report.0, report.1);
            let register = match report.2 {
                Register::Eax => leaf.eax,
                Register::Ebx => leaf.ebx,
                Register::Ecx => leaf.ecx,
                Register::Edx => leaf.edx,
            };
            if register >> report.3 & 1 == 1 {
                found = found.with(number);
            }
        }
    }
    found
}

/// The most preferred tier of this host that is not preferred to `cap`.
pub fn best(cap: Option<Tier>) -> Tier {
    let features = features();
    let fits = |t: &Tier| cap.is_none_or(|cap| t.rank() <= cap.rank()) && features.contain(t.needs());
    Tier::ALL.iter().copied().rfind(fits).unwrap_or(Tier::Scalar)
}

/// Whether the host has what a tier needs.
pub fn has(tier: Tier) -> bool {
    features().contain(tier.needs())
}

/// [`features`] as bits, under a name that other objects link to.
#[cfg(qc_embed)]
#[unsafe(no_mangle)]
pub extern "C" fn qc_host_features() -> u64 {
    features().bits()
}

/// The name of the tier with rank `rank`, and by pointers its number and the features that it needs; null beyond the last.
/// For other objects.
///
/// # Safety
/// `number` and `needs` may be written.
#[cfg(qc_embed)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_tier(rank: usize, number: *mut u32, needs: *mut u64) -> *const core::ffi::c_char {
    let Some(&tier) = Tier::ALL.get(rank) else { return core::ptr::null() };
    // SAFETY: the caller's guarantee.
    unsafe {
        number.write(tier as u32);
        needs.write(tier.needs().bits());
    }
    tier.c_name().as_ptr()
}

/// Register sets that the operating system saves (XCR0).
///
/// # Safety
/// CPUID reports OSXSAVE.
#[target_feature(enable = "xsave")]
unsafe fn saved_state() -> u64 {
    // SAFETY: the caller's guarantee.
    unsafe { _xgetbv(0) }
}
