//! Copies and fills.

use super::{Args, Memory};
use crate::pack::{place_f32, place_u8, round16};
use crate::table::Variant;

pub(super) fn copy<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let int = |name| args.int(name);
    for i3 in 0..int("n3") {
        for i2 in 0..int("n2") {
            for i1 in 0..int("n1") {
                for i0 in 0..int("n0") {
                    let at = |s0, s1, s2, s3| i0 * int(s0) + i1 * int(s1) + i2 * int(s2) + i3 * int(s3);
                    let src = args.ptr("src").plus(at("src_s0", "src_s1", "src_s2", "src_s3"));
                    let dst = args.ptr("dst").plus(at("dst_s0", "dst_s1", "dst_s2", "dst_s3"));
                    if variant == Variant::B1 {
                        let value = mem.u8(src);
                        mem.set_u8(dst, value);
                    } else {
                        let value = mem.i32(src);
                        mem.set_i32(dst, value);
                    }
                }
            }
        }
    }
}

pub(super) fn gather<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let int = |name| args.int(name);
    for o in 0..int("outer") {
        for r in 0..int("rows") {
            let i = i64::from(mem.i32(args.ptr("indices").plus(4 * r)));
            let row = if (0..int("size")).contains(&i) { i } else { int("size") - 1 };
            let table = args.ptr("table").plus(o * int("table_outer") + row * int("table_row"));
            let place = o * int("out_outer") + r * int("out_row");
            let (out, res) = (args.ptr("out").plus(place), args.ptr("res"));
            for b in 0..int("n") {
                let value = match variant {
                    Variant::F32 => mem.f32(table.plus(4 * b)),
                    Variant::F32Bytes => f32::from(mem.i8(table.plus(b))) * mem.f32(args.ptr("scale").plus(4 * row)),
                    _ => {
                        let value = mem.u8(table.plus(b));
                        mem.set_u8(out.plus(b), value);
                        continue;
                    }
                };
                let sum = if res.is_null() { value } else { mem.f32(res.plus(place + 4 * b)) + value };
                mem.set_f32(out.plus(4 * b), sum);
            }
        }
    }
}

pub(super) fn pack<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let (k_count, cols) = (args.int("k") as usize, args.int("cols") as usize);
    let at = |k: usize, n: usize| args.ptr("src").plus(k as i64 * args.int("src_k") + n as i64 * args.int("src_n"));
    let to = |place: usize| args.ptr("dst").plus(place as i64);
    // What is missing is zero, as it is beside constants.
    for n in 0..round16(cols) {
        if variant == Variant::B1 {
            for k in 0..k_count.div_ceil(4) * 4 {
                let inside = k < k_count && n < cols;
                let value = if inside { mem.u8(at(k, n)) ^ args.int("flip") as u8 } else { 0 };
                mem.set_u8(to(place_u8(cols, k, n)), value);
            }
        } else {
            for k in 0..k_count {
                let value = if n < cols { mem.i32(at(k, n)) } else { 0 };
                mem.set_i32(to(place_f32(cols, k, n)), value);
            }
        }
    }
}

pub(super) fn fill<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let from = args.ptr("from");
    let value = if from.is_null() { args.int("value") as i32 } else { i32::from(mem.u8(from)) };
    for o in 0..args.int("outer") {
        for r in 0..args.int("rows") {
            let run = args.ptr("dst").plus(o * args.int("outer_stride") + r * args.int("row_stride"));
            for i in 0..args.int("n") {
                if variant == Variant::B1 {
                    mem.set_u8(run.plus(i), value as u8);
                } else {
                    mem.set_i32(run.plus(4 * i), value);
                }
            }
        }
    }
}
