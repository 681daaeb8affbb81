//! u8 × s8 depthwise convolution by dot products over quads: four rows of one pixel column, interleaved byte by byte.
//!
//! Interleaving 64 channels of four rows takes 8 shuffles and gives 4 vectors, each of 16 channels × 4 rows, in the order
//! that the packed weights, and the narrowing to bytes, expect (see `pack`). A quad of a 3×3 window at stride 1 serves
//! three outputs along x, and two along y, since its fourth row belongs to the window of the row below.

use super::avx512vnni::Avx512Vnni;
use crate::args::DwArgs;
use crate::body::simd::{Finish, Simd, unroll};
use crate::numbers::MAGIC;
use core::arch::x86_64::*;

type Quad = [__m512i; 4];

/// Constants of a block of up to 64 channels.
#[derive(Clone, Copy)]
struct Block {
    bias: Quad,
    scale: [__m512; 4],
    zero: __m512,
    finish: Finish<Avx512Vnni>,
    /// Quads of shift 0, and bytes from there to those of shift 1.
    weights: *const i8,
    shift: usize,
    /// First channel and number of channels.
    channel: usize,
    n: usize,
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
            let three = d.kh == 3 && d.kw == 3;
            if three && block.n <= 32 && d.cols > 1 {
                pairs(s, &d, &block);
            } else if three && d.step_x == d.a_col && d.step_y == d.a_row {
                let mut row = 0;
                while row + 2 <= d.rows {
                    slide::<2>(s, &d, &block, row);
                    row += 2;
                }
                if row < d.rows {
                    slide::<1>(s, &d, &block, row);
                }
            } else if three && d.step_x == 2 * d.a_col {
                for row in 0..d.rows {
                    slide_by_two(s, &d, &block, row);
                }
            } else {
                any_window(s, &d, &block);
            }
        }
        channel += 64;
    }
}

impl Block {
    #[inline(always)]
    unsafe fn new(s: Avx512Vnni, d: &DwArgs, channel: usize) -> Block {
        let n = (d.channels - channel).min(64);
        let c64 = d.channels.div_ceil(64) * 64;
        let quads = d.kh.div_ceil(4);
        let shifts = 4 * quads - d.kh + 1;
        let shift = d.kw * quads * 256;
        // SAFETY: the witness; bias and scale have the channels rounded up to 16, and loads past them are masked.
        unsafe {
            let (mut bias, mut scale) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
            unroll!(v in 0..4 => {
                let mask = if 16 * v < n { 0xffff } else { 0 };
                bias[v] = _mm512_maskz_loadu_epi32(mask, d.bias.add(channel).wrapping_add(16 * v));
                scale[v] = _mm512_maskz_loadu_epi32(mask, d.scale.add(channel).wrapping_add(16 * v).cast());
            });
            Block {
                bias: transpose(bias),
                scale: as_floats(transpose(scale)),
                zero: s.splat(d.zero + MAGIC),
                finish: Finish::new(s, d.lo, d.hi, d.lut),
                weights: d.w.add(c64 * d.kh * d.kw + channel / 64 * shifts * shift),
                shift,
                channel,
                n,
            }
        }
    }

    /// Requantizes and stores one pixel.
    #[inline(always)]
    unsafe fn store(&self, s: Avx512Vnni, acc: Quad, out: *mut u8) {
        // SAFETY: the witness; the pixel has `n` channels from `channel` on.
        unsafe {
            let mut w = [self.zero; 4];
            unroll!(v in 0..4 => {
                w[v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[v]), self.scale[v], self.zero);
            });
            let q = self.finish.bytes(s, narrow_quads(self.finish.integers(s, w)));
            s.store_b(q, out.wrapping_add(self.channel), self.n);
        }
    }

    /// Requantizes two pixels, one in either half, and stores the upper one first.
    #[inline(always)]
    unsafe fn store_pair(&self, s: Avx512Vnni, acc: Quad, low: *mut u8, high: *mut u8) {
        // SAFETY: the witness; both pixels have `n <= 32` channels from `channel` on.
        unsafe {
            let mut w = [self.zero; 4];
            unroll!(v in 0..4 => {
                w[v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[v]), self.scale[v], self.zero);
            });
            let q = self.finish.bytes(s, narrow_quads(self.finish.integers(s, w)));
            s.store_b(_mm512_shuffle_i64x2::<0xee>(q, q), high.wrapping_add(self.channel), self.n);
            s.store_b(q, low.wrapping_add(self.channel), self.n);
        }
    }
}

