//! Operators on quantized tensors, those of ONNX and those of the domain `com.microsoft`.
//!
//! before  y = QLinearConv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b)
//! after   y = QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w), DequantizeLinear(b)))
//!
//! That is the one form of a quantized graph; the integer op is found again where there is a kernel for it. An operator
//! is therefore its operands, the float operator that is imported in its place, and its result.

use super::node::{Lower, Lowered, Node};
use super::qdq::{Stated, dequantized, quantized};
use super::{elementwise, movement, nn, ops, reduce};
use crate::emit::{Graph, Value};
use crate::error::Refusal;
use qc_ir::{HostTensor, Quant, Store};

type Result<T> = std::result::Result<T, Refusal>;

/// The operand at input `at`, its scale and zero point behind it; several scales lie along `axis`.
fn operand(g: &mut Graph, n: &Node<'_>, at: usize, axis: Option<i64>) -> Result<Value> {
    dequantized(g, n.input(at)?, &Stated::at(n, at + 1, axis)?)
}

/// The float operator on `operands`, its result in the format stated from input `result` on.
fn through(g: &mut Graph, n: &Node<'_>, operands: Vec<Option<Value>>, float: Lower, result: usize) -> Result<Lowered> {
    let y = float_of(g, n, operands, float, n.opset)?;
    quantized(g, &y, &Stated::at(n, result, None)?)
}

fn float_of(g: &mut Graph, n: &Node<'_>, operands: Vec<Option<Value>>, float: Lower, opset: i64) -> Result<Value> {
    if n.int("channels_last")?.unwrap_or(0) != 0 {
        return Err(Refusal::unsupported("its tensors are channels-last").remedy("export the model in NCHW layout"));
    }
    let node = Node { proto: n.proto, inputs: operands, used: n.used.clone(), opset, files: n.files };
    let lowered = float(g, &node)?;
    lowered.values.into_iter().next().ok_or_else(|| Refusal::invalid("it has no result"))
}

/// A bias of i32 in units of the accumulator, `scale of x * scale of w[c]`, for `columns` outputs. One number is that of all.
fn bias(g: &mut Graph, n: &Node<'_>, at: usize, x: f32, w: &[f32], columns: usize) -> Result<Option<Value>> {
    let k = match n.optional(at) {
        None => return Ok(None),
        Some(Value::Known(k)) => k,
        Some(_) => return Err(Refusal::unsupported("its bias is computed by the model; it must be constant")),
    };
    let tensor = match k.tensor.as_i32() {
        None => return Err(Refusal::invalid("its bias is not int32")),
        Some(&[one]) => HostTensor::i32([columns], vec![one; columns]),
        Some(all) if all.len() == columns && k.tensor.dims().last() == Some(&columns) => {
            HostTensor::i32([columns], all.to_vec())
        }
        Some(_) => {
            let text = format!("its bias of shape {:?} is not one number per output channel", k.tensor.dims());
            return Err(Refusal::unsupported(text));
        }
    };
    let (lo, hi) = Store::I32.bounds();
    let axis = (w.len() > 1).then_some(0);
    let scales = w.iter().map(|w| x * w).collect();
    let quant = Quant { store: Store::I32, axis, scales, zeros: [0].into(), lo, hi };
    g.dequantized_constant(&k.name, tensor, quant).map(Some)
}

/// The one scale of the operand at input `at`.
fn scale_of(n: &Node<'_>, at: usize) -> Result<f32> {
    match Stated::at(n, at + 1, None)?.scales() {
        [scale] => Ok(*scale),
        more => Err(Refusal::unsupported(format!("an activation has {} scales, not one", more.len()))),
    }
}

pub(super) fn conv(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (x, w) = (operand(g, n, 0, None)?, operand(g, n, 3, Some(0))?);
    let channels = g.dims(&w).first().copied().unwrap_or(0);
    let bias = bias(g, n, 8, scale_of(n, 0)?, Stated::at(n, 4, Some(0))?.scales(), channels)?;
    through(g, n, vec![Some(x), Some(w), bias], nn::conv, 6)
}

pub(super) fn matmul(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let (a, b) = (operand(g, n, 0, None)?, operand(g, n, 3, Some(-1))?);
    through(g, n, vec![Some(a), Some(b)], nn::matmul, 6)
}

