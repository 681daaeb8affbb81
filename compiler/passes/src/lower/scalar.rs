//! Plain loops over single elements, for what no kernel covers: integers, truth values, casts, choices, running sums.
//! They compile to scalar code.

use super::Lower;
use super::emit::Emit;
use super::grain;
use super::view::{Level, View, levels};
use qc_dialects::graph::{self, CumSum, IntBinary, IntFunction, IntReduce};
use qc_dialects::loops::{Binary, Compare, Convert, Load, Scalar, Select, Store};
use qc_ir::{Attrs, Diag, Elem, OpDef, Type, ValueId};

/// Elements of a step that is worth a join: scalar code does about one in a nanosecond.
const ELEMENTS: usize = grain::ELEMENTS / 4;

/// An element's address: a view, and per loop around it the index and the bytes that it moves by.
#[derive(Clone)]
struct Place<'v> {
    view: &'v View,
    /// Bytes from the start of the buffer.
    offset: i64,
    moves: Vec<(ValueId, i64)>,
}

impl<'v> Place<'v> {
    fn of(view: &'v View) -> Place<'v> {
        Place { view, offset: view.offset, moves: view.moves.clone() }
    }

    fn moved(&self, index: ValueId, bytes: i64) -> Place<'v> {
        let mut place = self.clone();
        place.moves.push((index, bytes));
        place
    }

    fn address(&self) -> (Vec<Option<ValueId>>, Vec<i64>) {
        let factors = std::iter::once(self.offset).chain(self.moves.iter().map(|m| m.1)).collect();
        (self.moves.iter().map(|m| Some(m.0)).collect(), factors)
    }

    fn load(&self, e: &mut Emit<'_>) -> Result<ValueId, Diag> {
        let (indices, at) = self.address();
        let operands: Vec<_> = std::iter::once(Some(self.view.buf)).chain(indices).collect();
        one(e.op(Load::DEF, &operands, Attrs::new().with("at", at))?)
    }

    fn store(&self, e: &mut Emit<'_>, value: ValueId) -> Result<(), Diag> {
        let (indices, at) = self.address();
        let operands: Vec<_> = [Some(value), Some(self.view.buf)].into_iter().chain(indices).collect();
        e.op(Store::DEF, &operands, Attrs::new().with("at", at)).map(|_| ())
    }
}

fn one(v: Option<ValueId>) -> Result<ValueId, Diag> {
    v.ok_or_else(|| Diag::bug("an op without result"))
}

fn worded(e: &mut Emit<'_>, def: &'static OpDef, word: &str, a: ValueId, b: ValueId) -> Result<ValueId, Diag> {
    one(e.op(def, &[Some(a), Some(b)], Attrs::new().with("op", word))?)
}

fn constant(e: &mut Emit<'_>, elem: Elem, value: i64) -> Result<ValueId, Diag> {
    let attrs = Attrs::new().with("value", value as f64).with("to", Type::Scalar(elem));
    one(e.op(Scalar::DEF, &[], attrs)?)
}

fn convert(e: &mut Emit<'_>, x: ValueId, to: Elem) -> Result<ValueId, Diag> {
    one(e.op(Convert::DEF, &[Some(x)], Attrs::new().with("to", Type::Scalar(to)))?)
}

/// `word` of two integers of `elem`, wrapped around at their width.
fn integer(e: &mut Emit<'_>, word: &str, elem: Elem, a: ValueId, b: ValueId) -> Result<ValueId, Diag> {
    let wide = worded(e, Binary::DEF, word, a, b)?;
    if matches!(elem, Elem::I32 | Elem::I64) { Ok(wide) } else { convert(e, wide, elem) }
}

/// What `graph.index` reads and writes: two tensors of the same dims, and where it notes an index outside `-size..size`. So does
/// `graph.offsets`, with a number that is no offset of `size` rows.
pub(super) struct Indices<'v> {
    pub x: &'v View,
    pub out: &'v View,
    pub fault: &'v View,
    pub size: i64,
}

