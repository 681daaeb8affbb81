//! Element-wise operations on one tensor of rows: tables of bytes, functions of real numbers.

use super::math::{
    angle, arcsine, erf_near_zero, erfc, exp, expm1, half_exp, horner, log, log_of_twice, log1p, nearest, normal_tail,
    sine, size, with_sign,
};
use super::real::{AsF32, AsU8, Sink, Source, Stored};
use super::simd::{Simd, unroll};
use crate::args::UnaryArgs;
use crate::functions::functions;
use crate::numbers::{ATAN_POLY, FAR_AREA, HALF_PI, NORMAL_END};

/// Maps bytes by a table.
///
/// # Safety
/// `args` points to a [`UnaryArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn lut_u8<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<UnaryArgs>() };
    for r in 0..g.rows {
        let mut i = 0;
        while i < g.n {
            // SAFETY: the operand may be read 64 bytes past its end; only the elements left are stored.
            unsafe {
                let value = s.lookup(s.load_b(g.a.wrapping_add(r * g.a_row + i)), g.lut);
                s.store_b(value, g.out.wrapping_add(r * g.out_row + i), (g.n - i).min(64));
            }
            i += 64;
        }
    }
}

/// A function of one number; its definition is that of its row in [`crate::functions`].
pub trait Function {
    /// The function of 16 lanes with parameters `p`.
    fn apply<S: Simd>(s: S, x: S::F, p: [S::F; 3]) -> S::F;
}

macro_rules! vectors {
    ({} $($(#[$doc:meta])* $kernel:ident $variant:ident $name:ident {
        reference($rx:ident, $rp:pat) => $reference:expr;
        vectors($s:ident, $x:ident, $p:pat) => $vectors:expr;
    })*) => {$(
        $(#[$doc])*
        pub struct $name;
        impl Function for $name {
            #[inline(always)]
            fn apply<S: Simd>($s: S, $x: S::F, $p: [S::F; 3]) -> S::F {
                $vectors
            }
        }
    )*};
}

functions! { vectors, {} }

#[inline(always)]
fn negated<S: Simd>(s: S, x: S::F) -> S::F {
    s.sub(s.splat(0.0), x)
}

#[inline(always)]
fn one_and_exp<S: Simd>(s: S, x: S::F) -> S::F {
    s.add(exp(s, x), s.splat(1.0))
}

/// Real numbers, with addends if there are any.
#[derive(Clone, Copy)]
struct Sums<S: Simd> {
    operand: Source<S>,
    addend: *const f32,
    has_addend: bool,
}

impl<S: Simd> Sums<S> {
    /// Elements `i ..` of a row, 16 of them.
    ///
    /// # Safety
    /// Element `i` exists; the row and the addends may be read 64 bytes past their end.
    #[inline(always)]
    unsafe fn load(&self, s: S, row: *const u8, i: usize) -> S::F {
        // SAFETY: the caller's guarantee.
        unsafe {
            let x = self.operand.load(s, row, i);
            if self.has_addend { s.add(x, s.load(self.addend.wrapping_add(i))) } else { x }
        }
    }
}

/// A function of every element.
///
/// # Safety
/// `args` points to a [`UnaryArgs`] that keeps its contract.
#[inline(always)]
pub unsafe fn map<S: Simd, F: Function>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<UnaryArgs>() };
    let p = [s.splat(g.p0), s.splat(g.p1), s.splat(g.p2)];
    let operand = Source::new(s, g.a_scale, g.a_zero);
    for r in 0..g.rows {
        let source =
            Sums { operand, addend: g.addend.wrapping_byte_add(r * g.addend_row), has_addend: !g.addend.is_null() };
        let (a, out) = (g.a.wrapping_add(r * g.a_row), g.out.wrapping_add(r * g.out_row));
        // SAFETY: row `r` exists, and may be read 64 bytes past its end.
        unsafe {
            match g.scale.to_bits() {
                _ if S::COMPACT => {
                    let sink = Sink::new(s, g.scale, g.zero, g.lo, g.hi);
                    let mut i = 0;
                    while i < g.n {
                        sink.store(s, F::apply(s, source.load(s, a, i), p), out, i, (g.n - i).min(16));
                        i += 16;
                    }
                }
                0 => run::<S, F, AsF32, 1>(s, source, AsF32, a, out, g.n, p),
                _ => run::<S, F, AsU8<S>, 4>(s, source, AsU8::new(s, g.scale, g.zero, g.lo, g.hi), a, out, g.n, p),
            }
        }
    }
}

/// A function of `n` elements, `N` vectors at once.
#[inline(always)]
unsafe fn run<S: Simd, F: Function, O: Stored<S>, const N: usize>(
    s: S,
    source: Sums<S>,
    stored: O,
    a: *const u8,
    out: *mut u8,
    n: usize,
    p: [S::F; 3],
) {
    let mut i = 0;
    // SAFETY: the caller's guarantee; only the elements left are stored.
    unsafe {
        while i + 16 * N <= n {
            let mut v = [p[0]; N];
            unroll!(j in 0..N => {
                v[j] = F::apply(s, source.load(s, a, i + 16 * j), p);
            });
            stored.store(s, v, out.wrapping_add(stored.bytes() * i), 16 * N);
            i += 16 * N;
        }
        while i < n {
            let v = F::apply(s, source.load(s, a, i), p);
            stored.store(s, [v], out.wrapping_add(stored.bytes() * i), (n - i).min(16));
            i += 16;
        }
    }
}
