//! Softmax of rows.

use super::math::{exp_below, load_lanes, store_lanes};
use super::real::{AsF32, AsU8, Sink, Stored};
use super::simd::{Simd, unroll};
use super::sums::{ELEMENTS_AT_ONCE, ROWS_AT_ONCE, Rows, Terms, in_runs, or_zero, rows_at_once};
use crate::args::SoftmaxArgs;
use core::mem::MaybeUninit;

/// Softmax of rows.
///
/// # Safety
/// `args` points to a [`SoftmaxArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn softmax<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<SoftmaxArgs>() };
    let floats = g.scale.to_bits() == 0;
    let dense = g.a_elem == 4 && g.out_elem == if floats { 4 } else { 1 } && (g.mask.is_null() || g.mask_elem == 4);
    // A factor of 1 changes nothing.
    let factor = s.splat(if g.factor.to_bits() == 0 { 1.0 } else { g.factor });
    let a = Scaled { at: g.a, row: g.a_row, factor };
    let masked = Masked { a, at: g.mask, row: g.mask_row };
    let mut buffer = [MaybeUninit::<f32>::uninit(); ELEMENTS_AT_ONCE];
    let result = InResult { at: g.out, row: g.out_row };
    let buffer = InBuffer {
        buffer: buffer.as_mut_ptr().cast(),
        n: g.n,
        stored: AsU8::new(s, g.scale, g.zero, g.lo, g.hi),
        at: g.out,
        row: g.out_row,
    };
    // SAFETY: the rows exist. The branches differ in what is read and written only, so that the inner loops have none.
    unsafe {
        match (dense && !S::COMPACT && (floats || g.n <= ELEMENTS_AT_ONCE), g.mask.is_null(), floats) {
            (true, true, true) => all(s, &g, a, result),
            (true, false, true) => all(s, &g, masked, result),
            (true, true, false) => all(s, &g, a, buffer),
            (true, false, false) => all(s, &g, masked, buffer),
            (false, ..) => all(s, &g, Apart(&g), OutApart { g: &g, sink: Sink::new(s, g.scale, g.zero, g.lo, g.hi) }),
        }
    }
}

/// Contiguous numbers with a factor.
#[derive(Clone, Copy)]
struct Scaled<S: Simd> {
    at: *const f32,
    row: usize,
    factor: S::F,
}

impl<S: Simd> Rows<S> for Scaled<S> {
    #[inline(always)]
    unsafe fn load(self, s: S, r: usize, i: usize, _: usize) -> S::F {
        // SAFETY: rows may be read 64 bytes past their end.
        s.mul(unsafe { s.load(self.at.wrapping_byte_add(r * self.row + 4 * i)) }, self.factor)
    }
}

/// With contiguous addends.
#[derive(Clone, Copy)]
struct Masked<S: Simd> {
    a: Scaled<S>,
    at: *const f32,
    row: usize,
}

impl<S: Simd> Rows<S> for Masked<S> {
    #[inline(always)]
    unsafe fn load(self, s: S, r: usize, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's guarantee; rows may be read 64 bytes past their end.
        unsafe { s.add(self.a.load(s, r, i, n), s.load(self.at.wrapping_byte_add(r * self.row + 4 * i))) }
    }
}

/// Any of these with distances between elements.
#[derive(Clone, Copy)]
struct Apart<'g>(&'g SoftmaxArgs);

impl<S: Simd> Rows<S> for Apart<'_> {
    #[inline(always)]
    unsafe fn load(self, s: S, r: usize, i: usize, n: usize) -> S::F {
        let g = self.0;
        // SAFETY: the caller's guarantee.
        unsafe {
            let x = load_lanes(s, g.a.wrapping_byte_add(r * g.a_row + i * g.a_elem), g.a_elem, n);
            let x = if g.factor.to_bits() == 0 { x } else { s.mul(x, s.splat(g.factor)) };
            match g.mask.is_null() {
                true => x,
                false => {
                    s.add(x, load_lanes(s, g.mask.wrapping_byte_add(r * g.mask_row + i * g.mask_elem), g.mask_elem, n))
                }
            }
        }
    }
}

/// Where results go, and their exponentials before.
trait Results<S: Simd>: Copy {
    /// Keeps the first `n` exponentials of 16 from `i` on, of row `r`, which is number `k` of the rows at once.
    ///
    /// # Safety
    /// The row is the caller's to write.
    unsafe fn keep(self, s: S, r: usize, k: usize, i: usize, n: usize, e: S::F);

