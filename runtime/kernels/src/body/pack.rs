//! Packs computed right sides into panels of the matrix kernels.

use super::movement::{Level, copy_run, transpose_words};
use super::simd::Simd;
use crate::args::PackArgs;

/// Floats: rows of the matrix become rows of the panel.
///
/// # Safety
/// `args` points to a [`PackArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn b4<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<PackArgs>() };
    let row = g.cols.div_ceil(16) * 64;
    // Blocks are worth their exchange only where some of them are full.
    let transposed = g.src_k == 4 && g.src_n != 4 && g.k >= 8 && g.cols >= 8;
    if transposed {
        let (columns, rows) = (Level { n: g.cols, src: g.src_n, dst: 4 }, Level { n: g.k, src: 4, dst: row });
        // SAFETY: both levels of the matrix exist, and the panel has a row for each element of a column.
        unsafe { transpose_words(s, columns, rows, g.src, g.dst) };
    }
    for k in 0..g.k {
        let (src, dst) = (g.src.wrapping_add(k * g.src_k), g.dst.wrapping_add(k * row));
        // SAFETY: row `k` of the matrix and of the panel.
        unsafe {
            if !transposed && g.src_n == 4 {
                copy_run(src, dst, 4 * g.cols);
            } else if !transposed {
                for n in 0..g.cols {
                    let value = src.wrapping_add(n * g.src_n).cast::<u32>().read_unaligned();
                    dst.cast::<u32>().wrapping_add(n).write_unaligned(value);
                }
            }
            dst.wrapping_add(4 * g.cols).write_bytes(0, row - 4 * g.cols);
        }
    }
}

/// Bytes: four elements of a column become neighbours.
///
/// # Safety
/// `args` points to a [`PackArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn b1<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<PackArgs>() };
    let (row, flip) = (g.cols.div_ceil(16) * 64, g.flip as u8);
    for k4 in 0..g.k.div_ceil(4) {
        let (src, dst) = (g.src.wrapping_add(4 * k4 * g.src_k), g.dst.wrapping_add(k4 * row));
        let left = (g.k - 4 * k4).min(4);
        // SAFETY: up to four rows of the matrix and one of the panel.
        unsafe {
            if left < 4 || 4 * g.cols < row {
                dst.write_bytes(0, row);
            }
            if left == 4 && g.src_n == 1 {
                four_rows(s, src, g.src_k, flip, dst, g.cols);
                continue;
            }
            for n in 0..g.cols {
                let (src, dst) = (src.wrapping_add(n * g.src_n), dst.wrapping_add(4 * n));
                if left == 4 && g.src_k == 1 {
                    let four = src.cast::<u32>().read_unaligned() ^ (u32::from(flip) * 0x0101_0101);
                    dst.cast::<u32>().write_unaligned(four);
                } else {
                    for j in 0..left {
                        *dst.wrapping_add(j) = *src.wrapping_add(j * g.src_k) ^ flip;
                    }
                }
            }
        }
    }
}

/// Four rows of `n` bytes, `row` bytes apart, as one of groups of four.
#[inline(always)]
unsafe fn four_rows<S: Simd>(s: S, src: *const u8, row: usize, flip: u8, dst: *mut u8, n: usize) {
    let (flip, byte) = (s.splat_i(i32::from(flip)), s.splat_i(255));
    let mut i = 0;
    while i < n {
        // SAFETY: the four rows exist, and may be read 64 bytes past their end; only the columns left are stored.
        unsafe {
            // A flipped bit is one that is added without a carry.
            let of = |j: usize| s.and_i(s.add_i(s.load_u8(src.wrapping_add(j * row + i)), flip), byte);
            let low = s.add_i(of(0), s.shift_left::<8>(of(1)));
            let high = s.add_i(s.shift_left::<16>(of(2)), s.shift_left::<24>(of(3)));
            s.store_i(s.add_i(low, high), dst.wrapping_add(4 * i).cast(), (n - i).min(16));
        }
        i += 16;
    }
}
