//! What a context's inputs and outputs are bound to, and the shape and batch that follow from it.
//!
//! A model has variants of several shapes; those that differ in the batch only are of one shape, and the first of them in
//! the model stands for it. The shape of a context is the one that the last input was bound with. The other inputs have to
//! be bound with shapes that belong to it, which a run makes sure of. Nothing is ever padded or cut.

use crate::abi::*;
use crate::executor::{Inner, Planned};
use crate::memory::{Allocator, Block};
use crate::text::Text;

/// The binding of one input or output; inputs come first.
pub(crate) struct Slot {
    pub(crate) io: &'static Io,
    pub(crate) is_input: bool,
    /// Where steps find the data; null while unbound.
    pub(crate) data: *mut u8,
    /// The host's memory when it is not `data` itself; else null. Inputs are copied from it, outputs to it.
    pub(crate) host: *mut u8,
    /// What `data` holds.
    size: Size,
    /// Whether `data` is the host's memory.
    is_hosts: bool,
    /// The context's own buffer.
    pub(crate) own: Block,
}

/// What a tensor takes at a batch.
#[derive(Clone, Copy)]
struct Size {
    batch: usize,
    bytes: usize,
    /// Shape of one item.
    item: [i64; MAX_RANK],
}

/// Smallest unit of memory protection.
const PAGE_BYTES: usize = 4096;
/// Bytes past the end of a buffer that kernels may read.
const OVERREAD_BYTES: usize = 64;
/// The most shapes that a sentence lists.
const LISTED: usize = 8;

impl Slot {
    pub(crate) fn unbound(io: &'static Io, is_input: bool, own: Block) -> Slot {
        let size = Size { batch: 0, bytes: 0, item: [0; MAX_RANK] };
        Slot { io, is_input, data: core::ptr::null_mut(), host: core::ptr::null_mut(), size, is_hosts: false, own }
    }

    /// Appends "input 'x'" or "output 'y'".
    pub(crate) fn describe(&self, text: &mut Text) {
        text.str(if self.is_input { "input '" } else { "output '" }).bytes(self.io.name_bytes()).str("'");
    }

    /// Whether its shape differs between the variants of a model by more than the batch.
    fn is_open(&self) -> bool {
        self.io.dims.contains(&-1)
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
        self.size = size;
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
        (self.size, self.is_hosts) = (size, true);
        Ok(())
    }

    /// Copies between the host's memory and `data`, if they differ: before a run for inputs, after it for outputs.
    ///
    /// # Safety
    /// The host's memory is valid for the bound batch.
    pub(crate) unsafe fn exchange(&self, before_run: bool) {
        if self.host.is_null() || self.is_input != before_run {
            return;
        }
        // SAFETY: both are `bytes` long: the host's by the caller's promise, ours by `use_own`; they do not overlap.
        unsafe {
            match self.is_input {
                true => self.data.copy_from_nonoverlapping(self.host, self.size.bytes),
                false => self.host.copy_from_nonoverlapping(self.data, self.size.bytes),
            }
        }
    }
}

impl Inner {
    /// A model none of whose inputs has a batch, and which has one shape, is bound to its only batch from the start.
    pub(crate) fn bind_batchless(&mut self, why: &mut Text) -> Result<(), Status> {
        if self.model.inputs().iter().any(|io| io.batched != 0 || io.dims.contains(&-1)) {
            return Ok(());
        }
        let items = self.of_shape().map(|p| p.items).next_back().unwrap_or(1);
        self.set_batch(items, why)
    }

