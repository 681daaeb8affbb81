//! Paddle's arithmetic of boxes.

use super::op::{Lowered, Op, Tensor};
use crate::emit::{
    Arith, BoxForm, Decay, Detections, Graph, Regions, Relation, Suppression, Value, samples_of_regions, scalar,
};
use crate::error::Refusal;
use qc_dialects::graph::Function;
use qc_ir::{Elem, HostTensor};

type Result<T> = std::result::Result<T, Refusal>;

/// How much wider a box is than the difference of its corners.
fn more(op: &Op<'_>, normalized: &str) -> Result<f32> {
    Ok(if op.flag(normalized, true)? { 0.0 } else { 1.0 })
}

/// Boxes from distances to prior boxes, or distances from boxes.
pub(super) fn box_coder(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (priors, target, more) = (op.input("PriorBox")?, op.input("TargetBox")?, more(op, "box_normalized")?);
    let encode = match op.text("code_type")? {
        "" | "encode_center_size" => true,
        "decode_center_size" => false,
        other => return Err(Refusal::invalid(format!("code_type is `{other}`"))),
    };
    // The dim of the target along which the priors lie.
    let axis = if encode || op.int("axis")?.unwrap_or(0) == 0 { 1 } else { 0 };
    let count = match g.dims(priors)[..] {
        [count, 4] => count,
        ref dims => return Err(Refusal::invalid(format!("prior boxes have the shape {dims:?}, not [N, 4]"))),
    };
    let mut along = [1, 1, 4];
    along[axis] = count;
    let priors = g.reshape(priors, &along)?;
    let variances = match (op.optional("PriorBoxVar"), op.floats("variance")?) {
        (Some(v), _) if g.dims(v) == [count, 4] => Some(g.reshape(v, &along)?),
        (Some(v), _) => return Err(Refusal::invalid(format!("{count} priors have variances of {:?}", g.dims(v)))),
        (None, Some(list)) if list.len() == 4 => Some(HostTensor::f32(vec![4], list).into()),
        (None, Some(list)) if !list.is_empty() => {
            return Err(Refusal::invalid(format!("`variance` has {} numbers, not 4", list.len())));
        }
        (None, _) => None,
    };
    let dims = g.dims(target);
    if encode {
        let [rows, 4] = dims[..] else { return Err(Refusal::invalid(format!("boxes have the shape {dims:?}"))) };
        let target = g.reshape(target, &[rows, 1, 4])?;
        return Ok(g.encoded_boxes(&target, &priors, variances.as_ref(), more)?.into());
    }
    if dims.len() != 3 || dims[axis] != count || dims[2] != 4 {
        return Err(Refusal::invalid(format!(
            "distances of shape {dims:?} do not fit {count} priors along axis {axis}"
        )));
    }
    Ok(g.decoded_boxes(target, &priors, variances.as_ref(), more)?.into())
}

/// Areas of intersections by areas of unions, of all pairs.
pub(super) fn iou_similarity(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let more = more(op, "box_normalized")?;
    Ok(g.overlaps(op.input("X")?, op.input("Y")?, more)?.into())
}

/// Boxes cut at the edges of the picture, whose height, width and scale `ImInfo` gives.
pub(super) fn box_clip(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (boxes, info) = (op.input("Input")?, op.input("ImInfo")?);
    let (dims, image) = (g.dims(boxes), g.dims(info));
    if image != [1, 3] {
        return Err(Refusal::unsupported(format!(
            "boxes of several pictures in one tensor, ImInfo has the shape {image:?}"
        ))
        .remedy("compile it for pictures one by one, with a first dim of 1 for ImInfo"));
    }
    if dims.len() < 2 || dims.last() != Some(&4) {
        return Err(Refusal::invalid(format!("boxes of shape {dims:?} have no four coordinates")));
    }
    let size = |g: &mut Graph, at: usize| {
        let (size, scale) = (g.narrow(info, 1, at, at + 1)?, g.narrow(info, 1, 2, 3)?);
        let size = g.arith(Arith::Div, &size, &scale)?;
        let size = g.function(Function::Round { away: true }, &size)?;
        g.plus(&size, -1.0)
    };
    let (h, w) = (size(g, 0)?, size(g, 1)?);
    let limits = g.concat(&[w.clone(), h.clone(), w, h], 1)?;
    let limits = g.reshape(&limits, &[4])?;
    let inside = g.clip(boxes, 0.0, f32::INFINITY)?;
    Ok(g.arith(Arith::Min, &inside, &limits)?.into())
}

