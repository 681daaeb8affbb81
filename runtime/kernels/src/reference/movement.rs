//! Copies and fills.

use super::{Args, Memory};
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

pub(super) fn fill<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let value = args.int("value") as i32;
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
