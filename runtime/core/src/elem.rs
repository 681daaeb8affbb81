//! Element types of inputs and outputs.

use core::fmt;
use qc_embed::abi;
use serde::{Deserialize, Serialize};

/// Element type of a tensor that crosses the border of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Elem {
    /// 32-bit float.
    F32,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
}

impl Elem {
    /// All types, in the order of their codes in the binary interface.
    pub const ALL: [Elem; 5] = [Elem::F32, Elem::U8, Elem::I8, Elem::I32, Elem::I64];

    /// The type with a code of the binary interface (`qc_embed::abi::ELEM_*`).
    pub fn from_code(code: u32) -> Option<Elem> {
        Elem::ALL.get(code as usize).copied()
    }

    /// The code in the binary interface.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// Size of an element in bytes.
    pub fn bytes(self) -> usize {
        abi::ELEM_BYTES[self as usize]
    }

    /// Name as in notes and messages: `f32`, `u8`, `i8`, `i32`, `i64`.
    pub fn name(self) -> &'static str {
        abi::ELEM_NAMES[self as usize]
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that is an element type; every bit pattern is a value.
pub trait Element: Copy + sealed::Sealed + 'static {
    /// The element type.
    const ELEM: Elem;
}

macro_rules! elements {
    ($($ty:ty = $elem:ident),*) => { $(
        impl sealed::Sealed for $ty {}
        impl Element for $ty {
            const ELEM: Elem = Elem::$elem;
        }
    )* };
}

elements!(f32 = F32, u8 = U8, i8 = I8, i32 = I32, i64 = I64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_binary_interface() {
        let codes = [abi::ELEM_F32, abi::ELEM_U8, abi::ELEM_I8, abi::ELEM_I32, abi::ELEM_I64];
        for (elem, code) in Elem::ALL.into_iter().zip(codes) {
            assert_eq!((elem.code(), Elem::from_code(code)), (code, Some(elem)));
            assert_eq!(serde_json::to_string(&elem).ok(), Some(format!("\"{elem}\"")));
        }
        assert_eq!(Elem::from_code(5), None);
        assert_eq!((Elem::I64.bytes(), Elem::U8.bytes(), f32::ELEM.bytes()), (8, 1, 4));
    }
}
