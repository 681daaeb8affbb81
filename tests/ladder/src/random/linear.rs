//! Convolutions, matrix products and batch norms with their parameters.

use super::build::{Graph, MAX_ELEMENTS, MAX_MACS};
use super::{Numbers, pairs};
use qc_dialects::graph::{BatchNorm, Conv2d, Dequantize, Matmul};
use qc_ir::{Attrs, Elem, TensorTy, ValueId};

/// A convolution of one group.
pub fn dense(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let [_, _, h, w] = g.plane(x)?;
    let out = [1, 2, 5, 8, 16, 20, 33, 64][p[3] as usize % 8];
    let window = Window::of([h, w], p);
    g.conv(x, p, 1, out, window)
}

/// A convolution of some groups.
pub fn grouped(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let [_, c, h, w] = g.plane(x)?;
    let divisors: Vec<usize> = (1..=c).filter(|g| c % g == 0).collect();
    let groups = divisors[p[0] as usize % divisors.len()];
    let window = Window::of([h, w], p);
    g.conv(x, p, groups, groups * (1 + p[3] as usize % 3), window)
}

/// A convolution with a group per channel, mostly with one output each.
pub fn depthwise(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let [_, c, h, w] = g.plane(x)?;
    let window = Window::of([h, w], p);
    g.conv(x, p, c, c * [1, 1, 1, 2, 3][p[3] as usize % 5], window)
}

/// A convolution that keeps height and width.
pub fn same_size(g: &mut Graph, x: ValueId, p: &[u32], out: usize) -> Option<ValueId> {
    let kernel = [1, 3][p[1] as usize % 2];
    let half = (kernel / 2) as i64;
    let window = Window { kernel: [kernel; 2], dilations: [1; 2], pads: [half; 4], strides: [1; 2] };
    g.conv(x, p, 1, out, window)
}

/// Where a convolution looks.
struct Window {
    kernel: [usize; 2],
    dilations: [usize; 2],
    pads: [i64; 4],
    strides: [i64; 2],
}

impl Window {
    /// A window that fits a plane of this size: odd kernels, dilation, padding that differs on all sides, strides.
    fn of(size: [usize; 2], p: &[u32]) -> Window {
        let mut w = Window { kernel: [1; 2], dilations: [1; 2], pads: [0; 4], strides: [1; 2] };
        for (d, size) in size.into_iter().enumerate() {
            let bits = p[1] as usize >> (8 * d);
            w.kernel[d] = [1, 3, 3, 2, 5, 4, 7][bits % 7];
            w.dilations[d] = [1, 1, 1, 1, 2, 3][bits / 7 % 6];
            let reach = (w.kernel[d] - 1) * w.dilations[d] + 1;
            let (before, after) = (reach / 2, if bits.is_multiple_of(3) { reach / 2 } else { (bits / 8) % reach });
            if bits % 4 != 3 || reach > size {
                w.pads[d] = before as i64;
                w.pads[2 + d] = after as i64;
            }
            if reach > size + (w.pads[d] + w.pads[2 + d]) as usize {
                (w.kernel[d], w.dilations[d]) = (1, 1);
            }
        }
        w.strides = [p[2] / 7, p[2] / 70].map(|bits| [1, 1, 1, 1, 2, 2, 3][bits as usize % 7]);
        w
    }
}

/// Mostly no bounds: an activation that is an attribute already.
fn bounds(attrs: Attrs, pick: u32) -> Attrs {
    match pick % 12 {
        0 => attrs.with("min", 0.0),
        1 => attrs.with("min", 0.0).with("max", 6.0),
        _ => attrs,
    }
}

impl Graph {
    fn conv(&mut self, x: ValueId, p: &[u32], groups: usize, wanted: usize, window: Window) -> Option<ValueId> {
        let [_, c, h, w] = self.plane(x)?;
        let taps = c / groups * window.kernel[0] * window.kernel[1];
        let grown: usize =
            (h + (window.pads[0] + window.pads[2]) as usize) * (w + (window.pads[1] + window.pads[3]) as usize);
        let room = (MAX_ELEMENTS / grown.max(1)).min(MAX_MACS / (grown * taps).max(1)).max(1);
        let out = if groups == 1 { wanted.min(room) } else { wanted.min((room / groups).max(1) * groups) };
        let mut n = Numbers::new(u64::from(p[4]));
        let weights = n.floats(out * taps, 1.7 / (taps as f32).sqrt());
        let dims = [out, c / groups, window.kernel[0], window.kernel[1]];
        let mut operands = vec![x];
        self.parameters(&mut operands, &dims, 0, weights, &mut n, p[5]);
        let attrs = Attrs::new()
            .with("strides", window.strides)
            .with("pads", window.pads)
            .with("dilations", window.dilations.map(|d| d as i64))
            .with("groups", groups);
        Some(self.op(Conv2d::DEF, &operands, bounds(attrs, p[6])))
    }

