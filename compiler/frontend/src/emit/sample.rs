//! Values of an image at places that are computed: rows of its pixels that indices choose, weighted.

use super::{Arith, Graph, Relation, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::{self, Function, IntFunction};
use qc_ir::{Elem, attrs};

type Result<T> = std::result::Result<T, Refusal>;

/// What is taken between pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Between {
    Nearest,
    Linear,
    Cubic,
}

/// What lies beyond the outer pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Beyond {
    Zeros,
    Edge,
    Reflection,
}

/// Attributes of a sampling.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub between: Between,
    pub beyond: Beyond,
    /// Whether -1 and 1 are the centres of the outer pixels rather than their edges.
    pub align_corners: bool,
}

/// A pixel of one axis for every place: its index as a float, and its weight.
struct Tap {
    at: Value,
    weight: Option<Value>,
}

impl Graph {
    /// `x` `[N, C, d..]` at the places `grid` `[N, o.., r]`, whose last dim has coordinates of the axes, the last axis first.
    pub fn grid_sample(&mut self, x: &Value, grid: &Value, s: Sample) -> Result<Value> {
        let (dims, places) = (self.dims(x), self.dims(grid));
        let rank = dims.len().saturating_sub(2);
        let fits = rank > 0 && places.len() == rank + 2 && places[0] == dims[0] && places[rank + 1] == rank;
        if !fits {
            return Err(Refusal::invalid(format!("places of shape {places:?} in an image of {dims:?}")));
        }
        if s.between == Between::Cubic && rank != 2 {
            return Err(Refusal::unsupported("cubic sampling of images of other than two dims is not supported"));
        }
        let out = places[..=rank].to_vec();
        let mut axes = Vec::new();
        for d in 0..rank {
            let one = self.narrow(grid, rank + 1, rank - 1 - d, rank - d)?;
            let one = self.reshape(&one, &out)?;
            let at = self.unnormalized(&one, dims[2 + d], s)?;
            axes.push(self.taps(&at, dims[2 + d], s)?);
        }
        // Rows of channels, one per pixel.
        let mut order: Vec<usize> = (0..dims.len()).filter(|d| *d != 1).collect();
        order.push(1);
        let pixels = self.transpose(x, &order)?;
        let count: usize = dims.iter().product::<usize>() / dims[1];
        let pixels = self.reshape(&pixels, &[count, dims[1]])?;
        let sum = self.weighted(&pixels, &axes, &dims, &out, s)?;
        let back: Vec<usize> = std::iter::once(0).chain([rank + 1]).chain(1..=rank).collect();
        self.transpose(&sum, &back)
    }

    /// Coordinates from -1 to 1 as those of pixels.
    fn unnormalized(&mut self, x: &Value, size: usize, s: Sample) -> Result<Value> {
        let x = self.plus(x, 1.0)?;
        let size = size as f32;
        let moved = if s.align_corners {
            self.times(&x, (size - 1.0) / 2.0)?
        } else {
            let scaled = self.times(&x, size)?;
            let moved = self.plus(&scaled, -1.0)?;
            self.times(&moved, 0.5)?
        };
        if s.between == Between::Cubic {
            return Ok(moved);
        }
        self.within(&moved, size, s)
    }

    /// Coordinates beyond the outer pixels, brought back.
    fn within(&mut self, x: &Value, size: f32, s: Sample) -> Result<Value> {
        match s.beyond {
            Beyond::Zeros => Ok(x.clone()),
            Beyond::Edge => self.clip(x, 0.0, size - 1.0),
            Beyond::Reflection => {
                let (low, high) = if s.align_corners { (0.0, size - 1.0) } else { (-0.5, size - 0.5) };
                let range = high - low;
                if range <= 0.0 {
                    return self.times(x, 0.0);
                }
                // The distance from the lower end, folded to one way and back: `range - |t mod 2 range - range|`.
                let t = self.plus(x, -low)?;
                let t = self.function(Function::Abs, &t)?;
                let t = self.emit_f32(graph::Rem::DEF, &[Some(&t), Some(&scalar(2.0 * range))], attrs! {})?;
                let t = self.plus(&t, -range)?;
                let t = self.function(Function::Abs, &t)?;
                let t = self.arith(Arith::Sub, &scalar(range + low), &t)?;
                self.clip(&t, 0.0, size - 1.0)
            }
        }
    }

