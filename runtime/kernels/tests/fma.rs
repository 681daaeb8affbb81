//! The software fma of the lowest tier against the standard library's.

use qc_kernels::fma_exact;

fn check(a: f32, b: f32, c: f32) {
    let (found, expected) = (fma_exact(a, b, c), a.mul_add(b, c));
    let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
    assert!(same, "{a:e} * {b:e} + {c:e} = {found:e}, not {expected:e}");
}

/// Random bits, and random bits near cancellation, near ties and among subnormal results.
#[test]
fn fma_equals_the_standard_library() {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    for _ in 0..3_000_000 {
        let (a, b, c) = (f32::from_bits(next()), f32::from_bits(next()), f32::from_bits(next()));
        check(a, b, c);
        check(a, b, -(a * b));
        check(a, b, (a * b) * f32::from_bits(0x3380_0000 + (next() >> 30)));
        // Addends far below the product decide ties of it.
        let short = f32::from_bits(a.to_bits() & 0xffff_f000);
        let factor = f32::from_bits(0x3f80_0000 | next() & 0x000f_ff00);
        check(short, factor, short * f32::from_bits(0x2000_0000 | next() & 0x8fff_ffff));
        check(
            f32::from_bits(next() & 0x87ff_ffff | 0x1000_0000),
            f32::from_bits(next() & 0x8fff_ffff | 0x1800_0000),
            f32::from_bits(next() & 0x807f_ffff),
        );
    }
}

#[test]
fn fma_of_special_values() {
    let values = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-45,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    for a in values {
        for b in values {
            for c in values {
                check(a, b, c);
            }
        }
    }
}
