//! Powers and remainders, of floats and of integers.

use super::{Arith, Graph, Relation, Rounding, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::{self, Function, IntFunction};
use qc_ir::{Elem, attrs};

type Result<T> = std::result::Result<T, Refusal>;

impl Graph {
    /// `x` to the power of a known exponent: by products and roots where they give it.
    pub fn power(&mut self, x: &Value, exponent: f32) -> Result<Value> {
        match exponent {
            1.0 => Ok(x.clone()),
            2.0 => self.arith(Arith::Mul, x, x),
            3.0 => {
                let square = self.arith(Arith::Mul, x, x)?;
                self.arith(Arith::Mul, &square, x)
            }
            0.5 => self.function(Function::Sqrt, x),
            -1.0 => self.arith(Arith::Div, &scalar(1.0), x),
            -0.5 => {
                let root = self.function(Function::Sqrt, x)?;
                self.arith(Arith::Div, &scalar(1.0), &root)
            }
            other => self.emit_f32(graph::Pow::DEF, &[Some(x), Some(&scalar(other))], attrs! {}),
        }
    }

    /// `x` to the power of `y`, element by element, in the type of `x`.
    pub fn raised(&mut self, x: &Value, y: &Value) -> Result<Value> {
        let (of, by) = (self.elem(x), self.elem(y));
        let whole = |e: Elem| matches!(e, Elem::I8 | Elem::U8 | Elem::I32 | Elem::I64);
        match y.known().and_then(same) {
            Some(exponent) if of == Elem::F32 => {
                let power = self.power(x, exponent)?;
                let dims = graph::matmul::broadcast(&self.dims(x), &self.dims(y)).map_err(Refusal::invalid)?;
                return self.expand(&power, &dims);
            }
            Some(exponent) if whole(of) && (0.0..=64.0).contains(&exponent) && exponent.fract() == 0.0 => {
                let exponents = self.cast(y, of)?;
                return self.integer_power(x, &exponents);
            }
            _ => {}
        }
        if whole(of) && whole(by) {
            let exponents = self.cast(y, of)?;
            return self.integer_power(x, &exponents);
        }
        let (x, y) = (self.cast(x, Elem::F32)?, self.cast(y, Elem::F32)?);
        let power = self.emit_f32(graph::Pow::DEF, &[Some(&x), Some(&y)], attrs! {})?;
        self.cast(&power, of)
    }

    /// Powers of integers by the binary digits of the exponents. A negative exponent gives what division towards zero makes of
    /// the inverse: 0, but for 1 and -1.
    fn integer_power(&mut self, x: &Value, y: &Value) -> Result<Value> {
        let elem = self.elem(x);
        let number = |g: &Graph, v: i64| g.integer(elem, v);
        let (zero, one, two) = (number(self, 0)?, number(self, 1)?, number(self, 2)?);
        let digits = match y.known() {
            Some(t) => (0..t.len()).filter_map(|i| t.int(i)).map(|v| 64 - v.leading_zeros()).max().unwrap_or(0),
            // An exponent of a base beside 0, 1 and -1 has six digits, or overflows; one more keeps what the others need of it.
            None => 7,
        };
        let (mut power, mut base, mut left) = (one.clone(), x.clone(), y.clone());
        for digit in 0..digits.min(7) {
            let odd = self.integers(IntFunction::Rem, &left, &two)?;
            let odd = self.cast(&odd, Elem::Bool)?;
            let factor = self.select(&odd, &base, &one)?;
            power = self.integers(IntFunction::Mul, &power, &factor)?;
            if digit + 1 < digits.min(7) {
                base = self.integers(IntFunction::Mul, &base, &base)?;
                left = self.integers(IntFunction::Div, &left, &two)?;
            }
        }
        let dims = graph::matmul::broadcast(&self.dims(x), &self.dims(y)).map_err(Refusal::invalid)?;
        power = self.expand(&power, &dims)?;
        let least = y.known().map_or(-1, |t| (0..t.len()).filter_map(|i| t.int(i)).min().unwrap_or(0));
        if least >= 0 || elem == Elem::U8 {
            return Ok(power);
        }
        let negative = self.compare(Relation::Less, y, &zero)?;
        // An inverse of 0 is 0 here.
        let divides = attrs! { op: IntFunction::Div.word() };
        let inverse = self.emit(graph::IntBinary::DEF, &[Some(&one), Some(x)], divides)?;
        let odd = self.integers(IntFunction::Rem, y, &two)?;
        let odd = self.cast(&odd, Elem::Bool)?;
        let square = self.integers(IntFunction::Mul, &inverse, &inverse)?;
        let inverse = self.select(&odd, &inverse, &square)?;
        self.select(&negative, &inverse, &power)
    }

    /// What the division of two numbers of one type leaves.
    pub fn modulo(&mut self, rounding: Rounding, a: &Value, b: &Value) -> Result<Value> {
        if self.elem(a) != Elem::F32 {
            return self.remainder(rounding, a, b);
        }
        let rest = self.emit_f32(graph::Rem::DEF, &[Some(a), Some(b)], attrs! {})?;
        if rounding == Rounding::Truncate {
            return Ok(rest);
        }
        let other_side = self.is_on_the_other_side(&rest, b)?;
        let moved = self.arith(Arith::Add, &rest, b)?;
        self.select(&other_side, &moved, &rest)
    }

    /// The bits of integers that are not negative, moved by so many places to the left or to the right.
    pub fn shifted(&mut self, x: &Value, places: &Value, left: bool) -> Result<Value> {
        let (elem, places) = (self.elem(x), self.cast(places, Elem::I64)?);
        let two = self.integer(Elem::I64, 2)?;
        let power = self.integer_power(&two, &places)?;
        let wide = self.cast(x, Elem::I64)?;
        let f = if left { IntFunction::Mul } else { IntFunction::Div };
        let moved = self.integers(f, &wide, &power)?;
        self.cast(&moved, elem)
    }
}

/// The number that all elements of a tensor are.
fn same(t: &qc_ir::HostTensor) -> Option<f32> {
    let at = |i| t.as_f32().map(|v| v[i]).or_else(|| t.int(i).map(|v| v as f32));
    let first = at(0)?;
    (1..t.len()).all(|i| at(i) == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qc_ir::HostTensor;

    fn ints(v: &[i64]) -> Value {
        HostTensor::i64([v.len()], v.to_vec()).into()
    }

    fn read(v: &Value) -> Vec<i64> {
        v.known().and_then(|t| t.as_i64().map(<[i64]>::to_vec)).unwrap()
    }

    #[test]
    fn powers_of_integers() {
        let mut g = Graph::new("t");
        let power = g.raised(&ints(&[3, -2, 2, 1, -1, 7, 0]), &ints(&[20, 3, -1, -5, -3, 0, 5])).unwrap();
        assert_eq!(read(&power), [3_486_784_401, -8, 0, 1, -1, 1, 0]);
        let power = g.raised(&ints(&[10]), &scalar(18.0)).unwrap();
        assert_eq!(read(&power), [1_000_000_000_000_000_000]);
        let root = g.raised(&ints(&[27, 16]), &scalar(0.75)).unwrap();
        assert_eq!(read(&root), [11, 8]);
    }

    #[test]
    fn remainders_of_floats_have_the_sign_of_one_side() {
        let mut g = Graph::new("t");
        let floats = |v: &[f32]| Value::from(HostTensor::f32([v.len()], v.to_vec()));
        let (a, b) = (floats(&[5.5, -5.5, 5.5, -4.0]), floats(&[2.0, 2.0, -2.0, 2.0]));
        let rest = |g: &mut Graph, r| g.modulo(r, &a, &b).unwrap().known().unwrap().as_f32().unwrap().to_vec();
        assert_eq!(rest(&mut g, Rounding::Truncate), [1.5, -1.5, 1.5, 0.0]);
        assert_eq!(rest(&mut g, Rounding::Floor), [1.5, 0.5, -0.5, 0.0]);
    }

    #[test]
    fn bits_move() {
        let mut g = Graph::new("t");
        let (x, places) = (ints(&[16, 4, 1]), ints(&[1, 2, 3]));
        assert_eq!(read(&g.shifted(&x, &places, false).unwrap()), [8, 1, 0]);
        assert_eq!(read(&g.shifted(&x, &places, true).unwrap()), [32, 16, 8]);
    }
}
