//! Element-wise operations on one tensor of rows: tables of bytes, functions of real numbers.

use super::math::{erf_near_zero, erfc, exp, expm1};
use super::real::{Sink, Source};
use super::simd::Simd;
use crate::args::UnaryArgs;
use crate::numbers::FRAC_1_SQRT_2;

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

/// A function of one number; its definition is that of the variant in [`UnaryArgs`].
pub trait Function {
    /// The function of 16 lanes with parameters `p`.
    fn apply<S: Simd>(s: S, x: S::F, p: [S::F; 3]) -> S::F;
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident($s:ident, $x:ident, $p:pat) = $body:expr;)*) => {$(
        $(#[$doc])*
        pub struct $name;
        impl Function for $name {
            #[inline(always)]
            fn apply<S: Simd>($s: S, $x: S::F, $p: [S::F; 3]) -> S::F {
                $body
            }
        }
    )*};
}

functions! {
    /// The clamp to two parameters.
    Clamp(s, x, [lo, hi, _]) = s.clamp(x, lo, hi);
    /// Logistic function.
    Sigmoid(s, x, _) = s.div(s.splat(1.0), one_and_exp(s, negated(s, x)));
    /// `x` times the logistic function of a multiple.
    Swish(s, x, [beta, ..]) = s.div(x, one_and_exp(s, negated(s, s.mul(x, beta))));
    /// Hyperbolic tangent.
    Tanh(s, x, _) = {
        let e = expm1(s, s.add(x, x));
        s.div(e, s.add(e, s.splat(2.0)))
    };
    /// Exponential.
    Exp(s, x, _) = exp(s, x);
    /// Square root.
    Sqrt(s, x, _) = s.sqrt(x);
    /// Absolute value.
    Abs(s, x, _) = size(s, x);
    /// Error function.
    Erf(s, x, _) = {
        let size = size(s, x);
        let far = s.sub(s.splat(1.0), erfc(s, size));
        let far = s.as_float(s.add_i(s.bits(far), s.and_i(s.bits(x), s.splat_i(i32::MIN))));
        s.if_less(size, s.splat(1.0), erf_near_zero(s, x), far)
    };
    /// A line between 0 and 1.
    HardSigmoid(s, x, [slope, offset, _]) = s.clamp(s.fma(x, slope, offset), s.splat(0.0), s.splat(1.0));
    /// `x` times a line between 0 and a bound.
    HardSwish(s, x, [offset, bound, factor]) = {
        let gate = s.clamp(s.add(x, offset), s.splat(0.0), bound);
        s.mul(x, s.mul(gate, factor))
    };
    /// Another slope below 0.
    LeakyRelu(s, x, [slope, ..]) = s.if_less(x, s.splat(0.0), s.mul(x, slope), x);
    /// Exponential below 0.
    Elu(s, x, [depth, ..]) = {
        let below = expm1(s, s.min(s.splat(0.0), x));
        s.if_less(x, s.splat(0.0), s.mul(below, depth), x)
    };
    /// `x` times the normal distribution.
    Gelu(s, x, _) = {
        let tail = erfc(s, s.mul(size(s, x), s.splat(FRAC_1_SQRT_2)));
        let twice = s.if_less(x, s.splat(0.0), tail, s.sub(s.splat(2.0), tail));
        s.mul(s.mul(x, s.splat(0.5)), twice)
    };
    /// Its approximation by tanh.
    GeluTanh(s, x, [linear, cubic, _]) = {
        let inner = s.mul(s.fma(s.mul(x, x), cubic, linear), x);
        s.div(x, one_and_exp(s, negated(s, inner)))
    };
}

#[inline(always)]
fn negated<S: Simd>(s: S, x: S::F) -> S::F {
    s.sub(s.splat(0.0), x)
}

#[inline(always)]
fn one_and_exp<S: Simd>(s: S, x: S::F) -> S::F {
    s.add(exp(s, x), s.splat(1.0))
}

#[inline(always)]
fn size<S: Simd>(s: S, x: S::F) -> S::F {
    s.as_float(s.and_i(s.bits(x), s.splat_i(i32::MAX)))
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
    let source = Source::new(s, g.a_scale, g.a_zero);
    let sink = Sink::new(s, g.scale, g.zero, g.lo, g.hi);
    for r in 0..g.rows {
        let (a, out) = (g.a.wrapping_add(r * g.a_row), g.out.wrapping_add(r * g.out_row));
        let mut i = 0;
        while i < g.n {
            // SAFETY: the operand may be read 64 bytes past its end; only the elements left are stored.
            unsafe { sink.store(s, F::apply(s, source.load(s, a, i), p), out, i, (g.n - i).min(16)) };
            i += 16;
        }
    }
}
