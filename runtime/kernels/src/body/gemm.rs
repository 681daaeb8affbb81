//! u8 × s8 convolution and matrix product: tiles of `MR` pixels by `NV` vectors of 16 columns, whole K in registers.
//!
//! Source of the shape: direct convolution on channels-last data, where every window row is one contiguous run of bytes,
//! so that only a broadcast of 4 bytes per pixel and one load per 16 columns feed `MR * NV` dot products.
//!
//! Accumulators are arrays that only unrolled loops index; a run-time index anywhere would put them into memory.

use super::simd::{Finish, Simd, div_ceil, unroll};
use crate::args::GemmArgs;
use crate::numbers::MAGIC;

/// Dot products of 4 bytes for 16 columns.
pub trait Dot: Copy {
    /// Vectors of the tier.
    type S: Simd;

    /// 4 activations of one pixel, for every column.
    type A: Copy;
    /// Weights of 16 columns × 4.
    type W: Copy;
    /// Accumulators of 16 columns.
    type Acc: Copy;

    /// The vectors' witness.
    fn simd(self) -> Self::S;
    /// Largest number of column vectors in a tile.
    const VECTORS: usize;
    /// The same for a tile of one pixel, whose speed is that of reading the weights, which is best in their order.
    const VECTORS_OF_ONE: usize;
    /// Accumulators (of 16 columns) that sums are spread over to hide the latency of a dot product, if a tile has fewer.
    const IN_FLIGHT: usize;
    /// Largest number of pixels in a tile of `vectors` column vectors, at most 8.
    fn rows(vectors: usize) -> usize;
    /// The same for f32 products.
    fn rows_f32(vectors: usize) -> usize;

    /// Accumulators that begin with `bias`, possibly only added by [`Dot::end`].
    ///
    /// # Safety
    /// `bias` is readable for 64 bytes.
    unsafe fn start(self, bias: *const i32) -> Self::Acc;
    /// Zero accumulators.
    fn zero(self) -> Self::Acc;
    /// Loads 4 activations.
    ///
    /// # Safety
    /// `p` is readable for 4 bytes.
    unsafe fn load_a(self, p: *const u8) -> Self::A;
    /// Loads the weights of 16 columns.
    ///
    /// # Safety
    /// `p` is readable for 64 bytes.
    unsafe fn load_w(self, p: *const i8) -> Self::W;
    /// `acc + a · w`, wrapping.
    fn dot(self, acc: Self::Acc, a: Self::A, w: Self::W) -> Self::Acc;
    /// Wrapping sum.
    fn sum(self, a: Self::Acc, b: Self::Acc) -> Self::Acc;
    /// Accumulators in natural order of columns, `bias` included.
    ///
    /// # Safety
    /// `bias` is readable for 64 bytes.
    unsafe fn end(self, acc: Self::Acc, bias: *const i32) -> <Self::S as Simd>::I;
}

/// What becomes of the accumulators of one pixel.
pub trait Output<S: Simd>: Copy {
    /// Bytes of an output element.
    const BYTES: usize;
    /// Reads what it needs from the arguments.
    fn new(s: S, g: &GemmArgs) -> Self;
    /// Stores columns `col .. col + n`, `n <= 16 * NV`, of a pixel whose column `col` is at `out` and `res`.
    ///
    /// # Safety
    /// The pointers are those of a pixel of arguments that keep the contract of [`GemmArgs`].
    unsafe fn store<const NV: usize>(self, s: S, acc: [S::I; NV], col: usize, out: *mut u8, res: *const u8, n: usize);
}

/// Requantized to u8.
#[derive(Clone, Copy)]
pub struct ToU8<S: Simd> {
    scale: *const f32,
    magic: S::F,
    finish: Finish<S>,
}

impl<S: Simd> Output<S> for ToU8<S> {
    const BYTES: usize = 1;
    #[inline(always)]
    fn new(s: S, g: &GemmArgs) -> Self {
        let finish = Finish::new(s, g.zero as i32, g.lo, g.hi, core::ptr::null());
        ToU8 { scale: g.scale, magic: s.splat(MAGIC), finish }
    }
    #[inline(always)]
    unsafe fn store<const NV: usize>(self, s: S, acc: [S::I; NV], col: usize, out: *mut u8, _: *const u8, n: usize) {
        let mut w = [self.magic; NV];
        // SAFETY: `scale` has the columns rounded up to 16.
        unsafe {
            unroll!(v in 0..NV => {
                w[v] = s.add(s.mul(s.to_float(acc[v]), s.load(self.scale.add(col + 16 * v))), self.magic);
            });
            self.finish.store(s, w, out, n);
        }
    }
}

