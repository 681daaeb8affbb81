//! Convolutions, by the matrix kernel or the depthwise kernel.
//!
//! The input lies channels-last with a border, so the taps of one kernel row are one contiguous run of `kw * c` bytes
//! and the whole convolution is one matrix sweep whose rows are pixels: no im2col. On a slice of wider pixels, with
//! dilation or groups, every tap is a run of its own.

use super::Lower;
use super::emit::Call;
use super::linear::{Constants, Gemm, Stride, constant_i8, epilogue_fields, pixel_loops, strided, variant};
use super::view::{Level, View};
use qc_dialects::graph::Conv2d;
use qc_dialects::graph::conv::ConvShape;
use qc_dialects::quant::QConv2d;
use qc_dialects::quant::compute::Epilogue;
use qc_ir::{Attr, Diag, HostTensor, ValueId};
use qc_kernels::pack::{GemmShape, Taps, pad16, round64};

/// A convolution with its operands placed.
struct Placed {
    s: ConvShape,
    x: View,
    out: View,
    res: Option<View>,
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

    /// How weights are packed for this input.
    fn gemm_shape(&self) -> GemmShape {
        let (cols, channels) = (self.s.weight[0] / self.s.groups, self.s.weight[1]);
        let pixel = (self.x.strides[3] / self.x.elem_bytes()) as usize;
        let (kh, kw) = (self.s.y.kernel, self.s.x.kernel);
        let joined = kw == 1 || (self.s.groups == 1 && self.s.x.dilation == 1 && pixel == channels);
        let taps = if joined { Taps::Joined { pitch: channels } } else { Taps::Split };
        GemmShape { cols, channels, kh, kw, taps }
    }

    fn gemm(&self, call: Call, c: &Constants, shape: &GemmShape, sizes: (usize, usize)) -> Gemm {
        let [rows, outer, images] = pixel_loops(self.pixels());
        let mut call = call
            .set("seg_y", shape.seg_y())
            .set("seg_y_stride", self.s.y.dilation as i64 * self.x.strides[2])
            .set("seg_x", shape.seg_x())
            .set("seg_x_stride", self.s.x.dilation as i64 * self.x.strides[3])
            .pointer("a", self.x.buf, self.x.offset + self.first_tap(), &[])
            .pointer("w", c.weight, 0, &[])
            .pointer("bias", c.bias, 0, &[]);
        if let Some(scale) = c.scale {
            call = call.pointer("scale", scale, 0, &[]);
        }
        call = call.view("out", &self.out, &[]);
        if let Some(res) = &self.res {
            call = call.view("res", res, &[]);
        }
        let (e_in, e_out) = (self.x.elem_bytes(), self.out.elem_bytes());
        let columns = shape.cols as i64 * e_out;
        let groups = Stride { count: self.s.groups, a: shape.channels as i64 * e_in, out: columns, res: columns };
        Gemm {
            call: strided(call, rows, outer, self.res.is_some()),
            has_scale: c.scale.is_some(),
            has_res: self.res.is_some(),
            rows,
            outer,
            images,
            groups,
            cols: shape.cols,
            panel_bytes: sizes.0,
            group_bytes: sizes.1,
            out_bytes: e_out,
            macs: self.s.macs(),
        }
    }
}

