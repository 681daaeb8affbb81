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
            if three && d.step_x == d.a_col && d.step_y == d.a_row {
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
                for row in 0..d.rows {
                    any_window(s, &d, &block, row);
                }
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
        let shifts = if d.kh & 3 == 0 { 1 } else { 2 };
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
                scale: transpose(scale).map(|v| _mm512_castsi512_ps(v)),
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
            self.finish.store_quads(s, w, out.wrapping_add(self.channel), self.n);
        }
    }
}

impl Finish<Avx512Vnni> {
    /// As [`Finish::store`], for results in the order of quads.
    #[inline(always)]
    unsafe fn store_quads(&self, s: Avx512Vnni, w: [__m512; 4], out: *mut u8, n: usize) {
        // SAFETY: the caller's guarantees.
        unsafe {
            self.store_by(s, w, out, n, |q| {
                _mm512_packus_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]))
            })
        }
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
        let load = |i: usize| _mm512_loadu_si512(rows[i].wrapping_add(offset).cast());
        let (r0, r1, r2, r3) = (load(0), load(1), load(2), load(3));
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

/// Any window, stride and dilation: all quads of every pixel.
#[inline(always)]
unsafe fn any_window(s: Avx512Vnni, d: &DwArgs, b: &Block, row: usize) {
    for p in 0..d.cols {
        let window = d.a.wrapping_add(row * d.step_y + p * d.step_x + b.channel);
        let mut acc = b.bias;
        let mut weights = b.weights;
        // SAFETY: the taps of existing pixels and their weights.
        unsafe {
            for x in 0..d.kw {
                for q in 0..d.kh.div_ceil(4) {
                    acc = dot(acc, quad(rows_of(d, window, q, d.kh), x * d.a_col), weights);
                    weights = weights.add(256);
                }
            }
            b.store(s, acc, d.out.wrapping_add(row * d.out_row + p * d.out_px));
        }
    }
}
