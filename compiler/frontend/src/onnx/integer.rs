//! Operators on plain integers, whose scales are known only at run time: `MatMulInteger`, `ConvInteger`,
//! `DynamicQuantizeLinear`.
//!
//! A product of u8 with a constant matrix is `graph.integer_matmul`, less the share of the left side's zero point: that point
//! times the sum of each column; a convolution of u8 by constants is `graph.integer_conv2d`, with the zero point as padding.
//! `raise-dynamic` makes one op of either and of the scales that follow in the model.
//!
//! What else such operators can be asked (s8 on the left, a computed right side, a zero point per row, sequences, depthwise
//! convolutions, which have no kernel with sums) is computed as f32, which holds integers exactly: sums that could reach `2^24` are cut into two by the digits of the weights. A sum
//! beyond `2^24` is rounded when the two are added, as the conversion to f32 that follows such an operator rounds it.

use super::nn;
use super::node::{Lower, Lowered, Node};
use crate::emit::{Arith, Conv, Graph, Value};
use crate::error::Refusal;
use qc_dialects::graph::dynamic::LONGEST_INTEGER_SUM;
use qc_dialects::graph::{self, IntFunction};
use qc_ir::{Data, Elem, HostTensor, Quant, Store, attrs};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Refusal>;

/// From here on, f32 does not hold every integer.
const EXACT: usize = 1 << 24;

/// Weights are cut into digits of this base.
const BASE: f32 = 16.0;

/// Input `at` minus its zero point, as f32; the zero point has the shape `zeros` when there are several.
fn centred(g: &mut Graph, n: &Node<'_>, at: usize, zero: usize, zeros: &[usize]) -> Result<Value> {
    let x = n.input(at)?;
    if !matches!(g.elem(x), Elem::U8 | Elem::I8) {
        return Err(Refusal::unsupported("its operands are not uint8 or int8"));
    }
    let real = g.cast(x, Elem::F32)?;
    let Some(zero) = n.optional(zero) else { return Ok(real) };
    let count: usize = g.dims(zero).iter().product();
    let zero = g.cast(zero, Elem::F32)?;
    let zero = match count {
        1 => g.reshape(&zero, &[])?,
        _ => g.reshape(&zero, zeros)?,
    };
    g.arith(Arith::Sub, &real, &zero)
}

/// `float` of `a` and `b`, both whole numbers up to 255, whose sums have `taps` terms.
fn whole(g: &mut Graph, n: &Node<'_>, a: &Value, b: &Value, taps: usize, float: Lower) -> Result<Value> {
    let product = |g: &mut Graph, b: &Value| -> Result<Value> {
        let inputs = vec![Some(a.clone()), Some(b.clone())];
        let node = Node { proto: n.proto, inputs, used: n.used.clone(), opset: n.opset, files: n.files };
        let lowered = float(g, &node)?;
        lowered.values.into_iter().next().ok_or_else(|| Refusal::invalid("it has no result"))
    };
    let known = b.known().and_then(|t| Some((t.as_f32()?, t.dims().to_vec())));
    let largest = known.as_ref().map_or(255, |(w, _)| w.iter().fold(0.0f32, |m, w| m.max(w.abs())) as usize);
    let reach = |largest: usize| taps.saturating_mul(255 * largest.max(1));
    let sum = match known {
        _ if reach(largest) < EXACT => product(g, b)?,
        Some((w, dims)) if reach(BASE as usize) < EXACT => {
            let high: Vec<f32> = w.iter().map(|w| (w / BASE).floor()).collect();
            let low: Vec<f32> = w.iter().zip(&high).map(|(w, h)| w - BASE * h).collect();
            let (high, low) = (HostTensor::f32(dims.clone(), high), HostTensor::f32(dims, low));
            g.charge(8 * high.len())?;
            let (high, low) = (product(g, &Value::from(high))?, product(g, &Value::from(low))?);
            let high = g.times(&high, BASE)?;
            g.arith(Arith::Add, &high, &low)?
        }
        _ => return Err(Refusal::unsupported(format!("sums of {taps} products are beyond what f32 holds exactly"))),
    };
    g.cast(&sum, Elem::I32)
}

