//! Contexts: one caller of a model.
//!
//! Data gets in and out in two ways. Buffers of the context's own are written and read in place (`input_mut`, `output`).
//! Or slices of the caller's are lent for a [`Call`], which holds them borrowed; nothing is copied then either.

use crate::io::Key;
use crate::predictor::Shared;
use crate::profile::Profile;
use crate::tier::tier_name;
use crate::{Element, IoInfo, Predictor, RunError};
use core::marker::PhantomData;
use qc_embed::abi;
use std::ffi::{CStr, CString, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

/// How a context is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContextOptions {
    /// Threads, the caller's included; none: `QC_NUM_THREADS`, `OMP_NUM_THREADS`, then what the process may use.
    pub threads: Option<u32>,
    /// The most preferred instruction tier to use, one of the names of [`qc_kernels::Tier`]; none: `QC_CPU`, then no cap.
    pub cpu: Option<String>,
}

/// Memory, bindings and threads of one caller. Contexts of one model run side by side; each is used by one thread at a
/// time and may move between threads.
pub struct Context {
    raw: *mut abi::Context,
    info: abi::ContextInfo,
    /// Per input, then output: whose memory is bound.
    bound: Vec<Bound>,
    /// Number of calls begun; names the loans of one call.
    loans: u64,
    /// Whether the context's own outputs hold results of the bound batch.
    has_result: bool,
    shared: Arc<Shared>,
}

/// Whose memory a tensor is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// No one's.
    Nothing,
    /// The context's.
    Own,
    /// A caller's, lent for the call of this number. Later calls must not touch it.
    Lent(u64),
}

// SAFETY: the executor's context may be used from any thread, one at a time (`Context` is not `Sync`); the model is
// immutable.
unsafe impl Send for Context {}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Context").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `create`, destroyed once; the model is alive in `shared`.
        unsafe { (self.shared.api.destroy)(self.raw) }
    }
}

impl Context {
    pub(crate) fn new(shared: Arc<Shared>, options: &ContextOptions) -> Result<Context, RunError> {
        let cpu = options.cpu.as_deref().map(CString::new).transpose().map_err(|_| RunError::Refused {
            status: abi::Status::BadOption,
            text: "the cpu option contains a NUL".into(),
        })?;
        let mut text = [0u8; 256];
        let raw_options = abi::Options {
            threads: options.threads.unwrap_or(0),
            cpu: cpu.as_ref().map_or(std::ptr::null(), |name| name.as_ptr()),
            error_text: text.as_mut_ptr().cast(),
            error_text_bytes: text.len(),
            ..abi::Options::new()
        };
        let mut raw = null_mut();
        // SAFETY: the model was checked; the options' pointers live through the call.
        let status = unsafe { (shared.api.create)(shared.api.model, &mut raw, &raw_options) };
        if status != 0 {
            let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
            return Err(refused(&shared.api, status, text));
        }
        let mut info = abi::ContextInfo::default();
        // SAFETY: the context was just made.
        let status = unsafe { (shared.api.info)(raw, &mut info) };
        debug_assert_eq!(status, 0);
        let (n_inputs, n_outputs) = (shared.inputs.len(), shared.outputs.len());
        let mut bound = vec![Bound::Nothing; n_inputs];
        bound.resize(n_inputs + n_outputs, Bound::Own);
        Ok(Context { raw, info, bound, loans: 0, has_result: false, shared })
    }

    /// Inputs in model order.
    pub fn inputs(&self) -> &[IoInfo] {
        &self.shared.inputs
    }

    /// Outputs in model order.
    pub fn outputs(&self) -> &[IoInfo] {
        &self.shared.outputs
    }

    /// Threads in use, the caller's included.
    pub fn threads(&self) -> u32 {
        self.info.threads
    }

