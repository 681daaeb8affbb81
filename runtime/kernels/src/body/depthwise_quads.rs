//! u8 × s8 depthwise convolution by dot products over quads: four rows of one pixel column, interleaved byte by byte.
//!
//! Interleaving a block of channels of four rows takes 8 shuffles and gives 4 vectors, each of a quarter of the channels ×
//! 4 rows, in the order that the packed weights, and the narrowing to bytes, expect (see `pack`). A quad of a 3×3 window at
//! stride 1 serves three outputs along x, and two along y, since its fourth row belongs to the window of the row below.

use super::simd::{Finish, Simd, unroll};
use crate::args::DwArgs;

/// Bytes from one quad's weights to the next: four vectors of 16 channels × 4 rows.
pub const QUAD_BYTES: usize = 256;

/// Interleaved bytes and their dot products.
pub trait Quads: Copy {
    /// Vectors of the tier.
    type S: Simd;
    /// A quarter of the channels of a block: 4 bytes, an accumulator or a scale for each.
    type V: Copy;

    /// Channels of a block: 64 or 32.
    const CHANNELS: usize;

    /// The vectors' witness.
    fn simd(self) -> Self::S;
    /// The bytes at four addresses side by side.
    ///
    /// # Safety
    /// They are readable for the bytes of a block.
    unsafe fn quad(self, rows: [*const u8; 4]) -> [Self::V; 4];
    /// `acc + quad · weights`.
    ///
    /// # Safety
    /// `weights` are those of the block and quad.
    unsafe fn dot(self, acc: [Self::V; 4], quad: [Self::V; 4], weights: *const i8) -> [Self::V; 4];
    /// Biases, or scales, of `n` channels in the order of quads; what the other channels get is arbitrary.
    ///
    /// # Safety
    /// `p` is readable for `n` numbers rounded up to 16, and 64 bytes further.
    unsafe fn constants(self, p: *const i32, n: usize) -> [Self::V; 4];
    /// `acc * scale`, rounded, and what `finish` makes of it.
    ///
    /// # Safety
    /// `finish` has a table or none.
    unsafe fn requantize(
        self,
        acc: [Self::V; 4],
        scale: [Self::V; 4],
        finish: &Finish<Self::S>,
    ) -> <Self::S as Simd>::B;
}

/// Constants of a block of channels.
#[derive(Clone, Copy)]
pub struct Block<Q: Quads> {
    /// One per channel.
    pub bias: [Q::V; 4],
    /// One per channel.
    pub scale: [Q::V; 4],
    /// What follows.
    pub finish: Finish<Q::S>,
    /// Quads of shift 0.
    pub weights: *const i8,
    /// Bytes from the quads of one shift to those of the next.
    pub shift: usize,
    /// First channel.
    pub channel: usize,
    /// Number of channels.
    pub n: usize,
}

/// Computes the whole call.
///
/// # Safety
/// `args` points to a [`DwArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn u8s8<Q: Quads>(s: Q, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let d = unsafe { *args.cast::<DwArgs>() };
    // Pixels this far apart share few sets of L1: half a line that is not used at once is gone before its turn.
    let together = Q::CHANNELS < 64 && d.a_col.is_multiple_of(1024);
    let mut channel = 0;
    while channel < d.channels {
        let second = channel + Q::CHANNELS;
        // SAFETY: blocks of existing channels.
        unsafe {
            let first = Block::new(s, &d, channel);
            if together && second < d.channels {
                all_pixels(s, &d, [first, Block::new(s, &d, second)]);
                channel = second;
            } else {
                all_pixels(s, &d, [first]);
            }
        }
        channel += Q::CHANNELS;
    }
}