pub(super) fn matmul(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    if let Some(sum) = by_matrix(g, n)? {
        return Ok(sum.into());
    }
    let (rows, columns) = (g.dims(n.input(0)?), g.dims(n.input(1)?));
    let last = |d: &[usize], i: usize| d.len().checked_sub(i).map_or(1, |i| d[i]);
    let a = centred(g, n, 0, 2, &[last(&rows, 2), 1])?;
    let b = centred(g, n, 1, 3, &[last(&columns, 1)])?;
    Ok(whole(g, n, &a, &b, last(&rows, 1), nn::matmul)?.into())
}

/// The product of u8 rows with one zero point and a constant matrix; `None` for other products.
fn by_matrix(g: &mut Graph, n: &Node<'_>) -> Result<Option<Value>> {
    let (x, zero) = (n.input(0)?, n.optional(2));
    if g.dims(x).len() < 2 || !has_one_zero(g, x, zero) {
        return Ok(None);
    }
    let Some((weight, sums)) = columns_of(g, n)? else { return Ok(None) };
    if g.dims(x).last() != g.dims(&weight).last() {
        return Err(Refusal::invalid("its operands do not multiply"));
    }
    let product = g.emit(graph::IntegerMatmul::DEF, &[Some(x), Some(&weight)], attrs! {})?;
    less_zero(g, product, zero, &HostTensor::i32([sums.len()], sums).into()).map(Some)
}

/// The sum of a convolution of u8 with one zero point by constants; `None` for other convolutions.
fn by_window(g: &mut Graph, n: &Node<'_>) -> Result<Option<Value>> {
    let (x, w, zero) = (n.input(0)?, n.input(1)?, n.optional(2));
    let (&[_, _, _, _], &[channels, per_group, kh, kw]) = (&g.dims(x)[..], &g.dims(w)[..]) else { return Ok(None) };
    let (sides, groups) = nn::geometry(g, n, x, w)?;
    let [y, z] = sides[..] else { return Ok(None) };
    let geometry = Conv::of([y, z], groups);
    let depthwise = geometry.groups > 1 && per_group == 1;
    if !has_one_zero(g, x, zero) || depthwise || per_group * kh * kw > LONGEST_INTEGER_SUM {
        return Ok(None);
    }
    let (Some(values), Some(zeros)) = (w.known().and_then(small), zeros_of(n, channels)) else { return Ok(None) };
    let (weight, sums) = stored(g, w, &[channels, per_group, kh, kw], values, zeros)?;
    let pad = zero.map(|zero| g.reshape(zero, &[])).transpose()?;
    let product = g.emit(
        graph::IntegerConv2d::DEF,
        &[Some(x), Some(&weight), pad.as_ref()],
        attrs! {
            strides: geometry.strides, pads: geometry.pads, dilations: geometry.dilations, groups: geometry.groups,
        },
    )?;
    less_zero(g, product, zero, &HostTensor::i32([channels, 1, 1], sums).into()).map(Some)
}

/// Whether `x` is computed u8 with at most one zero point.
fn has_one_zero(g: &Graph, x: &Value, zero: Option<&Value>) -> bool {
    let one = |z: &Value| g.dims(z).iter().product::<usize>() == 1 && g.elem(z) == Elem::U8;
    x.known().is_none() && g.elem(x) == Elem::U8 && zero.is_none_or(one)
}

/// The constant zero points of a right side with so many columns: one, or one for each.
fn zeros_of(n: &Node<'_>, columns: usize) -> Option<Vec<i32>> {
    let zeros = n.optional(3).map_or(Some(vec![0]), |zeros| zeros.known().and_then(small))?;
    [1, columns].contains(&zeros.len()).then_some(zeros)
}

