//! Paddle ops that reduce along axes, and those that choose by it.

use super::movement::at_least_one_dim;
use super::op::{Lowered, Op};
use crate::emit::{Arith, Between, Beyond, Graph, Relation, Sample, Value, scalar};
use crate::error::Refusal;
use crate::shape;
use qc_dialects::graph::Function;
use qc_ir::Elem;

type Result<T> = std::result::Result<T, Refusal>;

/// Types of results as Paddle numbers them.
fn elem(op: &Op<'_>, name: &str, default: Elem) -> Result<Elem> {
    Ok(match op.int(name)? {
        None | Some(-1) => default,
        Some(0) => Elem::Bool,
        Some(2) => Elem::I32,
        Some(3) => Elem::I64,
        Some(5) => Elem::F32,
        Some(other) => return Err(Refusal::unsupported(format!("results of type number {other}"))),
    })
}

/// A whole number from a tensor of one element, or from an attribute.
fn whole(op: &Op<'_>, slot: &str, attribute: &str) -> Result<Option<i64>> {
    match op.known_number(slot)? {
        Some(number) => Ok(Some(number as i64)),
        None => op.int(attribute),
    }
}

fn place(g: &mut Graph, op: &Op<'_>, largest: bool) -> Result<Lowered> {
    let (mut x, keep) = (op.input("X")?.clone(), op.flag("keepdims", false)?);
    let dims = g.dims(&x);
    let flatten = op.flag("flatten", false)?;
    if flatten {
        x = g.reshape(&x, &[dims.iter().product()])?;
    }
    let given = whole(op, "Axis", "axis")?.unwrap_or(-1);
    let axis = if flatten { 0 } else { shape::axis(given, dims.len())? };
    let place = g.place_of_extreme(largest, &x, axis, false, keep && !flatten)?;
    let own = match (flatten, keep) {
        (true, true) => vec![1; dims.len()],
        _ => at_least_one_dim(op, g.dims(&place)),
    };
    let place = g.reshape(&place, &own)?;
    let to = elem(op, "dtype", Elem::I64)?;
    Ok(g.cast(&place, to)?.into())
}

pub(super) fn arg_max(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    place(g, op, true)
}

pub(super) fn arg_min(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    place(g, op, false)
}

pub(super) fn log_softmax(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axis = shape::axis(op.int("axis")?.unwrap_or(-1), g.dims(x).len())?;
    Ok(g.log_softmax(x, axis)?.into())
}

/// The axes of an op that calls them `axis`.
fn axes(g: &Graph, op: &Op<'_>, x: &Value) -> Result<Vec<usize>> {
    let rank = g.dims(x).len();
    match op.ints("axis")? {
        Some(given) if !given.is_empty() && !op.flag("reduce_all", false)? => shape::axes(&given, rank),
        _ => Ok((0..rank).collect()),
    }
}

pub(super) fn log_sum_exp(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axes = axes(g, op, x)?;
    let value = g.log_sum_exp(x, &axes, op.flag("keepdim", false)?)?;
    let dims = at_least_one_dim(op, g.dims(&value));
    Ok(g.reshape(&value, &dims)?.into())
}

pub(super) fn product(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axes = super::logic::axes(op, g.dims(x).len())?;
    let value = g.reduce_product(x, &axes, op.flag("keep_dim", false)?)?;
    let dims = at_least_one_dim(op, g.dims(&value));
    Ok(Lowered::identity(g.reshape(&value, &dims)?, "it reduces no axis"))
}

/// The root of the sum of the sizes to the power of `porder`.
pub(super) fn p_norm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let rank = g.dims(x).len();
    let p = op.float("porder")?.unwrap_or(2.0);
    if !p.is_finite() || p <= 0.0 {
        return Err(Refusal::unsupported(format!("a norm of order {p}")));
    }
    let axes = match op.flag("asvector", false)? {
        true => (0..rank).collect(),
        false => vec![shape::axis(op.int("axis")?.unwrap_or(-1), rank)?],
    };
    let value = g.norm_of(x, &axes, p, op.flag("keepdim", false)?)?;
    let dims = at_least_one_dim(op, g.dims(&value));
    Ok(g.reshape(&value, &dims)?.into())
}

/// `x / sqrt(sum(x²) + epsilon)` along an axis.
pub(super) fn l2_normalized(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axis = shape::axis(op.int("axis")?.unwrap_or(-1), g.dims(x).len())?;
    let square = g.arith(Arith::Mul, x, x)?;
    let sum = g.reduce_sum(&square, &[axis], true)?;
    let sum = g.plus(&sum, op.float("epsilon")?.unwrap_or(1e-10))?;
    let norm = g.function(Function::Sqrt, &sum)?;
    Ok(g.arith(Arith::Div, x, &norm)?.into())
}

pub(super) fn running_product(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axis = shape::axis(op.int("dim")?.unwrap_or(-1), g.dims(x).len())?;
    let ways = [op.flag("exclusive", false)?, op.flag("reverse", false)?];
    Ok(g.running(x, axis, ways, true)?.into())
}

