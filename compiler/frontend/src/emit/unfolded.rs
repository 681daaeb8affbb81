//! Convolutions by weights that the model computes.
//!
//! Kernels read weights that the compiler has packed, so a computed one is the left side of a matrix product instead, and the
//! elements under the windows, taken apart, are the right one. A transposed convolution is one over the input with zeros between
//! its elements, by the mirrored weight. Models have such convolutions rarely, and small ones.

use super::{Arith, Conv, Graph, Padding, Transposed, Value};
use crate::error::Refusal;
use crate::shape::Side;

type Result<T> = std::result::Result<T, Refusal>;

impl Graph {
    /// A convolution of the image `x` `[n, c, h, w]` by a computed weight `[o, c / groups, kh, kw]`.
    pub(super) fn conv_unfolded(&mut self, x: &Value, w: &Value, bias: Option<&Value>, conv: &Conv) -> Result<Value> {
        let ([n, c, height, width], [o, cg, kh, kw]) = (self.nchw(x)?, self.nchw(w)?);
        let groups = usize::try_from(conv.groups).ok().filter(|&g| g > 0 && cg * g == c && o.is_multiple_of(g));
        let groups = groups.ok_or_else(|| {
            Refusal::invalid(format!("{c} channels and a weight of {:?} do not make {} groups", [o, cg], conv.groups))
        })?;
        let [top, left, bottom, right] = conv.pads;
        let side = |input, kernel: usize, d: usize, pads| Side {
            input,
            kernel: kernel as i64,
            stride: conv.strides[d],
            dilation: conv.dilations[d],
            pads,
        };
        let sides = [side(height, kh, 0, [top, bottom]), side(width, kw, 1, [left, right])];
        let mut apart = self.pad(x, &[0, 0, top, left, 0, 0, bottom, right], Padding::Constant(0.0))?;
        let mut counts = [0; 2];
        for (d, s) in sides.iter().enumerate() {
            let count = s.count().ok_or_else(|| Refusal::invalid("no window fits its input"))?;
            self.charge(count.saturating_mul(s.kernel as usize).saturating_mul(8))?;
            let place = |o: usize, t: i64| (o as i64 * s.stride + t * s.dilation) as usize;
            let places: Vec<usize> = (0..count).flat_map(|o| (0..s.kernel).map(move |t| place(o, t))).collect();
            apart = self.take(&apart, 2 + d, &places)?;
            counts[d] = count;
        }
        let [oh, ow] = counts;
        let apart = self.reshape(&apart, &[n, c, oh, kh, ow, kw])?;
        let columns = self.transpose(&apart, &[0, 1, 3, 5, 2, 4])?;
        let columns = self.reshape(&columns, &[n, groups, cg * kh * kw, oh * ow])?;
        let rows = self.reshape(w, &[1, groups, o / groups, cg * kh * kw])?;
        let y = self.matmul(&rows, &columns, None, [false, false])?;
        let y = self.reshape(&y, &[n, o, oh, ow])?;
        let Some(bias) = bias else { return Ok(y) };
        let bias = self.reshape(bias, &[1, o, 1, 1])?;
        self.arith(Arith::Add, &y, &bias)
    }

