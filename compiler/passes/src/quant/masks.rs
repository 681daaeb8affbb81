//! Scores of attention that a quantized model rounds away.
//!
//! What a softmax takes are exponents. A mask of -10,000 in a quantized tensor makes a step of it 39 wide, and the scores
//! beside it all become 0; quantizers that know nothing of masks write such files. What the file says is what is computed,
//! so this is a warning and no refusal.

use crate::graph::splat;
use qc_dialects::graph::{Add, Clip, Conversion, Div, Max, Min, Mul, Select, Softmax, Sub};
use qc_dialects::quant::QAdd;
use qc_ir::{Elem, Module, OpId, ValueId};
use std::collections::HashSet;

/// An exponent that is off by half of this is a result that is off by two thirds.
const COARSE: f32 = 1.0;

/// A quantized tensor whose steps are too coarse for the softmax that takes it.
#[derive(Clone, PartialEq, Debug)]
pub struct CoarseScores {
    /// The node of the model that has the tensor as its result, or else the softmax.
    pub node: String,
    /// Its op type.
    pub op_type: String,
    /// The node of the softmax.
    pub softmax: String,
    /// A step of the format, as the softmax sees it.
    pub step: f32,
}

/// The coarse scores of a graph, as imported or with integer ops: of each softmax those nearest to it.
pub fn coarse_scores(m: &Module) -> Vec<CoarseScores> {
    let mut found: Vec<CoarseScores> = Vec::new();
    for op in m.walk(m.body()) {
        let Some(softmax) = Softmax::of(m, op) else { continue };
        for (at, step) in coarse_before(m, softmax.x(m)) {
            let (node, op_type) = node_of(m, at).or_else(|| node_of(m, op)).unwrap_or_default();
            let softmax = node_of(m, op).unwrap_or_default().0;
            if !found.iter().any(|f| f.node == node && f.op_type == op_type) {
                found.push(CoarseScores { node, op_type, softmax, step });
            }
        }
    }
    found
}

/// The ops behind which a value that becomes `scores` by sums, factors and movement has coarse steps.
fn coarse_before(m: &Module, scores: ValueId) -> Vec<(OpId, f32)> {
    let (mut found, mut seen, mut open) = (Vec::new(), HashSet::new(), vec![(scores, 1.0f32)]);
    while let Some((v, factor)) = open.pop() {
        let Some(op) = m.producer(v).filter(|_| seen.insert(v)) else { continue };
        let step = step_of(m, v) * factor;
        if step > COARSE {
            found.push((computing(m, op), step));
            continue;
        }
        let factor = factor * factor_of(m, op);
        if passes_on(m, op) {
            open.extend(m.operands(op).iter().flatten().map(|&x| (x, factor)));
        }
    }
    found
}

/// The step of a quantized tensor; 0 of others.
fn step_of(m: &Module, v: ValueId) -> f32 {
    match m.ty(v).tensor().map(|t| t.elem) {
        Some(Elem::Quant(id)) => m.quant(id).scales.iter().copied().fold(0.0, f32::max),
        _ => 0.0,
    }
}

/// Whether the result of an op has the steps of its operands, by a factor.
fn passes_on(m: &Module, op: OpId) -> bool {
    let sums = [Add::DEF, Sub::DEF, Max::DEF, Min::DEF, Mul::DEF, Div::DEF, Clip::DEF, Select::DEF, QAdd::DEF];
    sums.iter().any(|def| m.is(op, def)) || Conversion::is(m, op) || crate::graph::is_movement(m, op)
}

/// What a constant multiplies steps by.
fn factor_of(m: &Module, op: OpId) -> f32 {
    let constant = |i: usize| m.operand(op, i).and_then(|v| splat(m, v)).map(f32::abs);
    match () {
        () if m.is(op, Mul::DEF) => constant(0).or_else(|| constant(1)).unwrap_or(1.0),
        () if m.is(op, Div::DEF) => constant(1).map_or(1.0, |c| 1.0 / c),
        () => 1.0,
    }
}

/// The op whose result a conversion quantizes.
fn computing(m: &Module, op: OpId) -> OpId {
    let before = || m.operand(op, 0).and_then(|x| m.producer(x));
    if Conversion::is(m, op) { before().unwrap_or(op) } else { op }
}

/// The name and type of the last node that an op computes, other than conversions.
fn node_of(m: &Module, op: OpId) -> Option<(String, String)> {
    let nodes = m.locs.nodes(m.loc(op));
    let computing = nodes.iter().rev().find(|node| !node.op_type.to_lowercase().contains("quantize"));
    computing.or(nodes.last()).map(|node| (node.name.to_string(), node.op_type.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{CoarseScores, coarse_scores};
    use qc_dialects::REGISTRY;
    use qc_ir::parse;
    use std::collections::HashMap;

    /// What is found where a sum of scores and a mask has steps of `step`, and a factor of `factor` behind it.
    fn found(step: f32, factor: f32) -> Vec<CoarseScores> {
        let text = format!(
            "module \"m\" phase quantized\nconst @f : tensor<f32> = [{factor}]\nquant !q = q<u8, [{step}], [255], 0, 255>\n\
             func @main(%s : tensor<1x4x4xf32>, %mask : tensor<1x1x4xf32>) outputs [\"y\"] {{\n\
             %f = graph.constant() {{value = @f}}\n%a = graph.add(%s, %mask) loc(\"Add.3\":\"Add\")\n\
             %q = graph.quantize(%a) {{quant = !q}} loc(\"Q\":\"QuantizeLinear\")\n%d = graph.dequantize(%q)\n\
             %t = graph.transpose(%d) {{perm = [0, 2, 1]}}\n%m = graph.mul(%t, %f)\n\
             %y = graph.softmax(%m) {{axis = 2}} loc(\"Softmax.1\":\"Softmax\")\nreturn(%y)\n}}\n"
        );
        coarse_scores(&parse(&text, &REGISTRY, &HashMap::new()).unwrap())
    }

    #[test]
    fn a_mask_in_a_format_is_found_and_scores_alone_are_not() {
        let coarse = found(39.0, 0.5);
        assert_eq!(coarse.len(), 1);
        assert_eq!((&coarse[0].node[..], &coarse[0].softmax[..], coarse[0].step), ("Add.3", "Softmax.1", 19.5));
        assert_eq!(found(0.25, 1.0), []);
        assert_eq!(found(1.5, 0.5), []);
        assert_eq!(found(0.5, 4.0).len(), 1);
    }
}
