//! ONNX operators of neural networks: convolution, products, pooling, normalisation.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Conv, Count, Graph, Pool, Transposed, Value};
use crate::error::Refusal;
use crate::shape::{self, Window, checked_pads, pair};

type Result<T> = std::result::Result<T, Refusal>;

/// Whether the operand of a window is a sequence `[N, C, L]`: an image of height 1.
fn is_sequence(g: &Graph, n: &Node<'_>) -> Result<bool> {
    Ok(g.dims(n.input(0)?).len() == 3)
}

/// A sequence `[N, C, L]` as an image `[N, C, 1, L]`; other tensors as they are.
fn image(g: &mut Graph, x: &Value) -> Result<Value> {
    match g.dims(x)[..] {
        [n, c, l] => g.reshape(x, &[n, c, 1, l]),
        _ => Ok(x.clone()),
    }
}

/// What a window makes of an image, as the sequence that it stands for if `is_sequence`.
fn sequence(g: &mut Graph, y: &Value, is_sequence: bool) -> Result<Lowered> {
    let dims = g.dims(y);
    match dims[..] {
        [n, c, 1, l] if is_sequence => Ok(g.reshape(y, &[n, c, l])?.into()),
        _ => Ok(y.clone().into()),
    }
}

/// Two numbers of a window from a list; along a sequence there is one, and `flat` is that of the height.
fn both(name: &str, list: &[i64], is_sequence: bool, flat: i64) -> Result<[i64; 2]> {
    match *list {
        [a] if is_sequence => Ok([flat, a]),
        _ if is_sequence => Err(Refusal::invalid(format!("`{name}` has {} numbers for a sequence", list.len()))),
        _ => pair(name, list),
    }
}

/// The window of a convolution or pool over an image, or over a sequence as one, and its pads.
fn window(g: &Graph, n: &Node<'_>, x: &Value, kernel: [i64; 2]) -> Result<(Window, [i64; 4])> {
    let ([_, _, height, width], flat) = (g.nchw(x)?, is_sequence(g, n)?);
    let steps = |name| n.ints(name)?.map_or(Ok([1, 1]), |v| both(name, v, flat, 1));
    let (strides, dilations) = (steps("strides")?, steps("dilations")?);
    let window = Window { input: [height, width], kernel, strides, dilations }.checked()?;
    let pads = match n.text("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" | "" => match n.ints("pads")? {
            None => [0; 4],
            Some(&[left, right]) if flat => [0, left, 0, right],
            Some(&[top, left, bottom, right]) if !flat => [top, left, bottom, right],
            Some(p) => return Err(Refusal::invalid(format!("{} pads for its window", p.len()))),
        },
        "VALID" => [0; 4],
        "SAME_UPPER" => window.same_pads(false),
        "SAME_LOWER" => window.same_pads(true),
        other => return Err(Refusal::invalid(format!("auto_pad is `{other}`"))),
    };
    Ok((window, checked_pads(pads)?))
}

/// The geometry of a convolution of the image `x` by `w`.
pub(super) fn geometry(g: &Graph, n: &Node<'_>, x: &Value, w: &Value) -> Result<Conv> {
    let ([_, _, kh, kw], flat) = (g.nchw(w)?, is_sequence(g, n)?);
    let kernel = [kh as i64, kw as i64];
    let stated = n.ints("kernel_shape")?.map(|k| both("kernel_shape", k, flat, 1)).transpose()?;
    if let Some(k) = stated.filter(|k| *k != kernel) {
        return Err(Refusal::invalid(format!("kernel_shape {k:?} does not match the weight's {kernel:?}")));
    }
    let (window, pads) = window(g, n, x, kernel)?;
    let groups = n.int("group")?.unwrap_or(1);
    Ok(Conv { strides: window.strides, pads, dilations: window.dilations, groups })
}

pub(super) fn conv(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let flat = is_sequence(g, n)?;
    if flat && g.dims(n.input(1)?).len() != 3 {
        return Err(Refusal::invalid(format!("a weight of shape {:?} for a sequence", g.dims(n.input(1)?))));
    }
    let (x, w) = (image(g, n.input(0)?)?, image(g, n.input(1)?)?);
    let conv = geometry(g, n, &x, &w)?;
    let y = g.conv2d(&x, &w, n.optional(2), &conv)?;
    sequence(g, &y, flat)
}

