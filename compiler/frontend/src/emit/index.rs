//! Elements that indices choose: slices where they are known and follow one another, else gathers.

use super::{Dequantized, Graph, Value};
use crate::elements::bounded;
use crate::error::Refusal;
use qc_dialects::graph::integer::wrapped;
use qc_dialects::graph::{self, IntFunction};
use qc_ir::{Data, Elem, HostTensor, Quant, Store, attrs, strides};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Refusal>;

/// A table as kernels read activations: bytes without a sign, whose zero point is shifted with them.
fn unsigned(stored: &Arc<HostTensor>, quant: &Quant) -> (Arc<HostTensor>, Quant) {
    let Data::I8(values) = stored.data() else { return (stored.clone(), quant.clone()) };
    let bytes = values.iter().map(|&v| (v as u8) ^ 0x80).collect();
    let format = Quant {
        store: Store::U8,
        zeros: quant.zeros.iter().map(|z| z + 128).collect(),
        lo: quant.lo + 128,
        hi: quant.hi + 128,
        ..quant.clone()
    };
    (Arc::new(HostTensor::u8(stored.dims(), bytes)), format)
}

impl Graph {
    /// Indices of a dim of `size`. Negative ones count from its end.
    ///
    /// # Errors
    /// For known ones outside `-size..size`; computed ones end the run.
    pub(super) fn index(&mut self, x: &Value, size: usize) -> Result<Value> {
        if matches!(self.elem(x), Elem::F32 | Elem::Bool | Elem::Quant(_)) {
            return Err(Refusal::invalid("the indices are no integers"));
        }
        self.emit(graph::Index::DEF, &[Some(x)], attrs! { size: size })
    }

    /// `out[.., i0, i1, .., ..] = x[.., indices[i0, i1, ..], ..]`, the dims of `indices` in the place of `axis`.
    pub fn gather(&mut self, x: &Value, indices: &Value, axis: usize) -> Result<Value> {
        let dims = self.dims(x);
        if let Some(v) = self.moved(x, None, |g, stored| g.gather(stored, indices, axis)) {
            return Ok(v);
        }
        let indices = self.index(indices, dims[axis])?;
        if let (Value::Runtime(_), Some(places)) = (x, indices.known().and_then(HostTensor::as_i32)) {
            let mut out = dims.clone();
            out.splice(axis..=axis, self.dims(&indices));
            let places: Vec<usize> = places.iter().map(|&p| p as usize).collect();
            let part = self.take(x, axis, &places)?;
            return self.reshape(&part, &out);
        }
        if let (Value::Dequantized(d), None) = (x, indices.known()) {
            return self.gather_stored(&d.clone(), &indices, axis);
        }
        self.emit(graph::Gather::DEF, &[Some(x), Some(&indices)], attrs! { axis: axis })
    }

    /// A gather from a table of stored integers, which stays as small as it is. With a scale per row, the scales are gathered
    /// as well.
    fn gather_stored(&mut self, d: &Arc<Dequantized>, indices: &Value, axis: usize) -> Result<Value> {
        let gather =
            |g: &mut Graph, x: &Value| g.emit(graph::Gather::DEF, &[Some(x), Some(indices)], attrs! { axis: axis });
        let Quant { axis: along, scales, zeros, .. } = &d.quant;
        if *along != Some(axis) {
            if along.is_some() || d.quant.store == qc_ir::Store::I32 {
                let real = Value::Known(super::Known { name: d.name.clone(), tensor: d.real().clone(), narrow: None });
                return gather(self, &real);
            }
            let (integers, format) = unsigned(&d.stored, &d.quant);
            let stored = self.quant_constant(&d.name, integers, format)?;
            let rows = gather(self, &stored)?;
            return self.dequantize(&rows);
        }
        let mut shape = vec![1; d.stored.dims().len()];
        shape[axis] = scales.len();
        let column = |values: Vec<f32>| Value::from(HostTensor::f32(shape.clone(), values));
        let rows = gather(self, &d.integers())?;
        let mut rows = self.cast(&rows, Elem::F32)?;
        if zeros.iter().any(|&z| z != 0) {
            let zeros = (0..scales.len()).map(|i| d.quant.zero(i) as f32).collect();
            let zeros = gather(self, &column(zeros))?;
            rows = self.arith(super::Arith::Sub, &rows, &zeros)?;
        }
        let scales = gather(self, &column(scales.to_vec()))?;
        self.arith(super::Arith::Mul, &rows, &scales)
    }

