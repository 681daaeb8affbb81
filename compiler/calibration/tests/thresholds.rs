//! Thresholds of the methods that other tools have, against those tools' own on the same samples.
//!
//! `data/samples.npz` has 20 tensors in four batches, `data/thresholds.tsv` what Paddle 2.6.2 and ONNX Runtime 1.31.1 find for them,
//! and what an implementation of the other rules in NumPy finds. A batch is a sample here.

#![allow(clippy::unwrap_used)]

use qc_calibration::{Method, Sample, Seen};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Batches of each tensor: how many items, and the values.
fn samples() -> BTreeMap<String, Vec<(usize, Vec<f32>)>> {
    let mut all: BTreeMap<String, BTreeMap<usize, (usize, Vec<f32>)>> = BTreeMap::new();
    for (name, tensor) in qc_arrays::parse(&std::fs::read(data("samples.npz")).unwrap()).unwrap() {
        let name = name.unwrap();
        let (tensor_name, batch) = name.split_once('|').unwrap();
        let values = tensor.as_f32().unwrap().to_vec();
        all.entry(tensor_name.into()).or_default().insert(batch.parse().unwrap(), (tensor.dims()[0], values));
    }
    all.into_iter().map(|(name, batches)| (name, batches.into_values().collect())).collect()
}

fn seen(method: Method, batches: &[(usize, Vec<f32>)], order: &[usize], parts: usize) -> Seen {
    let mut all: Vec<Seen> = vec![Seen::default(); parts];
    for (turn, &i) in order.iter().enumerate() {
        let (items, values) = &batches[i];
        if let Some(ends) = qc_calibration::ends(values) {
            all[turn % parts].observe(method, &Sample::new(i, *items, values), ends);
        }
    }
    let mut first = all.remove(0);
    all.iter().for_each(|other| first.merge(other));
    first
}

#[test]
fn methods_find_what_the_tools_find() {
    let samples = samples();
    let table = std::fs::read_to_string(data("thresholds.tsv")).unwrap();
    let mut wrong = Vec::new();
    for line in table.lines().skip(1) {
        let [method, tensor, kind, low, high] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let parsed: Method = method.parse().unwrap();
        let seen = seen(parsed, &samples[tensor], &[0, 1, 2, 3], 1);
        // Its divergences are f32 and differ in their last bits only, so sums in another order find a neighbour.
        let relative = if method == "ort-entropy-2048" { 1e-2 } else { 1e-6 };
        let close = |got: f64, right: &str| {
            let right: f64 = right.parse().unwrap();
            (got - right).abs() <= relative * right.abs() + 1e-44
        };
        let (got, holds) = match kind {
            "threshold" => {
                let got = seen.threshold(parsed).unwrap();
                (format!("{got}"), close(got, low))
            }
            _ => {
                let got = seen.range(parsed).unwrap();
                (format!("{got:?}"), close(got.low.into(), low) && close(got.high.into(), high))
            }
        };
        if !holds {
            wrong.push(format!("{method} of {tensor}: {got}, right is {low} {high}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.lines().count() - 1, wrong.join("\n"));
}

#[test]
fn the_order_of_samples_and_who_saw_them_is_no_matter() {
    let samples = samples();
    for row in qc_calibration::METHODS {
        let method: Method = row.name.parse().unwrap();
        for tensor in ["sym", "relu", "ragged", "zerofirst"] {
            let batches = &samples[tensor];
            let one = seen(method, batches, &[0, 1, 2, 3], 1);
            for (order, parts) in [([3, 1, 0, 2], 1), ([0, 1, 2, 3], 2), ([2, 3, 1, 0], 3)] {
                let other = seen(method, batches, &order, parts);
                assert_eq!(one.range(method), other.range(method), "{method} of {tensor}");
            }
        }
    }
}
