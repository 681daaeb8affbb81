//! Regions of images, sampled to one size: rows of pixels that indices choose, weighted.

use super::{Arith, Graph, Relation, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::{self, Function, IntFunction};
use qc_ir::{Elem, HostTensor, attrs};

type Result<T> = std::result::Result<T, Refusal>;

/// The largest side of what a region is sampled to.
const MAX_SIDE: usize = 4096;

/// Attributes of a sampling of regions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regions {
    /// Height and width of the results.
    pub out: [usize; 2],
    /// Samples of each of their pixels along either axis.
    pub samples: usize,
    /// Pixels of the image by units of the regions.
    pub scale: f32,
    /// Whether 0 is the edge of the first pixel rather than its centre; otherwise no region is narrower than a pixel.
    pub half_pixel: bool,
    /// Whether the largest weighted pixel is taken rather than the mean of samples.
    pub max: bool,
}

/// Samples along an axis that an attribute states.
///
/// # Errors
/// When a region is to have as many as it has pixels.
pub(crate) fn samples_of_regions(ratio: i64) -> Result<usize> {
    usize::try_from(ratio).ok().filter(|n| (1..=64).contains(n)).ok_or_else(|| {
        Refusal::unsupported(format!("sampling_ratio is {ratio}: the number of samples differs from region to region"))
            .remedy("export the model with a sampling_ratio from 1 to 64")
    })
}

/// The two pixels of an axis that have a part in each sample: indices as floats, and weights.
type Taps = [(Value, Value); 2];

impl Graph {
    /// The regions `x1, y1, x2, y2` `[R, 4]` of images `x` `[N, C, H, W]`; `image` `[R]` says of which one each is:
    /// `[R, C, height, width]`.
    pub fn regions(&mut self, x: &Value, rois: &Value, image: &Value, r: Regions) -> Result<Value> {
        let [n, c, h, w] = self.nchw(x)?;
        let dims = self.dims(rois);
        let ([count, 4], [of]) = (&dims[..], &self.dims(image)[..]) else {
            return Err(Refusal::invalid(format!("regions have the shape {dims:?}, not [R, 4]")));
        };
        if count != of || r.samples == 0 || !r.out.iter().all(|out| (1..=MAX_SIDE).contains(out)) {
            return Err(Refusal::invalid(format!("{count} regions, {of} images of them, {:?} pixels", r.out)));
        }
        let count = *count;
        let image = self.index(image, n)?;
        let image = self.reshape(&image, &[count, 1, 1])?;
        let [x_taps, y_taps] = self.taps_of_regions(rois, [w, h], r)?;
        let pixels = self.transpose(x, &[0, 2, 3, 1])?;
        let pixels = self.reshape(&pixels, &[n * h * w, c])?;
        let mut joined: Option<Value> = None;
        for (y, y_weight) in &y_taps {
            let line = self.place_in(&image, y, h, &[count, r.out[0] * r.samples, 1])?;
            for (x, x_weight) in &x_taps {
                let place = self.place_in(&line, x, w, &[count, 1, r.out[1] * r.samples])?;
                let value = self.emit(graph::Gather::DEF, &[Some(&pixels), Some(&place)], attrs! { axis: 0usize })?;
                let own = self.reshape(y_weight, &[count, r.out[0] * r.samples, 1, 1])?;
                let other = self.reshape(x_weight, &[count, 1, r.out[1] * r.samples, 1])?;
                let weight = self.arith(Arith::Mul, &own, &other)?;
                let value = self.arith(Arith::Mul, &value, &weight)?;
                joined = Some(match joined {
                    Some(before) => self.arith(if r.max { Arith::Max } else { Arith::Add }, &before, &value)?,
                    None => value,
                });
            }
        }
        let samples = joined.ok_or_else(|| Refusal::invalid("there are no samples"))?;
        let samples = self.reshape(&samples, &[count, r.out[0], r.samples, r.out[1], r.samples, c])?;
        let pooled = match r.max {
            true => self.reduce_max(&samples, &[2, 4], false)?,
            false => self.reduce_mean(&samples, &[2, 4], false)?,
        };
        self.transpose(&pooled, &[0, 3, 1, 2])
    }

    /// The taps of every sample, along x and along y: `[R, samples]` each.
    fn taps_of_regions(&mut self, rois: &Value, sizes: [usize; 2], r: Regions) -> Result<[Taps; 2]> {
        let rois = self.times(rois, r.scale)?;
        let rois = self.plus(&rois, if r.half_pixel { -0.5 } else { 0.0 })?;
        let axis = |g: &mut Graph, d: usize| {
            let (low, high) = (g.narrow(&rois, 1, d, d + 1)?, g.narrow(&rois, 1, d + 2, d + 3)?);
            let mut side = g.arith(Arith::Sub, &high, &low)?;
            if !r.half_pixel {
                side = g.clip(&side, 1.0, f32::INFINITY)?;
            }
            let count = r.out[1 - d] * r.samples;
            let part = |k: usize| ((k as f64 + 0.5) / count as f64) as f32;
            let parts = HostTensor::f32(vec![1, count], (0..count).map(part).collect());
            let behind = g.arith(Arith::Mul, &side, &parts.into())?;
            let at = g.arith(Arith::Add, &low, &behind)?;
            g.taps_within(&at, sizes[d] as f32)
        };
        Ok([axis(self, 0)?, axis(self, 1)?])
    }

    /// The pixels around each place. Up to a pixel beyond the outer ones these count, behind that nothing does.
    fn taps_within(&mut self, at: &Value, size: f32) -> Result<Taps> {
        let above = self.compare(Relation::LessOrEqual, &scalar(-1.0), at)?;
        let below = self.compare(Relation::LessOrEqual, at, &scalar(size))?;
        let counts = self.integers(IntFunction::And, &above, &below)?;
        let at = self.clip(at, 0.0, size - 1.0)?;
        let low = self.function(Function::Floor, &at)?;
        let part = self.arith(Arith::Sub, &at, &low)?;
        let rest = self.arith(Arith::Sub, &scalar(1.0), &part)?;
        let high = self.plus(&low, 1.0)?;
        let high = self.clip(&high, 0.0, size - 1.0)?;
        let (rest, part) = (self.select(&counts, &rest, &scalar(0.0))?, self.select(&counts, &part, &scalar(0.0))?);
        Ok([(low, rest), (high, part)])
    }

    /// `outer * size + at`, integers of the shape `dims` broadcast to that of `outer`. What is cast from NaN is some index, too.
    fn place_in(&mut self, outer: &Value, at: &Value, size: usize, dims: &[usize]) -> Result<Value> {
        let at = self.cast(at, Elem::I32)?;
        let at = self.reshape(&at, dims)?;
        let size = self.integer(Elem::I32, size as i64)?;
        let first = self.integers(IntFunction::Mul, outer, &size)?;
        self.integers(IntFunction::Add, &first, &at)
    }

    /// Of which image each of `rows` rows is, when image `i` has `counts[i]` of them, one after the other; i32.
    pub fn image_of_rows(&mut self, counts: &Value, rows: usize) -> Result<Value> {
        let images = self.dims(counts).iter().product();
        let counts = self.cast(counts, Elem::I32)?;
        let counts = self.reshape(&counts, &[1, images])?;
        let ends = self.running(&counts, 1, [false, false], false)?;
        let own = self.along(Elem::I32, 2, 0, rows)?;
        let behind = self.compare(Relation::LessOrEqual, &ends, &own)?;
        let behind = self.cast(&behind, Elem::I32)?;
        self.int_reduce(IntFunction::Add, &behind, &[1], false)
    }
}