    /// The variants of the shape in use, largest batch first.
    pub(crate) fn of_shape(&self) -> impl DoubleEndedIterator<Item = &Planned> {
        let lead = self.lead;
        self.plan.iter().filter(move |p| core::ptr::eq(p.lead, lead))
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

    /// What a tensor takes at `batch` items of the shape in use.
    fn size(&self, slot: usize, batch: usize) -> Result<Size, Status> {
        let bytes = self.model.bytes_at(self.lead, slot, batch).ok_or(Status::BadBatch)?;
        let item = self.model.item(self.lead, slot).ok_or(Status::BadModel)?;
        Ok(Size { batch, bytes, item })
    }

    /// Whether the model serves `batch` at all in the shape in use.
    fn check_batch(&self, batch: usize, why: &mut Text) -> Result<(), Status> {
        let least = self.of_shape().next_back().map_or(1, |p| p.items);
        let has_code = || self.of_shape().any(|p| p.items == batch);
        if self.model.whole_batches() && !has_code() {
            why.str("batch ").number(batch as u64).str(" given; this model runs batch ");
            for (i, planned) in self.of_shape().rev().enumerate() {
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

    /// Reads an input from the host's memory.
    pub(crate) fn bind_input(&mut self, index: usize, data: *mut u8, batch: usize) -> Result<(), Status> {
        let i = self.slot_index(index, true)?;
        self.check_data(i, data)?;
        self.input_batch(i, batch)?;
        self.use_hosts(i, data, batch)
    }

    /// Reads an input of this shape from the host's memory.
    pub(crate) fn bind_input_shape(&mut self, index: usize, data: *mut u8, dims: &[i64]) -> Result<(), Status> {
        let i = self.slot_index(index, true)?;
        self.check_data(i, data)?;
        let batch = self.explain(|inner, why| inner.take_shape(i, dims, why))?;
        self.use_hosts(i, data, batch)
    }

    fn use_hosts(&mut self, slot: usize, data: *mut u8, batch: usize) -> Result<(), Status> {
        let size = self.size(slot, batch)?;
        self.explain(|inner, why| inner.slots[slot].use_hosts(data, size, &inner.allocator, why))
    }

    /// Reads an input from a buffer of the context's own, and returns it.
    pub(crate) fn own_input(&mut self, index: usize, batch: usize) -> Result<*mut u8, Status> {
        let i = self.slot_index(index, true)?;
        self.input_batch(i, batch)?;
        self.use_own(i, batch)
    }

    /// Reads an input of this shape from a buffer of the context's own, and returns it.
    pub(crate) fn own_input_shape(&mut self, index: usize, dims: &[i64]) -> Result<*mut u8, Status> {
        let i = self.slot_index(index, true)?;
        let batch = self.explain(|inner, why| inner.take_shape(i, dims, why))?;
        self.use_own(i, batch)
    }

    fn use_own(&mut self, slot: usize, batch: usize) -> Result<*mut u8, Status> {
        let size = self.size(slot, batch)?;
        self.explain(|inner, why| inner.slots[slot].use_own(size, &inner.allocator, why))?;
        Ok(self.slots[slot].data)
    }

    /// Takes the batch of the context from an input that has one.
    fn input_batch(&mut self, slot: usize, batch: usize) -> Result<(), Status> {
        self.check_stated(slot)?;
        if self.slots[slot].io.batched == 0 {
            let known = self.batch != 0;
            return if known { Ok(()) } else { self.explain(Inner::bind_batchless) };
        }
        self.explain(|inner, why| inner.set_batch(batch, why))
    }

    /// Refuses to take a batch for a shape that was never stated: it would be taken for another one.
    fn check_stated(&mut self, slot: usize) -> Result<(), Status> {
        if self.is_stated || !self.slots[slot].is_open() {
            return Ok(());
        }
        self.explain(|inner, why| {
            inner.slots[slot].describe(why);
            why.str(" has several shapes; bind an input with its shape first: ");
            inner.list_shapes(slot, why);
            Err(Status::BadShape)
        })
    }

    /// Takes shape and batch of the context from the shape that an input is bound with; returns the batch.
    fn take_shape(&mut self, slot: usize, dims: &[i64], why: &mut Text) -> Result<usize, Status> {
        let mut best: Option<(usize, &'static Variant)> = None;
        for planned in self.leads() {
            let fits = self.batch_of(planned.lead, slot, dims).is_some();
            let kept = self.bound_as(planned.lead, slot);
            if fits && best.is_none_or(|(most, _)| kept > most) {
                best = Some((kept, planned.lead));
            }
        }
        let Some((_, lead)) = best else {
            self.slots[slot].describe(why);
            why.str(" has shape ");
            list_dims(dims, false, why);
            why.str("; this model runs ");
            self.list_shapes(slot, why);
            return Err(Status::BadShape);
        };
        let batch = self.batch_of(lead, slot, dims).unwrap_or(1);
        let before = (self.lead, self.is_stated);
        (self.lead, self.is_stated) = (lead, true);
        // An input without a batch leaves that of the others; outputs may have another shape with the new one.
        let wanted = if self.slots[slot].io.batched != 0 { batch } else { self.batch };
        let other = !core::ptr::eq(before.0, lead);
        if self.slots[slot].io.batched != 0 || other && wanted != 0 {
            self.set_batch(wanted, why).inspect_err(|_| (self.lead, self.is_stated) = before)?;
        } else if self.model.inputs().iter().all(|io| io.batched == 0) {
            let only = self.of_shape().next_back().map_or(1, |p| p.items);
            self.set_batch(only, why).inspect_err(|_| (self.lead, self.is_stated) = before)?;
        }
        Ok(batch)
    }

    /// The first variant of each shape.
    fn leads(&self) -> impl Iterator<Item = &Planned> {
        self.plan.iter().filter(|p| core::ptr::eq(p.lead, p.variant))
    }

    /// How many inputs besides `slot` are bound with a shape that belongs to that of `lead`.
    fn bound_as(&self, lead: &Variant, slot: usize) -> usize {
        let inputs = self.slots.iter().take(self.model.inputs().len()).enumerate();
        let others = inputs.filter(|(i, s)| *i != slot && !s.data.is_null());
        others.filter(|(i, s)| self.model.item(lead, *i) == Some(s.size.item)).count()
    }

    /// The batch that `dims` make of an input at the shape of `lead`; none when they do not fit it.
    fn batch_of(&self, lead: &Variant, slot: usize, dims: &[i64]) -> Option<usize> {
        let io = self.slots[slot].io;
        let item = self.model.item(lead, slot)?;
        let item = &item[..io.rank as usize];
        if io.batched == 0 {
            return (item == dims).then_some(1);
        }
        let ((rows, rest), (all, others)) = (item.split_first()?, dims.split_first()?);
        let fits = rest == others && *all > 0 && all.checked_rem(*rows) == Some(0);
        usize::try_from(all / rows).ok().filter(|_| fits)
    }

    /// Appends the shapes that an input may have, `n` being the batch.
    fn list_shapes(&self, slot: usize, why: &mut Text) {
        let io = self.slots[slot].io;
        let item = |lead: &Variant| self.model.item(lead, slot).unwrap_or([0; MAX_RANK]);
        let mut listed = 0;
        let mut left = 0;
        for (i, planned) in self.leads().enumerate() {
            let own = item(planned.lead);
            if self.leads().take(i).any(|earlier| item(earlier.lead) == own) {
                continue;
            }
            if listed == LISTED {
                left += 1;
                continue;
            }
            why.str(if listed > 0 { ", " } else { "" });
            list_dims(&own[..io.rank as usize], io.batched != 0, why);
            listed += 1;
        }
        if left > 0 {
            why.str(" and ").number(left).str(" more");
        }
    }

    /// Writes an output to the host's memory; null goes back to the context's own buffer.
    pub(crate) fn bind_output(&mut self, index: usize, data: *mut u8, batch: usize) -> Result<(), Status> {
        let i = self.slot_index(index, false)?;
        if data.is_null() {
            let current = self.batch;
            if current == 0 {
                self.slots[i] = Slot::unbound(self.slots[i].io, false, self.slots[i].own);
                return Ok(());
            }
            return self.use_own(i, current).map(drop);
        }
        self.check_address(i, data)?;
        self.check_stated(i)?;
        if self.slots[i].io.batched != 0 {
            self.explain(|inner, why| inner.check_batch(batch, why))?;
        }
        self.use_hosts(i, data, batch)
    }

    /// Where an output is; null before a batch is known.
    pub(crate) fn output(&mut self, index: usize) -> Result<*mut u8, Status> {
        let i = self.slot_index(index, false)?;
        let slot = &self.slots[i];
        Ok(if slot.host.is_null() { slot.data } else { slot.host })
    }

    /// The shape that tensor `index`, inputs first, has in the next run.
    pub(crate) fn bound_shape(&mut self, index: usize) -> Result<[i64; MAX_RANK], Status> {
        let n_inputs = self.model.inputs().len();
        let i = match index.checked_sub(n_inputs) {
            None => self.slot_index(index, true)?,
            Some(output) => self.slot_index(output, false)?,
        };
        let needs_batch = self.slots[i].io.batched != 0 || self.slots[i].is_open();
        if self.batch == 0 && needs_batch {
            return Err(Self::fail(&mut self.error, Status::Unbound, |text| {
                self.slots[i].describe(text);
                text.str(" has no shape before an input is bound");
            }));
        }
        self.model.shape_at(self.lead, i, self.batch).ok_or(Status::BadBatch)
    }

    fn check_data(&mut self, slot: usize, data: *mut u8) -> Result<(), Status> {
        if data.is_null() {
            return Err(Self::fail(&mut self.error, Status::NullPointer, |text| {
                self.slots[slot].describe(text);
                text.str(" was given a null pointer");
            }));
        }
        self.check_address(slot, data)
    }

    /// Every tensor is bound, with the same batch and with the shape in use.
    pub(crate) fn check_bindings(&mut self) -> Result<(), Status> {
        let batch = self.batch;
        for (i, slot) in self.slots.iter().enumerate() {
            if slot.data.is_null() {
                return Err(Self::fail(&mut self.error, Status::Unbound, |text| {
                    slot.describe(text);
                    text.str(" is not bound");
                }));
            }
            if self.model.item(self.lead, i) != Some(slot.size.item) {
                return Err(Self::fail(&mut self.error, Status::BadShape, |text| {
                    slot.describe(text);
                    text.str(" is bound with shape ");
                    let (rank, batched) = (slot.io.rank as usize, slot.io.batched != 0);
                    list_dims(&slot.size.item[..rank], batched, text);
                    text.str("; with the last bound input belongs ");
                    let own = self.model.item(self.lead, i).unwrap_or([0; MAX_RANK]);
                    list_dims(&own[..rank], batched, text);
                }));
            }
            if slot.io.batched != 0 && slot.size.batch != batch {
                return Err(Self::fail(&mut self.error, Status::BatchMismatch, |text| {
                    slot.describe(text);
                    text.str(" is bound with batch ").number(slot.size.batch as u64);
                    text.str(", the last bound input with batch ").number(batch as u64);
                }));
            }
        }
        Ok(())
    }
}

/// Appends `[n, 3, 224]`, or `[2n, 3]` where an item has several rows.
fn list_dims(dims: &[i64], batched: bool, why: &mut Text) {
    why.str("[");
    for (i, &dim) in dims.iter().enumerate() {
        why.str(if i > 0 { ", " } else { "" });
        if dim < 0 {
            why.str("-");
        }
        if i > 0 || !batched || dim != 1 {
            why.number(dim.unsigned_abs());
        }
        if i == 0 && batched {
            why.str("n");
        }
    }
    why.str("]");
}
