//! The order of nodes: each behind those that it reads.
//!
//! ONNX asks for it, but runtimes sort, so files without it exist. Sorted nodes keep their order.

use super::node_name;
use super::proto::{GraphProto, NodeProto};
use crate::error::ImportError;
use std::collections::HashMap;

/// Where a node is on its way into the order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// Nodes that it reads are being placed.
    Open,
    Placed,
}

/// The nodes of a graph, each behind those that it reads. Takes time in proportion to nodes and edges.
///
/// # Errors
/// When a value has two writers, or depends on itself.
pub(super) fn sorted(graph: &GraphProto) -> Result<Vec<&NodeProto>, ImportError> {
    let writers = writers(graph)?;
    let mut state = vec![State::Waiting; graph.node.len()];
    let mut out = Vec::with_capacity(graph.node.len());
    let reads: Vec<Vec<&str>> = graph.node.iter().map(super::body::reads).collect();
    // Nodes being placed, with how many of their inputs were looked at.
    let mut open: Vec<(usize, usize)> = Vec::new();
    for first in 0..graph.node.len() {
        if state[first] == State::Waiting {
            open.push((first, 0));
        }
        while let Some((at, seen)) = open.last_mut() {
            let node = &graph.node[*at];
            state[*at] = State::Open;
            let Some(&name) = reads[*at].get(*seen) else {
                state[*at] = State::Placed;
                out.push(node);
                open.pop();
                continue;
            };
            *seen += 1;
            let Some(&writer) = writers.get(name) else { continue };
            match state[writer] {
                State::Placed => {}
                State::Waiting => open.push((writer, 0)),
                State::Open => {
                    let reason =
                        format!("node \"{}\" depends on its own result \"{name}\"", node_name(&graph.node[writer]));
                    return Err(ImportError::Broken { reason });
                }
            }
        }
    }
    Ok(out)
}

/// Which node writes each value.
fn writers(graph: &GraphProto) -> Result<HashMap<&str, usize>, ImportError> {
    let mut writers = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|o| !o.is_empty()) {
            if let Some(other) = writers.insert(name.as_str(), i) {
                let (a, b) = (node_name(&graph.node[other]), node_name(node));
                let reason = format!("\"{name}\" is written twice, by the nodes \"{a}\" and \"{b}\"");
                return Err(ImportError::Broken { reason });
            }
        }
    }
    let given = graph.input.iter().map(|i| i.name.as_str()).chain(graph.initializer.iter().map(|t| t.name.as_str()));
    for name in given {
        if let Some(&i) = writers.get(name) {
            let node = node_name(&graph.node[i]);
            let reason = format!("\"{name}\" is an input or a constant, and is written by the node \"{node}\"");
            return Err(ImportError::Broken { reason });
        }
    }
    Ok(writers)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, floats};

    #[test]
    fn nodes_run_behind_what_they_read() {
        let model = Model::new(13, &[2])
            .node("Sum", "b c > y", &[])
            .node("Relu", "a > c", &[])
            .node("Neg", "a > b", &[])
            .node("Neg", "x > a", &[]);
        assert_eq!(model.run(&[-1.0, 2.0]).1, [0.0, 2.0]);
    }

    #[test]
    fn a_long_chain_in_reverse_takes_linear_time() {
        let mut model = Model::new(13, &[1]).node("Relu", "v0 > y", &[]);
        for i in 0..20_000 {
            model = model.node("Identity", &format!("v{} > v{i}", i + 1), &[]);
        }
        model = model.node("Neg", "x > v20000", &[]);
        assert_eq!(model.run(&[-3.0]).1, [3.0]);
    }

    #[test]
    fn circles_and_second_writers_are_invalid() {
        let reasons = |m: Model| m.import(&Default::default()).unwrap_err()[0].to_string();
        let circle = Model::new(13, &[1]).node("Add", "x b > a", &[]).node("Relu", "a > b", &[]);
        assert!(reasons(circle.node("Relu", "b > y", &[])).contains("depends on its own result"));
        let own = Model::new(13, &[1]).node("Add", "x y > y", &[]);
        assert!(reasons(own).contains("depends on its own result"));
        let twice = Model::new(13, &[1]).node("Relu", "x > y", &[]).node("Neg", "x > y", &[]);
        assert!(reasons(twice).contains("written twice"));
        let input = Model::new(13, &[1]).node("Relu", "x > x", &[]).node("Neg", "x > y", &[]);
        assert!(reasons(input).contains("is an input or a constant"));
        let stored = Model::new(13, &[1]).constant(floats("w", &[1], &[1.0])).node("Relu", "x > w", &[]);
        assert!(reasons(stored.node("Neg", "w > y", &[])).contains("is an input or a constant"));
    }
}
