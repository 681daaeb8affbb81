//! Builds loop code: steps, loops, kernel calls.

use super::view::{Level, View};
use qc_dialects::loops::{Arith, For, Index, Parallel, Ukernel};
use qc_ir::{Attr, Attrs, Builder, Deadline, Diag, LocId, Module, RegionId, Type, ValueId};

/// A kernel call being put together.
#[derive(Clone, Default)]
pub struct Call {
    kernel: String,
    pointers: Vec<Pointer>,
    fixed: Vec<(&'static str, ValueId)>,
    dynamic: Vec<(&'static str, ValueId)>,
    constant: Vec<(Box<str>, Attr)>,
}

#[derive(Clone)]
struct Pointer {
    field: &'static str,
    buf: ValueId,
    base: i64,
    moves: Vec<(ValueId, i64)>,
}

impl Call {
    /// A call of `family.variant`.
    pub fn new(kernel: &str) -> Call {
        Call { kernel: kernel.into(), ..Call::default() }
    }

    /// Sets a pointer to byte `base` behind the origin of `buf`, plus `factor * index` for each of `moves`.
    pub fn pointer(mut self, field: &'static str, buf: ValueId, base: i64, moves: &[(ValueId, i64)]) -> Call {
        self.pointers.push(Pointer { field, buf, base, moves: moves.to_vec() });
        self
    }

    /// Sets a pointer to the origin of `buf` that never moves.
    pub fn fixed_pointer(mut self, field: &'static str, buf: ValueId) -> Call {
        self.fixed.push((field, buf));
        self
    }

    /// Sets a pointer to element 0 of a view, plus moves.
    pub fn view(self, field: &'static str, v: &View, moves: &[(ValueId, i64)]) -> Call {
        self.pointer(field, v.buf, v.offset, moves)
    }

    /// Adds a move to every pointer that is set; `factors` in the order of setting.
    pub fn moved(mut self, index: ValueId, factors: &[i64]) -> Call {
        for (p, &f) in self.pointers.iter_mut().zip(factors) {
            if f != 0 {
                p.moves.push((index, f));
            }
        }
        self
    }

    /// Moves every pointer by constant bytes, in the order of setting.
    pub fn offset(mut self, bytes: &[i64]) -> Call {
        for (p, b) in self.pointers.iter_mut().zip(bytes) {
            p.base += b;
        }
        self
    }

    /// Sets a field to a constant.
    pub fn set(mut self, field: &str, value: impl Into<Attr>) -> Call {
        self.constant.push((field.into(), value.into()));
        self
    }

    /// Sets a field to an index.
    pub fn dynamic(mut self, field: &'static str, value: ValueId) -> Call {
        self.dynamic.push((field, value));
        self
    }
}

/// Appends loop code to one region.
pub struct Emit<'m> {
    /// The module being built.
    pub m: &'m mut Module,
    region: RegionId,
    loc: LocId,
    macs: usize,
    deadline: Option<Deadline>,
}

impl<'m> Emit<'m> {
    /// Appends to `region` with location `loc`.
    pub fn new(m: &'m mut Module, region: RegionId, loc: LocId) -> Emit<'m> {
        Emit { m, region, loc, macs: 0, deadline: None }
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
        let mut attrs = Attrs::new().with("tasks", tasks);
        if self.macs > 0 {
            attrs.set("macs", Attr::from(self.macs));
        }
        let op = self.builder().create_with(Parallel::DEF, &[], attrs, vec![], &[vec![Type::Index, Type::Index]])?;
        let region = self.m.regions(op)[0];
        let [begin, end] = [self.m.args(region)[0], self.m.args(region)[1]];
        self.m.set_name(begin, "begin");
        self.m.set_name(end, "end");
        body(&mut Emit { m: self.m, region, loc: self.loc, macs: 0, deadline: None }, begin, end)
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
        body(&mut Emit { m: self.m, region, loc: self.loc, macs: 0, deadline: None }, i)
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
    pub fn call(&mut self, mut call: Call) -> Result<(), Diag> {
        let fixed = std::mem::take(&mut call.fixed);
        call.pointers.extend(fixed.into_iter().map(|(field, buf)| Pointer { field, buf, base: 0, moves: Vec::new() }));
        let mut moving: Vec<ValueId> = Vec::new();
        for (index, _) in call.pointers.iter().flat_map(|p| &p.moves) {
            if !moving.contains(index) {
                moving.push(*index);
            }
        }
        let indices = moving.len() + call.dynamic.len();
        let row = |p: &Pointer| {
            let mut row = vec![0i64; 1 + indices];
            row[0] = p.base;
            for (index, factor) in &p.moves {
                let at = moving.iter().position(|m| m == index).unwrap_or(0);
                row[1 + at] += factor;
            }
            Attr::Ints(row.into())
        };
        let at: Vec<Attr> = call.pointers.iter().map(row).collect();
        let ptrs: Vec<Attr> = call.pointers.iter().map(|p| Attr::from(p.field)).collect();
        let fields: Vec<Attr> = call.dynamic.iter().map(|d| Attr::from(d.0)).collect();
        let operands: Vec<Option<ValueId>> = call
            .pointers
            .iter()
            .map(|p| p.buf)
            .chain(moving.iter().copied())
            .chain(call.dynamic.iter().map(|d| d.1))
            .map(Some)
            .collect();
        let mut attrs =
            Attrs::new().with("kernel", call.kernel).with("ptrs", ptrs).with("at", at).with("args", call.constant);
        if !fields.is_empty() {
            attrs.set("dyn_fields", Attr::List(fields));
        }
        self.builder().create(Ukernel::DEF, &operands, attrs)?;
        Ok(())
    }
}

/// How the levels of a nest map to the fields of a kernel family, innermost level first.
pub struct Fields<'a> {
    /// Count fields.
    pub counts: &'a [&'static str],
    /// Per pointer, in the order of the nest's operands: its field, and its stride fields; an empty name says that the
    /// kernel takes elements one behind the other at that level.
    pub pointers: &'a [(&'static str, &'a [&'static str])],
}

