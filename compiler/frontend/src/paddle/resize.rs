//! The interpolations of all generations: `nearest_interp`, `bilinear_interp_v2` and their kin.

use super::op::{Lowered, Op};
use crate::elements::bounded;
use crate::emit::{Graph, Sums};
use crate::error::Refusal;

type Result<T> = std::result::Result<T, Refusal>;

/// How a family interpolates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nearest,
    Linear,
    Cubic,
}

/// One axis: sizes, and elements of the operand per result.
struct Axis {
    axis: usize,
    from: usize,
    to: usize,
    ratio: f32,
}

pub(super) fn nearest(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    interpolated(g, op, Kind::Nearest)
}

pub(super) fn linear(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    interpolated(g, op, Kind::Linear)
}

pub(super) fn cubic(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    interpolated(g, op, Kind::Cubic)
}

fn interpolated(g: &mut Graph, op: &Op<'_>, kind: Kind) -> Result<Lowered> {
    let x = op.input("X")?.clone();
    let dims = g.dims(&x);
    if !(3..=5).contains(&dims.len()) {
        return Err(Refusal::invalid(format!("it interpolates a tensor of shape {dims:?}")));
    }
    let channels_first = matches!(op.text("data_layout")?, "" | "NCHW");
    let spatial: Vec<usize> = if channels_first { (2..dims.len()).collect() } else { (1..dims.len() - 1).collect() };
    let corners = op.flag("align_corners", true)?;
    let axes = axes(op, &dims, &spatial, corners)?;
    let mut out = dims.clone();
    axes.iter().for_each(|a| out[a.axis] = a.to);
    bounded(&out).ok_or_else(|| Refusal::unsupported(format!("the result has the shape {out:?}")))?;
    if out == dims {
        return Ok(Lowered::identity(x, "the size stays the same"));
    }
    // What oneDNN computes has half pixels whatever the attributes say.
    let converted = op.flag("use_mkldnn", false)? && kind != Kind::Cubic;
    let half = converted || (!corners && (kind == Kind::Cubic || op.int("align_mode")?.unwrap_or(1) == 0));
    let (mut y, mut sums) = (x, Vec::new());
    for a in axes {
        g.charge(8 * a.to)?;
        let ratio = if converted { a.from as f32 / a.to as f32 } else { a.ratio };
        let coordinate = |o: usize| if half { ratio * (o as f32 + 0.5) - 0.5 } else { ratio * o as f32 };
        match kind {
            Kind::Nearest => {
                let place = |o: usize| match (converted, corners) {
                    (true, _) => coordinate(o).round_ties_even(),
                    (false, true) => (a.ratio * o as f32 + 0.5).floor(),
                    (false, false) => (a.ratio * o as f32).floor(),
                };
                let places: Vec<usize> = (0..a.to).map(|o| (place(o).max(0.0) as usize).min(a.from - 1)).collect();
                y = g.take(&y, a.axis, &places)?;
            }
            Kind::Linear => sums.push(Sums::linear(a.axis, a.from, &(0..a.to).map(coordinate).collect::<Vec<_>>())?),
            Kind::Cubic => {
                let coordinates: Vec<f32> = (0..a.to).map(coordinate).collect();
                sums.push(Sums::cubic(a.axis, a.from, &coordinates, -0.75, false)?);
            }
        }
    }
    Ok(g.resample(&y, sums)?.into())
}

/// Sizes and ratios. A list of sizes as tensors goes before scales; one tensor of sizes changes the size alone in the second
/// version, and the size and the ratio in the first.
fn axes(op: &Op<'_>, dims: &[usize], spatial: &[usize], corners: bool) -> Result<Vec<Axis>> {
    let second = op.desc.r#type.ends_with("_v2");
    let listed = op.ints_from("", "SizeTensor", "")?.filter(|_| !op.all("SizeTensor").is_empty());
    let scales = if listed.is_some() { None } else { scales(op, spatial.len(), second)? };
    let stated = match listed {
        Some(sizes) => Some(sizes),
        None => match op.optional("OutSize") {
            Some(_) => op.ints_from("OutSize", "", "")?,
            None if scales.is_some() => None,
            None => Some(attribute_sizes(op, spatial.len())?),
        },
    };
    let mut axes = Vec::new();
    for (i, &axis) in spatial.iter().enumerate() {
        let from = dims[axis];
        let scale = scales.as_ref().map(|s| s[i]);
        let to = match (&stated, scale) {
            (Some(sizes), _) => sizes.get(i).copied().filter(|_| sizes.len() == spatial.len()).unwrap_or(0),
            (None, Some(scale)) => (from as f32 * scale) as i64,
            (None, None) => 0,
        };
        let to = usize::try_from(to).ok().filter(|&to| to > 0);
        let to = to.ok_or_else(|| Refusal::invalid(format!("it gives axis {axis} of {dims:?} no size")))?;
        let ratio = match (corners, scale.filter(|_| second)) {
            (true, _) if to == 1 => 0.0,
            (true, _) => (from as f32 - 1.0) / (to as f32 - 1.0),
            (false, Some(scale)) => 1.0 / scale,
            (false, None) => from as f32 / to as f32,
        };
        axes.push(Axis { axis, from, to, ratio });
    }
    Ok(axes)
}

/// A positive scale per axis, from a tensor or an attribute; one of a tensor is that of all axes.
fn scales(op: &Op<'_>, count: usize, second: bool) -> Result<Option<Vec<f32>>> {
    let given = match op.known("Scale")? {
        Some(t) => t.as_f32().map(<[f32]>::to_vec).ok_or_else(|| Refusal::invalid("its scales are no floats"))?,
        None if second => op.floats("scale")?.unwrap_or_default(),
        None => vec![op.float("scale")?.unwrap_or(0.0)],
    };
    let all = match given[..] {
        [one] if !second || op.optional("Scale").is_some() => vec![one; count],
        _ if given.len() == count => given,
        _ => return Ok(None),
    };
    Ok(all.iter().all(|s| *s > 0.0 && s.is_finite()).then_some(all))
}

/// The last `count` of depth, height and width.
fn attribute_sizes(op: &Op<'_>, count: usize) -> Result<Vec<i64>> {
    let all = ["out_d", "out_h", "out_w"];
    all[all.len() - count..].iter().map(|name| Ok(op.int(name)?.unwrap_or(0))).collect()
}
