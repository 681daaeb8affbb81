//! Four-byte entity ids for `id-arena`.
//!
//! `id_arena::Id<T>` is 16 bytes; with `NonZeroU32` inside, an id and an optional id are both 4, and a cloned module
//! keeps its ids valid. An id is only meaningful together with the module that made it.

/// Declares an id type and its arena behaviour.
macro_rules! entity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::num::NonZeroU32);

        impl $name {
            /// Position in the arena, counted from 0.
            pub fn index(self) -> usize {
                self.0.get() as usize - 1
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}#{}", stringify!($name), self.index())
            }
        }

        impl id_arena::ArenaBehavior for $name {
            type Id = $name;
            fn new_id(_arena: u32, index: usize) -> Self::Id {
                let raw = u32::try_from(index + 1).expect("invariant: an arena holds fewer than 2^32 entities");
                $name(std::num::NonZeroU32::new(raw).expect("invariant: index + 1 is positive"))
            }
            fn index(id: Self::Id) -> usize {
                id.index()
            }
            fn arena_id(_: Self::Id) -> u32 {
                0
            }
            fn new_arena_id() -> u32 {
                0
            }
        }
    };
}

entity!(
    /// A function.
    FuncId
);
entity!(
    /// A region: one block of ops.
    RegionId
);
entity!(
    /// An op.
    OpId
);
entity!(
    /// A value: the result of an op or an argument of a region.
    ValueId
);
entity!(
    /// A constant in the module's pool.
    ConstId
);
entity!(
    /// An interned quantized number format.
    QuantId
);
entity!(
    /// An interned source location.
    LocId
);
entity!(
    /// A node of the user's model.
    NodeId
);
