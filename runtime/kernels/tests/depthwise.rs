//! Depthwise convolutions of all tiers against the reference.
#![allow(clippy::unwrap_used)]

mod support;

use qc_kernels::pack::{dw_bytes, pack_dw, pack_dw_f32, pad16};
use qc_kernels::{Family, Variant};
use support::{Bytes, Case, Rng};

#[derive(Clone, Copy, Debug)]
struct Geometry {
    channels: usize,
    kh: usize,
    kw: usize,
    stride: usize,
    dilation: usize,
    rows: usize,
    cols: usize,
    /// Channels that pixels of input and output have more than needed.
    extra: usize,
}

impl Geometry {
    fn fill(&self, case: &mut Case, bytes: usize, out_bytes: usize) {
        let pixel = (self.channels + self.extra) * bytes;
        let line = self.line() * pixel;
        case.int("a_col", pixel * self.dilation).int("a_row", line * self.dilation);
        case.int("step_x", pixel * self.stride).int("step_y", line * self.stride);
        let out_px = (self.channels + self.extra) * out_bytes;
        case.int("out_px", out_px).int("out_row", out_px * self.cols + 3 * out_bytes);
        case.int("kh", self.kh).int("kw", self.kw);
        case.int("rows", self.rows).int("cols", self.cols).int("channels", self.channels);
    }
    fn line(&self) -> usize {
        (self.cols - 1) * self.stride + (self.kw - 1) * self.dilation + 1
    }
    fn input(&self) -> usize {
        ((self.rows - 1) * self.stride + (self.kh - 1) * self.dilation + 1) * self.line() * (self.channels + self.extra)
            - self.extra
    }
    fn output(&self) -> usize {
        self.rows * ((self.channels + self.extra) * self.cols + 3)
    }
}

fn check_u8(rng: &mut Rng, g: Geometry, extreme: bool) {
    let mut case = Case::new(Family::Dw, Variant::U8);
    let taps = g.kh * g.kw;
    let w: Vec<i8> = (0..g.channels * taps)
        .map(|_| if extreme { rng.pick(&[-128, 127]) } else { rng.range(-128, 127) as i8 })
        .collect();
    let input = if extreme { (0..g.input()).map(|_| rng.pick(&[0, 255])).collect() } else { rng.bytes(g.input()) };
    let bias: Vec<i32> = (0..g.channels)
        .map(|_| if extreme { rng.pick(&[i32::MIN, i32::MAX, 0]) } else { rng.range(-9000, 9000) })
        .collect();
    let spread = 90.0 / ((taps as f32).sqrt() * 147.0 * 74.0);
    let scale: Vec<f32> = (0..g.channels)
        .map(|_| if extreme { rng.pick(&[1e-20, 0.01, 1e20]) } else { spread * rng.float(0.3, 1.5) })
        .collect();
    let packed = pack_dw(g.channels, g.kh, g.kw, &w).unwrap();
    assert_eq!(packed.len(), dw_bytes(g.channels, g.kh, g.kw));
    case.buffer("a", input, 0).buffer("w", packed, 0);
    case.buffer("bias", pad16(&bias).bytes(), 0).buffer("scale", pad16(&scale).bytes(), 0);
    case.buffer("out", rng.bytes(g.output()), 0);
    g.fill(&mut case, 1, 1);
    case.f32("zero", rng.pick(&[0.0, 128.0, 255.0]))
        .signed("lo", rng.pick(&[0, 9]))
        .signed("hi", rng.pick(&[255, 180]));
    if rng.below(4) == 0 {
        case.buffer("lut", rng.bytes(256), 0);
    }
    case.check();
}

fn check_f32(rng: &mut Rng, g: Geometry) {
    float_case(rng, g, Variant::F32);
    float_case(rng, g, Variant::U8);
}

fn float_case(rng: &mut Rng, g: Geometry, variant: Variant) {
    let out_bytes = if variant == Variant::U8 { 1 } else { 4 };
    let mut case = Case::new(Family::DwF32, variant);
    let w = rng.reals(g.channels * g.kh * g.kw, -1.0, 1.0);
    case.buffer("a", rng.reals(g.input(), -1.0, 1.0).bytes(), 0);
    case.buffer("w", pack_dw_f32(g.channels, g.kh, g.kw, &w).unwrap(), 0);
    case.buffer("bias", pad16(&rng.reals(g.channels, -1.0, 1.0)).bytes(), 0);
    let out = rng.floats(g.output(), -1.0, 1.0).bytes();
    case.buffer("out", out[..g.output() * out_bytes].to_vec(), 0);
    g.fill(&mut case, 4, out_bytes);
    case.f32("scale", rng.pick(&[0.05, 0.013])).f32("zero", rng.pick(&[0.0, 128.0, 77.0]));
    case.signed("lo", rng.pick(&[0, 20])).signed("hi", rng.pick(&[255, 200]));
    case.f32("clamp_lo", rng.pick(&[f32::NEG_INFINITY, 0.0])).f32("clamp_hi", rng.pick(&[f32::INFINITY, 1.0]));
    if rng.below(3) == 0 {
        case.f32("gate_offset", 3.0).f32("gate_bound", rng.pick(&[6.0, 2.5])).f32("gate_factor", 1.0 / 6.0);
        case.f32("post_factor", rng.pick(&[1.0, 0.7, -2.0])).f32("post_addend", rng.pick(&[-0.0, 0.3]));
    }
    case.check();
}

const CHANNELS: [usize; 10] = [1, 3, 16, 31, 32, 63, 64, 65, 96, 144];

#[test]
fn three_by_three_of_every_width() {
    let mut rng = Rng(1);
    for channels in CHANNELS {
        for stride in [1, 2] {
            for (rows, cols) in [(1, 1), (2, 2), (3, 5), (4, 4), (5, 7), (1, 6)] {
                let extra = rng.pick(&[0, 0, 5, 64]);
                let g = Geometry { channels, kh: 3, kw: 3, stride, dilation: 1, rows, cols, extra };
                check_u8(&mut rng, g, false);
                check_u8(&mut rng, g, true);
            }
        }
    }
}

#[test]
fn other_windows_strides_and_dilations() {
    let mut rng = Rng(2);
    for (kh, kw) in [(1, 1), (1, 3), (2, 2), (4, 1), (5, 5), (7, 7), (8, 3), (3, 5), (9, 9)] {
        for (stride, dilation) in [(1, 1), (2, 1), (1, 2), (3, 2)] {
            let channels = rng.pick(&CHANNELS);
            let g = Geometry { channels, kh, kw, stride, dilation, rows: 3, cols: 4, extra: rng.below(3) };
            check_u8(&mut rng, g, false);
            check_u8(&mut rng, g, true);
            check_f32(&mut rng, g);
        }
    }
    for dilation in [2, 3] {
        let g = Geometry { channels: 70, kh: 3, kw: 3, stride: 1, dilation, rows: 4, cols: 5, extra: 0 };
        check_u8(&mut rng, g, false);
    }
}

#[test]
fn f32_three_by_three() {
    let mut rng = Rng(3);
    for channels in CHANNELS {
        for stride in [1, 2] {
            let g = Geometry { channels, kh: 3, kw: 3, stride, dilation: 1, rows: 3, cols: 5, extra: rng.below(2) * 7 };
            check_f32(&mut rng, g);
        }
    }
}
