//! Runs the ONNX project's node tests and one-operator Paddle models of the shared folder through import and interpreter.
//!
//! A refusal is no failure, a wrong result is. Which operators were refused is printed.

#![allow(clippy::unwrap_used)]

use flate2::read::GzDecoder;
use prost::Message;
use qc_frontend::{Bytes, ImportErrors, Imported, NoFiles, Options, Port, Source, import, input_names};
use qc_ir::{Data, Elem, HostTensor};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

fn shared() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("QC_SHARED").map_or(beside, PathBuf::from)
}

/// All files of an archive by path.
fn unpack(name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
    let path = shared().join("models/conformance").join(name);
    let Ok(file) = std::fs::File::open(&path) else {
        println!("SKIPPED 1: {} is not there (QC_SHARED)", path.display());
        return None;
    };
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(GzDecoder::new(file)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    Some(files)
}

/// A stored ONNX tensor, as far as the test data needs it.
#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
}

/// A model as it is, with constants of those of `arrays` without whose values it cannot be imported, and the names of those.
/// A command that has the data at hand, such as `qc run`, does the same.
fn with_values(source: &Source, arrays: &[HostTensor]) -> (Result<Imported, ImportErrors>, Vec<String>) {
    let mut options = Options::default();
    let inputs = input_names(source, &options).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    loop {
        let model = import(source, &options);
        let Err(errors) = &model else { return (model, names) };
        let before = names.len();
        for (name, t) in inputs.iter().zip(arrays) {
            if errors.needed_values().contains(name.as_str()) && !names.contains(name) {
                options.values.insert(name.clone(), t.clone());
                names.push(name.clone());
            }
        }
        if names.len() == before {
            return (model, names);
        }
    }
}

/// A tensor as a module has it: floats of other widths are f32 there, integers of 16 bits i32.
fn onnx_tensor(bytes: &[u8]) -> Option<HostTensor> {
    let t = TensorProto::decode(bytes).ok()?;
    let raw = (!t.raw_data.is_empty()).then_some(t.raw_data.as_slice());
    let data = match (t.data_type, raw) {
        (1, Some(raw)) => Data::from_bytes(Elem::F32, raw)?,
        (1, None) => Data::F32(t.float_data),
        (2, Some(raw)) => Data::U8(raw.to_vec()),
        (2, None) => Data::U8(t.int32_data.iter().map(|&x| x as u8).collect()),
        (3, Some(raw)) => Data::from_bytes(Elem::I8, raw)?,
        (3, None) => Data::I8(t.int32_data.iter().map(|&x| x as i8).collect()),
        (4, Some(raw)) => Data::I32(raw.chunks_exact(2).map(|b| i32::from(u16::from_le_bytes([b[0], b[1]]))).collect()),
        (5, Some(raw)) => Data::I32(raw.chunks_exact(2).map(|b| i32::from(i16::from_le_bytes([b[0], b[1]]))).collect()),
        (6, Some(raw)) => Data::from_bytes(Elem::I32, raw)?,
        (4..=6, None) => Data::I32(t.int32_data),
        (7, Some(raw)) => Data::from_bytes(Elem::I64, raw)?,
        (7, None) => Data::I64(t.int64_data),
        (9, Some(raw)) => Data::from_bytes(Elem::Bool, raw)?,
        (9, None) => Data::Bool(t.int32_data.iter().map(|&x| x != 0).collect()),
        (10, Some(raw)) => {
            Data::F32(raw.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect())
        }
        (10, None) => Data::F32(t.int32_data.iter().map(|&x| half::f16::from_bits(x as u16).to_f32()).collect()),
        (11, Some(raw)) => {
            let wide = raw.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()));
            Data::F32(wide.map(|x| x as f32).collect())
        }
        (11, None) => Data::F32(t.double_data.iter().map(|&x| x as f32).collect()),
        _ => return None,
    };
    HostTensor::new(t.dims.iter().map(|&d| d as usize).collect::<Vec<_>>(), data)
}

fn floats(t: &HostTensor) -> Vec<f64> {
    let one = |i: usize| t.as_f32().map_or_else(|| t.int(i).unwrap() as f64, |v| f64::from(v[i]));
    (0..t.len()).map(one).collect()
}

/// Why two tensors differ.
fn difference(ours: &HostTensor, want: &HostTensor) -> Option<String> {
    if ours.dims() != want.dims() {
        return Some(format!("shape {:?}, not {:?}", ours.dims(), want.dims()));
    }
    let far = |(a, b): &(f64, f64)| !(a == b || (a - b).abs() <= 1e-4 + 1e-3 * b.abs() || (a.is_nan() && b.is_nan()));
    floats(ours).into_iter().zip(floats(want)).find(far).map(|(a, b)| format!("{a} instead of {b}"))
}

