//! Between which bounds a real tensor lies: what activations impose, and what is known of a value.
//!
//! A quantize/dequantize pair rounds *and clamps*: quantizers delete the Relu or Clip in front of a pair whose range does
//! its work. So a pair that goes leaves its clamp behind ([`Pair::real`]), unless the value is known to lie inside.

use super::constant;
use crate::quant::keep_float::is_kept;
use qc_dialects::graph::{
    AdaptiveAvgPool, Clamp, Clip, Concat, Dequantize, Function, GlobalAvgPool, GlobalMaxPool, Max, MaxPool, Min,
    Observe, Quantize, Relu, Softmax,
};
use qc_dialects::interfaces::own_clamp;
use qc_ir::{Attrs, Module, OpId, Pattern, Quant, Rewriter, Traits, Use, ValueId};

/// Bounds of real numbers: of what a tensor holds, or of what an activation lets through. NaN is never meant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// Lower bound.
    pub min: f32,
    /// Upper bound.
    pub max: f32,
}

impl Bounds {
    /// No bounds.
    pub const NONE: Bounds = Bounds { min: f32::NEG_INFINITY, max: f32::INFINITY };

    /// The bounds that `op` imposes on its operand, if it is a Relu or Clip.
    pub fn of(m: &Module, op: OpId) -> Option<Bounds> {
        let [min, max] = Clamp::of(m, op)?.bounds(m);
        Some(Bounds { min, max })
    }

    /// The bounds that a convolution, matrix product or layer norm has itself.
    pub fn within(m: &Module, op: OpId) -> Bounds {
        own_clamp(m, op).map_or(Bounds::NONE, |[min, max]| Bounds { min: min as f32, max: max as f32 })
    }

    /// The real numbers that a format can stand for; `join` is what those of the indices of an axis become.
    pub fn of_format(q: &Quant, join: fn(Bounds, Bounds) -> Bounds) -> Bounds {
        let real = |stored: i32, i: usize| (stored as f32 - q.zero(i) as f32) * q.scale(i);
        let one = |i: usize| Bounds { min: real(q.lo, i), max: real(q.hi, i) };
        (0..q.scales.len().max(q.zeros.len())).map(one).reduce(join).unwrap_or(Bounds::NONE)
    }

    /// These bounds, and `next` on what comes out.
    pub fn then(self, next: Bounds) -> Bounds {
        let one = |x: f32| x.max(next.min).min(next.max);
        Bounds { min: one(self.min), max: one(self.max) }
    }

