//! f32 convolution and matrix product: the tiles of `gemm`, with one chain of fma per output, in order of K.

use super::gemm::Dot;
use super::simd::{Simd, div_ceil, unroll};
use crate::args::GemmF32Args;

/// Computes the whole call.
///
/// # Safety
/// `args` points to a [`GemmF32Args`] that keeps its contract.
#[inline(always)]
pub unsafe fn gemm<S: Simd + Dot<S = S>>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<GemmF32Args>() };
    let vectors = g.cols.div_ceil(16);
    let mut first = 0;
    while first < vectors {
        let count = (vectors - first).min(S::VECTORS);
        // SAFETY: `count` vectors of columns from `first` on exist.
        unsafe {
            match count {
                1 => sweep::<S, 1>(s, &g, first),
                2 if S::VECTORS >= 2 => sweep::<S, 2>(s, &g, first),
                3 if S::VECTORS >= 3 => sweep::<S, 3>(s, &g, first),
                _ if S::VECTORS >= 4 => sweep::<S, 4>(s, &g, first),
                _ => return,
            }
        }
        first += count;
    }
}

/// Where a tile reads and writes; `col` is its first column, a multiple of 16, and `n` its number of columns.
#[derive(Clone, Copy)]
struct Place {
    a: *const u8,
    out: *mut u8,
    res: *const u8,
    col: usize,
    n: usize,
}

#[inline(always)]
unsafe fn sweep<S: Simd + Dot<S = S>, const NV: usize>(s: S, g: &GemmF32Args, first: usize) {
    let tiles = div_ceil(g.rows, S::rows_f32(NV));
    let low = g.rows.checked_div(tiles).unwrap_or(0);
    let higher = g.rows - low * tiles;
    for outer in 0..g.outer {
        let mut row = 0;
        for t in 0..tiles {
            let height = low + usize::from(t < higher);
            let place = Place {
                a: g.a.cast::<u8>().wrapping_add(outer * g.a_outer + row * g.a_row),
                out: g.out.cast::<u8>().wrapping_add(outer * g.out_outer + row * g.out_row + 64 * first),
                res: g.res.cast::<u8>().wrapping_add(outer * g.res_outer + row * g.res_row + 64 * first),
                col: 16 * first,
                n: (g.cols - 16 * first).min(16 * NV),
            };
            // SAFETY: the tile's rows and columns exist; `height` is at most `S::rows_f32(NV)`.
            unsafe {
                match height {
                    1 => tile::<S, 1, NV>(s, g, place),
                    2 => tile::<S, 2, NV>(s, g, place),
                    3 if S::rows_f32(NV) >= 3 => tile::<S, 3, NV>(s, g, place),
                    4 if S::rows_f32(NV) >= 4 => tile::<S, 4, NV>(s, g, place),
                    5 if S::rows_f32(NV) >= 5 => tile::<S, 5, NV>(s, g, place),
                    6 if S::rows_f32(NV) >= 6 => tile::<S, 6, NV>(s, g, place),
                    7 if S::rows_f32(NV) >= 7 => tile::<S, 7, NV>(s, g, place),
                    8 if S::rows_f32(NV) >= 8 => tile::<S, 8, NV>(s, g, place),
                    _ => return,
                }
            }
            row += height;
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd + Dot<S = S>, const MR: usize, const NV: usize>(s: S, g: &GemmF32Args, at: Place) {
    let w_step = g.cols.div_ceil(16) * 16;
    // SAFETY: the loads stay in the panel and in the segments of the tile's pixels; see `GemmF32Args`.
    unsafe {
        let mut acc = [[s.splat(0.0); NV]; MR];
        let mut w = g.w.add(at.col);
        for y in 0..g.seg_y {
            for x in 0..g.seg_x {
                let segment = at.a.wrapping_add(y * g.seg_y_stride + x * g.seg_x_stride);
                let mut base = [segment, segment.wrapping_add(3 * g.a_row), segment.wrapping_add(6 * g.a_row)];
                for _ in 0..g.k {
                    let mut weights = [s.load(w); NV];
                    unroll!(v in 0..NV => {
                        weights[v] = s.load(w.add(16 * v));
                    });
                    unroll!(r in 0..MR => {
                        let a = base[r / 3].wrapping_add(r % 3 * g.a_row).cast::<f32>();
                        let a = s.splat(a.read_unaligned());
                        unroll!(v in 0..NV => {
                            acc[r][v] = s.fma(a, weights[v], acc[r][v]);
                        });
                    });
                    w = w.add(w_step);
                    base = base.map(|p| p.wrapping_add(4));
                }
            }
        }
        let (lo, hi) = (s.splat(g.clamp_lo), s.splat(g.clamp_hi));
        unroll!(r in 0..MR => {
            unroll!(v in 0..NV => {
                let n = at.n.saturating_sub(16 * v).min(16);
                let mut value = s.add(acc[r][v], s.load(g.bias.add(at.col + 16 * v)));
                if !g.res.is_null() {
                    value = s.add(value, s.load(at.res.wrapping_add(r * g.res_row + 64 * v).cast()));
                }
                let out = at.out.wrapping_add(r * g.out_row + 64 * v);
                s.store(s.clamp(value, lo, hi), out.cast(), n);
            });
        });
    }
}