/// `product` less the share of a zero point of the left side, `sums` being those of the columns of the right one.
fn less_zero(g: &mut Graph, product: Value, zero: Option<&Value>, sums: &Value) -> Result<Value> {
    let Some(zero) = zero else { return Ok(product) };
    let zero = g.reshape(zero, &[])?;
    let zero = g.cast(&zero, Elem::I32)?;
    let share = g.integers(IntFunction::Mul, &zero, sums)?;
    g.integers(IntFunction::Sub, &product, &share)
}

/// A constant right side as `[n, k]`, with the sum of each column less its zero point; `None` where it is none or sums could
/// overflow.
fn columns_of(g: &mut Graph, n: &Node<'_>) -> Result<Option<(Value, Vec<i32>)>> {
    let b = n.input(1)?;
    let &[k, columns] = &g.dims(b)[..] else { return Ok(None) };
    let (Some(values), Some(zeros)) = (b.known().and_then(small), zeros_of(n, columns)) else { return Ok(None) };
    if k == 0 || k > LONGEST_INTEGER_SUM {
        return Ok(None);
    }
    let turned = (0..values.len()).map(|i| values[i % k * columns + i / k]).collect();
    stored(g, b, &[columns, k], turned, zeros).map(Some)
}

/// The integers `values` of the constant `like` as a weight of `dims`, output channels first, and the sum of each of these
/// less its zero point.
fn stored(g: &mut Graph, like: &Value, dims: &[usize], values: Vec<i32>, zeros: Vec<i32>) -> Result<(Value, Vec<i32>)> {
    g.charge(2 * values.len())?;
    let (channels, taps) = (dims[0], dims[1..].iter().product::<usize>());
    let zero = |c: usize| zeros[if zeros.len() == 1 { 0 } else { c }];
    let sums = values.chunks(taps.max(1)).enumerate().map(|(c, row)| row.iter().map(|w| w - zero(c)).sum()).collect();
    let (store, data) = match g.elem(like) {
        Elem::I8 => (Store::I8, Data::I8(values.iter().map(|&v| v as i8).collect())),
        _ => (Store::U8, Data::U8(values.iter().map(|&v| v as u8).collect())),
    };
    let (lo, hi) = store.bounds();
    let (axis, scales) = if zeros.len() == 1 { (None, vec![1.0]) } else { (Some(0), vec![1.0; channels]) };
    let format = Quant { store, axis, scales: scales.into(), zeros: zeros.into(), lo, hi };
    let tensor = HostTensor::new(dims, data).ok_or_else(|| Refusal::invalid("its weight has no matrix"))?;
    let name = like.name().unwrap_or("weight").to_string();
    Ok((g.quant_constant(&name, Arc::new(tensor), format)?, sums))
}

/// The integers of a tensor of u8 or s8.
fn small(t: &HostTensor) -> Option<Vec<i32>> {
    match t.data() {
        Data::U8(v) => Some(v.iter().map(|&x| i32::from(x)).collect()),
        Data::I8(v) => Some(v.iter().map(|&x| i32::from(x)).collect()),
        _ => None,
    }
}

pub(super) fn conv(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    if let Some(sum) = by_window(g, n)? {
        return Ok(sum.into());
    }
    let dims = g.dims(n.input(1)?);
    let [o, rest @ ..] = &dims[..] else { return Err(Refusal::invalid("its weight is one number")) };
    let column = [&[*o], &vec![1; rest.len()][..]].concat();
    let (x, w) = (centred(g, n, 0, 2, &[])?, centred(g, n, 1, 3, &column)?);
    Ok(whole(g, n, &x, &w, rest.iter().product(), nn::conv)?.into())
}

