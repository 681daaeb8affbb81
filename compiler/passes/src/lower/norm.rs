//! Softmax and local response normalisation.

use super::Lower;
use super::emit::sweep;
use super::view::{Level, View, levels};
use qc_dialects::graph::{Lrn, Softmax};
use qc_ir::Diag;
use qc_kernels::Variant;
use qc_kernels::args::{LrnCall, LrnMore, SoftmaxCall, SoftmaxMore};

impl Lower<'_> {
    /// `graph.softmax`: one vector along the axis per remaining index.
    pub fn softmax(&mut self, op: Softmax) -> Result<(), Diag> {
        let axis = op.axis(self.src) as usize;
        let (a, out) = (self.view(op.x(self.src))?, self.destination(op.out(self.src))?);
        let without = |v: &View| {
            let mut v = v.clone();
            v.dims.remove(axis);
            v.strides.remove(axis);
            v
        };
        let (rest_a, rest_out) = (without(&a), without(&out));
        let mut all = levels(&rest_a.dims.clone(), &[&rest_a, &rest_out], 1);
        all.push(Level { count: a.dims[axis], strides: vec![a.strides[axis], out.strides[axis]] });
        // A lone vector must stay whole: a level of one row keeps it from being split.
        if all.len() == 1 {
            all.insert(0, Level { count: 1, strides: vec![0, 0] });
        }
        sweep(&mut self.emit(), [&a, &out], all, |[n, rows], [a, out]| {
            let ([a_elem, a_row], [out_elem, out_row]) = (a.by, out.by);
            let more = SoftmaxMore { a_row, out_row, a_elem, out_elem };
            SoftmaxCall { variant: Variant::F32, a: a.at, out: out.at, rows, n, more }
        })
    }

    /// `graph.lrn` over channels-last pixels.
    pub fn lrn(&mut self, op: Lrn) -> Result<(), Diag> {
        let src = self.src;
        let out = op.out(src);
        if src.dims(out).len() != 4 {
            return Err(Diag::error("graph.lrn: only images of rank 4 are supported"));
        }
        let a = self.channels_last_view(op.x(src), [0; 4])?;
        let to = self.destination(out)?;
        let pixels = |v: &View| View {
            dims: vec![v.dims[0], v.dims[2], v.dims[3]],
            strides: vec![v.strides[0], v.strides[2], v.strides[3]],
            ..v.clone()
        };
        let mut all = levels(&pixels(&a).dims.clone(), &[&pixels(&a), &pixels(&to)], 1);
        all.push(Level { count: a.dims[1], strides: vec![4, 4] });
        if all.len() == 1 {
            all.insert(0, Level { count: 1, strides: vec![0, 0] });
        }
        sweep(&mut self.emit(), [&a, &to], all, |[channels, pixels], [a, out]| LrnCall {
            variant: Variant::F32,
            a: a.at,
            out: out.at,
            pixels,
            channels,
            size: op.size(src).into(),
            k: op.bias(src) as f32,
            more: LrnMore { a_px: a.by[1], out_px: out.by[1], alpha: op.alpha(src) as f32, beta: op.beta(src) as f32 },
        })
    }
}
