//! f32 convolution and matrix product: the tiles of `gemm`, with one chain of fma per output, in order of K.
//!
//! Weights are four times as large as in INT8, so a panel is passed over in blocks of K that stay in the second-level
//! cache while all pixels go by. Between blocks the chain spills in the output: storing and loading it changes nothing.
//! Weights that are stored as bytes become floats in registers as a panel is read, so memory sees a quarter of them.

use super::gemm::Dot;
use super::real::{AsF32, Gate, Stored};
use super::simd::{Simd, div_ceil, unroll};
use crate::args::GemmF32Args;
use crate::numbers::{BLOCK_BYTES, UNCUT_BYTES};

/// How weights are stored.
pub trait Weights<S: Simd> {
    /// Bytes of a weight.
    const BYTES: usize;

    /// 16 weights as floats.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn load(s: S, p: *const u8) -> S::F;
}

/// As f32.
pub enum Floats {}

/// As s8, with a factor per column.
pub enum Bytes {}

impl<S: Simd> Weights<S> for Floats {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load(s: S, p: *const u8) -> S::F {
        // SAFETY: the caller's guarantee.
        unsafe { s.load(p.cast()) }
    }
}

impl<S: Simd> Weights<S> for Bytes {
    const BYTES: usize = 1;

    #[inline(always)]
    unsafe fn load(s: S, p: *const u8) -> S::F {
        // SAFETY: the caller's guarantee.
        s.to_float(unsafe { s.load_i8(p.cast()) })
    }
}

/// Computes the whole call.
///
/// # Safety
/// `args` points to a [`GemmF32Args`] that keeps its contract.
#[inline(always)]
pub unsafe fn gemm<S: Simd + Dot<S = S>, O: Stored<S>, W: Weights<S>>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<GemmF32Args>() };
    let vectors = g.cols.div_ceil(16);
    // As in `Dot::VECTORS_OF_ONE`.
    let most = if g.rows == 1 { 4 } else { S::VECTORS };
    let mut first = 0;
    while first < vectors {
        let count = (vectors - first).min(most);
        // SAFETY: `count` vectors of columns from `first` on exist.
        unsafe {
            match count {
                1 => sweep::<S, O, W, 1>(s, &g, first),
                2 => sweep::<S, O, W, 2>(s, &g, first),
                3 => sweep::<S, O, W, 3>(s, &g, first),
                _ => sweep::<S, O, W, 4>(s, &g, first),
            }
        }
        first += count;
    }
}

/// Part of the sum: rows of segments `y .. y_end`, of each segment the elements `k .. k_end`.
#[derive(Clone, Copy)]
struct Block {
    y: usize,
    y_end: usize,
    k: usize,
    k_end: usize,
    /// Whether the sum begins or ends here.
    starts: bool,
    ends: bool,
}

impl Block {
    /// The largest step through K, in rows of segments and in elements, that makes blocks of about [`BLOCK_BYTES`].
    #[inline(always)]
    fn step(g: &GemmF32Args, tiles: usize, spills: bool, bytes: usize) -> (usize, usize) {
        // A sum spills only where floats are stored. Output columns are read again in whole vectors, and a residual in the
        // output's place must not be lost.
        let fixed = !spills || tiles < 3 || !g.cols.is_multiple_of(16) || core::ptr::eq(g.res.cast(), g.out);
        // The whole panel counts, even if a sweep takes only some of its columns: they lie so far apart that the cache's
        // sets are used unevenly.
        let row_bytes = g.seg_x * g.k * g.cols.div_ceil(16) * 16 * bytes;
        if fixed || row_bytes * g.seg_y <= UNCUT_BYTES {
            (g.seg_y, g.k)
        } else if g.seg_y * g.seg_x == 1 {
            (1, even(g.k, row_bytes))
        } else {
            (even(g.seg_y, row_bytes * g.seg_y), g.k)
        }
    }
}

/// Cuts `count` things of `bytes` together into nearly equal parts of about [`BLOCK_BYTES`]: things per part, at least 1.
#[inline(always)]
fn even(count: usize, bytes: usize) -> usize {
    let parts = div_ceil(bytes, BLOCK_BYTES).min(count);
    div_ceil(count, parts).max(1)
}

/// Where a tile reads and writes; `col` is its first column, a multiple of 16, and `n` its number of columns.
#[derive(Clone, Copy)]
struct Place {
    a: *const u8,
    w: *const u8,
    out: *mut u8,
    res: *const u8,
    col: usize,
    n: usize,
    /// Line to prefetch next, and distance between lines (0: none is wanted, the same one is hinted again).
    ahead: *const u8,
    ahead_step: usize,
}

