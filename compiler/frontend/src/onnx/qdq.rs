//! `QuantizeLinear` and `DequantizeLinear`: one to one, with scales and zero points moved into the type. What they are
//! made of serves the operators on quantized tensors as well.

use super::blocked;
use super::node::{Lowered, Node};
use super::tensor;
use crate::emit::{Arith, Graph, Value, scalar};
use crate::error::Refusal;
use crate::shape;
use qc_dialects::graph::{self, quantize};
use qc_ir::{Data, Elem, HostTensor, Quant, Store, attrs};

type Result<T> = std::result::Result<T, Refusal>;

/// The store behind an element type.
fn store_of(elem: Elem) -> Option<Store> {
    match elem {
        Elem::U8 => Some(Store::U8),
        Elem::I8 => Some(Store::I8),
        Elem::I32 => Some(Store::I32),
        _ => None,
    }
}

/// Scale, zero point and axis of a quantized tensor, as a node states them in neighbouring inputs.
pub(super) struct Stated<'a> {
    scales: &'a [f32],
    zero: Option<&'a HostTensor>,
    /// Least and largest stored integer of 4 or 16 bits.
    narrow: Option<(i32, i32)>,
    /// The axis of several scales; `None` when there can be only one.
    axis: Option<i64>,
    /// The storage of a result whose zero point is left out.
    default: Store,
}

impl<'a> Stated<'a> {
    /// Reads input `scale` of a node as the scales and the input behind it as the zero points.
    ///
    /// # Errors
    /// When they are computed by the model, or when there is no scale.
    pub fn at(n: &'a Node<'_>, scale: usize, axis: Option<i64>) -> Result<Stated<'a>> {
        let scales = n.known(scale, "the scales")?.and_then(HostTensor::as_f32);
        let scales = scales.ok_or_else(|| Refusal::invalid("it has no float scale"))?;
        let narrow = match n.optional(scale + 1) {
            Some(Value::Known(k)) => k.narrow,
            _ => None,
        };
        Ok(Stated { scales, zero: n.known(scale + 1, "the zero points")?, narrow, axis, default: Store::U8 })
    }

    /// The scales, one or one per index of the axis.
    pub fn scales(&self) -> &'a [f32] {
        self.scales
    }

    /// The format for a tensor of `dims`; `store` is that of its elements, if they are there already.
    fn format(&self, dims: &[usize], store: Option<Store>) -> Result<Quant> {
        let zero_store = self.zero.map(|z| store_of(z.data().elem()).ok_or_else(|| unsupported_store(z.data().elem())));
        let store = match (store, zero_store.transpose()?) {
            (Some(a), Some(b)) if a != b => return Err(Refusal::invalid("input and zero point differ in type")),
            (Some(s), _) | (None, Some(s)) => s,
            (None, None) => self.default,
        };
        let count = self.scales.len();
        let axis = match (count, self.axis) {
            (1, _) => None,
            (_, Some(axis)) => Some(shape::axis(axis, dims.len())?),
            (_, None) => {
                return Err(Refusal::unsupported(format!("{count} scales for one tensor of activations"))
                    .remedy("quantize activations with one scale per tensor"));
            }
        };
        if axis.is_some_and(|a| dims[a] != count) {
            return Err(Refusal::invalid(format!("{count} scales for the shape {dims:?}")));
        }
        let zeros = match self.zero {
            None => vec![0],
            Some(z) if z.len() != 1 && z.len() != count => {
                return Err(Refusal::invalid(format!("{count} scales and {} zero points", z.len())));
            }
            Some(z) => (0..z.len()).map(|i| z.int(i).unwrap_or(0) as i32).collect(),
        };
        let (lo, hi) = self.narrow.filter(|&b| fits(b, store)).unwrap_or(store.bounds());
        // One scale that is written several times is one scale.
        let one = self.scales.windows(2).all(|w| w[0] == w[1]) && zeros.windows(2).all(|w| w[0] == w[1]);
        if one && !zeros.is_empty() && count > 0 {
            return Ok(Quant { store, axis: None, scales: [self.scales[0]].into(), zeros: [zeros[0]].into(), lo, hi });
        }
        Ok(Quant { store, axis, scales: self.scales.into(), zeros: zeros.into(), lo, hi })
    }
}

