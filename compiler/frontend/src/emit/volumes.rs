//! Convolutions of volumes, as convolutions of planes.
//!
//! Each plane of the result is a sum over planes of the input, each by its plane of the weight. Planes that are summed are stacked
//! as channels, and the planes of the weight likewise, so the sum over planes is part of the sum over channels: one accumulator,
//! and whatever a convolution of images is, quantized too. Planes of the result that are sums over the same planes of the
//! weight are one convolution; where the window reaches into the padding there are fewer, so nothing is multiplied by zeros.

use super::{Conv, Graph, Transposed, Value};
use crate::error::Refusal;
use crate::shape::Side;
use qc_ir::HostTensor;

type Result<T> = std::result::Result<T, Refusal>;

/// The planes of the input and of the weight that a plane of the result is a sum over.
type Terms = Vec<(usize, usize)>;

/// Planes of the result that are sums over the same planes of the weight.
struct Group {
    taps: Vec<usize>,
    /// Planes of the result.
    planes: Vec<usize>,
    /// Planes of the input, those of each plane of the result one behind the other.
    inputs: Vec<usize>,
}

/// The most terms of all planes.
const MAX_TERMS: usize = 1 << 20;

fn groups_of(terms: Vec<Terms>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut by_taps = std::collections::HashMap::new();
    for (plane, terms) in terms.into_iter().enumerate() {
        let (inputs, taps): (Vec<usize>, Vec<usize>) = terms.into_iter().unzip();
        let at = *by_taps.entry(taps.clone()).or_insert_with(|| {
            groups.push(Group { taps, planes: Vec::new(), inputs: Vec::new() });
            groups.len() - 1
        });
        groups[at].planes.push(plane);
        groups[at].inputs.extend(inputs);
    }
    groups
}

/// A convolution of volumes that becomes convolutions of images.
struct Volume<'v> {
    x: &'v Value,
    w: &'v Value,
    bias: Option<&'v Value>,
    /// Groups of channels.
    groups: usize,
    /// Whether the output channels of a group are dim 1 of the weight rather than its input channels.
    is_transposed: bool,
}

impl Graph {
    /// A convolution of volumes.
    pub(super) fn conv_of_planes(
        &mut self,
        [x, w]: [&Value; 2],
        bias: Option<&Value>,
        [d, y, z]: [Side; 3],
        groups: i64,
    ) -> Result<Value> {
        let none = || Refusal::invalid(format!("a window of {} planes does not fit {}", d.reach(), d.input));
        let count = d.count().ok_or_else(none)?;
        let place = |o: usize, t: i64| {
            let p = usize::try_from(o as i64 * d.stride + t * d.dilation - d.pads[0]).ok()?;
            (p < d.input).then_some((p, t as usize))
        };
        self.charge(count.saturating_mul(d.kernel as usize).saturating_mul(16))?;
        let terms = (0..count).map(|o| (0..d.kernel).filter_map(|t| place(o, t)).collect()).collect();
        let volume = self.volume([x, w], bias, groups, false)?;
        let conv = Conv::of([y, z], groups);
        let empty = [y, z].map(|s| s.count().unwrap_or(0));
        self.over_planes(&volume, terms, empty, |g, x, w| g.conv2d(x, w, bias, &conv))
    }

    /// A transposed convolution of volumes.
    pub(super) fn conv_transpose_of_planes(
        &mut self,
        [x, w]: [&Value; 2],
        bias: Option<&Value>,
        [d, y, z]: [Side; 3],
        output: [i64; 3],
        groups: i64,
    ) -> Result<Value> {
        let [depth, height, width] = output;
        if output.iter().any(|n| !(1..=1 << 20).contains(n)) {
            return Err(Refusal::invalid(format!("it would give volumes of {output:?}")));
        }
        self.charge((depth as usize).saturating_mul(d.kernel as usize).saturating_mul(16))?;
        let place = |o: i64, t: i64| {
            let from = o + d.pads[0] - t * d.dilation;
            let p = usize::try_from(from / d.stride).ok().filter(|_| from >= 0 && from % d.stride == 0)?;
            (p < d.input).then_some((p, t as usize))
        };
        let terms = (0..depth).map(|o| (0..d.kernel).filter_map(|t| place(o, t)).collect()).collect();
        let volume = self.volume([x, w], bias, groups, true)?;
        let t = Transposed::of([y, z], [height, width], groups);
        self.over_planes(&volume, terms, [height as usize, width as usize], |g, x, w| g.conv_transpose(x, w, bias, &t))
    }

