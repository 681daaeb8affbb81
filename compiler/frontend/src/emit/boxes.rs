//! Arithmetic of boxes: `x1, y1, x2, y2` along the last dim, in parts of a picture or in pixels. A box in pixels ends with
//! its last pixel, so it is one wider than the difference of its corners; this one is `more`.

use super::{Arith, Graph, Value};
use crate::error::Refusal;
use qc_dialects::graph::Function;

type Result<T> = std::result::Result<T, Refusal>;

/// Boxes as centres and sizes, x and y along the last dim.
struct Centred {
    centre: Value,
    size: Value,
}

impl Graph {
    /// Boxes from their distances to `priors`, in sizes of those; `variances`, if there are any, are factors of the distances.
    pub fn decoded_boxes(
        &mut self,
        distances: &Value,
        priors: &Value,
        variances: Option<&Value>,
        more: f32,
    ) -> Result<Value> {
        let p = self.centred_boxes(priors, more)?;
        let distances = match variances {
            Some(v) => self.arith(Arith::Mul, v, distances)?,
            None => distances.clone(),
        };
        let [moved, scaled] = self.halves(&distances)?;
        let moved = self.arith(Arith::Mul, &moved, &p.size)?;
        let centre = self.arith(Arith::Add, &moved, &p.centre)?;
        let scaled = self.function(Function::Exp, &scaled)?;
        let size = self.arith(Arith::Mul, &scaled, &p.size)?;
        let half = self.times(&size, 0.5)?;
        let low = self.arith(Arith::Sub, &centre, &half)?;
        let high = self.arith(Arith::Add, &centre, &half)?;
        let high = self.plus(&high, -more)?;
        self.joined_halves(low, high)
    }

    /// Distances from `priors` to boxes, in sizes of the priors, as [`Graph::decoded_boxes`] takes them.
    pub fn encoded_boxes(
        &mut self,
        boxes: &Value,
        priors: &Value,
        variances: Option<&Value>,
        more: f32,
    ) -> Result<Value> {
        let p = self.centred_boxes(priors, more)?;
        let [low, high] = self.halves(boxes)?;
        let sum = self.arith(Arith::Add, &low, &high)?;
        let centre = self.times(&sum, 0.5)?;
        let size = self.arith(Arith::Sub, &high, &low)?;
        let size = self.plus(&size, more)?;
        let moved = self.arith(Arith::Sub, &centre, &p.centre)?;
        let moved = self.arith(Arith::Div, &moved, &p.size)?;
        let scaled = self.arith(Arith::Div, &size, &p.size)?;
        let scaled = self.function(Function::Abs, &scaled)?;
        let scaled = self.function(Function::Log, &scaled)?;
        let distances = self.joined_halves(moved, scaled)?;
        match variances {
            Some(v) => self.arith(Arith::Div, &distances, v),
            None => Ok(distances),
        }
    }

    fn centred_boxes(&mut self, boxes: &Value, more: f32) -> Result<Centred> {
        let [low, high] = self.halves(boxes)?;
        let size = self.arith(Arith::Sub, &high, &low)?;
        let size = self.plus(&size, more)?;
        let half = self.times(&size, 0.5)?;
        Ok(Centred { centre: self.arith(Arith::Add, &low, &half)?, size })
    }

    /// The first two elements along the last dim of four, and the others.
    fn halves(&mut self, x: &Value) -> Result<[Value; 2]> {
        let dims = self.dims(x);
        match dims.last() {
            Some(4) => Ok([self.narrow(x, dims.len() - 1, 0, 2)?, self.narrow(x, dims.len() - 1, 2, 4)?]),
            _ => Err(Refusal::invalid(format!("boxes of shape {dims:?} have no four coordinates"))),
        }
    }

    fn joined_halves(&mut self, low: Value, high: Value) -> Result<Value> {
        let last = self.dims(&low).len() - 1;
        self.concat(&[low, high], last)
    }

    /// Areas of intersections of boxes `[n, 4]` and `[m, 4]` by those of their unions: `[n, m]`.
    pub fn overlaps(&mut self, a: &Value, b: &Value, more: f32) -> Result<Value> {
        let (n, m) = (self.rows_of_boxes(a)?, self.rows_of_boxes(b)?);
        let (a, b) = (self.reshape(a, &[n, 1, 4])?, self.reshape(b, &[1, m, 4])?);
        let ([a_low, a_high], [b_low, b_high]) = (self.halves(&a)?, self.halves(&b)?);
        let low = self.arith(Arith::Max, &a_low, &b_low)?;
        let high = self.arith(Arith::Min, &a_high, &b_high)?;
        let sides = self.sides(&low, &high, more)?;
        let sides = self.clip(&sides, 0.0, f32::INFINITY)?;
        let common = self.area(&sides, &[n, m])?;
        let (a_sides, b_sides) = (self.sides(&a_low, &a_high, more)?, self.sides(&b_low, &b_high, more)?);
        let (a, b) = (self.area(&a_sides, &[n, 1])?, self.area(&b_sides, &[1, m])?);
        let all = self.arith(Arith::Add, &a, &b)?;
        let all = self.arith(Arith::Sub, &all, &common)?;
        self.arith(Arith::Div, &common, &all)
    }

    fn rows_of_boxes(&self, x: &Value) -> Result<usize> {
        match self.dims(x)[..] {
            [n, 4] => Ok(n),
            ref dims => Err(Refusal::invalid(format!("boxes have the shape {dims:?}, not [N, 4]"))),
        }
    }

    fn sides(&mut self, low: &Value, high: &Value, more: f32) -> Result<Value> {
        let sides = self.arith(Arith::Sub, high, low)?;
        self.plus(&sides, more)
    }

    /// The product of two sides along the last dim.
    fn area(&mut self, sides: &Value, dims: &[usize]) -> Result<Value> {
        let last = self.dims(sides).len() - 1;
        let (x, y) = (self.narrow(sides, last, 0, 1)?, self.narrow(sides, last, 1, 2)?);
        let area = self.arith(Arith::Mul, &x, &y)?;
        self.reshape(&area, dims)
    }
}
