//! Rounding and clamping of results, one element at a time ("Numbers" in ARCHITECTURE.md).

use super::{Args, Memory, Ptr};
use crate::numbers::{MAGIC, MAGIC_BITS, fma_exact};

/// The larger of two numbers; NaN if one of them is NaN; `b` if they are equal.
pub fn maximum(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller of two numbers; NaN if one of them is NaN; `b` if they are equal.
pub fn minimum(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

/// The clamp of float results: NaN stays NaN.
pub fn clamp_f32(v: f32, lo: f32, hi: f32) -> f32 {
    let v = if lo > v { lo } else { v };
    if hi < v { hi } else { v }
}

/// The clamp of what becomes an integer: NaN becomes `lo`.
fn clamp_to_number(v: f32, lo: f32, hi: f32) -> f32 {
    let v = if v > lo { v } else { lo };
    if v < hi { v } else { hi }
}

/// The integer that `w = value + MAGIC` stands for, after the clamp to `lo ..= hi`.
fn unmagic(w: f32, lo: i32, hi: i32) -> i32 {
    let w = clamp_to_number(w, MAGIC + lo as f32, MAGIC + hi as f32);
    w.to_bits() as i32 - MAGIC_BITS
}

/// Requantizes an accumulator: `acc * scale` in f32, rounded half to even, plus `zero`, clamped to `lo ..= hi`.
///
/// `acc` is first rounded to f32, which matters beyond 2^24.
pub fn requantize(acc: i32, scale: f32, zero: f32, lo: i32, hi: i32) -> u8 {
    let zero = zero as i32;
    (unmagic(acc as f32 * scale + MAGIC, lo - zero, hi - zero) + zero) as u8
}

/// What a residual is, and to what it is added; see `GemmArgs`.
#[derive(Clone, Copy, Debug)]
pub struct Residual {
    /// The stored value.
    pub value: u8,
    /// Its factor.
    pub scale: f32,
    /// What is added to it.
    pub offset: f32,
    /// Lower and upper bound of the product that it is added to.
    pub clamp: (f32, f32),
}

/// Requantizes an accumulator and adds a residual; see `GemmArgs`.
pub fn requantize_residual(acc: i32, scale: f32, r: Residual, lo: i32, hi: i32) -> u8 {
    let product = clamp_f32(acc as f32 * scale, r.clamp.0, r.clamp.1);
    unmagic(product + fma_exact(r.value as f32, r.scale, r.offset) + MAGIC, lo, hi) as u8
}

/// Sum of two quantized values; see `BinaryU8Args`.
pub fn add_u8(a: u8, a_scale: f32, b: u8, b_scale: f32, offset: f32, lo: i32, hi: i32) -> u8 {
    let v = fma_exact(a as f32, a_scale, fma_exact(b as f32, b_scale, offset));
    unmagic(v + MAGIC, lo, hi) as u8
}

/// Quantizes a float: divided by `scale`, clamped to `lo - zero ..= hi - zero`, rounded half to even, plus `zero`.
pub fn quantize(x: f32, scale: f32, zero: f32, lo: i32, hi: i32) -> u8 {
    let v = clamp_to_number(x / scale, lo as f32 - zero, hi as f32 - zero);
    let rounded = ((v + MAGIC).to_bits() as i32) - MAGIC.to_bits() as i32;
    (rounded + zero as i32) as u8
}

/// `q` after the table of field `lut`, if there is one.
pub fn through_lut<M: Memory>(q: u8, args: &Args, mem: &M) -> u8 {
    let lut = args.ptr("lut");
    if lut.is_null() { q } else { mem.u8(lut.plus(i64::from(q))) }
}

/// The real number at element `i` of row `row`: f32, or u8 if the field `scale` is not 0.
pub fn load_real<M: Memory>(row: Ptr, i: i64, args: &Args, [scale, zero]: [&str; 2], mem: &M) -> f32 {
    match args.f32(scale) {
        0.0 => mem.f32(row.plus(4 * i)),
        scale => (f32::from(mem.u8(row.plus(i))) - args.f32(zero)) * scale,
    }
}

/// Stores `v` at `out` as the u8 that the fields `scale`, `zero`, `lo` and `hi` say.
pub fn store_quantized<M: Memory>(v: f32, out: Ptr, args: &Args, mem: &mut M) {
    let (lo, hi) = (args.int("lo") as i32, args.int("hi") as i32);
    mem.set_u8(out, quantize(v, args.f32("scale"), args.f32("zero"), lo, hi));
}

/// Stores `v` as element `i` of row `row`: f32, or u8 if the field `scale` is not 0.
pub fn store_real<M: Memory>(v: f32, row: Ptr, i: i64, args: &Args, mem: &mut M) {
    if args.f32("scale") == 0.0 {
        mem.set_f32(row.plus(4 * i), v);
    } else {
        store_quantized(v, row.plus(i), args, mem);
    }
}
