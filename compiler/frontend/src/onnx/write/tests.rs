//! What is written is read again, and computes the same.

use super::super::proto::AttributeProto;
use super::super::tests::{Model, bytes, float, floats, int, ints, longs, text};
use super::{Interface, Written, write, write_within};
use crate::{FileError, Files, Imported, NoFiles, Options, Source, import};
use prost::bytes::Bytes;
use qc_ir::{HostTensor, Items, Module};
use std::borrow::Cow;
use std::collections::BTreeMap;

fn interface<'a>(imported: &Imported) -> Interface<'a> {
    let names = imported.inputs.iter().chain(&imported.outputs).map(|port| port.name.clone()).collect();
    Interface { names, items: None, data_file: "m.onnx.data".into() }
}

fn written(imported: &Imported) -> Written {
    write(&imported.module, &interface(imported)).unwrap()
}

fn read(bytes: Vec<u8>, files: &dyn Files, batch: Option<i64>) -> Imported {
    let source = Source { name: "m".into(), model: bytes.into(), params: None, files };
    let imported = import(&source, &Options { batch, ..Options::default() }).unwrap();
    assert!(qc_ir::verify(&imported.module, &qc_dialects::REGISTRY).is_empty());
    imported
}

fn results(m: &Module) -> Vec<HostTensor> {
    qc_dialects::interpret(m, &qc_ir::samples(m, 1)[0]).unwrap()
}

/// The model again, behind a file.
fn again(model: &Model) -> (Imported, Imported) {
    let own = model.import(&Options::default()).unwrap();
    let copy = read(written(&own).model, &NoFiles, None);
    (own, copy)
}

fn check(model: &Model, what: &str) {
    let (own, copy) = again(model);
    let named = |i: &Imported| i.inputs.iter().chain(&i.outputs).map(|p| (p.name.clone(), p.dims.clone())).collect();
    let (a, b): (Vec<_>, Vec<_>) = (named(&own), named(&copy));
    assert_eq!(a, b, "{what}");
    for (x, y) in results(&own.module).iter().zip(results(&copy.module)) {
        let same = x.data() == y.data() || qc_ir::distance(x, &y).is_some_and(|far| far <= 1e-5);
        assert!(same, "{what}: {:?} and {:?}", x.data(), y.data());
    }
}

#[test]
fn functions_come_back() {
    let plain = [
        "Relu",
        "Sigmoid",
        "Tanh",
        "Exp",
        "Sqrt",
        "Abs",
        "Softsign",
        "Sin",
        "Cos",
        "Erf",
        "Floor",
        "Ceil",
        "Round",
        "Sign",
        "Log",
        "Tan",
        "Asin",
        "Acos",
        "Atan",
        "Sinh",
        "Cosh",
        "Asinh",
        "Acosh",
        "Atanh",
        "HardSwish",
        "Mish",
        "Softplus",
        "Gelu",
        "Softmax",
        "Identity",
        "Neg",
        "Elu",
        "LeakyRelu",
        "HardSigmoid",
        "Shrink",
        "ThresholdedRelu",
        "Celu",
        "Selu",
    ];
    for op_type in plain {
        check(&Model::new(20, &[2, 3, 2]).node(op_type, "x > y", &[]), op_type);
    }
    let swish = |beta| Model::new(24, &[2, 3]).node("Swish", "x > y", &[float("alpha", beta)]);
    [1.0, 1.702].into_iter().for_each(|beta| check(&swish(beta), "Swish"));
    check(&Model::new(20, &[2, 3]).node("Gelu", "x > y", &[text("approximate", "tanh")]), "Gelu by tanh");
}

/// Ops on images.
fn planes(op_type: &str, attributes: &[AttributeProto]) -> Model {
    Model::new(17, &[2, 3, 5, 6]).node(op_type, "x > y", attributes)
}

