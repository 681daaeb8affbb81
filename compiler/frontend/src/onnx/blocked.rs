//! Constants whose scales change along an axis from block to block.

use super::node::Node;
use crate::error::Refusal;
use crate::shape;
use qc_ir::{HostTensor, indices, strides};

/// The real numbers of `DequantizeLinear` with a `block_size`: `(x - zero) * scale`, where scale and zero point are those of
/// the element's block along `axis`.
///
/// # Errors
/// When scales or zero points are computed by the model, or their shapes do not fit.
pub(super) fn dequantize(n: &Node<'_>, x: &HostTensor, block: i64) -> Result<HostTensor, Refusal> {
    let scale = n.known(1, "the scales")?.ok_or_else(|| Refusal::invalid("it has no scale"))?;
    let scales = scale.as_f32().ok_or_else(|| Refusal::invalid("it has no float scale"))?;
    let zeros = n.known(2, "the zero points")?;
    let block = usize::try_from(block).map_err(|_| Refusal::invalid(format!("block_size is {block}")))?;
    let axis = shape::axis(n.int("axis")?.unwrap_or(1), x.dims().len())?;
    let mut blocks = x.dims().to_vec();
    blocks[axis] = blocks[axis].div_ceil(block);
    let fits = |t: &HostTensor| t.dims() == blocks;
    if !fits(scale) || zeros.is_some_and(|z| !fits(z)) {
        let words =
            format!("scales of the shape {:?} for {:?} in blocks of {block} along axis {axis}", scale.dims(), x.dims());
        return Err(Refusal::invalid(words));
    }
    let steps = strides(&blocks);
    let one = |(i, at): (usize, Vec<usize>)| {
        let of = |(d, &k): (usize, &usize)| if d == axis { k / block * steps[d] } else { k * steps[d] };
        let b: usize = at.iter().enumerate().map(of).sum();
        let number = |t: &HostTensor, i: usize| t.as_f32().map_or_else(|| t.int(i).unwrap_or(0) as f32, |v| v[i]);
        (number(x, i) - zeros.map_or(0.0, |z| number(z, b))) * scales[b]
    };
    Ok(HostTensor::f32(x.dims(), indices(x.dims()).enumerate().map(one).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, bytes, floats, int};

    /// `y = x + w`, w 3 x 2 of 4 bits in blocks of two rows.
    fn model(scales: &[i64]) -> Model {
        let n = scales.iter().product::<i64>() as usize;
        let attrs = [int("axis", 0), int("block_size", 2)];
        Model::new(21, &[3, 2])
            .constant(bytes("c", 22, &[3, 2], &[0x8f, 0x21, 0x70]))
            .constant(floats("s", scales, &[0.5, 1.0, 2.0, 4.0][..n]))
            .constant(bytes("z", 22, scales, &[0xf0, 0x10][..n.div_ceil(2)]))
            .node("DequantizeLinear", "c s z > w", &attrs)
            .node("Add", "x w > y", &[])
    }

    #[test]
    fn a_block_has_its_own_scale_and_zero_point() {
        // Stored: -1 -8 / 1 2 / 0 7; zero points 0 -1 / 0 1.
        assert_eq!(model(&[2, 2]).run(&[0.0; 6]).1, [-0.5, -7.0, 0.5, 3.0, 0.0, 24.0]);
    }

    #[test]
    fn shapes_of_blocks_must_fit() {
        let errors = model(&[1, 2]).import(&Default::default()).unwrap_err();
        assert!(
            errors[0].to_string().contains("scales of the shape [1, 2] for [3, 2] in blocks of 2"),
            "{}",
            errors[0]
        );
    }
}
