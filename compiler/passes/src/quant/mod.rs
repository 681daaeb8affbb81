//! Passes that bring quantization in, move it, and turn it into integer ops.

pub mod activations_to_u8;
pub mod channels;
pub mod drop_float_qdq;
pub mod drop_inner_qdq;
mod even_rounding;
mod flat_ends;
pub mod float_islands;
pub mod hoist_quantize;
pub mod keep_float;
pub mod lower_to_quant;
pub mod masks;
pub mod noise;
pub mod pairs_as_written;
pub mod portable_qdq;
pub mod quantize;
pub mod quantize_dynamic;
pub mod quantize_weights;
pub mod raise_dynamic;
mod read_as_floats;
mod rectified;
pub mod sink_dequantize;
pub mod strip_dynamic;
pub mod strip_qdq;