/// The result's size is given, or what the pads leave. Pads that are found leave the input's size times the stride, if the taps
/// reach so far.
pub(super) fn conv_transpose(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let flat = is_sequence(g, n)?;
    let (x, w) = (image(g, n.input(0)?)?, image(g, n.input(1)?)?);
    let ([_, _, height, width], [_, _, kh, kw]) = (g.nchw(&x)?, g.nchw(&w)?);
    let kernel = [kh as i64, kw as i64];
    let (window, pads) = window(g, n, &x, kernel)?;
    let list = |name, other| n.ints(name)?.map(|v| both(name, v, flat, other)).transpose();
    if let Some(k) = list("kernel_shape", 1)?.filter(|k| *k != kernel) {
        return Err(Refusal::invalid(format!("kernel_shape {k:?} does not match the weight's {kernel:?}")));
    }
    let more = list("output_padding", 0)?.unwrap_or([0, 0]);
    checked_pads([more[0], more[1], 0, 0])?;
    // The spatial dims, or all of them.
    let stated =
        n.ints("output_shape")?.map(|v| v.get(v.len().saturating_sub(if flat { 1 } else { 2 })..).unwrap_or(v));
    let stated = stated.map(|v| both("output_shape", v, flat, 1)).transpose()?;
    let auto = n.text("auto_pad")?.unwrap_or("NOTSET");
    let (strides, input) = (window.strides, [height as i64, width as i64]);
    let (mut output, mut front) = ([0; 2], [pads[0], pads[1]]);
    for d in 0..2 {
        let whole = window.spread(d) + more[d];
        let wanted = stated.map(|s| s[d]).or(auto.starts_with("SAME").then_some(whole.min(input[d] * strides[d])));
        output[d] = wanted.unwrap_or(whole - pads[d] - pads[2 + d]);
        if wanted.is_some() {
            let total = (whole - output[d]).max(0);
            front[d] = if auto == "SAME_UPPER" { total / 2 } else { total - total / 2 };
        }
    }
    let groups = n.int("group")?.unwrap_or(1);
    let t = Transposed { strides, pads: front, dilations: window.dilations, groups, output };
    let y = g.conv_transpose(&x, &w, n.optional(2), &t)?;
    sequence(g, &y, flat)
}

pub(super) fn matmul(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.matmul(n.input(0)?, n.input(1)?, None, [false, false])?.into())
}

/// `alpha * a * b + beta * c`; the factors go into constants where there are any.
pub(super) fn gemm(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (a, b) = (n.input(0)?, n.input(1)?);
    for v in [a, b] {
        if g.dims(v).len() != 2 {
            return Err(Refusal::invalid(format!("an operand has the shape {:?}, not two dims", g.dims(v))));
        }
    }
    let flags = [n.flag("transA", false)?, n.flag("transB", false)?];
    let (alpha, beta) = (n.float("alpha")?.unwrap_or(1.0), n.float("beta")?.unwrap_or(1.0));
    let columns = g.dims(b)[usize::from(!flags[1])];
    let b = if b.known().is_some() { g.times(b, alpha)? } else { b.clone() };
    let left = if b_is_scaled(n) { 1.0 } else { alpha };
    let c = match n.optional(2) {
        Some(c) if beta != 0.0 => Some(g.times(c, beta)?),
        _ => None,
    };
    let row = c.as_ref().filter(|c| is_row(&g.dims(c), columns)).cloned();
    if let Some(row) = row.filter(|_| left == 1.0) {
        let row = g.reshape(&row, &[columns])?;
        return Ok(g.matmul(a, &b, Some(&row), flags)?.into());
    }
    let product = g.matmul(a, &b, None, flags)?;
    let product = g.times(&product, left)?;
    Ok(match c {
        Some(c) => {
            let sum = g.arith(Arith::Add, &product, &c)?;
            if g.dims(&sum) != g.dims(&product) {
                return Err(Refusal::invalid(format!("the addend has the shape {:?}", g.dims(&c))));
            }
            sum
        }
        None => product,
    }
    .into())
}

fn b_is_scaled(n: &Node<'_>) -> bool {
    n.optional(1).is_some_and(|b| b.known().is_some())
}

/// Whether a tensor is one number per column.
fn is_row(dims: &[usize], columns: usize) -> bool {
    matches!(*dims, [c] | [1, c] if c == columns)
}

