//! Integers and truth values: arithmetic, comparisons, choices.

use super::{Graph, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::{self, IntFunction};
use qc_ir::{Elem, HostTensor, attrs};

/// What a comparison asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub(crate) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How a quotient of integers is rounded, and hence which sign a remainder has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rounding {
    /// Towards zero: the remainder has the sign of the dividend.
    Truncate,
    /// Down: the remainder has the sign of the divisor.
    Floor,
}

impl Graph {
    /// A tensor of one integer.
    pub fn integer(&self, elem: Elem, value: i64) -> Result<Value, Refusal> {
        let made = graph::integer::wrapped(elem, &[], vec![value]);
        made.map(Value::from).map_err(|_| Refusal::unsupported("an operand holds no integers"))
    }

    /// `f` of two integers of one type, or of two truth values.
    ///
    /// # Errors
    /// When their types differ, and for a known divisor of 0; one that is computed gives 0.
    pub fn integers(&mut self, f: IntFunction, a: &Value, b: &Value) -> Result<Value, Refusal> {
        if let (IntFunction::Div | IntFunction::Rem, Some(divisor)) = (f, b.known())
            && (0..divisor.len()).any(|i| divisor.int(i) == Some(0))
        {
            return Err(Refusal::invalid("integers are divided by 0"));
        }
        self.emit(graph::IntBinary::DEF, &[Some(a), Some(b)], attrs! { op: f.word() })
    }

    /// The quotient of two integers.
    pub fn quotient(&mut self, rounding: Rounding, a: &Value, b: &Value) -> Result<Value, Refusal> {
        let quotient = self.integers(IntFunction::Div, a, b)?;
        if rounding == Rounding::Truncate {
            return Ok(quotient);
        }
        let (rest, elem) = (self.integers(IntFunction::Rem, a, b)?, self.elem(a));
        let other_side = self.is_on_the_other_side(&rest, b)?;
        let one = self.cast(&other_side, elem)?;
        self.integers(IntFunction::Sub, &quotient, &one)
    }

    /// What a division of integers leaves.
    pub fn remainder(&mut self, rounding: Rounding, a: &Value, b: &Value) -> Result<Value, Refusal> {
        let rest = self.integers(IntFunction::Rem, a, b)?;
        if rounding == Rounding::Truncate {
            return Ok(rest);
        }
        let other_side = self.is_on_the_other_side(&rest, b)?;
        let moved = self.integers(IntFunction::Add, &rest, b)?;
        self.select(&other_side, &moved, &rest)
    }

    /// Whether what a division leaves is not 0 and has another sign than the divisor.
    pub(super) fn is_on_the_other_side(&mut self, rest: &Value, divisor: &Value) -> Result<Value, Refusal> {
        let zero = self.cast(&scalar(0.0), self.elem(rest))?;
        let any = self.compare(Relation::NotEqual, rest, &zero)?;
        let (rest, divisor) =
            (self.compare(Relation::Less, rest, &zero)?, self.compare(Relation::Less, divisor, &zero)?);
        let differ = self.integers(IntFunction::Xor, &rest, &divisor)?;
        self.integers(IntFunction::And, &any, &differ)
    }

    /// Whether a relation holds between two numbers of one type.
    pub fn compare(&mut self, relation: Relation, a: &Value, b: &Value) -> Result<Value, Refusal> {
        for v in [a, b] {
            if matches!(self.elem(v), Elem::Quant(_)) {
                self.expect_f32(v)?;
            }
        }
        let (word, [a, b]) = match relation {
            Relation::Equal | Relation::NotEqual => ("eq", [a, b]),
            Relation::Less => ("lt", [a, b]),
            Relation::LessOrEqual => ("le", [a, b]),
            Relation::Greater => ("lt", [b, a]),
            Relation::GreaterOrEqual => ("le", [b, a]),
        };
        let holds = self.emit(graph::Compare::DEF, &[Some(a), Some(b)], attrs! { op: word })?;
        if relation == Relation::NotEqual { self.not(&holds) } else { Ok(holds) }
    }

