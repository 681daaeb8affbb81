//! Matrix products and convolutions of all tiers against the reference.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::pack::{GemmShape, Taps, pack_gemm, pack_gemm_bytes, pack_gemm_f32, pad16, round16};
use qc_kernels::{Family, Variant};
use support::{Bytes, Case, Rng};

/// Geometry of one test call.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    channels: usize,
    kh: usize,
    kw: usize,
    split: bool,
    rows: usize,
    outer: usize,
    cols: usize,
    /// Pixels between rows.
    stride: usize,
    /// Bytes (elements) that pixels of input and output have more than needed.
    extra: usize,
}

const PLAIN: Geometry =
    Geometry { channels: 8, kh: 1, kw: 1, split: false, rows: 3, outer: 1, cols: 16, stride: 1, extra: 0 };

impl Geometry {
    fn pixel(&self) -> usize {
        self.channels + if self.split { self.extra } else { 0 }
    }
    fn shape(&self) -> GemmShape {
        let taps = if self.split { Taps::Split } else { Taps::Joined { pitch: self.pixel() } };
        GemmShape { cols: self.cols, channels: self.channels, kh: self.kh, kw: self.kw, taps }
    }
    /// Pixels per input line.
    fn line(&self) -> usize {
        (self.rows - 1) * self.stride + self.kw
    }
    /// Elements of the input.
    fn input(&self) -> usize {
        (self.outer - 1 + self.kh) * self.line() * self.pixel()
    }
    fn out_pixel(&self) -> usize {
        self.cols + self.extra
    }
    /// Fills the geometric fields; elements have `bytes` bytes in the input and `out_bytes` in the output.
    fn fill(&self, case: &mut Case, bytes: usize, out_bytes: usize) {
        let line = self.line() * self.pixel() * bytes;
        let out_row = self.out_pixel() * out_bytes;
        case.int("a_row", self.stride * self.pixel() * bytes).int("a_outer", line);
        case.int("out_row", out_row).int("out_outer", out_row * self.rows + self.extra * out_bytes);
        case.int("seg_y", self.shape().seg_y()).int("seg_y_stride", line);
        case.int("seg_x", self.shape().seg_x()).int("seg_x_stride", self.pixel() * bytes);
        case.int("rows", self.rows).int("outer", self.outer).int("cols", self.cols);
    }
    /// Elements of the output, gaps included.
    fn output(&self) -> usize {
        self.outer * (self.out_pixel() * self.rows + self.extra)
    }
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Values {
    /// Spread over the whole output range.
    Usual,
    /// Largest magnitudes, largest biases, scales from tiny to huge.
    Extreme,
}

fn int8_case(rng: &mut Rng, variant: Variant, g: Geometry, values: Values) -> Case {
    let shape = g.shape();
    let mut case = Case::new(Family::Gemm, variant);
    let weights = g.cols * g.channels * g.kh * g.kw;
    let (input, w): (Vec<u8>, Vec<i8>) = match values {
        Values::Usual => (rng.bytes(g.input()), rng.bytes(weights).iter().map(|&b| b as i8).collect()),
        Values::Extreme => (
            (0..g.input()).map(|_| rng.pick(&[0, 255, 255, 255])).collect(),
            (0..weights).map(|_| rng.pick(&[-128, -128, 127])).collect(),
        ),
    };
    let bias: Vec<i32> = (0..g.cols)
        .map(|_| match values {
            Values::Usual => rng.range(-20000, 20000),
            Values::Extreme => rng.pick(&[i32::MIN, i32::MAX, 0, -1]),
        })
        .collect();
    let spread = 90.0 / (((g.channels * g.kh * g.kw) as f32).sqrt() * 147.0 * 74.0);
    let scale: Vec<f32> = (0..g.cols)
        .map(|_| match values {
            Values::Usual => spread * rng.float(0.3, 1.5),
            Values::Extreme => rng.pick(&[1e-30, 1e-6, 0.5, 1e6, 1e30]),
        })
        .collect();
    case.buffer("a", input, 0).buffer("w", pack_gemm(&shape, &w).unwrap(), 0);
    case.buffer("bias", pad16(&bias).bytes(), 0).buffer("scale", pad16(&scale).bytes(), 0);
    if matches!(variant, Variant::F32 | Variant::F32Rows) {
        let addend: Vec<f32> = (0..g.cols).map(|_| rng.pick(&[0.0, -0.3, 1e-7, 12.5, -1e30])).collect();
        case.buffer("addend", pad16(&addend).bytes(), 0);
    }
    let out_bytes = if matches!(variant, Variant::F32 | Variant::F32Rows | Variant::I32) { 4 } else { 1 };
    case.buffer("out", rng.bytes(g.output() * out_bytes), 0).int("k4", shape.k4());
    g.fill(&mut case, 1, out_bytes);
    let lo = rng.pick(&[0, 0, 17]);
    case.signed("lo", lo).signed("hi", rng.pick(&[255, 255, 200, lo]));
    case.f32("zero", rng.pick(&[0.0, 128.0, 255.0, 3.0]));
    case.f32("clamp_lo", rng.pick(&[f32::NEG_INFINITY, 0.0, -1.0])).f32("clamp_hi", rng.pick(&[f32::INFINITY, 6.0]));
    case
}

fn residual(rng: &mut Rng, case: &mut Case, g: Geometry) {
    case.f32("res_scale", rng.float(0.1, 2.0)).f32("res_offset", rng.float(-100.0, 100.0));
    case.f32("clamp_lo", rng.pick(&[f32::NEG_INFINITY, 0.0, -40.0])).f32("clamp_hi", rng.pick(&[f32::INFINITY, 25.0]));
    let (row, outer) = (case.args.int("out_row"), case.args.int("out_outer"));
    if rng.below(2) == 0 {
        case.same("res", "out").signed("res_row", row).signed("res_outer", outer);
    } else {
        let row = row as usize + 5;
        let bytes = rng.bytes(row * g.rows * g.outer - 5 - g.extra);
        case.buffer("res", bytes, 0).int("res_row", row).int("res_outer", row * g.rows);
    }
}

/// Factors and zero points of rows, and sums of columns; one format for all rows, or one for each.
fn formats(rng: &mut Rng, case: &mut Case, g: Geometry) {
    let count = g.rows * g.outer;
    let one = |rng: &mut Rng| {
        let factor = rng.pick(&[1.0f32, 0.01, 3e-5, 1e20]);
        [factor.to_le_bytes(), rng.pick(&[0i32, 255, 128, 17]).to_le_bytes()].concat()
    };
    let formats: Vec<u8> = (0..count).flat_map(|_| one(rng)).collect();
    let sums: Vec<i32> = (0..g.cols).map(|_| rng.pick(&[0, 1, -70_000, 5_000_000, i32::MAX])).collect();
    case.buffer("res", formats, 0).buffer("col_sum", pad16(&sums).bytes(), 0);
    if rng.below(2) == 0 {
        case.int("res_row", 8).int("res_outer", 8 * g.rows);
    }
}

fn check_int8(rng: &mut Rng, g: Geometry, values: Values) {
    for variant in [Variant::U8, Variant::U8Res, Variant::F32, Variant::F32Rows, Variant::I32] {
        let mut case = int8_case(rng, variant, g, values);
        if variant == Variant::F32Rows {
            formats(rng, &mut case, g);
        }
        if variant == Variant::U8Res {
            residual(rng, &mut case, g);
        }
        if rng.below(3) == 0 {
            case.buffer("lut", rng.bytes(256), 0);
        }
        if rng.below(3) == 0 {
            let gap = rng.below(2);
            let addends = (0..g.outer * (g.rows + gap)).map(|_| rng.pick(&[i32::MIN, -30000, -1, 7, 12345])).collect();
            case.buffer("row_bias", Vec::<i32>::bytes(&addends), 0).int("row_bias_outer", 4 * (g.rows + gap));
        }
        case.check();
    }
}

const COLS: [usize; 8] = [1, 15, 16, 17, 33, 48, 63, 64];

#[test]
fn every_height_and_width() {
    let mut rng = Rng(1);
    for cols in COLS {
        for rows in 1..=17 {
            let channels = rng.pick(&[4, 12, 16, 20]);
            let extra = rng.below(2) * 9;
            check_int8(&mut rng, Geometry { rows, cols, channels, extra, ..PLAIN }, Values::Usual);
        }
    }
}

#[test]
fn every_length_of_k() {
    let mut rng = Rng(2);
    for channels in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 60, 63, 64, 65, 127, 128, 130, 255, 256] {
        for cols in [7, 32, 64] {
            let rows = 1 + rng.below(9);
            check_int8(&mut rng, Geometry { channels, cols, rows, ..PLAIN }, Values::Usual);
        }
    }
}

