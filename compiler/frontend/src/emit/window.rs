//! Convolutions and pools under windows of one, two and three dims.
//!
//! A sequence `[n, c, l]` is an image of height 1, without a copy. A volume `[n, c, d, h, w]` is its planes: a convolution stacks
//! the planes under its window as channels (`volumes.rs`), and a pool takes the planes first, then what lies behind one another.
//! A dilated pool takes the elements under its windows apart, so that they follow one another.

use super::{Arith, Conv, Count, Graph, Padding, Pool, Transposed, Value};
use crate::error::Refusal;
use crate::shape::Side;
use qc_ir::HostTensor;

type Result<T> = std::result::Result<T, Refusal>;

/// What a pool makes of the elements under a window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Pooling {
    Max,
    Average(Count),
    /// The mean of the input, the leading pads and so many of the trailing ones per dim; the pads may reach further.
    Within(Vec<i64>),
}

impl Conv {
    /// Over an image.
    pub fn of(sides: [Side; 2], groups: i64) -> Conv {
        let [y, x] = sides;
        Conv {
            strides: [y.stride, x.stride],
            pads: [y.pads[0], x.pads[0], y.pads[1], x.pads[1]],
            dilations: [y.dilation, x.dilation],
            groups,
        }
    }
}

/// A tensor of `sides` dims behind batch and channels.
fn expect_rank(dims: &[usize], sides: usize, what: &str) -> Result<()> {
    match dims.len() == sides + 2 {
        true => Ok(()),
        false => Err(Refusal::invalid(format!("{what} has the shape {dims:?} under a window of {sides} dims"))),
    }
}

impl Graph {
    /// A convolution of `x` `[n, c, ..]` by `w` `[o, c / groups, ..]`.
    pub fn conv(&mut self, x: &Value, w: &Value, bias: Option<&Value>, sides: &[Side], groups: i64) -> Result<Value> {
        expect_rank(&self.dims(x), sides.len(), "its input")?;
        expect_rank(&self.dims(w), sides.len(), "its weight")?;
        match *sides {
            [x1] => self.flat([x, w], |g, [x, w]| g.conv2d(x, w, bias, &Conv::of([Side::unit(1), x1], groups))),
            [y, z] => self.conv2d(x, w, bias, &Conv::of([y, z], groups)),
            [d, y, z] => self.conv_of_planes([x, w], bias, [d, y, z], groups),
            _ => Err(only_three(sides)),
        }
    }

    /// A transposed convolution of `x` `[n, c, ..]` by a constant `w` `[c, o / groups, ..]`; `output` is the size of its result, and
    /// the leading pads of the sides are cut off.
    pub fn conv_transposed(
        &mut self,
        [x, w]: [&Value; 2],
        bias: Option<&Value>,
        sides: &[Side],
        output: &[i64],
        groups: i64,
    ) -> Result<Value> {
        expect_rank(&self.dims(x), sides.len(), "its input")?;
        expect_rank(&self.dims(w), sides.len(), "its weight")?;
        match (sides, output) {
            (&[s], &[size]) => self.flat([x, w], |g, [x, w]| {
                g.conv_transpose(x, w, bias, &Transposed::of([Side::unit(1), s], [1, size], groups))
            }),
            (&[y, z], &[h, w1]) => self.conv_transpose(x, w, bias, &Transposed::of([y, z], [h, w1], groups)),
            (&[d, y, z], &[depth, h, w1]) => {
                self.conv_transpose_of_planes([x, w], bias, [d, y, z], [depth, h, w1], groups)
            }
            _ => Err(only_three(sides)),
        }
    }

    /// A function of sequences as that of images of height 1.
    fn flat<const N: usize>(
        &mut self,
        all: [&Value; N],
        f: impl FnOnce(&mut Graph, [&Value; N]) -> Result<Value>,
    ) -> Result<Value> {
        let mut images = Vec::new();
        for v in all {
            let dims = self.dims(v);
            images.push(self.reshape(v, &[dims[0], dims[1], 1, dims[2]])?);
        }
        let y = f(self, std::array::from_fn(|i| &images[i]))?;
        let [n, c, _, l] = self.nchw(&y)?;
        self.reshape(&y, &[n, c, l])
    }

