//! What every op does with the items of a batch: one line of a program each, at a batch of 7.
#![allow(clippy::unwrap_used)]

use qc_dialects::REGISTRY;
use qc_ir::{Follow, Items, parse};
use std::collections::HashMap;

const BATCH: usize = 7;

/// The items of the last op of `body`, a program on `x` of 7 images and `v` of 7 rows, and on `s` that has no batch.
fn of(body: &str) -> Result<Option<usize>, ()> {
    let text = format!(
        "module \"m\" phase imported\n\
         const @k : tensor<7xf32> = [1, 2, 3, 4, 5, 6, 7]\n\
         const @r : tensor<7x1xf32> = [3, 3, 3, 3, 3, 3, 3]\n\
         const @w : tensor<4x4x1x1xf32> = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]\n\
         const @m : tensor<6x6xf32> = [{}]\n\
         quant !q = q<u8, [0.5], [3], 0, 255>\n\
         quant !a = q<u8, axis 0, [0.5, 1, 2, 3, 4, 5, 6], [3], 0, 255>\n\
         func @main(%x : tensor<7x4x3x5xf32>, %v : tensor<7x6xf32>, %s : tensor<1x6xf32>) outputs [\"y\"] {{\n\
         %k = graph.constant() {{value = @k}}\n %r = graph.constant() {{value = @r}}\n\
         %w = graph.constant() {{value = @w}}\n %m = graph.constant() {{value = @m}}\n{body}\n return(%y)\n}}\n",
        vec!["1"; 36].join(", ")
    );
    let m = parse(&text, &REGISTRY, &HashMap::new()).unwrap_or_else(|e| panic!("{body}: {e:?}"));
    let follow = Follow::through(&m, BATCH, &[true, true, false]);
    match follow.of(m.returns(m.body())[0]) {
        Items::Same => Ok(None),
        Items::Along(axis) => Ok(Some(axis)),
        Items::Met(_) => Err(()),
    }
}

const APART: &[(&str, usize)] = &[
    ("%y = graph.relu(%x)", 0),
    ("%y = graph.add(%v, %s)", 0),
    ("%y = graph.add(%v, %r)", 0),
    ("%y = graph.mul(%s, %v)", 0),
    ("%y = graph.conv2d(%x, %w)", 0),
    ("%y = graph.conv2d(%x, %w, _, %x)", 0),
    ("%y = graph.matmul(%v, %m)", 0),
    ("%t = graph.transpose(%v) {perm = [1, 0]}\n%y = graph.matmul(%m, %t)", 1),
    ("%t = graph.reshape(%v) {shape = [7, 2, 3]}\n%y = graph.matmul(%t, %t) {transpose_b = true}", 0),
    ("%y = graph.max_pool(%x) {kernel = [2, 2], strides = [1, 1]}", 0),
    ("%y = graph.global_avg_pool(%x)", 0),
    ("%y = graph.softmax(%v) {axis = 1}", 0),
    ("%y = graph.reduce_mean(%x) {axes = [2, 3], keepdims = false}", 0),
    ("%t = graph.transpose(%x) {perm = [2, 0, 1, 3]}\n%y = graph.reduce_mean(%t) {axes = [0], keepdims = false}", 0),
    ("%y = graph.transpose(%x) {perm = [1, 2, 0, 3]}", 2),
    ("%y = graph.reshape(%x) {shape = [7, 60]}", 0),
    ("%y = graph.reshape(%x) {shape = [28, 15]}", 0),
    ("%y = graph.reshape(%x) {shape = [420]}", 0),
    ("%y = graph.reshape(%x) {shape = [1, 7, 60]}", 1),
    ("%t = graph.transpose(%x) {perm = [1, 0, 2, 3]}\n%y = graph.reshape(%t) {shape = [4, 21, 5]}", 1),
    ("%y = graph.slice(%x) {starts = [0, 1, 0, 0], ends = [7, 3, 3, 5], steps = [1, 1, 1, 1]}", 0),
    ("%y = graph.concat(%v, %v) {axis = 1}", 0),
    ("%y = graph.pad(%x) {pads = [0, 0, 1, 1, 0, 0, 1, 1]}", 0),
    ("%q = graph.quantize(%v) {quant = !q}\n%y = graph.dequantize(%q)", 0),
    ("%y = graph.lrn(%x) {size = 3, alpha = 1, beta = 1, bias = 1}", 0),
    (
        "%t = graph.reshape(%v) {shape = [7, 2, 3]}\n%u = graph.transpose(%t) {perm = [1, 0, 2]}
        %l, %y = graph.scan(%r, %u) {states = 1, sequences = 1, steps = 2} do (%h : tensor<7x1xf32>, %i : tensor<7x3xf32>) {
        %n = graph.slice(%i) {starts = [0, 0], ends = [7, 1], steps = [1, 1]}\n%p = graph.add(%h, %n)\nreturn(%p, %i) }",
        1,
    ),
];

