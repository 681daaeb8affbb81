//! One Paddle op as the lowering of its type sees it: resolved slots and typed attributes.

use super::converted::Format;
use super::program::{OpAttr, OpDesc};
use crate::emit::ragged::Ragged;
use crate::emit::{Graph, Value};
use crate::error::Refusal;
use qc_ir::HostTensor;

/// The first version of the 2.x line, which counts padding differently in averages and fixes some parameters.
pub(crate) const VERSION_2: i64 = 2_000_000;

/// An op with its inputs.
pub(crate) struct Op<'a> {
    pub desc: &'a OpDesc,
    /// Resolved variables by slot, slots without variables left out.
    pub inputs: Vec<(&'a str, Vec<Value>)>,
    /// Version of the writer, 0 for 1.x.
    pub version: i64,
    /// The sequences of ragged variables, by slot.
    pub ragged: Vec<(&'a str, Vec<Option<Ragged>>)>,
    /// Output slots that something reads.
    pub read: Vec<&'a str>,
}

/// What lowering an op gives.
pub(crate) struct Lowered {
    /// The values of the main output slot.
    pub values: Vec<Tensor>,
    /// Values for other slots: one for all variables of a slot, or one for each.
    pub extra: Vec<(&'static str, Tensor)>,
    /// The sequences of the results of an op on sequences.
    pub ragged: Option<Ragged>,
    /// Why the op needs no op of ours, if it needs none.
    pub why: &'static str,
}

/// A variable's value.
#[derive(Clone, Debug)]
pub(crate) enum Tensor {
    /// The tensor itself.
    Plain(Value),
    /// The variable holds `real / step`: integers written as floats, as the old fake-quantize ops give them. Without a
    /// step, it is a 127th of the largest magnitude of `real`, which differs from run to run.
    Steps { real: Value, step: Option<f32> },
    /// The largest magnitude of a tensor, measured in every run.
    Measured(Value),
    /// Bytes of a converted program that stand for `real`, which has gone through a pair of their format.
    Bytes { real: Value, format: Format },
}

impl From<Value> for Tensor {
    fn from(value: Value) -> Tensor {
        Tensor::Plain(value)
    }
}

impl From<Value> for Lowered {
    fn from(value: Value) -> Lowered {
        Lowered::identity(value, "its result is known at import")
    }
}

impl Lowered {
    /// The input under another name.
    pub fn identity(value: Value, why: &'static str) -> Lowered {
        Lowered { values: vec![Tensor::Plain(value)], extra: Vec::new(), ragged: None, why }
    }

    /// A result, and one in another slot.
    pub fn beside(value: Value, slot: &'static str, other: Value) -> Lowered {
        Lowered {
            extra: vec![(slot, Tensor::Plain(other))],
            ..Lowered::identity(value, "its results are known at import")
        }
    }

    /// With these sequences.
    pub fn of(self, sequences: Ragged) -> Lowered {
        Lowered { ragged: Some(sequences), ..self }
    }

    /// Several outputs in one slot.
    pub fn many(values: Vec<Value>) -> Lowered {
        let values = values.into_iter().map(Tensor::Plain).collect();
        Lowered { values, extra: Vec::new(), ragged: None, why: "its results are known at import" }
    }
}

/// The longest list of integers that an input may stand for.
const MAX_INTS: usize = 4096;

/// How an op type is lowered.
pub(crate) type Lower = fn(&mut Graph, &Op<'_>) -> Result<Lowered, Refusal>;

/// One op type.
pub(crate) struct Row {
    /// Type in the program.
    pub name: &'static str,
    /// The main output slot.
    pub out: &'static str,
    pub lower: Lower,
}

/// Attribute kinds as Paddle numbers them.
mod kind {
    pub const INT: i32 = 0;
    pub const FLOAT: i32 = 1;
    pub const STRING: i32 = 2;
    pub const INTS: i32 = 3;
    pub const FLOATS: i32 = 4;
    pub const BOOLEAN: i32 = 6;
    pub const LONG: i32 = 9;
    pub const LONGS: i32 = 11;
    pub const FLOAT64S: i32 = 12;
    pub const VAR: i32 = 13;
    pub const VARS: i32 = 14;
    pub const FLOAT64: i32 = 15;
    pub const SCALAR: i32 = 16;
}

/// The attribute `name` of an op.
pub(crate) fn find_attr<'a>(desc: &'a OpDesc, name: &str) -> Option<&'a OpAttr> {
    desc.attrs.iter().find(|a| a.name == name)
}

/// The variables of a slot.
pub(crate) fn arguments<'a>(slots: &'a [super::program::OpVar], name: &str) -> &'a [String] {
    slots.iter().find(|s| s.parameter == name).map_or(&[], |s| &s.arguments)
}

