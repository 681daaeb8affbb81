//! Transposed convolution, as a convolution and a movement.
//!
//! Along one dim `out[s*i + d*k - pad] += in[i] * w[k]`. With `out + pad = s*q + r`, the phase `r` being the remainder, element
//! `q` of a phase is `sum_m in[q - m] * w[(r + s*m) / d]` over the `m` for which that is a tap: a convolution by mirrored taps. The
//! phases of both dims are output channels of one convolution, in which taps that a phase does not have are 0. A movement
//! then puts them where they belong. So transposed convolutions are whatever convolutions are, quantized too.

use super::{Conv, Graph, Value};
use crate::error::Refusal;
use crate::shape::Side;
use qc_ir::{Data, HostTensor, Quant};

/// Attributes of a transposed convolution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Transposed {
    pub strides: [i64; 2],
    /// What is cut off in front: top, left.
    pub pads: [i64; 2],
    pub dilations: [i64; 2],
    pub groups: i64,
    /// Height and width of the result.
    pub output: [i64; 2],
}

impl Transposed {
    /// Over an image, to the size `output`.
    pub fn of([y, x]: [Side; 2], output: [i64; 2], groups: i64) -> Transposed {
        let (strides, dilations) = ([y.stride, x.stride], [y.dilation, x.dilation]);
        Transposed { strides, pads: [y.pads[0], x.pads[0]], dilations, groups, output }
    }
}

/// One dim of it.
#[derive(Clone, Copy, Debug)]
struct Dim {
    stride: usize,
    dilation: usize,
    kernel: usize,
    /// Taps of a phase.
    taps: usize,
    /// Input elements that no output reads, in front and behind.
    unread: [usize; 2],
    /// Padding of the convolution, in front and behind.
    pads: [i64; 2],
    /// Elements of a phase.
    count: usize,
    /// What is cut off of the phases put together, in front.
    cut: usize,
    size: usize,
}

impl Dim {
    fn new(input: usize, kernel: usize, t: &Transposed, d: usize) -> Option<Dim> {
        let positive = |n: i64| usize::try_from(n).ok().filter(|n| (1..=1 << 20).contains(n));
        let (stride, dilation, size) = (positive(t.strides[d])?, positive(t.dilations[d])?, positive(t.output[d])?);
        let pad = usize::try_from(t.pads[d]).ok().filter(|p| *p <= 1 << 20)?;
        let taps = dilation * kernel.checked_sub(1)? / stride + 1;
        let (first, last) = (pad / stride, (pad + size - 1) / stride);
        // Input elements from the first tap of the first output on; outputs may lie in front of all and behind.
        let front = first as i64 - (taps - 1) as i64;
        let behind = input as i64 - 1 - last as i64;
        let unread = [front, behind].map(|n| n.clamp(0, input as i64 - 1) as usize);
        let pads = [unread[0] as i64 - front, unread[1] as i64 - behind];
        let count = last - first + 1;
        Some(Dim { stride, dilation, kernel, taps, unread, pads, count, cut: pad - first * stride, size })
    }

    /// The tap of the kernel that a phase has as its tap `j`.
    fn tap(&self, phase: usize, j: usize) -> Option<usize> {
        let place = phase + self.stride * (self.taps - 1 - j);
        Some(place / self.dilation).filter(|&k| place.is_multiple_of(self.dilation) && k < self.kernel)
    }
}

/// Where the elements of a constant come from.
struct Rearranged {
    dims: Vec<usize>,
    /// By element: its place before; `None` for a new zero.
    from: Vec<Option<usize>>,
    /// The axis of the channels before; they are dim 0 now.
    axis: usize,
    /// By channel: which it was before.
    channels: Vec<usize>,
}

