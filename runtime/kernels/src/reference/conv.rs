//! Convolutions and matrix products.

use super::function::function;
use super::numbers::{Residual, clamp_f32, requantize, requantize_residual, store_quantized, through_lut};
use super::{Args, Memory, Ptr};
use crate::numbers::fma_exact;
use crate::table::Variant;

/// Visits every output `(o, r, n)` of a matrix product.
fn for_each_output(args: &Args, mut visit: impl FnMut(i64, i64, i64)) {
    for o in 0..args.int("outer") {
        for r in 0..args.int("rows") {
            for n in 0..args.int("cols") {
                visit(o, r, n);
            }
        }
    }
}

/// The place of output `(o, r, n)` in the tensor whose fields begin with `out` or `res`.
fn element(args: &Args, base: &str, row: &str, outer: &str, o: i64, r: i64, bytes: i64) -> Ptr {
    args.ptr(base).plus(o * args.int(outer) + r * args.int(row) + bytes)
}

pub(super) fn gemm<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    for_each_output(args, |o, r, n| {
        let acc = accumulate(args, mem, o, r, n);
        let out = |bytes| element(args, "out", "out_row", "out_outer", o, r, n * bytes);
        if variant == Variant::I32 {
            return mem.set_i32(out(4), acc);
        }
        let scale = mem.f32(args.ptr("scale").plus(4 * n));
        let (lo, hi) = (args.int("lo") as i32, args.int("hi") as i32);
        match variant {
            Variant::U8 => {
                let q = requantize(acc, scale, args.f32("zero"), lo, hi);
                mem.set_u8(out(1), through_lut(q, args, mem));
            }
            Variant::U8Res => {
                let residual = Residual {
                    value: mem.u8(element(args, "res", "res_row", "res_outer", o, r, n)),
                    scale: args.f32("res_scale"),
                    offset: args.f32("res_offset"),
                    clamp: (args.f32("clamp_lo"), args.f32("clamp_hi")),
                };
                let q = requantize_residual(acc, scale, residual, lo, hi);
                mem.set_u8(out(1), through_lut(q, args, mem));
            }
            Variant::F32 => {
                let real = acc as f32 * scale + mem.f32(args.ptr("addend").plus(4 * n));
                let v = clamp_f32(real, args.f32("clamp_lo"), args.f32("clamp_hi"));
                mem.set_f32(out(4), v);
            }
            Variant::F32Rows => {
                let row = args.ptr("res").plus(o * args.int("res_outer") + r * args.int("res_row"));
                let (factor, zero) = (mem.f32(row), mem.i32(row.plus(4)));
                let centred = acc.wrapping_sub(mem.i32(args.ptr("col_sum").plus(4 * n)).wrapping_mul(zero));
                let real = centred as f32 * (factor * scale) + mem.f32(args.ptr("addend").plus(4 * n));
                mem.set_f32(out(4), clamp_f32(real, args.f32("clamp_lo"), args.f32("clamp_hi")));
            }
            _ => {}
        }
    });
}

/// The exact accumulator of output `(o, r, n)`; it wraps as the kernels' does.
fn accumulate<M: Memory>(args: &Args, mem: &M, o: i64, r: i64, n: i64) -> i32 {
    let (a, w) = (args.ptr("a").plus(o * args.int("a_outer") + r * args.int("a_row")), args.ptr("w"));
    let (seg_x, k4, cols16) = (args.int("seg_x"), args.int("k4"), (args.int("cols") + 15) / 16 * 16);
    let mut acc = mem.i32(args.ptr("bias").plus(4 * n));
    if !args.ptr("row_bias").is_null() {
        acc = acc.wrapping_add(mem.i32(args.ptr("row_bias").plus(o * args.int("row_bias_outer") + 4 * r)));
    }
    for y in 0..args.int("seg_y") {
        for x in 0..seg_x {
            let segment = a.plus(y * args.int("seg_y_stride") + x * args.int("seg_x_stride"));
            for k in 0..4 * k4 {
                let group = ((y * seg_x + x) * k4 + k / 4) * cols16 + n;
                let weight = mem.i8(w.plus(group * 4 + k % 4));
                // The input may end before the last group does; the weight is zero there.
                if weight != 0 {
                    acc = acc.wrapping_add(i32::from(mem.u8(segment.plus(k))) * i32::from(weight));
                }
            }
        }
    }
    acc
}

