//! The tables a compiled model consists of, and the function table a host calls.
//!
//! Everything here is `#[repr(C)]` and read by three parties: the code generator writes [`Model`] and what hangs off it,
//! the executor walks it, and hosts reach the executor through [`Api`]. A change of any layout here is a change of
//! [`ABI_VERSION`]. All pointers inside a [`Model`] are valid for as long as the model is loaded and are never written.
//!
//! Strings are NUL-terminated UTF-8. Counts are `u64` so that 64-bit objects need no padding rules.

use core::ffi::{c_char, c_void};

/// Version of every layout in this file; the `v7` of `qc_model_v7`.
pub const ABI_VERSION: u32 = 7;

/// Name of the one generic symbol every model exports: `extern "C" fn() -> *const Api`.
pub const ENTRY_SYMBOL: &str = "qc_model_v7";

/// Readable bytes before and after the arena, and after the weights, that kernels may touch beyond a buffer.
pub const SLACK_BYTES: usize = 128;

/// Alignment of the arena and of the weights, in bytes.
pub const ALIGN_BYTES: usize = 64;

/// Largest rank of an input or output.
pub const MAX_RANK: usize = 8;

/// What one call of the model works on. Steps read it and never write it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Base of the arena: 64-byte aligned, [`Variant::arena_bytes`] long, with [`SLACK_BYTES`] on both sides.
    /// Zero when the context is made and never cleared between runs.
    pub arena: *mut u8,
    /// [`Model::weights`].
    pub weights: *const u8,
    /// Inputs, then outputs, in model order; each points at the first batch item of this call and is aligned to its
    /// element size only. Writes stay inside `bytes_per_item * batch`; kernels may read up to 64 bytes past the end.
    pub io: *const *mut u8,
}

/// Runs tasks `begin..end` of one step. `operands` are what tells the step from others that share its code: offsets of
/// buffers, scales, zero points.
///
/// # Safety
/// The frame is valid for the variant the step belongs to, the operands are those of the step, and `begin <= end <= tasks`.
pub type StepFn = unsafe extern "C" fn(frame: *const Frame, begin: usize, end: usize, operands: *const u64);

/// One step of a variant. Steps run in order; the tasks of one step may run in any order and on any thread.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The code, which steps may share.
    pub func: StepFn,
    /// Which of [`Variant::operands`] is the first of this step.
    pub operands: u64,
    /// Number of tasks; 0 makes the step a no-op.
    pub tasks: u64,
    /// Names of the source nodes this step computes, separated by `+`.
    pub name: *const u8,
    /// The operation, such as `quant.conv2d`.
    pub op: *const u8,
    /// Multiply-accumulates of one call of all tasks.
    pub macs: u64,
    /// Bytes of the constants it reads.
    pub weights_bytes: u64,
    /// Bytes of the other buffers it reads or writes, each counted whole and once.
    pub data_bytes: u64,
}

/// The model compiled for a set of processor features and for certain shapes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// What its kernels need of the processor, as bits (`qc_kernels::Features`): the needs of a tier, see
    /// [`crate::host::tiers`].
    pub features: u64,
    /// Shapes of the inputs, then of the outputs, for one call; what is beyond a tensor's rank is 0. `dims[0]` of what is
    /// [`Io::batched`] is a multiple of `batch`, outputs of a model with [`Model::whole_batches`] excepted.
    pub shapes: *const [i64; MAX_RANK],
    /// Batch items of one call, at least 1. Variants whose inputs differ in the batch alone are of one shape; the batch is
    /// dealt out over those.
    pub batch: u64,
    /// Bytes of arena one call needs, without slack.
    pub arena_bytes: u64,
    /// Length of `steps`.
    pub n_steps: u64,
    /// The program.
    pub steps: *const Step,
    /// Operands of all steps.
    pub operands: *const u64,
    /// Length of `checks`.
    pub n_checks: u64,
    /// What is looked at when the steps of a call have run.
    pub checks: *const Check,
}

/// Two i64 in the arena in which a step notes an index outside a dim: whether there was one, and which.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Where they lie in the arena.
    pub offset: u64,
    /// What the number is not, such as `index of a dim of 4`.
    pub rule: *const u8,
    /// What held the number, such as `input "ids"`.
    pub what: *const u8,
    /// The node of the source model that asked for it; may be empty.
    pub node: *const u8,
}

/// 32-bit IEEE float.
pub const ELEM_F32: u32 = 0;
/// Unsigned byte.
pub const ELEM_U8: u32 = 1;
/// Signed byte.
pub const ELEM_I8: u32 = 2;
/// 32-bit signed integer.
pub const ELEM_I32: u32 = 3;
/// 64-bit signed integer.
pub const ELEM_I64: u32 = 4;
/// Bytes per element, indexed by the `ELEM_*` value.
pub const ELEM_BYTES: [usize; 5] = [4, 1, 1, 4, 8];
/// Names of the element types, indexed by the `ELEM_*` value.
pub const ELEM_NAMES: [&str; 5] = ["f32", "u8", "i8", "i32", "i64"];

