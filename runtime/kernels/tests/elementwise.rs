//! Element-wise kernels and conversions of all tiers against the reference.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::{Family, Variant};
use support::{Bytes, Case, Rng, SPECIAL};

const LENGTHS: [usize; 10] = [1, 7, 15, 16, 17, 63, 64, 65, 130, 256];

/// How the operands' rows are shared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broadcast {
    None,
    Row,
    Element,
}

/// `n` elements: bytes, or floats with special ones among them.
fn draw(rng: &mut Rng, n: usize, bytes: usize) -> Vec<u8> {
    if bytes == 1 { rng.bytes(n) } else { floats(rng, n) }
}

/// Adds operands and result of `rows` rows of `n` elements of `[a, b, out]` bytes.
fn operands(rng: &mut Rng, case: &mut Case, n: usize, rows: usize, b: Broadcast, bytes: [usize; 3]) {
    let (a_row, out_row) = (n + rng.below(4), n + rng.below(70));
    let (b_rows, b_n) = match b {
        Broadcast::None => (rows, n),
        Broadcast::Row => (1, n),
        Broadcast::Element => (rows, 1),
    };
    let a = draw(rng, (rows - 1) * a_row + n, bytes[0]);
    let second = draw(rng, b_rows * b_n, bytes[1]);
    case.buffer("a", a, 0).buffer("b", second, 0);
    if rng.below(4) == 0 && bytes[0] == bytes[2] {
        case.same("out", "a").int("out_row", a_row * bytes[2]);
    } else {
        let out = draw(rng, rows * out_row, bytes[2]);
        case.buffer("out", out, 0).int("out_row", out_row * bytes[2]);
    }
    case.int("a_row", a_row * bytes[0]).int("rows", rows).int("n", n);
    case.int("b_row", if b == Broadcast::Row { 0 } else { b_n * bytes[1] });
    case.int("b_scalar", usize::from(b == Broadcast::Element));
}

/// Draws which of `[a, b, out]` are quantized, sets their scales and zero points, and gives their bytes per element.
fn forms(rng: &mut Rng, case: &mut Case, with_b: bool) -> [usize; 3] {
    let mut bytes = [4; 3];
    for (i, (scale, zero)) in [("a_scale", "a_zero"), ("b_scale", "b_zero"), ("scale", "zero")].into_iter().enumerate()
    {
        if (i != 1 || with_b) && rng.below(2) == 0 {
            case.f32(scale, rng.pick(&[0.03, 0.117])).f32(zero, rng.pick(&[0.0, 128.0, 255.0]));
            bytes[i] = 1;
        }
    }
    case.signed("lo", rng.pick(&[0, 50])).signed("hi", rng.pick(&[255, 99]));
    bytes
}

#[test]
fn add_and_mul_of_bytes() {
    let mut rng = Rng(1);
    for variant in [Variant::AddU8, Variant::MulU8] {
        for n in LENGTHS {
            for b in [Broadcast::None, Broadcast::Row, Broadcast::Element] {
                for rows in [1, 3] {
                    let mut case = Case::new(Family::BinaryU8, variant);
                    operands(&mut rng, &mut case, n, rows, b, [1; 3]);
                    case.f32("a_scale", rng.float(0.01, 2.0)).f32("b_scale", rng.float(-1.0, 2.0));
                    case.f32("offset", rng.float(-200.0, 100.0)).f32("scale", rng.pick(&[0.01, 0.5, 1e30, 1e-30]));
                    case.f32("zero", rng.pick(&[0.0, 128.0])).signed("a_zero", rng.pick(&[0, 128, 255]));
                    case.signed("b_zero", rng.pick(&[0, 77, 255]));
                    case.signed("lo", rng.pick(&[0, 50])).signed("hi", rng.pick(&[255, 99]));
                    if rng.below(3) == 0 {
                        case.buffer("lut", rng.bytes(256), 0);
                    }
                    case.check();
                }
            }
        }
    }
}

fn floats(rng: &mut Rng, n: usize) -> Vec<u8> {
    (0..n)
        .map(|_| if rng.below(8) == 0 { rng.pick(&SPECIAL) } else { rng.float(-5.0, 5.0) })
        .collect::<Vec<_>>()
        .bytes()
}

