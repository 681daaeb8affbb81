//! Copies and fills of all tiers against the reference.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::pack::{GemmShape, Taps, pack_gemm, pack_gemm_f32, round16};
use qc_kernels::{Family, Variant};
use support::{Bytes, Case, Rng};

/// A copy of a dense source in one order of levels to a destination in another, with gaps.
fn check_copy(rng: &mut Rng, variant: Variant, counts: [usize; 4], src_order: [usize; 4], dst_order: [usize; 4]) {
    let bytes = if variant == Variant::B4 { 4 } else { 1 };
    let mut strides = |order: [usize; 4]| {
        let (mut strides, mut stride) = ([0; 4], bytes);
        for level in order {
            strides[level] = stride;
            stride = stride * counts[level] + rng.below(3) / 2 * bytes;
        }
        (strides, stride)
    };
    let (src, src_bytes) = strides(src_order);
    let (dst, dst_bytes) = strides(dst_order);
    let mut case = Case::new(Family::Move, variant);
    case.buffer("src", rng.bytes(src_bytes), 0).buffer("dst", rng.bytes(dst_bytes), 0);
    for level in 0..4 {
        case.int(["n0", "n1", "n2", "n3"][level], counts[level]);
        case.int(["src_s0", "src_s1", "src_s2", "src_s3"][level], src[level]);
        case.int(["dst_s0", "dst_s1", "dst_s2", "dst_s3"][level], dst[level]);
    }
    case.check();
}

const ORDERS: [[usize; 4]; 8] =
    [[0, 1, 2, 3], [1, 0, 2, 3], [1, 2, 0, 3], [2, 0, 1, 3], [3, 2, 1, 0], [2, 1, 0, 3], [0, 2, 1, 3], [3, 0, 1, 2]];

#[test]
fn copies_between_orders() {
    let mut rng = Rng(1);
    let counts =
        [[5, 3, 2, 2], [64, 3, 1, 2], [16, 16, 2, 1], [33, 20, 1, 1], [1, 1, 1, 1], [1, 70, 1, 3], [2, 60, 9, 1]];
    for variant in [Variant::B1, Variant::B4] {
        for counts in counts {
            for src_order in ORDERS {
                for dst_order in ORDERS {
                    check_copy(&mut rng, variant, counts, src_order, dst_order);
                }
            }
        }
    }
}

#[test]
fn runs_of_every_length() {
    let mut rng = Rng(2);
    for n in 1..80 {
        check_copy(&mut rng, Variant::B1, [n, 3, 1, 1], ORDERS[0], ORDERS[0]);
    }
}

#[test]
fn repeated_source() {
    let mut rng = Rng(3);
    let mut case = Case::new(Family::Move, Variant::B4);
    case.buffer("src", rng.bytes(4 * 6), 0).buffer("dst", rng.bytes(4 * 6 * 7), 0);
    case.int("n0", 6)
        .int("n1", 7)
        .int("n2", 1)
        .int("n3", 1)
        .int("src_s0", 4)
        .int("dst_s0", 4)
        .int("dst_s1", 24)
        .check();
    let mut case = Case::new(Family::Move, Variant::B1);
    case.buffer("src", rng.bytes(7), 0).buffer("dst", rng.bytes(6 * 7), 0);
    case.int("n0", 6).int("n1", 7).int("n2", 1).int("n3", 1).int("dst_s0", 1).int("src_s1", 1).int("dst_s1", 6).check();
}

#[test]
fn reversed_source() {
    let mut rng = Rng(4);
    let mut case = Case::new(Family::Move, Variant::B1);
    case.buffer("src", rng.bytes(50), 49).buffer("dst", rng.bytes(50), 0);
    case.int("n0", 50).int("n1", 1).int("n2", 1).int("n3", 1).signed("src_s0", -1).int("dst_s0", 1).check();
}

/// A matrix of `k × cols` elements, `src_k` and `src_n` elements apart, becomes a panel.
fn check_pack(rng: &mut Rng, variant: Variant, [k, cols]: [usize; 2], [src_k, src_n]: [usize; 2]) -> Vec<u8> {
    let bytes = if variant == Variant::B4 { 4 } else { 1 };
    let mut case = Case::new(Family::Pack, variant);
    case.buffer("src", rng.bytes(((k - 1) * src_k + (cols - 1) * src_n + 1) * bytes), 0);
    let elements = if variant == Variant::B4 { k } else { k.div_ceil(4) * 4 };
    case.buffer("dst", rng.bytes(elements * round16(cols) * bytes), 0);
    case.int("k", k).int("cols", cols).int("src_k", src_k * bytes).int("src_n", src_n * bytes);
    case.int("flip", rng.pick(&[0, 128]));
    case.check().0.swap_remove(1)
}

#[test]
fn panels() {
    let mut rng = Rng(6);
    for variant in [Variant::B1, Variant::B4] {
        for cols in [1, 7, 16, 17, 33, 48, 63, 64] {
            for k in [1, 2, 3, 4, 5, 8, 15, 16, 17, 40, 66] {
                for order in [[cols, 1], [cols + 3, 1], [1, k], [1, k + 5], [2 * cols, 2], [0, 1]] {
                    check_pack(&mut rng, variant, [k, cols], order);
                }
            }
        }
    }
}

