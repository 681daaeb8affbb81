//! Small files that would need much time or memory: nesting, multiplication, numbers without end.

use crate::onnx::tests as onnx;
use crate::{NoFiles, Options, Source, import};
use std::time::{Duration, Instant};

#[test]
fn bombs_are_refused_fast() {
    let refused = |model: Vec<u8>| {
        let start = Instant::now();
        let source = Source { name: "bomb".into(), model: model.into(), params: None, files: &NoFiles };
        assert!(import(&source, &Options::default()).is_err());
        // Milliseconds on an idle machine; a bomb that goes off takes minutes, or all memory.
        assert!(start.elapsed() < Duration::from_secs(60));
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