#[test]
fn ops_on_images_come_back() {
    let window = |more: &[AttributeProto]| {
        [&[ints("kernel_shape", &[3, 2]), ints("strides", &[2, 2]), ints("pads", &[1, 0, 1, 1])], more].concat()
    };
    check(&planes("MaxPool", &window(&[])), "MaxPool");
    check(&planes("MaxPool", &window(&[int("ceil_mode", 1)])), "MaxPool, cut off");
    check(&planes("MaxPool", &[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]), "MaxPool, not to the end");
    check(&planes("AveragePool", &window(&[])), "AveragePool");
    check(&planes("AveragePool", &window(&[int("count_include_pad", 1)])), "AveragePool of pads");
    check(&planes("AveragePool", &window(&[int("ceil_mode", 1)])), "AveragePool, cut off");
    check(&planes("GlobalAveragePool", &[]), "GlobalAveragePool");
    check(&planes("GlobalMaxPool", &[]), "GlobalMaxPool");
    check(&planes("LRN", &[int("size", 3), float("alpha", 0.3)]), "LRN");
    check(&planes("ReduceMean", &[ints("axes", &[1, 3]), int("keepdims", 0)]), "ReduceMean");
    check(&planes("Transpose", &[ints("perm", &[0, 2, 3, 1])]), "Transpose");
    check(&planes("Flatten", &[]), "Flatten");
    check(&planes("DepthToSpace", &[int("blocksize", 1)]), "DepthToSpace");
    let weight = || floats("w", &[6, 1, 2, 2], &(0..24).map(|i| i as f32 / 8.0 - 1.0).collect::<Vec<_>>());
    let conv = [int("group", 3), ints("strides", &[2, 1]), ints("pads", &[0, 1, 1, 0]), ints("dilations", &[1, 2])];
    let bias = floats("b", &[6], &[1.0, 2.0, 3.0, 0.0, -1.0, 0.5]);
    let model = Model::new(17, &[2, 3, 5, 6]).constant(weight()).constant(bias);
    check(&model.node("Conv", "x w b > c", &conv).node("Relu", "c > y", &[]), "Conv");
    let transposed = floats("w", &[3, 2, 2, 2], &(0..24).map(|i| i as f32 / 8.0 - 1.0).collect::<Vec<_>>());
    let model = Model::new(17, &[2, 3, 5, 6]).constant(transposed);
    check(&model.node("ConvTranspose", "x w > y", &[ints("strides", &[2, 2])]), "ConvTranspose");
    let scales = floats("s", &[4], &[1.0, 1.0, 1.7, 2.0]);
    for mode in ["nearest", "linear"] {
        let model = Model::new(17, &[2, 3, 5, 6]).constant(scales.clone());
        check(&model.node("Resize", "x _ s > y", &[text("mode", mode)]), mode);
    }
    let norm = ["s", "b", "m", "v"].map(|name| floats(name, &[3], &[0.5, 1.5, 2.5]));
    let model = norm.into_iter().fold(Model::new(17, &[2, 3, 5, 6]), Model::constant);
    check(&model.node("BatchNormalization", "x s b m v > y", &[]), "BatchNormalization");
}

