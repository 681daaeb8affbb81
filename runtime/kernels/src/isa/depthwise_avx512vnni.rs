//! Quads of 64 channels; and 3×3 windows with at most 32 channels, whose pixels are computed two at a time.

use super::avx512vnni::Avx512Vnni;
use crate::args::DwArgs;
use crate::body::depthwise_quads::{Block, QUAD_BYTES, Quads, all_pixels, rows_of};
use crate::body::simd::{Finish, Simd, unroll};
use crate::numbers::MAGIC;
use core::arch::x86_64::*;

type Quad = [__m512i; 4];

impl Quads for Avx512Vnni {
    type S = Self;
    type V = __m512i;

    const CHANNELS: usize = 64;

    #[inline(always)]
    fn simd(self) -> Self {
        self
    }
    #[inline(always)]
    unsafe fn quad(self, rows: [*const u8; 4]) -> Quad {
        // SAFETY: the witness, and the caller's rows.
        unsafe {
            let mut v = [_mm512_setzero_si512(); 4];
            unroll!(i in 0..4 => {
                v[i] = _mm512_loadu_si512(rows[i].cast());
            });
            interleave(v)
        }
    }
    #[inline(always)]
    unsafe fn dot(self, mut acc: Quad, quad: Quad, weights: *const i8) -> Quad {
        // SAFETY: the witness, and the caller's weights.
        unsafe {
            unroll!(v in 0..4 => {
                acc[v] = _mm512_dpbusd_epi32(acc[v], quad[v], _mm512_load_si512(weights.add(64 * v).cast()));
            });
        }
        acc
    }
    #[inline(always)]
    unsafe fn constants(self, p: *const i32, n: usize) -> Quad {
        // SAFETY: the witness; loads past the channels are masked.
        unsafe {
            let mut all = [_mm512_setzero_si512(); 4];
            unroll!(v in 0..4 => {
                let mask = if 16 * v < n { 0xffff } else { 0 };
                all[v] = _mm512_maskz_loadu_epi32(mask, p.wrapping_add(16 * v));
            });
            transpose(all)
        }
    }
    #[inline(always)]
    unsafe fn requantize(self, acc: Quad, scale: Quad, finish: &Finish<Self>) -> __m512i {
        // SAFETY: the witness, and the caller's table.
        unsafe {
            let magic = self.splat(MAGIC);
            let mut w = [magic; 4];
            unroll!(v in 0..4 => {
                let product = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[v]), _mm512_castsi512_ps(scale[v]));
                w[v] = _mm512_add_ps(product, magic);
            });
            finish.bytes(self, narrow_quads(finish.integers(self, w)))
        }
    }
}

/// Computes the whole call.
///
/// # Safety
/// `args` points to a [`DwArgs`] that keeps its contract; the host has the tier.
#[inline(always)]
pub unsafe fn u8s8(s: Avx512Vnni, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let d = unsafe { *args.cast::<DwArgs>() };
    let mut channel = 0;
    while channel < d.channels {
        // SAFETY: a block of existing channels.
        unsafe {
            let block = Block::new(s, &d, channel);
            if d.kh == 3 && d.kw == 3 && block.n <= 32 && d.cols > 1 {
                pairs(s, &d, &block);
            } else {
                all_pixels(s, &d, [block]);
            }
        }
        channel += 64;
    }
}

/// Narrows results in the order of quads to bytes in natural order.
#[inline(always)]
fn narrow_quads(q: Quad) -> __m512i {
    // SAFETY: the callers hold the witness.
    unsafe { _mm512_packus_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3])) }
}

/// Exchanges 128-bit blocks: block `g` of vector `j` with block `j` of vector `g`, from natural order to that of quads.
#[inline(always)]
unsafe fn transpose(v: Quad) -> Quad {
    // SAFETY: the callers hold the witness.
    unsafe {
        let (a, b) = (_mm512_shuffle_i32x4::<0x44>(v[0], v[1]), _mm512_shuffle_i32x4::<0xee>(v[0], v[1]));
        let (c, d) = (_mm512_shuffle_i32x4::<0x44>(v[2], v[3]), _mm512_shuffle_i32x4::<0xee>(v[2], v[3]));
        [
            _mm512_shuffle_i32x4::<0x88>(a, c),
            _mm512_shuffle_i32x4::<0xdd>(a, c),
            _mm512_shuffle_i32x4::<0x88>(b, d),
            _mm512_shuffle_i32x4::<0xdd>(b, d),
        ]
    }
}