    /// Name of the instruction tier in use.
    pub fn tier(&self) -> &'static str {
        tier_name(self.info.tier)
    }

    /// Bytes of working memory, slack included, without input and output buffers.
    pub fn arena_bytes(&self) -> u64 {
        self.info.arena_bytes
    }

    /// The batch of the next run; 0 before the first input.
    pub fn batch(&self) -> usize {
        let mut info = abi::ContextInfo::default();
        // SAFETY: the context lives.
        unsafe { (self.shared.api.info)(self.raw, &mut info) };
        info.batch as usize
    }

    /// Binds an input to a buffer of the context's own for `batch` items, and returns it to be filled. The buffer keeps
    /// its contents from run to run. Allocates when the batch is larger than any before.
    ///
    /// # Errors
    /// Unknown tensor, other element type, or a batch the model does not run.
    pub fn input_mut<'k, T: Element>(&mut self, key: impl Into<Key<'k>>, batch: usize) -> Result<&mut [T], RunError> {
        let i = key.into().find("input", &self.shared.inputs)?;
        check_elem::<T>("input", &self.shared.inputs[i])?;
        self.has_result = false;
        // SAFETY: the context lives.
        let data = unsafe { (self.shared.api.input)(self.raw, i, batch) };
        self.own_input(i, data)
    }

    /// As [`Context::input_mut`], stating the whole shape, batch included: for models of several shapes, which run the one
    /// that the last input was given. The other inputs have to be given shapes that belong to it.
    ///
    /// # Errors
    /// Unknown tensor, other element type, or a shape that the model has no code for, with those that it has.
    pub fn input_shaped<'k, T: Element>(
        &mut self,
        key: impl Into<Key<'k>>,
        dims: &[usize],
    ) -> Result<&mut [T], RunError> {
        let i = key.into().find("input", &self.shared.inputs)?;
        check_elem::<T>("input", &self.shared.inputs[i])?;
        self.has_result = false;
        let (dims, rank) = raw_dims(dims);
        // SAFETY: the context lives; `dims` is as long as it says.
        let data = unsafe { (self.shared.api.input_shape)(self.raw, i, dims.as_ptr(), rank) };
        self.own_input(i, data)
    }

    /// The context's own buffer of an input, which was just bound to it.
    fn own_input<T: Element>(&mut self, input: usize, data: *mut c_void) -> Result<&mut [T], RunError> {
        if data.is_null() {
            return Err(self.last_error());
        }
        self.bound[input] = Bound::Own;
        let len = self.len_of(input)?;
        // SAFETY: the buffer holds the tensor at this shape, aligned for any element, and the context is borrowed as long
        // as the slice lives; every bit pattern is a value of `T`.
        Ok(unsafe { std::slice::from_raw_parts_mut(data.cast::<T>(), len) })
    }

    /// The shape of tensor `index`, inputs first, in the next run, and its rank.
    fn shape(&self, index: usize) -> Result<([i64; abi::MAX_RANK], usize), RunError> {
        let mut dims = [0; abi::MAX_RANK];
        // SAFETY: the context lives.
        self.check(unsafe { (self.shared.api.shape)(self.raw, index, &mut dims) })?;
        let io = self.shared.inputs.iter().chain(&self.shared.outputs).nth(index);
        Ok((dims, io.map_or(0, |io| io.shape.len()).min(abi::MAX_RANK)))
    }

    /// Elements of tensor `index`, inputs first, in the next run.
    fn len_of(&self, index: usize) -> Result<usize, RunError> {
        let (dims, rank) = self.shape(index)?;
        Ok(dims[..rank].iter().map(|&dim| dim as usize).product())
    }

    /// The shape that an output has in the next run, and had in the last one.
    ///
    /// # Errors
    /// Unknown tensor, or no input that was bound.
    pub fn output_shape<'k>(&self, key: impl Into<Key<'k>>) -> Result<Vec<usize>, RunError> {
        let i = key.into().find("output", &self.shared.outputs)?;
        let (dims, rank) = self.shape(self.shared.inputs.len() + i)?;
        Ok(dims[..rank].iter().map(|&dim| dim as usize).collect())
    }

    /// The shape of the part of an output that the last run filled: [`Context::output_shape`], unless it differs from run to run
    /// how many boxes, say, there are ([`IoInfo::counted`]). What lies behind in the dim that it says means nothing.
    ///
    /// # Errors
    /// Unknown tensor, or no result in the context's own buffers.
    pub fn filled_shape<'k>(&self, key: impl Into<Key<'k>>) -> Result<Vec<usize>, RunError> {
        let i = key.into().find("output", &self.shared.outputs)?;
        let mut shape = self.output_shape(i)?;
        if let Some(counted) = self.shared.outputs[i].counted {
            let filled: i64 = self.output::<i32>(counted.by)?.iter().map(|&n| i64::from(n)).sum();
            let room = shape[counted.axis];
            shape[counted.axis] = usize::try_from(filled).map_or(0, |filled| filled.min(room));
        }
        Ok(shape)
    }

    /// Goes on with another model of this process that has the same inputs and outputs but for their shapes. Threads and
    /// memory are kept, and grow where the model needs more; nothing is bound.
    ///
    /// # Errors
    /// Another interface, a model from a file, no code for the tier in use, or too little memory; then the context stays with
    /// its model.
    pub fn adopt(&mut self, model: &Predictor) -> Result<(), RunError> {
        let other = &model.shared;
        let refuse = |reason: &str| RunError::OtherModel { name: other.name.clone(), reason: reason.into() };
        if !self.shared.in_process || !other.in_process {
            return Err(refuse("only models that were compiled in this process can take turns"));
        }
        let alike = |a: &[IoInfo], b: &[IoInfo]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (&a.name, a.elem) == (&b.name, b.elem))
        };
        if !alike(&self.shared.inputs, &other.inputs) || !alike(&self.shared.outputs, &other.outputs) {
            return Err(refuse("its inputs and outputs are others"));
        }
        // SAFETY: the context lives; the model was checked, and `shared` keeps it from here on. Both are run by this
        // process's executor.
        self.check(unsafe { (self.shared.api.adopt)(self.raw, other.api.model) })?;
        self.shared = other.clone();
        self.bound[..other.inputs.len()].fill(Bound::Nothing);
        self.bound[other.inputs.len()..].fill(Bound::Own);
        self.has_result = false;
        // SAFETY: the context lives.
        let status = unsafe { (other.api.info)(self.raw, &mut self.info) };
        self.check(status)
    }

    /// Begins a call on slices of the caller's.
    pub fn call<'d>(&mut self) -> Call<'_, 'd> {
        self.loans += 1;
        Call { loan: self.loans, context: self, _data: PhantomData }
    }

    /// Computes the outputs into the context's own buffers. Allocates nothing, unless the last run wrote to slices of
    /// the caller's; then buffers for those outputs may have to be made.
    ///
    /// # Errors
    /// When an input has no data.
    pub fn run(&mut self) -> Result<(), RunError> {
        self.return_outputs(None)?;
        self.check_bound(None)?;
        // SAFETY: every tensor is bound to memory of the context's own.
        let status = unsafe { (self.shared.api.run)(self.raw) };
        self.has_result = status == 0;
        self.check(status)
    }

    /// As [`Context::run`], adding the time of each step to `profile`, which is [`Context::profile`] of this context or
    /// of another with the same model and tier.
    ///
    /// # Errors
    /// As [`Context::run`], and when the profile is of another program.
    pub fn run_profiled(&mut self, profile: &mut Profile) -> Result<(), RunError> {
        self.return_outputs(None)?;
        self.check_bound(None)?;
        let times = &mut profile.times;
        // SAFETY: every tensor is bound to memory of the context's own; `times` is as long as it says.
        let status = unsafe { (self.shared.api.run_profiled)(self.raw, times.as_mut_ptr(), times.len()) };
        self.has_result = status == 0;
        self.check(status)
    }

    /// As [`Context::run`], showing `look` the arena, as f32, when a step has run, with the number of the step. Models whose tensors are
    /// looked at where they lie may have no outputs at all.
    ///
    /// # Errors
    /// As [`Context::run`], and when the model comes from a file.
    pub fn run_watched(&mut self, look: &mut dyn FnMut(usize, &[f32])) -> Result<(), RunError> {
        if !self.shared.in_process {
            let reason = "only models that were compiled in this process can be watched";
            return Err(RunError::OtherModel { name: self.shared.name.clone(), reason: reason.into() });
        }
        self.return_outputs(None)?;
        self.check_bound(None)?;
        let mut as_floats = |step: usize, arena: &[u8]| {
            // SAFETY: every bit pattern is a number.
            let (_, floats, _) = unsafe { arena.align_to::<f32>() };
            look(step, floats);
        };
        // SAFETY: every tensor is bound to memory of the context's own.
        let status = unsafe { qc_embed::api::run_watched(self.raw, &mut as_floats) };
        self.has_result = status == 0;
        self.check(status)
    }

    /// An empty profile.
    pub fn profile(&self) -> Profile {
        Profile::new(&self.shared, self.info.tier)
    }

    /// The result of the last run, if it went to the context's own buffers.
    ///
    /// # Errors
    /// Unknown tensor, other element type, or no result for the bound batch.
    pub fn output<'k, T: Element>(&self, key: impl Into<Key<'k>>) -> Result<&[T], RunError> {
        let outputs = &self.shared.outputs;
        let i = key.into().find("output", outputs)?;
        let io = &outputs[i];
        check_elem::<T>("output", io)?;
        // SAFETY: the context lives.
        let data = unsafe { (self.shared.api.output)(self.raw, i) };
        let is_own = self.bound[self.shared.inputs.len() + i] == Bound::Own;
        if !self.has_result || !is_own || data.is_null() {
            return Err(RunError::NoResult { name: io.name.clone() });
        }
        // SAFETY: the context's own buffer holds the tensor at the bound batch, and is not written while borrowed.
        Ok(unsafe { std::slice::from_raw_parts(data.cast::<T>(), self.len_of(self.shared.inputs.len() + i)?) })
    }

    /// Takes outputs back that were lent for another call than `loan`.
    fn return_outputs(&mut self, loan: Option<u64>) -> Result<(), RunError> {
        let n_inputs = self.shared.inputs.len();
        for i in 0..self.shared.outputs.len() {
            if matches!(self.bound[n_inputs + i], Bound::Lent(number) if Some(number) != loan) {
                // SAFETY: null means the context's own buffer.
                let status = unsafe { (self.shared.api.bind_output)(self.raw, i, null_mut(), 0) };
                self.check(status)?;
                self.bound[n_inputs + i] = Bound::Own;
            }
        }
        Ok(())
    }

    /// Everything is bound to memory that is valid in the call `loan`, or without one.
    fn check_bound(&self, loan: Option<u64>) -> Result<(), RunError> {
        let usable = |bound: &Bound| match *bound {
            Bound::Nothing => false,
            Bound::Own => true,
            Bound::Lent(number) => Some(number) == loan,
        };
        match self.bound.iter().position(|bound| !usable(bound)) {
            None => Ok(()),
            Some(i) => {
                let n_inputs = self.shared.inputs.len();
                let (kind, io) = match i.checked_sub(n_inputs) {
                    None => ("input", &self.shared.inputs[i]),
                    Some(output) => ("output", &self.shared.outputs[output]),
                };
                Err(RunError::Unbound { kind, name: io.name.clone() })
            }
        }
    }

    fn check(&self, status: i32) -> Result<(), RunError> {
        if status == 0 { Ok(()) } else { Err(self.last_error_of(status)) }
    }

    fn last_error(&self) -> RunError {
        self.last_error_of(abi::Status::BadOption as i32)
    }

    fn last_error_of(&self, status: i32) -> RunError {
        // SAFETY: the text is NUL-terminated and valid until the next call.
        let text = unsafe { CStr::from_ptr((self.shared.api.last_error)(self.raw)) };
        refused(&self.shared.api, status, text)
    }
}