    /// The opposite of a truth value.
    pub fn not(&mut self, x: &Value) -> Result<Value, Refusal> {
        let yes = HostTensor::bool(Vec::new(), vec![true]).into();
        self.integers(IntFunction::Xor, x, &yes)
    }

    /// Whether a float is NaN.
    pub fn is_nan(&mut self, x: &Value) -> Result<Value, Refusal> {
        self.expect_f32(x)?;
        self.compare(Relation::NotEqual, x, x)
    }

    /// `yes` where a truth value holds, else `no`.
    pub fn select(&mut self, condition: &Value, yes: &Value, no: &Value) -> Result<Value, Refusal> {
        let condition = self.cast(condition, Elem::Bool)?;
        self.emit(graph::Select::DEF, &[Some(&condition), Some(yes), Some(no)], attrs! {})
    }

    /// Integers along `axes` joined by `f`.
    pub fn int_reduce(&mut self, f: IntFunction, x: &Value, axes: &[usize], keepdims: bool) -> Result<Value, Refusal> {
        let attrs = attrs! { op: f.word(), axes: axes, keepdims: keepdims };
        self.emit(graph::IntReduce::DEF, &[Some(x)], attrs)
    }

    /// Running sums along an axis, or products.
    pub fn running(
        &mut self,
        x: &Value,
        axis: usize,
        [exclusive, reverse]: [bool; 2],
        product: bool,
    ) -> Result<Value, Refusal> {
        let attrs = attrs! { axis: axis, exclusive: exclusive, reverse: reverse, product: product };
        self.emit(graph::CumSum::DEF, &[Some(x)], attrs)
    }

    /// -1, 0 or 1, by the sign of a number.
    pub fn sign(&mut self, x: &Value) -> Result<Value, Refusal> {
        let elem = self.elem(x);
        if elem == Elem::F32 {
            return self.function(graph::Function::Sign, x);
        }
        let zero = self.cast(&scalar(0.0), elem)?;
        let (above, below) = (self.compare(Relation::Less, &zero, x)?, self.compare(Relation::Less, x, &zero)?);
        let (one, minus) = (self.cast(&scalar(1.0), elem)?, self.cast(&scalar(-1.0), elem)?);
        let rest = self.select(&below, &minus, x)?;
        self.select(&above, &one, &rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(v: &[f32]) -> Value {
        HostTensor::f32([v.len()], v.to_vec()).into()
    }

    fn ints(v: &[i64]) -> Value {
        HostTensor::i64([v.len()], v.to_vec()).into()
    }

    #[test]
    fn signs_of_floats_and_integers() {
        let mut g = Graph::new("t");
        let signs = g.sign(&floats(&[-3.0, 0.0, 9.0])).unwrap();
        assert_eq!(signs.known().unwrap().as_f32(), Some(&[-1.0, 0.0, 1.0][..]));
        let signs = g.sign(&ints(&[-3, 0, 9])).unwrap();
        assert_eq!(signs.known().unwrap().as_i64(), Some(&[-1, 0, 1][..]));
    }

    #[test]
    fn quotients_round_down_or_towards_zero() {
        let mut g = Graph::new("t");
        let (a, b) = (ints(&[7, -7, 7, -7, 6]), ints(&[2, 2, -2, -2, 3]));
        let read = |v: Value| v.known().and_then(|t| t.as_i64().map(<[i64]>::to_vec)).unwrap();
        assert_eq!(read(g.quotient(Rounding::Truncate, &a, &b).unwrap()), [3, -3, -3, 3, 2]);
        assert_eq!(read(g.quotient(Rounding::Floor, &a, &b).unwrap()), [3, -4, -4, 3, 2]);
        assert_eq!(read(g.remainder(Rounding::Truncate, &a, &b).unwrap()), [1, -1, 1, -1, 0]);
        assert_eq!(read(g.remainder(Rounding::Floor, &a, &b).unwrap()), [1, 1, -1, -1, 0]);
        assert!(g.quotient(Rounding::Floor, &a, &ints(&[0])).is_err());
    }
}
