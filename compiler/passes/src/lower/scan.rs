//! `graph.scan`: one step, in which a loop repeats the code of the region.
//!
//! before  %h, %y = graph.scan(%h0, %x) {..} do (%s, %i) {.. return(%n, %n)}
//! after   loop.parallel() {tasks = 1} do (..) { loop.for(0, steps) do (%t) { .. } }
//!
//! A state lies in the memory of its last value, into which the first one is copied before and the next one at the end of each
//! run of the region. Indices of sequences, and what a step adds to an output, are views that move with the loop. What is an op
//! of its own elsewhere is code of the one thread that runs the step. Buffers are declared outside, as all are.

use super::Lower;
use super::layout::Layout;
use super::view::{Base, View};
use qc_dialects::graph::Scan;
use qc_dialects::work::macs;
use qc_ir::{Diag, OpId, RegionId, ValueId};
use std::collections::HashSet;

/// A loop that ops are lowered into.
#[derive(Clone, Copy)]
pub(super) struct Repeated {
    /// Its region.
    pub region: RegionId,
    /// The step around it.
    pub step: OpId,
    /// The index of the sequences and outputs.
    pub index: ValueId,
}

impl Lower<'_> {
    /// `graph.scan`.
    pub fn scan(&mut self, op: Scan) -> Result<(), Diag> {
        let (src, body) = (self.src, op.body(self.src));
        let [states, sequences] = op.counts(src);
        let (operands, results) = (op.operands(src), src.results(op.0));
        let mut places = Vec::new();
        for &v in results {
            places.push(self.destination(v)?);
        }
        for (&v, place) in operands[..states].iter().zip(&places) {
            let first = self.view(v)?;
            self.copy(&first, place)?;
        }
        let given =
            operands[states..states + sequences].iter().map(|&v| self.view(v)).collect::<Result<Vec<_>, _>>()?;
        let around = self.repeated;
        self.repeated = Some(self.loop_of(op)?);
        let args = &src.args(body)[states..];
        for (&v, view) in args.iter().zip(&given) {
            let base = self.moving(op, view);
            self.buffers.insert(v, base);
        }
        for (&v, view) in src.returns(body)[states..].iter().zip(&places[states..]) {
            if self.place.is_of_output(v) {
                let base = self.moving(op, view);
                self.buffers.insert(v, base);
            }
        }
        self.region(body)?;
        self.loc = src.loc(op.0);
        self.end_of_step(op, &places)?;
        self.repeated = around;
        Ok(())
    }

    /// The loop, in a step of its own or in that of a scan around.
    fn loop_of(&mut self, op: Scan) -> Result<Repeated, Diag> {
        let (src, steps) = (self.src, op.steps(self.src) as usize);
        let work: u64 = src.walk(op.body(src)).into_iter().map(|inner| macs(src, inner)).sum();
        let (around, mut made) = (self.repeated, None);
        self.emit().with_macs(work as usize).step(1, |e, _, _| {
            e.for_count(steps, |e, index| {
                made = Some((e.region(), index));
                Ok(())
            })
        })?;
        let (region, index) = made.ok_or_else(|| Diag::bug("a loop without a region"))?;
        let newest = || self.out.ops(self.out.body()).iter().next_back().copied();
        let step = around.map(|a| a.step).or_else(newest).ok_or_else(|| Diag::bug("a loop without a step"))?;
        Ok(Repeated { region, step, index })
    }

    /// Where the index of the loop is in a sequence or output.
    fn moving(&self, op: Scan, whole: &View) -> Base {
        let (src, stride) = (self.src, whole.strides[0]);
        let mut base = whole.base();
        let by = match op.reverse(src) {
            true => {
                base.offset += (op.steps(src) - 1) * stride;
                -stride
            }
            false => stride,
        };
        base.moves.extend(self.repeated.map(|r| (r.index, by)));
        base
    }

    /// Brings to its place what the region gives: outputs first, since they may be states that the next ones replace.
    fn end_of_step(&mut self, op: Scan, places: &[View]) -> Result<(), Diag> {
        let (src, body) = (self.src, op.body(self.src));
        let [states, _] = op.counts(src);
        let (args, returns) = (src.args(body), src.returns(body));
        for (&v, whole) in returns[states..].iter().zip(&places[states..]) {
            let to = whole.first().of_base(&self.moving(op, whole));
            if !self.place.is_of_output(v) || self.view(v)?.base() != to.base() {
                let from = self.view(v)?;
                self.copy(&from, &to)?;
            }
        }
        let changed = (0..states).filter(|&i| returns[i] != args[i]);
        let kept: HashSet<ValueId> = places[..states].iter().map(|p| p.buf).collect();
        let mut next = Vec::new();
        for i in changed {
            let view = self.view(returns[i])?;
            // What lies in the memory of a state would be overwritten before it is read.
            let lies_in_state = kept.contains(&view.buf);
            next.push((if lies_in_state { self.row_major_copy("state", &view)? } else { view }, &places[i]));
        }
        next.into_iter().try_for_each(|(from, to)| self.copy(&from, to))
    }
}

/// The layout of a result: rows, where nothing asks for another one.
pub(super) fn in_rows(layout: Layout) -> Layout {
    if let Layout::ChannelsLast { .. } = layout { Layout::Rows } else { layout }
}
