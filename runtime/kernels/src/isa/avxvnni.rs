//! The tier of AVX2 with 256-bit byte dot products: the vectors of `avx2`, products of its own.

use super::avx2::Avx2;
use crate::body::gemm::Dot;
use crate::body::simd::Simd;
use core::arch::x86_64::*;

/// Witness that the host has AVX2, FMA and AVX-VNNI.
#[derive(Clone, Copy)]
pub struct AvxVnni(Avx2);

impl AvxVnni {
    /// The witness.
    ///
    /// # Safety
    /// The host has AVX2, FMA and AVX-VNNI.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        // SAFETY: the caller's guarantee.
        AvxVnni(unsafe { Avx2::new() })
    }
}

impl Dot for AvxVnni {
    type S = Avx2;
    type A = __m256i;
    type W = [__m256i; 2];
    type Acc = [__m256i; 2];

    #[inline(always)]
    fn simd(self) -> Avx2 {
        self.0
    }

    const VECTORS: usize = 1;
    const VECTORS_OF_ONE: usize = 4;
    const IN_FLIGHT: usize = 6;
    #[inline(always)]
    fn rows(vectors: usize) -> usize {
        if vectors == 1 { 6 } else { 1 }
    }
    #[inline(always)]
    fn rows_f32(vectors: usize) -> usize {
        if vectors == 1 { 6 } else { 1 }
    }

    #[inline(always)]
    unsafe fn start(self, bias: *const i32) -> [__m256i; 2] {
        // SAFETY: the caller's guarantee.
        unsafe { self.0.load_i(bias) }
    }
    #[inline(always)]
    fn zero(self) -> [__m256i; 2] {
        self.0.splat_i(0)
    }
    #[inline(always)]
    unsafe fn load_a(self, p: *const u8) -> __m256i {
        // SAFETY: the witness, and the caller's guarantee.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_w(self, p: *const i8) -> [__m256i; 2] {
        // SAFETY: the caller's guarantee.
        unsafe { self.0.load_i(p.cast()) }
    }
    #[inline(always)]
    fn dot(self, acc: [__m256i; 2], a: __m256i, w: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: the witness.
        unsafe { [_mm256_dpbusd_avx_epi32(acc[0], a, w[0]), _mm256_dpbusd_avx_epi32(acc[1], a, w[1])] }
    }
    #[inline(always)]
    fn sum(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        self.0.add_i(a, b)
    }
    #[inline(always)]
    unsafe fn end(self, acc: [__m256i; 2], _: *const i32) -> [__m256i; 2] {
        acc
    }
}
