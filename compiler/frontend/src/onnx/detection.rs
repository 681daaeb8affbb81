//! ONNX operators on boxes.

use super::node::{Lowered, Node};
use crate::emit::{BoxForm, Graph, Regions, Suppression, samples_of_regions};
use crate::error::Refusal;
use qc_ir::Elem;

type Result<T> = std::result::Result<T, Refusal>;

/// Rows `picture, class, place` of boxes that overlap no better one.
pub(super) fn non_max_suppression(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (boxes, scores) = (n.input(0)?, n.input(1)?);
    let form = match n.int("center_point_box")?.unwrap_or(0) {
        0 => BoxForm::Any,
        1 => BoxForm::Centred,
        other => return Err(Refusal::invalid(format!("center_point_box is {other}"))),
    };
    let each = match n.optional(2) {
        Some(_) => n.known_ints(2, "max_output_boxes_per_class")?.and_then(|v| v.first().copied()).unwrap_or(0),
        None => 0,
    };
    let suppression = Suppression {
        form,
        iou: n.known_number(3, "iou_threshold")?.unwrap_or(0.0),
        score: n.known_number(4, "score_threshold")?.unwrap_or(f32::NEG_INFINITY),
        each: each.max(0),
        limit: -1,
        keep: -1,
        background: -1,
        eta: 1.0,
    };
    match g.chosen_boxes(boxes, scores, suppression)? {
        Some(chosen) => Ok(g.cast(&chosen.rows, Elem::I64)?.into()),
        None => Ok(g.no_rows(Elem::I64, &[0, 3]).into()),
    }
}

/// Regions of images, sampled to one size.
pub(super) fn roi_align(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let default = if n.opset >= 16 { "half_pixel" } else { "output_half_pixel" };
    let half_pixel = match n.text("coordinate_transformation_mode")?.unwrap_or(default) {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => return Err(Refusal::invalid(format!("coordinate_transformation_mode is `{other}`"))),
    };
    let max = match n.text("mode")?.unwrap_or("avg") {
        "avg" => false,
        "max" => true,
        other => return Err(Refusal::invalid(format!("mode is `{other}`"))),
    };
    let size = |name| Ok(usize::try_from(n.int(name)?.unwrap_or(1)).unwrap_or(0));
    let regions = Regions {
        out: [size("output_height")?, size("output_width")?],
        samples: samples_of_regions(n.int("sampling_ratio")?.unwrap_or(0))?,
        scale: n.float("spatial_scale")?.unwrap_or(1.0),
        half_pixel,
        max,
    };
    Ok(g.regions(n.input(0)?, n.input(1)?, n.input(2)?, regions)?.into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, floats, int, ints, longs};
    use crate::Options;
    use qc_ir::{Counted, HostTensor};

    /// Rows `r` of boxes that are chosen from `x`.
    fn chosen() -> Model {
        let scores = floats("s", &[1, 1, 3], &[0.5, 0.75, 0.25]);
        let model = Model::new(13, &[1, 3, 4]).constant(scores).constant(longs("n", &[10]));
        model.constant(floats("iou", &[], &[0.5])).node("NonMaxSuppression", "x s n iou > r", &[])
    }

    fn tail() -> Model {
        let model = chosen().constant(longs("third", &[2])).constant(longs("flat", &[-1]));
        let model = model.constant(longs("corners", &[3, 4]));
        let model =
            model.node("Gather", "r third > place", &[int("axis", 1)]).node("Reshape", "x corners > boxes", &[]);
        model.node("Reshape", "place flat > at", &[]).node("Gather", "boxes at > b", &[int("axis", 0)])
    }

    #[test]
    fn rows_are_counted_through_the_tail_of_a_detector() {
        let model = tail().node("Transpose", "b > y", &[ints("perm", &[1, 0])]);
        let imported = model.import(&Options::default()).unwrap();
        let names: Vec<&str> = imported.outputs.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["y", "y.rows"]);
        assert_eq!(imported.outputs[0].counted, Some(Counted { axis: 1, by: 1 }));
        let x = HostTensor::f32([1, 3, 4], vec![0., 0., 4., 4., 0., 0., 4., 3., 8., 8., 9., 9.]);
        let out = qc_dialects::interpret(&imported.module, &[x]).unwrap();
        assert_eq!((out[0].dims(), out[1].as_i32()), (&[4, 3][..], Some(&[2][..])));
        let rows: Vec<f32> = (0..4).flat_map(|c| [0, 1].map(|r| out[0].as_f32().unwrap()[3 * c + r])).collect();
        assert_eq!(rows, [0., 8., 0., 8., 4., 9., 3., 9.]);
    }

    #[test]
    fn what_joins_rows_or_needs_their_number_is_refused() {
        let refused = |model: Model, op: &str| {
            let reasons = model.reasons();
            assert!(reasons[0].contains(op) && reasons[0].contains("only a run tells"), "{reasons:?}");
        };
        refused(tail().node("ReduceMax", "b > y", &[ints("axes", &[0])]), "ReduceMax");
        refused(tail().node("Shape", "b > y", &[]), "Shape");
        refused(tail().node("Softmax", "b > y", &[int("axis", 0)]), "Softmax");
        refused(tail().node("Concat", "b b > y", &[int("axis", 0)]), "Concat");
        // Rows that are counted beside rows of the model's own.
        let own: Vec<f32> = (0..12).map(|i| i as f32).collect();
        refused(tail().constant(floats("c", &[3, 4], &own)).node("Add", "b c > y", &[]), "Add");
        let twice = tail().node("NonMaxSuppression", "x s n > q", &[]).node("Add", "r q > y", &[]);
        refused(twice, "Add");
        let spread = tail().node("Reshape", "b flat > y", &[]);
        assert!(spread.reasons()[0].contains("has several numbers for each row"), "{:?}", spread.reasons());
    }

    #[test]
    fn without_a_number_of_boxes_there_are_none() {
        let none = Model::new(13, &[1, 3, 4]).constant(floats("s", &[1, 1, 3], &[0.5; 3]));
        let none = none.node("NonMaxSuppression", "x s > r", &[]).node("Identity", "r > y", &[]);
        let imported = none.import(&Options::default()).unwrap();
        assert_eq!((&imported.outputs[0].dims[..], imported.outputs[0].counted), (&[0, 3][..], None));
    }
}
