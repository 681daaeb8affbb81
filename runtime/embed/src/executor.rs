//! Runs a model: chooses variants, keeps the arena and the bindings, and walks the step list.
//!
//! A context allocates when it is made and when a bind changes what it must hold; `run` allocates nothing and takes no
//! lock. A batch is served by the variants that exist, largest first: 21 is 8 + 8 + 4 + 1 when these were compiled. When
//! the rest is smaller than the smallest variant, that variant runs once more over the last items, which computes some
//! of them twice to the same values. A model whose items are not independent runs a batch in one call of its variant, or
//! not at all.

use crate::abi::*;
use crate::checks;
use crate::fpu::Rounding;
use crate::host::Tier;
use crate::memory::{Allocator, Block};
use crate::pool::Pool;
use crate::sys;
use crate::text::Text;
use crate::view::ModelView;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

/// State of one caller: arena, bindings, threads.
///
/// Hosts hold it by pointer and use it from one thread at a time; a second thread that enters it gets
/// [`Status::Busy`].
pub struct Context {
    pub(crate) busy: AtomicBool,
    pub(crate) inner: Inner,
}

/// A context's parts, reached only by the thread that holds `busy`.
pub(crate) struct Inner {
    pub(crate) model: ModelView<'static>,
    pub(crate) tier: Tier,
    pub(crate) allocator: Allocator,
    pub(crate) own_block: Block,
    pub(crate) tables: Block,
    pub(crate) arena: Block,
    pub(crate) pool: Pool,
    pub(crate) slots: &'static mut [Slot],
    /// The pointers a [`Frame`] shows, one per slot.
    pub(crate) io: &'static mut [*mut u8],
    /// Variants of the tier in use, largest batch first.
    pub(crate) plan: &'static mut [Planned],
    pub(crate) profile_len: usize,
    /// The bound batch; 0 while unknown.
    pub(crate) batch: usize,
    pub(crate) error: [u8; 256],
}

/// The binding of one input or output; inputs come first.
pub(crate) struct Slot {
    pub(crate) io: &'static Io,
    pub(crate) is_input: bool,
    /// Where steps find the data; null while unbound.
    pub(crate) data: *mut u8,
    /// The host's memory when it is not `data` itself; else null. Inputs are copied from it, outputs to it.
    pub(crate) host: *mut u8,
    /// Items at `data`.
    pub(crate) batch: usize,
    /// Bytes at `data`.
    pub(crate) bytes: usize,
    /// Whether `data` is the host's memory.
    pub(crate) is_hosts: bool,
    /// The context's own buffer.
    pub(crate) own: Block,
}

/// A variant that may run, and where its steps are in a profile.
#[derive(Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) variant: &'static Variant,
    /// Batch items of one call.
    pub(crate) items: usize,
    pub(crate) profile_base: usize,
}

// SAFETY: a context owns its memory and its pool; models are immutable and may be read from any thread. The host answers
// for the bound pointers.
unsafe impl Send for Context {}

impl core::fmt::Debug for Context {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// Exclusive use of a context, until dropped.
pub(crate) struct Entered<'c> {
    busy: &'c AtomicBool,
    pub(crate) inner: &'c mut Inner,
}

impl<'c> Entered<'c> {
    /// Enters a context.
    ///
    /// # Errors
    /// [`Status::NullPointer`], and [`Status::Busy`] while another thread is inside.
    ///
    /// # Safety
    /// `context` is null or came from [`crate::api::create`] and was not destroyed.
    pub(crate) unsafe fn enter(context: *mut Context) -> Result<Entered<'c>, Status> {
        if context.is_null() {
            return Err(Status::NullPointer);
        }
        // SAFETY: the context lives; the flag is the only part that several threads touch.
        let busy = unsafe { &(*context).busy };
        if busy.swap(true, Ordering::Acquire) {
            return Err(Status::Busy);
        }
        // SAFETY: this thread has just won the flag, so the reference is the only one.
        Ok(Entered { busy, inner: unsafe { &mut (*context).inner } })
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.busy.store(false, Ordering::Release);
    }
}

