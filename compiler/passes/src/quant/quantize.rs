//! Quantizes a float graph by the ranges that calibration observed: the lossy step.
//!
//! before  %o = graph.observe(%x) {min = -1.0, max = 3.0}   %y = graph.conv2d(%o, %w, %b)
//! after   %q = graph.quantize(%x) {quant}  %d = graph.dequantize(%q)
//!         %v = graph.dequantize(@w as s8)  %y = graph.conv2d(%d, %v, %b)
//!
//! A tensor is quantized when an op that has an integer kernel reads it. Activations get one scale: the observed range,
//! widened to hold 0 exactly; of what only a function reads, the part that the function tells apart. Tensors that only movement,
//! max pooling or interpolation separates share a range. Weights get one scale per output channel, `max |w| / 127`, and are
//! rounded so that their errors add up to nothing (`even_rounding.rs`). The edge between a convolution and the activation
//! or residual addition of its epilogue stays float, and so does what `read_as_floats.rs` names, and what only functions or products of two
//! tensors read whose results are floats: nothing is gained by bytes there. Without observed ranges the pass changes nothing.
//! With the option `sums` what a residual addition reads is quantized, too: engines that read pairs want them there.
//!
//! A tensor that was 0 in every sample has no range: it says nothing about the values of other samples, and any scale
//! would be made up. A small one would cut them off, a large one would make the accumulators that it enters too coarse
//! for their biases. So it is not quantized, its readers stay float, and the report says why; a range that the user
//! writes into the ranges file changes that. A tensor that was another number all the time does have a range, from there
//! to 0.
//!
//! Where calibration says how much of a tensor's signal 8 bits hold (`noise.rs`), one of which they hold too little is not
//! quantized either.

use super::even_rounding::even_out;
use super::flat_ends::without_flat_ends;
use super::keep_float::is_kept;
use super::read_as_floats;
use crate::graph::{constant, from_constant, is_constant_f32, sole_producer, unclamped};
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::quantize::quantize_tensor;
use qc_dialects::graph::{
    Add, AvgPool, Clamp, Constant, Conv2d, Dequantize, Gather, GlobalAvgPool, LayerNorm, Linear, Matmul, MaxPool, Mul,
    Observe, Quantize, Resample, Softmax,
};
use qc_dialects::phase;
use qc_ir::{
    Attrs, Builder, Data, Diag, DisjointSets, Elem, HostTensor, Keeps, Module, OpId, Pass, PassCx, Quant, Store,
    TensorTy, Use, ValueId,
};
use std::collections::{HashMap, HashSet};

/// The pass.
pub const PASS: Pass = Pass {
    name: "quantize",
    summary: "quantizes activations by observed ranges and weights per channel",
    from: phase::CANONICAL,
    to: phase::QUANTIZED,
    keeps: Keeps::Decibels(12.0),
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let mut ranges = take_ranges(m);
    spread(m, &mut ranges);
    if ranges.is_empty() {
        return Ok(());
    }
    read_as_floats::keep(m);
    // Decided on the float graph: a quantized weight is no float constant any more.
    let formats = formats(m, &ranges);
    let (leading, sums) = (leading_to_compute(m), cx.flag("sums"));
    let (mut tables, asks) = (HashSet::new(), |v: ValueId, tables: &HashSet<OpId>| {
        wants_format(m, v, &leading, tables) && !inside_epilogue(m, v, sums)
    });
    // Those that read others come first.
    for op in m.walk(m.body()).into_iter().rev().filter(|&op| is_worth_bytes(m, op)) {
        let v = m.result(op);
        if formats.get(&v).is_some_and(Option::is_some) && asks(v, &tables) {
            tables.insert(op);
        } else if !is_kept(m, op) {
            cx.remark(m.loc(op), "its result is f32, and bytes would round what it reads for nothing");
        }
    }
    let mut wanted: Vec<(ValueId, Option<Quant>)> = formats.into_iter().collect();
    wanted.retain(|(v, _)| asks(*v, &tables));
    wanted.sort_by_key(|(v, _)| *v);
    let known: HashSet<ValueId> = wanted.iter().filter(|(_, format)| format.is_some()).map(|(v, _)| *v).collect();
    for op in m.walk(m.body()) {
        cx.check_time()?;
        let integer = has_integer_kernel(m, op) && m.operand(op, 0).is_some_and(|x| known.contains(&x));
        if integer && !quantize_weights(m, op)? {
            cx.remark(m.loc(op), "its weight holds numbers that are infinite or none");
        }
    }
    for (v, format) in wanted {
        cx.check_time()?;
        match format {
            Some(format) => {
                quantize_edge(m, v, &format)?;
                cx.count("quantized");
            }
            None => say_why(m, v, &ranges[&v], cx),
        }
    }
    Ok(())
}