/// Attributes of `yolo_box`, and the sizes `[N, anchors, 5 + classes, H * W]` of its input.
struct Yolo {
    items: usize,
    anchors: Vec<f32>,
    classes: usize,
    map: [usize; 2],
}

impl Yolo {
    fn of(g: &Graph, op: &Op<'_>, aware: bool) -> Result<Yolo> {
        let anchors = op.ints("anchors")?.unwrap_or_default();
        let classes = usize::try_from(op.int("class_num")?.unwrap_or(0)).unwrap_or(0);
        let [n, c, h, w] = g.nchw(op.input("X")?)?;
        let channels = classes.checked_add(5 + usize::from(aware)).and_then(|each| each.checked_mul(anchors.len() / 2));
        if anchors.is_empty() || !anchors.len().is_multiple_of(2) || channels != Some(c) {
            return Err(Refusal::invalid(format!("{c} channels are not those of {anchors:?} and {classes} classes")));
        }
        Ok(Yolo { items: n, anchors: anchors.iter().map(|&a| a as f32).collect(), classes, map: [h, w] })
    }

    fn count(&self) -> usize {
        self.anchors.len() / 2
    }

    fn places(&self) -> usize {
        self.map[0] * self.map[1]
    }

    /// Two numbers, one for x and one for y, beside data `[N, anchors, 2, H * W]`.
    fn pair(x: f32, y: f32) -> Value {
        HostTensor::f32(vec![1, 1, 2, 1], vec![x, y]).into()
    }

    /// The column and the row of every place.
    fn grid(&self, g: &mut Graph) -> Result<Value> {
        let [h, w] = self.map;
        let places = || (0..h).flat_map(|y| (0..w).map(move |x| (y, x)));
        let make = || {
            let at = places().map(|(_, x)| x as f32).chain(places().map(|(y, _)| y as f32));
            Some(HostTensor::f32(vec![1, 1, 2, h * w], at.collect()))
        };
        g.folded(8 * h * w, make).ok_or_else(|| Refusal::unsupported(format!("a map of {h} x {w} places")))
    }

    /// Rows of the boxes of all anchors and places, from `[N, anchors, n, H * W]`.
    fn rows(&self, g: &mut Graph, x: &Value, n: usize) -> Result<Value> {
        let x = g.transpose(x, &[0, 1, 3, 2])?;
        g.reshape(&x, &[self.items, self.count() * self.places(), n])
    }

    /// Centres and sizes in pixels; `t` has what is predicted of them, `image` the sizes of the pictures.
    fn boxes(&self, g: &mut Graph, op: &Op<'_>, t: &Value, image: &Value) -> Result<[Value; 2]> {
        let ([h, w], scale) = (self.map.map(|d| d as f32), op.float("scale_x_y")?.unwrap_or(1.0));
        let ratio = op.int("downsample_ratio")?.unwrap_or(32) as f32;
        let at = g.narrow(t, 2, 0, 2)?;
        let at = g.function(Function::Sigmoid, &at)?;
        let at = g.times(&at, scale)?;
        let at = g.plus(&at, -0.5 * (scale - 1.0))?;
        let grid = self.grid(g)?;
        let at = g.arith(Arith::Add, &at, &grid)?;
        let at = g.arith(Arith::Mul, &at, image)?;
        let centre = g.arith(Arith::Div, &at, &Yolo::pair(w, h))?;
        let size = g.narrow(t, 2, 2, 4)?;
        let size = g.function(Function::Exp, &size)?;
        let anchors = HostTensor::f32(vec![1, self.count(), 2, 1], self.anchors.clone());
        let size = g.arith(Arith::Mul, &size, &anchors.into())?;
        let size = g.arith(Arith::Mul, &size, image)?;
        let size = g.arith(Arith::Div, &size, &Yolo::pair(ratio * w, ratio * h))?;
        Ok([centre, size])
    }

