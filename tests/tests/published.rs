//! Networks that others publish in packages, against the results of ONNX Runtime and Paddle.
//!
//! Their index and goldens are in `models/real` of the folder that [`golden::shared`] finds; the networks are where `fetch.py` beside
//! the index brings them, or in the folder `QC_MODELS`. What is not there counts as a skip.
#![allow(clippy::unwrap_used)]

use qc_compiler::{AnyShapeOptions, CompileOptions, Compiler, ContextOptions, ModelFile};
use qc_ir::{Data, HostTensor};
use qc_tests::golden;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A line of the index.
struct Row {
    name: String,
    /// `NAME TYPE DIMS; ..`: dims `-=VALUE` are a constant of every use.
    inputs: String,
}

fn rows(index: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(index).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let column = |name: &str| head.iter().position(|h| *h == name).unwrap();
    let (name, inputs) = (column("name"), column("inputs"));
    lines.map(|l| Row { name: l[name].into(), inputs: l[inputs].into() }).collect()
}

/// Where a network is: a file, or a folder in Paddle's form.
fn found(root: &Path, name: &str) -> Option<PathBuf> {
    let fetched = std::env::var_os("QC_MODELS").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/qc-models"));
    let folders = [fetched.or_else(home), Some(root.join("models"))];
    let paths = folders.into_iter().flatten().flat_map(|f| [f.join(format!("{name}.onnx")), f.join(name)]);
    paths.into_iter().find(|path| path.exists())
}

type Arrays = BTreeMap<String, HostTensor>;

/// What goes in and what comes out.
fn golden(path: &Path) -> [Arrays; 2] {
    let bytes = std::fs::read(path).unwrap();
    let mut npz = qc_arrays::Archive::new(&bytes).unwrap();
    let mut part = |prefix: &str| {
        let names: Vec<String> = npz.names().into_iter().filter(|name| name.starts_with(prefix)).collect();
        names.iter().map(|name| (name[prefix.len()..].to_string(), npz.get(name).unwrap())).collect::<Arrays>()
    };
    [part("in|"), part("out|")]
}

/// Runs a network in float. Inputs that are constants of every use are compiled in.
fn run(path: &Path, row: &Row, inputs: &Arrays) -> Result<Arrays, String> {
    let file = ModelFile::open(path, None).map_err(|e| e.to_string())?;
    let mut options = CompileOptions::default();
    for stated in row.inputs.split(';').filter(|stated| stated.contains(" -=")) {
        let name = stated.split_whitespace().next().unwrap();
        options.values.insert(name.into(), inputs[name].clone());
    }
    let fed: Vec<(&String, &HostTensor)> =
        inputs.iter().filter(|(name, _)| !options.values.contains_key(*name)).collect();
    let context = ContextOptions { threads: Some(1), cpu: None };
    let any = AnyShapeOptions { context, ..Default::default() };
    let mut any = Compiler::new(options).any_shape(file, &any);
    let shapes: Vec<(&str, &[usize])> = fed.iter().map(|(name, t)| (name.as_str(), t.dims())).collect();
    let cx = any.context(&shapes).map_err(|e| e.to_string())?;
    for (name, t) in fed {
        let i = cx.inputs().iter().position(|io| io.name == *name).ok_or(format!("there is no input {name}"))?;
        match t.data() {
            Data::F32(v) => cx.input_shaped::<f32>(i, t.dims()).unwrap().copy_from_slice(v),
            Data::I64(v) => cx.input_shaped::<i64>(i, t.dims()).unwrap().copy_from_slice(v),
            Data::I32(v) => cx.input_shaped::<i32>(i, t.dims()).unwrap().copy_from_slice(v),
            other => return Err(format!("{name} is of {:?}", other.elem())),
        }
    }
    cx.run().map_err(|e| e.to_string())?;
    let read = |i: usize| {
        let (io, dims) = (&cx.outputs()[i], cx.output_shape(i).unwrap());
        let t = match io.elem {
            qc_runtime::Elem::I64 => HostTensor::i64(dims, cx.output::<i64>(i).unwrap().to_vec()),
            _ => HostTensor::f32(dims, cx.output::<f32>(i).unwrap().to_vec()),
        };
        (io.name.clone(), t)
    };
    Ok((0..cx.outputs().len()).map(read).collect())
}

/// The difference that an output may have, as a part of its largest magnitude.
fn allowed(name: &str) -> f64 {
    match name {
        // ONNX Runtime's own optimizations change it by 1.5e-3.
        "picodet_xs_416" => 4e-3,
        // Published as INT8; ONNX Runtime's own optimizations change its only number by 0.11.
        "smart_turn_v3" => 0.12,
        _ => 1e-3,
    }
}

fn difference(ours: &HostTensor, want: &HostTensor) -> Result<f64, String> {
    if ours.dims() != want.dims() {
        return Err(format!("shape {:?}, not {:?}", ours.dims(), want.dims()));
    }
    let number = |t: &HostTensor, i: usize| t.as_f32().map_or_else(|| t.int(i).unwrap() as f64, |v| f64::from(v[i]));
    let pairs = || (0..want.len()).map(|i| (number(ours, i), number(want, i)));
    let scale = pairs().fold(0.0f64, |m, (_, w)| m.max(w.abs()));
    Ok(pairs().fold(0.0f64, |m, (a, w)| m.max((a - w).abs())) / scale.max(1e-9))
}

/// The goldens of a network: `NAME.npz`, and `NAME__DIMS.npz` of another shape.
fn goldens(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let own = |path: &PathBuf| {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_string();
        stem == name || stem.starts_with(&format!("{name}__"))
    };
    let mut paths: Vec<PathBuf> = entries.filter(own).collect();
    paths.sort();
    paths
}

#[test]
fn published_networks_agree_in_float() {
    let Some(root) = golden::shared().map(|shared| shared.join("models/real")).filter(|root| root.exists()) else {
        println!("SKIPPED 1: the networks are not on this machine (QC_SHARED)");
        return;
    };
    let (mut missing, mut failures) = (0, Vec::new());
    for row in rows(&root.join("index.tsv")) {
        let Some(path) = found(&root, &row.name) else {
            missing += 1;
            continue;
        };
        for stored in goldens(&root.join("goldens"), &row.name) {
            let [inputs, want] = golden(&stored);
            let result = run(&path, &row, &inputs).and_then(|got| {
                want.iter().try_fold(0.0f64, |worst, (name, want)| {
                    let ours = got.get(name).ok_or(format!("there is no output {name}"))?;
                    Ok(worst.max(difference(ours, want).map_err(|e| format!("{name}: {e}"))?))
                })
            });
            let case = stored.file_stem().unwrap().to_string_lossy().into_owned();
            match result {
                Ok(worst) if worst <= allowed(&row.name) => println!("{case}: {worst:.1e}"),
                Ok(worst) => failures.push(format!("{case}: differs by {worst:.1e} of the largest")),
                Err(e) => failures.push(format!("{case}: {e}")),
            }
        }
    }
    if missing > 0 {
        println!("SKIPPED {missing}: networks that were not fetched (QC_MODELS)");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
