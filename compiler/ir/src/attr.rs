//! Attributes: a closed set of compile-time facts on an op.

use crate::id::{ConstId, QuantId};
use crate::types::Type;
use std::sync::Arc;

/// One attribute value.
#[derive(Clone, PartialEq, Debug)]
pub enum Attr {
    /// Integer.
    Int(i64),
    /// Float; an `f32` is held exactly.
    Float(f64),
    /// Truth value.
    Bool(bool),
    /// Text.
    Str(Box<str>),
    /// List of integers.
    Ints(Box<[i64]>),
    /// A constant of the module's pool.
    Const(ConstId),
    /// A quantized number format.
    Quant(QuantId),
    /// A type.
    Type(Type),
    /// List of attributes.
    List(Vec<Attr>),
    /// Named attributes, in the order given.
    Fields(Vec<(Box<str>, Attr)>),
}

/// What kind of [`Attr`] a declaration asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum AttrKind {
    Int,
    Float,
    Bool,
    Str,
    Ints,
    Const,
    Quant,
    Type,
    List,
    Fields,
}

impl Attr {
    /// The kind of this value. An empty `[]` is `Ints`.
    pub fn kind(&self) -> AttrKind {
        match self {
            Attr::Int(_) => AttrKind::Int,
            Attr::Float(_) => AttrKind::Float,
            Attr::Bool(_) => AttrKind::Bool,
            Attr::Str(_) => AttrKind::Str,
            Attr::Ints(_) => AttrKind::Ints,
            Attr::Const(_) => AttrKind::Const,
            Attr::Quant(_) => AttrKind::Quant,
            Attr::Type(_) => AttrKind::Type,
            Attr::List(_) => AttrKind::List,
            Attr::Fields(_) => AttrKind::Fields,
        }
    }
}

macro_rules! from {
    ($($t:ty => |$x:ident| $e:expr;)*) => {
        $(impl From<$t> for Attr {
            fn from($x: $t) -> Attr {
                $e
            }
        })*
    };
}

from! {
    i64 => |x| Attr::Int(x);
    usize => |x| Attr::Int(x as i64);
    i32 => |x| Attr::Int(i64::from(x));
    f64 => |x| Attr::Float(x);
    f32 => |x| Attr::Float(f64::from(x));
    bool => |x| Attr::Bool(x);
    &str => |x| Attr::Str(x.into());
    String => |x| Attr::Str(x.into());
    Vec<i64> => |x| Attr::Ints(x.into());
    &[i64] => |x| Attr::Ints(x.into());
    &[usize] => |x| Attr::Ints(x.iter().map(|&v| v as i64).collect());
    ConstId => |x| Attr::Const(x);
    QuantId => |x| Attr::Quant(x);
    Type => |x| Attr::Type(x);
    Vec<Attr> => |x| Attr::List(x);
    Vec<(Box<str>, Attr)> => |x| Attr::Fields(x);
}

impl<const N: usize> From<[i64; N]> for Attr {
    fn from(x: [i64; N]) -> Attr {
        Attr::Ints(Box::new(x))
    }
}

/// The attributes of an op, sorted by name. Clones share them; where one is changed, they share the others.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Attrs(Option<Arc<Vec<Named>>>);

type Named = (&'static str, Arc<Attr>);

impl Attrs {
    /// No attributes.
    pub fn new() -> Attrs {
        Attrs::default()
    }

    /// These attributes plus `name = value`.
    pub fn with(mut self, name: &'static str, value: impl Into<Attr>) -> Attrs {
        self.set(name, value.into());
        self
    }

    /// Sets `name`.
    pub fn set(&mut self, name: &'static str, value: Attr) {
        let list = Arc::make_mut(self.0.get_or_insert_default());
        match list.binary_search_by(|(n, _)| (*n).cmp(name)) {
            Ok(i) => list[i].1 = Arc::new(value),
            Err(i) => list.insert(i, (name, Arc::new(value))),
        }
    }

    /// Takes `name` away.
    pub fn remove(&mut self, name: &str) {
        if self.get(name).is_some() {
            Arc::make_mut(self.0.get_or_insert_default()).retain(|(n, _)| *n != name);
        }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Attr> {
        let list = self.list();
        list.binary_search_by(|(n, _)| (*n).cmp(name)).ok().map(|i| &*list[i].1)
    }

    /// All attributes in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Attr)> {
        self.list().iter().map(|(n, a)| (*n, &**a))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    fn list(&self) -> &[Named] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

/// `attrs![name: value, ..]` makes [`Attrs`] from anything that converts into an [`Attr`].
#[macro_export]
macro_rules! attrs {
    ($($name:ident : $value:expr),* $(,)?) => {
        $crate::Attrs::new()$(.with(stringify!($name), $value))*
    };
}
