//! One-operator programs made from the shared folder's attributes and arrays, run by the interpreter.
//!
//! A refusal is no failure, a wrong result is.

use super::program::*;
use super::tests::var;
use crate::cases::{Not, Tally, judge, judge_with, shared};
use prost::Message;
use qc_ir::{Data, HostTensor};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// An attribute as JSON has it: numbers with a point are floats.
fn attribute(name: &str, value: &Json) -> Option<OpAttr> {
    let attr = |kind: i32| OpAttr { name: name.into(), kind, ..Default::default() };
    Some(match value {
        Json::Bool(b) => OpAttr { b: Some(*b), ..attr(6) },
        Json::Number(n) if n.is_f64() => OpAttr { f: n.as_f64().map(|x| x as f32), ..attr(1) },
        Json::Number(n) => match n.as_i64().and_then(|i| i32::try_from(i).ok()) {
            Some(i) => OpAttr { i: Some(i), ..attr(0) },
            None => OpAttr { l: n.as_i64(), ..attr(9) },
        },
        Json::String(s) => OpAttr { s: Some(s.clone().into_bytes().into()), ..attr(2) },
        Json::Array(list) if list.iter().any(Json::is_f64) => {
            OpAttr { floats: list.iter().filter_map(Json::as_f64).map(|x| x as f32).collect(), ..attr(4) }
        }
        Json::Array(list) if list.iter().all(Json::is_i64) => {
            OpAttr { ints: list.iter().filter_map(Json::as_i64).map(|i| i as i32).collect(), ..attr(3) }
        }
        _ => return None,
    })
}

fn type_number(t: &HostTensor) -> i32 {
    match t.data() {
        Data::F32(_) => 5,
        Data::I8(_) => 21,
        Data::U8(_) => 20,
        Data::I32(_) => 2,
        Data::I64(_) => 3,
        Data::Bool(_) => 0,
    }
}

/// Arrays of a case: slot and place to tensor, inputs and outputs.
#[derive(Default)]
struct Arrays {
    inputs: BTreeMap<(String, usize), HostTensor>,
    outputs: BTreeMap<(String, usize), HostTensor>,
    /// Where sequences of a ragged input begin.
    offsets: BTreeMap<(String, usize), HostTensor>,
}

/// All cases of an operator's file. An array that no tensor of ours can be leaves its case out.
fn arrays_of(path: &Path) -> BTreeMap<String, Arrays> {
    let bytes = std::fs::read(path).unwrap();
    let mut archive = qc_arrays::Archive::new(&bytes).unwrap();
    let (mut cases, mut left_out) = (BTreeMap::<String, Arrays>::new(), BTreeSet::new());
    for name in archive.names() {
        let parts: Vec<String> = name.trim_end_matches(".npy").split('|').map(String::from).collect();
        let [case, kind, slot, place] = &parts[..] else { continue };
        let Ok(array) = archive.get(&name) else {
            left_out.insert(case.clone());
            continue;
        };
        let key = (slot.clone(), place.parse().unwrap());
        let of_case = cases.entry(case.clone()).or_default();
        match kind.as_str() {
            "in" => drop(of_case.inputs.insert(key, array)),
            "out" => drop(of_case.outputs.insert(key, array)),
            "lod" => {
                let all = (0..array.len()).map(|i| array.int(i).unwrap()).collect();
                of_case.offsets.insert(key, HostTensor::i64([array.len()], all));
            }
            _ => {}
        }
    }
    cases.retain(|case, _| !left_out.contains(case));
    cases
}

