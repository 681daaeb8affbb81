//! Movement and sums along one axis, by places that are known: take and resample.
//!
//! Both work in any layout. A *run* is what lies contiguously in operand and result apart from the axis; where the axis is
//! the innermost dim in memory, it is one element.

use super::Lower;
use super::call::{At, Count};
use super::elementwise::Stored;
use super::emit::Emit;
use super::grain;
use super::layout::Layout;
use super::repeat::Repeated;
use super::view::{Level, View, levels};
use qc_dialects::graph::resample::Axis;
use qc_dialects::graph::{Resample, Take};
use qc_dialects::quant::QResample;
use qc_ir::{Diag, Elem, HostTensor, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{GatherCall, GatherMore, ResampleCall, ResampleMore};

/// Operand and result of a step along an axis.
struct Along {
    x: View,
    out: View,
    axis: usize,
    /// Elements of a run.
    run: usize,
    /// The loop that the kernel makes.
    outer: Level,
    /// The loops around it, outermost first.
    rest: Vec<Level>,
}

impl Along {
    fn of(x: View, out: View, axis: usize) -> Along {
        let [a, b] = [&x, &out].map(|v| v.without(axis));
        let mut all = levels(&b.dims, &[&a, &b], 1);
        let is_run = |l: &Level| l.strides == [x.elem_bytes(), out.elem_bytes()];
        let run = all.pop_if(|l| is_run(l)).map_or(1, |l| l.count);
        let outer = all.pop().unwrap_or(Level { count: 1, strides: vec![0, 0] });
        Along { x, out, axis, run, outer, rest: all }
    }

    /// One step whose tasks are rows of the result. `call` gets the addresses of operand and result, the first row and the
    /// number of rows.
    fn step(
        &self,
        e: &mut Emit<'_>,
        call: impl Fn(&mut Emit<'_>, [At; 2], Option<ValueId>, Count) -> Result<(), Diag>,
    ) -> Result<(), Diag> {
        let rows = self.out.dims[self.axis];
        let tasks = if self.out.elements() < grain::ELEMENTS { 1 } else { rows };
        e.step(tasks, |e, begin, end| {
            let (first, count): (_, Count) = match tasks {
                1 => (None, rows.into()),
                _ => (Some(begin), e.arith("sub", end, begin)?.into()),
            };
            let out = At::from(&self.out);
            let out = first.map_or(out.clone(), |i| out.moved(i, self.out.strides[self.axis]));
            nest(e, &self.rest, [At::from(&self.x), out], &|e, at| call(e, at, first, count))
        })
    }
}

fn nest(
    e: &mut Emit<'_>,
    levels: &[Level],
    at: [At; 2],
    call: &dyn Fn(&mut Emit<'_>, [At; 2]) -> Result<(), Diag>,
) -> Result<(), Diag> {
    let [first, rest @ ..] = levels else { return call(e, at) };
    e.for_count(first.count, |e, i| {
        let [x, out] = at;
        nest(e, rest, [x.moved(i, first.strides[0]), out.moved(i, first.strides[1])], call)
    })
}

impl Lower<'_> {
    /// `graph.take`.
    pub fn take(&mut self, op: Take) -> Result<(), Diag> {
        let src = self.src;
        if let Some(repeated) = Repeated::of(src, op) {
            self.loc = self.joined_loc(op.0, &repeated.before);
            let (x, out) = (self.view(repeated.source)?, self.destination(op.out(src))?);
            return self.copy_repeated(&repeated, &x, &out);
        }
        let (axis, places) = op.along(src).map_err(Diag::bug)?;
        let places = self.data("places", HostTensor::i32([places.len()], places.to_vec()), vec![])?;
        let (x, out) = (self.view(op.x(src))?, self.destination(op.out(src))?);
        let x = self.like(x, &out, axis)?;
        let along = Along::of(x, out, axis);
        let (size, bytes) = (along.x.dims[axis], along.run as i64 * along.x.elem_bytes());
        let (table_row, out_row) = (along.x.strides[axis], along.out.strides[axis]);
        along.step(&mut self.emit(), |e, [table, out], first, rows| {
            let indices = At::start(places);
            e.call(&GatherCall {
                variant: Variant::B1,
                table,
                indices: first.map_or(indices.clone(), |i| indices.moved(i, 4)),
                out,
                size: size.into(),
                n: bytes.into(),
                rows,
                outer: along.outer.count.into(),
                more: GatherMore {
                    table_row: table_row.into(),
                    table_outer: along.outer.strides[0].into(),
                    out_row: out_row.into(),
                    out_outer: along.outer.strides[1].into(),
                    ..Default::default()
                },
            })
        })
    }

    /// Copies elements of `x` as often as they are repeated.
    pub(super) fn copy_repeated(&mut self, repeated: &Repeated, x: &View, out: &View) -> Result<(), Diag> {
        let from = repeated.view(x);
        let out = out.reshaped(&from.dims).ok_or_else(|| Diag::bug("a dim of a result cannot be cut"))?;
        self.copy(&from, &out)
    }

    /// `graph.resample`.
    pub fn resample(&mut self, op: Resample) -> Result<(), Diag> {
        let (x, axes) = (op.x(self.src), op.along(self.src).map_err(Diag::bug)?);
        self.resample_axes(x, op.out(self.src), &axes, [0.0, 0.0], Stored::default())
    }

    /// `quant.resample`: sums in steps of the input.
    pub fn resample_u8(&mut self, op: QResample) -> Result<(), Diag> {
        let src = self.src;
        let (axes, by) = (op.along(src).map_err(Diag::bug)?, op.requantize(src).map_err(Diag::bug)?);
        let (lo, hi) = (op.lo(src) as i32, Some(op.hi(src) as i32));
        let stored = Stored { scale: Some(by.step), zero: by.zero as f32, lo, hi };
        self.resample_axes(op.x(src), op.out(src), &axes, [1.0, by.x_zero as f32], stored)
    }

    /// One step per axis; what lies between two is f32. `read` is scale and zero point of the operand, 0 for floats.
    fn resample_axes(
        &mut self,
        x: ValueId,
        out: ValueId,
        axes: &[Axis<'_>],
        read: [f32; 2],
        stored: Stored,
    ) -> Result<(), Diag> {
        let (mut from, mut read) = (self.view(x)?, read);
        let out = self.destination(out)?;
        let layout = if out.is_channels_last() { Layout::usual(&out.dims) } else { Layout::Rows };
        for (i, a) in axes.iter().enumerate() {
            let (to, by) = match i + 1 == axes.len() {
                true => (out.clone(), stored),
                false => {
                    let mut dims = from.dims.clone();
                    dims[a.axis] = a.size;
                    (self.alloc("resampled", Elem::F32, &dims, layout)?, Stored::default())
                }
            };
            from = self.like(from, &to, a.axis)?;
            self.resample_axis(&Along::of(from, to.clone(), a.axis), a, read, by)?;
            (from, read) = (to, [0.0, 0.0]);
        }
        Ok(())
    }

    fn resample_axis(&mut self, along: &Along, a: &Axis<'_>, read: [f32; 2], stored: Stored) -> Result<(), Diag> {
        let places = self.data("places", HostTensor::i32([a.places.len()], a.places.to_vec()), vec![])?;
        let weights = self.data("weights", HostTensor::f32([a.weights.len()], a.weights.to_vec()), vec![])?;
        let (size, tap_row) = (along.x.dims[a.axis], 4 * a.taps);
        let (a_row, out_row) = (along.x.strides[a.axis], along.out.strides[a.axis]);
        along.step(&mut self.emit(), |e, [x, out], first, rows| {
            let [places, weights] = [places, weights].map(|v| {
                let at = At::start(v);
                first.map_or(at.clone(), |i| at.moved(i, tap_row as i64))
            });
            e.call(&ResampleCall {
                variant: Variant::F32,
                a: x,
                out,
                places,
                weights,
                size: size.into(),
                taps: a.taps.into(),
                tap_row: tap_row.into(),
                n: along.run.into(),
                rows,
                outer: along.outer.count.into(),
                more: ResampleMore {
                    a_row: a_row.into(),
                    a_outer: along.outer.strides[0].into(),
                    out_row: out_row.into(),
                    out_outer: along.outer.strides[1].into(),
                    a_scale: read[0],
                    a_zero: read[1],
                    scale: stored.scale.unwrap_or(0.0),
                    zero: stored.zero,
                    lo: stored.lo,
                    hi: stored.hi,
                },
            })
        })
    }

    /// The view, or a copy of it in the order of `out` where no runs are common to both but could be.
    fn like(&mut self, x: View, out: &View, axis: usize) -> Result<View, Diag> {
        let inner = |v: &View| (0..v.dims.len()).filter(|&d| v.dims[d] > 1).min_by_key(|&d| v.strides[d].abs());
        let (has, wants) = (inner(&x.without(axis)), inner(&out.without(axis)));
        let is_run = out.dims.len() > 1 && wants.is_some_and(|d| out.without(axis).strides[d] == out.elem_bytes());
        if has == wants || !is_run {
            return Ok(x);
        }
        let layout = if out.is_channels_last() { Layout::usual(&x.dims) } else { Layout::Rows };
        let copy = self.alloc("along", x.elem, &x.dims, layout)?;
        self.copy(&x, &copy)?;
        Ok(copy)
    }
}
