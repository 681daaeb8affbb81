//! u8 × s8 convolution and matrix product on AVX2: tiles of up to 6 pixels by a whole panel.
//!
//! `vpmaddwd` multiplies pairs of 16-bit integers, which is exact for bytes; so both operands are widened. Pixels are widened
//! into a buffer once per tile and used for all columns of the panel: bytes 0 and 2 of every group of 4 as one pair, bytes
//! 1 and 3 as another, so that a pair for all columns is a broadcast from memory, which needs no arithmetic. Weights are
//! split in the same way by shifts, and used for all pixels. One vector of 8 columns then costs 6 shifts, 24
//! multiplications and 24 additions for 6 pixels and 16 columns by 4 products: 2.25 instructions per 16 products.
//!
//! K is worked on in chunks, so that the buffer stays in L1; accumulators spill to memory between vectors of columns.

use super::avx2::Avx2;
use crate::args::GemmArgs;
use crate::body::gemm::{Output, gemm, map_rows, row_bias, with_row_bias};
use crate::body::simd::{Simd, div_ceil, unroll};
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

/// Most pixels of a tile.
const ROWS: usize = 6;
/// Most vectors of 16 columns of a panel.
const VECTORS: usize = 4;
/// Groups of 4 bytes of a pixel that are widened at a time.
const CHUNK: usize = 256;

/// Sums of 16 columns.
type Acc = <Avx2 as Simd>::I;

/// The sums of a tile, where they spill.
type Sums = [[MaybeUninit<Acc>; VECTORS]; ROWS];

/// Widened pixels: pairs of the even and of the odd bytes of every group.
#[repr(C, align(32))]
struct Pixels([[[MaybeUninit<i32>; CHUNK]; 2]; ROWS]);

/// Computes the whole call.
///
/// # Safety
/// `args` points to a [`GemmArgs`] that keeps its contract; the host has the tier.
#[inline(always)]
pub unsafe fn u8s8<O: Output<Avx2>>(s: Avx2, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<GemmArgs>() };
    if g.rows == 1 {
        // What counts is to read the weights once, in their order.
        // SAFETY: the caller's guarantee.
        return unsafe { gemm::<Avx2, O>(s, args) };
    }
    let o = O::new(s, &g);
    let mut pixels = Pixels([[[MaybeUninit::uninit(); CHUNK]; 2]; ROWS]);
    let mut sums = [[MaybeUninit::uninit(); VECTORS]; ROWS];
    let tiles = div_ceil(g.rows, ROWS);
    let low = g.rows.checked_div(tiles).unwrap_or(0);
    let higher = g.rows - low * tiles;
    for outer in 0..g.outer {
        let mut row = 0;
        for t in 0..tiles {
            let height = low + usize::from(t < higher);
            let a = g.a.wrapping_add(outer * g.a_outer + row * g.a_row);
            // SAFETY: the tile's rows exist; `height` is at most `ROWS`.
            unsafe {
                match height {
                    1 => products::<1>(s, &g, a, &mut pixels, &mut sums),
                    2 => products::<2>(s, &g, a, &mut pixels, &mut sums),
                    3 => products::<3>(s, &g, a, &mut pixels, &mut sums),
                    4 => products::<4>(s, &g, a, &mut pixels, &mut sums),
                    5 => products::<5>(s, &g, a, &mut pixels, &mut sums),
                    6 => products::<6>(s, &g, a, &mut pixels, &mut sums),
                    _ => return,
                }
                let out = g.out.wrapping_add(outer * g.out_outer + row * g.out_row);
                let res = g.res.wrapping_add(outer * g.res_outer + row * g.res_row);
                finish(s, o, &g, (&sums, height), out, res, row_bias(&g, outer, row));
            }
            row += height;
        }
    }
}

/// The bias and all products of `MR` pixels, the first of which is at `a`.
///
/// # Safety
/// The pixels exist; `bias` has the panel's columns rounded up to 16.
#[inline(always)]
unsafe fn products<const MR: usize>(s: Avx2, g: &GemmArgs, a: *const u8, pixels: &mut Pixels, sums: &mut Sums) {
    let vectors = g.cols.div_ceil(16);
    let mut w = g.w.cast::<u8>();
    let mut begun = false;
    for y in 0..g.seg_y {
        for x in 0..g.seg_x {
            let segment = a.wrapping_add(y * g.seg_y_stride + x * g.seg_x_stride);
            let mut k = 0;
            while k < g.k4 {
                let n = (g.k4 - k).min(CHUNK);
                // SAFETY: the chunk is part of a segment and its panel.
                unsafe {
                    for (r, pixel) in pixels.0.iter_mut().enumerate().take(MR) {
                        widen(s, segment.wrapping_add(r * g.a_row + 4 * k), pixel, n);
                    }
                    for v in 0..vectors {
                        let mut acc = [s.load_i(g.bias.add(16 * v)); MR];
                        if begun {
                            unroll!(r in 0..MR => { acc[r] = sums[r][v & 3].assume_init(); });
                        }
                        let (w, step) = (w.wrapping_add(64 * v), 64 * vectors);
                        let acc = chunk::<MR, false>(s, acc, pixels, w, step, n);
                        let acc = chunk::<MR, true>(s, acc, pixels, w, step, n);
                        unroll!(r in 0..MR => { sums[r][v & 3].write(acc[r]); });
                    }
                }
                w = w.wrapping_add(64 * vectors * n);
                k += n;
                begun = true;
            }
        }
    }
}

