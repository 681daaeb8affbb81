//! The executor behind C functions: [`Api`]'s implementation, for the JIT and the embedded object alike.

use crate::abi::*;
use crate::create;
use crate::executor::{self, Each, Entered};
use crate::text::Text;
use core::ffi::{CStr, c_char, c_void};

/// The function table for `model`.
pub const fn api(model: *const Model) -> Api {
    Api {
        abi_version: ABI_VERSION,
        api_bytes: size_of::<Api>() as u32,
        model,
        create,
        destroy,
        bind_input,
        bind_output,
        input,
        bind_input_shape,
        input_shape,
        shape,
        adopt,
        output,
        run,
        run_profiled,
        info,
        last_error,
        strerror,
    }
}

impl Options {
    /// The defaults.
    pub const fn new() -> Options {
        Options {
            options_bytes: size_of::<Options>() as u32,
            threads: 0,
            cpu: core::ptr::null(),
            alloc: None,
            free: None,
            user: core::ptr::null_mut(),
            error_text: core::ptr::null_mut(),
            error_text_bytes: 0,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options::new()
    }
}

impl Status {
    const ALL: [(Status, &'static CStr); 14] = [
        (Status::Ok, c"success"),
        (Status::NullPointer, c"a required pointer is null"),
        (Status::BadIndex, c"there is no input or output with this index"),
        (Status::BadBatch, c"the model does not run this batch"),
        (Status::Misaligned, c"a tensor's address is not a multiple of its element size"),
        (Status::Unbound, c"an input is not bound; bind every input before running"),
        (Status::BatchMismatch, c"inputs and outputs are bound with different batches"),
        (Status::TierUnsupported, c"the model needs an instruction set that this CPU, or QC_CPU, does not offer"),
        (Status::OutOfMemory, c"out of memory"),
        (Status::BadOption, c"an option or an environment variable has an unknown value"),
        (Status::BadModel, c"the model's tables are damaged or of another version"),
        (Status::Busy, c"the context is in use by another thread; make one context per thread"),
        (Status::BadValue, c"an input holds a value that the model does not take"),
        (Status::BadShape, c"the model has no code for this shape"),
    ];

    /// The status with this value.
    pub fn from_code(code: i32) -> Option<Status> {
        Self::ALL.iter().map(|&(status, _)| status).find(|&status| status as i32 == code)
    }

    /// A sentence about the status.
    pub fn text(self) -> &'static CStr {
        Self::ALL[self as usize].1
    }
}

fn code(result: Result<(), Status>) -> i32 {
    match result {
        Ok(()) => Status::Ok as i32,
        Err(status) => status as i32,
    }
}

/// See [`Api::create`].
///
/// # Safety
/// `model` is a model's table that outlives the context; `out` and `options` are null or valid.
pub unsafe extern "C" fn create(model: *const Model, out: *mut *mut Context, options: *const Options) -> i32 {
    if out.is_null() {
        return Status::NullPointer as i32;
    }
    // SAFETY: `out` is writable; `options` is null or readable for the size it claims.
    let options = unsafe {
        *out = core::ptr::null_mut();
        read_options(options)
    };
    let Some(options) = options else { return Status::BadOption as i32 };
    let mut nowhere = [0u8; 0];
    let buffer = match options.error_text.is_null() {
        true => &mut nowhere[..],
        // SAFETY: the caller gives a buffer of this size.
        false => unsafe { core::slice::from_raw_parts_mut(options.error_text.cast(), options.error_text_bytes) },
    };
    // SAFETY: promised by the caller.
    match unsafe { create::create(model, &options, &mut Text::new(buffer)) } {
        Ok(context) => {
            // SAFETY: `out` is writable.
            unsafe { *out = context };
            Status::Ok as i32
        }
        Err(status) => status as i32,
    }
}

/// Options as far as the caller knows them, defaults for the rest; none when they claim an impossible size.
///
/// # Safety
/// `options` is null or readable for the size it claims.
unsafe fn read_options(options: *const Options) -> Option<Options> {
    let mut known = Options::new();
    if options.is_null() {
        return Some(known);
    }
    // SAFETY: the size comes first in every version.
    let bytes = match unsafe { (*options).options_bytes } as usize {
        0 => size_of::<Options>(),
        bytes => bytes.min(size_of::<Options>()),
    };
    if bytes < 8 {
        return None;
    }
    // SAFETY: `bytes` are readable there and fit here; every field allows the bytes a host of any version writes.
    unsafe { core::ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut known).cast::<u8>(), bytes) };
    Some(known)
}

