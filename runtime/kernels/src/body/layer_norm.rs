//! Layer normalization of rows.

use super::real::{AsF32, AsU8, Sink, Source, Stored};
use super::simd::{Simd, unroll};
use super::sums::{ROWS_AT_ONCE, Rows, Terms, in_runs, or_zero, rows_at_once};
use crate::args::LayerNormArgs;

/// Layer normalization of rows, of which the mean is subtracted if `CENTRED`.
///
/// # Safety
/// `args` points to a [`LayerNormArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn layer_norm<S: Simd, const CENTRED: bool>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<LayerNormArgs>() };
    let floats = (g.a_scale.to_bits() | g.res_scale.to_bits()) == 0;
    let x = Floats { at: g.a, row: g.a_row };
    let y = Floats { at: g.res, row: g.res_row };
    let a = Reals { source: Source::new(s, g.a_scale, g.a_zero), at: g.a, row: g.a_row };
    let res = Reals { source: Source::new(s, g.res_scale, g.res_zero), at: g.res, row: g.res_row };
    let any = Any { a, res, sum: g.sum, row: g.sum_row };
    let sink = Sink::new(s, g.scale, g.zero, g.lo, g.hi);
    // SAFETY: the rows exist. The branches differ in what is read only, so that the inner loops have none.
    unsafe {
        match (floats, g.res.is_null(), g.sum.is_null()) {
            _ if S::COMPACT => all::<S, CENTRED, _>(s, &g, any, sink),
            (true, true, _) => stored::<S, CENTRED>(s, &g, x),
            (true, false, true) => stored::<S, CENTRED>(s, &g, Pair(x, y)),
            _ => stored::<S, CENTRED>(s, &g, any),
        }
    }
}

/// All rows, as floats or bytes.
#[inline(always)]
unsafe fn stored<S: Simd, const CENTRED: bool>(s: S, g: &LayerNormArgs, x: impl Rows<S>) {
    // SAFETY: the caller's guarantee.
    unsafe {
        match g.scale.to_bits() {
            0 => all::<S, CENTRED, AsF32>(s, g, x, AsF32),
            _ => all::<S, CENTRED, AsU8<S>>(s, g, x, AsU8::new(s, g.scale, g.zero, g.lo, g.hi)),
        }
    }
}

/// Floats.
#[derive(Clone, Copy)]
struct Floats {
    at: *const u8,
    row: usize,
}

impl<S: Simd> Rows<S> for Floats {
    #[inline(always)]
    unsafe fn load(self, s: S, r: usize, i: usize, _: usize) -> S::F {
        // SAFETY: rows may be read 64 bytes past their end.
        unsafe { s.load(self.at.wrapping_add(r * self.row + 4 * i).cast()) }
    }
}

/// Real numbers, quantized or not.
#[derive(Clone, Copy)]
struct Reals<S: Simd> {
    source: Source<S>,
    at: *const u8,
    row: usize,
}

impl<S: Simd> Rows<S> for Reals<S> {
    #[inline(always)]
    unsafe fn load(self, s: S, r: usize, i: usize, _: usize) -> S::F {
        // SAFETY: rows may be read 64 bytes past their end.
        unsafe { self.source.load(s, self.at.wrapping_add(r * self.row), i) }
    }
}

/// Sums of two.
#[derive(Clone, Copy)]
struct Pair<A, B>(A, B);

impl<S: Simd, A: Rows<S>, B: Rows<S>> Rows<S> for Pair<A, B> {
    #[inline(always)]
    unsafe fn load(self, s: S, r: usize, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's guarantee.
        unsafe { s.add(self.0.load(s, r, i, n), self.1.load(s, r, i, n)) }
    }
}

/// Any of these; sums that are kept are stored when they are first read.
#[derive(Clone, Copy)]
struct Any<S: Simd> {
    a: Reals<S>,
    res: Reals<S>,
    sum: *mut f32,
    row: usize,
}

impl<S: Simd> Rows<S> for Any<S> {
    #[inline(always)]
    unsafe fn load(self, s: S, r: usize, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's guarantee.
        unsafe {
            match (self.res.at.is_null(), self.sum.is_null()) {
                (true, _) => self.a.load(s, r, i, n),
                (false, true) => Pair(self.a, self.res).load(s, r, i, n),
                (false, false) => s.load(self.sum.wrapping_byte_add(r * self.row + 4 * i)),
            }
        }
    }

    #[inline(always)]
    unsafe fn first_load(self, s: S, r: usize, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's guarantee; there is room for the row.
        unsafe {
            if self.res.at.is_null() || self.sum.is_null() {
                return self.load(s, r, i, n);
            }
            let v = Pair(self.a, self.res).load(s, r, i, n);
            s.store(v, self.sum.wrapping_byte_add(r * self.row + 4 * i), n);
            v
        }
    }
}

/// The sum of a row, which is read for the first time.
#[derive(Clone, Copy)]
struct Sum<R>(R, usize);

impl<S: Simd, R: Rows<S>> Terms<S, 1> for Sum<R> {
    #[inline(always)]
    unsafe fn add(self, s: S, i: usize, n: usize, [sum]: [S::F; 1]) -> [S::F; 1] {
        // SAFETY: the caller's guarantee.
        [s.add(sum, or_zero(s, unsafe { self.0.first_load(s, self.1, i, n) }, n))]
    }
}

/// The sums of deviations from a mean, and of their squares.
#[derive(Clone, Copy)]
struct Deviations<S: Simd, R>(R, usize, S::F);

