//! Makes contexts: chooses the tier and the threads, and allocates everything a run needs.

use crate::abi::*;
use crate::executor::{Inner, Planned, Slot};
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
        let usable = |v: &&'static Variant| v.features == tier.needs;
        let n_plan = model.variants().iter().filter(usable).count();
        let arena_bytes = model.variants().iter().filter(usable).map(|v| v.arena_bytes).max().unwrap_or(0) as usize;
        let n_io = model.inputs().len() + model.outputs().len();
        let table_bytes = n_io * (size_of::<Slot>() + size_of::<*mut u8>()) + n_plan * size_of::<Planned>();
        let own_block = self.block(0, size_of::<Context>(), ALIGN_BYTES, why)?;
        let tables = self.block(1, table_bytes, 16, why)?;
        let arena = self.block(2, arena_bytes + 2 * SLACK_BYTES, ALIGN_BYTES, why)?;
        // SAFETY: the three tables follow each other inside the block, all of pointer alignment, and are written before
        // they are referenced; nobody else knows the block, which lives as long as the context.
        let (slots, io, plan) = unsafe {
            let slots = tables.base.cast::<Slot>();
            let ios = model.inputs().iter().map(|io| (io, true)).chain(model.outputs().iter().map(|io| (io, false)));
            for (i, (io, is_input)) in ios.enumerate() {
                slots.add(i).write(Slot::unbound(io, is_input));
            }
            let io = slots.add(n_io).cast::<*mut u8>();
            let plan = io.add(n_io).cast::<Planned>();
            write_plan(plan, model, usable);
            (
                core::slice::from_raw_parts_mut(slots, n_io),
                core::slice::from_raw_parts_mut(io, n_io),
                core::slice::from_raw_parts_mut(plan, n_plan),
            )
        };
        // Insertion sort: `sort_unstable` would bring more code than the executor has.
        for end in 1..plan.len() {
            let mut i = end;
            while i > 0 && plan[i - 1].items < plan[i].items {
                plan.swap(i - 1, i);
                i -= 1;
            }
        }
        let profile_len = model.variants().iter().filter(usable).map(|v| v.n_steps as usize).sum();
        let Some(pool) = Pool::new(threads, self.allocator) else {
            why.str("out of memory for the threads");
            return Err(Status::OutOfMemory);
        };
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

/// Writes the variants that may run to `plan`, with the place of their steps in a profile.
///
/// # Safety
/// `plan` has room for every usable variant.
unsafe fn write_plan(plan: *mut Planned, model: ModelView<'static>, usable: impl Fn(&&'static Variant) -> bool) {
    let mut profile_base = 0;
    for (i, variant) in model.variants().iter().filter(usable).enumerate() {
        // A checked model has no variant without items.
        let items = model.items(variant).unwrap_or(1);
        // SAFETY: promised by the caller.
        unsafe { plan.add(i).write(Planned { variant, items, profile_base }) };
        profile_base += variant.n_steps as usize;
    }
}
