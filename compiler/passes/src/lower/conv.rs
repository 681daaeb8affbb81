//! Convolutions, by the matrix kernel or the depthwise kernel.
//!
//! The input lies channels-last with padding, so the taps of one kernel row are one contiguous run of `kw * c` bytes
//! and the whole convolution is one matrix sweep whose rows are pixels: no im2col. On a slice of wider pixels, with
//! dilation or groups, every tap is a run of its own. Output channels whose weights do not fit s8 are computed again by a
//! sweep of their own, see `wide.rs`.

use super::Lower;
use super::call::{At, Code, Count};
use super::elementwise::Stored;
use super::emit::Emit;
use super::gate::{Gate, Gated};
use super::grain;
use super::linear::{Bytes, Constants, Finish, Operands, Segments, bounds_u8, float_call, integer_call, sweep_of};
use super::matrix::{Loop, Sweep, pixel_loops};
use super::view::{Level, View};
use super::wide::{Weights, of_run};
use qc_dialects::graph::Conv2d;
use qc_dialects::graph::conv::ConvShape;
use qc_dialects::quant::QConv2d;
use qc_dialects::quant::compute::Epilogue;
use qc_ir::{Attr, Diag, HostTensor, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{DwCall, DwF32Call, DwF32More, DwMore, KernelCall};
use qc_kernels::pack::{GemmShape, Taps, pad16, round16};
use std::ops::Range;
use std::sync::Arc;

/// A convolution with its operands placed.
pub(super) struct Placed {
    pub s: ConvShape,
    /// Channels-last, with padding.
    pub x: View,
    pub out: View,
    pub res: Option<View>,
    /// Bytes from the input of one group to that of the next, where groups do not share pixels.
    pub group_stride: Option<i64>,
}

impl Placed {
    /// Bytes from the origin of the input to the first tap of the first output.
    fn first_tap(&self) -> i64 {
        -(self.s.y.pads.0 as i64 * self.x.strides[2] + self.s.x.pads.0 as i64 * self.x.strides[3])
    }

    /// Loops over output pixels: images, rows, pixels.
    fn pixels(&self) -> Vec<Level> {
        let (x, o) = (&self.x.strides, &self.out.strides);
        let r = self.res.as_ref().map_or(o, |r| &r.strides);
        let level = |count: usize, a: i64, d: usize| Level { count, strides: vec![a, o[d], r[d]] };
        vec![
            level(self.s.out[0], x[0], 0),
            level(self.s.out[2], self.s.y.stride as i64 * x[2], 2),
            level(self.s.out[3], self.s.x.stride as i64 * x[3], 3),
        ]
    }

    /// Elements from one pixel of the input to the next.
    fn pixel(&self) -> usize {
        (self.x.strides[3] / self.x.elem_bytes()) as usize
    }

    /// How weights are packed for this input.
    pub fn gemm_shape(&self) -> GemmShape {
        let (cols, channels) = (self.s.weight[0] / self.s.groups, self.s.weight[1]);
        let pixel = self.pixel();
        let (kh, kw) = (self.s.y.kernel, self.s.x.kernel);
        let joined = kw == 1 || (self.s.groups == 1 && self.s.x.dilation == 1 && pixel == channels);
        let taps = if joined { Taps::Joined { pitch: channels } } else { Taps::Split };
        GemmShape { cols, channels, kh, kw, taps }
    }

    /// The output channels of `run` alone; the groups stay.
    fn columns(&self, run: &Range<usize>) -> Placed {
        let part = |v: &View| v.narrow(1, run.start, run.len(), 1);
        let [_, channels, kh, kw] = self.s.weight;
        let [n, _, oh, ow] = self.s.out;
        let s = ConvShape { weight: [run.len(), channels, kh, kw], out: [n, run.len(), oh, ow], ..self.s };
        Placed { s, x: self.x.clone(), out: part(&self.out), res: self.res.as_ref().map(part), group_stride: None }
    }

    /// The element of the input that the first tap of the first output reads.
    fn input(&self) -> At {
        At::from(&self.x).plus(self.first_tap())
    }

    /// The sum of one output, by weights of `shape` in segments of `k`.
    pub fn segments(&self, shape: &GemmShape, k: usize) -> Segments {
        // Weights in parts visit each segment once per part.
        let (x, x_stride) = match shape.kh / self.s.y.kernel {
            1 => (shape.seg_x(), self.s.x.dilation as i64 * self.x.strides[3]),
            parts => (parts, 0),
        };
        Segments { y: self.s.y.kernel, y_stride: self.s.y.dilation as i64 * self.x.strides[2], x, x_stride, k }
    }

    pub fn sweep(&self, c: &Constants, shape: &GemmShape) -> Sweep {
        let (e_in, e_out) = (self.x.elem_bytes(), self.out.elem_bytes());
        let e_res = self.res.as_ref().map_or(e_out, |r| r.elem_bytes());
        let columns = shape.cols as i64;
        let groups = Loop {
            count: self.s.groups,
            a: self.group_stride.unwrap_or(shape.channels as i64 * e_in),
            w: c.group_bytes as i64,
            out: columns * e_out,
            res: columns * e_res,
            columns: round16(shape.cols) as i64,
            ..Loop::ONE
        };
        let at = Operands { a: self.input(), out: (&self.out).into(), res: self.res.as_ref().map(At::from) };
        let bytes = Bytes { panel: c.panel_bytes, out: e_out, res: e_res };
        sweep_of(c, at, pixel_loops(self.pixels()), shape.cols, bytes, groups, self.s.macs())
    }
}

impl Lower<'_> {
    fn place_conv(&mut self, x: ValueId, out: View, res: Option<ValueId>, s: ConvShape) -> Result<Placed, Diag> {
        let pads = [s.y.pads.0, s.x.pads.0, s.y.pads.1, s.x.pads.1];
        let x = self.channels_last_view(x, pads)?;
        let res = res.map(|r| self.channels_last_view(r, [0; 4])).transpose()?;
        Ok(Placed { s, x, out, res, group_stride: None })
    }

    /// `quant.conv2d`.
    pub fn conv_u8(&mut self, op: QConv2d) -> Result<(), Diag> {
        let src = self.src;
        let s = op.shape(src).map_err(Diag::bug)?;
        let e = Epilogue::of(src, op.into()).map_err(Diag::bug)?;
        let out = self.destination(op.out(src))?;
        let p = self.place_conv(op.x(src), out, op.residual(src), s)?;
        let w = Weights::of(src, op.into())?;
        let runs = w.wide_runs(s.groups);
        if s.is_depthwise() && s.weight[0] == s.groups && e.out.is_some() && e.residual.is_none() {
            self.depthwise_u8(&w, &p, &e)?;
            return self.wide_channels(&p, &w, runs, |l, run, p, w, parts, shape| {
                l.gemm_u8(p, w, &of_run(&e, run), parts, shape)
            });
        }
        self.channels(&p, &w, |l, run, p, w, parts, shape| l.gemm_u8(p, w, &of_run(&e, run), parts, shape))
    }

    /// Calls `gemm` for all output channels with weights in one part each, and then for those that need more.
    pub(super) fn channels(
        &mut self,
        p: &Placed,
        w: &Weights,
        mut gemm: impl FnMut(&mut Self, Range<usize>, &Placed, &Weights, usize, &GemmShape) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        let (runs, all) = (w.wide_runs(p.s.groups), 0..p.s.weight[0]);
        if runs.first() != Some(&all) {
            gemm(self, all, p, w, 1, &p.gemm_shape())?;
        }
        self.wide_channels(p, w, runs, gemm)
    }

    fn gemm_u8(&mut self, p: &Placed, w: &Weights, e: &Epilogue, parts: usize, shape: &GemmShape) -> Result<(), Diag> {
        let c = self.integer_constants(w, e, parts, shape, p.s.groups)?;
        let segments = p.segments(shape, shape.k4());
        p.sweep(&c, shape).emit(self.emit(), |panel| integer_call(e, &segments, panel))
    }

    /// The output channels whose weights do not fit s8, by weights in parts. Segments along a row are what parts
    /// repeat, so the taps of a row are one segment, with gaps where taps are apart.
    fn wide_channels(
        &mut self,
        p: &Placed,
        w: &Weights,
        runs: Vec<Range<usize>>,
        mut gemm: impl FnMut(&mut Self, Range<usize>, &Placed, &Weights, usize, &GemmShape) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        for run in runs {
            let w = w.of_run(run.clone());
            let p = if p.s.groups == 1 { p.columns(&run) } else { self.own_planes(p, &run)? };
            let parts = w.parts();
            let (cols, channels) = (p.s.weight[0] / p.s.groups, p.s.weight[1]);
            let pitch = p.s.x.dilation * p.pixel();
            let (kh, kw) = (p.s.y.kernel * parts, p.s.x.kernel);
            let shape = GemmShape { cols, channels, kh, kw, taps: Taps::Joined { pitch } };
            gemm(self, run, &p, &w, parts, &shape)?;
        }
        Ok(())
    }

    /// The convolution of the groups that make the output channels of `run`, each reading a copy of its own channels.
    fn own_planes(&mut self, p: &Placed, run: &Range<usize>) -> Result<Placed, Diag> {
        let channels = p.s.weight[1];
        let each = p.s.weight[0] / p.s.groups;
        let groups = run.start / each..run.end / each;
        let (pads, x) = ([p.s.y.pads, p.s.x.pads], &p.x);
        let [n, _, h, w] = p.s.input;
        let (h, w) = (h + pads[0].0 + pads[0].1, w + pads[1].0 + pads[1].1);
        let s = &x.strides;
        let from = View {
            offset: x.offset + p.first_tap() + (groups.start * channels) as i64 * s[1],
            dims: vec![n, groups.len(), h, w, channels],
            strides: vec![s[0], channels as i64 * s[1], s[2], s[3], s[1]],
            padding: [0; 4],
            ..x.clone()
        };
        let to = self.row_major_copy("planes", &from)?;
        let (t, out) = (&to.strides, p.columns(run));
        let corner = pads[0].0 as i64 * t[2] + pads[1].0 as i64 * t[3];
        let x = View { dims: p.x.dims.clone(), strides: vec![t[0], t[4], t[2], t[3]], offset: corner, ..to.clone() };
        let s = ConvShape { groups: groups.len(), ..out.s };
        Ok(Placed { s, x, group_stride: Some(t[1]), ..out })
    }

    /// `graph.conv2d`.
    pub fn conv_f32(&mut self, op: Conv2d) -> Result<(), Diag> {
        let src = self.src;
        let s = op.shape(src).map_err(Diag::bug)?;
        let weight = crate::graph::constant(src, op.weight(src)).filter(|t| t.as_f32().is_some());
        let weight = weight.ok_or_else(|| {
            Diag::error("graph.conv2d: weights that are computed at run time are not supported")
                .help("export the model with its weights as initializers")
        })?;
        let name = src.name(op.weight(src)).unwrap_or("weight").to_string();
        let gated = Gated::behind(src, op);
        if let Some(gated) = &gated {
            self.loc = self.joined_loc(op.0, &gated.ops);
        }
        let result = gated.as_ref().map_or(op.out(src), |gated| gated.result);
        let gate = gated.map_or(Gate::NONE, |gated| gated.gate);
        let (out, quant) = self.real_destination(result)?;
        let p = self.place_conv(op.input(src), out, op.residual(src), s)?;
        let clamp = [op.min(src) as f32, op.max(src) as f32];
        let to = Finish { stored: Stored::of(quant.as_ref()), clamp, gate };
        if s.is_depthwise() && s.weight[0] == s.groups && p.res.is_none() {
            return self.depthwise_f32(&to, op.bias(src), &p, weight, &name);
        }
        let shape = p.gemm_shape();
        let c = self.float_constants(weight, &name, op.bias(src), &shape, s.groups)?;
        let segments = p.segments(&shape, shape.k());
        p.sweep(&c, &shape).emit(self.emit(), |panel| float_call(&to, &segments, panel))
    }

    fn depthwise_u8(&mut self, w: &Weights, p: &Placed, e: &Epilogue) -> Result<(), Diag> {
        let (bias, scale) = (pad16(&w.bias), pad16(&e.scales));
        let weight = self.weight_data(w, 1, p.s.x.kernel, depthwise_pack(p))?;
        let bias = self.data("bias", HostTensor::i32([bias.len()], bias), vec![])?;
        let scale = self.data("scale", HostTensor::f32([scale.len()], scale), vec![])?;
        let (zero, lo, hi) = bounds_u8(e);
        let g = Strides::of(p);
        self.depthwise_sweep(p, |a, out, rows| DwCall {
            variant: Variant::U8,
            a,
            w: At::start(weight),
            bias: At::start(bias),
            scale: At::start(scale),
            out,
            kh: p.s.y.kernel.into(),
            kw: p.s.x.kernel.into(),
            rows,
            cols: p.s.out[3].into(),
            channels: p.s.groups.into(),
            hi,
            more: DwMore {
                lut: None,
                a_col: g.a_col.into(),
                a_row: g.a_row.into(),
                step_x: g.step_x.into(),
                step_y: g.step_y.into(),
                out_px: g.out_px.into(),
                out_row: g.out_row.into(),
                zero,
                lo,
            },
        })
    }

    fn depthwise_f32(
        &mut self,
        to: &Finish,
        bias: Option<ValueId>,
        p: &Placed,
        w: Arc<HostTensor>,
        name: &str,
    ) -> Result<(), Diag> {
        let bias = match bias {
            None => vec![0.0; p.s.groups],
            Some(b) => crate::graph::constant_f32(self.src, b).ok_or_else(|| Diag::bug("the bias is not constant"))?,
        };
        let bias = pad16(&bias);
        let weight = self.shared_data(name, w, depthwise_pack(p))?;
        let bias = self.data("bias", HostTensor::f32([bias.len()], bias), vec![])?;
        let (g, stored) = (Strides::of(p), to.stored);
        let [clamp_lo, clamp_hi] = to.clamp;
        let ([gate_offset, gate_bound, gate_factor], [post_factor, post_addend]) = (to.gate.swish, to.gate.post);
        self.depthwise_sweep(p, |a, out, rows| DwF32Call {
            variant: stored.variant(),
            a,
            w: At::start(weight),
            bias: At::start(bias),
            out,
            kh: p.s.y.kernel.into(),
            kw: p.s.x.kernel.into(),
            rows,
            cols: p.s.out[3].into(),
            channels: p.s.groups.into(),
            clamp_lo,
            clamp_hi,
            more: DwF32More {
                a_col: g.a_col.into(),
                a_row: g.a_row.into(),
                step_x: g.step_x.into(),
                step_y: g.step_y.into(),
                out_px: g.out_px.into(),
                out_row: g.out_row.into(),
                gate_factor,
                gate_offset,
                gate_bound,
                post_factor,
                post_addend,
                scale: stored.scale,
                zero: stored.zero,
                lo: stored.lo,
                hi: stored.hi,
            },
        })
    }

    /// Images are tasks, or the rows of a single image. `call` makes the call from input, output and the count of rows.
    fn depthwise_sweep<C: KernelCall<Code>>(
        &mut self,
        p: &Placed,
        call: impl Fn(At, At, Count) -> C,
    ) -> Result<(), Diag> {
        let (images, rows) = (p.s.out[0], p.s.out[2]);
        let small = p.s.macs() < grain::DEPTHWISE_MACS;
        let tasks = match small {
            true => 1,
            false if images > 1 => images,
            false => rows,
        };
        let (a, out, g) = (p.input(), At::from(&p.out), Strides::of(p));
        let image = |e: &mut Emit<'_>, n: ValueId| {
            let (a, out) = (a.clone().moved(n, p.x.strides[0]), out.clone().moved(n, p.out.strides[0]));
            e.call(&call(a, out, rows.into()))
        };
        self.emit().with_macs(p.s.macs()).step(tasks, |e, begin, end| match small {
            true => e.for_count(images, image),
            false if images > 1 => e.for_range(begin, end, image),
            false => {
                let count = e.arith("sub", end, begin)?.into();
                let (a, out) = (a.clone().moved(begin, g.step_y), out.clone().moved(begin, g.out_row));
                e.call(&call(a, out, count))
            }
        })
    }
}

/// Bytes of a depthwise convolution: between taps, between outputs.
struct Strides {
    a_col: i64,
    a_row: i64,
    step_x: i64,
    step_y: i64,
    out_px: i64,
    out_row: i64,
}

impl Strides {
    fn of(p: &Placed) -> Strides {
        let (x, out, s) = (&p.x.strides, &p.out.strides, &p.s);
        Strides {
            a_col: s.x.dilation as i64 * x[3],
            a_row: s.y.dilation as i64 * x[2],
            step_x: s.x.stride as i64 * x[3],
            step_y: s.y.stride as i64 * x[2],
            out_px: out[3],
            out_row: out[2],
        }
    }
}

fn depthwise_pack(p: &Placed) -> Vec<(Box<str>, Attr)> {
    vec![
        ("kind".into(), Attr::from("depthwise")),
        ("channels".into(), Attr::from(p.s.groups)),
        ("kh".into(), Attr::from(p.s.y.kernel)),
        ("kw".into(), Attr::from(p.s.x.kernel)),
    ]
}
