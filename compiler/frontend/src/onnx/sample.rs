//! GridSample and AffineGrid: images at computed places, and the places of an affine map.

use super::node::{Lowered, Node};
use crate::emit::{Between, Beyond, Graph, Sample};
use crate::error::Refusal;
use qc_ir::{HostTensor, indices};

pub(super) fn grid_sample(g: &mut Graph, n: &Node<'_>) -> Result<Lowered, Refusal> {
    let between = match n.text("mode")?.unwrap_or("linear") {
        "bilinear" | "linear" => Between::Linear,
        "bicubic" | "cubic" => Between::Cubic,
        "nearest" => Between::Nearest,
        other => return Err(Refusal::invalid(format!("mode is `{other}`"))),
    };
    let beyond = match n.text("padding_mode")?.unwrap_or("zeros") {
        "zeros" => Beyond::Zeros,
        "border" => Beyond::Edge,
        "reflection" => Beyond::Reflection,
        other => return Err(Refusal::invalid(format!("padding_mode is `{other}`"))),
    };
    let sample = Sample { between, beyond, align_corners: n.flag("align_corners", false)? };
    Ok(g.grid_sample(n.input(0)?, n.input(1)?, sample)?.into())
}

/// The most places of a grid that is made at import.
const MAX_PLACES: usize = 1 << 24;

/// The places that affine maps `[N, r, r + 1]` send those of a regular grid to.
pub(super) fn affine_grid(g: &mut Graph, n: &Node<'_>) -> Result<Lowered, Refusal> {
    let theta = n.input(0)?;
    let size = n.known_ints(1, "the sizes")?.unwrap_or_default();
    let dims: Option<Vec<usize>> = size.iter().skip(2).map(|&d| usize::try_from(d).ok().filter(|d| *d > 0)).collect();
    let dims = dims.filter(|d| (2..=3).contains(&d.len()));
    let dims = dims.ok_or_else(|| Refusal::invalid(format!("a grid for the sizes {size:?}")))?;
    let places = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| *n <= MAX_PLACES);
    let places = places.ok_or_else(|| Refusal::unsupported("the grid is too large to be made at import"))?;
    g.charge(4 * places * (dims.len() + 1))?;
    let align = n.flag("align_corners", false)?;
    let one = |i: usize, d: usize| match (align, d) {
        (true, 1) => -1.0,
        (true, d) => -1.0 + i as f32 * (2.0 / (d as f32 - 1.0)),
        (false, d) => -1.0 + 1.0 / d as f32 + i as f32 * (2.0 / d as f32),
    };
    let row = |at: Vec<usize>| {
        let coordinates: Vec<f32> = (0..dims.len()).rev().map(|d| one(at[d], dims[d])).chain([1.0]).collect();
        coordinates
    };
    let regular = HostTensor::f32([places, dims.len() + 1], indices(&dims).flat_map(row).collect());
    let moved = g.matmul(&regular.into(), theta, None, [false, true])?;
    let shape: Vec<usize> = std::iter::once(g.dims(theta)[0]).chain(dims.iter().copied()).chain([dims.len()]).collect();
    Ok(g.reshape(&moved, &shape)?.into())
}