/// Requantized to u8 after a clamp and the addition of a residual.
#[derive(Clone, Copy)]
pub struct ToU8Res<S: Simd> {
    scale: *const f32,
    res_scale: S::F,
    res_offset: S::F,
    clamp_lo: S::F,
    clamp_hi: S::F,
    magic: S::F,
    finish: Finish<S>,
}

impl<S: Simd> Output<S> for ToU8Res<S> {
    const BYTES: usize = 1;
    #[inline(always)]
    fn new(s: S, g: &GemmArgs) -> Self {
        ToU8Res {
            scale: g.scale,
            res_scale: s.splat(g.res_scale),
            res_offset: s.splat(g.res_offset),
            clamp_lo: s.splat(g.clamp_lo),
            clamp_hi: s.splat(g.clamp_hi),
            magic: s.splat(MAGIC),
            finish: Finish::new(s, 0, g.lo, g.hi, core::ptr::null()),
        }
    }
    #[inline(always)]
    unsafe fn store<const NV: usize>(self, s: S, acc: [S::I; NV], col: usize, out: *mut u8, res: *const u8, n: usize) {
        let mut w = [self.magic; NV];
        // SAFETY: `scale` has the columns rounded up to 16; the residual may be read 64 bytes past its end.
        unsafe {
            unroll!(v in 0..NV => {
                let residual = s.fma(s.to_float(s.load_u8(res.add(16 * v))), self.res_scale, self.res_offset);
                let product = s.mul(s.to_float(acc[v]), s.load(self.scale.add(col + 16 * v)));
                let product = s.clamp(product, self.clamp_lo, self.clamp_hi);
                w[v] = s.add(s.add(product, residual), self.magic);
            });
            self.finish.store(s, w, out, n);
        }
    }
}

/// Scaled to f32.
#[derive(Clone, Copy)]
pub struct ToF32<S: Simd> {
    scale: *const f32,
    addend: *const f32,
    lo: S::F,
    hi: S::F,
}

impl<S: Simd> Output<S> for ToF32<S> {
    const BYTES: usize = 4;
    #[inline(always)]
    fn new(s: S, g: &GemmArgs) -> Self {
        ToF32 { scale: g.scale, addend: g.addend, lo: s.splat(g.clamp_lo), hi: s.splat(g.clamp_hi) }
    }
    #[inline(always)]
    unsafe fn store<const NV: usize>(self, s: S, acc: [S::I; NV], col: usize, out: *mut u8, _: *const u8, n: usize) {
        unroll!(v in 0..NV => {
            let count = n.saturating_sub(16 * v).min(16);
            // SAFETY: `scale` and `addend` have the columns rounded up to 16; `count` columns are left of the pixel's `n`.
            unsafe {
                let value = s.mul(s.to_float(acc[v]), s.load(self.scale.add(col + 16 * v)));
                let value = s.add(value, s.load(self.addend.add(col + 16 * v)));
                s.store(s.clamp(value, self.lo, self.hi), out.cast::<f32>().wrapping_add(16 * v), count);
            }
        });
    }
}

/// Scaled to f32 by factor and zero point of the row.
#[derive(Clone, Copy)]
pub struct ToF32Rows<S: Simd> {
    scale: *const f32,
    addend: *const f32,
    col_sum: *const i32,
    lo: S::F,
    hi: S::F,
}

