//! ONNX operators that move or convert elements.

use super::node::{Lowered, Node};
use super::tensor;
use crate::emit::{Graph, Padding, Range, Value};
use crate::error::Refusal;
use crate::shape;

type Result<T> = std::result::Result<T, Refusal>;

const SAME_SHAPE: &str = "the shape stays the same";

fn reshaped(g: &mut Graph, x: &Value, dims: &[usize]) -> Result<Lowered> {
    Ok(Lowered::identity(g.reshape(x, dims)?, SAME_SHAPE))
}

pub(super) fn reshape(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let target = n.ints_either("shape", 1)?.ok_or_else(|| Refusal::invalid("it has no shape"))?;
    let dims = shape::reshape(&g.dims(x), &target, n.flag("allowzero", false)?)?;
    reshaped(g, x, &dims)
}

pub(super) fn flatten(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let axis = match n.int("axis")?.unwrap_or(1) {
        a if a == dims.len() as i64 => dims.len(),
        a => shape::axis(a, dims.len())?,
    };
    reshaped(g, x, &shape::two_d(&dims, axis))
}

pub(super) fn squeeze(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let axes = n.ints_either("axes", 1)?.unwrap_or_default();
    let dims = shape::squeeze(&g.dims(x), &axes, false)?;
    reshaped(g, x, &dims)
}

pub(super) fn unsqueeze(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let list = n.ints_either("axes", 1)?.ok_or_else(|| Refusal::invalid("it has no axes"))?;
    let mut dims = g.dims(x);
    let axes = shape::axes(&list, dims.len().saturating_add(list.len()))?;
    if axes.len() != list.len() {
        return Err(Refusal::invalid(format!("the axes {list:?} repeat")));
    }
    for a in axes {
        dims.insert(a, 1);
    }
    reshaped(g, x, &dims)
}

