//! How each tensor lies in memory, decided for the whole module before any code is made.
//!
//! | layout | of |
//! |---|---|
//! | none | a float tensor that its neighbours convert themselves: `conversions.rs` says which; one that is joined to its reader's step: `joined.rs` |
//! | alias | what names memory that exists: reshape, transpose, expand, slice, observe; a reshape that merges dims which do not lie one behind the other is a copy, and has a layout of its own |
//! | part | an operand of a concat, written straight into the result by the op that computes it |
//! | output | a result of the model that is row-major anyway, written straight into the caller's memory |
//! | rows | what has no planes; a product or layer norm, and what is computed from rows element by element or along them; inputs |
//! | a step of a scan | an index of a sequence or of an output, which moves with the loop: `scan.rs` |
//! | channels-last | all other tensors of rank 4; the padding of the convolutions that read a buffer, or a part or whole channels of it, is in memory and costs nothing |
//!
//! The rules look at what an op is, at its readers and at the layout of its first operand, which is decided before. So the
//! order of ops does not matter, and lowering only asks. A reader that needs another layout takes a copy: `copies.rs`.

use super::Results;
use super::conversions::Conversions;
use super::joined::Scores;
use super::view::{Base, View, bytes_of, channels_last, row_major};
use qc_dialects::graph::{
    Concat, Conversion, Expand, IntegerMatmul, LayerNorm, Matmul, Observe, Reshape, Scan, Slice, Softmax, Transpose,
};
use qc_dialects::interfaces::Convolution;
use qc_dialects::quant::{QBatchMatmul, QDynamicMatmul, QFloatMatmul};
use qc_ir::{BufferTy, Elem, Module, OpId, RegionId, Traits, ValueId};
use std::collections::{HashMap, HashSet};

/// How a tensor lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Row-major in a buffer of its own.
    Rows,
    /// Rank 4, the channels of a pixel together, in a buffer of its own.
    ChannelsLast {
        /// Rows and columns around each plane that hold the tensor's zero: top, left, bottom, right.
        padding: [usize; 4],
    },
    /// In part of another tensor.
    PartOf(Part),
    /// Row-major in the caller's memory for this output.
    Output(usize),
    /// In memory of another tensor, under other dims.
    Alias,
    /// Nowhere.
    None,
}

/// A tensor that is written into part of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// The concat's result.
    pub whole: ValueId,
    /// The axis of the concat.
    pub axis: usize,
    /// First index along the axis.
    pub start: usize,
}

impl Layout {
    /// The usual layout of `dims`.
    pub fn usual(dims: &[usize]) -> Layout {
        if dims.len() == 4 { Layout::ChannelsLast { padding: [0; 4] } } else { Layout::Rows }
    }

    /// The padding of the buffer.
    pub fn padding(self) -> [usize; 4] {
        if let Layout::ChannelsLast { padding } = self { padding } else { [0; 4] }
    }

    /// The buffer of a tensor that lies so: row-major, unless it is channels-last.
    pub fn buffer(self, elem: Elem, dims: &[usize]) -> BufferTy {
        match (self, dims) {
            (Layout::ChannelsLast { padding: [top, left, bottom, right] }, &[n, c, h, w]) => {
                let strides = channels_last(c, [top + h + bottom, left + w + right], elem);
                let strides: Box<[usize]> = strides.into_iter().map(|s| s as usize).collect();
                let (origin, bytes) = (top * strides[2] + left * strides[3], n * strides[0]);
                BufferTy { elem, dims: dims.into(), strides, origin, bytes }
            }
            _ => {
                let strides = row_major(dims, elem).into_iter().map(|s| s as usize).collect();
                let bytes = dims.iter().product::<usize>() * bytes_of(elem);
                BufferTy { elem, dims: dims.into(), strides, origin: 0, bytes }
            }
        }
    }
}

/// The tensor, of the module that is lowered, in whose buffer another one lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root(pub ValueId);

/// How all tensors of a module lie.
#[derive(Default, Debug)]
pub struct Layouts {
    layouts: HashMap<ValueId, Layout>,
    views: HashMap<ValueId, View<Root>>,
    /// What is written into the outputs of a scan by a step of it.
    outputs_of_steps: HashSet<ValueId>,
    /// Conversions without steps.
    pub conversions: Conversions,
}

/// The place of what is a root itself.
fn root(v: ValueId) -> Base<Root> {
    Base { buf: Root(v), offset: 0, moves: Vec::new() }
}

/// Whether an op has a region.
fn is_nested(m: &Module, op: OpId) -> bool {
    !m.regions(op).is_empty()
}