/// An image at computed places.
pub(super) fn grid_sample(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let between = match op.text("mode")? {
        "" | "bilinear" => Between::Linear,
        "nearest" => Between::Nearest,
        other => return Err(Refusal::invalid(format!("mode is `{other}`"))),
    };
    let beyond = match op.text("padding_mode")? {
        "" | "zeros" => Beyond::Zeros,
        "border" => Beyond::Edge,
        "reflection" => Beyond::Reflection,
        other => return Err(Refusal::invalid(format!("padding_mode is `{other}`"))),
    };
    let sample = Sample { between, beyond, align_corners: op.flag("align_corners", true)? };
    Ok(g.grid_sample(op.input("X")?, op.input("Grid")?, sample)?.into())
}

/// The `k` largest or least numbers along an axis, and their places.
pub(super) fn top_k(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axis = shape::axis(op.int("axis")?.unwrap_or(-1), g.dims(x).len())?;
    let k = usize::try_from(whole(op, "K", "k")?.unwrap_or(1)).unwrap_or(0);
    let [values, places] = g.top_k(x, axis, k, op.flag("largest", true)?)?;
    Ok(Lowered::beside(values, "Indices", places))
}

/// All numbers along an axis in order, and their places.
pub(super) fn arg_sort(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let axis = shape::axis(op.int("axis")?.unwrap_or(-1), g.dims(x).len())?;
    let count = g.dims(x)[axis];
    let [values, places] = g.top_k(x, axis, count, op.flag("descending", false)?)?;
    Ok(Lowered::beside(values, "Indices", places))
}

/// 1 where a class is along a new last axis, else 0; a class outside has no 1.
/// The classes take the place of the last dim, which is 1.
pub(super) fn one_hot_of_column(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = op.input("X")?;
    let dims = g.dims(x);
    let Some((1, rest)) = dims.split_last().map(|(last, rest)| (*last, rest)) else {
        return Err(Refusal::invalid(format!("its input has shape {dims:?}, not [.., 1]")));
    };
    let x = g.reshape(x, rest)?;
    one_hot_of(g, op, &x)
}

pub(super) fn one_hot(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    one_hot_of(g, op, op.input("X")?)
}

fn one_hot_of(g: &mut Graph, op: &Op<'_>, x: &Value) -> Result<Lowered> {
    let depth = whole(op, "depth_tensor", "depth")?.unwrap_or(-1);
    let depth = usize::try_from(depth).ok().filter(|d| (1..=1 << 20).contains(d));
    let depth = depth.ok_or_else(|| Refusal::invalid("its depth is missing or impossible"))?;
    let mut dims = g.dims(x);
    dims.push(1);
    let x = g.reshape(x, &dims)?;
    let classes = g.along(g.elem(&x), dims.len(), dims.len() - 1, depth)?;
    let hit = g.compare(Relation::Equal, &x, &classes)?;
    let to = elem(op, "dtype", Elem::F32)?;
    Ok(g.cast(&hit, to)?.into())
}

pub(super) fn instance_norm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = images(g, op)?;
    let params = [op.optional("Scale"), op.optional("Bias")];
    Ok(g.instance_norm(x, params, op.float("epsilon")?.unwrap_or(1e-5))?.into())
}

pub(super) fn group_norm(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let x = images(g, op)?;
    op.expect_nchw("data_layout")?;
    let groups = usize::try_from(op.int("groups")?.unwrap_or(-1)).unwrap_or(0);
    let params = [op.optional("Scale"), op.optional("Bias")];
    Ok(g.group_norm(x, groups, params, op.float("epsilon")?.unwrap_or(1e-5), false)?.into())
}

fn images<'n>(g: &Graph, op: &'n Op<'_>) -> Result<&'n Value> {
    let x = op.input("X")?;
    match g.dims(x).len() {
        0..3 => Err(Refusal::invalid("its input has no planes")),
        _ => Ok(x),
    }
}

/// What is on one side of a diagonal of matrices becomes 0.
fn triangle(g: &mut Graph, op: &Op<'_>, upper: bool) -> Result<Lowered> {
    let x = op.input("X")?;
    let dims = g.dims(x);
    let rank = dims.len();
    if rank < 2 {
        return Err(Refusal::invalid("its input is no matrix"));
    }
    let (rows, columns) = (g.along(Elem::I64, 2, 0, dims[rank - 2])?, g.along(Elem::I64, 2, 1, dims[rank - 1])?);
    let distance = g.integers(qc_dialects::graph::IntFunction::Sub, &columns, &rows)?;
    let diagonal = g.integer(Elem::I64, op.int("diagonal")?.unwrap_or(0))?;
    let relation = if upper { Relation::GreaterOrEqual } else { Relation::LessOrEqual };
    let mask = g.compare(relation, &distance, &diagonal)?;
    let zero = g.cast(&scalar(0.0), g.elem(x))?;
    Ok(g.select(&mask, x, &zero)?.into())
}

pub(super) fn lower_or_upper(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    let lower = op.flag("lower", true)?;
    triangle(g, op, !lower)
}

pub(super) fn lower(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    triangle(g, op, false)
}

pub(super) fn upper(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    triangle(g, op, true)
}
