//! The tier of AVX2 and FMA: 16 lanes are two ymm registers.
//!
//! Dot products widen to 16 bits and use `vpmaddwd`, which is exact; `vpmaddubsw` would saturate.

use crate::body::gemm::Dot;
use crate::body::simd::{Simd, unroll};
use core::arch::x86_64::*;

/// Witness that the host has AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The witness.
    ///
    /// # Safety
    /// The host has AVX2 and FMA.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Avx2(())
    }

    /// Mask of the first `n` of 8 lanes.
    #[inline(always)]
    fn first(self, n: usize) -> __m256i {
        // SAFETY: the witness.
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }
}

impl Avx2 {
    /// `v`, but `a` where that is NaN.
    #[inline(always)]
    fn or_nan(self, v: [__m256; 2], a: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: the witness.
        let half = |i: usize| unsafe { _mm256_blendv_ps(v[i], a[i], _mm256_cmp_ps::<_CMP_UNORD_Q>(a[i], a[i])) };
        [half(0), half(1)]
    }

    /// 32 lanes as bytes, saturated.
    #[inline(always)]
    fn pack_pair(self, a: [__m256i; 2], b: [__m256i; 2]) -> __m256i {
        // SAFETY: the witness. Packing works in 128-bit lanes; the permutation puts dwords back in order.
        unsafe {
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a[0], a[1]), _mm256_packs_epi32(b[0], b[1]));
            _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
        }
    }

    /// 32 bytes replaced by their entries in a table of 256 bytes.
    #[inline(always)]
    unsafe fn lookup_half(self, a: __m256i, table: *const u8) -> __m256i {
        // SAFETY: the witness, and the caller's table.
        unsafe {
            let mut found = _mm256_setzero_si256();
            for row in 0..16 {
                let entries = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.add(16 * row).cast()));
                // Bytes of this row become 0x70 + column, all others at least 0x80, which selects 0.
                let column = _mm256_xor_si256(a, _mm256_set1_epi8((row << 4) as i8));
                let select = _mm256_adds_epu8(column, _mm256_set1_epi8(0x70));
                found = _mm256_or_si256(found, _mm256_shuffle_epi8(entries, select));
            }
            found
        }
    }
}

/// Applies an intrinsic to both halves.
macro_rules! both {
    ($f:ident($($arg:ident),*)) => {
        // SAFETY: the witness `self` says that the host has the instructions.
        unsafe { [$f($($arg[0]),*), $f($($arg[1]),*)] }
    };
}