fn wrong_kind(attr: &OpAttr) -> Refusal {
    Refusal::invalid(format!("attribute `{}` has the wrong kind {}", attr.name, attr.kind))
}

impl<'a> Op<'a> {
    /// All variables of a slot.
    pub fn all(&self, slot: &str) -> &[Value] {
        self.inputs.iter().find(|(s, _)| *s == slot).map_or(&[], |(_, v)| v)
    }

    /// The variable of a slot, if there is one.
    pub fn optional(&self, slot: &str) -> Option<&Value> {
        self.all(slot).first()
    }

    /// The sequences of the variable of a slot; none if it is not ragged.
    pub fn sequences_if_any(&self, slot: &str) -> Option<&Ragged> {
        self.ragged.iter().find(|(s, _)| *s == slot)?.1.first()?.as_ref()
    }

    /// The sequences of the variable of a slot.
    ///
    /// # Errors
    /// When it is not ragged.
    pub fn sequences(&self, slot: &str) -> Result<&Ragged, Refusal> {
        self.sequences_if_any(slot).ok_or_else(|| {
            Refusal::unsupported(format!("its input `{slot}` has no sequences: an op before it does not keep rows"))
                .remedy("export the model with ops on sequences right behind ragged inputs")
        })
    }

    /// Whether something reads a variable of an output slot.
    pub fn is_read(&self, slot: &str) -> bool {
        self.read.contains(&slot)
    }

    /// The variable of a slot.
    ///
    /// # Errors
    /// When the slot is empty.
    pub fn input(&self, slot: &str) -> Result<&Value, Refusal> {
        self.optional(slot).ok_or_else(|| Refusal::invalid(format!("its input `{slot}` is missing")))
    }

    /// A slot's variable as a known tensor; `None` when the slot is empty.
    ///
    /// # Errors
    /// When it is computed by the model.
    pub fn known(&self, slot: &str) -> Result<Option<&HostTensor>, Refusal> {
        let Some(v) = self.optional(slot) else { return Ok(None) };
        v.known().map(Some).ok_or_else(|| computed(slot, v))
    }

    /// A slot's variable as one known number; `None` when the slot is empty.
    ///
    /// # Errors
    /// As [`Op::known`], and for more than one element.
    pub fn known_number(&self, slot: &str) -> Result<Option<f32>, Refusal> {
        let Some(t) = self.known(slot)? else { return Ok(None) };
        if t.len() != 1 {
            return Err(Refusal::invalid(format!("its input `{slot}` has {} elements, not 1", t.len())));
        }
        Ok(t.as_f32().map(|v| v[0]).or_else(|| t.int(0).map(|i| i as f32)))
    }

    /// A number from a one-element tensor, from an attribute, or by default, in this order.
    ///
    /// # Errors
    /// When it is computed by the model, or is no number.
    pub fn number_from(&self, slot: &str, attr: &str, default: f32) -> Result<f32, Refusal> {
        match self.known_number(slot)? {
            Some(number) => Ok(number),
            None => Ok(self.float(attr)?.unwrap_or(default)),
        }
    }