impl Graph {
    /// A transposed convolution of `x` `[n, c, h, w]` by a constant `weight` `[c, o / groups, kh, kw]`.
    pub fn conv_transpose(
        &mut self,
        x: &Value,
        weight: &Value,
        bias: Option<&Value>,
        t: &Transposed,
    ) -> Result<Value, Refusal> {
        if self.is_computed(weight) {
            return self.conv_transpose_unfolded(x, weight, bias, t);
        }
        let ([n, c, h, w], [wc, og, kh, kw]) = (self.nchw(x)?, self.nchw(weight)?);
        let groups = usize::try_from(t.groups).ok().filter(|&g| g > 0 && c.is_multiple_of(g) && wc == c);
        let g = groups.ok_or_else(|| {
            Refusal::invalid(format!("{c} channels and a weight of {wc} do not make {} groups", t.groups))
        })?;
        let none = || {
            let [oh, ow] = t.output;
            Refusal::invalid(format!("a kernel of {kh} x {kw} over {h} x {w} would give {oh} x {ow}"))
        };
        let (y, z) = (Dim::new(h, kh, t, 0).ok_or_else(none)?, Dim::new(w, kw, t, 1).ok_or_else(none)?);
        if bias.is_some_and(|b| self.dims(b) != [g * og]) {
            return Err(Refusal::invalid(format!("its bias does not have {} numbers", g * og)));
        }
        let elements = [y.stride, z.stride, og, c, y.taps, z.taps].into_iter().try_fold(1, usize::checked_mul);
        self.charge(elements.and_then(|n| n.checked_mul(24)).unwrap_or(usize::MAX))?;
        let taps = phases(&y, &z, [c, og, g]);
        let weight = self.rearranged(weight, &taps)?.ok_or_else(|| Refusal::unsupported("its weight is computed"))?;
        // Every phase of a channel has its bias.
        let at = |i: usize| Some(i / (y.stride * z.stride * og) * og + i % og);
        let channels: Vec<usize> = (0..taps.dims[0]).filter_map(at).collect();
        let from = channels.iter().copied().map(Some).collect();
        let own = Rearranged { dims: vec![channels.len()], from, axis: 0, channels };
        let bias = match bias {
            Some(b) => Some(self.rearranged(b, &own)?.ok_or_else(|| Refusal::unsupported("its bias is computed"))?),
            None => None,
        };
        let read = self.narrow(x, 2, y.unread[0], h - y.unread[1])?;
        let read = self.narrow(&read, 3, z.unread[0], w - z.unread[1])?;
        let pads = [y.pads[0], z.pads[0], y.pads[1], z.pads[1]];
        let conv = Conv { strides: [1, 1], pads, dilations: [1, 1], groups: t.groups };
        let out = self.conv2d(&read, &weight, bias.as_ref(), &conv)?;
        self.put_together(&out, &y, &z, [n, g, og])
    }

    /// Phases that are channels `[groups, phases in y, phases in x, channels of a group]`, as pixels.
    fn put_together(&mut self, v: &Value, y: &Dim, x: &Dim, [n, g, og]: [usize; 3]) -> Result<Value, Refusal> {
        let whole = match g {
            1 => {
                let cut = self.reshape(v, &[n, y.stride, x.stride, og, y.count, x.count])?;
                self.transpose(&cut, &[0, 3, 4, 1, 5, 2])?
            }
            _ => {
                let cut = self.reshape(v, &[n, g, y.stride, x.stride, og, y.count, x.count])?;
                self.transpose(&cut, &[0, 1, 4, 5, 2, 6, 3])?
            }
        };
        let whole = self.reshape(&whole, &[n, g * og, y.count * y.stride, x.count * x.stride])?;
        let rows = self.narrow(&whole, 2, y.cut, y.cut + y.size)?;
        self.narrow(&rows, 3, x.cut, x.cut + x.size)
    }

