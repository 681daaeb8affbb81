//! Pooling.

use super::items::within_planes;
use super::{arg, check_size, f32_ty, f32s, nchw, sizes};
use qc_ir::{HostTensor, Module, OpId, Type};
use qc_kernels::reference::maximum;

qc_ir::ops! { dialect POOL = "graph";
    /// The largest element under each window, NaN if one is NaN; padding never wins. A window of padding only gives -inf.
    op MaxPool = "graph.max_pool"(x: F32 4) -> (out) {
        kernel: Ints, strides: Ints, pads: Ints = [0, 0, 0, 0], ceil_mode: Bool = false
    } [PURE] infer(infer_pool) eval(eval_max_pool) items(within_planes);
    /// The mean under each window. `count` says what the sum is divided by: `exclusive` the real elements, `kernel` the
    /// kernel's area, `inclusive` the part of the window that lies inside the padded input.
    op AvgPool = "graph.avg_pool"(x: F32 4) -> (out) {
        kernel: Ints, strides: Ints, pads: Ints = [0, 0, 0, 0], ceil_mode: Bool = false, count: Str = "exclusive"
    } [PURE] infer(infer_pool) verify(verify_avg_pool) eval(eval_avg_pool)
        items(within_planes);
    /// The mean of each plane.
    op GlobalAvgPool = "graph.global_avg_pool"(x: F32 4) -> (out) {} [PURE] infer(infer_global) eval(eval_global_avg)
        items(within_planes);
    /// The largest element of each plane, NaN if one is NaN.
    op GlobalMaxPool = "graph.global_max_pool"(x: F32 4) -> (out) {} [PURE] infer(infer_global) eval(eval_global_max)
        items(within_planes);
    /// Means over windows `floor(o*in/out) .. ceil((o+1)*in/out)` that cover the plane for a given output size.
    op AdaptiveAvgPool = "graph.adaptive_avg_pool"(x: F32 4) -> (out) { output: Ints } [PURE]
        infer(infer_adaptive) eval(eval_adaptive) items(within_planes);
}

qc_ir::interface! {
    /// A pool under a window.
    WindowPool [MaxPool, AvgPool] {
        /// Height and width of the window.
        kernel: Box<[i64]>;
        /// Steps of the window.
        strides: Box<[i64]>;
        /// Padding: top, left, bottom, right.
        pads: Box<[i64]>;
        /// Whether a last window may be cut off.
        ceil_mode: bool;
    }
}

/// What an average is divided by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Real elements.
    Exclusive,
    /// The kernel's area.
    Kernel,
    /// The part of the window inside the padded input.
    Inclusive,
}

impl Count {
    /// The mode that attributes call `name`.
    ///
    /// # Errors
    /// For an unknown word.
    pub fn from_name(name: &str) -> Result<Count, String> {
        match name {
            "exclusive" => Ok(Count::Exclusive),
            "kernel" => Ok(Count::Kernel),
            "inclusive" => Ok(Count::Inclusive),
            other => Err(format!("`count` is exclusive, kernel or inclusive, not `{other}`")),
        }
    }
}

/// The geometry of a pooling op, checked.
#[derive(Clone, Copy, Debug)]
pub struct PoolShape {
    /// Input dims, NCHW.
    pub input: [usize; 4],
    /// Output height and width.
    pub out: [usize; 2],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Strides.
    pub strides: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
}

/// One window along one dim.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// First real element.
    pub start: usize,
    /// Behind the last real element.
    pub end: usize,
    /// Length inside the padded input.
    pub padded: usize,
}

impl PoolShape {
    /// The shape of a pooling op with these dims and attributes.
    ///
    /// # Errors
    /// One sentence on what does not fit.
    pub fn new(
        input: [usize; 4],
        kernel: &[i64],
        strides: &[i64],
        pads: &[i64],
        ceil_mode: bool,
    ) -> Result<PoolShape, String> {
        let kernel: [usize; 2] = sizes("kernel", kernel)?;
        let strides: [usize; 2] = sizes("strides", strides)?;
        let pads: [usize; 4] = sizes("pads", pads)?;
        if kernel.contains(&0) || strides.contains(&0) {
            return Err("kernel and strides must be positive".into());
        }
        let out = |d: usize| {
            let padded = input[2 + d].checked_add(pads[d])?.checked_add(pads[2 + d])?;
            let reach = padded.checked_sub(kernel[d])?;
            let extra = if ceil_mode { strides[d] - 1 } else { 0 };
            Some((reach + extra) / strides[d] + 1)
        };
        let none = || format!("kernel {kernel:?} does not fit input {:?} with pads {pads:?}", &input[2..]);
        let out = [out(0).ok_or_else(none)?, out(1).ok_or_else(none)?];
        check_size(&[input[0], input[1], out[0], out[1]])?;
        Ok(PoolShape { input, out, kernel, strides, pads })
    }

    /// The window of output `o` along dim `d` (0 vertical, 1 horizontal).
    pub fn span(&self, d: usize, o: usize) -> Span {
        let (size, before, after) = (self.input[2 + d], self.pads[d], self.pads[2 + d]);
        let start = o * self.strides[d];
        let end = (start + self.kernel[d]).min(size + before + after);
        let clip = |p: usize| p.saturating_sub(before).min(size);
        Span { start: clip(start), end: clip(end), padded: end.saturating_sub(start) }
    }