/// Narrows results in the order of quads to bytes in natural order.
#[inline(always)]
fn narrow_quads(q: Quad) -> __m512i {
    // SAFETY: the callers hold the witness.
    unsafe { _mm512_packus_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3])) }
}

/// Bits as floats.
#[inline(always)]
unsafe fn as_floats(v: Quad) -> [__m512; 4] {
    // SAFETY: the callers hold the witness.
    unsafe {
        [_mm512_castsi512_ps(v[0]), _mm512_castsi512_ps(v[1]), _mm512_castsi512_ps(v[2]), _mm512_castsi512_ps(v[3])]
    }
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

/// Interleaves 64 bytes at each of four addresses.
#[inline(always)]
unsafe fn quad(rows: [*const u8; 4], offset: usize) -> Quad {
    // SAFETY: the callers hold the witness; the input may be read 64 bytes past its end.
    unsafe {
        let mut v = [_mm512_setzero_si512(); 4];
        unroll!(i in 0..4 => {
            v[i] = _mm512_loadu_si512(rows[i].wrapping_add(offset).cast());
        });
        interleave(v)
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

/// `acc + quad · weights`.
#[inline(always)]
unsafe fn dot(mut acc: Quad, quad: Quad, weights: *const i8) -> Quad {
    // SAFETY: the callers hold the witness and pass the address of four vectors of weights.
    unsafe {
        unroll!(v in 0..4 => {
            acc[v] = _mm512_dpbusd_epi32(acc[v], quad[v], _mm512_load_si512(weights.add(64 * v).cast()));
        });
    }
    acc
}

/// Addresses of the four rows of quad `q` of a window; rows below the window, whose weights are 0, repeat its last one.
#[inline(always)]
fn rows_of(d: &DwArgs, window: *const u8, q: usize, rows: usize) -> [*const u8; 4] {
    let row = |i: usize| window.wrapping_add((4 * q + i).min(rows - 1) * d.a_row);
    [row(0), row(1), row(2), row(3)]
}

/// 3×3 at stride 1: `R` output rows from `row` on, one new quad per pixel.
#[inline(always)]
unsafe fn slide<const R: usize>(s: Avx512Vnni, d: &DwArgs, b: &Block, row: usize) {
    let window = d.a.wrapping_add(row * d.step_y + b.channel);
    let rows = rows_of(d, window, 0, if R == 2 { 4 } else { 3 });
    let mut out = d.out.wrapping_add(row * d.out_row);
    // SAFETY: columns `0 .. cols + 2` of the window's rows exist.
    unsafe {
        let (mut left, mut middle) = (quad(rows, 0), quad(rows, d.a_col));
        let mut offset = 2 * d.a_col;
        for _ in 0..d.cols {
            let right = quad(rows, offset);
            let top = dot(dot(b.bias, left, b.weights), middle, b.weights.add(256));
            b.store(s, dot(top, right, b.weights.add(512)), out);
            if R == 2 {
                let weights = b.weights.add(b.shift);
                let bottom = dot(dot(b.bias, left, weights), middle, weights.add(256));
                b.store(s, dot(bottom, right, weights.add(512)), out.wrapping_add(d.out_row));
            }
            (left, middle) = (middle, right);
            offset += d.a_col;
            out = out.wrapping_add(d.out_px);
        }
    }
}

/// 3×3 at stride 2 along x: two new quads per pixel.
#[inline(always)]
unsafe fn slide_by_two(s: Avx512Vnni, d: &DwArgs, b: &Block, row: usize) {
    let rows = rows_of(d, d.a.wrapping_add(row * d.step_y + b.channel), 0, 3);
    let mut out = d.out.wrapping_add(row * d.out_row);
    // SAFETY: columns `0 .. 2 * cols + 1` of the window's rows exist.
    unsafe {
        let mut left = quad(rows, 0);
        let mut offset = d.a_col;
        for _ in 0..d.cols {
            let (middle, right) = (quad(rows, offset), quad(rows, offset + d.a_col));
            let acc = dot(dot(b.bias, left, b.weights), middle, b.weights.add(256));
            b.store(s, dot(acc, right, b.weights.add(512)), out);
            left = right;
            offset += d.step_x;
            out = out.wrapping_add(d.out_px);
        }
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
unsafe fn pairs(s: Avx512Vnni, d: &DwArgs, b: &Block) {
    // SAFETY: the witness; the weights of both shifts are 24 vectors.
    unsafe {
        let mut weights = [_mm512_setzero_si512(); 24];
        for (v, twice) in weights.iter_mut().enumerate() {
            *twice = double(_mm512_load_si512(b.weights.add(64 * v).cast()));
        }
        let mut block = *b;
        block.weights = weights.as_ptr().cast();
        block.shift = 768;
        unroll!(v in 0..4 => {
            block.bias[v] = double(b.bias[v]);
            block.scale[v] = _mm512_castsi512_ps(double(_mm512_castps_si512(b.scale[v])));
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
unsafe fn pair_rows<const R: usize>(s: Avx512Vnni, d: &DwArgs, b: &Block, row: usize) {
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
                let acc = dot(dot(b.bias, left, weights), middle, weights.add(256));
                let out = out.wrapping_add(r * d.out_row + p * d.out_px);
                b.store_pair(s, dot(acc, right, weights.add(512)), out, if partner == 0 { out } else { out.wrapping_add(d.out_px) });
            });
            left = right;
            p += 2;
        }
    }
}

/// Any window, stride and dilation: all quads of every pixel, shared by as many output rows as the packed shifts serve.
#[inline(always)]
unsafe fn any_window(s: Avx512Vnni, d: &DwArgs, b: &Block) {
    let shifts = if d.step_y == d.a_row { 4 * d.kh.div_ceil(4) - d.kh + 1 } else { 1 };
    let mut row = 0;
    while row < d.rows {
        let n = shifts.min(d.rows - row);
        // SAFETY: existing rows, and shifts that the weights have.
        unsafe {
            match n {
                1 => window_rows::<1>(s, d, b, row),
                2 => window_rows::<2>(s, d, b, row),
                3 => window_rows::<3>(s, d, b, row),
                _ => window_rows::<4>(s, d, b, row),
            }
        }
        row += n;
    }
}

/// `R` output rows from `row` on.
#[inline(always)]
unsafe fn window_rows<const R: usize>(s: Avx512Vnni, d: &DwArgs, b: &Block, row: usize) {
    for p in 0..d.cols {
        let window = d.a.wrapping_add(row * d.step_y + p * d.step_x + b.channel);
        let mut acc = [b.bias; R];
        let mut weights = b.weights;
        // SAFETY: the taps of existing pixels and their weights.
        unsafe {
            for q in 0..d.kh.div_ceil(4) {
                let rows = rows_of(d, window, q, d.kh + R - 1);
                for x in 0..d.kw {
                    let quad = quad(rows, x * d.a_col);
                    let weights = weights.add(x * d.kh.div_ceil(4) * 256);
                    unroll!(r in 0..R => {
                        acc[r] = dot(acc[r], quad, weights.add(r * b.shift));
                    });
                }
                weights = weights.add(256);
            }
            let out = d.out.wrapping_add(row * d.out_row + p * d.out_px);
            unroll!(r in 0..R => {
                b.store(s, acc[r], out.wrapping_add(r * d.out_row));
            });
        }
    }
}