impl Indices<'_> {
    /// Checks one index. The first that is outside is noted; it is stored as 0.
    fn one(&self, e: &mut Emit<'_>, x: &Place<'_>, out: &Place<'_>) -> Result<(), Diag> {
        let loaded = x.load(e)?;
        let i = convert(e, loaded, Elem::I64)?;
        let (zero, size) = (constant(e, Elem::I64, 0)?, constant(e, Elem::I64, self.size)?);
        let negative = worded(e, Compare::DEF, "lt", i, zero)?;
        let shift = select(e, negative, size, zero)?;
        let index = worded(e, Binary::DEF, "add", i, shift)?;
        let below = worded(e, Compare::DEF, "lt", index, zero)?;
        let beyond = worded(e, Compare::DEF, "le", size, index)?;
        let outside = worded(e, Binary::DEF, "or", below, beyond)?;
        let outside = convert(e, outside, Elem::Bool)?;
        let inside = select(e, outside, zero, index)?;
        let stored = convert(e, inside, Elem::I32)?;
        out.store(e, stored)?;
        self.note(e, outside, i)
    }

    /// Checks that an offset, at `x`, is between `low` and `high`. The first that is not is noted; it is stored as the bound.
    fn bound(&self, e: &mut Emit<'_>, [x, out]: [&Place<'_>; 2], [low, high]: [ValueId; 2]) -> Result<(), Diag> {
        let loaded = x.load(e)?;
        let i = convert(e, loaded, Elem::I64)?;
        let (below, beyond) = (worded(e, Compare::DEF, "lt", i, low)?, worded(e, Compare::DEF, "lt", high, i)?);
        let least = select(e, below, low, i)?;
        let inside = select(e, beyond, high, least)?;
        let stored = convert(e, inside, Elem::I32)?;
        out.store(e, stored)?;
        let outside = worded(e, Binary::DEF, "or", below, beyond)?;
        let outside = convert(e, outside, Elem::Bool)?;
        self.note(e, outside, i)
    }

    fn nothing_noted(&self, e: &mut Emit<'_>) -> Result<(), Diag> {
        let zero = constant(e, Elem::I64, 0)?;
        [0, 8].into_iter().try_for_each(|at| self.noted(at).store(e, zero))
    }

    fn noted(&self, at: i64) -> Place<'_> {
        let mut place = Place::of(self.fault);
        place.offset += at;
        place
    }

    /// Notes the number `i` if it is `outside` and the first.
    fn note(&self, e: &mut Emit<'_>, outside: ValueId, i: ValueId) -> Result<(), Diag> {
        let found = self.noted(0).load(e)?;
        let none = constant(e, Elem::I64, 0)?;
        let is_first = worded(e, Compare::DEF, "eq", found, none)?;
        let is_new = worded(e, Binary::DEF, "and", outside, is_first)?;
        let is_new = convert(e, is_new, Elem::Bool)?;
        let one = constant(e, Elem::I64, 1)?;
        for (at, noted) in [(0, one), (8, i)] {
            let place = self.noted(at);
            let before = place.load(e)?;
            let after = select(e, is_new, noted, before)?;
            place.store(e, after)?;
        }
        Ok(())
    }
}

fn select(e: &mut Emit<'_>, condition: ValueId, yes: ValueId, no: ValueId) -> Result<ValueId, Diag> {
    one(e.op(Select::DEF, &[Some(condition), Some(yes), Some(no)], Attrs::new())?)
}

type Body<'b> = dyn Fn(&mut Emit<'_>, &[Place<'_>]) -> Result<(), Diag> + 'b;

/// Loops over `levels`, outermost first, around `body`, which gets the place of an element of each operand.
fn nest(e: &mut Emit<'_>, places: &[Place<'_>], levels: &[Level], body: &Body<'_>) -> Result<(), Diag> {
    let [level, rest @ ..] = levels else { return body(e, places) };
    e.for_count(level.count, |e, i| nest(e, &moved(places, i, level), rest, body))
}

fn moved<'v>(places: &[Place<'v>], index: ValueId, level: &Level) -> Vec<Place<'v>> {
    places.iter().zip(&level.strides).map(|(place, &bytes)| place.moved(index, bytes)).collect()
}