/// `alpha * a * b + c` with `c` in units of the product; without a result scale the result is float.
pub(super) fn gemm(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let flags = [n.flag("transA", false)?, n.flag("transB", false)?];
    let alpha = n.float("alpha")?.unwrap_or(1.0);
    let axis = if flags[1] { 0 } else { 1 };
    let (a, b) = (operand(g, n, 0, None)?, operand(g, n, 3, Some(axis))?);
    let columns = g.dims(&b).get(usize::from(!flags[1])).copied().unwrap_or(0);
    let c = bias(g, n, 6, scale_of(n, 0)?, Stated::at(n, 4, Some(axis))?.scales(), columns)?;
    let product = g.matmul(&a, &b, c.as_ref(), flags)?;
    let y = g.times(&product, alpha)?;
    match n.optional(7) {
        None => Ok(y.into()),
        Some(_) => quantized(g, &y, &Stated::at(n, 7, None)?),
    }
}

fn binary(g: &mut Graph, n: &Node<'_>, float: Lower) -> Result<Lowered> {
    let (a, b) = (operand(g, n, 0, None)?, operand(g, n, 3, None)?);
    through(g, n, vec![Some(a), Some(b)], float, 6)
}

pub(super) fn add(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    binary(g, n, elementwise::add)
}

pub(super) fn mul(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    binary(g, n, elementwise::mul)
}

fn unary(g: &mut Graph, n: &Node<'_>, float: Lower) -> Result<Lowered> {
    let x = operand(g, n, 0, None)?;
    through(g, n, vec![Some(x)], float, 3)
}

/// A function of single elements: `QLinear` before its name.
pub(super) fn function(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let float = n.proto.op_type.strip_prefix("QLinear").and_then(|name| ops::find("", name));
    unary(g, n, float.ok_or_else(|| Refusal::unsupported("this operator is not supported"))?)
}

pub(super) fn average_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    unary(g, n, nn::quantized_average_pool)
}

pub(super) fn global_average_pool(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    unary(g, n, nn::global_average_pool)
}

pub(super) fn reduce_mean(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    unary(g, n, reduce::mean)
}

/// The attribute `opset` says whose meaning of the axis counts.
pub(super) fn softmax(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let x = operand(g, n, 0, None)?;
    let y = float_of(g, n, vec![Some(x)], nn::softmax, n.int("opset")?.unwrap_or(n.opset))?;
    quantized(g, &y, &Stated::at(n, 3, None)?)
}

/// Result scale and zero point come first, then operands with theirs.
pub(super) fn concat(g: &mut Graph, n: &Node<'_>) -> Result<Lowered> {
    let operands = (2..n.inputs.len()).step_by(3).map(|at| operand(g, n, at, None).map(Some));
    let operands = operands.collect::<Result<Vec<_>>>()?;
    through(g, n, operands, movement::concat, 0)
}

