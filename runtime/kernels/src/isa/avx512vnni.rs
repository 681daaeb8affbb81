//! The tier of AVX-512 with byte dot products: 16 lanes are one zmm register.

use crate::body::gemm::Dot;
use crate::body::simd::Simd;
use crate::numbers::MAGIC;
use core::arch::x86_64::*;

/// Witness that the host has AVX-512 F, BW, DQ, VL and VNNI.
#[derive(Clone, Copy)]
pub struct Avx512Vnni(());

impl Avx512Vnni {
    /// The witness.
    ///
    /// # Safety
    /// The host has AVX-512 F, BW, DQ, VL and VNNI.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Avx512Vnni(())
    }
}

/// Calls an intrinsic.
macro_rules! call {
    ($call:expr) => {
        // SAFETY: the witness `self` says that the host has the instruction.
        unsafe { $call }
    };
}

impl Simd for Avx512Vnni {
    const REGISTERS: usize = 32;
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    type D = [__m512d; 2];

    #[inline(always)]
    fn splat(self, v: f32) -> __m512 {
        call!(_mm512_set1_ps(v))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        call!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        call!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn maximum(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_mask_max_ps(a, _mm512_cmp_ps_mask::<_CMP_ORD_Q>(a, a), a, b))
    }
    #[inline(always)]
    fn minimum(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_mask_min_ps(a, _mm512_cmp_ps_mask::<_CMP_ORD_Q>(a, a), a, b))
    }
    #[inline(always)]
    fn if_less(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        call!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes))
    }
    #[inline(always)]
    fn lanes(self, a: __m512) -> [f32; 16] {
        // SAFETY: both are 64 bytes of floats.
        unsafe { core::mem::transmute(a) }
    }

    #[inline(always)]
    fn splat_d(self, v: f64) -> [__m512d; 2] {
        call!([_mm512_set1_pd(v); 2])
    }
    #[inline(always)]
    fn add_wide(self, sum: [__m512d; 2], v: __m512) -> [__m512d; 2] {
        // SAFETY: the witness.
        unsafe {
            let (low, high) = (_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            [_mm512_add_pd(sum[0], _mm512_cvtps_pd(low)), _mm512_add_pd(sum[1], _mm512_cvtps_pd(high))]
        }
    }
    #[inline(always)]
    fn div_wide(self, a: [__m512d; 2], b: [__m512d; 2]) -> __m512 {
        // SAFETY: the witness.
        unsafe {
            let low = _mm512_castps256_ps512(_mm512_cvtpd_ps(_mm512_div_pd(a[0], b[0])));
            _mm512_insertf32x8::<1>(low, _mm512_cvtpd_ps(_mm512_div_pd(a[1], b[1])))
        }
    }
    #[inline(always)]
    fn lanes_wide(self, a: [__m512d; 2]) -> [f64; 16] {
        // SAFETY: both are 128 bytes of floats.
        unsafe { core::mem::transmute(a) }
    }

    #[inline(always)]
    fn sum_wide(self, a: [__m512d; 2]) -> f64 {
        // SAFETY: the witness.
        unsafe {
            let eight = _mm512_add_pd(a[0], a[1]);
            let four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd::<1>(eight));
            let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
    }
    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        call!(_mm512_reduce_max_ps(a))
    }

    #[inline(always)]
    fn splat_i(self, v: i32) -> __m512i {
        call!(_mm512_set1_epi32(v))
    }
    #[inline(always)]
    fn add_i(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn max_i(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_max_epi32(a, b))
    }
    #[inline(always)]
    fn and_i(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn mul_small(self, a: __m512i, b: __m512i) -> __m512i {
        // The upper halves of `a` are 0, so those of `b` (its sign) do not count.
        call!(_mm512_madd_epi16(a, b))
    }
    #[inline(always)]
    fn mul_i(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_mullo_epi32(a, b))
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, a: __m512i) -> __m512i {
        call!(_mm512_srai_epi32::<N>(a))
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, a: __m512i) -> __m512i {
        call!(_mm512_slli_epi32::<N>(a))
    }
    #[inline(always)]
    fn to_float(self, a: __m512i) -> __m512 {
        call!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn bits(self, a: __m512) -> __m512i {
        call!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn as_float(self, a: __m512i) -> __m512 {
        call!(_mm512_castsi512_ps(a))
    }

    #[inline(always)]
    fn times_power(self, p: __m512, shifted: __m512) -> __m512 {
        call!(_mm512_scalef_ps(p, _mm512_sub_ps(shifted, _mm512_set1_ps(MAGIC))))
    }

    #[inline(always)]
    fn splat_b(self, v: u8) -> __m512i {
        call!(_mm512_set1_epi8(v as i8))
    }
    #[inline(always)]
    fn max_b(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_max_epu8(a, b))
    }
    #[inline(always)]
    fn min_b(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_min_epu8(a, b))
    }
    #[inline(always)]
    fn pack<const N: usize>(self, q: [__m512i; N]) -> __m512i {
        // SAFETY: the witness. Packing works in 128-bit lanes; the permutation puts dwords back in order.
        unsafe {
            if N == 1 {
                // This narrowing takes its source as unsigned.
                let positive = _mm512_max_epi32(q[0], _mm512_setzero_si512());
                return _mm512_castsi128_si512(_mm512_cvtusepi32_epi8(positive));
            }
            let (a, b, c) = (q[1.min(N - 1)], q[2.min(N - 1)], q[3.min(N - 1)]);
            let bytes = _mm512_packus_epi16(_mm512_packs_epi32(q[0], a), _mm512_packs_epi32(b, c));
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_permutexvar_epi32(order, bytes)
        }
    }
    #[inline(always)]
    fn pack_three(self, q: __m512i) -> __m512i {
        // SAFETY: the witness. 12 bytes per lane first, then lanes are joined.
        unsafe {
            let three = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
            let joined = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
            _mm512_permutexvar_epi32(joined, _mm512_shuffle_epi8(q, three))
        }
    }
    #[inline(always)]
    fn transpose(self, block: &mut [[f32; 16]; 16]) {
        // Exchange single lanes of neighbouring rows, then pairs, fours and eights.
        // SAFETY: the witness; rows have 64 bytes.
        unsafe {
            let mut rows = [_mm512_setzero_ps(); 16];
            for i in 0..16 {
                rows[i] = _mm512_loadu_ps(block[i].as_ptr());
            }
            let mut pairs = rows;
            for i in 0..8 {
                pairs[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
                pairs[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
            }
            let mut fours = pairs;
            for i in 0..4 {
                let (a, b) = (_mm512_castps_pd(pairs[4 * i]), _mm512_castps_pd(pairs[4 * i + 2]));
                let (c, d) = (_mm512_castps_pd(pairs[4 * i + 1]), _mm512_castps_pd(pairs[4 * i + 3]));
                fours[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                fours[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                fours[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
                fours[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
            }
            // Lane `l` of `fours[4 * i + j]` has column `4 * l + j` of rows `4 * i ..`.
            for j in 0..4 {
                let (a, b) = (fours[j], fours[4 + j]);
                let (c, d) = (fours[8 + j], fours[12 + j]);
                let (low, high) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (low2, high2) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
                rows[j] = _mm512_shuffle_f32x4::<0x88>(low, low2);
                rows[4 + j] = _mm512_shuffle_f32x4::<0x88>(high, high2);
                rows[8 + j] = _mm512_shuffle_f32x4::<0xdd>(low, low2);
                rows[12 + j] = _mm512_shuffle_f32x4::<0xdd>(high, high2);
            }
            for i in 0..16 {
                _mm512_storeu_ps(block[i].as_mut_ptr(), rows[i]);
            }
        }
    }
    #[inline(always)]
    unsafe fn lookup(self, a: __m512i, table: *const u8) -> __m512i {
        // The table is 128 words, half of which one permutation reaches: a byte less its lowest bit is the number of its word.
        // SAFETY: the witness, and the caller's table.
        unsafe {
            let words = |i: usize| _mm512_loadu_si512(table.add(64 * i).cast());
            let halves = [[words(0), words(1)], [words(2), words(3)]];
            let found = |byte: __m512i| {
                let word = _mm512_srli_epi16::<1>(byte);
                let [low, high] = halves.map(|[a, b]| _mm512_permutex2var_epi16(a, word, b));
                let upper = _mm512_test_epi16_mask(byte, _mm512_set1_epi16(0x80));
                let pair = _mm512_mask_blend_epi16(upper, low, high);
                let second = _mm512_slli_epi16::<3>(_mm512_and_si512(byte, _mm512_set1_epi16(1)));
                _mm512_srlv_epi16(pair, second)
            };
            let low = _mm512_set1_epi16(0xff);
            let (even, odd) = (_mm512_and_si512(a, low), _mm512_srli_epi16::<8>(a));
            _mm512_or_si512(_mm512_and_si512(found(even), low), _mm512_slli_epi16::<8>(found(odd)))
        }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        call!(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn load_i(self, p: *const i32) -> __m512i {
        call!(_mm512_loadu_si512(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> __m512i {
        call!(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m512i {
        call!(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())))
    }
    #[inline(always)]
    unsafe fn load_b(self, p: *const u8) -> __m512i {
        call!(_mm512_loadu_si512(p.cast()))
    }
    #[inline(always)]
    unsafe fn store(self, a: __m512, p: *mut f32, n: usize) {
        // SAFETY: the witness, and the caller's guarantee: lanes past `n` are masked.
        unsafe {
            if n == 16 {
                _mm512_storeu_ps(p, a);
            } else {
                _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as __mmask16, a);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_i(self, a: __m512i, p: *mut i32, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe { self.store(self.as_float(a), p.cast(), n) }
    }
    #[inline(always)]
    unsafe fn store_b(self, a: __m512i, p: *mut u8, n: usize) {
        // SAFETY: the witness, and the caller's guarantee: bytes past `n` are masked.
        unsafe {
            match n {
                64 => _mm512_storeu_si512(p.cast(), a),
                48 => {
                    _mm256_storeu_si256(p.cast(), _mm512_castsi512_si256(a));
                    _mm_storeu_si128(p.add(32).cast(), _mm512_extracti32x4_epi32::<2>(a));
                }
                32 => _mm256_storeu_si256(p.cast(), _mm512_castsi512_si256(a)),
                16 => _mm_storeu_si128(p.cast(), _mm512_castsi512_si128(a)),
                _ => _mm512_mask_storeu_epi8(p.cast(), (1u64 << n) - 1, a),
            }
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        call!(_mm_prefetch::<_MM_HINT_T1>(p.cast()))
    }
}

impl Dot for Avx512Vnni {
    type S = Self;
    type A = __m512i;
    type W = __m512i;
    type Acc = __m512i;

    const VECTORS: usize = 4;
    const VECTORS_OF_ONE: usize = 4;
    const IN_FLIGHT: usize = 16;
    #[inline(always)]
    fn simd(self) -> Self {
        self
    }
    #[inline(always)]
    fn rows(vectors: usize) -> usize {
        if vectors == 4 { 6 } else { 8 }
    }
    #[inline(always)]
    fn rows_f32(vectors: usize) -> usize {
        if vectors == 4 { 6 } else { 8 }
    }

    #[inline(always)]
    unsafe fn start(self, bias: *const i32) -> __m512i {
        // SAFETY: the caller's guarantee.
        unsafe { self.load_i(bias) }
    }
    #[inline(always)]
    fn zero(self) -> __m512i {
        call!(_mm512_setzero_si512())
    }
    #[inline(always)]
    unsafe fn load_a(self, p: *const u8) -> __m512i {
        call!(_mm512_set1_epi32(p.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    unsafe fn load_w(self, p: *const i8) -> __m512i {
        call!(_mm512_loadu_si512(p.cast()))
    }
    #[inline(always)]
    fn dot(self, acc: __m512i, a: __m512i, w: __m512i) -> __m512i {
        call!(_mm512_dpbusd_epi32(acc, a, w))
    }
    #[inline(always)]
    fn sum(self, a: __m512i, b: __m512i) -> __m512i {
        self.add_i(a, b)
    }
    #[inline(always)]
    unsafe fn end(self, acc: __m512i, _: *const i32) -> __m512i {
        acc
    }
}
