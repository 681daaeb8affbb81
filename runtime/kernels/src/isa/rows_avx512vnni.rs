//! Rows of the tier `avx512vnni`.

#[cfg(any(qc_embed, clippy))]
use super::avx512vnni::Avx512Vnni as W;
#[cfg(any(qc_embed, clippy))]
use super::depthwise_avx512vnni;
use super::whole::whole_tier;
#[cfg(any(qc_embed, clippy))]
use crate::body::{
    binary, choose, convert, depthwise, gemm, gemm_f32, layer_norm, movement, nms, norm, pack, pool, real, resample,
    softmax, unary,
};

whole_tier! { { Avx512Vnni "avx512vnni" (W) "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni" }
    gemm_u8s8u8_6x64: Gemm U8 [6 x 64] = gemm::gemm::<W, gemm::ToU8<W>>;
    gemm_u8s8u8r_6x64: Gemm U8Res [6 x 64] = gemm::gemm::<W, gemm::ToU8Res<W>>;
    gemm_u8s8f32_6x64: Gemm F32 [6 x 64] = gemm::gemm::<W, gemm::ToF32<W>>;
    gemm_u8s8f32rows_6x64: Gemm F32Rows [6 x 64] = gemm::gemm::<W, gemm::ToF32Rows<W>>;
    gemm_u8s8i32_6x64: Gemm I32 [6 x 64] = gemm::gemm::<W, gemm::ToI32>;
    gemm_f32_6x64: GemmF32 F32 [6 x 64] = gemm_f32::gemm::<W, real::AsF32, gemm_f32::Floats>;
    gemm_s8f32_6x64: GemmF32 F32Bytes [6 x 64] = gemm_f32::gemm::<W, real::AsF32, gemm_f32::Bytes>;
    gemm_f32u8_6x64: GemmF32 U8 [6 x 64] = gemm_f32::gemm::<W, real::AsU8<W>, gemm_f32::Floats>;
    dw_u8s8u8: Dw U8 [2 x 64] = depthwise_avx512vnni::u8s8;
}
