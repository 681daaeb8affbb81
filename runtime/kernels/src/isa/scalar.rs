//! The tier of any x86-64: vectors as arrays, which the compiler maps to SSE2 as it likes; integer products by hand.

use crate::body::gemm::Dot;
use crate::body::simd::{Simd, unroll};
use crate::numbers::fma_exact;
use core::arch::x86_64::*;
use core::array::from_fn;

/// Witness of the lowest tier, which every host has.
#[derive(Clone, Copy)]
pub struct Scalar;

impl Scalar {
    /// The witness.
    ///
    /// # Safety
    /// None needed; the signature is that of the other tiers.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Scalar
    }
}

#[inline(always)]
fn map2<T: Copy, U>(a: [T; 16], b: [T; 16], f: impl Fn(T, T) -> U) -> [U; 16] {
    from_fn(|i| f(a[i], b[i]))
}

impl Simd for Scalar {
    const REGISTERS: usize = 4;
    const COMPACT: bool = true;
    type F = [f32; 16];
    type I = [i32; 16];
    type B = [u8; 64];
    type D = [f64; 16];

    #[inline(always)]
    fn splat(self, v: f32) -> [f32; 16] {
        [v; 16]
    }
    #[inline(always)]
    fn add(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        from_fn(|i| fma_exact(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn sqrt(self, a: [f32; 16]) -> [f32; 16] {
        let mut roots = a;
        unroll!(i in 0..4 => {
            // SAFETY: SSE2 is part of x86-64; four lanes from `4 * i` on exist.
            unsafe { _mm_storeu_ps(roots.as_mut_ptr().add(4 * i), _mm_sqrt_ps(_mm_loadu_ps(a.as_ptr().add(4 * i)))) };
        });
        roots
    }
    #[inline(always)]
    fn max(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn maximum(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map2(a, b, |a, b| if a > b || a.is_nan() { a } else { b })
    }
    #[inline(always)]
    fn minimum(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map2(a, b, |a, b| if a < b || a.is_nan() { a } else { b })
    }
    #[inline(always)]
    fn if_less(self, a: [f32; 16], b: [f32; 16], yes: [f32; 16], no: [f32; 16]) -> [f32; 16] {
        from_fn(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    fn lanes(self, a: [f32; 16]) -> [f32; 16] {
        a
    }

    #[inline(always)]
    fn splat_d(self, v: f64) -> [f64; 16] {
        [v; 16]
    }
    #[inline(always)]
    fn add_wide(self, sum: [f64; 16], v: [f32; 16]) -> [f64; 16] {
        from_fn(|i| sum[i] + f64::from(v[i]))
    }
    #[inline(always)]
    fn div_wide(self, a: [f64; 16], b: [f64; 16]) -> [f32; 16] {
        from_fn(|i| (a[i] / b[i]) as f32)
    }
    #[inline(always)]
    fn lanes_wide(self, a: [f64; 16]) -> [f64; 16] {
        a
    }

    #[inline(always)]
    fn splat_i(self, v: i32) -> [i32; 16] {
        [v; 16]
    }
    #[inline(always)]
    fn add_i(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        map2(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn sub_i(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        map2(a, b, i32::wrapping_sub)
    }
    #[inline(always)]
    fn max_i(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn and_i(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        map2(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn mul_small(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        map2(a, b, |a, b| i32::from(a as i16).wrapping_mul(i32::from(b as i16)))
    }
    #[inline(always)]
    fn mul_i(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        map2(a, b, i32::wrapping_mul)
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, a: [i32; 16]) -> [i32; 16] {
        a.map(|v| v >> N)
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, a: [i32; 16]) -> [i32; 16] {
        a.map(|v| v << N)
    }
    #[inline(always)]
    fn to_float(self, a: [i32; 16]) -> [f32; 16] {
        a.map(|v| v as f32)
    }
    #[inline(always)]
    fn bits(self, a: [f32; 16]) -> [i32; 16] {
        a.map(|v| v.to_bits() as i32)
    }
    #[inline(always)]
    fn as_float(self, a: [i32; 16]) -> [f32; 16] {
        a.map(|v| f32::from_bits(v as u32))
    }

    #[inline(always)]
    fn splat_b(self, v: u8) -> [u8; 64] {
        [v; 64]
    }
    #[inline(always)]
    fn max_b(self, a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min_b(self, a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn pack<const N: usize>(self, q: [[i32; 16]; N]) -> [u8; 64] {
        from_fn(|i| if i / 16 < N { q[i / 16][i % 16].clamp(0, 255) as u8 } else { 0 })
    }
    #[inline(always)]
    fn pack_three(self, q: [i32; 16]) -> [u8; 64] {
        from_fn(|i| if i < 48 { (q[i / 3] >> (8 * (i % 3))) as u8 } else { 0 })
    }
    #[inline(always)]
    unsafe fn lookup(self, a: [u8; 64], table: *const u8) -> [u8; 64] {
        // SAFETY: a byte is less than 256.
        a.map(|v| unsafe { *table.add(usize::from(v)) })
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> [f32; 16] {
        // SAFETY: the caller's guarantee.
        unsafe { p.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_i(self, p: *const i32) -> [i32; 16] {
        // SAFETY: the caller's guarantee.
        unsafe { p.cast::<[i32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> [i32; 16] {
        // SAFETY: the caller's guarantee.
        unsafe { p.cast::<[u8; 16]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> [i32; 16] {
        // SAFETY: the caller's guarantee.
        unsafe { p.cast::<[i8; 16]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn load_b(self, p: *const u8) -> [u8; 64] {
        // SAFETY: the caller's guarantee.
        unsafe { p.cast::<[u8; 64]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, a: [f32; 16], p: *mut f32, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe { core::ptr::copy_nonoverlapping(a.as_ptr().cast::<u8>(), p.cast(), 4 * n) }
    }
    #[inline(always)]
    unsafe fn store_i(self, a: [i32; 16], p: *mut i32, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe { core::ptr::copy_nonoverlapping(a.as_ptr().cast::<u8>(), p.cast(), 4 * n) }
    }
    #[inline(always)]
    unsafe fn store_b(self, a: [u8; 64], p: *mut u8, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe { core::ptr::copy_nonoverlapping(a.as_ptr(), p, n) }
    }
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}
}

/// Products by `pmaddwd`, which every x86-64 has: registers of 2 columns, two partial sums each.
impl Dot for Scalar {
    type S = Self;
    type A = __m128i;
    type W = [__m128i; 8];
    type Acc = [__m128i; 8];

    const VECTORS: usize = 1;
    const VECTORS_OF_ONE: usize = 1;
    const IN_FLIGHT: usize = 1;
    #[inline(always)]
    fn simd(self) -> Self {
        self
    }
    #[inline(always)]
    fn rows(_: usize) -> usize {
        2
    }
    #[inline(always)]
    fn rows_f32(vectors: usize) -> usize {
        if vectors == 1 { 2 } else { 1 }
    }

    #[inline(always)]
    unsafe fn start(self, _: *const i32) -> Self::Acc {
        self.zero()
    }
    #[inline(always)]
    fn zero(self) -> Self::Acc {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { [_mm_setzero_si128(); 8] }
    }
    #[inline(always)]
    unsafe fn load_a(self, p: *const u8) -> __m128i {
        // SAFETY: SSE2 is part of x86-64; the caller's guarantee.
        unsafe { _mm_unpacklo_epi8(_mm_set1_epi32(p.cast::<i32>().read_unaligned()), _mm_setzero_si128()) }
    }
    #[inline(always)]
    unsafe fn load_w(self, p: *const i8) -> Self::W {
        let mut w = self.zero();
        // SAFETY: SSE2 is part of x86-64; the caller's guarantee. A byte in the upper half of a word, shifted down, is
        // sign-extended.
        unsafe {
            unroll!(i in 0..4 => {
                let bytes = _mm_loadu_si128(p.add(16 * i).cast());
                w[2 * i] = _mm_srai_epi16::<8>(_mm_unpacklo_epi8(bytes, bytes));
                w[2 * i + 1] = _mm_srai_epi16::<8>(_mm_unpackhi_epi8(bytes, bytes));
            });
        }
        w
    }
    #[inline(always)]
    fn dot(self, mut acc: Self::Acc, a: __m128i, w: Self::W) -> Self::Acc {
        // SAFETY: SSE2 is part of x86-64.
        unsafe {
            unroll!(i in 0..8 => {
                acc[i] = _mm_add_epi32(acc[i], _mm_madd_epi16(a, w[i]));
            });
        }
        acc
    }
    #[inline(always)]
    fn sum(self, mut a: Self::Acc, b: Self::Acc) -> Self::Acc {
        // SAFETY: SSE2 is part of x86-64.
        unsafe {
            unroll!(i in 0..8 => {
                a[i] = _mm_add_epi32(a[i], b[i]);
            });
        }
        a
    }
    #[inline(always)]
    unsafe fn end(self, acc: Self::Acc, bias: *const i32) -> [i32; 16] {
        // SAFETY: 8 registers of 4 integers are 32 of them.
        let partial: [i32; 32] = unsafe { core::mem::transmute(acc) };
        let mut sums = [0; 16];
        for (n, sum) in sums.iter_mut().enumerate() {
            *sum = partial[2 * n].wrapping_add(partial[2 * n + 1]);
        }
        // SAFETY: the caller's guarantee.
        self.add_i(sums, unsafe { self.load_i(bias) })
    }
}
