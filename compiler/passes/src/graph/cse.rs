//! Merges pure ops that compute the same thing from the same operands.
//!
//! before  %a = graph.relu(%x)   %b = graph.relu(%x)   %c = graph.add(%a, %b)
//! after   %a = graph.relu(%x)   %c = graph.add(%a, %a)

use bumpalo::format;
use qc_ir::{Diag, Keeps, Module, OpId, Pass, PassCx, RegionId, Traits};
use std::collections::HashMap;

/// The pass.
pub const PASS: Pass =
    Pass { name: "cse", summary: "merges ops that compute the same thing", from: "", to: "", keeps: Keeps::Exact, run };

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    // A region sees its own values only, so each is merged by itself. Of most keys nothing is left but a look-up that failed, so they live in memory that is freed at once.
    let scratch = std::mem::take(&mut cx.scratch);
    let mut seen: HashMap<(RegionId, &str), OpId> = HashMap::new();
    for op in m.walk(m.body()) {
        cx.check_time()?;
        let Some(region) = m.parent(op) else { continue };
        if !m.def(op).traits.has(Traits::PURE) || !m.regions(op).is_empty() {
            continue;
        }
        let key = format!(in &scratch, "{:?} {:?} {:?}", m.def(op), m.operands(op), m.attrs(op)).into_bump_str();
        match seen.get(&(region, key)) {
            None => {
                seen.insert((region, key), op);
            }
            Some(&first) => {
                let fused = {
                    let locs = [m.loc(first), m.loc(op)];
                    m.locs.fuse(&locs)
                };
                m.set_loc(first, fused);
                for (old, new) in m.results(op).to_vec().into_iter().zip(m.results(first).to_vec()) {
                    m.replace_uses(old, new);
                }
                m.erase(op);
                cx.count("merged");
            }
        }
    }
    Ok(())
}