impl Layouts {
    /// Decides for all tensors of the main function, whose results are copied or watched.
    pub fn of(m: &Module, results: Results) -> Layouts {
        let readers = Readers::of(m, results);
        let mut all = Layouts { conversions: Conversions::of(m), ..Layouts::default() };
        for &v in m.args(m.body()) {
            all.put(m, v, Layout::Rows);
        }
        all.put_region(m, m.body(), &readers, &mut HashSet::new());
        all
    }

    /// Decides for what the ops of a region give, `rows` being results so far that are row-major whatever their rank.
    fn put_region(&mut self, m: &Module, region: RegionId, readers: &Readers, rows: &mut HashSet<ValueId>) {
        // The results of concats first, the last one before the others: a part needs its whole.
        for &op in m.ops(region).iter().rev() {
            if let Some(concat) = Concat::of(m, op).filter(|c| !self.views.contains_key(&c.out(m))) {
                let v = concat.out(m);
                self.put(m, v, readers.layout(m, v, false));
            }
        }
        for &op in m.ops(region) {
            if let Some(scan) = Scan::of(m, op) {
                self.put_scan(m, scan, readers, rows);
                continue;
            }
            let v = m.result(op);
            let in_rows = self.prefers_rows(m, op, rows);
            if in_rows {
                rows.insert(v);
            }
            let joined = &self.conversions.joined;
            let nowhere = [&self.conversions.stored, &self.conversions.read].iter().any(|c| c.contains_key(&v));
            if nowhere || joined.has_no_memory(v) {
                self.layouts.insert(v, Layout::None);
            } else if self.outputs_of_steps.contains(&v) {
                // Decided with the scan around.
            } else if is_alias(m, op) {
                self.put_alias(m, op);
            } else if !m.is(op, Concat::DEF) {
                self.put(m, v, readers.layout(m, v, in_rows));
            }
        }
    }

    /// The results of a scan, and what is in its region: `scan.rs` says how they lie.
    fn put_scan(&mut self, m: &Module, scan: Scan, readers: &Readers, rows: &mut HashSet<ValueId>) {
        let (body, [states, sequences]) = (scan.body(m), scan.counts(m));
        for &v in m.results(scan.0) {
            self.put(m, v, super::scan::in_rows(readers.layout(m, v, true)));
        }
        for (i, (&arg, &v)) in m.args(body).iter().zip(&scan.operands(m)).enumerate() {
            let view = match i {
                _ if i < states => self.views.get(&m.results(scan.0)[i]).cloned(),
                _ if i < states + sequences => self.views.get(&v).map(|x| x.first().of_base(&root(arg))),
                _ => self.views.get(&v).cloned(),
            };
            self.layouts.insert(arg, Layout::Alias);
            self.views.extend(view.map(|view| (arg, view)));
        }
        let returns = m.returns(body);
        for (&v, result) in returns[states..].iter().zip(&m.results(scan.0)[states..]) {
            let once = returns[states..].iter().filter(|r| **r == v).count() == 1;
            let own = computes(m, v) && m.region_of(v) == Some(body) && m.producer(v).is_some_and(|p| !is_nested(m, p));
            if once && own && !readers.parts.contains_key(&v) && !readers.paddings.contains_key(&v) {
                let view = self.views.get(result).map(|x| x.first().of_base(&root(v)));
                self.layouts.insert(v, Layout::Alias);
                self.views.extend(view.map(|view| (v, view)));
                self.outputs_of_steps.insert(v);
            }
        }
        self.put_region(m, body, readers, rows);
    }

    /// Whether a value is written where the outputs of a scan around have it.
    pub fn is_of_output(&self, v: ValueId) -> bool {
        self.outputs_of_steps.contains(&v)
    }

    /// How `v` lies.
    pub fn layout(&self, v: ValueId) -> Layout {
        self.layouts.get(&v).copied().unwrap_or(Layout::None)
    }

    /// Where the elements of `v` lie in the buffer of its root; `None` if it has no memory.
    pub fn view(&self, v: ValueId) -> Option<&View<Root>> {
        self.views.get(&v)
    }

    /// The quantized tensor that is stored in place of the float tensor `v`.
    pub fn stored(&self, v: ValueId) -> Option<ValueId> {
        self.conversions.stored.get(&v).copied()
    }

    /// The quantized tensor that is read in place of the float tensor `v`.
    pub fn read(&self, v: ValueId) -> Option<ValueId> {
        self.conversions.read.get(&v).copied()
    }

