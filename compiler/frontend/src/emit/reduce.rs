//! Reductions of numbers along axes, and places of the largest.

use super::{Arith, Graph, Relation, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::{self, Function, IntFunction};
use qc_ir::{Elem, attrs};

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

    /// The logarithm of the sum of the exponentials over `axes`: what is largest comes out before, so that nothing overflows.
    pub fn log_sum_exp(&mut self, x: &Value, axes: &[usize], keepdims: bool) -> Result<Value, Refusal> {
        let largest = self.reduce_max(x, axes, true)?;
        // An infinite one would leave NaN of itself.
        let largest = self.clip(&largest, f32::MIN, f32::MAX)?;
        let centred = self.arith(Arith::Sub, x, &largest)?;
        let powers = self.function(Function::Exp, &centred)?;
        let sum = self.reduce_sum(&powers, axes, true)?;
        let log = self.function(Function::Log, &sum)?;
        let value = self.arith(Arith::Add, &log, &largest)?;
        self.without(&value, axes, keepdims)
    }

    /// The logarithm of the softmax along an axis.
    pub fn log_softmax(&mut self, x: &Value, axis: usize) -> Result<Value, Refusal> {
        let largest = self.reduce_max(x, &[axis], true)?;
        let centred = self.arith(Arith::Sub, x, &largest)?;
        let sum = self.log_sum_exp(&centred, &[axis], true)?;
        self.arith(Arith::Sub, &centred, &sum)
    }

    /// The product over `axes`, of floats or of integers: the last of the running products.
    pub fn reduce_product(&mut self, x: &Value, axes: &[usize], keepdims: bool) -> Result<Value, Refusal> {
        if self.elem(x) != Elem::F32 {
            return self.int_reduce(IntFunction::Mul, x, axes, keepdims);
        }
        let mut value = x.clone();
        for &axis in axes {
            let all = self.running(&value, axis, [false, false], true)?;
            let count = self.dims(&all)[axis];
            value = self.narrow(&all, axis, count - 1, count)?;
        }
        self.without(&value, axes, keepdims)
    }

    /// The largest or the least of floats, integers or truth values over `axes`.
    pub fn reduce_extreme(
        &mut self,
        largest: bool,
        x: &Value,
        axes: &[usize],
        keepdims: bool,
    ) -> Result<Value, Refusal> {
        let f = match (self.elem(x), largest) {
            (Elem::F32, true) => return self.reduce_max(x, axes, keepdims),
            (Elem::F32, false) => {
                let negated = self.times(x, -1.0)?;
                let largest = self.reduce_max(&negated, axes, keepdims)?;
                return self.times(&largest, -1.0);
            }
            (Elem::Bool, true) => IntFunction::Or,
            (Elem::Bool, false) => IntFunction::And,
            (_, true) => IntFunction::Max,
            (_, false) => IntFunction::Min,
        };
        self.int_reduce(f, x, axes, keepdims)
    }

    /// `x` without the dims `axes`, which are 1, unless they are to stay.
    fn without(&mut self, x: &Value, axes: &[usize], keepdims: bool) -> Result<Value, Refusal> {
        let dims = self.dims(x);
        let kept: Vec<usize> = (0..dims.len()).filter(|d| keepdims || !axes.contains(d)).map(|d| dims[d]).collect();
        self.reshape(x, &kept)
    }

    /// Where along an axis the largest or the least number is, as i64: the first of several, or the last.
    pub fn place_of_extreme(
        &mut self,
        largest: bool,
        x: &Value,
        axis: usize,
        last: bool,
        keepdims: bool,
    ) -> Result<Value, Refusal> {
        let dims = self.dims(x);
        let extreme = self.reduce_extreme(largest, x, &[axis], true)?;
        let found = self.compare(Relation::Equal, x, &extreme)?;
        let places = self.along(Elem::I32, dims.len(), axis, dims[axis])?;
        // Where nothing is equal to it, it is NaN; a place of the dim comes out all the same.
        let (other, f) = if last { (0, IntFunction::Max) } else { (dims[axis] as i64 - 1, IntFunction::Min) };
        let other = self.integer(Elem::I32, other)?;
        let places = self.select(&found, &places, &other)?;
        let place = self.int_reduce(f, &places, &[axis], keepdims)?;
        self.cast(&place, Elem::I64)
    }

    /// `0, 1, ..` along one of `rank` dims, the others of which are 1.
    pub fn along(&mut self, elem: Elem, rank: usize, axis: usize, count: usize) -> Result<Value, Refusal> {
        let counted = self.counted(elem, count)?;
        let mut dims = vec![1; rank];
        dims[axis] = count;
        self.reshape(&counted, &dims)
    }

    /// 1 where the first of the largest numbers along an axis is, else 0.
    pub fn hard_max(&mut self, x: &Value, axis: usize) -> Result<Value, Refusal> {
        let dims = self.dims(x);
        let place = self.place_of_extreme(true, x, axis, false, true)?;
        let places = self.along(Elem::I64, dims.len(), axis, dims[axis])?;
        let hit = self.compare(Relation::Equal, &places, &place)?;
        self.cast(&hit, Elem::F32)
    }

    /// `x` by its norm along `axes`: the sum of the sizes to the power of `p`, and the root of it; 0 where that is 0.
    pub fn by_norm(&mut self, x: &Value, axes: &[usize], p: f32) -> Result<Value, Refusal> {
        let norm = self.norm_of(x, axes, p, true)?;
        let none = self.compare(Relation::Equal, &norm, &scalar(0.0))?;
        let norm = self.select(&none, &scalar(1.0), &norm)?;
        self.arith(Arith::Div, x, &norm)
    }

    /// The root of the sum of the sizes to the power of `p`.
    pub fn norm_of(&mut self, x: &Value, axes: &[usize], p: f32, keepdims: bool) -> Result<Value, Refusal> {
        let powers = match p {
            2.0 => self.arith(Arith::Mul, x, x)?,
            p => {
                let size = self.function(Function::Abs, x)?;
                self.power(&size, p)?
            }
        };
        let sum = self.reduce_sum(&powers, axes, keepdims)?;
        self.power(&sum, 1.0 / p)
    }
}
