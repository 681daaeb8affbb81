//! Means over dims, by the kernel of contiguous rows or, where channels lie innermost, by that of average pooling.
//!
//! What lies otherwise is copied into rows first.

use super::Lower;
use super::emit::sweep;
use super::view::{Level, View, levels};
use qc_dialects::graph::ReduceMean;
use qc_ir::Diag;
use qc_kernels::Variant;
use qc_kernels::args::{MeanCall, MeanMore, PoolCall, PoolMore};

/// The dims of `v` in `which`.
fn only(v: &View, which: &[usize]) -> View {
    let perm: Vec<i64> = which.iter().map(|&d| d as i64).collect();
    v.permuted(&perm)
}

impl Lower<'_> {
    /// `graph.reduce_mean`.
    pub fn reduce_mean(&mut self, op: ReduceMean) -> Result<(), Diag> {
        let src = self.src;
        let axes = op.axes(src);
        let a = self.view(op.x(src))?;
        let out = self.destination(op.out(src))?;
        let (reduced, kept): (Vec<usize>, Vec<usize>) = (0..a.dims.len()).partition(|&d| axes.contains(&(d as i64)));
        // The dims of the result that are kept, in the operand's order.
        let own: Vec<usize> = if op.keepdims(src) { kept.clone() } else { (0..kept.len()).collect() };
        let to = only(&out, &own);
        let (window, from) = (only(&a, &reduced), only(&a, &kept));
        let window_levels = levels(&window.dims, &[&window], 0);
        let rows = window_levels.last().is_none_or(|l| window_levels.len() == 1 && l.strides[0] == 4);
        if rows {
            return self.mean_of_rows(&from, &to, window.elements());
        }
        let channels = levels(&from.dims, &[&from, &to], 0).pop().is_some_and(|l| l.strides == [4, 4]);
        if channels && window_levels.len() <= 2 {
            return self.mean_of_pixels(&from, &to, &window_levels);
        }
        let order: Vec<usize> = kept.iter().chain(&reduced).copied().collect();
        let copy = self.row_major_copy("rows", &only(&a, &order))?;
        let first: Vec<usize> = (0..kept.len()).collect();
        self.mean_of_rows(&only(&copy, &first), &to, window.elements())
    }

    /// Means of `n` contiguous elements from each of `from` on.
    fn mean_of_rows(&mut self, from: &View, to: &View, n: usize) -> Result<(), Diag> {
        let mut all = levels(&to.dims, &[from, to], 1);
        if all.is_empty() {
            all.push(Level { count: 1, strides: vec![0, 0] });
        }
        all.push(Level { count: n, strides: vec![4, 0] });
        sweep(&mut self.emit(), [from, to], all, |[n, rows], [a, out]| {
            let more = MeanMore { a_row: a.by[1], out_row: out.by[1] };
            MeanCall { variant: Variant::F32, a: a.at, out: out.at, rows, n, more }
        })
    }

    /// Means over a window of one or two levels, for runs of contiguous elements.
    fn mean_of_pixels(&mut self, from: &View, to: &View, window: &[Level]) -> Result<(), Diag> {
        let [y, x] = match window {
            [y, x] => [y.clone(), x.clone()],
            [x] => [Level { count: 1, strides: vec![0] }, x.clone()],
            _ => return Err(Diag::bug("a window of more than two levels")),
        };
        let mut all = levels(&from.dims, &[from, to], 0);
        // Runs stay whole: a level of one keeps a lone one from being split.
        if all.len() == 1 {
            all.insert(0, Level { count: 1, strides: vec![0, 0] });
        }
        sweep(&mut self.emit(), [from, to], all, |[channels], [a, out]| PoolCall {
            variant: Variant::AvgF32,
            a: a.at,
            out: out.at,
            in_h: y.count.into(),
            in_w: x.count.into(),
            kh: y.count.into(),
            kw: x.count.into(),
            stride_y: 1usize.into(),
            stride_x: 1usize.into(),
            rows: 1usize.into(),
            cols: 1usize.into(),
            channels,
            more: PoolMore { a_row: y.strides[0].into(), a_px: x.strides[0].into(), ..Default::default() },
        })
    }
}
