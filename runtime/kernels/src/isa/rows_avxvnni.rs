//! Rows of the tier `avxvnni`: the products; for the rest its hosts run `avx2`.

#[cfg(any(qc_embed, clippy))]
use super::avx2::Avx2;
#[cfg(any(qc_embed, clippy))]
use super::avxvnni::AvxVnni;
#[cfg(any(qc_embed, clippy))]
use crate::body::{depthwise_quads, gemm};
use crate::row::rows;

rows! { AvxVnni "avxvnni" (AvxVnni) "avx2,fma,avxvnni";
    gemm_u8s8u8_6x16: Gemm U8 [6 x 16] = gemm::gemm::<AvxVnni, gemm::ToU8<Avx2>>;
    gemm_u8s8u8r_6x16: Gemm U8Res [6 x 16] = gemm::gemm::<AvxVnni, gemm::ToU8Res<Avx2>>;
    gemm_u8s8f32_6x16: Gemm F32 [6 x 16] = gemm::gemm::<AvxVnni, gemm::ToF32<Avx2>>;
    gemm_u8s8f32rows_6x16: Gemm F32Rows [6 x 16] = gemm::gemm::<AvxVnni, gemm::ToF32Rows<Avx2>>;
    gemm_u8s8i32_6x16: Gemm I32 [6 x 16] = gemm::gemm::<AvxVnni, gemm::ToI32>;
    dw_u8s8u8: Dw U8 [1 x 32] = depthwise_quads::u8s8;
}
