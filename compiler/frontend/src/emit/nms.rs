//! Boxes that overlap no better one, as the formats give them.

use super::rows::Chosen;
use super::{Graph, Value, scalar};
use crate::error::Refusal;
use qc_dialects::graph::{self, IntFunction};
use qc_ir::{Elem, attrs};

type Result<T> = std::result::Result<T, Refusal>;

/// How boxes are written; see `graph.nms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BoxForm {
    Any,
    Centred,
    Ordered,
    Pixels,
}

impl BoxForm {
    fn word(self) -> &'static str {
        match self {
            BoxForm::Any => "any",
            BoxForm::Centred => "centred",
            BoxForm::Ordered => "ordered",
            BoxForm::Pixels => "pixels",
        }
    }
}

/// Attributes of a choice; see `graph.nms`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suppression {
    pub form: BoxForm,
    pub iou: f32,
    pub score: f32,
    pub limit: i64,
    pub each: i64,
    pub keep: i64,
    pub background: i64,
    pub eta: f32,
}

/// Attributes of a choice by scores that decay; see `graph.matrix_nms`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decay {
    pub form: BoxForm,
    pub score: f32,
    pub post: f32,
    pub limit: i64,
    pub keep: i64,
    pub background: i64,
    pub sigma: f32,
}

/// Chosen boxes as Paddle has them.
pub(crate) struct Detections {
    /// `[R, 6]`: class, score and corners.
    pub rows: Value,
    /// `[R, 1]`, i32: the place of each among the boxes of all pictures.
    pub places: Value,
    /// `[N]`, i32: how many there are of each picture.
    pub counts: Value,
}

impl Graph {
    /// Rows `picture, class, place` of the boxes `[N, S, 4]` that overlap no better one, by scores `[N, C, S]`; i32, and how many
    /// there are. None if there is room for none.
    pub fn chosen_boxes(&mut self, boxes: &Value, scores: &Value, s: Suppression) -> Result<Option<Chosen>> {
        let attrs = attrs! {
            form: s.form.word(), iou: s.iou, score: s.score, limit: s.limit, each: s.each, keep: s.keep, background: s.background, eta: s.eta
        };
        let table = self.emit_f32(graph::Nms::DEF, &[Some(boxes), Some(scores)], attrs)?;
        let images = self.dims(boxes)[0];
        self.chosen(&table, images)
    }

    /// As Paddle gives the boxes that overlap no better one.
    pub fn detections(&mut self, boxes: &Value, scores: &Value, s: Suppression) -> Result<Detections> {
        let Some(Chosen { rows, counts }) = self.chosen_boxes(boxes, scores, s)? else {
            return Ok(self.no_detections(boxes));
        };
        let (dims, classes) = (self.dims(boxes), self.dims(scores)[1]);
        let [image, class, place] = [0, 1, 2].map(|column| self.narrow(&rows, 1, column, column + 1));
        let (image, class, place) = (image?, class?, place?);
        let row = self.at_row(&image, dims[1], &place)?;
        let of_class = self.at_row(&image, classes, &class)?;
        let of_score = self.at_row(&of_class, dims[1], &place)?;
        let flat = self.reshape(scores, &[dims[0] * classes * dims[1]])?;
        let score = self.gather(&flat, &of_score, 0)?;
        self.with_boxes(boxes, [class, score, row], counts)
    }

    /// As Paddle gives boxes whose scores decay.
    pub fn decayed_detections(&mut self, boxes: &Value, scores: &Value, d: Decay) -> Result<Detections> {
        let attrs = attrs! {
            form: d.form.word(), score: d.score, post: d.post, limit: d.limit, keep: d.keep, background: d.background, sigma: d.sigma
        };
        let table = self.emit_f32(graph::MatrixNms::DEF, &[Some(boxes), Some(scores)], attrs)?;
        let dims = self.dims(boxes);
        let Some(Chosen { rows, counts }) = self.chosen(&table, dims[0])? else {
            return Ok(self.no_detections(boxes));
        };
        let score = self.narrow(&rows, 1, 3, 4)?;
        let places = self.cast(&rows, Elem::I32)?;
        let [image, class, place] = [0, 1, 2].map(|column| self.narrow(&places, 1, column, column + 1));
        let row = self.at_row(&image?, dims[1], &place?)?;
        self.with_boxes(boxes, [class?, score, row], counts)
    }

    /// `outer * size + inner`, integers.
    fn at_row(&mut self, outer: &Value, size: usize, inner: &Value) -> Result<Value> {
        let size = self.integer(Elem::I32, size as i64)?;
        let first = self.integers(IntFunction::Mul, outer, &size)?;
        self.integers(IntFunction::Add, &first, inner)
    }

    /// Rows of class, score and the box at each place.
    fn with_boxes(&mut self, boxes: &Value, [class, score, place]: [Value; 3], counts: Value) -> Result<Detections> {
        let (dims, room) = (self.dims(boxes), self.dims(&place)[0]);
        let flat = self.reshape(boxes, &[dims[0] * dims[1], 4])?;
        let at = self.reshape(&place, &[room])?;
        let corners = self.gather(&flat, &at, 0)?;
        let class = self.cast(&class, Elem::F32)?;
        let rows = self.concat(&[class, score, corners], 1)?;
        Ok(Detections { rows, places: place, counts })
    }

    fn no_detections(&self, boxes: &Value) -> Detections {
        let images = self.dims(boxes)[0];
        let none = qc_ir::HostTensor::i32([images], vec![0; images]);
        Detections {
            rows: self.no_rows(Elem::F32, &[0, 6]),
            places: self.no_rows(Elem::I32, &[0, 1]),
            counts: none.into(),
        }
    }

    /// Places of the boxes `[S, 4]` that overlap no earlier one by more than `iou`; i64.
    pub fn chosen_in_order(&mut self, boxes: &Value, iou: f32) -> Result<Value> {
        let dims = self.dims(boxes);
        let [size, 4] = dims[..] else {
            return Err(Refusal::invalid(format!("boxes have the shape {dims:?}, not [N, 4]")));
        };
        let boxes = self.reshape(boxes, &[1, size, 4])?;
        let scores = self.expand(&scalar(0.0), &[1, 1, size])?;
        let all = Suppression {
            form: BoxForm::Any,
            iou,
            score: f32::NEG_INFINITY,
            limit: -1,
            each: -1,
            keep: -1,
            background: -1,
            eta: 1.0,
        };
        let Some(Chosen { rows, .. }) = self.chosen_boxes(&boxes, &scores, all)? else {
            return Ok(self.no_rows(Elem::I64, &[0]));
        };
        let place = self.narrow(&rows, 1, 2, 3)?;
        let place = self.reshape(&place, &[size])?;
        self.cast(&place, Elem::I64)
    }
}
