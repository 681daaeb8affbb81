//! Quads of 32 channels.

use super::avx2::Avx2;
use super::avxvnni::AvxVnni;
use crate::body::depthwise_quads::Quads;
use crate::body::gemm::Dot;
use crate::body::simd::{Finish, Simd, unroll};
use crate::numbers::MAGIC;
use core::arch::x86_64::*;

type Quad = [__m256i; 4];

impl Quads for AvxVnni {
    type S = Avx2;
    type V = __m256i;

    const CHANNELS: usize = 32;

    #[inline(always)]
    fn simd(self) -> Avx2 {
        Dot::simd(self)
    }
    #[inline(always)]
    unsafe fn quad(self, rows: [*const u8; 4]) -> Quad {
        // SAFETY: the witness, and the caller's rows.
        unsafe {
            let [r0, r1, r2, r3] = rows.map(|row| _mm256_loadu_si256(row.cast()));
            let (low01, high01) = (_mm256_unpacklo_epi8(r0, r1), _mm256_unpackhi_epi8(r0, r1));
            let (low23, high23) = (_mm256_unpacklo_epi8(r2, r3), _mm256_unpackhi_epi8(r2, r3));
            [
                _mm256_unpacklo_epi16(low01, low23),
                _mm256_unpackhi_epi16(low01, low23),
                _mm256_unpacklo_epi16(high01, high23),
                _mm256_unpackhi_epi16(high01, high23),
            ]
        }
    }
    #[inline(always)]
    unsafe fn dot(self, mut acc: Quad, quad: Quad, weights: *const i8) -> Quad {
        // SAFETY: the witness, and the caller's weights.
        unsafe {
            unroll!(v in 0..4 => {
                acc[v] = _mm256_dpbusd_avx_epi32(acc[v], quad[v], _mm256_load_si256(weights.add(64 * v).cast()));
            });
        }
        acc
    }
    #[inline(always)]
    unsafe fn constants(self, p: *const i32, _: usize) -> Quad {
        // Both 128-bit lanes of a vector have 4 channels, 16 channels apart.
        // SAFETY: the witness; what is read past the channels is discarded.
        unsafe {
            let mut all = [_mm256_setzero_si256(); 4];
            unroll!(v in 0..4 => {
                all[v] = _mm256_loadu2_m128i(p.wrapping_add(16 + 4 * v).cast(), p.add(4 * v).cast());
            });
            all
        }
    }
    #[inline(always)]
    unsafe fn requantize(self, acc: Quad, scale: Quad, finish: &Finish<Avx2>) -> [__m256i; 2] {
        let s = Dot::simd(self);
        // SAFETY: the witness, and the caller's table.
        unsafe {
            let magic = s.splat(MAGIC);
            let mut w = [magic; 2];
            unroll!(i in 0..2 => {
                let scale = [_mm256_castsi256_ps(scale[2 * i]), _mm256_castsi256_ps(scale[2 * i + 1])];
                w[i] = s.add(s.mul(s.to_float([acc[2 * i], acc[2 * i + 1]]), scale), magic);
            });
            let [a, b] = finish.integers(s, w);
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a[0], a[1]), _mm256_packs_epi32(b[0], b[1]));
            finish.bytes(s, [bytes, bytes])
        }
    }
}
