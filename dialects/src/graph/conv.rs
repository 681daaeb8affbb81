//! Convolution.

use super::{arg, check_size, f32_ty, f32s, nchw, sizes};
use qc_ir::{Follow, HostTensor, Items, Module, OpId, Type};
use qc_kernels::reference::clamp_f32;

qc_ir::ops! { dialect CONV = "graph";
    /// 2-D convolution (cross-correlation) of NCHW activations with OIHW weights.
    ///
    /// `out[n,o,y,x] = bias[o] + sum_{c,i,j} input[n, g*C/G + c, y*sy + i*dy - top, x*sx + j*dx - left] * weight[o,c,i,j]`
    /// where `g = o / (O/G)`; what lies outside the input counts as 0. `pads` are top, left, bottom, right. Then
    /// `residual`, a tensor of the result's shape, is added, and the result is clamped to `min..=max`: an addition and an
    /// activation that became part of the convolution.
    op Conv2d = "graph.conv2d"(input: F32 4, weight: F32 4, bias: Optional F32 1, residual: Optional F32 4) -> (out) {
        strides: Ints = [1, 1], pads: Ints = [0, 0, 0, 0], dilations: Ints = [1, 1], groups: Int = 1,
        min: Float = f64::NEG_INFINITY, max: Float = f64::INFINITY
    } [PURE] infer(infer_conv2d) eval(eval_conv2d) items(items_conv2d);
}

fn items_conv2d(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let residual = Conv2d(op).residual(m).map_or(f.along(m, op, 0), |_| f.along(m, op, 3));
    match f.all_same(m, op) {
        true => Some(Items::Same),
        false => {
            let parameters = f.is_same(m, op, 1) && f.is_same(m, op, 2);
            (f.along(m, op, 0)? == 0 && residual? == 0 && parameters).then_some(Items::Along(0))
        }
    }
}

/// The geometry of a convolution or pooling window along one dim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Taps.
    pub kernel: usize,
    /// Input elements from one output to the next.
    pub stride: usize,
    /// Input elements from one tap to the next.
    pub dilation: usize,
    /// Padding before and after.
    pub pads: (usize, usize),
}

impl Window {
    /// Output size over `input` elements; `None` if no window fits.
    pub fn output(&self, input: usize) -> Option<usize> {
        let reach = self.dilation.checked_mul(self.kernel.checked_sub(1)?)?.checked_add(1)?;
        let padded = input.checked_add(self.pads.0)?.checked_add(self.pads.1)?;
        Some(padded.checked_sub(reach)? / self.stride + 1)
    }

    /// The input element under `tap` of output `o`; `None` in the padding.
    pub fn input(&self, o: usize, tap: usize, size: usize) -> Option<usize> {
        (o * self.stride + tap * self.dilation).checked_sub(self.pads.0).filter(|&i| i < size)
    }
}

/// The geometry of a convolution, checked.
#[derive(Clone, Copy, Debug)]
pub struct ConvShape {
    /// Input dims, NCHW.
    pub input: [usize; 4],
    /// Weight dims, OIHW with I per group.
    pub weight: [usize; 4],
    /// Output dims, NCHW.
    pub out: [usize; 4],
    /// Vertical window.
    pub y: Window,
    /// Horizontal window.
    pub x: Window,
    /// Groups.
    pub groups: usize,
}

impl ConvShape {
    /// The shape of a convolution with these dims and attributes.
    ///
    /// # Errors
    /// One sentence on what does not fit.
    pub fn new(
        input: [usize; 4],
        weight: [usize; 4],
        strides: &[i64],
        pads: &[i64],
        dilations: &[i64],
        groups: i64,
    ) -> Result<ConvShape, String> {
        let [sy, sx] = sizes("strides", strides)?;
        let [dy, dx] = sizes("dilations", dilations)?;
        let [top, left, bottom, right] = sizes("pads", pads)?;
        let groups = usize::try_from(groups).ok().filter(|&g| g > 0).ok_or("`groups` must be positive")?;
        if [sy, sx, dy, dx, weight[2], weight[3]].contains(&0) {
            return Err("strides, dilations and kernel must be positive".into());
        }
        if weight[1].checked_mul(groups) != Some(input[1]) {
            return Err(format!(
                "weight channels {} x groups {groups} do not match input channels {}",
                weight[1], input[1]
            ));
        }
        if !weight[0].is_multiple_of(groups) {
            return Err(format!("{} output channels cannot be cut into {groups} groups", weight[0]));
        }
        let y = Window { kernel: weight[2], stride: sy, dilation: dy, pads: (top, bottom) };
        let x = Window { kernel: weight[3], stride: sx, dilation: dx, pads: (left, right) };
        let too_small = || format!("kernel {:?} does not fit input {:?} with pads {pads:?}", &weight[2..], &input[2..]);
        let oh = y.output(input[2]).ok_or_else(too_small)?;
        let ow = x.output(input[3]).ok_or_else(too_small)?;
        let out = [input[0], weight[0], oh, ow];
        check_size(&out)?;
        Ok(ConvShape { input, weight, out, y, x, groups })
    }

