//! Imports the real models of the shared folder and, where there are reference outputs, runs them.
//!
//! The folder is `QC_SHARED`, or `shared` beside the repository. Without it every test counts itself as skipped, in print.

#![allow(clippy::unwrap_used)]

use qc_frontend::{Bytes, FileError, Files, ImportError, ImportErrors, Imported, Options, Source, import};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

struct Dir(PathBuf);

impl Files for Dir {
    fn read(&self, name: &str, offset: u64, len: Option<u64>) -> Result<Cow<'_, [u8]>, FileError> {
        let bytes = std::fs::read(self.0.join(name)).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => FileError::NotFound,
            _ => FileError::Other(e.to_string()),
        })?;
        let end = len.map_or(bytes.len() as u64, |l| offset + l);
        let short = FileError::Short { has: bytes.len() as u64, wants: end };
        bytes.get(offset as usize..end as usize).map(|b| Cow::Owned(b.to_vec())).ok_or(short)
    }
}

fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("QC_SHARED").map_or(beside, PathBuf::from);
    let found = folder.join("models/INDEX.md").exists();
    if !found {
        println!("SKIPPED 1: {} is not there (QC_SHARED)", folder.display());
    }
    found.then_some(folder)
}

/// Imports an `.onnx` file, a `.pdmodel` with the `.pdiparams` beside it, or a program with its parameters.
fn load(path: &Path, options: &Options) -> Result<Imported, ImportErrors> {
    let dir = path.parent().unwrap().to_path_buf();
    let combined = match path.file_name().unwrap().to_str().unwrap() {
        "model" => Some(dir.join("params")),
        "__model__" => Some(dir.join("__params__")),
        name if name.ends_with(".pdmodel") || name.ends_with(".json") => Some(path.with_extension("pdiparams")),
        _ => None,
    };
    let params = combined.filter(|p| p.exists()).map(|p| Bytes::from(std::fs::read(p).unwrap()));
    let source = Source {
        name: path.file_name().unwrap().to_string_lossy().into(),
        model: Bytes::from(std::fs::read(path).unwrap()),
        params,
        files: &Dir(dir),
    };
    import(&source, options)
}

