//! Runs a model: chooses variants, keeps the arena and the bindings, and walks the step list.
//!
//! A context allocates when it is made and when a bind changes what it must hold; `run` allocates nothing and takes no
//! lock. A batch is served by the variants that exist, largest first: 21 is 8 + 8 + 4 + 1 when these were compiled. When
//! the rest is smaller than the smallest variant, that variant runs once more over the last items, which computes some
//! of them twice to the same values. A model whose items are not independent runs a batch in one call of its variant, or
//! not at all.

use crate::abi::*;
use crate::bindings::Slot;
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
    /// The shape in use: the first variant that has it.
    pub(crate) lead: &'static Variant,
    /// Whether an input was bound with its shape.
    pub(crate) is_stated: bool,
    /// The bound batch; 0 while unknown.
    pub(crate) batch: usize,
    pub(crate) error: [u8; 256],
}

/// What is done when a step has run.
pub(crate) enum Each<'a> {
    /// Nothing.
    Nothing,
    /// Its time is added to that of the variant's step.
    Time(&'a mut [StepTime]),
    /// It is shown the arena, with the number of the step in its variant.
    Look(&'a mut dyn FnMut(usize, &[u8])),
}

/// A variant that may run, and where its steps are in a profile.
#[derive(Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) variant: &'static Variant,
    /// The first variant of its shape.
    pub(crate) lead: &'static Variant,
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

impl Inner {
    /// A text that becomes the context's last error.
    pub(crate) fn fail(error: &mut [u8; 256], status: Status, write: impl FnOnce(&mut Text)) -> Status {
        write(&mut Text::new(error));
        status
    }

    /// Runs `change` with a text for the reason of its failure.
    pub(crate) fn explain<T>(
        &mut self,
        change: impl FnOnce(&mut Inner, &mut Text) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let mut buffer = [0u8; 256];
        let result = change(self, &mut Text::new(&mut buffer));
        if result.is_err() {
            self.error = buffer;
        }
        result
    }

    pub(crate) fn slot_index(&mut self, index: usize, is_input: bool) -> Result<usize, Status> {
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

    pub(crate) fn check_address(&mut self, slot: usize, data: *mut u8) -> Result<(), Status> {
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

    /// Computes the outputs of the bound batch.
    ///
    /// # Safety
    /// Every pointer bound by the host is valid for its tensor at the bound batch; inputs and outputs do not overlap.
    /// Times have [`ContextInfo::profile_len`] entries.
    pub(crate) unsafe fn run(&mut self, mut each: Each<'_>) -> Result<(), Status> {
        self.check_bindings()?;
        let _rounding = Rounding::enter();
        // SAFETY: promised by the caller.
        self.slots.iter().for_each(|slot| unsafe { slot.exchange(true) });
        let mut done = 0;
        while done < self.batch {
            let rest = self.batch - done;
            // The variants of a shape, of which there is at least one, are in order: the last is the smallest.
            let fits = self.of_shape().find(|p| p.items <= rest).or(self.of_shape().next_back()).copied();
            let Some(planned) = fits else { return Err(Status::BadModel) };
            let items = planned.items;
            // `check_batch` made sure that the batch holds the smallest variant.
            let first = if items > rest { self.batch - items } else { done };
            let (model, lead) = (self.model, self.lead);
            for (i, (pointer, slot)) in self.io.iter_mut().zip(self.slots.iter()).enumerate() {
                let offset = if first > 0 && slot.io.batched != 0 { first * model.item_bytes(lead, i) } else { 0 };
                *pointer = slot.data.wrapping_add(offset);
            }
            // SAFETY: the pointers cover `items` items from `first` on; the rest is promised by the caller.
            unsafe { self.run_variant(planned, &mut each) };
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
    unsafe fn run_variant(&mut self, planned: Planned, each: &mut Each<'_>) {
        let frame = Frame {
            arena: self.arena.base.wrapping_add(SLACK_BYTES),
            weights: self.model.raw().weights,
            io: self.io.as_ptr(),
        };
        let steps = planned.variant.program();
        let mut before = if let Each::Time(_) = each { sys::now_ns() } else { 0 };
        for (i, step) in steps.iter().enumerate() {
            // SAFETY: promised by the caller.
            unsafe { run_step(&mut self.pool, step, planned.variant, &frame) };
            match each {
                Each::Nothing => {}
                Each::Time(times) => {
                    let now = sys::now_ns();
                    if let Some(time) = times.get_mut(planned.profile_base + i) {
                        time.ns += now - before;
                        time.calls += 1;
                    }
                    before = now;
                }
                Each::Look(look) => {
                    let bytes = self.arena.bytes.saturating_sub(2 * SLACK_BYTES);
                    // SAFETY: the arena is memory of the context, zero at first, that no step writes to now.
                    look(i, unsafe { core::slice::from_raw_parts(frame.arena, bytes) });
                }
            }
        }
    }
}

/// What the pool hands to each thread.
struct StepCall<'a> {
    step: &'a Step,
    operands: *const u64,
    frame: &'a Frame,
}

/// # Safety
/// The frame is valid for the variant, and the step is one of it.
unsafe fn run_step(pool: &mut Pool, step: &Step, variant: &Variant, frame: &Frame) {
    unsafe fn tasks(call: *const c_void, begin: usize, end: usize) {
        // SAFETY: `run_step` passes its `StepCall`, which outlives the job.
        let call = unsafe { &*call.cast::<StepCall>() };
        // SAFETY: frame and operands are those of the step, and the pool passes ranges inside `0..tasks`.
        unsafe { (call.step.func)(call.frame, begin, end, call.operands) };
    }
    let call = StepCall { step, operands: variant.operands.wrapping_add(step.operands as usize), frame };
    // SAFETY: tasks of a step may run on any thread (see `Step`).
    unsafe { pool.run(step.tasks as usize, tasks, (&raw const call).cast()) };
}
