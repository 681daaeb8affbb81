//! Recurrent networks, padded and ragged, against Paddle and ONNX Runtime.
//!
//! The networks are found as [`golden::shared`] says; without them each test counts a skip.
#![allow(clippy::unwrap_used)]

use qc_compiler::{AnyShapeOptions, CompileOptions, Compiler, ContextOptions, ModelFile};
use qc_ir::{Data, HostTensor};
use qc_tests::golden;
use std::path::{Path, PathBuf};

fn specified(name: &str) -> Option<PathBuf> {
    let path = golden::shared()?.join("spec/models").join(name);
    path.exists().then_some(path)
}

/// The folder of this name, or a counted skip.
macro_rules! folder_or_skip {
    ($found:expr) => {
        match $found {
            Some(path) => path,
            None => {
                println!("SKIPPED 1: the networks are not on this machine (QC_SHARED)");
                return;
            }
        }
    };
}

/// What a model gives for these inputs, those that it does not have left out.
fn run(path: &Path, inputs: &[(&str, HostTensor)], options: &CompileOptions) -> Vec<HostTensor> {
    let file = ModelFile::open(path, None).unwrap();
    let compiler = Compiler::new(options.clone());
    let known: Vec<String> = compiler.input_names(&file).unwrap();
    let inputs: Vec<_> = inputs.iter().filter(|(name, _)| known.iter().any(|n| n == name)).collect();
    let context = ContextOptions { threads: Some(1), cpu: None };
    let mut any = compiler.any_shape(file, &AnyShapeOptions { context, ..Default::default() });
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(name, t)| (*name, t.dims())).collect();
    let cx = any.context(&shapes).unwrap();
    for (name, t) in &inputs {
        let i = cx.inputs().iter().position(|io| io.name == *name).unwrap();
        match t.data() {
            Data::F32(v) => cx.input_shaped::<f32>(i, t.dims()).unwrap().copy_from_slice(v),
            Data::I64(v) => cx.input_shaped::<i64>(i, t.dims()).unwrap().copy_from_slice(v),
            other => panic!("inputs of {:?}", other.elem()),
        }
    }
    cx.run().unwrap();
    let count = cx.outputs().len();
    let read = |i: usize| match cx.outputs()[i].elem {
        qc_runtime::Elem::I64 => {
            HostTensor::i64([cx.output::<i64>(i).unwrap().len()], cx.output::<i64>(i).unwrap().to_vec())
        }
        _ => HostTensor::f32([cx.output::<f32>(i).unwrap().len()], cx.output::<f32>(i).unwrap().to_vec()),
    };
    (0..count).map(read).collect()
}

fn integers(path: &Path, name: &str) -> Vec<i64> {
    golden::integers(path, name).unwrap()
}

/// Words of sentences, one behind the other, and where sentences begin.
fn sentences(path: &Path) -> Vec<(&'static str, HostTensor)> {
    let (words, lengths) = (integers(path, "words"), integers(path, "lens"));
    let mut offsets = vec![0];
    offsets.extend(lengths.iter().scan(0, |end, n| {
        *end += n;
        Some(*end)
    }));
    let offsets = HostTensor::i64([offsets.len()], offsets);
    vec![("words", HostTensor::i64([words.len(), 1], words)), ("words.offsets", offsets)]
}

fn furthest(ours: &HostTensor, want: &[f32]) -> f32 {
    let ours = ours.as_f32().unwrap();
    assert_eq!(ours.len(), want.len());
    ours.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// How many of a hundred are equal.
fn equal(ours: &HostTensor, want: &[i64]) -> f64 {
    let ours = ours.as_i64().unwrap();
    assert_eq!(ours.len(), want.len());
    100.0 * ours.iter().zip(want).filter(|(a, b)| a == b).count() as f64 / want.len() as f64
}

/// Tags of sentences by GRUs or LSTMs, in floats, and in integers as a program with fake quantization has it.
#[test]
fn sentences_are_tagged_as_paddle_tags_them() {
    let root = folder_or_skip!(specified(""));
    for (name, forms) in [
        ("lac", &["fp32/lac_p18/combined", "fp32/lac_p18/separate", "fp32/lac_p26"][..]),
        ("lstm", &["fp32/lstm_p18/combined", "fp32/lstm_p18/separate", "fp32/lstm_p26"]),
    ] {
        let stored = root.join(format!("fp32/{name}_p18/golden.npz"));
        let (given, tags) = (sentences(&stored), integers(&stored, "pred"));
        let emission = golden::array(&stored, "emission").unwrap();
        let emission = emission.as_f32().unwrap();
        for form in forms {
            let out = run(&root.join(form), &given, &CompileOptions::default());
            let far = furthest(&out[1], emission);
            assert!(equal(&out[0], &tags) == 100.0 && far < 1e-4, "{form}: {far}");
        }
        let out = run(&root.join(format!("rnn_nets/{name}_ptq_abs_max_mul")), &given, &CompileOptions::default());
        // Paddle's own INT8 is off by 0.43 and 0.28.
        let far = furthest(&out[1], emission);
        assert!(equal(&out[0], &tags) > 99.0 && far < 0.2, "{name} quantized: {far}");
    }
}

/// A network that others trained, on two sentences.
#[test]
fn words_are_cut_as_paddle_cuts_them() {
    let Some(shared) = golden::shared() else {
        println!("SKIPPED 1: the networks are not on this machine (QC_SHARED)");
        return;
    };
    let stored = shared.join("models/goldens/lac_seg_gru.npz");
    let (words, offsets) = (integers(&stored, "in|words"), integers(&stored, "in|lod"));
    let words = HostTensor::i64([words.len(), 1], words);
    let given = [("words", words), ("words.offsets", HostTensor::i64([offsets.len()], offsets))];
    let out = run(&shared.join("models/models/lac_seg_gru/model"), &given, &CompileOptions::default());
    assert_eq!(equal(&out[0], &integers(&stored, "out|save_infer_model/scale_0")), 100.0);
}

/// Layers of cells over padded sequences, by Paddle 2 and 3, and as ONNX files with pairs around weights and inputs.
#[test]
fn padded_sequences_give_what_paddle_and_onnx_runtime_give() {
    let root = folder_or_skip!(specified("rnn_padded"));
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    let mut judged = 0;
    for folder in folders {
        let stored = folder.join("golden.npz");
        let (ids, lens) = (integers(&stored, "ids"), integers(&stored, "lens"));
        let ids = HostTensor::i64([lens.len(), ids.len() / lens.len()], ids);
        let given = [("ids", ids), ("lens", HostTensor::i64([lens.len()], lens))];
        let mut judge = |path: &Path, want: [HostTensor; 3]| {
            for (ours, want) in run(path, &given, &CompileOptions::default()).iter().zip(want) {
                let far = furthest(ours, want.as_f32().unwrap());
                assert!(far < 2e-6, "{}: {far}", path.display());
            }
            judged += 1;
        };
        judge(&folder, ["prob", "y", "h"].map(|name| golden::array(&stored, name).unwrap()));
        for form in ["model", "float", "dynamic", "qdq_pt", "qdq_pc", "qdq_w"] {
            let path = folder.join(format!("{form}.onnx"));
            // What is found in each step's range is no op of ours.
            if path.exists() && !(form == "dynamic" && folder.to_string_lossy().contains("lstm")) {
                let stored = folder.join("onnx_out.npz");
                judge(&path, [0, 1, 2].map(|k| golden::array(&stored, &format!("{form}|off|{k}")).unwrap()));
            }
        }
    }
    assert_eq!(judged, 30);
}
