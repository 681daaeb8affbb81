//! What is made of neighbours along an axis: elements that known places choose, and their weighted sums.
//!
//! Where a result lies between the elements of its operand is a matter of the readers, whose formats say it in many ways;
//! they give coordinates in elements of the operand, and what follows from these is here.

use super::{Graph, Value, bytes_like};
use crate::elements::bounded;
use crate::error::Refusal;
use qc_dialects::graph;
use qc_ir::{ConstId, HostTensor, TensorTy, attrs, indices, strides};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Refusal>;

/// Weighted sums along an axis: `taps` elements for each of `size` results.
pub(crate) struct Sums {
    pub axis: usize,
    pub size: usize,
    taps: usize,
    places: Vec<i32>,
    weights: Vec<f32>,
}

/// The most taps of all results along an axis.
const MAX_TAPS: usize = 1 << 24;

impl Sums {
    /// From elements and weights per result; `from` is the size of the axis before, and places beyond its ends mean the last
    /// element there.
    fn new(axis: usize, from: usize, results: impl Iterator<Item = Vec<(i64, f64)>>) -> Result<Sums> {
        let (mut all, mut taps, mut total) = (Vec::new(), 1, 0);
        for mut result in results {
            result.retain(|(_, w)| *w != 0.0);
            total += result.len();
            taps = result.len().max(taps);
            all.push(result);
            if total > MAX_TAPS || all.len() * taps > MAX_TAPS {
                return Err(Refusal::unsupported("it makes each result of too many elements"));
            }
        }
        let (mut places, mut weights) = (Vec::new(), Vec::new());
        for result in &all {
            let padded = result.iter().copied().chain(std::iter::repeat((0, 0.0))).take(taps);
            for (p, w) in padded {
                places.push(p.clamp(0, from as i64 - 1) as i32);
                weights.push(w as f32);
            }
        }
        Ok(Sums { axis, size: all.len(), taps, places, weights })
    }

    /// Linear interpolation at `coordinates`, which the ends of the axis bound.
    pub fn linear(axis: usize, from: usize, coordinates: &[f32]) -> Result<Sums> {
        let one = |c: &f32| {
            let c = c.clamp(0.0, (from - 1) as f32);
            let before = c.floor();
            vec![(before as i64, f64::from(1.0 - (c - before))), (before as i64 + 1, f64::from(c - before))]
        };
        Sums::new(axis, from, coordinates.iter().map(one))
    }

    /// Interpolation by Keys' cubic with the parameter `a`, between the four elements around each coordinate.
    pub fn cubic(axis: usize, from: usize, coordinates: &[f32], a: f32, exclude_outside: bool) -> Result<Sums> {
        let one = |c: &f32| {
            let base = f64::from(*c).floor();
            let taps = (-1..=2).map(|k| (base as i64 + k, cubic(f64::from(*c) - (base + k as f64), a.into())));
            if exclude_outside { normalized(taps.collect(), Some(from)) } else { taps.collect() }
        };
        Sums::new(axis, from, coordinates.iter().map(one))
    }

    /// Interpolation for fewer results, `scale` times as many: its kernel is as wide as what a result stands for. `a` is the
    /// parameter of the cubic, `None` for the linear kernel.
    pub fn antialiased(
        axis: usize,
        from: usize,
        coordinates: &[f32],
        a: Option<f32>,
        scale: f32,
        exclude_outside: bool,
    ) -> Result<Sums> {
        let wide = 1.0 / f64::from(scale.min(1.0));
        let reach = wide * if a.is_some() { 2.0 } else { 1.0 };
        if !wide.is_finite() || reach * coordinates.len() as f64 * 2.0 > MAX_TAPS as f64 {
            return Err(Refusal::unsupported("it makes each result of too many elements"));
        }
        let kernel = |x: f64| a.map_or((1.0 - x.abs()).max(0.0), |a| cubic(x, a.into()));
        let one = |c: &f32| {
            let centre = f64::from(*c) + 0.5;
            let (first, end) = ((centre - reach + 0.5).floor() as i64, (centre + reach + 0.5).floor() as i64);
            let taps = (first..end).map(|k| (k, kernel((k as f64 - centre + 0.5) / wide)));
            normalized(taps.collect(), exclude_outside.then_some(from))
        };
        Sums::new(axis, from, coordinates.iter().map(one))
    }
}

