//! The pipelines, as text that the command line, reproducers and tests read alike.

use crate::options::{CompileOptions, Guard, Precision};
use qc_passes::quant::keep_float::list;

/// Brings an imported graph into one form; names of tensors in ranges files are those of its result.
pub const FLOAT: &str = "canonicalize,const-fold,fold-batch-norm,canonicalize,const-fold,raise-functions,cse";

/// Removes quantization.
pub const STRIP: &str = "strip-qdq,const-fold,fold-batch-norm,canonicalize,raise-functions,cse";

/// From a canonical graph to integer ops.
pub const INT8: &str = "quantize,activations-to-u8,hoist-quantize,sink-dequantize,cse,drop-inner-qdq,float-islands,\
                        lower-to-quant,drop-float-qdq,fuse-activation,cse";

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
pub fn int8(options: &CompileOptions) -> String {
    if options.exact_qdq {
        return AS_WRITTEN.into();
    }
    let text = match options.guard {
        Guard::NeverSlower if !options.strict_int8 => INT8.into(),
        _ => INT8.replace("float-islands,", ""),
    };
    match keep_float(options) {
        Some(pass) => format!("{pass},{text}"),
        None => text,
    }
}

/// The pass that marks what the options want in f32.
fn keep_float(options: &CompileOptions) -> Option<String> {
    let (types, nodes): (Vec<&String>, Vec<&String>) = options.keep_fp32.iter().partition(|k| k.starts_with("op:"));
    let types: Vec<String> = types.into_iter().map(|t| t.trim_start_matches("op:").to_string()).collect();
    let nodes: Vec<String> = nodes.into_iter().cloned().collect();
    let all = [("nodes", &nodes), ("types", &types), ("only", &options.quantize_ops)];
    let given = all.iter().filter(|(_, items)| !items.is_empty());
    let words: Vec<String> = given.map(|(name, items)| format!("{name}={}", list(items))).collect();
    (!words.is_empty()).then(|| format!("keep-float{{{}}}", words.join(" ")))
}