pub(super) fn transpose(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let rank = g.dims(x).len();
    let perm = match n.ints("perm")? {
        Some(perm) => perm.iter().map(|&p| shape::axis(p, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    Ok(Lowered::identity(g.transpose(x, &perm)?, "it changes no axis"))
}

pub(super) fn concat(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let inputs = n.all()?;
    let first = inputs.first().ok_or_else(|| Refusal::invalid("it has no input"))?;
    let axis = n.int("axis")?.ok_or_else(|| Refusal::invalid("it has no axis"))?;
    let axis = shape::axis(axis, g.dims(first).len())?;
    Ok(Lowered::identity(g.concat(&inputs, axis)?, "its result is known at import, or its only input"))
}

/// Bounds are attributes before operator set 10 and inputs since.
pub(super) fn slice(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let missing = || Refusal::invalid("starts or ends are missing");
    let starts = n.ints_either("starts", 1)?.ok_or_else(missing)?;
    let ends = n.ints_either("ends", 2)?.ok_or_else(missing)?;
    let axes = n.ints_either("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = n.known_ints(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(Refusal::invalid("starts, ends, axes and steps differ in number"));
    }
    let mut ranges: Vec<Range> = dims.iter().map(|&d| Range::full(d)).collect();
    for i in 0..starts.len() {
        let a = shape::axis(axes[i], dims.len())?;
        if steps[i] == 0 {
            return Err(Refusal::invalid("a step is 0"));
        }
        ranges[a] = Range::clamped(starts[i], ends[i], steps[i], dims[a]);
    }
    Ok(Lowered::identity(g.slice(x, &ranges)?, "it keeps all elements, or its result is known at import"))
}

/// Sizes are an attribute before operator set 13 and an input since; without sizes the parts are equal.
pub(super) fn split(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let axis = shape::axis(n.int("axis")?.unwrap_or(0), dims.len())?;
    let parts = n.proto.output.len();
    let sizes = match n.ints_either("split", 1)? {
        Some(sizes) => sizes,
        None => {
            // The last part is smaller when the parts do not come out even.
            let size = dims[axis].div_ceil(parts.max(1)) as i64;
            let left = |i: usize| (dims[axis] as i64 - size * i as i64).clamp(0, size);
            (0..parts).map(left).collect()
        }
    };
    let sum = sizes.iter().try_fold(0i64, |a, &s| a.checked_add(s).filter(|_| s >= 0));
    if sizes.len() != parts || sum != Some(dims[axis] as i64) {
        return Err(Refusal::invalid(format!("{} cannot be split into {sizes:?} for {parts} outputs", dims[axis])));
    }
    let (mut values, mut start) = (Vec::new(), 0);
    for size in sizes {
        let end = start + size as usize;
        values.push(g.narrow(x, axis, start, end)?);
        start = end;
    }
    Ok(Lowered::many(values))
}

/// Pads are an attribute before operator set 11 and an input since.
pub(super) fn pad(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let rank = g.dims(x).len();
    let given = n.ints_either("pads", 1)?.ok_or_else(|| Refusal::invalid("it has no pads"))?;
    let value = match n.known_number(2, "the value")? {
        Some(value) => value,
        None => n.float("value")?.unwrap_or(0.0),
    };
    let padding = match n.text("mode")?.unwrap_or("constant") {
        "constant" => Padding::Constant(value),
        "reflect" => Padding::Reflect,
        "edge" => Padding::Edge,
        "wrap" => Padding::Wrap,
        other => return Err(Refusal::invalid(format!("mode is `{other}`"))),
    };
    let pads = match n.known_ints(3, "axes")? {
        None => given,
        Some(list) => {
            if given.len() != 2 * list.len() {
                return Err(Refusal::invalid(format!("{} pads for {} axes", given.len(), list.len())));
            }
            let mut pads = vec![0; 2 * rank];
            for (i, &a) in list.iter().enumerate() {
                let a = shape::axis(a, rank)?;
                (pads[a], pads[rank + a]) = (given[i], given[list.len() + i]);
            }
            pads
        }
    };
    // Around stored integers the value is a stored integer as well.
    let format = g.quant_of(x).cloned().filter(|_| matches!(padding, Padding::Constant(_)));
    let Some(format) = format else {
        return Ok(Lowered::identity(g.pad(x, &pads, padding)?, "all pads are 0"));
    };
    let real = g.dequantize(x)?;
    let value = (value - format.zero(0) as f32) * format.scale(0);
    let padded = g.pad(&real, &pads, Padding::Constant(value))?;
    Ok(g.quantize(&padded, format)?.into())
}

/// The middle of a tensor, or the tensor in the middle of zeros, by axis; of an odd rest the smaller half lies in front.
pub(super) fn center_crop_pad(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let wanted = n.known_ints(1, "the shape")?.ok_or_else(|| Refusal::invalid("it has no shape"))?;
    let axes = match n.ints("axes")? {
        Some(list) => list.iter().map(|&a| shape::axis(a, dims.len())).collect::<Result<Vec<_>>>()?,
        None => (0..dims.len()).collect(),
    };
    if wanted.len() != axes.len() {
        return Err(Refusal::invalid(format!("{} sizes for {} axes", wanted.len(), axes.len())));
    }
    let (mut y, mut pads) = (x.clone(), vec![0; 2 * dims.len()]);
    for (&axis, &size) in axes.iter().zip(&wanted) {
        let (own, size) = (dims[axis], usize::try_from(size).unwrap_or(0));
        if size == 0 {
            return Err(Refusal::invalid(format!("the size {size} of dim {axis}")));
        }
        if size < own {
            let front = (own - size) / 2;
            y = g.narrow(&y, axis, front, front + size)?;
        } else {
            let front = (size - own) / 2;
            (pads[axis], pads[dims.len() + axis]) = (front as i64, (size - own - front) as i64);
        }
    }
    shape::checked_pads(&pads)?;
    Ok(Lowered::identity(g.pad(&y, &pads, Padding::Constant(0.0))?, SAME_SHAPE))
}

pub(super) fn cast(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let to = n.int("to")?.ok_or_else(|| Refusal::invalid("it has no target type"))?;
    let stored = i32::try_from(to).map_err(|_| format!("type number {to}")).and_then(tensor::stored_type);
    let stored = stored.map_err(Refusal::unsupported)?;
    Ok(Lowered::identity(g.cast(n.input(0)?, stored.plain())?, "its type stays the same, or it is known at import"))
}

/// The block size of `DepthToSpace` and `SpaceToDepth`, and the dims of their input.
fn block(g: &Graph, n: &Node<'_>) -> Result<(usize, [usize; 4])> {
    let size = n.int("blocksize")?.and_then(|b| usize::try_from(b).ok()).filter(|b| (1..=1 << 15).contains(b));
    Ok((size.ok_or_else(|| Refusal::invalid("its block size is missing or impossible"))?, g.nchw(n.input(0)?)?))
}

pub(super) fn depth_to_space(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (b, [batch, c, h, w]) = block(g, n)?;
    if !c.is_multiple_of(b * b) {
        return Err(Refusal::invalid(format!("{c} channels cannot be cut into blocks of {b} x {b}")));
    }
    let d = c / (b * b);
    let (cut, order) = match n.text("mode")?.unwrap_or("DCR") {
        "DCR" => ([batch, b, b, d, h, w], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([batch, d, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        other => return Err(Refusal::invalid(format!("mode is `{other}`"))),
    };
    rearranged(g, n, &cut, &order, &[batch, d, h * b, w * b])
}

pub(super) fn space_to_depth(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (b, [batch, c, h, w]) = block(g, n)?;
    if !h.is_multiple_of(b) || !w.is_multiple_of(b) {
        return Err(Refusal::invalid(format!("{h} x {w} pixels cannot be cut into blocks of {b} x {b}")));
    }
    rearranged(g, n, &[batch, c, h / b, b, w / b, b], &[0, 3, 5, 1, 2, 4], &[batch, c * b * b, h / b, w / b])
}

fn rearranged(g: &mut Graph, n: &Node<'_>, cut: &[usize], order: &[usize], out: &[usize]) -> Result<Lowered> {
    let cut = g.reshape(n.input(0)?, cut)?;
    let moved = g.transpose(&cut, order)?;
    reshaped(g, &moved, out)
}

/// The type of another tensor; only its type counts.
pub(super) fn cast_like(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let to = g.elem(n.input(1)?);
    if matches!(to, qc_ir::Elem::Quant(_)) {
        return Err(Refusal::unsupported("the type is that of a quantized tensor"));
    }
    Ok(Lowered::identity(g.cast(n.input(0)?, to)?, "its type stays the same, or it is known at import"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, longs};

    #[test]
    fn slices_of_computed_tensors_run_backwards() {
        let (most, least) = (i64::MAX, i64::MIN);
        let sliced = |from: &[i64], to: &[i64], steps: &[i64]| {
            Model::new(13, &[2, 3])
                .constant(longs("from", from))
                .constant(longs("to", to))
                .constant(longs("axes", &[0, 1]))
                .constant(longs("steps", steps))
                .node("Slice", "x from to axes steps > y", &[])
                .run(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
        };
        assert_eq!(sliced(&[-1, 0], &[least, most], &[-1, 1]), (vec![2, 3], vec![3.0, 4.0, 5.0, 0.0, 1.0, 2.0]));
        assert_eq!(sliced(&[-1, -1], &[least, least], &[-1, -2]), (vec![2, 2], vec![5.0, 3.0, 2.0, 0.0]));
        assert_eq!(sliced(&[1, 1], &[2, 0], &[1, -1]), (vec![1, 1], vec![4.0]));
    }
}
