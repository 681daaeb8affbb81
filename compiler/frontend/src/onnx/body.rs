//! Graphs in the attributes of nodes: the branches of `If`, the bodies of `Loop` and `Scan`.
//!
//! What such a graph reads of the graph around it counts as read by the node.

use super::order::sorted;
use super::proto::{GraphProto, NodeProto};
use super::{Importer, live_nodes, names_read};
use crate::emit::Value;
use crate::error::Refusal;
use crate::walk::Walk;
use std::collections::HashSet;

/// How many nodes may be walked in graphs inside, each as often as it is repeated.
const MAX_WALKED: usize = 1 << 15;

/// The graphs in the attributes of a node.
pub(super) fn bodies(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().filter_map(|a| a.g.as_deref())
}

/// All names that a node reads: its inputs, and what graphs in its attributes read of the graph around them.
pub(super) fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).collect();
    for body in bodies(node) {
        let own: HashSet<&str> = own_names(body).collect();
        let inside = body.node.iter().flat_map(reads).chain(body.output.iter().map(|o| o.name.as_str()));
        names.extend(inside.filter(|name| !own.contains(name)));
    }
    names
}

/// The names that a graph defines.
fn own_names(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let nodes = graph.node.iter().flat_map(|n| &n.output).map(String::as_str);
    let constants = graph.initializer.iter().map(|t| t.name.as_str());
    nodes.chain(constants).chain(graph.input.iter().map(|i| i.name.as_str()))
}

/// The computed tensors around a graph that it reads, in the order of their names.
pub(super) fn captured<'a>(walk: &Walk<'a, Value>, graph: &'a GraphProto) -> Vec<(&'a str, Value)> {
    let own: HashSet<&str> = own_names(graph).collect();
    let inside = graph.node.iter().flat_map(reads).chain(graph.output.iter().map(|o| o.name.as_str()));
    let mut names: Vec<&str> = inside.filter(|name| !name.is_empty() && !own.contains(name)).collect();
    names.sort_unstable();
    names.dedup();
    let computed = |name: &'a str| Some((name, walk.get(name).filter(|v| v.known().is_none())?.clone()));
    names.into_iter().filter_map(computed).collect()
}

impl<'a> Importer<'a> {
    /// Walks a graph inside, in which names stand for what is `given`; what it gives back, `None` for what failed.
    ///
    /// # Errors
    /// A graph whose nodes have no order, and one too many that is walked.
    pub(super) fn inside(
        &mut self,
        walk: &mut Walk<'a, Value>,
        graph: &'a GraphProto,
        given: Vec<(&'a str, Value)>,
    ) -> Result<Vec<Option<Value>>, Refusal> {
        self.walked = self.walked.saturating_add(graph.node.len());
        if self.walked > MAX_WALKED + self.source.model.len() {
            return Err(Refusal::unsupported("its nodes and those of other such bodies, repeated, are too many")
                .remedy("export the model with loops of fewer rounds"));
        }
        let order = sorted(graph).map_err(|e| Refusal::invalid(e.to_string()))?;
        let nodes: Vec<(&NodeProto, bool)> = order.iter().copied().zip(live_nodes(graph, &order)).collect();
        let names: Vec<&str> = own_names(graph).chain(given.iter().map(|(name, _)| *name)).collect();
        let hidden = walk.hide(&names);
        given.into_iter().for_each(|(name, value)| walk.define(name, value));
        self.read.extend(names_read(graph, &nodes));
        let outer: Vec<_> = graph.initializer.iter().map(|t| (t, self.initializers.insert(&t.name, t))).collect();
        let (place, before) = (walk.g.place(), walk.mark()[0]);
        self.depth += 1;
        walk.nodes(self, &nodes);
        let whole = walk.mark()[0] == before;
        let named = |port| if whole { walk.named(self, port) } else { walk.get(port).cloned() };
        let outputs = graph.output.iter().map(|port| port.name.as_str()).map(named).collect();
        self.depth -= 1;
        walk.g.back_at(place);
        for (t, outer) in outer {
            match outer {
                Some(outer) => self.initializers.insert(&t.name, outer),
                None => self.initializers.remove(t.name.as_str()),
            };
        }
        walk.restore(hidden);
        Ok(outputs)
    }
}
