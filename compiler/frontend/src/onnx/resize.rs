//! `Resize` and `Upsample`: where their results lie between the elements of their operand.

use super::node::{Lowered, Node};
use crate::elements::bounded;
use crate::emit::{Graph, Padding, Sums, Value};
use crate::error::Refusal;
use crate::shape;
use qc_ir::{Elem, HostTensor};
use std::ops::Range;

type Result<T> = std::result::Result<T, Refusal>;

/// One axis that is resized.
#[derive(Clone, Copy, Debug)]
struct Axis {
    axis: usize,
    from: usize,
    to: usize,
    /// Results per element, as the model states it or as the sizes give it.
    scale: f32,
    /// Start and end of the part that is resized, in parts of the axis.
    roi: [f32; 2],
}

/// What the attributes say.
struct Manner<'a> {
    mode: &'a str,
    coordinates: &'a str,
    nearest: &'a str,
    cubic_a: f32,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f32,
}

impl<'a> Manner<'a> {
    fn of(n: &Node<'a>) -> Result<Manner<'a>> {
        let mode = n.text("mode")?.unwrap_or("nearest");
        let simple = n.opset < 11;
        let manner = Manner {
            mode: if mode == "bilinear" { "linear" } else { mode },
            coordinates: if simple {
                "asymmetric"
            } else {
                n.text("coordinate_transformation_mode")?.unwrap_or("half_pixel")
            },
            nearest: if simple { "simple" } else { n.text("nearest_mode")?.unwrap_or("round_prefer_floor") },
            cubic_a: n.float("cubic_coeff_a")?.unwrap_or(-0.75),
            exclude_outside: n.flag("exclude_outside", false)?,
            antialias: n.flag("antialias", false)?,
            extrapolation: n.float("extrapolation_value")?.unwrap_or(0.0),
        };
        let modes = ["nearest", "linear", "cubic"];
        let nearest = ["simple", "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];
        let coordinates = [
            "half_pixel",
            "half_pixel_symmetric",
            "pytorch_half_pixel",
            "asymmetric",
            "align_corners",
            "tf_half_pixel_for_nn",
            "tf_crop_and_resize",
        ];
        let words = [
            ("mode", manner.mode, &modes[..]),
            ("nearest_mode", manner.nearest, &nearest[..]),
            ("coordinate_transformation_mode", manner.coordinates, &coordinates[..]),
        ];
        match words.iter().find(|(_, word, known)| !known.contains(word)) {
            Some((name, word, _)) => Err(Refusal::invalid(format!("{name} is `{word}`"))),
            None => Ok(manner),
        }
    }

    fn crops(&self) -> bool {
        self.coordinates == "tf_crop_and_resize"
    }

    /// Where result `o` lies, in elements of the operand. In f32, whose rounding decides between neighbours.
    fn coordinate(&self, a: &Axis, o: usize) -> f32 {
        let (x, s, from, to) = (o as f32, a.scale, a.from as f32, a.to as f32);
        match self.coordinates {
            "half_pixel_symmetric" => {
                let offset = from / 2.0 * (1.0 - to / (s * from));
                offset + (x + 0.5) / s - 0.5
            }
            "pytorch_half_pixel" if a.to == 1 => 0.0,
            "asymmetric" => x / s,
            "align_corners" if a.to == 1 => 0.0,
            "align_corners" => x * (from - 1.0) / (to - 1.0),
            "tf_half_pixel_for_nn" => (x + 0.5) / s,
            "tf_crop_and_resize" if a.to == 1 => 0.5 * (a.roi[0] + a.roi[1]) * (from - 1.0),
            "tf_crop_and_resize" => a.roi[0] * (from - 1.0) + x * (a.roi[1] - a.roi[0]) * (from - 1.0) / (to - 1.0),
            _ => (x + 0.5) / s - 0.5,
        }
    }

    /// The element that is nearest to a coordinate.
    fn nearest(&self, c: f32, a: &Axis) -> usize {
        let place = match self.nearest {
            "simple" if a.scale < 1.0 => c.ceil(),
            "simple" => c.trunc(),
            "round_prefer_floor" if c == c.floor() + 0.5 => c.floor(),
            "floor" => c.floor(),
            "ceil" => c.ceil(),
            _ => c.round(),
        };
        (place.max(0.0) as usize).min(a.from - 1)
    }

    /// Sums for results at these coordinates.
    fn sums(&self, a: &Axis, coordinates: &[f32]) -> Result<Sums> {
        let cubic = (self.mode == "cubic").then_some(self.cubic_a);
        if self.antialias && a.scale < 1.0 {
            return Sums::antialiased(a.axis, a.from, coordinates, cubic, a.scale, self.exclude_outside);
        }
        match cubic {
            Some(cubic) => Sums::cubic(a.axis, a.from, coordinates, cubic, self.exclude_outside),
            None => Sums::linear(a.axis, a.from, coordinates),
        }
    }
}

pub(super) fn resize(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let manner = Manner::of(n)?;
    let x = n.input(0)?.clone();
    let axes = axes(n, &g.dims(&x))?;
    resized(g, &x, &manner, &axes)
}

/// What `Resize` was before operator set 10.
pub(super) fn upsample(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let manner = Manner { coordinates: "asymmetric", nearest: "floor", ..Manner::of(n)? };
    let x = n.input(0)?.clone();
    let dims = g.dims(&x);
    let scales = match n.floats("scales")? {
        Some(scales) => scales.to_vec(),
        None => numbers(n, 1, "scales")?.unwrap_or_default(),
    };
    let all: Vec<usize> = (0..dims.len()).collect();
    let axes = by_scales(&dims, &all, &scales)?;
    resized(g, &x, &manner, &axes)
}

/// A list of known floats; `None` if it is left out or empty.
fn numbers(n: &Node<'_>, input: usize, what: &str) -> Result<Option<Vec<f32>>> {
    let Some(t) = n.known(input, what)?.filter(|t| !t.is_empty()) else { return Ok(None) };
    let values = t.as_f32().ok_or_else(|| Refusal::invalid(format!("{what} are no floats")))?;
    Ok(Some(values.to_vec()))
}

/// The axes with their sizes, from scales or sizes.
fn axes(n: &Node<'_>, dims: &[usize]) -> Result<Vec<Axis>> {
    let list = match n.ints("axes")? {
        Some(list) => list.iter().map(|&a| shape::axis(a, dims.len())).collect::<Result<Vec<_>>>()?,
        None => (0..dims.len()).collect(),
    };
    let [roi, scales, sizes] = if n.opset < 11 { [usize::MAX, 1, usize::MAX] } else { [1, 2, 3] };
    let sizes = n.known_ints(sizes, "the sizes")?.filter(|s| !s.is_empty());
    let mut axes = match (sizes, numbers(n, scales, "the scales")?) {
        (Some(sizes), _) => by_sizes(dims, &list, &sizes, n.text("keep_aspect_ratio_policy")?.unwrap_or("stretch"))?,
        (None, Some(scales)) => by_scales(dims, &list, &scales)?,
        (None, None) => return Err(Refusal::invalid("it has neither scales nor sizes")),
    };
    if let Some(roi) = numbers(n, roi, "the region")? {
        if roi.len() != 2 * axes.len() {
            return Err(Refusal::invalid(format!("a region of {} numbers for {} axes", roi.len(), axes.len())));
        }
        let count = axes.len();
        axes.iter_mut().enumerate().for_each(|(i, a)| a.roi = [roi[i], roi[count + i]]);
    }
    Ok(axes)
}

fn by_scales(dims: &[usize], axes: &[usize], scales: &[f32]) -> Result<Vec<Axis>> {
    if scales.len() != axes.len() {
        return Err(Refusal::invalid(format!("{} scales for {} axes", scales.len(), axes.len())));
    }
    let one = |(&axis, &scale): (&usize, &f32)| {
        let to = scale * dims[axis] as f32;
        match scale > 0.0 && to >= 1.0 && to < (1u32 << 31) as f32 {
            true => Ok(Axis { axis, from: dims[axis], to: to as usize, scale, roi: [0.0, 1.0] }),
            false => Err(Refusal::invalid(format!("axis {axis} of {dims:?} is scaled by {scale}"))),
        }
    };
    axes.iter().zip(scales).map(one).collect()
}

fn by_sizes(dims: &[usize], axes: &[usize], sizes: &[i64], policy: &str) -> Result<Vec<Axis>> {
    let wrong = || Refusal::invalid(format!("sizes {sizes:?} for the axes {axes:?} of {dims:?}"));
    let sizes: Option<Vec<usize>> = sizes.iter().map(|&s| usize::try_from(s).ok().filter(|&s| s > 0)).collect();
    let sizes = sizes.filter(|s| s.len() == axes.len()).ok_or_else(wrong)?;
    let scale = |(&axis, &size): (&usize, &usize)| size as f32 / dims[axis] as f32;
    let scales = axes.iter().zip(&sizes).map(scale);
    let common = match policy {
        "stretch" => None,
        "not_larger" => scales.reduce(f32::min),
        "not_smaller" => scales.reduce(f32::max),
        other => return Err(Refusal::invalid(format!("keep_aspect_ratio_policy is `{other}`"))),
    };
    let one = |(&axis, &to): (&usize, &usize)| {
        let from = dims[axis];
        let (to, scale) = match common {
            Some(k) => (((k * from as f32 + 0.5).floor() as usize).max(1), k),
            None => (to, to as f32 / from as f32),
        };
        Axis { axis, from, to, scale, roi: [0.0, 1.0] }
    };
    Ok(axes.iter().zip(&sizes).map(one).collect())
}

fn resized(g: &mut Graph, x: &Value, manner: &Manner<'_>, axes: &[Axis]) -> Result<Lowered> {
    let mut dims = g.dims(x);
    axes.iter().for_each(|a| dims[a.axis] = a.to);
    bounded(&dims)
        .filter(|&n| n > 0)
        .ok_or_else(|| Refusal::unsupported(format!("the result has the shape {dims:?}")))?;
    let elem = g.elem(x);
    let mut y = match manner.mode == "nearest" || matches!(elem, Elem::F32 | Elem::Quant(_)) {
        true => x.clone(),
        false => g.cast(x, Elem::F32)?,
    };
    let (mut sums, mut pads) = (Vec::new(), vec![0i64; 2 * dims.len()]);
    for a in axes.iter().filter(|a| a.to != a.from || a.scale != 1.0 || manner.crops()) {
        g.charge(8 * a.to)?;
        let coordinates: Vec<f32> = (0..a.to).map(|o| manner.coordinate(a, o)).collect();
        let inside = if manner.crops() { inside(&coordinates, a.from) } else { 0..a.to };
        if inside.is_empty() {
            let count: usize = dims.iter().product();
            let all = g.folded(4 * count, || Some(HostTensor::f32(dims.clone(), vec![manner.extrapolation; count])));
            return Ok(all.ok_or_else(|| Refusal::unsupported("its region lies outside the input"))?.into());
        }
        (pads[a.axis], pads[dims.len() + a.axis]) = (inside.start as i64, (a.to - inside.end) as i64);
        let coordinates = &coordinates[inside];
        if manner.mode == "nearest" {
            let places: Vec<usize> = coordinates.iter().map(|&c| manner.nearest(c, a)).collect();
            y = g.take(&y, a.axis, &places)?;
        } else {
            sums.push(manner.sums(a, coordinates)?);
        }
    }
    y = g.resample(&y, sums)?;
    if pads.iter().any(|&p| p != 0) {
        y = g.pad(&y, &pads, Padding::Constant(manner.extrapolation))?;
    }
    let y = if matches!(elem, Elem::Quant(_)) { y } else { g.cast(&y, elem)? };
    Ok(Lowered::identity(y, "the size stays the same"))
}

/// The results whose coordinates lie within an axis; they follow one another.
fn inside(coordinates: &[f32], from: usize) -> Range<usize> {
    let lies = |c: &f32| *c >= 0.0 && *c <= (from - 1) as f32;
    let first = coordinates.iter().position(lies).unwrap_or(0);
    first..coordinates.iter().rposition(lies).map_or(first, |last| last + 1)
}
