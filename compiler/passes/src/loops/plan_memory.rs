//! Gives every buffer its place in the arena; buffers whose lives do not overlap share memory.
//!
//! before  %t = loop.alloc() : buf<..>
//! after   %t = loop.alloc() {offset = 4096} : buf<..>
//!
//! A buffer lives from the first step that uses it to the last. Buffers are placed largest first, each at the lowest
//! offset that is free during its life. The verifier of the planned phase recomputes lives and rejects overlaps.

use qc_dialects::loops::Alloc;
use qc_dialects::phase::{self, buffer_lives};
use qc_ir::{Diag, Keeps, Module, Pass, PassCx};

/// The pass.
pub const PASS: Pass = Pass {
    name: "plan-memory",
    summary: "places buffers in the arena",
    from: phase::LOOPS,
    to: phase::PLANNED,
    keeps: Keeps::Exact,
    run,
};

/// Buffers start at multiples of a cache line.
const ALIGN_BYTES: usize = 64;

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let mut lives = buffer_lives(m);
    lives.sort_by_key(|l| (std::cmp::Reverse(l.bytes), l.first));
    let mut placed: Vec<(usize, usize, usize, usize)> = Vec::new();
    for life in &lives {
        cx.check_time()?;
        let bytes = life.bytes.next_multiple_of(ALIGN_BYTES);
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(_, _, first, last)| *first <= life.last && life.first <= *last)
            .map(|&(offset, size, _, _)| (offset, size))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, size) in taken {
            if offset + bytes <= start {
                break;
            }
            offset = offset.max(start + size);
        }
        placed.push((offset, bytes, life.first, life.last));
        m.set_attr(Alloc(life.op).0, "offset", offset);
        cx.count("placed");
    }
    Ok(())
}