/// Work below this many elements is not worth a join of threads.
const SMALL: usize = 1 << 14;

/// One step that sweeps `views` over `levels` (outermost first) with one kernel.
///
/// The outermost level is split into tasks; levels beyond what the kernel sweeps itself become loops.
pub fn sweep(
    e: &mut Emit<'_>,
    call: Call,
    fields: &Fields<'_>,
    views: &[&View],
    mut levels: Vec<Level>,
) -> Result<(), Diag> {
    let work: usize = levels.iter().map(|l| l.count).product();
    split_single(&mut levels, work);
    let inner = levels.len().min(fields.counts.len());
    let outer = levels.len() - inner;
    let mut call = call;
    for (k, (pointer, view)) in fields.pointers.iter().zip(views).enumerate() {
        call = call.view(pointer.0, view, &[]);
        for (depth, field) in pointer.1.iter().enumerate() {
            let stride = if depth < inner { levels[levels.len() - 1 - depth].strides[k] } else { 0 };
            if !field.is_empty() {
                call = call.set(field, stride);
            }
        }
    }
    let tasks = if work < SMALL || levels.is_empty() { 1 } else { levels[0].count };
    for (depth, field) in fields.counts.iter().enumerate() {
        let level = (depth < inner).then(|| levels.len() - 1 - depth);
        let split = tasks > 1 && outer == 0 && level == Some(0);
        if !split {
            call = call.set(field, level.map_or(1, |l| levels[l].count));
        }
    }
    e.step(tasks, |e, begin, end| {
        if tasks == 1 {
            return nest(e, call, &levels[..outer]);
        }
        if outer > 0 {
            return e.for_range(begin, end, |e, i| nest(e, call.moved(i, &levels[0].strides), &levels[1..outer]));
        }
        let count = e.arith("sub", end, begin)?;
        e.call(call.moved(begin, &levels[0].strides).dynamic(fields.counts[inner - 1], count))
    })
}

fn nest(e: &mut Emit<'_>, call: Call, levels: &[Level]) -> Result<(), Diag> {
    match levels {
        [] => e.call(call),
        [first, rest @ ..] => e.for_count(first.count, |e, i| nest(e, call.moved(i, &first.strides), rest)),
    }
}

/// Cuts one long level into two, so that there is something to split over threads.
fn split_single(levels: &mut Vec<Level>, work: usize) {
    if let [only] = &levels[..]
        && work >= 2 * SMALL
        && let Some(chunk) = (1..=SMALL).rev().find(|c| only.count.is_multiple_of(*c) && *c >= 1024)
    {
        let outer =
            Level { count: only.count / chunk, strides: only.strides.iter().map(|s| s * chunk as i64).collect() };
        let inner = Level { count: chunk, strides: only.strides.clone() };
        *levels = vec![outer, inner];
    }
}
