//! Builds loop code: steps, loops, kernel calls.

use super::call::{At, Code, Count, Parts};
use super::grain;
use super::view::{Level, View};
use qc_dialects::loops::{Arith, For, Index, Parallel, Ukernel};
use qc_ir::{Attr, Attrs, Builder, Deadline, Diag, LocId, Module, RegionId, Type, ValueId};
use qc_kernels::args::KernelCall;
use std::array::from_fn;

/// Appends loop code to one region.
pub struct Emit<'m> {
    /// The module being built.
    pub m: &'m mut Module,
    region: RegionId,
    loc: LocId,
    macs: usize,
    deadline: Option<Deadline>,
    /// Whether this is inside of a step, whose thread runs all tasks of what would be steps elsewhere.
    within: bool,
    /// The index of the loop that repeats what would be a step elsewhere.
    repeat: Option<ValueId>,
}

impl<'m> Emit<'m> {
    /// Appends to `region` with location `loc`.
    pub fn new(m: &'m mut Module, region: RegionId, loc: LocId) -> Emit<'m> {
        Emit { m, region, loc, macs: 0, deadline: None, within: false, repeat: None }
    }

    /// Says that the region is inside of a step, in a loop with this index.
    pub fn within_a_step(mut self, index: ValueId) -> Emit<'m> {
        (self.within, self.repeat) = (true, Some(index));
        self
    }

    /// Where `i` of `count` is in a loop that runs forwards and backwards in turn, if a loop repeats it; else `i`.
    pub fn in_turn(&mut self, i: ValueId, count: usize) -> Result<ValueId, Diag> {
        let Some(repeat) = self.repeat else { return Ok(i) };
        let even = self.arith_const("div", repeat, 2)?;
        let even = self.arith_const("mul", even, 2)?;
        let odd = self.arith("sub", repeat, even)?;
        // It is 0 or 1; the bounds are for whoever adds up intervals.
        let odd = self.arith_const("min", odd, 1)?;
        let odd = self.arith_const("max", odd, 0)?;
        let twice = self.arith_const("mul", i, -2)?;
        let back = self.arith_const("add", twice, count as i64 - 1)?;
        let back = self.arith("mul", back, odd)?;
        let at = self.arith("add", i, back)?;
        let at = self.arith_const("max", at, 0)?;
        self.arith_const("min", at, count as i64 - 1)
    }

    /// The region that code is appended to.
    pub fn region(&self) -> RegionId {
        self.region
    }

    /// How many tasks of `count` there are to be, where that many are worth a join.
    pub fn tasks(&self, worth: bool, count: usize) -> usize {
        if worth && !self.within { count } else { 1 }
    }

