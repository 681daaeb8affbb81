//! Paddle's fake-quantization ops, as quantize/dequantize pairs.
//!
//! All of them store thresholds (the magnitude that 127 stands for); the step is `threshold / 127`. In a frozen program
//! of the old kind an activation goes through `fake_quantize_*`, which gives integers written as floats; the product
//! has integer weights; and a `fake_dequantize_*` behind it multiplies by the steps of both:
//!
//! ```text
//! before  xq = fake_quantize(x, InScale = s)      y = conv2d(xq, w_int)      out = fake_dequantize(y, factor f)
//! after   xr = dequantize(quantize(x, s/127))     out = conv2d(xr, dequantize(w_int: s8, scale f / (s/127)))
//! ```
//!
//! [`weight_of_product`] recognises that form. Whatever does not have it is written out literally in floats.

use super::op::{Lowered, Op, Tensor};
use crate::emit::{Arith, Graph, Known, Value};
use crate::error::Refusal;
use crate::shape;
use qc_dialects::graph::{self, quantize};
use qc_ir::{Data, HostTensor, Quant, Store, attrs};

type Result<T> = std::result::Result<T, Refusal>;

/// The largest quantized magnitude of 8 bits.
const MAX_LEVEL: f64 = 127.0;

fn expect_8_bits(op: &Op<'_>, name: &str) -> Result<()> {
    match op.int(name)?.unwrap_or(8) {
        8 => Ok(()),
        bits => Err(Refusal::unsupported(format!("it quantizes to {bits} bits; only 8 is supported"))),
    }
}

/// The format of a threshold, or of one per index of an axis. Rounding to even keeps -128, the older way does not.
fn format(thresholds: &[f32], axis: Option<usize>, keeps_lowest: bool) -> Quant {
    // Paddle adds a millionth where it would divide by zero.
    let usable = |t: f32| if (0.0..=1e-30).contains(&t) { t + 1e-6 } else { t };
    let scales = thresholds.iter().map(|&t| usable(t) / MAX_LEVEL as f32).collect();
    let axis = if thresholds.len() == 1 { None } else { axis };
    Quant { store: Store::I8, axis, scales, zeros: Box::new([0]), lo: if keeps_lowest { -128 } else { -127 }, hi: 127 }
}

fn in_scale(op: &Op<'_>) -> Result<f32> {
    op.known_number("InScale")?.ok_or_else(|| Refusal::invalid("it has no InScale"))
}

fn keeps_lowest(op: &Op<'_>, default: i64) -> Result<bool> {
    Ok(op.int("round_type")?.unwrap_or(default) == 0)
}

/// A quantize/dequantize pair; a constant is stored quantized.
fn pair(g: &mut Graph, x: &Value, quant: Quant) -> Result<Value> {
    let quantized = quantized(g, x, quant)?;
    g.emit(graph::Dequantize::DEF, &[Some(&quantized)], attrs! {})
}

fn quantized(g: &mut Graph, x: &Value, quant: Quant) -> Result<Value> {
    g.expect_f32(x)?;
    let id = g.quant(quant, &g.dims(x))?;
    match x {
        Value::Known(k) => {
            let quant = g.m.quant(id).clone();
            let stored = quantize::quantize_tensor(&quant, &k.tensor).map_err(Refusal::invalid)?;
            g.quant_constant(&k.name, stored, quant)
        }
        Value::Runtime(_) => g.emit_f32(graph::Quantize::DEF, &[Some(x)], attrs! { quant: id }),
    }
}

/// `fake_quantize_range_abs_max`, `fake_quantize_moving_average_abs_max`: integers written as floats.
pub(super) fn fake_quantize(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    expect_8_bits(op, "bit_length")?;
    let quant = format(&[in_scale(op)?], None, keeps_lowest(op, 1)?);
    let step = f64::from(quant.scales[0]);
    let real = pair(g, op.input("X")?, quant)?;
    let extra = Some(("OutScale", op.input("InScale")?.clone()));
    Ok(Lowered { values: vec![Tensor::Steps { real, step: step as f32 }], extra, why: "" })
}

/// `fake_quantize_dequantize_moving_average_abs_max`.
pub(super) fn fake_quantize_dequantize(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    expect_8_bits(op, "bit_length")?;
    let quant = format(&[in_scale(op)?], None, keeps_lowest(op, 1)?);
    let mut lowered = Lowered::from(pair(g, op.input("X")?, quant)?);
    lowered.extra = Some(("OutScale", op.input("InScale")?.clone()));
    Ok(lowered)
}

