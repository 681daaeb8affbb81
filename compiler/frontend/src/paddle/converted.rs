//! Programs that Paddle converted to oneDNN INT8: what their bytes stand for.
//!
//! before  quantize(Scale 127) ─► conv2d(Scale_in, Scale_weights, Scale_out) ─► dequantize
//! after   quantize ─► dequantize ─► conv2d of dequantized weights ─► quantize ─► dequantize
//!
//! A variable that holds bytes is kept as the real tensor, behind a pair of its format. An op that reads bytes by another scale
//! than they were written with reads other real numbers, as it does in Paddle. So ops are lowered as they are in float
//! programs, and passes make integer ops of them as of any pairs.

use super::op::{Lowered, Op, Tensor, find_attr};
use super::program::OpDesc;
use crate::emit::{Graph, Value};
use crate::error::Refusal;
use qc_ir::{Elem, HostTensor, Quant, Store};

type Result<T> = std::result::Result<T, Refusal>;

/// Ops with a result of their own scale.
const COMPUTED: &[&str] = &[
    "conv2d",
    "depthwise_conv2d",
    "elementwise_add",
    "elementwise_mul",
    "elementwise_sub",
    "fc",
    "fused_conv2d",
    "fused_elementwise_add",
    "fused_elementwise_mul",
    "fused_elementwise_sub",
    "fused_matmul",
    "matmul",
    "matmul_v2",
];

/// Ops whose result has the format of what they read.
const MOVED: &[&str] = &[
    "concat",
    "flatten2",
    "fused_transpose",
    "nearest_interp",
    "nearest_interp_v2",
    "pool2d",
    "reshape",
    "reshape2",
    "slice",
    "split",
    "squeeze2",
    "transpose",
    "transpose2",
    "unsqueeze2",
];

/// Ops that make bytes of their own, or read but the shape.
const READ: &[&str] = &["fusion_gru", "fusion_lstm", "multi_gru", "prior_box", "shape"];

/// How bytes are stored: `clamp(round(x * scale + shift))`, signed or not.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Format {
    pub scale: f32,
    pub shift: i32,
    pub signed: bool,
}

impl Format {
    fn new(scale: f32, shift: f32, signed: bool) -> Result<Format> {
        let fits = scale.is_finite() && scale > 0.0 && shift.fract() == 0.0 && (-128.0..=255.0).contains(&shift);
        match fits {
            true => Ok(Format { scale, shift: shift as i32, signed }),
            false => Err(Refusal::invalid(format!("the scale {scale} and the shift {shift}"))),
        }
    }

    fn quant(self) -> Quant {
        let store = if self.signed { Store::I8 } else { Store::U8 };
        Quant::per_tensor(store, 1.0 / self.scale, self.shift)
    }
}

/// Integers of the format of a real tensor.
pub(super) fn stored(g: &mut Graph, real: &Value, format: Format) -> Result<Value> {
    g.quantize(real, format.quant())
}

/// The variable whose bytes stand for `x`, rounded.
fn bytes(g: &mut Graph, x: &Value, format: Format) -> Result<Tensor> {
    let stored = stored(g, x, format)?;
    Ok(Tensor::Bytes { real: g.dequantize(&stored)?, format })
}

/// What bytes stand for where they are read by a scale and shift.
fn read(g: &mut Graph, real: &Value, own: Format, scale: f32, shift: i32) -> Result<Value> {
    let moved = g.plus(real, (own.shift - shift) as f32 / own.scale)?;
    g.times(&moved, own.scale / scale)
}

/// Whether an op makes or reads bytes.
pub(super) fn concerns(desc: &OpDesc, inputs: &[(&str, Vec<Tensor>)]) -> bool {
    let is_bytes = |t: &Tensor| matches!(t, Tensor::Bytes { .. });
    // A transposition may make bytes of floats.
    desc.r#type == "fused_transpose" || inputs.iter().any(|(_, list)| list.iter().any(is_bytes))
}

