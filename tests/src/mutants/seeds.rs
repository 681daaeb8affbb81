//! The files that mutants are made from: the shipped example, small models of every stored form (`tests/seeds`), what
//! the compiler makes of them, and random models.

use super::Reader;
use qc_compiler::{CompileOptions, Compiler, ModelFile, TargetCpu, pipeline};
use qc_ir::{NoSink, PrintOptions, print};
use qc_kernels::Tier;
use qc_ladder::random::{Mode, Recipe, build};
use std::path::{Path, PathBuf};

/// A whole file and the reader it is for.
pub struct Seed {
    /// The reader.
    pub reader: Reader,
    /// Name, for reports.
    pub name: String,
    /// The bytes; for Paddle a model and its parameters, see [`join`].
    pub bytes: Vec<u8>,
}

/// A model and its parameters in one piece: the length of the model in four bytes, the model, the parameters.
pub fn join(model: &[u8], params: &[u8]) -> Vec<u8> {
    [&(model.len() as u32).to_le_bytes(), model, params].concat()
}

/// What [`join`] put together; of bytes that it did not make, as much as there is.
pub fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(4));
    let len = <[u8; 4]>::try_from(head).map_or(0, u32::from_le_bytes) as usize;
    rest.split_at(len.min(rest.len()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All seeds that are at hand: those of the repository, and small models of the shared folder where it exists (beside
/// the repository, or `QC_SHARED`).
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |reader, name: &str, bytes| seeds.push(Seed { reader, name: name.into(), bytes });
    let (digits, small) = (root().join("examples/digits"), root().join("tests/seeds"));
    let shared = std::env::var_os("QC_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let models = [
        (Reader::Onnx, digits.join("digits.onnx"), None),
        (Reader::Onnx, digits.join("digits_qdq.onnx"), None),
        (Reader::Paddle, digits.join("paddle_float/model"), Some("params")),
        (Reader::Onnx, small.join("shapes.onnx"), None),
        (Reader::Onnx, small.join("pairs.onnx"), None),
        (Reader::Paddle, small.join("float.pdmodel"), Some("float.pdiparams")),
        (Reader::Paddle, small.join("frozen.pdmodel"), Some("frozen.pdiparams")),
        (Reader::Pir, small.join("pir.json"), Some("pir.pdiparams")),
        (Reader::Onnx, shared.join("models/models/mnist/mnist.onnx"), None),
        (Reader::Onnx, shared.join("models/models/tiny_kws_dscnn/tiny_kws_dscnn_ptq_qdq.onnx"), None),
        (Reader::Paddle, shared.join("spec/models/fp32/resnet_p18/combined/model"), Some("params")),
        (Reader::Paddle, shared.join("spec/models/fp32/dwnet_p26/model.pdmodel"), Some("model.pdiparams")),
        (Reader::Paddle, shared.join("spec/models/qat/resnet_p26_cw_mavg_qdq/model.pdmodel"), Some("model.pdiparams")),
        (Reader::Pir, shared.join("spec/models/fp32/resnet_p33pir/model.json"), Some("model.pdiparams")),
        (Reader::Paddle, shared.join("spec/models/qat/resnet_p26_cw_mavg/model.pdmodel"), Some("model.pdiparams")),
        (Reader::Pir, shared.join("spec/models/fp32/dwnet_p33pir/model.json"), Some("model.pdiparams")),
        (Reader::Pir, shared.join("spec/models/qat/dwnet_p33pir_qat/model.json"), Some("model.pdiparams")),
    ];
    for (reader, path, params) in models {
        let Ok(model) = std::fs::read(&path) else { continue };
        let name = path.strip_prefix(&shared).or(path.strip_prefix(root())).unwrap_or(&path).display().to_string();
        match params.map(|p| std::fs::read(path.with_file_name(p))) {
            None => add(reader, &name, model),
            Some(Ok(params)) => add(reader, &name, join(&model, &params)),
            Some(Err(_)) => {}
        }
    }
    for name in ["one.png", "eight.png"] {
        if let Ok(bytes) = std::fs::read(digits.join("pictures").join(name)) {
            add(Reader::Picture, name, bytes);
        }
    }
    add(Reader::Picture, "made.jpg", jpeg());
    for (name, bytes) in arrays() {
        add(Reader::Arrays, &name, bytes);
    }
    let file = ModelFile::open(&digits.join("digits.onnx"), None).expect("the example is part of the repository");
    add(Reader::Ranges, "digits.json", ranges(&file));
    add(Reader::Note, "digits.so", shared_object(&file));
    for (name, text) in modules() {
        add(Reader::Qir, &name, text.into_bytes());
    }
    seeds
}

/// Ranges of all tensors of the example, as calibration writes them.
fn ranges(file: &ModelFile) -> Vec<u8> {
    let calibrator = Compiler::default().calibrator(file).expect("the example is a float model");
    let mut observer = calibrator.observer(Default::default()).expect("a caller");
    observer.input_mut(0).expect("it has one input").fill(0.5);
    observer.observe(0).expect("it runs");
    calibrator.ranges(&observer.seen(), 1, None).to_json().into_bytes()
}

fn shared_object(file: &ModelFile) -> Vec<u8> {
    let options =
        CompileOptions { target: TargetCpu::Tier(Tier::Scalar), batches: vec![1], ..CompileOptions::default() };
    let compiled = Compiler::new(options).compile_file(file, &mut NoSink).expect("the example compiles");
    compiled.shared_object("digits.so").expect("the example compiles")
}

/// Random models in text form, in every phase.
fn modules() -> Vec<(String, String)> {
    let options = CompileOptions::default();
    let compiler = Compiler::new(options.clone());
    let stages = [pipeline::float(&options), pipeline::int8(&options), pipeline::loops()];
    let mut out = Vec::new();
    for seed in 0..6 {
        let recipe = Recipe::random(seed, if seed % 2 == 0 { Mode::Pairs } else { Mode::Float });
        out.push((format!("random{seed}.imported"), recipe.to_qir()));
        let mut m = build(&recipe, 1);
        for stage in &stages {
            compiler.run(&mut m, stage, &mut NoSink).expect("a random model compiles");
            let text = print(&m, PrintOptions { inline_limit: usize::MAX, locs: true });
            out.push((format!("random{seed}.{}", m.phase), text));
        }
    }
    out.retain(|(_, text)| text.len() < 64 << 10);
    out
}

/// A `.npy` array in either order, and an archive of both.
fn arrays() -> Vec<(String, Vec<u8>)> {
    let values: Vec<u8> = (0..64u32).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let npy = |order: &str| {
        let text = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': (2, 4, 8), }}");
        let line = format!("{text:<117}\n");
        [b"\x93NUMPY\x01\x00", &(line.len() as u16).to_le_bytes()[..], line.as_bytes(), &values].concat()
    };
    let mut out = vec![("rows.npy".to_string(), npy("False")), ("columns.npy".to_string(), npy("True"))];
    if let Ok(bytes) = std::fs::read(root().join("examples/digits/test.npz")) {
        out.push(("test.npz".into(), bytes));
    }
    out
}

/// A picture of 40 x 30 pixels in colours that change from place to place.
fn jpeg() -> Vec<u8> {
    let pixels: Vec<u8> = (0..40 * 30 * 3u32).map(|i| (i * i / 7) as u8).collect();
    let mut out = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 80);
    encoder.encode(&pixels, 40, 30, image::ExtendedColorType::Rgb8).expect("a small picture");
    out
}
