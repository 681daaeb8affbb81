//! Loops of nothing but multiply-accumulates on registers: what the host could do at best. The caller measures the time.

use crate::table::Isa;
use core::arch::x86_64::*;

/// Stamps a loop over `$n` independent accumulators: enough to hide the latency of a step, few enough for the registers.
macro_rules! peak {
    ($(#[$doc:meta])* $name:ident, $features:literal, $reg:ty, $zero:expr, $step:expr, $n:literal x $macs:literal) => {
        $(#[$doc])*
        #[target_feature(enable = $features)]
        unsafe fn $name(iterations: u64) -> u64 {
            let mut acc = [$zero; $n];
            let (x, y): ($reg, $reg) = (core::hint::black_box($zero), core::hint::black_box($zero));
            for _ in 0..iterations {
                for a in &mut acc {
                    *a = $step(*a, x, y);
                }
            }
            core::hint::black_box(acc);
            iterations * $n * $macs
        }
    };
}

peak!(int8_avx512, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), |a, x, y| _mm512_dpbusd_epi32(a, x, y), 16 x 64);
peak!(f32_avx512, "avx512f", __m512, _mm512_setzero_ps(), |a, x, y| _mm512_fmadd_ps(x, y, a), 16 x 16);
peak!(int8_avxvnni, "avxvnni", __m256i, _mm256_setzero_si256(), |a, x, y| _mm256_dpbusd_avx_epi32(a, x, y), 12 x 32);
peak!(
    int8_avx2,
    "avx2",
    __m256i,
    _mm256_setzero_si256(),
    // The product depends on the accumulator, or it would be computed once.
    |a, x, y| _mm256_add_epi32(y, _mm256_madd_epi16(a, x)),
    12 x 16
);
peak!(f32_avx2, "avx2,fma", __m256, _mm256_setzero_ps(), |a, x, y| _mm256_fmadd_ps(x, y, a), 12 x 8);

/// Runs `iterations` of the u8 × s8 loop of tier `isa` and returns the multiply-accumulates done; `None` if the tier has
/// no vector instructions for it or the host is below the tier.
///
/// The host is detected anew, which takes microseconds in a virtual machine: run for a millisecond at least.
pub fn peak_int8(isa: Isa, iterations: u64) -> Option<u64> {
    if !crate::host::has(isa) {
        return None;
    }
    // SAFETY: the host has the tier.
    unsafe {
        match isa {
            Isa::Scalar => None,
            Isa::Avx2 => Some(int8_avx2(iterations)),
            Isa::AvxVnni => Some(int8_avxvnni(iterations)),
            Isa::Avx512Vnni => Some(int8_avx512(iterations)),
        }
    }
}

/// The same for f32.
pub fn peak_f32(isa: Isa, iterations: u64) -> Option<u64> {
    if !crate::host::has(isa) {
        return None;
    }
    // SAFETY: the host has the tier.
    unsafe {
        match isa {
            Isa::Scalar => None,
            Isa::Avx2 | Isa::AvxVnni => Some(f32_avx2(iterations)),
            Isa::Avx512Vnni => Some(f32_avx512(iterations)),
        }
    }
}