/// K beyond what a kernel may widen at a time.
#[test]
fn long_k() {
    let mut rng = Rng(7);
    for channels in [1020, 1024, 1025, 1060, 2100] {
        for (rows, cols) in [(1, 16), (6, 64), (7, 33), (3, 7)] {
            check_int8(&mut rng, Geometry { channels, cols, rows, ..PLAIN }, Values::Usual);
        }
    }
    let g = Geometry { channels: 260, kh: 2, kw: 3, rows: 5, cols: 48, extra: 4, ..PLAIN };
    check_int8(&mut rng, g, Values::Extreme);
}

#[test]
fn convolutions_by_joined_and_split_segments() {
    let mut rng = Rng(3);
    for (kh, kw) in [(3, 3), (7, 7), (1, 5), (2, 1)] {
        for channels in [3, 8, 13] {
            for stride in [1, 2] {
                for split in [false, true] {
                    let cols = rng.pick(&COLS);
                    let g = Geometry { channels, kh, kw, split, rows: 5, outer: 2, cols, stride, extra: 6 };
                    check_int8(&mut rng, g, Values::Usual);
                }
            }
        }
    }
}

#[test]
fn many_tiles_and_outer_indices() {
    let mut rng = Rng(4);
    for (rows, outer) in [(49, 1), (56, 2), (7, 7), (14, 3), (1, 5), (100, 1)] {
        for cols in [10, 24, 64] {
            check_int8(&mut rng, Geometry { rows, outer, cols, channels: 36, extra: 3, ..PLAIN }, Values::Usual);
        }
    }
}

