//! The JIT: an image in executable memory of this process.

use crate::embed_object::WEIGHTS_SYMBOL;
use crate::image::{ImageInput, define};
use crate::isa::isa;
use crate::weights::{Placed, WeightStore, Weights};
use crate::{CodegenError, Target};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::default_libcall_names;
use qc_embed::abi::Model;
use qc_kernels::table;

/// A model in executable memory; everything its table points to lives as long as this.
pub struct JitModel {
    model: *const Model,
    // Freed in `drop`; an `Option` because freeing takes the module by value.
    module: Option<JITModule>,
    _weights: Placed,
}

// SAFETY: after `finalize_definitions` nothing in the module is written any more, and `JITModule` has no thread affinity.
unsafe impl Send for JitModel {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for JitModel {}

impl JitModel {
    /// The model's table, valid as long as `self`.
    pub fn model(&self) -> *const Model {
        self.model
    }
}

impl Drop for JitModel {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the owner of this value keeps it until no context of the model exists, so no code of it runs.
            unsafe { module.free_memory() };
        }
    }
}

/// Compiles an image into this process; with a store, its weights are blocks there.
///
/// # Errors
/// Code for another machine than this one, loop code that cannot be compiled, or a failure inside Cranelift.
pub fn jit(
    input: &ImageInput<'_>,
    store: Option<&WeightStore>,
    dump: Option<&mut String>,
) -> Result<JitModel, CodegenError> {
    if !input.target.is_host() {
        let known = Target::host()?.name.to_string();
        return Err(CodegenError::Target { asked: format!("{} to run in this process", input.target.name), known });
    }
    let (weights, mut places) = Weights::collect(input.variants);
    let placed = store.map_or_else(|| Placed::alone(&weights), |store| store.place(&weights, &mut places));
    let mut builder = JITBuilder::with_isa(isa(input.target, false, input.functions())?, default_libcall_names());
    for row in table::rows() {
        builder.symbol(format!("qc_k_{}", row.name), row.run as *const u8);
    }
    builder.symbol(WEIGHTS_SYMBOL, placed.base);
    let mut module = JITModule::new(builder);
    let id = define(&mut module, input, &places, weights.len(), dump)?;
    module.finalize_definitions()?;
    let (address, _) = module.get_finalized_data(id);
    Ok(JitModel { model: address.cast(), module: Some(module), _weights: placed })
}

/// A predictor that owns a model in executable memory.
///
/// # Errors
/// When the tables contradict themselves, which would be a defect.
pub fn predictor(model: JitModel) -> Result<qc_runtime::Predictor, qc_runtime::LoadError> {
    let table = model.model();
    // SAFETY: the predictor keeps `model`, which owns code, tables and weights, until the last context is gone, and
    // `define` built the tables as `qc_embed::abi` says.
    unsafe { qc_runtime::Predictor::from_raw(Box::new(model), table) }
}