    /// The divisor of an average over two spans.
    pub fn divisor(&self, count: Count, y: Span, x: Span) -> usize {
        match count {
            Count::Exclusive => (y.end - y.start) * (x.end - x.start),
            Count::Kernel => self.kernel[0] * self.kernel[1],
            Count::Inclusive => y.padded * x.padded,
        }
    }
}

impl MaxPool {
    /// The geometry.
    ///
    /// # Errors
    /// As [`PoolShape::new`].
    pub fn shape(self, m: &Module) -> Result<PoolShape, String> {
        WindowPool::from(self).shape(m)
    }
}

impl AvgPool {
    /// The geometry.
    ///
    /// # Errors
    /// As [`PoolShape::new`].
    pub fn shape(self, m: &Module) -> Result<PoolShape, String> {
        WindowPool::from(self).shape(m)
    }

    /// What the sums are divided by.
    ///
    /// # Errors
    /// For an unknown word.
    pub fn count_mode(self, m: &Module) -> Result<Count, String> {
        Count::from_name(&self.count(m))
    }
}

impl WindowPool {
    /// The geometry.
    ///
    /// # Errors
    /// As [`PoolShape::new`].
    pub fn shape(self, m: &Module) -> Result<PoolShape, String> {
        PoolShape::new(nchw(m, self.op(), 0)?, &self.kernel(m), &self.strides(m), &self.pads(m), self.ceil_mode(m))
    }
}

fn infer_pool(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let s = WindowPool::of(m, op).ok_or("it is no pool")?.shape(m)?;
    f32_ty([s.input[0], s.input[1], s.out[0], s.out[1]])
}

fn verify_avg_pool(m: &Module, op: OpId) -> Result<(), String> {
    AvgPool(op).count_mode(m).map(|_| ())
}

/// Calls `window(plane, y span, x span)` for every output element in order.
fn windows(s: &PoolShape, x: &[f32], mut window: impl FnMut(&[f32], Span, Span) -> f32) -> HostTensor {
    let [n, c, h, w] = s.input;
    let mut out = Vec::with_capacity(n * c * s.out[0] * s.out[1]);
    for plane in x.chunks_exact((h * w).max(1)) {
        for oy in 0..s.out[0] {
            for ox in 0..s.out[1] {
                out.push(window(plane, s.span(0, oy), s.span(1, ox)));
            }
        }
    }
    HostTensor::f32([n, c, s.out[0], s.out[1]], out)
}

fn largest<'a>(values: impl Iterator<Item = &'a f32>) -> f32 {
    values.fold(f32::NEG_INFINITY, |a, &b| maximum(a, b))
}

/// The sum in double precision by `count`; 0 where that is 0.
fn mean<'a>(values: impl Iterator<Item = &'a f32>, count: usize) -> f32 {
    (values.map(|&v| f64::from(v)).sum::<f64>() / count.max(1) as f64) as f32
}

fn eval_max_pool(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let s = MaxPool(op).shape(m)?;
    let width = s.input[3];
    Ok(vec![windows(&s, f32s(args, 0)?, |plane, y, x| {
        let rows = (y.start..y.end).flat_map(|i| &plane[i * width..][x.start..x.end]);
        largest(rows)
    })])
}

fn eval_avg_pool(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let s = AvgPool(op).shape(m)?;
    let count = AvgPool(op).count_mode(m)?;
    let width = s.input[3];
    Ok(vec![windows(&s, f32s(args, 0)?, |plane, y, x| {
        mean((y.start..y.end).flat_map(|i| &plane[i * width..][x.start..x.end]), s.divisor(count, y, x))
    })])
}

fn infer_global(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let [n, c, _, _] = nchw(m, op, 0)?;
    f32_ty([n, c, 1, 1])
}

fn planes(args: &[Option<&HostTensor>], f: impl Fn(&[f32]) -> f32) -> Result<Vec<HostTensor>, String> {
    let dims = arg(args, 0)?.dims();
    let plane = dims[2] * dims[3];
    let out = f32s(args, 0)?.chunks_exact(plane.max(1)).map(f).collect();
    Ok(vec![HostTensor::f32([dims[0], dims[1], 1, 1], out)])
}

fn eval_global_avg(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    planes(args, |p| mean(p.iter(), p.len()))
}

fn eval_global_max(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    planes(args, |p| largest(p.iter()))
}

/// The window of output `o` of `out` over `input` elements in adaptive pooling.
pub fn adaptive_span(input: usize, out: usize, o: usize) -> (usize, usize) {
    (o * input / out, ((o + 1) * input).div_ceil(out))
}

fn infer_adaptive(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let [n, c, _, _] = nchw(m, op, 0)?;
    let [oh, ow] = sizes("output", &AdaptiveAvgPool(op).output(m))?;
    if oh == 0 || ow == 0 {
        return Err("`output` must be positive".into());
    }
    f32_ty([n, c, oh, ow])
}

fn eval_adaptive(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let [n, c, h, w] = nchw(m, op, 0)?;
    let [oh, ow] = sizes("output", &AdaptiveAvgPool(op).output(m))?;
    let mut out = Vec::new();
    for plane in f32s(args, 0)?.chunks_exact((h * w).max(1)) {
        for oy in 0..oh {
            let (y0, y1) = adaptive_span(h, oh, oy);
            for ox in 0..ow {
                let (x0, x1) = adaptive_span(w, ow, ox);
                out.push(mean((y0..y1).flat_map(|y| &plane[y * w..][x0..x1]), (y1 - y0) * (x1 - x0)));
            }
        }
    }
    Ok(vec![HostTensor::f32([n, c, oh, ow], out)])
}
