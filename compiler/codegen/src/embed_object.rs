//! The symbols that the executor's object ([`Target::objects`](crate::Target::objects)) offers, and those it needs.

/// Symbol under which generated code defines the model's table, a `qc_embed::abi::Model`.
pub const MODEL_SYMBOL: &str = "QC_MODEL";

/// Symbol whose address the linker sets to the weights.
pub const WEIGHTS_SYMBOL: &str = "QC_WEIGHTS";

/// Functions of the C interface: `qc_model_<word>` inside, `<prefix>_<word>` outside.
const WORDS: &[&str] = &[
    "create",
    "destroy",
    "bind_input",
    "bind_output",
    "input",
    "bind_input_shape",
    "input_shape",
    "output_shape",
    "output",
    "run",
    "run_profiled",
    "info",
    "last_error",
    "strerror",
    "abi",
    "tier",
    "json",
    "sha256",
    "n_inputs",
    "n_outputs",
    "input_info",
    "output_info",
];

/// What a model named `prefix` exports, as pairs of exported name and internal symbol.
pub fn exports(prefix: &str) -> Vec<(String, String)> {
    let named = WORDS.iter().map(|word| (format!("{prefix}_{word}"), format!("qc_model_{word}")));
    let entry = qc_embed::abi::ENTRY_SYMBOL.to_string();
    named.chain([(entry.clone(), entry)]).collect()
}