/// A call on slices of the caller's: lend inputs, and outputs if wanted, then run, as often as needed.
///
/// The slices stay borrowed as long as the call lives. Inputs that are not lent must have been filled with
/// [`Context::input_mut`]; outputs that are not lent go to the context's own buffers.
///
/// ```no_run
/// # fn f(context: &mut qc_runtime::Context, pixels: &[f32], prob: &mut [f32]) -> Result<(), qc_runtime::RunError> {
/// let mut call = context.call();
/// call.input("image", pixels)?;
/// call.output("prob", prob)?;
/// call.run()
/// # }
/// ```
#[derive(Debug)]
pub struct Call<'c, 'd> {
    context: &'c mut Context,
    loan: u64,
    _data: PhantomData<&'d mut ()>,
}

impl<'d> Call<'_, 'd> {
    /// Reads an input from `data`; its length says the batch.
    ///
    /// # Errors
    /// Unknown tensor, other element type, a length that is no whole batch, or a batch the model does not run.
    pub fn input<'k, T: Element>(&mut self, key: impl Into<Key<'k>>, data: &'d [T]) -> Result<(), RunError> {
        let context = &mut *self.context;
        let i = key.into().find("input", &context.shared.inputs)?;
        let io = &context.shared.inputs[i];
        check_elem::<T>("input", io)?;
        if io.is_open() {
            return Err(RunError::Unstated { name: io.name.clone(), shapes: io.to_string() });
        }
        let batch = batch_of("input", io, data.len())?;
        context.has_result = false;
        // SAFETY: `data` holds `batch` items and is borrowed for 'd; the loan keeps later calls from reading it.
        let status = unsafe { (context.shared.api.bind_input)(context.raw, i, data.as_ptr().cast(), batch) };
        context.check(status)?;
        context.bound[i] = Bound::Lent(self.loan);
        Ok(())
    }

    /// As [`Call::input`], stating the whole shape, batch included; see [`Context::input_shaped`].
    ///
    /// # Errors
    /// Unknown tensor, other element type, another number of elements than the shape has, or a shape that the model has no
    /// code for, with those that it has.
    pub fn input_shaped<'k, T: Element>(
        &mut self,
        key: impl Into<Key<'k>>,
        dims: &[usize],
        data: &'d [T],
    ) -> Result<(), RunError> {
        let context = &mut *self.context;
        let i = key.into().find("input", &context.shared.inputs)?;
        let io = &context.shared.inputs[i];
        check_elem::<T>("input", io)?;
        let len = dims.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
        if len != Some(data.len()) {
            let expected = format!("given as {dims:?}");
            return Err(RunError::ShapeMismatch { kind: "input", name: io.name.clone(), expected, got: data.len() });
        }
        context.has_result = false;
        let (dims, rank) = raw_dims(dims);
        let (raw, from) = (context.raw, data.as_ptr().cast());
        // SAFETY: `data` has as many elements as `dims` say and is borrowed for 'd; the loan keeps later calls from reading
        // it. `dims` is as long as it says.
        let status = unsafe { (context.shared.api.bind_input_shape)(raw, i, from, dims.as_ptr(), rank) };
        context.check(status)?;
        context.bound[i] = Bound::Lent(self.loan);
        Ok(())
    }

    /// Writes an output to `data`; its length must be that of the inputs' batch when the call runs.
    ///
    /// # Errors
    /// Unknown tensor, other element type, a length that is no whole batch, or a batch the model does not run. Where shapes
    /// of the model differ, the inputs have to be lent first.
    pub fn output<'k, T: Element>(&mut self, key: impl Into<Key<'k>>, data: &'d mut [T]) -> Result<(), RunError> {
        let context = &mut *self.context;
        let i = key.into().find("output", &context.shared.outputs)?;
        let io = &context.shared.outputs[i];
        check_elem::<T>("output", io)?;
        let batch = match io.is_open() {
            // Which shape it has, the inputs have said, or nothing has.
            true => {
                let shape = context.output_shape(i)?;
                if shape.iter().product::<usize>() != data.len() {
                    let (name, expected) = (io.name.clone(), format!("{} {shape:?}", io.elem));
                    return Err(RunError::ShapeMismatch { kind: "output", name, expected, got: data.len() });
                }
                context.batch()
            }
            false => batch_of("output", io, data.len())?,
        };
        context.has_result = false;
        // SAFETY: as for inputs; the slice is borrowed exclusively.
        let status = unsafe { (context.shared.api.bind_output)(context.raw, i, data.as_mut_ptr().cast(), batch) };
        context.check(status)?;
        context.bound[context.shared.inputs.len() + i] = Bound::Lent(self.loan);
        Ok(())
    }

    /// Computes the outputs. Allocates nothing, unless an output was lent for an earlier call and is not for this one.
    ///
    /// # Errors
    /// When an input has no data, or batches differ.
    pub fn run(&mut self) -> Result<(), RunError> {
        let context = &mut *self.context;
        context.return_outputs(Some(self.loan))?;
        context.check_bound(Some(self.loan))?;
        // SAFETY: every tensor is bound to memory of the context's own or lent for this call; lent outputs are borrowed
        // exclusively, so nothing overlaps.
        let status = unsafe { (context.shared.api.run)(context.raw) };
        context.has_result = status == 0;
        context.check(status)
    }
}