const MEET: &[&str] = &[
    "%t = graph.transpose(%v) {perm = [1, 0]}\n%y = graph.add(%t, %k)",
    "%y = graph.softmax(%v) {axis = 0}",
    "%y = graph.reduce_mean(%x) {axes = [0, 2]}",
    "%y = graph.reshape(%x) {shape = [4, 105]}",
    "%y = graph.slice(%v) {starts = [0, 0], ends = [3, 6], steps = [1, 1]}",
    "%y = graph.concat(%v, %v) {axis = 0}",
    "%c = graph.concat(%s, %s, %s, %s, %s, %s, %s) {axis = 0}\n%y = graph.concat(%c, %v) {axis = 1}",
    "%y = graph.matmul(%v, %v) {transpose_b = true}",
    "%y = graph.matmul(%v, %v) {transpose_a = true}",
    "%t = graph.reshape(%v) {shape = [7, 1, 6]}\n%y = graph.add(%t, %v)",
    "%y = graph.pad(%v) {pads = [1, 0, 0, 0]}",
    "%y = graph.dynamic_scale(%v)",
    "%q = graph.quantize(%v) {quant = !a}\n%y = graph.dequantize(%q)",
    "%t = graph.transpose(%x) {perm = [1, 0, 2, 3]}\n%y = graph.lrn(%t) {size = 3, alpha = 1, beta = 1, bias = 1}",
    "%t = graph.transpose(%x) {perm = [2, 1, 0, 3]}\n%y = graph.global_avg_pool(%t)",
    "%t = graph.slice(%x) {starts = [0, 0, 0, 0], ends = [7, 4, 1, 1], steps = [1, 1, 1, 1]}\n%y = graph.conv2d(%x, %t)",
    "%t = graph.reshape(%v) {shape = [7, 6]}
        %y = graph.scan(%s, %t) {states = 1, sequences = 1, steps = 7} do (%h : tensor<1x6xf32>, %i : tensor<6xf32>) {
        %n = graph.add(%h, %i)\nreturn(%n) }",
    "%t = graph.reshape(%v) {shape = [7, 2, 3]}\n%u = graph.transpose(%t) {perm = [1, 0, 2]}
        %o = graph.reshape(%k) {shape = [7, 1]}
        %y = graph.scan(%o, %u) {states = 1, sequences = 1, steps = 2} do (%h : tensor<7x1xf32>, %i : tensor<7x3xf32>) {
        %n = graph.slice(%i) {starts = [0, 0], ends = [7, 1], steps = [1, 1]}\nreturn(%n) }",
];

#[test]
fn items_stay_apart() {
    for (body, axis) in APART {
        assert_eq!(of(body), Ok(Some(*axis)), "{body}");
    }
    assert_eq!(of("%y = graph.relu(%s)"), Ok(None));
    assert_eq!(of("%y = graph.concat(%s, %s) {axis = 0}"), Ok(None));
}

#[test]
fn items_meet() {
    for body in MEET {
        assert_eq!(of(body), Err(()), "{body}");
    }
}

/// An op whose declaration says nothing mixes what it reads, so a new op cannot be forgotten.
#[test]
fn every_op_says_what_it_does_with_items() {
    for def in qc_dialects::graph::GRAPH {
        let silent = def.items.is_none() && def.items_of_each.is_none() && !def.traits.has(qc_ir::Traits::ELEMENTWISE);
        assert!(!silent || def.operands.is_empty(), "{} says nothing", def.name);
    }
}
