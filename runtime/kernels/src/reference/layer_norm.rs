//! Layer normalization.

extern crate alloc;

use super::function::sqrt;
use super::numbers::{clamp_f32, load_real, store_real};
use super::softmax::sum_in_runs;
use super::{Args, Memory};
use crate::numbers::fma_exact;
use crate::table::Variant;
use alloc::vec::Vec;

pub(super) fn layer_norm<M: Memory>(variant: Variant, args: &Args, mem: &mut M) {
    let n = args.int("n");
    let place = |name: &str, row: &str, r: i64| args.ptr(name).plus(r * args.int(row));
    for r in 0..args.int("rows") {
        let (a, res) = (place("a", "a_row", r), place("res", "res_row", r));
        let value = |i: i64| {
            let x = load_real(a, i, args, ["a_scale", "a_zero"], mem);
            if res.is_null() { x } else { x + load_real(res, i, args, ["res_scale", "res_zero"], mem) }
        };
        let values: Vec<f32> = (0..n).map(value).collect();
        if !args.ptr("sum").is_null() && !res.is_null() {
            for (i, v) in values.iter().enumerate() {
                mem.set_f32(place("sum", "sum_row", r).plus(4 * i as i64), *v);
            }
        }
        let normal = if variant == Variant::Rms { by_mean_square(args, &values) } else { centred(args, &values) };
        for (i, t) in (0..n).zip(normal) {
            let parameter = |name: &str, none: f32| match args.ptr(name) {
                p if p.is_null() => none,
                p => mem.f32(p.plus(4 * i)),
            };
            let y = fma_exact(t, parameter("gamma", 1.0), parameter("beta", 0.0));
            let y = clamp_f32(y, args.f32("clamp_lo"), args.f32("clamp_hi"));
            store_real(y, place("out", "out_row", r), i, args, mem);
        }
    }
}

/// One divided by the root of the variance and epsilon.
fn inverse_root(args: &Args, variance: f64) -> f32 {
    1.0 / sqrt((variance + f64::from(args.f32("epsilon"))) as f32)
}

fn by_mean_square(args: &Args, v: &[f32]) -> Vec<f32> {
    let squares = sum_in_runs(v.len(), |sum, i| fma_exact(v[i], v[i], sum));
    let r = inverse_root(args, squares / v.len() as f64);
    v.iter().map(|x| x * r).collect()
}

fn centred(args: &Args, v: &[f32]) -> Vec<f32> {
    let n = v.len() as f64;
    let mean = (sum_in_runs(v.len(), |sum, i| sum + v[i]) / n) as f32;
    let d: Vec<f32> = v.iter().map(|x| x - mean).collect();
    let rest = sum_in_runs(d.len(), |sum, i| sum + d[i]) / n;
    let variance = sum_in_runs(d.len(), |sum, i| fma_exact(d[i], d[i], sum)) / n - rest * rest;
    let r = inverse_root(args, if variance < 0.0 { 0.0 } else { variance });
    d.iter().map(|d| fma_exact(*d, r, -(rest as f32) * r)).collect()
}
