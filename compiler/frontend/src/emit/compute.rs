//! Ops that compute. Window geometry is resolved by the readers; what is left here is what both share.

use super::{Graph, Value};
use crate::error::Refusal;
use qc_dialects::graph;
use qc_dialects::graph::IntFunction;
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::matmul::broadcast;
use qc_ir::{Elem, HostTensor, OpDef, Quant, attrs};

/// Attributes of a convolution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Conv {
    pub strides: [i64; 2],
    /// Top, left, bottom, right.
    pub pads: [i64; 4],
    pub dilations: [i64; 2],
    pub groups: i64,
}

/// Attributes of a pooling op.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pool {
    pub kernel: [i64; 2],
    pub strides: [i64; 2],
    /// Top, left, bottom, right.
    pub pads: [i64; 4],
    pub ceil_mode: bool,
}

/// Attributes of a layer norm.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Norm {
    /// The first dim that is normalised over.
    pub axis: usize,
    pub epsilon: f32,
    /// Whether the root of the mean square stands for the deviation, and no mean is subtracted.
    pub rms: bool,
}

/// What an average pool divides by; see `graph.avg_pool`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Count {
    Exclusive,
    Kernel,
    Inclusive,
}

/// A binary operator with NumPy broadcasting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

impl Arith {
    fn def(self) -> &'static OpDef {
        match self {
            Arith::Add => graph::Add::DEF,
            Arith::Sub => graph::Sub::DEF,
            Arith::Mul => graph::Mul::DEF,
            Arith::Div => graph::Div::DEF,
            Arith::Max => graph::Max::DEF,
            Arith::Min => graph::Min::DEF,
        }
    }

    /// The same of integers.
    fn of_integers(self) -> IntFunction {
        match self {
            Arith::Add => IntFunction::Add,
            Arith::Sub => IntFunction::Sub,
            Arith::Mul => IntFunction::Mul,
            Arith::Div => IntFunction::Div,
            Arith::Max => IntFunction::Max,
            Arith::Min => IntFunction::Min,
        }
    }
}

impl Graph {
    /// A binary operator, on floats or on integers. Known operands are computed at import, stored integers by what they stand
    /// for.
    pub fn arith(&mut self, op: Arith, a: &Value, b: &Value) -> Result<Value, Refusal> {
        if matches!(self.elem(a), Elem::I8 | Elem::U8 | Elem::I32 | Elem::I64) && self.elem(a) == self.elem(b) {
            return self.integers(op.of_integers(), a, b);
        }
        let stored = |v: &Value| matches!(v, Value::Dequantized(_));
        if let (Some(x), Some(y), true) = (a.known(), b.known(), stored(a) || stored(b)) {
            let (x, y) = (Value::from(x.clone()), Value::from(y.clone()));
            return self.emit_f32(op.def(), &[Some(&x), Some(&y)], attrs! {});
        }
        self.emit_f32(op.def(), &[Some(a), Some(b)], attrs! {})
    }

    /// `x * factor`; `x` itself for 1.
    pub fn times(&mut self, x: &Value, factor: f32) -> Result<Value, Refusal> {
        if factor == 1.0 {
            return Ok(x.clone());
        }
        if let Value::Dequantized(d) = x
            && d.quant.scales.iter().all(|s| (s * factor).is_normal() && factor > 0.0)
        {
            let scales = d.quant.scales.iter().map(|s| s * factor).collect();
            return self.dequantized_constant(&d.name, (*d.stored).clone(), Quant { scales, ..d.quant.clone() });
        }
        self.arith(Arith::Mul, x, &scalar(factor))
    }

    /// `x + term`; `x` itself for 0.
    pub fn plus(&mut self, x: &Value, term: f32) -> Result<Value, Refusal> {
        if term == 0.0 { Ok(x.clone()) } else { self.arith(Arith::Add, x, &scalar(term)) }
    }

    /// A convolution.
    pub fn conv2d(
        &mut self,
        input: &Value,
        weight: &Value,
        bias: Option<&Value>,
        conv: &Conv,
    ) -> Result<Value, Refusal> {
        if self.is_computed(weight) {
            return self.conv_unfolded(input, weight, bias, conv);
        }
        let attrs = attrs! {
            strides: conv.strides, pads: conv.pads, dilations: conv.dilations, groups: conv.groups,
        };
        self.emit_f32(graph::Conv2d::DEF, &[Some(input), Some(weight), bias], attrs)
    }