/// What `QuantizeLinear` and `DequantizeLinear` state.
fn stated<'a>(n: &'a Node<'_>) -> Result<Stated<'a>> {
    if n.int("block_size")?.unwrap_or(0) != 0 {
        return Err(Refusal::unsupported("blocked quantization of what the model computes is not supported")
            .remedy("quantize activations with one scale per tensor"));
    }
    let (default, narrow) = default_store(n)?;
    let stated = Stated::at(n, 1, Some(n.int("axis")?.unwrap_or(1)))?;
    Ok(Stated { default, narrow: stated.narrow.or(narrow), ..stated })
}

/// Whether stored integers within `bounds` are kept in `store`: those of 4 bits in 8, those of 16 in 32.
fn fits((lo, hi): (i32, i32), store: Store) -> bool {
    (store == Store::I32) == (hi - lo > 255)
}

fn unsupported_store(elem: Elem) -> Refusal {
    let word = match elem {
        Elem::F32 => "8-bit floats",
        other => other.word().unwrap_or("this type"),
    };
    Refusal::unsupported(format!("quantization to {word} is not supported"))
        .remedy("quantize the model to uint8, int8, uint16 or int16")
}

/// The storage that `output_dtype` states, and the bounds of its integers if they have 4 or 16 bits.
fn default_store(n: &Node<'_>) -> Result<(Store, Option<(i32, i32)>)> {
    match n.int("output_dtype")?.unwrap_or(2) {
        0 | 2 => Ok((Store::U8, None)),
        3 => Ok((Store::I8, None)),
        4 => Ok((Store::I32, tensor::narrow_bounds(4))),
        5 => Ok((Store::I32, tensor::narrow_bounds(5))),
        21 => Ok((Store::U8, tensor::narrow_bounds(21))),
        22 => Ok((Store::I8, tensor::narrow_bounds(22))),
        other => Err(Refusal::unsupported(format!("output_dtype {other} is not supported"))),
    }
}

pub(super) fn quantize_linear(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    quantized(g, n.input(0)?, &stated(n)?)
}

/// A float tensor in the format that is stated.
///
/// # Errors
/// When there is no such format, or when the tensor is not f32.
pub(super) fn quantized(g: &mut Graph, x: &Value, stated: &Stated<'_>) -> Result<Lowered> {
    g.expect_f32(x)?;
    let dims = g.dims(x);
    let quant = stated.format(&dims, None)?;
    if quant.store == Store::I32 && stated.narrow.is_none() {
        return Err(Refusal::invalid("integers are quantized to 8 or 16 bits, not to 32"));
    }
    if quant.store == Store::I32 || (quant.axis.is_some() && x.known().is_none()) {
        return Ok(stored_in_floats(g, x, &quant, &dims)?.into());
    }
    let id = g.quant(quant, &dims)?;
    if let (Some(t), Some(name)) = (x.known(), x.name()) {
        let quant = g.m.quant(id).clone();
        let stored = quantize::quantize_tensor(&quant, t).map_err(Refusal::invalid)?;
        let value = g.quant_constant(name, stored.into(), quant)?;
        return Ok(Lowered::identity(value, "the constant is stored quantized"));
    }
    Ok(g.emit_f32(graph::Quantize::DEF, &[Some(x)], attrs! { quant: id })?.into())
}

pub(super) fn dequantize_linear(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = n.input(0)?;
    let block = n.int("block_size")?.unwrap_or(0);
    if let (Some(t), true) = (x.known(), block != 0) {
        let real = blocked::dequantize(n, t, block)?;
        return Ok(Lowered::identity(real.into(), "what its blocks stand for is known at import"));
    }
    Ok(dequantized(g, x, &stated(n)?)?.into())
}

