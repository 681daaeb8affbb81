//! Paddle ops of neural networks: convolution, products, pooling, normalisation.

use super::elementwise::binary;
use super::movement::at_least_one_dim;
use super::op::{Lowered, Op, VERSION_2};
use crate::emit::{Arith, Count, Graph, Norm, Pooling, Value};
use crate::error::Refusal;
use crate::shape::{self, Side, checked_pads, per_dim};
use qc_dialects::graph::activation::Function;

type Result<T> = std::result::Result<T, Refusal>;

/// An operand with its channels behind the batch, whatever the layout that `attr` names; and whether they are there by a move.
fn channels_first(g: &mut Graph, op: &Op<'_>, x: &Value, attr: &str) -> Result<(Value, bool)> {
    let (rank, layout) = (g.dims(x).len(), op.text(attr)?);
    match layout {
        "" | "NCHW" | "AnyLayout" | "NCDHW" | "NCL" => Ok((x.clone(), false)),
        "NHWC" | "NDHWC" | "NLC" if rank > 2 => {
            let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
            Ok((g.transpose(x, &perm)?, true))
        }
        other => Err(Refusal::invalid(format!("its data is in the layout {other}"))),
    }
}

/// A result with its channels behind, if the operand had them there.
fn channels_back(g: &mut Graph, y: &Value, were_behind: bool) -> Result<Value> {
    if !were_behind {
        return Ok(y.clone());
    }
    let rank = g.dims(y).len();
    let perm: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    g.transpose(y, &perm)
}

/// The window of a convolution or pool over `x`, with its pads.
fn sides(g: &Graph, op: &Op<'_>, x: &Value, kernel: &[i64]) -> Result<Vec<Side>> {
    let dims = g.dims(x);
    let Some(input) = dims.get(2..).filter(|input| input.len() == kernel.len() && !input.is_empty()) else {
        return Err(Refusal::invalid(format!("a window {kernel:?} over an input of shape {dims:?}")));
    };
    let count = kernel.len();
    let list = |name| op.ints(name)?.filter(|v| !v.is_empty()).map_or(Ok(vec![1; count]), |v| per_dim(name, &v, count));
    let (strides, dilations) = (list("strides")?, list("dilations")?);
    let algorithm = op.text("padding_algorithm")?;
    let given = op.ints("paddings")?.filter(|_| !matches!(algorithm, "SAME" | "VALID")).unwrap_or_default();
    let pads = |d: usize| match given.len() {
        0 => Ok([0, 0]),
        n if n == count => Ok([given[d]; 2]),
        n if n == 2 * count => Ok([given[2 * d], given[2 * d + 1]]),
        n => Err(Refusal::invalid(format!("{n} paddings for a window of {count} dims"))),
    };
    let side = |d: usize| {
        let (kernel, stride, pads) = (kernel[d], strides[d], pads(d)?);
        match algorithm {
            // Paddle drops the dilation here.
            "SAME" => Ok(Side { input: input[d], kernel, stride, dilation: 1, pads }.checked()?.same(false)),
            _ => Side { input: input[d], kernel, stride, dilation: dilations[d], pads }.checked(),
        }
    };
    (0..count).map(side).collect()
}

fn kernel_of(g: &Graph, w: &Value) -> Vec<i64> {
    g.dims(w).iter().skip(2).map(|&k| k as i64).collect()
}

pub(super) fn conv(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, were_behind) = channels_first(g, op, op.input("Input")?, "data_format")?;
    let w = op.input("Filter")?;
    let sides = sides(g, op, &x, &kernel_of(g, w))?;
    let groups = op.int("groups")?.unwrap_or(1).max(1);
    let value = g.conv(&x, w, op.optional("Bias"), &sides, groups)?;
    let mut value = channels_back(g, &value, were_behind)?;
    if let Some(residual) = op.optional("ResidualData") {
        value = g.arith(Arith::Add, &value, residual)?;
    }
    Ok(fused_activation(g, op, value)?.into())
}