#[test]
fn extreme_values() {
    let mut rng = Rng(5);
    for cols in COLS {
        for channels in [4, 64, 300] {
            for rows in [1, 4, 7] {
                check_int8(&mut rng, Geometry { rows, cols, channels, ..PLAIN }, Values::Extreme);
            }
        }
    }
}

fn check_f32(rng: &mut Rng, g: Geometry) {
    float_case(rng, g, Variant::F32);
    float_case(rng, g, Variant::U8);
    float_case(rng, g, Variant::F32Bytes);
}

fn float_case(rng: &mut Rng, g: Geometry, variant: Variant) {
    let shape = g.shape();
    let out_bytes = if variant == Variant::U8 { 1 } else { 4 };
    let mut case = Case::new(Family::GemmF32, variant);
    let w = rng.reals(g.cols * g.channels * g.kh * g.kw, -1.0, 1.0);
    case.buffer("a", rng.reals(g.input(), -1.0, 1.0).bytes(), 0);
    if variant == Variant::F32Bytes {
        let w: Vec<i8> = rng.bytes(w.len()).iter().map(|&b| b as i8).collect();
        case.buffer("w", pack_gemm_bytes(&shape, &w).unwrap(), 0);
        case.buffer("w_scale", pad16(&rng.reals(g.cols, -0.01, 0.01)).bytes(), 0);
    } else {
        case.buffer("w", pack_gemm_f32(&shape, &w).unwrap(), 0);
    }
    case.buffer("bias", pad16(&rng.reals(g.cols, -1.0, 1.0)).bytes(), 0);
    let out = rng.floats(g.output(), -1.0, 1.0).bytes();
    case.buffer("out", out[..g.output() * out_bytes].to_vec(), 0).int("k", shape.k());
    g.fill(&mut case, 4, out_bytes);
    case.f32("scale", rng.pick(&[0.05, 0.013])).f32("zero", rng.pick(&[0.0, 128.0, 77.0]));
    case.signed("lo", rng.pick(&[0, 20])).signed("hi", rng.pick(&[255, 200]));
    case.f32("clamp_lo", rng.pick(&[f32::NEG_INFINITY, 0.0])).f32("clamp_hi", rng.pick(&[f32::INFINITY, 1.0]));
    if rng.below(3) == 0 {
        case.f32("gate_offset", 3.0).f32("gate_bound", rng.pick(&[6.0, 2.5])).f32("gate_factor", 1.0 / 6.0);
        case.f32("post_factor", rng.pick(&[1.0, 0.7, -2.0])).f32("post_addend", rng.pick(&[-0.0, 0.3]));
    }
    let (row, outer) = (case.args.int("out_row"), case.args.int("out_outer"));
    match rng.below(3) {
        0 if variant != Variant::U8 => {
            case.same("res", "out").signed("res_row", row).signed("res_outer", outer);
        }
        1 => {
            let row = g.out_pixel() * g.rows;
            let bytes = rng.reals(row * g.outer, -1.0, 1.0).bytes();
            case.buffer("res", bytes, 0).int("res_row", 4 * g.out_pixel()).int("res_outer", 4 * row);
        }
        _ => {}
    }
    case.check();
}

