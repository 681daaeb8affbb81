//! Nodes of the shared folder with the results of ONNX Runtime: choosing boxes, the largest in order, resizing; recurrent cells.

use super::proto::*;
use super::tests::{Model, bytes, float, floats, int, ints, longs};
use crate::cases::{Tally, judge, shared};
use qc_ir::{Data, HostTensor};
use serde_json::Value as Json;
use std::collections::BTreeMap;

fn attribute(name: &str, value: &Json) -> AttributeProto {
    match value {
        Json::Number(n) if n.is_f64() => float(name, n.as_f64().unwrap() as f32),
        Json::Number(n) => int(name, n.as_i64().unwrap()),
        Json::Array(list) if list.iter().all(Json::is_string) => {
            let strings = list.iter().map(|v| v.as_str().unwrap().as_bytes().to_vec().into()).collect();
            AttributeProto { name: name.into(), kind: 8, strings, ..Default::default() }
        }
        Json::Array(list) if list.iter().any(Json::is_f64) => {
            let floats = list.iter().map(|v| v.as_f64().unwrap() as f32).collect();
            AttributeProto { name: name.into(), kind: 6, floats, ..Default::default() }
        }
        Json::Array(list) => ints(name, &list.iter().map(|v| v.as_i64().unwrap()).collect::<Vec<_>>()),
        Json::String(s) => {
            AttributeProto { name: name.into(), kind: 3, s: s.clone().into_bytes().into(), ..Default::default() }
        }
        other => panic!("{name}: {other}"),
    }
}

fn type_number(t: &HostTensor) -> i32 {
    match t.data() {
        Data::F32(_) => 1,
        Data::U8(_) => 2,
        Data::I8(_) => 3,
        Data::I32(_) => 6,
        Data::I64(_) => 7,
        Data::Bool(_) => 9,
    }
}

/// A node.
struct Given<'a> {
    opset: i64,
    op: &'a str,
    domain: &'static str,
    attrs: &'a Json,
    /// Names of its inputs, in order; an empty one is left out.
    inputs: &'a [&'a str],
    /// Those that are inputs of the model; the others are constants.
    data: &'a [&'a str],
    outputs: &'a [&'a str],
}

/// A tensor as a constant of a model.
fn constant(name: &str, t: &HostTensor) -> TensorProto {
    let dims: Vec<i64> = t.dims().iter().map(|&d| d as i64).collect();
    let int = |i| t.int(i).unwrap();
    match t.data() {
        Data::F32(v) => floats(name, &dims, v),
        Data::I64(_) => TensorProto { dims, ..longs(name, &(0..t.len()).map(int).collect::<Vec<_>>()) },
        _ => bytes(name, type_number(t), &dims, &(0..t.len()).map(|i| int(i) as i32).collect::<Vec<_>>()),
    }
}

