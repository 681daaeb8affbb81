//! Damaged models: thousands of mutations of small ones. Whatever the bytes, an import ends soon and without a panic.

use crate::onnx::tests as onnx;
use crate::paddle::tests as paddle;
use crate::{Bytes, Format, NoFiles, Options, Source, import, sniff, wire};
use prost::Message;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A small deterministic generator (SplitMix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// One to four edits: flipped bits, set bytes, inflated numbers, cuts, copies and removals.
fn mutate(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=rng.below(4) {
        if out.is_empty() {
            break;
        }
        let (at, len) = (rng.below(out.len()), rng.below(24) + 1);
        let end = (at + len).min(out.len());
        match rng.below(8) {
            0 => out[at] ^= 1 << rng.below(8),
            1 => out[at] = rng.next() as u8,
            2 => out[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
            3 => out.truncate(at),
            4 => {
                let copy = out[at..end].to_vec();
                out.splice(at..at, copy);
            }
            5 => {
                out.drain(at..end);
            }
            6 => {
                // A long varint where a short one was.
                out.splice(at..=at, [0xff, 0xff, 0xff, 0xff, 0x0f]);
            }
            _ => {
                let other = rng.below(out.len());
                out.swap(at, other);
            }
        }
    }
    out
}

/// A message taken apart along the schema, so that edits keep all lengths right and reach the importer's own logic.
#[derive(Clone)]
enum Tree {
    Message(Vec<(u32, Tree)>),
    Bytes(Vec<u8>),
    Int(u64),
    /// Four or eight bytes.
    Fixed(Vec<u8>),
}

fn take_apart(bytes: &[u8], schema: &wire::Message) -> Vec<(u32, Tree)> {
    let mut reader = wire::Reader::new(bytes);
    let mut fields = Vec::new();
    while let Ok(Some(raw)) = reader.next("model") {
        let inner = schema.fields.iter().find(|(n, _)| *n == raw.number).map(|(_, f)| f);
        let tree = match (raw.wire, inner) {
            (0, _) => Tree::Int(raw.int),
            (2, Some(wire::Field::Message(m))) => Tree::Message(take_apart(raw.payload, m)),
            (2, _) => Tree::Bytes(raw.payload.to_vec()),
            _ => Tree::Fixed(raw.payload.to_vec()),
        };
        fields.push((raw.number, tree));
    }
    fields
}

fn put_together(fields: &[(u32, Tree)], out: &mut Vec<u8>) {
    use prost::encoding::{WireType, encode_key, encode_varint};
    for (number, tree) in fields {
        let mut inner = Vec::new();
        match tree {
            Tree::Int(i) => {
                encode_key(*number, WireType::Varint, out);
                encode_varint(*i, out);
                continue;
            }
            Tree::Fixed(b) => {
                encode_key(*number, if b.len() == 8 { WireType::SixtyFourBit } else { WireType::ThirtyTwoBit }, out);
                out.extend(b);
                continue;
            }
            Tree::Message(fields) => put_together(fields, &mut inner),
            Tree::Bytes(b) => inner.extend(b),
        }
        encode_key(*number, WireType::LengthDelimited, out);
        encode_varint(inner.len() as u64, out);
        out.extend(inner);
    }
}

/// Numbers at which sizes, axes and counts go wrong.
const NUMBERS: [i64; 16] =
    [0, 1, 2, 3, 7, 8, 64, 255, 65_536, 1 << 20, i32::MAX as i64, 1 << 32, i64::MAX, -1, -2, i64::MIN];

/// Texts of the model, for swapping names and op types.
fn texts(fields: &[(u32, Tree)], out: &mut Vec<Vec<u8>>) {
    for (_, tree) in fields {
        match tree {
            Tree::Message(inner) => texts(inner, out),
            Tree::Bytes(b) if b.len() < 40 => out.push(b.clone()),
            _ => {}
        }
    }
}

/// One edit somewhere in the tree.
fn edit(fields: &mut Vec<(u32, Tree)>, texts: &[Vec<u8>], rng: &mut Rng) {
    if fields.is_empty() {
        return;
    }
    let at = rng.below(fields.len());
    if let Tree::Message(inner) = &mut fields[at].1
        && rng.below(8) != 0
    {
        return edit(inner, texts, rng);
    }
    match (rng.below(6), &mut fields[at].1) {
        (0, _) => {
            fields.remove(at);
        }
        (1, _) => {
            let copy = fields[at].clone();
            fields.insert(at, copy);
        }
        (2, _) => {
            let other = rng.below(fields.len());
            fields.swap(at, other);
        }
        (_, Tree::Int(i)) => *i = NUMBERS[rng.below(NUMBERS.len())] as u64,
        (_, Tree::Fixed(b)) => b.fill([0, 0x7f, 0x80, 0xff][rng.below(4)]),
        (3, Tree::Bytes(b)) if !b.is_empty() => {
            let at = rng.below(b.len());
            b[at] = rng.next() as u8;
        }
        (_, Tree::Bytes(b)) if b.len() < 40 && !texts.is_empty() => *b = texts[rng.below(texts.len())].clone(),
        (_, Tree::Bytes(b)) => b.truncate(rng.below(b.len())),
        (_, Tree::Message(inner)) => inner.truncate(rng.below(inner.len())),
    }
}

/// One to three edits that keep the file well formed.
fn edit_fields(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let schema = match sniff(bytes) {
        Format::Onnx => &crate::onnx::proto::MODEL,
        _ => &crate::paddle::program::PROGRAM,
    };
    let mut tree = take_apart(bytes, schema);
    let mut all = Vec::new();
    texts(&tree, &mut all);
    for _ in 0..=rng.below(3) {
        edit(&mut tree, &all, rng);
    }
    let mut out = Vec::new();
    put_together(&tree, &mut out);
    out
}

/// One to three values of a JSON document replaced, removed or doubled.
fn edit_json(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let Ok(mut root) = serde_json::from_slice::<Value>(bytes) else { return mutate(bytes, rng) };
    for _ in 0..=rng.below(3) {
        edit_value(&mut root, rng);
    }
    root.to_string().into_bytes()
}

/// Goes down at random; the edit happens where the way ends.
fn edit_value(place: &mut Value, rng: &mut Rng) {
    let deeper = rng.below(8) != 0;
    match place {
        Value::Array(items) if deeper && !items.is_empty() => {
            let i = rng.below(items.len());
            edit_value(&mut items[i], rng);
        }
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let i = rng.below(fields.len());
            fields.values_mut().nth(i).into_iter().for_each(|v| edit_value(v, rng));
        }
        Value::Number(_) => *place = NUMBERS[rng.below(NUMBERS.len())].into(),
        Value::String(s) if rng.below(2) == 0 => {
            *s = ["p", "0.combine", "1.add", "1.relu", "x", "INF", "0.a_f32"][rng.below(7)].into();
        }
        Value::Array(items) if !items.is_empty() => {
            let i = rng.below(items.len());
            let copy = items.remove(i);
            if rng.below(2) == 0 {
                items.extend([copy.clone(), copy]);
            }
        }
        other => {
            *other = [Value::Null, true.into(), "w".into(), 1.5.into(), Value::Array(vec![])][rng.below(5)].clone()
        }
    }
}

struct Case {
    name: String,
    model: Vec<u8>,
    params: Option<Vec<u8>>,
}

fn small_models() -> Vec<Case> {
    let case = |name: &str, model: Vec<u8>, params| Case { name: name.into(), model, params };
    let shapes = onnx::Model::new(11, &[-1, 2, 4, 4])
        .constant(onnx::floats("w", &[2, 2, 3, 3], &[0.5; 36]))
        .constant(onnx::floats("c", &[2], &[1.0, 2.0]))
        .constant(onnx::longs("zero", &[0]))
        .constant(onnx::longs("one", &[1]))
        .constant(onnx::longs("rest", &[-1]))
        .node("Conv", "x w c > a", &[onnx::ints("pads", &[1, 1, 1, 1]), onnx::int("group", 1)])
        .node("BatchNormalization", "a c c c c > b", &[onnx::float("epsilon", 1e-5)])
        .node("MaxPool", "b > d", &[onnx::ints("kernel_shape", &[2, 2]), onnx::int("ceil_mode", 1)])
        .node("Shape", "d > s", &[])
        .node("Slice", "s zero one zero > n", &[])
        .node("Concat", "n rest > t", &[onnx::int("axis", 0)])
        .node("Reshape", "d t > e", &[])
        .node("Softmax", "e > y", &[onnx::int("axis", 1)]);
    let pir = crate::paddle::pir::tests::small();
    let frozen = paddle::frozen_program(&[127.0, -64.0]);
    let program = paddle::Program::new(&[-1, 2, 4, 4])
        .floats("w", &[2, 2, 3, 3], &[0.5; 36])
        .floats("v", &[2], &[1.0, 2.0])
        .op("conv2d", "Input=x Filter=w", "Output=a", &[paddle::ints("paddings", &[1, 1])])
        .op("batch_norm", "X=a Scale=v Bias=v Mean=v Variance=v", "Y=b", &[])
        .op("pool2d", "X=b", "Out=c", &[paddle::text("pooling_type", "avg"), paddle::ints("ksize", &[2, 2])])
        .op("split", "X=c", "Out=d,e", &[paddle::int("num", 2), paddle::int("axis", 1)])
        .op("concat", "X=e,d", "Out=f", &[paddle::int("axis", 1)])
        .op("reshape2", "X=f", "Out=g XShape=h", &[paddle::ints("shape", &[0, -1])])
        .op(
            "slice",
            "Input=g",
            "Out=i",
            &[paddle::ints("axes", &[1]), paddle::ints("starts", &[1]), paddle::ints("ends", &[9])],
        )
        .op("scale", "X=i", "Out=y", &[paddle::float("scale", 2.0)])
        .finish();
    vec![
        case("onnx float", shapes.encode(), None),
        case("onnx quantized", onnx::qdq_model().encode(), None),
        case("paddle float", program.desc.encode_to_vec(), Some(program.combined())),
        case("paddle frozen", frozen.desc.encode_to_vec(), Some(frozen.combined())),
        case("paddle 3", pir.json(), Some(pir.combined())),
    ]
}

/// Imports damaged copies of a model; returns how many were still accepted.
fn attack(case: &Case, rounds: usize, seed: u64) -> usize {
    let mut accepted = 0;
    for round in 0..rounds {
        let mut rng = Rng(seed.wrapping_add(round as u64));
        let (mut model, mut params) = (case.model.clone(), case.params.clone());
        match &mut params {
            Some(params) if rng.below(5) == 0 => *params = mutate(params, &mut rng),
            _ if rng.below(4) == 0 => model = mutate(&model, &mut rng),
            _ if sniff(&model) == Format::PaddlePir => model = edit_json(&model, &mut rng),
            _ => model = edit_fields(&model, &mut rng),
        }
        let params = params.map(Bytes::from);
        let source = Source { name: case.name.clone(), model: model.into(), params, files: &NoFiles };
        let start = Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| import(&source, &Options::default())));
        let result = result.unwrap_or_else(|_| panic!("{}, round {round} of seed {seed}: panic", case.name));
        let spent = start.elapsed();
        assert!(spent < Duration::from_secs(1), "{}, round {round} of seed {seed}: {spent:?}", case.name);
        if let Ok(imported) = result {
            accepted += 1;
            let wrong = qc_ir::verify(&imported.module, &qc_dialects::REGISTRY);
            assert!(wrong.is_empty(), "{}, round {round} of seed {seed}: {wrong:?}", case.name);
        }
    }
    accepted
}

