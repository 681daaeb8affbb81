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

#[cfg(test)]
mod tests;

type Result<T> = std::result::Result<T, Refusal>;

/// The largest quantized magnitude of 8 bits.
pub(super) const MAX_LEVEL: f64 = 127.0;

/// Why a fake-quantize op with a measured scale leaves its tensor float.
const MEASURED: &str = "its scale is measured anew in every run, so its tensor stays float";

/// Why a tensor in steps of a measured scale cannot be used by an op.
pub(super) fn measured() -> Refusal {
    Refusal::unsupported("an operand is in units that are measured anew in every run")
        .remedy("train with range_abs_max or moving_average_abs_max, or freeze the program")
}

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
    if let (Some(t), Some(name)) = (x.known(), x.name()) {
        let quant = g.m.quant(id).clone();
        let stored = quantize::quantize_tensor(&quant, t).map_err(Refusal::invalid)?;
        return g.quant_constant(name, stored.into(), quant);
    }
    g.emit_f32(graph::Quantize::DEF, &[Some(x)], attrs! { quant: id })
}

/// `fake_quantize_range_abs_max`, `fake_quantize_moving_average_abs_max`: integers written as floats.
pub(super) fn fake_quantize(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    expect_8_bits(op, "bit_length")?;
    let quant = format(&[in_scale(op)?], None, keeps_lowest(op, 1)?);
    let step = f64::from(quant.scales[0]);
    let real = pair(g, op.input("X")?, quant)?;
    let extra = vec![("OutScale", Tensor::Plain(op.input("InScale")?.clone()))];
    Ok(Lowered { values: vec![Tensor::Steps { real, step: Some(step as f32) }], extra, ragged: None, why: "" })
}

/// `fake_quantize_dequantize_moving_average_abs_max`.
pub(super) fn fake_quantize_dequantize(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    expect_8_bits(op, "bit_length")?;
    let quant = format(&[in_scale(op)?], None, keeps_lowest(op, 1)?);
    let mut lowered = Lowered::from(pair(g, op.input("X")?, quant)?);
    lowered.extra = vec![("OutScale", Tensor::Plain(op.input("InScale")?.clone()))];
    Ok(lowered)
}

/// The format of a constant by its own largest magnitude, for the whole tensor or per channel, and the thresholds.
fn format_of_constant(op: &Op<'_>, t: &HostTensor) -> Result<(Quant, Vec<f32>)> {
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
    Ok((format(&largest, axis, keeps_lowest(op, 1)?), largest))
}

fn thresholds(list: Vec<f32>) -> Tensor {
    Tensor::Plain(HostTensor::f32(vec![list.len()], list).into())
}

/// `fake_quantize_dequantize_abs_max` and its form per channel: the scale is the tensor's own largest magnitude, so only
/// that of a constant is fixed.
pub(super) fn fake_quantize_dequantize_abs_max(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    expect_8_bits(op, "bit_length")?;
    let x = op.input("X")?;
    let Some(t) = x.known() else {
        let extra = vec![("OutScale", Tensor::Measured(x.clone()))];
        return Ok(Lowered { extra, ..Lowered::identity(x.clone(), MEASURED) });
    };
    let (quant, largest) = format_of_constant(op, t)?;
    let lowered = Lowered::from(pair(g, x, quant)?);
    Ok(Lowered { extra: vec![("OutScale", thresholds(largest))], ..lowered })
}

/// `fake_quantize_abs_max` and its form per channel: as above, the result being integers written as floats.
pub(super) fn fake_quantize_abs_max(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    expect_8_bits(op, "bit_length")?;
    let x = op.input("X")?;
    g.expect_f32(x)?;
    let Some(t) = x.known() else {
        if op.desc.r#type.contains("channel_wise") {
            return Err(measured());
        }
        let extra = vec![("OutScale", Tensor::Measured(x.clone()))];
        return Ok(Lowered {
            values: vec![Tensor::Steps { real: x.clone(), step: None }],
            extra,
            ragged: None,
            why: MEASURED,
        });
    };
    let (quant, largest) = format_of_constant(op, t)?;
    let stored = quantize::quantize_tensor(&quant, t).map_err(Refusal::invalid)?;
    g.charge(5 * stored.len())?;
    let integers = (0..stored.len()).map(|i| stored.int(i).unwrap_or(0) as f32).collect();
    let lowered = Lowered::from(Value::from(HostTensor::f32(stored.dims(), integers)));
    Ok(Lowered { extra: vec![("OutScale", thresholds(largest))], ..lowered })
}

/// Whether an op is `fake_dequantize_max_abs` or its form per channel.
pub(super) fn is_fake_dequantize(op_type: &str) -> bool {
    matches!(op_type, "fake_dequantize_max_abs" | "fake_channel_wise_dequantize_max_abs")
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
    if let Value::Known(k) = x
        && let Some(stored) = integers(&k.tensor)
    {
        let axis = if values.len() == 1 { None } else { Some(shape::axis(factors.axis, k.tensor.dims().len())?) };
        if let Some(real) = stored_constant(g, k, stored, axis, values.clone())? {
            return Ok(real.into());
        }
    }
    if let [one] = values[..] {
        return Ok(g.times(x, one)?.into());
    }
    let dims = g.dims(x);
    let axis = shape::axis(factors.axis, dims.len())?;
    if dims[axis] != values.len() {
        return Err(Refusal::invalid(format!("{} scales for axis {axis} of {dims:?}", values.len())));
    }
    along(g, x, Some(axis), values)
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
    let scales: Vec<f32> = factors.list.iter().map(|f| (f / f64::from(p.step)) as f32).collect();
    stored_constant(g, p.weight, stored, per_axis.then_some(axis), scales)
}

