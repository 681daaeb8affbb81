//! Marks islands of integer ops whose conversion costs more than integer arithmetic wins, so that they stay float.
//!
//! before  %q = graph.quantize(%a)  %d = graph.dequantize(%q)  %s = graph.add(%d, %e)   (nothing else near is integer)
//! after   ..                                                    %s = graph.add(%d, %e) {keep_float = "it would take .."}
//!
//! What would become of the graph is found out by running `lower-to-quant` on a copy. An island is what quantized
//! tensors connect in it. Its time in integers, conversions at its borders included, is compared with its time in f32.
//!
//! The cost of an op is `macs * time per multiply-accumulate + bytes read and written * time per byte + elements * time
//! per function`. The constants are those of one core of a common server, the same for all instruction tiers and linear
//! in the batch, so that all tiers and batches compute the same numbers. They decide clear cases: a lone addition between
//! ops that cannot convert moves 18 bytes per element with its conversions and 12 without; a convolution with many taps
//! always wins. A conversion that a neighbour does on the way (`lower/conversions.rs`) costs nothing.

use super::{keep_float, lower_to_quant};
use crate::lower::conversions::Conversions;
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::{Constant, Dequantize, Quantize, computes_nothing};
use qc_dialects::phase;
use qc_dialects::quant::QLut;
use qc_dialects::work::macs;
use qc_ir::{Diag, DisjointSets, Elem, Keeps, Module, NodeId, OpId, Pass, PassCx, Traits, Use, ValueId};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The pass.
pub const PASS: Pass = Pass {
    name: "float-islands",
    summary: "marks integer islands that lose more by conversion than they win",
    from: phase::QUANTIZED,
    to: "",
    keeps: Keeps::Exact,
    run,
};

/// Picoseconds per multiply-accumulate in f32.
const F32_MAC_PS: u64 = 30;
/// Picoseconds per multiply-accumulate in integers.
const INT8_MAC_PS: u64 = 10;
/// Picoseconds per byte read or written.
const BYTE_PS: u64 = 50;
/// Picoseconds per element of a function such as sigmoid in f32; integers have a table.
const FUNCTION_PS: u64 = 500;
/// Bytes that a conversion of one element reads and writes.
const CONVERSION_BYTES: u64 = 5;

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let ops = m.ops(m.body()).to_vec();
    let fused = Trial::of(m, &ops, cx)?;
    let is_function: Vec<bool> = ops.iter().map(|&op| Function::of(m, op).is_some()).collect();
    let mut kept: BTreeMap<usize, String> = BTreeMap::new();
    let free = Conversions::of(&fused.m);
    for island in islands(&fused.m) {
        let (int8, f32) = times(&fused, &island, &is_function, &free);
        if int8 <= f32 {
            continue;
        }
        let what = if island.len() == 1 { "it".to_string() } else { format!("these {} ops", island.len()) };
        let reason = format!("{what} would take {} in INT8 with conversions, {} in f32", time(int8), time(f32));
        for &op in &island {
            kept.extend(fused.sources(op).map(|i| (i, reason.clone())));
        }
        cx.count("islands");
    }
    for (i, reason) in kept {
        if !computes_nothing(m, ops[i]) {
            keep_float::mark(m, ops[i], &reason);
            cx.remark(m.loc(ops[i]), reason);
        }
    }
    Ok(())
}

/// The module with integer ops.
struct Trial {
    m: Module,
    /// For each op that went in, a node of its own, and its position.
    positions: HashMap<NodeId, usize>,
}

impl Trial {
    fn of(m: &Module, ops: &[OpId], cx: &PassCx) -> Result<Trial, Diag> {
        let (mut m, mut positions) = (m.clone(), HashMap::new());
        for (i, &op) in ops.iter().enumerate() {
            let node = m.locs.add_node("", "");
            let loc = m.locs.at(node);
            m.set_loc(op, loc);
            positions.insert(node, i);
        }
        let mut inner = PassCx::new(Vec::new(), usize::MAX);
        inner.deadline = cx.deadline;
        (lower_to_quant::PASS.run)(&mut m, &mut inner)?;
        Ok(Trial { m, positions })
    }

    /// The positions of the ops that an op of the trial was.
    fn sources(&self, op: OpId) -> impl Iterator<Item = usize> {
        self.m.locs.node_ids(self.m.loc(op)).into_iter().filter_map(|node| self.positions.get(&node).copied())
    }
}