/// Dims and rank as the executor takes them; those that no tensor can have stay such.
fn raw_dims(dims: &[usize]) -> ([i64; abi::MAX_RANK + 1], usize) {
    let mut raw = [0; abi::MAX_RANK + 1];
    for (to, &dim) in raw.iter_mut().zip(dims) {
        *to = i64::try_from(dim).unwrap_or(i64::MAX);
    }
    (raw, dims.len().min(raw.len()))
}

fn check_elem<T: Element>(kind: &'static str, io: &IoInfo) -> Result<(), RunError> {
    if io.elem == T::ELEM {
        return Ok(());
    }
    Err(RunError::ElemMismatch { kind, name: io.name.clone(), expected: io.elem, got: T::ELEM })
}

fn batch_of(kind: &'static str, io: &IoInfo, len: usize) -> Result<usize, RunError> {
    io.batch_of(len).ok_or_else(|| RunError::ShapeMismatch {
        kind,
        name: io.name.clone(),
        expected: match io.batched {
            true => format!("{io}, {} elements per item", io.item_len()),
            false => format!("{io}, {} elements", io.item_len()),
        },
        got: len,
    })
}

/// A failure of the executor, by its own text if it gave one.
fn refused(api: &abi::Api, status: i32, text: &CStr) -> RunError {
    let text = match text.is_empty() {
        // SAFETY: the function takes any value and returns a static text.
        true => unsafe { CStr::from_ptr((api.strerror)(status)) },
        false => text,
    };
    let status = abi::Status::from_code(status).unwrap_or(abi::Status::BadModel);
    RunError::Refused { status, text: text.to_string_lossy().into_owned() }
}