#[test]
fn f32_products() {
    let mut rng = Rng(6);
    for cols in COLS {
        for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 13] {
            let channels = rng.pick(&[1, 3, 10, 33]);
            let extra = rng.below(3);
            check_f32(&mut rng, Geometry { rows, cols, channels, extra, ..PLAIN });
        }
    }
    for (kh, kw, split) in [(3, 3, false), (3, 3, true), (1, 4, true), (5, 2, false)] {
        let cols = rng.pick(&COLS);
        check_f32(&mut rng, Geometry { channels: 5, kh, kw, split, rows: 6, outer: 3, cols, stride: 2, extra: 3 });
    }
}

/// Panels too large for the second-level cache, so that sums rest in the output between blocks of K.
#[test]
fn f32_products_in_blocks() {
    let mut rng = Rng(7);
    for (cols, kh, channels, rows, outer) in
        [(64, 3, 700, 13, 2), (64, 1, 2300, 7, 3), (48, 1, 3001, 20, 1), (16, 1, 9000, 19, 1), (50, 1, 2500, 20, 1)]
    {
        check_f32(&mut rng, Geometry { rows, outer, cols, channels, kh, ..PLAIN });
    }
}

#[test]
fn packing_pads_columns_and_segments_with_zeros() {
    let shape = GemmShape { cols: 70, channels: 3, kh: 2, kw: 3, taps: Taps::Joined { pitch: 4 } };
    let w: Vec<i8> = (0..70 * 3 * 6).map(|i| (i % 127 + 1) as i8).collect();
    let packed = pack_gemm(&shape, &w).unwrap();
    assert_eq!((shape.k(), shape.k4(), shape.panels()), (11, 3, 2));
    assert_eq!((shape.panel_bytes(0), shape.panel_bytes(1)), (2 * 3 * 256, 2 * 3 * 64));
    assert_eq!(shape.panel_offset(1), shape.panel_bytes(0));
    assert_eq!(packed.len(), shape.bytes());
    assert_eq!(packed.iter().filter(|&&b| b != 0).count(), w.len());
    // Column 65 is column 1 of the second panel; window row 1, tap 2, channel 1 is byte 9 of segment 1.
    let group = (3 + 9 / 4) * round16(70 - 64) + 1;
    assert_eq!(packed[shape.panel_offset(1) + group * 4 + 9 % 4] as i8, w[(65 * 3 + 1) * 6 + 3 + 2]);
    assert!(pack_gemm(&shape, &w[1..]).is_err());
}
