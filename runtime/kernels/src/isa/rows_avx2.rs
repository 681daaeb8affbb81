//! Rows of the tier `avx2`.

#[cfg(any(qc_embed, clippy))]
use super::{avx2::Avx2 as W, gemm_avx2};
#[cfg(any(qc_embed, clippy))]
use crate::body::{binary, convert, depthwise, gemm, gemm_f32, movement, norm, pool, real, unary};
use crate::row::rows;

rows! { Avx2 (W) "avx2,fma";
    qc_k_gemm_u8s8u8_6x16_avx2: Gemm U8 [6 x 16] = gemm_avx2::u8s8::<gemm::ToU8<W>>;
    qc_k_gemm_u8s8u8r_6x16_avx2: Gemm U8Res [6 x 16] = gemm_avx2::u8s8::<gemm::ToU8Res<W>>;
    qc_k_gemm_u8s8f32_6x16_avx2: Gemm F32 [6 x 16] = gemm_avx2::u8s8::<gemm::ToF32<W>>;
    qc_k_gemm_u8s8i32_6x16_avx2: Gemm I32 [6 x 16] = gemm_avx2::u8s8::<gemm::ToI32>;
    qc_k_gemm_f32_6x16_avx2: GemmF32 F32 [6 x 16] = gemm_f32::gemm::<W, real::AsF32>;
    qc_k_gemm_f32u8_6x16_avx2: GemmF32 U8 [6 x 16] = gemm_f32::gemm::<W, real::AsU8<W>>;
    qc_k_dw_u8s8u8_avx2: Dw U8 [1 x 16] = depthwise::u8s8;
    qc_k_dw_f32_avx2: DwF32 F32 [1 x 16] = depthwise::f32::<W, real::AsF32>;
    qc_k_dw_f32u8_avx2: DwF32 U8 [1 x 16] = depthwise::f32::<W, real::AsU8<W>>;
    qc_k_pool_max_u8_avx2: Pool MaxU8 [1 x 64] = pool::max_u8;
    qc_k_pool_avg_u8_avx2: Pool AvgU8 [1 x 64] = pool::avg_u8;
    qc_k_pool_max_f32_avx2: Pool MaxF32 [1 x 16] = pool::max_f32;
    qc_k_pool_avg_f32_avx2: Pool AvgF32 [1 x 16] = pool::avg_f32;
    qc_k_add_u8_avx2: BinaryU8 AddU8 [1 x 64] = binary::add_u8;
    qc_k_mul_u8_avx2: BinaryU8 MulU8 [1 x 64] = binary::mul_u8;
    qc_k_add_f32_avx2: BinaryF32 AddF32 [1 x 16] = binary::float::<W, binary::Add>;
    qc_k_sub_f32_avx2: BinaryF32 SubF32 [1 x 16] = binary::float::<W, binary::Sub>;
    qc_k_mul_f32_avx2: BinaryF32 MulF32 [1 x 16] = binary::float::<W, binary::Mul>;
    qc_k_div_f32_avx2: BinaryF32 DivF32 [1 x 16] = binary::float::<W, binary::Div>;
    qc_k_max_f32_avx2: BinaryF32 MaxF32 [1 x 16] = binary::float::<W, binary::Max>;
    qc_k_min_f32_avx2: BinaryF32 MinF32 [1 x 16] = binary::float::<W, binary::Min>;
    qc_k_lut_u8_avx2: Unary LutU8 [1 x 64] = unary::lut_u8;
    qc_k_clamp_f32_avx2: Unary ClampF32 [1 x 16] = unary::map::<W, unary::Clamp>;
    qc_k_sigmoid_f32_avx2: Unary SigmoidF32 [1 x 16] = unary::map::<W, unary::Sigmoid>;
    qc_k_tanh_f32_avx2: Unary TanhF32 [1 x 16] = unary::map::<W, unary::Tanh>;
    qc_k_exp_f32_avx2: Unary ExpF32 [1 x 16] = unary::map::<W, unary::Exp>;
    qc_k_sqrt_f32_avx2: Unary SqrtF32 [1 x 16] = unary::map::<W, unary::Sqrt>;
    qc_k_abs_f32_avx2: Unary AbsF32 [1 x 16] = unary::map::<W, unary::Abs>;
    qc_k_erf_f32_avx2: Unary ErfF32 [1 x 16] = unary::map::<W, unary::Erf>;
    qc_k_hard_sigmoid_f32_avx2: Unary HardSigmoidF32 [1 x 16] = unary::map::<W, unary::HardSigmoid>;
    qc_k_hard_swish_f32_avx2: Unary HardSwishF32 [1 x 16] = unary::map::<W, unary::HardSwish>;
    qc_k_leaky_relu_f32_avx2: Unary LeakyReluF32 [1 x 16] = unary::map::<W, unary::LeakyRelu>;
    qc_k_elu_f32_avx2: Unary EluF32 [1 x 16] = unary::map::<W, unary::Elu>;
    qc_k_swish_f32_avx2: Unary SwishF32 [1 x 16] = unary::map::<W, unary::Swish>;
    qc_k_gelu_f32_avx2: Unary GeluF32 [1 x 16] = unary::map::<W, unary::Gelu>;
    qc_k_gelu_tanh_f32_avx2: Unary GeluTanhF32 [1 x 16] = unary::map::<W, unary::GeluTanh>;
    qc_k_quantize_f32u8_avx2: Quantize U8 [1 x 64] = convert::quantize;
    qc_k_dequantize_u8f32_avx2: Dequantize F32 [1 x 16] = convert::dequantize;
    qc_k_move_b1_avx2: Move B1 [1 x 1] = movement::copy::<W, u8>;
    qc_k_move_b4_avx2: Move B4 [1 x 1] = movement::copy::<W, u32>;
    qc_k_fill_b1_avx2: Fill B1 [1 x 64] = movement::fill_b1;
    qc_k_fill_b4_avx2: Fill B4 [1 x 16] = movement::fill_b4;
    qc_k_softmax_f32_avx2: Softmax F32 [1 x 16] = norm::softmax;
    qc_k_mean_f32_avx2: Mean F32 [1 x 16] = norm::mean;
    qc_k_lrn_f32_avx2: Lrn F32 [1 x 16] = norm::lrn;
}
