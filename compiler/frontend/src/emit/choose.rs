//! The largest elements along an axis, and elements that are stored where indices say.

use super::{Graph, Value};
use crate::error::Refusal;
use qc_dialects::graph::{self, IntFunction};
use qc_ir::{Elem, HostTensor, attrs, strides};

type Result<T> = std::result::Result<T, Refusal>;

impl Graph {
    /// The `k` largest or least numbers along an axis in order, and their places as i64.
    pub fn top_k(&mut self, x: &Value, axis: usize, k: usize, largest: bool) -> Result<[Value; 2]> {
        let rank = self.dims(x).len();
        if !matches!(self.elem(x), Elem::F32 | Elem::I8 | Elem::U8) {
            return Err(Refusal::unsupported("the largest of integers of more than 8 bits are not supported")
                .remedy("cast them to floats"));
        }
        let mut order: Vec<usize> = (0..rank).filter(|d| *d != axis).collect();
        order.push(axis);
        let rows = self.transpose(x, &order)?;
        let floats = self.cast(&rows, Elem::F32)?;
        let places = self.emit_f32(graph::TopK::DEF, &[Some(&floats)], attrs! { k: k, least: !largest })?;
        let values = self.gather_elements(&rows, &places, rank - 1)?;
        let places = self.cast(&places, Elem::I64)?;
        let mut back = vec![0; rank];
        order.iter().enumerate().for_each(|(i, &d)| back[d] = i);
        Ok([self.transpose(&values, &back)?, self.transpose(&places, &back)?])
    }

    /// `x` with the elements of `updates` joined to it at the places that `indices`, of one dim of `axis` each, name.
    pub fn scatter_elements(
        &mut self,
        x: &Value,
        [indices, updates]: [&Value; 2],
        axis: usize,
        word: &'static str,
    ) -> Result<Value> {
        let (dims, to) = (self.dims(x), self.dims(indices));
        let fits =
            to.len() == dims.len() && to == self.dims(updates) && (0..to.len()).all(|d| d == axis || to[d] <= dims[d]);
        if !fits {
            return Err(Refusal::invalid(format!("indices of shape {to:?} do not fit {dims:?} along axis {axis}")));
        }
        let place = self.places_of_elements(indices, &dims, axis)?;
        let place = self.expand(&place, &to)?;
        let count: usize = to.iter().product();
        self.scattered(x, &place, updates, [dims.iter().product(), 1], count, word)
    }

    /// `x` with parts of `updates` joined to it where the last dim of `indices` says.
    pub fn scatter_nd(&mut self, x: &Value, indices: &Value, updates: &Value, word: &'static str) -> Result<Value> {
        let (dims, index_dims) = (self.dims(x), self.dims(indices));
        let depth = *index_dims.last().ok_or_else(|| Refusal::invalid("the indices are a single number"))?;
        let lead = &index_dims[..index_dims.len() - 1];
        let fits =
            (1..=dims.len()).contains(&depth) && self.dims(updates) == [lead, &dims[depth.min(dims.len())..]].concat();
        if !fits {
            return Err(Refusal::invalid(format!("indices of shape {index_dims:?} do not fit {dims:?}")));
        }
        let place = self.places_of_parts(indices, &dims[..depth], 0)?;
        let (size, row) = (dims[..depth].iter().product(), dims[depth..].iter().product());
        self.scattered(x, &place, updates, [size, row], lead.iter().product(), word)
    }

    /// Rows of `updates`, `count` in number, joined to those of `size` rows that `place` names.
    fn scattered(
        &mut self,
        x: &Value,
        place: &Value,
        updates: &Value,
        [size, row]: [usize; 2],
        count: usize,
        word: &'static str,
    ) -> Result<Value> {
        let dims = self.dims(x);
        let (place, updates) = (self.reshape(place, &[count])?, self.reshape(updates, &[count, row])?);
        let rows = self.reshape(x, &[size, row])?;
        let joined =
            self.emit(graph::Scatter::DEF, &[Some(&rows), Some(&place), Some(&updates)], attrs! { op: word })?;
        self.reshape(&joined, &dims)
    }

    /// Places in a tensor of `dims`, counted through it, of elements whose coordinates are their own but for that of `axis`.
    pub(super) fn places_of_elements(&mut self, indices: &Value, dims: &[usize], axis: usize) -> Result<Value> {
        let (own, to) = (strides(dims), self.dims(indices));
        let index = self.index(indices, dims[axis])?;
        let mut place = self.scaled(&index, own[axis])?;
        for d in (0..to.len()).filter(|&d| d != axis && to[d] > 1) {
            let mut shape = vec![1; to.len()];
            shape[d] = to[d];
            self.charge(4 * to[d])?;
            let steps = HostTensor::i32(shape, (0..to[d]).map(|i| (i * own[d]) as i32).collect());
            place = self.integers(IntFunction::Add, &place, &steps.into())?;
        }
        Ok(place)
    }
}