impl<S: Simd> Output<S> for ToF32Rows<S> {
    const BYTES: usize = 4;
    #[inline(always)]
    fn new(s: S, g: &GemmArgs) -> Self {
        let (lo, hi) = (s.splat(g.clamp_lo), s.splat(g.clamp_hi));
        ToF32Rows { scale: g.scale, addend: g.addend, col_sum: g.col_sum, lo, hi }
    }
    #[inline(always)]
    unsafe fn store<const NV: usize>(self, s: S, acc: [S::I; NV], col: usize, out: *mut u8, res: *const u8, n: usize) {
        let row = res.wrapping_sub(col);
        // SAFETY: factor and zero point of the row are there, `col` bytes before.
        let (factor, zero) = unsafe { (row.cast::<f32>().read_unaligned(), row.add(4).cast::<i32>().read_unaligned()) };
        let (factor, zero) = (s.splat(factor), s.splat_i(zero));
        unroll!(v in 0..NV => {
            let count = n.saturating_sub(16 * v).min(16);
            // SAFETY: the constants have the columns rounded up to 16; `count` columns are left of the pixel's `n`.
            unsafe {
                let centred = s.sub_i(acc[v], s.mul_i(s.load_i(self.col_sum.add(col + 16 * v)), zero));
                let scale = s.mul(factor, s.load(self.scale.add(col + 16 * v)));
                let value = s.add(s.mul(s.to_float(centred), scale), s.load(self.addend.add(col + 16 * v)));
                s.store(s.clamp(value, self.lo, self.hi), out.cast::<f32>().wrapping_add(16 * v), count);
            }
        });
    }
}

/// Raw accumulators.
#[derive(Clone, Copy)]
pub struct ToI32;

impl<S: Simd> Output<S> for ToI32 {
    const BYTES: usize = 4;
    #[inline(always)]
    fn new(_: S, _: &GemmArgs) -> Self {
        ToI32
    }
    #[inline(always)]
    unsafe fn store<const NV: usize>(self, s: S, acc: [S::I; NV], _: usize, out: *mut u8, _: *const u8, n: usize) {
        unroll!(v in 0..NV => {
            let count = n.saturating_sub(16 * v).min(16);
            // SAFETY: `count` columns are left of the pixel's `n`.
            unsafe { s.store_i(acc[v], out.cast::<i32>().wrapping_add(16 * v), count) };
        });
    }
}

/// Computes the whole call.
///
/// # Safety
/// `args` points to a [`GemmArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn gemm<D: Dot, O: Output<D::S>>(d: D, args: *const u8) {
    // SAFETY: the caller's guarantee. A local copy cannot alias the output, so its fields stay in registers.
    let g = unsafe { *args.cast::<GemmArgs>() };
    let o = O::new(d.simd(), &g);
    let vectors = g.cols.div_ceil(16);
    let most = if g.rows == 1 { D::VECTORS_OF_ONE } else { D::VECTORS };
    let mut first = 0;
    while first < vectors {
        let count = (vectors - first).min(most);
        // SAFETY: `count` vectors of columns from `first` on exist.
        unsafe {
            match count {
                1 => sweep::<D, O, 1>(d, o, &g, first),
                2 if D::VECTORS_OF_ONE >= 2 => sweep::<D, O, 2>(d, o, &g, first),
                3 if D::VECTORS_OF_ONE >= 3 => sweep::<D, O, 3>(d, o, &g, first),
                _ if D::VECTORS_OF_ONE >= 4 => sweep::<D, O, 4>(d, o, &g, first),
                _ => return,
            }
        }
        first += count;
    }
}

/// Where a tile reads and writes.
#[derive(Clone, Copy)]
struct Place {
    a: *const u8,
    out: *mut u8,
    res: *const u8,
    row_bias: *const i32,
    /// First column, a multiple of 16, and number of columns.
    col: usize,
    n: usize,
    /// Line to prefetch next, and distance between lines (0: none is wanted, the same one is hinted again).
    ahead: *const u8,
    ahead_step: usize,
}

