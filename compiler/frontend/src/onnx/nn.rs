//! ONNX operators of neural networks: convolution, products, pooling, normalisation.

use super::node::{Lowered, Node};
use crate::emit::{Arith, Count, Graph, Pooling, Value};
use crate::error::Refusal;
use crate::shape::{self, Side, checked_pads, per_dim};
use qc_ir::{Elem, HostTensor};

type Result<T> = std::result::Result<T, Refusal>;

/// The window of a convolution or pool over `x`, with its pads.
fn sides(g: &Graph, n: &Node<'_>, x: &Value, kernel: &[i64]) -> Result<Vec<Side>> {
    let dims = g.dims(x);
    let Some(input) = dims.get(2..).filter(|input| input.len() == kernel.len() && !input.is_empty()) else {
        return Err(Refusal::invalid(format!("a window {kernel:?} over an input of shape {dims:?}")));
    };
    let list = |name| n.ints(name)?.map_or(Ok(vec![1; kernel.len()]), |v| per_dim(name, v, kernel.len()));
    let (strides, dilations) = (list("strides")?, list("dilations")?);
    let auto = n.text("auto_pad")?.unwrap_or("NOTSET");
    let pads = match n.ints("pads")?.filter(|_| matches!(auto, "NOTSET" | "")) {
        None => vec![0; 2 * kernel.len()],
        Some(p) if p.len() == 2 * kernel.len() => p.to_vec(),
        Some(p) => return Err(Refusal::invalid(format!("{} pads for its window", p.len()))),
    };
    let side = |d: usize| {
        let pads = [pads[d], pads[kernel.len() + d]];
        let (kernel, stride, dilation) = (kernel[d], strides[d], dilations[d]);
        let side = Side { input: input[d], kernel, stride, dilation, pads }.checked()?;
        match auto {
            "NOTSET" | "" | "VALID" => Ok(side),
            "SAME_UPPER" => Ok(side.same(false)),
            "SAME_LOWER" => Ok(side.same(true)),
            other => Err(Refusal::invalid(format!("auto_pad is `{other}`"))),
        }
    };
    (0..kernel.len()).map(side).collect()
}

/// The window of a convolution of `x` by `w`, and its groups.
pub(super) fn geometry(g: &Graph, n: &Node<'_>, x: &Value, w: &Value) -> Result<(Vec<Side>, i64)> {
    let kernel: Vec<i64> = g.dims(w).iter().skip(2).map(|&k| k as i64).collect();
    if let Some(k) = n.ints("kernel_shape")?.filter(|k| **k != kernel) {
        return Err(Refusal::invalid(format!("kernel_shape {k:?} does not match the weight's {kernel:?}")));
    }
    Ok((sides(g, n, x, &kernel)?, n.int("group")?.unwrap_or(1)))
}

pub(super) fn conv(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, w) = (n.input(0)?, n.input(1)?);
    let (sides, groups) = geometry(g, n, x, w)?;
    Ok(g.conv(x, w, n.optional(2), &sides, groups)?.into())
}

/// The result's size is given, or what the pads leave. Pads that are found leave the input's size times the stride, if the taps
/// reach so far.
pub(super) fn conv_transpose(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, w) = (n.input(0)?, n.input(1)?);
    let (mut sides, groups) = geometry(g, n, x, w)?;
    let count = sides.len();
    let more = n.ints("output_padding")?.map_or(Ok(vec![0; count]), |v| per_dim("output_padding", v, count))?;
    checked_pads(&more)?;
    // The spatial dims, or all of them.
    let stated = n.ints("output_shape")?.map(|v| v.get(v.len().saturating_sub(count)..).unwrap_or(v));
    let stated = stated.map(|v| per_dim("output_shape", v, count)).transpose()?;
    let auto = n.text("auto_pad")?.unwrap_or("NOTSET");
    let mut output = Vec::new();
    for (d, side) in sides.iter_mut().enumerate() {
        let (whole, grown) = (side.spread() + more[d], side.input as i64 * side.stride);
        let wanted = stated.as_ref().map(|s| s[d]).or(auto.starts_with("SAME").then_some(whole.min(grown)));
        output.push(wanted.unwrap_or(whole - side.pads[0] - side.pads[1]));
        if wanted.is_some() {
            let total = (whole - output[d]).max(0);
            side.pads[0] = if auto == "SAME_UPPER" { total / 2 } else { total - total / 2 };
        }
    }
    Ok(g.conv_transposed([x, w], n.optional(2), &sides, &output, groups)?.into())
}