/// Frees a context; one that is in use by another thread is left alone.
///
/// # Safety
/// `context` is null or came from [`crate::api::create`], and is not used again.
pub unsafe fn destroy(context: *mut Context) {
    // SAFETY: promised by the caller.
    let Ok(entered) = (unsafe { Entered::enter(context) }) else { return };
    let (allocator, own_block) = (entered.inner.allocator, entered.inner.own_block);
    let (tables, arena) = (entered.inner.tables, entered.inner.arena);
    for slot in entered.inner.slots.iter() {
        // SAFETY: the slot's own buffer came from this allocator.
        unsafe { allocator.free(slot.own) };
    }
    core::mem::forget(entered);
    // SAFETY: nobody else is inside. The context is dropped first (which ends its workers), then its memory is freed.
    unsafe {
        core::ptr::drop_in_place(context);
        allocator.free(tables);
        allocator.free(arena);
        allocator.free(own_block);
    }
}

impl Slot {
    pub(crate) fn unbound(io: &'static Io, is_input: bool) -> Slot {
        Slot {
            io,
            is_input,
            data: core::ptr::null_mut(),
            host: core::ptr::null_mut(),
            batch: 0,
            bytes: 0,
            is_hosts: false,
            own: Block::EMPTY,
        }
    }

    /// Appends "input 'x'" or "output 'y'".
    fn describe(&self, text: &mut Text) {
        text.str(if self.is_input { "input '" } else { "output '" }).bytes(self.io.name_bytes()).str("'");
    }

    /// Points the slot at a buffer of the context's own with room for `size`.
    fn use_own(&mut self, size: Size, allocator: &Allocator, why: &mut Text) -> Result<(), Status> {
        let bytes = size.bytes.checked_add(2 * SLACK_BYTES).ok_or(Status::BadBatch)?;
        if self.own.base.is_null() || self.own.bytes < bytes {
            let Some(block) = allocator.zeroed(bytes, ALIGN_BYTES) else {
                self.describe(why);
                why.str(": out of memory, ").number(bytes as u64).str(" bytes");
                return Err(Status::OutOfMemory);
            };
            // SAFETY: the old buffer came from this allocator; the slot stops pointing at it just below.
            unsafe { allocator.free(self.own) };
            self.own = block;
        }
        self.data = self.own.base.wrapping_add(SLACK_BYTES);
        self.host = core::ptr::null_mut();
        (self.batch, self.bytes) = (size.batch, size.bytes);
        self.is_hosts = false;
        Ok(())
    }

    /// Points the slot at the host's memory, or at a copy of it.
    ///
    /// Kernels may read a vector past the end of a buffer. Inside one page that is harmless; where the next page would
    /// be touched, which may not exist, the data goes through a buffer of the context's own.
    fn use_hosts(&mut self, data: *mut u8, size: Size, allocator: &Allocator, why: &mut Text) -> Result<(), Status> {
        let last = (data as usize).wrapping_add(size.bytes.max(1) - 1);
        if last / PAGE_BYTES == last.wrapping_add(OVERREAD_BYTES) / PAGE_BYTES {
            (self.data, self.host) = (data, core::ptr::null_mut());
        } else {
            self.use_own(size, allocator, why)?;
            self.host = data;
        }
        (self.batch, self.bytes, self.is_hosts) = (size.batch, size.bytes, true);
        Ok(())
    }

    /// Copies between the host's memory and `data`, if they differ: before a run for inputs, after it for outputs.
    ///
    /// # Safety
    /// The host's memory is valid for the bound batch.
    unsafe fn exchange(&self, before_run: bool) {
        if self.host.is_null() || self.is_input != before_run {
            return;
        }
        // SAFETY: both are `bytes` long: the host's by the caller's promise, ours by `use_own`; they do not overlap.
        unsafe {
            match self.is_input {
                true => self.data.copy_from_nonoverlapping(self.host, self.bytes),
                false => self.host.copy_from_nonoverlapping(self.data, self.bytes),
            }
        }
    }
}