impl<S: Simd, R: Rows<S>> Terms<S, 2> for Deviations<S, R> {
    #[inline(always)]
    unsafe fn add(self, s: S, i: usize, n: usize, [sum, squares]: [S::F; 2]) -> [S::F; 2] {
        // SAFETY: the caller's guarantee.
        let d = or_zero(s, s.sub(unsafe { self.0.load(s, self.1, i, n) }, self.2), n);
        [s.add(sum, d), s.fma(d, d, squares)]
    }
}

/// The sum of squares of a row, which is read for the first time.
#[derive(Clone, Copy)]
struct Squares<R>(R, usize);

impl<S: Simd, R: Rows<S>> Terms<S, 1> for Squares<R> {
    #[inline(always)]
    unsafe fn add(self, s: S, i: usize, n: usize, [squares]: [S::F; 1]) -> [S::F; 1] {
        // SAFETY: the caller's guarantee.
        let v = or_zero(s, unsafe { self.0.first_load(s, self.1, i, n) }, n);
        [s.fma(v, v, squares)]
    }
}

/// What is known of a row, in steps.
#[derive(Clone, Copy)]
struct Moments<S: Simd> {
    mean: S::F,
    /// By which the mean is off.
    rest: f64,
    variance: f64,
}

/// All rows, some of them at once.
#[inline(always)]
unsafe fn all<S: Simd, const CENTRED: bool, O: Stored<S>>(s: S, g: &LayerNormArgs, x: impl Rows<S>, stored: O) {
    let (n, count, at_once) = (g.n, g.n as f64, rows_at_once(g.n));
    let mut begin = 0;
    while begin < g.rows {
        let rows = (g.rows - begin).min(at_once);
        let mut moments = [Moments { mean: s.splat(0.0), rest: 0.0, variance: 0.0 }; ROWS_AT_ONCE];
        // SAFETY: these rows exist, and have `n` elements.
        unsafe {
            for (k, m) in moments.iter_mut().enumerate().take(rows) {
                if CENTRED {
                    let [sum] = in_runs(s, n, Sum(x, begin + k));
                    m.mean = s.splat((sum / count) as f32);
                } else {
                    let [squares] = in_runs(s, n, Squares(x, begin + k));
                    m.variance = squares / count;
                }
            }
            for (k, m) in moments.iter_mut().enumerate().take(rows) {
                if CENTRED {
                    let [sum, squares] = in_runs(s, n, Deviations(x, begin + k, m.mean));
                    m.rest = sum / count;
                    m.variance = squares / count - m.rest * m.rest;
                }
            }
            for (k, m) in moments.iter().enumerate().take(rows) {
                let out = g.out.wrapping_add((begin + k) * g.out_row);
                normalize::<S, CENTRED, O>(s, g, x, begin + k, *m, stored, out);
            }
        }
        begin += rows;
    }
}

/// Writes one row.
#[inline(always)]
unsafe fn normalize<S: Simd, const CENTRED: bool, O: Stored<S>>(
    s: S,
    g: &LayerNormArgs,
    x: impl Rows<S>,
    row: usize,
    m: Moments<S>,
    stored: O,
    out: *mut u8,
) {
    let variance = if m.variance < 0.0 { 0.0 } else { m.variance };
    let root = s.sqrt(s.splat((variance + f64::from(g.epsilon)) as f32));
    let r = s.div(s.splat(1.0), root);
    let shift = s.mul(s.splat(-(m.rest as f32)), r);
    let clamp = [s.splat(g.clamp_lo), s.splat(g.clamp_hi)];
    let affine = Affine { gamma: g.gamma, beta: g.beta, mean: m.mean, r, shift, clamp };
    let mut i = 0;
    // SAFETY: rows and parameters have so many elements, and may be read 64 bytes past their end.
    unsafe {
        while !S::COMPACT && i + 64 <= g.n {
            let mut v = [r; 4];
            unroll!(j in 0..4 => {
                v[j] = affine.apply::<CENTRED>(s, x.load(s, row, i + 16 * j, 16), i + 16 * j);
            });
            stored.store(s, v, out.wrapping_add(stored.bytes() * i), 64);
            i += 64;
        }
        while i < g.n {
            let n = (g.n - i).min(16);
            let v = affine.apply::<CENTRED>(s, x.load(s, row, i, n), i);
            stored.store(s, [v], out.wrapping_add(stored.bytes() * i), n);
            i += 16;
        }
    }
}

/// What becomes of the elements of a row.
#[derive(Clone, Copy)]
struct Affine<S: Simd> {
    gamma: *const f32,
    beta: *const f32,
    mean: S::F,
    r: S::F,
    shift: S::F,
    clamp: [S::F; 2],
}

impl<S: Simd> Affine<S> {
    #[inline(always)]
    unsafe fn apply<const CENTRED: bool>(self, s: S, v: S::F, i: usize) -> S::F {
        let t = if CENTRED { s.fma(s.sub(v, self.mean), self.r, self.shift) } else { s.mul(v, self.r) };
        // SAFETY: parameters may be read 64 bytes past their end.
        unsafe {
            let gamma = if self.gamma.is_null() { s.splat(1.0) } else { s.load(self.gamma.wrapping_add(i)) };
            let beta = if self.beta.is_null() { s.splat(0.0) } else { s.load(self.beta.wrapping_add(i)) };
            s.clamp(s.fma(t, gamma, beta), self.clamp[0], self.clamp[1])
        }
    }
}