/// What is quantized, its scale and its zero point.
pub(super) fn dynamic_quantize(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let defs = [graph::DynamicQuantize::DEF, graph::DynamicScale::DEF, graph::DynamicZero::DEF];
    let [y, scale, zero] = defs.map(|def| g.emit_f32(def, &[Some(x)], attrs! {}));
    Ok(Lowered::many(vec![y?, scale?, zero?]))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, bytes, floats, int, ints};

    /// `x` in the format of its range as `q` with `scale` and `zero`: of -1..3, 0.5 is 32 steps above 64.
    fn measured(x: &[i64]) -> Model {
        Model::new(13, x).node("DynamicQuantizeLinear", "x > q scale zero", &[])
    }

    fn as_float(m: Model) -> Model {
        m.node("Cast", "sum > y", &[int("to", 1)])
    }

    const X: [f32; 4] = [-1.0, 3.0, 0.5, -0.5];

    #[test]
    fn a_matrix_has_a_zero_point_per_column() {
        let m = measured(&[2, 2]).constant(bytes("w", 2, &[2, 3], &[1, 2, 3, 4, 5, 6])).constant(bytes(
            "zeros",
            2,
            &[3],
            &[0, 1, 10],
        ));
        let m = as_float(m.node("MatMulInteger", "q w zero zeros > sum", &[]));
        // Rows of -64, 191 and 32, -32 by columns of 1, 4; 1, 4; -7, -4.
        assert_eq!(m.run(&X).1, [700.0, 700.0, -316.0, -96.0, -96.0, -96.0]);
        assert!(m.dump().contains("graph.integer_matmul"));
    }

    #[test]
    fn without_zero_points_stored_integers_are_multiplied() {
        let m = measured(&[2, 2]).constant(bytes("w", 3, &[2, 1], &[1, -1]));
        let m = as_float(m.node("MatMulInteger", "q w > sum", &[]));
        assert_eq!(m.run(&X).1, [-255.0, 64.0]);
        assert!(m.dump().contains("graph.integer_matmul"));
    }

    #[test]
    fn other_products_are_those_of_floats() {
        let m = measured(&[2, 2]).constant(bytes("zeros", 2, &[2], &[1, 2]));
        let computed = as_float(m.node("MatMulInteger", "q q zero zero > sum", &[]));
        let rows = |a: f32, b: f32| [a * -64.0 + b * 32.0, a * 191.0 + b * -32.0];
        assert_eq!(computed.run(&X).1, [rows(-64.0, 191.0), rows(32.0, -32.0)].concat());
        assert!(!computed.dump().contains("graph.integer_matmul"));
        let vector = measured(&[4]).constant(bytes("w", 3, &[4, 1], &[1, 1, 1, 1]));
        assert_eq!(as_float(vector.node("MatMulInteger", "q w zero > sum", &[])).run(&X).1, [127.0]);
    }

    #[test]
    fn windows_reach_over_the_zero_point() {
        let m = measured(&[1, 1, 2, 2]).constant(bytes("w", 2, &[1, 1, 2, 2], &[11, 12, 13, 10])).constant(bytes(
            "ten",
            2,
            &[],
            &[10],
        ));
        let m = as_float(m.node("ConvInteger", "q w zero ten > sum", &[ints("pads", &[1, 1, 0, 0])]));
        assert_eq!(m.run(&X).1, [0.0, -192.0, -128.0, 414.0]);
        assert!(m.dump().contains("graph.integer_conv2d"));
    }

    #[test]
    fn depthwise_windows_are_those_of_floats() {
        let m = measured(&[1, 2, 1, 2]).constant(bytes("w", 3, &[2, 1, 1, 1], &[1, 2]));
        let m = as_float(m.node("ConvInteger", "q w zero > sum", &[int("group", 2)]));
        assert_eq!(m.run(&X).1, [-64.0, 191.0, 64.0, -64.0]);
        assert!(!m.dump().contains("graph.integer_conv2d"));
    }

    #[test]
    fn fused_products_are_the_same_ops() {
        let m = Model::new(13, &[2, 2])
            .constant(bytes("w", 3, &[2, 1], &[1, -1]))
            .constant(floats("ws", &[], &[0.5]))
            .constant(floats("b", &[1], &[1.0]))
            .node("DynamicQuantizeMatMul", "x w ws _ b > y", &[])
            .of_domain("com.microsoft");
        assert!(m.dump().contains("graph.integer_matmul"));
        let scale = 4.0f32 / 255.0 * 0.5;
        assert_eq!(m.run(&X).1, [-255.0 * scale + 1.0, 64.0 * scale + 1.0]);
    }
}
