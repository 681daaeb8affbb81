//! Convolutions and matrix products, with bias, residual and activation.

use super::{Tail, dequantized, element, product, steps_are_resolved};
use crate::graph::bounds::Bounds;
use crate::graph::{add_constant, add_shared_constant, constant, constant_f32, from_constant, sole_producer};
use crate::quant::keep_float::{is_kept, kept};
use qc_dialects::graph::quantize::centred;
use qc_dialects::graph::{Add, Clamp, Conv2d, Dequantize, Linear, Matmul, Quantize};
use qc_dialects::quant::numeric::accumulator_scale;
use qc_dialects::quant::{QConv2d, QMatmul};
use qc_ir::{
    Attr, Attrs, Data, Elem, HostTensor, Module, OpId, Quant, QuantId, Rewriter, Store, TensorTy, Type, ValueId,
    transposed,
};

/// Operands of an integer convolution or product that were found to fit.
struct Fitting {
    op: OpId,
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
    transposed: bool,
}

/// Why a convolution or matrix product cannot be computed in integers; `None` when it can.
pub fn obstacle(m: &Module, op: OpId) -> Option<String> {
    if let Some(obstacle) = product::obstacle(m, op) {
        return obstacle;
    }
    match operands(m, op) {
        Err(reason) => Some(reason),
        Ok(l) => accumulator(m, &l, true).err(),
    }
}

/// The step to which the result of an op is rounded, perhaps behind a sum and an activation; `None` for a result that is
/// read in f32.
pub fn result_step(m: &Module, op: OpId) -> Option<f64> {
    let mut user = m.only_user(m.result(op))?;
    while Add::of(m, user).is_some() || Clamp::is(m, user) {
        user = m.only_user(m.result(user))?;
    }
    let format = Quantize::of(m, user)?.quant(m);
    Some(f64::from(m.quant(format).scale(0)))
}

/// The quantized operands of a convolution or matrix product.
fn operands(m: &Module, op: OpId) -> Result<Fitting, String> {
    if let Some(reason) = kept(m, op) {
        return Err(reason.into());
    }
    let linear = Linear::of(m, op).ok_or("it is neither a convolution nor a product")?;
    let (x, w) = (linear.input(m), linear.weight(m));
    let x = dequantized(m, x).ok_or("its input has no quantized range")?;
    let stored = Dequantize::producing(m, w).ok_or("its weight is not quantized")?.q(m);
    let tensor = constant(m, stored).ok_or("its weight is not constant")?;
    let q = m.quant_of(stored).ok_or("its weight is not quantized")?;
    if q.store == Store::I32 {
        return Err("its weight is not stored in 8 bits".into());
    }
    let transposed = match Matmul::of(m, op) {
        None => false,
        Some(mm) => {
            if mm.transpose_a(m) || tensor.dims().len() != 2 {
                return Err("its operands are not in the form of a layer".into());
            }
            !mm.transpose_b(m)
        }
    };
    if q.axis.is_some_and(|a| a != usize::from(transposed)) {
        return Err("its weight scales do not run along the output channels".into());
    }
    Ok(Fitting { op, x, weight: stored, bias: linear.bias(m), transposed })
}

/// What an accumulator starts at, and by which power of two its unit in a channel differs from that of the stored
/// weights.
struct Accumulator {
    bias: Option<Data>,
    shifts: Vec<i32>,
}

/// From here on, a bias in units of the accumulator hides all that the weights add to it, which is less than `2^31`.
const DEAD: f64 = (1u64 << 60) as f64;

/// Digits of the bias of a channel without weights: all that a float has but one.
const BIAS_BITS: i32 = 23;