impl Lower<'_> {
    fn place_conv(&mut self, x: ValueId, out: ValueId, res: Option<ValueId>, s: ConvShape) -> Result<Placed, Diag> {
        let pads = [s.y.pads.0, s.x.pads.0, s.y.pads.1, s.x.pads.1];
        let x = self.channels_last_view(x, pads)?;
        let res = res.map(|r| self.channels_last_view(r, [0; 4])).transpose()?;
        let out_view = self.destination(out)?;
        Ok(Placed { s, x, out: out_view, res })
    }

    /// `quant.conv2d`.
    pub fn conv_u8(&mut self, op: QConv2d) -> Result<(), Diag> {
        let src = self.src;
        let s = op.shape(src).map_err(Diag::bug)?;
        let e = Epilogue::of(src, op.0).map_err(Diag::bug)?;
        let p = self.place_conv(op.x(src), op.out(src), op.residual(src), s)?;
        if s.is_depthwise() && s.weight[0] == s.groups && e.out.is_some() && e.residual.is_none() {
            return self.depthwise_u8(op, &p, &e);
        }
        let shape = p.gemm_shape();
        let c = self.integer_constants(op.0, &shape, s.groups)?;
        let call = epilogue_fields(Call::new(&format!("gemm.{}", variant(&e))), &e).set("k4", shape.k4());
        let sizes = (shape.panel_bytes(0), round64(shape.bytes()));
        p.gemm(call, &c, &shape, sizes).emit(self.emit())
    }

    /// `graph.conv2d`.
    pub fn conv_f32(&mut self, op: Conv2d) -> Result<(), Diag> {
        let src = self.src;
        let s = op.shape(src).map_err(Diag::bug)?;
        let weight = crate::graph::constant_f32(src, op.weight(src));
        let weight = weight.ok_or_else(|| {
            Diag::error("graph.conv2d: weights that are computed at run time are not supported")
                .help("export the model with its weights as initializers")
        })?;
        let name = src.name(op.weight(src)).unwrap_or("weight").to_string();
        let p = self.place_conv(op.input(src), op.out(src), None, s)?;
        let (lo, hi) = (op.min(src) as f32, op.max(src) as f32);
        if s.is_depthwise() && s.weight[0] == s.groups {
            return self.depthwise_f32(op, &p, weight, &name);
        }
        let shape = p.gemm_shape();
        let c = self.float_constants(weight, &name, op.bias(src), &shape, s.groups)?;
        let call = Call::new("gemm_f32.f32").set("k", shape.k()).set("clamp_lo", lo).set("clamp_hi", hi);
        let sizes = (shape.panel_bytes_f32(0), round64(shape.bytes_f32()));
        p.gemm(call, &c, &shape, sizes).emit(self.emit())
    }

    fn depthwise_u8(&mut self, op: QConv2d, p: &Placed, e: &Epilogue) -> Result<(), Diag> {
        let src = self.src;
        let channels = p.s.groups;
        let (w, name) = constant_i8(src, op.weight(src))?;
        let zero = self.zero_of(op.x(src));
        let taps = w.len() / channels;
        let mut bias: Vec<i32> =
            w.chunks_exact(taps).map(|row| -zero * row.iter().map(|&x| i32::from(x)).sum::<i32>()).collect();
        if let Some(b) = op.bias(src) {
            let tensor = crate::graph::constant(src, b).ok_or_else(|| Diag::bug("the bias is not constant"))?;
            let stored = tensor.as_i32().ok_or_else(|| Diag::bug("the bias is not i32"))?;
            bias.iter_mut().zip(stored).for_each(|(a, b)| *a = a.wrapping_add(*b));
        }
        let bias = pad16(&bias);
        let scale = pad16(&e.scales);
        let weight = self.data(&name, HostTensor::i8([w.len()], w), depthwise_pack(p))?;
        let bias = self.data("bias", HostTensor::i32([bias.len()], bias), vec![])?;
        let scale = self.data("scale", HostTensor::f32([scale.len()], scale), vec![])?;
        let call = epilogue_fields(Call::new("dw.u8"), e)
            .pointer("a", p.x.buf, p.x.offset + p.first_tap(), &[])
            .view("out", &p.out, &[])
            .pointer("w", weight, 0, &[])
            .pointer("bias", bias, 0, &[])
            .pointer("scale", scale, 0, &[]);
        self.depthwise_sweep(call, p)
    }

    fn depthwise_f32(&mut self, op: Conv2d, p: &Placed, w: Vec<f32>, name: &str) -> Result<(), Diag> {
        let bias = match op.bias(self.src) {
            None => vec![0.0; p.s.groups],
            Some(b) => crate::graph::constant_f32(self.src, b).ok_or_else(|| Diag::bug("the bias is not constant"))?,
        };
        let bias = pad16(&bias);
        let weight = self.data(name, HostTensor::f32([w.len()], w), depthwise_pack(p))?;
        let bias = self.data("bias", HostTensor::f32([bias.len()], bias), vec![])?;
        let call = Call::new("dw_f32.f32")
            .set("clamp_lo", op.min(self.src) as f32)
            .set("clamp_hi", op.max(self.src) as f32)
            .pointer("a", p.x.buf, p.x.offset + p.first_tap(), &[])
            .view("out", &p.out, &[])
            .pointer("w", weight, 0, &[])
            .pointer("bias", bias, 0, &[]);
        self.depthwise_sweep(call, p)
    }

    /// Images are tasks, or the rows of a single image.
    fn depthwise_sweep(&mut self, call: Call, p: &Placed) -> Result<(), Diag> {
        let (x, o, s) = (&p.x.strides, &p.out.strides, &p.s);
        let step_y = s.y.stride as i64 * x[2];
        let call = call
            .set("a_col", s.x.dilation as i64 * x[3])
            .set("a_row", s.y.dilation as i64 * x[2])
            .set("step_x", s.x.stride as i64 * x[3])
            .set("step_y", step_y)
            .set("out_px", o[3])
            .set("out_row", o[2])
            .set("kh", s.y.kernel)
            .set("kw", s.x.kernel)
            .set("cols", s.out[3])
            .set("channels", s.groups);
        let (images, rows) = (s.out[0], s.out[2]);
        let small = s.macs() < 1 << 15;
        let tasks = if small {
            1
        } else if images > 1 {
            images
        } else {
            rows
        };
        let moves = [x[0], o[0]];
        self.emit().with_macs(s.macs()).step(tasks, |e, begin, end| {
            if small || images > 1 {
                let call = call.set("rows", rows);
                return match small {
                    true => e.for_count(images, |e, n| e.call(call.moved(n, &moves))),
                    false => e.for_range(begin, end, |e, n| e.call(call.moved(n, &moves))),
                };
            }
            let count = e.arith("sub", end, begin)?;
            e.call(call.moved(begin, &[step_y, o[2]]).dynamic("rows", count))
        })
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