#[test]
fn operations_on_floats() {
    let mut rng = Rng(2);
    for &variant in Family::BinaryF32.variants() {
        for n in LENGTHS {
            for b in [Broadcast::None, Broadcast::Row, Broadcast::Element] {
                for _ in 0..6 {
                    let mut case = Case::new(Family::BinaryF32, variant);
                    let bytes = forms(&mut rng, &mut case, true);
                    operands(&mut rng, &mut case, n, 3, b, bytes);
                    case.f32("clamp_lo", rng.pick(&[f32::NEG_INFINITY, 0.0]));
                    case.f32("clamp_hi", rng.pick(&[f32::INFINITY, 2.5]));
                    case.check();
                }
            }
        }
    }
}

#[test]
fn tables() {
    let mut rng = Rng(3);
    for n in LENGTHS {
        for rows in [1, 3] {
            let mut case = Case::new(Family::Unary, Variant::LutU8);
            case.buffer("a", (0..rows * n).map(|i| (i * 7) as u8).collect(), 0).buffer("lut", rng.bytes(256), 0);
            case.buffer("out", rng.bytes(rows * (n + 3)), 0);
            case.int("a_row", n).int("out_row", n + 3).int("rows", rows).int("n", n).check();
        }
    }
}

#[test]
fn functions_of_rows() {
    let mut rng = Rng(3);
    for &variant in Family::Unary.variants().iter().filter(|v| **v != Variant::LutU8) {
        for n in LENGTHS {
            for rows in [1, 3] {
                let mut case = Case::new(Family::Unary, variant);
                let [a_bytes, _, out_bytes] = forms(&mut rng, &mut case, false);
                let a = if a_bytes == 1 { rng.bytes(rows * n) } else { arguments(&mut rng, rows * n) };
                case.buffer("a", a, 0).buffer("out", rng.bytes(rows * (n + 3) * out_bytes), 0);
                case.int("a_row", a_bytes * n).int("out_row", out_bytes * (n + 3)).int("rows", rows).int("n", n);
                let p = match variant {
                    Variant::ClampF32 => [-3.5, rng.pick(&[f32::INFINITY, 20.0]), 0.0],
                    Variant::HardSwishF32 => [3.0, 6.0, 1.0 / 6.0],
                    _ => [rng.float(0.1, 1.7), rng.float(0.01, 0.5), 0.0],
                };
                case.f32("p0", p[0]).f32("p1", p[1]).f32("p2", p[2]);
                if rng.below(2) == 0 {
                    let row = rng.pick(&[0, n + 2]);
                    case.buffer("addend", arguments(&mut rng, rows * (n + 2)), 0).int("addend_row", 4 * row);
                }
                case.check();
            }
        }
    }
}

/// Arguments of functions: most near 0, some large, some special.
fn arguments(rng: &mut Rng, n: usize) -> Vec<u8> {
    let draw = |rng: &mut Rng| match rng.below(8) {
        0 => rng.pick(&SPECIAL),
        1 => rng.float(-120.0, 120.0),
        2 => rng.float(-1.0, 1.0) * f32::MIN_POSITIVE,
        _ => rng.float(-5.0, 5.0),
    };
    (0..n).map(|_| draw(rng)).collect::<Vec<_>>().bytes()
}

/// Floats around the ties and ends of a quantization, and some without a place on the line.
fn quantizable(rng: &mut Rng, n: usize, scale: f32) -> Vec<u8> {
    let draw = |rng: &mut Rng| match rng.below(6) {
        0 => rng.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38, 0.0, -0.0]),
        1 => (rng.range(-300, 300) as f32 + 0.5) * scale,
        // Some units beside the middle between two steps.
        2 => {
            let middle = ((rng.range(-300, 300) as f32 + 0.5) * scale).to_bits();
            f32::from_bits(middle.wrapping_add(rng.below(9) as u32).wrapping_sub(4))
        }
        _ => rng.float(-300.0, 300.0) * scale,
    };
    (0..n).map(|_| draw(rng)).collect::<Vec<_>>().bytes()
}

/// A quotient that is a unit beside the middle between two steps rounds the other way than the middle; a product with the
/// inverse of the scale would be such units off.
#[test]
fn numbers_beside_the_middle_of_two_steps_are_divided() {
    let mut rng = Rng(9);
    for round in 0..400 {
        // Among them scales whose inverse is no normal number.
        let any = f32::from_bits((rng.below(0x7f00_0000) as u32).max(1));
        let scale = if round % 4 == 0 { any } else { rng.float(0.001, 2.0) };
        let n = 1024;
        let mut case = Case::new(Family::Quantize, Variant::U8);
        case.buffer("a", quantizable(&mut rng, n, scale), 0).buffer("out", rng.bytes(n), 0);
        case.int("a_px", 4 * n).int("a_ch", 4).int("out_px", n).int("pixels", 1).int("channels", n).int("outer", 1);
        case.f32("scale", scale).f32("zero", rng.pick(&[0.0, 128.0])).int("hi", 255).check();
    }
}

