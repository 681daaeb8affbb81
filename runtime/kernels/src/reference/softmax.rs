//! Softmax, and sums in runs.

extern crate alloc;

use super::norm::{exp, tree};
use super::numbers::{maximum, store_real};
use super::{Args, Memory};
use crate::numbers::{RUN, RUNS};
use alloc::vec::Vec;

pub(super) fn softmax<M: Memory>(args: &Args, mem: &mut M) {
    let n = args.int("n");
    let at =
        |name: &str, row: &str, elem: &str, r: i64, i: i64| args.ptr(name).plus(r * args.int(row) + i * args.int(elem));
    for r in 0..args.int("rows") {
        let t = |i: i64| {
            let x = mem.f32(at("a", "a_row", "a_elem", r, i));
            let x = if args.f32("factor") == 0.0 { x } else { x * args.f32("factor") };
            if args.ptr("mask").is_null() { x } else { x + mem.f32(at("mask", "mask_row", "mask_elem", r, i)) }
        };
        let max = (0..n).fold(f32::NEG_INFINITY, |m, i| maximum(t(i), m));
        let e: Vec<f32> = (0..n).map(|i| exp(t(i) - max)).collect();
        let share = 1.0 / sum_in_runs(e.len(), |sum, i| sum + e[i]) as f32;
        for (i, v) in e.iter().enumerate() {
            store_real(v * share, at("out", "out_row", "out_elem", r, i as i64), 0, args, mem);
        }
    }
}

/// A sum in runs of `n` elements, which `add` adds to partial sums.
pub(super) fn sum_in_runs(n: usize, add: impl Fn(f32, usize) -> f32) -> f64 {
    let mut wide = [0.0f64; 16];
    for begin in (0..n).step_by(RUN * RUNS) {
        let mut runs = [0.0f32; RUNS];
        for i in begin..(begin + RUN * RUNS).min(n) {
            runs[(i - begin) % RUNS] = add(runs[(i - begin) % RUNS], i);
        }
        for (j, run) in runs.into_iter().enumerate() {
            wide[j % 16] += f64::from(run);
        }
    }
    tree(wide)
}