#[test]
fn panels_are_those_of_the_compiler() {
    for (k, cols) in [(5, 3), (16, 64), (7, 40)] {
        let shape = GemmShape { cols, channels: k, kh: 1, kw: 1, taps: Taps::Joined { pitch: k } };
        let mut case = Case::new(Family::Pack, Variant::B1);
        let bytes = Rng(k as u64).bytes(k * cols);
        case.buffer("src", bytes.clone(), 0).buffer("dst", vec![1; shape.bytes()], 0);
        case.int("k", k).int("cols", cols).int("src_k", 1).int("src_n", k).int("flip", 128);
        let packed = case.check().0.swap_remove(1);
        let signed: Vec<i8> = bytes.iter().map(|&b| (i32::from(b) - 128) as i8).collect();
        assert_eq!(packed, pack_gemm(&shape, &signed).unwrap());

        let floats = Rng(k as u64).floats(k * cols, -1.0, 1.0);
        let mut case = Case::new(Family::Pack, Variant::B4);
        case.buffer("src", floats.bytes(), 0).buffer("dst", vec![1; shape.bytes_f32()], 0);
        case.int("k", k).int("cols", cols).int("src_k", 4).int("src_n", 4 * k);
        assert_eq!(case.check().0.swap_remove(1), pack_gemm_f32(&shape, &floats).unwrap());
    }
}

#[test]
fn fills() {
    let mut rng = Rng(5);
    for variant in [Variant::B1, Variant::B4] {
        let bytes = if variant == Variant::B4 { 4 } else { 1 };
        for n in [1, 3, 16, 17, 64, 100] {
            let mut case = Case::new(Family::Fill, variant);
            case.buffer("dst", rng.bytes(2 * (3 * (n + 5) + 1) * bytes), bytes);
            case.int("n", n).int("rows", 3).int("row_stride", (n + 5) * bytes);
            case.int("outer", 2).int("outer_stride", 3 * (n + 5) * bytes).signed("value", 0x8123_4567u32 as i32 as i64);
            case.check();
        }
    }
}

#[test]
fn rows_by_index() {
    let mut rng = Rng(5);
    for (n, size) in [(1, 1), (1, 300), (3, 7), (64, 9), (200, 5), (3072, 3)] {
        let (rows, outer) = (1 + rng.below(40), 1 + rng.below(3));
        let (table_row, out_row) = (n + rng.below(3), n + rng.below(3));
        let mut case = Case::new(Family::Gather, Variant::B1);
        // Indices outside the table stand for its last row.
        let index = |rng: &mut Rng| match rng.below(8) {
            0 => -1 - rng.below(1 << 20) as i32,
            1 => (size + rng.below(1 << 20)) as i32,
            _ => rng.below(size) as i32,
        };
        let indices: Vec<u8> = (0..rows).flat_map(|_| index(&mut rng).to_le_bytes()).collect();
        case.buffer("table", rng.bytes(outer * size * table_row), 0).buffer("indices", indices, 0).buffer(
            "out",
            rng.bytes(outer * rows * out_row),
            0,
        );
        case.int("n", n).int("rows", rows).int("outer", outer).int("size", size);
        case.int("table_row", table_row).int("table_outer", size * table_row);
        case.int("out_row", out_row).int("out_outer", rows * out_row).check();
    }
}

#[test]
fn rows_by_index_as_real_numbers() {
    let mut rng = Rng(6);
    let sizes = [(1, 1), (1, 300), (3, 7), (16, 2), (17, 9), (200, 5), (768, 3)];
    let variants = [(Variant::F32, 4), (Variant::F32Bytes, 1)];
    for ((n, size), (variant, bytes), added) in
        sizes.into_iter().flat_map(|s| variants.map(|v| (s, v))).flat_map(|(s, v)| [false, true].map(|a| (s, v, a)))
    {
        let (rows, outer) = (1 + rng.below(40), 1 + rng.below(3));
        let (table_row, out_row) = (bytes * (n + rng.below(3)), 4 * (n + rng.below(3)));
        let mut case = Case::new(Family::Gather, variant);
        let index = |rng: &mut Rng| match rng.below(8) {
            0 => -1 - rng.below(1 << 20) as i32,
            1 => (size + rng.below(1 << 20)) as i32,
            _ => rng.below(size) as i32,
        };
        let indices: Vec<u8> = (0..rows).flat_map(|_| index(&mut rng).to_le_bytes()).collect();
        let floats = rng.floats(outer * size * table_row / 4, -2.0, 2.0).bytes();
        let table = if variant == Variant::F32 { floats } else { rng.bytes(outer * size * table_row) };
        case.buffer("table", table, 0).buffer("indices", indices, 0);
        case.buffer("out", rng.bytes(outer * rows * out_row), 0);
        if variant == Variant::F32Bytes {
            case.buffer("scale", rng.floats(size, -2.0, 2.0).bytes(), 0);
        }
        if added {
            case.buffer("res", rng.floats(outer * rows * out_row / 4, -9.0, 9.0).bytes(), 0);
        }
        case.int("n", n).int("rows", rows).int("outer", outer).int("size", size);
        case.int("table_row", table_row).int("table_outer", size * table_row);
        case.int("out_row", out_row).int("out_outer", rows * out_row).check();
    }
}
