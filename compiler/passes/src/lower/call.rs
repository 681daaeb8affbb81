//! Kernel calls with addresses and counts of loop code.
//!
//! The structs are those of the kernels, [`qc_kernels::args`]: a field is set by name, to what its kind allows.

use super::view::View;
use qc_ir::{Attr, Diag, ValueId};
use qc_kernels::args::{Build, KernelCall, Value};

/// What calls of loop code are made of.
pub struct Code;

impl Build for Code {
    type Pointer = At;
    type Count = Count;
}

/// An address: bytes behind the origin of a buffer, and bytes per index.
#[derive(Clone, Debug)]
pub struct At {
    /// The buffer.
    pub buf: ValueId,
    /// Constant bytes.
    pub base: i64,
    /// Indices and their factors.
    pub moves: Vec<(ValueId, i64)>,
}

impl At {
    /// The origin of `buf`.
    pub fn start(buf: ValueId) -> At {
        At { buf, base: 0, moves: Vec::new() }
    }

    /// The address `bytes` further.
    #[must_use]
    pub fn plus(mut self, bytes: i64) -> At {
        self.base += bytes;
        self
    }

    /// The address `factor * index` bytes further.
    #[must_use]
    pub fn moved(mut self, index: ValueId, factor: i64) -> At {
        if factor != 0 {
            self.moves.push((index, factor));
        }
        self
    }
}

impl From<&View> for At {
    /// Element 0 of a view.
    fn from(v: &View) -> At {
        At { buf: v.buf, base: v.offset, moves: v.moves.clone() }
    }
}

/// A count or a stride in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// A constant.
    Const(i64),
    /// An index.
    Index(ValueId),
}

impl Default for Count {
    fn default() -> Count {
        Count::Const(0)
    }
}

impl From<i64> for Count {
    fn from(x: i64) -> Count {
        Count::Const(x)
    }
}

impl From<usize> for Count {
    fn from(x: usize) -> Count {
        Count::Const(x as i64)
    }
}

impl From<ValueId> for Count {
    fn from(index: ValueId) -> Count {
        Count::Index(index)
    }
}

/// The fields of a call by kind, in the order of the argument struct.
pub(super) struct Parts {
    /// `family.variant`.
    pub kernel: String,
    pub pointers: Vec<(&'static str, At)>,
    pub dynamic: Vec<(&'static str, ValueId)>,
    pub constant: Vec<(Box<str>, Attr)>,
}

impl Parts {
    /// The parts of `call`. A field that is 0 is left out, unless the kernel needs it set.
    pub fn of<C: KernelCall<Code>>(call: &C) -> Result<Parts, Diag> {
        let (family, variant) = (C::FAMILY, call.variant());
        let kernel = format!("{}.{}", family.name(), variant.name());
        if !family.variants().contains(&variant) {
            return Err(Diag::bug(format!("there is no kernel {kernel}")));
        }
        let mut set: Vec<(&str, Value<'_, Code>)> = Vec::new();
        call.each(&mut |name, value| set.push((name, value)));
        let value = |name: &str| set.iter().find(|s| s.0 == name).map(|s| &s.1);
        let mut parts = Parts { kernel, pointers: Vec::new(), dynamic: Vec::new(), constant: Vec::new() };
        for field in family.fields() {
            let needed = field.is_needed(variant, |other| value(other).is_some_and(|v| !is_zero(v)));
            match value(field.name) {
                None if needed => {
                    return Err(Diag::bug(format!("{} needs its field `{}`", parts.kernel, field.name)));
                }
                Some(Value::Pointer(at)) => parts.pointers.push((field.name, (*at).clone())),
                Some(Value::Count(Count::Index(index))) => parts.dynamic.push((field.name, *index)),
                Some(number) if needed || !is_zero(number) => parts.constant.extend(constant(field.name, number)),
                _ => {}
            }
        }
        Ok(parts)
    }
}

/// Whether a field that is not set has this value.
fn is_zero(value: &Value<'_, Code>) -> bool {
    match value {
        Value::Pointer(_) | Value::Count(Count::Index(_)) => false,
        Value::Count(Count::Const(x)) => *x == 0,
        Value::I32(x) => *x == 0,
        Value::F32(x) => x.to_bits() == 0,
    }
}

fn constant(name: &str, value: &Value<'_, Code>) -> Option<(Box<str>, Attr)> {
    let value = match value {
        Value::Count(Count::Const(x)) => Attr::from(*x),
        Value::I32(x) => Attr::from(*x),
        Value::F32(x) => Attr::from(*x),
        Value::Pointer(_) | Value::Count(Count::Index(_)) => return None,
    };
    Some((name.into(), value))
}

#[cfg(test)]
mod tests {
    use super::{At, Code, Parts};
    use crate::lower::layout::Layout;
    use qc_ir::{Elem, Module, Type};
    use qc_kernels::Variant;
    use qc_kernels::args::{UnaryCall, UnaryMore};

    fn place() -> At {
        let mut m = Module::new("m", qc_dialects::phase::LOOPS);
        m.add_func("main", &[Type::Buffer(Layout::Rows.buffer(Elem::F32, &[4]))]);
        At::start(m.args(m.body())[0])
    }

    fn unary(variant: Variant, more: UnaryMore<Code>) -> Result<Parts, String> {
        let (a, out, one) = (place(), place(), 1usize.into());
        Parts::of(&UnaryCall { variant, a, out, rows: one, n: one, more }).map_err(|d| d.message)
    }

    #[test]
    fn what_a_variant_needs_is_set() {
        let clamp = |p0, p1| UnaryMore { p0, p1, ..Default::default() };
        let names = |p: Parts| p.constant.into_iter().map(|c| c.0.to_string()).collect::<Vec<_>>();
        let set = unary(Variant::ClampF32, clamp(Some(0.0), Some(1.0))).map(names);
        assert_eq!(set, Ok(["rows", "n", "p0", "p1"].map(String::from).to_vec()), "zero is a bound like another");
        let missing = unary(Variant::ClampF32, clamp(Some(0.0), None)).map(names);
        assert_eq!(missing, Err("unary.clamp_f32 needs its field `p1`".into()));
        let other = unary(Variant::ExpF32, clamp(Some(0.0), None)).map(names);
        assert_eq!(other, Ok(["rows", "n"].map(String::from).to_vec()), "what is 0 anyway is not said");
        let bytes = unary(Variant::ExpF32, UnaryMore { scale: 0.5, ..Default::default() }).map(names);
        assert_eq!(bytes, Err("unary.exp_f32 needs its field `hi`".into()));
        let of_another_family = unary(Variant::AddU8, UnaryMore::default()).map(names);
        assert_eq!(of_another_family, Err("there is no kernel unary.add_u8".into()));
    }
}
