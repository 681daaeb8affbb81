//! Weights beyond s8, which are stored weights minus a zero point.
//!
//! Kernels multiply s8. A weight `w` in `-255..=255` is the sum of up to three parts that fit, `w = w0 + w1 + ..`, and
//! `sum x * w = sum x * w0 + sum x * w1 + ..`: the same input is visited once per part, by segments with a stride of 0,
//! without a copy. Usually a single output channel of a layer, that with the largest weight, needs this. So the layer is
//! computed as if all weights fit, and the channels where they do not are then computed again, in full; or all channels
//! are computed in parts, where there are so few that this costs less.

use qc_dialects::graph::quantize::centred;
use qc_dialects::quant::QLinear;
use qc_dialects::quant::compute::Epilogue;
use qc_ir::{Diag, HostTensor, Module, Quant, ValueId};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// The constants of a `quant.conv2d` or `quant.matmul`, output channels outermost.
#[derive(Clone)]
pub struct Weights {
    /// Name of the weight.
    pub name: String,
    /// What accumulators start at: the bias and the share of the input's zero point, one per output channel.
    pub bias: Vec<i32>,
    /// What is added to the real number of each channel.
    pub addend: Vec<f32>,
    /// Weights without zero point, as many per channel.
    values: Values,
}

/// Weights without zero point.
#[derive(Clone)]
enum Values {
    /// As they are stored: s8.
    Stored(Arc<HostTensor>),
    /// What may be beyond s8.
    Wide(Vec<i32>),
}

impl Values {
    /// Weights of this format without their zero points.
    fn of(format: &Quant, tensor: &Arc<HostTensor>) -> Result<Values, Diag> {
        let plain = format.zeros.iter().all(|&z| z == 0) && tensor.as_i8().is_some();
        Ok(match plain {
            true => Values::Stored(tensor.clone()),
            false => Values::Wide(centred(format, tensor, 0).map_err(Diag::bug)?),
        })
    }

    /// The sum of each of so many rows.
    fn sums(&self, m: &Module, rows: usize) -> Vec<i32> {
        match self {
            Values::Stored(tensor) => stored_sums(m, tensor),
            Values::Wide(values) => sums_of(values, rows.max(1)),
        }
    }
}

/// The sums of the rows of weights that are stored as kernels multiply them.
fn stored_sums(m: &Module, weight: &Arc<HostTensor>) -> Vec<i32> {
    let sums = m.consts.memo.one("sums of rows", weight, || {
        let sums = sums_of(weight.as_i8().unwrap_or_default(), weight.dims()[0].max(1));
        HostTensor::i32([sums.len()], sums)
    });
    sums.as_i32().map(<[i32]>::to_vec).unwrap_or_default()
}

/// Channels this close to one another are computed in one sweep, which costs as much as that of one of them.
const NEAR: usize = 16;

/// What a sweep costs per pixel besides its products, in products of 16 columns by 4 taps.
const SWEEP: usize = 24;

impl Weights {
    /// The constants of `op`.
    ///
    /// # Errors
    /// When an operand is not constant or has no fitting format.
    pub fn of(m: &Module, view: QLinear) -> Result<Weights, Diag> {
        let v = view.weight(m);
        let tensor = crate::graph::constant(m, v).ok_or_else(|| Diag::bug("the weight is not constant"))?;
        let format = m.quant_of(v).ok_or_else(|| Diag::bug("the weight is not quantized"))?;
        let values = Values::of(format, &tensor)?;
        let zero = m.quant_of(view.x(m)).map_or(0, |q| q.zero(0));
        let sums = values.sums(m, tensor.dims()[0]);
        let mut bias: Vec<i32> = sums.into_iter().map(|s| s.wrapping_mul(zero).wrapping_neg()).collect();
        let mut addend = vec![0.0; bias.len()];
        if let Some(b) = view.bias(m) {
            let tensor = crate::graph::constant(m, b).ok_or_else(|| Diag::bug("the bias is not constant"))?;
            match (tensor.as_i32(), tensor.as_f32()) {
                (Some(stored), _) => bias.iter_mut().zip(stored).for_each(|(a, b)| *a = a.wrapping_add(*b)),
                (_, Some(real)) => addend.copy_from_slice(real),
                _ => return Err(Diag::bug("the bias is neither i32 nor f32")),
            }
        }
        Ok(Weights { name: m.name(v).unwrap_or("weight").to_string(), bias, addend, values })
    }