/// What stored integers stand for in the format that is stated.
///
/// # Errors
/// When there is no such format, or when it is not the format that the integers were made in.
pub(super) fn dequantized(g: &mut Graph, x: &Value, stated: &Stated<'_>) -> Result<Value> {
    let dims = g.dims(x);
    if let Value::Known(k) = x {
        let elem = k.tensor.data().elem();
        if elem == Elem::F32 {
            // Floats of 8 bits, which have no zero point but 0.
            let (store, zero) = (Some(Store::I32), None);
            let quant = Stated { zero, ..*stated }.format(&dims, store)?;
            return g.arith(Arith::Mul, x, &along(&quant, &dims, |i| quant.scale(i)));
        }
        let store = store_of(elem).ok_or_else(|| unsupported_store(elem))?;
        let quant = stated.format(&dims, Some(store))?;
        let (quant, tensor) = without_zero_scales(quant, &k.tensor);
        return g.dequantized_constant(&k.name, tensor, quant);
    }
    let Some(own) = g.quant_of(x).cloned() else { return dequantized_plain(g, x, stated) };
    let other = stated.format(&dims, Some(own.store))?;
    match same_format(&own, &other) {
        true => g.dequantize(x),
        false => in_another_format(g, x, &own, &other),
    }
}

/// What stored integers stand for in another format than they were made in: `(q - zero) * scale`, the integers taken back from
/// what they stand for in their own.
fn in_another_format(g: &mut Graph, x: &Value, own: &Quant, other: &Quant) -> Result<Value> {
    if own.axis.is_some() || other.axis.is_some() {
        return Err(Refusal::unsupported("its scale or zero point differs from that of its QuantizeLinear"));
    }
    let real = g.dequantize(x)?;
    let steps = g.arith(Arith::Div, &real, &scalar(own.scale(0)))?;
    let integers = g.function(graph::Function::Round { away: false }, &steps)?;
    let centred = g.plus(&integers, (own.zero(0) - other.zero(0)) as f32)?;
    g.times(&centred, other.scale(0))
}

fn same_format(a: &Quant, b: &Quant) -> bool {
    let same_zeros = |a: &[i32], b: &[i32]| {
        let len = a.len().max(b.len());
        (0..len).all(|i| a.get(i).or(a.first()) == b.get(i).or(b.first()))
    };
    a.store == b.store && a.axis == b.axis && a.scales == b.scales && same_zeros(&a.zeros, &b.zeros)
}

/// Adding this and taking it away rounds a number below `2^22` to a whole one, half to even.
const MAGIC: f32 = 12_582_912.0;

/// One number of a format, or one per index of its axis, for tensors of `dims`.
fn along(quant: &Quant, dims: &[usize], value: impl Fn(usize) -> f32) -> Value {
    let Some(axis) = quant.axis else { return scalar(value(0)) };
    let mut shape = vec![1; dims.len()];
    shape[axis] = dims[axis];
    HostTensor::f32(shape, (0..dims[axis]).map(value).collect()).into()
}

/// `clamp(round(x / scale) + zero)` in floats, for formats that no kernel stores: of 16 bits, or with several scales.
fn stored_in_floats(g: &mut Graph, x: &Value, quant: &Quant, dims: &[usize]) -> Result<Value> {
    g.quant(quant.clone(), dims)?;
    let zero = |i: usize| quant.zero(i) as f32;
    let steps = g.arith(Arith::Div, x, &along(quant, dims, |i| quant.scale(i)))?;
    // The clamp comes first: its bounds are whole numbers, and below 2^22.
    let steps = g.arith(Arith::Max, &steps, &along(quant, dims, |i| quant.lo as f32 - zero(i)))?;
    let steps = g.arith(Arith::Min, &steps, &along(quant, dims, |i| quant.hi as f32 - zero(i)))?;
    let steps = g.plus(&steps, MAGIC)?;
    let steps = g.plus(&steps, -MAGIC)?;
    let stored = g.arith(Arith::Add, &steps, &along(quant, dims, zero))?;
    let elem = match quant.store {
        Store::U8 => Elem::U8,
        Store::I8 => Elem::I8,
        Store::I32 => Elem::I32,
    };
    g.cast(&stored, elem)
}