    /// The same place inside of a step or loop.
    fn inside(&mut self, region: RegionId) -> Emit<'_> {
        Emit { m: self.m, region, loc: self.loc, macs: 0, deadline: None, within: true, repeat: self.repeat }
    }

    /// Notes the multiply-accumulates of the next step.
    pub fn with_macs(mut self, macs: usize) -> Emit<'m> {
        self.macs = macs;
        self
    }

    /// Refuses to begin a step once the time is over: one op may become very many.
    pub fn until(mut self, deadline: Option<Deadline>) -> Emit<'m> {
        self.deadline = deadline;
        self
    }

    fn builder(&mut self) -> Builder<'_> {
        let mut b = Builder::at_end(self.m, self.region);
        b.loc = self.loc;
        b
    }

    /// A step of `tasks` tasks; the body gets the range to run.
    pub fn step(
        &mut self,
        tasks: usize,
        body: impl FnOnce(&mut Emit<'_>, ValueId, ValueId) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        self.deadline.map_or(Ok(()), |d| d.check()).map_err(|e| Diag::limit(&e))?;
        if self.within {
            let (begin, end) = (self.index(0)?, self.index(tasks as i64)?);
            return body(self, begin, end);
        }
        let mut attrs = Attrs::new().with("tasks", tasks);
        if self.macs > 0 {
            attrs.set("macs", Attr::from(self.macs));
        }
        let op = self.builder().create_with(Parallel::DEF, &[], attrs, vec![], &[vec![Type::Index, Type::Index]])?;
        let region = self.m.regions(op)[0];
        let [begin, end] = [self.m.args(region)[0], self.m.args(region)[1]];
        self.m.set_name(begin, "begin");
        self.m.set_name(end, "end");
        body(&mut self.inside(region), begin, end)
    }

    /// A loop over `lo..hi`.
    pub fn for_range(
        &mut self,
        lo: ValueId,
        hi: ValueId,
        body: impl FnOnce(&mut Emit<'_>, ValueId) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        self.for_step(lo, hi, 1, body)
    }

    /// A loop over `lo, lo + step, .. < hi`.
    pub fn for_step(
        &mut self,
        lo: ValueId,
        hi: ValueId,
        step: i64,
        body: impl FnOnce(&mut Emit<'_>, ValueId) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        let attrs = if step == 1 { Attrs::new() } else { Attrs::new().with("step", step) };
        let op = self.builder().create_with(For::DEF, &[Some(lo), Some(hi)], attrs, vec![], &[vec![Type::Index]])?;
        let region = self.m.regions(op)[0];
        let i = self.m.args(region)[0];
        self.m.set_name(i, "i");
        body(&mut self.inside(region), i)
    }

    /// A loop over `0..count`; none for a single iteration, whose index is the constant 0.
    pub fn for_count(
        &mut self,
        count: usize,
        body: impl FnOnce(&mut Emit<'_>, ValueId) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        let lo = self.index(0)?;
        if count == 1 {
            return body(self, lo);
        }
        let hi = self.index(count as i64)?;
        self.for_range(lo, hi, body)
    }

    /// An index constant.
    pub fn index(&mut self, value: i64) -> Result<ValueId, Diag> {
        let op = self.builder().create(Index::DEF, &[], Attrs::new().with("value", value))?;
        Ok(self.m.result(op))
    }

    /// Index arithmetic.
    pub fn arith(&mut self, word: &str, a: ValueId, b: ValueId) -> Result<ValueId, Diag> {
        let op = self.builder().create(Arith::DEF, &[Some(a), Some(b)], Attrs::new().with("op", word))?;
        Ok(self.m.result(op))
    }

    /// Index arithmetic with a constant on the right.
    pub fn arith_const(&mut self, word: &str, a: ValueId, b: i64) -> Result<ValueId, Diag> {
        let b = self.index(b)?;
        self.arith(word, a, b)
    }

    /// Any op of the loop dialect with one result.
    pub fn op(
        &mut self,
        def: &'static qc_ir::OpDef,
        operands: &[Option<ValueId>],
        attrs: Attrs,
    ) -> Result<Option<ValueId>, Diag> {
        let op = self.builder().create(def, operands, attrs)?;
        Ok(self.m.results(op).first().copied())
    }

    /// A kernel call.
    pub fn call<C: KernelCall<Code>>(&mut self, call: &C) -> Result<(), Diag> {
        let parts = Parts::of(call)?;
        let mut moving: Vec<ValueId> = Vec::new();
        for (index, _) in parts.pointers.iter().flat_map(|(_, at)| &at.moves) {
            if !moving.contains(index) {
                moving.push(*index);
            }
        }
        let indices = moving.len() + parts.dynamic.len();
        let row = |at: &At| {
            let mut row = vec![0i64; 1 + indices];
            row[0] = at.base;
            for (index, factor) in &at.moves {
                let at = moving.iter().position(|m| m == index).unwrap_or(0);
                row[1 + at] += factor;
            }
            Attr::Ints(row.into())
        };
        let at: Vec<Attr> = parts.pointers.iter().map(|(_, at)| row(at)).collect();
        let ptrs: Vec<Attr> = parts.pointers.iter().map(|(field, _)| Attr::from(*field)).collect();
        let fields: Vec<Attr> = parts.dynamic.iter().map(|d| Attr::from(d.0)).collect();
        let buffers = parts.pointers.iter().map(|(_, at)| at.buf);
        let operands: Vec<Option<ValueId>> =
            buffers.chain(moving.iter().copied()).chain(parts.dynamic.iter().map(|d| d.1)).map(Some).collect();
        let mut attrs =
            Attrs::new().with("kernel", parts.kernel).with("ptrs", ptrs).with("at", at).with("args", parts.constant);
        if !fields.is_empty() {
            attrs.set("dyn_fields", Attr::List(fields));
        }
        self.builder().create(Ukernel::DEF, &operands, attrs)?;
        Ok(())
    }
}

/// An operand of a kernel that sweeps `D` levels itself: its address, and its strides, innermost level first.
#[derive(Clone, Debug)]
pub struct Operand<const D: usize> {
    /// Its address.
    pub at: At,
    /// Bytes from one index to the next, per level.
    pub by: [Count; D],
}

fn moved<const D: usize>(all: &[Operand<D>], index: ValueId, level: &Level) -> Vec<Operand<D>> {
    let by = |(operand, stride): (&Operand<D>, &i64)| Operand {
        at: operand.at.clone().moved(index, *stride),
        by: operand.by,
    };
    all.iter().zip(&level.strides).map(by).collect()
}

/// One step that sweeps `views` over `levels` (outermost first) with one kernel, whose call `call` makes from the counts
/// of its levels, innermost first, and its operands.
pub fn sweep<const N: usize, const D: usize, C: KernelCall<Code>>(
    e: &mut Emit<'_>,
    views: [&View; N],
    levels: Vec<Level>,
    call: impl Fn([Count; D], [Operand<D>; N]) -> C,
) -> Result<(), Diag> {
    sweep_each(e, &views, levels, &|e, counts, all: &[Operand<D>]| e.call(&call(counts, from_fn(|k| all[k].clone()))))
}

/// As [`sweep`], with any number of views and kernels, whose calls `body` emits.
///
/// The outermost level is split into tasks; levels beyond what the kernels sweep themselves become loops.
pub fn sweep_each<const D: usize>(
    e: &mut Emit<'_>,
    views: &[&View],
    mut levels: Vec<Level>,
    body: Calls<'_, D>,
) -> Result<(), Diag> {
    let work: usize = levels.iter().map(|l| l.count).product();
    split_single(&mut levels, work);
    let inner = levels.len().min(D);
    let outer = levels.len() - inner;
    let level = |depth: usize| (depth < inner).then(|| &levels[levels.len() - 1 - depth]);
    let mut counts: [Count; D] = from_fn(|depth| level(depth).map_or(1, |l| l.count).into());
    let operand = |k: usize| Operand {
        at: views[k].into(),
        by: from_fn(|depth| level(depth).map_or(0, |l| l.strides[k]).into()),
    };
    let operands: Vec<Operand<D>> = (0..views.len()).map(operand).collect();
    let tasks = e.tasks(work >= grain::ELEMENTS && !levels.is_empty(), levels.first().map_or(1, |l| l.count));
    e.step(tasks, |e, begin, end| {
        if tasks == 1 {
            return nest(e, counts, &operands, &levels[..outer], body);
        }
        if outer > 0 {
            return e.for_range(begin, end, |e, i| {
                nest(e, counts, &moved(&operands, i, &levels[0]), &levels[1..outer], body)
            });
        }
        counts[inner - 1] = e.arith("sub", end, begin)?.into();
        body(e, counts, &moved(&operands, begin, &levels[0]))
    })
}

/// Emits the calls of kernels that sweep `D` levels, from the counts of the levels, innermost first, and the operands.
pub type Calls<'c, const D: usize> = &'c dyn Fn(&mut Emit<'_>, [Count; D], &[Operand<D>]) -> Result<(), Diag>;

fn nest<const D: usize>(
    e: &mut Emit<'_>,
    counts: [Count; D],
    operands: &[Operand<D>],
    levels: &[Level],
    body: Calls<'_, D>,
) -> Result<(), Diag> {
    match levels {
        [] => body(e, counts, operands),
        [first, rest @ ..] => e.for_count(first.count, |e, i| nest(e, counts, &moved(operands, i, first), rest, body)),
    }
}

/// Brings a longer level to where kernels sweep rows themselves; the outermost one, which is split into tasks, stays.
pub fn lengthen_rows(levels: &mut [Level]) {
    if let [_, .., third, second, _] = levels
        && third.count > second.count
    {
        std::mem::swap(third, second);
    }
}

/// Cuts levels so that what the two innermost ones hold is a piece of at most `most` elements, where they divide.
pub fn cut_into_pieces(levels: &mut Vec<Level>, most: usize) {
    let Some(Level { count, strides }) = levels.pop() else { return };
    let times = |strides: &[i64], n: usize| strides.iter().map(|s| s * n as i64).collect();
    if count > most {
        let part = (1..=most).rev().find(|part| count.is_multiple_of(*part)).unwrap_or(1);
        levels.push(Level { count: count / part, strides: times(&strides, part) });
        // Kernels sweep this level, too, which is there to keep them from the one around.
        levels.push(Level { count: 1, strides: vec![0; strides.len()] });
        levels.push(Level { count: part, strides });
        return;
    }
    if let Some(rows) = levels.pop_if(|rows| rows.count * count > most) {
        let part = (1..=most / count).rev().find(|part| rows.count.is_multiple_of(*part)).unwrap_or(1);
        levels.push(Level { count: rows.count / part, strides: times(&rows.strides, part) });
        levels.push(Level { count: part, strides: rows.strides });
    }
    levels.push(Level { count, strides });
}

/// Cuts one long level into two, so that there is something to split over threads.
fn split_single(levels: &mut Vec<Level>, work: usize) {
    if let [only] = &levels[..]
        && work >= 2 * grain::ELEMENTS
        && let Some(chunk) = (1..=grain::ELEMENTS).rev().find(|c| only.count.is_multiple_of(*c) && *c >= grain::PIECE)
    {
        let outer =
            Level { count: only.count / chunk, strides: only.strides.iter().map(|s| s * chunk as i64).collect() };
        let inner = Level { count: chunk, strides: only.strides.clone() };
        *levels = vec![outer, inner];
    }
}
