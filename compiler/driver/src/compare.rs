//! How much a quantized model differs from its float original, tensor by tensor.
//!
//! A tensor's *accumulated* error is what all ops up to it make together. Its *isolated* error is what the one op in front of it makes:
//! by its rounded weights and the format of its result, but not by the formats of its operands, which are the business of the ops
//! before.

use crate::CompileError;
use crate::inside::Inside;
use qc_dialects::graph::quantize::{dequantize_tensor, quantize_tensor};
use qc_dialects::graph::{Constant, Dequantize, Quantize};
use qc_ir::{Elem, HostTensor, OpId, Quant, Use, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Sums over elements of a tensor and of what it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    signal: f64,
    other: f64,
    product: f64,
    noise: f64,
    /// The largest difference of two elements.
    pub largest: f64,
    /// The largest magnitude of an element that is right.
    pub magnitude: f64,
}

impl Difference {
    /// Takes in elements and the right ones; those of which one is not finite are left out.
    pub fn observe(&mut self, right: &[f32], got: &[f32]) {
        for (&r, &g) in right.iter().zip(got).filter(|(r, g)| r.is_finite() && g.is_finite()) {
            let (r, g) = (f64::from(r), f64::from(g));
            self.signal += r * r;
            self.other += g * g;
            self.product += r * g;
            self.noise += (r - g) * (r - g);
            self.largest = self.largest.max((r - g).abs());
            self.magnitude = self.magnitude.max(r.abs());
        }
    }

    /// Takes in what was seen of other samples.
    pub fn merge(&mut self, other: &Difference) {
        self.signal += other.signal;
        self.other += other.other;
        self.product += other.product;
        self.noise += other.noise;
        self.largest = self.largest.max(other.largest);
        self.magnitude = self.magnitude.max(other.magnitude);
    }

    /// Decibels between the right elements and the differences: `10 log10(Σ r^2 / Σ (r - g)^2)`; infinite where all are equal.
    pub fn sqnr(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }

    /// Whether anything was seen.
    pub fn is_empty(&self) -> bool {
        *self == Difference::default()
    }

    /// The cosine between both; 1 where both are 0.
    pub fn cosine(&self) -> f64 {
        match self.signal * self.other {
            0.0 => f64::from(u8::from(self.signal == self.other)),
            square => self.product / square.sqrt(),
        }
    }
}

/// What the format of a tensor makes of its right values, whatever computes them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rounding {
    /// Between the values and their roundings; nothing for floats.
    pub difference: Difference,
    /// How many elements were seen.
    pub elements: u64,
    /// How many of them lie outside of what the format holds, by more than half a step.
    pub clipped: u64,
    /// How many of them are infinite or no number.
    pub not_finite: u64,
    /// Smallest and largest finite value.
    pub seen: Option<[f32; 2]>,
    /// What the format holds; nothing for floats.
    pub holds: Option<[f32; 2]>,
}

impl Rounding {
    /// Takes in right values of a tensor with this format for all of it, or of floats.
    pub fn observe(&mut self, format: Option<&Quant>, right: &[f32]) {
        let step = format.map_or(1.0, |q| q.scale(0));
        let end = |of: fn(&Quant) -> i32| format.map(|q| (of(q) - q.zero(0)) as f32);
        let steps = end(|q| q.lo).zip(end(|q| q.hi));
        self.elements += right.len() as u64;
        self.holds = steps.map(|(lo, hi)| [lo * step, hi * step]);
        for &x in right {
            if !x.is_finite() {
                self.not_finite += 1;
                continue;
            }
            let [low, high] = self.seen.unwrap_or([x, x]);
            self.seen = Some([low.min(x), high.max(x)]);
            let Some((lo, hi)) = steps else { continue };
            let v = x / step;
            self.clipped += u64::from(v < lo - 0.5 || v > hi + 0.5);
            self.difference.observe(&[x], &[v.clamp(lo, hi).round_ties_even() * step]);
        }
    }

    /// Takes in what was seen of other samples.
    pub fn merge(&mut self, other: &Rounding) {
        self.difference.merge(&other.difference);
        self.elements += other.elements;
        self.clipped += other.clipped;
        self.not_finite += other.not_finite;
        let wider = |a: [f32; 2], b: [f32; 2]| [a[0].min(b[0]), a[1].max(b[1])];
        self.seen = self.seen.zip(other.seen).map(|(a, b)| wider(a, b)).or(self.seen).or(other.seen);
        self.holds = other.holds.or(self.holds);
    }

