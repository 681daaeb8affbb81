//! Compares a fused graph with the graph it was made from op by op, and measures what rounding does to a model.
//!
//! Whole networks cannot tell a wrong op from a right one: they may turn one step in the middle into anything at the
//! end. So every value of the fused graph that has a counterpart of the same name in the graph with pairs is compared
//! with it, and then replaced by it: each op computes from the operands that the other graph has.

use qc_dialects::graph::{Dequantize, Quantize};
use qc_dialects::quant::QLinear;
use qc_dialects::quant::compute::Epilogue;
use qc_ir::{Data, Diag, Elem, HostTensor, Module, OpId, Quant, Traits, Use, ValueId, run_region};
use std::collections::{HashMap, HashSet};

/// Steps by which an integer op may differ from the float ops it stands for: one rounding against another.
const STEPS: i64 = 1;
/// Elements that may differ where the real value is not next to the middle between two steps.
const FEW: usize = 8;
/// The part of a large tensor that may.
const ONE_IN: usize = 50;
/// How far from the middle a value may be, in steps, to be rounded either way.
const NEAR: f64 = 1.0 / 64.0;
/// Difference of a float result, of the largest magnitude of its tensor: weights are halved where the bias is large.
const FRACTION: f32 = 1e-3;

/// Compares the values of `fused` with those of `graph`, each computed from the operands that `graph` has.
///
/// # Errors
/// The first value that differs by more than a step.
pub fn compare(graph: &Module, fused: &Module, inputs: &[HostTensor]) -> Result<(), String> {
    let reference = reference(graph, inputs)?;
    let mut failure = None;
    // What is computed with a rounded constant and has no counterpart, so that it is as it is where it moves to.
    let mut rounded: HashSet<ValueId> = HashSet::new();
    run_region(fused, fused.body(), inputs, &mut |op, v, t| {
        // A constant with the name of another holds the same numbers, but perhaps not in the same form.
        if fused.def(op).traits.has(Traits::CONST_LIKE) {
            return;
        }
        let moved = fused.def(op).traits.has(Traits::MOVEMENT);
        let moves_rounded = moved && fused.operands(op).iter().flatten().any(|x| rounded.contains(x));
        let rounds = rounds_constant(fused, op) || moves_rounded;
        let Some(Some(Reference { tensor: wanted, middle })) = fused.name(v).and_then(|name| reference.get(name))
        else {
            if rounds {
                rounded.insert(v);
            }
            return;
        };
        let comparable = wanted.dims() == t.dims() && wanted.data().elem() == t.data().elem();
        if comparable && fused.quant_of(v).is_none_or(|q| q.axis.is_none()) {
            let error = bias_error(fused, op);
            let few = || match rounds {
                true => Ok(()),
                false => few_differ(wanted, t, middle, NEAR + f64::from(error)),
            };
            if let Err(text) = near(wanted, t, error).and_then(|()| few()) {
                let name = fused.name(v).unwrap_or("");
                failure.get_or_insert_with(|| format!("%{name} = {}: {text}", fused.def(op).name));
            }
            *t = wanted.clone();
        }
    })
    .map_err(|d| d.render(fused))?;
    match failure {
        Some(text) => Err(text),
        None => Ok(()),
    }
}

/// What a graph computes for a name, and for what it rounds, how far each element was from the middle between two steps.
struct Reference {
    tensor: HostTensor,
    middle: Vec<f64>,
}

/// The values of a graph by name; `None` for a name that stands for two.
fn reference(graph: &Module, inputs: &[HostTensor]) -> Result<HashMap<String, Option<Reference>>, String> {
    let mut named: HashMap<String, Option<Reference>> = HashMap::new();
    let mut real: HashMap<ValueId, HostTensor> =
        graph.args(graph.body()).iter().copied().zip(inputs.iter().cloned()).collect();
    run_region(graph, graph.body(), inputs, &mut |op, v, t| {
        let rounded =
            Quantize::of(graph, op).and_then(|q| Some((graph.quant_of(v)?, real.get(&q.x(graph))?.as_f32()?)));
        let middle = rounded.map_or(Vec::new(), |(format, x)| from_middle(format, x));
        if t.as_f32().is_some() {
            real.insert(v, t.clone());
        }
        if let Some(name) = graph.name(v) {
            let once = !named.contains_key(name);
            named.insert(name.to_string(), once.then(|| Reference { tensor: t.clone(), middle }));
        }
    })
    .map_err(|d| d.render(graph))?;
    Ok(named)
}

/// The distance of every element from the nearest middle between two steps, in steps; nothing for a format per axis.
fn from_middle(format: &Quant, x: &[f32]) -> Vec<f64> {
    if format.axis.is_some() {
        return Vec::new();
    }
    let one = |x: &f32| {
        let steps = f64::from(*x) / f64::from(format.scale(0));
        (steps - steps.floor() - 0.5).abs()
    };
    x.iter().map(one).collect()
}