/// The size of the result is what the pads leave, or given. Programs of version 1 have no output padding.
pub(super) fn conv_transpose(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, were_behind) = channels_first(g, op, op.input("Input")?, "data_format")?;
    let w = op.input("Filter")?;
    let sides = sides(g, op, &x, &kernel_of(g, w))?;
    let list = |name: &str, v: Option<Vec<i64>>| {
        v.filter(|v| !v.is_empty()).map(|v| per_dim(name, &v, sides.len())).transpose()
    };
    let more = list("output_padding", op.ints("output_padding")?)?.filter(|_| op.version >= VERSION_2);
    let more = more.unwrap_or_else(|| vec![0; sides.len()]);
    checked_pads(&more)?;
    let given = list("output_size", op.ints_from("OutputSizeTensor", "OutputSizeTensorList", "output_size")?)?;
    let size = |(s, more): (&Side, &i64)| s.spread() - s.pads[0] - s.pads[1] + more;
    let output = given.unwrap_or_else(|| sides.iter().zip(&more).map(size).collect());
    let groups = op.int("groups")?.unwrap_or(1).max(1);
    let value = g.conv_transposed([&x, w], op.optional("Bias"), &sides, &output, groups)?;
    let value = channels_back(g, &value, were_behind)?;
    Ok(fused_activation(g, op, value)?.into())
}

/// The activation that an optimised program keeps inside an op, and the factor behind it.
pub(super) fn fused_activation(g: &mut Graph, op: &Op<'_>, value: Value) -> Result<Value> {
    let activated = activation_inside(g, op, value)?;
    g.times(&activated, op.float("fused_output_scale")?.unwrap_or(1.0))
}

fn activation_inside(g: &mut Graph, op: &Op<'_>, value: Value) -> Result<Value> {
    let limit = |name| Ok::<f32, Refusal>(op.float(name)?.unwrap_or(6.0));
    let (alpha, beta) = (op.float("fuse_alpha")?.unwrap_or(0.0), op.float("fuse_beta")?.unwrap_or(0.0));
    match op.text("fuse_activation")? {
        "relu" => return g.relu(&value),
        // Programs of version 1 have the bound where later ones have 0, which is below it.
        "relu6" if beta > alpha => return g.clip(&value, alpha, beta),
        "relu6" => return g.clip(&value, 0.0, limit("fuse_alpha")?),
        "clip" => return g.clip(&value, alpha, beta),
        "leaky_relu" => return g.function(Function::LeakyRelu { alpha }, &value),
        "hard_sigmoid" => return g.function(Function::HardSigmoid { alpha, beta }, &value),
        "hard_swish" if alpha > 0.0 => {
            let (offset, threshold) = (beta / alpha, 1.0 / alpha);
            return g.function(Function::HardSwish { offset, threshold, scale: threshold }, &value);
        }
        "swish" => {
            let beta = op.float("fuse_alpha")?.unwrap_or(1.0);
            return g.function(Function::Swish { beta }, &value);
        }
        "mish" => return g.function(Function::Mish, &value),
        "abs" => return g.function(Function::Abs, &value),
        "sqrt" => return g.function(Function::Sqrt, &value),
        "gelu" | "gelu_erf" => return g.function(Function::Gelu { tanh: false }, &value),
        "gelu_tanh" => return g.function(Function::Gelu { tanh: true }, &value),
        "tanh" => return g.function(Function::Tanh, &value),
        "sigmoid" => return g.function(Function::Sigmoid, &value),
        "" => {}
        other => return Err(Refusal::unsupported(format!("the fused activation `{other}` is not supported"))),
    }
    if op.flag("fuse_brelu", false)? {
        return g.clip(&value, 0.0, limit("fuse_brelu_threshold")?);
    }
    if op.flag("fuse_relu", false)? { g.relu(&value) } else { Ok(value) }
}

/// `x` as a matrix of its first `columns` dims against the rest.
fn flattened(g: &mut Graph, x: &Value, columns: i64) -> Result<(Value, Vec<usize>)> {
    let dims = g.dims(x);
    let at = usize::try_from(columns).ok().filter(|&c| c > 0 && c < dims.len());
    let at =
        at.ok_or_else(|| Refusal::invalid(format!("num_col_dims is {columns} for an operand of shape {dims:?}")))?;
    Ok((g.reshape(x, &shape::two_d(&dims, at))?, dims))
}