/// Tells the readers of a value why its range gives no format.
fn say_why(m: &Module, v: ValueId, observed: &Observed, cx: &mut PassCx) {
    let name = m.name(v).unwrap_or("its input");
    let (lo, hi) = observed.range;
    let why = match activation_format(observed.range) {
        Some(_) => format!(
            "8 bits hold too little of \"{name}\" over {lo}..{hi}: its signal is less than {LEAST_SNR} dB above their noise"
        ),
        None if lo == 0.0 && hi == 0.0 => format!("\"{name}\" was 0 in every sample, so it has no range"),
        None => format!("the range {lo:e}..{hi:e} of \"{name}\" is too small for a scale"),
    };
    for u in m.uses(v) {
        if let Use::Operand(op, _) = u {
            cx.remark(m.loc(*op), why.clone());
        }
    }
    cx.count("without range");
}

/// What the signal of a tensor has to be above the noise of its roundings, in decibels: twice its amplitude. Below, most of what
/// the next product makes of it is noise. Networks keep their answers with many tensors of 6 to 20 dB, whose noises average out, and a
/// tensor in floats costs up to four times as much, so this is no more than a guard; `--keep-fp32` is for what needs more.
const LEAST_SNR: f64 = 6.0;

/// What calibration observed of a value.
#[derive(Clone, Copy)]
struct Observed {
    range: (f32, f32),
    /// Decibels between signal and noise in the format of this range.
    snr: f64,
}

impl Observed {
    /// Decibels between signal and noise in another format: noise is as large as steps are.
    fn snr_in(&self, format: &Quant) -> f64 {
        let own = activation_format(self.range).map_or(1.0, |own| f64::from(own.scale(0)));
        self.snr - 20.0 * (f64::from(format.scale(0)) / own).log10()
    }
}

/// Removes the observations and returns what they say about each value.
fn take_ranges(m: &mut Module) -> HashMap<ValueId, Observed> {
    let mut ranges = HashMap::new();
    for op in m.walk(m.body()) {
        if let Some(observe) = Observe::of(m, op) {
            let (x, out) = (observe.x(m), observe.out(m));
            let range = (observe.min(m) as f32, observe.max(m) as f32);
            ranges.insert(x, Observed { range, snr: observe.snr(m) });
            m.replace_uses(out, x);
            m.erase(op);
        }
    }
    ranges
}

/// Gives what movement makes of observed tensors the range of these. Calibration observes tensors with a name; those that lie between,
/// such as the sequence that became an image for a convolution, have none.
fn spread(m: &Module, ranges: &mut HashMap<ValueId, Observed>) {
    for op in m.walk(m.body()) {
        let &[result] = m.results(op) else { continue };
        if !is_movement(m, op) || ranges.contains_key(&result) {
            continue;
        }
        let mut moved = m.operands(op).iter().flatten().map(|v| ranges.get(v));
        let Some(Some(first)) = moved.next() else { continue };
        let joined = moved.try_fold(*first, |all, other| {
            let other = other?;
            let range = (all.range.0.min(other.range.0), all.range.1.max(other.range.1));
            Some(Observed { range, snr: all.snr.min(other.snr) })
        });
        if let Some(joined) = joined {
            ranges.insert(result, joined);
        }
    }
}

/// Whether integer kernels exist for an op, given quantized operands, and it is not to stay float.
fn has_integer_kernel(m: &Module, op: OpId) -> bool {
    if is_kept(m, op) {
        return false;
    }
    let always = [Add::DEF, Mul::DEF, AvgPool::DEF, GlobalAvgPool::DEF, Resample::DEF];
    if multiplies_computed(m, op) {
        return true;
    }
    if let Some(linear) = Linear::of(m, op) {
        let weight = linear.weight(m);
        return matches!(m.dims(weight).len(), 2 | 4) && is_constant_f32(m, weight);
    }
    always.iter().any(|d| m.is(op, d)) || is_movement(m, op) || Function::of(m, op).is_some()
}

