//! Choosing boxes that overlap no better one: a single task, since what stays depends on what stayed before.

use super::Lower;
use super::call::At;
use super::layout::Layout;
use super::view::row_major;
use qc_dialects::graph::nms::Spec;
use qc_dialects::graph::{MatrixNms, Nms};
use qc_ir::{Diag, Elem, OpId, ValueId};
use qc_kernels::Variant;
use qc_kernels::args::{NmsCall, NmsMore};

impl Lower<'_> {
    /// `graph.nms`.
    pub fn nms(&mut self, op: Nms) -> Result<(), Diag> {
        let src = self.src;
        self.chosen_boxes(op.0, [op.boxes(src), op.scores(src)], op.out(src))
    }

    /// `graph.matrix_nms`.
    pub fn matrix_nms(&mut self, op: MatrixNms) -> Result<(), Diag> {
        let src = self.src;
        self.chosen_boxes(op.0, [op.boxes(src), op.scores(src)], op.out(src))
    }

    fn chosen_boxes(&mut self, op: OpId, [boxes, scores]: [ValueId; 2], out: ValueId) -> Result<(), Diag> {
        let spec = Spec::of(self.src, op).map_err(Diag::bug)?;
        let (boxes, scores, to) =
            (self.in_order(boxes, "boxes")?, self.in_order(scores, "scores")?, self.destination(out)?);
        let plain = to.strides == row_major(&to.dims, to.elem);
        let rows = if plain { to.clone() } else { self.alloc("chosen", to.elem, &to.dims, Layout::Rows)? };
        let room = |n: usize| [n.max(1)];
        let order = self.alloc("candidates", Elem::I64, &room(spec.nms.size), Layout::Rows)?;
        let kept = self.alloc("kept", Elem::I64, &[2 * spec.most.max(1)], Layout::Rows)?;
        let heap = self.alloc("heap", Elem::I64, &room(spec.nms.keep), Layout::Rows)?;
        let n = spec.nms;
        self.emit().step(1, |e, _, _| {
            let more = NmsMore {
                box_image: (16 * n.size).into(),
                score_image: (4 * n.size * n.classes).into(),
                score_class: (4 * n.size).into(),
                out_row: (4 * rows.dims[1]).into(),
                form: n.form.into(),
                iou: n.iou,
                score: n.score,
                eta: n.eta,
                post: n.post,
                sigma: n.sigma,
            };
            e.call(&NmsCall {
                variant: if spec.decay { Variant::F32 } else { Variant::I32 },
                boxes: At::from(&boxes),
                scores: At::from(&scores),
                out: At::from(&rows),
                order: At::from(&order),
                kept: At::from(&kept),
                heap: At::from(&heap),
                images: n.images.into(),
                classes: n.classes.into(),
                size: n.size.into(),
                limit: n.limit.max(1).into(),
                each: n.each.max(1).into(),
                most: spec.most.max(1).into(),
                keep: n.keep.into(),
                rows: spec.rows().into(),
                background: n.background,
                more,
            })
        })?;
        if plain { Ok(()) } else { self.copy(&rows, &to) }
    }
}