pub(super) fn batch_norm(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    if n.flag("training_mode", false)? || (1..n.used.len()).any(|i| n.used[i]) {
        return Err(Refusal::unsupported("it is in training mode").remedy("export the model for inference"));
    }
    if !n.flag("spatial", true)? {
        return Err(Refusal::unsupported("statistics per element (spatial = 0) are not supported"));
    }
    let params = [n.input(1)?, n.input(2)?, n.input(3)?, n.input(4)?];
    let epsilon = n.float("epsilon")?.unwrap_or(1e-5);
    Ok(g.batch_norm(n.input(0)?, params, epsilon)?.into())
}

/// The operand of a pool as an image; its attributes, with ceil mode turned into trailing pads; the pads that it has itself.
fn pool(g: &mut Graph, n: &Node<'_>) -> Result<(Value, Pool, [i64; 2])> {
    let x = image(g, n.input(0)?)?;
    let [_, _, height, width] = g.nchw(&x)?;
    let kernel = n.ints("kernel_shape")?.ok_or_else(|| Refusal::invalid("it has no kernel_shape"))?;
    let (window, pads) = window(g, n, &x, both("kernel_shape", kernel, is_sequence(g, n)?, 1)?)?;
    if window.dilations != [1, 1] {
        return Err(Refusal::unsupported("dilated pooling is not supported"));
    }
    let mut pool = Pool { kernel: window.kernel, strides: window.strides, pads, ceil_mode: false };
    if n.int("ceil_mode")?.unwrap_or(0) != 0 {
        let none = || Refusal::unsupported(format!("its kernel {kernel:?} finds no window in {height} x {width}"));
        pool.pads = window.ceil_pads(pads).ok_or_else(none)?;
    }
    Ok((x, pool, [pads[2], pads[3]]))
}

pub(super) fn max_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    n.expect_unused(1, "Indices")?;
    let (x, pool, _) = pool(g, n)?;
    let y = g.max_pool(&x, &pool)?;
    sequence(g, &y, is_sequence(g, n)?)
}

pub(super) fn average_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, pool, behind) = pool(g, n)?;
    let y = match n.flag("count_include_pad", false)? {
        true => g.avg_pool_within(&x, &pool, behind)?,
        false => g.avg_pool(&x, &pool, Count::Exclusive)?,
    };
    sequence(g, &y, is_sequence(g, n)?)
}

/// The average pool of quantized tensors, which counts all of a window where it counts pads, those of ceil mode too.
pub(super) fn quantized_average_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, pool, _) = pool(g, n)?;
    let count = if n.flag("count_include_pad", false)? { Count::Kernel } else { Count::Exclusive };
    let y = g.avg_pool(&x, &pool, count)?;
    sequence(g, &y, is_sequence(g, n)?)
}

pub(super) fn global_average_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = image(g, n.input(0)?)?;
    let y = g.global_avg_pool(&x)?;
    sequence(g, &y, is_sequence(g, n)?)
}

pub(super) fn global_max_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = image(g, n.input(0)?)?;
    let y = g.global_max_pool(&x)?;
    sequence(g, &y, is_sequence(g, n)?)
}

/// ONNX divides alpha by the window size.
pub(super) fn lrn(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let size = n.int("size")?.ok_or_else(|| Refusal::invalid("it has no size"))?;
    let alpha = n.float("alpha")?.unwrap_or(1e-4) / size as f32;
    let (beta, bias) = (n.float("beta")?.unwrap_or(0.75), n.float("bias")?.unwrap_or(1.0));
    Ok(g.lrn(n.input(0)?, size, alpha, beta, bias)?.into())
}

/// Before operator set 13 all dims from the axis on are one; since then it is the axis alone.
pub(super) fn softmax(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let dims = g.dims(x);
    let axis = n.int("axis")?.unwrap_or(if n.opset < 13 { 1 } else { -1 });
    if n.opset >= 13 {
        return Ok(g.softmax(x, shape::axis(axis, dims.len())?)?.into());
    }
    let axis = if axis == dims.len() as i64 { dims.len() } else { shape::axis(axis, dims.len())? };
    if axis < dims.len() && dims[axis + 1..].iter().all(|&d| d == 1) {
        return Ok(g.softmax(x, axis)?.into());
    }
    let flat = g.reshape(x, &shape::two_d(&dims, axis))?;
    let out = g.softmax(&flat, 1)?;
    Ok(g.reshape(&out, &dims)?.into())
}