/// The product of two flattened operands: dims of `x` in front, of `y` behind.
fn product(g: &mut Graph, x: (&Value, i64), y: (&Value, i64), bias: Option<&Value>) -> Result<Value> {
    let (a, dx) = flattened(g, x.0, x.1)?;
    let (b, dy) = flattened(g, y.0, y.1)?;
    let out = g.matmul(&a, &b, bias, [false, false])?;
    let dims = [&dx[..x.1 as usize], &dy[y.1 as usize..]].concat();
    g.reshape(&out, &dims)
}

pub(super) fn mul(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (xn, yn) = (op.int("x_num_col_dims")?.unwrap_or(1), op.int("y_num_col_dims")?.unwrap_or(1));
    Ok(product(g, (op.input("X")?, xn), (op.input("Y")?, yn), None)?.into())
}

pub(super) fn fc(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    if op.flag("padding_weights", false)? {
        return Err(Refusal::unsupported("padded weights are not supported").remedy("save the program unoptimised"));
    }
    Ok(fully_connected(g, op, ["Input", "W", "Bias"], "in_num_col_dims")?.into())
}

/// A flattened product with a bias, through an activation; the slots of input, weight and bias, and the attribute that says
/// how many dims of the input are rows.
pub(super) fn fully_connected(g: &mut Graph, op: &Op<'_>, slots: [&str; 3], rows: &str) -> Result<Value> {
    let w = op.input(slots[1])?;
    let columns = g.dims(w).last().copied().unwrap_or(0);
    let bias = op.optional(slots[2]).map(|b| g.reshape(b, &[columns])).transpose()?;
    let xn = op.int(rows)?.unwrap_or(1);
    let value = product(g, (op.input(slots[0])?, xn), (w, 1), bias.as_ref())?;
    match op.text("activation_type")? {
        "relu" => g.relu(&value),
        "gelu" => g.function(Function::Gelu { tanh: false }, &value),
        "" => fused_activation(g, op, value),
        other => Err(Refusal::unsupported(format!("the fused activation `{other}` is not supported"))),
    }
}

/// An operand of a product as an optimised program keeps it: reshaped, then transposed, if `fused_reshape_X` and
/// `fused_transpose_X` say so.
fn fused_operand(g: &mut Graph, op: &Op<'_>, slot: &str) -> Result<Value> {
    let mut x = op.input(slot)?.clone();
    if let Some(target) = op.ints(&format!("fused_reshape_{slot}"))?.filter(|v| !v.is_empty()) {
        let dims = shape::reshape(&g.dims(&x), &target, false)?;
        x = g.reshape(&x, &dims)?;
    }
    fused_transpose(g, op, &x, &format!("fused_transpose_{slot}"))
}

fn fused_transpose(g: &mut Graph, op: &Op<'_>, x: &Value, name: &str) -> Result<Value> {
    let Some(perm) = op.ints(name)?.filter(|v| !v.is_empty()) else { return Ok(x.clone()) };
    let rank = g.dims(x).len();
    let perm = perm.iter().map(|&p| shape::axis(p, rank)).collect::<Result<Vec<_>>>()?;
    g.transpose(x, &perm)
}

/// A product, and what optimised programs keep in it: a factor, an addend, an activation, another shape.
fn general_matmul(g: &mut Graph, op: &Op<'_>, flags: [&str; 2], alpha: &str) -> Result<Lowered> {
    if op.int("head_number")?.unwrap_or(1) != 1 {
        return Err(
            Refusal::unsupported("a product of several heads is not supported").remedy("save the program unoptimised")
        );
    }
    let flags = [op.flag(flags[0], false)?, op.flag(flags[1], false)?];
    let (x, y) = (fused_operand(g, op, "X")?, fused_operand(g, op, "Y")?);
    let out = g.matmul(&x, &y, None, flags)?;
    let dims = at_least_one_dim(op, g.dims(&out));
    let out = g.reshape(&out, &dims)?;
    let mut out = g.times(&out, op.float(alpha)?.unwrap_or(1.0))?;
    if let Some(residual) = op.optional("ResidualData") {
        out = g.arith(Arith::Add, &out, residual)?;
    }
    out = fused_activation(g, op, out)?;
    out = fused_transpose(g, op, &out, "fused_transpose_Out")?;
    if let Some(target) = op.ints("fused_reshape_Out")?.filter(|v| !v.is_empty()) {
        let dims = shape::reshape(&g.dims(&out), &target, false)?;
        out = g.reshape(&out, &dims)?;
    }
    Ok(out.into())
}

