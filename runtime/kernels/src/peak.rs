//! Loops of nothing but multiply-accumulates on registers: what the host could do at best. The caller measures the time.

use crate::tier::{Features, Tier};
use core::arch::x86_64::*;

/// A loop, and what it needs of the host.
struct Peak {
    needs: Features,
    run: unsafe fn(u64) -> u64,
}

/// Stamps a loop over `$n` independent accumulators: enough to hide the latency of a step, few enough for the registers.
macro_rules! peak {
    ($name:ident, $features:literal, $reg:ty, $zero:expr, $step:expr, $n:literal x $macs:literal) => {
        mod $name {
            use super::*;

            #[target_feature(enable = $features)]
            unsafe fn run(iterations: u64) -> u64 {
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

            pub static PEAK: Peak = Peak { needs: Features::of($features), run };
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

/// Loops of u8 × s8, the best first.
static INT8: &[&Peak] = &[&int8_avx512::PEAK, &int8_avxvnni::PEAK, &int8_avx2::PEAK];
/// Loops of f32, the best first.
static F32: &[&Peak] = &[&f32_avx512::PEAK, &f32_avx2::PEAK];

/// Runs the first loop that needs no more than `tier` has.
fn run(loops: &[&Peak], tier: Tier, iterations: u64) -> Option<u64> {
    let peak = loops.iter().find(|peak| tier.needs().contain(peak.needs))?;
    // SAFETY: the host has all that the tier needs.
    crate::host::has(tier).then(|| unsafe { (peak.run)(iterations) })
}

/// Runs `iterations` of the u8 × s8 loop of a tier and returns the multiply-accumulates done; `None` if the tier has no
/// vector instructions for it or the host has not what the tier needs.
///
/// The host is detected anew, which takes microseconds in a virtual machine: run for a millisecond at least.
pub fn peak_int8(tier: Tier, iterations: u64) -> Option<u64> {
    run(INT8, tier, iterations)
}

/// The same for f32.
pub fn peak_f32(tier: Tier, iterations: u64) -> Option<u64> {
    run(F32, tier, iterations)
}
