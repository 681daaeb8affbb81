//! Fourier transforms as products with matrices of cosines and sines.
//!
//! A transform of `L` samples is a linear function of them, so one along an axis is a matrix product, and one of frames that move over
//! a signal is a convolution. Numbers are pairs or single values along the last dim: real and imaginary part, or the real one.

use super::{Graph, Value};
use crate::error::Refusal;
use crate::shape::Side;
use qc_ir::HostTensor;

type Result<T> = std::result::Result<T, Refusal>;

/// A discrete Fourier transform.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Transform {
    /// Samples; a shorter signal is followed by zeros, of a longer one the first ones count.
    pub length: usize,
    /// From the spectrum back to the signal.
    pub inverse: bool,
    /// The spectrum is that of a real signal, of which the second half mirrors the first and is left out.
    pub one_sided: bool,
}

impl Transform {
    /// Numbers of the side that the spectrum is on.
    pub fn bins(self) -> usize {
        if self.one_sided { self.length / 2 + 1 } else { self.length }
    }

    /// Numbers of the result.
    fn results(self) -> usize {
        if self.inverse { self.length } else { self.bins() }
    }

    /// Whether the result is real.
    fn is_real(self) -> bool {
        self.inverse && self.one_sided
    }

    /// Numbers of the input that count.
    fn taken(self) -> usize {
        if self.inverse { self.bins() } else { self.length }
    }

    /// What part `from` of number `n` of the input adds to part `to` of number `k` of the result: of
    /// `X[k] = sum_n x[n] exp(-2 pi i n k / L)`, or `x[k] = 1/L sum_n X[n] exp(2 pi i n k / L)`.
    fn factor(self, [n, from]: [usize; 2], [k, to]: [usize; 2]) -> f32 {
        let length = self.length as u128;
        // The angle of the remainder is exact where that of the product would not be.
        let turns = (n as u128 * k as u128 % length) as f64 / length as f64;
        let (sin, cos) = (std::f64::consts::TAU * turns).sin_cos();
        let sin = if self.inverse { sin } else { -sin };
        let part = match (from, to) {
            (0, 0) | (1, 1) => cos,
            (0, _) => sin,
            _ => -sin,
        };
        let scale = if self.inverse { 1.0 / self.length as f64 } else { 1.0 };
        // What is left out of a spectrum mirrors what is there, but the mean and the middle have no twin.
        let twins = if self.is_real() && n > 0 && 2 * n != self.length { 2.0 } else { 1.0 };
        (part * scale * twins) as f32
    }

    /// Factors of `taken` numbers of `parts` parts: `[taken, parts, results, parts of a result]`.
    fn matrix(self, g: &mut Graph, taken: usize, parts: usize) -> Result<HostTensor> {
        let (results, made) = (self.results(), if self.is_real() { 1 } else { 2 });
        let dims = [taken, parts, results, made];
        let len = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        g.charge(len.saturating_mul(4))?;
        let mut values = Vec::with_capacity(len);
        for n in 0..taken {
            for from in 0..parts {
                let one = |i: usize| self.factor([n, from], [i / made, i % made]);
                values.extend((0..results * made).map(one));
            }
        }
        Ok(HostTensor::f32(dims, values))
    }

    /// The parts of the numbers of an input, which must fit the transform.
    fn parts(self, dims: &[usize]) -> Result<usize> {
        match dims.last() {
            Some(&1) if !self.is_real() => Ok(1),
            Some(&2) if self.inverse || !self.one_sided => Ok(2),
            Some(2) => Err(Refusal::invalid("the spectrum of complex numbers has no mirrored half")),
            _ => Err(Refusal::invalid(format!("its input has the shape {dims:?}; the last dim is no number"))),
        }
    }
}

impl Graph {
    /// The transform of `x` `[.., n, .., parts]` along `axis`: `[.., results, .., parts]`.
    pub fn fourier(&mut self, x: &Value, axis: usize, t: Transform) -> Result<Value> {
        let dims = self.dims(x);
        let (parts, last) = (t.parts(&dims)?, dims.len() - 1);
        if axis >= last || t.length == 0 {
            return Err(Refusal::invalid(format!("a transform of {} samples along dim {axis} of {dims:?}", t.length)));
        }
        let taken = dims[axis].min(t.taken());
        let x = self.narrow(x, axis, 0, taken)?;
        // The axis in front of the parts, and back.
        let perm: Vec<usize> = (0..last).filter(|&d| d != axis).chain([axis, last]).collect();
        let x = self.transpose(&x, &perm)?;
        let mut rows: Vec<usize> = self.dims(&x)[..last - 1].to_vec();
        let matrix = t.matrix(self, taken, parts)?;
        let [_, _, results, made] = *matrix.dims() else { return Err(Refusal::invalid("it has no numbers")) };
        let flat = |rows: &[usize], n: usize| rows.iter().copied().chain([n]).collect::<Vec<_>>();
        let x = self.reshape(&x, &flat(&rows, taken * parts))?;
        let matrix = self.reshape(&matrix.into(), &[taken * parts, results * made])?;
        let y = self.matmul(&x, &matrix, None, [false; 2])?;
        rows.extend([results, made]);
        let y = self.reshape(&y, &rows)?;
        let back: Vec<usize> = (0..=last).filter_map(|d| perm.iter().position(|&p| p == d)).collect();
        self.transpose(&y, &back)
    }

    /// The spectra of frames of `x` `[batch, samples, parts]` that start `step` samples apart, each times `window` `[length]`:
    /// `[batch, frames, bins, 2]`. Only whole frames count.
    pub fn fourier_of_frames(&mut self, x: &Value, step: i64, window: Option<&Value>, t: Transform) -> Result<Value> {
        let dims = self.dims(x);
        let &[batch, samples, _] = &dims[..] else {
            return Err(Refusal::invalid(format!("a signal of shape {dims:?}; it is [batch, samples, parts]")));
        };
        let (parts, length) = (t.parts(&dims)?, t.length);
        if length == 0 || length > samples {
            return Err(Refusal::invalid(format!("frames of {length} samples in a signal of {samples}")));
        }
        let side = Side { kernel: length as i64, stride: step, ..Side::unit(samples) }.checked()?;
        let matrix = t.matrix(self, length, parts)?;
        // Of [n, from, k, to] the weight [k and to, from, n].
        let weight = self.transpose(&matrix.into(), &[2, 3, 1, 0])?;
        let mut weight = self.reshape(&weight, &[2 * t.bins(), parts, length])?;
        if let Some(window) = window {
            if self.dims(window) != [length] {
                let text = format!("a window of shape {:?} for frames of {length} samples", self.dims(window));
                return Err(Refusal::invalid(text));
            }
            weight = self.arith(super::Arith::Mul, &weight, window)?;
        }
        let x = self.transpose(x, &[0, 2, 1])?;
        let y = self.conv(&x, &weight, None, &[side], 1)?;
        let frames = self.dims(&y)[2];
        let y = self.reshape(&y, &[batch, t.bins(), 2, frames])?;
        self.transpose(&y, &[0, 3, 1, 2])
    }
}