    /// A matrix product with NumPy's rules, those for vectors included.
    pub fn matmul(&mut self, a: &Value, b: &Value, bias: Option<&Value>, t: [bool; 2]) -> Result<Value, Refusal> {
        let (da, db) = (self.dims(a), self.dims(b));
        if da.is_empty() || db.is_empty() {
            return Err(Refusal::invalid("a matrix product needs operands of rank 1 or more"));
        }
        let a2 = if da.len() == 1 { self.reshape(a, &[1, da[0]])? } else { a.clone() };
        let b2 = if db.len() == 1 { self.reshape(b, &[db[0], 1])? } else { b.clone() };
        let attrs = attrs! { transpose_a: t[0] && da.len() > 1, transpose_b: t[1] && db.len() > 1 };
        let out = self.emit_f32(graph::Matmul::DEF, &[Some(&a2), Some(&b2), bias], attrs)?;
        let mut dims = self.dims(&out);
        if db.len() == 1 {
            dims.pop();
        }
        if da.len() == 1 {
            dims.remove(dims.len() - 1 - usize::from(db.len() > 1));
        }
        self.reshape(&out, &dims)
    }

    /// `max(x, 0)`.
    pub fn relu(&mut self, x: &Value) -> Result<Value, Refusal> {
        self.emit_f32(graph::Relu::DEF, &[Some(x)], attrs! {})
    }

    /// `min(max(x, min), max)`; `x` itself for infinite bounds.
    pub fn clip(&mut self, x: &Value, min: f32, max: f32) -> Result<Value, Refusal> {
        if min == f32::NEG_INFINITY && max == f32::INFINITY {
            return Ok(x.clone());
        }
        if min.is_nan() || max.is_nan() {
            // NaN everywhere by the definition; runtimes leave the bound out, or NaN in.
            return Err(Refusal::unsupported("a bound is NaN").remedy("give it numbers as bounds"));
        }
        self.emit_f32(graph::Clip::DEF, &[Some(x)], attrs! { min: min, max: max })
    }

    /// One of the functions of `graph::activation`.
    pub fn function(&mut self, f: Function, x: &Value) -> Result<Value, Refusal> {
        let (def, attrs) = f.op();
        self.emit_f32(def, &[Some(x)], attrs)
    }

    /// `scale * elu(x)`.
    pub fn selu(&mut self, x: &Value, alpha: f32, scale: f32) -> Result<Value, Refusal> {
        let y = self.function(Function::Elu { alpha }, x)?;
        self.times(&y, scale)
    }

    /// `alpha * elu(x / alpha)`.
    pub fn celu(&mut self, x: &Value, alpha: f32) -> Result<Value, Refusal> {
        if alpha.is_nan() || alpha <= 0.0 {
            return Err(Refusal::unsupported(format!("alpha is {alpha}; only positive numbers are supported")));
        }
        let x = self.arith(Arith::Div, x, &scalar(alpha))?;
        let y = self.function(Function::Elu { alpha: 1.0 }, &x)?;
        self.times(&y, alpha)
    }

    /// A number without its fraction.
    pub fn truncated(&mut self, x: &Value) -> Result<Value, Refusal> {
        if self.elem(x) != Elem::F32 {
            return Ok(x.clone());
        }
        let (sign, size) = (self.function(Function::Sign, x)?, self.function(Function::Abs, x)?);
        let whole = self.function(Function::Floor, &size)?;
        self.arith(Arith::Mul, &sign, &whole)
    }

    /// `exp(x) / sum exp(x)` along an axis.
    pub fn softmax(&mut self, x: &Value, axis: usize) -> Result<Value, Refusal> {
        self.emit_f32(graph::Softmax::DEF, &[Some(x)], attrs! { axis: axis })
    }

    /// Batch normalisation; parameters are scale, bias, mean and variance.
    pub fn batch_norm(&mut self, x: &Value, params: [&Value; 4], epsilon: f32) -> Result<Value, Refusal> {
        let [scale, bias, mean, var] = params;
        if params.iter().any(|p| p.known().is_none()) {
            return self.computed_batch_norm(x, params, epsilon);
        }
        let operands = [Some(x), Some(scale), Some(bias), Some(mean), Some(var)];
        self.emit_f32(graph::BatchNorm::DEF, &operands, attrs! { epsilon: epsilon })
    }

