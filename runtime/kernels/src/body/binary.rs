//! Element-wise operations on two tensors of rows.

use super::real::{Sink, Source};
use super::simd::{Finish, Simd};
use crate::args::{BinaryF32Args, BinaryU8Args};
use crate::numbers::MAGIC;
use crate::wide::{power, remainder};

/// Runs `op` on vectors of 16 pairs of floats and stores its sums with `MAGIC`, plus `zero`, as bytes.
#[inline(always)]
unsafe fn map_u8<S: Simd>(s: S, g: &BinaryU8Args, zero: i32, op: impl Fn(S::F, S::F) -> S::F) {
    let finish = Finish::new(s, zero, g.lo, g.hi, g.lut);
    for r in 0..g.rows {
        let (a, b) = (g.a.wrapping_add(r * g.a_row), g.b.wrapping_add(r * g.b_row));
        let out = g.out.wrapping_add(r * g.out_row);
        // SAFETY: every row of `b` has an element.
        let scalar = s.splat(f32::from(unsafe { *b }));
        let mut i = 0;
        while i < g.n {
            let mut w = [s.splat(MAGIC); 4];
            for v in 0..4 {
                // SAFETY: operands may be read 64 bytes past their end; only the elements left are stored.
                unsafe {
                    let second =
                        if g.b_scalar != 0 { scalar } else { s.to_float(s.load_u8(b.wrapping_add(i + 16 * v))) };
                    w[v] = op(s.to_float(s.load_u8(a.wrapping_add(i + 16 * v))), second);
                }
            }
            // SAFETY: as above.
            unsafe { finish.store(s, w, out.wrapping_add(i), (g.n - i).min(64)) };
            i += 64;
        }
    }
}

/// Sum of quantized bytes.
///
/// # Safety
/// `args` points to a [`BinaryU8Args`] that keeps its contract.
#[inline(always)]
pub unsafe fn add_u8<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<BinaryU8Args>() };
    let (a_scale, b_scale, offset) = (s.splat(g.a_scale), s.splat(g.b_scale), s.splat(g.offset));
    let magic = s.splat(MAGIC);
    // SAFETY: the caller's guarantee.
    unsafe { map_u8(s, &g, 0, |a, b| s.add(s.fma(a, a_scale, s.fma(b, b_scale, offset)), magic)) }
}

/// Product of quantized bytes.
///
/// # Safety
/// `args` points to a [`BinaryU8Args`] that keeps its contract.
#[inline(always)]
pub unsafe fn mul_u8<S: Simd>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<BinaryU8Args>() };
    let (a_zero, b_zero) = (s.splat(g.a_zero as f32), s.splat(g.b_zero as f32));
    let (scale, magic) = (s.splat(g.scale), s.splat(MAGIC));
    // Differences and products of bytes are exact in f32.
    // SAFETY: the caller's guarantee.
    unsafe {
        map_u8(s, &g, g.zero as i32, |a, b| s.add(s.mul(s.mul(s.sub(a, a_zero), s.sub(b, b_zero)), scale), magic))
    }
}

/// An operation on floats.
pub trait FloatOp {
    /// The operation on 16 lanes.
    fn apply<S: Simd>(s: S, a: S::F, b: S::F) -> S::F;
}

macro_rules! float_ops {
    ($($(#[$doc:meta])* $op:ident = $method:ident;)*) => {$(
        $(#[$doc])*
        pub struct $op;
        impl FloatOp for $op {
            #[inline(always)]
            fn apply<S: Simd>(s: S, a: S::F, b: S::F) -> S::F {
                s.$method(a, b)
            }
        }
    )*};
}

float_ops! {
    /// `a + b`.
    Add = add;
    /// `a - b`.
    Sub = sub;
    /// `a * b`.
    Mul = mul;
    /// `a / b`.
    Div = div;
    /// The larger; NaN if one is NaN.
    Max = maximum;
    /// The smaller; NaN if one is NaN.
    Min = minimum;
}

/// Declares operations that are computed lane by lane.
macro_rules! lane_ops {
    ($($(#[$doc:meta])* $op:ident = $function:path;)*) => {$(
        $(#[$doc])*
        pub struct $op;
        impl FloatOp for $op {
            #[inline(always)]
            fn apply<S: Simd>(s: S, a: S::F, b: S::F) -> S::F {
                let (mut lanes, by) = (s.lanes(a), s.lanes(b));
                for (lane, by) in lanes.iter_mut().zip(by) {
                    *lane = $function(*lane, by);
                }
                // SAFETY: the array has 64 bytes.
                unsafe { s.load(lanes.as_ptr()) }
            }
        }
    )*};
}

lane_ops! {
    /// `a` to the power of `b`.
    Pow = power;
    /// What a division leaves.
    Rem = remainder;
}

/// Element-wise operation on real numbers.
///
/// # Safety
/// `args` points to a [`BinaryF32Args`] that keeps its contract.
#[inline(always)]
pub unsafe fn float<S: Simd, O: FloatOp>(s: S, args: *const u8) {
    // SAFETY: the caller's guarantee.
    let g = unsafe { *args.cast::<BinaryF32Args>() };
    let (lo, hi) = (s.splat(g.clamp_lo), s.splat(g.clamp_hi));
    let (first, second) = (Source::new(s, g.a_scale, g.a_zero), Source::new(s, g.b_scale, g.b_zero));
    let sink = Sink::new(s, g.scale, g.zero, g.lo, g.hi);
    for r in 0..g.rows {
        let (a, b) = (g.a.wrapping_add(r * g.a_row), g.b.wrapping_add(r * g.b_row));
        let out = g.out.wrapping_add(r * g.out_row);
        // SAFETY: every row of `b` has an element; operands may be read 64 bytes past their end; only the elements left
        // are stored.
        unsafe {
            let scalar = second.load_one(s, b);
            let mut i = 0;
            while i < g.n {
                let right = if g.b_scalar != 0 { scalar } else { second.load(s, b, i) };
                let value = O::apply(s, first.load(s, a, i), right);
                sink.store(s, s.clamp(value, lo, hi), out, i, (g.n - i).min(16));
                i += 16;
            }
        }
    }
}
