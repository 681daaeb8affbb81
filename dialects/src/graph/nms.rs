//! Choosing boxes that overlap no better one. How many are chosen only a run tells: a result has room for all that could be, and
//! says in its first rows how many there are.

use super::items::never_apart;
use super::{f32s, tensor_of};
use qc_ir::{Data, Elem, HostTensor, Module, OpId, TensorTy, Type};
use qc_kernels::reference;

qc_ir::ops! { dialect NMS = "graph";
    /// Of boxes `[N, S, 4]` with scores `[N, C, S]` those that overlap no better one of their class by more than `iou`. Out:
    /// `[N + N * room, 3]`, a row for each of the `N` pictures that holds the number of its boxes and zeros, then the rows
    /// `picture, class, place` of all of them, in order of picture and class, the best of a class first; zeros fill the rest.
    ///
    /// `form`: `any`, two corners `y1, x1, y2, x2` in any order; `centred`, centre, width and height; `ordered`, `x1, y1, x2, y2`;
    /// `pixels`, the same with sides one longer. Candidates are those whose score is above `score`, per class the `limit` best; at
    /// most `each` of a class stay, and the `keep` best of a picture, of equal ones the earlier (-1: all). The class `background`
    /// is left out. A threshold above 0.5 is multiplied by `eta` for each that stays. `room` is what could stay of a picture.
    op Nms = "graph.nms"(boxes: F32 3, scores: F32 3) -> (out)
        { form: Str, iou: Float, score: Float, limit: Int = -1i64, each: Int = -1i64, keep: Int = -1i64, background: Int = -1i64, eta: Float = 1.0 } [PURE]
        infer(|m, op| Spec::of(m, op)?.infer()) eval(|m, op, args| Spec::of(m, op)?.eval(args)) items(never_apart);
    /// As `graph.nms`, but a box goes if its score, multiplied by the least of what better boxes of its class make of it, is not
    /// above `post`: `(1 - o) / (1 - m)`, or `exp((m² - o²) * sigma)` for a `sigma` above 0, with `o` the overlap of the two and `m`
    /// the largest overlap of the better one with boxes better than itself. Out: `[N + N * room, 4]`, floats, the number of boxes of
    /// each picture and zeros, then rows `picture, class, place, score`, those of a picture in order of their scores.
    op MatrixNms = "graph.matrix_nms"(boxes: F32 3, scores: F32 3) -> (out)
        { form: Str, score: Float, post: Float, limit: Int = -1i64, keep: Int = -1i64, background: Int = -1i64, sigma: Float = 0.0 } [PURE]
        infer(|m, op| Spec::of(m, op)?.infer()) eval(|m, op, args| Spec::of(m, op)?.eval(args)) items(never_apart);
}

/// How boxes are written, by the number that kernels have for it.
const FORMS: [&str; 4] = ["any", "centred", "ordered", "pixels"];

/// The largest place that is exact as a float.
const MAX_PLACE: usize = 1 << 24;

/// What is chosen, and how many rows that can be.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The numbers of it, `limit`, `each` and `keep` being no larger than what exists.
    pub nms: reference::Nms,
    /// Whether scores decay.
    pub decay: bool,
    /// Boxes of a picture before the best of them are kept, at most.
    pub most: usize,
}

impl Spec {
    /// What a `graph.nms` or `graph.matrix_nms` chooses.
    ///
    /// # Errors
    /// Operands that do not fit each other, and attributes that mean nothing.
    pub fn of(m: &Module, op: OpId) -> Result<Spec, String> {
        let (boxes, scores) = (tensor_of(m, op, 0)?, tensor_of(m, op, 1)?);
        let ([images, size, 4], [n, classes, s]) = (&boxes.dims[..], &scores.dims[..]) else {
            return Err(format!("boxes of shape {:?} have no four coordinates", boxes.dims));
        };
        let (&images, &size, &classes) = (images, size, classes);
        if (images, size) != (*n, *s) {
            return Err(format!("scores of shape {:?} do not fit boxes of {:?}", scores.dims, boxes.dims));
        }
        let at_most = |given: i64, all: usize| usize::try_from(given).map_or(all, |given| given.min(all));
        let (attrs, form) = match (Nms::of(m, op), MatrixNms::of(m, op)) {
            (Some(op), _) => (
                reference::Nms {
                    iou: op.iou(m) as f32,
                    score: op.score(m) as f32,
                    eta: op.eta(m) as f32,
                    background: op.background(m) as i32,
                    limit: at_most(op.limit(m), size),
                    each: at_most(op.each(m), size),
                    ..reference::Nms::default()
                },
                (op.form(m), op.keep(m)),
            ),
            (None, Some(op)) => (
                reference::Nms {
                    score: op.score(m) as f32,
                    post: op.post(m) as f32,
                    sigma: op.sigma(m) as f32,
                    background: op.background(m) as i32,
                    limit: at_most(op.limit(m), size),
                    each: size,
                    ..reference::Nms::default()
                },
                (op.form(m), op.keep(m)),
            ),
            (None, None) => return Err("it chooses no boxes".into()),
        };
        let (form, keep) = form;
        let form = FORMS.iter().position(|f| *f == &*form).ok_or_else(|| format!("`form` is `{form}`"))?;
        if [attrs.iou, attrs.score, attrs.post, attrs.sigma, attrs.eta].iter().any(|x| x.is_nan()) {
            return Err("a threshold is NaN".into());
        }
        let real = classes - usize::from(usize::try_from(attrs.background).is_ok_and(|b| b < classes));
        let most = real.checked_mul(attrs.each.min(attrs.limit)).filter(|n| *n <= 1 << 31);
        let most = most.ok_or_else(|| format!("{classes} classes of {size} boxes"))?;
        if size > MAX_PLACE || classes > MAX_PLACE || images > MAX_PLACE {
            return Err(format!("{images} pictures, {classes} classes and {size} boxes"));
        }
        let nms = reference::Nms { images, classes, size, form, keep: at_most(keep, most), ..attrs };
        Ok(Spec { nms, decay: MatrixNms::of(m, op).is_some(), most })
    }

    /// Rows of the result.
    pub fn rows(&self) -> usize {
        self.nms.images.saturating_mul(1 + self.nms.keep)
    }

    fn columns(&self) -> usize {
        if self.decay { 4 } else { 3 }
    }

    fn infer(&self) -> Result<Vec<Type>, String> {
        let elem = if self.decay { Elem::F32 } else { Elem::I32 };
        Ok(vec![Type::Tensor(TensorTy::new(elem, [self.rows(), self.columns()]))])
    }

    fn eval(&self, args: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, String> {
        let (boxes, scores) = (f32s(args, 0)?, f32s(args, 1)?);
        let chosen = self.nms.choose(boxes, scores, self.decay);
        let (columns, mut out) = (self.columns(), vec![0.0; self.rows() * self.columns()]);
        for image in 0..self.nms.images {
            out[image * columns] = chosen.iter().filter(|c| c.image == image).count() as f32;
        }
        let rows = out[self.nms.images * columns..].chunks_exact_mut(columns);
        for (row, c) in rows.zip(&chosen) {
            row.copy_from_slice(&[c.image as f32, c.class as f32, c.place as f32, c.score][..columns]);
        }
        let data = if self.decay { Data::F32(out) } else { Data::I32(out.into_iter().map(|x| x as i32).collect()) };
        let made = HostTensor::new([self.rows(), columns], data).map(|t| vec![t]);
        made.ok_or_else(|| "wrong number of elements".into())
    }
}
