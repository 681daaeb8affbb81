//! Softmax, layer norm and local response normalisation.

use super::Lower;
use super::call::At;
use super::elementwise::Stored;
use super::emit::sweep;
use super::joined::{Scores, Sum};
use super::layout::Layout;
use super::view::{Level, View, levels};
use qc_dialects::graph::{LayerNorm, Lrn, Softmax};
use qc_ir::{Diag, LocId, OpId, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{LayerNormCall, LayerNormMore, LrnCall, LrnMore, SoftmaxCall, SoftmaxMore};

/// The dims from `axis` on as one, if their elements lie one behind the other.
fn joined_from(v: &View, axis: usize) -> Option<View> {
    let n = v.dims[axis..].iter().product();
    let rows = v.reshaped(&[&v.dims[..axis], &[n]].concat())?;
    rows.has_rows().then_some(rows)
}

/// Levels over the rows of operands that have `n` elements each. A lone row stays whole: a level of one keeps it from being
/// split.
fn over_rows(rows: &[&View], n: usize, elements: Vec<i64>, key: usize) -> Vec<Level> {
    let mut all = levels(&rows[key].dims, rows, key);
    if all.is_empty() {
        all.push(Level { count: 1, strides: vec![0; rows.len()] });
    }
    all.push(Level { count: n, strides: elements });
    all
}

impl Lower<'_> {
    /// The location of an op and of what is part of its step.
    pub(super) fn joined_loc(&mut self, op: OpId, parts: &[OpId]) -> LocId {
        let all: Vec<LocId> = parts.iter().chain([&op]).map(|&op| self.src.loc(op)).collect();
        self.out.locs.fuse(&all)
    }

    /// `graph.softmax`: one vector along the axis per remaining index.
    pub fn softmax(&mut self, op: Softmax) -> Result<(), Diag> {
        let axis = op.axis(self.src) as usize;
        let scores = Scores::of(self.src, op);
        self.loc = self.joined_loc(op.0, &scores.ops);
        let (out, quant) = self.real_destination(op.out(self.src))?;
        let stored = Stored::of(quant.as_ref());
        let a = self.view(scores.x)?;
        let mask = match scores.mask {
            Some(mask) => Some(self.view(mask)?.broadcast(&out.dims)),
            None => None,
        };
        let (has_mask, mask) = (mask.is_some(), mask.unwrap_or_else(|| a.clone()));
        let rest = [&a, &out, &mask].map(|v| v.without(axis));
        let strides = vec![a.strides[axis], out.strides[axis], mask.strides[axis]];
        let all = over_rows(&rest.each_ref(), out.dims[axis], strides, 1);
        sweep(&mut self.emit(), [&a, &out, &mask], all, |[n, rows], [a, out, mask]| {
            let none = 0usize.into();
            let [mask_elem, mask_row] = if has_mask { mask.by } else { [none, none] };
            let more = SoftmaxMore {
                mask: has_mask.then_some(mask.at),
                a_row: a.by[1],
                mask_row,
                out_row: out.by[1],
                a_elem: a.by[0],
                mask_elem,
                out_elem: out.by[0],
                factor: scores.factor,
                scale: stored.scale.unwrap_or(0.0),
                zero: stored.zero,
                lo: stored.lo,
                hi: stored.hi,
            };
            SoftmaxCall { variant: Variant::F32, a: a.at, out: out.at, rows, n, more }
        })
    }

    /// `graph.layer_norm`, with the addition in front of it where that is part of its step.
    pub fn layer_norm(&mut self, op: LayerNorm) -> Result<(), Diag> {
        let (src, axis) = (self.src, op.axis(self.src) as usize);
        let sum = Sum::in_front_of(src, op);
        let parts: Vec<OpId> = sum.iter().map(|sum| sum.add).collect();
        self.loc = self.joined_loc(op.0, &parts);
        let (out, quant) = self.real_destination(op.out(src))?;
        let kept = sum.filter(|sum| sum.is_kept).map(|sum| self.destination(src.result(sum.add))).transpose()?;
        let (to, to_kept) = (self.rows_to_write(&out, axis)?, kept.as_ref().map(|v| self.rows_to_write(v, axis)));
        let to_kept = to_kept.transpose()?;
        self.layer_norm_of_rows(op, sum, &to, to_kept.as_ref(), Stored::of(quant.as_ref()))?;
        for (rows, wanted) in [(Some(to), Some(out)), (to_kept, kept)] {
            if let (Some(rows), Some(wanted)) = (rows, wanted)
                && rows.buf != wanted.buf
            {
                let rows = rows.reshaped(&wanted.dims).ok_or_else(|| Diag::bug("rows of other dims"))?;
                self.copy(&rows, &wanted)?;
            }
        }
        Ok(())
    }

    fn layer_norm_of_rows(
        &mut self,
        op: LayerNorm,
        sum: Option<Sum>,
        out: &View,
        kept: Option<&View>,
        stored: Stored,
    ) -> Result<(), Diag> {
        let (src, axis) = (self.src, op.axis(self.src) as usize);
        let dims = src.dims(op.out(src)).to_vec();
        let [x, y] = sum.map_or([op.x(src); 2], |sum| sum.terms);
        let ((x, read), (y, read_y)) = (self.real_operand(x), self.real_operand(y));
        let (a, res) = (self.rows_of(x, &dims, axis)?, self.rows_of(y, &dims, axis)?);
        let mut parameter = |v: Option<ValueId>| -> Result<Option<At>, Diag> {
            let Some(v) = v else { return Ok(None) };
            let dims = src.dims(v).to_vec();
            Ok(Some(At::from(&self.rows_of(v, &dims, 0)?)))
        };
        let (gamma, beta) = (parameter(op.scale(src))?, parameter(op.bias(src))?);
        let kept_view = kept.unwrap_or(out);
        let views = [&a, &res, kept_view, out];
        let (rest, n) = (views.map(|v| v.without(axis)), out.dims[axis]);
        let all = over_rows(&rest.each_ref(), n, views.map(View::elem_bytes).to_vec(), 3);
        let variant = if op.rms(src) { Variant::Rms } else { Variant::F32 };
        sweep(&mut self.emit(), views, all, |[n, rows], [a, res, kept_at, out]| {
            let more = LayerNormMore {
                res: sum.map(|_| res.at),
                gamma: gamma.clone(),
                beta: beta.clone(),
                sum: kept.map(|_| kept_at.at),
                a_row: a.by[1],
                res_row: if sum.is_some() { res.by[1] } else { 0usize.into() },
                sum_row: if kept.is_some() { kept_at.by[1] } else { 0usize.into() },
                out_row: out.by[1],
                epsilon: op.epsilon(src) as f32,
                a_scale: read.scale,
                a_zero: read.zero,
                res_scale: if sum.is_some() { read_y.scale } else { 0.0 },
                res_zero: if sum.is_some() { read_y.zero } else { 0.0 },
                scale: stored.scale.unwrap_or(0.0),
                zero: stored.zero,
                lo: stored.lo,
                hi: stored.hi,
            };
            let [clamp_lo, clamp_hi] = [op.min(src) as f32, op.max(src) as f32];
            LayerNormCall { variant, a: a.at, out: out.at, rows, n, clamp_lo, clamp_hi, more }
        })
    }

    /// A tensor as rows of all dims from `axis` on, repeated as `dims` say; a copy where its elements lie otherwise.
    fn rows_of(&mut self, v: ValueId, dims: &[usize], axis: usize) -> Result<View, Diag> {
        let view = self.view(v)?;
        let own = axis.saturating_sub(dims.len() - view.dims.len());
        let view = match joined_from(&view, own) {
            Some(_) => view,
            None => self.row_major_copy("rows", &view)?,
        };
        joined_from(&view.broadcast(dims), axis).ok_or_else(|| Diag::bug("rows that are none"))
    }

    /// Where rows of all dims from `axis` on are written: a result, or a buffer that is copied to it.
    fn rows_to_write(&mut self, v: &View, axis: usize) -> Result<View, Diag> {
        if let Some(rows) = joined_from(v, axis) {
            return Ok(rows);
        }
        let rows = self.alloc("norm", v.elem, &v.dims, Layout::Rows)?;
        joined_from(&rows, axis).ok_or_else(|| Diag::bug("rows that are none"))
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
