//! The functions a shared object exports, over the one model it holds.
//!
//! The linker renames them: `qc_model_run` becomes `resnet50_run`, and so on (`EXPORTS` of the code generator); only
//! `qc_model_v7` keeps its name in every artefact. They exist in the embedded build only, since they refer to the
//! `QC_MODEL` that the code generator defines.

use crate::abi::*;
use crate::api;
use crate::host::tier_name;
use core::ffi::{c_char, c_void};

unsafe extern "C" {
    static QC_MODEL: Model;
}

static API: Api = api::api(&raw const QC_MODEL);

fn model() -> &'static Model {
    // SAFETY: the linker resolves the symbol to the generated table, which is never written.
    unsafe { &QC_MODEL }
}

/// The function table of this model; the entry of loaders that do not know its prefix.
#[unsafe(no_mangle)]
pub extern "C" fn qc_model_v7() -> *const Api {
    &API
}

/// Makes a context. See [`Api::create`].
///
/// # Safety
/// `out` and `options` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_create(out: *mut *mut Context, options: *const Options) -> i32 {
    // SAFETY: promised by the caller; the model is part of this object.
    unsafe { api::create(&raw const QC_MODEL, out, options) }
}

/// Exports functions of [`api`] unchanged.
macro_rules! export {
    ($($name:ident = $function:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?;)*) => { $(
        /// See the function of [`api`] this forwards to.
        ///
        /// # Safety
        /// As the function it forwards to.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) $(-> $out)? {
            // SAFETY: promised by the caller.
            #[allow(unused_unsafe)]
            unsafe { api::$function($($arg),*) }
        }
    )* };
}

export! {
    qc_model_destroy = destroy(context: *mut Context);
    qc_model_bind_input = bind_input(context: *mut Context, index: usize, data: *const c_void, batch: usize) -> i32;
    qc_model_bind_output = bind_output(context: *mut Context, index: usize, data: *mut c_void, batch: usize) -> i32;
    qc_model_input = input(context: *mut Context, index: usize, batch: usize) -> *mut c_void;
    qc_model_bind_input_shape =
        bind_input_shape(context: *mut Context, index: usize, data: *const c_void, dims: *const i64, rank: usize) -> i32;
    qc_model_input_shape =
        input_shape(context: *mut Context, index: usize, dims: *const i64, rank: usize) -> *mut c_void;
    qc_model_output = output(context: *mut Context, index: usize) -> *mut c_void;
    qc_model_run = run(context: *mut Context) -> i32;
    qc_model_run_profiled = run_profiled(context: *mut Context, times: *mut StepTime, len: usize) -> i32;
    qc_model_info = info(context: *const Context, out: *mut ContextInfo) -> i32;
    qc_model_last_error = last_error(context: *const Context) -> *const c_char;
    qc_model_strerror = strerror(status: i32) -> *const c_char;
}

/// Version of the binary interface.
#[unsafe(no_mangle)]
pub extern "C" fn qc_model_abi() -> u32 {
    ABI_VERSION
}

/// Name of the instruction tier a context uses; an empty string for a null context.
///
/// # Safety
/// `context` is null or came from [`qc_model_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_tier(context: *const Context) -> *const c_char {
    let mut info = ContextInfo { tier: u32::MAX, ..ContextInfo::default() };
    // SAFETY: promised by the caller.
    unsafe { api::info(context, &mut info) };
    tier_name(info.tier).unwrap_or(c"").as_ptr()
}

/// The shape of output `index` in the next run. See [`Api::shape`].
///
/// # Safety
/// `context` is null or came from [`qc_model_create`]; `dims` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_model_output_shape(context: *mut Context, index: usize, dims: *mut [i64; MAX_RANK]) -> i32 {
    // SAFETY: promised by the caller.
    unsafe { api::shape(context, qc_model_n_inputs().saturating_add(index), dims) }
}

/// The model's metadata as JSON.
#[unsafe(no_mangle)]
pub extern "C" fn qc_model_json() -> *const c_char {
    model().json.cast()
}

/// SHA-256 of the source model: 32 bytes.
#[unsafe(no_mangle)]
pub extern "C" fn qc_model_sha256() -> *const u8 {
    model().sha256.as_ptr()
}

/// Number of inputs.
#[unsafe(no_mangle)]
pub extern "C" fn qc_model_n_inputs() -> usize {
    model().n_inputs as usize
}

/// Number of outputs.
#[unsafe(no_mangle)]
pub extern "C" fn qc_model_n_outputs() -> usize {
    model().n_outputs as usize
}

/// Input `index`; null when there is none.
#[unsafe(no_mangle)]
pub extern "C" fn qc_model_input_info(index: usize) -> *const Io {
    entry(model().inputs, model().n_inputs, index)
}

/// Output `index`; null when there is none.
#[unsafe(no_mangle)]
pub extern "C" fn qc_model_output_info(index: usize) -> *const Io {
    entry(model().outputs, model().n_outputs, index)
}

fn entry(list: *const Io, len: u64, index: usize) -> *const Io {
    if (index as u64) < len { list.wrapping_add(index) } else { core::ptr::null() }
}
