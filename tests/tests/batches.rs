//! Which batches a model gets code for: 1 and 8 where its items stay apart, all small ones where they meet.
#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileOptions, Compiled, REGISTRY};
use qc_ir::{Module, parse};
use qc_ladder::ladder;
use std::collections::HashMap;

/// A model of one input of `batch` rows of four, with `body` as its ops; `BATCH` stands for the batch in it.
fn model(body: &str, batch: usize) -> Module {
    let text = format!(
        "module \"m\" phase imported
func @main(%x : tensor<BATCHx4xf32>) outputs [\"y\"] {{
{body}
  return(%y)
}}
"
    );
    parse(&text.replace("BATCH", &batch.to_string()), &REGISTRY, &HashMap::new()).unwrap()
}

fn compiled(body: &str, batches: &[usize]) -> Compiled {
    let options = CompileOptions { batches: batches.to_vec(), ..CompileOptions::default() };
    ladder::compile_module(&|batch| model(body, batch), &options).unwrap()
}

/// Batches with code, in the note and in the code itself, and why there are no others.
fn code(body: &str, batches: &[usize]) -> (Vec<u32>, Option<String>) {
    let compiled = compiled(body, batches);
    let note = compiled.note();
    let jit = compiled.jit().unwrap();
    for tier in &note.tiers {
        let own = jit.variants().into_iter().filter(|(t, _)| t == tier).map(|(_, batch)| batch);
        assert_eq!(own.collect::<Vec<_>>(), note.batches, "{tier}");
    }
    (note.batches, note.whole_batches)
}

#[test]
fn items_apart_have_code_for_one_and_for_eight() {
    assert_eq!(code("  %y = graph.relu(%x)", &[]), (vec![1, 8], None));
    assert_eq!(code("  %y = graph.relu(%x)", &[2, 5]), (vec![1, 2, 5], None));
}

#[test]
fn items_that_meet_have_code_for_every_small_batch() {
    let (batches, why) = code("  %y = graph.softmax(%x) {axis = 0}", &[]);
    assert_eq!(batches, (1..=8).collect::<Vec<_>>());
    assert!(why.unwrap().contains("the items of a batch meet"));
    assert_eq!(code("  %y = graph.softmax(%x) {axis = 0}", &[12]).0, [1, 2, 3, 4, 5, 6, 7, 8, 12]);
}

#[test]
fn shapes_that_do_not_grow_with_the_batch_are_whole() {
    let (batches, why) = code("  %y = graph.reduce_mean(%x) {axes = [0], keepdims = true}", &[]);
    assert_eq!((batches.len(), why.is_some()), (8, true));
    let turned = "  %y = graph.transpose(%x) {perm = [1, 0]}";
    assert!(code(turned, &[]).1.unwrap().contains("the batch in dim 1"));
}

#[test]
fn a_constant_as_wide_as_the_batch_is_whole() {
    let text = |batch: usize| {
        let ones = vec!["1.0"; batch].join(", ");
        format!(
            "module \"m\" phase imported
const @c : tensor<1x{batch}xf32> = [{ones}]
func @main(%x : tensor<{batch}x4xf32>) outputs [\"y\", \"c\"] {{
  %c = graph.constant() {{value = @c}}
  %y = graph.relu(%x)
  return(%y, %c)
}}
"
        )
    };
    let make = |batch: usize| parse(&text(batch), &REGISTRY, &HashMap::new()).unwrap();
    let note = ladder::compile_module(&make, &CompileOptions::default()).unwrap().note();
    assert!(note.whole_batches.unwrap().contains("a shape that depends on the batch, but no items"));
}

#[test]
fn what_is_computed_from_the_batch_is_whole() {
    let halved = "  %y = graph.clip(%x) {min = 0.0, max = BATCH.0}";
    assert!(code(halved, &[]).1.unwrap().contains("depends on the size of the batch"));
}

#[test]
fn other_batches_than_whole_ones_are_refused() {
    let jit = compiled("  %y = graph.softmax(%x) {axis = 0}", &[]).jit().unwrap();
    let mut cx = jit.context(&qc_compiler::ContextOptions::default()).unwrap();
    cx.input_mut::<f32>(0, 8).unwrap().fill(0.5);
    cx.run().unwrap();
    let error = cx.input_mut::<f32>(0, 9).unwrap_err().to_string();
    assert!(error.contains('9') && error.contains("1, 2, 3, 4, 5, 6, 7, 8"), "{error}");
}
