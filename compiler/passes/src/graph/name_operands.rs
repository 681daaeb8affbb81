//! Names what products read, so that calibration can speak of it.
//!
//! before  %3 = graph.relu(%2) loc("Relu:b":"Relu")    %y = graph.conv2d(%3, @w, _)
//! after   %"Relu:b" = graph.relu(%2)                  %y = graph.conv2d(%"Relu:b", @w, _)
//!
//! Ranges are found and attached by name. Tensors of the model have one, but what became of them may not: a sequence that was an
//! image for one convolution and is one for the next is that image only, between both. It gets the name of its node. Tensors that
//! only movement separates from a product are looked at as well; what movement makes needs no name, it has the range of what it moves.

use crate::graph::{is_constant_f32, is_movement};
use qc_dialects::graph::{Constant, Linear};
use qc_ir::{Diag, Elem, Keeps, Module, Pass, PassCx, ValueId};
use std::collections::{HashMap, HashSet};

/// The pass.
pub const PASS: Pass = Pass {
    name: "name-operands",
    summary: "names what products read after its node",
    from: "",
    to: "",
    keeps: Keeps::Exact,
    run,
};

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let ops = m.walk(m.body());
    let mut taken: HashSet<String> = HashSet::new();
    let results = ops.iter().flat_map(|&op| m.results(op));
    taken.extend(m.args(m.body()).iter().chain(results).filter_map(|&v| m.name(v).map(str::to_string)));
    // Values that a product reads, moved or not.
    let mut read: HashSet<ValueId> = HashSet::new();
    for &op in ops.iter().rev() {
        let moves = is_movement(m, op) && !m.is(op, Constant::DEF) && m.results(op).iter().any(|v| read.contains(v));
        let data =
            Linear::of(m, op).filter(|linear| is_constant_f32(m, linear.weight(m))).map(|linear| linear.input(m));
        if moves {
            read.extend(m.operands(op).iter().flatten());
        }
        read.extend(data);
    }
    let mut named: HashMap<String, usize> = HashMap::new();
    for &op in &ops {
        let &[v] = m.results(op) else { continue };
        let is_float = m.ty(v).tensor().is_some_and(|t| t.elem == Elem::F32);
        if !is_float || m.name(v).is_some() || !read.contains(&v) || is_movement(m, op) {
            continue;
        }
        let Some(node) = m.locs.nodes(m.loc(op)).first().map(|node| node.name.to_string()) else { continue };
        // Tensors of one node are counted, so that no name is tried twice.
        let count = named.entry(node.clone()).or_insert(0usize);
        let name = loop {
            *count += 1;
            let name = if *count == 1 { node.clone() } else { format!("{node}.{count}") };
            if !taken.contains(&name) {
                break name;
            }
        };
        m.set_name(v, &name);
        taken.insert(name);
        cx.count("named");
    }
    Ok(())
}