/// Lowers an op that makes or reads bytes; `real` lowers it as one of floats.
pub(super) fn lower<'a>(
    g: &mut Graph,
    op: Op<'a>,
    inputs: &[(&'a str, Vec<Tensor>)],
    real: impl FnOnce(&mut Graph, &Op<'a>) -> Result<Lowered>,
) -> Result<Lowered> {
    let kind = op.desc.r#type.as_str();
    if let ("dequantize" | "requantize", [(_, tensors)]) = (kind, inputs)
        && let [Tensor::Bytes { real, format }] = &tensors[..]
    {
        return if kind == "dequantize" {
            dequantize(g, &op, real, *format)
        } else {
            requantize(g, &op, real, *format)
        };
    }
    if !is_known(kind) {
        return Err(Refusal::unsupported("it reads quantized bytes, for which it is not known"));
    }
    let mut formats = Vec::new();
    let mut op = op;
    op.inputs.clear();
    for (slot, tensors) in inputs {
        let mut values = Vec::new();
        for t in tensors {
            values.push(match t {
                Tensor::Bytes { real, format } => {
                    let scale = scale_of(&op, slot)?.unwrap_or(format.scale);
                    formats.push((*slot, Format { scale, ..*format }));
                    read(g, real, *format, scale, format.shift)?
                }
                other => super::plain_one(g, other.clone())?,
            });
        }
        op.inputs.push((slot, values));
    }
    if COMPUTED.contains(&kind) && !formats.is_empty() {
        weights(g, &mut op)?;
    }
    let mut lowered = real(g, &op)?;
    let Some(format) = format_of_result(&op, &formats)? else { return Ok(lowered) };
    for value in &mut lowered.values {
        let Tensor::Plain(v) = value else { return Err(Refusal::invalid("its result is no tensor")) };
        *value = bytes(g, v, format)?;
    }
    Ok(lowered)
}

/// What only bytes can go through.
pub(super) fn of_floats(_: &mut Graph, _: &Op<'_>) -> Result<Lowered> {
    Err(Refusal::invalid("its input is no quantized tensor"))
}

pub(super) fn quantize(g: &mut Graph, op: &Op<'_>) -> Result<Lowered> {
    if op.flag("bfloat16", false)? {
        return Err(Refusal::unsupported("it makes numbers of 16 bits").remedy("give the float program"));
    }
    let (scale, shift) = (op.float("Scale")?.unwrap_or(1.0), op.float("Shift")?.unwrap_or(0.0));
    let signed = shift == 0.0 && op.flag("is_negative_input", false)?;
    let made = bytes(g, op.input("Input")?, Format::new(scale, shift, signed)?)?;
    Ok(Lowered { values: vec![made], ..Lowered::many(Vec::new()) })
}

fn dequantize(g: &mut Graph, op: &Op<'_>, real: &Value, own: Format) -> Result<Lowered> {
    let (scale, shift) = (op.float("Scale")?.unwrap_or(1.0), op.float("Shift")?.unwrap_or(0.0));
    let by = Format::new(scale, shift, own.signed)?;
    Ok(Lowered::identity(read(g, real, own, by.scale, by.shift)?, "it says what bytes stand for"))
}

fn requantize(g: &mut Graph, op: &Op<'_>, real: &Value, own: Format) -> Result<Lowered> {
    let number = |name: &str, default: f32| Ok::<f32, Refusal>(op.float(name)?.unwrap_or(default));
    let (from, to) = (number("Scale_in", 1.0)?, number("Scale_out", 1.0)?);
    let (shift_in, shift_out) = (number("Shift_in", 1.0)?, number("Shift_out", 1.0)?);
    let by = Format::new(from, shift_in, own.signed)?;
    let x = read(g, real, own, by.scale, by.shift)?;
    let made = bytes(g, &x, Format::new(to, shift_out, own.signed && shift_out == 0.0)?)?;
    Ok(Lowered { values: vec![made], ..Lowered::many(Vec::new()) })
}

/// The scale by which an op reads a slot, if it says one.
fn scale_of(op: &Op<'_>, slot: &str) -> Result<Option<f32>> {
    let fused = op.desc.r#type.starts_with("fused_elementwise");
    let name = match (slot, fused) {
        ("Input", _) => "Scale_in",
        ("ResidualData", _) => "Scale_in_eltwise",
        ("X", false) => "Scale_x",
        ("Y", false) => "Scale_y",
        ("X", true) => "scale_x",
        ("Y", true) => "scale_y",
        _ => return Ok(None),
    };
    let is_computed = COMPUTED.contains(&op.desc.r#type.as_str());
    Ok(op.float(name)?.filter(|s| is_computed && *s > 0.0))
}

/// The format of what an op gives; none if it is float.
fn format_of_result(op: &Op<'_>, read: &[(&str, Format)]) -> Result<Option<Format>> {
    let kind = op.desc.r#type.as_str();
    let of = |slot: &str| read.iter().find(|(s, _)| *s == slot).map(|(_, f)| *f);
    if kind == "fused_transpose" {
        return transposed(op, read.first().map(|r| r.1));
    }
    let Some(first) = read.first().map(|r| r.1).filter(|_| !READ.contains(&kind)) else { return Ok(None) };
    if MOVED.contains(&kind) {
        return match read.iter().all(|(_, f)| *f == first) {
            true => Ok(Some(first)),
            false => Err(Refusal::invalid("its inputs are stored in different formats")),
        };
    }
    if op.flag("force_fp32_output", false)? {
        return Ok(None);
    }
    let is_elementwise = kind.contains("elementwise");
    let name = if kind.starts_with("fused_elementwise") { "scale_out" } else { "Scale_out" };
    let scale = op.float(name)?.ok_or_else(|| Refusal::invalid(format!("it has no `{name}`")))?;
    let relu = matches!(op.text("fuse_activation")?, "relu" | "relu6") || op.flag("fuse_relu", false)?;
    let signed = match (of("ResidualData"), is_elementwise, kind) {
        (Some(residual), ..) if kind != "fused_matmul" => residual.signed,
        (_, true, _) => first.signed,
        (_, _, "fc") => op.text("activation_type")? != "relu",
        _ => !relu,
    };
    Format::new(scale, 0.0, signed).map(Some)
}

/// A transposition may convert as well: `x * scale + shift` in another type.
fn transposed(op: &Op<'_>, own: Option<Format>) -> Result<Option<Format>> {
    let (scale, shift) = (op.float("scale")?.unwrap_or(1.0), op.float("shift")?.unwrap_or(0.0));
    match (op.text("output_data_type")?, own) {
        ("", own) if scale == 1.0 && shift == 0.0 => Ok(own),
        (word @ ("int8" | "uint8"), None) => Format::new(scale, shift, word == "int8").map(Some),
        ("fp32", Some(own)) if shift == 0.0 && (own.scale * scale - 1.0).abs() < 1e-6 => Ok(None),
        ("fp32", None) if scale == 1.0 && shift == 0.0 => Ok(None),
        (word, _) => Err(Refusal::unsupported(format!("a conversion to `{word}` by {scale} is not supported"))),
    }
}

/// Weights as the kernels round them when they first run.
fn weights(g: &mut Graph, op: &mut Op<'_>) -> Result<()> {
    let axis = if op.desc.r#type == "fc" { 1 } else { 0 };
    let scales = op.floats("Scale_weights")?.unwrap_or_default();
    for (slot, values) in op.inputs.iter_mut().filter(|(slot, _)| matches!(*slot, "Filter" | "W")) {
        let Some(v) = values.first_mut() else { continue };
        let known = v.known().filter(|t| t.data().elem() == Elem::F32 && t.dims().len() > axis).ok_or_else(|| {
            Refusal::unsupported(format!("its input `{slot}` is no constant of floats"))
                .remedy("give the program that it was converted from")
        })?;
        let units = known.dims()[axis];
        if scales.len() != 1 && scales.len() != units {
            return Err(Refusal::invalid(format!("it has {} scales of weights, not {units}", scales.len())));
        }
        // A unit whose weights are 0 has no scale.
        let scales: Vec<f32> = scales.iter().map(|&s| if s > 0.0 && s.is_finite() { s } else { 1.0 }).collect();
        let inner: usize = known.dims()[axis + 1..].iter().product();
        let scale = |i: usize| scales[i / inner.max(1) % units % scales.len()];
        let all = known.as_f32().unwrap_or_default().iter().enumerate();
        let all = all.map(|(i, w)| (w * scale(i)).round_ties_even().clamp(-128.0, 127.0) as i8).collect();
        let steps: Vec<f32> = scales.iter().map(|s| 1.0 / s).collect();
        let quant = match steps[..] {
            [one] => Quant::per_tensor(Store::I8, one, 0),
            _ => Quant::per_axis(Store::I8, axis, steps),
        };
        let (dims, name) = (known.dims().to_vec(), v.name().unwrap_or("weight").to_string());
        *v = g.dequantized_constant(&name, HostTensor::i8(dims, all), quant)?;
    }
    Ok(())
}

/// Whether the INT8 form of an op is understood.
pub(super) fn is_known(op_type: &str) -> bool {
    [COMPUTED, MOVED, READ].iter().any(|list| list.contains(&op_type))
}

/// Whether a program says that an op is one of bytes.
pub(super) fn says_int8(desc: &OpDesc) -> bool {
    let set = |name| find_attr(desc, name).is_some_and(|a| a.b == Some(true));
    let int8 = find_attr(desc, "mkldnn_data_type").and_then(|a| a.s.as_deref()) == Some(b"int8");
    int8 || set("use_quantizer") || set("force_fp32_output")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Program, flag, float, floats, int, text};

    fn quantized(x: &[i64], scale: f32, negative: bool) -> Program {
        let attrs = [float("Scale", scale), flag("is_negative_input", negative)];
        Program::new(x).op("quantize", "Input=x", "Output=q", &attrs)
    }

    /// One filter of 2 over one row, with scales as oneDNN has them.
    fn conv(scale_in: f32, more: &[crate::paddle::program::OpAttr]) -> Program {
        let program = quantized(&[1, 1, 1, 3], 10.0, true).floats("w", &[1, 1, 1, 2], &[0.52, -0.26]);
        let mut attrs = vec![
            text("mkldnn_data_type", "int8"),
            float("Scale_in", scale_in),
            float("Scale_out", 20.0),
            floats("Scale_weights", &[100.0]),
        ];
        attrs.extend_from_slice(more);
        program.op("fused_conv2d", "Input=q Filter=w", "Output=c", &attrs)
    }

    #[test]
    fn bytes_stand_for_steps() {
        let program = conv(10.0, &[]).op("dequantize", "Input=c", "Output=y", &[float("Scale", 20.0)]).finish();
        // Bytes 4, 10 and -128, which is -13.0 cut to -12.8; products 0.52 * 0.4 - 0.26 * 1.0 = -0.052.
        let (_, y) = program.run(&[0.44, 1.0, -13.0]);
        let round = |x: f32| (x * 20.0).round_ties_even() * (1.0 / 20.0);
        assert_eq!(y, [round(0.52 * 0.4 - 0.26), round(0.52 + 0.26 * 12.8)]);
        let relu = conv(10.0, &[text("fuse_activation", "relu")]);
        let (_, y) =
            relu.op("dequantize", "Input=c", "Output=y", &[float("Scale", 20.0)]).finish().run(&[0.44, 1.0, -13.0]);
        assert_eq!(y[0], 0.0);
        let float = conv(10.0, &[flag("force_fp32_output", true)]).op("scale", "X=c", "Out=y", &[]).finish();
        assert!((float.run(&[0.44, 1.0, -13.0]).1[0] + 0.052).abs() < 1e-6);
    }

    #[test]
    fn another_scale_reads_other_numbers() {
        let read = |by: f32| {
            let attrs = [flag("force_fp32_output", true)];
            conv(by, &attrs).op("scale", "X=c", "Out=y", &[]).finish().run(&[0.4, 1.0, 1.0]).1[0]
        };
        assert!((read(5.0) - 2.0 * read(10.0)).abs() < 1e-6);
        let program =
            quantized(&[1, 2], 10.0, false).op("dequantize", "Input=q", "Output=y", &[float("Scale", 5.0)]).finish();
        assert_eq!(program.run(&[1.0, -1.0]).1, [2.0, 0.0]);
    }

    #[test]
    fn bytes_are_moved_and_requantized() {
        let attrs =
            [float("Scale_in", 10.0), float("Scale_out", 4.0), float("Shift_in", 0.0), float("Shift_out", 128.0)];
        let program = quantized(&[1, 2, 1], 10.0, true).op(
            "reshape2",
            "X=q",
            "Out=r",
            &[crate::paddle::tests::ints("shape", &[1, 2])],
        );
        let program = program.op("requantize", "Input=r", "Output=s", &attrs);
        let program = program.op("dequantize", "Input=s", "Output=y", &[float("Scale", 4.0), float("Shift", 128.0)]);
        // 1.3 is 13 steps of 0.1, and 5 of 0.25.
        assert_eq!(program.finish().run(&[1.3, -50.0]), (vec![1, 2], vec![1.25, -12.75]));
    }

    #[test]
    fn what_is_not_known_of_bytes_is_refused() {
        let reasons =
            quantized(&[1, 2], 10.0, true).op("softmax", "X=q", "Out=y", &[int("axis", -1)]).finish().reasons();
        assert!(reasons[0].contains("it reads quantized bytes"), "{reasons:?}");
        let attrs = [text("mkldnn_data_type", "int8"), int("axis", -1)];
        let reasons = Program::new(&[1, 2]).op("softmax", "X=x", "Out=y", &attrs).finish().reasons();
        assert!(reasons[0].contains("the INT8 form of this op"), "{reasons:?}");
        let attrs = [text("mkldnn_data_type", "int8"), float("Scale_in", 10.0), floats("Scale_weights", &[1.0; 3])];
        let program = quantized(&[1, 1, 1, 3], 10.0, true).floats("w", &[1, 1, 1, 2], &[0.5; 2]);
        let reasons = program.op("conv2d", "Input=q Filter=w", "Output=y", &attrs).finish().reasons();
        assert!(reasons[0].contains("3 scales of weights, not 1"), "{reasons:?}");
    }
}