/// The part of an output that a run fills.
fn filled(port: &Port, outputs: &[HostTensor], t: &HostTensor) -> HostTensor {
    let Some(counted) = port.counted else { return t.clone() };
    let by = &outputs[counted.by];
    let count: i64 = (0..by.len()).map(|i| by.int(i).unwrap()).sum();
    let dims = t.dims();
    let inner: usize = dims[counted.axis + 1..].iter().product();
    let row = inner * t.data().to_bytes().len() / t.len();
    let (whole, kept) = (row * dims[counted.axis], row * count as usize);
    let bytes: Vec<u8> = t.data().to_bytes().chunks_exact(whole).flat_map(|part| part[..kept].to_vec()).collect();
    let mut dims = dims.to_vec();
    dims[counted.axis] = count as usize;
    HostTensor::new(dims, Data::from_bytes(t.data().elem(), &bytes).unwrap()).unwrap()
}

#[derive(Default)]
struct Tally {
    passed: usize,
    refused: BTreeMap<String, usize>,
    failed: Vec<String>,
    /// For each op of the graph, the operators that were made of it.
    made: BTreeMap<String, BTreeSet<String>>,
}

impl Tally {
    fn run(&mut self, case: &str, model: Result<Imported, ImportErrors>, inputs: &[HostTensor], want: &[HostTensor]) {
        let model = match model {
            Ok(model) => model,
            Err(e) => {
                println!("{case}: {e}");
                let why = e.list.iter().find_map(|e| match e {
                    qc_frontend::ImportError::Node { op_type, reason, .. } => Some(format!("{op_type}: {reason}")),
                    _ => None,
                });
                *self.refused.entry(why.unwrap_or_else(|| e.list[0].to_string())).or_default() += 1;
                return;
            }
        };
        let (m, body) = (&model.module, model.module.body());
        for op in m.walk(body) {
            let nodes = m.locs.nodes(m.loc(op));
            let names = nodes.iter().map(|node| node.op_type.to_string());
            self.made.entry(m.def(op).name.to_string()).or_default().extend(names);
        }
        let wrong = qc_ir::verify(&model.module, &qc_dialects::REGISTRY);
        self.failed.extend(wrong.iter().map(|d| format!("{case}: {}", d.render(&model.module))));
        match qc_dialects::interpret(&model.module, inputs) {
            Err(e) => self.failed.push(format!("{case}: {e}")),
            Ok(outputs) => {
                let outputs: Vec<HostTensor> =
                    model.outputs.iter().zip(&outputs).map(|(port, t)| filled(port, &outputs, t)).collect();
                let differences = outputs.iter().zip(want).filter_map(|(a, b)| difference(a, b));
                let differences: Vec<String> = differences.map(|d| format!("{case}: {d}")).collect();
                self.passed += usize::from(differences.is_empty());
                self.failed.extend(differences);
            }
        }
    }

    /// The operators that ops were made of are those of a list in `tests/names`, from which the page on ops is generated.
    fn names(&self, file: &str) {
        let line = |(op, names): (&String, &BTreeSet<String>)| {
            format!("{op}: {}\n", names.iter().cloned().collect::<Vec<_>>().join(", "))
        };
        let text: String =
            self.made.iter().filter(|(op, names)| !op.ends_with("constant") && !names.is_empty()).map(line).collect();
        check(file, &text);
    }

    /// The refusals of those are a list in `tests/names`, which a page shows with the reasons.
    fn refusals(&self, file: &str) {
        let line = |(why, count): (&String, &usize)| format!("{count} {why}\n");
        check(file, &self.refused.iter().map(line).collect::<String>());
    }

    fn finish(self, least: usize) {
        let refused: usize = self.refused.values().sum();
        println!("{} passed, {} failed, {refused} refused:", self.passed, self.failed.len());
        self.refused.iter().for_each(|(why, count)| println!("{count:5} {why}"));
        assert!(self.failed.is_empty(), "{}", self.failed.join("\n"));
        assert!(self.passed >= least, "only {} cases passed", self.passed);
    }
}

