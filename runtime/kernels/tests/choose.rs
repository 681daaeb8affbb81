//! Places of the largest elements, and rows stored where indices say.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::{Family, Variant};
use support::{Bytes, Case, Rng, SPECIAL};

#[test]
fn places_of_the_first_in_order() {
    let mut rng = Rng(21);
    for n in [1, 2, 3, 17, 100, 1000] {
        for k in [1, 2, 5, n / 2, n] {
            let k = k.clamp(1, n);
            for least in [0, 1] {
                let (rows, a_row) = (1 + rng.below(3), 4 * (n + rng.below(3)));
                // Many that are equal, and what is no number.
                let one = |rng: &mut Rng| match rng.below(6) {
                    0 => rng.pick(&SPECIAL),
                    1 | 2 => rng.below(4) as f32 - 1.0,
                    _ => rng.float(-5.0, 5.0),
                };
                let values: Vec<f32> = (0..rows * a_row / 4).map(|_| one(&mut rng)).collect();
                let mut case = Case::new(Family::TopK, Variant::F32);
                case.buffer("a", values.bytes(), 0).buffer("out", rng.bytes(4 * rows * k), 0);
                case.buffer("heap", rng.bytes(8 * rows * k), 0)
                    .int("heap_row", 8 * k)
                    .int("out_row", 4 * k)
                    .int("a_row", a_row)
                    .int("n", n)
                    .int("k", k);
                case.int("rows", rows).int("least", least).check();
            }
        }
    }
}

#[test]
fn rows_where_indices_say() {
    let mut rng = Rng(22);
    for &variant in Family::Scatter.variants() {
        let bytes = if variant == Variant::B1 { 1 } else { 4 };
        for (n, size) in [(1, 1), (3, 7), (16, 2), (17, 9), (200, 5)] {
            let rows = 1 + rng.below(30);
            let (src_row, out_row) = (4 * (n + rng.below(3)), 4 * (n + rng.below(3)));
            let index = |rng: &mut Rng| match rng.below(8) {
                0 => -1 - rng.below(1 << 20) as i32,
                1 => (size + rng.below(1 << 20)) as i32,
                _ => rng.below(size) as i32,
            };
            let indices: Vec<u8> = (0..rows).flat_map(|_| index(&mut rng).to_le_bytes()).collect();
            let floats = |rng: &mut Rng, bytes: usize| rng.floats(bytes / 4, -2.0, 2.0).bytes();
            let (src, out) = (floats(&mut rng, rows * src_row), floats(&mut rng, size * out_row));
            let mut case = Case::new(Family::Scatter, variant);
            case.buffer("src", src, 0).buffer("indices", indices, 0).buffer("out", out, 0);
            case.int("src_row", src_row)
                .int("out_row", out_row)
                .int("n", n * 4 / bytes / if bytes == 1 { 2 } else { 1 });
            case.int("rows", rows).int("size", size).check();
        }
    }
}

#[test]
fn boxes_that_overlap_no_better_one() {
    let mut rng = Rng(23);
    for &variant in Family::Nms.variants() {
        let columns = if variant == Variant::F32 { 4 } else { 3 };
        for round in 0..200 {
            let (images, classes, size) =
                (1 + rng.below(3), 1 + rng.below(4), 1 + rng.below(if round < 150 { 12 } else { 90 }));
            // Corners and scores that are often equal.
            let corner = |rng: &mut Rng| if round % 2 == 0 { rng.below(6) as f32 } else { rng.float(-1.0, 1.0) };
            let boxes: Vec<f32> = (0..images * size * 4).map(|_| corner(&mut rng)).collect();
            let score = |rng: &mut Rng| if rng.below(2) == 0 { rng.below(5) as f32 / 4.0 } else { rng.float(0.0, 1.0) };
            let scores: Vec<f32> = (0..images * classes * size).map(|_| score(&mut rng)).collect();
            let (limit, each) = (1 + rng.below(size), 1 + rng.below(size));
            let each = if variant == Variant::F32 { size } else { each };
            let most = classes * limit.min(each);
            let keep = rng.below(most + 1);
            let rows = images * (1 + keep);
            let mut case = Case::new(Family::Nms, variant);
            case.buffer("boxes", boxes.bytes(), 0).buffer("scores", scores.bytes(), 0);
            case.buffer("out", rng.bytes(4 * columns * rows), 0);
            case.scratch("order", 8 * size).scratch("kept", 16 * most).scratch("heap", 8 * keep.max(1));
            case.int("box_image", 16 * size).int("score_image", 4 * size * classes).int("score_class", 4 * size);
            case.int("out_row", 4 * columns).int("images", images).int("classes", classes).int("size", size);
            case.int("limit", limit).int("each", each).int("most", most).int("keep", keep).int("rows", rows);
            case.int("form", rng.below(4)).signed("background", rng.below(classes + 1) as i64 - 1);
            case.f32("iou", rng.pick(&[0.0, 0.3, 0.5, 0.8, 1.0])).f32("score", rng.pick(&[-1.0, 0.0, 0.25, 0.7]));
            case.f32("eta", rng.pick(&[1.0, 0.8])).f32("post", rng.pick(&[0.0, 0.2, -1.0]));
            case.f32("sigma", rng.pick(&[0.0, 0.5, 2.0]));
            case.check();
        }
    }
}
