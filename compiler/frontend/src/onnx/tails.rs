//! Nodes of the shared folder with the results of ONNX Runtime: choosing boxes, the largest in order, resizing.

use super::proto::*;
use super::tests::{Model, float, floats, int, ints, longs};
use crate::cases::{Tally, judge, shared};
use qc_ir::{Data, HostTensor};
use serde_json::Value as Json;
use std::collections::BTreeMap;

fn attribute(name: &str, value: &Json) -> AttributeProto {
    match value {
        Json::Number(n) if n.is_f64() => float(name, n.as_f64().unwrap() as f32),
        Json::Number(n) => int(name, n.as_i64().unwrap()),
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

/// The model of a case: `data` are the inputs of its node that are inputs of the model, the others are constants.
fn model(about: &Json, arrays: &BTreeMap<String, HostTensor>, outputs: usize) -> Vec<u8> {
    let names: Vec<&str> = about["inputs"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    let mut model = Model::new(about["opset"].as_i64().unwrap(), &[1]);
    model.graph.input.clear();
    let shape = |dims: &[usize]| {
        let dim = |&d: &usize| DimensionProto { dim_value: Some(d as i64), dim_param: None };
        Some(TensorShapeProto { dim: dims.iter().map(dim).collect() })
    };
    let op = about["op"].as_str().unwrap();
    for name in names.iter().filter(|name| !name.is_empty()) {
        let t = &arrays[*name];
        let data = if op == "NonMaxSuppression" { ["i0", "i1"].contains(name) } else { *name == "i0" };
        if data {
            let tensor_type = Some(TensorTypeProto { elem_type: type_number(t), shape: shape(t.dims()) });
            let r#type = Some(TypeProto { tensor_type });
            model.graph.input.push(ValueInfoProto { name: name.to_string(), r#type });
        } else {
            let dims: Vec<i64> = t.dims().iter().map(|&d| d as i64).collect();
            let constant = match t.data() {
                Data::F32(v) => floats(name, &dims, v),
                _ => TensorProto { dims, ..longs(name, &(0..t.len()).map(|i| t.int(i).unwrap()).collect::<Vec<_>>()) },
            };
            model = model.constant(constant);
        }
    }
    let of = |name: &&str| if name.is_empty() { "_".into() } else { name.to_string() };
    let results: Vec<String> = (0..outputs).map(|i| format!("o{i}")).collect();
    let io = format!("{} > {}", names.iter().map(of).collect::<Vec<_>>().join(" "), results.join(" "));
    let attrs: Vec<AttributeProto> =
        about["attrs"].as_object().unwrap().iter().map(|(name, v)| attribute(name, v)).collect();
    model.graph.output = results.into_iter().map(|name| ValueInfoProto { name, r#type: None }).collect();
    model.node(op, &io, &attrs).encode()
}

#[test]
fn tails_of_detectors_as_onnx_runtime_runs_them() {
    let Some(dir) = shared("spec/models/onnx_tails") else { return };
    let cases = std::fs::read(dir.join("cases.json")).unwrap();
    let cases: BTreeMap<String, Json> = serde_json::from_slice(&cases).unwrap();
    let bytes = std::fs::read(dir.join("io.npz")).unwrap();
    let mut archive = qc_arrays::Archive::new(&bytes).unwrap();
    let mut arrays: BTreeMap<String, [BTreeMap<String, HostTensor>; 2]> = BTreeMap::new();
    for name in archive.names() {
        let parts: Vec<&str> = name.trim_end_matches(".npy").split('|').collect();
        let [case, kind, place] = parts[..] else { continue };
        let of_case = arrays.entry(case.into()).or_default();
        match (kind, archive.get(&name)) {
            ("in", Ok(t)) => drop(of_case[0].insert(place.into(), t)),
            ("ort", Ok(t)) => drop(of_case[1].insert(format!("o{place}"), t)),
            _ => {}
        }
    }
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
        let want: Vec<(String, HostTensor)> = want.iter().map(|(name, t)| (name.clone(), t.clone())).collect();
        let result = judge(&model(about, inputs, want.len()), inputs, &want);
        tally.note(case, about["op"].as_str().unwrap(), result, &known);
    }
    tally.finish("onnx_tails", 475);
}
