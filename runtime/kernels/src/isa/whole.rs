//! The rows that every whole tier has, from bodies that are generic over its vectors.

/// Stamps the rows of a whole tier: its own, which follow the header, those below, and all [`functions`](crate::functions).
/// The tier's vectors are `W` where this is expanded.
macro_rules! whole_tier {
    ($header:tt $($own:tt)*) => {
        $crate::functions::functions! { $crate::isa::whole::whole_tier_and_functions, { $header $($own)* } }
    };
}
pub(super) use whole_tier;

macro_rules! whole_tier_and_functions {
    ({ { $($header:tt)* } $($own:tt)* } $($(#[$doc:meta])* $kernel:ident $variant:ident $name:ident {
            reference($rx:ident, $rp:pat) => $reference:expr;
            vectors($s:ident, $x:ident, $p:pat) => $vectors:expr;
        })*) => {
        $crate::row::rows! { $($header)*; $($own)*
            dw_f32: DwF32 F32 [1 x 16] = depthwise::f32::<W, real::AsF32>;
            dw_f32u8: DwF32 U8 [1 x 16] = depthwise::f32::<W, real::AsU8<W>>;
            pool_max_u8: Pool MaxU8 [1 x 64] = pool::max_u8;
            pool_avg_u8: Pool AvgU8 [1 x 64] = pool::avg_u8;
            pool_max_f32: Pool MaxF32 [1 x 16] = pool::max_f32;
            pool_avg_f32: Pool AvgF32 [1 x 16] = pool::avg_f32;
            add_u8: BinaryU8 AddU8 [1 x 64] = binary::add_u8;
            mul_u8: BinaryU8 MulU8 [1 x 64] = binary::mul_u8;
            add_f32: BinaryF32 AddF32 [1 x 16] = binary::float::<W, binary::Add>;
            sub_f32: BinaryF32 SubF32 [1 x 16] = binary::float::<W, binary::Sub>;
            mul_f32: BinaryF32 MulF32 [1 x 16] = binary::float::<W, binary::Mul>;
            div_f32: BinaryF32 DivF32 [1 x 16] = binary::float::<W, binary::Div>;
            max_f32: BinaryF32 MaxF32 [1 x 16] = binary::float::<W, binary::Max>;
            min_f32: BinaryF32 MinF32 [1 x 16] = binary::float::<W, binary::Min>;
            pow_f32: BinaryF32 PowF32 [1 x 16] = binary::float::<W, binary::Pow>;
            rem_f32: BinaryF32 RemF32 [1 x 16] = binary::float::<W, binary::Rem>;
            lut_u8: Unary LutU8 [1 x 64] = unary::lut_u8;
            quantize_f32u8: Quantize U8 [1 x 64] = convert::quantize;
            dequantize_u8f32: Dequantize F32 [1 x 16] = convert::dequantize;
            range_f32: Range F32 [1 x 16] = convert::ranges;
            dynamic_quantize_f32u8: DynamicQuantize U8 [1 x 64] = convert::dynamic_quantize;
            move_b1: Move B1 [1 x 1] = movement::copy::<W, u8>;
            move_b4: Move B4 [1 x 1] = movement::copy::<W, u32>;
            gather_b1: Gather B1 [1 x 64] = movement::gather;
            gather_f32: Gather F32 [1 x 16] = movement::gather_real::<W, movement::Floats>;
            gather_s8f32: Gather F32Bytes [1 x 16] = movement::gather_real::<W, movement::Scaled>;
            resample_f32: Resample F32 [1 x 16] = resample::resample;
            top_k_f32: TopK F32 [1 x 1] = choose::top_k;
            nms_i32: Nms I32 [1 x 1] = nms::greedy;
            nms_f32: Nms F32 [1 x 1] = nms::matrix;
            scatter_b1: Scatter B1 [1 x 64] = choose::scatter;
            scatter_add_f32: Scatter AddF32 [1 x 16] = choose::scatter_real::<W, binary::Add>;
            scatter_mul_f32: Scatter MulF32 [1 x 16] = choose::scatter_real::<W, binary::Mul>;
            scatter_max_f32: Scatter MaxF32 [1 x 16] = choose::scatter_real::<W, binary::Max>;
            scatter_min_f32: Scatter MinF32 [1 x 16] = choose::scatter_real::<W, binary::Min>;
            pack_b1: Pack B1 [1 x 64] = pack::b1;
            pack_b4: Pack B4 [1 x 64] = pack::b4;
            fill_b1: Fill B1 [1 x 64] = movement::fill_b1;
            fill_b4: Fill B4 [1 x 16] = movement::fill_b4;
            softmax_f32: Softmax F32 [1 x 16] = softmax::softmax;
            layer_norm_f32: LayerNorm F32 [1 x 16] = layer_norm::layer_norm::<W, true>;
            layer_norm_rms: LayerNorm Rms [1 x 16] = layer_norm::layer_norm::<W, false>;
            mean_f32: Mean F32 [1 x 16] = norm::mean;
            lrn_f32: Lrn F32 [1 x 16] = norm::lrn;
            $($kernel: Unary $variant [1 x 16] = unary::map::<W, unary::$name>;)*
        }
    };
}
pub(super) use whole_tier_and_functions;