/// Quantize/dequantize by the tensor's own largest magnitude: for constant weights, the only case with a fixed scale.
pub(super) fn fake_weight(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    expect_8_bits(op, "bit_length")?;
    let x = op.input("X")?;
    let Some(t) = x.known() else {
        return Err(super::ops::unsupported("fake_quantize_abs_max"));
    };
    let values = t.as_f32().ok_or_else(|| Refusal::invalid("its input is not float"))?;
    let dims = t.dims();
    let axis = match op.desc.r#type.contains("channel_wise") {
        true => Some(shape::axis(op.int("quant_axis")?.unwrap_or(0), dims.len())?),
        false => None,
    };
    let mut largest = vec![0.0f32; axis.map_or(1, |a| dims[a])];
    let inner: usize = axis.map_or(1, |a| dims[a + 1..].iter().product());
    for (i, v) in values.iter().enumerate() {
        let c = i / inner.max(1) % largest.len();
        largest[c] = largest[c].max(v.abs());
    }
    let quant = format(&largest, axis, keeps_lowest(op, 1)?);
    let scales = HostTensor::f32(vec![largest.len()], largest).into();
    let mut lowered = Lowered::from(pair(g, x, quant)?);
    lowered.extra = Some(("OutScale", scales));
    Ok(lowered)
}

/// By what a `fake_dequantize_*` op multiplies: one number, or one per index of an axis.
pub(super) struct Factors {
    pub list: Vec<f64>,
    /// Axis of its input that the list runs along, when it has several numbers.
    axis: i64,
}

impl Factors {
    /// Reads them from an op whose scales are known.
    ///
    /// # Errors
    /// When the scales are missing or computed by the model.
    pub fn of(op: &Op<'_>) -> Result<Factors> {
        if op.desc.r#type == "fake_dequantize_max_abs" {
            let range = op.float("max_range")?.ok_or_else(|| Refusal::invalid("it has no max_range"))?;
            let scale = op.known_number("Scale")?.ok_or_else(|| Refusal::invalid("it has no Scale"))?;
            return Ok(Factors { list: vec![f64::from(scale) / f64::from(range)], axis: 0 });
        }
        let bits = op.ints("quant_bits")?.unwrap_or_else(|| vec![8]);
        if bits.iter().any(|&b| b != 8) {
            return Err(Refusal::unsupported(format!("it dequantizes {bits:?} bits; only 8 is supported")));
        }
        let floats = |v: &Value| v.known().and_then(HostTensor::as_f32).map(<[f32]>::to_vec);
        let scales: Option<Vec<Vec<f32>>> = op.all("Scales").iter().map(floats).collect();
        let scales = scales.ok_or_else(|| Refusal::unsupported("its scales are computed by the model"))?;
        let of = |second: f64| scales[0].iter().map(|&s| f64::from(s) * second / MAX_LEVEL).collect();
        match scales.as_slice() {
            [_] => Ok(Factors { list: of(1.0), axis: op.int("quant_axis")?.unwrap_or(0) }),
            [_, second] if second.len() == 1 => {
                let axis = op.int("x_num_col_dims")?.unwrap_or(1);
                Ok(Factors { list: of(f64::from(second[0]) / MAX_LEVEL), axis })
            }
            other => Err(Refusal::invalid(format!("it has {} scale tensors", other.len()))),
        }
    }
}

/// `fake_dequantize_max_abs`, `fake_channel_wise_dequantize_max_abs`, as multiplications.
pub(super) fn fake_dequantize(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let factors = Factors::of(op)?;
    let values: Vec<f32> = factors.list.iter().map(|&f| f as f32).collect();
    if let [one] = values[..] {
        return Ok(g.times(x, one)?.into());
    }
    let dims = g.dims(x);
    let axis = shape::axis(factors.axis, dims.len())?;
    if dims[axis] != values.len() {
        return Err(Refusal::invalid(format!("{} scales for axis {axis} of {dims:?}", values.len())));
    }
    let mut shape = vec![1; dims.len() - axis];
    shape[0] = values.len();
    Ok(g.arith(Arith::Mul, x, &HostTensor::f32(shape, values).into())?.into())
}

/// What a product op looks like to the pattern.
pub(super) struct Product<'a> {
    pub op_type: &'a str,
    /// The weight: a constant of integers.
    pub weight: &'a Known,
    /// Step of the activation.
    pub step: f32,
    /// Rank of the activation.
    pub rank: usize,
    /// Whether the weight is used transposed.
    pub transposed: bool,
    /// Where the product's columns begin in its result, for `mul`.
    pub columns: i64,
}

