//! What must move, as strided copies: concat, pad, reshapes that are no view.

use super::Lower;
use super::elementwise::contiguous;
use super::emit::sweep;
use super::layout::{Layout, Part};
use super::view::{View, levels};
use qc_dialects::graph::{Concat, Pad, Reshape};
use qc_ir::Diag;
use qc_kernels::Variant;
use qc_kernels::args::{FillCall, FillMore, MoveCall, MoveMore};

impl Lower<'_> {
    /// Copies the elements of one view to another of the same dims.
    pub fn copy(&mut self, from: &View, to: &View) -> Result<(), Diag> {
        if from.dims.contains(&0) {
            return Ok(());
        }
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

    /// `graph.reshape`: nothing where it is an alias, else a copy.
    pub fn reshape(&mut self, op: Reshape) -> Result<(), Diag> {
        let out = op.out(self.src);
        if self.place.layout(out) == Layout::Alias {
            return Ok(());
        }
        let (x, to) = (self.view(op.x(self.src))?, self.destination(out)?);
        let as_source = to.reshaped(&x.dims).ok_or_else(|| Diag::bug("row-major memory takes any shape"))?;
        self.copy(&x, &as_source)
    }

    /// `graph.concat`: nothing for operands that were written in place, copies for the others.
    pub fn concat(&mut self, op: Concat) -> Result<(), Diag> {
        let (out, axis) = (op.out(self.src), op.axis(self.src) as usize);
        let whole = self.destination(out)?;
        let mut start = 0;
        for v in op.inputs(self.src) {
            let size = self.src.dims(v)[axis];
            if self.place.layout(v) != Layout::PartOf(Part { whole: out, axis, start }) {
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
            let more = FillMore { from: None, row_stride, outer_stride, value: value.to_bits() as i32 };
            FillCall { variant: Variant::B4, dst: dst.at, n, rows, outer, more }
        })?;
        let mut inside = out;
        for (d, &size) in x.dims.iter().enumerate() {
            inside = inside.narrow(d, pads[d] as usize, size, 1);
        }
        self.copy(&x, &inside)
    }
}
