//! Sums in runs: f32 within short runs, f64 between them. `SoftmaxArgs` defines their order.
//!
//! What is summed is a type and no closure: methods can be inlined whatever their size, and must be, for the features of the tier.

use super::simd::{Simd, unroll};
use crate::numbers::{RUN, RUNS};

/// Vectors of partial sums.
const VECTORS: usize = RUNS / 16;

/// The elements of rows.
pub trait Rows<S: Simd>: Copy {
    /// 16 elements of row `r` from `i` on, of which the first `n` exist; the others are arbitrary.
    ///
    /// # Safety
    /// Those that exist are readable, as said by the argument struct.
    unsafe fn load(self, s: S, r: usize, i: usize, n: usize) -> S::F;

    /// The same when a row is read for the first time.
    ///
    /// # Safety
    /// As for [`Rows::load`].
    #[inline(always)]
    unsafe fn first_load(self, s: S, r: usize, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's guarantee.
        unsafe { self.load(s, r, i, n) }
    }
}

/// What `K` sums over a row add.
pub trait Terms<S: Simd, const K: usize>: Copy {
    /// The partial sums with 16 elements from `i` on, of which the first `n` exist; what is added for the others must be 0.
    ///
    /// # Safety
    /// As for [`Rows::load`].
    unsafe fn add(self, s: S, i: usize, n: usize, sums: [S::F; K]) -> [S::F; K];
}

/// `K` sums over `n` elements.
///
/// # Safety
/// The terms have so many elements.
#[inline(always)]
pub unsafe fn in_runs<S: Simd, const K: usize>(s: S, n: usize, terms: impl Terms<S, K>) -> [f64; K] {
    let mut wide = [s.splat_d(0.0); K];
    let mut begin = 0;
    while begin < n {
        let end = (begin + RUN * RUNS).min(n);
        let mut runs = [[s.splat(0.0); K]; VECTORS];
        let mut i = begin;
        // SAFETY: elements below `end` exist.
        unsafe {
            while !S::COMPACT && i + RUNS <= end {
                unroll!(v in 0..VECTORS => {
                    runs[v] = terms.add(s, i + 16 * v, 16, runs[v]);
                });
                i += RUNS;
            }
            while i < end {
                unroll!(v in 0..VECTORS => {
                    if i + 16 * v < end {
                        runs[v] = terms.add(s, i + 16 * v, (end - i - 16 * v).min(16), runs[v]);
                    }
                });
                i += RUNS;
            }
        }
        // No sum that begins at 0 is -0, so adding 0 for partial sums without elements keeps its bits.
        unroll!(v in 0..VECTORS => {
            unroll!(k in 0..K => {
                wide[k] = s.add_wide(wide[k], runs[v][k]);
            });
        });
        begin = end;
    }
    let mut sums = [0.0; K];
    unroll!(k in 0..K => {
        sums[k] = s.sum_wide(wide[k]);
    });
    sums
}

/// How many rows of `n` elements are worked on at once: so many that the reductions of one row overlap those of others, and
/// so few that all stay in the first-level cache.
#[inline(always)]
pub fn rows_at_once(n: usize) -> usize {
    (ELEMENTS_AT_ONCE / n.max(1)).clamp(1, ROWS_AT_ONCE)
}

/// The most rows that are worked on at once.
pub const ROWS_AT_ONCE: usize = 8;
/// Elements of such rows, unless it is one row.
pub const ELEMENTS_AT_ONCE: usize = 2048;

/// The first `n` lanes; 0 behind them.
#[inline(always)]
pub fn or_zero<S: Simd>(s: S, v: S::F, n: usize) -> S::F {
    if n == 16 { v } else { s.first(v, n, s.splat(0.0)) }
}
