//! Paddle ops that move or convert elements.

use super::op::{Lowered, Op};
use super::params;
use crate::emit::{Graph, Padding, Range, Value};
use crate::error::Refusal;
use crate::shape;

type Result<T> = std::result::Result<T, Refusal>;

/// The first version in which tensors without dims exist.
const SCALARS_SINCE: i64 = 2_005_000;

fn reshaped(g: &mut Graph, x: &Value, dims: &[usize]) -> Result<Lowered> {
    Ok(Lowered::identity(g.reshape(x, dims)?, "the shape stays the same"))
}

/// A shape of no dims, or of one dim of 1 where the writer had no others.
pub(super) fn at_least_one_dim(op: &Op<'_>, mut dims: Vec<usize>) -> Vec<usize> {
    if dims.is_empty() && op.version < SCALARS_SINCE {
        dims.push(1);
    }
    dims
}

pub(super) fn reshape(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let target = match op.all("ShapeTensor").is_empty() {
        true => op.ints_from("Shape", "", "shape")?,
        false => op.ints_from("", "ShapeTensor", "shape")?,
    };
    let target = target.ok_or_else(|| Refusal::invalid("it has no shape"))?;
    let dims = shape::reshape(&g.dims(x), &target, false)?;
    reshaped(g, x, &dims)
}

pub(super) fn flatten2(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let dims = g.dims(x);
    let axis = usize::try_from(op.int("axis")?.unwrap_or(1)).ok().filter(|&a| a <= dims.len());
    let axis = axis.ok_or_else(|| Refusal::invalid(format!("its axis is outside rank {}", dims.len())))?;
    reshaped(g, x, &shape::two_d(&dims, axis))
}

pub(super) fn flatten_range(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let mut dims = g.dims(x);
    if dims.is_empty() {
        return reshaped(g, x, &[1]);
    }
    let start = shape::axis(op.int("start_axis")?.unwrap_or(1), dims.len())?;
    let stop = shape::axis(op.int("stop_axis")?.unwrap_or(1), dims.len())?;
    if start > stop {
        return Err(Refusal::invalid(format!("start_axis {start} lies behind stop_axis {stop}")));
    }
    let joined = dims[start..=stop].iter().product();
    dims.splice(start..=stop, [joined]);
    reshaped(g, x, &dims)
}

pub(super) fn squeeze(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axes = op.ints_from("AxesTensor", "", "axes")?.unwrap_or_default();
    let dims = shape::squeeze(&g.dims(x), &axes, true)?;
    reshaped(g, x, &at_least_one_dim(op, dims))
}

/// Axes are applied one after the other to the growing rank.
pub(super) fn unsqueeze(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axes = op.ints_from("AxesTensor", "AxesTensorList", "axes")?.unwrap_or_default();
    let dims = with_ones(g.dims(x), &axes)?;
    reshaped(g, x, &dims)
}

/// Dims with ones at places, which are put in one after the other.
pub(super) fn with_ones(mut dims: Vec<usize>, axes: &[i64]) -> Result<Vec<usize>> {
    for &a in axes {
        let place = shape::axis(a, dims.len() + 1)?;
        dims.insert(place, 1);
        if dims.len() > crate::elements::MAX_RANK {
            return Err(Refusal::unsupported(format!("the result has rank {} or more", dims.len())));
        }
    }
    Ok(dims)
}

pub(super) fn transpose(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    Ok(Lowered::identity(permuted(g, op)?, "it changes no axis"))
}

/// The input with its axes in the order of `axis`.
pub(super) fn permuted(g: &mut Graph, op: &Op<'_>) -> Result<Value> {
    let x = op.input("X")?;
    let rank = g.dims(x).len();
    let perm = op.ints("axis")?.ok_or_else(|| Refusal::invalid("it has no axis list"))?;
    let perm = perm.iter().map(|&p| shape::axis(p, rank)).collect::<Result<Vec<_>>>()?;
    g.transpose(x, &perm)
}