    /// The constants of a product whose left side has a zero point that is known in a run only.
    ///
    /// # Errors
    /// When an operand is not constant or has no fitting format.
    pub fn of_run_time(m: &Module, weight: ValueId, bias: Option<ValueId>) -> Result<Weights, Diag> {
        let missing = || Diag::bug("an operand is not constant");
        let tensor = crate::graph::constant(m, weight).ok_or_else(missing)?;
        let format = m.quant_of(weight).ok_or_else(|| Diag::bug("the weight is not quantized"))?;
        let channels = tensor.dims()[0];
        let addend = match bias {
            Some(b) => crate::graph::constant_f32(m, b).ok_or_else(missing)?,
            None => vec![0.0; channels],
        };
        let name = m.name(weight).unwrap_or("weight").to_string();
        Ok(Weights { name, bias: vec![0; channels], addend, values: Values::of(format, &tensor)? })
    }

    /// The sum of the weights of each output channel.
    pub fn sums(&self, m: &Module) -> Vec<i32> {
        self.values.sums(m, self.channels())
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    /// Weights of one output channel.
    fn taps(&self) -> usize {
        let all = match &self.values {
            Values::Stored(tensor) => tensor.len(),
            Values::Wide(values) => values.len(),
        };
        all / self.channels().max(1)
    }

    /// The weights as they are stored, where that is what kernels multiply.
    pub fn stored(&self) -> Option<&Arc<HostTensor>> {
        match &self.values {
            Values::Stored(tensor) => Some(tensor),
            Values::Wide(_) => None,
        }
    }

    /// How many parts the widest weight needs.
    pub fn parts(&self) -> usize {
        let Values::Wide(values) = &self.values else { return 1 };
        let (lo, hi) = values.iter().fold((0, 0), |(lo, hi), &w| (w.min(lo), w.max(hi)));
        let fits = |n: &i32| -128 * n <= lo && hi <= 127 * n;
        (1..).find(fits).unwrap_or(1) as usize
    }

    /// Runs of output channels with weights beyond s8. With one group, channels between two of them that are near one
    /// another count in; otherwise runs are whole groups.
    pub fn wide_runs(&self, groups: usize) -> Vec<Range<usize>> {
        let Values::Wide(values) = &self.values else { return Vec::new() };
        let wide = |c: usize| values[c * self.taps()..][..self.taps()].iter().any(|w| i8::try_from(*w).is_err());
        let unit = if groups == 1 { 1 } else { self.channels() / groups };
        let near = if groups == 1 { NEAR } else { 0 };
        let mut runs: Vec<Range<usize>> = Vec::new();
        for c in (0..self.channels()).filter(|&c| wide(c)) {
            let (start, end) = (c / unit * unit, (c / unit + 1) * unit);
            match runs.last_mut() {
                Some(last) if start <= last.end + near => last.end = end,
                _ => runs.push(start..end),
            }
        }
        if groups == 1 && self.one_sweep(&runs) { std::iter::once(0..self.channels()).collect() } else { runs }
    }

    /// Whether computing all channels in parts costs less than all in one part and then those of `runs` in parts, counted
    /// in products of 16 columns by 4 taps.
    fn one_sweep(&self, runs: &[Range<usize>]) -> bool {
        let (taps, parts) = (self.taps().div_ceil(4), self.parts());
        let plain = taps * self.channels().div_ceil(16);
        let again = runs.iter().map(|r| parts * taps * r.len().div_ceil(16) + SWEEP).sum::<usize>();
        !runs.is_empty() && parts * plain <= plain + again
    }

    /// The output channels of `run`.
    pub fn of_run(&self, run: Range<usize>) -> Weights {
        let values = self.integers()[run.start * self.taps()..run.end * self.taps()].to_vec();
        let values = Values::Wide(values);
        let (bias, addend) = (self.bias[run.clone()].to_vec(), self.addend[run].to_vec());
        Weights { name: self.name.clone(), bias, addend, values }
    }

    /// The weights `[o, c, kh, kw]` in parts that fit s8, as `[o, c, kh * parts, kw]`: the parts of a window row follow one
    /// another. One part holds what fits.
    pub fn in_parts(&self, parts: usize, kw: usize) -> Vec<i8> {
        let values = self.integers();
        if parts == 1 {
            return values.iter().map(|&w| w.clamp(-128, 127) as i8).collect();
        }
        let mut out = Vec::with_capacity(values.len() * parts);
        let mut rest = Vec::with_capacity(kw);
        for row in values.chunks(kw) {
            rest.clear();
            rest.extend_from_slice(row);
            for _ in 0..parts {
                out.extend(rest.iter().map(|&w| w.clamp(-128, 127) as i8));
                rest.iter_mut().for_each(|w| *w -= (*w).clamp(-128, 127));
            }
        }
        out
    }
}

impl Weights {
    /// All weights without zero point.
    fn integers(&self) -> Cow<'_, [i32]> {
        match &self.values {
            Values::Stored(tensor) => tensor.as_i8().unwrap_or_default().iter().map(|&w| i32::from(w)).collect(),
            Values::Wide(values) => Cow::Borrowed(values),
        }
    }
}