#[test]
fn damaged_models_are_errors_not_panics() {
    for case in small_models() {
        let accepted = attack(&case, 10_000, 1);
        println!("{}: {accepted} of 10000 damaged copies still import", case.name);
        // Flips in weights and names do no harm, so some must get through; most must not.
        assert!((500..9500).contains(&accepted), "{}: {accepted}", case.name);
    }
}

#[test]
fn damaged_real_models_are_errors_not_panics() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("QC_SHARED").map_or(beside, PathBuf::from);
    let files = [
        ("spec/models/fp32/resnet_p18/combined/model", Some("params")),
        ("spec/models/fp32/dwnet_p26/model.pdmodel", Some("model.pdiparams")),
        ("spec/models/qat/resnet_p26_cw_mavg_qdq/model.pdmodel", Some("model.pdiparams")),
        ("spec/models/qat/resnet_p26_cw_mavg/model.pdmodel", Some("model.pdiparams")),
        ("spec/models/qat/dwnet_p33pir_qat/model.json", Some("model.pdiparams")),
        ("models/models/mnist/mnist.onnx", None),
        ("models/models/tiny_kws_dscnn/tiny_kws_dscnn_ptq_qdq.onnx", None),
    ];
    let mut skipped = 0;
    for (name, params) in files {
        let path = shared.join(name);
        let Ok(model) = std::fs::read(&path) else {
            skipped += 1;
            continue;
        };
        let params = params.map(|p| std::fs::read(path.with_file_name(p)).unwrap());
        let accepted = attack(&Case { name: name.into(), model, params }, 300, 2);
        println!("{name}: {accepted} of 300 damaged copies still import");
    }
    println!("{skipped} of {} models skipped: not there", files.len());
}

