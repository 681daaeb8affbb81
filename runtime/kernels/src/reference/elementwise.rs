//! Element-wise operations and conversions.

use super::function::function;
use super::numbers::{
    add_u8, clamp_f32, load_real, maximum, minimum, requantize, store_quantized, store_real, through_lut,
};
use super::{Args, Memory, Ptr};
use crate::numbers::fma_exact;
use crate::table::Variant;
use crate::wide::{power, remainder};

/// Visits every element of two operands of bytes with the places of `a`, `b` and the result.
fn for_each_pair(args: &Args, mut visit: impl FnMut(Ptr, Ptr, Ptr)) {
    for r in 0..args.int("rows") {
        for i in 0..args.int("n") {
            let b = if args.int("b_scalar") != 0 { 0 } else { i };
            visit(
                args.ptr("a").plus(r * args.int("a_row") + i),
                args.ptr("b").plus(r * args.int("b_row") + b),
                args.ptr("out").plus(r * args.int("out_row") + i),
            );
        }
    }
}

pub(super) fn binary_u8<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let (lo, hi) = (args.int("lo") as i32, args.int("hi") as i32);
    for_each_pair(args, |a, b, out| {
        let (a, b) = (mem.u8(a), mem.u8(b));
        let q = match variant {
            Variant::AddU8 => add_u8(a, args.f32("a_scale"), b, args.f32("b_scale"), args.f32("offset"), lo, hi),
            _ => {
                let a = i32::from(a) - args.int("a_zero") as i32;
                let b = i32::from(b) - args.int("b_zero") as i32;
                requantize(a * b, args.f32("scale"), args.f32("zero"), lo, hi)
            }
        };
        mem.set_u8(out, through_lut(q, args, mem));
    });
}

pub(super) fn binary_f32<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    for r in 0..args.int("rows") {
        let (a, b) = (args.ptr("a").plus(r * args.int("a_row")), args.ptr("b").plus(r * args.int("b_row")));
        let out = args.ptr("out").plus(r * args.int("out_row"));
        for i in 0..args.int("n") {
            let a = load_real(a, i, args, ["a_scale", "a_zero"], mem);
            let b = load_real(b, if args.int("b_scalar") != 0 { 0 } else { i }, args, ["b_scale", "b_zero"], mem);
            let v = match variant {
                Variant::AddF32 => a + b,
                Variant::SubF32 => a - b,
                Variant::MulF32 => a * b,
                Variant::DivF32 => a / b,
                Variant::MaxF32 => maximum(a, b),
                Variant::PowF32 => power(a, b),
                Variant::RemF32 => remainder(a, b),
                _ => minimum(a, b),
            };
            store_real(clamp_f32(v, args.f32("clamp_lo"), args.f32("clamp_hi")), out, i, args, mem);
        }
    }
}

pub(super) fn unary<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let parameters = ["p0", "p1", "p2"].map(|name| args.f32(name));
    for r in 0..args.int("rows") {
        let (a, out) = (args.ptr("a").plus(r * args.int("a_row")), args.ptr("out").plus(r * args.int("out_row")));
        for i in 0..args.int("n") {
            if variant == Variant::LutU8 {
                let q = mem.u8(a.plus(i));
                mem.set_u8(out.plus(i), through_lut(q, args, mem));
            } else {
                let x = load_real(a, i, args, ["a_scale", "a_zero"], mem);
                let addend = args.ptr("addend").plus(r * args.int("addend_row") + 4 * i);
                let x = if args.ptr("addend").is_null() { x } else { x + mem.f32(addend) };
                store_real(function(variant, x, parameters), out, i, args, mem);
            }
        }
    }
}