    /// How sure the model is of a box: the sigmoid of what is predicted, or of that and of `overlap`.
    fn confidence(g: &mut Graph, op: &Op<'_>, t: &Value, overlap: Option<Value>) -> Result<Value> {
        let own = g.narrow(t, 2, 4, 5)?;
        let own = g.function(Function::Sigmoid, &own)?;
        let Some(overlap) = overlap else { return Ok(own) };
        let factor = op.float("iou_aware_factor")?.unwrap_or(0.5);
        let overlap = g.function(Function::Sigmoid, &overlap)?;
        let (own, overlap) = (g.power(&own, 1.0 - factor)?, g.power(&overlap, factor)?);
        g.arith(Arith::Mul, &own, &overlap)
    }
}

/// Boxes and scores of classes from what a YOLO head predicts.
pub(super) fn yolo_box(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let aware = op.flag("iou_aware", false)?;
    let y = Yolo::of(g, op, aware)?;
    let (x, count) = (op.input("X")?, y.count());
    let (overlap, predicted) = match aware {
        false => (None, x.clone()),
        true => {
            let overlap = g.narrow(x, 1, 0, count)?;
            let overlap = g.reshape(&overlap, &[y.items, count, 1, y.places()])?;
            let channels = g.dims(x)[1];
            (Some(overlap), g.narrow(x, 1, count, channels)?)
        }
    };
    let t = g.reshape(&predicted, &[y.items, count, 5 + y.classes, y.places()])?;
    let image = image_sizes(g, op, y.items)?;
    let [centre, size] = y.boxes(g, op, &t, &image)?;
    let half = g.times(&size, 0.5)?;
    let (mut low, mut high) = (g.arith(Arith::Sub, &centre, &half)?, g.arith(Arith::Add, &centre, &half)?);
    if op.flag("clip_bbox", true)? {
        let last = g.plus(&image, -1.0)?;
        low = g.clip(&low, 0.0, f32::INFINITY)?;
        high = g.arith(Arith::Min, &high, &last)?;
    }
    let boxes = g.concat(&[low, high], 2)?;
    let confidence = Yolo::confidence(g, op, &t, overlap)?;
    let least = scalar(op.float("conf_thresh")?.unwrap_or(0.0));
    let unsure = g.compare(Relation::Less, &confidence, &least)?;
    let classes = g.narrow(&t, 2, 5, 5 + y.classes)?;
    let classes = g.function(Function::Sigmoid, &classes)?;
    let scores = g.arith(Arith::Mul, &classes, &confidence)?;
    let (boxes, scores) = (g.select(&unsure, &scalar(0.0), &boxes)?, g.select(&unsure, &scalar(0.0), &scores)?);
    Ok(Lowered::beside(y.rows(g, &boxes, 4)?, "Scores", y.rows(g, &scores, y.classes)?))
}

/// Widths and heights of the pictures, beside data `[N, anchors, 2, H * W]`.
fn image_sizes(g: &mut Graph, op: &Op<'_>, items: usize) -> Result<Value> {
    let sizes = op.input("ImgSize")?;
    if g.dims(sizes) != [items, 2] {
        return Err(Refusal::invalid(format!("{items} pictures have sizes of shape {:?}", g.dims(sizes))));
    }
    let sizes = g.cast(sizes, Elem::F32)?;
    let (h, w) = (g.narrow(&sizes, 1, 0, 1)?, g.narrow(&sizes, 1, 1, 2)?);
    let pairs = g.concat(&[w, h], 1)?;
    g.reshape(&pairs, &[items, 1, 2, 1])
}

