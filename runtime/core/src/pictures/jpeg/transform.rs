//! The inverse cosine transform of 8 x 8 coefficients in integers, with the roundings of libjpeg's accurate one: columns
//! first, with 2 fraction bits kept, then rows.
//!
//! The factorization is that of Loeffler, Ligtenberg and Moschytz (ICASSP 1989), with constants of 13 fraction bits.

/// Fraction bits of a constant.
const BITS: u32 = 13;
/// Fraction bits that are kept between columns and rows.
const KEPT: u32 = 2;

/// A constant.
const fn fixed(x: f64) -> i32 {
    (x * (1 << BITS) as f64 + 0.5) as i32
}

/// Eight values transformed, with `BITS` fraction bits more; sums wrap, as those of a damaged file may.
fn transformed(x: [i32; 8]) -> [i32; 8] {
    let add = i32::wrapping_add;
    let sub = i32::wrapping_sub;
    let times = |x: i32, c: f64| x.wrapping_mul(if c < 0.0 { -fixed(-c) } else { fixed(c) });
    // Even part.
    let turn = times(add(x[2], x[6]), 0.541_196_100);
    let (e2, e3) = (add(turn, times(x[6], -1.847_759_065)), add(turn, times(x[2], 0.765_366_865)));
    let (e0, e1) = (add(x[0], x[4]).wrapping_shl(BITS), sub(x[0], x[4]).wrapping_shl(BITS));
    let even = [add(e0, e3), add(e1, e2), sub(e1, e2), sub(e0, e3)];
    // Odd part.
    let all = times(add(add(x[7], x[3]), add(x[5], x[1])), 1.175_875_602);
    let z1 = times(add(x[7], x[1]), -0.899_976_223);
    let z2 = times(add(x[5], x[3]), -2.562_915_447);
    let z3 = add(times(add(x[7], x[3]), -1.961_570_560), all);
    let z4 = add(times(add(x[5], x[1]), -0.390_180_644), all);
    let odd = [
        add(times(x[1], 1.501_321_110), add(z1, z4)),
        add(times(x[3], 3.072_711_026), add(z2, z3)),
        add(times(x[5], 2.053_119_869), add(z2, z4)),
        add(times(x[7], 0.298_631_336), add(z1, z3)),
    ];
    std::array::from_fn(|i| match i {
        0..4 => add(even[i], odd[i]),
        _ => sub(even[7 - i], odd[7 - i]),
    })
}

/// Half of what is shifted away is added first.
fn rounded(x: i32, bits: u32) -> i32 {
    x.wrapping_add(1 << (bits - 1)) >> bits
}

/// The samples of a block, in rows, of its coefficients in rows and their steps.
pub(super) fn inverse(coefficients: &[i16; 64], steps: &[u16; 64]) -> [u8; 64] {
    let at = |i: usize| i32::from(coefficients[i]).wrapping_mul(i32::from(steps[i]));
    let byte = |x: i32| x.wrapping_add(128).clamp(0, 255) as u8;
    if coefficients[1..].iter().all(|c| *c == 0) {
        return [byte(rounded(at(0).wrapping_shl(KEPT), KEPT + 3)); 64];
    }
    let mut between = [0i32; 64];
    for column in 0..8 {
        let values = transformed(std::array::from_fn(|row| at(row * 8 + column)));
        for (row, value) in values.into_iter().enumerate() {
            between[row * 8 + column] = rounded(value, BITS - KEPT);
        }
    }
    let mut samples = [0; 64];
    for (from, to) in between.chunks_exact(8).zip(samples.chunks_exact_mut(8)) {
        let values = transformed(std::array::from_fn(|i| from[i]));
        for (to, value) in to.iter_mut().zip(values) {
            *to = byte(rounded(value, BITS + KEPT + 3));
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn blocks_are_those_of_the_cosines() {
        let mut state = 1u32;
        let mut random = |n: i32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as i32 % n
        };
        for _ in 0..50 {
            let coefficients: [i16; 64] = std::array::from_fn(|i| (random(41) - 20) as i16 / (1 + i as i16 / 8));
            let samples = inverse(&coefficients, &[4; 64]);
            for (i, sample) in samples.iter().enumerate() {
                let (y, x) = (i / 8, i % 8);
                let wave = |u: usize, x: usize| {
                    let norm = if u == 0 { 0.125f64.sqrt() } else { 0.5 };
                    norm * ((2 * x + 1) as f64 * u as f64 * PI / 16.0).cos()
                };
                let sum: f64 =
                    (0..64).map(|k| f64::from(coefficients[k]) * 4.0 * wave(k / 8, y) * wave(k % 8, x)).sum();
                let exact = (sum + 128.0).clamp(0.0, 255.0);
                assert!((exact - f64::from(*sample)).abs() < 0.6, "{exact} is {sample}");
            }
        }
    }
}