/// One input or output tensor.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Io {
    /// The tensor's name in the source model.
    pub name: *const u8,
    /// One of the `ELEM_*` values.
    pub elem: u32,
    /// Number of valid entries of `dims`; at most [`MAX_RANK`].
    pub rank: u32,
    /// Shape of one batch item; -1 for a dim that differs between variants. `dims[0]` counts the rows one batch item has,
    /// usually 1, so the shape at batch `n` is `[n * dims[0], dims[1], ...]`. Outputs of a model with
    /// [`Model::whole_batches`] have the shapes of its variants instead.
    pub dims: [i64; MAX_RANK],
    /// Product of `dims` times the element size; 0 when a dim differs between variants.
    pub bytes_per_item: u64,
    /// 1 when the shape depends on the batch; 0 when it is `dims` at every batch.
    pub batched: u32,
    /// 0 when a run fills the whole output. Otherwise the lower 16 bits are 1 + the index of the output whose sum says how many
    /// indices of a dim are filled, the first ones, and the upper 16 bits are that dim.
    pub counted: u32,
}

/// A compiled model: what `QC_MODEL` is in a shared object and what the JIT hands over.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// `size_of::<Model>()`.
    pub model_bytes: u32,
    /// Name for people; also the default prefix of the exported functions.
    pub name: *const u8,
    /// Metadata as JSON: the text of `.note.qc`.
    pub json: *const u8,
    /// SHA-256 of the source model.
    pub sha256: [u8; 32],
    /// Length of `inputs`.
    pub n_inputs: u64,
    /// Inputs in model order.
    pub inputs: *const Io,
    /// Length of `outputs`.
    pub n_outputs: u64,
    /// Outputs in model order.
    pub outputs: *const Io,
    /// Length of `variants`.
    pub n_variants: u64,
    /// Variants in any order; at most one per (features, shapes).
    pub variants: *const Variant,
    /// Packed weights, 64-byte aligned, followed by [`SLACK_BYTES`] readable bytes; the address of `QC_WEIGHTS`.
    pub weights: *const u8,
    /// Length of the weights without slack.
    pub weights_bytes: u64,
    /// 0 when batch items are independent: any batch is dealt out over the variants. 1 when they are not: a batch is
    /// run by the variant of just that batch, and there are no others.
    pub whole_batches: u64,
}

// SAFETY: a model is a tree of immutable tables (see the module documentation); nothing is written through its pointers.
unsafe impl Sync for Model {}
// SAFETY: as above.
unsafe impl Send for Model {}
// SAFETY: as above; all parts of a model are immutable.
unsafe impl Sync for Step {}
// SAFETY: as above.
unsafe impl Sync for Check {}
// SAFETY: as above.
unsafe impl Sync for Variant {}
// SAFETY: as above.
unsafe impl Sync for Io {}

/// Result of a call; 0 is success. The values are part of the ABI.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A required pointer is null.
    NullPointer = 1,
    /// There is no input or output with this index.
    BadIndex = 2,
    /// The batch is 0, too large for the address space, or not one this model serves.
    BadBatch = 3,
    /// A tensor's address is not a multiple of its element size.
    Misaligned = 4,
    /// `run` was called before every input was bound.
    Unbound = 5,
    /// Inputs and outputs are bound with different batches.
    BatchMismatch = 6,
    /// The model needs an instruction set that this CPU, or the cap in force, does not offer.
    TierUnsupported = 7,
    /// Memory could not be allocated.
    OutOfMemory = 8,
    /// An option, or the environment variable standing in for it, has an unknown value.
    BadOption = 9,
    /// The model's tables are of another version or contradict themselves.
    BadModel = 10,
    /// The context is in use by another thread.
    Busy = 11,
    /// An input holds a value that the model does not take, such as an index outside a table. The outputs hold no result.
    BadValue = 12,
    /// The model has no code for this shape, or inputs are bound with shapes of different variants.
    BadShape = 13,
}

/// How a context is made. All zero bytes mean the defaults.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// `size_of::<Options>()` as the caller knows it, so that later versions can add fields; 0 stands for this version.
    pub options_bytes: u32,
    /// Threads to run on, the caller's included. 0: `QC_NUM_THREADS`, then `OMP_NUM_THREADS`, then what the process may
    /// use (affinity, cgroup quota, online cores).
    pub threads: u32,
    /// Highest tier to use, by its name; null: the environment variable `QC_CPU`, else no cap.
    pub cpu: *const c_char,
    /// Allocates `bytes` at a multiple of `align`; null: the C library. Called when a context is made and when a buffer
    /// of its own grows, never while it runs.
    pub alloc: Option<unsafe extern "C" fn(user: *mut c_void, bytes: usize, align: usize) -> *mut c_void>,
    /// Frees what `alloc` gave. Both or neither are set.
    pub free: Option<unsafe extern "C" fn(user: *mut c_void, block: *mut c_void, bytes: usize)>,
    /// First argument of `alloc` and `free`.
    pub user: *mut c_void,
    /// Where `create` writes a sentence when it fails; null: nowhere.
    pub error_text: *mut c_char,
    /// Size of `error_text`; the text is cut to fit and always NUL-terminated.
    pub error_text_bytes: usize,
}