/// Computes `NV` vectors of columns for all pixels, block by block of K.
#[inline(always)]
unsafe fn sweep<S: Simd + Dot<S = S>, O: Stored<S>, W: Weights<S>, const NV: usize>(
    s: S,
    g: &GemmF32Args,
    first: usize,
) {
    let tiles = div_ceil(g.rows, S::rows_f32(NV));
    let (y_step, k_step) = Block::step(g, tiles * g.outer, O::BYTES == 4, W::BYTES);
    let mut y = 0;
    while y < g.seg_y {
        let y_end = (y + y_step).min(g.seg_y);
        let mut k = 0;
        while k < g.k {
            let k_end = (k + k_step).min(g.k);
            let (starts, ends) = (y == 0 && k == 0, y_end == g.seg_y && k_end == g.k);
            // SAFETY: the caller's columns.
            unsafe { pass::<S, O, W, NV>(s, g, first, tiles, Block { y, y_end, k, k_end, starts, ends }) };
            k = k_end;
        }
        y = y_end;
    }
}

/// Adds one block of K for all pixels, in tiles of nearly equal height.
#[inline(always)]
unsafe fn pass<S: Simd + Dot<S = S>, O: Stored<S>, W: Weights<S>, const NV: usize>(
    s: S,
    g: &GemmF32Args,
    first: usize,
    tiles: usize,
    b: Block,
) {
    let low = g.rows.checked_div(tiles).unwrap_or(0);
    let higher = g.rows - low * tiles;
    let panel_vectors = g.cols.div_ceil(16);
    let vector = 16 * W::BYTES;
    let w = g.w.wrapping_add(((b.y * g.seg_x * g.k + b.k) * panel_vectors + first) * vector);
    let steps = (b.y_end - b.y) * g.seg_x * (b.k_end - b.k);
    // The next block's weights, or the next panel's, follow this block's.
    let mut ahead = w.wrapping_add(vector * panel_vectors * steps);
    let ahead_end = ahead.wrapping_add(vector * panel_vectors * steps);
    for outer in 0..g.outer {
        let mut row = 0;
        for t in 0..tiles {
            let height = low + usize::from(t < higher);
            let wanted = prefetches(height, NV) && ahead < ahead_end;
            let place = Place {
                a: g.a.cast::<u8>().wrapping_add(outer * g.a_outer + row * g.a_row),
                w,
                out: g.out.wrapping_add(outer * g.out_outer + row * g.out_row + 16 * O::BYTES * first),
                res: g.res.cast::<u8>().wrapping_add(outer * g.res_outer + row * g.res_row + 64 * first),
                col: 16 * first,
                n: (g.cols - 16 * first).min(16 * NV),
                ahead: if wanted { ahead } else { w },
                ahead_step: if wanted { 64 } else { 0 },
            };
            if wanted {
                ahead = ahead.wrapping_add(64 * steps);
            }
            // SAFETY: the tile's rows and columns exist; `height` is at most `S::rows_f32(NV)`.
            unsafe {
                match height {
                    1 => tile::<S, O, W, 1, NV>(s, g, place, b),
                    2 if S::rows_f32(NV) >= 2 => tile::<S, O, W, 2, NV>(s, g, place, b),
                    3 if S::rows_f32(NV) >= 3 => tile::<S, O, W, 3, NV>(s, g, place, b),
                    4 if S::rows_f32(NV) >= 4 => tile::<S, O, W, 4, NV>(s, g, place, b),
                    5 if S::rows_f32(NV) >= 5 => tile::<S, O, W, 5, NV>(s, g, place, b),
                    6 if S::rows_f32(NV) >= 6 => tile::<S, O, W, 6, NV>(s, g, place, b),
                    7 if S::rows_f32(NV) >= 7 => tile::<S, O, W, 7, NV>(s, g, place, b),
                    8 if S::rows_f32(NV) >= 8 => tile::<S, O, W, 8, NV>(s, g, place, b),
                    _ => return,
                }
            }
            row += height;
        }
    }
}

/// Whether a tile has load slots to spare for hints. Smaller ones are left to the hardware's own streams.
const fn prefetches(rows: usize, vectors: usize) -> bool {
    vectors == 4 && rows >= 4
}