#[test]
fn bombs_are_refused_fast() {
    let refused = |model: Vec<u8>| {
        let start = Instant::now();
        let source = Source { name: "bomb".into(), model: model.into(), params: None, files: &NoFiles };
        assert!(import(&source, &Options::default()).is_err());
        assert!(start.elapsed() < Duration::from_secs(1));
    };
    // Nesting: graphs in attributes, groups in groups, a program of ever deeper messages.
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        let mut outer = vec![0x3a];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.extend(&nested);
        nested = outer;
        if nested.len() > 1 << 20 {
            break;
        }
    }
    refused([&[0x08, 8][..], &nested].concat());
    refused([&[0x08, 8][..], &[0x1b; 100_000]].concat());
    refused([0x0a, 0].repeat(1 << 20));
    refused([&b"{\"a\":\"pir\",\"b\":"[..], &b"[".repeat(1 << 20)].concat());
    refused([&[0x08, 8, 0x42, 2, 0x10, 13, 0x3a][..], &[0xff; 64]].concat());
    // A constant doubled again and again.
    let mut model = onnx::Model::new(13, &[2]).constant(onnx::longs("c0", &[7; 64]));
    for i in 0..60 {
        model = model.node("Concat", &format!("c{i} c{i} > c{}", i + 1), &[onnx::int("axis", 0)]);
    }
    refused(model.node("Reshape", "x c60 > y", &[]).encode());
    // One constant dequantized by very many nodes.
    let mut model = onnx::Model::new(13, &[1 << 16])
        .constant(onnx::bytes("w", 3, &[1 << 16], &[1; 1 << 16]))
        .constant(onnx::floats("s", &[], &[1.0]));
    let mut last = "x".to_string();
    for i in 0..4000 {
        model = model.node("DequantizeLinear", &format!("w s > d{i}"), &[]);
        let next = if i == 3999 { "y".into() } else { format!("a{i}") };
        model = model.node("Add", &format!("{last} d{i} > {next}"), &[]);
        last = next;
    }
    refused(model.encode());
}