/// Whether an op is a product of two computed tensors that has an integer kernel.
fn multiplies_computed(m: &Module, op: OpId) -> bool {
    let computed = |p: Matmul| !from_constant(m, p.a(m)) && !from_constant(m, p.b(m));
    Matmul::of(m, op).is_some_and(|p| computed(p) && p.bias(m).is_none() && unclamped(m, op))
}

/// Whether floats are there whatever reads a value: nothing computes it in integers.
fn is_float_anyway(m: &Module, v: ValueId) -> bool {
    let float = |op: OpId| is_kept(m, op) || [LayerNorm::DEF, Softmax::DEF, Gather::DEF].iter().any(|d| m.is(op, d));
    m.producer(v).is_none_or(float)
}

/// Whether an op moves elements, in whatever form its neighbours have them.
fn is_movement(m: &Module, op: OpId) -> bool {
    !is_kept(m, op) && (crate::graph::is_movement(m, op) || m.is(op, MaxPool::DEF))
}

/// Whether an op reads bytes only to make bytes of them: a function, which is a table then, or a product of two tensors.
fn is_worth_bytes(m: &Module, op: OpId) -> bool {
    Function::of(m, op).is_some() || m.is(op, Mul::DEF)
}

/// Whether a value should be quantized: read by an op with an integer kernel. What reads bytes only to make bytes of them has to be one
/// of `tables`, whose results are quantized as well; else the value would be rounded for nothing but a result in floats.
fn wants_format(m: &Module, v: ValueId, leading: &HashSet<ValueId>, tables: &HashSet<OpId>) -> bool {
    let is_constant = is_constant_f32(m, v);
    let reads = |u: &Use| match u {
        Use::Operand(op, i) => {
            let data = *i == 0 || !Linear::is(m, *op) || multiplies_computed(m, *op);
            // Sums and products choose the form of their constants themselves.
            let data = data && !(is_constant && (m.is(*op, Add::DEF) || m.is(*op, Mul::DEF)));
            let table = !is_worth_bytes(m, *op) || tables.contains(op);
            data && table && has_integer_kernel(m, *op) && (!is_movement(m, *op) || leading.contains(&m.result(*op)))
        }
        Use::Return(..) => false,
    };
    m.uses(v).iter().any(reads) && m.tensor_ty(v).elem == Elem::F32
}

/// The results of movement that end, moved further or not, at an op that computes with them, rather than at the model's
/// results.
fn leading_to_compute(m: &Module) -> HashSet<ValueId> {
    let mut leading = HashSet::new();
    for op in m.walk(m.body()).into_iter().rev().filter(|op| is_movement(m, *op)) {
        let v = m.result(op);
        let leads = m.uses(v).iter().any(|u| match u {
            Use::Operand(op, _) if is_movement(m, *op) => leading.contains(&m.result(*op)),
            Use::Operand(op, _) => has_integer_kernel(m, *op),
            Use::Return(..) => false,
        });
        if leads {
            leading.insert(v);
        }
    }
    leading
}

/// Whether no range of `v` is ever asked for: an activation that becomes bounds of the op in front is all that reads it.
pub fn needs_no_range(m: &Module, v: ValueId) -> bool {
    let relu = |op| Clamp::of(m, op).is_some_and(|clamp| clamp.bounds(m)[0] == 0.0);
    m.only_user(v).is_some_and(relu) && inside_epilogue(m, v, true)
}