pub(super) fn matmul(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    general_matmul(g, op, ["transpose_X", "transpose_Y"], "alpha")
}

pub(super) fn matmul_v2(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    general_matmul(g, op, ["trans_x", "trans_y"], "alpha")
}

pub(super) fn fused_matmul(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    general_matmul(g, op, ["trans_x", "trans_y"], "matmul_alpha")
}

pub(super) fn batch_norm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    op.expect_nchw("data_layout")?;
    let params = [op.input("Scale")?, op.input("Bias")?, op.input("Mean")?, op.input("Variance")?];
    let epsilon = op.float("epsilon")?.unwrap_or(1e-5);
    let value = g.batch_norm(op.input("X")?, params, epsilon)?;
    let value = if op.flag("fuse_with_relu", false)? { g.relu(&value)? } else { value };
    Ok(value.into())
}

/// A norm over the dims from `begin_norm_axis` on, which Scale and Bias have as one. Mean and variance have one number per
/// row.
pub(super) fn layer_norm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let dims = g.dims(x);
    let begin = op.int("begin_norm_axis")?.unwrap_or(1);
    let axis = usize::try_from(begin).ok().filter(|axis| (1..dims.len()).contains(axis));
    let axis =
        axis.ok_or_else(|| Refusal::invalid(format!("begin_norm_axis is {begin} for an input of shape {dims:?}")))?;
    let mut shaped = |slot: &str| op.optional(slot).map(|v| g.reshape(v, &dims[axis..])).transpose();
    let (scale, bias) = (shaped("Scale")?, shaped("Bias")?);
    let norm = Norm { axis, epsilon: op.float("epsilon")?.unwrap_or(1e-5), rms: false };
    let mut lowered = Lowered::from(g.layer_norm(x, [scale.as_ref(), bias.as_ref()], &norm)?);
    let rows = [dims[..axis].iter().product()];
    if op.is_read("Mean") {
        let mean = g.reduce_mean(x, &(axis..dims.len()).collect::<Vec<_>>(), true)?;
        lowered.extra.push(("Mean", g.reshape(&mean, &rows)?.into()));
    }
    if op.is_read("Variance") {
        let variance = g.variance(x, &norm)?;
        lowered.extra.push(("Variance", g.reshape(&variance, &rows)?.into()));
    }
    Ok(lowered)
}

pub(super) fn affine_channel(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    op.expect_nchw("data_layout")?;
    let scaled = binary(g, Arith::Mul, op.input("X")?, op.input("Scale")?, 1)?;
    Ok(binary(g, Arith::Add, &scaled, op.input("Bias")?, 1)?.into())
}

pub(super) fn pool(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let (x, were_behind) = channels_first(g, op, op.input("X")?, "data_format")?;
    let is_max = match op.text("pooling_type")? {
        "avg" => false,
        "max" => true,
        other => return Err(Refusal::invalid(format!("pooling_type is `{other}`"))),
    };
    let value = pooled(g, op, &x, is_max)?;
    Ok(channels_back(g, &value, were_behind)?.into())
}

/// A maximum pool whose second result, the places of the maxima, nothing may read.
pub(super) fn max_pool_with_index(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    if op.is_read("Mask") {
        return Err(Refusal::unsupported("its output `Mask` is used"));
    }
    Ok(pooled(g, op, op.input("X")?, true)?.into())
}