/// A float operator on quantized tensors of one format, as ONNX allows where elements only move: the result has that
/// format too.
///
/// # Errors
/// When formats differ, and what the operator itself refuses.
pub(super) fn in_one_format(g: &mut Graph, n: &Node<'_>, float: Lower) -> Result<Lowered> {
    let Some(format) = g.quant_of(n.input(0)?).cloned() else { return float(g, n) };
    let mut operands = Vec::new();
    for v in &n.inputs {
        let real = match v {
            Some(v) if g.quant_of(v) == Some(&format) => Some(g.dequantize(v)?),
            Some(v) if g.quant_of(v).is_some() => {
                return Err(Refusal::unsupported("its operands are quantized in different formats"));
            }
            other => other.clone(),
        };
        operands.push(real);
    }
    let y = float_of(g, n, operands, float, n.opset)?;
    Ok(g.quantize(&y, format)?.into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, bytes, floats, int, ints};

    /// `x` in u8 with scale 0.5 and zero point 10 as `q`, and other scales and zero points.
    fn quantized(x: &[i64]) -> Model {
        Model::new(13, x)
            .constant(floats("half", &[], &[0.5]))
            .constant(floats("quarter", &[], &[0.25]))
            .constant(bytes("ten", 2, &[], &[10]))
            .constant(bytes("one", 2, &[], &[1]))
            .constant(bytes("none", 2, &[], &[0]))
            .node("QuantizeLinear", "x half ten > q", &[])
    }

    #[test]
    fn convolution_has_a_bias_in_units_of_its_accumulator() {
        let m = quantized(&[1, 1, 2, 2])
            .constant(bytes("w", 2, &[1, 1, 1, 1], &[3]))
            .constant(bytes("b", 6, &[1], &[4]))
            .node("QLinearConv", "q half ten w quarter one half none b > r", &[])
            .node("DequantizeLinear", "r half none > y", &[]);
        assert_eq!(m.run(&[1.0, 2.0, 3.0, 4.0]), (vec![1, 1, 2, 2], vec![1.0, 1.5, 2.0, 2.5]));
    }

    #[test]
    fn stored_integers_move_in_their_format() {
        let m = quantized(&[1, 1, 2, 2])
            .node("MaxPool", "q > p", &[ints("kernel_shape", &[2, 2])])
            .node("QLinearConcat", "half none q half ten q half ten > c", &[int("axis", 1)])
            .of_domain("com.microsoft")
            .node("QLinearAdd", "c half none p half ten half none > s", &[])
            .of_domain("com.microsoft")
            .node("DequantizeLinear", "s half none > y", &[]);
        assert_eq!(m.run(&[1.0, 2.0, 3.0, 4.0]).1, [5.0, 6.0, 7.0, 8.0, 5.0, 6.0, 7.0, 8.0]);
    }

    #[test]
    fn an_average_pool_that_counts_pads_counts_whole_windows() {
        let attrs =
            [ints("kernel_shape", &[1, 2]), ints("strides", &[1, 2]), int("ceil_mode", 1), int("count_include_pad", 1)];
        let m = quantized(&[1, 1, 1, 3])
            .node("QLinearAveragePool", "q half ten half none > p", &attrs)
            .of_domain("com.microsoft")
            .node("DequantizeLinear", "p half none > y", &[]);
        assert_eq!(m.run(&[1.0, 2.0, 6.0]).1, [1.5, 3.0]);
    }

    #[test]
    fn a_product_without_result_scale_is_float() {
        let m = quantized(&[1, 2])
            .constant(bytes("w", 3, &[2, 2], &[1, 2, 3, -4]))
            .constant(floats("scales", &[2], &[0.25, 0.5]))
            .constant(bytes("zeros", 3, &[2], &[0, 0]))
            .constant(bytes("b", 6, &[2], &[8, 4]))
            .node("QGemm", "q half ten w scales zeros b > y", &[])
            .of_domain("com.microsoft");
        assert_eq!(m.run(&[1.0, 2.0]), (vec![1, 2], vec![2.75, -2.0]));
    }

    #[test]
    fn one_bias_is_that_of_all_columns() {
        let m = quantized(&[1, 2])
            .constant(bytes("w", 3, &[2, 2], &[1, 2, 3, -4]))
            .constant(floats("scales", &[2], &[0.25, 0.5]))
            .constant(bytes("zeros", 3, &[2], &[0, 0]))
            .constant(bytes("b", 6, &[1], &[8]))
            .node("QGemm", "q half ten w scales zeros b > y", &[])
            .of_domain("com.microsoft");
        assert_eq!(m.run(&[1.0, 2.0]), (vec![1, 2], vec![2.75, -1.0]));
    }

    #[test]
    fn another_scale_than_that_of_the_tensor_is_that_of_the_operator() {
        let m = quantized(&[1, 2])
            .node("QLinearSigmoid", "q quarter ten half none > s", &[])
            .of_domain("com.microsoft")
            .node("DequantizeLinear", "s half none > y", &[]);
        // 1 and 9 are 12 and 28 in steps of a half from 10, which are 0.5 and 4.5 in quarters.
        assert_eq!(m.run(&[1.0, 9.0]).1, [0.5, 1.0]);
    }

    #[test]
    fn dynamic_products_are_exact_beyond_24_bits() {
        let w = vec![127; 1100];
        let m = Model::new(13, &[1, 1100])
            .constant(bytes("w", 3, &[1100, 1], &w))
            .node("DynamicQuantizeLinear", "x > q scale zero", &[])
            .node("MatMulInteger", "q w zero > sum", &[])
            .node("Cast", "sum > y", &[int("to", 1)]);
        assert_eq!(m.run(&[1.0; 1100]).1, [35_623_500.0]);
    }

    #[test]
    fn dynamic_quantization_holds_zero() {
        let m = Model::new(13, &[6])
            .node("DynamicQuantizeLinear", "x > q scale zero", &[])
            .node("DequantizeLinear", "q one zero > y", &[])
            .constant(floats("one", &[], &[1.0]));
        assert!(m.import(&Default::default()).is_err(), "a zero point that is computed is no format");
        let m = Model::new(13, &[4]).node("DynamicQuantizeLinear", "x > q scale zero", &[]).node(
            "Cast",
            "q > y",
            &[int("to", 1)],
        );
        // The scale is 4 / 255, the zero point 64: 0.5 and -0.5 are 31.875 steps away.
        assert_eq!(m.run(&[-1.0, 3.0, 0.5, -0.5]).1, [0.0, 255.0, 96.0, 32.0]);
    }
}
