//! Finds the instruction tiers of the host: CPU features, and registers that the operating system saves.

use crate::table::Isa;
use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

// CPUID leaf 1, ecx.
const FMA: u32 = 1 << 12;
const OSXSAVE: u32 = 1 << 27;
const AVX: u32 = 1 << 28;
// Leaf 7, ebx.
const AVX2: u32 = 1 << 5;
const AVX512: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31; // F, DQ, BW, VL
// Leaf 7, ecx.
const AVX512_VNNI: u32 = 1 << 11;
// Leaf 7 subleaf 1, eax.
const AVX_VNNI: u32 = 1 << 4;
// XCR0: xmm and ymm; with opmask and both zmm halves.
const YMM_STATE: u64 = 0x6;
const ZMM_STATE: u64 = 0xe6;

/// The highest tier of this host, at most `cap`.
pub fn detect(cap: Isa) -> Isa {
    Isa::ALL.into_iter().rev().find(|&isa| isa <= cap && has(isa)).unwrap_or(Isa::Scalar)
}

/// The tiers that this host has: bit `isa` for each. It is a set and not a highest tier, since there are processors with
/// 512-bit dot products but without the 256-bit form of `avxvnni`.
pub fn tiers() -> u32 {
    Isa::ALL.into_iter().filter(|&isa| has(isa)).fold(0, |set, isa| set | 1 << isa as u32)
}

/// [`tiers`] under a name that other objects link to.
#[cfg(qc_embed)]
#[unsafe(no_mangle)]
pub extern "C" fn qc_host_tiers() -> u32 {
    tiers()
}

/// Whether the host has a tier's own instructions.
pub fn has(isa: Isa) -> bool {
    if isa == Isa::Scalar {
        return true;
    }
    if __cpuid(0).eax < 7 {
        return false;
    }
    let leaf1 = __cpuid(1).ecx;
    if leaf1 & (OSXSAVE | AVX | FMA) != OSXSAVE | AVX | FMA {
        return false;
    }
    // SAFETY: OSXSAVE says that xgetbv may be executed.
    let state = unsafe { saved_state() };
    let leaf7 = __cpuid_count(7, 0);
    if state & YMM_STATE != YMM_STATE || leaf7.ebx & AVX2 == 0 {
        return false;
    }
    match isa {
        Isa::Scalar | Isa::Avx2 => true,
        Isa::AvxVnni => leaf7.eax >= 1 && __cpuid_count(7, 1).eax & AVX_VNNI != 0,
        Isa::Avx512Vnni => {
            state & ZMM_STATE == ZMM_STATE && leaf7.ebx & AVX512 == AVX512 && leaf7.ecx & AVX512_VNNI != 0
        }
    }
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