    /// What was kept, or the same computed again by `e`.
    ///
    /// # Safety
    /// All of the row was kept.
    unsafe fn kept<R: Rows<S>>(self, s: S, e: Exponentials<S, R>, k: usize, i: usize, n: usize) -> S::F;

    /// Writes the first `n` of `N` vectors of results.
    ///
    /// # Safety
    /// The row is the caller's to write.
    unsafe fn write<const N: usize>(self, s: S, r: usize, i: usize, n: usize, v: [S::F; N]);
}

/// Floats, one behind the other.
#[derive(Clone, Copy)]
struct InResult {
    at: *mut u8,
    row: usize,
}

impl<S: Simd> Results<S> for InResult {
    #[inline(always)]
    unsafe fn keep(self, s: S, r: usize, _: usize, i: usize, n: usize, e: S::F) {
        // SAFETY: the caller's guarantee.
        unsafe { s.store(e, self.at.wrapping_add(r * self.row + 4 * i).cast(), n) }
    }

    #[inline(always)]
    unsafe fn kept<R: Rows<S>>(self, s: S, e: Exponentials<S, R>, _: usize, i: usize, _: usize) -> S::F {
        // SAFETY: results may be read 64 bytes past their end.
        unsafe { s.load(self.at.wrapping_add(e.row * self.row + 4 * i).cast()) }
    }

    #[inline(always)]
    unsafe fn write<const N: usize>(self, s: S, r: usize, i: usize, n: usize, v: [S::F; N]) {
        // SAFETY: the caller's guarantee.
        unsafe { AsF32.store(s, v, self.at.wrapping_add(r * self.row + 4 * i), n) }
    }
}

/// Bytes, one behind the other; exponentials are kept in a buffer.
#[derive(Clone, Copy)]
struct InBuffer<S: Simd> {
    buffer: *mut f32,
    n: usize,
    stored: AsU8<S>,
    at: *mut u8,
    row: usize,
}

impl<S: Simd> Results<S> for InBuffer<S> {
    #[inline(always)]
    unsafe fn keep(self, s: S, _: usize, k: usize, i: usize, n: usize, e: S::F) {
        // SAFETY: the buffer has room for the rows at once.
        unsafe { s.store(e, self.buffer.wrapping_add(k * self.n + i), n) }
    }

    #[inline(always)]
    unsafe fn kept<R: Rows<S>>(self, s: S, _: Exponentials<S, R>, k: usize, i: usize, n: usize) -> S::F {
        // SAFETY: the row was kept; behind the last one the buffer may end.
        unsafe {
            match n {
                16 => s.load(self.buffer.wrapping_add(k * self.n + i)),
                _ => load_lanes(s, self.buffer.wrapping_add(k * self.n + i), 4, n),
            }
        }
    }

    #[inline(always)]
    unsafe fn write<const N: usize>(self, s: S, r: usize, i: usize, n: usize, v: [S::F; N]) {
        // SAFETY: the caller's guarantee.
        unsafe { self.stored.store(s, v, self.at.wrapping_add(r * self.row + i), n) }
    }
}

/// Numbers with distances between them, floats or bytes. Exponentials are kept in the result if they are floats; those of
/// bytes are computed twice.
#[derive(Clone, Copy)]
struct OutApart<'g, S: Simd> {
    g: &'g SoftmaxArgs,
    sink: Sink<S>,
}

impl<S: Simd> Results<S> for OutApart<'_, S> {
    #[inline(always)]
    unsafe fn keep(self, s: S, r: usize, _: usize, i: usize, n: usize, e: S::F) {
        let g = self.g;
        if g.scale.to_bits() == 0 {
            let out = g.out.wrapping_add(r * g.out_row + i * g.out_elem);
            // SAFETY: the caller's guarantee.
            unsafe { store_lanes(s, e, out.cast(), g.out_elem, n) };
        }
    }

    #[inline(always)]
    unsafe fn kept<R: Rows<S>>(self, s: S, e: Exponentials<S, R>, _: usize, i: usize, n: usize) -> S::F {
        let g = self.g;
        let out = g.out.wrapping_add(e.row * g.out_row + i * g.out_elem);
        // SAFETY: the caller's guarantee.
        unsafe { if g.scale.to_bits() == 0 { load_lanes(s, out.cast(), g.out_elem, n) } else { e.load(s, i, n) } }
    }

    #[inline(always)]
    unsafe fn write<const N: usize>(self, s: S, r: usize, i: usize, n: usize, v: [S::F; N]) {
        let row = self.g.out.wrapping_add(r * self.g.out_row);
        unroll!(j in 0..N => {
            if 16 * j < n {
                // SAFETY: the caller's guarantee.
                unsafe { self.sink.store_apart(s, v[j], row, i + 16 * j, self.g.out_elem, (n - 16 * j).min(16)) };
            }
        });
    }
}

