//! How values flow through a program: its ports, what its outputs depend on, and who reads what.

use super::op::{arguments, find_attr};
use super::program::{BlockDesc, OpDesc};
use std::collections::{HashMap, HashSet};

/// The variables that an op reads: its inputs, and attributes that are variables.
pub(super) fn reads(op: &OpDesc) -> impl Iterator<Item = &str> {
    let inputs = op.inputs.iter().flat_map(|s| &s.arguments);
    inputs.chain(op.attrs.iter().flat_map(|a| a.variables())).map(String::as_str)
}

/// The variables that `feed` ops make or `fetch` ops take, in the order of their columns.
pub(super) fn ports<'a>(block: &'a BlockDesc, kind: &str) -> Vec<&'a str> {
    let of = |op: &'a OpDesc| {
        let slots = if kind == "feed" { arguments(&op.outputs, "Out") } else { arguments(&op.inputs, "X") };
        let column = find_attr(op, "col").and_then(|a| a.i).unwrap_or(0);
        slots.first().map(|name| (column, name.as_str()))
    };
    let mut list: Vec<(i32, &str)> = block.ops.iter().filter(|op| op.r#type == kind).filter_map(of).collect();
    list.sort_by_key(|(column, _)| *column);
    list.into_iter().map(|(_, name)| name).collect()
}

/// Whether an op is a `feed` or `fetch`.
pub(super) fn is_port(op: &OpDesc) -> bool {
    op.r#type == "feed" || op.r#type == "fetch"
}

/// Which ops the outputs depend on. A name may be written more than once, so this goes backwards.
pub(super) fn live_ops(block: &BlockDesc, fetches: &[&str]) -> Vec<bool> {
    let mut needed: HashSet<&str> = fetches.iter().copied().collect();
    let mut live = vec![false; block.ops.len()];
    for (op, live) in block.ops.iter().zip(&mut live).rev().filter(|(op, _)| !is_port(op)) {
        let mut outputs = op.outputs.iter().flat_map(|o| &o.arguments);
        *live = outputs.clone().any(|name| needed.contains(name.as_str()));
        if *live {
            outputs.by_ref().for_each(|name| {
                needed.remove(name.as_str());
            });
            needed.extend(reads(op));
        }
    }
    live
}

/// The live ops that read each variable.
pub(super) fn readers<'a>(block: &'a BlockDesc, live: &[bool]) -> HashMap<&'a str, Vec<usize>> {
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, op) in block.ops.iter().enumerate().filter(|(i, op)| live[*i] || op.r#type == "fetch") {
        for name in reads(op) {
            readers.entry(name).or_default().push(i);
        }
    }
    readers
}