    /// A transposed convolution of the image `x` by a computed weight `[c, o / groups, kh, kw]`.
    pub(super) fn conv_transpose_unfolded(
        &mut self,
        x: &Value,
        w: &Value,
        bias: Option<&Value>,
        t: &Transposed,
    ) -> Result<Value> {
        let ([n, c, height, width], [wc, og, kh, kw]) = (self.nchw(x)?, self.nchw(w)?);
        let groups = usize::try_from(t.groups).ok().filter(|&g| g > 0 && c.is_multiple_of(g) && wc == c);
        let g = groups.ok_or_else(|| {
            Refusal::invalid(format!("{c} channels and a weight of {wc} do not make {} groups", t.groups))
        })?;
        let strides = t.strides.map(|s| usize::try_from(s).unwrap_or(1));
        let zeros = Padding::Constant(0.0);
        let apart = self.reshape(x, &[n, c, height, 1, width, 1])?;
        let between = [0, 0, 0, 0, 0, 0, 0, 0, 0, t.strides[0] - 1, 0, t.strides[1] - 1];
        let spread = self.pad(&apart, &between, zeros)?;
        let (h, v) = (height.saturating_mul(strides[0]), width.saturating_mul(strides[1]));
        let spread = self.reshape(&spread, &[n, c, h, v])?;
        let reach = [t.dilations[0] * (kh as i64 - 1), t.dilations[1] * (kw as i64 - 1)];
        let front = [reach[0] - t.pads[0], reach[1] - t.pads[1]];
        let behind = |d: usize, size: usize| t.output[d] + reach[d] - front[d] - size as i64;
        let pads = [0, 0, front[0], front[1], 0, 0, behind(0, h), behind(1, v)];
        let padded = self.pad(&spread, &pads, zeros)?;
        let cut = self.reshape(w, &[g, c / g, og, kh, kw])?;
        let turned = self.transpose(&cut, &[0, 2, 1, 3, 4])?;
        let mut weight = self.reshape(&turned, &[g * og, c / g, kh, kw])?;
        for (axis, size) in [(2, kh), (3, kw)] {
            let mirrored: Vec<usize> = (0..size).rev().collect();
            weight = self.take(&weight, axis, &mirrored)?;
        }
        let conv = Conv { strides: [1, 1], pads: [0; 4], dilations: t.dilations, groups: t.groups };
        self.conv_unfolded(&padded, &weight, bias, &conv)
    }

    /// Whether a tensor depends on an input of the model, or cannot be seen not to.
    pub(super) fn is_computed(&self, v: &Value) -> bool {
        let Value::Runtime(v) = v else { return false };
        let mut seen = std::collections::HashSet::from([*v]);
        let mut left = vec![*v];
        while let Some(v) = left.pop() {
            let Some(op) = self.m.producer(v) else { return true };
            left.extend(self.m.operands(op).iter().flatten().filter(|&&x| seen.insert(x)));
            if seen.len() > super::MAX_BEHIND {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use crate::onnx::tests::{Model, floats, int, ints};

    /// The same model with its weight as a constant and computed.
    fn both(op: &str, weight: &[i64], attrs: &[crate::onnx::proto::AttributeProto]) {
        let count: i64 = weight.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i * 5 + 2) % 7) as f32 - 3.0).collect();
        let zeros = floats("zero", &[1], &[0.0]);
        let x: Vec<f32> = (0..48).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect();
        let known = Model::new(13, &[1, 4, 3, 4]).constant(floats("w", weight, &values)).node(op, "x w > y", attrs);
        let computed = Model::new(13, &[1, 4, 3, 4])
            .constant(floats("v", weight, &values))
            .constant(zeros)
            .node("ReduceSum", "x > sum", &[int("keepdims", 1)])
            .node("Mul", "sum zero > nothing", &[])
            .node("Add", "v nothing > w", &[])
            .node(op, "x w > y", attrs);
        assert!(computed.dump().contains("graph.matmul"), "{op}");
        assert_eq!(computed.run(&x), known.run(&x), "{op}");
    }

    #[test]
    fn computed_weights_multiply_as_constants_do() {
        let steps = [ints("strides", &[2, 1]), ints("pads", &[1, 0, 0, 2]), ints("dilations", &[1, 2])];
        both("Conv", &[6, 4, 2, 2], &steps);
        both("Conv", &[6, 2, 3, 1], &[int("group", 2), ints("pads", &[1, 1, 1, 1])]);
        both("ConvTranspose", &[4, 3, 2, 3], &[ints("strides", &[2, 3]), ints("pads", &[1, 0, 0, 1])]);
        both(
            "ConvTranspose",
            &[4, 2, 2, 2],
            &[int("group", 2), ints("dilations", &[2, 1]), ints("output_padding", &[0, 0])],
        );
    }
}