/// The boxes `[N, S, 4]` and the scores `[N, C, S]` among which is chosen.
fn boxes_and_scores<'o>(g: &Graph, op: &'o Op<'_>) -> Result<(&'o Value, &'o Value)> {
    let (boxes, scores) = (op.input("BBoxes")?, op.input("Scores")?);
    match (g.dims(boxes).len(), g.dims(scores).len()) {
        (3, 3) => Ok((boxes, scores)),
        _ => Err(Refusal::unsupported("boxes of their own for each class, in one list for all pictures")
            .remedy("export the model with boxes of shape [N, M, 4] and scores of [N, C, M]")),
    }
}

fn form(op: &Op<'_>) -> Result<BoxForm> {
    Ok(if op.flag("normalized", true)? { BoxForm::Ordered } else { BoxForm::Pixels })
}

fn detected(found: Detections, counts: &'static str) -> Lowered {
    let slots = [("Index", found.places), (counts, found.counts)];
    Lowered {
        extra: slots.map(|(slot, v)| (slot, Tensor::Plain(v))).into(),
        ..Lowered::identity(found.rows, "it chooses no boxes")
    }
}

/// Boxes that overlap no better one of their class.
pub(super) fn multiclass_nms(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (boxes, scores) = boxes_and_scores(g, op)?;
    let suppression = Suppression {
        form: form(op)?,
        iou: op.float("nms_threshold")?.unwrap_or(0.3),
        score: op.float("score_threshold")?.unwrap_or(0.0),
        limit: op.int("nms_top_k")?.unwrap_or(-1),
        each: -1,
        keep: op.int("keep_top_k")?.unwrap_or(-1),
        background: op.int("background_label")?.unwrap_or(0),
        eta: op.float("nms_eta")?.unwrap_or(1.0),
    };
    Ok(detected(g.detections(boxes, scores, suppression)?, "NmsRoisNum"))
}

/// Boxes whose scores are still large when better ones that they overlap have made them less.
pub(super) fn matrix_nms(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (boxes, scores) = boxes_and_scores(g, op)?;
    let sigma = op.float("gaussian_sigma")?.unwrap_or(2.0);
    let gaussian = op.flag("use_gaussian", false)?;
    if gaussian && (sigma.is_nan() || sigma <= 0.0) {
        return Err(Refusal::unsupported(format!("gaussian_sigma is {sigma}")));
    }
    let decay = Decay {
        form: form(op)?,
        score: op.float("score_threshold")?.unwrap_or(0.0),
        post: op.float("post_threshold")?.unwrap_or(0.0),
        limit: op.int("nms_top_k")?.unwrap_or(-1),
        keep: op.int("keep_top_k")?.unwrap_or(-1),
        background: op.int("background_label")?.unwrap_or(0),
        sigma: if gaussian { sigma } else { 0.0 },
    };
    Ok(detected(g.decayed_detections(boxes, scores, decay)?, "RoisNum"))
}

/// Places of the boxes that overlap no earlier one.
pub(super) fn nms(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(g.chosen_in_order(op.input("Boxes")?, op.float("iou_threshold")?.unwrap_or(1.0))?.into())
}

/// Regions of images, sampled to one size.
pub(super) fn roi_align(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, rois) = (op.input("X")?, op.input("ROIs")?);
    let ([images, ..], rows) = (g.nchw(x)?, g.dims(rois).first().copied().unwrap_or(0));
    let of = match op.optional("RoisNum") {
        _ if images == 1 => HostTensor::i32(vec![rows], vec![0; rows]).into(),
        Some(counts) => g.image_of_rows(counts, rows)?,
        None => {
            return Err(Refusal::unsupported("nothing says of which image each region is")
                .remedy("export the model with boxes_num, or compile it for a batch of 1"));
        }
    };
    let size = |name| Ok(usize::try_from(op.int(name)?.unwrap_or(1)).unwrap_or(0));
    let regions = Regions {
        out: [size("pooled_height")?, size("pooled_width")?],
        samples: samples_of_regions(op.int("sampling_ratio")?.unwrap_or(-1))?,
        scale: op.float("spatial_scale")?.unwrap_or(1.0),
        half_pixel: op.flag("aligned", false)?,
        max: false,
    };
    Ok(g.regions(x, rois, &of, regions)?.into())
}