    /// Integers from a tensor, from a list of one-element tensors, or from an attribute, in this order.
    ///
    /// # Errors
    /// When they are computed by the model, or are no integers.
    pub fn ints_from(&self, slot: &str, list: &str, attr: &str) -> Result<Option<Vec<i64>>, Refusal> {
        let one = |v: &Value, slot: &str| {
            let t = v.known().ok_or_else(|| computed(slot, v))?;
            if t.len() > MAX_INTS {
                return Err(Refusal::unsupported(format!("its input `{slot}` has {} numbers", t.len())));
            }
            let ints: Option<Vec<i64>> = (0..t.len()).map(|i| t.int(i)).collect();
            ints.ok_or_else(|| Refusal::invalid(format!("its input `{slot}` holds no integers")))
        };
        if let Some(v) = self.optional(slot) {
            return one(v, slot).map(Some);
        }
        if !self.all(list).is_empty() {
            let parts = self.all(list).iter().map(|v| one(v, list)).collect::<Result<Vec<_>, _>>()?;
            return Ok(Some(parts.concat()));
        }
        self.ints(attr)
    }

    /// An integer attribute.
    ///
    /// # Errors
    /// When it is of another kind; so for the others below.
    pub fn int(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(a) = find_attr(self.desc, name) else { return Ok(None) };
        match a.kind {
            kind::INT => Ok(Some(i64::from(a.i.unwrap_or(0)))),
            kind::LONG => Ok(Some(a.l.unwrap_or(0))),
            kind::BOOLEAN => Ok(Some(i64::from(a.b.unwrap_or(false)))),
            kind::SCALAR => Ok(a.scalar.and_then(|s| s.i)),
            kind::VAR => Ok(self.ints_from(name, "", "")?.and_then(|v| v.first().copied())),
            _ => Err(wrong_kind(a)),
        }
    }

    /// A truth value; old files have integers.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Result<Option<f32>, Refusal> {
        let Some(a) = find_attr(self.desc, name) else { return Ok(None) };
        match a.kind {
            kind::FLOAT => Ok(Some(a.f.unwrap_or(0.0))),
            kind::FLOAT64 => Ok(Some(a.float64.unwrap_or(0.0) as f32)),
            kind::INT => Ok(Some(a.i.unwrap_or(0) as f32)),
            kind::SCALAR => Ok(a.scalar.and_then(|s| s.r.or(s.i.map(|i| i as f64))).map(|r| r as f32)),
            kind::VAR => self.known_number(name),
            _ => Err(wrong_kind(a)),
        }
    }

    /// A list of integers; a single one counts as a list.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Refusal> {
        let Some(a) = find_attr(self.desc, name) else { return Ok(None) };
        match a.kind {
            kind::INTS => Ok(Some(a.ints.iter().map(|&i| i64::from(i)).collect())),
            kind::LONGS => Ok(Some(a.longs.clone())),
            kind::INT => Ok(Some(vec![i64::from(a.i.unwrap_or(0))])),
            kind::VAR | kind::VARS => self.ints_from("", name, ""),
            _ => Err(wrong_kind(a)),
        }
    }

    /// A list of floats.
    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, Refusal> {
        let Some(a) = find_attr(self.desc, name) else { return Ok(None) };
        match a.kind {
            kind::FLOATS => Ok(Some(a.floats.clone())),
            kind::FLOAT64S => Ok(Some(a.float64s.iter().map(|&x| x as f32).collect())),
            // Paddle 3 does not tell of what type the elements of an empty list are.
            kind::LONGS | kind::INTS if a.longs.is_empty() && a.ints.is_empty() => Ok(Some(Vec::new())),
            _ => Err(wrong_kind(a)),
        }
    }

    /// A text attribute; bytes that are no text give the empty string.
    pub fn text(&self, name: &str) -> Result<&'a str, Refusal> {
        let Some(a) = find_attr(self.desc, name) else { return Ok("") };
        match a.kind {
            kind::STRING => Ok(a.s.as_ref().and_then(|s| std::str::from_utf8(s).ok()).unwrap_or("")),
            _ => Err(wrong_kind(a)),
        }
    }

    /// Refuses channels-last data.
    pub fn expect_nchw(&self, attr: &str) -> Result<(), Refusal> {
        match self.text(attr)? {
            "" | "NCHW" | "AnyLayout" => Ok(()),
            other => Err(Refusal::unsupported(format!("data in the layout {other} is not supported"))
                .remedy("export the model with data_format NCHW")),
        }
    }
}

fn computed(slot: &str, v: &Value) -> Refusal {
    Refusal::unsupported(format!("its input `{slot}` is computed by the model; it must be constant"))
        .remedy("export the model with constant shapes and attributes")
        .of_computed(v)
}