    /// Multiply-accumulate operations.
    pub fn macs(&self) -> usize {
        self.out.iter().product::<usize>() * self.weight[1..].iter().product::<usize>()
    }

    /// Whether each group has one input channel, so that channels do not mix.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.weight[1] == 1
    }

    /// Calls `tap(weight index, input index)` for every pair that contributes to output `[n, o, oy, ox]`, in the order
    /// of the weight's elements.
    pub fn taps(&self, [n, o, oy, ox]: [usize; 4], mut tap: impl FnMut(usize, usize)) {
        let [_, c_in, h, w] = self.input;
        let [c_out, c_group, kh, kw] = self.weight;
        let first = o / (c_out / self.groups) * c_group;
        for c in 0..c_group {
            for i in 0..kh {
                let Some(iy) = self.y.input(oy, i, h) else { continue };
                for j in 0..kw {
                    let Some(ix) = self.x.input(ox, j, w) else { continue };
                    tap(((o * c_group + c) * kh + i) * kw + j, ((n * c_in + first + c) * h + iy) * w + ix);
                }
            }
        }
    }
}

impl Conv2d {
    /// The geometry.
    ///
    /// # Errors
    /// As [`ConvShape::new`].
    pub fn shape(self, m: &Module) -> Result<ConvShape, String> {
        ConvShape::new(
            nchw(m, self.0, 0)?,
            nchw(m, self.0, 1)?,
            &self.strides(m),
            &self.pads(m),
            &self.dilations(m),
            self.groups(m),
        )
    }
}

fn infer_conv2d(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let shape = Conv2d(op).shape(m)?;
    if let Some(bias) = Conv2d(op).bias(m)
        && m.dims(bias) != [shape.weight[0]]
    {
        return Err(format!("bias has shape {:?}, not [{}]", m.dims(bias), shape.weight[0]));
    }
    if let Some(residual) = Conv2d(op).residual(m)
        && m.dims(residual) != shape.out
    {
        return Err(format!("residual has shape {:?}, not {:?}", m.dims(residual), shape.out));
    }
    f32_ty(shape.out)
}

fn eval_conv2d(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let s = Conv2d(op).shape(m)?;
    let (input, weight) = (f32s(args, 0)?, f32s(args, 1)?);
    let bias = args.get(2).copied().flatten().map(|_| f32s(args, 2)).transpose()?;
    let residual = args.get(3).copied().flatten().map(|_| f32s(args, 3)).transpose()?;
    arg(args, 0)?;
    let (min, max) = (Conv2d(op).min(m) as f32, Conv2d(op).max(m) as f32);
    let [n, c_out, oh, ow] = s.out;
    let mut out = vec![0.0f32; s.out.iter().product()];
    for b in 0..n {
        for o in 0..c_out {
            let plane = &mut out[(b * c_out + o) * oh * ow..][..oh * ow];
            accumulate_plane(&s, b, o, input, weight, plane);
            let bias = bias.map_or(0.0, |v| v[o]);
            plane.iter_mut().for_each(|x| *x += bias);
            if let Some(residual) = residual {
                let residual = &residual[(b * c_out + o) * oh * ow..][..oh * ow];
                plane.iter_mut().zip(residual).for_each(|(x, r)| *x += r);
            }
            plane.iter_mut().for_each(|x| *x = clamp_f32(*x, min, max));
        }
    }
    Ok(vec![HostTensor::f32(s.out.to_vec(), out)])
}

/// Adds one output plane tap by tap, so that the inner loop runs along a row.
fn accumulate_plane(s: &ConvShape, n: usize, o: usize, input: &[f32], weight: &[f32], plane: &mut [f32]) {
    let [_, c_in, h, w] = s.input;
    let [c_out, c_group, kh, kw] = s.weight;
    let first = o / (c_out / s.groups) * c_group;
    let ow = s.out[3];
    for c in 0..c_group {
        let image = &input[(n * c_in + first + c) * h * w..][..h * w];
        for i in 0..kh {
            for j in 0..kw {
                let tap = weight[((o * c_group + c) * kh + i) * kw + j];
                for (oy, row) in plane.chunks_exact_mut(ow).enumerate() {
                    let Some(iy) = s.y.input(oy, i, h) else { continue };
                    let source = &image[iy * w..][..w];
                    let reach = j * s.x.dilation;
                    let (pad, stride) = (s.x.pads.0, s.x.stride);
                    // Outputs whose tap falls inside the row: pad <= ox*stride + reach < w + pad.
                    let lo = pad.saturating_sub(reach).div_ceil(stride).min(ow);
                    let hi = (w + pad).saturating_sub(reach).div_ceil(stride).clamp(lo, ow);
                    for (ox, out) in row[lo..hi].iter_mut().enumerate() {
                        *out += tap * source[(lo + ox) * stride + reach - pad];
                    }
                }
            }
        }
    }
}
