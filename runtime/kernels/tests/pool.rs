//! Pooling of all tiers against the reference, and the reference's divisors against a count.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::{Family, Variant};
use support::{Bytes, Case, Rng};

#[derive(Clone, Copy, Debug)]
struct Geometry {
    input: (usize, usize),
    k: (usize, usize),
    stride: (usize, usize),
    /// Top, left, bottom, right.
    pad: [usize; 4],
    channels: usize,
    count_mode: usize,
    oy_begin: usize,
}

fn case(rng: &mut Rng, variant: Variant, g: Geometry) -> Case {
    let bytes = if matches!(variant, Variant::MaxF32 | Variant::AvgF32) { 4 } else { 1 };
    let mut case = Case::new(Family::Pool, variant);
    let pixel = g.channels + rng.below(3);
    let rows = (g.input.0 + g.pad[0] + g.pad[2]).saturating_sub(g.k.0) / g.stride.0 + 1 - g.oy_begin;
    let cols = (g.input.1 + g.pad[1] + g.pad[3]).saturating_sub(g.k.1) / g.stride.1 + 1;
    let elements = g.input.0 * g.input.1 * pixel;
    let input = if bytes == 4 { rng.reals(elements, -3.0, 3.0).bytes() } else { rng.bytes(elements) };
    case.buffer("a", input, 0).buffer("out", rng.bytes(rows * cols * pixel * bytes + 7), 0);
    case.int("a_px", pixel * bytes).int("a_row", g.input.1 * pixel * bytes);
    case.int("out_px", pixel * bytes).int("out_row", cols * pixel * bytes);
    case.int("in_h", g.input.0).int("in_w", g.input.1).int("kh", g.k.0).int("kw", g.k.1);
    case.int("stride_y", g.stride.0).int("stride_x", g.stride.1);
    case.int("pad_top", g.pad[0]).int("pad_left", g.pad[1]).int("pad_bottom", g.pad[2]).int("pad_right", g.pad[3]);
    case.int("oy_begin", g.oy_begin).int("rows", rows).int("cols", cols).int("channels", g.channels);
    case.int("count_mode", g.count_mode);
    case.f32("a_scale", rng.pick(&[1.0, 0.37, 1.9])).signed("a_zero", rng.pick(&[0, 10, 200]));
    case.f32("scale", rng.pick(&[1.0, 0.8])).f32("zero", rng.pick(&[0.0, 30.0, 255.0]));
    case.signed("lo", rng.pick(&[0, 20])).signed("hi", rng.pick(&[255, 190]));
    case
}

const VARIANTS: [Variant; 4] = [Variant::MaxU8, Variant::AvgU8, Variant::MaxF32, Variant::AvgF32];

#[test]
fn windows_strides_and_paddings() {
    let mut rng = Rng(1);
    let shapes = [
        ((6, 7), (3, 3), (1, 1), [1, 1, 1, 1]),
        ((9, 9), (3, 3), (2, 2), [1, 1, 1, 1]),
        ((8, 8), (3, 3), (2, 2), [0, 0, 1, 1]),
        ((7, 9), (2, 2), (2, 2), [0, 0, 0, 0]),
        ((7, 7), (7, 7), (1, 1), [0, 0, 0, 0]),
        ((5, 4), (5, 2), (1, 3), [2, 1, 2, 0]),
        ((4, 4), (3, 3), (1, 1), [2, 2, 2, 2]),
        ((1, 1), (3, 3), (1, 1), [1, 1, 1, 1]),
        // The last windows begin after the input's end.
        ((3, 3), (2, 2), (2, 2), [0, 0, 3, 3]),
        ((12, 13), (3, 3), (1, 1), [1, 1, 1, 1]),
        ((12, 30), (3, 3), (2, 2), [1, 1, 1, 1]),
    ];
    for (input, k, stride, pad) in shapes {
        for channels in [1, 15, 16, 17, 64, 65, 130] {
            for count_mode in 0..3 {
                for variant in VARIANTS {
                    case(&mut rng, variant, Geometry { input, k, stride, pad, channels, count_mode, oy_begin: 0 })
                        .check();
                }
            }
        }
    }
}