/// Models that must import, relative to the shared folder.
const MUST_IMPORT: &[&str] = &[
    "models/models/shufflenetv2_x1_0/paddle_separate/__model__",
    "models/models/shufflenetv2_x1_0/shufflenetv2_x1_0.onnx",
    "models/models/shufflenetv2_x1_0/shufflenetv2_x1_0_ort_qdq.onnx",
    "models/models/shufflenetv2_x1_0/paddle_ptq_fakequant",
    "models/models/mobilenet_v2_100_224_qat/mobilenet_v2_100_224_qat_fp32.onnx",
    "models/models/mobilenet_v2_100_224_qat/mobilenet_v2_100_224_qat_qdq.onnx",
    "models/models/squeezenet11/SqueezeNet_fp32_opset13.onnx",
    "models/models/squeezenet11/SqueezeNet_fp16.onnx",
    "models/models/cifar10_resnet20/cifar10_resnet20.onnx",
    "models/models/cifar10_resnet20/cifar10_resnet20_ort_qdq.onnx",
    "models/models/cifar10_resnet20/paddle_pd2",
    "models/models/cifar10_resnet20/paddle_old_combined",
    "models/models/cifar10_resnet20/paddle_old_separate/__model__",
    "models/models/cifar10_resnet20/paddle_ptq_onnxformat0",
    "models/models/cifar10_resnet20/paddle_ptq_onnxformat1",
    "models/models/cifar10_resnet20/paddle_pir3",
    "models/models/shufflenetv2_x1_0/paddle_pir3",
    "models/models/mnist/mnist.onnx",
    "models/models/mobilenet_v1_075_224_keras/paddle_pdmodel",
    "models/models/mobilenet_v1_075_224_keras/mobilenet_v1_075_224_keras_ort_qdq.onnx",
    "models/models/mobilenet_v1_075_224_keras/paddle_ptq_quantize_linear",
    "models/models/shufflenetv2_x1_0/paddle_ptq_quantize_linear",
    "models/models/tiny_kws_dscnn/tiny_kws_dscnn_ptq_fp32.onnx",
    "models/models/tiny_kws_dscnn/tiny_kws_dscnn_ptq_qdq.onnx",
    "models/models/tiny_kws_dscnn",
    "models/models/misc_onnx/version-RFB-320_simplified.onnx",
    "peers/models/googlenet/qdq_u8s8.onnx",
    "peers/models/mobilenet_v1/qdq_u8s8.onnx",
    "peers/models/mobilenet_v2/qdq_u8s8.onnx",
    "peers/models/resnet50/qdq_u8s8.onnx",
    "spec/models/fp32/resnet_p18/combined/model",
    "spec/models/fp32/resnet_p18/separate/__model__",
    "spec/models/fp32/resnet_p26",
    "spec/models/fp32/resnet_p26/separate/__model__",
    "spec/models/fp32/resnet_p26dy",
    "spec/models/qat/resnet_p18_cw_mavg/qat/__model__",
    "spec/models/qat/resnet_p18_cw_mavg/fp32/__model__",
    "spec/models/qat/resnet_p18_cw_mavg/qat_int8_weights/__model__",
    "spec/models/qat/resnet_p18_tw_mavg/qat/__model__",
    "spec/models/qat/resnet_p18_tw_mavg/qat_int8_weights/__model__",
    "spec/models/qat/resnet_p18_tw_range/qat/__model__",
    "spec/models/qat/resnet_p26_cw_mavg",
    "spec/models/qat/resnet_p26_cw_mavg_qdq",
    "spec/models/qat/resnet_p26_tw_mavg_qdq",
    "spec/models/qat/resnet_p26_tw_range",
    "spec/models/qat/resnet_p26dy_imp_ptq",
    "spec/models/qat/resnet_p26dy_imp_qat",
    "spec/models/qat/resnet_p26dy_imp_qat_cw",
    "spec/models/qat/resnet_p26dy_qat",
    "spec/models/qat/resnet_p26dy_ptq",
    "spec/models/ptq/resnet_p26_KL_fake",
    "spec/models/ptq/resnet_p26_KL_qdq",
    "spec/models/fp32/resnet_p33pir",
    "spec/models/fp32/dwnet_p33pir",
    "spec/models/qat/resnet_p33pir_qat",
    "spec/models/qat/resnet_p33pir_ptq",
    "spec/models/qat/dwnet_p33pir_qat",
    "spec/models/qat/dwnet_p26dy_qat",
    "spec/models/qat/dwnet_p26_cw_mavg",
    "spec/models/qat/dwnet_p26_cw_mavg_qdq",
    "spec/models/qat/dwnet_p18_cw_range/qat/__model__",
];

/// The program file of a model folder; other paths unchanged.
fn program(path: PathBuf) -> PathBuf {
    if !path.is_dir() {
        return path;
    }
    let names = ["inference.pdmodel", "model.pdmodel", "inference.json", "model.json", "__model__", "model"];
    let files = names.iter().map(|n| path.join(n)).find(|p| p.exists());
    files.unwrap_or(path)
}