pub(super) fn gemm_f32<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let (seg_x, k_count, cols16) = (args.int("seg_x"), args.int("k"), (args.int("cols") + 15) / 16 * 16);
    for_each_output(args, |o, r, n| {
        let a = args.ptr("a").plus(o * args.int("a_outer") + r * args.int("a_row"));
        let mut acc = 0.0;
        for y in 0..args.int("seg_y") {
            for x in 0..seg_x {
                let segment = a.plus(y * args.int("seg_y_stride") + x * args.int("seg_x_stride"));
                for k in 0..k_count {
                    let place = ((y * seg_x + x) * k_count + k) * cols16 + n;
                    let weight = match variant {
                        Variant::F32Bytes => f32::from(mem.i8(args.ptr("w").plus(place))),
                        _ => mem.f32(args.ptr("w").plus(4 * place)),
                    };
                    acc = fma_exact(mem.f32(segment.plus(4 * k)), weight, acc);
                }
            }
        }
        if variant == Variant::F32Bytes {
            acc *= mem.f32(args.ptr("w_scale").plus(4 * n));
        }
        acc += mem.f32(args.ptr("bias").plus(4 * n));
        if !args.ptr("res").is_null() {
            acc += mem.f32(element(args, "res", "res_row", "res_outer", o, r, 4 * n));
        }
        let v = gated(clamp_f32(acc, args.f32("clamp_lo"), args.f32("clamp_hi")), args);
        let out = |bytes| element(args, "out", "out_row", "out_outer", o, r, n * bytes);
        match variant {
            Variant::U8 => store_quantized(v, out(1), args, mem),
            _ => mem.set_f32(out(4), v),
        }
    });
}

/// What the gate makes of a result.
fn gated(v: f32, args: &Args) -> f32 {
    let swish = [args.f32("gate_offset"), args.f32("gate_bound"), args.f32("gate_factor")];
    if swish[2] == 0.0 {
        v
    } else {
        function(Variant::HardSwishF32, v, swish) * args.f32("post_factor") + args.f32("post_addend")
    }
}

/// Visits every output of a depthwise convolution with its channel, its output place and its first input place.
fn for_each_pixel(args: &Args, [bytes, out_bytes]: [i64; 2], mut visit: impl FnMut(i64, Ptr, Ptr)) {
    for r in 0..args.int("rows") {
        for p in 0..args.int("cols") {
            for c in 0..args.int("channels") {
                let out = args.ptr("out").plus(r * args.int("out_row") + p * args.int("out_px") + c * out_bytes);
                let a = args.ptr("a").plus(r * args.int("step_y") + p * args.int("step_x") + c * bytes);
                visit(c, out, a);
            }
        }
    }
}

pub(super) fn depthwise<M: Memory>(args: &Args, mem: &mut M) {
    let c64 = (args.int("channels") + 63) / 64 * 64;
    for_each_pixel(args, [1, 1], |c, out, a| {
        let mut acc = mem.i32(args.ptr("bias").plus(4 * c));
        for y in 0..args.int("kh") {
            for x in 0..args.int("kw") {
                let value = mem.u8(a.plus(y * args.int("a_row") + x * args.int("a_col")));
                let weight = mem.i8(args.ptr("w").plus((y * args.int("kw") + x) * c64 + c));
                acc = acc.wrapping_add(i32::from(value) * i32::from(weight));
            }
        }
        let scale = mem.f32(args.ptr("scale").plus(4 * c));
        let q = requantize(acc, scale, args.f32("zero"), args.int("lo") as i32, args.int("hi") as i32);
        mem.set_u8(out, through_lut(q, args, mem));
    });
}

pub(super) fn depthwise_f32<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let c16 = (args.int("channels") + 15) / 16 * 16;
    let quantized = variant == Variant::U8;
    for_each_pixel(args, [4, if quantized { 1 } else { 4 }], |c, out, a| {
        let mut acc = 0.0;
        for y in 0..args.int("kh") {
            for x in 0..args.int("kw") {
                let value = mem.f32(a.plus(y * args.int("a_row") + x * args.int("a_col")));
                acc = fma_exact(value, mem.f32(args.ptr("w").plus(((y * args.int("kw") + x) * c16 + c) * 4)), acc);
            }
        }
        acc += mem.f32(args.ptr("bias").plus(4 * c));
        let v = gated(clamp_f32(acc, args.f32("clamp_lo"), args.f32("clamp_hi")), args);
        if quantized { store_quantized(v, out, args, mem) } else { mem.set_f32(out, v) }
    });
}