/// The sum of each of so many rows.
fn sums_of<T: Copy + Into<i32>>(values: &[T], rows: usize) -> Vec<i32> {
    let taps = (values.len() / rows).max(1);
    values.chunks_exact(taps).map(|row| row.iter().map(|&w| w.into()).sum()).collect()
}

/// The epilogue of the output channels of `run`.
pub fn of_run(e: &Epilogue, run: Range<usize>) -> Epilogue {
    Epilogue { scales: e.scales[run].to_vec(), out: e.out.clone(), ..*e }
}

#[cfg(test)]
mod tests {
    use super::{Values, Weights};

    fn weights(channels: usize, taps: usize, wide: &[usize]) -> Weights {
        let value = |i: usize| if wide.contains(&(i / taps)) && i % taps == 1 { 200 } else { 1 };
        let values = (0..channels * taps).map(value).collect();
        Weights { name: "w".into(), bias: vec![0; channels], addend: vec![0.0; channels], values: Values::Wide(values) }
    }

    #[test]
    fn only_channels_that_need_it_are_computed_again() {
        assert!(weights(128, 64, &[]).wide_runs(1).is_empty());
        assert_eq!(weights(128, 64, &[5, 12, 90]).wide_runs(1), [5..13, 90..91]);
        assert_eq!(weights(8, 9, &[2]).wide_runs(1).first(), Some(&(0..8)), "one sweep for all is cheaper");
        assert_eq!(weights(8, 9, &[3, 4]).wide_runs(4).first(), Some(&(2..6)), "whole groups");
    }

    #[test]
    fn parts_add_up() {
        let values = Values::Wide(vec![255, -255, 3, 130]);
        let w = Weights { name: "w".into(), bias: vec![0], addend: vec![0.0], values };
        assert_eq!(w.parts(), 3);
        let split = w.in_parts(3, 2);
        let sum = |row: usize, x: usize| (0..3).map(|p| i32::from(split[row * 6 + p * 2 + x])).sum::<i32>();
        assert_eq!([sum(0, 0), sum(0, 1), sum(1, 0), sum(1, 1)], [255, -255, 3, 130]);
    }
}