fn pooled(g: &mut Graph, op: &Op<'_>, x: &Value, is_max: bool) -> Result<Value> {
    let kernel = op.ints_from("KernelSize", "", "ksize")?.ok_or_else(|| Refusal::invalid("it has no ksize"))?;
    let kernel = per_dim("ksize", &kernel, g.dims(x).len().saturating_sub(2))?;
    let adaptive = op.flag("adaptive", false)?;
    if op.flag("global_pooling", false)? || (adaptive && kernel.iter().all(|&k| k == 1)) {
        return g.global_pool(x, is_max);
    }
    if adaptive && (!is_max || op.desc.r#type.ends_with("_with_index")) {
        return g.adaptive_pool(x, &kernel, is_max);
    }
    if adaptive {
        return first_windows(g, op, x, &kernel);
    }
    let ceil_mode = op.flag("ceil_mode", false)?;
    let mut sides = sides(g, op, x, &kernel)?;
    let front: Vec<i64> = sides.iter().map(|s| s.pads[0]).collect();
    for s in sides.iter_mut().filter(|_| ceil_mode) {
        let room = s.input as i64 + s.pads[0] + s.pads[1] - s.kernel;
        // The size formula of Paddle rounds towards 0, so there is one window where less than two strides are missing.
        if room < 0 && room + s.stride - 1 > -s.stride {
            s.pads[1] -= room;
        }
    }
    let pooling = match (is_max, op.flag("exclusive", true)?) {
        (true, _) => Pooling::Max,
        (false, true) => Pooling::Average(Count::Exclusive),
        // Windows are cut at the size of the leading pads on both sides.
        (false, false) if op.version >= VERSION_2 => Pooling::Within(front),
        (false, false) => Pooling::Average(Count::Kernel),
    };
    g.pool(x, &sides, ceil_mode, &pooling)
}

/// The plain op has no adaptive maximum: it has as many results, but takes the windows that its attributes say, unpadded.
fn first_windows(g: &mut Graph, op: &Op<'_>, x: &Value, kernel: &[i64]) -> Result<Value> {
    let mut sides = sides(g, op, x, kernel)?;
    sides.iter_mut().for_each(|s| s.pads = [0, 0]);
    let mut value = g.pool(x, &sides, false, &Pooling::Max)?;
    for (axis, &count) in kernel.iter().enumerate().map(|(d, k)| (d + 2, k)) {
        let (dims, count) = (g.dims(&value), usize::try_from(count).unwrap_or(0));
        if count > dims[axis] {
            let reason = format!("an adaptive maximum of {count} windows, of which there are {}", dims[axis]);
            return Err(Refusal::unsupported(reason).remedy("export the model with max_pool2d_with_index"));
        }
        value = g.narrow(&value, axis, 0, count)?;
    }
    Ok(value)
}

pub(super) fn softmax(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axis = shape::axis(op.int("axis")?.unwrap_or(-1), g.dims(x).len())?;
    Ok(g.softmax(x, axis)?.into())
}

/// Paddle does not divide alpha by the window size.
pub(super) fn lrn(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    op.expect_nchw("data_format")?;
    let size = op.int("n")?.unwrap_or(5);
    let float = |name, default| Ok(op.float(name)?.unwrap_or(default));
    let (alpha, beta, k) = (float("alpha", 1e-4)?, float("beta", 0.75)?, float("k", 2.0)?);
    Ok(g.lrn(op.input("X")?, size, alpha, beta, k)?.into())
}

pub(super) fn reduce_mean(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axes = super::logic::axes(op, g.dims(x).len())?;
    let value = g.reduce_mean(x, &axes, op.flag("keep_dim", false)?)?;
    let dims = at_least_one_dim(op, g.dims(&value));
    Ok(Lowered::identity(g.reshape(&value, &dims)?, "it reduces no axis"))
}

pub(super) fn mean(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let all: Vec<usize> = (0..g.dims(x).len()).collect();
    let value = g.reduce_mean(x, &all, false)?;
    let dims = at_least_one_dim(op, g.dims(&value));
    Ok(Lowered::identity(g.reshape(&value, &dims)?, "it reduces no axis"))
}
