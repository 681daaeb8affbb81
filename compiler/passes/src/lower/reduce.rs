//! Means over dims, by the kernel of contiguous rows or, where channels lie innermost, by that of average pooling.
//!
//! What lies otherwise is copied into rows first.

use super::emit::{Call, Fields, sweep};
use super::view::{Level, View, levels, row_major};
use super::{Lower, plain_buffer};
use qc_dialects::graph::ReduceMean;
use qc_ir::Diag;

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
        let ordered = only(&a, &order);
        let copy = self.alloc("rows", plain_buffer(a.elem, &ordered.dims), [0; 4])?;
        let copy = View { strides: row_major(&ordered.dims, a.elem), ..copy };
        self.copy(&ordered, &copy)?;
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
        let fields = Fields { counts: &["n", "rows"], pointers: &[("a", &["", "a_row"]), ("out", &["", "out_row"])] };
        sweep(&mut self.emit(), Call::new("mean.f32"), &fields, &[from, to], all)
    }

    /// Means over a window of one or two levels, for runs of contiguous elements.
    fn mean_of_pixels(&mut self, from: &View, to: &View, window: &[Level]) -> Result<(), Diag> {
        let [y, x] = match window {
            [y, x] => [y.clone(), x.clone()],
            [x] => [Level { count: 1, strides: vec![0] }, x.clone()],
            _ => return Err(Diag::bug("a window of more than two levels")),
        };
        let call = Call::new("pool.avg_f32")
            .set("in_h", y.count)
            .set("in_w", x.count)
            .set("kh", y.count)
            .set("kw", x.count)
            .set("a_row", y.strides[0])
            .set("a_px", x.strides[0])
            .set("stride_y", 1)
            .set("stride_x", 1)
            .set("rows", 1)
            .set("cols", 1);
        let mut all = levels(&from.dims, &[from, to], 0);
        // Runs stay whole: a level of one keeps a lone one from being split.
        if all.len() == 1 {
            all.insert(0, Level { count: 1, strides: vec![0, 0] });
        }
        let fields = Fields { counts: &["channels"], pointers: &[("a", &[""]), ("out", &[""])] };
        sweep(&mut self.emit(), call, &fields, &[from, to], all)
    }
}