/// See [`Api::destroy`].
///
/// # Safety
/// `context` is null or came from [`create`], and is not used again.
pub unsafe extern "C" fn destroy(context: *mut Context) {
    // SAFETY: promised by the caller.
    unsafe { executor::destroy(context) }
}

/// See [`Api::bind_input`].
///
/// # Safety
/// `context` is null or came from [`create`]; `data` is null or stays readable for the tensor until it is bound anew.
pub unsafe extern "C" fn bind_input(context: *mut Context, index: usize, data: *const c_void, batch: usize) -> i32 {
    // SAFETY: promised by the caller. The executor reads inputs only.
    code(unsafe { Entered::enter(context) }.and_then(|c| c.inner.bind_input(index, data.cast_mut().cast(), batch)))
}

/// See [`Api::bind_output`].
///
/// # Safety
/// `context` is null or came from [`create`]; `data` is null or stays writable for the tensor until it is bound anew.
pub unsafe extern "C" fn bind_output(context: *mut Context, index: usize, data: *mut c_void, batch: usize) -> i32 {
    // SAFETY: promised by the caller.
    code(unsafe { Entered::enter(context) }.and_then(|c| c.inner.bind_output(index, data.cast(), batch)))
}

/// See [`Api::input`].
///
/// # Safety
/// `context` is null or came from [`create`].
pub unsafe extern "C" fn input(context: *mut Context, index: usize, batch: usize) -> *mut c_void {
    // SAFETY: promised by the caller.
    match unsafe { Entered::enter(context) }.and_then(|c| c.inner.own_input(index, batch)) {
        Ok(data) => data.cast(),
        Err(_) => core::ptr::null_mut(),
    }
}

/// See [`Api::bind_input_shape`].
///
/// # Safety
/// As [`bind_input`]; `dims` is null or has `rank` entries.
pub unsafe extern "C" fn bind_input_shape(
    context: *mut Context,
    index: usize,
    data: *const c_void,
    dims: *const i64,
    rank: usize,
) -> i32 {
    // SAFETY: promised by the caller. The executor reads inputs only.
    code(unsafe { Entered::enter(context) }.and_then(|c| {
        // SAFETY: promised by the caller.
        let dims = unsafe { stated(c.inner, dims, rank) }?;
        c.inner.bind_input_shape(index, data.cast_mut().cast(), dims)
    }))
}

/// See [`Api::input_shape`].
///
/// # Safety
/// `context` is null or came from [`create`]; `dims` is null or has `rank` entries.
pub unsafe extern "C" fn input_shape(
    context: *mut Context,
    index: usize,
    dims: *const i64,
    rank: usize,
) -> *mut c_void {
    // SAFETY: promised by the caller.
    let data = unsafe { Entered::enter(context) }.and_then(|c| {
        // SAFETY: promised by the caller.
        let dims = unsafe { stated(c.inner, dims, rank) }?;
        c.inner.own_input_shape(index, dims)
    });
    data.map_or(core::ptr::null_mut(), |data| data.cast())
}

/// The dims that a host states.
///
/// # Safety
/// `dims` is null or has `rank` entries.
unsafe fn stated<'a>(inner: &mut executor::Inner, dims: *const i64, rank: usize) -> Result<&'a [i64], Status> {
    if dims.is_null() && rank > 0 {
        return Err(inner.null_argument("dims"));
    }
    // More than that fits no tensor, whatever it is.
    let rank = rank.min(MAX_RANK + 1);
    // SAFETY: promised by the caller.
    Ok(if rank == 0 { &[] } else { unsafe { core::slice::from_raw_parts(dims, rank) } })
}

