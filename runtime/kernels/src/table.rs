//! The table of kernels: what exists, what it needs, and which row to call.
//!
//! A row is stamped together with its function (see `row.rs`), so a kernel cannot exist without its entry. The compiler
//! selects by family, variant and tier; tests and benchmarks walk [`rows`].

use crate::args::{self, Field};
use crate::functions::functions;
use crate::tier::{Features, Tier};

/// Kernel families; one argument struct each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Family {
    /// u8 × s8 convolution and matrix product, [`args::GemmArgs`].
    Gemm,
    /// f32 convolution and matrix product, [`args::GemmF32Args`].
    GemmF32,
    /// u8 × s8 depthwise convolution, [`args::DwArgs`].
    Dw,
    /// f32 depthwise convolution, [`args::DwF32Args`].
    DwF32,
    /// Pooling, [`args::PoolArgs`].
    Pool,
    /// Element-wise with two u8 operands, [`args::BinaryU8Args`].
    BinaryU8,
    /// Element-wise with two operands in real numbers, [`args::BinaryF32Args`].
    BinaryF32,
    /// Element-wise with one operand, [`args::UnaryArgs`].
    Unary,
    /// f32 to u8, [`args::QuantizeArgs`].
    Quantize,
    /// u8 to f32, [`args::DequantizeArgs`].
    Dequantize,
    /// The ranges of rows, [`args::RangeArgs`].
    Range,
    /// f32 rows to u8 by the range of each or of all, [`args::DynamicQuantizeArgs`].
    DynamicQuantize,
    /// Strided copy, [`args::MoveArgs`].
    Move,
    /// Rows chosen by indices, [`args::GatherArgs`].
    Gather,
    /// Weighted sums of rows, [`args::ResampleArgs`].
    Resample,
    /// Places of the largest elements of rows, [`args::TopKArgs`].
    TopK,
    /// Boxes that overlap no better one, [`args::NmsArgs`].
    Nms,
    /// Rows stored where indices say, [`args::ScatterArgs`].
    Scatter,
    /// Packing of a right side, [`args::PackArgs`].
    Pack,
    /// Fill, [`args::FillArgs`].
    Fill,
    /// Softmax, [`args::SoftmaxArgs`].
    Softmax,
    /// Layer normalization of rows, [`args::LayerNormArgs`].
    LayerNorm,
    /// Means of rows, [`args::MeanArgs`].
    Mean,
    /// Local response normalization, [`args::LrnArgs`].
    Lrn,
}

macro_rules! families {
    ($($family:ident $name:literal $args:ident $variants:expr;)*) => {
        impl Family {
            /// All families.
            pub const ALL: &'static [Family] = &[$(Family::$family),*];

            /// Name as written in dumps.
            pub const fn name(self) -> &'static str {
                match self { $(Family::$family => $name),* }
            }

            /// Fields of the family's argument struct.
            pub const fn fields(self) -> &'static [Field] {
                match self { $(Family::$family => args::$args::FIELDS),* }
            }

            /// Size of the argument struct in bytes; its alignment is 8.
            pub const fn args_size(self) -> usize {
                match self { $(Family::$family => size_of::<args::$args>()),* }
            }

            /// Variants of the family; each exists at least in the scalar tier.
            pub const fn variants(self) -> &'static [Variant] {
                use Variant::*;
                match self { $(Family::$family => $variants),* }
            }
        }
    };
}

families! {
    Gemm "gemm" GemmArgs &[U8, U8Res, F32, F32Rows, I32];
    GemmF32 "gemm_f32" GemmF32Args &[F32, U8, F32Bytes];
    Dw "dw" DwArgs &[U8];
    DwF32 "dw_f32" DwF32Args &[F32, U8];
    Pool "pool" PoolArgs &[MaxU8, AvgU8, MaxF32, AvgF32];
    BinaryU8 "binary_u8" BinaryU8Args &[AddU8, MulU8];
    BinaryF32 "binary_f32" BinaryF32Args &[AddF32, SubF32, MulF32, DivF32, MaxF32, MinF32, PowF32, RemF32];
    Unary "unary" UnaryArgs UNARY;
    Quantize "quantize" QuantizeArgs &[U8];
    Dequantize "dequantize" DequantizeArgs &[F32];
    Range "range" RangeArgs &[F32];
    DynamicQuantize "dynamic_quantize" DynamicQuantizeArgs &[U8];
    Move "move" MoveArgs &[B1, B4];
    Gather "gather" GatherArgs &[B1, F32, F32Bytes];
    Resample "resample" ResampleArgs &[F32];
    TopK "top_k" TopKArgs &[F32];
    Nms "nms" NmsArgs &[I32, F32];
    Scatter "scatter" ScatterArgs &[B1, AddF32, MulF32, MaxF32, MinF32];
    Pack "pack" PackArgs &[B1, B4];
    Fill "fill" FillArgs &[B1, B4];
    Softmax "softmax" SoftmaxArgs &[F32];
    LayerNorm "layer_norm" LayerNormArgs &[F32, Rms];
    Mean "mean" MeanArgs &[F32];
    Lrn "lrn" LrnArgs &[F32];
}