    /// Layer normalisation over the dims from `axis` on. Parameters that do not have these dims broadcast to them.
    pub fn layer_norm(&mut self, x: &Value, params: [Option<&Value>; 2], norm: &Norm) -> Result<Value, Refusal> {
        let dims = self.dims(x);
        let own = &dims[norm.axis..];
        let whole: [Option<Value>; 2] = [self.parameter(params[0], own)?, self.parameter(params[1], own)?];
        // What cannot be brought into the dims is applied behind the norm, and so is what comes after it.
        let inside = |i: usize| params[i].is_none() || whole[i].is_some();
        let operand = |i: usize| if (0..=i).all(inside) { whole[i].as_ref() } else { None };
        let attrs = attrs! { axis: norm.axis, epsilon: norm.epsilon, rms: norm.rms };
        let mut out = self.emit_f32(graph::LayerNorm::DEF, &[Some(x), operand(0), operand(1)], attrs)?;
        for (i, op) in [(0, Arith::Mul), (1, Arith::Add)] {
            if let Some(parameter) = params[i].filter(|_| operand(i).is_none()) {
                out = self.arith(op, &out, parameter)?;
            }
        }
        match self.dims(&out) == dims {
            true => Ok(out),
            false => Err(Refusal::invalid(format!("its parameters do not fit the shape {dims:?}"))),
        }
    }

    /// A parameter of a norm with the dims `own`, if it has as many elements or is known.
    fn parameter(&mut self, v: Option<&Value>, own: &[usize]) -> Result<Option<Value>, Refusal> {
        let Some(v) = v else { return Ok(None) };
        if self.dims(v).iter().filter(|d| **d != 1).eq(own.iter().filter(|d| **d != 1)) {
            return self.reshape(v, own).map(Some);
        }
        let known = v.known().is_some() && broadcast(&self.dims(v), own).is_ok_and(|dims| dims == own);
        if !known {
            return Ok(None);
        }
        let zeros = self
            .folded(4 * own.iter().product::<usize>(), || Some(HostTensor::f32(own, vec![0.0; own.iter().product()])));
        zeros.map(|zeros| self.arith(Arith::Add, v, &zeros)).transpose()
    }

    /// `1 / sqrt(variance + epsilon)` over the dims from the axis of a norm on, which stay as 1.
    pub fn inverse_deviation(&mut self, x: &Value, norm: &Norm) -> Result<Value, Refusal> {
        let variance = self.variance(x, norm)?;
        let sum = self.plus(&variance, norm.epsilon)?;
        let root = self.function(Function::Sqrt, &sum)?;
        self.arith(Arith::Div, &scalar(1.0), &root)
    }

    /// The mean of the squares of differences from the mean, or of the numbers themselves if the norm subtracts none.
    pub fn variance(&mut self, x: &Value, norm: &Norm) -> Result<Value, Refusal> {
        let axes: Vec<usize> = (norm.axis..self.dims(x).len()).collect();
        let centred = if norm.rms { x.clone() } else { self.centred(x, &axes)? };
        let square = self.arith(Arith::Mul, &centred, &centred)?;
        self.reduce_mean(&square, &axes, true)
    }

    /// `x - mean` over `axes`.
    ///
    /// A mean of 100 in f32 is off by up to 4e-6, much where `x` deviates by 0.01. The mean of the differences is what it is
    /// off by, and is small enough to be exact.
    pub fn centred(&mut self, x: &Value, axes: &[usize]) -> Result<Value, Refusal> {
        let mean = self.reduce_mean(x, axes, true)?;
        let near = self.arith(Arith::Sub, x, &mean)?;
        let rest = self.reduce_mean(&near, axes, true)?;
        self.arith(Arith::Sub, &near, &rest)
    }

    /// Local response normalisation; `alpha` multiplies the plain sum of squares.
    pub fn lrn(&mut self, x: &Value, size: i64, alpha: f32, beta: f32, bias: f32) -> Result<Value, Refusal> {
        if !(1..=1 << 16).contains(&size) {
            return Err(Refusal::invalid(format!("the window has {size} channels")));
        }
        self.emit_f32(graph::Lrn::DEF, &[Some(x)], attrs! { size: size, alpha: alpha, beta: beta, bias: bias })
    }

    /// The largest element under each window.
    pub fn max_pool(&mut self, x: &Value, p: &Pool) -> Result<Value, Refusal> {
        let attrs = attrs! { kernel: p.kernel, strides: p.strides, pads: p.pads, ceil_mode: p.ceil_mode };
        self.emit_f32(graph::MaxPool::DEF, &[Some(x)], attrs)
    }

    /// The mean under each window.
    pub fn avg_pool(&mut self, x: &Value, p: &Pool, count: Count) -> Result<Value, Refusal> {
        let word = match count {
            Count::Exclusive => "exclusive",
            Count::Kernel => "kernel",
            Count::Inclusive => "inclusive",
        };
        let attrs = attrs! { kernel: p.kernel, strides: p.strides, pads: p.pads, ceil_mode: p.ceil_mode, count: word };
        self.emit_f32(graph::AvgPool::DEF, &[Some(x)], attrs)
    }

