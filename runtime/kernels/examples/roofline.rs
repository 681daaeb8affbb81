//! Times representative layers of every family against the host's measured peak: `roofline [filter] [tier]`.
//!
//! Each line is the best of many repetitions; int8 products are given in percent of the register-only peak measured
//! in between, memory-bound kernels in bytes moved per second, depthwise in cycles per 64 outputs at the peak's clock (128
//! multiply-accumulates per cycle, so this is right for the tier `avx512vnni` only; `scalar` has no peak).
#![allow(clippy::unwrap_used)]

use qc_kernels::args::{
    BinaryU8Args, DequantizeArgs, DwArgs, DwF32Args, GemmArgs, GemmF32Args, LayerNormArgs, MoveArgs, PoolArgs,
    QuantizeArgs, SoftmaxArgs, UnaryArgs,
};
use qc_kernels::pack::{GemmShape, PANEL, Taps, dw_bytes};
use qc_kernels::{Family, Tier, Variant, host, peak, table};
use std::time::{Duration, Instant};

/// Memory at a 64-byte boundary with slack on both sides.
struct Buffer(Vec<u8>, usize);

impl Buffer {
    fn new(bytes: usize) -> Buffer {
        let mut data = vec![0u8; bytes + 4 * 64];
        let mut state = 1u32;
        for b in &mut data {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *b = (state >> 24) as u8;
        }
        let start = data.as_ptr().align_offset(64) + 64;
        Buffer(data, start)
    }
    fn zero(bytes: usize) -> Buffer {
        let mut b = Buffer::new(bytes);
        b.0.fill(0);
        b
    }
    fn ptr<T>(&mut self) -> *mut T {
        self.0[self.1..].as_mut_ptr().cast()
    }
}

struct Bench {
    tier: Tier,
    filter: String,
}

/// Best time of one run of `f`, and the best rate of `peak` between runs: the clock changes from one moment to the next.
fn best_with_peak(mut f: impl FnMut(), peak: impl Fn(u64) -> Option<u64>) -> (f64, f64) {
    let (mut time, mut rate) = (f64::INFINITY, 0.0f64);
    let end = Instant::now() + Duration::from_millis(200);
    while Instant::now() < end {
        for _ in 0..6 {
            let start = Instant::now();
            f();
            time = time.min(start.elapsed().as_secs_f64());
        }
        let start = Instant::now();
        let macs = peak(400_000).unwrap_or(0);
        rate = rate.max(macs as f64 / start.elapsed().as_secs_f64());
    }
    (time, rate)
}