/// The bias in units of the accumulator.
///
/// A channel with tiny weights has a tiny unit, and its bias may not fit 32 bits. Its unit is then doubled until it does:
/// stored weights are halved and rounded, the scale doubled. The bias is beyond `2^30` units there, so what rounding
/// takes from the weights is under 0.05 % of it, a fraction of one quantization step.
///
/// A channel whose weights are all 0, as pruning leaves them, or too small to matter, as training leaves them, is its bias. Any unit is right for its weights, so it gets
/// one that holds the bias; that of a scale nobody chose could be as coarse as the result.
///
/// Elsewhere the unit is what the scales of input and weight make it. Where they are so wide, compared with the result,
/// that rounding the bias to it is more than a step of the result, the result is real first.
///
/// Nothing rounds a bias whose sum is read as a real number: unless it is stored in units of the accumulator, it is added
/// behind it, in f32.
fn accumulator(m: &Module, l: &Fitting, real: bool) -> Result<Accumulator, String> {
    let (xq, wq) = (m.quant_of(l.x).ok_or("no format")?, m.quant_of(l.weight).ok_or("no format")?);
    let tensor = constant(m, l.weight).ok_or("its weight is not constant")?;
    let channels = tensor.dims()[usize::from(l.transposed)];
    let unit = |c: usize| f64::from(xq.scale(0)) * f64::from(wq.scale(c));
    let given = l.bias.map(|b| stored_bias(m, b, channels, unit).ok_or("its bias is not constant")).transpose()?;
    let bias: Vec<f64> = match &given {
        Some(Bias::Stored(stored)) => stored.iter().map(|&b| f64::from(b)).collect(),
        Some(Bias::Real(b)) if !real => b.iter().enumerate().map(|(c, &b)| f64::from(b) / unit(c)).collect(),
        _ => vec![0.0; channels],
    };
    let taps = tensor.len() / channels.max(1);
    let largest = if is_s8(wq) { 128.0 } else { 255.0 };
    let reach = taps as f64 * 255.0 * largest;
    if reach > f64::from(i32::MAX / 2) {
        return Err("its accumulator could overflow 32 bits".into());
    }
    if !bias.iter().all(|b| b.is_finite()) {
        return Err("its bias does not fit its scales".into());
    }
    let axis = usize::from(l.transposed);
    let empty = empty_channels(wq, &tensor, axis);
    // All its weights together are less than 2^-29 of its bias: it is its bias, and weights that small shift to 0.
    let dead = |c: usize| empty[c] || bias[c].abs() > DEAD;
    let shift = |c: usize| match dead(c) {
        true => shift_of_bias(bias[c], unit(c).min(f64::from(wq.scale(c)))),
        false => (bias[c].abs() / (f64::from(i32::MAX) - reach)).log2().ceil().clamp(0.0, 31.0) as i32,
    };
    let shifts: Vec<i32> = (0..channels).map(shift).collect();
    let is_f32 = |c: usize, x: f64| ((x * 2f64.powi(shifts[c])) as f32).is_normal();
    if !(0..channels).all(|c| is_f32(c, unit(c)) && is_f32(c, f64::from(wq.scale(c)))) {
        return Err("the unit of its accumulator is too small or too large for f32".into());
    }
    let scaled: Vec<f64> = bias.iter().zip(&shifts).map(|(b, &s)| (b / 2f64.powi(s)).round_ties_even()).collect();
    let step = result_step(m, l.op).filter(|_| !real).unwrap_or(f64::INFINITY);
    if (0..channels).any(|c| (bias[c] - scaled[c] * 2f64.powi(shifts[c])).abs() * unit(c) > step) {
        return Err("its bias would be rounded by more than a step of its result".into());
    }
    let bias = given.map(|given| match given {
        Bias::Real(b) if real => Data::F32(b),
        _ => Data::I32(scaled.into_iter().map(|x| x as i32).collect()),
    });
    Ok(Accumulator { bias, shifts })
}

/// Which output channels, indices of `axis`, have no weight but 0. Mostly none has, which the first weights show.
fn empty_channels(q: &Quant, weight: &HostTensor, axis: usize) -> Vec<bool> {
    let channels = weight.dims()[axis];
    let inner = weight.dims()[axis + 1..].iter().product::<usize>().max(1);
    let outer = weight.len() / (channels * inner).max(1);
    let is_zero = |i: usize, c: usize| weight.int(i) == Some(i64::from(q.zero(c)));
    let mut empty = vec![true; channels];
    for o in 0..outer {
        for (c, empty) in empty.iter_mut().enumerate().filter(|(_, empty)| **empty) {
            let start = (o * channels + c) * inner;
            *empty = (start..start + inner).all(|i| is_zero(i, c));
        }
        if !empty.contains(&true) {
            break;
        }
    }
    empty
}

