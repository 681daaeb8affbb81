//! What the CPU offers, and which tier a cap leaves.

use crate::abi::{ISA_AVX2, ISA_AVX512VNNI, ISA_NAMES, ISA_SCALAR};
use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// A set of tiers; bit `n` stands for the `ISA_*` value `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiers(u32);

impl Tiers {
    /// Whether the set holds a tier; false for values that are no tier.
    pub fn has(self, isa: u32) -> bool {
        isa < 32 && self.0 >> isa & 1 == 1
    }

    /// The highest tier of the set; [`ISA_SCALAR`] when it is empty.
    pub fn best(self) -> u32 {
        self.0.checked_ilog2().unwrap_or(ISA_SCALAR)
    }

    /// The set without tiers above `isa`.
    pub fn capped(self, isa: u32) -> Tiers {
        Tiers(self.0 & (u32::MAX >> (31 - isa.min(31))))
    }
}

/// The tier called `name`, one of [`ISA_NAMES`].
pub fn tier_by_name(name: &[u8]) -> Option<u32> {
    ISA_NAMES.iter().position(|known| known.as_bytes() == name).map(|i| i as u32)
}

/// The name of a tier; `"unknown"` for values that are none.
pub fn tier_name(isa: u32) -> &'static str {
    ISA_NAMES.get(isa as usize).copied().unwrap_or("unknown")
}

/// The tiers this CPU and its operating system can run, [`ISA_SCALAR`] always among them.
pub fn host_tiers() -> Tiers {
    let max_leaf = __cpuid(0).eax;
    if max_leaf < 7 {
        return Tiers(1 << ISA_SCALAR);
    }
    let (leaf1, leaf7) = (__cpuid(1).ecx, __cpuid_count(7, 0));
    let os_state = if leaf1 & OSXSAVE != 0 {
        // SAFETY: OSXSAVE says that XGETBV may be executed.
        unsafe { extended_control() }
    } else {
        0
    };
    tiers_of(leaf1, leaf7.ebx, leaf7.ecx, os_state)
}

const OSXSAVE: u32 = 1 << 27;

/// The tiers for given CPUID words (leaf 1 ecx, leaf 7 ebx and ecx) and XCR0.
fn tiers_of(leaf1_ecx: u32, leaf7_ebx: u32, leaf7_ecx: u32, xcr0: u64) -> Tiers {
    const FMA: u32 = 1 << 12;
    const AVX: u32 = 1 << 28;
    const F16C: u32 = 1 << 29;
    const BMI1_AVX2_BMI2: u32 = 1 << 3 | 1 << 5 | 1 << 8;
    const AVX512_F_DQ_BW_VL: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
    const AVX512_VNNI: u32 = 1 << 11;
    const YMM_STATE: u64 = 0b110;
    const ZMM_STATE: u64 = 0b1110_0110;
    let all = |word: u32, bits: u32| word & bits == bits;
    let mut tiers = 1 << ISA_SCALAR;
    let leaf1_ok = all(leaf1_ecx, FMA | OSXSAVE | AVX | F16C);
    if leaf1_ok && all(leaf7_ebx, BMI1_AVX2_BMI2) && xcr0 & YMM_STATE == YMM_STATE {
        tiers |= 1 << ISA_AVX2;
        if all(leaf7_ebx, AVX512_F_DQ_BW_VL) && all(leaf7_ecx, AVX512_VNNI) && xcr0 & ZMM_STATE == ZMM_STATE {
            tiers |= 1 << ISA_AVX512VNNI;
        }
    }
    Tiers(tiers)
}

/// XCR0: which register states the operating system saves.
///
/// # Safety
/// CPUID reports OSXSAVE.
#[target_feature(enable = "xsave")]
unsafe fn extended_control() -> u64 {
    // SAFETY: register 0 always exists where the instruction does.
    unsafe { _xgetbv(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;

    #[test]
    fn agrees_with_std() {
        let tiers = host_tiers();
        assert!(tiers.has(ISA_SCALAR));
        assert_eq!(
            tiers.has(ISA_AVX2),
            std::is_x86_feature_detected!("avx2")
                && std::is_x86_feature_detected!("fma")
                && std::is_x86_feature_detected!("f16c")
                && std::is_x86_feature_detected!("bmi1")
                && std::is_x86_feature_detected!("bmi2")
        );
        assert_eq!(
            tiers.has(ISA_AVX512VNNI),
            std::is_x86_feature_detected!("avx512vnni")
                && std::is_x86_feature_detected!("avx512bw")
                && std::is_x86_feature_detected!("avx512dq")
                && std::is_x86_feature_detected!("avx512vl")
        );
    }

    #[test]
    fn registers_the_system_does_not_save_rule_a_tier_out() {
        assert_eq!(tiers_of(u32::MAX, u32::MAX, u32::MAX, 0xe7).best(), ISA_AVX512VNNI);
        assert_eq!(tiers_of(u32::MAX, u32::MAX, u32::MAX, 0x07).best(), ISA_AVX2);
        assert_eq!(tiers_of(u32::MAX, u32::MAX, u32::MAX, 0x03).best(), ISA_SCALAR);
        assert_eq!(tiers_of(u32::MAX, u32::MAX, !(1 << 11), 0xe7).best(), ISA_AVX2);
    }

    #[test]
    fn caps_and_names() {
        let all = Tiers(0b111);
        assert_eq!(all.capped(ISA_AVX2), Tiers(0b011));
        assert_eq!(all.capped(ISA_SCALAR).best(), ISA_SCALAR);
        assert_eq!(tier_by_name(b"avx2"), Some(ISA_AVX2));
        assert_eq!(tier_by_name(b"AVX2"), None);
        assert_eq!(tier_name(9), "unknown");
    }
}
