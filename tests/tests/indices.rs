//! Indices that a model gets from outside: good ones of either sign, and what becomes of bad ones.
#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileOptions, ContextOptions, Predictor, REGISTRY, TargetCpu};
use qc_ir::parse;
use qc_ladder::ladder;
use std::collections::HashMap;

/// An embedding of ids and, beside it, of the ids less one.
const MODEL: &str = "module \"m\" phase imported
const @table : tensor<3x2xf32> = [1, 2, 3, 4, 5, 6]
const @one : tensor<i64> = [1]
func @main(%ids : tensor<BATCHx2xi64>) outputs [\"rows\", \"others\"] {
  %table = graph.constant() {value = @table}
  %one = graph.constant() {value = @one}
  %i = graph.index(%ids) {size = 3}
  %rows = graph.gather(%table, %i) {axis = 0}
  %less = graph.int_binary(%ids, %one) {op = \"sub\"}
  %j = graph.index(%less) {size = 3}
  %others = graph.gather(%table, %j) {axis = 0}
  return(%rows, %others)
}
";

/// The model in this process, and as a shared object with code for every tier.
fn predictors() -> (tempfile::TempDir, [Predictor; 2]) {
    let make = |batch: usize| parse(&MODEL.replace("BATCH", &batch.to_string()), &REGISTRY, &HashMap::new()).unwrap();
    let compiled = ladder::compile_module(&make, &CompileOptions::default()).unwrap();
    let fat = CompileOptions { target: TargetCpu::Fat, ..CompileOptions::default() };
    let (dir, so) = ladder::shared_object(&ladder::compile_module(&make, &fat).unwrap()).unwrap();
    (dir, [compiled.jit().unwrap(), so])
}

fn run(predictor: &Predictor, ids: &[i64]) -> Result<Vec<f32>, String> {
    let mut cx = predictor.context(&ContextOptions::default()).unwrap();
    cx.input_mut::<i64>(0, ids.len() / 2).unwrap().copy_from_slice(ids);
    cx.run().map_err(|e| e.to_string())?;
    Ok(cx.output::<f32>(0).unwrap().to_vec())
}

#[test]
fn negative_indices_count_from_the_end() {
    let (_dir, all) = predictors();
    for predictor in &all {
        assert_eq!(run(predictor, &[0, 2]).unwrap(), [1.0, 2.0, 5.0, 6.0]);
        assert_eq!(run(predictor, &[-1, -2, 1, 0, 0, 0]).unwrap()[..6], [5.0, 6.0, 3.0, 4.0, 3.0, 4.0]);
    }
}

#[test]
fn an_index_outside_ends_the_run_with_its_name_and_value() {
    let (_dir, all) = predictors();
    for predictor in &all {
        for (bad, value) in
            [(3, "3"), (-4, "-4"), (i64::MAX, "9223372036854775807"), (i64::MIN, "-9223372036854775808")]
        {
            // In any item of any batch, those that are dealt out over several calls included.
            for place in [0, 1, 17, 21] {
                let mut ids = vec![1i64; 22];
                ids[place] = bad;
                let error = run(predictor, &ids).unwrap_err();
                assert!(error.contains(&format!("input \"ids\" holds {value}")), "{error}");
                assert!(error.contains("no index of a dim of 3"), "{error}");
            }
        }
        // Computed from an input, it is the tensor that is named.
        let error = run(predictor, &[1, -3]).unwrap_err();
        assert!(error.contains("tensor \"less\" holds -4"), "{error}");
        // A good run follows a bad one.
        assert!(run(predictor, &[1, 1]).is_ok());
    }
}

/// Where sequences of 9 rows begin.
const SEQUENCES: &str = "module \"m\" phase imported
func @main(%offsets : tensor<BATCHx4xi64>) outputs [\"starts\"] {
  %s = graph.slice(%offsets) {starts = [0, 0], ends = [1, 4], steps = [1, 1]}
  %i = graph.reshape(%s) {shape = [4]}
  %o = graph.offsets(%i) {rows = 9}
  %f = graph.cast(%o) {to = f32}
  %z = graph.cast(%offsets) {to = f32}
  %r = graph.reshape(%f) {shape = [1, 4]}
  %starts = graph.add(%r, %z)
  return(%starts)
}
";

#[test]
fn numbers_that_are_no_offsets_end_the_run() {
    let make =
        |batch: usize| parse(&SEQUENCES.replace("BATCH", &batch.to_string()), &REGISTRY, &HashMap::new()).unwrap();
    let compiled = ladder::compile_module(&make, &CompileOptions::default()).unwrap();
    let (_dir, so) = ladder::shared_object(&compiled).unwrap();
    for predictor in [compiled.jit().unwrap(), so] {
        let mut cx = predictor.context(&ContextOptions::default()).unwrap();
        let mut given = |offsets: [i64; 4]| {
            cx.input_mut::<i64>(0, 1).unwrap().copy_from_slice(&offsets);
            cx.run().map_err(|e| e.to_string())?;
            Ok(cx.output::<f32>(0).unwrap().to_vec())
        };
        assert_eq!(given([0, 0, 4, 9]), Ok::<_, String>(vec![0.0, 0.0, 8.0, 18.0]));
        let bad = [
            ([1, 2, 4, 9], "1"),
            ([0, 5, 4, 9], "4"),
            ([0, 2, 4, 8], "8"),
            ([0, 2, 10, 9], "10"),
            ([0, 2, 4, 10], "10"),
        ];
        for (offsets, value) in
            bad.into_iter().chain([([0, -3, 4, 9], "-3"), ([i64::MIN, 2, 4, 9], "-9223372036854775808")])
        {
            let error = given(offsets).unwrap_err();
            assert!(
                error.contains(&format!("input \"offsets\" holds {value}, which is no offset of 9 rows")),
                "{error}"
            );
        }
        assert!(given([0, 9, 9, 9]).is_ok());
    }
}