/// Computes all pixels of `N` blocks, row by row.
///
/// # Safety
/// The blocks are those of `d`.
#[inline(always)]
pub unsafe fn all_pixels<Q: Quads, const N: usize>(s: Q, d: &DwArgs, blocks: [Block<Q>; N]) {
    let three = d.kh == 3 && d.kw == 3;
    let below = d.step_y == d.a_row;
    let mut row = 0;
    while row < d.rows {
        let left = d.rows - row;
        let (shape, n) = match three {
            true if d.step_x == d.a_col && below => (Shape::Slide, left.min(2)),
            true if d.step_x == 2 * d.a_col => (Shape::SlideByTwo, 1),
            _ if below => (Shape::Any, left.min(4 * d.kh.div_ceil(4) - d.kh + 1)),
            _ => (Shape::Any, 1),
        };
        for b in &blocks {
            // SAFETY: `n` existing rows, for which the weights have shifts.
            unsafe {
                match (shape, n) {
                    (Shape::Slide, 1) => slide::<Q, 1>(s, d, b, row),
                    (Shape::Slide, _) => slide::<Q, 2>(s, d, b, row),
                    (Shape::SlideByTwo, _) => slide_by_two(s, d, b, row),
                    (Shape::Any, 1) => window_rows::<Q, 1>(s, d, b, row),
                    (Shape::Any, 2) => window_rows::<Q, 2>(s, d, b, row),
                    (Shape::Any, 3) => window_rows::<Q, 3>(s, d, b, row),
                    (Shape::Any, _) => window_rows::<Q, 4>(s, d, b, row),
                }
            }
        }
        row += n;
    }
}

/// How quads are shared between the pixels of a row.
#[derive(Clone, Copy)]
enum Shape {
    Slide,
    SlideByTwo,
    Any,
}

impl<Q: Quads> Block<Q> {
    /// The block that begins with `channel`.
    ///
    /// # Safety
    /// The channel exists.
    #[inline(always)]
    pub unsafe fn new(s: Q, d: &DwArgs, channel: usize) -> Block<Q> {
        let n = (d.channels - channel).min(Q::CHANNELS);
        let c64 = d.channels.div_ceil(64) * 64;
        let quads = d.kh.div_ceil(4);
        let shifts = 4 * quads - d.kh + 1;
        let shift = d.kw * quads * QUAD_BYTES;
        // A vector of packed weights has 4 bytes of 16 channels, of which the block's follow those of the blocks before.
        let weights = c64 * d.kh * d.kw + channel / 64 * shifts * shift + channel % 64;
        // SAFETY: bias and scale have the channels rounded up to 16.
        unsafe {
            Block {
                bias: s.constants(d.bias.add(channel), n),
                scale: s.constants(d.scale.add(channel).cast(), n),
                finish: Finish::new(s.simd(), d.zero as i32, d.lo, d.hi, d.lut),
                weights: d.w.add(weights),
                shift,
                channel,
                n,
            }
        }
    }

    /// Requantizes and stores one pixel.
    #[inline(always)]
    unsafe fn store(&self, s: Q, acc: [Q::V; 4], out: *mut u8) {
        // SAFETY: the pixel has `n` channels from `channel` on.
        unsafe {
            let q = s.requantize(acc, self.scale, &self.finish);
            s.simd().store_b(q, out.wrapping_add(self.channel), self.n);
        }
    }
}

/// Addresses of the four rows of quad `q` of a window; rows below the window, whose weights are 0, repeat its last one.
#[inline(always)]
pub fn rows_of(d: &DwArgs, window: *const u8, q: usize, rows: usize) -> [*const u8; 4] {
    let row = |i: usize| window.wrapping_add((4 * q + i).min(rows - 1) * d.a_row);
    [row(0), row(1), row(2), row(3)]
}

/// The quad `offset` bytes further.
#[inline(always)]
unsafe fn quad<Q: Quads>(s: Q, rows: [*const u8; 4], offset: usize) -> [Q::V; 4] {
    // SAFETY: the callers' rows have that column.
    unsafe { s.quad(rows.map(|row| row.wrapping_add(offset))) }
}