    /// A pool of `x` `[n, c, ..]`.
    pub fn pool(&mut self, x: &Value, sides: &[Side], ceil_mode: bool, pooling: &Pooling) -> Result<Value> {
        expect_rank(&self.dims(x), sides.len(), "its input")?;
        if sides.iter().any(|s| s.dilation != 1) {
            return self.dilated_pool(x, sides, pooling);
        }
        let dims = self.dims(x);
        match *sides {
            [s] => {
                let within = pooling.of_dims(&[None, Some(0)]);
                self.flat([x], |g, [x]| g.pool_of_images(x, [Side::unit(1), s], ceil_mode, &within))
            }
            [y, z] => self.pool_of_images(x, [y, z], ceil_mode, pooling),
            [d, y, z] => {
                let planes = self.reshape(x, &[dims[0], dims[1] * dims[2], dims[3], dims[4]])?;
                let within = pooling.of_dims(&[Some(1), Some(2)]);
                let planes = self.pool_of_images(&planes, [y, z], ceil_mode, &within)?;
                let [_, _, h, w] = self.nchw(&planes)?;
                let stacks = self.reshape(&planes, &[dims[0], dims[1], dims[2], h * w])?;
                let within = pooling.of_dims(&[Some(0), None]);
                let stacks = self.pool_of_images(&stacks, [d, Side::unit(h * w)], ceil_mode, &within)?;
                let depth = self.nchw(&stacks)?[2];
                self.reshape(&stacks, &[dims[0], dims[1], depth, h, w])
            }
            _ => Err(only_three(sides)),
        }
    }

    fn pool_of_images(&mut self, x: &Value, [y, z]: [Side; 2], ceil_mode: bool, pooling: &Pooling) -> Result<Value> {
        let pool = Pool {
            kernel: [y.kernel, z.kernel],
            strides: [y.stride, z.stride],
            pads: [y.pads[0], z.pads[0], y.pads[1], z.pads[1]],
            ceil_mode,
        };
        match pooling {
            Pooling::Max => self.max_pool(x, &pool),
            Pooling::Average(count) => self.avg_pool(x, &pool, *count),
            Pooling::Within(behind) => {
                let at = |d: usize| behind.get(d).copied().unwrap_or(0);
                self.avg_pool_within(x, &pool, [at(0), at(1)])
            }
        }
    }

    /// The windows of each dilated side one behind the other, each with its padding, then the pool of these.
    fn dilated_pool(&mut self, x: &Value, sides: &[Side], pooling: &Pooling) -> Result<Value> {
        let none = || Refusal::invalid("no window fits its input");
        let (mut x, mut plain) = (x.clone(), sides.to_vec());
        let value = if *pooling == Pooling::Max { f32::NEG_INFINITY } else { 0.0 };
        let rank = sides.len() + 2;
        let mut factors: Vec<Vec<f32>> = Vec::new();
        for (d, s) in sides.iter().enumerate() {
            let (count, kernel) = (s.count().ok_or_else(none)?, s.kernel as usize);
            self.charge(count.saturating_mul(kernel).saturating_mul(8))?;
            let place = |o: usize, t: usize| o as i64 * s.stride + t as i64 * s.dilation;
            let real = |o: usize| {
                let behind = if let Pooling::Within(behind) = pooling { behind[d] } else { 0 };
                let first = if matches!(pooling, Pooling::Within(_)) { 0 } else { s.pads[0] };
                let counted = first..s.pads[0] + s.input as i64 + behind;
                (0..kernel).filter(|&t| counted.contains(&place(o, t))).count()
            };
            factors.push((0..count).map(|o| kernel as f32 / real(o) as f32).collect());
            let mut pads = vec![0; 2 * rank];
            (pads[2 + d], pads[rank + 2 + d]) = (s.pads[0], s.pads[1]);
            x = self.pad(&x, &pads, Padding::Constant(value))?;
            let places: Vec<usize> = (0..count).flat_map(|o| (0..kernel).map(move |t| place(o, t) as usize)).collect();
            x = self.take(&x, 2 + d, &places)?;
            plain[d] = Side { input: places.len(), kernel: s.kernel, stride: s.kernel, dilation: 1, pads: [0, 0] };
        }
        if *pooling == Pooling::Max {
            return self.pool(&x, &plain, false, pooling);
        }
        let mut mean = self.pool(&x, &plain, false, &Pooling::Average(Count::Kernel))?;
        for (d, factors) in factors.into_iter().enumerate() {
            if *pooling != Pooling::Average(Count::Kernel) && factors.iter().any(|&f| f != 1.0) {
                let mut dims = vec![1; rank];
                dims[2 + d] = factors.len();
                mean = self.arith(Arith::Mul, &mean, &HostTensor::f32(dims, factors).into())?;
            }
        }
        Ok(mean)
    }

