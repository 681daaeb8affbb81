//! The phases, from the model to the machine: which dialects may appear, and what holds besides.

use crate::loops::{Alloc, reach};
use qc_ir::{Diag, Kind, Module, OpId, PhaseDef, Type};
use std::collections::{BTreeMap, BTreeSet};

/// Ops as the model has them.
pub const IMPORTED: &str = "imported";
/// No op is left that could fold.
pub const CANONICAL: &str = "canonical";
/// Every int8 edge is an explicit quantize/dequantize pair.
pub const QUANTIZED: &str = "quantized";
/// Integer ops carry their epilogue; what is still `graph` is float.
pub const FUSED: &str = "fused";
/// Buffers, steps, loops, kernel calls.
pub const LOOPS: &str = "loops";
/// Every buffer has an offset in the arena.
pub const PLANNED: &str = "planned";

/// What a graph computes with.
const TENSORS: &[Kind] = &[Kind::Tensor];
/// What loop code computes with.
const MEMORY: &[Kind] = &[Kind::Buffer, Kind::Scalar, Kind::Index];

/// All phases in order.
pub static PHASES: &[PhaseDef] = &[
    PhaseDef { name: IMPORTED, dialects: &["graph"], kinds: TENSORS, verify: nothing },
    PhaseDef { name: CANONICAL, dialects: &["graph"], kinds: TENSORS, verify: nothing },
    PhaseDef { name: QUANTIZED, dialects: &["graph"], kinds: TENSORS, verify: nothing },
    PhaseDef { name: FUSED, dialects: &["graph", "quant"], kinds: TENSORS, verify: nothing },
    PhaseDef { name: LOOPS, dialects: &["loop"], kinds: MEMORY, verify: verify_loops },
    PhaseDef { name: PLANNED, dialects: &["loop"], kinds: MEMORY, verify: verify_planned },
];

fn nothing(_: &Module) -> Vec<Diag> {
    Vec::new()
}

/// The main function's arguments are buffers, and every address lies in its buffer.
fn verify_loops(m: &Module) -> Vec<Diag> {
    let plain = m.args(m.body()).iter().all(|&v| matches!(m.ty(v), Type::Buffer(_)));
    match plain {
        true => reach::check(m),
        false => vec![Diag::error("arguments of loop code must be buffers")],
    }
}

/// Buffers that live at the same time do not overlap, and all are aligned.
fn verify_planned(m: &Module) -> Vec<Diag> {
    let mut errors = verify_loops(m);
    // Lives come by their first use. Those that are not over are disjoint, unless an error was found, so the neighbours of a
    // new one are all that it can overlap.
    let mut over: BTreeSet<(usize, i64)> = BTreeSet::new();
    let mut taken: BTreeMap<i64, i64> = BTreeMap::new();
    for life in buffer_lives(m).into_iter().filter(|l| l.bytes > 0) {
        let (start, end) = (Alloc(life.op).offset(m), Alloc(life.op).offset(m).saturating_add(life.bytes as i64));
        if start < 0 || start % 64 != 0 {
            errors.push(Diag::error(format!("loop.alloc: offset {start} is no multiple of 64")).at(m.loc(life.op)));
        }
        while let Some(&(last, at)) = over.first().filter(|(last, _)| *last < life.first) {
            over.remove(&(last, at));
            taken.remove(&at);
        }
        let before = taken.range(..=start).next_back().filter(|(_, e)| **e > start);
        let behind = taken.range(start..end).next();
        if let Some((other, _)) = before.or(behind) {
            let text = format!("loop.alloc: bytes at {start} and {other} are used at the same time");
            errors.push(Diag::error(text).at(m.loc(life.op)));
            continue;
        }
        over.insert((life.last, start));
        taken.insert(start, end);
    }
    errors
}

/// When a buffer is in use.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// The `loop.alloc`.
    pub op: OpId,
    /// Its size.
    pub bytes: usize,
    /// First and last op of the main function's body that uses it, by position.
    pub first: usize,
    /// Last use.
    pub last: usize,
}

/// The lives of all buffers that are used, by their first use.
pub fn buffer_lives(m: &Module) -> Vec<Life> {
    let body = m.body();
    let mut lives: Vec<Life> = Vec::new();
    let mut slots = std::collections::HashMap::new();
    for (position, &op) in m.ops(body).iter().enumerate() {
        if let Some(alloc) = Alloc::of(m, op) {
            slots.insert(alloc.buf(m), (op, None::<usize>));
            continue;
        }
        let inside = m.regions(op).iter().flat_map(|&r| m.walk(r));
        for used in std::iter::once(op).chain(inside) {
            for v in m.operands(used).iter().flatten() {
                let Some((alloc, slot)) = slots.get_mut(v) else { continue };
                let index = *slot.get_or_insert_with(|| {
                    let bytes = m.ty(*v).buffer().map_or(0, |b| b.bytes);
                    lives.push(Life { op: *alloc, bytes, first: position, last: position });
                    lives.len() - 1
                });
                lives[index].last = position;
            }
        }
    }
    lives
}

/// Bytes of the arena of a planned module.
pub fn arena_bytes(m: &Module) -> usize {
    buffer_lives(m).iter().map(|l| Alloc(l.op).offset(m).max(0) as usize + l.bytes).max().unwrap_or(0)
}
