//! Element-wise operations and conversions.

use super::numbers::{add_u8, clamp_f32, quantize as quantize_one, requantize, through_lut};
use super::{Args, Memory, Ptr};
use crate::table::Variant;

/// Visits every element of two operands with the places of `a`, `b` and the result.
fn for_each_pair(args: &Args, bytes: i64, mut visit: impl FnMut(Ptr, Ptr, Ptr)) {
    for r in 0..args.int("rows") {
        for i in 0..args.int("n") {
            let b = if args.int("b_scalar") != 0 { 0 } else { i * bytes };
            visit(
                args.ptr("a").plus(r * args.int("a_row") + i * bytes),
                args.ptr("b").plus(r * args.int("b_row") + b),
                args.ptr("out").plus(r * args.int("out_row") + i * bytes),
            );
        }
    }
}

pub(super) fn binary_u8<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let (lo, hi) = (args.int("lo") as i32, args.int("hi") as i32);
    for_each_pair(args, 1, |a, b, out| {
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
    for_each_pair(args, 4, |a, b, out| {
        let (a, b) = (mem.f32(a), mem.f32(b));
        let v = match variant {
            Variant::AddF32 => a + b,
            Variant::SubF32 => a - b,
            Variant::MulF32 => a * b,
            Variant::DivF32 => a / b,
            Variant::MaxF32 => {
                if a > b {
                    a
                } else {
                    b
                }
            }
            _ => {
                if a < b {
                    a
                } else {
                    b
                }
            }
        };
        mem.set_f32(out, clamp_f32(v, args.f32("clamp_lo"), args.f32("clamp_hi")));
    });
}

pub(super) fn unary<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    for r in 0..args.int("rows") {
        let (a, out) = (args.ptr("a").plus(r * args.int("a_row")), args.ptr("out").plus(r * args.int("out_row")));
        for i in 0..args.int("n") {
            if variant == Variant::LutU8 {
                let q = mem.u8(a.plus(i));
                mem.set_u8(out.plus(i), through_lut(q, args, mem));
            } else {
                let v = clamp_f32(mem.f32(a.plus(4 * i)), args.f32("clamp_lo"), args.f32("clamp_hi"));
                mem.set_f32(out.plus(4 * i), v);
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
    let (lo, hi) = (args.int("lo") as i32, args.int("hi") as i32);
    for_each_channel(args, |o, p, c| {
        let a = args.ptr("a").plus(o * args.int("a_outer") + p * args.int("a_px") + c * args.int("a_ch"));
        let out = args.ptr("out").plus(o * args.int("out_outer") + p * args.int("out_px") + c);
        let q = quantize_one(mem.f32(a), args.f32("scale"), args.f32("zero"), lo, hi);
        mem.set_u8(out, q);
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