/// The program of a case.
fn program(op: &str, attrs: &Json, arrays: &Arrays, version: i64) -> Vec<u8> {
    let mut block = BlockDesc { vars: vec![var("feed", 9, 0, &[], true), var("fetch", 10, 0, &[], true)], ops: vec![] };
    let port = |op: &str, name: &str, col: usize| {
        let (from, to) = if op == "feed" { ("feed", name) } else { (name, "fetch") };
        let slot = |s: &str, v: &str| OpVar { parameter: s.into(), arguments: vec![v.into()] };
        let col = OpAttr { name: "col".into(), i: Some(col as i32), ..Default::default() };
        OpDesc { inputs: vec![slot("X", from)], outputs: vec![slot("Out", to)], r#type: op.into(), attrs: vec![col] }
    };
    let slots = |arrays: &BTreeMap<(String, usize), HostTensor>| {
        let mut slots: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (slot, place) in arrays.keys() {
            slots.entry(slot.clone()).or_default().push(format!("{slot}{place}"));
        }
        slots.into_iter().map(|(parameter, arguments)| OpVar { parameter, arguments }).collect::<Vec<_>>()
    };
    for (col, ((slot, place), t)) in arrays.inputs.iter().enumerate() {
        let dims: Vec<i64> = t.dims().iter().map(|&d| d as i64).collect();
        let mut input = var(&format!("{slot}{place}"), 7, type_number(t), &dims, false);
        let is_ragged = arrays.offsets.contains_key(&(slot.clone(), *place));
        input.r#type.tensor.as_mut().unwrap().lod_level = is_ragged.then_some(1);
        block.vars.push(input);
        block.ops.push(port("feed", &format!("{slot}{place}"), col));
    }
    let attrs = attrs.as_object().unwrap().iter().filter_map(|(name, v)| attribute(name, v)).collect();
    let (inputs, outputs) = (slots(&arrays.inputs), slots(&arrays.outputs));
    block.ops.push(OpDesc { inputs, outputs, r#type: op.into(), attrs });
    for (col, (slot, place)) in arrays.outputs.keys().enumerate() {
        block.ops.push(port("fetch", &format!("{slot}{place}"), col));
    }
    let version = Some(Version { version: Some(version) });
    ProgramDesc { blocks: vec![block], version }.encode_to_vec()
}

/// Judges a folder of cases; at least `least` of them are equal, and none is wrong but those of `known`.
fn folder(name: &str, version: i64, least: usize, known: &[(&str, &str)]) {
    let Some(dir) = shared(&format!("spec/models/opcases/{name}")) else { return };
    let cases = std::fs::read(dir.join("cases.json")).unwrap();
    let cases: BTreeMap<String, Json> = serde_json::from_slice(&cases).unwrap();
    let mut files: BTreeMap<String, BTreeMap<String, Arrays>> = BTreeMap::new();
    let mut tally = Tally::default();
    for (case, about) in &cases {
        let op = about["op"].as_str().unwrap();
        let arrays = files.entry(op.into()).or_insert_with(|| arrays_of(&dir.join(format!("{op}.npz"))));
        let Some(arrays) = arrays.get_mut(case) else {
            tally.leave_out();
            continue;
        };
        // What kernels only keep for themselves is no result.
        arrays.outputs.retain(|(slot, _), _| !slot.starts_with("Batch") && slot != "MaxIndex");
        let named = |map: &BTreeMap<(String, usize), HostTensor>| {
            map.iter().map(|((slot, place), t)| (format!("{slot}{place}"), t.clone())).collect::<Vec<_>>()
        };
        let offsets = arrays.offsets.iter().map(|((slot, place), t)| (format!("{slot}{place}.offsets"), t.clone()));
        let values: BTreeMap<String, HostTensor> = named(&arrays.inputs).into_iter().chain(offsets).collect();
        let mut want = named(&arrays.outputs);
        // The scales that quantizers learn are not written outside of training.
        want.retain(|(name, t)| !t.is_empty() || !name.starts_with("OutScale"));
        tally.note(case, op, judge(&program(op, &about["attrs"], arrays, version), &values, &want), known);
    }
    tally.finish(name, least);
}

/// Windows that lie outside of the image have no maximum and no mean.
const OUTSIDE: &str = "of a window outside of the image";
const UNSTABLE: &str = "of equal numbers any comes first";

#[test]
fn operators_of_paddle_1() {
    folder("p18", 0, 199, &[("pool2d_24", OUTSIDE), ("pool2d_25", OUTSIDE), ("top_k_0", UNSTABLE)]);
}

#[test]
fn operators_of_paddle_2() {
    let known = [
        ("pool2d_24", OUTSIDE),
        ("pool2d_25", OUTSIDE),
        ("top_k_0", UNSTABLE),
        ("split_2", "which Paddle splits wrongly along a negative axis"),
        ("layer_norm_0", "the same means in one dim"),
    ];
    folder("p26", 2_006_002, 240, &known);
    const EMPTY: &str = "one number that stands for no rows";
    folder("p26_more", 2_006_002, 146, &[("multiclass_nms_m3", EMPTY), ("multiclass_nms_m7", EMPTY)]);
}

/// Models of Paddle 3 with one operator each.
#[test]
fn operators_of_paddle_3() {
    let Some(dir) = shared("spec/models/pir_detect") else { return };
    let bytes = std::fs::read(dir.join("io.npz")).unwrap();
    let mut archive = qc_arrays::Archive::new(&bytes).unwrap();
    let mut cases: BTreeMap<String, (BTreeMap<String, HostTensor>, Vec<(String, HostTensor)>)> = BTreeMap::new();
    for name in archive.names() {
        let parts: Vec<&str> = name.trim_end_matches(".npy").split('|').collect();
        let [case, kind, port] = parts[..] else { continue };
        let array = archive.get(&name).unwrap();
        let of_case = cases.entry(case.into()).or_default();
        match kind {
            "in" => drop(of_case.0.insert(port.into(), array)),
            _ => of_case.1.push((format!("fetch_name_{port}"), array)),
        }
    }
    let mut tally = Tally::default();
    for (case, (values, want)) in &cases {
        let model = std::fs::read(dir.join(case).join("model.json")).unwrap();
        tally.note(case, case, judge(&model, values, want), &[("topk", UNSTABLE)]);
    }
    tally.finish("pir_detect", 27);
}

/// Recurrent ops of programs that Paddle converted to INT8: every byte is its.
#[test]
fn recurrent_operators_of_bytes() {
    let Some(dir) = shared("spec/models/rnn_int8") else { return };
    let about: Vec<Json> = serde_json::from_slice(&std::fs::read(dir.join("vectors.json")).unwrap()).unwrap();
    let bytes = std::fs::read(dir.join("vectors.npz")).unwrap();
    let mut archive = qc_arrays::Archive::new(&bytes).unwrap();
    let mut cases: BTreeMap<usize, (Arrays, BTreeMap<String, HostTensor>)> = BTreeMap::new();
    for name in archive.names() {
        let parts: Vec<&str> = name.trim_end_matches(".npy").split('|').collect();
        let (case, array) = (cases.entry(parts[0].parse().unwrap()).or_default(), archive.get(&name).unwrap());
        let place = parts.get(3).map_or(0, |place| place.parse().unwrap());
        match parts[1] {
            "in" if parts[2] != "Xf" => {
                case.1.insert(format!("{}{place}", parts[2]), array.clone());
                case.0.inputs.insert((parts[2].into(), place), array);
            }
            "out" => drop(case.0.outputs.insert(("Hidden".into(), 0), array)),
            _ => {}
        }
    }
    let mut equal = 0;
    for (i, (mut arrays, mut values)) in cases {
        let (op, mut attrs) = (about[i]["op"].as_str().unwrap(), about[i]["attrs"].clone());
        if op == "quantize" {
            continue;
        }
        attrs["mkldnn_data_type"] = "int8".into();
        let lengths = about[i]["lens"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap());
        let ends = lengths.scan(0, |end, n| {
            *end += n;
            Some(*end)
        });
        let offsets: Vec<i64> = std::iter::once(0).chain(ends).collect();
        let offsets = HostTensor::i64([offsets.len()], offsets);
        arrays.offsets.insert(("X".into(), 0), offsets.clone());
        values.insert("X0.offsets".into(), offsets);
        let want = vec![("Hidden0".to_string(), arrays.outputs[&("Hidden".into(), 0)].clone())];
        let weights: Vec<String> = values.keys().filter(|name| !name.starts_with('X')).cloned().collect();
        match judge_with(&program(op, &attrs, &arrays, 2_006_002), &values, &want, &weights) {
            Ok(()) => equal += 1,
            Err(Not::Refused(why) | Not::Wrong(why)) => panic!("vector {i}, {op}: {why}"),
        }
    }
    assert_eq!(equal, 41);
}

/// What oneDNN interpolates, of floats and of bytes, which it copies.
#[test]
fn interpolations_of_onednn() {
    let Some(dir) = shared("spec/models/int8_kernels_more") else { return };
    let cases = std::fs::read(dir.join("interp_onednn.json")).unwrap();
    let cases: BTreeMap<String, Json> = serde_json::from_slice(&cases).unwrap();
    let bytes = std::fs::read(dir.join("interp_onednn.npz")).unwrap();
    let mut archive = qc_arrays::Archive::new(&bytes).unwrap();
    let mut tally = Tally::default();
    for (case, attrs) in &cases {
        let [op, elem, _] = case.split('|').collect::<Vec<_>>()[..] else { panic!("{case}") };
        // There is no kernel of oneDNN for linear interpolation of bytes; the plain one cuts off what it should round.
        if op.starts_with("bilinear") && elem != "float32" {
            tally.leave_out();
            continue;
        }
        let mut get = |name: &str| archive.get(name).unwrap();
        let (x, out) = (get(&format!("in|{elem}")), get(case));
        let inputs = BTreeMap::from([(("X".to_string(), 0), x.clone())]);
        let outputs = BTreeMap::from([(("Out".to_string(), 0), out.clone())]);
        let arrays = Arrays { inputs, outputs, ..Arrays::default() };
        let result =
            judge(&program(op, attrs, &arrays, 2_006_000), &[("X0".to_string(), x)].into(), &[("Out0".into(), out)]);
        tally.note(case, op, result, &[]);
    }
    tally.finish("int8_kernels_more", 40);
}