/// A list in `tests/names` is this one.
fn check(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/names").join(file);
    if std::env::var_os("QC_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path);
    assert!(stored.is_ok_and(|stored| stored == text), "{file} differs; QC_BLESS=1 writes it");
}

/// The cases of a verdict that ONNX Runtime came to, as the archive has it: `"case": ["pass", ..], ..`.
fn of_verdict(verdicts: &[u8], verdict: &str) -> BTreeSet<String> {
    let text = std::str::from_utf8(verdicts).unwrap();
    let parts: Vec<&str> = text.split('"').collect();
    parts.windows(3).filter(|w| w[2] == verdict).map(|w| w[0].to_string()).collect()
}

/// What is expected of them is not what ONNX Runtime computes, whose sizes qc follows.
const DISPUTED: [&str; 2] = [
    "node/test_resize_downsample_scales_cubic_align_corners",
    "node/test_resize_downsample_scales_linear_align_corners",
];

#[test]
fn onnx_node_tests() {
    let Some(files) = unpack("onnx_backend_tests.tar.gz") else { return };
    let verdicts = &files["ort_results.json"];
    let judged = of_verdict(verdicts, "pass");
    let (mut passed_there, mut others, mut constant) = (Tally::default(), Tally::default(), Tally::default());
    for (path, bytes) in files.iter().filter(|(path, _)| path.ends_with("/model.onnx")) {
        let case = path.trim_end_matches("/model.onnx");
        let data = |kind: &str| -> Option<Vec<HostTensor>> {
            let file = |i| files.get(&format!("{case}/test_data_set_0/{kind}_{i}.pb"));
            (0..).map_while(file).map(|b| onnx_tensor(b)).collect()
        };
        if DISPUTED.contains(&case) {
            continue;
        }
        let source = Source { name: case.into(), model: Bytes::from(bytes.clone()), params: None, files: &NoFiles };
        let names = input_names(&source, &Options::default()).unwrap_or_default();
        let tally = if judged.contains(case) { &mut passed_there } else { &mut others };
        let (Some(inputs), Some(want)) = (data("input"), data("output")) else {
            // Texts, sequences, and integers that qc has not.
            if judged.contains(case) {
                let model = import(&source, &Options::default());
                assert!(model.is_err(), "{case}: the data could not be read");
                tally.run(case, model, &[], &[]);
            }
            continue;
        };
        let (model, taken) = with_values(&source, &inputs);
        let fed = inputs.iter().zip(&names).filter(|(_, name)| !taken.contains(name)).map(|(t, _)| t.clone());
        let fed: Vec<HostTensor> = fed.collect();
        if model.is_ok() && fed.iter().any(HostTensor::is_empty) {
            *tally.refused.entry("an input has no elements".into()).or_default() += 1;
            continue;
        }
        tally.run(case, model, &fed, &want);
        // Weights and bounds are constants in models.
        if inputs.first().is_some_and(HostTensor::is_empty) {
            continue;
        }
        let values = names.into_iter().zip(inputs.iter().cloned()).skip(1).collect();
        let model = import(&source, &Options { values, ..Options::default() });
        constant.run(case, model, &inputs[..inputs.len().min(1)], &want);
    }
    println!("\nOf {} that ONNX Runtime passes:", judged.len());
    let tallies = [&passed_there, &others, &constant];
    let mut all = Tally::default();
    for (op, names) in tallies.iter().flat_map(|tally| &tally.made) {
        all.made.entry(op.clone()).or_default().extend(names.iter().cloned());
    }
    all.names("onnx.txt");
    passed_there.refusals("onnx-refused.txt");
    passed_there.finish(1390);
    println!("\nOf the others:");
    others.finish(101);
    println!("\nWith all inputs but the first as constants:");
    constant.finish(1468);
}

#[test]
fn paddle_op_cases() {
    let Some(files) = unpack("paddle_op_cases.tar.gz") else { return };
    let mut tally = Tally::default();
    for (path, bytes) in files.iter().filter(|(path, _)| path.ends_with("/__model__")) {
        let case = path.trim_end_matches("/__model__");
        let Some(io) = files.get(&format!("{case}/io.npz")) else { continue };
        let mut archive = qc_arrays::Archive::new(io).unwrap();
        let names = archive.names();
        let mut shapes = BTreeMap::new();
        let mut inputs = BTreeMap::new();
        for name in names.iter().filter(|n| n.starts_with("in_")) {
            let Ok(t) = archive.get(name) else { continue };
            let input = name.trim_start_matches("in_").to_string();
            shapes.insert(input.clone(), t.dims().iter().map(|&d| d as i64).collect());
            inputs.insert(input, t);
        }
        // The lengths of the sequences of the only ragged input.
        if let Ok(lengths) = archive.get("lod") {
            let ends = (0..lengths.len()).scan(0, |end, i| {
                *end += lengths.int(i).unwrap();
                Some(*end)
            });
            let offsets: Vec<i64> = std::iter::once(0).chain(ends).collect();
            shapes.insert("x.offsets".to_string(), vec![offsets.len() as i64]);
            inputs.insert("x.offsets".to_string(), HostTensor::i64([offsets.len()], offsets));
        }
        let params = files.get(&format!("{case}/__params__")).cloned().map(Bytes::from);
        let source = Source { name: case.into(), model: Bytes::from(bytes.clone()), params, files: &NoFiles };
        let model = import(&source, &Options { shapes, ..Options::default() });
        let (mut fed, mut want) = (Vec::new(), Vec::new());
        if let Ok(model) = &model {
            fed = model.inputs.iter().filter_map(|p| inputs.get(&p.name).cloned()).collect();
            let mut array = |name: &str| archive.get(&format!("out_{name}")).ok();
            want = model.outputs.iter().map(|p| p.name.as_str()).filter_map(&mut array).collect();
            if want.len() != model.outputs.len() {
                println!("{case}: outputs are {names:?}");
                continue;
            }
        }
        tally.run(case, model, &fed, &want);
    }
    tally.names("paddle.txt");
    tally.finish(98);
}
