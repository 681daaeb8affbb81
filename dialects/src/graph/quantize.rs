//! Quantize and dequantize: the borders between real numbers and their quantized form; and observed ranges.

use super::items::{kept, pass};
use super::{Clip, arg, dims_of, f32_ty, f32s, ints};
use qc_ir::{
    Attrs, Builder, Data, Elem, Follow, HostTensor, Items, Module, OpId, Quant, Store, TensorTy, Type, Use, ValueId,
};

qc_ir::ops! { dialect QUANTIZE = "graph";
    /// `q = clamp(round_half_even(x / scale) + zero, lo, hi)` in the format `quant`; NaN gives `lo`.
    op Quantize = "graph.quantize"(x: F32) -> (out) { quant: Quant } [PURE] infer(infer_quantize) eval(eval_quantize)
        items(items_quantize);
    /// `(q - zero) * scale`.
    op Dequantize = "graph.dequantize"(q: Quantized) -> (out) {} [PURE] infer(infer_dequantize) eval(eval_dequantize)
        items(items_dequantize);
    /// The input itself. Says that calibration saw values from `min` to `max` here, and that `snr` decibels lie between the
    /// signal and the noise of 8 bits over that range; infinity says nothing of noise.
    op Observe = "graph.observe"(x: F32) -> (out) { min: Float, max: Float, snr: Float = f64::INFINITY } [PURE]
        infer(infer_observe) eval(eval_observe) items(pass);
}

qc_ir::interface! {
    /// A border between real numbers and their quantized form.
    Conversion [Quantize, Dequantize] {
        /// What is converted.
        x: ValueId = [Quantize.x, Dequantize.q];
        /// The result.
        out: ValueId;
    }
}

/// Quantizes one number: the definition that all other code follows.
///
/// The clamp comes before the rounding; both bounds are integers, so that is the same number, and no float is out of
/// the range of the conversion.
pub fn quantize(x: f32, scale: f32, zero: i32, lo: i32, hi: i32) -> i32 {
    let (low, high) = ((lo - zero) as f32, (hi - zero) as f32);
    let v = x / scale;
    let v = if v > low { v.min(high) } else { low };
    nearest(v) as i32 + zero
}

/// `round_ties_even`, which is a call of a library on CPUs without an instruction for it; sums round where they are small.
pub(super) fn nearest(v: f32) -> f32 {
    const ONE_BEHIND_THE_POINT: f32 = (3 << 22) as f32;
    if v.abs() < (1 << 22) as f32 { (v + ONE_BEHIND_THE_POINT) - ONE_BEHIND_THE_POINT } else { v.round_ties_even() }
}

/// The format of a weight operand: s8 or u8, scales and zero points per output channel or per tensor.
pub(crate) fn weight_format(m: &Module, weight: ValueId) -> Result<&Quant, String> {
    let q = m.quant_of(weight).ok_or("the weight is not quantized")?;
    let fits = q.store != Store::I32 && q.axis.is_none_or(|a| a == 0) && (q.axis.is_some() || q.zeros.len() == 1);
    fits.then_some(q).ok_or_else(|| "the weight must be s8 or u8, with scales along its output channels".into())
}

/// Stored weights minus the zero points of their output channels, which are dim `axis`.
///
/// # Errors
/// When they are no bytes.
pub fn centred(q: &Quant, weight: &HostTensor, axis: usize) -> Result<Vec<i32>, String> {
    let mut values = ints(&[Some(weight)], 0)?;
    let inner: usize = weight.dims()[axis + 1..].iter().product();
    let channels = weight.dims()[axis];
    for (i, row) in values.chunks_mut(inner.max(1)).enumerate() {
        let zero = q.zero(i % channels);
        row.iter_mut().for_each(|w| *w -= zero);
    }
    Ok(values)
}

/// The index along the quantized axis of element `i` of a tensor with `dims`.
pub fn axis_index(quant: &Quant, dims: &[usize]) -> impl Fn(usize) -> usize {
    let (inner, size) = runs(quant, dims);
    move |i| i / inner % size
}

/// How many elements behind each other have one index along the quantized axis, and how many indices it has.
fn runs(quant: &Quant, dims: &[usize]) -> (usize, usize) {
    match quant.axis {
        Some(axis) => (dims[axis + 1..].iter().product::<usize>().max(1), dims[axis].max(1)),
        None => (dims.iter().product::<usize>().max(1), 1),
    }
}

/// Checks that a format fits a tensor.
///
/// # Errors
/// As [`Quant::check`].
pub fn check_quant(quant: &Quant, dims: &[usize]) -> Result<(), String> {
    quant.check(dims)
}

fn infer_quantize(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let (dims, id) = (dims_of(m, op, 0)?, Quantize(op).quant(m));
    check_quant(m.quant(id), dims)?;
    Ok(vec![Type::Tensor(TensorTy::new(Elem::Quant(id), dims))])
}

/// Formats per axis have other scales for each index of that axis.
fn items_quantize(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let own = m.quant(Quantize(op).quant(m)).axis;
    kept(m, op, f, |axis| own != Some(axis))
}

