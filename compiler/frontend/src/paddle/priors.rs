//! Paddle's boxes that follow from shapes: one set for every pixel of a feature map.

use super::op::{Lowered, Op};
use crate::elements::bounded;
use crate::emit::{Graph, Value};
use crate::error::Refusal;
use qc_ir::HostTensor;

type Result<T> = std::result::Result<T, Refusal>;

/// A box as `x1, y1, x2, y2`.
type Corners = [f32; 4];

/// A feature map, the picture that it is of, and the distance of its pixels there, along y and x.
struct Field {
    map: [usize; 2],
    image: [f32; 2],
    step: [f32; 2],
    offset: f32,
}

impl Field {
    fn of(g: &Graph, op: &Op<'_>) -> Result<Field> {
        let [_, _, h, w] = g.nchw(op.input("Input")?)?;
        let [_, _, ih, iw] = g.nchw(op.input("Image")?)?;
        let image = [ih as f32, iw as f32];
        let step = match [op.float("step_h")?.unwrap_or(0.0), op.float("step_w")?.unwrap_or(0.0)] {
            [y, x] if y != 0.0 && x != 0.0 => [y, x],
            _ => [image[0] / h as f32, image[1] / w as f32],
        };
        Ok(Field { map: [h, w], image, step, offset: op.float("offset")?.unwrap_or(0.5) })
    }

    /// A box around a centre, in parts of the picture.
    fn around(&self, [cy, cx]: [f32; 2], [half_w, half_h]: [f32; 2]) -> Corners {
        let [ih, iw] = self.image;
        [(cx - half_w) / iw, (cy - half_h) / ih, (cx + half_w) / iw, (cy + half_h) / ih]
    }
}

/// The boxes of all pixels, `boxes_at` those of one, and their variances: `[H, W, count, 4]`, or rows with `flat`.
fn everywhere(
    g: &mut Graph,
    op: &Op<'_>,
    [h, w]: [usize; 2],
    count: usize,
    flat: bool,
    boxes_at: impl Fn(usize, usize) -> Vec<Corners>,
) -> Result<[Value; 2]> {
    let variances = list(op, "variances")?;
    let variances = <Corners>::try_from(variances).map_err(|v| Refusal::invalid(format!("{} variances", v.len())))?;
    let large = || Refusal::unsupported(format!("{count} boxes at each of {h} x {w} places"));
    if count == 0 {
        return Err(Refusal::invalid("its attributes give no boxes"));
    }
    let len = bounded(&[h, w, count, 4]).ok_or_else(large)?;
    let dims = if flat { vec![len / 4, 4] } else { vec![h, w, count, 4] };
    let places = || (0..h).flat_map(|y| (0..w).map(move |x| (y, x)));
    let made = |data: Vec<f32>| Some(HostTensor::f32(dims.clone(), data));
    let boxes = g.folded(4 * len, || made(places().flat_map(|(y, x)| boxes_at(y, x)).flatten().collect()));
    let beside = g.folded(4 * len, || made(std::iter::repeat_n(variances, len / 4).flatten().collect()));
    Ok([boxes.ok_or_else(large)?, beside.ok_or_else(large)?])
}

fn list(op: &Op<'_>, name: &str) -> Result<Vec<f32>> {
    Ok(op.floats(name)?.unwrap_or_default())
}

fn clipped(mut boxes: Vec<Corners>) -> Vec<Corners> {
    boxes.iter_mut().flatten().for_each(|x| *x = x.clamp(0.0, 1.0));
    boxes
}

/// 1 and the given ratios, each once, with its inverse if `flip`.
fn ratios(given: &[f32], flip: bool) -> Vec<f32> {
    let mut all = vec![1.0f32];
    for &ratio in given {
        if all.iter().all(|r| (r - ratio).abs() >= 1e-6) {
            all.push(ratio);
            all.extend(flip.then_some(1.0 / ratio));
        }
    }
    all
}

/// Halves of widths and heights of `prior_box`.
fn prior_sizes(op: &Op<'_>) -> Result<Vec<[f32; 2]>> {
    let (least, most) = (list(op, "min_sizes")?, list(op, "max_sizes")?);
    if !most.is_empty() && most.len() != least.len() {
        return Err(Refusal::invalid(format!("{} min_sizes and {} max_sizes", least.len(), most.len())));
    }
    let ratios = ratios(&list(op, "aspect_ratios")?, op.flag("flip", false)?);
    let square_first = op.flag("min_max_aspect_ratios_order", false)?;
    let mut sizes = Vec::new();
    for (i, &size) in least.iter().enumerate() {
        let of_ratio = |r: f32| [size * r.sqrt() / 2.0, size / r.sqrt() / 2.0];
        let between = most.get(i).map(|most| [(size * most).sqrt() / 2.0; 2]);
        if square_first {
            sizes.push([size / 2.0; 2]);
            sizes.extend(between);
            sizes.extend(ratios.iter().filter(|r| (*r - 1.0).abs() >= 1e-6).map(|&r| of_ratio(r)));
        } else {
            sizes.extend(ratios.iter().map(|&r| of_ratio(r)));
            sizes.extend(between);
        }
    }
    Ok(sizes)
}

