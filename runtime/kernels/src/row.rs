//! Stamps kernels: one `extern "C"` function per row, with the features of its tier, and its entry in the table.
//!
//! In the object that holds the kernels the functions are defined; elsewhere they are declared, to be linked to it.

/// Stamps the rows of one tier.
///
/// ```text
/// rows! { Scalar (isa::Scalar) "sse2";
///     qc_k_add_u8_scalar: BinaryU8 AddU8 [1x64] = binary::add_u8;
/// }
/// ```
///
/// gives `ROWS` and the functions, whose symbols are the names written here. A body is `unsafe fn(witness, *const u8)`; it
/// is inlined, so that it is compiled with the tier's features.
macro_rules! rows {
    ($isa:ident ($witness:ty) $features:literal; $($symbol:ident: $family:ident $variant:ident [$mr:literal x $nr:literal] = $body:expr;)*) => {
        $(
            #[cfg(any(qc_embed, clippy))]
            #[unsafe(no_mangle)]
            #[target_feature(enable = $features)]
            unsafe extern "C" fn $symbol(args: *const u8) {
                // SAFETY: the table's contract: the host has the tier, and `args` is the family's filled struct.
                unsafe { $body(<$witness>::new(), args) }
            }
        )*

        #[cfg(not(any(qc_embed, clippy)))]
        unsafe extern "C" {
            $(fn $symbol(args: *const u8);)*
        }

        /// Rows of this tier.
        pub static ROWS: &[$crate::table::UKernel] = &[$($crate::table::UKernel {
            name: $crate::row::without_prefix(stringify!($symbol)),
            family: $crate::table::Family::$family,
            variant: $crate::table::Variant::$variant,
            isa: $crate::table::Isa::$isa,
            tile: $crate::table::Tile { mr: $mr, nr: $nr },
            run: $symbol,
        },)*];
    };
}
pub(crate) use rows;

/// The kernel name of a symbol: what follows `qc_k_`.
pub(crate) const fn without_prefix(symbol: &'static str) -> &'static str {
    match symbol.split_at_checked(5) {
        Some((_, name)) => name,
        None => symbol,
    }
}