fn time(ps: u64) -> String {
    if ps < 1_000_000 { format!("{:.1} ns", ps as f64 / 1e3) } else { format!("{:.1} µs", ps as f64 / 1e6) }
}

fn quantized(m: &Module, v: ValueId) -> bool {
    m.ty(v).tensor().is_some_and(|t| matches!(t.elem, Elem::Quant(_)))
}

fn constant(m: &Module, v: ValueId) -> bool {
    Constant::producing(m, v).is_some()
}

/// Whether an op computes with or moves quantized tensors, rather than converting at a border.
fn integer(m: &Module, op: OpId) -> bool {
    let touches = m.operands(op).iter().flatten().chain(m.results(op)).any(|&v| quantized(m, v));
    touches && !computes_nothing(m, op)
}

/// The ops of all islands: what quantized tensors connect, in program order.
fn islands(m: &Module) -> Vec<Vec<OpId>> {
    let ops: Vec<OpId> = m.ops(m.body()).iter().copied().filter(|&op| integer(m, op)).collect();
    let tensors = |op: OpId| -> Vec<ValueId> {
        let all = m.operands(op).iter().flatten().chain(m.results(op)).copied();
        all.filter(|&v| quantized(m, v) && !constant(m, v)).collect()
    };
    let mut joined = DisjointSets::default();
    for &op in &ops {
        for pair in tensors(op).windows(2) {
            joined.join(pair[0], pair[1]);
        }
    }
    let mut by_root: BTreeMap<ValueId, Vec<OpId>> = BTreeMap::new();
    for &op in &ops {
        if let Some(&v) = tensors(op).first() {
            by_root.entry(joined.root(v)).or_default().push(op);
        }
    }
    by_root.into_values().collect()
}

/// Picoseconds of an island in integers, with the conversions at its borders, and in f32.
fn times(trial: &Trial, island: &[OpId], is_function: &[bool], free: &Conversions) -> (u64, u64) {
    let m = &trial.m;
    let (mut int8, mut f32) = (0, 0);
    let mut found: HashSet<OpId> = HashSet::new();
    for &op in island {
        found.extend(conversions(m, op));
        // Movement is mostly a view in either form.
        if m.def(op).traits.has(Traits::MOVEMENT) {
            continue;
        }
        for &v in m.operands(op).iter().flatten().chain(m.results(op)).filter(|v| !constant(m, **v)) {
            let n = m.tensor_ty(v).len() as u64;
            int8 += n * BYTE_PS * if quantized(m, v) { 1 } else { 4 };
            f32 += n * BYTE_PS * 4;
        }
        let macs = macs(m, op);
        int8 += macs * INT8_MAC_PS;
        f32 += macs * F32_MAC_PS;
        if m.is(op, QLut::DEF) && trial.sources(op).any(|i| is_function[i]) {
            f32 += m.tensor_ty(m.result(op)).len() as u64 * FUNCTION_PS;
        }
    }
    for conversion in found {
        let ps = m.tensor_ty(m.result(conversion)).len() as u64 * CONVERSION_BYTES * BYTE_PS;
        int8 += if free.has_no_step(m, conversion) { 0 } else { ps };
        // A result that the model rounds is rounded in f32 too: by a conversion there and back.
        f32 += if rounds_result(m, conversion) { 2 * ps } else { 0 };
    }
    (int8, f32)
}

/// The conversions between f32 and the quantized operands and results of an op.
fn conversions(m: &Module, op: OpId) -> Vec<OpId> {
    let before = m.operands(op).iter().flatten().filter_map(|&v| m.producer(v)).filter(|&p| m.is(p, Quantize::DEF));
    let users = m.results(op).iter().flat_map(|&v| m.uses(v)).filter_map(|u| match u {
        Use::Operand(user, _) => Some(*user),
        Use::Return(..) => None,
    });
    before.chain(users.filter(|&u| m.is(u, Dequantize::DEF))).collect()
}

/// Whether a conversion gives a result of the model.
fn rounds_result(m: &Module, conversion: OpId) -> bool {
    m.is(conversion, Dequantize::DEF) && m.uses(m.result(conversion)).iter().any(|u| matches!(u, Use::Return(..)))
}