/// Whether `v` is an accumulator whose only user becomes part of its kernel's epilogue, an addition only without `sums`.
fn inside_epilogue(m: &Module, v: ValueId, sums: bool) -> bool {
    let Some(user) = m.only_user(v) else { return false };
    let Some(producer) = m.producer(v) else { return false };
    let linear = has_integer_kernel(m, producer) && Linear::is(m, producer);
    if Clamp::is(m, user) {
        return linear || m.is(producer, Add::DEF);
    }
    if sums || !linear || !m.is(user, Add::DEF) || !unclamped(m, producer) {
        return false;
    }
    let other = if m.operand(user, 0) == Some(v) { m.operand(user, 1) } else { m.operand(user, 0) };
    let Some(other) = other.filter(|&o| o != v && m.ty(o) == m.ty(v)) else { return false };
    let takes_sum = |p| Linear::is(m, p) && unclamped(m, p);
    let rival = sole_producer(m, other, user).is_some_and(takes_sum);
    !is_constant_f32(m, other) && (!rival || super::drop_inner_qdq::is_later(m, v, other))
}

/// A format per value, if its range gives one: values joined by movement share the union of their ranges.
fn formats(m: &Module, ranges: &HashMap<ValueId, Observed>) -> HashMap<ValueId, Option<Quant>> {
    let mut groups = DisjointSets::default();
    for op in m.walk(m.body()) {
        // Sums of neighbours are as large as these, and in their format nothing is rounded but the sums.
        if (is_movement(m, op) && !m.is(op, Constant::DEF)) || (m.is(op, Resample::DEF) && !is_kept(m, op)) {
            for &v in m.operands(op).iter().flatten() {
                groups.join(v, m.result(op));
            }
        }
    }
    let mut joined: HashMap<ValueId, (f32, f32)> = HashMap::new();
    let mut values: Vec<_> = ranges.iter().collect();
    values.sort_by_key(|(v, _)| **v);
    for (v, Observed { range: (lo, hi), .. }) in &values {
        let slot = joined.entry(groups.root(**v)).or_insert((0.0f32, 0.0f32));
        *slot = (slot.0.min(*lo), slot.1.max(*hi));
    }
    let range = |v: &ValueId, groups: &mut DisjointSets<ValueId>| joined.get(&groups.root(*v)).copied();
    let one = |(v, observed): &(&ValueId, &Observed)| {
        let mut all = joined[&groups.root(**v)];
        if let Some((function, result)) = only_function(m, **v)
            && let Some(format) = range(&result, &mut groups).and_then(activation_format)
        {
            all = without_flat_ends(function, all, format.scale(0));
        }
        (**v, activation_format(all).filter(|format| observed.snr_in(format) >= LEAST_SNR))
    };
    values.iter().map(one).collect()
}

/// The function that alone reads a value which no movement shares a range with, and its result.
fn only_function(m: &Module, v: ValueId) -> Option<(Function, ValueId)> {
    let user = m.only_user(v)?;
    let moved = m.producer(v).is_some_and(|op| is_movement(m, op));
    Function::of(m, user).filter(|_| !moved).map(|function| (function, m.result(user)))
}

/// The u8 format that covers `lo..=hi` and 0; `None` for a range that is nothing but 0, or too small for a scale.
pub fn activation_format((lo, hi): (f32, f32)) -> Option<Quant> {
    let (lo, hi) = (lo.min(0.0), hi.max(0.0));
    // The width of a range of finite numbers may be infinite; that of its 255th part is not.
    let scale = if (hi - lo).is_finite() { (hi - lo) / 255.0 } else { hi / 255.0 - lo / 255.0 };
    let zero = (-lo / scale).round_ties_even().clamp(0.0, 255.0);
    scale.is_normal().then(|| Quant::per_tensor(Store::U8, scale, zero as i32))
}

fn quantize_edge(m: &mut Module, v: ValueId, format: &Quant) -> Result<(), Diag> {
    let users: Vec<Use> = m.uses(v).to_vec();
    let first = match m.producer(v) {
        Some(op) => m.next_op(op),
        None => m.region_of(v).and_then(|region| m.ops(region).first().copied()),
    };
    let Some(first) = first else { return Ok(()) };
    let id = m.intern_quant(format.clone());
    let mut b = Builder::before(m, first);
    let q = Quantize::build(&mut b, &[Some(v)], Attrs::new().with("quant", id))?.out(b.m);
    let d = Dequantize::build(&mut b, &[Some(q)], Attrs::new())?.out(b.m);
    if let Some(name) = m.name(v).map(str::to_string) {
        m.set_name(q, &format!("{name}.q"));
    }
    // What stays float reads floats where they are there.
    let stays = is_float_anyway(m, v);
    for u in users {
        if let Use::Operand(op, i) = u
            && !(stays && (is_kept(m, op) || m.is(op, LayerNorm::DEF)))
        {
            m.set_operand(op, i, Some(d));
        }
    }
    Ok(())
}