#[test]
fn part_of_the_rows() {
    let mut rng = Rng(2);
    for oy_begin in 1..5 {
        let g =
            Geometry { input: (9, 6), k: (3, 3), stride: (2, 2), pad: [1; 4], channels: 40, count_mode: 0, oy_begin };
        for variant in VARIANTS {
            case(&mut rng, variant, g).check();
        }
    }
}

#[test]
fn windows_that_cover_the_input() {
    let mut rng = Rng(3);
    for (input, out) in [((7, 5), (3, 2)), ((4, 4), (4, 4)), ((3, 2), (5, 3)), ((13, 9), (1, 7))] {
        for channels in [1, 17, 64] {
            for variant in VARIANTS {
                let mut case = Case::new(Family::Pool, variant);
                let bytes = if matches!(variant, Variant::MaxF32 | Variant::AvgF32) { 4 } else { 1 };
                let n = input.0 * input.1 * channels;
                let a = if bytes == 4 { rng.reals(n, -3.0, 3.0).bytes() } else { rng.bytes(n) };
                case.buffer("a", a, 0).buffer("out", rng.bytes(out.0 * out.1 * channels * bytes), 0);
                case.int("a_px", channels * bytes).int("a_row", input.1 * channels * bytes);
                case.int("out_px", channels * bytes).int("out_row", out.1 * channels * bytes);
                case.int("in_h", input.0).int("in_w", input.1).int("cover_h", out.0).int("cover_w", out.1);
                case.int("rows", out.0).int("cols", out.1).int("channels", channels);
                case.f32("a_scale", 1.0).f32("scale", 0.8).signed("hi", 255).check();
            }
        }
    }
    // Windows of a row of 3 in 2: elements 0 and 1, 1 and 2.
    let mut case = Case::new(Family::Pool, Variant::AvgF32);
    case.buffer("a", vec![1.0f32, 2.0, 6.0].bytes(), 0).buffer("out", vec![0; 8], 0);
    case.int("a_px", 4).int("a_row", 12).int("out_px", 4).int("out_row", 8).int("in_h", 1).int("in_w", 3);
    case.int("cover_h", 1).int("cover_w", 2).int("rows", 1).int("cols", 2).int("channels", 1);
    assert_eq!(case.check().0[1], vec![1.5f32, 4.0].bytes());
}

#[test]
fn divisors_by_mode() {
    // One corner window of ones: 3x3 at (-1, -1) on a 2x2 input, padded by 1 on every side but the bottom.
    for (count_mode, expected) in [(0, 4.0 / 4.0), (1, 4.0 / 9.0), (2, 4.0 / 9.0)] {
        assert_eq!(corner(count_mode, [1, 1, 0, 1]), expected);
    }
    // Without padding at the end, mode 2 clips the window there: 3x3 at (-1, -1) on 1x1 has 2x2 elements inside.
    assert_eq!(corner_of(1, 2, [1, 1, 0, 0]), 1.0 / 4.0);
}

fn corner(count_mode: usize, pad: [usize; 4]) -> f32 {
    corner_of(2, count_mode, pad)
}

fn corner_of(size: usize, count_mode: usize, pad: [usize; 4]) -> f32 {
    let mut case = Case::new(Family::Pool, Variant::AvgF32);
    case.buffer("a", vec![1.0f32; size * size].bytes(), 0).buffer("out", vec![0; 4], 0);
    case.int("a_px", 4).int("a_row", 4 * size).int("out_px", 4).int("out_row", 4);
    case.int("in_h", size).int("in_w", size).int("kh", 3).int("kw", 3).int("stride_y", 1).int("stride_x", 1);
    case.int("pad_top", pad[0]).int("pad_left", pad[1]).int("pad_bottom", pad[2]).int("pad_right", pad[3]);
    case.int("rows", 1).int("cols", 1).int("channels", 1).int("count_mode", count_mode);
    let out = case.check();
    f32::from_le_bytes(out.0[1][..4].try_into().unwrap())
}
