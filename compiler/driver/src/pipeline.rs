//! The pipelines, as text that the command line, reproducers and tests read alike.

use crate::options::{CompileOptions, Precision};

/// Brings an imported graph into one form; names of tensors in ranges files are those of its result.
pub const FLOAT: &str = "canonicalize,const-fold,fold-batch-norm,canonicalize,const-fold,cse";

/// Removes quantization.
pub const STRIP: &str = "strip-qdq,const-fold,fold-batch-norm,canonicalize,cse";

/// From a canonical graph to integer ops.
pub const INT8: &str =
    "quantize,activations-to-u8,hoist-quantize,sink-dequantize,cse,drop-inner-qdq,lower-to-quant,fuse-activation,cse";

/// From a canonical graph to one that computes every quantize/dequantize pair as written.
pub const AS_WRITTEN: &str = "quantize,activations-to-u8,pairs-as-written,fuse-activation,cse";

/// From integer ops to planned loop code.
pub const LOOPS: &str = "lower-to-loops,pack-weights,plan-memory";

/// The part before ranges are attached.
pub fn float(options: &CompileOptions) -> String {
    match options.precision {
        Precision::Fp32 => format!("{FLOAT},{STRIP}"),
        Precision::Auto | Precision::Int8 => FLOAT.into(),
    }
}

/// The part up to integer ops, or to floats between pairs.
pub fn int8(options: &CompileOptions) -> &'static str {
    if options.exact_qdq { AS_WRITTEN } else { INT8 }
}