#[inline(always)]
unsafe fn tile<S: Simd + Dot<S = S>, O: Stored<S>, W: Weights<S>, const MR: usize, const NV: usize>(
    s: S,
    g: &GemmF32Args,
    at: Place,
    b: Block,
) {
    // SAFETY: the tile's pixels and columns exist; a block that does not start finds whole vectors in the output.
    unsafe {
        let mut acc = [[s.splat(0.0); NV]; MR];
        if !b.starts {
            unroll!(r in 0..MR => {
                unroll!(v in 0..NV => {
                    acc[r][v] = s.load(at.out.wrapping_add(r * g.out_row + 64 * v).cast());
                });
            });
        }
        let mut acc = accumulate::<S, W, MR, NV>(s, acc, g, at, b);
        if b.ends {
            let (lo, hi) = (s.splat(g.clamp_lo), s.splat(g.clamp_hi));
            if W::BYTES == 1 {
                unroll!(r in 0..MR => {
                    unroll!(v in 0..NV => {
                        acc[r][v] = s.mul(acc[r][v], s.load(g.w_scale.add(at.col + 16 * v)));
                    });
                });
            }
            unroll!(r in 0..MR => {
                unroll!(v in 0..NV => {
                    acc[r][v] = s.add(acc[r][v], s.load(g.bias.add(at.col + 16 * v)));
                });
            });
            if !g.res.is_null() {
                unroll!(r in 0..MR => {
                    unroll!(v in 0..NV => {
                        let residual = s.load(at.res.wrapping_add(r * g.res_row + 64 * v).cast());
                        acc[r][v] = s.add(acc[r][v], residual);
                    });
                });
            }
            unroll!(r in 0..MR => {
                unroll!(v in 0..NV => {
                    acc[r][v] = s.clamp(acc[r][v], lo, hi);
                });
            });
            if g.gate_factor != 0.0 {
                let swish = [g.gate_offset, g.gate_bound, g.gate_factor];
                let gate = Gate::new(s, swish, g.post_factor, g.post_addend);
                unroll!(r in 0..MR => {
                    unroll!(v in 0..NV => {
                        acc[r][v] = gate.apply(s, acc[r][v]);
                    });
                });
            }
        }
        if !b.ends {
            unroll!(r in 0..MR => {
                AsF32.store(s, acc[r], at.out.wrapping_add(r * g.out_row), at.n);
            });
            return;
        }
        let stored = O::new(s, g.scale, g.zero, g.lo, g.hi);
        unroll!(r in 0..MR => {
            stored.store(s, acc[r], at.out.wrapping_add(r * g.out_row), at.n);
        });
    }
}

/// The accumulators of a tile over the segments of a block.
#[inline(always)]
unsafe fn accumulate<S: Simd + Dot<S = S>, W: Weights<S>, const MR: usize, const NV: usize>(
    s: S,
    mut acc: [[S::F; NV]; MR],
    g: &GemmF32Args,
    at: Place,
    b: Block,
) -> [[S::F; NV]; MR] {
    let w_step = g.cols.div_ceil(16) * 16 * W::BYTES;
    let (mut w, mut ahead) = (at.w, at.ahead);
    // SAFETY: the loads stay in the panel and in the segments of the tile's pixels; see `GemmF32Args`.
    unsafe {
        for y in b.y..b.y_end {
            for x in 0..g.seg_x {
                let segment = at.a.wrapping_add(y * g.seg_y_stride + x * g.seg_x_stride + 4 * b.k);
                let mut base = [segment, segment.wrapping_add(3 * g.a_row), segment.wrapping_add(6 * g.a_row)];
                for _ in b.k..b.k_end {
                    let mut weights = [W::load(s, w); NV];
                    unroll!(v in 0..NV => {
                        weights[v] = W::load(s, w.add(16 * W::BYTES * v));
                    });
                    unroll!(r in 0..MR => {
                        let a = base[r / 3].wrapping_add(r % 3 * g.a_row).cast::<f32>();
                        let a = s.splat(a.read_unaligned());
                        unroll!(v in 0..NV => {
                            acc[r][v] = s.fma(a, weights[v], acc[r][v]);
                        });
                    });
                    if prefetches(MR, NV) {
                        s.prefetch(ahead);
                        ahead = ahead.wrapping_add(at.ahead_step);
                    }
                    w = w.add(w_step);
                    base = base.map(|p| p.wrapping_add(4));
                }
            }
        }
    }
    acc
}
