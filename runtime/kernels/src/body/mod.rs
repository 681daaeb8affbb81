//! Kernel bodies, generic over the tier; no intrinsics here.

pub mod binary;
pub mod choose;
pub mod convert;
pub mod depthwise;
pub mod depthwise_quads;
pub mod gemm;
pub mod gemm_f32;
pub mod layer_norm;
pub mod math;
pub mod movement;
pub mod nms;
pub mod norm;
pub mod pack;
pub mod pool;
pub mod real;
pub mod resample;
pub mod simd;
pub mod softmax;
pub mod sums;
pub mod unary;