impl Family {
    /// The field called `name`.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|f| f.name == name)
    }

    /// The family called `name`.
    pub fn from_name(name: &str) -> Option<Family> {
        Family::ALL.iter().copied().find(|f| f.name() == name)
    }
}

macro_rules! variants {
    ({ $($(#[$fixed_doc:meta])* $fixed:ident $fixed_name:literal,)* } $($(#[$doc:meta])* $kernel:ident $variant:ident $name:ident {
        reference($rx:ident, $rp:pat) => $reference:expr;
        vectors($s:ident, $x:ident, $p:pat) => $vectors:expr;
    })*) => {
        /// What a kernel of a family computes or stores; the family's argument struct defines each.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        pub enum Variant { $($(#[$fixed_doc])* $fixed,)* $($(#[$doc])* $variant,)* }

        impl Variant {
            /// All variants of all families.
            pub const ALL: &'static [Variant] = &[$(Variant::$fixed,)* $(Variant::$variant),*];

            /// Name as written in dumps.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Variant::$fixed => $fixed_name,)*
                    $(Variant::$variant => stringify!($kernel),)*
                }
            }
        }

        /// Those of the family `unary`: the table of bytes, and every function.
        const UNARY: &[Variant] = &[Variant::LutU8, $(Variant::$variant),*];
    };
}

functions! { variants, {
    /// Quantized to u8.
    U8 "u8",
    /// Requantized to u8 after adding a residual.
    U8Res "u8r",
    /// Float result.
    F32 "f32",
    /// By the root of the mean square.
    Rms "rms",
    /// Float result of rows in formats of their own.
    F32Rows "f32_rows",
    /// Float result of weights or rows that are stored as s8.
    F32Bytes "f32_bytes",
    /// Raw accumulators.
    I32 "i32",
    /// Maximum of bytes.
    MaxU8 "max_u8",
    /// Average of bytes.
    AvgU8 "avg_u8",
    /// Maximum of floats.
    MaxF32 "max_f32",
    /// Average of floats.
    AvgF32 "avg_f32",
    /// Sum of quantized bytes.
    AddU8 "add_u8",
    /// Product of quantized bytes.
    MulU8 "mul_u8",
    /// Sum.
    AddF32 "add_f32",
    /// Difference.
    SubF32 "sub_f32",
    /// Product.
    MulF32 "mul_f32",
    /// Quotient.
    DivF32 "div_f32",
    /// Minimum.
    MinF32 "min_f32",
    /// `a` to the power of `b`.
    PowF32 "pow_f32",
    /// What a division leaves, with the sign of `a`.
    RemF32 "rem_f32",
    /// Map of bytes by table.
    LutU8 "lut_u8",
    /// Elements of one byte.
    B1 "b1",
    /// Elements of four bytes.
    B4 "b4",
} }

impl Variant {
    /// The variant called `name`.
    pub fn from_name(name: &str) -> Option<Variant> {
        Variant::ALL.iter().copied().find(|v| v.name() == name)
    }
}

/// The block of results that a kernel computes at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    /// Largest number of rows (pixels); row counts that it divides into nearly equal parts run best.
    pub mr: usize,
    /// Columns (channels, elements).
    pub nr: usize,
}

/// A kernel.
pub struct UKernel {
    /// `family_types_[MRxNR_]tier`; the symbol is `qc_k_` and this name.
    pub name: &'static str,
    /// Which argument struct it takes.
    pub family: Family,
    /// What it computes.
    pub variant: Variant,
    /// The tier it belongs to.
    pub tier: Tier,
    /// What the host must offer.
    pub needs: Features,
    /// Its block of results.
    pub tile: Tile,
    /// The function. Its argument points to the family's struct, filled as that struct's documentation says; the host
    /// offers `needs`.
    pub run: unsafe extern "C" fn(*const u8),
}

/// All kernels, those of the most preferred tier first.
pub fn rows() -> impl Iterator<Item = &'static UKernel> {
    Tier::ALL.iter().rev().flat_map(|t| t.rows())
}

/// The kernel called `name`.
pub fn by_name(name: &str) -> Option<&'static UKernel> {
    rows().find(|k| k.name == name)
}

/// The first kernel of `family` and `variant` in the table that needs no more than a host of `tier` offers; `None` only if
/// the family has no such variant.
pub fn select(family: Family, variant: Variant, tier: Tier) -> Option<&'static UKernel> {
    let offered = tier.needs();
    rows().find(|k| k.family == family && k.variant == variant && offered.contain(k.needs))
}
