//! Rows of the tier `avx2`.

use super::whole::whole_tier;
#[cfg(any(qc_embed, clippy))]
use super::{avx2::Avx2 as W, gemm_avx2};
#[cfg(any(qc_embed, clippy))]
use crate::body::{
    binary, choose, convert, depthwise, gemm, gemm_f32, layer_norm, movement, nms, norm, pack, pool, real, resample,
    softmax, unary,
};

whole_tier! { { Avx2 "avx2" (W) "avx2,fma" }
    gemm_u8s8u8_6x16: Gemm U8 [6 x 16] = gemm_avx2::u8s8::<gemm::ToU8<W>>;
    gemm_u8s8u8r_6x16: Gemm U8Res [6 x 16] = gemm_avx2::u8s8::<gemm::ToU8Res<W>>;
    gemm_u8s8f32_6x16: Gemm F32 [6 x 16] = gemm_avx2::u8s8::<gemm::ToF32<W>>;
    gemm_u8s8f32rows_6x16: Gemm F32Rows [6 x 16] = gemm_avx2::u8s8::<gemm::ToF32Rows<W>>;
    gemm_u8s8i32_6x16: Gemm I32 [6 x 16] = gemm_avx2::u8s8::<gemm::ToI32>;
    gemm_f32_6x16: GemmF32 F32 [6 x 16] = gemm_f32::gemm::<W, real::AsF32, gemm_f32::Floats>;
    gemm_s8f32_6x16: GemmF32 F32Bytes [6 x 16] = gemm_f32::gemm::<W, real::AsF32, gemm_f32::Bytes>;
    gemm_f32u8_6x16: GemmF32 U8 [6 x 16] = gemm_f32::gemm::<W, real::AsU8<W>, gemm_f32::Floats>;
    dw_u8s8u8: Dw U8 [1 x 16] = depthwise::u8s8;
}