/// The exponentials of a row less its maximum.
#[derive(Clone, Copy)]
struct Exponentials<S: Simd, R> {
    x: R,
    row: usize,
    max: S::F,
}

impl<S: Simd, R: Rows<S>> Exponentials<S, R> {
    #[inline(always)]
    unsafe fn load(self, s: S, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's guarantee.
        exp_below(s, s.sub(unsafe { self.x.load(s, self.row, i, n) }, self.max))
    }
}

/// Their sum, taken while they are kept.
#[derive(Clone, Copy)]
struct Kept<S: Simd, R, O> {
    e: Exponentials<S, R>,
    out: O,
    k: usize,
}

impl<S: Simd, R: Rows<S>, O: Results<S>> Terms<S, 1> for Kept<S, R, O> {
    #[inline(always)]
    unsafe fn add(self, s: S, i: usize, n: usize, [sum]: [S::F; 1]) -> [S::F; 1] {
        // SAFETY: the caller's guarantee; there is room for the row.
        unsafe {
            let e = self.e.load(s, i, n);
            self.out.keep(s, self.e.row, self.k, i, n, e);
            [s.add(sum, or_zero(s, e, n))]
        }
    }
}

/// All rows, some of them at once.
#[inline(always)]
unsafe fn all<S: Simd, R: Rows<S>>(s: S, g: &SoftmaxArgs, x: R, out: impl Results<S>) {
    let at_once = rows_at_once(g.n);
    let mut begin = 0;
    while begin < g.rows {
        let rows = (g.rows - begin).min(at_once);
        let none = s.splat(0.0);
        let mut all = [(Exponentials { x, row: 0, max: none }, none); ROWS_AT_ONCE];
        // SAFETY: these rows exist.
        unsafe {
            for (k, (e, _)) in all.iter_mut().enumerate().take(rows) {
                *e = Exponentials { x, row: begin + k, max: s.splat(largest(s, g.n, x, begin + k)) };
            }
            for (k, (e, share)) in all.iter_mut().enumerate().take(rows) {
                let [sum] = in_runs(s, g.n, Kept { e: *e, out, k });
                *share = s.div(s.splat(1.0), s.splat(sum as f32));
            }
            for (k, (e, share)) in all.iter().enumerate().take(rows) {
                normalize(s, g.n, *e, out, k, *share);
            }
        }
        begin += rows;
    }
}

/// Writes one row.
#[inline(always)]
unsafe fn normalize<S: Simd, R: Rows<S>>(
    s: S,
    n: usize,
    e: Exponentials<S, R>,
    out: impl Results<S>,
    k: usize,
    share: S::F,
) {
    let mut i = 0;
    // SAFETY: the row was kept; exactly its elements are written.
    unsafe {
        while !S::COMPACT && i + 64 <= n {
            let mut v = [share; 4];
            unroll!(j in 0..4 => {
                v[j] = s.mul(out.kept(s, e, k, i + 16 * j, 16), share);
            });
            out.write(s, e.row, i, 64, v);
            i += 64;
        }
        while i < n {
            let left = (n - i).min(16);
            out.write(s, e.row, i, left, [s.mul(out.kept(s, e, k, i, left), share)]);
            i += 16;
        }
    }
}

/// The largest of the elements of a row. One that is NaN may hide others: it makes all exponentials NaN by their sum anyway.
#[inline(always)]
unsafe fn largest<S: Simd>(s: S, n: usize, x: impl Rows<S>, row: usize) -> f32 {
    let lowest = s.splat(f32::NEG_INFINITY);
    let mut maxima = [lowest; 4];
    let mut i = 0;
    // SAFETY: elements below `n` exist.
    unsafe {
        while !S::COMPACT && i + 64 <= n {
            unroll!(v in 0..4 => {
                maxima[v] = s.max(x.load(s, row, i + 16 * v, 16), maxima[v]);
            });
            i += 64;
        }
        while i < n {
            let lanes = (n - i).min(16);
            let x = x.load(s, row, i, lanes);
            maxima[0] = s.max(if lanes == 16 { x } else { s.first(x, lanes, lowest) }, maxima[0]);
            i += 16;
        }
    }
    s.largest(s.max(s.max(maxima[0], maxima[1]), s.max(maxima[2], maxima[3])))
}