    /// The operands of a concat that are written into its result `whole`: axis, first index, count.
    pub fn parts(&self, m: &Module, whole: ValueId) -> Vec<[usize; 3]> {
        let inputs = Concat::producing(m, whole).map_or_else(Vec::new, |concat| concat.inputs(m));
        let part = |v| match self.layout(v) {
            Layout::PartOf(p) if p.whole == whole => Some([p.axis, p.start, m.dims(v)[p.axis]]),
            _ => None,
        };
        inputs.into_iter().filter_map(part).collect()
    }

    fn put(&mut self, m: &Module, v: ValueId, layout: Layout) {
        let (dims, elem) = (m.dims(v), m.storage(m.tensor_ty(v).elem));
        let view = match layout {
            Layout::PartOf(p) => self.views.get(&p.whole).map(|whole| whole.narrow(p.axis, p.start, dims[p.axis], 1)),
            _ => Some(View::whole(Root(v), &layout.buffer(elem, dims), layout.padding())),
        };
        self.layouts.insert(v, layout);
        self.views.extend(view.map(|view| (v, view)));
    }

    /// The result of an op that names memory, if it can.
    fn put_alias(&mut self, m: &Module, op: OpId) {
        let v = m.result(op);
        let Some(x) = m.operand(op, 0).and_then(|x| self.views.get(&x)) else { return };
        let view = if let Some(transpose) = Transpose::of(m, op) {
            x.permuted(&transpose.perm(m))
        } else if let Some(slice) = Slice::of(m, op) {
            let ranges = m.dims(v).iter().zip(slice.starts(m)).zip(slice.steps(m)).enumerate();
            ranges.fold(x.clone(), |x, (d, ((&n, start), step))| x.narrow(d, start as usize, n, step as usize))
        } else if m.is(op, Expand::DEF) {
            x.broadcast(m.dims(v))
        } else if let Some(view) = x.reshaped(m.dims(v)) {
            view
        } else {
            // The copy is made under the operand's dims: in the usual layout if the elements come out in order there.
            let (dims, usual) = (m.dims(v), Layout::usual(m.dims(v)));
            let copy = View::whole(Root(v), &usual.buffer(x.elem, dims), [0; 4]);
            let layout = if copy.reshaped(&x.dims).is_some() { usual } else { Layout::Rows };
            return self.put(m, v, layout);
        };
        self.layouts.insert(v, Layout::Alias);
        self.views.insert(v, view);
    }

    /// Whether the result of an op is better row-major, whatever its rank: matrices of a product, and what is computed
    /// from them element by element or along rows. `rows` are the results so far for which that holds.
    fn prefers_rows(&self, m: &Module, op: OpId, rows: &HashSet<ValueId>) -> bool {
        if let Some(softmax) = Softmax::of(m, op).filter(|s| s.axis(m) as usize + 1 == m.dims(s.out(m)).len()) {
            let scores = Scores::of(m, softmax).x;
            return self.views.get(&scores).map_or_else(|| rows.contains(&scores), View::is_row_major);
        }
        let along_rows = Conversion::is(m, op) || m.is(op, Softmax::DEF);
        let follows = along_rows || m.def(op).traits.has(Traits::ELEMENTWISE);
        let Some(x) = m.operand(op, 0).filter(|_| follows) else {
            return is_product(m, op) || m.is(op, LayerNorm::DEF);
        };
        let x = self.read(x).unwrap_or(x);
        // Inputs and constants lie as they do whatever reads them.
        let given = m.producer(x).is_none_or(|x| m.def(x).traits.has(Traits::CONST_LIKE));
        match self.views.get(&x) {
            Some(view) => !given && view.is_row_major(),
            None => rows.contains(&x),
        }
    }
}

/// Whether an op multiplies matrices whatever their rank.
fn is_product(m: &Module, op: OpId) -> bool {
    let products = [Matmul::DEF, QBatchMatmul::DEF, QDynamicMatmul::DEF, QFloatMatmul::DEF, IntegerMatmul::DEF];
    products.iter().any(|d| m.is(op, d))
}

/// Whether an op names memory that exists.
fn is_alias(m: &Module, op: OpId) -> bool {
    [Reshape::DEF, Transpose::DEF, Expand::DEF, Slice::DEF, Observe::DEF].iter().any(|d| m.is(op, d))
}

/// Whether an op computes `v` into memory.
fn computes(m: &Module, v: ValueId) -> bool {
    m.producer(v).is_some_and(|op| !is_alias(m, op) && !m.def(op).traits.has(Traits::CONST_LIKE))
}

