//! The account of a compilation: what became of every op of the model, and why what is float is float.

use qc_dialects::graph::{Constant, Conversion, Dequantize, DynamicQuantize, IntegerConv2d, IntegerMatmul, Scan};
use qc_dialects::quant::stored::computes_floats;
use qc_dialects::work::macs;
use qc_frontend::{Disposition, NodeReport};
use qc_ir::{Elem, Module, NodeId, OpId, PassReport};
use qc_passes::quant::lower_to_quant::reason::why_float;
use qc_passes::quant::masks::{CoarseScores, coarse_scores};
use qc_passes::quant::{quantize_dynamic, quantize_weights};
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
    /// What the model says that it can hardly mean, a sentence each.
    pub warnings: Vec<String>,
}

impl Account {
    /// The account of a model, given what the import says and what is known of the imported graph, the module in the fused
    /// phase, the option for which all of it is float, and what the passes until then remarked.
    pub fn of(
        report: &[NodeReport],
        (work, coarse): (&Work, &[CoarseScores]),
        fused: &Module,
        all_float: Option<&str>,
        passes: &[PassReport],
    ) -> Account {
        let mut remarks: HashMap<NodeId, &str> = HashMap::new();
        // What a pass that was asked for says of an op that it left explains more than what others say.
        let asked = [quantize_dynamic::PASS.name, quantize_weights::PASS.name];
        let (first, then): (Vec<_>, Vec<_>) = passes.iter().partition(|p| asked.contains(&p.pass));
        for (loc, text) in first.into_iter().chain(then).flat_map(|p| &p.remarks) {
            for node in fused.locs.node_ids(*loc) {
                remarks.entry(node).or_insert(text);
            }
        }
        let mut by_node: HashMap<NodeId, Vec<OpId>> = HashMap::new();
        for op in fused.walk(fused.body()).into_iter().filter(|&op| !fused.is(op, Scan::DEF)) {
            for node in fused.locs.node_ids(fused.loc(op)) {
                by_node.entry(node).or_default().push(op);
            }
        }
        let one = |r: &NodeReport| {
            let ops = by_node.get(&r.id).map_or(&[][..], |v| v);
            let fate = match r.disposition {
                Disposition::Folded(reason) => Fate::Folded(reason.into()),
                Disposition::Mapped => match fate(fused, ops) {
                    Fate::Float(reason) => Fate::Float(match (all_float, remarks.get(&r.id)) {
                        (Some(option), _) => option.into(),
                        (None, Some(text)) => text.to_string(),
                        (None, None) => reason,
                    }),
                    fate => fate,
                },
            };
            let macs = work.0.get(&r.id).copied().unwrap_or(0);
            OpAccount { node: r.node.clone(), op_type: r.op_type.clone(), fate, macs }
        };
        let remain = coarse_scores(fused);
        let warnings = coarse.iter().map(|c| warning(c, remain.iter().any(|r| r.node == c.node))).collect();
        Account { ops: report.iter().map(one).collect(), warnings }
    }

    /// Multiply-accumulates in int8 and in all.
    pub fn macs(&self) -> (u64, u64) {
        let int8 = self.ops.iter().filter(|o| o.fate == Fate::Int8).map(|o| o.macs).sum();
        (int8, self.ops.iter().map(|o| o.macs).sum())
    }
}

/// Multiply-accumulates by node. They are counted before passes: an op that several nodes became is one of them only.
#[derive(Debug, Default)]
pub struct Work(HashMap<NodeId, u64>);

impl Work {
    /// The work in an imported module.
    pub fn in_module(imported: &Module) -> Work {
        let mut work: HashMap<NodeId, u64> = HashMap::new();
        for op in imported.walk(imported.body()) {
            let n = macs(imported, op);
            if let Some(node) = imported.locs.node_ids(imported.loc(op)).first().filter(|_| n > 0) {
                *work.entry(*node).or_default() += n;
            }
        }
        Work(work)
    }
}

/// What is said of coarse scores; `remain` says whether the program computes them.
fn warning(coarse: &CoarseScores, remain: bool) -> String {
    let CoarseScores { node, op_type, softmax, step } = coarse;
    let end = if remain { format!("--keep-fp32 '{node}' keeps it float") } else { "it is float here".into() };
    format!(
        "{op_type} \"{node}\", which softmax \"{softmax}\" takes, is quantized in steps of {step:.4}: a mask has no scale, and the \
         scores beside it become 0; {end}"
    )
}

/// What became of the node that these ops are or are part of.
///
/// Conversions say nothing of a node that computes: an operator on quantized tensors has them around what may be float.
fn fate(m: &Module, ops: &[OpId]) -> Fate {
    let computing: Vec<OpId> =
        ops.iter().copied().filter(|&op| !m.is(op, Constant::DEF) && !is_weight(m, op)).collect();
    let inner: Vec<OpId> = computing.iter().copied().filter(|&op| !Conversion::is(m, op)).collect();
    // A node may have become several ops; the one that works most decides, an integer one where none works.
    let main = inner.iter().copied().max_by_key(|&op| (macs(m, op), integer(m, op)));
    match main {
        None if computing.is_empty() => Fate::Folded("became part of its neighbours or of a constant".into()),
        None => Fate::Int8,
        Some(op) if computes_floats(m, op) => Fate::Float(quantize_weights::STORED.into()),
        Some(op) if integer(m, op) => Fate::Int8,
        Some(op) => Fate::Float(why_float(m, op).unwrap_or_else(|| "its result is read in f32".into())),
    }
}

/// A dequantized constant, which its user takes as it is.
fn is_weight(m: &Module, op: OpId) -> bool {
    Dequantize::of(m, op).is_some_and(|d| Constant::producing(m, d.q(m)).is_some())
}

/// Whether an op computes in integers, or moves bytes.
fn integer(m: &Module, op: OpId) -> bool {
    let quantized = |v: &qc_ir::ValueId| m.ty(*v).tensor().is_some_and(|t| matches!(t.elem, Elem::Quant(_)));
    let plain = [DynamicQuantize::DEF, IntegerMatmul::DEF, IntegerConv2d::DEF];
    m.def(op).dialect() == "quant" || plain.iter().any(|def| m.is(op, def)) || m.results(op).iter().any(quantized)
}