/// Computes `NV` vectors of columns for all pixels, in tiles of nearly equal height.
#[inline(always)]
unsafe fn sweep<D: Dot, O: Output<D::S>, const NV: usize>(d: D, o: O, g: &GemmArgs, first: usize) {
    let tiles = div_ceil(g.rows, D::rows(NV));
    let low = g.rows.checked_div(tiles).unwrap_or(0);
    let higher = g.rows - low * tiles;
    let panel_bytes = g.seg_y * g.seg_x * g.k4 * g.cols.div_ceil(16) * 64;
    // The next panel's weights follow this one's.
    let mut ahead = g.w.cast::<u8>().wrapping_add(panel_bytes);
    let ahead_end = ahead.wrapping_add(panel_bytes);
    let lines_per_tile = g.seg_y * g.seg_x * g.k4;
    for outer in 0..g.outer {
        let mut row = 0;
        for t in 0..tiles {
            let height = low + usize::from(t < higher);
            let wanted = prefetches(height, NV) && ahead < ahead_end;
            let place = Place {
                a: g.a.wrapping_add(outer * g.a_outer + row * g.a_row),
                out: g.out.wrapping_add(outer * g.out_outer + row * g.out_row + 16 * first * O::BYTES),
                res: g.res.wrapping_add(outer * g.res_outer + row * g.res_row + 16 * first),
                row_bias: row_bias(g, outer, row),
                col: 16 * first,
                n: (g.cols - 16 * first).min(16 * NV),
                ahead: if wanted { ahead } else { g.w.cast() },
                ahead_step: if wanted { 64 } else { 0 },
            };
            if wanted {
                ahead = ahead.wrapping_add(64 * lines_per_tile);
            }
            // SAFETY: the tile's rows and columns exist; `height` is at most `D::rows(NV)`.
            unsafe {
                match height {
                    1 => tile::<D, O, 1, NV>(d, o, g, place),
                    2 if D::rows(NV) >= 2 => tile::<D, O, 2, NV>(d, o, g, place),
                    3 if D::rows(NV) >= 3 => tile::<D, O, 3, NV>(d, o, g, place),
                    4 if D::rows(NV) >= 4 => tile::<D, O, 4, NV>(d, o, g, place),
                    5 if D::rows(NV) >= 5 => tile::<D, O, 5, NV>(d, o, g, place),
                    6 if D::rows(NV) >= 6 => tile::<D, O, 6, NV>(d, o, g, place),
                    7 if D::rows(NV) >= 7 => tile::<D, O, 7, NV>(d, o, g, place),
                    8 if D::rows(NV) >= 8 => tile::<D, O, 8, NV>(d, o, g, place),
                    _ => return,
                }
            }
            if O::BYTES == 1 && !g.lut.is_null() {
                // SAFETY: the rows just written.
                unsafe { map_rows(d.simd(), g.lut, place.out, g.out_row, place.n, height) };
            }
            row += height;
        }
    }
}

/// Maps `rows` rows of `n` results by the table. Apart from the tiles, since it is rare and its code long.
///
/// # Safety
/// The rows from `out` on, `out_row` bytes apart, are writable; `lut` has 256 bytes.
#[inline(always)]
pub unsafe fn map_rows<S: Simd>(s: S, lut: *const u8, out: *mut u8, out_row: usize, n: usize, rows: usize) {
    for r in 0..rows {
        let out = out.wrapping_add(r * out_row);
        // SAFETY: the caller's row; what the load over-reads is discarded.
        unsafe { s.store_b(s.lookup(s.load_b(out), lut), out, n) };
    }
}

/// The addend of a row, or null.
#[inline(always)]
pub fn row_bias(g: &GemmArgs, outer: usize, row: usize) -> *const i32 {
    if g.row_bias.is_null() { g.row_bias } else { g.row_bias.wrapping_byte_add(outer * g.row_bias_outer + 4 * row) }
}

/// The sums of row `r` of a tile with the row's addend, if `addends`, those of the tile, are not null.
///
/// # Safety
/// There is an addend for the row, or `addends` is null.
#[inline(always)]
pub unsafe fn with_row_bias<S: Simd, const NV: usize>(
    s: S,
    mut acc: [S::I; NV],
    addends: *const i32,
    r: usize,
) -> [S::I; NV] {
    if !addends.is_null() {
        // SAFETY: the caller's guarantee.
        let addend = s.splat_i(unsafe { *addends.wrapping_add(r) });
        unroll!(v in 0..NV => {
            acc[v] = s.add_i(acc[v], addend);
        });
    }
    acc
}

/// Whether a tile has load slots to spare for hints. Smaller ones are left to the hardware's own streams.
const fn prefetches(rows: usize, vectors: usize) -> bool {
    vectors == 4 && rows >= 5
}

/// Independent chains of sums per output, so that about `in_flight` accumulators are in use.
const fn chains(accumulators: usize, in_flight: usize) -> usize {
    match in_flight / accumulators {
        0 | 1 => 1,
        2 | 3 => 2,
        _ => 4,
    }
}

