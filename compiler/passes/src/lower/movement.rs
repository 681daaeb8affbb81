//! Reshape, transpose and slice as views; concat, pad and what else must move as strided copies.

use super::Lower;
use super::elementwise::contiguous;
use super::emit::sweep;
use super::view::{View, levels};
use qc_dialects::graph::{Concat, Pad, Reshape, Slice, Transpose};
use qc_ir::Diag;
use qc_kernels::Variant;
use qc_kernels::args::{FillCall, FillMore, MoveCall, MoveMore};

impl Lower<'_> {
    /// Copies the elements of one view to another of the same dims.
    pub fn copy(&mut self, from: &View, to: &View) -> Result<(), Diag> {
        let (mut from, mut to) = (from.clone(), to.clone());
        let wide = from.elem_bytes() > 4;
        if wide {
            // Eight-byte elements move as pairs of four bytes.
            for v in [&mut from, &mut to] {
                v.dims.push(2);
                v.strides.push(4);
            }
        }
        let variant = if from.elem_bytes() == 1 { Variant::B1 } else { Variant::B4 };
        let all = levels(&from.dims, &[&from, &to], 1);
        sweep(&mut self.emit(), [&from, &to], all, |[n0, n1, n2, n3], [src, dst]| {
            let ([src_s0, src_s1, src_s2, src_s3], [dst_s0, dst_s1, dst_s2, dst_s3]) = (src.by, dst.by);
            let more = MoveMore { src_s0, src_s1, src_s2, src_s3, dst_s0, dst_s1, dst_s2, dst_s3 };
            MoveCall { variant, src: src.at, dst: dst.at, n0, n1, n2, n3, more }
        })
    }

    /// `graph.reshape`: a view, or a copy into row-major memory.
    pub fn reshape(&mut self, op: Reshape) -> Result<(), Diag> {
        let (x, out) = (self.view(op.x(self.src))?, op.out(self.src));
        let dims = self.src.dims(out).to_vec();
        let view = match x.reshaped(&dims) {
            Some(view) => view,
            None => {
                let name = self.src.name(out).unwrap_or("reshaped").to_string();
                self.reshape_by_copy(&x, &dims, &name)?
            }
        };
        self.views.insert(out, view);
        Ok(())
    }

    /// Copies so that the copy can be seen under `dims`: into the usual layout of `dims` if the elements come out in
    /// order there, else into row-major memory.
    fn reshape_by_copy(&mut self, x: &View, dims: &[usize], name: &str) -> Result<View, Diag> {
        let target = self.fresh(name, dims, x.elem, [0; 4], 0)?;
        if let Some(as_source) = target.reshaped(&x.dims) {
            self.copy(x, &as_source)?;
            return Ok(target);
        }
        let row_major = View { strides: super::view::row_major(dims, x.elem), ..target };
        let as_source = row_major.reshaped(&x.dims).ok_or_else(|| Diag::bug("row-major memory takes any shape"))?;
        self.copy(x, &as_source)?;
        Ok(row_major)
    }

    /// `graph.transpose`: a view.
    pub fn transpose(&mut self, op: Transpose) -> Result<(), Diag> {
        let view = self.view(op.x(self.src))?.permuted(&op.perm(self.src));
        self.views.insert(op.out(self.src), view);
        Ok(())
    }

    /// `graph.slice`: a view.
    pub fn slice(&mut self, op: Slice) -> Result<(), Diag> {
        let (starts, steps) = (op.starts(self.src), op.steps(self.src));
        let out = self.src.dims(op.out(self.src)).to_vec();
        let mut view = self.view(op.x(self.src))?;
        for (d, &count) in out.iter().enumerate() {
            view = view.narrow(d, starts[d] as usize, count, steps[d] as usize);
        }
        self.views.insert(op.out(self.src), view);
        Ok(())
    }

    /// `graph.concat`: nothing for operands that were written in place, copies for the others.
    pub fn concat(&mut self, op: Concat) -> Result<(), Diag> {
        let (out, axis) = (op.out(self.src), op.axis(self.src) as usize);
        let whole = self.destination(out)?;
        let mut start = 0;
        for v in op.inputs(self.src) {
            let size = self.src.dims(v)[axis];
            let in_place = self.place.part(v).is_some_and(|p| p.whole == out && p.start == start);
            if !in_place {
                let from = self.view(v)?;
                self.copy(&from, &whole.narrow(axis, start, size, 1))?;
            }
            start += size;
        }
        Ok(())
    }

    /// `graph.pad`: fills the result, then copies the operand inside.
    pub fn pad(&mut self, op: Pad) -> Result<(), Diag> {
        let (pads, value) = (op.pads(self.src), op.value(self.src) as f32);
        let x = self.view(op.x(self.src))?;
        let out = self.destination(op.out(self.src))?;
        let all = contiguous(levels(&out.dims, &[&out], 0), 0, out.elem_bytes());
        sweep(&mut self.emit(), [&out], all, |[n, rows, outer], [dst]| {
            let [_, row_stride, outer_stride] = dst.by;
            let more = FillMore { row_stride, outer_stride, value: value.to_bits() as i32 };
            FillCall { variant: Variant::B4, dst: dst.at, n, rows, outer, more }
        })?;
        let mut inside = out;
        for (d, &size) in x.dims.iter().enumerate() {
            inside = inside.narrow(d, pads[d] as usize, size, 1);
        }
        self.copy(&x, &inside)
    }
}