/// What a context ended up with.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ContextInfo {
    /// The number of the tier in use.
    pub tier: u32,
    /// Threads in use, the caller's included.
    pub threads: u32,
    /// Bytes of arena, slack included.
    pub arena_bytes: u64,
    /// The batch that is bound; 0 before the first bind.
    pub batch: u64,
    /// Entries [`Api::run_profiled`] fills: the steps of every variant of the tier in use, variants in model order.
    pub profile_len: u64,
}

/// Time spent in one step, accumulated over calls.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepTime {
    /// Wall time in nanoseconds.
    pub ns: u64,
    /// Number of times the step ran.
    pub calls: u64,
}

/// State of one caller: arena, bindings, threads. Opaque to hosts.
pub use crate::executor::Context;

/// The functions of the executor that is linked to a model. They return [`Status`] values unless said otherwise; null
/// or foreign arguments give errors. A context is used by one thread at a time.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Api {
    /// [`ABI_VERSION`] of the executor; checked before any other field is read.
    pub abi_version: u32,
    /// `size_of::<Api>()`.
    pub api_bytes: u32,
    /// The model.
    pub model: *const Model,
    /// Makes a context; null options are the defaults.
    pub create: unsafe extern "C" fn(model: *const Model, out: *mut *mut Context, options: *const Options) -> i32,
    /// Frees a context; null is allowed.
    pub destroy: unsafe extern "C" fn(context: *mut Context),
    /// Reads input `index` from `data`, `batch` items, at the next runs. Not copied.
    pub bind_input: unsafe extern "C" fn(context: *mut Context, index: usize, data: *const c_void, batch: usize) -> i32,
    /// Writes output `index` to `data`, `batch` items, at the next runs; null returns to the context's own buffer.
    pub bind_output: unsafe extern "C" fn(context: *mut Context, index: usize, data: *mut c_void, batch: usize) -> i32,
    /// Binds input `index` to a buffer of the context's own for `batch` items and returns it; null on error.
    pub input: unsafe extern "C" fn(context: *mut Context, index: usize, batch: usize) -> *mut c_void,
    /// As `bind_input`, stating the whole shape, batch included: `dims[0..rank]`. The next runs use the variants of this
    /// shape; the other inputs have to be bound with shapes that belong to it.
    pub bind_input_shape: unsafe extern "C" fn(
        context: *mut Context,
        index: usize,
        data: *const c_void,
        dims: *const i64,
        rank: usize,
    ) -> i32,
    /// As `input`, stating the whole shape.
    pub input_shape:
        unsafe extern "C" fn(context: *mut Context, index: usize, dims: *const i64, rank: usize) -> *mut c_void,
    /// Writes the shape that tensor `index`, inputs first, has in the next run to `dims`; what is beyond its rank is 0.
    pub shape: unsafe extern "C" fn(context: *mut Context, index: usize, dims: *mut [i64; MAX_RANK]) -> i32,
    /// Makes the context run another model that this executor is linked to, with inputs and outputs of the same number and
    /// element types; bindings are gone, threads and memory stay.
    pub adopt: unsafe extern "C" fn(context: *mut Context, model: *const Model) -> i32,
    /// Where the next run writes, and the last run wrote, output `index`; null on error or before a batch is known.
    pub output: unsafe extern "C" fn(context: *mut Context, index: usize) -> *mut c_void,
    /// Computes the outputs of the bound batch. Allocates nothing.
    pub run: unsafe extern "C" fn(context: *mut Context) -> i32,
    /// As `run`, adding each step's time to `times[0..len]`; `len` is [`ContextInfo::profile_len`].
    pub run_profiled: unsafe extern "C" fn(context: *mut Context, times: *mut StepTime, len: usize) -> i32,
    /// Describes the context.
    pub info: unsafe extern "C" fn(context: *const Context, info: *mut ContextInfo) -> i32,
    /// The last failure of this context as a sentence; empty when there was none; never null.
    pub last_error: unsafe extern "C" fn(context: *const Context) -> *const c_char,
    /// A sentence for a status; never null.
    pub strerror: unsafe extern "C" fn(status: i32) -> *const c_char,
}

// SAFETY: function pointers and a pointer to an immutable model.
unsafe impl Sync for Api {}
// SAFETY: as above.
unsafe impl Send for Api {}