    /// `out[i..] = x[.., indices[i..], ..]`: an element for each index, whose other coordinates are its own.
    pub fn gather_elements(&mut self, x: &Value, indices: &Value, axis: usize) -> Result<Value> {
        let (dims, to) = (self.dims(x), self.dims(indices));
        let fits = to.len() == dims.len() && (0..to.len()).all(|d| d == axis || to[d] <= dims[d]);
        if !fits {
            return Err(Refusal::invalid(format!("indices of shape {to:?} do not fit {dims:?} along axis {axis}")));
        }
        let place = self.places_of_elements(indices, &dims, axis)?;
        self.at_places(x, &place, &to)
    }

    /// `out[i.., ..] = x[indices[i.., 0], indices[i.., 1], .., ..]`; the first `batch` dims of both run together.
    pub fn gather_nd(&mut self, x: &Value, indices: &Value, batch: usize) -> Result<Value> {
        let (dims, index_dims) = (self.dims(x), self.dims(indices));
        let depth = *index_dims.last().ok_or_else(|| Refusal::invalid("the indices are a single number"))?;
        let lead = &index_dims[..index_dims.len() - 1];
        let fits = depth > 0 && batch <= lead.len() && batch + depth <= dims.len() && lead[..batch] == dims[..batch];
        if !fits {
            return Err(Refusal::invalid(format!("indices of shape {index_dims:?} do not fit {dims:?}")));
        }
        let place = self.places_of_parts(indices, &dims[..batch + depth], batch)?;
        let chosen = &dims[..batch + depth];
        let rows: Vec<usize> = std::iter::once(chosen.iter().product()).chain(dims[batch + depth..].to_vec()).collect();
        let x = self.reshape(x, &rows)?;
        self.emit(graph::Gather::DEF, &[Some(&x), Some(&place)], attrs! { axis: 0usize })
    }

    /// Places in the dims `chosen`, counted through them, that the last dim of `indices` gives behind the first `batch` dims,
    /// which are those of the indices themselves.
    pub(super) fn places_of_parts(&mut self, indices: &Value, chosen: &[usize], batch: usize) -> Result<Value> {
        let index_dims = self.dims(indices);
        let lead = &index_dims[..index_dims.len() - 1];
        let (own, mut place) = (strides(chosen), None);
        for d in 0..chosen.len() - batch {
            let one = self.narrow(indices, index_dims.len() - 1, d, d + 1)?;
            let one = self.reshape(&one, lead)?;
            let index = self.index(&one, chosen[batch + d])?;
            let term = self.scaled(&index, own[batch + d])?;
            place = Some(self.joined(place, term)?);
        }
        for d in (0..batch).filter(|&d| chosen[d] > 1) {
            let mut shape = vec![1; lead.len()];
            shape[d] = chosen[d];
            let steps = HostTensor::i32(shape, (0..chosen[d]).map(|i| (i * own[d]) as i32).collect());
            place = Some(self.joined(place, steps.into())?);
        }
        place.ok_or_else(|| Refusal::invalid("there are no indices"))
    }

    fn joined(&mut self, sum: Option<Value>, term: Value) -> Result<Value> {
        match sum {
            Some(sum) => self.integers(IntFunction::Add, &sum, &term),
            None => Ok(term),
        }
    }