    /// How many times as wide what the format holds is as what was seen of its values, 0 included; nothing for floats and zeros.
    pub fn width(&self) -> Option<f64> {
        let span = |[low, high]: [f32; 2]| f64::from(high.max(0.0)) - f64::from(low.min(0.0));
        let (holds, seen) = (span(self.holds?), span(self.seen?));
        (seen > 0.0).then(|| holds / seen)
    }
}

/// Differences by tensor.
pub type Differences = BTreeMap<String, Difference>;

/// What each op of a model in integers makes of right operands, compared with what the original makes of the same: operands that are
/// right but rounded to the formats that they have in the model. `right` has the tensors of the original by name, inputs included, of
/// one run on `inputs`.
///
/// # Errors
/// A defect of qc: an op that cannot be evaluated.
pub fn isolated(
    floats: &Inside,
    integers: &Inside,
    inputs: &[HostTensor],
    right: &BTreeMap<String, HostTensor>,
) -> Result<Differences, CompileError> {
    let formats = integers.formats();
    let rounded = |name: &str| {
        let (format, wanted) = (formats.get(name)?, right.get(name)?);
        match format {
            Some(q) => quantize_tensor(q, wanted).ok().map(|stored| dequantize_tensor(q, &stored)),
            None => Some(wanted.clone()),
        }
    };
    let expected = on_rounded(floats, integers, inputs, &rounded)?;
    let mut found = Differences::new();
    on_right(integers, inputs, right, &mut |name, wanted, _, got| {
        let own = expected.get(name).unwrap_or(wanted);
        if let (Some(own), Some(got)) = (own.as_f32(), got.as_f32()) {
            found.entry(name.to_string()).or_default().observe(own, got);
        }
    })?;
    Ok(found)
}

/// Runs a model in integers, each op on right operands in their formats. `each` gets the name of a tensor in the original, what is right,
/// the same in the tensor's format, and what the op makes.
pub(crate) fn on_right(
    integers: &Inside,
    inputs: &[HostTensor],
    right: &BTreeMap<String, HostTensor>,
    each: &mut dyn FnMut(&str, &HostTensor, &HostTensor, &HostTensor),
) -> Result<(), CompileError> {
    let m = &integers.module;
    let mut watch = |op, v, tensor: &mut HostTensor| {
        let Some(name) = m.name(v).map(|name| integers.float_name(name)).filter(|_| !m.is(op, Constant::DEF)) else {
            return;
        };
        let Some(wanted) = right.get(name).filter(|wanted| wanted.dims() == tensor.dims()) else { return };
        let quant = match m.ty(v).tensor().map(|t| t.elem) {
            Some(Elem::Quant(id)) => Some(m.quant(id)),
            Some(Elem::F32) => None,
            _ => return,
        };
        let Ok(exact) = quant.map_or_else(|| Ok(wanted.clone()), |q| quantize_tensor(q, wanted)) else { return };
        // What only rounds is no op of the model.
        if !m.is(op, Quantize::DEF) {
            let real = |stored: &HostTensor| quant.map_or_else(|| stored.clone(), |q| dequantize_tensor(q, stored));
            each(name, wanted, &real(&exact), &real(tensor));
        }
        // The ops behind read what is right.
        *tensor = exact;
    };
    qc_ir::run_region(m, m.body(), inputs, &mut watch).map_err(|d| CompileError::from_diag(&d, m))?;
    Ok(())
}

impl Inside {
    /// The formats of a model's tensors by their names in the original; none for floats.
    pub fn formats(&self) -> BTreeMap<&str, Option<&Quant>> {
        let m = &self.module;
        let mut found = BTreeMap::new();
        for op in m.walk(m.body()).into_iter().filter(|&op| !m.is(op, Constant::DEF)) {
            for &v in m.results(op) {
                let Some((name, elem)) = m.name(v).zip(m.ty(v).tensor().map(|t| t.elem)) else { continue };
                let slot = found.entry(self.float_name(name)).or_insert(None);
                if let Elem::Quant(id) = elem {
                    *slot = Some(m.quant(id));
                }
            }
        }
        found
    }

