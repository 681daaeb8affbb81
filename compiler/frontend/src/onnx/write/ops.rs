//! The ops that are written, one row each, and those that are not, each with its reason.

use super::builder::{Call, Writer};
use super::{elementwise, functions, linear, movement, norm, pool, qdq};
use crate::error::Refusal;
use qc_dialects::graph::Constant;
use qc_ir::{Module, OpId};

/// Writes an op, all nodes but the one that gives its result.
pub(super) type Row = fn(&mut Writer<'_>, OpId) -> Result<Call, Refusal>;

/// Op and how it is written, by topics in the order of the dialect. Functions of single elements have rows in `functions.rs`.
static ROWS: &[(&str, Row)] = &[
    ("graph.conv2d", linear::conv2d),
    ("graph.matmul", linear::matmul),
    ("graph.add", |w, op| elementwise::named("Add", w, op)),
    ("graph.sub", |w, op| elementwise::named("Sub", w, op)),
    ("graph.mul", |w, op| elementwise::named("Mul", w, op)),
    ("graph.div", |w, op| elementwise::named("Div", w, op)),
    ("graph.max", |w, op| elementwise::named("Max", w, op)),
    ("graph.min", |w, op| elementwise::named("Min", w, op)),
    ("graph.pow", |w, op| elementwise::named("Pow", w, op)),
    ("graph.rem", elementwise::rem),
    ("graph.relu", elementwise::clamp),
    ("graph.clip", elementwise::clamp),
    ("graph.batch_norm", norm::batch_norm),
    ("graph.layer_norm", norm::layer_norm),
    ("graph.lrn", norm::lrn),
    ("graph.softmax", norm::softmax),
    ("graph.max_pool", pool::max_pool),
    ("graph.avg_pool", pool::avg_pool),
    ("graph.global_avg_pool", |w, op| elementwise::named("GlobalAveragePool", w, op)),
    ("graph.global_max_pool", |w, op| elementwise::named("GlobalMaxPool", w, op)),
    ("graph.reduce_mean", norm::reduce_mean),
    ("graph.int_binary", elementwise::int_binary),
    ("graph.cumsum", norm::cumsum),
    ("graph.compare", elementwise::compare),
    ("graph.select", |w, op| elementwise::named("Where", w, op)),
    ("graph.index", movement::index),
    ("graph.gather", movement::gather),
    ("graph.take", movement::take),
    ("graph.resample", movement::resample),
    ("graph.reshape", movement::reshape),
    ("graph.transpose", movement::transpose),
    ("graph.expand", movement::expand),
    ("graph.concat", movement::concat),
    ("graph.slice", movement::slice),
    ("graph.pad", movement::pad),
    ("graph.cast", movement::cast),
    ("graph.quantize", qdq::quantize),
    ("graph.dequantize", qdq::dequantize),
];

/// Ops without a row, and what to do about one.
static REFUSED: &[(&str, &str)] = &[
    ("graph.adaptive_avg_pool", AS_IT_IS),
    ("graph.int_reduce", AS_IT_IS),
    ("graph.offsets", AS_IT_IS),
    ("graph.top_k", AS_IT_IS),
    ("graph.scatter", AS_IT_IS),
    ("graph.nms", WITHOUT_BOXES),
    ("graph.matrix_nms", WITHOUT_BOXES),
    ("graph.dynamic_quantize", FROM_FLOATS),
    ("graph.dynamic_scale", FROM_FLOATS),
    ("graph.dynamic_zero", FROM_FLOATS),
    ("graph.integer_matmul", FROM_FLOATS),
    ("graph.integer_conv2d", FROM_FLOATS),
    ("graph.scan", AS_IT_IS),
    // What calibration saw is gone when a module is written.
    ("graph.observe", AS_IT_IS),
];

const AS_IT_IS: &str = "compile the model with `qc compile`, which has this op, or cut it off where this node begins";
const WITHOUT_BOXES: &str =
    "cut the model off before it chooses boxes, or compile it with `qc compile`, which has this op";
const FROM_FLOATS: &str = "write the float model that it was made from, with ranges of `qc calibrate`";

/// The row of an op.
fn find(name: &str) -> Option<Row> {
    ROWS.iter().find(|(op, _)| *op == name).map(|(_, row)| *row)
}

/// Whether an op becomes an initializer rather than a node.
pub(super) fn makes_initializer(m: &Module, op: OpId) -> bool {
    m.is(op, Constant::DEF)
}

/// Writes an op.
///
/// # Errors
/// When ONNX has no such op, or when it has no row.
pub(super) fn write(w: &mut Writer<'_>, op: OpId) -> Result<(), Refusal> {
    w.begin(op);
    let m = w.m;
    if let Some(constant) = Constant::of(m, op) {
        if m.uses(constant.out(m)).is_empty() {
            return Ok(());
        }
        let tensor = m.consts.get(constant.value(m)).tensor.clone();
        w.constant(constant.out(m), &tensor);
        return Ok(());
    }
    let call = match find(m.def(op).name) {
        Some(row) => row(w, op)?,
        None => functions::write(w, op)?.ok_or_else(|| without_row(m.def(op).name))?,
    };
    w.define(m.result(op), call);
    Ok(())
}

fn without_row(name: &str) -> Refusal {
    let remedy = REFUSED.iter().find(|(op, _)| *op == name).map_or(AS_IT_IS, |(_, remedy)| remedy);
    Refusal::unsupported("it is not written to ONNX").remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qc_dialects::graph::{GRAPH, activation::ACTIVATION};

    #[test]
    fn every_op_is_written_or_has_its_remedy() {
        for def in GRAPH {
            let places = [
                find(def.name).is_some(),
                REFUSED.iter().any(|(op, _)| *op == def.name),
                ACTIVATION.iter().any(|function| function.name == def.name),
                def.name == Constant::DEF.name,
            ];
            assert_eq!(places.iter().filter(|&&is| is).count(), 1, "{}: {places:?}", def.name);
        }
        let known = |name: &str| GRAPH.iter().any(|def| def.name == name);
        assert!(ROWS.iter().map(|(op, _)| op).chain(REFUSED.iter().map(|(op, _)| op)).all(|op| known(op)));
    }
}