fn items_dequantize(m: &Module, op: OpId, f: &Follow) -> Option<Items> {
    let own = m.quant_of(Dequantize(op).q(m)).and_then(|q| q.axis);
    kept(m, op, f, |axis| own != Some(axis))
}

fn eval_quantize(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let q = m.quant(Quantize(op).quant(m));
    Ok(vec![quantize_tensor(q, arg(args, 0)?)?])
}

/// Quantizes a float tensor.
///
/// # Errors
/// When the tensor is not f32.
pub fn quantize_tensor(q: &Quant, x: &HostTensor) -> Result<HostTensor, String> {
    let values = f32s(&[Some(x)], 0)?;
    let data = match q.store {
        Store::U8 => Data::U8(stored(q, x.dims(), values, |v| v as u8)),
        Store::I8 => Data::I8(stored(q, x.dims(), values, |v| v as i8)),
        Store::I32 => Data::I32(stored(q, x.dims(), values, |v| v)),
    };
    HostTensor::new(x.dims(), data).ok_or_else(|| "wrong number of elements".into())
}

/// The integers of all elements. What belongs to an index of the axis is looked up once for its elements, and weights of
/// products, whose axis is the last, go by rows: a large model has 10^8 of them.
fn stored<T>(q: &Quant, dims: &[usize], values: &[f32], store: impl Fn(i32) -> T) -> Vec<T> {
    let (inner, size) = runs(q, dims);
    let formats: Vec<(f32, i32)> = (0..size).map(|c| (q.scale(c), q.zero(c))).collect();
    let one = |v: f32, (scale, zero): (f32, i32)| store(quantize(v, scale, zero, q.lo, q.hi));
    let mut out = Vec::with_capacity(values.len());
    for block in values.chunks(inner * size) {
        match inner {
            1 => out.extend(block.iter().zip(&formats).map(|(&v, &format)| one(v, format))),
            _ => {
                for (run, &format) in block.chunks(inner).zip(&formats) {
                    out.extend(run.iter().map(|&v| one(v, format)));
                }
            }
        }
    }
    out
}

fn infer_dequantize(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    let v = Dequantize(op).q(m);
    let quant = m.quant_of(v).ok_or("the operand is not quantized")?;
    check_quant(quant, m.dims(v))?;
    f32_ty(m.dims(v))
}

fn eval_dequantize(m: &Module, op: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    let quant = m.quant_of(Dequantize(op).q(m)).ok_or("the operand is not quantized")?;
    Ok(vec![dequantize_tensor(quant, arg(args, 0)?)])
}

/// Dequantizes a tensor of stored integers.
pub fn dequantize_tensor(q: &Quant, x: &HostTensor) -> HostTensor {
    let axis = axis_index(q, x.dims());
    let one = |i: usize| {
        let stored = x.int(i).unwrap_or(0);
        (stored - i64::from(q.zero(axis(i)))) as f32 * q.scale(axis(i))
    };
    HostTensor::f32(x.dims(), (0..x.len()).map(one).collect())
}

/// The program in which readers of pairs of one format read a clip instead, those that are `chosen` by their number among all;
/// `None` if there is none. A pass may drop the rounding for one reader and not for another.
///
/// This is what a pass that drops pairs is judged by, so it shares no code with passes.
pub fn unrounded(m: &Module, chosen: &dyn Fn(usize) -> bool) -> Option<Module> {
    let mut twin = m.clone();
    let (mut number, mut any) = (0, false);
    for op in m.walk(m.body()) {
        let Some(dequantize) = Dequantize::of(m, op) else { continue };
        let Some(quantize) = Quantize::producing(m, dequantize.q(m)) else { continue };
        let format = m.quant(quantize.quant(m)).clone();
        if format.axis.is_some() {
            continue;
        }
        let all = m.uses(dequantize.out(m));
        let readers: Vec<Use> = (number..).zip(all).filter(|(n, _)| chosen(*n)).map(|(_, u)| *u).collect();
        number += all.len();
        if readers.is_empty() {
            continue;
        }
        let real = |stored: i32| f64::from((stored - format.zero(0)) as f32 * format.scale(0));
        let attrs = Attrs::new().with("min", real(format.lo)).with("max", real(format.hi));
        let x = quantize.x(&twin);
        let clip = Clip::build(&mut Builder::before(&mut twin, op), &[Some(x)], attrs).ok()?.out(&twin);
        for reader in readers {
            match reader {
                Use::Operand(op, i) => twin.set_operand(op, i, Some(clip)),
                Use::Return(region, i) => {
                    let mut returns = twin.returns(region).to_vec();
                    returns[i] = clip;
                    twin.set_returns(region, &returns);
                }
            }
        }
        any = true;
    }
    any.then_some(twin)
}

fn infer_observe(m: &Module, op: OpId) -> Result<Vec<Type>, String> {
    f32_ty(dims_of(m, op, 0)?)
}

fn eval_observe(_: &Module, _: OpId, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
    Ok(vec![arg(args, 0)?.clone()])
}
