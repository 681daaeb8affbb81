//! Fields of argument structs: what they hold and which calls must set them.

use crate::table::Variant;

/// What a field holds, hence how generated code fills it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldKind {
    /// Address that the kernel reads.
    PtrIn,
    /// Address that the kernel writes.
    PtrOut,
    /// Count, flag or stride in bytes (8 bytes wide; strides may be negative in two's complement).
    Usize,
    /// Signed integer (4 bytes).
    I32,
    /// Float (4 bytes).
    F32,
}

/// One field of an argument struct.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Field name as in the Rust struct.
    pub name: &'static str,
    /// Offset in bytes from the start of the struct.
    pub offset: usize,
    /// Kind, which also gives the width.
    pub kind: FieldKind,
    /// Which calls must set it.
    pub needed: Needed,
}

/// Which calls must set a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needed {
    /// None: zero or null has a meaning.
    Never,
    /// Every call.
    Always,
    /// Calls of these variants.
    By(&'static [Variant]),
    /// Calls that set another field.
    With(&'static str),
}

impl Field {
    /// Whether a call of `variant` must set the field; `is_set` says which fields it sets.
    pub fn is_needed(&self, variant: Variant, is_set: impl Fn(&str) -> bool) -> bool {
        match self.needed {
            Needed::Never => false,
            Needed::Always => true,
            Needed::By(variants) => variants.contains(&variant),
            Needed::With(field) => is_set(field),
        }
    }
}

/// The kind of field that a Rust type is.
pub(crate) trait FieldType {
    /// The kind.
    const KIND: FieldKind;
}
impl<T> FieldType for *const T {
    const KIND: FieldKind = FieldKind::PtrIn;
}
impl<T> FieldType for *mut T {
    const KIND: FieldKind = FieldKind::PtrOut;
}
impl FieldType for usize {
    const KIND: FieldKind = FieldKind::Usize;
}
impl FieldType for i32 {
    const KIND: FieldKind = FieldKind::I32;
}
impl FieldType for f32 {
    const KIND: FieldKind = FieldKind::F32;
}