/// The power of two by which a unit that only the bias needs must change for it to be a number of [`BIAS_BITS`]; none
/// when it is a whole number. The scale, of which `smallest` is the least that matters, stays a normal number.
fn shift_of_bias(bias: f64, smallest: f64) -> i32 {
    let largest = f64::from(i32::MAX) / 2.0;
    if bias.fract() == 0.0 && bias.abs() < largest {
        return 0;
    }
    let wanted = bias.abs().log2().ceil() as i32 - BIAS_BITS;
    let least = (f64::from(f32::MIN_POSITIVE) / smallest).log2().ceil() as i32;
    wanted.max(least)
}

/// Whether stored weights are what kernels multiply: s8 without zero points.
fn is_s8(q: &Quant) -> bool {
    q.store == Store::I8 && q.zeros.iter().all(|&z| z == 0)
}

/// The weight as integer ops have it: output channels first, channels shrunk that need it, and s8 without zero points
/// where `weight - zero` fits; else in its own storage.
fn weight(rw: &mut Rewriter<'_>, l: &Fitting, shifts: &[i32]) -> Option<ValueId> {
    let (t, q) = (constant(rw.m, l.weight)?, rw.m.quant_of(l.weight)?.clone());
    let plain = is_s8(&q) && shifts.iter().all(|&s| s == 0);
    if plain && !l.transposed {
        return Some(l.weight);
    }
    let axis = usize::from(l.transposed);
    let moved = !l.transposed && shifts.iter().all(|&s| s == 0);
    let shrunk: &[i32] = if shifts.iter().all(|&s| s == 0) { &[] } else { shifts };
    // What is made depends on the stored numbers, their zero points and the shifts, but not on scales.
    let what = format!("integer weight {axis} {:?} {:?} {shrunk:?}", q.store, q.zeros);
    let made = rw.m.consts.memo.made(&what, &[&t], || integer_weight(&q, &t, axis, shifts).ok_or(())).ok()?;
    let (tensor, is_narrow) = (made.first()?.clone(), made.len() == 1);
    let factor = |c: usize| 2f64.powi(shifts[c]);
    let scales: Vec<f32> = match plain {
        true => q.scales.to_vec(),
        false => (0..shifts.len()).map(|c| (f64::from(q.scale(c)) * factor(c)) as f32).collect(),
    };
    if moved && tensor.data() == t.data() {
        return Some(l.weight);
    }
    let axis = (q.axis.is_some() || scales.len() > 1).then_some(0);
    let format = Quant { axis, scales: scales.into(), ..q };
    let format = if is_narrow { narrow(format) } else { format };
    let name = rw.m.name(l.weight).unwrap_or("weight").to_string();
    let ty = TensorTy::new(Elem::Quant(rw.m.intern_quant(format)), tensor.dims());
    add_shared_constant(rw, &name, ty, tensor)
}

/// A weight with output channels first, shrunk by powers of two: without zero points where that is s8, else with them, and
/// an empty tensor behind it.
fn integer_weight(q: &Quant, t: &HostTensor, axis: usize, shifts: &[i32]) -> Option<Vec<HostTensor>> {
    if let (1, &[k, n], Data::I8(w)) = (axis, t.dims(), t.data())
        && is_s8(q)
        && shifts.iter().all(|&s| s == 0)
    {
        return Some(vec![HostTensor::i8([n, k], transposed(w, [k, n]))]);
    }
    let inner: usize = t.dims()[axis + 1..].iter().product();
    let factor = |c: usize| 2f64.powi(shifts[c]);
    let shrunk = |(i, w): (usize, i32)| (f64::from(w) / factor(i / inner % shifts.len())).round_ties_even() as i32;
    let values: Vec<i32> = centred(q, t, axis).ok()?.into_iter().enumerate().map(shrunk).collect();
    let (dims, values) = match (axis, t.dims()) {
        (1, &[k, n]) => (vec![n, k], transposed(&values, [k, n])),
        (0, dims) => (dims.to_vec(), values),
        _ => return None,
    };
    if let Ok(bytes) = values.iter().map(|&w| i8::try_from(w)).collect() {
        return Some(vec![HostTensor::new(dims, Data::I8(bytes))?]);
    }
    let inner: usize = dims[1..].iter().product();
    let stored = values.iter().enumerate().map(|(i, w)| w + q.zero(i / inner));
    let data = match q.store {
        Store::U8 => Data::U8(stored.map(|w| w as u8).collect()),
        _ => Data::I8(stored.map(|w| w as i8).collect()),
    };
    Some(vec![HostTensor::new(dims, data)?, HostTensor::i8([0], Vec::new())])
}