/// What rounding the bias of an integer convolution or product makes of its result: half a unit of its accumulator, as a
/// real number or in steps of a quantized result.
fn bias_error(m: &Module, op: OpId) -> f32 {
    let epilogue = QLinear::of(m, op).and_then(|linear| Epilogue::of(m, linear).ok());
    let units = epilogue
        .filter(|_| m.operand(op, 2).is_some_and(|b| m.tensor_ty(b).elem == Elem::I32))
        .map_or(Vec::new(), |e| e.scales);
    units.into_iter().fold(0.0, f32::max) / 2.0
}

/// Whether two results of one op are the same but for a rounding, and for `error` in floats.
fn near(a: &HostTensor, b: &HostTensor, error: f32) -> Result<(), String> {
    let Some((x, y)) = a.as_f32().zip(b.as_f32()) else {
        let far = |i: &usize| (a.int(*i).unwrap_or(0) - b.int(*i).unwrap_or(0)).abs() > STEPS;
        return match (0..a.len()).find(far) {
            Some(i) => Err(format!("element {i} is {:?} instead of {:?}", b.int(i), a.int(i))),
            None => Ok(()),
        };
    };
    let magnitude = x.iter().filter(|x| x.is_finite()).fold(0.0f32, |m, x| m.max(x.abs()));
    // Near the largest number, a sum of floats may overflow on its way, where one of integers does not.
    let overflowed = |a: f32, b: f32| a.is_infinite() && b.abs() > f32::MAX / 8.0 && a.is_sign_positive() == (b > 0.0);
    let same = |a: f32, b: f32| {
        a == b || (a.is_nan() && b.is_nan()) || overflowed(a, b) || (a - b).abs() <= FRACTION * magnitude + error
    };
    match x.iter().zip(y).position(|(a, b)| !same(*a, *b)) {
        Some(i) => Err(format!("element {i} is {} instead of {} (up to {magnitude} in all)", y[i], x[i])),
        None => Ok(()),
    }
}

/// Whether an integer op of elements takes a constant that was rounded for it, which may move all its results by half a step.
fn rounds_constant(m: &Module, op: OpId) -> bool {
    let constant = |v: ValueId| m.producer(v).is_some_and(|p| m.def(p).traits.has(Traits::CONST_LIKE));
    !QLinear::is(m, op) && m.operands(op).iter().flatten().any(|v| constant(*v))
}

/// Whether two roundings of one op disagree only on what is nearer than `near` steps to the middle between two.
fn few_differ(a: &HostTensor, b: &HostTensor, middle: &[f64], near: f64) -> Result<(), String> {
    if a.as_f32().is_some() {
        return Ok(());
    }
    let tie = |i: usize| middle.get(i).is_some_and(|d| *d <= near);
    let differ = (0..a.len()).filter(|&i| a.int(i) != b.int(i) && !tie(i)).count();
    match differ > FEW.max(a.len() / ONE_IN) {
        true => Err(format!("{differ} of {} elements differ by a step", a.len())),
        false => Ok(()),
    }
}

/// Which way rounding errors go.
#[derive(Clone, Copy, Debug)]
pub enum Noise {
    /// All up, as far as they can: what is next to the middle between two steps flips there, or in [`Noise::Down`].
    Up,
    /// All down, as far as they can.
    Down,
    /// Each another way and another size, by this seed.
    Random(u64),
}

impl Noise {
    /// What is tried.
    pub const ALL: [Noise; 4] = [Noise::Up, Noise::Down, Noise::Random(0), Noise::Random(1)];
}

/// The results of a model whose float ops make rounding errors: every computed f32 element, and every one of an input that
/// float ops read, is off by up to a 2^20th of the largest magnitude of its tensor. Those of inputs stand for the roundings
/// within a first product, which may cancel.
///
/// # Errors
/// As the interpreter.
pub fn with_noise(m: &Module, inputs: &[HostTensor], noise: Noise) -> Result<Vec<HostTensor>, Diag> {
    let mut numbers = crate::random::Numbers::new(if let Noise::Random(seed) = noise { seed } else { 0 });
    let mut unit = || match noise {
        Noise::Up => 1.0,
        Noise::Down => -1.0,
        Noise::Random(_) => numbers.unit(),
    };
    let mut shaken = |t: &HostTensor| {
        let values = t.as_f32()?;
        let magnitude = values.iter().filter(|x| x.is_finite()).fold(0.0f32, |a, x| a.max(x.abs()));
        let size = magnitude / (1u32 << 20) as f32;
        HostTensor::new(t.dims(), Data::F32(values.iter().map(|x| x + size * unit()).collect()))
    };
    let rounded = |v: ValueId| m.uses(v).iter().any(|u| matches!(u, Use::Operand(op, _) if m.is(*op, Quantize::DEF)));
    let args = m.args(m.body()).iter().zip(inputs);
    let inputs: Vec<HostTensor> =
        args.map(|(&v, t)| if rounded(v) { None } else { shaken(t) }.unwrap_or_else(|| t.clone())).collect();
    run_region(m, m.body(), &inputs, &mut |op, _, t| {
        let exact = [Traits::MOVEMENT, Traits::CONST_LIKE].iter().any(|&fact| m.def(op).traits.has(fact));
        if !exact
            && !m.is(op, Dequantize::DEF)
            && let Some(noisy) = shaken(t)
        {
            *t = noisy;
        }
    })
}