/// The model of a node.
fn model(given: &Given<'_>, arrays: &BTreeMap<String, HostTensor>) -> Vec<u8> {
    let mut model = Model::new(given.opset, &[1]);
    model.graph.input.clear();
    for name in given.inputs.iter().filter(|name| !name.is_empty()) {
        let t = &arrays[*name];
        if !given.data.contains(name) {
            model = model.constant(constant(name, t));
            continue;
        }
        let dim = |&d: &usize| DimensionProto { dim_value: Some(d as i64), dim_param: None };
        let shape = Some(TensorShapeProto { dim: t.dims().iter().map(dim).collect() });
        let r#type = Some(TypeProto { tensor_type: Some(TensorTypeProto { elem_type: type_number(t), shape }) });
        model.graph.input.push(ValueInfoProto { name: name.to_string(), r#type });
    }
    let of = |name: &&str| if name.is_empty() { "_".into() } else { name.to_string() };
    let io = format!("{} > {}", given.inputs.iter().map(of).collect::<Vec<_>>().join(" "), given.outputs.join(" "));
    let attrs: Vec<AttributeProto> =
        given.attrs.as_object().unwrap().iter().map(|(name, v)| attribute(name, v)).collect();
    model.graph.output =
        given.outputs.iter().map(|name| ValueInfoProto { name: name.to_string(), r#type: None }).collect();
    model.node(given.op, &io, &attrs).of_domain(given.domain).encode()
}

/// The arrays of a file by `case|kind|name`: those that go in, and those that come out.
type Arrays = BTreeMap<String, [BTreeMap<String, HostTensor>; 2]>;

fn arrays(file: &std::path::Path, out: &str) -> Arrays {
    let bytes = std::fs::read(file).unwrap();
    let mut archive = qc_arrays::Archive::new(&bytes).unwrap();
    let mut arrays = Arrays::new();
    for name in archive.names() {
        let parts: Vec<&str> = name.trim_end_matches(".npy").split('|').collect();
        let [case, kind, place] = parts[..] else { continue };
        let of_case = arrays.entry(case.into()).or_default();
        match archive.get(&name) {
            Ok(t) if kind == "in" => drop(of_case[0].insert(place.into(), t)),
            Ok(t) if kind == out => drop(of_case[1].insert(place.into(), t)),
            _ => {}
        }
    }
    arrays
}

#[test]
fn recurrent_cells_as_onnx_runtime_runs_them() {
    let Some(dir) = shared("spec/models/rnn_onnx") else { return };
    let cases: Vec<Json> = serde_json::from_slice(&std::fs::read(dir.join("vectors.json")).unwrap()).unwrap();
    let arrays = arrays(&dir.join("vectors.npz"), "out");
    let mut tally = Tally::default();
    for (i, about) in cases.iter().enumerate() {
        let [given, want] = &arrays[&i.to_string()];
        let op = about["op"].as_str().unwrap();
        let plain = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"];
        let formats = ["W_scale", "W_zero_point", "R_scale", "R_zero_point"];
        let names = plain.into_iter().chain(formats.into_iter().filter(|_| op == "DynamicQuantizeLSTM"));
        let inputs: Vec<&str> = names.map(|name| if given.contains_key(name) { name } else { "" }).collect();
        let last = inputs.iter().rposition(|name| !name.is_empty()).unwrap();
        let outputs: Vec<&str> = ["Y", "Y_h", "Y_c"].into_iter().filter(|name| want.contains_key(*name)).collect();
        let domain = if op == "DynamicQuantizeLSTM" { "com.microsoft" } else { "" };
        let node = Given {
            opset: 14,
            op,
            domain,
            attrs: &about["attrs"],
            inputs: &inputs[..=last],
            data: &["X", "sequence_lens", "initial_h", "initial_c"],
            outputs: &outputs,
        };
        let want: Vec<(String, HostTensor)> = want.iter().map(|(name, t)| (name.clone(), t.clone())).collect();
        tally.note(&i.to_string(), op, judge(&model(&node, given), given, &want), &[]);
    }
    tally.finish("rnn_onnx", 64);
}

#[test]
fn tails_of_detectors_as_onnx_runtime_runs_them() {
    let Some(dir) = shared("spec/models/onnx_tails") else { return };
    let cases = std::fs::read(dir.join("cases.json")).unwrap();
    let cases: BTreeMap<String, Json> = serde_json::from_slice(&cases).unwrap();
    let arrays = arrays(&dir.join("io.npz"), "ort");
    let mut tally = Tally::default();
    const ROUNDED: &str = "a place between two that f32 rounds to either";
    let known = [
        ("resize_nearest_half_pixel_symmetric_floor_scales5_0.6", ROUNDED),
        ("resize_nearest_half_pixel_symmetric_floor_sizes5_3", ROUNDED),
        ("topk_nan_smallest", "since NaN is above all numbers in either direction"),
        ("topk_unsorted", "whose order is free"),
    ];
    for (case, about) in &cases {
        let Some([inputs, want]) = arrays.get(case).filter(|[_, want]| !want.is_empty()) else {
            tally.leave_out();
            continue;
        };
        let want: Vec<(String, HostTensor)> = want.iter().map(|(name, t)| (format!("o{name}"), t.clone())).collect();
        let names: Vec<&str> = about["inputs"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        let op = about["op"].as_str().unwrap();
        let outputs: Vec<&str> = want.iter().map(|(name, _)| name.as_str()).collect();
        let node = Given {
            opset: about["opset"].as_i64().unwrap(),
            op,
            domain: "",
            attrs: &about["attrs"],
            inputs: &names,
            data: if op == "NonMaxSuppression" { &["i0", "i1"] } else { &["i0"] },
            outputs: &outputs,
        };
        tally.note(case, op, judge(&model(&node, inputs), inputs, &want), &known);
    }
    tally.finish("onnx_tails", 475);
}
