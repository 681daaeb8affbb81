//! Steps through integers in formats that are found in a run.

use super::build::{Graph, MAX_ELEMENTS, MAX_MACS};
use super::numbers::Numbers;
use qc_dialects::graph::{
    Add, Cast, DynamicQuantize, DynamicScale, DynamicZero, IntBinary, IntegerConv2d, IntegerMatmul, Mul, Relu,
};
use qc_ir::{Attrs, Data, Elem, HostTensor, Quant, Store, TensorTy, Type, ValueId};

fn cast(g: &mut Graph, x: ValueId, to: Elem) -> ValueId {
    g.op(Cast::DEF, &[x], Attrs::new().with("to", Type::Scalar(to)))
}

/// Constant integers, output channels first, with zero points of these or one, and the sum of each channel less its zero
/// point, under the dims `of_sums`.
fn weight(g: &mut Graph, dims: &[usize], of_sums: &[usize], p: u32) -> (ValueId, ValueId) {
    let (n, k) = (dims[0], dims[1..].iter().product::<usize>());
    let mut draw = Numbers::new(u64::from(p));
    let store = if p.is_multiple_of(3) { Store::U8 } else { Store::I8 };
    let (lo, hi) = store.bounds();
    let value = |draw: &mut Numbers| lo + draw.below((hi - lo) as usize + 1) as i32;
    let values: Vec<i32> = (0..n * k).map(|_| value(&mut draw)).collect();
    let own = (p / 3).is_multiple_of(3);
    let near = |draw: &mut Numbers| if store == Store::U8 { value(draw) } else { 0 };
    let zeros: Vec<i32> = (0..if own { n } else { 1 }).map(|_| near(&mut draw)).collect();
    let zero = |c: usize| zeros[c % zeros.len()];
    let sums = (0..n).map(|c| values[c * k..][..k].iter().map(|w| w - zero(c)).sum::<i32>()).collect();
    let sums = g.constant(TensorTy::new(Elem::I32, of_sums), HostTensor::i32(of_sums, sums));
    let data = match store {
        Store::U8 => Data::U8(values.iter().map(|&v| v as u8).collect()),
        _ => Data::I8(values.iter().map(|&v| v as i8).collect()),
    };
    let (axis, scales) = if own { (Some(0), vec![1.0; n]) } else { (None, vec![1.0]) };
    let format = g.m.intern_quant(Quant { store, axis, scales: scales.into(), zeros: zeros.into(), lo, hi });
    let tensor = HostTensor::new(dims, data).expect("invariant: one value per element");
    (g.constant(TensorTy::new(Elem::Quant(format), dims), tensor), sums)
}

/// A product with a constant matrix in the format of the whole batch, as quantizers write it or nearly so.
pub fn product(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let k = *g.m.dims(x).last()?;
    let rows = g.elements(x) / k.max(1);
    let room = (MAX_MACS / (rows * k).max(1)).min(MAX_ELEMENTS / rows.max(1)).max(1);
    let n = [1, 3, 16, 17, 40, 65][p[0] as usize % 6].min(room);
    let (weight, sums) = weight(g, &[n, k], &[n], p[1]);
    let q = g.op(DynamicQuantize::DEF, &[x], Attrs::new());
    let sum = g.op(IntegerMatmul::DEF, &[q, weight], Attrs::new());
    Some(scaled(g, x, sum, sums, &[n], p))
}

/// A convolution in the format of the whole batch.
pub fn conv(g: &mut Graph, x: ValueId, p: &[u32]) -> Option<ValueId> {
    let [_, c, h, w] = g.plane(x)?;
    let kernel = if h >= 3 && w >= 3 && !p[0].is_multiple_of(3) { 3 } else { 1 };
    let groups = if c % 2 == 0 && c > 2 && p[8].is_multiple_of(4) { 2 } else { 1 };
    let taps = c / groups * kernel * kernel;
    let room = (MAX_MACS / (h * w * taps).max(1)).min(MAX_ELEMENTS / (h * w).max(1)).max(1);
    let n = groups * [1, 3, 16, 17][p[0] as usize / 3 % 4].min(room / groups).max(1);
    (n * h * w <= MAX_ELEMENTS).then_some(())?;
    let (weight, sums) = weight(g, &[n, c / groups, kernel, kernel], &[n, 1, 1], p[1]);
    let q = g.op(DynamicQuantize::DEF, &[x], Attrs::new());
    let zero = g.op(DynamicZero::DEF, &[x], Attrs::new());
    let pad = i64::from(kernel == 3 && p[8] % 8 < 6);
    let mut attrs = Attrs::new().with("pads", [pad; 4]).with("groups", groups);
    if kernel == 3 && (p[8] / 8).is_multiple_of(3) {
        attrs.set("strides", [2i64, 2].into());
    }
    let operands = if (p[8] / 32).is_multiple_of(5) { vec![q, weight] } else { vec![q, weight, zero] };
    let sum = g.op(IntegerConv2d::DEF, &operands, attrs);
    Some(scaled(g, x, sum, sums, &[n, 1, 1], p))
}

/// Integer sums in real numbers, as quantizers write that or nearly so; `of_channels` are the dims of one number per channel.
fn scaled(g: &mut Graph, x: ValueId, mut sum: ValueId, sums: ValueId, of_channels: &[usize], p: &[u32]) -> ValueId {
    let n: usize = of_channels.iter().product();
    if !p[2].is_multiple_of(5) {
        let zero = g.op(DynamicZero::DEF, &[x], Attrs::new());
        let zero = cast(g, zero, Elem::I32);
        let share = g.op(IntBinary::DEF, &[zero, sums], Attrs::new().with("op", "mul"));
        sum = g.op(IntBinary::DEF, &[sum, share], Attrs::new().with("op", "sub"));
    }
    let real = cast(g, sum, Elem::F32);
    let scale = g.op(DynamicScale::DEF, &[x], Attrs::new());
    let of_columns = p[3].is_multiple_of(2);
    let mut draw = Numbers::new(u64::from(p[4]));
    let own = draw.floats(if of_columns { n } else { 1 }, 0.005).into_iter().map(|s| s.abs() + 1e-4).collect();
    let own = if of_columns { g.floats(of_channels, own) } else { g.floats(&[], own) };
    let mut y = if p[5].is_multiple_of(4) {
        let scaled = g.op(Mul::DEF, &[real, scale], Attrs::new());
        g.op(Mul::DEF, &[scaled, own], Attrs::new())
    } else {
        let both = g.op(Mul::DEF, &[scale, own], Attrs::new());
        g.op(Mul::DEF, &[real, both], Attrs::new())
    };
    if p[6].is_multiple_of(2) {
        let bias = g.floats(of_channels, draw.floats(n, 0.5));
        y = g.op(Add::DEF, &[y, bias], Attrs::new());
    }
    if p[7].is_multiple_of(3) { g.op(Relu::DEF, &[y], Attrs::new()) } else { y }
}
