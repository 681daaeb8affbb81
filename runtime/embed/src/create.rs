//! Makes contexts: chooses the tier and the threads, and allocates everything a run needs.

use crate::abi::*;
use crate::bindings::Slot;
use crate::executor::{Inner, Planned};
use crate::host::{Tier, host_features, tiers};
use crate::memory::{Allocator, Block};
use crate::pool::Pool;
use crate::sys;
use crate::text::{Text, c_bytes};
use crate::threads::{MAX_THREADS, default_threads};
use crate::view::ModelView;
use core::sync::atomic::AtomicBool;

/// Makes a context for `model`.
///
/// # Errors
/// A status, with the reason in `why`.
///
/// # Safety
/// `model` is as [`ModelView::new`] demands and outlives the context; pointers in `options` are valid for this call, and
/// its hooks for the context's life.
pub unsafe fn create(model: *const Model, options: &Options, why: &mut Text) -> Result<*mut Context, Status> {
    // SAFETY: promised by the caller.
    let model: ModelView<'static> = unsafe { ModelView::new(model, why) }?;
    // SAFETY: promised by the caller.
    let (allocator, tier) = unsafe { (allocator_of(options, why)?, choose_tier(model, options, why)?) };
    let threads = choose_threads(options, why)?;
    let mut builder = Builder { allocator, blocks: [Block::EMPTY; 3] };
    let built = builder.build(model, tier, threads, why);
    if built.is_err() {
        for block in builder.blocks {
            // SAFETY: the blocks came from this allocator, and nothing that used them is left.
            unsafe { allocator.free(block) };
        }
    }
    built
}

/// # Safety
/// The hooks keep their contract ([`Allocator::hooks`]).
unsafe fn allocator_of(options: &Options, why: &mut Text) -> Result<Allocator, Status> {
    match (options.alloc, options.free) {
        (None, None) => Ok(Allocator::system()),
        // SAFETY: promised by the caller.
        (Some(alloc), Some(free)) => Ok(unsafe { Allocator::hooks(alloc, free, options.user) }),
        _ => {
            why.str("alloc and free must be set together");
            Err(Status::BadOption)
        }
    }
}

/// The most preferred tier of the model among those the CPU and the cap allow.
///
/// # Safety
/// `options.cpu` is null or NUL-terminated.
unsafe fn choose_tier(model: ModelView, options: &Options, why: &mut Text) -> Result<Tier, Status> {
    // SAFETY: promised by the caller.
    let asked = unsafe { c_bytes(options.cpu.cast()) };
    let (source, cap) = if asked.is_empty() {
        ("QC_CPU", sys::environment(b"QC_CPU\0").unwrap_or(b""))
    } else {
        ("the cpu option", asked)
    };
    let last = match cap {
        b"" => usize::MAX,
        name => match tiers().position(|tier| tier.name.to_bytes() == name) {
            Some(rank) => rank,
            None => {
                why.str(source).str(" is '").bytes(name).str("'; known are ");
                name_all(why);
                return Err(Status::BadOption);
            }
        },
    };
    let host = host_features();
    let runs = |tier: &Tier| host & tier.needs == tier.needs;
    let holds = |tier: &Tier| model.variants().iter().any(|v| v.features == tier.needs);
    let (mut best, mut least, mut offered) = (None, None, None);
    for (rank, tier) in tiers().enumerate() {
        if holds(&tier) && runs(&tier) && rank <= last {
            best = Some(tier);
        }
        if holds(&tier) && least.is_none() {
            least = Some(tier);
        }
        if runs(&tier) {
            offered = Some(tier);
        }
    }
    if let Some(best) = best {
        return Ok(best);
    }
    let name = |tier: Option<Tier>| tier.map_or(&b"an unknown tier"[..], |t| t.name.to_bytes());
    why.str("model '").bytes(model.name()).str("' needs ").bytes(name(least)).str(", ");
    if least.is_some_and(|tier| runs(&tier)) {
        why.str(source).str(" caps it at ").bytes(cap);
    } else {
        why.str("this CPU offers ").bytes(name(offered));
        why.str("; compile it for that, or for several tiers");
    }
    Err(Status::TierUnsupported)
}

/// The names of all tiers as a list in a sentence.
fn name_all(why: &mut Text) {
    let count = tiers().count();
    for (i, tier) in tiers().enumerate() {
        let before = if i == 0 {
            ""
        } else if i + 1 == count {
            " and "
        } else {
            ", "
        };
        why.str(before).bytes(tier.name.to_bytes());
    }
}