/// Widens `n` groups of 4 bytes.
///
/// # Safety
/// They are readable, and so are 28 bytes after them.
#[inline(always)]
unsafe fn widen(_: Avx2, from: *const u8, to: &mut [[MaybeUninit<i32>; CHUNK]; 2], n: usize) {
    let [even, odd] = to;
    let mut k = 0;
    while k < n {
        // SAFETY: the witness, and the caller's guarantee; chunks are a multiple of 8 groups long, so the last store is in
        // the buffer.
        unsafe {
            let bytes = _mm256_loadu_si256(from.wrapping_add(4 * k).cast());
            _mm256_store_si256(even.as_mut_ptr().add(k).cast(), _mm256_and_si256(bytes, _mm256_set1_epi16(255)));
            _mm256_store_si256(odd.as_mut_ptr().add(k).cast(), _mm256_srli_epi16::<8>(bytes));
        }
        k += 8;
    }
}

/// Adds the products of a chunk of `n` groups and 16 columns: those of the even or of the odd bytes, since both at once
/// take more than the 16 registers. The weights begin at `w` and are `step` bytes apart.
///
/// # Safety
/// `n` groups of `MR` pixels are widened, and the weights are readable.
#[inline(always)]
unsafe fn chunk<const MR: usize, const ODD: bool>(
    _: Avx2,
    mut acc: [Acc; MR],
    pixels: &Pixels,
    mut w: *const u8,
    step: usize,
    n: usize,
) -> [Acc; MR] {
    // SAFETY: the witness, and the caller's guarantee.
    unsafe {
        let mut pair = pixels.0.as_ptr().cast::<i32>().add(if ODD { CHUNK } else { 0 });
        let end = pair.add(n);
        while pair < end {
            let weights = [split::<ODD>(w), split::<ODD>(w.add(32))];
            unroll!(r in 0..MR => {
                let a = _mm256_set1_epi32(*pair.add(2 * CHUNK * r));
                acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(a, weights[0]));
                acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(a, weights[1]));
            });
            w = w.add(step);
            pair = pair.add(1);
        }
    }
    acc
}

/// The even or odd bytes of the weights of 8 columns by 4 products, widened.
///
/// # Safety
/// The host has the tier, and 32 bytes are readable.
#[inline(always)]
unsafe fn split<const ODD: bool>(w: *const u8) -> __m256i {
    // SAFETY: the caller's guarantee.
    unsafe {
        let bytes = _mm256_loadu_si256(w.cast());
        _mm256_srai_epi16::<8>(if ODD { bytes } else { _mm256_slli_epi16::<8>(bytes) })
    }
}

/// The first `NV` sums of a row.
///
/// # Safety
/// They are written.
#[inline(always)]
unsafe fn first<const NV: usize>(row: &[MaybeUninit<Acc>; VECTORS]) -> [Acc; NV] {
    // SAFETY: the caller's guarantee; `NV` is at most `VECTORS`.
    core::array::from_fn(|v| unsafe { row[v & 3].assume_init() })
}

/// Stores the results of a tile of `height` rows.
///
/// # Safety
/// The rows exist, and their sums are written.
#[inline(always)]
unsafe fn finish<O: Output<Avx2>>(
    s: Avx2,
    o: O,
    g: &GemmArgs,
    (sums, height): (&Sums, usize),
    out: *mut u8,
    res: *const u8,
    addends: *const i32,
) {
    for (r, row) in sums.iter().enumerate().take(height) {
        let (out, res) = (out.wrapping_add(r * g.out_row), res.wrapping_add(r * g.res_row));
        // SAFETY: a pixel of the tile, with an addend if rows have any, and as many vectors as the panel has.
        unsafe {
            match g.cols.div_ceil(16) {
                1 => o.store::<1>(s, with_row_bias(s, first(row), addends, r), 0, out, res, g.cols),
                2 => o.store::<2>(s, with_row_bias(s, first(row), addends, r), 0, out, res, g.cols),
                3 => o.store::<3>(s, with_row_bias(s, first(row), addends, r), 0, out, res, g.cols),
                _ => o.store::<4>(s, with_row_bias(s, first(row), addends, r), 0, out, res, g.cols),
            }
        }
    }
    if O::BYTES == 1 && !g.lut.is_null() {
        // SAFETY: the rows just written.
        unsafe { map_rows(s, g.lut, out, g.out_row, g.cols, height) };
    }
}