pub(super) fn resample<M: Memory>(args: &Args, mem: &mut M) {
    let int = |name| args.int(name);
    for o in 0..int("outer") {
        for r in 0..int("rows") {
            let (a, tap) = (args.ptr("a").plus(o * int("a_outer")), r * int("tap_row"));
            let out = args.ptr("out").plus(o * int("out_outer") + r * int("out_row"));
            for i in 0..int("n") {
                let mut sum = None;
                for t in 0..int("taps") {
                    let w = mem.f32(args.ptr("weights").plus(tap + 4 * t));
                    if w == 0.0 {
                        continue;
                    }
                    let p = i64::from(mem.i32(args.ptr("places").plus(tap + 4 * t)));
                    let p = if (0..int("size")).contains(&p) { p } else { int("size") - 1 };
                    let v = load_real(a.plus(p * int("a_row")), i, args, ["a_scale", "a_zero"], mem);
                    sum = Some(sum.map_or(w * v, |sum| fma_exact(w, v, sum)));
                }
                store_real(sum.unwrap_or(0.0), out, i, args, mem);
            }
        }
    }
}

/// Visits outer indices, pixels and channels.
fn for_each_channel(args: &Args, mut visit: impl FnMut(i64, i64, i64)) {
    for o in 0..args.int("outer") {
        for p in 0..args.int("pixels") {
            for c in 0..args.int("channels") {
                visit(o, p, c);
            }
        }
    }
}

pub(super) fn quantize<M: Memory>(args: &Args, mem: &mut M) {
    for_each_channel(args, |o, p, c| {
        let a = args.ptr("a").plus(o * args.int("a_outer") + p * args.int("a_px") + c * args.int("a_ch"));
        let out = args.ptr("out").plus(o * args.int("out_outer") + p * args.int("out_px") + c);
        store_quantized(mem.f32(a), out, args, mem);
    });
}

pub(super) fn dequantize<M: Memory>(args: &Args, mem: &mut M) {
    for_each_channel(args, |o, p, c| {
        let a = args.ptr("a").plus(o * args.int("a_outer") + p * args.int("a_px") + c);
        let out = args.ptr("out").plus(o * args.int("out_outer") + p * args.int("out_px") + c * args.int("out_ch"));
        let v = (f32::from(mem.u8(a)) - args.f32("zero")) * args.f32("scale");
        mem.set_f32(out, v);
    });
}

/// The range of `n` floats and 0.
fn range_of<M: Memory>(a: Ptr, n: i64, mem: &M) -> (f32, f32) {
    (0..n).map(|i| mem.f32(a.plus(4 * i))).fold((0.0f32, 0.0f32), |(lo, hi), v| {
        let lo = if v < lo { v } else { lo };
        (lo, if v > hi { v } else { hi })
    })
}

pub(super) fn range<M: Memory>(args: &Args, mem: &mut M) {
    for r in 0..args.int("rows") {
        let (lo, hi) = range_of(args.ptr("a").plus(r * args.int("a_row")), args.int("n"), mem);
        let out = args.ptr("out").plus(8 * r);
        mem.set_f32(out, lo);
        mem.set_f32(out.plus(4), hi);
    }
}

pub(super) fn dynamic_quantize<M: Memory>(args: &Args, mem: &mut M) {
    let ranges = args.ptr("ranges");
    for r in 0..args.int("rows") {
        let (a, out) = (args.ptr("a").plus(r * args.int("a_row")), args.ptr("out").plus(r * args.int("out_row")));
        // The range of ranges is that of all their numbers.
        let (lo, hi) = match ranges.is_null() {
            true => range_of(a, args.int("n"), mem),
            false => range_of(ranges, 2 * args.int("parts"), mem),
        };
        let factor = (hi - lo) / 255.0;
        let factor = if factor == 0.0 { 1.0 } else { factor };
        let zero = (0.0 - lo) / factor;
        let zero = if zero > 255.0 { 255.0 } else { zero };
        let zero = if zero >= 0.0 { super::numbers::quantize(zero, 1.0, 0.0, 0, 255) } else { 0 };
        let format = args.ptr("format").plus(8 * r);
        mem.set_f32(format, factor);
        mem.set_i32(format.plus(4), i32::from(zero));
        for i in 0..args.int("n") {
            let q = super::numbers::quantize(mem.f32(a.plus(4 * i)), factor, f32::from(zero), 0, 255);
            mem.set_u8(out.plus(i), q);
        }
    }
}
