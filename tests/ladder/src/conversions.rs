//! The twin of a fused graph in which every conversion between floats and integers has a step of its own.
//!
//! before  %c = graph.conv2d(..)   %q = graph.quantize(%c)   return(%q)        (one step stores u8)
//! after   %c = graph.conv2d(..)   %q = graph.quantize(%c)   return(%q, %c)    (two steps: %c needs memory)
//!
//! Results of a model are stored as they are, so returning the float side of a conversion keeps it apart.

use qc_dialects::graph::{Dequantize, Quantize, ReduceMean};
use qc_ir::Module;

/// The twin, whose first results are those of `fused`; none where nothing is joined, or where a mean adds in the order
/// of a layout that returning its operand would change.
pub fn apart(fused: &Module) -> Option<Module> {
    let body = fused.body();
    let ops = fused.ops(body);
    if ops.iter().any(|&op| fused.is(op, ReduceMean::DEF)) {
        return None;
    }
    let returned = fused.returns(body).to_vec();
    let mut all = returned.clone();
    for &op in ops {
        let float = match (Quantize::of(fused, op), Dequantize::of(fused, op)) {
            (Some(quantize), _) => quantize.x(fused),
            (_, Some(dequantize)) => dequantize.out(fused),
            _ => continue,
        };
        if !fused.args(body).contains(&float) && !all.contains(&float) {
            all.push(float);
        }
    }
    if all.len() == returned.len() {
        return None;
    }
    let mut twin = fused.clone();
    let (id, func) = fused.funcs().next()?;
    let more = (returned.len()..all.len()).map(|i| format!("apart{i}").into());
    twin.func_mut(id).outputs = func.outputs.iter().cloned().chain(more).collect();
    twin.set_returns(body, &all);
    Some(twin)
}