/// The format of weights that have lost their zero points and are s8.
fn narrow(format: Quant) -> Quant {
    let (lo, hi) = if is_s8(&format) { (format.lo, format.hi) } else { Store::I8.bounds() };
    Quant { store: Store::I8, zeros: [0].into(), lo, hi, ..format }
}

/// A bias as the model has it.
enum Bias {
    /// Integers in units of the accumulator.
    Stored(Vec<i32>),
    /// Real numbers.
    Real(Vec<f32>),
}

/// The bias of each channel, the accumulator having this unit.
fn stored_bias(m: &Module, b: ValueId, channels: usize, unit: impl Fn(usize) -> f64) -> Option<Bias> {
    if let Some(dq) = Dequantize::producing(m, b) {
        let (q, t) = (m.quant_of(dq.q(m))?, constant(m, dq.q(m))?);
        let close = |c: usize| (f64::from(q.scale(c)) / unit(c) - 1.0).abs() < 1e-5 && q.zero(c) == 0;
        if q.store == Store::I32 && (0..channels).all(close) {
            return t.as_i32().map(|v| Bias::Stored(v.to_vec()));
        }
        let real = qc_dialects::graph::quantize::dequantize_tensor(q, &t);
        return Some(Bias::Real(real.as_f32()?.to_vec()));
    }
    constant_f32(m, b).filter(|real| real.len() == channels).map(Bias::Real)
}

