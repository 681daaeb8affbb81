//! Imports the real models of the shared folder and, where there are reference outputs, runs them.
//!
//! The folder is `QC_SHARED`, or `shared` beside the repository. Without it every test counts itself as skipped, in print.

use qc_frontend::{Bytes, FileError, Files, ImportErrors, Imported, Options, Source, import};
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
        println!("skipped: {} is not there", folder.display());
    }
    found.then_some(folder)
}

/// Imports an `.onnx` file, a `.pdmodel` with the `.pdiparams` beside it, or a program with its parameters.
fn load(path: &Path, options: &Options) -> Result<Imported, ImportErrors> {
    let dir = path.parent().unwrap().to_path_buf();
    let combined = match path.file_name().unwrap().to_str().unwrap() {
        "model" => Some(dir.join("params")),
        "__model__" => Some(dir.join("__params__")),
        name if name.ends_with(".pdmodel") => Some(path.with_extension("pdiparams")),
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
];

/// The program file of a model folder; other paths unchanged.
fn program(path: PathBuf) -> PathBuf {
    if !path.is_dir() {
        return path;
    }
    let names = ["inference.pdmodel", "model.pdmodel", "__model__", "model"];
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
