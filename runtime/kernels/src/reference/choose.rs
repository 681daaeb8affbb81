//! Places of the largest elements, and rows that are stored where indices say.

extern crate alloc;

use super::numbers::{maximum, minimum};
use super::{Args, Memory};
use crate::table::Variant;
use crate::wide::order;
use alloc::vec::Vec;

pub(super) fn top_k<M: Memory>(args: &Args, mem: &mut M) {
    let k = args.int("k");
    for r in 0..args.int("rows") {
        let row = args.ptr("a").plus(r * args.int("a_row"));
        let one = |i: i64| order(mem.f32(row.plus(4 * i)), i as usize, args.int("least") != 0);
        let mut all: Vec<u64> = (0..args.int("n")).map(one).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        for (i, &value) in (0..k).zip(&all) {
            mem.set_i32(args.ptr("out").plus(r * args.int("out_row") + 4 * i), !(value as u32) as i32);
            let heap = args.ptr("heap").plus(r * args.int("heap_row") + 8 * i);
            mem.set_i32(heap, value as i32);
            mem.set_i32(heap.plus(4), (value >> 32) as i32);
        }
    }
}

pub(super) fn scatter<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    for r in 0..args.int("rows") {
        let i = i64::from(mem.i32(args.ptr("indices").plus(4 * r)));
        let row = if (0..args.int("size")).contains(&i) { i } else { args.int("size") - 1 };
        let (src, out) =
            (args.ptr("src").plus(r * args.int("src_row")), args.ptr("out").plus(row * args.int("out_row")));
        for i in 0..args.int("n") {
            if variant == Variant::B1 {
                let value = mem.u8(src.plus(i));
                mem.set_u8(out.plus(i), value);
                continue;
            }
            let (a, b) = (mem.f32(out.plus(4 * i)), mem.f32(src.plus(4 * i)));
            let value = match variant {
                Variant::AddF32 => a + b,
                Variant::MulF32 => a * b,
                Variant::MaxF32 => maximum(a, b),
                _ => minimum(a, b),
            };
            mem.set_f32(out.plus(4 * i), value);
        }
    }
}