/// Sums of overlapping blocks: a transposed convolution whose taps are the rows of each channel.
pub(super) fn col2im(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let ints = |i, what| n.known_ints(i, what)?.ok_or_else(|| Refusal::invalid(format!("it has no {what}")));
    let (image, block) = (ints(1, "image shape")?, ints(2, "block shape")?);
    let rank = block.len();
    let per = |name, one: i64| n.ints(name)?.map_or(Ok(vec![one; rank]), |v| per_dim(name, v, rank));
    let (strides, dilations) = (per("strides", 1)?, per("dilations", 1)?);
    let pads = n.ints("pads")?.map_or(vec![0; 2 * rank], <[i64]>::to_vec);
    let dims = g.dims(x);
    let (&[batch, rows, columns], true) = (&dims[..], rank == image.len() && pads.len() == 2 * rank) else {
        return Err(Refusal::invalid(format!("blocks {block:?} of {dims:?} in an image {image:?}")));
    };
    let mut sides = Vec::new();
    for d in 0..rank {
        let pads = [pads[d], pads[rank + d]];
        let (kernel, stride, dilation) = (block[d], strides[d], dilations[d]);
        let side = Side { input: 1, kernel, stride, dilation, pads }.checked()?;
        let room = image[d].saturating_add(pads[0] + pads[1]) - (dilation * (kernel - 1) + 1);
        let input = usize::try_from(room).map_err(|_| Refusal::invalid(format!("blocks {block:?} in {image:?}")))?;
        sides.push(Side { input: input / stride as usize + 1, ..side });
    }
    let taps: usize = block.iter().map(|&k| k as usize).product();
    let places: usize = sides.iter().map(|s| s.input).product();
    if places != columns || !rows.is_multiple_of(taps) {
        return Err(Refusal::invalid(format!("{places} blocks of {taps} elements in an input of shape {dims:?}")));
    }
    g.charge(rows.saturating_mul(taps).saturating_mul(4))?;
    let sizes =
        |dims: [usize; 2], more: &mut dyn Iterator<Item = usize>| dims.into_iter().chain(more).collect::<Vec<_>>();
    let weight = sizes([rows, 1], &mut block.iter().map(|&k| k as usize));
    let one = |i: usize| if i / taps % taps == i % taps { 1.0 } else { 0.0 };
    let weight = HostTensor::f32(weight, (0..rows * taps).map(one).collect()).into();
    let x = g.reshape(x, &sizes([batch, rows], &mut sides.iter().map(|s| s.input)))?;
    Ok(g.conv_transposed([&x, &weight], None, &sides, &image, (rows / taps) as i64)?.into())
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

/// The window of a pool, with ceil mode turned into trailing pads, and the pads that it has behind without that.
fn pool(g: &Graph, n: &Node<'_>) -> Result<(Vec<Side>, Vec<i64>)> {
    let x = n.input(0)?;
    let kernel = n.ints("kernel_shape")?.ok_or_else(|| Refusal::invalid("it has no kernel_shape"))?;
    let own = sides(g, n, x, kernel)?;
    let behind = own.iter().map(|s| s.pads[1]).collect();
    if n.int("ceil_mode")?.unwrap_or(0) == 0 {
        return Ok((own, behind));
    }
    let input: Vec<String> = g.dims(x)[2..].iter().map(usize::to_string).collect();
    let none = || Refusal::unsupported(format!("its kernel {kernel:?} finds no window in {}", input.join(" x ")));
    let ceiled: Option<Vec<Side>> = own.into_iter().map(Side::ceiled).collect();
    Ok((ceiled.ok_or_else(none)?, behind))
}

pub(super) fn max_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    n.expect_unused(1, "Indices")?;
    let (sides, _) = pool(g, n)?;
    let (x, elem) = (n.input(0)?, g.elem(n.input(0)?));
    // Floats have every number of 8 bits.
    if matches!(elem, Elem::I8 | Elem::U8) {
        let floats = g.cast(x, Elem::F32)?;
        let largest = g.pool(&floats, &sides, false, &Pooling::Max)?;
        return Ok(g.cast(&largest, elem)?.into());
    }
    Ok(g.pool(x, &sides, false, &Pooling::Max)?.into())
}

pub(super) fn average_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (sides, behind) = pool(g, n)?;
    let pooling = match n.flag("count_include_pad", false)? {
        true => Pooling::Within(behind),
        false => Pooling::Average(Count::Exclusive),
    };
    Ok(g.pool(n.input(0)?, &sides, false, &pooling)?.into())
}

/// The average pool of quantized tensors, which counts all of a window where it counts pads, those of ceil mode too.
pub(super) fn quantized_average_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (sides, _) = pool(g, n)?;
    let count = if n.flag("count_include_pad", false)? { Count::Kernel } else { Count::Exclusive };
    Ok(g.pool(n.input(0)?, &sides, false, &Pooling::Average(count))?.into())
}

/// The root of the sum of powers under each window: that of the mean, times the size of the window.
pub(super) fn lp_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let p = n.int("p")?.unwrap_or(2) as f32;
    if !(1.0..=64.0).contains(&p) {
        return Err(Refusal::invalid(format!("p is {p}")));
    }
    let (sides, _) = pool(g, n)?;
    let size = g.function(qc_dialects::graph::Function::Abs, n.input(0)?)?;
    let powers = g.power(&size, p)?;
    let mean = g.pool(&powers, &sides, false, &Pooling::Average(Count::Kernel))?;
    let sum = g.times(&mean, sides.iter().map(|s| s.kernel as f32).product())?;
    Ok(g.power(&sum, 1.0 / p)?.into())
}

/// The root of the sum of powers of each plane.
pub(super) fn global_lp_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let axes: Vec<usize> = (2..g.dims(x).len()).collect();
    Ok(g.norm_of(x, &axes, n.int("p")?.unwrap_or(2) as f32, true)?.into())
}

pub(super) fn global_average_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.global_pool(n.input(0)?, false)?.into())
}

pub(super) fn global_max_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    Ok(g.global_pool(n.input(0)?, true)?.into())
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