/// Replaces the constant weight of a convolution or matrix product by its quantized form. Says whether there is one:
/// not of infinities and NaN.
fn quantize_weights(m: &mut Module, op: OpId) -> Result<bool, Diag> {
    let axis = match Matmul::of(m, op) {
        Some(mm) => usize::from(!mm.transpose_b(m)),
        None if m.is(op, Conv2d::DEF) => 0,
        None => return Ok(true),
    };
    let Some(weight) = m.operand(op, 1) else { return Ok(true) };
    let Some(real) = constant(m, weight).filter(|t| t.as_f32().is_some()) else { return Ok(true) };
    let dims = m.dims(weight).to_vec();
    let what = format!("quantize along {axis} of {dims:?}");
    let stored = m.consts.memo.made(&what, &[&real], || quantized(&real, &dims, axis).map_err(Diag::bug))?;
    let [scales, tensor] = &stored[..] else { return Ok(false) };
    let format = format_of(axis, scales.as_f32().unwrap_or_default().to_vec());
    let ty = TensorTy::new(Elem::Quant(m.intern_quant(format)), dims);
    let name = m.name(weight).unwrap_or("weight").to_string();
    let c = m.consts.add(&format!("{name}.q"), ty, tensor.clone());
    let mut b = Builder::before(m, op);
    let stored = Constant::build(&mut b, &[], Attrs::new().with("value", c))?.out(b.m);
    let real = Dequantize::build(&mut b, &[Some(stored)], Attrs::new())?.out(b.m);
    m.set_operand(op, 1, Some(real));
    Ok(true)
}

/// The scales of a weight and its stored integers; nothing for infinities and NaN.
pub(super) fn quantized(real: &HostTensor, dims: &[usize], axis: usize) -> Result<Vec<HostTensor>, String> {
    let values = real.as_f32().unwrap_or_default();
    if !values.iter().fold(true, |all, w| all & w.is_finite()) {
        return Ok(Vec::new());
    }
    let scales = weight_scales(values, dims, axis);
    let nearest = quantize_tensor(&format_of(axis, scales.clone()), real)?;
    let Data::I8(stored) = nearest.data() else { return Err("weights are s8".into()) };
    let mut stored = stored.clone();
    even_out(&mut stored, values, &scales, dims[axis + 1..].iter().product());
    Ok(vec![HostTensor::f32([scales.len()], scales), HostTensor::i8(dims, stored)])
}

/// Weights this small, compared with the largest of their tensor, are 0: what they add is lost in the first digit of
/// any sum, and in one step of the result by many orders of magnitude. Training leaves channels of `1e-20`.
const DEAD: f32 = 1e-12;

/// `max |w| / 127` per index of `axis`; a channel of zeros gets scale 1, which its bias is free to change later.
fn weight_scales(values: &[f32], dims: &[usize], axis: usize) -> Vec<f32> {
    let (inner, size) = (dims[axis + 1..].iter().product::<usize>().max(1), dims[axis]);
    let mut largest = vec![0.0f32; size];
    for block in values.chunks((inner * size).max(1)) {
        match inner {
            1 => largest.iter_mut().zip(block).for_each(|(slot, w)| *slot = slot.max(w.abs())),
            _ => {
                for (slot, run) in largest.iter_mut().zip(block.chunks(inner)) {
                    *slot = run.iter().fold(*slot, |x, w| x.max(w.abs()));
                }
            }
        }
    }
    let all = largest.iter().copied().fold(0.0, f32::max);
    let scale = |x: f32| if (x / 127.0).is_normal() && x > all * DEAD { x / 127.0 } else { 1.0 };
    largest.into_iter().map(scale).collect()
}

/// The format of a weight with these scales.
pub(super) fn format_of(axis: usize, scales: Vec<f32>) -> Quant {
    Quant { lo: -127, ..Quant::per_axis(Store::I8, axis, scales) }
}