/// The sum of a window of three columns.
#[inline(always)]
unsafe fn three<Q: Quads>(s: Q, b: &Block<Q>, columns: [[Q::V; 4]; 3], weights: *const i8) -> [Q::V; 4] {
    let [left, middle, right] = columns;
    // SAFETY: three quads of weights.
    unsafe {
        let acc = s.dot(s.dot(b.bias, left, weights), middle, weights.add(QUAD_BYTES));
        s.dot(acc, right, weights.add(2 * QUAD_BYTES))
    }
}

/// 3×3 at stride 1: `R` output rows from `row` on, one new quad per pixel.
#[inline(always)]
unsafe fn slide<Q: Quads, const R: usize>(s: Q, d: &DwArgs, b: &Block<Q>, row: usize) {
    let window = d.a.wrapping_add(row * d.step_y + b.channel);
    let rows = rows_of(d, window, 0, if R == 2 { 4 } else { 3 });
    let mut out = d.out.wrapping_add(row * d.out_row);
    // SAFETY: columns `0 .. cols + 2` of the window's rows exist.
    unsafe {
        let (mut left, mut middle) = (quad(s, rows, 0), quad(s, rows, d.a_col));
        let mut offset = 2 * d.a_col;
        for _ in 0..d.cols {
            let right = quad(s, rows, offset);
            b.store(s, three(s, b, [left, middle, right], b.weights), out);
            if R == 2 {
                let below = three(s, b, [left, middle, right], b.weights.add(b.shift));
                b.store(s, below, out.wrapping_add(d.out_row));
            }
            (left, middle) = (middle, right);
            offset += d.a_col;
            out = out.wrapping_add(d.out_px);
        }
    }
}

/// 3×3 at stride 2 along x: two new quads per pixel.
#[inline(always)]
unsafe fn slide_by_two<Q: Quads>(s: Q, d: &DwArgs, b: &Block<Q>, row: usize) {
    let rows = rows_of(d, d.a.wrapping_add(row * d.step_y + b.channel), 0, 3);
    let mut out = d.out.wrapping_add(row * d.out_row);
    // SAFETY: columns `0 .. 2 * cols + 1` of the window's rows exist.
    unsafe {
        let mut left = quad(s, rows, 0);
        let mut offset = d.a_col;
        for _ in 0..d.cols {
            let (middle, right) = (quad(s, rows, offset), quad(s, rows, offset + d.a_col));
            b.store(s, three(s, b, [left, middle, right], b.weights), out);
            left = right;
            offset += d.step_x;
            out = out.wrapping_add(d.out_px);
        }
    }
}

/// Any window, stride and dilation: all quads of every pixel, shared by `R` output rows from `row` on.
#[inline(always)]
unsafe fn window_rows<Q: Quads, const R: usize>(s: Q, d: &DwArgs, b: &Block<Q>, row: usize) {
    for p in 0..d.cols {
        let window = d.a.wrapping_add(row * d.step_y + p * d.step_x + b.channel);
        let mut acc = [b.bias; R];
        let mut weights = b.weights;
        // SAFETY: the taps of existing pixels and their weights.
        unsafe {
            for q in 0..d.kh.div_ceil(4) {
                let rows = rows_of(d, window, q, d.kh + R - 1);
                for x in 0..d.kw {
                    let quad = quad(s, rows, x * d.a_col);
                    let weights = weights.add(x * d.kh.div_ceil(4) * QUAD_BYTES);
                    unroll!(r in 0..R => {
                        acc[r] = s.dot(acc[r], quad, weights.add(r * b.shift));
                    });
                }
                weights = weights.add(QUAD_BYTES);
            }
            let out = d.out.wrapping_add(row * d.out_row + p * d.out_px);
            unroll!(r in 0..R => {
                b.store(s, acc[r], out.wrapping_add(r * d.out_row));
            });
        }
    }
}