#[test]
fn the_image_models_import() {
    let Some(shared) = shared() else { return };
    let mut failed = Vec::new();
    for name in MUST_IMPORT {
        let path = program(shared.join(name));
        match load(&path, &Options::default()) {
            Ok(model) => {
                let wrong = qc_ir::verify(&model.module, &qc_dialects::REGISTRY);
                let ops = model.module.op_count();
                println!("{name}: {}, {} nodes, {ops} ops", model.format, model.report.len());
                failed.extend(wrong.iter().map(|d| format!("{name}: {}", d.render(&model.module))));
            }
            Err(e) => failed.push(format!("{name}: {e}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn npz(path: &Path, array: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let found = qc_arrays::Archive::new(&bytes).and_then(|mut archive| archive.get(array));
    let tensor = found.unwrap_or_else(|e| panic!("{array} of {}: {e}", path.display()));
    (tensor.dims().to_vec(), tensor.as_f32().unwrap().to_vec())
}

/// A model, the file and array of its input, the file of its reference, and the tolerance as a share of the largest
/// magnitude.
struct Golden(&'static str, (&'static str, &'static str), &'static str, f32);

const P1: (&str, &str) = ("models/goldens/input_P1.npz", "x");
const P2: (&str, &str) = ("models/goldens/input_P2.npz", "x");
const P3: (&str, &str) = ("models/goldens/input_P3.npz", "x");
const CIFAR: (&str, &str) = ("models/goldens/input_cifar.npz", "x");
const MNIST: (&str, &str) = ("models/goldens/mnist.npz", "in|Input3");
const KWS: (&str, &str) = ("models/goldens/tiny_kws_dscnn_ptq_fp32.npz", "in|input");
const FACES: (&str, &str) = ("models/goldens/version-RFB-320_simplified.npz", "in|input");
const DIGITS: (&str, &str) = ("spec/models/fp32/resnet_p18/golden.npz", "image");

const FLOAT: f32 = 1e-4;
/// Quantized references come from other integer arithmetic, or from an emulation that rounds halves away from zero.
const QUANT: f32 = 0.1;

#[rustfmt::skip]
const GOLDENS: &[Golden] = &[
    Golden("models/models/shufflenetv2_x1_0/paddle_separate/__model__", P1, "models/goldens/shufflenetv2_x1_0__paddle_separate.npz", FLOAT),
    Golden("models/models/shufflenetv2_x1_0/shufflenetv2_x1_0.onnx", P1, "models/goldens/shufflenetv2_x1_0.npz", FLOAT),
    Golden("models/models/shufflenetv2_x1_0/shufflenetv2_x1_0_ort_qdq.onnx", P1, "models/goldens/shufflenetv2_x1_0_ort_qdq.npz", QUANT),
    Golden("models/models/shufflenetv2_x1_0/paddle_ptq_fakequant", P1, "models/goldens/shufflenetv2_x1_0__paddle_ptq_fakequant.npz", QUANT),
    Golden("models/models/shufflenetv2_x1_0/paddle_ptq_quantize_linear", P1, "models/goldens/shufflenetv2_x1_0__paddle_ptq_quantize_linear.npz", QUANT),
    Golden("models/models/mobilenet_v2_100_224_qat/mobilenet_v2_100_224_qat_fp32.onnx", P2, "models/goldens/mobilenet_v2_100_224_qat_fp32.npz", FLOAT),
    Golden("models/models/mobilenet_v2_100_224_qat/mobilenet_v2_100_224_qat_qdq.onnx", P2, "models/goldens/mobilenet_v2_100_224_qat_qdq.npz", QUANT),
    Golden("models/models/squeezenet11/SqueezeNet_fp32_opset13.onnx", P3, "models/goldens/SqueezeNet_fp32_opset13.npz", FLOAT),
    Golden("models/models/cifar10_resnet20/cifar10_resnet20.onnx", CIFAR, "models/goldens/cifar10_resnet20.npz", FLOAT),
    Golden("models/models/cifar10_resnet20/cifar10_resnet20_ort_qdq.onnx", CIFAR, "models/goldens/cifar10_resnet20_ort_qdq.npz", QUANT),
    Golden("models/models/cifar10_resnet20/paddle_pd2", CIFAR, "models/goldens/cifar10_resnet20__paddle_pd2.npz", FLOAT),
    Golden("models/models/cifar10_resnet20/paddle_old_combined", CIFAR, "models/goldens/cifar10_resnet20__paddle_old_combined.npz", FLOAT),
    Golden("models/models/cifar10_resnet20/paddle_old_separate/__model__", CIFAR, "models/goldens/cifar10_resnet20__paddle_old_separate.npz", FLOAT),
    Golden("models/models/cifar10_resnet20/paddle_ptq_onnxformat0", CIFAR, "models/goldens/cifar10_resnet20__paddle_ptq_onnxformat0.npz", QUANT),
    Golden("models/models/cifar10_resnet20/paddle_ptq_onnxformat1", CIFAR, "models/goldens/cifar10_resnet20__paddle_ptq_onnxformat1.npz", QUANT),
    Golden("models/models/cifar10_resnet20/paddle_pir3", CIFAR, "models/goldens/cifar10_resnet20__paddle_pd2.npz", FLOAT),
    Golden("models/models/shufflenetv2_x1_0/paddle_pir3", P1, "models/goldens/shufflenetv2_x1_0__paddle_separate.npz", FLOAT),
    Golden("models/models/mnist/mnist.onnx", MNIST, "models/goldens/mnist.npz", FLOAT),
    Golden("models/models/mobilenet_v1_075_224_keras/paddle_pdmodel", P2, "models/goldens/mobilenet_v1_075_224_keras__paddle_pdmodel.npz", FLOAT),
    Golden("models/models/mobilenet_v1_075_224_keras/mobilenet_v1_075_224_keras_ort_qdq.onnx", P2, "models/goldens/mobilenet_v1_075_224_keras_ort_qdq.npz", QUANT),
    Golden("models/models/tiny_kws_dscnn/tiny_kws_dscnn_ptq_fp32.onnx", KWS, "models/goldens/tiny_kws_dscnn_ptq_fp32.npz", FLOAT),
    Golden("models/models/tiny_kws_dscnn/tiny_kws_dscnn_ptq_qdq.onnx", KWS, "models/goldens/tiny_kws_dscnn_ptq_qdq.npz", QUANT),
    Golden("models/models/tiny_kws_dscnn", KWS, "models/goldens/tiny_kws_dscnn__paddle.npz", FLOAT),
    Golden("models/models/misc_onnx/version-RFB-320_simplified.onnx", FACES, "models/goldens/version-RFB-320_simplified.npz", FLOAT),
    Golden("spec/models/fp32/resnet_p18/combined/model", DIGITS, "spec/models/fp32/resnet_p18/golden.npz", FLOAT),
    Golden("spec/models/fp32/resnet_p26", DIGITS, "spec/models/fp32/resnet_p26/golden.npz", FLOAT),
    Golden("spec/models/fp32/resnet_p26dy", DIGITS, "spec/models/fp32/resnet_p26dy/golden.npz", FLOAT),
    Golden("spec/models/fp32/resnet_p33pir", DIGITS, "spec/models/fp32/resnet_p33pir/golden.npz", FLOAT),
    Golden("spec/models/fp32/dwnet_p18/combined/model", DIGITS, "spec/models/fp32/dwnet_p18/golden.npz", FLOAT),
    Golden("spec/models/fp32/dwnet_p26", DIGITS, "spec/models/fp32/dwnet_p26/golden.npz", FLOAT),
    Golden("spec/models/fp32/dwnet_p33pir", DIGITS, "spec/models/fp32/dwnet_p33pir/golden.npz", FLOAT),
    Golden("spec/models/qat/resnet_p18_cw_mavg/qat/__model__", DIGITS, "spec/models/qat/resnet_p18_cw_mavg/out_qat.npz", QUANT),
    Golden("spec/models/qat/resnet_p18_tw_mavg/qat/__model__", DIGITS, "spec/models/qat/resnet_p18_tw_mavg/out_qat.npz", QUANT),
    Golden("spec/models/qat/resnet_p18_tw_range/qat/__model__", DIGITS, "spec/models/qat/resnet_p18_tw_range/out_qat.npz", QUANT),
    Golden("spec/models/qat/resnet_p26_cw_mavg", DIGITS, "spec/models/qat/resnet_p26_cw_mavg/out_exe.npz", QUANT),
    Golden("spec/models/qat/resnet_p26_cw_mavg_qdq", DIGITS, "spec/models/qat/resnet_p26_cw_mavg_qdq/out_exe.npz", QUANT),
];

/// Largest difference as a share of the largest magnitude.
fn distance(ours: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(ours.len(), reference.len());
    let largest = reference.iter().fold(0f32, |a, b| a.max(b.abs()));
    let off = ours.iter().zip(reference).fold(0f32, |a, (x, y)| a.max((x - y).abs()));
    if off.is_nan() { f32::INFINITY } else { off / largest }
}

fn run(model: &Imported, dims: &[usize], input: &[f32]) -> Vec<Vec<f32>> {
    let batch = model.inputs[0].dims[0];
    let mut outputs = vec![Vec::new(); model.outputs.len()];
    for part in input.chunks(input.len() / dims[0] * batch) {
        let mut shape = dims.to_vec();
        shape[0] = batch;
        let x = qc_ir::HostTensor::f32(shape, part.to_vec());
        let out = qc_dialects::interpret(&model.module, &[x]).unwrap();
        for (all, t) in outputs.iter_mut().zip(out) {
            all.extend_from_slice(t.as_f32().unwrap());
        }
    }
    outputs
}

/// The array of output `i` in a reference file: by the output's name, or by what the digit files call it.
fn reference_name(file: &str, port: &str, i: usize) -> String {
    if file.starts_with("spec/") {
        return ["prob", "logits"][i].into();
    }
    let bytes = std::fs::read(shared().unwrap().join(file)).unwrap();
    let names = qc_arrays::Archive::new(&bytes).unwrap().names();
    let own = format!("out|{port}");
    // Paddle 3 renames outputs; the reference is that of the same network in another form.
    let found = names.iter().find(|n| **n == own).or(names.iter().find(|n| n.starts_with("out|")));
    found.unwrap().clone()
}

#[test]
fn imported_models_compute_the_reference_outputs() {
    let Some(shared) = shared() else { return };
    let mut failed = Vec::new();
    for &Golden(name, (input_file, array), file, tolerance) in GOLDENS {
        let (dims, input) = npz(&shared.join(input_file), array);
        let asked = Options { batch: Some(dims[0] as i64), ..Options::default() };
        let path = program(shared.join(name));
        let model = match load(&path, &asked) {
            Err(e) if e.fixed_batch().is_some() => load(&path, &Options::default()),
            other => other,
        };
        let model = model.unwrap_or_else(|e| panic!("{name}: {e}"));
        let ours = run(&model, &dims, &input);
        for (i, (ours, port)) in ours.iter().zip(&model.outputs).enumerate() {
            let (_, reference) = npz(&shared.join(file), &reference_name(file, &port.name, i));
            let off = distance(ours, &reference);
            println!("{name} {}: {off:.1e} of the largest magnitude", port.name);
            if off > tolerance {
                failed.push(format!("{name} {}: {off:.1e}, at most {tolerance:.0e} is allowed", port.name));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The op types that a graph must be refused for, and those that it must not be.
struct Graph(&'static str, &'static [&'static str], &'static [&'static str]);

#[rustfmt::skip]
const GRAPHS: &[Graph] = &[
    Graph("pl_resnet50_fp32_224.__model__", &[], &["conv2d", "batch_norm", "pool2d", "mul"]),
    Graph("pl_resnet50_int8_224_per_layer.__model__", &[], &["conv2d", "fake_dequantize_max_abs", "elementwise_add"]),
    Graph("pl_mnasnet.__model__", &[], &["affine_channel", "sigmoid", "reduce_mean", "arg_max"]),
    Graph("lac_key_model_missing_emb_model.__model__", &[], &["mul", "lookup_table", "arg_max", "lstm", "lod_reset"]),
    Graph("mmdnn_lstm.__model__", &[], &["conv2d", "stack", "lookup_table", "lstm", "sequence_pad", "sequence_mask"]),
    Graph("rec_rare_lstm_while.__model__", &["while", "write_to_array"], &["conv2d", "im2sequence", "gru_unit"]),
    Graph("pp_doclayout_L_pir.json", &[], &["pd_op.conv2d", "pd_op.layer_norm", "pd_op.topk", "pd_op.grid_sample"]),
];

#[test]
fn graphs_without_parameters_are_reported_completely() {
    let Some(shared) = shared() else { return };
    for &Graph(name, refused, supported) in GRAPHS {
        let path = shared.join("models/models/graphs_only").join(name);
        let source = Source {
            name: name.into(),
            model: Bytes::from(std::fs::read(&path).unwrap()),
            params: None,
            files: &qc_frontend::NoFiles,
        };
        let errors = import(&source, &Options::default()).expect_err("there are no parameters").list;
        let mut nodes = std::collections::BTreeMap::<String, usize>::new();
        let mut names = std::collections::HashSet::new();
        let mut parameters = 0;
        for e in &errors {
            match e {
                ImportError::Node { node, op_type, .. } => {
                    *nodes.entry(op_type.clone()).or_default() += 1;
                    assert!(names.insert(node.clone()), "{name}: {node} is told twice");
                }
                ImportError::Parameter { .. } => parameters += 1,
                _ => {}
            }
        }
        println!("{name}: {parameters} parameters are missing, not supported: {nodes:?}");
        assert!(parameters > 0, "{name}");
        for op_type in refused {
            assert!(nodes.contains_key(*op_type), "{name}: {op_type} is not told: {nodes:?}");
        }
        for op_type in supported {
            assert!(!nodes.contains_key(*op_type), "{name}: {op_type} is supported");
        }
    }
}