/// Integers that the model is fed with, or computes without saying what they mean: `(x - zero) * scale` in floats. Bytes
/// are quantized again, which is exact, so that integer ops can read them.
fn dequantized_plain(g: &mut Graph, x: &Value, stated: &Stated<'_>) -> Result<Value> {
    let elem = g.elem(x);
    let store = store_of(elem).ok_or_else(|| unsupported_store(elem))?;
    let dims = g.dims(x);
    let quant = stated.format(&dims, Some(store))?;
    let real = g.cast(x, Elem::F32)?;
    let real = g.arith(Arith::Sub, &real, &along(&quant, &dims, |i| quant.zero(i) as f32))?;
    let real = g.arith(Arith::Mul, &real, &along(&quant, &dims, |i| quant.scale(i)))?;
    if store == Store::I32 || quant.axis.is_some() {
        return Ok(real);
    }
    let stored = g.quantize(&real, quant)?;
    g.dequantize(&stored)
}

/// A scale of 0 makes every number 0. The same numbers are written here as zero points with the scale 1, because a scale
/// must be positive.
fn without_zero_scales(quant: Quant, t: &HostTensor) -> (Quant, HostTensor) {
    if !quant.scales.contains(&0.0) || quantize::check_quant(&ones(&quant), t.dims()).is_err() {
        return (quant, t.clone());
    }
    let axis = quantize::axis_index(&quant, t.dims());
    let stored = (0..t.len()).map(|i| {
        let c = axis(i);
        if quant.scale(c) == 0.0 { i64::from(quant.zero(c)) } else { t.int(i).unwrap_or(0) }
    });
    let data = match quant.store {
        Store::U8 => Data::U8(stored.map(|v| v as u8).collect()),
        Store::I8 => Data::I8(stored.map(|v| v as i8).collect()),
        Store::I32 => Data::I32(stored.map(|v| v as i32).collect()),
    };
    let tensor = HostTensor::new(t.dims(), data).unwrap_or_else(|| t.clone());
    (ones(&quant), tensor)
}

