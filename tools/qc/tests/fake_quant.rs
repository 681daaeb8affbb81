//! Every model with fake quantization below `spec/models`: in INT8 it is as good as Paddle's own emulation in floats, and gives the classes
//! that the emulation gives.
//!
//! The models are not part of the repository: the test runs where they are and prints a skip where they are not.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use qc_ir::HostTensor;
use std::path::{Path, PathBuf};
use support::Shell;

/// Points of top-1 accuracy that may lie between INT8 and what Paddle's emulation has.
const TOP1_POINTS: f64 = 0.3;

/// Percent of the answers that are those of the emulation.
const AGREEMENT: f64 = 99.0;

/// Program files below the folder of a model.
const PROGRAMS: [&str; 4] = ["model.pdmodel", "model.json", "qat/__model__", "qat_int8_weights/__model__"];

/// Stored outputs of the emulation, the best first.
const STORED: [&str; 3] = ["out_exe.npz", "out_plain.npz", "out_qat.npz"];

fn array(path: &Path, name: &str) -> Option<HostTensor> {
    let arrays = qc_arrays::parse(&std::fs::read(path).ok()?).unwrap();
    arrays.into_iter().find(|(own, _)| own.as_deref() == Some(name)).map(|(_, t)| t)
}

fn ints(t: &HostTensor) -> Vec<i64> {
    (0..t.len()).map(|i| t.int(i).unwrap()).collect()
}

fn write(shell: &Shell, file: &str, arrays: Vec<(&str, HostTensor)>) {
    let arrays: Vec<(String, HostTensor)> = arrays.into_iter().map(|(name, t)| (name.to_string(), t)).collect();
    shell.write(file, &qc_arrays::write(&arrays).unwrap());
}

/// The test pictures, for the networks of images and the transformer, and the sentences of ERNIE.
fn write_data(shell: &Shell, root: &Path) {
    let test = root.join("digits_test.npz");
    let (image, label) = (array(&test, "image").unwrap(), array(&test, "label").unwrap());
    let n = image.dims()[0];
    let ids = image.as_f32().unwrap().iter().map(|x| (x * 16.0).round() as i64).collect();
    let places = (0..n * 64).map(|i| (i % 64) as i64).collect();
    let arrays = [("ids", HostTensor::i64([n, 64], ids)), ("pos", HostTensor::i64([n, 64], places))];
    write(shell, "transformer.npz", arrays.into_iter().chain([("label", label.clone())]).collect());
    write(shell, "images.npz", vec![("image", image), ("label", label)]);
    let data = root.join("ernie/data.npz");
    let (words, lens) = (array(&data, "src_ids").unwrap(), ints(&array(&data, "lens").unwrap()));
    let &[n, steps] = words.dims() else { panic!("sentences are a matrix") };
    let inside = |i: usize| ((i % steps) as i64) < lens[i / steps];
    let places = (0..n * steps).map(|i| if inside(i) { (i % steps) as i64 } else { 0 }).collect();
    let mask = (0..n * steps).map(|i| f32::from(u8::from(inside(i)))).collect();
    let column = |values| HostTensor::i64([n, steps, 1], values);
    let arrays = vec![
        ("src_ids", column(ints(&words))),
        ("pos_ids", column(places)),
        ("sent_ids", column(ints(&array(&data, "sent_ids").unwrap()))),
        ("input_mask", HostTensor::f32([n, steps, 1], mask)),
        ("label", HostTensor::i64([n], ints(&array(&data, "label").unwrap()))),
    ];
    write(shell, "ernie.npz", arrays);
}

/// The models, and their samples.
fn models(root: &Path) -> Vec<(PathBuf, PathBuf, &'static str)> {
    let folders = ["qat", "ptq"].into_iter().flat_map(|kind| std::fs::read_dir(root.join(kind)).unwrap());
    let folders = folders.map(|entry| entry.unwrap().path());
    let ernie = ["qat_tw", "qat_cw_qdq", "ptq_abs_max"].map(|name| root.join("ernie").join(name));
    let data = |folder: &Path| {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        match &*name {
            _ if name.starts_with("transformer") => Some("transformer.npz"),
            _ if name.starts_with("resnet") || name.starts_with("dwnet") => Some("images.npz"),
            _ => folder.parent().unwrap().ends_with("ernie").then_some("ernie.npz"),
        }
    };
    let mut found = Vec::new();
    for folder in folders.chain(ernie).filter(|folder| folder.is_dir()) {
        let Some(data) = data(&folder) else { continue };
        let there = PROGRAMS.iter().map(|program| folder.join(program)).filter(|path| path.is_file());
        found.extend(there.map(|path| (folder.clone(), path, data)));
    }
    found.sort();
    found
}

/// What Paddle's emulation has, in percent; nothing for Paddle 3, which cannot run its own quantized programs.
fn stored(root: &Path, folder: &Path, figures: &serde_json::Value) -> Option<f64> {
    STORED.iter().find_map(|file| {
        let path = folder.join(file);
        let key = path.strip_prefix(root).unwrap().display().to_string();
        let own = || match array(&path, "acc")?.data() {
            qc_ir::Data::F32(acc) => Some(f64::from(acc[0])),
            _ => None,
        };
        figures.get(&key).and_then(serde_json::Value::as_f64).or_else(own).map(|acc| 100.0 * acc)
    })
}

#[test]
fn int8_is_what_paddle_emulates() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let root = std::env::var_os("QC_SHARED").map_or_else(beside, PathBuf::from).join("spec/models");
    if !root.join("accuracy.json").is_file() {
        println!("SKIPPED 1: the models with fake quantization are not on this machine (QC_SHARED)");
        return;
    }
    let root = root.canonicalize().unwrap();
    let figures: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.join("accuracy.json")).unwrap()).unwrap();
    let shell = Shell::new();
    write_data(&shell, &root);
    let models = models(&root);
    assert!(models.len() >= 50, "only {} models were found", models.len());
    let mut missed = Vec::new();
    let mut compared = 0;
    for (folder, path, data) in &models {
        let model = path.display();
        let found = shell.json(&format!("accuracy {model} --qat {model} --data {data}"));
        let top1 = found["top1"].as_f64().unwrap();
        let agreement = found["against"]["agreement"].as_f64().unwrap();
        let theirs = stored(&root, folder, &figures);
        println!(
            "{}: top-1 {top1:.2}, Paddle {theirs:.2?}, agreement {agreement:.2}",
            path.strip_prefix(&root).unwrap().display()
        );
        compared += usize::from(theirs.is_some());
        if agreement < AGREEMENT || theirs.is_some_and(|theirs| (top1 - theirs).abs() > TOP1_POINTS) {
            missed.push(model.to_string());
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
    assert!(compared >= 45, "{compared} figures of Paddle were found");
}
