//! Reductions and powers of floats.

use super::{Graph, Value};
use crate::error::Refusal;
use qc_dialects::graph;
use qc_ir::attrs;

impl Graph {
    /// The mean over `axes`.
    pub fn reduce_mean(&mut self, x: &Value, axes: &[usize], keepdims: bool) -> Result<Value, Refusal> {
        if axes.is_empty() {
            return Ok(x.clone());
        }
        self.emit_f32(graph::ReduceMean::DEF, &[Some(x)], attrs! { axes: axes, keepdims: keepdims })
    }

    /// The sum over `axes`: the mean times their size.
    pub fn reduce_sum(&mut self, x: &Value, axes: &[usize], keepdims: bool) -> Result<Value, Refusal> {
        let dims = self.dims(x);
        let count: usize = axes.iter().map(|&a| dims[a]).product();
        let mean = self.reduce_mean(x, axes, keepdims)?;
        self.times(&mean, count as f32)
    }

    /// The largest element over `axes`: kept axes first, the others as one plane that is pooled.
    pub fn reduce_max(&mut self, x: &Value, axes: &[usize], keepdims: bool) -> Result<Value, Refusal> {
        self.expect_f32(x)?;
        if axes.is_empty() {
            return Ok(x.clone());
        }
        let dims = self.dims(x);
        let kept: Vec<usize> = (0..dims.len()).filter(|a| !axes.contains(a)).collect();
        let order: Vec<usize> = kept.iter().chain(axes).copied().collect();
        let size = |list: &[usize]| list.iter().map(|&a| dims[a]).product::<usize>();
        let moved = self.transpose(x, &order)?;
        let plane = self.reshape(&moved, &[1, size(&kept), size(axes), 1])?;
        let pooled = self.global_max_pool(&plane)?;
        let out: Vec<usize> = (0..dims.len())
            .filter(|a| keepdims || kept.contains(a))
            .map(|a| if kept.contains(&a) { dims[a] } else { 1 })
            .collect();
        self.reshape(&pooled, &out)
    }
}