/// The axis of a concat or split, which may come as a tensor.
fn one_axis(op: &Op<'_>, rank: usize) -> Result<usize> {
    let axis = match op.known_number("AxisTensor")? {
        Some(axis) => axis as i64,
        None => op.int("axis")?.unwrap_or(0),
    };
    shape::axis(axis, rank)
}

pub(super) fn concat(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let inputs = op.all("X").to_vec();
    let first = inputs.first().ok_or_else(|| Refusal::invalid("it has no input"))?;
    let axis = one_axis(op, g.dims(first).len())?;
    Ok(Lowered::identity(g.concat(&inputs, axis)?, "its result is known at import, or its only input"))
}

pub(super) fn stack(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let inputs = op.all("X").to_vec();
    let first = inputs.first().ok_or_else(|| Refusal::invalid("it has no input"))?;
    let mut dims = g.dims(first);
    let axis = shape::axis(op.int("axis")?.unwrap_or(0), dims.len() + 1)?;
    if inputs.iter().any(|v| g.dims(v) != dims) {
        return Err(Refusal::invalid("the inputs differ in shape"));
    }
    dims.insert(axis, 1);
    let parts = inputs.iter().map(|v| g.reshape(v, &dims)).collect::<Result<Vec<_>>>()?;
    Ok(g.concat(&parts, axis)?.into())
}

pub(super) fn split(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let dims = g.dims(x);
    let axis = one_axis(op, dims.len())?;
    let size = dims[axis] as i64;
    let mut sections = op.ints_from("", "SectionsTensorList", "sections")?.unwrap_or_default();
    let wrong = |s: &[i64]| Refusal::invalid(format!("{size} cannot be split into {s:?}"));
    if sections.is_empty() {
        let num = op.int("num")?.unwrap_or(0);
        let outputs = super::op::arguments(&op.desc.outputs, "Out").len() as i64;
        if num < 1 || num != outputs || size % num != 0 {
            return Err(Refusal::invalid(format!("{size} cannot be split into {num} parts")));
        }
        sections = vec![size / num; num as usize];
    }
    let known = sections.iter().filter(|&&s| s != -1).try_fold(0i64, |a, &s| a.checked_add(s).filter(|_| s > 0));
    let known = known.ok_or_else(|| wrong(&sections))?;
    let open = sections.iter().filter(|&&s| s == -1).count();
    let rest = size - known;
    if (open == 0 && rest != 0) || (open == 1 && rest < 1) || open > 1 {
        return Err(wrong(&sections));
    }
    let (mut values, mut start) = (Vec::new(), 0usize);
    for s in sections {
        let end = start + if s == -1 { rest } else { s } as usize;
        values.push(g.narrow(x, axis, start, end)?);
        start = end;
    }
    Ok(Lowered::many(values))
}

pub(super) fn slice(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("Input")?;
    let dims = g.dims(x);
    let axes = op.ints("axes")?.unwrap_or_default();
    let starts = op.ints_from("StartsTensor", "StartsTensorList", "starts")?.unwrap_or_default();
    let ends = op.ints_from("EndsTensor", "EndsTensorList", "ends")?.unwrap_or_default();
    let steps = op.ints_from("StridesTensor", "StridesTensorList", "strides")?;
    let steps = steps.unwrap_or_else(|| vec![1; axes.len()]);
    if [starts.len(), ends.len(), steps.len()] != [axes.len(); 3] {
        return Err(Refusal::invalid("axes, starts, ends and strides differ in number"));
    }
    let mut ranges: Vec<Range> = dims.iter().map(|&d| Range::full(d)).collect();
    for i in 0..axes.len() {
        let a = shape::axis(axes[i], dims.len())?;
        if steps[i] == 0 {
            return Err(Refusal::invalid("a stride is 0"));
        }
        ranges[a] = Range::clamped(starts[i], ends[i], steps[i], dims[a]);
    }
    let part = g.slice(x, &ranges)?;
    let gone = op.ints("decrease_axis")?.unwrap_or_default();
    let value = match gone.is_empty() {
        true => part,
        false => {
            let dims = shape::squeeze(&g.dims(&part), &gone, false)?;
            g.reshape(&part, &at_least_one_dim(op, dims))?
        }
    };
    Ok(Lowered::identity(value, "it keeps all elements, or its result is known at import"))
}