/// What a tensor takes at a batch.
#[derive(Clone, Copy)]
struct Size {
    batch: usize,
    bytes: usize,
}

/// Smallest unit of memory protection.
const PAGE_BYTES: usize = 4096;
/// Bytes past the end of a buffer that kernels may read.
const OVERREAD_BYTES: usize = 64;

impl Inner {
    /// A text that becomes the context's last error.
    fn fail(error: &mut [u8; 256], status: Status, write: impl FnOnce(&mut Text)) -> Status {
        write(&mut Text::new(error));
        status
    }

    /// Runs `change` with a text for the reason of its failure.
    fn explain<T>(&mut self, change: impl FnOnce(&mut Inner, &mut Text) -> Result<T, Status>) -> Result<T, Status> {
        let mut buffer = [0u8; 256];
        let result = change(self, &mut Text::new(&mut buffer));
        if result.is_err() {
            self.error = buffer;
        }
        result
    }

    /// A model none of whose inputs has a batch is bound to its only batch from the start.
    pub(crate) fn bind_batchless(&mut self, why: &mut Text) -> Result<(), Status> {
        if self.model.inputs().iter().any(|io| io.batched != 0) {
            return Ok(());
        }
        self.set_batch(self.plan[self.plan.len() - 1].items, why)
    }

    /// Makes `batch` the batch of the next run; grows the context's own output buffers.
    fn set_batch(&mut self, batch: usize, why: &mut Text) -> Result<(), Status> {
        self.check_batch(batch, why)?;
        for i in self.model.inputs().len()..self.slots.len() {
            if !self.slots[i].is_hosts {
                let size = self.size(i, batch)?;
                self.slots[i].use_own(size, &self.allocator, why)?;
            }
        }
        self.batch = batch;
        Ok(())
    }

    /// What a tensor takes at `batch` items.
    fn size(&self, slot: usize, batch: usize) -> Result<Size, Status> {
        let bytes = self.model.bytes_at(slot, batch, self.tier.needs).ok_or(Status::BadBatch)?;
        Ok(Size { batch, bytes })
    }

    /// Whether the model serves `batch` at all.
    fn check_batch(&self, batch: usize, why: &mut Text) -> Result<(), Status> {
        let least = self.plan[self.plan.len() - 1].items;
        let has_code = || self.plan.iter().any(|p| p.items == batch);
        if self.model.whole_batches() && !has_code() {
            why.str("batch ").number(batch as u64).str(" given; this model runs batch ");
            for (i, planned) in self.plan.iter().rev().enumerate() {
                why.str(if i > 0 { ", " } else { "" }).number(planned.items as u64);
            }
            why.str(" only");
        } else if batch < least {
            why.str("batch ").number(batch as u64).str(" given; the least this model runs is ").number(least as u64);
        } else if (0..self.slots.len()).any(|i| self.size(i, batch).is_err()) {
            why.str("batch ").number(batch as u64).str(" exceeds the address space");
        } else {
            return Ok(());
        }
        Err(Status::BadBatch)
    }

    fn slot_index(&mut self, index: usize, is_input: bool) -> Result<usize, Status> {
        let n_inputs = self.model.inputs().len();
        let (kind, count, base) = match is_input {
            true => ("input ", n_inputs, 0),
            false => ("output ", self.model.outputs().len(), n_inputs),
        };
        if index < count {
            return Ok(base + index);
        }
        Err(Self::fail(&mut self.error, Status::BadIndex, |text| {
            text.str("there is no ").str(kind).number(index as u64).str("; the model has ").number(count as u64);
        }))
    }

    fn check_address(&mut self, slot: usize, data: *mut u8) -> Result<(), Status> {
        let slot = &self.slots[slot];
        let elem_bytes = ELEM_BYTES[slot.io.elem as usize];
        if (data as usize).is_multiple_of(elem_bytes) {
            return Ok(());
        }
        Err(Self::fail(&mut self.error, Status::Misaligned, |text| {
            slot.describe(text);
            text.str(" is at an address that is not a multiple of ").number(elem_bytes as u64);
        }))
    }

