//! The `interface!` macro: what several ops have in common, declared once, read without knowing which of them it is.
//!
//! ```text
//! interface! {
//!     /// Multiplies by a weight.
//!     Linear [Conv2d, Matmul] {
//!         /// What is multiplied.
//!         input: ValueId = [Conv2d.input, Matmul.a];
//!         /// What is added per output channel.
//!         bias: Option<ValueId>;
//!     }
//! }
//! ```
//!
//! gives an enum of the ops' views with `DEFS`, `of`, `is`, `op` and one function per line. A line without a list means the
//! operand or attribute of that name in each op. An op that is added to an interface and lacks one does not compile.

/// See the module documentation.
#[macro_export]
macro_rules! interface {
    ($(#[doc = $doc:literal])* $name:ident [ $($view:ident),* $(,)? ] { $($lines:tt)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $(#[doc = concat!("The view of a `", stringify!($view), "`.")] $view($view),)*
        }

        $(impl From<$view> for $name {
            fn from(view: $view) -> $name {
                $name::$view(view)
            }
        })*

        impl $name {
            /// The ops that have it.
            pub const DEFS: &'static [&'static $crate::OpDef] = &[$($view::DEF),*];

            /// The view of `op`, if it is one of these.
            pub fn of(m: &$crate::Module, op: $crate::OpId) -> Option<Self> {
                $(if let Some(view) = $view::of(m, op) {
                    return Some(Self::$view(view));
                })*
                None
            }

            /// Whether `op` is one of these.
            pub fn is(m: &$crate::Module, op: $crate::OpId) -> bool {
                Self::of(m, op).is_some()
            }

            /// The op.
            pub fn op(self) -> $crate::OpId {
                match self {
                    $(Self::$view(view) => view.0,)*
                }
            }

            $crate::interface!(@lines [$($view)*] $($lines)*);
        }
    };

    (@lines $views:tt) => {};
    (@lines [$($view:ident)*] $(#[doc = $doc:literal])* $line:ident : $t:ty; $($rest:tt)*) => {
        $(#[doc = $doc])*
        pub fn $line(self, m: &$crate::Module) -> $t {
            match self {
                $(Self::$view(view) => view.$line(m),)*
            }
        }
        $crate::interface!(@lines [$($view)*] $($rest)*);
    };
    (@lines $views:tt $(#[doc = $doc:literal])* $line:ident : $t:ty = [$($view:ident . $get:ident),* $(,)?]; $($rest:tt)*) => {
        $(#[doc = $doc])*
        pub fn $line(self, m: &$crate::Module) -> $t {
            match self {
                $(Self::$view(view) => view.$get(m),)*
            }
        }
        $crate::interface!(@lines $views $($rest)*);
    };
}