fn choose_threads(options: &Options, why: &mut Text) -> Result<u32, Status> {
    match options.threads {
        0 => default_threads().map_err(|_| {
            why.str("QC_NUM_THREADS must be a number from 0 to ").number(MAX_THREADS as u64);
            Status::BadOption
        }),
        n if n <= MAX_THREADS => Ok(n),
        n => {
            why.number(n as u64).str(" threads asked for; the most is ").number(MAX_THREADS as u64);
            Err(Status::BadOption)
        }
    }
}

/// Allocates a context's memory; keeps the blocks so that a failure can free them.
struct Builder {
    allocator: Allocator,
    blocks: [Block; 3],
}

impl Builder {
    fn block(&mut self, i: usize, bytes: usize, align: usize, why: &mut Text) -> Result<Block, Status> {
        match self.allocator.zeroed(bytes, align) {
            Some(block) => {
                self.blocks[i] = block;
                Ok(block)
            }
            None => {
                why.str("out of memory: ").number(bytes as u64).str(" bytes");
                Err(Status::OutOfMemory)
            }
        }
    }

    fn build(
        &mut self,
        model: ModelView<'static>,
        tier: Tier,
        threads: u32,
        why: &mut Text,
    ) -> Result<*mut Context, Status> {
        let own_block = self.block(0, size_of::<Context>(), ALIGN_BYTES, why)?;
        let tables = self.block(1, table_bytes(model, tier), 16, why)?;
        let arena = self.block(2, arena_bytes(model, tier), ALIGN_BYTES, why)?;
        // SAFETY: the block is as long as `table_bytes` says, was just made, and lives as long as the context.
        let tables_of = unsafe { write_tables(tables, model, tier, |_| Block::EMPTY) };
        let Some(Tables { slots, io, plan }) = tables_of else { return Err(Status::BadModel) };
        let Some(pool) = Pool::new(threads, self.allocator) else {
            why.str("out of memory for the threads");
            return Err(Status::OutOfMemory);
        };
        let (lead, is_stated, profile_len) = whole_of(plan);
        let (allocator, error) = (self.allocator, [0; 256]);
        let mut inner = Inner {
            model,
            tier,
            allocator,
            own_block,
            tables,
            arena,
            pool,
            slots,
            io,
            plan,
            profile_len,
            lead,
            is_stated,
            batch: 0,
            error,
        };
        if let Err(status) = inner.bind_batchless(why) {
            for slot in inner.slots.iter() {
                // SAFETY: the slot's own buffer came from this allocator and was shown to nobody.
                unsafe { self.allocator.free(slot.own) };
            }
            return Err(status);
        }
        let context = own_block.base.cast::<Context>();
        // SAFETY: the block has the size and alignment of a context.
        unsafe { context.write(Context { busy: AtomicBool::new(false), inner }) };
        Ok(context)
    }
}

/// Makes a context run another model; see [`Api::adopt`]. When it fails, the context is as it was.
///
/// # Errors
/// [`Status::BadModel`] for tables that contradict themselves or another interface, [`Status::TierUnsupported`] for a model
/// without code for the tier in use, [`Status::OutOfMemory`].
///
/// # Safety
/// `model` is as [`ModelView::new`] demands and outlives the context's use of it.
pub(crate) unsafe fn adopt(inner: &mut Inner, model: *const Model) -> Result<(), Status> {
    inner.explain(|inner, why| {
        // SAFETY: promised by the caller.
        let model: ModelView<'static> = unsafe { ModelView::new(model, why) }?;
        let alike = |a: &[Io], b: &[Io]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.elem == b.elem);
        let old = inner.model;
        if !alike(old.inputs(), model.inputs()) || !alike(old.outputs(), model.outputs()) {
            why.str("the model has other inputs or outputs");
            return Err(Status::BadModel);
        }
        let tier = inner.tier;
        if !model.variants().iter().any(|v| v.features == tier.needs) {
            why.str("the model has no code for ").bytes(tier.name.to_bytes());
            return Err(Status::TierUnsupported);
        }
        let mut builder = Builder { allocator: inner.allocator, blocks: [Block::EMPTY; 3] };
        let tables = builder.block(1, table_bytes(model, tier), 16, why)?;
        let wanted = arena_bytes(model, tier);
        let arena = match wanted > inner.arena.bytes {
            true => builder.block(2, wanted, ALIGN_BYTES, why),
            false => Ok(inner.arena),
        };
        let arena = arena.inspect_err(|_| {
            // SAFETY: the tables were just made and nobody uses them.
            unsafe { inner.allocator.free(tables) };
        })?;
        // SAFETY: as in `build`; own buffers move to the new slots, and the old slots are not used again.
        let tables_of = unsafe { write_tables(tables, model, tier, |i| inner.slots[i].own) };
        let Some(Tables { slots, io, plan }) = tables_of else { return Err(Status::BadModel) };
        let (old_tables, old_arena) = (inner.tables, inner.arena);
        (inner.lead, inner.is_stated, inner.profile_len) = whole_of(plan);
        (inner.model, inner.batch) = (model, 0);
        (inner.tables, inner.slots, inner.io, inner.plan) = (tables, slots, io, plan);
        inner.arena = arena;
        // SAFETY: nothing points into the old tables any more, nor into the old arena if there is another one.
        unsafe {
            inner.allocator.free(old_tables);
            if old_arena.base != arena.base {
                inner.allocator.free(old_arena);
            }
        }
        // Outputs get their buffers when an input is bound: what could fail there must not leave half a change here.
        Ok(())
    })
}