    /// The nodes that read a tensor in its format, those included that only move it there.
    pub fn readers(&self, name: &str) -> Vec<String> {
        let m = &self.module;
        let results = |op: OpId| m.results(op).iter().copied();
        let all = m.args(m.body()).iter().copied().chain(m.walk(m.body()).into_iter().flat_map(results));
        let own = |v: &ValueId| m.name(*v).is_some_and(|n| self.float_name(n) == name);
        let mut left: Vec<ValueId> = all.filter(own).collect();
        let mut seen: BTreeSet<ValueId> = left.iter().copied().collect();
        let mut nodes = Vec::new();
        while let Some(v) = left.pop() {
            let stored = m.ty(v).tensor().is_some_and(|t| matches!(t.elem, Elem::Quant(_)));
            for reader in m.uses(v).iter().filter_map(|u| match u {
                Use::Operand(op, _) => Some(*op),
                Use::Return(..) => None,
            }) {
                let result = m.results(reader).first().copied();
                let same = |r: ValueId| m.quant_of(r).is_some() && m.quant_of(r) == m.quant_of(v);
                if m.is(reader, Quantize::DEF) || (stored && result.is_some_and(same)) {
                    left.extend(result.filter(|&r| seen.insert(r)));
                }
                if stored && !m.is(reader, Dequantize::DEF) {
                    nodes.extend(m.locs.nodes(m.loc(reader)).first().map(|node| node.name.to_string()));
                }
            }
        }
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

/// What the ops of the original make of operands that `rounded` gives by name.
fn on_rounded(
    floats: &Inside,
    integers: &Inside,
    inputs: &[HostTensor],
    rounded: &dyn Fn(&str) -> Option<HostTensor>,
) -> Result<BTreeMap<String, HostTensor>, CompileError> {
    let m = &floats.module;
    let given = |(name, input): (&String, &HostTensor)| rounded(name).unwrap_or_else(|| input.clone());
    let inputs: Vec<HostTensor> = floats.inputs.iter().zip(inputs).map(given).collect();
    // A pair may have left a clamp behind an op, whose result has the same name: it is part of what the op makes.
    let named = |v: ValueId| m.name(v).map(|name| integers.float_name(name));
    let values = m.walk(m.body()).into_iter().flat_map(|op| m.results(op).iter().copied());
    let last: BTreeMap<&str, ValueId> = values.filter_map(|v| Some((named(v)?, v))).collect();
    let mut made = BTreeMap::new();
    let mut watch = |_, v, tensor: &mut HostTensor| {
        let Some(name) = named(v).filter(|name| last.get(name) == Some(&v)) else { return };
        let Some(read) = rounded(name).filter(|read| read.dims() == tensor.dims()) else { return };
        made.insert(name.to_string(), std::mem::replace(tensor, read));
    };
    qc_ir::run_region(m, m.body(), &inputs, &mut watch).map_err(|d| CompileError::from_diag(&d, m))?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Difference, Rounding};
    use qc_ir::{Quant, Store};

    #[test]
    fn roundings_say_what_a_format_clips_and_how_wide_it_is() {
        let format = Quant::per_tensor(Store::U8, 0.5, 2);
        let mut all = Rounding::default();
        all.observe(Some(&format), &[-2.0, -1.0, 0.2, f32::NAN, 1.0]);
        let mut other = Rounding::default();
        other.observe(Some(&format), &[200.0, 126.6]);
        all.merge(&other);
        assert_eq!((all.elements, all.clipped, all.not_finite), (7, 2, 1));
        assert_eq!((all.seen, all.holds), (Some([-2.0, 200.0]), Some([-1.0, 126.5])));
        assert!((all.width().unwrap() - 127.5 / 202.0).abs() < 1e-6);
        assert!((all.difference.largest - 73.5).abs() < 1e-6);
        let mut floats = Rounding::default();
        floats.observe(None, &[3.0]);
        assert_eq!((floats.width(), floats.holds), (None, None));
        assert!(floats.difference.is_empty());
    }

    #[test]
    fn decibels_and_cosines_are_of_sums() {
        let mut d = Difference::default();
        d.observe(&[3.0, f32::NAN], &[3.3, 1.0]);
        let mut other = Difference::default();
        other.observe(&[4.0], &[4.0]);
        assert_eq!((other.sqnr(), other.cosine()), (f64::INFINITY, 1.0));
        d.merge(&other);
        assert!((d.sqnr() - 10.0 * (25.0f64 / 0.09).log10()).abs() < 1e-5, "{}", d.sqnr());
        assert!((d.cosine() - (9.9 + 16.0) / (25.0 * (10.89 + 16.0f64)).sqrt()).abs() < 1e-7);
        assert!((d.largest - 0.3).abs() < 1e-6 && d.magnitude == 4.0);
        assert_eq!(Difference::default().cosine(), 1.0);
    }
}