/// Computes `MR` pixels by `NV` vectors of columns.
#[inline(always)]
unsafe fn tile<D: Dot, O: Output<D::S>, const MR: usize, const NV: usize>(d: D, o: O, g: &GemmArgs, at: Place) {
    // SAFETY: the tile's pixels and columns exist.
    unsafe {
        let acc = accumulate::<D, MR, NV>(d, g, at);
        unroll!(r in 0..MR => {
            let mut done = [d.simd().splat_i(0); NV];
            unroll!(v in 0..NV => {
                done[v] = d.end(acc[r][v], g.bias.add(at.col + 16 * v));
            });
            let done = with_row_bias(d.simd(), done, at.row_bias, r);
            o.store(d.simd(), done, at.col, at.out.wrapping_add(r * g.out_row), at.res.wrapping_add(r * g.res_row), at.n);
        });
    }
}

/// The accumulators of a tile over all segments.
#[inline(always)]
unsafe fn accumulate<D: Dot, const MR: usize, const NV: usize>(d: D, g: &GemmArgs, at: Place) -> [[D::Acc; NV]; MR] {
    let chains = const { chains(MR * NV, D::IN_FLIGHT) };
    let w_step = g.cols.div_ceil(16) * 64;
    let mut ahead = at.ahead;
    // SAFETY: the loads stay in the panel and in the segments of the tile's pixels; see `GemmArgs`.
    unsafe {
        let mut acc = [[[d.zero(); NV]; MR]; 4];
        unroll!(r in 0..MR => {
            unroll!(v in 0..NV => {
                acc[0][r][v] = d.start(g.bias.add(at.col + 16 * v));
            });
        });
        let mut w = g.w.add(4 * at.col);
        for y in 0..g.seg_y {
            for x in 0..g.seg_x {
                // Pixels are addressed as `base[r / 3] + (r % 3) * a_row`: fewer registers than one pointer each.
                let segment = at.a.wrapping_add(y * g.seg_y_stride + x * g.seg_x_stride);
                let mut base = [segment, segment.wrapping_add(3 * g.a_row), segment.wrapping_add(6 * g.a_row)];
                let mut k = 0;
                // Not unrolled beyond the chains: with more in view the register allocator spills accumulators.
                while k + chains <= g.k4 {
                    unroll!(u in 0..chains => {
                        let (chain, w) = (u & 3, w.add(u * w_step));
                        acc[chain] = step::<D, MR, NV>(d, acc[chain], base, 4 * u, g.a_row, w);
                        if prefetches(MR, NV) {
                            d.simd().prefetch(ahead);
                            ahead = ahead.wrapping_add(at.ahead_step);
                        }
                    });
                    w = w.add(chains * w_step);
                    base = base.map(|p| p.wrapping_add(4 * chains));
                    k += chains;
                }
                while k < g.k4 {
                    acc[0] = step::<D, MR, NV>(d, acc[0], base, 0, g.a_row, w);
                    w = w.add(w_step);
                    base = base.map(|p| p.wrapping_add(4));
                    k += 1;
                }
            }
        }
        let mut total = acc[0];
        unroll!(chain in 1..chains => {
            unroll!(r in 0..MR => {
                unroll!(v in 0..NV => {
                    total[r][v] = d.sum(total[r][v], acc[chain & 3][r][v]);
                });
            });
        });
        total
    }
}

/// One group of 4 products for all pixels and columns of a tile.
#[inline(always)]
unsafe fn step<D: Dot, const MR: usize, const NV: usize>(
    d: D,
    mut acc: [[D::Acc; NV]; MR],
    base: [*const u8; 3],
    offset: usize,
    row_bytes: usize,
    w: *const i8,
) -> [[D::Acc; NV]; MR] {
    // SAFETY: the caller's pointers are inside a segment and its panel.
    unsafe {
        let mut weights = [d.load_w(w); NV];
        unroll!(v in 0..NV => {
            weights[v] = d.load_w(w.add(64 * v));
        });
        unroll!(r in 0..MR => {
            let a = d.load_a(base[r / 3].wrapping_add(r % 3 * row_bytes + offset));
            unroll!(v in 0..NV => {
                acc[r][v] = d.dot(acc[r][v], a, weights[v]);
            });
        });
    }
    acc
}