/// Keys' cubic: R. Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    match x {
        _ if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        _ if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * a,
        _ => 0.0,
    }
}

/// Weights whose sum is 1, of the places within a size if there is one.
fn normalized(mut taps: Vec<(i64, f64)>, within: Option<usize>) -> Vec<(i64, f64)> {
    taps.retain(|(p, _)| within.is_none_or(|size| (0..size as i64).contains(p)));
    let sum: f64 = taps.iter().map(|t| t.1).sum();
    taps.iter_mut().for_each(|t| t.1 /= sum);
    taps
}

impl Graph {
    /// `out[.., i, ..] = x[.., places[i], ..]` along `axis`.
    ///
    /// # Errors
    /// When there are no places, or too many.
    pub fn take(&mut self, x: &Value, axis: usize, places: &[usize]) -> Result<Value> {
        let mut dims = self.dims(x);
        if places.iter().copied().eq(0..dims[axis]) {
            return Ok(x.clone());
        }
        let scales = super::movement::axis_of(x).filter(|&a| a != axis);
        if let Some(v) = self.moved(x, scales, |g, stored| g.take(stored, axis, places)) {
            return Ok(v);
        }
        dims[axis] = places.len();
        bounded(&dims).ok_or_else(|| Refusal::unsupported(format!("the result has the shape {dims:?}")))?;
        if let Some(t) = x.known() {
            let own = strides(t.dims());
            let at = |i: Vec<usize>| {
                i.iter().enumerate().map(|(d, &n)| if d == axis { places[n] } else { n } * own[d]).sum()
            };
            let make = || super::movement::gather(t, dims.clone(), indices(&dims).map(at));
            let len = dims.iter().product();
            if let Some(v) = self.folded_from(x, bytes_like(t.data(), len), make) {
                return Ok(v);
            }
        }
        if let [first, ..] = *places
            && places.iter().copied().eq(first..first + places.len())
        {
            return self.narrow(x, axis, first, first + places.len());
        }
        self.charge(4 * places.len())?;
        let places = HostTensor::i32([places.len()], places.iter().map(|&p| p as i32).collect());
        let places = self.stored("places", places);
        self.emit(graph::Take::DEF, &[Some(x)], attrs! { axis: axis, places: places })
    }

    /// Weighted sums along several axes, those first that leave the fewest elements.
    ///
    /// # Errors
    /// For operands that are not f32, and results that are too large.
    pub fn resample(&mut self, x: &Value, mut sums: Vec<Sums>) -> Result<Value> {
        if sums.is_empty() {
            return Ok(x.clone());
        }
        let dims = self.dims(x);
        sums.sort_by(|a, b| (a.size * dims[b.axis]).cmp(&(b.size * dims[a.axis])));
        let total: usize = sums.iter().map(|s| s.places.len()).sum();
        self.charge(8 * total)?;
        let pick = |f: fn(&Sums) -> usize| sums.iter().map(|s| f(s) as i64).collect::<Vec<i64>>();
        let (axes, sizes, taps) = (pick(|s| s.axis), pick(|s| s.size), pick(|s| s.taps));
        let places: Vec<i32> = sums.iter().flat_map(|s| s.places.iter().copied()).collect();
        let weights: Vec<f32> = sums.iter().flat_map(|s| s.weights.iter().copied()).collect();
        let places = self.stored("places", HostTensor::i32([total], places));
        let weights = self.stored("weights", HostTensor::f32([total], weights));
        let attrs = attrs! { axes: axes, sizes: sizes, taps: taps, places: places, weights: weights };
        self.emit_f32(graph::Resample::DEF, &[Some(x)], attrs)
    }

    /// A constant that is part of an op.
    fn stored(&mut self, name: &str, tensor: HostTensor) -> ConstId {
        let (name, ty) = (self.fresh_name(name), TensorTy::new(tensor.data().elem(), tensor.dims()));
        self.m.consts.add(&name, ty, Arc::new(tensor))
    }
}