    /// Indices times the distance between what they choose.
    pub(super) fn scaled(&mut self, index: &Value, by: usize) -> Result<Value> {
        match by {
            1 => Ok(index.clone()),
            _ => self.integers(IntFunction::Mul, index, &HostTensor::i32(Vec::new(), vec![by as i32]).into()),
        }
    }

    /// The elements of `x`, counted through it, at `place`.
    fn at_places(&mut self, x: &Value, place: &Value, to: &[usize]) -> Result<Value> {
        let count: usize = self.dims(x).iter().product();
        let flat = self.reshape(x, &[count])?;
        let place = self.expand(place, to)?;
        self.emit(graph::Gather::DEF, &[Some(&flat), Some(&place)], attrs! { axis: 0usize })
    }

    /// `start, start + delta, ..` up to `limit`, single numbers of one type.
    pub fn range(&mut self, start: &HostTensor, limit: &HostTensor, delta: &HostTensor) -> Result<Value> {
        let too_long = || Refusal::unsupported("the range is too long to be made at import");
        let float = |t: &HostTensor| t.as_f32().map(|v| f64::from(v[0]));
        if let (Some(start), Some(limit), Some(delta)) = (float(start), float(limit), float(delta)) {
            let count = ((limit - start) / delta).ceil();
            if delta == 0.0 || count.is_nan() {
                return Err(Refusal::invalid("the steps of the range are 0"));
            }
            let count = count.max(0.0) as usize;
            let made = self.folded(count.saturating_mul(8), || {
                let one = |i: usize| (start + i as f64 * delta) as f32;
                HostTensor::new([count], Data::F32((0..count).map(one).collect()))
            });
            return made.ok_or_else(too_long);
        }
        let all = start.int(0).zip(limit.int(0)).zip(delta.int(0));
        let ((start_at, limit), delta) = all.ok_or_else(|| Refusal::invalid("the bounds are of two types"))?;
        if delta == 0 {
            return Err(Refusal::invalid("the steps of the range are 0"));
        }
        let distance = i128::from(limit) - i128::from(start_at);
        let count = (distance.unsigned_abs().div_ceil(u128::from(delta.unsigned_abs()))) as usize;
        let count = if (distance < 0) == (delta < 0) { count } else { 0 };
        let elem = start.data().elem();
        let made = self.folded(count.saturating_mul(8), || {
            wrapped(elem, &[count], (0..count as i64).map(|i| start_at.wrapping_add(i.wrapping_mul(delta))).collect())
                .ok()
        });
        made.ok_or_else(too_long)
    }

    /// `x` repeated by NumPy broadcasting to `dims`.
    pub fn expand(&mut self, x: &Value, dims: &[usize]) -> Result<Value> {
        if self.dims(x) == dims {
            return Ok(x.clone());
        }
        bounded(dims).ok_or_else(|| Refusal::unsupported(format!("the result has the shape {dims:?}")))?;
        if let Some(v) = self.moved(x, None, |g, stored| g.expand(stored, dims)) {
            return Ok(v);
        }
        self.emit(graph::Expand::DEF, &[Some(x)], attrs! { shape: dims })
    }

    /// `x` repeated a number of times along every axis.
    pub fn tile(&mut self, x: &Value, times: &[usize]) -> Result<Value> {
        let dims = self.dims(x);
        let (mut apart, mut repeated, mut joined) = (Vec::new(), Vec::new(), Vec::new());
        for (&dim, &count) in dims.iter().zip(times) {
            if count > 1 && dim > 1 {
                apart.push(1);
                repeated.push(count);
            }
            apart.push(dim);
            repeated.push(if dim == 1 { count } else { dim });
            joined.push(dim.checked_mul(count).ok_or_else(|| Refusal::unsupported("the result is too large"))?);
        }
        let x = self.reshape(x, &apart)?;
        let x = self.expand(&x, &repeated)?;
        self.reshape(&x, &joined)
    }
}