pub(super) fn prior_box(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (field, sizes, clip) = (Field::of(g, op)?, prior_sizes(op)?, op.flag("clip", false)?);
    let at = |y: usize, x: usize| {
        let centre = [(y as f32 + field.offset) * field.step[0], (x as f32 + field.offset) * field.step[1]];
        let boxes: Vec<Corners> = sizes.iter().map(|&half| field.around(centre, half)).collect();
        if clip { clipped(boxes) } else { boxes }
    };
    let [boxes, variances] = everywhere(g, op, field.map, sizes.len(), false, at)?;
    Ok(Lowered::beside(boxes, "Variances", variances))
}

/// Boxes of fixed sizes on a grid around every pixel.
pub(super) fn density_prior_box(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (field, ratios) = (Field::of(g, op)?, list(op, "fixed_ratios")?);
    let (sizes, densities) = (list(op, "fixed_sizes")?, op.ints("densities")?.unwrap_or_default());
    let densities: Option<Vec<usize>> = densities.iter().map(|&d| usize::try_from(d).ok()).collect();
    let densities = densities.filter(|d| d.len() == sizes.len() && d.iter().all(|d| (1..=1 << 10).contains(d)));
    let densities = densities.ok_or_else(|| Refusal::invalid("densities and fixed_sizes do not fit each other"))?;
    let step = ((field.step[0] + field.step[1]) * 0.5).trunc();
    let clip = op.flag("clip", false)?;
    let at = |y: usize, x: usize| {
        let centre = [(y as f32 + field.offset) * field.step[0], (x as f32 + field.offset) * field.step[1]];
        let mut boxes = Vec::new();
        for (&size, &density) in sizes.iter().zip(&densities) {
            let shift = (step / density as f32).trunc();
            let first = centre.map(|c| c - step / 2.0 + shift / 2.0);
            for &ratio in &ratios {
                let half = [size * ratio.sqrt() / 2.0, size / ratio.sqrt() / 2.0];
                let cells = (0..density * density).map(|i| [i / density, i % density]);
                boxes.extend(cells.map(|[row, column]| {
                    let [y, x] = [first[0] + row as f32 * shift, first[1] + column as f32 * shift];
                    field.around([y, x], half)
                }));
            }
        }
        // Whether `clip` is set or not, boxes end at the picture.
        for [x1, y1, x2, y2] in &mut boxes {
            (*x1, *y1, *x2, *y2) = (x1.max(0.0), y1.max(0.0), x2.min(1.0), y2.min(1.0));
        }
        if clip { clipped(boxes) } else { boxes }
    };
    let count = ratios.len() * densities.iter().map(|d| d * d).sum::<usize>();
    let [boxes, variances] = everywhere(g, op, field.map, count, op.flag("flatten_to_2d", false)?, at)?;
    Ok(Lowered::beside(boxes, "Variances", variances))
}

/// Boxes of all sizes and ratios around every pixel, in pixels of the picture.
pub(super) fn anchor_generator(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let [_, _, h, w] = g.nchw(op.input("Input")?)?;
    let (sizes, ratios) = (list(op, "anchor_sizes")?, list(op, "aspect_ratios")?);
    let stride = list(op, "stride")?;
    let stride = <[f32; 2]>::try_from(stride).map_err(|s| Refusal::invalid(format!("{} strides", s.len())))?;
    let offset = op.float("offset")?.unwrap_or(0.5);
    let at = |y: usize, x: usize| {
        let [cx, cy] = [(x, stride[0]), (y, stride[1])].map(|(at, s)| at as f32 * s + offset * (s - 1.0));
        let one = |ratio: f32, size: f32| {
            let base = (stride[0] * stride[1] / ratio).sqrt().round();
            let wide = 0.5 * (size / stride[0] * base - 1.0);
            let high = 0.5 * (size / stride[1] * (base * ratio).round() - 1.0);
            [cx - wide, cy - high, cx + wide, cy + high]
        };
        ratios.iter().flat_map(|&ratio| sizes.iter().map(move |&size| one(ratio, size))).collect()
    };
    let [anchors, variances] = everywhere(g, op, [h, w], sizes.len() * ratios.len(), false, at)?;
    Ok(Lowered::beside(anchors, "Variances", variances))
}