    fn volume<'v>(
        &self,
        [x, w]: [&'v Value; 2],
        bias: Option<&'v Value>,
        groups: i64,
        is_transposed: bool,
    ) -> Result<Volume<'v>> {
        let (c, first) = (self.dims(x)[1], self.dims(w)[0]);
        let fits = |g: &usize| *g > 0 && c.is_multiple_of(*g) && first.is_multiple_of(*g);
        let groups = usize::try_from(groups).ok().filter(fits).ok_or_else(|| {
            Refusal::invalid(format!("{c} channels and a weight of {first} do not make {groups} groups"))
        })?;
        Ok(Volume { x, w, bias, groups, is_transposed })
    }

    /// The planes of the result by `image`, a function of stacked planes and their weight; planes without terms are the bias, in
    /// images of the size `empty`.
    fn over_planes(
        &mut self,
        v: &Volume<'_>,
        terms: Vec<Terms>,
        empty: [usize; 2],
        image: impl Fn(&mut Graph, &Value, &Value) -> Result<Value>,
    ) -> Result<Value> {
        if terms.iter().map(Vec::len).sum::<usize>() > MAX_TERMS {
            return Err(Refusal::unsupported("it sums over too many planes"));
        }
        let (n, count) = (self.dims(v.x)[0], terms.len());
        let (mut parts, mut order) = (Vec::new(), Vec::new());
        for group in groups_of(terms) {
            let planes = group.planes.len();
            let part = match group.taps.is_empty() {
                true => self.planes_of_bias(v, n, planes, empty)?,
                false => {
                    let (x, w) = (self.stacked(v, &group)?, self.stacked_weight(v, &group.taps)?);
                    let y = image(self, &x, &w)?;
                    let [_, o, h, w] = self.nchw(&y)?;
                    let apart = self.reshape(&y, &[n, planes, o, h, w])?;
                    self.transpose(&apart, &[0, 2, 1, 3, 4])?
                }
            };
            parts.push(part);
            order.extend(group.planes);
        }
        let all = self.concat(&parts, 2)?;
        let mut places = vec![0; count];
        order.into_iter().enumerate().for_each(|(at, plane)| places[plane] = at);
        self.take(&all, 2, &places)
    }

    /// The input's planes of a group as images `[n * planes, taps * c, h, w]`, the taps within the groups of channels.
    fn stacked(&mut self, v: &Volume<'_>, group: &Group) -> Result<Value> {
        let &[n, c, _, h, w] = &self.dims(v.x)[..] else { return Err(Refusal::invalid("its input is no volume")) };
        let (planes, taps, g) = (group.planes.len(), group.taps.len(), v.groups);
        let chosen = self.take(v.x, 2, &group.inputs)?;
        let moved = match g {
            1 => {
                let cut = self.reshape(&chosen, &[n, c, planes, taps, h, w])?;
                self.transpose(&cut, &[0, 2, 3, 1, 4, 5])?
            }
            _ => {
                let cut = self.reshape(&chosen, &[n, g, c / g, planes, taps, h, w])?;
                self.transpose(&cut, &[0, 3, 1, 4, 2, 5, 6])?
            }
        };
        self.reshape(&moved, &[n * planes, taps * c, h, w])
    }

    /// The weight's planes as one: `[o, taps * c / groups, kh, kw]`, or transposed `[taps * c, o / groups, kh, kw]`.
    fn stacked_weight(&mut self, v: &Volume<'_>, taps: &[usize]) -> Result<Value> {
        let &[a, b, _, kh, kw] = &self.dims(v.w)[..] else { return Err(Refusal::invalid("its weight is no volume")) };
        let (count, g) = (taps.len(), v.groups);
        let chosen = self.take(v.w, 2, taps)?;
        if !v.is_transposed {
            let moved = self.transpose(&chosen, &[0, 2, 1, 3, 4])?;
            return self.reshape(&moved, &[a, count * b, kh, kw]);
        }
        let cut = self.reshape(&chosen, &[g, a / g, b, count, kh, kw])?;
        let moved = self.transpose(&cut, &[0, 3, 1, 2, 4, 5])?;
        self.reshape(&moved, &[count * a, b, kh, kw])
    }

    fn planes_of_bias(&mut self, v: &Volume<'_>, n: usize, planes: usize, [h, w]: [usize; 2]) -> Result<Value> {
        let o = if v.is_transposed { self.dims(v.w)[1] * v.groups } else { self.dims(v.w)[0] };
        let zeros = Value::from(HostTensor::f32([o], vec![0.0; o]));
        let bias = self.reshape(v.bias.unwrap_or(&zeros), &[1, o, 1, 1, 1])?;
        self.expand(&bias, &[n, o, planes, h, w])
    }
}