    /// The least bounds that hold what either does.
    pub fn hull(self, other: Bounds) -> Bounds {
        Bounds { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// The bounds of what lies within both.
    pub fn common(self, other: Bounds) -> Bounds {
        Bounds { min: self.min.max(other.min), max: self.max.min(other.max) }
    }

    /// Whether all numbers within `self` are within `outer`, or beyond it by no more than `slack`.
    pub fn inside(self, outer: Bounds, slack: f32) -> bool {
        self.min >= outer.min - slack && self.max <= outer.max + slack
    }

    /// The bounds on stored integers of `format`.
    pub fn stored(self, q: &Quant) -> (i64, i64) {
        let one = |x: f32| qc_dialects::graph::quantize::quantize(x, q.scale(0), q.zero(0), q.lo, q.hi);
        (i64::from(one(self.min)), i64::from(one(self.max)))
    }

    /// As attributes of an op that clamps.
    pub fn attrs(self) -> Attrs {
        Attrs::new().with("min", self.min).with("max", self.max)
    }
}

/// Ops that are looked at for the bounds of one value: enough for an activation behind some movement, and a bound on the
/// work where many concats meet.
const LOOKED_AT: usize = 32;
/// Elements of a constant that are looked at.
const CONSTANT_ELEMENTS: usize = 1 << 12;

/// Between which bounds `v` is known to lie, unless it is NaN.
pub fn known(m: &Module, v: ValueId) -> Bounds {
    within(m, v, &mut LOOKED_AT.clone())
}

fn within(m: &Module, v: ValueId, left: &mut usize) -> Bounds {
    let Some(op) = m.producer(v).filter(|_| *left > 0) else { return Bounds::NONE };
    *left -= 1;
    if let Some(tensor) = constant(m, v) {
        let values = tensor.as_f32().filter(|x| x.len() <= CONSTANT_ELEMENTS && !x.iter().any(|x| x.is_nan()));
        let hull = |b: Bounds, &x: &f32| b.hull(Bounds { min: x, max: x });
        return values
            .and_then(|x| Some(x.iter().fold(Bounds { min: *x.first()?, max: x[0] }, hull)))
            .unwrap_or(Bounds::NONE);
    }
    let mut operand = |i: usize| m.operand(op, i).map_or(Bounds::NONE, |x| within(m, x, left));
    if let Some(own) = Bounds::of(m, op) {
        return operand(0).then(own);
    }
    if let Some(dequantize) = Dequantize::of(m, op) {
        return m.quant_of(dequantize.q(m)).map_or(Bounds::NONE, |q| Bounds::of_format(q, Bounds::hull));
    }
    let is = |defs: &[&'static qc_ir::OpDef]| defs.iter().any(|d| m.is(op, d));
    match () {
        () if own_clamp(m, op).is_some() => Bounds::within(m, op),
        () if is(&[Concat::DEF]) => {
            let parts = m.operands(op).iter().flatten().map(|&x| within(m, x, left));
            parts.reduce(Bounds::hull).unwrap_or(Bounds::NONE)
        }
        () if is(&[Observe::DEF, GlobalMaxPool::DEF, GlobalAvgPool::DEF, AdaptiveAvgPool::DEF]) => operand(0),
        () if is(&[MaxPool::DEF]) && covers_an_element(m, MaxPool(op)) => operand(0),
        () if m.def(op).traits.has(Traits::MOVEMENT) && m.operands(op).len() == 1 => operand(0),
        () if is(&[Max::DEF]) => {
            let (a, b) = (operand(0), operand(1));
            Bounds { min: a.min.max(b.min), max: a.max.max(b.max) }
        }
        () if is(&[Min::DEF]) => {
            let (a, b) = (operand(0), operand(1));
            Bounds { min: a.min.min(b.min), max: a.max.min(b.max) }
        }
        () if is(&[Softmax::DEF]) => Bounds { min: 0.0, max: 1.0 },
        () => Function::of(m, op).map_or(Bounds::NONE, |f| {
            let [min, max] = f.range();
            Bounds { min, max }
        }),
    }
}

/// Whether every window of a pool holds an element that is not padding.
fn covers_an_element(m: &Module, pool: MaxPool) -> bool {
    pool.shape(m).is_ok_and(|s| {
        let holds = |d: usize| (0..s.out[d]).map(|o| s.span(d, o)).all(|w| w.start < w.end);
        s.pads == [0; 4] || holds(0) && holds(1)
    })
}

/// A quantize/dequantize pair: `dequantize(quantize(x))`.
pub struct Pair {
    /// The real value before the pair.
    pub x: ValueId,
    /// The `graph.dequantize`.
    pub dequantize: OpId,
    /// The `graph.quantize`, which others may read as well.
    pub quantize: OpId,
    format: Quant,
}

impl Pair {
    /// The pair that ends with `dequantize`.
    pub fn ending(m: &Module, dequantize: OpId) -> Option<Pair> {
        let quantize = Quantize::producing(m, Dequantize::of(m, dequantize)?.q(m))?;
        let format = m.quant(quantize.quant(m)).clone();
        Some(Pair { x: quantize.x(m), dequantize, quantize: quantize.0, format })
    }

    /// The pair that gives `v`.
    pub fn giving(m: &Module, v: ValueId) -> Option<Pair> {
        Pair::ending(m, m.producer(v)?)
    }

    /// The value behind the pair without its rounding: clamped to what the format holds, or `x` itself where that is known
    /// to lie inside. `None` for a format per axis whose clamp would have to be one per index: such a pair stays.
    ///
    /// This is the only way to take a pair out of a graph.
    pub fn real(&self, rw: &mut Rewriter<'_>) -> Option<ValueId> {
        let clamp = Bounds::of_format(&self.format, Bounds::common);
        // A scale such as 6 / 255 is rounded, so 255 steps may end just below 6.
        let slack = 1e-6 * clamp.min.abs().max(clamp.max.abs());
        if known(rw.m, self.x).inside(clamp, slack) {
            return Some(self.x);
        }
        self.format.axis.is_none().then_some(())?;
        let loc = rw.m.loc(self.dequantize);
        let clip = rw.create_at(self.quantize, loc, Clip::DEF, &[Some(self.x)], clamp.attrs())?;
        Some(rw.m.result(clip))
    }

    /// Takes the pair out for all its readers.
    pub fn remove(&self, rw: &mut Rewriter<'_>) -> Option<()> {
        let real = self.real(rw)?;
        let out = rw.m.result(self.dequantize);
        rw.replace(out, real);
        Some(())
    }
}

/// `own` patterns of a pass, and those that leave at most one Relu or Clip in a row, and none that is idle.
pub fn with_own<const N: usize>(own: [Pattern; N]) -> Vec<Pattern> {
    own.into_iter().chain(ACTIVATIONS).collect()
}

const ACTIVATIONS: [Pattern; 4] = [
    Pattern { name: "idle-relu", root: Relu::DEF, apply: idle },
    Pattern { name: "idle-clip", root: Clip::DEF, apply: idle },
    Pattern { name: "relu-of-activation", root: Relu::DEF, apply: merge },
    Pattern { name: "clip-of-activation", root: Clip::DEF, apply: merge },
];

/// An activation that lets its operand through as it is known to be.
fn idle(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let x = rw.m.operand(op, 0)?;
    known(rw.m, x).inside(Bounds::of(rw.m, op)?, 0.0).then_some(())?;
    let out = rw.m.result(op);
    rw.replace(out, x);
    Some(())
}

/// Two activations in a row, of which nothing else reads the first, as one.
fn merge(rw: &mut Rewriter<'_>, op: OpId) -> Option<()> {
    let first = super::sole_producer(rw.m, rw.m.operand(op, 0)?, op)?;
    let bounds = Bounds::of(rw.m, first)?.then(Bounds::of(rw.m, op)?);
    (!is_kept(rw.m, first) && !is_kept(rw.m, op)).then_some(())?;
    (!bounds.min.is_nan() && !bounds.max.is_nan()).then_some(())?;
    let x = rw.m.operand(first, 0)?;
    let loc = rw.fuse_locs(&[first, op]);
    let new = match bounds == (Bounds { min: 0.0, max: f32::INFINITY }) {
        true => rw.create_at(op, loc, Relu::DEF, &[Some(x)], Attrs::new())?,
        false => rw.create_at(op, loc, Clip::DEF, &[Some(x)], bounds.attrs())?,
    };
    let (old, new) = (rw.m.result(op), rw.m.result(new));
    rw.replace(old, new);
    Some(())
}

/// Whether a value is a result of the model.
pub fn is_returned(m: &Module, v: ValueId) -> bool {
    m.uses(v).iter().any(|u| matches!(u, Use::Return(..)))
}
