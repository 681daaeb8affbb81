//! The `ops!` macro: one declaration per op gives its definition, typed view, builder and documentation.
//!
//! ```text
//! ops! { dialect TOY = "toy";
//!     /// Adds.
//!     op Add = "toy.add"(lhs: F32, rhs: Optional F32 1) -> (out) { scale: Float = 1.0, axis: Int } [PURE]
//!         infer(infer_add) verify(verify_add) eval(eval_add) items(items_add);
//! }
//! ```
//!
//! An operand states the class of its values ([`Class`](crate::Class)), before it `Optional` (may be left out at the end)
//! or `Variadic` (last only) unless it is exactly one value, and after it its rank where only one is possible. So `infer`,
//! `verify` and `eval` see operands of these types only. An attribute without a default is required. `infer`, `verify`,
//! `eval` and `items` may each be left out; an op with regions has `run` and `items_of_each` in place of the last two.

/// See the module documentation.
#[macro_export]
macro_rules! ops {
    (dialect $list:ident = $dialect:literal;
     $( $(#[doc = $doc:literal])* op $view:ident = $name:literal ( $($operand:ident : $slot:ident $($class:ident)? $($rank:literal)?),* )
        $(-> ( $($result:ident),* ))? { $($attr:ident : $kind:ident $(= $default:expr)?),* $(,)? } [ $($flag:ident)* ]
        $(infer($infer:expr))? $(verify($verify:expr))? $(eval($eval:expr))? $(run($run:expr))? $(items($items:expr))? $(items_of_each($each:expr))? ; )*) => {
        #[doc = concat!("All ops of the `", $dialect, "` dialect.")]
        pub static $list: &[&$crate::OpDef] = &[$($view::DEF),*];
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Copy, PartialEq, Eq, Debug)]
            pub struct $view(pub $crate::OpId);

            #[allow(dead_code, unused_assignments, unused_mut)]
            impl $view {
                /// The definition.
                pub const DEF: &'static $crate::OpDef = &$crate::OpDef {
                    name: $name,
                    doc: &[$($doc),*],
                    operands: &[$($crate::Slot {
                        name: stringify!($operand),
                        kind: $crate::ops!(@kind $slot $($class)?),
                        class: $crate::ops!(@class $slot $($class)?),
                        rank: $crate::ops!(@option $($rank)?),
                    }),*],
                    results: &[$($(stringify!($result)),*)?],
                    attrs: &[$($crate::AttrSpec {
                        name: stringify!($attr),
                        kind: $crate::AttrKind::$kind,
                        default: $crate::ops!(@default $($default)?),
                    }),*],
                    traits: $crate::Traits::NONE$(.and($crate::Traits::$flag))*,
                    infer: $crate::ops!(@option $($infer)?),
                    verify: $crate::ops!(@option $($verify)?),
                    eval: $crate::ops!(@option $($eval)?),
                    run: $crate::ops!(@option $($run)?),
                    items: $crate::ops!(@option $($items)?),
                    items_of_each: $crate::ops!(@option $($each)?),
                };

                /// The view of `op`, if it is one of these.
                pub fn of(m: &$crate::Module, op: $crate::OpId) -> Option<Self> {
                    m.is(op, Self::DEF).then_some(Self(op))
                }

                /// The view of the op that computes `v`, if it is one of these.
                pub fn producing(m: &$crate::Module, v: $crate::ValueId) -> Option<Self> {
                    Self::of(m, m.producer(v)?)
                }

                /// Makes one: infers the result types and verifies. Returns the view.
                ///
                /// # Errors
                /// What inference or the verifier says.
                pub fn build(
                    b: &mut $crate::Builder<'_>,
                    operands: &[Option<$crate::ValueId>],
                    attrs: $crate::Attrs,
                ) -> Result<Self, $crate::Diag> {
                    b.create(Self::DEF, operands, attrs).map(Self)
                }

                $crate::ops!(@operands 0usize; $($operand : $slot $($class)?),*);
                $crate::ops!(@results 0usize; $($($result),*)?);
                $($crate::ops!(@attr $attr $kind);)*
            }
        )*
    };

    (@kind $class:ident) => { $crate::SlotKind::Required };
    (@kind $kind:ident $class:ident) => { $crate::SlotKind::$kind };
    (@class $class:ident) => { $crate::Class::$class };
    (@class $kind:ident $class:ident) => { $crate::Class::$class };
    (@default) => { None };
    (@default $default:expr) => { Some(|| $crate::Attr::from($default)) };
    (@option) => { None };
    (@option $f:expr) => { Some($f) };

    (@operands $n:expr; ) => {};
    (@operands $n:expr; $operand:ident : Optional $class:ident $(, $($rest:tt)*)?) => {
        #[doc = concat!("Operand `", stringify!($operand), "`, if present.")]
        pub fn $operand(self, m: &$crate::Module) -> Option<$crate::ValueId> {
            m.operand(self.0, $n)
        }
        $crate::ops!(@operands $n + 1usize; $($($rest)*)?);
    };
    (@operands $n:expr; $operand:ident : Variadic $class:ident) => {
        #[doc = concat!("Operands `", stringify!($operand), "`.")]
        pub fn $operand(self, m: &$crate::Module) -> Vec<$crate::ValueId> {
            m.operands(self.0)[$n..].iter().flatten().copied().collect()
        }
    };
    (@operands $n:expr; $operand:ident : $class:ident $(, $($rest:tt)*)?) => {
        #[doc = concat!("Operand `", stringify!($operand), "`.")]
        pub fn $operand(self, m: &$crate::Module) -> $crate::ValueId {
            m.operand(self.0, $n).expect("invariant: a required operand is present")
        }
        $crate::ops!(@operands $n + 1usize; $($($rest)*)?);
    };

    (@results $n:expr; ) => {};
    (@results $n:expr; $result:ident $(, $($rest:ident),*)?) => {
        #[doc = concat!("Result `", stringify!($result), "`.")]
        pub fn $result(self, m: &$crate::Module) -> $crate::ValueId {
            m.results(self.0)[$n]
        }
        $crate::ops!(@results $n + 1usize; $($($rest),*)?);
    };

    (@attr $attr:ident Int) => { $crate::ops!(@get $attr, Int, i64); };
    (@attr $attr:ident Float) => { $crate::ops!(@get $attr, Float, f64); };
    (@attr $attr:ident Bool) => { $crate::ops!(@get $attr, Bool, bool); };
    (@attr $attr:ident Str) => { $crate::ops!(@get $attr, Str, Box<str>); };
    (@attr $attr:ident Ints) => { $crate::ops!(@get $attr, Ints, Box<[i64]>); };
    (@attr $attr:ident Const) => { $crate::ops!(@get $attr, Const, $crate::ConstId); };
    (@attr $attr:ident Quant) => { $crate::ops!(@get $attr, Quant, $crate::QuantId); };
    (@attr $attr:ident Type) => { $crate::ops!(@get $attr, Type, $crate::Type); };
    (@attr $attr:ident List) => { $crate::ops!(@get $attr, List, Vec<$crate::Attr>); };
    (@attr $attr:ident Fields) => { $crate::ops!(@get $attr, Fields, Vec<(Box<str>, $crate::Attr)>); };
    (@get $attr:ident, $kind:ident, $t:ty) => {
        #[doc = concat!("Attribute `", stringify!($attr), "`.")]
        pub fn $attr(self, m: &$crate::Module) -> $t {
            match m.attr(self.0, stringify!($attr)) {
                Some($crate::Attr::$kind(x)) => x,
                _ => unreachable!("invariant: the verifier checked attribute kinds"),
            }
        }
    };
}