/// Best time of one run of `f`.
fn best(mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let end = Instant::now() + Duration::from_millis(150);
    let mut runs = 0;
    while Instant::now() < end || runs < 3 {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

fn peak_int8(tier: Tier) -> f64 {
    let mut macs = 0;
    let seconds = best(|| macs = peak::peak_int8(tier, 400_000).unwrap_or(0));
    macs as f64 / seconds
}

fn peak_f32(tier: Tier) -> f64 {
    let mut macs = 0;
    let seconds = best(|| macs = peak::peak_f32(tier, 400_000).unwrap_or(0));
    macs as f64 / seconds
}

#[derive(Clone, Copy)]
struct Conv {
    name: &'static str,
    variant: Variant,
    image: usize,
    k: usize,
    stride: usize,
    channels: usize,
    cols: usize,
}

impl Conv {
    const fn new(
        name: &'static str,
        variant: Variant,
        image: usize,
        k: usize,
        stride: usize,
        channels: usize,
        cols: usize,
    ) -> Conv {
        Conv { name, variant, image, k, stride, channels, cols }
    }

    fn shape(&self) -> GemmShape {
        let taps = Taps::Joined { pitch: self.channels };
        GemmShape { cols: self.cols, channels: self.channels, kh: self.k, kw: self.k, taps }
    }

    /// Side of the bordered image.
    fn side(&self) -> usize {
        (self.image - 1) * self.stride + self.k
    }

    /// Bytes of an output element.
    fn bytes(&self) -> usize {
        if matches!(self.variant, Variant::F32 | Variant::I32) { 4 } else { 1 }
    }

    /// All arguments that do not depend on the panel; rows are the outer index, or flattened for 1x1.
    fn args(&self) -> GemmArgs {
        let line = self.side() * self.channels;
        let mut g = GemmArgs::ZERO;
        g.a_row = self.stride * self.channels;
        g.a_outer = self.stride * line;
        g.out_row = self.bytes() * self.cols;
        g.out_outer = g.out_row * self.image;
        (g.res_row, g.res_outer) = (self.cols, self.cols * self.image);
        (g.seg_y, g.seg_y_stride, g.seg_x, g.k4) = (self.k, line, 1, self.shape().k4());
        let flat = self.k == 1 && self.stride == 1;
        (g.rows, g.outer) = if flat { (self.image * self.image, 1) } else { (self.image, self.image) };
        (g.res_scale, g.hi, g.zero, g.clamp_hi) = (0.5, 255, 3.0, 1e30);
        g
    }
}

/// Products: name, output, image side, window, stride, input channels, output channels.
const LAYERS: [Conv; 28] = [
    Conv::new("3x3 64 @56", Variant::U8, 56, 3, 1, 64, 64),
    Conv::new("3x3 128 @28", Variant::U8, 28, 3, 1, 128, 128),
    Conv::new("3x3 256 @14", Variant::U8, 14, 3, 1, 256, 256),
    Conv::new("3x3 512 @7", Variant::U8, 7, 3, 1, 512, 512),
    Conv::new("3x3s2 128 @28", Variant::U8, 28, 3, 2, 128, 128),
    Conv::new("1x1 64-64 @56", Variant::U8, 56, 1, 1, 64, 64),
    Conv::new("1x1 64-256 @56", Variant::U8, 56, 1, 1, 64, 256),
    Conv::new("1x1 256-64 @56", Variant::U8, 56, 1, 1, 256, 64),
    Conv::new("1x1 512-128 @28", Variant::U8, 28, 1, 1, 512, 128),
    Conv::new("1x1 1024-256 @14", Variant::U8, 14, 1, 1, 1024, 256),
    Conv::new("1x1 2048-512 @7", Variant::U8, 7, 1, 1, 2048, 512),
    Conv::new("1x1+res 64-256 @56", Variant::U8Res, 56, 1, 1, 64, 256),
    Conv::new("1x1+res 128-512 @28", Variant::U8Res, 28, 1, 1, 128, 512),
    Conv::new("1x1+res 256-1024 @14", Variant::U8Res, 14, 1, 1, 256, 1024),
    Conv::new("1x1+res 512-2048 @7", Variant::U8Res, 7, 1, 1, 512, 2048),
    Conv::new("1x1s2 256-512 @28", Variant::U8, 28, 1, 2, 256, 512),
    Conv::new("stem 7x7s2 3-64 @112", Variant::U8, 112, 7, 2, 3, 64),
    Conv::new("stem 3x3s2 3-32 @112", Variant::U8, 112, 3, 2, 3, 32),
    Conv::new("1x1 16-96 @112", Variant::U8, 112, 1, 1, 16, 96),
    Conv::new("1x1 24-144 @56", Variant::U8, 56, 1, 1, 24, 144),
    Conv::new("1x1 144-24 @56", Variant::U8, 56, 1, 1, 144, 24),
    Conv::new("1x1 32-192 @28", Variant::U8, 28, 1, 1, 32, 192),
    Conv::new("1x1 192-32 @28", Variant::U8, 28, 1, 1, 192, 32),
    Conv::new("1x1 384-64 @14", Variant::U8, 14, 1, 1, 384, 64),
    Conv::new("1x1 576-96 @14", Variant::U8, 14, 1, 1, 576, 96),
    Conv::new("1x1 480-16 @14", Variant::U8, 14, 1, 1, 480, 16),
    Conv::new("1x1 128-64 f32 @14", Variant::F32, 14, 1, 1, 128, 64),
    Conv::new("1x1 128-64 i32 @14", Variant::I32, 14, 1, 1, 128, 64),
];

/// Depthwise: name, image side, channels, stride, window.
const DEPTHWISE: [(&str, usize, usize, usize, usize); 9] = [
    ("dw 3x3 32 @112", 112, 32, 1, 3),
    ("dw 3x3s2 64 @56", 56, 64, 2, 3),
    ("dw 3x3 128 @56", 56, 128, 1, 3),
    ("dw 3x3 256 @28", 28, 256, 1, 3),
    ("dw 3x3s2 256 @14", 14, 256, 2, 3),
    ("dw 3x3 512 @14", 14, 512, 1, 3),
    ("dw 3x3 1024 @7", 7, 1024, 1, 3),
    ("dw 3x3 144 @56", 56, 144, 1, 3),
    ("dw 5x5 128 @14", 14, 128, 1, 5),
];

impl Bench {
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    fn run<A>(&self, family: Family, variant: Variant, args: &A) {
        let kernel = table::select(family, variant, self.tier).expect("a kernel");
        // SAFETY: the caller's buffers keep the family's contract; `tier` is not above the host.
        unsafe { (kernel.run)(std::ptr::from_ref(args).cast()) };
    }

    /// A square convolution on a bordered image, panel by panel.
    fn conv(&self, c: Conv) {
        if !self.wants(c.name) {
            return;
        }
        let shape = c.shape();
        let pixels = c.image * c.image;
        let (mut a, mut w) = (Buffer::new(c.side() * c.side() * c.channels), Buffer::new(shape.bytes()));
        let (mut out, mut res) = (Buffer::new(c.bytes() * pixels * c.cols), Buffer::new(pixels * c.cols));
        let (mut bias, mut scale) = (Buffer::zero(4 * (c.cols + 64)), Buffer::zero(4 * (c.cols + 64)));
        for i in 0..c.cols {
            // SAFETY: inside the buffer.
            unsafe { scale.ptr::<f32>().add(i).write(1e-4) };
        }
        let mut g = c.args();
        let run = || {
            for panel in 0..shape.panels() {
                let at = panel * PANEL;
                g.a = a.ptr();
                g.w = w.ptr::<i8>().wrapping_add(shape.panel_offset(panel));
                g.bias = bias.ptr::<i32>().wrapping_add(at);
                g.scale = scale.ptr::<f32>().wrapping_add(at);
                g.out = out.ptr::<u8>().wrapping_add(c.bytes() * at);
                g.res = res.ptr::<u8>().wrapping_add(at);
                g.cols = shape.panel_cols(panel).len();
                self.run(Family::Gemm, c.variant, &g);
            }
        };
        let (seconds, peak) = best_with_peak(run, |n| peak::peak_int8(self.tier, n));
        let macs = (pixels * c.cols * c.channels * c.k * c.k) as f64;
        println!(
            "{:<28} {:>9.1} us {:>6.1} % of {:.0} GMAC/s  {:>6.1} GB/s of weights",
            c.name,
            seconds * 1e6,
            100.0 * macs / seconds / peak,
            peak / 1e9,
            shape.bytes() as f64 / seconds / 1e9
        );
    }

    fn fully_connected(&self, name: &str, k: usize, cols: usize) {
        if !self.wants(name) {
            return;
        }
        let shape = GemmShape { cols, channels: k, kh: 1, kw: 1, taps: Taps::Split };
        let (mut a, mut w, mut out) = (Buffer::new(k), Buffer::new(shape.bytes()), Buffer::new(cols));
        let (mut bias, mut scale) = (Buffer::zero(4 * cols + 256), Buffer::zero(4 * cols + 256));
        let mut g = GemmArgs::ZERO;
        (g.seg_y, g.seg_x, g.k4, g.rows, g.outer, g.hi) = (1, 1, shape.k4(), 1, 1, 255);
        let seconds = best(|| {
            for panel in 0..shape.panels() {
                g.a = a.ptr();
                g.w = w.ptr::<i8>().wrapping_add(shape.panel_offset(panel));
                g.bias = bias.ptr::<i32>().wrapping_add(panel * PANEL);
                g.scale = scale.ptr::<f32>().wrapping_add(panel * PANEL);
                g.out = out.ptr::<u8>().wrapping_add(panel * PANEL);
                g.cols = shape.panel_cols(panel).len();
                self.run(Family::Gemm, Variant::U8, &g);
            }
        });
        println!("{name:<28} {:>9.1} us {:>6.1} GB/s of weights", seconds * 1e6, shape.bytes() as f64 / seconds / 1e9);
    }

    /// The same convolution in f32, with zeros so that no number is subnormal.
    fn conv_f32(&self, c: &Conv) {
        let name = format!("f32 {}", c.name);
        if !self.wants(&name) {
            return;
        }
        let (shape, pixels, side) = (c.shape(), c.image * c.image, c.side());
        let (mut a, mut w) = (Buffer::zero(4 * side * side * c.channels), Buffer::zero(shape.bytes_f32()));
        let (mut out, mut bias) = (Buffer::zero(4 * pixels * c.cols), Buffer::zero(4 * (c.cols + 64)));
        let mut res = Buffer::zero(4 * pixels * c.cols);
        let (int8, mut g) = (c.args(), GemmF32Args::ZERO);
        (g.a_row, g.a_outer, g.seg_y_stride) = (4 * int8.a_row, 4 * int8.a_outer, 4 * int8.seg_y_stride);
        (g.seg_y, g.seg_x, g.k, g.rows, g.outer) = (c.k, 1, shape.k(), int8.rows, int8.outer);
        (g.out_row, g.out_outer) = (4 * c.cols, 4 * c.cols * c.image);
        (g.res_row, g.res_outer, g.clamp_hi) = (g.out_row, g.out_outer, 1e30);
        let run = || {
            for panel in 0..shape.panels() {
                g.a = a.ptr();
                g.w = w.ptr::<u8>().wrapping_add(shape.panel_offset_f32(panel)).cast();
                g.bias = bias.ptr::<f32>().wrapping_add(panel * PANEL);
                g.out = out.ptr::<f32>().wrapping_add(panel * PANEL).cast();
                if c.variant == Variant::U8Res {
                    g.res = res.ptr::<f32>().wrapping_add(panel * PANEL);
                }
                g.cols = shape.panel_cols(panel).len();
                self.run(Family::GemmF32, Variant::F32, &g);
            }
        };
        let (seconds, peak) = best_with_peak(run, |n| peak::peak_f32(self.tier, n));
        let rate = (pixels * c.cols * c.channels * c.k * c.k) as f64 / seconds;
        println!(
            "{name:<28} {:>9.1} us {:>6.1} % of {:.0} GMAC/s  {:>6.1} GB/s of weights",
            seconds * 1e6,
            100.0 * rate / peak,
            peak / 1e9,
            shape.bytes_f32() as f64 / seconds / 1e9
        );
    }

    fn depthwise_f32(&self, name: &str, image: usize, channels: usize, stride: usize, k: usize) {
        let name = format!("f32 {name}");
        if !self.wants(&name) {
            return;
        }
        let side = (image - 1) * stride + k;
        let (mut a, mut w) = (Buffer::zero(4 * side * side * channels), Buffer::zero(4 * (channels + 16) * k * k));
        let (mut out, mut bias) = (Buffer::zero(4 * image * image * channels), Buffer::zero(4 * channels + 256));
        let (mut d, pixel) = (DwF32Args::ZERO, 4 * channels);
        (d.a, d.w, d.out, d.bias) = (a.ptr(), w.ptr(), out.ptr(), bias.ptr());
        (d.a_col, d.a_row, d.step_x, d.step_y) = (pixel, side * pixel, stride * pixel, stride * side * pixel);
        (d.out_px, d.out_row, d.kh, d.kw) = (pixel, image * pixel, k, k);
        (d.rows, d.cols, d.channels, d.clamp_hi) = (image, image, channels, 1e30);
        let run = || self.run(Family::DwF32, Variant::F32, &d);
        let (seconds, peak) = best_with_peak(run, |n| peak::peak_f32(self.tier, n));
        let rate = (image * image * channels * k * k) as f64 / seconds;
        println!("{name:<28} {:>9.1} us {:>6.1} % of {:.0} GMAC/s", seconds * 1e6, 100.0 * rate / peak, peak / 1e9);
    }

    fn depthwise(&self, name: &str, image: usize, channels: usize, stride: usize, k: usize) {
        if !self.wants(name) {
            return;
        }
        let side = (image - 1) * stride + k;
        let (mut a, mut w) = (Buffer::new(side * side * channels), Buffer::new(dw_bytes(channels, k, k)));
        let mut out = Buffer::new(image * image * channels);
        let (mut bias, mut scale) = (Buffer::zero(4 * channels + 256), Buffer::zero(4 * channels + 256));
        let mut d = DwArgs::ZERO;
        (d.a, d.w, d.out, d.bias, d.scale) = (a.ptr(), w.ptr(), out.ptr(), bias.ptr(), scale.ptr());
        (d.a_col, d.a_row, d.step_x, d.step_y) =
            (channels, side * channels, stride * channels, stride * side * channels);
        (d.out_px, d.out_row, d.kh, d.kw) = (channels, image * channels, k, k);
        (d.rows, d.cols, d.channels, d.hi) = (image, image, channels, 255);
        let (seconds, peak) =
            best_with_peak(|| self.run(Family::Dw, Variant::U8, &d), |n| peak::peak_int8(self.tier, n));
        let hertz = peak / 128.0;
        let blocks = (image * image * channels) as f64 / 64.0;
        println!("{name:<28} {:>9.1} us {:>6.1} cycles per 64", seconds * 1e6, seconds * hertz / blocks);
    }

    fn pool(&self, name: &str, variant: Variant, out: usize, k: usize, stride: usize, pad: usize, channels: usize) {
        if !self.wants(name) {
            return;
        }
        let image = (out - 1) * stride + k - 2 * pad;
        let (mut a, mut result) = (Buffer::new(image * image * channels), Buffer::new(out * out * channels));
        let mut p = PoolArgs::ZERO;
        (p.a, p.out, p.a_px, p.a_row) = (a.ptr(), result.ptr(), channels, image * channels);
        (p.out_px, p.out_row, p.in_h, p.in_w, p.kh, p.kw) = (channels, out * channels, image, image, k, k);
        (p.stride_y, p.stride_x, p.pad_top, p.pad_left) = (stride, stride, pad, pad);
        (p.rows, p.cols, p.channels, p.scale, p.hi) = (out, out, channels, 1.0, 255);
        let (seconds, peak) = best_with_peak(|| self.run(Family::Pool, variant, &p), |n| peak::peak_int8(self.tier, n));
        let hertz = peak / 128.0;
        let blocks = (out * out * channels) as f64 / 64.0;
        println!("{name:<28} {:>9.1} us {:>6.1} cycles per 64", seconds * 1e6, seconds * hertz / blocks);
    }

    fn rate<A>(&self, name: &str, family: Family, variant: Variant, args: &A, bytes: usize) {
        if self.wants(name) {
            let seconds = best(|| self.run(family, variant, args));
            println!(
                "{name:<28} {:>9.1} us {:>6.1} GB/s read and written",
                seconds * 1e6,
                bytes as f64 / seconds / 1e9
            );
        }
    }

    fn elementwise(&self) {
        let n = 56 * 56 * 64;
        let (mut a, mut b, mut out, mut lut) = (Buffer::new(n), Buffer::new(n), Buffer::new(n), Buffer::new(256));
        let mut g = BinaryU8Args::ZERO;
        (g.a, g.b, g.out, g.rows, g.n, g.hi) = (a.ptr(), b.ptr(), out.ptr(), 1, n, 255);
        (g.a_scale, g.b_scale, g.scale) = (0.5, 0.4, 0.01);
        self.rate("add_u8 56x56x64", Family::BinaryU8, Variant::AddU8, &g, 3 * n);
        self.rate("mul_u8 56x56x64", Family::BinaryU8, Variant::MulU8, &g, 3 * n);
        let mut u = UnaryArgs::ZERO;
        (u.a, u.out, u.lut, u.rows, u.n) = (a.ptr(), out.ptr(), lut.ptr(), 1, n);
        self.rate("lut_u8 56x56x64", Family::Unary, Variant::LutU8, &u, 2 * n);
        self.conversions();
        self.movement();
        let mut x = Buffer::zero(4 * 1000);
        let mut s = SoftmaxArgs::ZERO;
        (s.a, s.out, s.rows, s.n, s.a_elem, s.out_elem) = (x.ptr(), x.ptr(), 1, 1000, 4, 4);
        self.rate("softmax 1000", Family::Softmax, Variant::F32, &s, 8000);
        self.encoder();
    }

    /// What the layers of a text encoder do besides products, for 128 tokens, 12 heads and 768 features.
    fn encoder(&self) {
        let (tokens, heads, inner) = (128, 12, 3072);
        let n = tokens * inner;
        let (mut a, mut out) = (Buffer::zero(4 * n), Buffer::zero(4 * n));
        for i in 0..n {
            // SAFETY: inside the buffer.
            unsafe { a.ptr::<f32>().add(i).write(((i * 37) % 1000) as f32 / 125.0 - 4.0) };
        }
        let mut u = UnaryArgs::ZERO;
        (u.a, u.out, u.rows, u.n) = (a.ptr(), out.ptr(), 1, n);
        self.rate("gelu 128x3072", Family::Unary, Variant::GeluF32, &u, 8 * n);
        self.rate("tanh 128x3072", Family::Unary, Variant::TanhF32, &u, 8 * n);
        self.rate("erf 128x3072", Family::Unary, Variant::ErfF32, &u, 8 * n);
        self.rate("exp 128x3072", Family::Unary, Variant::ExpF32, &u, 8 * n);
        (u.p0, u.p1) = (1.595_769_2, 0.071_354_814);
        self.rate("gelu_tanh 128x3072", Family::Unary, Variant::GeluTanhF32, &u, 8 * n);
        let mut s = SoftmaxArgs::ZERO;
        (s.a, s.out, s.rows, s.n, s.a_elem, s.out_elem) = (a.ptr(), out.ptr(), heads * tokens, tokens, 4, 4);
        (s.a_row, s.out_row) = (4 * tokens, 4 * tokens);
        let scores = heads * tokens * tokens;
        self.rate("softmax 12x128x128", Family::Softmax, Variant::F32, &s, 8 * scores);
        let mut mask = Buffer::zero(4 * tokens);
        (s.mask, s.mask_elem, s.factor) = (mask.ptr(), 4, 0.125);
        self.rate("softmax masked 12x128x128", Family::Softmax, Variant::F32, &s, 8 * scores);
        (s.out_row, s.out_elem, s.scale, s.hi) = (tokens, 1, 1.0 / 255.0, 255);
        self.rate("softmax u8 12x128x128", Family::Softmax, Variant::F32, &s, 5 * scores);
        (u.scale, u.hi, u.out_row) = (0.05, 255, n);
        self.rate("gelu u8 128x3072", Family::Unary, Variant::GeluF32, &u, 5 * n);
        self.layer_norm(128, 768);
    }

    fn layer_norm(&self, rows: usize, n: usize) {
        let (mut a, mut res, mut sum, mut out) = (
            Buffer::zero(4 * rows * n),
            Buffer::zero(4 * rows * n),
            Buffer::zero(4 * rows * n),
            Buffer::zero(4 * rows * n),
        );
        let (mut gamma, mut beta) = (Buffer::zero(4 * n), Buffer::zero(4 * n));
        for i in 0..rows * n {
            // SAFETY: inside the buffer.
            unsafe { a.ptr::<f32>().add(i).write(((i * 37) % 1000) as f32 / 125.0 - 4.0) };
        }
        let mut g = LayerNormArgs::ZERO;
        (g.a, g.out, g.gamma, g.beta) = (a.ptr(), out.ptr(), gamma.ptr(), beta.ptr());
        (g.rows, g.n, g.a_row, g.res_row, g.sum_row, g.out_row) = (rows, n, 4 * n, 4 * n, 4 * n, 4 * n);
        (g.epsilon, g.clamp_lo, g.clamp_hi) = (1e-12, f32::NEG_INFINITY, f32::INFINITY);
        let bytes = 4 * rows * n;
        self.rate("layer_norm 128x768", Family::LayerNorm, Variant::F32, &g, 2 * bytes);
        self.rate("rms_norm 128x768", Family::LayerNorm, Variant::Rms, &g, 2 * bytes);
        g.res = res.ptr();
        self.rate("layer_norm 128x768 residual", Family::LayerNorm, Variant::F32, &g, 3 * bytes);
        g.sum = sum.ptr();
        self.rate("layer_norm 128x768 and sum", Family::LayerNorm, Variant::F32, &g, 4 * bytes);
        (g.sum, g.scale, g.hi, g.out_row) = (std::ptr::null_mut(), 0.05, 255, n);
        self.rate("layer_norm u8 128x768", Family::LayerNorm, Variant::F32, &g, 2 * bytes + rows * n);
    }

    fn conversions(&self) {
        let n = 224 * 224;
        let (mut x, mut q) = (Buffer::zero(12 * n), Buffer::new(4 * n));
        let mut g = QuantizeArgs::ZERO;
        (g.a, g.out, g.a_px, g.a_ch, g.out_px) = (x.ptr(), q.ptr(), 4, 4 * n, 3);
        (g.pixels, g.channels, g.outer, g.scale, g.hi) = (n, 3, 1, 0.02, 255);
        self.rate("quantize planar 224x224x3", Family::Quantize, Variant::U8, &g, 15 * n);
        (g.a_px, g.a_ch) = (12, 4);
        self.rate("quantize contiguous", Family::Quantize, Variant::U8, &g, 15 * n);
        let mut d = DequantizeArgs::ZERO;
        (d.a, d.out, d.a_px, d.out_px, d.out_ch) = (q.ptr(), x.ptr(), 3, 12, 4);
        (d.pixels, d.channels, d.outer, d.scale) = (n, 3, 1, 0.02);
        self.rate("dequantize contiguous", Family::Dequantize, Variant::F32, &d, 15 * n);
        (d.out_px, d.out_ch, d.pixels, d.channels, d.a_px) = (4, 4 * 196, 196, 512, 512);
        self.rate("dequantize planar 14x14x512", Family::Dequantize, Variant::F32, &d, 5 * 196 * 512);
    }

    fn movement(&self) {
        let n = 28 * 28 * 128;
        let (mut a, mut b) = (Buffer::new(4 * n), Buffer::new(4 * n));
        let mut m = MoveArgs::ZERO;
        (m.src, m.dst, m.n2, m.n3) = (a.ptr(), b.ptr(), 1, 1);
        (m.n0, m.n1, m.src_s0, m.src_s1, m.dst_s0, m.dst_s1) = (128, 784, 1, 128, 1, 256);
        self.rate("move rows of 128 bytes", Family::Move, Variant::B1, &m, 2 * n);
        (m.n0, m.n1, m.src_s0, m.src_s1, m.dst_s0, m.dst_s1) = (128, 784, 4 * 784, 4, 4, 4 * 128);
        self.rate("move f32 planar to last", Family::Move, Variant::B4, &m, 8 * n);
        (m.src_s0, m.src_s1, m.dst_s0, m.dst_s1) = (4, 4 * 128, 4 * 784, 4);
        self.rate("move f32 last to planar", Family::Move, Variant::B4, &m, 8 * n);
        // Channel shuffle of 2 groups of 64 channels.
        (m.n0, m.n1, m.n2) = (2, 64, 784);
        (m.src_s0, m.src_s1, m.src_s2, m.dst_s0, m.dst_s1, m.dst_s2) = (64, 1, 128, 1, 2, 128);
        self.rate("move shuffle 2x64", Family::Move, Variant::B1, &m, 2 * n);
        (m.n0, m.n1, m.n2) = (3, 40, 784);
        (m.src_s0, m.src_s1, m.src_s2, m.dst_s0, m.dst_s1, m.dst_s2) = (40, 1, 120, 1, 3, 120);
        self.rate("move shuffle 3x40", Family::Move, Variant::B1, &m, 2 * 784 * 120);
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let filter = arguments.next().unwrap_or_default();
    let cap = arguments.next().map(|name| Tier::from_name(&name).expect("a tier"));
    let bench = Bench { tier: host::best(cap), filter };
    println!(
        "tier {}, peak {:.1} GMAC/s int8, {:.1} GMAC/s f32",
        bench.tier.name(),
        peak_int8(bench.tier) / 1e9,
        peak_f32(bench.tier) / 1e9
    );
    for c in LAYERS {
        bench.conv(c);
    }
    bench.fully_connected("fc 2048-1000", 2048, 1000);
    bench.fully_connected("fc 4096-4096", 4096, 4096);
    bench.fully_connected("fc 512-64", 512, 64);
    for c in LAYERS.iter().filter(|c| matches!(c.variant, Variant::U8 | Variant::U8Res)) {
        bench.conv_f32(c);
    }
    bench.conv_f32(&Conv::new("fc 4096-4096", Variant::U8, 1, 1, 1, 4096, 4096));
    for (name, image, channels, stride, k) in DEPTHWISE {
        bench.depthwise(name, image, channels, stride, k);
        bench.depthwise_f32(name, image, channels, stride, k);
    }
    bench.pool("max 3x3s2 64 @56", Variant::MaxU8, 56, 3, 2, 1, 64);
    bench.pool("max 3x3 192 @28", Variant::MaxU8, 28, 3, 1, 1, 192);
    bench.pool("max 2x2s2 64 @112", Variant::MaxU8, 112, 2, 2, 0, 64);
    bench.pool("avg 3x3 192 @28", Variant::AvgU8, 28, 3, 1, 1, 192);
    bench.pool("avg global 7x7 2048", Variant::AvgU8, 1, 7, 1, 0, 2048);
    bench.elementwise();
}