/// Counts before and after, dim by dim.
pub(super) fn pad(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let rank = g.dims(x).len();
    let given = op.ints("paddings")?.unwrap_or_default();
    if given.len() != 2 * rank {
        return Err(Refusal::invalid(format!("{} paddings for a tensor of rank {rank}", given.len())));
    }
    let pads: Vec<i64> = given.iter().step_by(2).chain(given.iter().skip(1).step_by(2)).copied().collect();
    let value = op.number_from("PadValue", "pad_value", 0.0)?;
    Ok(Lowered::identity(g.pad(x, &pads, Padding::Constant(value))?, "all pads are 0"))
}

/// Counts at the top, bottom, left and right of a plane.
pub(super) fn pad2d(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    g.nchw(x)?;
    let given = op.ints_from("Paddings", "", "paddings")?.unwrap_or_default();
    let [top, bottom, left, right] = given[..] else {
        return Err(Refusal::invalid(format!("{} paddings, 4 are needed", given.len())));
    };
    let padding = padding(op, op.float("pad_value")?.unwrap_or(0.0))?;
    let pads = match op.text("data_format")? {
        "NHWC" => [0, top, left, 0, 0, bottom, right, 0],
        _ => [0, 0, top, left, 0, 0, bottom, right],
    };
    Ok(Lowered::identity(g.pad(x, &pads, padding)?, "all pads are 0"))
}

/// Counts at the left, right, top, bottom, front and back of a volume.
pub(super) fn pad3d(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    if g.dims(x).len() != 5 {
        return Err(Refusal::invalid(format!("it pads a tensor of shape {:?}", g.dims(x))));
    }
    let given = op.ints_from("Paddings", "", "paddings")?.unwrap_or_default();
    let [left, right, top, bottom, front, back] = given[..] else {
        return Err(Refusal::invalid(format!("{} paddings, 6 are needed", given.len())));
    };
    let value = op.float("value")?.unwrap_or(0.0);
    let padding = padding(op, value)?;
    let pads = match op.text("data_format")? {
        "NDHWC" => [0, front, top, left, 0, 0, back, bottom, right, 0],
        _ => [0, 0, front, top, left, 0, 0, back, bottom, right],
    };
    Ok(Lowered::identity(g.pad(x, &pads, padding)?, "all pads are 0"))
}

fn padding(op: &Op<'_>, value: f32) -> Result<Padding> {
    match op.text("mode")? {
        "" | "constant" => Ok(Padding::Constant(value)),
        "reflect" => Ok(Padding::Reflect),
        "edge" | "replicate" => Ok(Padding::Edge),
        "circular" => Ok(Padding::Wrap),
        other => Err(Refusal::invalid(format!("mode is `{other}`"))),
    }
}

/// Channels of blocks of pixels, put where the pixels are.
pub(super) fn pixel_shuffle(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let behind = op.text("data_format")? == "NHWC";
    let x = if behind { g.transpose(x, &[0, 3, 1, 2])? } else { x.clone() };
    let [n, c, h, w] = g.nchw(&x)?;
    let factor = usize::try_from(op.int("upscale_factor")?.unwrap_or(1)).ok().filter(|r| (1..=1 << 15).contains(r));
    let r = factor.filter(|r| c.is_multiple_of(r * r));
    let r =
        r.ok_or_else(|| Refusal::invalid(format!("{c} channels cannot be cut into blocks by its upscale_factor")))?;
    let cut = g.reshape(&x, &[n, c / (r * r), r, r, h, w])?;
    let moved = g.transpose(&cut, &[0, 1, 4, 2, 5, 3])?;
    let y = g.reshape(&moved, &[n, c / (r * r), h * r, w * r])?;
    Ok(if behind { g.transpose(&y, &[0, 2, 3, 1])? } else { y }.into())
}

