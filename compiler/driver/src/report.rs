//! The account of a compilation: what became of every op of the model, and why what is float is float.

use qc_dialects::graph::{Constant, Dequantize, Quantize};
use qc_frontend::{Disposition, NodeReport};
use qc_ir::{Elem, Module, OpId, PassReport};
use qc_passes::quant::lower_to_quant::compute::obstacle;
use serde::Serialize;
use std::collections::HashMap;

/// What became of one op of the model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Computed in integers, or moved as bytes.
    Int8,
    /// Computed in f32, for this reason.
    Float(String),
    /// Gone, for this reason.
    Folded(String),
}

/// One op of the model.
#[derive(Clone, Debug, Serialize)]
pub struct OpAccount {
    /// The node's name.
    pub node: String,
    /// Its op type.
    pub op_type: String,
    /// What became of it.
    pub fate: Fate,
    /// Multiply-accumulates of one batch item.
    pub macs: u64,
}

/// The account of all ops.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Account {
    /// Every op of the model, in its order.
    pub ops: Vec<OpAccount>,
}

impl Account {
    /// The account of a model, given what the import says, the work of each node as imported, the module in the fused
    /// phase, whether pairs are computed as written, and what the passes until then remarked.
    pub fn of(report: &[NodeReport], work: &Work, fused: &Module, as_written: bool, passes: &[PassReport]) -> Account {
        let mut remarks: HashMap<(&str, &str), &str> = HashMap::new();
        for (loc, text) in passes.iter().flat_map(|p| &p.remarks) {
            for node in fused.locs.nodes(*loc) {
                remarks.entry((&node.name, &node.op_type)).or_insert(text);
            }
        }
        let mut by_node: HashMap<(&str, &str), Vec<OpId>> = HashMap::new();
        for &op in fused.ops(fused.body()) {
            for node in fused.locs.nodes(fused.loc(op)) {
                by_node.entry((&node.name, &node.op_type)).or_default().push(op);
            }
        }
        let one = |r: &NodeReport| {
            let ops = by_node.get(&(r.node.as_str(), r.op_type.as_str())).map_or(&[][..], |v| v);
            let fate = match r.disposition {
                Disposition::Folded(reason) => Fate::Folded(reason.into()),
                Disposition::Mapped => match fate(fused, ops) {
                    Fate::Float(reason) => {
                        let remark = remarks.get(&(r.node.as_str(), r.op_type.as_str()));
                        Fate::Float(match remark {
                            _ if as_written => "pairs are computed as written (--exact-qdq)".into(),
                            Some(text) => text.to_string(),
                            None => reason,
                        })
                    }
                    fate => fate,
                },
            };
            let macs = work.of(&r.node, &r.op_type);
            OpAccount { node: r.node.clone(), op_type: r.op_type.clone(), fate, macs }
        };
        Account { ops: report.iter().map(one).collect() }
    }

    /// Multiply-accumulates in int8 and in all.
    pub fn macs(&self) -> (u64, u64) {
        let int8 = self.ops.iter().filter(|o| o.fate == Fate::Int8).map(|o| o.macs).sum();
        (int8, self.ops.iter().map(|o| o.macs).sum())
    }
}

/// Multiply-accumulates by node. They are counted before passes: an op that several nodes became is one of them only.
#[derive(Debug, Default)]
pub struct Work(HashMap<(String, String), u64>);

impl Work {
    /// The work in an imported module.
    pub fn in_module(imported: &Module) -> Work {
        let mut work: HashMap<(String, String), u64> = HashMap::new();
        for &op in imported.ops(imported.body()) {
            let n = macs(imported, op);
            if let Some(node) = imported.locs.nodes(imported.loc(op)).first().filter(|_| n > 0) {
                *work.entry((node.name.to_string(), node.op_type.to_string())).or_default() += n;
            }
        }
        Work(work)
    }

    fn of(&self, node: &str, op_type: &str) -> u64 {
        self.0.get(&(node.to_string(), op_type.to_string())).copied().unwrap_or(0)
    }
}

fn fate(m: &Module, ops: &[OpId]) -> Fate {
    let computing: Vec<OpId> =
        ops.iter().copied().filter(|&op| !m.is(op, Constant::DEF) && !is_weight(m, op)).collect();
    if computing.is_empty() {
        return Fate::Folded("became part of its neighbours or of a constant".into());
    }
    if computing.iter().any(|&op| integer(m, op)) {
        return Fate::Int8;
    }
    // A node may have become several ops; the one that works most explains it, the first of them if none does.
    let main = computing.iter().rev().max_by_key(|op| macs(m, **op));
    Fate::Float(main.map_or(String::new(), |&op| reason(m, op)))
}

/// A dequantized constant, which its user takes as it is.
fn is_weight(m: &Module, op: OpId) -> bool {
    Dequantize::of(m, op).is_some_and(|d| Constant::producing(m, d.q(m)).is_some())
}

fn integer(m: &Module, op: OpId) -> bool {
    let quantized = |v: &qc_ir::ValueId| m.ty(*v).tensor().is_some_and(|t| matches!(t.elem, Elem::Quant(_)));
    m.def(op).dialect() == "quant"
        || m.is(op, Quantize::DEF)
        || m.is(op, Dequantize::DEF)
        || m.results(op).iter().any(quantized)
}

fn reason(m: &Module, op: OpId) -> String {
    let name = m.def(op).name.trim_start_matches("graph.");
    let unquantized = m.operands(op).iter().flatten().any(|v| Dequantize::producing(m, *v).is_none());
    match name {
        "conv2d" | "matmul" => obstacle(m, op).unwrap_or_else(|| "its result is read in f32".into()),
        "softmax" | "lrn" => "kept in f32 for accuracy".into(),
        "reshape" | "transpose" | "slice" | "concat" => "moves f32 data".into(),
        _ if unquantized => "an input has no quantized range".into(),
        _ => "its result is not quantized".into(),
    }
}

/// Multiply-accumulates of one op for its whole batch.
pub fn macs(m: &Module, op: OpId) -> u64 {
    use qc_dialects::{graph, quant};
    let conv = |s: Result<graph::conv::ConvShape, String>| s.map_or(0, |s| s.macs() as u64);
    let product = |k: usize| m.tensor_ty(m.result(op)).len() as u64 * k as u64;
    if let Some(c) = graph::Conv2d::of(m, op) {
        conv(c.shape(m))
    } else if let Some(c) = quant::QConv2d::of(m, op) {
        conv(c.shape(m))
    } else if let Some(mm) = graph::Matmul::of(m, op) {
        mm.shape(m).map_or(0, |s| product(s.k))
    } else if let Some(mm) = quant::QMatmul::of(m, op) {
        product(m.dims(mm.weight(m))[1])
    } else {
        0
    }
}