/// The format with every scale of 0 replaced.
fn ones(quant: &Quant) -> Quant {
    let scales = quant.scales.iter().map(|&s| if s == 0.0 { 1.0 } else { s }).collect();
    Quant { scales, ..quant.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, bytes, float, floats, int, ints, longs};

    /// A constant `r` of real numbers that is stored as integers of an ONNX type.
    fn stored(data_type: i32, dims: &[i64], values: &[i32]) -> Model {
        Model::new(21, &[1, 2]).constant(bytes("w", data_type, dims, values)).constant(floats("s", &[], &[0.5])).node(
            "DequantizeLinear",
            "w s > r",
            &[],
        )
    }

    #[test]
    fn stored_constants_are_constants_of_any_storage() {
        for data_type in [2, 3, 4, 5, 6] {
            let moved = stored(data_type, &[2, 2], &[1, 2, 3, 4])
                .constant(longs("at", &[1, 0, 1]))
                .node("Transpose", "r > t", &[ints("perm", &[1, 0])])
                .node("Gather", "t at > g", &[int("axis", 0)])
                .node("Relu", "g > p", &[])
                .node("Add", "p x > y", &[]);
            let imported = moved.import(&Default::default()).unwrap();
            assert_eq!(imported.outputs[0].dims, [3, 2], "{data_type}");
            assert_eq!(moved.run(&[0.0, 0.0]).1, [1.0, 2.0, 0.5, 1.5, 1.0, 2.0], "{data_type}");
        }
        // 1.5 and -2 as E4M3.
        let eight = stored(17, &[2], &[0x3c, 0xc0]).node("Mul", "r x > y", &[]);
        assert_eq!(eight.run(&[1.0, 1.0]).1, [0.75, -1.0]);
    }

    #[test]
    fn weights_that_move_stay_integers() {
        let one = stored(3, &[2, 1], &[1, -2]).constant(longs("to", &[1, 2]));
        let one = one.node("Reshape", "r to > t", &[]).node("Transpose", "t > c", &[]).node("MatMul", "x c > y", &[]);
        assert_eq!(one.run(&[2.0, 1.0]).1, [0.0]);
        let per_axis = Model::new(13, &[1, 2])
            .constant(bytes("w", 3, &[2, 2], &[1, 2, 3, 4]))
            .constant(floats("s", &[2], &[0.5, 2.0]))
            .node("DequantizeLinear", "w s > r", &[int("axis", 0)])
            .node("Transpose", "r > t", &[])
            .node("MatMul", "x t > y", &[]);
        assert_eq!(per_axis.run(&[1.0, 1.0]).1, [1.5, 14.0]);
        for model in [one, per_axis] {
            let dump = qc_ir::print(&model.import(&Default::default()).unwrap().module, Default::default());
            assert_eq!(dump.matches("graph.dequantize").count(), 1, "{dump}");
            assert!(!dump.contains("graph.transpose") && !dump.contains("graph.reshape"), "{dump}");
        }
    }

    #[test]
    fn normalizations_take_stored_parameters() {
        let model = Model::new(13, &[1, 2])
            .constant(bytes("w", 3, &[2], &[2, 4]))
            .constant(floats("s", &[], &[0.5]))
            .constant(floats("none", &[2], &[0.0, 0.0]))
            .constant(floats("ones", &[2], &[1.0, 1.0]))
            .node("DequantizeLinear", "w s > scale", &[])
            .node("BatchNormalization", "x scale none none ones > y", &[float("epsilon", 0.0)]);
        assert_eq!(model.run(&[3.0, 5.0]).1, [3.0, 10.0]);
        let dump = qc_ir::print(&model.import(&Default::default()).unwrap().module, Default::default());
        assert!(!dump.contains("graph.dequantize"), "{dump}");
    }

    #[test]
    fn pairs_of_16_bits_round_and_clamp() {
        for (data_type, zero, low, high) in [(5, 0, -32768.0, 32767.0), (4, 100, -100.0, 65435.0)] {
            let model = Model::new(21, &[4])
                .constant(floats("s", &[], &[0.5]))
                .constant(bytes("z", data_type, &[], &[zero]))
                .node("QuantizeLinear", "x s z > q", &[])
                .node("DequantizeLinear", "q s z > y", &[]);
            let y = model.run(&[0.74, 1.3, -1e6, 1e6]).1;
            assert_eq!(y, [0.5, 1.5, low * 0.5, high * 0.5], "{data_type}");
        }
        let wide = Model::new(21, &[4]).constant(floats("s", &[], &[0.5])).constant(bytes("z", 6, &[], &[0]));
        let wide = wide.node("QuantizeLinear", "x s z > y", &[]);
        assert!(wide.import(&Default::default()).unwrap_err()[0].to_string().contains("not to 32"));
    }

    #[test]
    fn activations_may_have_several_scales() {
        let pair = |scales: &[f32; 2]| {
            Model::new(13, &[1, 2])
                .constant(floats("s", &[2], scales))
                .constant(bytes("z", 3, &[2], &[0, 0]))
                .node("QuantizeLinear", "x s z > q", &[int("axis", 1)])
                .node("DequantizeLinear", "q s z > y", &[int("axis", 1)])
        };
        assert_eq!(pair(&[0.5, 2.0]).run(&[0.7, 2.9]).1, [0.5, 2.0]);
        assert_eq!(pair(&[0.5, 2.0]).run(&[-100.0, 900.0]).1, [-64.0, 254.0]);
        let equal = pair(&[0.5, 0.5]);
        assert_eq!(equal.run(&[0.7, 2.9]).1, [0.5, 3.0]);
        let dump = qc_ir::print(&equal.import(&Default::default()).unwrap().module, Default::default());
        assert!(dump.contains("q<i8, [0.5], [0]"), "{dump}");
    }

    #[test]
    fn signed_bytes_are_repeated() {
        let model = Model::new(13, &[1, 2])
            .constant(floats("s", &[], &[0.5]))
            .constant(bytes("z", 3, &[], &[3]))
            .constant(longs("times", &[1, 2]))
            .node("QuantizeLinear", "x s z > q", &[])
            .node("Tile", "q times > t", &[])
            .node("DequantizeLinear", "t s z > y", &[]);
        assert_eq!(model.run(&[0.7, -2.9]).1, [0.5, -3.0, 0.5, -3.0]);
    }
}