    /// A constant in another order, stored integers as such; `None` if it is computed.
    fn rearranged(&mut self, v: &Value, r: &Rearranged) -> Result<Option<Value>, Refusal> {
        let Value::Dequantized(d) = v else {
            let made = v.known().and_then(|t| r.apply(t, |_| 0));
            return Ok(made.map(|t| Value::from(t).named(v.name().unwrap_or(""))));
        };
        if d.quant.axis.is_some_and(|axis| axis != r.axis) {
            return Ok(v.known().and_then(|t| r.apply(t, |_| 0)).map(Value::from));
        }
        let Some(stored) = r.apply(&d.stored, |c| d.quant.zero(c)) else { return Ok(None) };
        let scales = r.channels.iter().map(|&c| d.quant.scale(c)).collect();
        let zeros = r.channels.iter().map(|&c| d.quant.zero(c)).collect();
        let quant = match d.quant.axis {
            None => d.quant.clone(),
            Some(_) => Quant { axis: Some(0), scales, zeros, ..d.quant.clone() },
        };
        self.dequantized_constant(&d.name, stored, quant).map(Some)
    }
}

impl Rearranged {
    /// The tensor in the new order; `zero` is what stands for 0 in a channel.
    fn apply(&self, t: &HostTensor, zero: impl Fn(usize) -> i32) -> Option<HostTensor> {
        let inner = self.dims[1..].iter().product::<usize>().max(1);
        let zero = |i: usize| zero(self.channels[i / inner]);
        let each = || self.from.iter().enumerate();
        macro_rules! picked {
            ($variant:ident, $v:expr, $zero:expr) => {
                Data::$variant(
                    each()
                        .map(|(i, p)| p.map_or_else(|| Some($zero(i)), |p| $v.get(p).copied()))
                        .collect::<Option<_>>()?,
                )
            };
        }
        let data = match t.data() {
            Data::F32(v) => picked!(F32, v, |_| 0.0),
            Data::I8(v) => picked!(I8, v, |i| zero(i) as i8),
            Data::U8(v) => picked!(U8, v, |i| zero(i) as u8),
            Data::I32(v) => picked!(I32, v, zero),
            Data::I64(_) | Data::Bool(_) => return None,
        };
        HostTensor::new(self.dims.clone(), data)
    }
}

/// The weight `[groups * phases * o, c / groups, taps, taps]` of the convolution.
fn phases(y: &Dim, x: &Dim, [c, og, g]: [usize; 3]) -> Rearranged {
    let cg = c / g;
    let dims = vec![g * y.stride * x.stride * og, cg, y.taps, x.taps];
    let mut from = Vec::with_capacity(dims.iter().product());
    let mut channels = Vec::with_capacity(dims[0]);
    for channel in 0..dims[0] {
        let (group, phase, o) = (channel / (y.stride * x.stride * og), channel / og, channel % og);
        let (r, q) = (phase / x.stride % y.stride, phase % x.stride);
        channels.push(o);
        for i in 0..cg {
            let plane = ((group * cg + i) * og + o) * y.kernel;
            for (a, b) in (0..y.taps).flat_map(|a| (0..x.taps).map(move |b| (a, b))) {
                from.push(y.tap(r, a).zip(x.tap(q, b)).map(|(k, l)| (plane + k) * x.kernel + l));
            }
        }
    }
    Rearranged { dims, from, axis: 1, channels }
}

#[cfg(test)]
mod tests {
    use crate::onnx::tests::{Model, floats, int, ints};

    /// One dim of a geometry.
    #[derive(Clone, Copy)]
    struct Side {
        input: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        pads: [usize; 2],
        more: usize,
    }

    impl Side {
        fn output(&self) -> usize {
            self.stride * (self.input - 1) + self.dilation * (self.kernel - 1) + 1 + self.more
                - self.pads[0]
                - self.pads[1]
        }
    }

