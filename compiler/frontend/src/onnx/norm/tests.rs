//! Norms against their definition in double precision.

use crate::onnx::tests::{Model, float, floats, int};

const X: [f32; 8] = [1.0, 2.0, 4.0, -1.0, 0.5, 0.5, 3.0, -2.0];

/// In double precision over rows of `n`.
fn rows(x: &[f32], n: usize, epsilon: f64, rms: bool, then: impl Fn(usize, f64) -> f64) -> Vec<f32> {
    let mut out = Vec::new();
    for row in x.chunks(n) {
        let mean_of = |f: &dyn Fn(f64) -> f64| row.iter().map(|&v| f(f64::from(v))).sum::<f64>() / n as f64;
        let mean = if rms { 0.0 } else { mean_of(&|v| v) };
        let root = (mean_of(&|v| (v - mean).powi(2)) + epsilon).sqrt();
        out.extend(row.iter().enumerate().map(|(i, &v)| then(i, (f64::from(v) - mean) / root) as f32));
    }
    out
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    assert!(
        found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0)),
        "{found:?}\n{expected:?}"
    );
}

#[test]
fn layer_norm_over_any_axis() {
    let over = |axis, dims: &[i64], n: usize| {
        let scale: Vec<f32> = (0..n).map(|i| 1.0 + i as f32).collect();
        let model = Model::new(17, &[1, 2, 4]).constant(floats("s", dims, &scale)).node(
            "LayerNormalization",
            "x s > y",
            &[int("axis", axis), float("epsilon", 0.5)],
        );
        close(&model.run(&X).1, &rows(&X, n, 0.5, false, |i, t| t * (1.0 + i as f64)));
    };
    over(-1, &[4], 4);
    over(2, &[4], 4);
    over(1, &[2, 4], 8);
    over(0, &[1, 2, 4], 8);
    over(1, &[1, 2, 4], 8);
}

#[test]
fn parameters_broadcast_to_the_dims_that_are_normalised() {
    let model = Model::new(17, &[1, 2, 4])
        .constant(floats("s", &[1], &[2.0]))
        .constant(floats("b", &[4], &[1.0, 2.0, 3.0, 4.0]))
        .node("LayerNormalization", "x s b > y", &[int("axis", 1)]);
    assert!(!model.dump().contains("graph.mul"));
    close(&model.run(&X).1, &rows(&X, 8, 1e-5, false, |i, t| 2.0 * t + 1.0 + (i % 4) as f64));
    let computed = Model::new(17, &[1, 2, 4]).node("ReduceMax", "x > s", &[int("keepdims", 1)]).node(
        "LayerNormalization",
        "x s > y",
        &[],
    );
    close(&computed.run(&X).1, &rows(&X, 4, 1e-5, false, |_, t| 4.0 * t));
    let bad =
        Model::new(17, &[1, 2, 4]).constant(floats("s", &[3], &[1.0; 3])).node("LayerNormalization", "x s > y", &[]);
    assert!(bad.reasons()[0].contains("[1, 2, 4]"), "{:?}", bad.reasons());
}

#[test]
fn mean_and_inverse_deviation_can_be_read() {
    let statistics = |read: &str| {
        let model = Model::new(17, &[1, 2, 4])
            .constant(floats("s", &[4], &[1.0; 4]))
            .node("LayerNormalization", "x s > n mean inv", &[float("epsilon", 0.25)])
            .node("Identity", &format!("{read} > y"), &[]);
        model.run(&X)
    };
    assert_eq!(statistics("mean"), (vec![1, 2, 1], vec![1.5, 0.5]));
    let (dims, inverse) = statistics("inv");
    assert_eq!(dims, [1, 2, 1]);
    close(&inverse, &[1.0 / (3.25f32 + 0.25).sqrt(), 1.0 / (3.125f32 + 0.25).sqrt()]);
}

#[test]
fn norms_by_the_mean_square() {
    for op in ["RMSNormalization", "SimplifiedLayerNormalization"] {
        let model = Model::new(23, &[1, 2, 4]).constant(floats("s", &[4], &[1.0, 2.0, 3.0, 4.0])).node(
            op,
            "x s > y",
            &[float("epsilon", 0.5)],
        );
        close(&model.run(&X).1, &rows(&X, 4, 0.5, true, |i, t| t * (1.0 + i as f64)));
    }
}

#[test]
fn skip_layer_norm_adds_before() {
    let node = |op: &str, io: &str| {
        Model::new(17, &[1, 2, 4])
            .constant(floats("k", &[2, 4], &[0.5, 1.0, -1.0, 0.0, 2.0, 1.0, 0.25, -0.5]))
            .constant(floats("s", &[4], &[1.0, 2.0, 3.0, 4.0]))
            .constant(floats("b", &[4], &[0.5, 0.0, -0.5, 1.0]))
            .constant(floats("c", &[4], &[1.0, -1.0, 0.0, 2.0]))
            .node(op, io, &[])
            .of_domain("com.microsoft")
    };
    let skip = [0.5, 1.0, -1.0, 0.0, 2.0, 1.0, 0.25, -0.5];
    let added = [1.0, -1.0, 0.0, 2.0];
    let bias = [0.5, 0.0, -0.5, 1.0];
    let sum: Vec<f32> = X.iter().zip(skip).enumerate().map(|(i, (x, k))| x + k + added[i % 4]).collect();
    let expected = rows(&sum, 4, 1e-12, false, |i, t| t * (1.0 + i as f64) + bias[i]);
    close(&node("SkipLayerNormalization", "x k s b c > y").run(&X).1, &expected);
    let expected = rows(&sum, 4, 1e-12, true, |i, t| t * (1.0 + i as f64));
    close(&node("SkipSimplifiedLayerNormalization", "x k s c > y").run(&X).1, &expected);
    let both = node("SkipLayerNormalization", "x k s b c > n _ _ sum").node("Identity", "sum > y", &[]);
    close(&both.run(&X).1, &sum);
    let mean = node("SkipLayerNormalization", "x k s b c > n mean").node("Identity", "mean > y", &[]);
    assert!(mean.reasons()[0].contains("`mean` is used"));
}

#[test]
fn groups_of_channels() {
    let x: Vec<f32> = (0..16).map(|i| ((i * 7) % 11) as f32 - 3.0).collect();
    let model = |opset, n: usize| {
        let values: Vec<f32> = (0..n).map(|i| 1.0 + i as f32).collect();
        Model::new(opset, &[1, 4, 2, 2])
            .constant(floats("s", &[n as i64], &values))
            .constant(floats("b", &[n as i64], &values))
            .node("GroupNormalization", "x s b > y", &[int("num_groups", 2), float("epsilon", 0.1)])
    };
    let plain = rows(&x, 8, 0.1, false, |_, t| t);
    let with =
        |per: usize| plain.iter().enumerate().map(|(i, t)| (t + 1.0) * (1.0 + (i / per) as f32)).collect::<Vec<_>>();
    close(&model(18, 2).run(&x).1, &with(8));
    close(&model(21, 4).run(&x).1, &with(4));
    let bad = Model::new(21, &[1, 4, 2, 2]).constant(floats("s", &[4], &[1.0; 4])).node(
        "GroupNormalization",
        "x s s > y",
        &[int("num_groups", 3)],
    );
    assert!(bad.reasons()[0].contains("3 groups of 4 channels"));
}