/// What the readers of tensors ask for.
#[derive(Default)]
struct Readers {
    parts: HashMap<ValueId, Part>,
    paddings: HashMap<ValueId, [usize; 4]>,
    outputs: HashMap<ValueId, usize>,
}

impl Readers {
    fn of(m: &Module, results: Results) -> Readers {
        let mut readers = Readers::default();
        let all = m.walk(m.body());
        let padded: Vec<(ValueId, [usize; 4])> = all.iter().filter_map(|&op| padded_input(m, op)).collect();
        readers.place_parts(m, &padded.iter().map(|p| p.0).collect());
        for (v, pads) in padded {
            let padding = readers.paddings.entry(readers.root(m, v)).or_default();
            *padding = std::array::from_fn(|i| padding[i].max(pads[i]));
        }
        if results == Results::Copied {
            readers.place_outputs(m);
        }
        readers
    }

    /// The layout of a tensor that an op computes, or of a constant.
    fn layout(&self, m: &Module, v: ValueId, in_rows: bool) -> Layout {
        if let Some(&part) = self.parts.get(&v) {
            return Layout::PartOf(part);
        }
        if let Some(&i) = self.outputs.get(&v) {
            return Layout::Output(i);
        }
        let padding = self.paddings.get(&v).copied().filter(|_| computes(m, v)).unwrap_or_default();
        match m.dims(v) {
            &[_, c, h, w] if computes(m, v) || (c > 1 && h * w > 1) => match in_rows && padding == [0; 4] {
                true => Layout::Rows,
                false => Layout::ChannelsLast { padding },
            },
            _ => Layout::Rows,
        }
    }

    /// Operands of concats that are parts of the result: computed, read there once, no results of the model. Where planes are
    /// joined at their edges, no padding fits between them.
    fn place_parts(&mut self, m: &Module, padded: &HashSet<ValueId>) {
        let regions = m.regions_in(m.body());
        let returned: HashSet<ValueId> = regions.iter().flat_map(|&r| m.returns(r)).copied().collect();
        // Later concats first: a tensor that several concats read is part of the last.
        let all = m.walk(m.body());
        for concat in all.iter().rev().filter_map(|&op| Concat::of(m, op)) {
            let (whole, axis, inputs) = (concat.out(m), concat.axis(m) as usize, concat.inputs(m));
            let mut times: HashMap<ValueId, usize> = HashMap::new();
            inputs.iter().for_each(|v| *times.entry(*v).or_default() += 1);
            let mut start = 0;
            for v in inputs {
                let elsewhere = self.parts.contains_key(&v) || returned.contains(&v);
                if times[&v] == 1 && !elsewhere && computes(m, v) && (axis == 1 || !padded.contains(&v)) {
                    self.parts.insert(v, Part { whole, axis, start });
                }
                start += m.dims(v)[axis];
            }
        }
    }

    /// The tensor whose padding `v` has.
    fn root(&self, m: &Module, mut v: ValueId) -> ValueId {
        loop {
            if let Some(part) = self.parts.get(&v) {
                v = part.whole;
            } else if let Some(slice) = Slice::producing(m, v).filter(|s| only_channels(m, *s)) {
                v = slice.x(m);
            } else {
                return v;
            }
        }
    }

    fn place_outputs(&mut self, m: &Module) {
        for (i, &v) in m.returns(m.body()).iter().enumerate() {
            let row_major = match m.dims(v) {
                [_, c, h, w] => h * w == 1 || *c == 1,
                _ => true,
            };
            let alone = m.uses(v).len() == 1 && !self.parts.contains_key(&v);
            let holds_parts = Concat::producing(m, v).is_some();
            if row_major && alone && !holds_parts && computes(m, v) {
                self.outputs.insert(v, i);
            }
        }
    }
}

/// What a padded convolution reads, with its padding.
fn padded_input(m: &Module, op: OpId) -> Option<(ValueId, [usize; 4])> {
    let conv = Convolution::of(m, op)?;
    let pads = conv.pads(m);
    let pads: [usize; 4] = std::array::from_fn(|i| pads[i] as usize);
    (pads != [0; 4]).then_some((conv.input(m), pads))
}

/// Whether a slice takes whole planes, so that it keeps the padding of its operand.
fn only_channels(m: &Module, slice: Slice) -> bool {
    let (x, starts, steps) = (slice.x(m), slice.starts(m), slice.steps(m));
    let (from, to) = (m.dims(x), m.dims(slice.out(m)));
    from.len() == 4 && steps.iter().all(|&s| s == 1) && [0, 2, 3].iter().all(|&d| starts[d] == 0 && from[d] == to[d])
}

#[cfg(test)]
mod tests;