#[test]
fn movement_and_products_come_back() {
    let model = || Model::new(17, &[2, 3, 4]);
    let sizes = model().constant(longs("s", &[-1, 2, 2])).node("Reshape", "x s > y", &[]);
    check(&sizes, "Reshape");
    check(&model().constant(longs("s", &[5, 2, 3, 4])).node("Expand", "x s > y", &[]), "Expand");
    let cut = ["a", "e", "d", "t"].into_iter().zip([[1, 0], [3, 4], [1, 2], [1, 2]]);
    let cut = cut.fold(model(), |model, (name, values)| model.constant(longs(name, &values)));
    check(&cut.node("Slice", "x a e d t > y", &[]), "Slice");
    let pads = model().constant(longs("p", &[0, 1, 0, 0, 2, 1])).constant(floats("v", &[], &[0.5]));
    check(&pads.node("Pad", "x p v > y", &[]), "Pad");
    check(&model().node("Concat", "x x > y", &[int("axis", 2)]), "Concat");
    check(&model().constant(longs("i", &[2, -1, 0])).node("Gather", "x i > y", &[int("axis", 1)]), "Gather");
    let sum = model().constant(longs("n", &[1]));
    check(&sum.node("CumSum", "x n > y", &[int("exclusive", 1), int("reverse", 1)]), "CumSum");
    let places = model().constant(longs("n", &[1])).node("Cast", "x > i", &[int("to", 7)]);
    check(&places.node("GatherElements", "x i > y", &[int("axis", 1)]), "GatherElements");
    check(&model().node("Cast", "x > i", &[int("to", 6)]).node("Cast", "i > y", &[int("to", 1)]), "Cast");
    for op_type in ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"] {
        let other = floats("c", &[3, 1], &[0.5, 2.0, 3.0]);
        check(&model().constant(other).node(op_type, "x c > y", &[]), op_type);
    }
    let clip = model().constant(floats("a", &[], &[-0.5])).constant(floats("b", &[], &[0.25]));
    check(&clip.node("Clip", "x a b > y", &[]), "Clip");
    check(&model().constant(floats("b", &[], &[0.25])).node("Clip", "x _ b > y", &[]), "Clip from above");
    let where_less = model().constant(floats("c", &[], &[0.25])).node("Less", "x c > l", &[]);
    check(&where_less.node("Where", "l x c > y", &[]), "Where");
    let norm = model().constant(floats("s", &[4], &[1.0, 2.0, 0.5, -1.0])).constant(floats("b", &[4], &[0.5; 4]));
    check(&norm.node("LayerNormalization", "x s b > y", &[float("epsilon", 0.1)]), "LayerNormalization");
    let rms = Model::new(23, &[2, 3, 4]).constant(floats("s", &[4], &[1.0, 2.0, 0.5, -1.0]));
    check(&rms.node("RMSNormalization", "x s > y", &[]), "RMSNormalization");
    let weight: Vec<f32> = (0..8).map(|i| i as f32 / 4.0 - 1.0).collect();
    let product = model().constant(floats("w", &[4, 2], &weight)).constant(floats("b", &[2], &[1.0, -1.0]));
    check(&product.node("MatMul", "x w > p", &[]).node("Add", "p b > y", &[]), "MatMul");
    let gemm =
        Model::new(17, &[3, 4]).constant(floats("w", &[2, 4], &weight)).constant(floats("b", &[2], &[1.0, -1.0]));
    check(&gemm.node("Gemm", "x w b > y", &[int("transB", 1)]), "Gemm");
    let own = Model::new(17, &[2, 3, 3]).node("Transpose", "x > t", &[ints("perm", &[0, 2, 1])]);
    check(&own.node("MatMul", "x t > y", &[]), "MatMul of itself");
}

/// A quantized convolution with what pairs have: per channel, without a zero point, in 32 bits.
fn quantized() -> Model {
    Model::new(13, &[-1, 2, 3, 3])
        .constant(floats("xs", &[], &[0.05]))
        .constant(bytes("xz", 2, &[], &[10]))
        .constant(floats("ws", &[2], &[0.01, 0.02]))
        .constant(bytes("wz", 3, &[2], &[0, 0]))
        .constant(bytes("w", 3, &[2, 2, 1, 1], &[10, -20, 127, -128]))
        .constant(floats("bs", &[2], &[0.0005, 0.001]))
        .constant(bytes("b", 6, &[2], &[100, -2000]))
        .node("QuantizeLinear", "x xs xz > q", &[])
        .node("DequantizeLinear", "q xs xz > d", &[])
        .node("DequantizeLinear", "w ws wz > v", &[int("axis", 0)])
        .node("DequantizeLinear", "b bs > c", &[int("axis", 0)])
        .node("Conv", "d v c > o", &[])
        .node("QuantizeLinear", "o xs xz > p", &[])
        .node("DequantizeLinear", "p xs xz > y", &[])
}

#[test]
fn pairs_come_back_to_the_bit() {
    let (own, copy) = again(&quantized());
    assert_eq!(results(&own.module), results(&copy.module));
    let text = |m: &Module| qc_ir::print(m, Default::default());
    let formats =
        |m: &Module| text(m).lines().filter(|l| l.starts_with("quant ")).map(String::from).collect::<Vec<_>>();
    assert_eq!(formats(&own.module), formats(&copy.module));
}