#[test]
fn quantize_and_dequantize_in_any_order_of_channels() {
    let mut rng = Rng(4);
    for channels in [1, 2, 3, 4, 5, 8, 16, 40, 65] {
        for pixels in [1, 5, 16, 35] {
            for planar in [false, true] {
                for extra in [0, 3] {
                    convert(&mut rng, channels, pixels, planar, extra);
                }
            }
        }
    }
}

/// Checks both conversions of two outer indices; pixels of bytes (and of channels-last floats) have `extra` gaps.
fn convert(rng: &mut Rng, channels: usize, pixels: usize, planar: bool, extra: usize) {
    let scale = rng.pick(&[1.0, 0.1, 0.007_843_138, 3.7]);
    let (px, ch, outer) = if planar {
        (4, 4 * (pixels + extra), 4 * (pixels + extra) * channels)
    } else {
        (4 * (channels + extra), 4, 4 * (channels + extra) * pixels)
    };
    let bytes_px = channels + extra;
    let bytes_outer = bytes_px * pixels + extra;
    for family in [Family::Quantize, Family::Dequantize] {
        let to_u8 = family == Family::Quantize;
        let mut case = Case::new(family, if to_u8 { Variant::U8 } else { Variant::F32 });
        let (of_floats, of_bytes) = if to_u8 { ("a", "out") } else { ("out", "a") };
        case.buffer(of_floats, quantizable(rng, 2 * outer / 4, scale), 0);
        case.buffer(of_bytes, rng.bytes(2 * bytes_outer), 0);
        case.int(&format!("{of_floats}_px"), px).int(&format!("{of_floats}_ch"), ch);
        case.int(&format!("{of_floats}_outer"), outer);
        case.int(&format!("{of_bytes}_px"), bytes_px).int(&format!("{of_bytes}_outer"), bytes_outer);
        case.int("pixels", pixels).int("channels", channels).int("outer", 2).f32("scale", scale);
        case.f32("zero", rng.pick(&[0.0, 128.0, 255.0]));
        if to_u8 {
            case.signed("lo", rng.pick(&[0, 5])).signed("hi", rng.pick(&[255, 127]));
        }
        case.check();
    }
}

#[test]
fn rows_in_formats_of_their_own() {
    let mut rng = Rng(77);
    for n in [1, 2, 15, 16, 17, 64, 100, 768] {
        let rows = 1 + rng.below(5);
        let mut values: Vec<f32> = (0..rows * (n + 3)).map(|_| rng.float(-3.0, 5.0)).collect();
        for v in &mut values {
            if rng.below(40) == 0 {
                *v = rng.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42, 1e38, -0.0]);
            }
        }
        // Rows of one sign, and of zeros.
        match rng.below(4) {
            0 => values.iter_mut().for_each(|v| *v = v.abs()),
            1 => values.iter_mut().for_each(|v| *v = -v.abs()),
            2 => values[..n].fill(0.0),
            _ => {}
        }
        let mut case = Case::new(Family::DynamicQuantize, Variant::U8);
        case.buffer("a", values.bytes(), 0).buffer("out", rng.bytes(rows * (n + 1)), 0);
        case.buffer("format", rng.bytes(8 * rows), 0).int("n", n).int("rows", rows);
        case.int("a_row", 4 * (n + 3)).int("out_row", n + 1).check();
        let mut ranges = Case::new(Family::Range, Variant::F32);
        ranges.buffer("a", values.bytes(), 0).buffer("out", rng.bytes(8 * rows), 0).int("n", n).int("rows", rows);
        ranges.int("a_row", 4 * (n + 3)).check();
        let parts = 1 + rng.below(40);
        let one = |rng: &mut Rng| [rng.pick(&[0.0, -1.5, -300.0]), rng.pick(&[0.0, 2.5, 77.0])];
        let found: Vec<f32> = (0..parts).flat_map(|_| one(&mut rng)).collect();
        case.buffer("ranges", found.bytes(), 0).int("parts", parts).check();
    }
}