/// Stored integers with the scale of all, or with one per index of an axis; `None` if a scale that matters is no
/// positive number, or there are not as many as the axis is long.
fn stored_constant(
    g: &mut Graph,
    known: &Known,
    stored: Vec<i8>,
    axis: Option<usize>,
    mut scales: Vec<f32>,
) -> Result<Option<Value>> {
    let dims = known.tensor.dims();
    if axis.is_some_and(|a| dims[a] != scales.len()) {
        return Ok(None);
    }
    let inner: usize = axis.map_or(1, |a| dims[a + 1..].iter().product());
    let count = scales.len();
    for (c, scale) in scales.iter_mut().enumerate().filter(|(_, s)| !(s.is_finite() && **s > 0.0)) {
        // The step of a channel of zeros does not matter, but must be a positive number.
        let in_channel = |i: usize| axis.is_none() || i / inner.max(1) % count == c;
        if stored.iter().enumerate().any(|(i, &v)| v != 0 && in_channel(i)) {
            return Ok(None);
        }
        *scale = 1.0;
    }
    let (lo, hi) = Store::I8.bounds();
    let quant = Quant { store: Store::I8, axis, scales: scales.into(), zeros: [0].into(), lo, hi };
    g.dequantized_constant(&known.name, HostTensor::i8(dims, stored), quant).map(Some)
}

/// The elements as s8, if all of them are integers in its range.
fn integers(t: &HostTensor) -> Option<Vec<i8>> {
    match t.data() {
        Data::I8(v) => Some(v.clone()),
        Data::F32(v) => v.iter().map(|&x| (x as i8 as f32 == x).then_some(x as i8)).collect(),
        _ => None,
    }
}

/// The format of a `quantize_linear` or `dequantize_linear`; `None` when it has no scale.
fn linear_format(op: &Op<'_>, dims: &[usize]) -> Result<Option<Quant>> {
    expect_8_bits(op, "bit_length")?;
    let Some(scales) = op.known("Scale")? else { return Ok(None) };
    let scales = scales.as_f32().ok_or_else(|| Refusal::invalid("its Scale is not float"))?;
    let axis = match scales.len() {
        1 => None,
        _ => Some(shape::axis(op.int("quant_axis")?.unwrap_or(0), dims.len())?),
    };
    if axis.is_some_and(|a| dims[a] != scales.len()) {
        return Err(Refusal::invalid(format!("{} scales for the shape {dims:?}", scales.len())));
    }
    let mut quant = format(scales, axis, keeps_lowest(op, 0)?);
    // Paddle 3 states the bounds.
    let bound = |name, default: i32| Ok(op.int(name)?.map_or(default, |b| b.clamp(-128, 127) as i32));
    (quant.lo, quant.hi) = (bound("qmin", quant.lo)?.max(quant.lo), bound("qmax", quant.hi)?);
    Ok(Some(quant))
}

/// Why a pair of linear ops without a scale does nothing.
const NO_SCALE: &str = "it has no scale, so its tensor stays float";

pub(super) fn quantize_linear(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    if op.flag("only_observer", false)? {
        return Ok(Lowered::identity(x.clone(), "it only observes"));
    }
    let Some(quant) = linear_format(op, &g.dims(x))? else { return Ok(Lowered::identity(x.clone(), NO_SCALE)) };
    Ok(Lowered::identity(quantized(g, x, quant)?, "the constant is stored quantized"))
}

pub(super) fn dequantize_linear(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    if op.flag("only_observer", false)? {
        return Ok(Lowered::identity(x.clone(), "it only observes"));
    }
    let dims = g.dims(x);
    let Some(quant) = linear_format(op, &dims)? else {
        return match (x, g.quant_of(x)) {
            (Value::Runtime(_) | Value::Dequantized(_), None) => Ok(Lowered::identity(x.clone(), NO_SCALE)),
            _ => Err(Refusal::invalid("it has no Scale for the integers it reads")),
        };
    };
    if let Some(own) = g.quant_of(x).cloned() {
        let real = g.emit(graph::Dequantize::DEF, &[Some(x)], attrs! {})?;
        if own.scales == quant.scales && own.axis == quant.axis {
            return Ok(real.into());
        }
        let ratio = |(to, from): (&f32, &f32)| to / from;
        let pairs = quant.scales.iter().zip(own.scales.iter().cycle());
        return along(g, &real, quant.axis, pairs.map(ratio).collect());
    }
    if let Value::Known(k) = x
        && let Some(stored) = integers(&k.tensor)
        && let Some(real) = stored_constant(g, k, stored, quant.axis, quant.scales.to_vec())?
    {
        return Ok(real.into());
    }
    // Numbers that no quantize made: the op is a product, as written.
    g.expect_f32(x)?;
    along(g, x, quant.axis, quant.scales.to_vec())
}

/// `x` times one number, or times one per index of an axis.
fn along(g: &mut Graph, x: &Value, axis: Option<usize>, factors: Vec<f32>) -> Result<Lowered> {
    let mut dims = vec![factors.len()];
    dims.resize(axis.map_or(0, |a| g.dims(x).len() - a), 1);
    Ok(g.arith(Arith::Mul, x, &HostTensor::f32(dims, factors).into())?.into())
}