    /// The mean under each window, of which the input, the leading pads and `behind` rows and columns of trailing ones count;
    /// the pads of `p` may reach further.
    pub fn avg_pool_within(&mut self, x: &Value, p: &Pool, behind: [i64; 2]) -> Result<Value, Refusal> {
        let [_, _, height, width] = self.nchw(x)?;
        let input = [height as i64, width as i64];
        let size = |d: usize, after: i64, ceil_mode: bool| {
            let extra = if ceil_mode { p.strides[d] - 1 } else { 0 };
            (input[d] + p.pads[d] + after - p.kernel[d] + extra).div_euclid(p.strides[d]) + 1
        };
        let outputs = [0, 1].map(|d| size(d, p.pads[2 + d], p.ceil_mode));
        let fits = |d: usize| input[d] + p.pads[d] + behind[d] >= p.kernel[d];
        for ceil_mode in [false, true] {
            if (0..2).all(|d| fits(d) && size(d, behind[d], ceil_mode) == outputs[d]) {
                let pads = [p.pads[0], p.pads[1], behind[0], behind[1]];
                return self.avg_pool(x, &Pool { pads, ceil_mode, ..p.clone() }, Count::Inclusive);
            }
        }
        // No such pads give the windows, so what they are divided by is made right afterwards.
        let mean = self.avg_pool(x, p, Count::Kernel)?;
        let part = |d: usize, o: usize| {
            let start = o as i64 * p.strides[d] - p.pads[d];
            match (start + p.kernel[d]).min(input[d] + behind[d]) - start {
                count if count > 0 => p.kernel[d] as f32 / count as f32,
                _ => 0.0,
            }
        };
        let (h, w) = (self.dims(&mean)[2], self.dims(&mean)[3]);
        let factors = (0..h * w).map(|i| part(0, i / w) * part(1, i % w)).collect();
        self.arith(Arith::Mul, &mean, &HostTensor::f32([1, 1, h, w], factors).into())
    }

    /// The mean of each plane.
    pub fn global_avg_pool(&mut self, x: &Value) -> Result<Value, Refusal> {
        self.nchw(x)?;
        self.emit_f32(graph::GlobalAvgPool::DEF, &[Some(x)], attrs! {})
    }

    /// The largest element of each plane.
    pub fn global_max_pool(&mut self, x: &Value) -> Result<Value, Refusal> {
        self.nchw(x)?;
        self.emit_f32(graph::GlobalMaxPool::DEF, &[Some(x)], attrs! {})
    }

    /// Means over windows that cover the plane for a given output size.
    pub fn adaptive_avg_pool(&mut self, x: &Value, output: [i64; 2]) -> Result<Value, Refusal> {
        self.nchw(x)?;
        self.emit_f32(graph::AdaptiveAvgPool::DEF, &[Some(x)], attrs! { output: output })
    }
}

/// A known f32 of rank 0.
pub(crate) fn scalar(value: f32) -> Value {
    HostTensor::f32(Vec::new(), vec![value]).into()
}

#[cfg(test)]
mod tests {
    use super::super::known_i64s;
    use super::*;

    #[test]
    fn integers_are_computed_at_import() {
        let mut g = Graph::new("t");
        let v = g.arith(Arith::Mul, &known_i64s(vec![2, 3]), &known_i64s(vec![7])).unwrap();
        assert_eq!(v.known().unwrap().as_i64(), Some(&[14, 21][..]));
        assert!(g.arith(Arith::Div, &known_i64s(vec![1]), &known_i64s(vec![0])).is_err());
        let v = g.arith(Arith::Add, &known_i64s(vec![i64::MAX]), &known_i64s(vec![1])).unwrap();
        assert_eq!(v.known().unwrap().as_i64(), Some(&[i64::MIN][..]));
    }

    #[test]
    fn vectors_follow_numpy() {
        let mut g = Graph::new("t");
        let (v, m) = (g.input("v", Elem::F32, &[3]), g.input("m", Elem::F32, &[2, 3, 3]));
        let vm = g.matmul(&v, &m, None, [false, false]).unwrap();
        assert_eq!(g.dims(&vm), [2, 3]);
        let mv = g.matmul(&m, &v, None, [false, false]).unwrap();
        assert_eq!(g.dims(&mv), [2, 3]);
        let vv = g.matmul(&v, &v, None, [false, false]).unwrap();
        assert!(g.dims(&vv).is_empty());
    }
}
