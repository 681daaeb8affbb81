//! Weighted sums along an axis, of all tiers against the reference.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::{Family, Variant};
use support::{Bytes, Case, Rng};

#[test]
fn sums_of_floats_and_bytes() {
    let mut rng = Rng(1);
    let sizes = [(1, 1), (1, 300), (3, 7), (16, 2), (17, 9), (64, 5), (200, 5), (768, 3)];
    for (n, size) in sizes {
        for bits in 0..8 {
            let [reads_bytes, stores_bytes, has_gaps] = std::array::from_fn(|i| bits >> i & 1 == 1);
            let (rows, outer, taps) = (1 + rng.below(20), 1 + rng.below(3), 1 + rng.below(6));
            let gap = if has_gaps { 1 + rng.below(3) } else { 0 };
            let [from, to] = [reads_bytes, stores_bytes].map(|b| if b { 1 } else { 4 });
            let (a_row, out_row) = (from * (n + gap), to * (n + gap));
            let mut case = Case::new(Family::Resample, Variant::F32);
            // Places outside the operand stand for its last row.
            let place = |rng: &mut Rng| match rng.below(8) {
                0 => -1 - rng.below(1 << 20) as i32,
                1 => (size + rng.below(1 << 20)) as i32,
                _ => rng.below(size) as i32,
            };
            let places: Vec<u8> = (0..rows * taps).flat_map(|_| place(&mut rng).to_le_bytes()).collect();
            let weights: Vec<f32> =
                (0..rows * taps).map(|_| if rng.below(4) == 0 { 0.0 } else { rng.floats(1, -1.0, 1.5)[0] }).collect();
            let a = match reads_bytes {
                true => rng.bytes(outer * size * a_row),
                false => rng.reals(outer * size * a_row / 4, -9.0, 9.0).bytes(),
            };
            case.buffer("a", a, 0).buffer("out", rng.bytes(outer * rows * out_row), 0);
            case.buffer("places", places, 0).buffer("weights", weights.bytes(), 0);
            case.int("n", n).int("rows", rows).int("outer", outer).int("size", size).int("taps", taps);
            case.int("tap_row", 4 * taps).int("a_row", a_row).int("a_outer", size * a_row);
            case.int("out_row", out_row).int("out_outer", rows * out_row);
            if reads_bytes {
                case.f32("a_scale", rng.pick(&[1.0, 0.03])).f32("a_zero", rng.pick(&[0.0, 128.0, 7.0]));
            }
            if stores_bytes {
                case.f32("scale", rng.pick(&[1.0, 0.25, 3.0])).f32("zero", rng.pick(&[0.0, 128.0, 9.0]));
                case.int("lo", rng.pick(&[0, 9])).int("hi", rng.pick(&[255, 200]));
            }
            case.check();
        }
    }
}