    /// Adds weight and perhaps bias to the operands: floats, or stored integers when the input is quantized.
    pub fn parameters(
        &mut self,
        operands: &mut Vec<ValueId>,
        dims: &[usize],
        axis: usize,
        mut values: Vec<f32>,
        n: &mut Numbers,
        pick: u32,
    ) {
        // Pruned channels, and such that nearly are.
        let factor = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1e-7, 1e-38][(pick / 1024 % 8) as usize];
        let inner: usize = dims[axis + 1..].iter().product();
        let of_channel = |i: &usize| (i / inner + (pick / 8192) as usize).is_multiple_of(dims[axis].min(3));
        (0..values.len()).filter(of_channel).for_each(|i| values[i] *= factor);
        let input = Dequantize::producing(&self.m, operands[0]).and_then(|d| self.m.quant_of(d.q(&self.m))).cloned();
        let bias = (!pick.is_multiple_of(4)).then(|| n.floats(dims[axis], 0.5));
        let quantized = input.filter(|_| pick % 9 != 8);
        let Some(input) = quantized else {
            let w = self.floats(dims, values);
            operands.push(w);
            if let Some(bias) = bias {
                let b = self.floats(&[dims[axis]], bias);
                operands.push(b);
            }
            return;
        };
        let (format, stored) = pairs::weight(&values, dims, axis, pick);
        let id = self.m.intern_quant(format.clone());
        let w = self.constant(TensorTy::new(Elem::Quant(id), dims), stored);
        let w = self.op(Dequantize::DEF, &[w], Attrs::new());
        operands.push(w);
        if let Some(values) = bias {
            let b = if (pick / 16).is_multiple_of(3) {
                self.floats(&[values.len()], values)
            } else {
                let (format, stored) = pairs::bias(&values, &input, &format);
                let id = self.m.intern_quant(format);
                let b = self.constant(TensorTy::new(Elem::Quant(id), [values.len()]), stored);
                self.op(Dequantize::DEF, &[b], Attrs::new())
            };
            operands.push(b);
        }
    }
}

/// A matrix product with a constant: of flattened images, or along the last dim.
pub fn layer(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let x = match g.plane(x) {
        Some(_) if p[7] % 4 != 3 => {
            let flat = g.flat(x);
            g.keep(flat, p[7])
        }
        _ => x,
    };
    let k = *g.m.dims(x).last()?;
    let rows = g.elements(x) / k.max(1);
    let room = (MAX_MACS / (rows * k).max(1)).min(MAX_ELEMENTS / rows.max(1)).max(1);
    let out = [1, 3, 10, 16, 40, 65][p[0] as usize % 6].min(room);
    let mut n = Numbers::new(u64::from(p[4]));
    let weights = n.floats(out * k, 1.7 / (k as f32).sqrt());
    let transposed = p[1].is_multiple_of(2);
    let (dims, axis) = if transposed { ([out, k], 0) } else { ([k, out], 1) };
    let mut operands = vec![x];
    g.parameters(&mut operands, &dims, axis, weights, &mut n, p[5]);
    Some(g.op(Matmul::DEF, &operands, bounds(Attrs::new().with("transpose_b", transposed), p[6])))
}

/// A batch norm with constant statistics.
pub fn batch_norm(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let c = *g.m.dims(x).get(1)?;
    let mut n = Numbers::new(u64::from(p[0]));
    let mut operands = vec![x];
    for (scale, offset) in [(1.0, 0.2), (0.3, 0.0), (0.3, 0.0), (0.4, 1.0)] {
        let values = n.floats(c, scale).into_iter().map(|v| v + offset).collect();
        let v = g.floats(&[c], values);
        operands.push(v);
    }
    Some(g.op(BatchNorm::DEF, &operands, Attrs::new().with("epsilon", 1e-3)))
}