/// The channels of all groups one by one: the first of each, then the second.
pub(super) fn shuffle_channel(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let [n, c, h, w] = g.nchw(x)?;
    let groups = usize::try_from(op.int("group")?.unwrap_or(1)).ok().filter(|&r| r > 0 && c.is_multiple_of(r));
    let groups = groups.ok_or_else(|| Refusal::invalid(format!("{c} channels cannot be cut into its groups")))?;
    let cut = g.reshape(x, &[n, groups, c / groups, h, w])?;
    let moved = g.transpose(&cut, &[0, 2, 1, 3, 4])?;
    Ok(Lowered::identity(g.reshape(&moved, &[n, c, h, w])?, "it moves nothing"))
}

/// The elements of some axes from the last to the first.
pub(super) fn flip(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let mut x = op.input("X")?.clone();
    let dims = g.dims(&x);
    for axis in shape::axes(&op.ints("axis")?.unwrap_or_default(), dims.len())? {
        let places: Vec<usize> = (0..dims[axis]).rev().collect();
        x = g.take(&x, axis, &places)?;
    }
    Ok(Lowered::identity(x, "it turns no axis round"))
}

pub(super) fn cast(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let to = op.int("out_dtype")?.and_then(|t| i32::try_from(t).ok());
    let to = to.ok_or_else(|| Refusal::invalid("it has no out_dtype"))?;
    let elem = params::stored_type(to).map_err(Refusal::unsupported)?.plain();
    Ok(Lowered::identity(g.cast(op.input("X")?, elem)?, "its type stays the same, or it is known at import"))
}

/// Dims that a tensor is repeated to; -1 keeps one.
pub(super) fn expand(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let target = op.ints_from("Shape", "expand_shapes_tensor", "shape")?;
    let target = target.ok_or_else(|| Refusal::invalid("it has no shape"))?;
    let own = g.dims(x);
    let more = target.len().checked_sub(own.len());
    let more = more.ok_or_else(|| Refusal::invalid(format!("{own:?} is expanded to the shape {target:?}")))?;
    let one = |(i, &d): (usize, &i64)| match d {
        -1 => i.checked_sub(more).map(|i| own[i]),
        d => usize::try_from(d).ok(),
    };
    let dims: Option<Vec<usize>> = target.iter().enumerate().map(one).collect();
    let dims = dims.ok_or_else(|| Refusal::invalid(format!("{own:?} is expanded to the shape {target:?}")))?;
    Ok(Lowered::identity(g.expand(x, &dims)?, "the shape stays the same"))
}

/// How often a tensor is repeated along each dim; the shorter of shape and counts gets ones in front.
fn repeated(g: &mut Graph, op: &Op<'_>, times: Option<Vec<i64>>) -> Result<Lowered> {
    let x = op.input("X")?;
    let times = times.ok_or_else(|| Refusal::invalid("it has no counts"))?;
    let times: Option<Vec<usize>> = times.iter().map(|&t| usize::try_from(t).ok().filter(|&t| t > 0)).collect();
    let mut times = times.ok_or_else(|| Refusal::invalid("a count is not positive"))?;
    let mut dims = g.dims(x);
    while dims.len() < times.len() {
        dims.insert(0, 1);
    }
    while times.len() < dims.len() {
        times.insert(0, 1);
    }
    let x = g.reshape(x, &dims)?;
    Ok(Lowered::identity(g.tile(&x, &times)?, "the shape stays the same"))
}

pub(super) fn tile(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let times = op.ints_from("RepeatTimes", "repeat_times_tensor", "repeat_times")?;
    repeated(g, op, times)
}

/// What `expand` was in the first version.
pub(super) fn expand_times(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let times = op.ints_from("ExpandTimes", "expand_times_tensor", "expand_times")?;
    repeated(g, op, times)
}

/// Every index of an axis as a tensor of its own, without that axis.
pub(super) fn unstack(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let mut dims = g.dims(x);
    let axis = shape::axis(op.int("axis")?.unwrap_or(0), dims.len())?;
    let count = dims.remove(axis);
    let mut values = Vec::new();
    for i in 0..count {
        let part = g.narrow(x, axis, i, i + 1)?;
        values.push(g.reshape(&part, &dims)?);
    }
    Ok(Lowered::many(values))
}
