//! The phases, from the model to the machine: which dialects may appear, and what holds besides.

use crate::loops::{Alloc, reach};
use qc_ir::{Diag, Kind, Module, OpId, PhaseDef, Type};

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
    let lives = buffer_lives(m);
    for (i, a) in lives.iter().enumerate() {
        let start = Alloc(a.op).offset(m);
        if start < 0 || start % 64 != 0 {
            errors.push(Diag::error(format!("loop.alloc: offset {start} is no multiple of 64")).at(m.loc(a.op)));
        }
        for b in &lives[..i] {
            let other = Alloc(b.op).offset(m);
            let in_time = a.first <= b.last && b.first <= a.last;
            let in_space = start < other + b.bytes as i64 && other < start + a.bytes as i64;
            if in_time && in_space {
                let text = format!("loop.alloc: bytes at {start} and {other} are used at the same time");
                errors.push(Diag::error(text).at(m.loc(a.op)));
            }
        }
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

/// The lives of all buffers that are used, in program order.
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
