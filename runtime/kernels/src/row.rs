//! Stamps kernels: one `extern "C"` function per row, with the features of its tier, and its entry in the table.
//!
//! In the object that holds the kernels the functions are defined; elsewhere they are declared, to be linked to it.

/// Stamps the rows of one tier.
///
/// ```text
/// rows! { Scalar "scalar" (isa::Scalar) "sse2";
///     add_u8: BinaryU8 AddU8 [1 x 64] = binary::add_u8;
/// }
/// ```
///
/// gives `NAME`, `NEEDS`, `ROWS` and the functions, here one with the symbol `qc_k_add_u8_scalar`. A body is `unsafe fn(witness, *const u8)`; it
/// is inlined, so that it is compiled with the tier's features.
macro_rules! rows {
    ($tier:ident $name:literal ($witness:ty) $features:literal; $($kernel:ident: $family:ident $variant:ident [$mr:literal x $nr:literal] = $body:expr;)*) => {
        $(
            #[cfg(any(qc_embed, clippy))]
            #[unsafe(export_name = concat!("qc_k_", stringify!($kernel), "_", $name))]
            #[target_feature(enable = $features)]
            unsafe extern "C" fn $kernel(args: *const u8) {
                // SAFETY: the table's contract: the host has the tier, and `args` is the family's filled struct.
                unsafe { $body(<$witness>::new(), args) }
            }
        )*

        #[cfg(not(any(qc_embed, clippy)))]
        unsafe extern "C" {
            $(
                #[link_name = concat!("qc_k_", stringify!($kernel), "_", $name)]
                fn $kernel(args: *const u8);
            )*
        }

        /// Name of the tier.
        pub const NAME: &str = $name;

        /// The name for C.
        pub const C_NAME: &core::ffi::CStr = match core::ffi::CStr::from_bytes_with_nul(concat!($name, "\0").as_bytes()) {
            Ok(name) => name,
            Err(_) => panic!("a name has no NUL"),
        };

        /// What every row needs of the host.
        pub const NEEDS: $crate::tier::Features = $crate::tier::Features::of($features);

        /// Rows of this tier.
        pub static ROWS: &[$crate::table::UKernel] = &[$($crate::table::UKernel {
            name: concat!(stringify!($kernel), "_", $name),
            family: $crate::table::Family::$family,
            variant: $crate::table::Variant::$variant,
            tier: $crate::tier::Tier::$tier,
            needs: NEEDS,
            tile: $crate::table::Tile { mr: $mr, nr: $nr },
            run: $kernel,
        },)*];
    };
}
pub(crate) use rows;
