//! Every IR to IR transformation of qc. A pass is one file with one function and a before/after in its documentation.

pub mod graph;
pub mod loops;
pub mod lower;
pub mod quant;

use qc_ir::Pass;

/// All passes, in the order in which a pipeline uses them.
pub static ALL: &[Pass] = &[
    graph::canonicalize::PASS,
    graph::const_fold::PASS,
    graph::fold_batch_norm::PASS,
    graph::raise_norms::PASS,
    graph::raise_functions::PASS,
    graph::cse::PASS,
    quant::strip_qdq::PASS,
    quant::strip_dynamic::PASS,
    quant::keep_float::PASS,
    quant::quantize::PASS,
    quant::activations_to_u8::PASS,
    quant::hoist_quantize::PASS,
    quant::sink_dequantize::PASS,
    quant::drop_inner_qdq::PASS,
    quant::float_islands::PASS,
    quant::lower_to_quant::PASS,
    quant::drop_float_qdq::PASS,
    quant::pairs_as_written::PASS,
    quant::portable_qdq::PASS,
    quant::raise_dynamic::PASS,
    quant::quantize_dynamic::PASS,
    quant::quantize_weights::PASS,
    graph::fuse_activation::PASS,
    graph::name_operands::PASS,
    graph::sum_depthwise::PASS,
    lower::PASS,
    loops::pack_weights::PASS,
    loops::plan_memory::PASS,
    loops::select_kernels::PASS,
];