    /// The pixels of one axis that have a part in each place.
    fn taps(&mut self, x: &Value, size: usize, s: Sample) -> Result<Vec<Tap>> {
        match s.between {
            Between::Nearest => {
                let at = self.function(Function::Round { away: false }, x)?;
                Ok(vec![Tap { at, weight: None }])
            }
            Between::Linear => {
                let low = self.function(Function::Floor, x)?;
                let part = self.arith(Arith::Sub, x, &low)?;
                let rest = self.arith(Arith::Sub, &scalar(1.0), &part)?;
                let high = self.plus(&low, 1.0)?;
                Ok(vec![Tap { at: low, weight: Some(rest) }, Tap { at: high, weight: Some(part) }])
            }
            Between::Cubic => {
                let low = self.function(Function::Floor, x)?;
                let part = self.arith(Arith::Sub, x, &low)?;
                let mut taps = Vec::new();
                for i in 0..4 {
                    let at = self.plus(&low, i as f32 - 1.0)?;
                    let at = self.within(&at, size as f32, s)?;
                    taps.push(Tap { at, weight: Some(self.cubic(&part, i)?) });
                }
                Ok(taps)
            }
        }
    }

    /// The weight of pixel `i - 1` behind the one below, for a part of a step: the cubic of -0.75.
    fn cubic(&mut self, part: &Value, i: usize) -> Result<Value> {
        let a = -0.75f32;
        // Powers of the distance to the pixel, from the third down.
        let (distance, poly) = match i {
            0 => (self.plus(part, 1.0)?, [a, -5.0 * a, 8.0 * a, -4.0 * a]),
            1 => (part.clone(), [a + 2.0, -(a + 3.0), 0.0, 1.0]),
            2 => (self.arith(Arith::Sub, &scalar(1.0), part)?, [a + 2.0, -(a + 3.0), 0.0, 1.0]),
            _ => (self.arith(Arith::Sub, &scalar(2.0), part)?, [a, -5.0 * a, 8.0 * a, -4.0 * a]),
        };
        let mut value = scalar(poly[0]);
        for c in &poly[1..] {
            let product = self.arith(Arith::Mul, &distance, &value)?;
            value = self.plus(&product, *c)?;
        }
        Ok(value)
    }

    /// The sum over all combinations of taps.
    fn weighted(
        &mut self,
        pixels: &Value,
        axes: &[Vec<Tap>],
        dims: &[usize],
        out: &[usize],
        s: Sample,
    ) -> Result<Value> {
        let taps: Vec<usize> = axes.iter().map(Vec::len).collect();
        let mut sum: Option<Value> = None;
        for choice in qc_ir::indices(&taps) {
            let chosen: Vec<&Tap> = choice.iter().zip(axes).map(|(&i, axis)| &axis[i]).collect();
            let (place, inside) = self.place_of(&chosen, dims, out, s)?;
            let mut value = self.emit(graph::Gather::DEF, &[Some(pixels), Some(&place)], attrs! { axis: 0usize })?;
            let mut weight: Option<Value> = None;
            for own in chosen.iter().filter_map(|tap| tap.weight.as_ref()) {
                weight = Some(match weight {
                    Some(weight) => self.arith(Arith::Mul, &weight, own)?,
                    None => own.clone(),
                });
            }
            if let Some(inside) = inside {
                let counted = weight.unwrap_or_else(|| scalar(1.0));
                weight = Some(self.select(&inside, &counted, &scalar(0.0))?);
            }
            if let Some(weight) = weight {
                let mut column = out.to_vec();
                column.push(1);
                let weight = self.reshape(&weight, &column)?;
                value = self.arith(Arith::Mul, &value, &weight)?;
            }
            sum = Some(match sum {
                Some(sum) => self.arith(Arith::Add, &sum, &value)?,
                None => value,
            });
        }
        sum.ok_or_else(|| Refusal::invalid("the image has no dims"))
    }

    /// The row of a pixel for every place, and whether it lies within the image where that is asked.
    fn place_of(&mut self, taps: &[&Tap], dims: &[usize], out: &[usize], s: Sample) -> Result<(Value, Option<Value>)> {
        let mut place = self.along(Elem::I32, out.len(), 0, dims[0])?;
        let mut inside: Option<Value> = None;
        for (d, tap) in taps.iter().enumerate() {
            let last = dims[2 + d] as f32 - 1.0;
            let at = self.clip(&tap.at, 0.0, last)?;
            if s.beyond == Beyond::Zeros {
                let own = self.compare(Relation::Equal, &at, &tap.at)?;
                inside = Some(match inside {
                    Some(inside) => self.integers(IntFunction::And, &inside, &own)?,
                    None => own,
                });
            }
            // The clip makes it an index; what is cast from NaN is one all the same.
            let at = self.cast(&at, Elem::I32)?;
            let size = self.integer(Elem::I32, dims[2 + d] as i64)?;
            let before = self.integers(IntFunction::Mul, &place, &size)?;
            place = self.integers(IntFunction::Add, &before, &at)?;
        }
        Ok((place, inside))
    }
}
