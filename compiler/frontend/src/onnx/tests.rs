//! Small ONNX models built in code, imported and run by the interpreter.

use super::proto::*;
use crate::{Disposition, ImportError, Imported, NoFiles, Options, Source, import};
use prost::Message;
use qc_ir::HostTensor;

/// A model under construction.
pub(crate) struct Model {
    pub opset: i64,
    pub graph: GraphProto,
    pub functions: Vec<FunctionProto>,
}

pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

pub(crate) fn bytes(name: &str, data_type: i32, dims: &[i64], values: &[i32]) -> TensorProto {
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type, int32_data: values.to_vec(), ..Default::default() }
}

pub(crate) fn longs(name: &str, values: &[i64]) -> TensorProto {
    let dims = vec![values.len() as i64];
    TensorProto { name: name.into(), dims, data_type: 7, int64_data: values.to_vec(), ..Default::default() }
}

fn attr(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: name.into(), kind, ..Default::default() }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attr(name, 2) }
}

pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attr(name, 1) }
}

pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attr(name, 7) }
}

pub(crate) fn text(name: &str, s: &'static str) -> AttributeProto {
    AttributeProto { s: s.as_bytes().into(), ..attr(name, 3) }
}

/// A float port; a dim of -1 is symbolic.
fn port(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim =
        |&d: &i64| DimensionProto { dim_value: (d >= 0).then_some(d), dim_param: (d < 0).then(|| "N".to_string()) };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: 1, shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

impl Model {
    /// A model with one float input `x` and one output `y`.
    pub fn new(opset: i64, x: &[i64]) -> Model {
        let output = vec![ValueInfoProto { name: "y".into(), r#type: None }];
        Model {
            opset,
            graph: GraphProto { input: vec![port("x", x)], output, ..Default::default() },
            functions: vec![],
        }
    }

    pub fn constant(mut self, t: TensorProto) -> Model {
        self.graph.initializer.push(t);
        self
    }

    /// Adds a node; `io` is inputs, `>`, outputs, by spaces; `_` is an input left out.
    pub fn node(mut self, op_type: &str, io: &str, attribute: &[AttributeProto]) -> Model {
        let (inputs, outputs) = io.split_once('>').unwrap();
        let names = |s: &str| s.split_whitespace().map(|n| if n == "_" { String::new() } else { n.into() }).collect();
        self.graph.node.push(NodeProto {
            input: names(inputs),
            output: names(outputs),
            op_type: op_type.into(),
            attribute: attribute.to_vec(),
            ..Default::default()
        });
        self
    }

    /// A node of a domain of the model's own.
    pub fn node_of(self, domain: &str, op_type: &str, io: &str, attribute: &[AttributeProto]) -> Model {
        self.node(op_type, io, attribute).of_domain(domain)
    }

    /// A function whose body is the nodes of another model.
    pub fn function(mut self, domain: &str, name: &str, io: &str, body: Model) -> Model {
        let (inputs, outputs) = io.split_once('>').unwrap();
        let names = |s: &str| s.split_whitespace().map(String::from).collect();
        self.functions.push(FunctionProto {
            name: name.into(),
            input: names(inputs),
            output: names(outputs),
            node: body.graph.node,
            domain: domain.into(),
            ..Default::default()
        });
        self
    }

    /// The nodes and constants as an attribute; `outputs` are what it gives back.
    pub fn graph_attribute(self, name: &str, outputs: &[&str]) -> AttributeProto {
        let output = outputs.iter().map(|o| ValueInfoProto { name: (*o).into(), r#type: None }).collect();
        let graph = GraphProto { input: vec![], output, ..self.graph };
        AttributeProto { g: Some(Box::new(graph)), ..attr(name, 5) }
    }

    /// Puts the last node into a domain.
    pub fn of_domain(mut self, domain: &str) -> Model {
        self.graph.node.last_mut().unwrap().domain = domain.into();
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        ModelProto {
            ir_version: 8,
            producer_name: String::new(),
            graph: Some(self.graph.clone()),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: self.opset }],
            functions: self.functions.clone(),
        }
        .encode_to_vec()
    }

    pub fn import(&self, options: &Options) -> Result<Imported, Vec<ImportError>> {
        let source = Source { name: "m".into(), model: self.encode().into(), params: None, files: &NoFiles };
        let imported = import(&source, options).map_err(|e| e.list)?;
        assert!(qc_ir::verify(&imported.module, &qc_dialects::REGISTRY).is_empty());
        Ok(imported)
    }

    /// Imports and runs the model on `x`.
    pub fn run(&self, x: &[f32]) -> (Vec<usize>, Vec<f32>) {
        let imported = self.import(&Options::default()).unwrap();
        let x = HostTensor::f32(imported.inputs[0].dims.clone(), x.to_vec());
        let out = qc_dialects::interpret(&imported.module, &[x]).unwrap();
        (out[0].dims().to_vec(), out[0].as_f32().unwrap().to_vec())
    }

    pub fn dump(&self) -> String {
        qc_ir::print(&self.import(&Options::default()).unwrap().module, Default::default())
    }

    /// The reasons of all refused nodes.
    pub fn reasons(&self) -> Vec<String> {
        let errors = self.import(&Options::default()).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn convolution_pads_are_resolved() {
    let model = |attrs: &[AttributeProto]| {
        let w = floats("w", &[1, 1, 2, 2], &[1.0, 1.0, 1.0, 1.0]);
        Model::new(13, &[1, 1, 3, 3]).constant(w).node("Conv", "x w > y", attrs)
    };
    let x: Vec<f32> = (1..10).map(|i| i as f32).collect();
    assert_eq!(model(&[]).run(&x), (vec![1, 1, 2, 2], vec![12.0, 16.0, 24.0, 28.0]));
    let upper = model(&[text("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2])]).run(&x);
    assert_eq!(upper, (vec![1, 1, 2, 2], vec![12.0, 9.0, 15.0, 9.0]));
    let lower = model(&[text("auto_pad", "SAME_LOWER"), ints("strides", &[2, 2])]).run(&x);
    assert_eq!(lower.1, [1.0, 5.0, 11.0, 28.0]);
    let explicit = model(&[ints("pads", &[0, 1, 0, 0])]).run(&x);
    assert_eq!(explicit.0, [1, 1, 2, 3]);
    assert!(model(&[ints("strides", &[0, 1])]).reasons()[0].contains("stride 0,"));
    assert!(model(&[ints("pads", &[-1, 0, 0, 0])]).reasons()[0].contains("negative"));
}

#[test]
fn average_pools_leave_out_windows_behind_the_input() {
    let attrs = |inclusive| {
        let (kernel, strides) = (ints("kernel_shape", &[2, 2]), ints("strides", &[2, 3]));
        [kernel, strides, ints("pads", &[0, 0, 1, 1]), int("ceil_mode", 1), int("count_include_pad", inclusive)]
    };
    let model = |inclusive| Model::new(22, &[1, 1, 2, 3]).node("AveragePool", "x > y", &attrs(inclusive));
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    // Along each dim the second window would begin behind the input.
    assert_eq!(model(1).run(&x), (vec![1, 1, 1, 1], vec![3.0]));
    // One row is behind; the window of the last column has one column of the input and one that counts.
    let wide =
        [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2]), int("ceil_mode", 1), int("count_include_pad", 1)];
    let model = Model::new(22, &[1, 1, 2, 3]).node("AveragePool", "x > y", &wide);
    assert_eq!(model.run(&x), (vec![1, 1, 1, 2], vec![3.0, 4.5]));
}

#[test]
fn norms_of_small_deviations_from_a_large_mean_are_precise() {
    let x: Vec<f32> = (0..256).map(|i| 100.0 + 0.01 * (i as f32 * 0.7).sin()).collect();
    let wide = || x.iter().map(|&v| f64::from(v));
    let mean = wide().sum::<f64>() / 256.0;
    let variance = wide().map(|v| (v - mean).powi(2)).sum::<f64>() / 256.0;
    let layer = Model::new(17, &[1, 256]).constant(floats("s", &[256], &[1.0; 256]));
    let layer = layer.node("LayerNormalization", "x s > y", &[]);
    let instance =
        Model::new(17, &[1, 1, 16, 16]).constant(floats("s", &[1], &[1.0])).constant(floats("b", &[1], &[0.0]));
    let instance = instance.node("InstanceNormalization", "x s b > y", &[]);
    for model in [layer, instance] {
        for (found, v) in model.run(&x).1.into_iter().zip(wide()) {
            let exact = (v - mean) / (variance + 1e-5).sqrt();
            assert!((f64::from(found) - exact).abs() < 3e-7, "{found} not {exact}");
        }
    }
}

#[test]
fn gemm_keeps_its_factors() {
    let model = Model::new(13, &[1, 2])
        .constant(floats("b", &[2, 2], &[1.0, 2.0, 3.0, 4.0]))
        .constant(floats("c", &[1, 2], &[10.0, 20.0]))
        .node("Gemm", "x b c > y", &[float("alpha", 2.0), float("beta", 0.5), int("transB", 1)]);
    assert_eq!(model.run(&[1.0, 1.0]), (vec![1, 2], vec![11.0, 24.0]));
    assert!(model.dump().contains("transpose_b = true"));
    // A column per row is no bias: it is added behind.
    let column = Model::new(13, &[2, 1])
        .constant(floats("b", &[1, 2], &[1.0, 2.0]))
        .constant(floats("c", &[2, 1], &[10.0, 20.0]))
        .node("Gemm", "x b c > y", &[]);
    assert_eq!(column.run(&[1.0, 2.0]).1, [11.0, 12.0, 22.0, 24.0]);
}

#[test]
fn old_softmax_joins_the_dims_behind_its_axis() {
    let model = |opset| Model::new(opset, &[1, 2, 2]).node("Softmax", "x > y", &[]);
    let x = [0.0, 0.0, 0.0, 0.0];
    assert_eq!(model(11).run(&x), (vec![1, 2, 2], vec![0.25; 4]));
    assert_eq!(model(13).run(&x), (vec![1, 2, 2], vec![0.5; 4]));
    let single = Model::new(11, &[1, 4, 1, 1]).node("Softmax", "x > y", &[]);
    assert!(!single.dump().contains("reshape"));
}

#[test]
fn shape_arithmetic_is_folded() {
    let model = Model::new(13, &[-1, 2, 3, 1])
        .constant(longs("zero", &[0]))
        .constant(longs("one", &[1]))
        .constant(longs("rest", &[-1]))
        .node("Shape", "x > s", &[])
        .node("Slice", "s zero one zero > n", &[])
        .node("Concat", "n rest > target", &[int("axis", 0)])
        .node("Reshape", "x target > y", &[]);
    let imported = model.import(&Options { batch: Some(5), ..Options::default() }).unwrap();
    assert_eq!(imported.outputs[0].dims, [5, 6]);
    assert!(imported.inputs[0].batched);
    let folded = imported.report.iter().filter(|r| matches!(r.disposition, Disposition::Folded(_))).count();
    assert_eq!((folded, imported.report.len()), (3, 4));
    assert_eq!(imported.report[3].node, "Reshape:y");
    assert_eq!(imported.module.op_count(), 1);
}

#[test]
fn attributes_became_inputs_over_time() {
    let clip = |opset, io, attrs: &[AttributeProto]| {
        let bounds = [floats("lo", &[], &[-1.0]), floats("hi", &[], &[1.0])];
        let [lo, hi] = bounds;
        Model::new(opset, &[3]).constant(lo).constant(hi).node("Clip", io, attrs).run(&[-5.0, 0.5, 5.0]).1
    };
    assert_eq!(clip(7, "x > y", &[float("min", 0.0), float("max", 2.0)]), [0.0, 0.5, 2.0]);
    assert_eq!(clip(11, "x lo hi > y", &[]), [-1.0, 0.5, 1.0]);
    assert_eq!(clip(11, "x _ hi > y", &[]), [-5.0, 0.5, 1.0]);
    let squeeze = Model::new(7, &[1, 3]).node("Squeeze", "x > y", &[ints("axes", &[0])]);
    assert_eq!(squeeze.run(&[1.0, 2.0, 3.0]).0, [3]);
    let slice = Model::new(9, &[4]).node("Slice", "x > y", &[ints("starts", &[1]), ints("ends", &[-1])]);
    assert_eq!(slice.run(&[1.0, 2.0, 3.0, 4.0]).1, [2.0, 3.0]);
    let pads = longs("p", &[0, 1]);
    let pad = Model::new(13, &[2]).constant(pads).constant(floats("v", &[], &[7.0])).node("Pad", "x p v > y", &[]);
    assert_eq!(pad.run(&[1.0, 2.0]).1, [1.0, 2.0, 7.0]);
}

#[test]
fn a_split_is_one_slice_per_output() {
    let model =
        Model::new(13, &[4]).constant(longs("sizes", &[1, 3])).node("Split", "x sizes > a y", &[int("axis", 0)]);
    assert_eq!(model.run(&[1.0, 2.0, 3.0, 4.0]).1, [2.0, 3.0, 4.0]);
    let equal = Model::new(18, &[5]).node("Split", "x > a y", &[int("num_outputs", 2)]);
    assert_eq!(equal.run(&[1.0, 2.0, 3.0, 4.0, 5.0]).1, [4.0, 5.0]);
}

#[test]
fn a_window_that_begins_inside_a_smaller_map_counts() {
    let attrs = [ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), int("ceil_mode", 1)];
    let x = [1.0, 2.0, 3.0, 4.0];
    for (op, counted, y) in [("MaxPool", None, 4.0), ("AveragePool", Some(0), 2.5), ("AveragePool", Some(1), 2.5)] {
        let attrs: Vec<_> = attrs.iter().cloned().chain(counted.map(|c| int("count_include_pad", c))).collect();
        let model = Model::new(22, &[1, 1, 2, 2]).node(op, "x > y", &attrs);
        assert_eq!(model.run(&x), (vec![1, 1, 1, 1], vec![y]), "{op}");
        // Without a window there is no result; that is no fault of the model.
        let none = Model::new(22, &[1, 1, 1, 1]).node(op, "x > y", &attrs).reasons();
        assert!(none[0].contains("finds no window in 1 x 1") && !none[0].contains("not valid"), "{none:?}");
    }
}

#[test]
fn an_empty_part_of_a_split_does_no_harm() {
    let model = Model::new(13, &[2]).constant(longs("sizes", &[0, 2])).node("Split", "x sizes > a y", &[]);
    assert_eq!(model.run(&[1.0, 2.0]).1, [1.0, 2.0]);
    let read = Model::new(13, &[2]).constant(longs("sizes", &[0, 2])).node("Split", "x sizes > a b", &[]);
    assert_eq!(read.node("Concat", "a b > y", &[int("axis", 0)]).run(&[1.0, 2.0]).1, [1.0, 2.0]);
}

#[test]
fn a_bound_that_is_no_number_is_not_the_models_fault() {
    let nan = Model::new(13, &[2]).constant(floats("low", &[], &[f32::NAN])).node("Clip", "x low > y", &[]);
    assert!(nan.reasons()[0].contains("a bound is NaN; give it numbers as bounds"), "{:?}", nan.reasons());
}

#[test]
fn dims_that_the_user_states_are_blamed_before_the_model() {
    let model = || Model::new(13, &[-1, 4]).constant(longs("to", &[2, 6])).node("Reshape", "x to > y", &[]);
    let text = model().reasons().join("");
    assert!(text.contains("batch 1: state another with `--shape x=?,4`") && !text.contains("not valid"), "{text}");
    let options = Options { shapes: [("x".to_string(), vec![5, 4])].into(), ..Options::default() };
    let text = model().import(&options).unwrap_err()[0].to_string();
    assert!(text.contains("`--shape` states may not fit; the model says [?, 4] for \"x\""), "{text}");
    let fixed = Model::new(13, &[1, 4]).constant(longs("to", &[2, 6])).node("Reshape", "x to > y", &[]);
    assert!(fixed.reasons()[0].contains("the model is not valid"));
}

#[test]
fn lrn_divides_alpha_by_the_window() {
    let attrs = [int("size", 3), float("alpha", 0.3), float("beta", 1.0), float("bias", 1.0)];
    let model = Model::new(13, &[1, 1, 1, 1]).node("LRN", "x > y", &attrs);
    let y = model.run(&[2.0]).1[0];
    assert!((y - 2.0 / (1.0 + 0.1 * 4.0)).abs() < 1e-6);
}

#[test]
fn ceil_mode_pads_maxima_and_counts_averages_right() {
    let attrs = |extra: &[AttributeProto]| {
        let common = [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2]), int("ceil_mode", 1)];
        [&common[..], extra].concat()
    };
    let x: Vec<f32> = (1..10).map(|i| i as f32).collect();
    let max = Model::new(13, &[1, 1, 3, 3]).node("MaxPool", "x > y", &attrs(&[]));
    assert_eq!(max.run(&x).1, [5.0, 6.0, 8.0, 9.0]);
    let mean = Model::new(13, &[1, 1, 3, 3]).node("AveragePool", "x > y", &attrs(&[]));
    assert_eq!(mean.run(&x).1, [3.0, 4.5, 7.5, 9.0]);
    let counted = attrs(&[int("count_include_pad", 1)]);
    let mean = Model::new(19, &[1, 1, 3, 3]).node("AveragePool", "x > y", &counted);
    assert_eq!(mean.run(&x).1, [3.0, 4.5, 7.5, 9.0]);
}

/// A quantized convolution as exporters write it: u8 activations, s8 weights per channel, s32 bias.
pub(crate) fn qdq_model() -> Model {
    Model::new(13, &[-1, 1, 2, 2])
        .constant(floats("sx", &[], &[0.5]))
        .constant(bytes("zx", 2, &[], &[128]))
        .constant(bytes("w", 3, &[2, 1, 1, 1], &[2, -4]))
        .constant(floats("sw", &[2], &[0.25, 0.5]))
        .constant(bytes("zw", 3, &[2], &[0, 1]))
        .constant(bytes("b", 6, &[2], &[8, -4]))
        .constant(floats("sb", &[2], &[0.125, 0.25]))
        .node("QuantizeLinear", "x sx zx > xq", &[])
        .node("DequantizeLinear", "xq sx zx > xr", &[])
        .node("DequantizeLinear", "w sw zw > wr", &[int("axis", 0)])
        .node("DequantizeLinear", "b sb > br", &[int("axis", 0)])
        .node("Conv", "xr wr br > y", &[])
}

#[test]
fn quantize_and_dequantize_map_one_to_one() {
    let model = qdq_model();
    // x is rounded to multiples of 0.5; weights are 0.5 and -2.5, the bias 1 and -1.
    let (dims, y) = model.run(&[1.0, 2.2, -3.0, 100.0]);
    assert_eq!(dims, [1, 2, 1 + 1, 2]);
    assert_eq!(y, [1.5, 2.0, -0.5, 32.75, -3.5, -6.0, 6.5, -159.75]);
    let dump = model.dump();
    assert!(dump.contains("q<u8, [0.5], [128]"), "{dump}");
    assert!(dump.contains("i32"), "{dump}");
    assert_eq!(dump.matches("graph.quantize").count(), 1);
    assert_eq!(dump.matches("graph.dequantize").count(), 3);
}

#[test]
fn odd_quantization_is_refused_or_made_exact() {
    let zero_scale = Model::new(13, &[2])
        .constant(bytes("w", 3, &[2], &[5, 7]))
        .constant(floats("s", &[2], &[0.0, 1.0]))
        .node("DequantizeLinear", "w s > r", &[int("axis", 0)])
        .node("Add", "x r > y", &[]);
    assert_eq!(zero_scale.run(&[0.0, 0.0]).1, [0.0, 7.0]);
    let negative = Model::new(13, &[2]).constant(floats("s", &[], &[-1.0])).node("QuantizeLinear", "x s > y", &[]);
    assert!(negative.reasons()[0].contains("scale -1 is not a positive number"));
    let other = Model::new(13, &[2])
        .constant(floats("s", &[], &[1.0]))
        .constant(floats("t", &[], &[2.0]))
        .node("QuantizeLinear", "x s > q", &[])
        .node("DequantizeLinear", "q t > y", &[]);
    assert_eq!(other.run(&[2.4, 3.6]).1, [4.0, 8.0]);
}

#[test]
fn bounds_of_stored_integers_are_stored_integers() {
    let model = |op: &str, io: &str| {
        Model::new(13, &[3])
            .constant(floats("s", &[], &[0.5]))
            .constant(bytes("z", 3, &[], &[-2]))
            .constant(bytes("lo", 3, &[], &[-4]))
            .constant(bytes("hi", 3, &[], &[3]))
            .node("QuantizeLinear", "x s z > q", &[])
            .node(op, io, &[])
            .node("DequantizeLinear", "r s z > y", &[])
    };
    // Stored -12, -2, 8; below 0 is below 1.
    assert_eq!(model("Relu", "q > r").run(&[-5.0, 0.0, 5.0]).1, [1.0, 1.0, 5.0]);
    assert_eq!(model("Clip", "q lo hi > r").run(&[-5.0, 0.0, 5.0]).1, [-1.0, 0.0, 2.5]);
}

#[test]
fn everything_wrong_is_listed_at_once() {
    let model = Model::new(13, &[1, 3])
        .constant(TensorProto { data_type: 8, ..floats("w", &[1], &[]) })
        .node("Foo", "x > a", &[])
        .node("Relu", "a > b", &[])
        .node("Bar", "b > c", &[])
        .node("Add", "x nowhere > d", &[])
        .node("Mul", "d w > e", &[])
        .node("Foo", "x > unused", &[])
        .node("Sum", "c d e > y", &[]);
    let reasons = model.reasons();
    assert_eq!(reasons.len(), 4, "{reasons:#?}");
    assert!(reasons[0].starts_with("node \"Foo:a\" (Foo): this operator is not supported"));
    assert!(reasons[1].starts_with("node \"Bar:c\" (Bar)"));
    assert!(reasons[2].contains("\"nowhere\" is neither"));
    assert!(reasons[3].starts_with("parameter \"w\"") && reasons[3].contains("string"));
}

#[test]
fn open_shapes_and_unknown_operators_are_told_together() {
    let reasons = Model::new(13, &[-1, -1]).node("Foo", "x > y", &[]).reasons();
    assert_eq!(reasons.len(), 2);
    assert!(reasons[0].contains("--shape x=") && reasons[1].contains("Foo"), "{reasons:?}");
}

#[test]
fn a_fixed_batch_is_an_error_of_its_own() {
    let model = Model::new(13, &[2, 3]).node("Relu", "x > y", &[]);
    let source = Source { name: "m".into(), model: model.encode().into(), params: None, files: &NoFiles };
    let errors = import(&source, &Options { batch: Some(8), ..Options::default() }).unwrap_err();
    assert_eq!(errors.fixed_batch(), Some(2));
    assert_eq!(model.import(&Options::default()).unwrap().fixed_batch, Some(2));
}

#[test]
fn nodes_that_no_output_needs_are_left_out() {
    let model = Model::new(13, &[2]).node("Foo", "x > unused", &[]).node("Relu", "x > y", &[]);
    let report = model.import(&Options::default()).unwrap().report;
    assert_eq!(report[0].disposition, Disposition::Folded("no output of the model depends on it"));
    assert_eq!(report[1].disposition, Disposition::Mapped);
}

#[test]
fn inference_has_no_dropout() {
    let model = Model::new(13, &[2]).node("Dropout", "x > a", &[]).node("Identity", "a > y", &[]);
    let imported = model.import(&Options::default()).unwrap();
    assert_eq!(imported.module.op_count(), 0);
    let mask = Model::new(13, &[2]).node("Dropout", "x > a m", &[]).node("Cast", "m > f", &[int("to", 1)]);
    assert_eq!(mask.node("Mul", "a f > y", &[]).run(&[3.0, -2.0]).1, [3.0, -2.0]);
}

#[test]
fn old_operator_sets_are_refused_with_a_remedy() {
    let reasons = Model::new(5, &[2]).node("Relu", "x > y", &[]).reasons();
    assert!(reasons[0].contains("operator set 5") && reasons[0].contains("version_converter"), "{reasons:?}");
}

#[test]
fn names_and_locations_are_the_models_own() {
    let mut model = Model::new(13, &[2]).node("Relu", "x > a", &[]).node("Relu", "a > y", &[]);
    model.graph.node[0].name = "first".into();
    let imported = model.import(&Options::default()).unwrap();
    let m = &imported.module;
    let ops = m.ops(m.body()).to_vec();
    assert_eq!(m.name(m.result(ops[0])), Some("a"));
    assert_eq!(&*m.locs.nodes(m.loc(ops[0]))[0].name, "first");
    assert_eq!(&*m.locs.nodes(m.loc(ops[1]))[0].name, "Relu:y");
}

#[test]
fn old_broadcasting_begins_at_an_axis() {
    let x: Vec<f32> = (0..8).map(|i| i as f32).collect();
    let add = |axis: &[AttributeProto]| {
        Model::new(6, &[1, 2, 2, 2]).constant(floats("b", &[2], &[10.0, 20.0])).node("Add", "x b > y", axis).run(&x).1
    };
    assert_eq!(add(&[int("broadcast", 1)]), [10.0, 21.0, 12.0, 23.0, 14.0, 25.0, 16.0, 27.0]);
    let at_channels = [int("broadcast", 1), int("axis", 1)];
    assert_eq!(add(&at_channels), [10.0, 11.0, 12.0, 13.0, 24.0, 25.0, 26.0, 27.0]);
    let slopes = Model::new(6, &[1, 2, 1, 2]).constant(floats("s", &[2], &[0.5, 2.0])).node("PRelu", "x s > y", &[]);
    assert_eq!(slopes.run(&[-2.0, 2.0, -2.0, 2.0]).1, [-1.0, 2.0, -4.0, 2.0]);
}

/// `y = (x - m) / sqrt(v + e) * s + b`, where `s` is computed.
#[test]
fn statistics_may_be_computed() {
    let half = |name: &str, values: [f32; 2]| floats(name, &[2], &values);
    let model = Model::new(9, &[1, 2, 2, 1])
        .constant(half("k", [2.0, 3.0]))
        .constant(half("b", [1.0, -1.0]))
        .constant(half("m", [0.5, 1.0]))
        .constant(half("v", [0.25, 4.0]))
        .node("GlobalMaxPool", "x > p", &[])
        .node("Flatten", "p > q", &[])
        .node("Squeeze", "q > r", &[ints("axes", &[0])])
        .node("Mul", "r k > s", &[])
        .node("BatchNormalization", "x s b m v > y", &[float("epsilon", 0.0)]);
    let want = [4.0 * 1.0 + 1.0, 4.0 * 3.0 + 1.0, 9.0 * 1.0 - 1.0, -1.0];
    assert_eq!(model.run(&[1.0, 2.0, 3.0, 1.0]).1, want);
}

/// ONNX's defaults of the bounds are the lowest and the largest number.
#[test]
fn a_clip_without_a_bound_stops_infinities() {
    let x = [f32::NEG_INFINITY, -2.0, 3.0, f32::INFINITY];
    let clip =
        |bounds: &str| Model::new(13, &[4]).constant(floats("b", &[], &[0.5])).node("Clip", bounds, &[]).run(&x).1;
    assert_eq!(clip("x b > y"), [0.5, 0.5, 3.0, f32::MAX]);
    assert_eq!(clip("x > y"), [f32::MIN, -2.0, 3.0, f32::MAX]);
}
