//! Fields of argument structs: what they hold, which calls must set them, and how a compiler sets them.

use crate::table::{Family, Variant};

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

/// What stands for addresses and counts in a call that is put together by a compiler.
pub trait Build {
    /// An address.
    type Pointer: Clone;
    /// A count or a stride in bytes; the default is 0.
    type Count: Clone + Default;
}

/// What a call sets a field to.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a, B: Build> {
    /// An address.
    Pointer(&'a B::Pointer),
    /// A count, a flag or a stride.
    Count(&'a B::Count),
    /// A signed integer.
    I32(i32),
    /// A float.
    F32(f32),
}

/// A call of a kernel that is put together. Each family has a struct for it, with the fields of its argument struct:
/// those that every call must set, and behind `more` those with a default.
pub trait KernelCall<B: Build> {
    /// The family.
    const FAMILY: Family;

    /// What is computed or stored.
    fn variant(&self) -> Variant;

    /// Gives name and value of every field but those that are left out: null pointers, and what only some calls set.
    fn each<'a>(&'a self, set: &mut dyn FnMut(&'static str, Value<'a, B>));
}

/// The kind of field that a Rust type is.
pub trait FieldType {
    /// The kind.
    const KIND: FieldKind;
    /// What a call sets it to.
    type Set<B: Build>: Clone;
    /// The same for a field that has a default: null or 0.
    type Free<B: Build>: Clone + Default;

    /// The value of a field.
    fn value<B: Build>(set: &Self::Set<B>) -> Value<'_, B>;

    /// The value of a field with a default; `None` for null.
    fn free<B: Build>(set: &Self::Free<B>) -> Option<Value<'_, B>>;
}

macro_rules! field_types {
    ($($ty:ty, $kind:ident, [$($t:ident)?];)*) => {$(
        impl $(<$t>)? FieldType for $ty {
            const KIND: FieldKind = FieldKind::$kind;
            type Set<B: Build> = B::Pointer;
            type Free<B: Build> = Option<B::Pointer>;

            fn value<B: Build>(set: &B::Pointer) -> Value<'_, B> {
                Value::Pointer(set)
            }

            fn free<B: Build>(set: &Option<B::Pointer>) -> Option<Value<'_, B>> {
                set.as_ref().map(Value::Pointer)
            }
        }
    )*};
    ($($ty:ty, $kind:ident, $set:ty, |$x:ident| $value:expr;)*) => {$(
        impl FieldType for $ty {
            const KIND: FieldKind = FieldKind::$kind;
            type Set<B: Build> = $set;
            type Free<B: Build> = $set;

            fn value<B: Build>($x: &$set) -> Value<'_, B> {
                $value
            }

            fn free<B: Build>($x: &$set) -> Option<Value<'_, B>> {
                Some($value)
            }
        }
    )*};
}

field_types! {
    *const T, PtrIn, [T];
    *mut T, PtrOut, [T];
}
field_types! {
    usize, Usize, B::Count, |x| Value::Count(x);
    i32, I32, i32, |x| Value::I32(*x);
    f32, F32, f32, |x| Value::F32(*x);
}

/// Declares the argument struct of a family, its table of fields, and the struct of a call that is put together.
macro_rules! args {
    ($(#[$doc:meta])* $family:ident: $name:ident, $call:ident, $more:ident {
        $($(#[$fdoc:meta])* $field:ident: $ty:ty $(=> $need:ident $($variant:ident)*)?,)*
    }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $ty,)*
        }

        impl $name {
            /// Name, offset and kind of every field, in memory order.
            pub const FIELDS: &'static [Field] = &[$(Field {
                name: stringify!($field),
                offset: core::mem::offset_of!($name, $field),
                kind: <$ty as FieldType>::KIND,
                needed: args!(@needed $($need $($variant)*)?),
            },)*];

            /// All fields zero or null.
            // SAFETY: the struct holds only raw pointers, integers and floats, for which zero bytes are a value.
            pub const ZERO: $name = unsafe { core::mem::zeroed() };
        }

        args! { @call $family $name $call $more [] [] $($(#[$fdoc])* $field: $ty $(=> $need $($variant)*)?,)* }
    };
    (@needed) => { Needed::Never };
    (@needed ALL) => { Needed::Always };
    (@needed WITH $field:ident) => { Needed::With(stringify!($field)) };
    (@needed $($variant:ident)*) => { Needed::By(&[$(Variant::$variant),*]) };
    // One field after the other goes to those that all calls set, or to the others.
    (@call $family:ident $name:ident $call:ident $more:ident [$($all:tt)*] [$($other:tt)*]
        $(#[$d:meta])* $field:ident: $ty:ty => ALL, $($rest:tt)*
    ) => {
        args! { @call $family $name $call $more [$($all)* { $(#[$d])* $field: $ty }] [$($other)*] $($rest)* }
    };
    (@call $family:ident $name:ident $call:ident $more:ident [$($all:tt)*] [$($other:tt)*]
        $(#[$d:meta])* $field:ident: $ty:ty => $need:ident $($variant:ident)*, $($rest:tt)*
    ) => {
        args! { @call $family $name $call $more [$($all)*] [$($other)* { $(#[$d])* $field: $ty, SOME }] $($rest)* }
    };
    (@call $family:ident $name:ident $call:ident $more:ident [$($all:tt)*] [$($other:tt)*]
        $(#[$d:meta])* $field:ident: $ty:ty, $($rest:tt)*
    ) => {
        args! { @call $family $name $call $more [$($all)*] [$($other)* { $(#[$d])* $field: $ty, FREE }] $($rest)* }
    };
    (@call $family:ident $name:ident $call:ident $more:ident
        [$({ $(#[$d:meta])* $field:ident: $ty:ty })*] [$({ $(#[$od:meta])* $other:ident: $oty:ty, $class:ident })*]
    ) => {
        #[doc = concat!("A call with [`", stringify!($name), "`] that is put together.")]
        pub struct $call<B: Build> {
            /// What is computed or stored.
            pub variant: Variant,
            $($(#[$d])* pub $field: <$ty as FieldType>::Set<B>,)*
            /// Fields that not every call sets.
            pub more: $more<B>,
        }

        #[doc = concat!("Fields of [`", stringify!($name), "`] that not every call sets.")]
        pub struct $more<B: Build> {
            $($(#[$od])* pub $other: args!(@type $class $oty),)*
        }

        impl<B: Build> Clone for $more<B> {
            fn clone(&self) -> Self {
                $more { $($other: self.$other.clone()),* }
            }
        }

        impl<B: Build> Default for $more<B> {
            fn default() -> Self {
                $more { $($other: Default::default()),* }
            }
        }

        impl<B: Build> KernelCall<B> for $call<B> {
            const FAMILY: Family = Family::$family;

            fn variant(&self) -> Variant {
                self.variant
            }

            fn each<'a>(&'a self, set: &mut dyn FnMut(&'static str, Value<'a, B>)) {
                $(set(stringify!($field), <$ty as FieldType>::value::<B>(&self.$field));)*
                $(if let Some(value) = args!(@value $class $oty, &self.more.$other) {
                    set(stringify!($other), value);
                })*
            }
        }
    };
    (@type SOME $ty:ty) => { Option<<$ty as FieldType>::Set<B>> };
    (@type FREE $ty:ty) => { <$ty as FieldType>::Free<B> };
    (@value SOME $ty:ty, $from:expr) => { $from.as_ref().map(<$ty as FieldType>::value::<B>) };
    (@value FREE $ty:ty, $from:expr) => { <$ty as FieldType>::free::<B>($from) };
}
pub(crate) use args;