impl Product<'_> {
    /// The axis of the weight that output channels run along, and that axis in the result.
    fn channel_axes(&self) -> (usize, i64) {
        match self.op_type {
            "mul" => (1, self.columns),
            "matmul" | "matmul_v2" => (usize::from(!self.transposed), self.rank as i64 - 1),
            _ => (0, 1),
        }
    }
}

/// The dequantized s8 weight of a product that is followed by a dequantize with these factors; `None` when weight or
/// factors do not have that form.
///
/// # Errors
/// What making the ops says.
pub(super) fn weight_of_product(g: &mut Graph, p: &Product<'_>, factors: &Factors) -> Result<Option<Value>> {
    let dims = p.weight.tensor.dims();
    let (axis, out_axis) = p.channel_axes();
    let Some(stored) = integers(&p.weight.tensor) else { return Ok(None) };
    let per_axis = factors.list.len() > 1;
    if per_axis && (factors.axis != out_axis || dims.get(axis) != Some(&factors.list.len())) {
        return Ok(None);
    }
    let inner: usize = dims.iter().skip(axis + 1).product();
    let mut scales: Vec<f32> = factors.list.iter().map(|f| (f / f64::from(p.step)) as f32).collect();
    for (c, scale) in scales.iter_mut().enumerate().filter(|(_, s)| !(s.is_finite() && **s > 0.0)) {
        // The step of a channel of zeros does not matter, but must be a positive number.
        let in_channel = |i: usize| !per_axis || i / inner.max(1) % factors.list.len() == c;
        if stored.iter().enumerate().any(|(i, &v)| v != 0 && in_channel(i)) {
            return Ok(None);
        }
        *scale = 1.0;
    }
    let (lo, hi) = Store::I8.bounds();
    let quant =
        Quant { store: Store::I8, axis: per_axis.then_some(axis), scales: scales.into(), zeros: [0].into(), lo, hi };
    g.dequantized_constant(&p.weight.name, HostTensor::i8(dims, stored), quant).map(Some)
}

/// The elements as s8, if all of them are integers in its range.
fn integers(t: &HostTensor) -> Option<Vec<i8>> {
    match t.data() {
        Data::I8(v) => Some(v.clone()),
        Data::F32(v) => v.iter().map(|&x| (x as i8 as f32 == x).then_some(x as i8)).collect(),
        _ => None,
    }
}

/// The thresholds of a `quantize_linear` or `dequantize_linear` and their axis.
fn linear_format(op: &Op<'_>, dims: &[usize]) -> Result<Quant> {
    expect_8_bits(op, "bit_length")?;
    let scales = op.known("Scale")?.and_then(HostTensor::as_f32);
    let scales = scales.ok_or_else(|| Refusal::invalid("it has no float Scale"))?;
    let axis = match scales.len() {
        1 => None,
        _ => Some(shape::axis(op.int("quant_axis")?.unwrap_or(0), dims.len())?),
    };
    if axis.is_some_and(|a| dims[a] != scales.len()) {
        return Err(Refusal::invalid(format!("{} scales for the shape {dims:?}", scales.len())));
    }
    Ok(format(scales, axis, keeps_lowest(op, 0)?))
}

pub(super) fn quantize_linear(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    if op.flag("only_observer", false)? {
        return Ok(Lowered::identity(x.clone(), "it only observes"));
    }
    let quant = linear_format(op, &g.dims(x))?;
    Ok(Lowered::identity(quantized(g, x, quant)?, "the constant is stored quantized"))
}

pub(super) fn dequantize_linear(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    if op.flag("only_observer", false)? {
        return Ok(Lowered::identity(x.clone(), "it only observes"));
    }
    let quant = linear_format(op, &g.dims(x))?;
    let value = match (x, g.quant_of(x)) {
        (_, Some(own)) if own.scales == quant.scales && own.axis == quant.axis => x.clone(),
        (_, Some(_)) => return Err(Refusal::unsupported("its scale differs from that of its quantize_linear")),
        (Value::Known(k), None) => match integers(&k.tensor) {
            Some(stored) => {
                let stored = HostTensor::i8(k.tensor.dims(), stored);
                return Ok(g.dequantized_constant(&k.name, stored, quant)?.into());
            }
            None => return Err(Refusal::unsupported("it dequantizes constants that are no 8-bit integers")),
        },
        (Value::Runtime(_), None) => {
            return Err(Refusal::unsupported("it dequantizes a tensor that no quantize_linear made"));
        }
    };
    Ok(g.emit(graph::Dequantize::DEF, &[Some(&value)], attrs! {})?.into())
}