    /// Means or maxima of everything behind the channels, which stays as dims of 1.
    pub fn global_pool(&mut self, x: &Value, is_max: bool) -> Result<Value> {
        let dims = self.dims(x);
        let [n, c, rest @ ..] = &dims[..] else {
            return Err(Refusal::invalid(format!("it pools a tensor of shape {dims:?}")));
        };
        let image = match rest {
            [_, _] => x.clone(),
            _ => self.reshape(x, &[*n, *c, rest.iter().product(), 1])?,
        };
        let y = if is_max { self.global_max_pool(&image)? } else { self.global_avg_pool(&image)? };
        let ones: Vec<usize> = [*n, *c].into_iter().chain(rest.iter().map(|_| 1)).collect();
        self.reshape(&y, &ones)
    }

    /// Means or maxima of windows `floor(o*in/out) .. ceil((o+1)*in/out)`, which cover each dim for a given output size.
    pub fn adaptive_pool(&mut self, x: &Value, output: &[i64], is_max: bool) -> Result<Value> {
        let dims = self.dims(x);
        expect_rank(&dims, output.len(), "its input")?;
        let wrong = || Refusal::invalid(format!("it pools {dims:?} to {output:?}"));
        let output: Option<Vec<usize>> = output.iter().map(|&o| usize::try_from(o).ok().filter(|&o| o > 0)).collect();
        let output = output.ok_or_else(wrong)?;
        if is_max {
            return self.adaptive_max_pool(x, &output);
        }
        match (&output[..], &dims[..]) {
            (&[l], _) => self.flat([x], |g, [x]| g.adaptive_avg_pool(x, [1, l as i64])),
            (&[h, w], _) => self.adaptive_avg_pool(x, [h as i64, w as i64]),
            (&[depth, h, w], &[n, c, d, y, z]) => {
                let planes = self.reshape(x, &[n, c * d, y, z])?;
                let planes = self.adaptive_avg_pool(&planes, [h as i64, w as i64])?;
                let stacks = self.reshape(&planes, &[n, c, d, h * w])?;
                let stacks = self.adaptive_avg_pool(&stacks, [depth as i64, (h * w) as i64])?;
                self.reshape(&stacks, &[n, c, depth, h, w])
            }
            _ => Err(wrong()),
        }
    }

    /// Windows of different sizes are filled with their last element.
    fn adaptive_max_pool(&mut self, x: &Value, output: &[usize]) -> Result<Value> {
        let (dims, mut x, mut sides) = (self.dims(x), x.clone(), Vec::new());
        for (d, (&from, &to)) in dims[2..].iter().zip(output).enumerate() {
            // No window is wider; what is asked of the model is bounded before anything is made of it.
            let widest = from / to + 2;
            self.charge(to.saturating_mul(widest).saturating_mul(8))?;
            let window = |o: usize| (o * from / to, ((o + 1) * from).div_ceil(to));
            let size = (0..to).map(|o| window(o).1 - window(o).0).max().unwrap_or(1);
            let place = |o: usize, t: usize| (window(o).0 + t).min(window(o).1 - 1);
            let places: Vec<usize> = (0..to).flat_map(|o| (0..size).map(move |t| place(o, t))).collect();
            x = self.take(&x, 2 + d, &places)?;
            let kernel = size as i64;
            sides.push(Side { input: places.len(), kernel, stride: kernel, dilation: 1, pads: [0, 0] });
        }
        self.pool(&x, &sides, false, &Pooling::Max)
    }
}

impl Pooling {
    /// The same of some of the dims; `None` stands for one that is not pooled.
    fn of_dims(&self, dims: &[Option<usize>]) -> Pooling {
        match self {
            Pooling::Within(behind) => {
                Pooling::Within(dims.iter().map(|d| d.and_then(|d| behind.get(d)).copied().unwrap_or(0)).collect())
            }
            other => other.clone(),
        }
    }
}

fn only_three(sides: &[Side]) -> Refusal {
    Refusal::unsupported(format!("a window has {} dims; one, two and three are supported", sides.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use qc_ir::Elem;

    #[test]
    fn absurd_windows_cost_nothing() {
        let mut g = Graph::new("t");
        let x = g.input("x", Elem::F32, &[1, 1, 4, 4]);
        assert!(g.adaptive_pool(&x, &[1 << 40, 1], true).is_err());
        let far = Side { input: 4, kernel: 1 << 20, stride: 1, dilation: 1, pads: [1 << 20, 1 << 20] };
        let sides = [far, Side { dilation: 2, ..Side::unit(4) }];
        for pooling in [Pooling::Max, Pooling::Average(Count::Exclusive), Pooling::Within(vec![0, 0])] {
            assert!(g.pool(&x, &sides, false, &pooling).is_err());
        }
    }
}