#[test]
fn the_batch_stays_open() {
    let model = quantized().node("Relu", "y > r", &[]);
    let probe = read(model.encode(), &NoFiles, Some(67));
    let items = qc_ir::Follow::through(&probe.module, 67, &[true]);
    assert_eq!(items.of(probe.module.returns(probe.module.body())[0]), Items::Along(0));
    let open = Interface { items: Some(&items), ..interface(&probe) };
    let bytes = write(&probe.module, &open).unwrap().model;
    for batch in [1, 3] {
        let copy = read(bytes.clone(), &NoFiles, Some(batch));
        assert_eq!(copy.outputs[0].dims, [batch as usize, 2, 3, 3]);
        assert_eq!(results(&copy.module), results(&read(model.encode(), &NoFiles, Some(batch)).module));
    }
    let flat = Model::new(17, &[-1, 2, 3]).constant(longs("s", &[0, 6])).node("Reshape", "x s > y", &[]);
    let probe = read(flat.encode(), &NoFiles, Some(13));
    let items = qc_ir::Follow::through(&probe.module, 13, &[true]);
    let bytes = write(&probe.module, &Interface { items: Some(&items), ..interface(&probe) }).unwrap().model;
    assert_eq!(read(bytes, &NoFiles, Some(4)).outputs[0].dims, [4, 6]);
}

struct Beside(BTreeMap<String, Bytes>);

impl Files for Beside {
    fn read(&self, name: &str, offset: u64, len: Option<u64>) -> Result<Cow<'_, [u8]>, FileError> {
        let all = self.0.get(name).ok_or(FileError::NotFound)?;
        let from = &all[offset as usize..];
        Ok(Cow::Borrowed(&from[..len.map_or(from.len(), |len| len as usize)]))
    }
}

#[test]
fn weights_that_do_not_fit_stand_beside_the_model() {
    let weight: Vec<f32> = (0..1024).map(|i| i as f32 / 512.0 - 1.0).collect();
    let model = Model::new(17, &[3, 32]).constant(floats("w", &[32, 32], &weight));
    let own = model.node("MatMul", "x w > p", &[]).node("MatMul", "p w > y", &[]).import(&Options::default()).unwrap();
    assert!(written(&own).data.is_none());
    let Written { model, data } = write_within(&own.module, &interface(&own), 4096).unwrap();
    let data = data.unwrap();
    assert!(model.len() < 1000 && data.len() == 4096, "{} and {}", model.len(), data.len());
    let copy = read(model, &Beside([("m.onnx.data".to_string(), data.into())].into()), None);
    assert_eq!(results(&own.module), results(&copy.module));
}

#[test]
fn what_cannot_be_written_names_its_node() {
    let model = Model::new(17, &[2, 6]).constant(longs("k", &[2]));
    let model = model.node("TopK", "x k > v i", &[]).node("TopK", "v k > y j", &[]);
    let own = model.import(&Options::default()).unwrap();
    let refused = write(&own.module, &interface(&own)).unwrap_err();
    let said: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("node \"TopK:v\" (TopK, as graph.top_k): it is not written to ONNX; compile"),
        "{said:?}"
    );
}

/// An output that has the name of an input.
fn model_of_its_input() {
    let mut model = Model::new(17, &[2]).node("Relu", "x > y", &[]);
    model.graph.output.push(model.graph.input[0].clone());
    let (own, copy) = again(&model);
    assert_eq!(results(&own.module), results(&copy.module));
}

#[test]
fn inputs_that_are_results_are_copied() {
    let mut model = Model::new(17, &[2]).node("Identity", "x > y", &[]);
    let mut second = model.graph.output[0].clone();
    second.name = "z".into();
    model.graph.output.push(second);
    let model = model.node("Identity", "x > z", &[]);
    model_of_its_input();
    let (own, copy) = again(&model);
    assert_eq!(results(&own.module), results(&copy.module));
    assert_eq!(copy.outputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["y", "z"]);
}