    /// Reads an input from the host's memory.
    pub(crate) fn bind_input(&mut self, index: usize, data: *mut u8, batch: usize) -> Result<(), Status> {
        let i = self.slot_index(index, true)?;
        if data.is_null() {
            return Err(self.null_data(i));
        }
        self.check_address(i, data)?;
        self.input_batch(i, batch)?;
        let size = self.size(i, batch)?;
        self.explain(|inner, why| inner.slots[i].use_hosts(data, size, &inner.allocator, why))
    }

    /// Reads an input from a buffer of the context's own, and returns it.
    pub(crate) fn own_input(&mut self, index: usize, batch: usize) -> Result<*mut u8, Status> {
        let i = self.slot_index(index, true)?;
        self.input_batch(i, batch)?;
        let size = self.size(i, batch)?;
        self.explain(|inner, why| inner.slots[i].use_own(size, &inner.allocator, why))?;
        Ok(self.slots[i].data)
    }

    /// Takes the batch of the context from an input that has one.
    fn input_batch(&mut self, slot: usize, batch: usize) -> Result<(), Status> {
        if self.slots[slot].io.batched == 0 {
            return Ok(());
        }
        self.explain(|inner, why| inner.set_batch(batch, why))
    }

    /// Writes an output to the host's memory; null goes back to the context's own buffer.
    pub(crate) fn bind_output(&mut self, index: usize, data: *mut u8, batch: usize) -> Result<(), Status> {
        let i = self.slot_index(index, false)?;
        if data.is_null() {
            let current = self.batch;
            if current == 0 {
                self.slots[i] = Slot { own: self.slots[i].own, ..Slot::unbound(self.slots[i].io, false) };
                return Ok(());
            }
            let size = self.size(i, current)?;
            return self.explain(|inner, why| inner.slots[i].use_own(size, &inner.allocator, why));
        }
        self.check_address(i, data)?;
        if self.slots[i].io.batched != 0 {
            self.explain(|inner, why| inner.check_batch(batch, why))?;
        }
        let size = self.size(i, batch)?;
        self.explain(|inner, why| inner.slots[i].use_hosts(data, size, &inner.allocator, why))
    }

    /// Where an output is; null before a batch is known.
    pub(crate) fn output(&mut self, index: usize) -> Result<*mut u8, Status> {
        let i = self.slot_index(index, false)?;
        let slot = &self.slots[i];
        Ok(if slot.host.is_null() { slot.data } else { slot.host })
    }

    fn null_data(&mut self, slot: usize) -> Status {
        let slot = &self.slots[slot];
        Self::fail(&mut self.error, Status::NullPointer, |text| {
            slot.describe(text);
            text.str(" was given a null pointer");
        })
    }

    /// Notes a null pointer in the place of argument `name`.
    pub(crate) fn null_argument(&mut self, name: &str) -> Status {
        Self::fail(&mut self.error, Status::NullPointer, |text| {
            text.str("the argument `").str(name).str("` is a null pointer");
        })
    }

    /// Describes the context.
    pub(crate) fn info(&self) -> ContextInfo {
        ContextInfo {
            tier: self.tier.number,
            threads: self.pool.threads(),
            arena_bytes: self.arena.bytes as u64,
            batch: self.batch as u64,
            profile_len: self.profile_len as u64,
        }
    }

    /// Notes a profile buffer of the wrong length.
    pub(crate) fn check_profile(&mut self, len: usize) -> Result<(), Status> {
        if len == self.profile_len {
            return Ok(());
        }
        let want = self.profile_len as u64;
        Err(Self::fail(&mut self.error, Status::BadOption, |text| {
            text.str("a profile of ").number(len as u64).str(" entries given; it has ").number(want);
        }))
    }

