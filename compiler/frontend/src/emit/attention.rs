//! Attention as products, a sum and a softmax: what fused operators of both formats are made of.

use super::{Arith, Graph, Relation, Value, scalar};
use crate::error::Refusal;
use qc_ir::{Elem, HostTensor};

type Result<T> = std::result::Result<T, Refusal>;

impl Graph {
    /// `[B, S, N * D]` as `[B, N, S, D]`.
    pub fn split_heads(&mut self, x: &Value, heads: usize) -> Result<Value> {
        let dims = self.dims(x);
        let &[b, s, width] = &dims[..] else {
            return Err(Refusal::unsupported(format!("attention over the shape {dims:?}, not batch, length, width")));
        };
        if heads == 0 || width % heads != 0 {
            return Err(Refusal::invalid(format!("a width of {width} for {heads} heads")));
        }
        let x = self.reshape(x, &[b, s, heads, width / heads])?;
        self.transpose(&x, &[0, 2, 1, 3])
    }

    /// `[B, N, S, D]` as `[B, S, N * D]`.
    pub fn merge_heads(&mut self, x: &Value) -> Result<Value> {
        let x = self.transpose(x, &[0, 2, 1, 3])?;
        let dims = self.dims(&x);
        self.reshape(&x, &[dims[0], dims[1], dims[2] * dims[3]])
    }

    /// `softmax(scale * q kᵀ + addends) v` of `q` `[B, N, S, D]`, `k` and `v` `[B, N, T, D]`; addends broadcast to
    /// `[B, N, S, T]`.
    pub fn attention(&mut self, [q, k, v]: [&Value; 3], scale: f32, addends: &[Value]) -> Result<Value> {
        let scores = self.matmul(q, k, None, [false, true])?;
        let mut scores = self.times(&scores, scale)?;
        let shape = self.dims(&scores);
        for addend in addends {
            scores = self.arith(Arith::Add, &scores, addend)?;
        }
        if self.dims(&scores) != shape {
            return Err(Refusal::invalid(format!("a mask does not fit scores of shape {shape:?}")));
        }
        let weights = self.softmax(&scores, 3)?;
        self.matmul(&weights, v, None, [false, false])
    }

    /// 0 where a truth value holds, `filter` elsewhere.
    pub fn mask_of(&mut self, keep: &Value, filter: f32) -> Result<Value> {
        self.select(keep, &scalar(0.0), &scalar(filter))
    }

    /// Whether integers are above 0.
    pub fn is_positive(&mut self, x: &Value) -> Result<Value> {
        let zero = self.integer(self.elem(x), 0)?;
        self.compare(Relation::Less, &zero, x)
    }

    /// `0, 1, ..` as integers of `elem`.
    pub fn counted(&mut self, elem: Elem, count: usize) -> Result<Value> {
        self.charge(8usize.saturating_mul(count))?;
        let counted = HostTensor::i64([count], (0..count as i64).collect());
        self.cast(&counted.into(), elem)
    }
}
