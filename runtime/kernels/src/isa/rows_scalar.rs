//! Rows of the tier `scalar`.

#[cfg(any(qc_embed, clippy))]
use super::scalar::Scalar as W;
use super::whole::whole_tier;
#[cfg(any(qc_embed, clippy))]
use crate::body::{
    binary, choose, convert, depthwise, gemm, gemm_f32, layer_norm, movement, nms, norm, pack, pool, real, resample,
    softmax, unary,
};

whole_tier! { { Scalar "scalar" (W) "sse2" }
    gemm_u8s8u8_2x16: Gemm U8 [2 x 16] = gemm::gemm::<W, gemm::ToU8<W>>;
    gemm_u8s8u8r_2x16: Gemm U8Res [2 x 16] = gemm::gemm::<W, gemm::ToU8Res<W>>;
    gemm_u8s8f32_2x16: Gemm F32 [2 x 16] = gemm::gemm::<W, gemm::ToF32<W>>;
    gemm_u8s8f32rows_2x16: Gemm F32Rows [2 x 16] = gemm::gemm::<W, gemm::ToF32Rows<W>>;
    gemm_u8s8i32_2x16: Gemm I32 [2 x 16] = gemm::gemm::<W, gemm::ToI32>;
    gemm_f32_2x16: GemmF32 F32 [2 x 16] = gemm_f32::gemm::<W, real::AsF32, gemm_f32::Floats>;
    gemm_s8f32_2x16: GemmF32 F32Bytes [2 x 16] = gemm_f32::gemm::<W, real::AsF32, gemm_f32::Bytes>;
    gemm_f32u8_2x16: GemmF32 U8 [2 x 16] = gemm_f32::gemm::<W, real::AsU8<W>, gemm_f32::Floats>;
    dw_u8s8u8: Dw U8 [1 x 16] = depthwise::u8s8;
}