impl Lower<'_> {
    /// A step that runs `body` for every index of `dims`, to which all `views` have been brought.
    fn each(&mut self, dims: &[usize], views: &[&View], body: &Body<'_>) -> Result<(), Diag> {
        let levels = levels(dims, views, views.len() - 1);
        let places: Vec<Place<'_>> = views.iter().map(|v| Place::of(v)).collect();
        let work: usize = dims.iter().product();
        match &levels[..] {
            [outer, rest @ ..] if work >= ELEMENTS => self.emit().step(outer.count, |e, begin, end| {
                e.for_range(begin, end, |e, i| nest(e, &moved(&places, i, outer), rest, body))
            }),
            all => self.emit().step(1, |e, _, _| nest(e, &places, all, body)),
        }
    }

    /// A step that computes every element of `out` from those of the operands, which broadcast.
    fn each_element(
        &mut self,
        operands: &[ValueId],
        out: ValueId,
        value: &dyn Fn(&mut Emit<'_>, &[ValueId]) -> Result<ValueId, Diag>,
    ) -> Result<(), Diag> {
        let to = self.destination(out)?;
        let broadcast = |l: &mut Self, v: &ValueId| l.view(*v).map(|view| view.broadcast(&to.dims));
        let mut views = operands.iter().map(|v| broadcast(self, v)).collect::<Result<Vec<View>, Diag>>()?;
        views.push(to);
        let dims = views[operands.len()].dims.clone();
        self.each(&dims, &views.iter().collect::<Vec<_>>(), &|e, places| {
            let Some((out, operands)) = places.split_last() else { return Ok(()) };
            let loaded = operands.iter().map(|p| p.load(e)).collect::<Result<Vec<_>, _>>()?;
            let value = value(e, &loaded)?;
            out.store(e, value)
        })
    }

    fn elem(&self, v: ValueId) -> Elem {
        self.src.storage(self.src.tensor_ty(v).elem)
    }

    /// `graph.index`, by one task: indices are few, and what it notes is in one place.
    pub(super) fn indices(&mut self, op: &Indices<'_>) -> Result<(), Diag> {
        self.emit().step(1, |e, _, _| {
            op.nothing_noted(e)?;
            let all = levels(&op.out.dims, &[op.x, op.out], 1);
            nest(e, &[Place::of(op.x), Place::of(op.out)], &all, &|e, p| op.one(e, &p[0], &p[1]))
        })
    }

    /// `graph.offsets`, by one task: no offset is below the one before.
    pub(super) fn bounds_of_sequences(&mut self, op: &Indices<'_>) -> Result<(), Diag> {
        let last = op.out.dims[0] - 1;
        let at = |v: &View, i: usize| v.narrow(0, i, 1, 1);
        let ends = |i: usize| [at(op.x, i), at(op.out, i)];
        let (first, second, end) = (ends(0), ends(1), ends(last));
        self.emit().step(1, |e, _, _| {
            op.nothing_noted(e)?;
            let (zero, rows) = (constant(e, Elem::I64, 0)?, constant(e, Elem::I64, op.size)?);
            op.bound(e, [&Place::of(&first[0]), &Place::of(&first[1])], [zero, zero])?;
            let strides = vec![op.x.strides[0], op.out.strides[0], op.out.strides[0]];
            let between = Level { count: last - 1, strides };
            let places = [&second[0], &first[1], &second[1]].map(Place::of);
            if last > 1 {
                nest(e, &places, &[between], &|e, p| {
                    let before = p[1].load(e)?;
                    let before = convert(e, before, Elem::I64)?;
                    op.bound(e, [&p[0], &p[2]], [before, rows])
                })?;
            }
            op.bound(e, [&Place::of(&end[0]), &Place::of(&end[1])], [rows, rows])
        })
    }

    /// Replaces each element `v` of an i32 tensor by `start - v`.
    pub fn subtract_from(&mut self, start: i32, v: &View) -> Result<(), Diag> {
        self.emit().step(1, |e, _, _| {
            let start = constant(e, Elem::I32, i64::from(start))?;
            nest(e, &[Place::of(v)], &levels(&v.dims, &[v], 0), &|e, places| {
                let x = places[0].load(e)?;
                let y = worded(e, Binary::DEF, "sub", start, x)?;
                places[0].store(e, y)
            })
        })
    }

    /// `graph.cast`.
    pub fn cast(&mut self, op: graph::Cast) -> Result<(), Diag> {
        let (x, out) = (op.x(self.src), op.out(self.src));
        let to = self.elem(out);
        self.each_element(&[x], out, &|e, x| convert(e, x[0], to))
    }

    /// `graph.int_binary`.
    pub fn int_binary(&mut self, op: IntBinary) -> Result<(), Diag> {
        let (a, b, out, word) = (op.lhs(self.src), op.rhs(self.src), op.out(self.src), op.op(self.src));
        let elem = self.elem(out);
        self.each_element(&[a, b], out, &|e, x| integer(e, &word, elem, x[0], x[1]))
    }

    /// `graph.compare`.
    pub fn compare(&mut self, op: graph::Compare) -> Result<(), Diag> {
        let word = op.op(self.src);
        let operands = [op.lhs(self.src), op.rhs(self.src)];
        self.each_element(&operands, op.out(self.src), &|e, x| worded(e, Compare::DEF, &word, x[0], x[1]))
    }

    /// `graph.select`.
    pub fn select(&mut self, op: graph::Select) -> Result<(), Diag> {
        let operands = [op.condition(self.src), op.yes(self.src), op.no(self.src)];
        self.each_element(&operands, op.out(self.src), &|e, x| select(e, x[0], x[1], x[2]))
    }

    /// `graph.int_reduce`: the result waits in memory while elements are joined to it.
    pub fn int_reduce(&mut self, op: IntReduce) -> Result<(), Diag> {
        let (src, word) = (self.src, op.op(self.src));
        let elem = self.elem(op.out(src));
        let start = IntFunction::from_word(&word).map_err(Diag::bug)?.neutral(elem);
        let (x, to) = (self.view(op.x(src))?, self.destination(op.out(src))?);
        let is_reduced = |d: &usize| op.axes(src).contains(&(*d as i64));
        let dims = |reduced: bool| (0..x.dims.len()).filter(move |d| is_reduced(d) == reduced).collect::<Vec<_>>();
        let (kept, reduced) = (dims(false), dims(true));
        let only = |v: &View, dims: &[usize]| View {
            dims: dims.iter().map(|&d| v.dims[d]).collect(),
            strides: dims.iter().map(|&d| v.strides[d]).collect(),
            ..v.clone()
        };
        let (from, along) = (only(&x, &kept), only(&x, &reduced));
        let to = to.reshaped(&from.dims).ok_or_else(|| Diag::bug("a reduced tensor is no view of its kept dims"))?;
        let inner: Vec<Level> = levels(&along.dims, &[&along], 0);
        let inner: Vec<Level> =
            inner.into_iter().map(|l| Level { strides: vec![l.strides[0], 0], count: l.count }).collect();
        self.each(&from.dims.clone(), &[&from, &to], &|e, places| {
            let start = constant(e, elem, start)?;
            places[1].store(e, start)?;
            nest(e, places, &inner, &|e, places| {
                let (x, sum) = (places[0].load(e)?, places[1].load(e)?);
                let joined = integer(e, &word, elem, sum, x)?;
                places[1].store(e, joined)
            })
        })
    }

    /// `graph.cumsum`: each sum is the one before it, read back from the result, and an element.
    pub fn cumsum(&mut self, op: CumSum) -> Result<(), Diag> {
        let (src, axis) = (self.src, op.axis(self.src) as usize);
        let elem = self.elem(op.out(src));
        let (x, to) = (self.view(op.x(src))?, self.destination(op.out(src))?);
        let count = x.dims[axis];
        // In the order of the sums: from the end if they run there.
        let ordered = |v: &View| match op.reverse(src) {
            false => v.clone(),
            true => {
                let mut v = v.clone();
                v.offset += (count as i64 - 1) * v.strides[axis];
                v.strides[axis] = -v.strides[axis];
                v
            }
        };
        let (x, to) = (ordered(&x), ordered(&to));
        let lane = |v: &View, from: usize, count: usize| v.narrow(axis, from, count, 1);
        let (skip, exclusive) = (usize::from(op.exclusive(src)), op.exclusive(src));
        let product = op.product(src);
        let word = if product { "mul" } else { "add" };
        let (first_x, first) = (lane(&x, 0, 1), lane(&to, 0, 1));
        let level = Level { count: count - 1, strides: vec![x.strides[axis], to.strides[axis], to.strides[axis]] };
        let terms = if count > 1 { lane(&x, 1 - skip, 1) } else { first_x.clone() };
        let sums = if count > 1 { lane(&to, 1, 1) } else { first.clone() };
        self.each(&first.dims.clone(), &[&first_x, &terms, &sums, &first], &|e, places| {
            let start = if exclusive { constant(e, elem, i64::from(product))? } else { places[0].load(e)? };
            places[3].store(e, start)?;
            if count == 1 {
                return Ok(());
            }
            nest(
                e,
                &[places[1].clone(), places[3].clone(), places[2].clone()],
                std::slice::from_ref(&level),
                &|e, p| {
                    let (term, before) = (p[0].load(e)?, p[1].load(e)?);
                    let sum = match elem {
                        Elem::F32 => worded(e, Binary::DEF, word, before, term)?,
                        _ => integer(e, word, elem, before, term)?,
                    };
                    p[2].store(e, sum)
                },
            )
        })
    }
}