    /// Every tensor is bound, with the same batch.
    fn check_bindings(&mut self) -> Result<(), Status> {
        let batch = self.batch;
        for slot in self.slots.iter() {
            if slot.data.is_null() {
                return Err(Self::fail(&mut self.error, Status::Unbound, |text| {
                    slot.describe(text);
                    text.str(" is not bound");
                }));
            }
            if slot.io.batched != 0 && slot.batch != batch {
                return Err(Self::fail(&mut self.error, Status::BatchMismatch, |text| {
                    slot.describe(text);
                    text.str(" is bound with batch ").number(slot.batch as u64);
                    text.str(", the last bound input with batch ").number(batch as u64);
                }));
            }
        }
        Ok(())
    }

    /// Computes the outputs of the bound batch.
    ///
    /// # Safety
    /// Every pointer bound by the host is valid for its tensor at the bound batch; inputs and outputs do not overlap.
    /// `times` has [`ContextInfo::profile_len`] entries when there is one.
    pub(crate) unsafe fn run(&mut self, mut times: Option<&mut [StepTime]>) -> Result<(), Status> {
        self.check_bindings()?;
        let _rounding = Rounding::enter();
        // SAFETY: promised by the caller.
        self.slots.iter().for_each(|slot| unsafe { slot.exchange(true) });
        let mut done = 0;
        while done < self.batch {
            let rest = self.batch - done;
            let least = self.plan[self.plan.len() - 1];
            let planned = self.plan.iter().find(|p| p.items <= rest).copied().unwrap_or(least);
            let items = planned.items;
            // `check_batch` made sure that the batch holds the smallest variant.
            let first = if items > rest { self.batch - items } else { done };
            for (pointer, slot) in self.io.iter_mut().zip(self.slots.iter()) {
                let offset = if slot.io.batched != 0 { first * slot.io.bytes_per_item as usize } else { 0 };
                *pointer = slot.data.wrapping_add(offset);
            }
            // SAFETY: the pointers cover `items` items from `first` on; the rest is promised by the caller.
            unsafe { self.run_variant(planned, times.as_deref_mut()) };
            // SAFETY: the steps have run in this arena.
            self.explain(|inner, why| unsafe { checks::look(planned.variant, inner.arena.base, why) })?;
            done = first + items;
        }
        // SAFETY: promised by the caller.
        self.slots.iter().for_each(|slot| unsafe { slot.exchange(false) });
        Ok(())
    }

    /// # Safety
    /// `io` covers the variant's batch.
    unsafe fn run_variant(&mut self, planned: Planned, times: Option<&mut [StepTime]>) {
        let frame = Frame {
            arena: self.arena.base.wrapping_add(SLACK_BYTES),
            weights: self.model.raw().weights,
            io: self.io.as_ptr(),
        };
        let steps = planned.variant.program();
        let Some(times) = times.and_then(|all| all.get_mut(planned.profile_base..)) else {
            for step in steps {
                // SAFETY: promised by the caller.
                unsafe { run_step(&mut self.pool, step, &frame) };
            }
            return;
        };
        let mut before = sys::now_ns();
        for (step, time) in steps.iter().zip(times) {
            // SAFETY: promised by the caller.
            unsafe { run_step(&mut self.pool, step, &frame) };
            let now = sys::now_ns();
            time.ns += now - before;
            time.calls += 1;
            before = now;
        }
    }
}

/// What the pool hands to each thread.
struct StepCall<'a> {
    step: &'a Step,
    frame: &'a Frame,
}

/// # Safety
/// The frame is valid for the step's variant.
unsafe fn run_step(pool: &mut Pool, step: &Step, frame: &Frame) {
    unsafe fn tasks(call: *const c_void, begin: usize, end: usize) {
        // SAFETY: `run_step` passes its `StepCall`, which outlives the job.
        let call = unsafe { &*call.cast::<StepCall>() };
        // SAFETY: the frame is valid, and the pool passes ranges inside `0..tasks`.
        unsafe { (call.step.func)(call.frame, begin, end) };
    }
    let call = StepCall { step, frame };
    // SAFETY: tasks of a step may run on any thread (see `Step`).
    unsafe { pool.run(step.tasks as usize, tasks, (&raw const call).cast()) };
}