/// See [`Api::shape`].
///
/// # Safety
/// `context` is null or came from [`create`]; `dims` is null or writable.
pub unsafe extern "C" fn shape(context: *mut Context, index: usize, dims: *mut [i64; MAX_RANK]) -> i32 {
    // SAFETY: promised by the caller.
    code(unsafe { Entered::enter(context) }.and_then(|c| {
        if dims.is_null() {
            return Err(c.inner.null_argument("dims"));
        }
        let shape = c.inner.bound_shape(index)?;
        // SAFETY: `dims` is writable.
        unsafe { *dims = shape };
        Ok(())
    }))
}

/// See [`Api::adopt`].
///
/// # Safety
/// `context` is null or came from [`create`]; `model` is as for [`create`].
pub unsafe extern "C" fn adopt(context: *mut Context, model: *const Model) -> i32 {
    // SAFETY: promised by the caller.
    code(unsafe { Entered::enter(context).and_then(|c| create::adopt(c.inner, model)) })
}

/// See [`Api::output`].
///
/// # Safety
/// `context` is null or came from [`create`].
pub unsafe extern "C" fn output(context: *mut Context, index: usize) -> *mut c_void {
    // SAFETY: promised by the caller.
    match unsafe { Entered::enter(context) }.and_then(|c| c.inner.output(index)) {
        Ok(data) => data.cast(),
        Err(_) => core::ptr::null_mut(),
    }
}

/// See [`Api::run`].
///
/// # Safety
/// `context` is null or came from [`create`]; what is bound is valid, and inputs do not overlap outputs.
pub unsafe extern "C" fn run(context: *mut Context) -> i32 {
    // SAFETY: promised by the caller.
    code(unsafe { Entered::enter(context).and_then(|c| c.inner.run(Each::Nothing)) })
}

/// See [`Api::run_profiled`].
///
/// # Safety
/// As [`run`]; `times` is null or `len` entries long.
pub unsafe extern "C" fn run_profiled(context: *mut Context, times: *mut StepTime, len: usize) -> i32 {
    // SAFETY: promised by the caller.
    code(unsafe { Entered::enter(context) }.and_then(|c| {
        if times.is_null() {
            return Err(c.inner.null_argument("times"));
        }
        c.inner.check_profile(len)?;
        // SAFETY: promised by the caller; the length was just checked.
        unsafe { c.inner.run(Each::Time(core::slice::from_raw_parts_mut(times, len))) }
    }))
}

/// As [`run`], showing the arena to `look` when a step has run, with the number of the step in its variant. For hosts that run models in
/// the process that compiled them, whose layout they know.
///
/// # Safety
/// As [`run`].
#[cfg(not(qc_embed))]
pub unsafe fn run_watched(context: *mut Context, look: &mut dyn FnMut(usize, &[u8])) -> i32 {
    // SAFETY: promised by the caller.
    code(unsafe { Entered::enter(context).and_then(|c| c.inner.run(Each::Look(look))) })
}

/// See [`Api::info`].
///
/// # Safety
/// `context` is null or came from [`create`]; `info` is null or writable.
pub unsafe extern "C" fn info(context: *const Context, info: *mut ContextInfo) -> i32 {
    // SAFETY: promised by the caller.
    code(unsafe { Entered::enter(context.cast_mut()) }.and_then(|c| {
        if info.is_null() {
            return Err(c.inner.null_argument("info"));
        }
        // SAFETY: `info` is writable.
        unsafe { *info = c.inner.info() }
        Ok(())
    }))
}

/// See [`Api::last_error`].
///
/// # Safety
/// `context` is null or came from [`create`]; the text is valid until the next call with this context.
pub unsafe extern "C" fn last_error(context: *const Context) -> *const c_char {
    if context.is_null() {
        return c"the context is a null pointer".as_ptr();
    }
    // SAFETY: the context lives, and its text always ends in NUL.
    unsafe { (&raw const (*context).inner.error).cast() }
}

/// See [`Api::strerror`].
pub extern "C" fn strerror(status: i32) -> *const c_char {
    Status::from_code(status).map_or(c"unknown status", Status::text).as_ptr()
}
