//! How much a quantized model differs from its float original, tensor by tensor.
//!
//! A tensor's *accumulated* error is what all ops up to it make together. Its *isolated* error is what the one op in front of it makes:
//! by its rounded weights and the format of its result, but not by the formats of its operands, which are the business of the ops
//! before.

use crate::CompileError;
use crate::inside::Inside;
use qc_dialects::graph::quantize::{dequantize_tensor, quantize_tensor};
use qc_dialects::graph::{Constant, Quantize};
use qc_ir::{Elem, HostTensor, Quant};
use std::collections::BTreeMap;

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

    /// The cosine between both; 1 where both are 0.
    pub fn cosine(&self) -> f64 {
        match self.signal * self.other {
            0.0 => f64::from(u8::from(self.signal == self.other)),
            square => self.product / square.sqrt(),
        }
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
    let formats = formats(integers);
    let rounded = |name: &str| {
        let (format, wanted) = (formats.get(name)?, right.get(name)?);
        match format {
            Some(q) => quantize_tensor(q, wanted).ok().map(|stored| dequantize_tensor(q, &stored)),
            None => Some(wanted.clone()),
        }
    };
    let expected = on_rounded(floats, integers, inputs, &rounded)?;
    let m = &integers.module;
    let mut found = Differences::new();
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
        let got = quant.map_or_else(|| tensor.clone(), |q| dequantize_tensor(q, tensor));
        // What only rounds is no op of the model.
        let own = expected.get(name).unwrap_or(wanted);
        if let (Some(own), Some(got)) = (own.as_f32(), got.as_f32().filter(|_| !m.is(op, Quantize::DEF))) {
            found.entry(name.to_string()).or_default().observe(own, got);
        }
        // The ops behind read what is right.
        let exact = quant.map_or_else(|| Ok(wanted.clone()), |q| quantize_tensor(q, wanted));
        if let Ok(exact) = exact {
            *tensor = exact;
        }
    };
    qc_ir::run_region(m, m.body(), inputs, &mut watch).map_err(|d| CompileError::from_diag(&d, m))?;
    Ok(found)
}

/// The formats of a model's tensors by their names in the original; none for floats.
fn formats(integers: &Inside) -> BTreeMap<&str, Option<&Quant>> {
    let m = &integers.module;
    let mut found = BTreeMap::new();
    for op in m.walk(m.body()).into_iter().filter(|&op| !m.is(op, Constant::DEF)) {
        for &v in m.results(op) {
            let Some((name, elem)) = m.name(v).zip(m.ty(v).tensor().map(|t| t.elem)) else { continue };
            let slot = found.entry(integers.float_name(name)).or_insert(None);
            if let Elem::Quant(id) = elem {
                *slot = Some(m.quant(id));
            }
        }
    }
    found
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
    let mut made = BTreeMap::new();
    let mut watch = |_, v, tensor: &mut HostTensor| {
        let Some(name) = m.name(v).map(|name| integers.float_name(name)) else { return };
        let Some(read) = rounded(name).filter(|read| read.dims() == tensor.dims()) else { return };
        made.insert(name.to_string(), std::mem::replace(tensor, read));
    };
    qc_ir::run_region(m, m.body(), &inputs, &mut watch).map_err(|d| CompileError::from_diag(&d, m))?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::Difference;

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
