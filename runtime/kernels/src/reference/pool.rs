//! Pooling with windows clipped to the input.

use super::numbers::{maximum, requantize};
use super::{Args, Memory, Ptr};
use crate::table::Variant;

/// One dimension of a window: `real` is the range of input indices inside the input, `padded` the length counted by mode 2.
struct Span {
    real: core::ops::Range<i64>,
    padded: i64,
}

/// The window of output `out` of `outputs` that cover the input.
fn covering(out: i64, outputs: i64, input: i64) -> Span {
    let real = out * input / outputs..((out + 1) * input + outputs - 1) / outputs;
    Span { padded: real.end - real.start, real }
}

fn span(out: i64, stride: i64, pad_before: i64, pad_after: i64, k: i64, input: i64) -> Span {
    let start = out * stride - pad_before;
    Span { real: start.max(0)..(start + k).min(input), padded: (start + k).min(input + pad_after) - start }
}

pub(super) fn pool<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let int = |name| args.int(name);
    for r in 0..int("rows") {
        let oy = int("oy_begin") + r;
        let ys = match int("cover_h") {
            0 => span(oy, int("stride_y"), int("pad_top"), int("pad_bottom"), int("kh"), int("in_h")),
            outputs => covering(oy, outputs, int("in_h")),
        };
        for ox in 0..int("cols") {
            let xs = match int("cover_w") {
                0 => span(ox, int("stride_x"), int("pad_left"), int("pad_right"), int("kw"), int("in_w")),
                outputs => covering(ox, outputs, int("in_w")),
            };
            let out = args.ptr("out").plus(r * int("out_row") + ox * int("out_px"));
            for c in 0..int("channels") {
                one(variant, args, mem, out, &ys, &xs, c);
            }
        }
    }
}

fn one<M: Memory>(variant: Variant, args: &Args, mem: &mut M, out: Ptr, ys: &Span, xs: &Span, c: i64) {
    let int = |name| args.int(name);
    let real = |bytes: i64| {
        let at = move |y, x| args.ptr("a").plus(y * int("a_row") + x * int("a_px") + c * bytes);
        ys.real.clone().flat_map(move |y| xs.real.clone().map(move |x| at(y, x)))
    };
    let count = match int("count_mode") {
        0 => real(1).count() as i64,
        1 => int("kh") * int("kw"),
        _ => ys.padded * xs.padded,
    };
    let (lo, hi) = (int("lo") as i32, int("hi") as i32);
    match variant {
        Variant::MaxU8 => {
            let max = real(1).map(|p| mem.u8(p)).max().unwrap_or(0);
            mem.set_u8(out.plus(c), i32::from(max).max(lo).min(hi) as u8);
        }
        Variant::AvgU8 => {
            let sum = real(1).map(|p| i32::from(mem.u8(p)) - int("a_zero") as i32).sum();
            // An empty window has sum 0, so its divisor is free.
            let scale = args.f32("a_scale") / (args.f32("scale") * count.max(1) as f32);
            mem.set_u8(out.plus(c), requantize(sum, scale, args.f32("zero"), lo, hi));
        }
        Variant::MaxF32 => {
            let max = real(4).fold(f32::NEG_INFINITY, |m, p| maximum(m, mem.f32(p)));
            mem.set_f32(out.plus(4 * c), max + 0.0);
        }
        Variant::AvgF32 => {
            let sum = real(4).fold(0.0, |s, p| s + f64::from(mem.f32(p)));
            mem.set_f32(out.plus(4 * c), (sum / count.max(1) as f64) as f32);
        }
        _ => {}
    }
}
