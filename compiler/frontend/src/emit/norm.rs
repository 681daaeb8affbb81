//! Normalisations of planes and groups of channels.

use super::{Arith, Graph, Norm, Value};
use crate::error::Refusal;
use qc_dialects::graph::Function;

type Result<T> = std::result::Result<T, Refusal>;

impl Graph {
    /// `(x - mean) / sqrt(variance + epsilon)` of each plane, then scale and bias per channel.
    pub fn instance_norm(&mut self, x: &Value, params: [Option<&Value>; 2], epsilon: f32) -> Result<Value> {
        let dims = self.dims(x);
        let axes: Vec<usize> = (2..dims.len()).collect();
        let centred = self.centred(x, &axes)?;
        let square = self.arith(Arith::Mul, &centred, &centred)?;
        let variance = self.reduce_mean(&square, &axes, true)?;
        let root = self.plus(&variance, epsilon)?;
        let root = self.function(Function::Sqrt, &root)?;
        let y = self.arith(Arith::Div, &centred, &root)?;
        self.scaled_channels(y, params)
    }

    /// The same of each of `groups` groups of channels; scale and bias are per group or per channel.
    pub fn group_norm(
        &mut self,
        x: &Value,
        groups: usize,
        params: [Option<&Value>; 2],
        epsilon: f32,
        per_group: bool,
    ) -> Result<Value> {
        let dims = self.dims(x);
        if groups == 0 || !dims[1].is_multiple_of(groups) {
            return Err(Refusal::invalid(format!("{groups} groups of {} channels", dims[1])));
        }
        let size = dims[1..].iter().product::<usize>() / groups;
        let rows = self.reshape(x, &[dims[0], groups, size])?;
        let mut y = self.layer_norm(&rows, [None, None], &Norm { axis: 2, epsilon, rms: false })?;
        if !per_group {
            y = self.reshape(&y, &dims)?;
        }
        let y = self.scaled_channels(y, params)?;
        self.reshape(&y, &dims)
    }

    /// `x * scale + bias`, one number of each per channel, dim 1.
    fn scaled_channels(&mut self, mut x: Value, params: [Option<&Value>; 2]) -> Result<Value> {
        let mut channels = vec![1; self.dims(&x).len() - 1];
        channels[0] = self.dims(&x)[1];
        for (parameter, op) in params.into_iter().zip([Arith::Mul, Arith::Add]) {
            if let Some(parameter) = parameter {
                let parameter = self.reshape(parameter, &channels)?;
                x = self.arith(op, &x, &parameter)?;
            }
        }
        Ok(x)
    }

    /// Batch normalisation with parameters that a run computes: `(x - mean) / sqrt(var + epsilon) * scale + bias`.
    pub(super) fn computed_batch_norm(&mut self, x: &Value, params: [&Value; 4], epsilon: f32) -> Result<Value> {
        let dims = self.dims(x);
        let channels = dims.get(1).copied().ok_or_else(|| Refusal::invalid("its input has no channels"))?;
        if params.iter().any(|p| self.dims(p) != [channels]) {
            return Err(Refusal::invalid(format!("its parameters are not one number for each of {channels} channels")));
        }
        let mut column = vec![1; dims.len()];
        column[1] = channels;
        let mut columns = Vec::new();
        for p in params {
            columns.push(self.reshape(p, &column)?);
        }
        let deviation = self.plus(&columns[3], epsilon)?;
        let deviation = self.function(Function::Sqrt, &deviation)?;
        let mut y = self.arith(Arith::Sub, x, &columns[2])?;
        for (op, by) in [(Arith::Div, &deviation), (Arith::Mul, &columns[0]), (Arith::Add, &columns[1])] {
            y = self.arith(op, &y, by)?;
        }
        Ok(y)
    }
}