/// Makes the integer op before `root`, with the locations of `chain`.
fn build(
    rw: &mut Rewriter<'_>,
    root: OpId,
    op: OpId,
    chain: &[OpId],
    residual: Option<ValueId>,
    epilogue: Attrs,
) -> Option<()> {
    if let Some(built) = product::build(rw, root, op, chain, residual, &epilogue) {
        return built;
    }
    let l = operands(rw.m, op).ok()?;
    let real = epilogue.get("to") == Some(&Attr::Type(Type::Scalar(Elem::F32)));
    let acc = accumulator(rw.m, &l, real).ok()?;
    let bias = match acc.bias {
        None => None,
        Some(b) => {
            let (elem, n) = (b.elem(), acc.shifts.len());
            Some(add_constant(rw, "bias", TensorTy::new(elem, [n]), HostTensor::new([n], b)?)?)
        }
    };
    let weight = weight(rw, &l, &acc.shifts)?;
    let mut attrs = epilogue;
    let def = match Conv2d::of(rw.m, op) {
        Some(conv) => {
            attrs.set("strides", conv.strides(rw.m).to_vec().into());
            attrs.set("pads", conv.pads(rw.m).to_vec().into());
            attrs.set("dilations", conv.dilations(rw.m).to_vec().into());
            attrs.set("groups", conv.groups(rw.m).into());
            QConv2d::DEF
        }
        None => QMatmul::DEF,
    };
    let loc = rw.fuse_locs(chain);
    let new = rw.create_at(root, loc, def, &[Some(l.x), Some(weight), bias, residual], attrs)?;
    let (old, new) = (rw.m.result(root), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

fn quantized_epilogue(bounds: Bounds, id: QuantId, format: &Quant) -> Attrs {
    let (lo, hi) = bounds.stored(format);
    Attrs::new().with("to", element(id)).with("lo", lo).with("hi", hi)
}

/// Whether the factors from accumulators of `op` to a result of `format` are numbers.
fn factors_are_numbers(m: &Module, op: OpId, format: &Quant) -> Option<()> {
    if let Some(is_number) = product::factor_is_number(m, op, format) {
        return is_number.then_some(());
    }
    let l = operands(m, op).ok()?;
    let (xq, wq) = (m.quant_of(l.x)?, m.quant_of(l.weight)?);
    let shifts = accumulator(m, &l, false).ok()?.shifts;
    let weight = |(c, s): (usize, &i32)| (f64::from(wq.scale(c)) * 2f64.powi(*s)) as f32;
    let factor = |weight: f32| accumulator_scale(xq.scale(0), weight, format.scale(0));
    shifts.iter().enumerate().map(weight).map(factor).all(f32::is_finite).then_some(())
}

/// A convolution or product whose result is quantized.
pub fn linear(
    rw: &mut Rewriter<'_>,
    root: OpId,
    t: &Tail,
    residual: Option<ValueId>,
    id: QuantId,
    format: &Quant,
) -> Option<()> {
    let bounds = Bounds::within(rw.m, t.op).then(t.bounds);
    factors_are_numbers(rw.m, t.op, format)?;
    build(rw, root, t.op, &t.chain, residual, quantized_epilogue(bounds, id, format))
}

/// A convolution or product, perhaps clamped, plus a quantized tensor, the sum being quantized.
pub fn residual(rw: &mut Rewriter<'_>, root: OpId, t: &Tail, id: QuantId, format: &Quant) -> Option<()> {
    for (acc, res) in [(1, 0), (0, 1)] {
        let (acc, res) = (rw.m.operand(t.op, acc)?, rw.m.operand(t.op, res)?);
        let Some((op, bounds, mut chain)) = clamped_linear(rw.m, acc, t.op) else { continue };
        let fits = |r: &ValueId| rw.m.dims(*r) == rw.m.dims(acc) && !from_constant(rw.m, *r);
        let Some(res) = dequantized(rw.m, res).filter(fits) else { continue };
        let resolved = rw.m.quant_of(res).is_some_and(|q| steps_are_resolved(q, format));
        if !resolved || factors_are_numbers(rw.m, op, format).is_none() {
            continue;
        }
        chain.extend(&t.chain);
        let mut epilogue = quantized_epilogue(t.bounds, id, format);
        epilogue.set("min", bounds.min.into());
        epilogue.set("max", bounds.max.into());
        return build(rw, root, op, &chain, Some(res), epilogue);
    }
    None
}

/// The convolution or product that computes `v` for `user` alone, the bounds on its result, and the ops from there to
/// `v`. What an op bounds itself comes before an activation behind it.
fn clamped_linear(m: &Module, v: ValueId, user: OpId) -> Option<(OpId, Bounds, Vec<OpId>)> {
    let last = sole_producer(m, v, user)?;
    let (op, bounds, chain) = match Bounds::of(m, last) {
        None => (last, Bounds::NONE, vec![last]),
        Some(_) if is_kept(m, last) => return None,
        Some(bounds) => {
            let op = sole_producer(m, m.operand(last, 0)?, last)?;
            (op, bounds, vec![op, last])
        }
    };
    Linear::is(m, op).then(|| (op, Bounds::within(m, op).then(bounds), chain))
}

fn real_epilogue(bounds: Bounds) -> Attrs {
    Attrs::new().with("to", Type::Scalar(Elem::F32)).with("min", bounds.min).with("max", bounds.max)
}

/// An activation behind a convolution or product whose result stays f32.
pub fn activation_to_f32(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let op = sole_producer(rw.m, rw.m.operand(root, 0)?, root)?;
    (Linear::is(rw.m, op) && !is_kept(rw.m, root)).then_some(())?;
    let bounds = Bounds::within(rw.m, op).then(Bounds::of(rw.m, root)?);
    build(rw, root, op, &[op, root], None, real_epilogue(bounds))
}

/// A convolution or product whose result stays f32.
pub fn linear_to_f32(rw: &mut Rewriter<'_>, root: OpId) -> Option<()> {
    let bounds = Bounds::within(rw.m, root);
    build(rw, root, root, &[root], None, real_epilogue(bounds))
}