/// Bytes of four vectors side by side.
#[inline(always)]
unsafe fn interleave([r0, r1, r2, r3]: Quad) -> Quad {
    // SAFETY: the callers hold the witness.
    unsafe {
        let (low01, high01) = (_mm512_unpacklo_epi8(r0, r1), _mm512_unpackhi_epi8(r0, r1));
        let (low23, high23) = (_mm512_unpacklo_epi8(r2, r3), _mm512_unpackhi_epi8(r2, r3));
        [
            _mm512_unpacklo_epi16(low01, low23),
            _mm512_unpackhi_epi16(low01, low23),
            _mm512_unpacklo_epi16(high01, high23),
            _mm512_unpackhi_epi16(high01, high23),
        ]
    }
}

/// Interleaves 32 bytes at each of four addresses, and 32 of a pixel `partner` bytes further in the upper halves.
#[inline(always)]
unsafe fn pair_quad(rows: [*const u8; 4], offset: usize, partner: usize) -> Quad {
    // SAFETY: the callers hold the witness; the input may be read 64 bytes past its end.
    unsafe {
        let mut v = [_mm512_setzero_si512(); 4];
        unroll!(i in 0..4 => {
            let p = rows[i].wrapping_add(offset);
            let low = _mm512_castsi256_si512(_mm256_loadu_si256(p.cast()));
            v[i] = _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(p.wrapping_add(partner).cast()));
        });
        interleave(v)
    }
}

/// 3×3 with at most 32 channels: two pixels at once, one in either half of the vectors.
#[inline(always)]
unsafe fn pairs(s: Avx512Vnni, d: &DwArgs, b: &Block<Avx512Vnni>) {
    // SAFETY: the witness; the weights of both shifts are 24 vectors.
    unsafe {
        let mut weights = [_mm512_setzero_si512(); 24];
        for (v, twice) in weights.iter_mut().enumerate() {
            *twice = double(_mm512_load_si512(b.weights.add(64 * v).cast()));
        }
        let mut block = *b;
        block.weights = weights.as_ptr().cast();
        block.shift = 3 * QUAD_BYTES;
        unroll!(v in 0..4 => {
            block.bias[v] = double(b.bias[v]);
            block.scale[v] = double(b.scale[v]);
        });
        let mut row = 0;
        while row < d.rows {
            if d.step_y == d.a_row && row + 2 <= d.rows {
                pair_rows::<2>(s, d, &block, row);
                row += 2;
            } else {
                pair_rows::<1>(s, d, &block, row);
                row += 1;
            }
        }
    }
}

/// The lower half of a vector in both halves.
#[inline(always)]
unsafe fn double(v: __m512i) -> __m512i {
    // SAFETY: the callers hold the witness.
    unsafe { _mm512_shuffle_i64x2::<0x44>(v, v) }
}

/// `R` output rows from `row` on, two pixels at a time; an odd last one is computed twice.
#[inline(always)]
unsafe fn pair_rows<const R: usize>(s: Avx512Vnni, d: &DwArgs, b: &Block<Avx512Vnni>, row: usize) {
    let rows = rows_of(d, d.a.wrapping_add(row * d.step_y + b.channel), 0, R + 2);
    let out = d.out.wrapping_add(row * d.out_row);
    let slides = d.step_x == d.a_col;
    // SAFETY: the taps of existing pixels; see `slide`.
    unsafe {
        let mut left = pair_quad(rows, 0, d.step_x);
        let mut p = 0;
        while p < d.cols {
            let partner = if p + 1 < d.cols { d.step_x } else { 0 };
            let offset = p * d.step_x;
            if !slides || partner == 0 {
                left = pair_quad(rows, offset, partner);
            }
            let middle = pair_quad(rows, offset + d.a_col, partner);
            let right = pair_quad(rows, offset + 2 * d.a_col, partner);
            unroll!(r in 0..R => {
                let weights = b.weights.add(r * b.shift);
                let acc = s.dot(s.dot(b.bias, left, weights), middle, weights.add(QUAD_BYTES));
                let out = out.wrapping_add(r * d.out_row + p * d.out_px);
                let acc = s.dot(acc, right, weights.add(2 * QUAD_BYTES));
                store_pair(s, b, acc, out, if partner == 0 { out } else { out.wrapping_add(d.out_px) });
            });
            left = right;
            p += 2;
        }
    }
}

/// Requantizes two pixels, one in either half, and stores the upper one first.
#[inline(always)]
unsafe fn store_pair(s: Avx512Vnni, b: &Block<Avx512Vnni>, acc: Quad, low: *mut u8, high: *mut u8) {
    // SAFETY: the witness; both pixels have `n <= 32` channels from `channel` on.
    unsafe {
        let q = s.requantize(acc, b.scale, &b.finish);
        s.store_b(_mm512_shuffle_i64x2::<0xee>(q, q), high.wrapping_add(b.channel), b.n);
        s.store_b(q, low.wrapping_add(b.channel), b.n);
    }
}