/// The variants of a tier, in model order.
fn usable(model: ModelView<'static>, tier: Tier) -> impl Iterator<Item = &'static Variant> {
    model.variants().iter().filter(move |v| v.features == tier.needs)
}

/// Bytes of the arena that the largest variant needs, with slack.
fn arena_bytes(model: ModelView<'static>, tier: Tier) -> usize {
    usable(model, tier).map(|v| v.arena_bytes).max().unwrap_or(0) as usize + 2 * SLACK_BYTES
}

/// Bytes of the tables that [`write_tables`] writes.
fn table_bytes(model: ModelView<'static>, tier: Tier) -> usize {
    let n_io = model.inputs().len() + model.outputs().len();
    n_io * (size_of::<Slot>() + size_of::<*mut u8>()) + usable(model, tier).count() * size_of::<Planned>()
}

/// What a context keeps for one model.
struct Tables {
    slots: &'static mut [Slot],
    io: &'static mut [*mut u8],
    plan: &'static mut [Planned],
}

/// The first shape, whether it is the only one, and the length of a profile.
fn whole_of(plan: &[Planned]) -> (&'static Variant, bool, usize) {
    let steps = plan.iter().map(|p| p.variant.n_steps as usize).sum();
    let first = plan.iter().min_by_key(|p| p.profile_base).map_or(plan[0].lead, |p| p.lead);
    (first, plan.iter().all(|p| core::ptr::eq(p.lead, first)), steps)
}

/// Writes slots, pointers and plan, the variants of the largest batch first; none without a variant. `own` gives each slot
/// the buffer of its own that it begins with.
///
/// # Safety
/// `block` is as long as [`table_bytes`] says, aligned for pointers, nobody else's, and lives as long as the tables.
unsafe fn write_tables(
    block: Block,
    model: ModelView<'static>,
    tier: Tier,
    own: impl Fn(usize) -> Block,
) -> Option<Tables> {
    let n_io = model.inputs().len() + model.outputs().len();
    let n_plan = usable(model, tier).count();
    // SAFETY: the three tables follow each other inside the block, all of pointer alignment, and are written before they
    // are referenced.
    let tables = unsafe {
        let slots = block.base.cast::<Slot>();
        let ios = model.inputs().iter().map(|io| (io, true)).chain(model.outputs().iter().map(|io| (io, false)));
        for (i, (io, is_input)) in ios.enumerate() {
            slots.add(i).write(Slot::unbound(io, is_input, own(i)));
        }
        let io = slots.add(n_io).cast::<*mut u8>();
        io.write_bytes(0, n_io);
        let plan = io.add(n_io).cast::<Planned>();
        write_plan(plan, model, tier);
        Tables {
            slots: core::slice::from_raw_parts_mut(slots, n_io),
            io: core::slice::from_raw_parts_mut(io, n_io),
            plan: core::slice::from_raw_parts_mut(plan, n_plan),
        }
    };
    // Insertion sort: `sort_unstable` would bring more code than the executor has.
    let plan = &mut *tables.plan;
    for end in 1..plan.len() {
        let mut i = end;
        while i > 0 && plan[i - 1].items < plan[i].items {
            plan.swap(i - 1, i);
            i -= 1;
        }
    }
    (n_plan > 0).then_some(tables)
}

/// Writes the variants that may run to `plan`, with the place of their steps in a profile.
///
/// # Safety
/// `plan` has room for every usable variant.
unsafe fn write_plan(plan: *mut Planned, model: ModelView<'static>, tier: Tier) {
    let mut profile_base = 0;
    for (i, variant) in usable(model, tier).enumerate() {
        let lead = usable(model, tier).take(i).find(|earlier| model.same_shape(earlier, variant)).unwrap_or(variant);
        let items = variant.batch as usize;
        // SAFETY: promised by the caller.
        unsafe { plan.add(i).write(Planned { variant, lead, items, profile_base }) };
        profile_base += variant.n_steps as usize;
    }
}