impl Simd for Avx2 {
    const REGISTERS: usize = 8;
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];
    type D = [__m256d; 4];

    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        // SAFETY: the witness.
        unsafe { [_mm256_set1_ps(v); 2] }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        both!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn maximum(self, a: Self::F, b: Self::F) -> Self::F {
        self.or_nan(self.max(a, b), a)
    }
    #[inline(always)]
    fn minimum(self, a: Self::F, b: Self::F) -> Self::F {
        self.or_nan(self.min(a, b), a)
    }
    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        // SAFETY: the witness.
        let half = |i: usize| unsafe { _mm256_blendv_ps(no[i], yes[i], _mm256_cmp_ps::<_CMP_LT_OQ>(a[i], b[i])) };
        [half(0), half(1)]
    }
    #[inline(always)]
    fn lanes(self, a: Self::F) -> [f32; 16] {
        // SAFETY: both are 64 bytes of floats.
        unsafe { core::mem::transmute(a) }
    }

    #[inline(always)]
    fn splat_d(self, v: f64) -> Self::D {
        // SAFETY: the witness.
        unsafe { [_mm256_set1_pd(v); 4] }
    }
    #[inline(always)]
    fn add_wide(self, mut sum: Self::D, v: Self::F) -> Self::D {
        // SAFETY: the witness.
        unsafe {
            unroll!(i in 0..2 => {
                let high = _mm256_extractf128_ps::<1>(v[i]);
                sum[2 * i] = _mm256_add_pd(sum[2 * i], _mm256_cvtps_pd(_mm256_castps256_ps128(v[i])));
                sum[2 * i + 1] = _mm256_add_pd(sum[2 * i + 1], _mm256_cvtps_pd(high));
            });
        }
        sum
    }
    #[inline(always)]
    fn div_wide(self, a: Self::D, b: Self::D) -> Self::F {
        let half = |i: usize| {
            // SAFETY: the witness.
            unsafe {
                let low = _mm256_cvtpd_ps(_mm256_div_pd(a[2 * i], b[2 * i]));
                _mm256_set_m128(_mm256_cvtpd_ps(_mm256_div_pd(a[2 * i + 1], b[2 * i + 1])), low)
            }
        };
        [half(0), half(1)]
    }
    #[inline(always)]
    fn lanes_wide(self, a: Self::D) -> [f64; 16] {
        // SAFETY: both are 128 bytes of floats.
        unsafe { core::mem::transmute(a) }
    }

    #[inline(always)]
    fn sum_wide(self, a: Self::D) -> f64 {
        // SAFETY: the witness.
        unsafe {
            let four = _mm256_add_pd(_mm256_add_pd(a[0], a[2]), _mm256_add_pd(a[1], a[3]));
            let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
    }

    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        // SAFETY: the witness.
        unsafe {
            let eight = _mm256_max_ps(a[0], a[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn splat_i(self, v: i32) -> Self::I {
        // SAFETY: the witness.
        unsafe { [_mm256_set1_epi32(v); 2] }
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_sub_epi32(a, b))
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_max_epi32(a, b))
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_and_si256(a, b))
    }
    #[inline(always)]
    fn mul_small(self, a: Self::I, b: Self::I) -> Self::I {
        // The upper halves of `a` are 0, so those of `b` (its sign) do not count.
        both!(_mm256_madd_epi16(a, b))
    }
    #[inline(always)]
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_mullo_epi32(a, b))
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, a: Self::I) -> Self::I {
        // SAFETY: the witness.
        let count = unsafe { _mm_cvtsi32_si128(N as i32) };
        let count = [count; 2];
        both!(_mm256_sra_epi32(a, count))
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, a: Self::I) -> Self::I {
        // SAFETY: the witness.
        let count = unsafe { _mm_cvtsi32_si128(N as i32) };
        let count = [count; 2];
        both!(_mm256_sll_epi32(a, count))
    }
    #[inline(always)]
    fn to_float(self, a: Self::I) -> Self::F {
        both!(_mm256_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        both!(_mm256_castps_si256(a))
    }
    #[inline(always)]
    fn as_float(self, a: Self::I) -> Self::F {
        both!(_mm256_castsi256_ps(a))
    }

    #[inline(always)]
    fn splat_b(self, v: u8) -> Self::B {
        // SAFETY: the witness.
        unsafe { [_mm256_set1_epi8(v as i8); 2] }
    }
    #[inline(always)]
    fn max_b(self, a: Self::B, b: Self::B) -> Self::B {
        both!(_mm256_max_epu8(a, b))
    }
    #[inline(always)]
    fn min_b(self, a: Self::B, b: Self::B) -> Self::B {
        both!(_mm256_min_epu8(a, b))
    }
    #[inline(always)]
    fn pack<const N: usize>(self, q: [Self::I; N]) -> Self::B {
        let low = self.pack_pair(q[0], q[1.min(N - 1)]);
        [low, if N > 2 { self.pack_pair(q[2.min(N - 1)], q[3.min(N - 1)]) } else { low }]
    }
    #[inline(always)]
    fn pack_three(self, q: Self::I) -> Self::B {
        // SAFETY: the witness. 12 bytes per lane first, then 24 per register, then the second register behind the first.
        unsafe {
            let three = _mm256_setr_epi8(
                0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1, 0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1,
                -1, -1,
            );
            let low = _mm256_shuffle_epi8(q[0], three);
            let low = _mm256_permutevar8x32_epi32(low, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
            let high = _mm256_shuffle_epi8(q[1], three);
            let first = _mm256_permutevar8x32_epi32(high, _mm256_setr_epi32(3, 3, 3, 3, 3, 3, 0, 1));
            let rest = _mm256_permutevar8x32_epi32(high, _mm256_setr_epi32(2, 4, 5, 6, 3, 3, 3, 3));
            [_mm256_or_si256(low, first), rest]
        }
    }
    #[inline(always)]
    unsafe fn lookup(self, a: Self::B, table: *const u8) -> Self::B {
        // SAFETY: the caller's table.
        unsafe { [self.lookup_half(a[0], table), self.lookup_half(a[1], table)] }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: the witness, and the caller's guarantee.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_i(self, p: *const i32) -> Self::I {
        // SAFETY: the witness, and the caller's guarantee.
        unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())] }
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> Self::I {
        // SAFETY: the witness, and the caller's guarantee.
        unsafe {
            [_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())), _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8).cast()))]
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Self::I {
        // SAFETY: the witness, and the caller's guarantee.
        unsafe {
            [_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())), _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8).cast()))]
        }
    }
    #[inline(always)]
    unsafe fn load_b(self, p: *const u8) -> Self::B {
        // SAFETY: the witness, and the caller's guarantee.
        unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn store(self, a: Self::F, p: *mut f32, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe { self.store_i(self.bits(a), p.cast(), n) }
    }
    #[inline(always)]
    unsafe fn store_i(self, a: Self::I, p: *mut i32, n: usize) {
        // SAFETY: the witness, and the caller's guarantee: lanes past `n` are masked.
        unsafe {
            if n == 16 {
                _mm256_storeu_si256(p.cast(), a[0]);
                _mm256_storeu_si256(p.add(8).cast(), a[1]);
            } else {
                _mm256_maskstore_epi32(p, self.first(n), a[0]);
                _mm256_maskstore_epi32(p.wrapping_add(8), self.first(n.saturating_sub(8)), a[1]);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_b(self, a: Self::B, p: *mut u8, n: usize) {
        // SAFETY: the witness, and the caller's guarantee.
        unsafe {
            match n {
                64 => {
                    _mm256_storeu_si256(p.cast(), a[0]);
                    _mm256_storeu_si256(p.add(32).cast(), a[1]);
                }
                32 => _mm256_storeu_si256(p.cast(), a[0]),
                16 => _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(a[0])),
                _ => core::ptr::copy_nonoverlapping(a.as_ptr().cast::<u8>(), p, n),
            }
        }
    }
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}
}

impl Dot for Avx2 {
    type S = Self;
    type A = __m256i;
    type W = [__m256i; 4];
    type Acc = [__m256i; 4];

    const VECTORS: usize = 1;
    const VECTORS_OF_ONE: usize = 2;
    const IN_FLIGHT: usize = 1;
    #[inline(always)]
    fn simd(self) -> Self {
        self
    }
    #[inline(always)]
    fn rows(vectors: usize) -> usize {
        // 8 accumulators, 4 vectors of weights, and what is being multiplied: no more fits into 16 registers.
        if vectors == 1 { 2 } else { 1 }
    }
    #[inline(always)]
    fn rows_f32(vectors: usize) -> usize {
        if vectors == 1 { 6 } else { 1 }
    }

    #[inline(always)]
    unsafe fn start(self, _: *const i32) -> Self::Acc {
        self.zero()
    }
    #[inline(always)]
    fn zero(self) -> Self::Acc {
        // SAFETY: the witness.
        unsafe { [_mm256_setzero_si256(); 4] }
    }
    #[inline(always)]
    unsafe fn load_a(self, p: *const u8) -> __m256i {
        // SAFETY: the witness, and the caller's guarantee.
        unsafe { _mm256_cvtepu8_epi16(_mm_set1_epi32(p.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn load_w(self, p: *const i8) -> [__m256i; 4] {
        // SAFETY: the witness, and the caller's guarantee.
        unsafe {
            let mut w = self.zero();
            unroll!(i in 0..4 => {
                w[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128(p.add(16 * i).cast()));
            });
            w
        }
    }
    #[inline(always)]
    fn dot(self, mut acc: Self::Acc, a: __m256i, w: [__m256i; 4]) -> Self::Acc {
        // SAFETY: the witness.
        unsafe {
            unroll!(i in 0..4 => {
                acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(a, w[i]));
            });
        }
        acc
    }
    #[inline(always)]
    fn sum(self, mut a: Self::Acc, b: Self::Acc) -> Self::Acc {
        // SAFETY: the witness.
        unsafe {
            unroll!(i in 0..4 => {
                a[i] = _mm256_add_epi32(a[i], b[i]);
            });
        }
        a
    }
    #[inline(always)]
    unsafe fn end(self, acc: Self::Acc, bias: *const i32) -> [__m256i; 2] {
        // Every accumulator has 4 columns, two partial sums each.
        // SAFETY: the witness, and the caller's guarantee.
        unsafe {
            let low = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(acc[0], acc[1]));
            let high = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(acc[2], acc[3]));
            self.add_i([low, high], self.load_i(bias))
        }
    }
}