    /// By the definition: every input element is added where its taps reach.
    fn scattered(x: &[f32], w: &[f32], bias: &[f32], s: [Side; 2], [g, c, o]: [usize; 3]) -> Vec<f32> {
        let [y, z] = s;
        let [oh, ow] = s.map(|s| s.output());
        let (cg, og) = (c / g, o / g);
        let mut out: Vec<f32> = (0..o * oh * ow).map(|i| bias[i / (oh * ow)]).collect();
        let at = |s: &Side, i: usize, k: usize| {
            (s.stride * i + s.dilation * k).checked_sub(s.pads[0]).filter(|&p| p < s.output())
        };
        for (ic, oc) in (0..c).flat_map(|ic| (0..og).map(move |oc| (ic, oc))) {
            let plane = (ic / cg * og + oc) * oh;
            for (i, j) in (0..y.input).flat_map(|i| (0..z.input).map(move |j| (i, j))) {
                for (k, l) in (0..y.kernel).flat_map(|k| (0..z.kernel).map(move |l| (k, l))) {
                    if let (Some(p), Some(q)) = (at(&y, i, k), at(&z, j, l)) {
                        let tap = w[((ic * og + oc) * y.kernel + k) * z.kernel + l];
                        out[(plane + p) * ow + q] += x[(ic * y.input + i) * z.input + j] * tap;
                    }
                }
            }
        }
        out
    }

    #[test]
    fn phases_are_what_taps_scatter() {
        let side = |input, kernel, stride, dilation, pads, more| Side { input, kernel, stride, dilation, pads, more };
        let sides = [
            side(4, 2, 2, 1, [0, 0], 0),
            side(3, 3, 2, 1, [1, 1], 1),
            side(5, 4, 2, 1, [1, 1], 0),
            side(2, 3, 3, 2, [0, 2], 2),
            side(3, 1, 3, 1, [0, 0], 0),
            side(4, 2, 1, 3, [2, 0], 0),
            // The pads leave none of the first input element, and padding reaches behind the last tap.
            side(4, 2, 2, 1, [3, 0], 0),
            side(1, 1, 2, 1, [0, 0], 1),
        ];
        for (n, &y) in sides.iter().enumerate() {
            let (z, dims) = (sides[(n + 3) % sides.len()], [[1, 3, 2], [2, 4, 6], [3, 3, 3]][n % 3]);
            let [g, c, o] = dims;
            let values = |n: usize| (0..n).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect::<Vec<f32>>();
            let (x, w) = (values(c * y.input * z.input), values(c * (o / g) * y.kernel * z.kernel));
            let bias = values(o);
            let of = |f: fn(&Side) -> usize| [f(&y) as i64, f(&z) as i64];
            let shape = [c, o / g, y.kernel, z.kernel].map(|d| d as i64);
            let model = Model::new(13, &[1, c as i64, y.input as i64, z.input as i64])
                .constant(floats("w", &shape, &w))
                .constant(floats("b", &[o as i64], &bias))
                .node(
                    "ConvTranspose",
                    "x w b > y",
                    &[
                        ints("strides", &of(|s| s.stride)),
                        ints("dilations", &of(|s| s.dilation)),
                        ints("output_padding", &of(|s| s.more)),
                        ints("pads", &[of(|s| s.pads[0]), of(|s| s.pads[1])].concat()),
                        int("group", g as i64),
                    ],
                );
            let wanted = scattered(&x, &w, &bias, [y, z], dims);
            assert_eq!(model.run(&x), (vec![1, o, y.output(), z.output()], wanted), "{n}");
        }
    }

    #[test]
    fn absurd_geometries_are_refused() {
        let model = |strides: &[i64], group: i64| {
            Model::new(13, &[1, 2, 3, 3])
                .constant(floats("w", &[2, 1, 2, 2], &[0.5; 8]))
                .node("ConvTranspose", "x w > y", &[ints("strides", strides), int("group", group)])
                .reasons()
                .join(" ")
        };
        assert!(model(&[1 << 18, 1 << 18], 1).contains("out of proportion"), "{}", model(&[1 << 18, 1 << 18], 1));
        assert!(model(&[1, 1], 3).contains("do not make 3 groups"), "{}", model(&[1, 1], 3));
    }
}
