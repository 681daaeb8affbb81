//! `If` whose condition is known at import: the branch that is taken is part of the model, the other one is not there.
//!
//! What a branch reads of the graph around it counts as read by the node.

use super::order::sorted;
use super::proto::{GraphProto, NodeProto};
use super::{Importer, live_nodes, names_read};
use crate::emit::Value;
use crate::error::Refusal;
use crate::walk::{Emitted, Walk};
use std::collections::HashSet;

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

impl<'a> Importer<'a> {
    /// Lowers an `If` by the branch that its condition takes.
    ///
    /// # Errors
    /// A condition that the model computes, or a branch that is not there.
    pub(super) fn branch(
        &mut self,
        walk: &mut Walk<'a, Value>,
        node: &'a NodeProto,
        condition: Option<Value>,
    ) -> Result<Emitted<'a, Value>, Refusal> {
        let condition = condition.ok_or_else(|| Refusal::invalid("it has no condition"))?;
        let known = condition.known().filter(|t| t.len() == 1).and_then(|t| t.int(0));
        let taken = known.ok_or_else(|| {
            Refusal::unsupported("its condition is computed by the model")
                .remedy("export the model without control flow, or with the condition as a constant")
                .of_computed(&condition)
        })?;
        let word = if taken != 0 { "then_branch" } else { "else_branch" };
        let graph = node.attribute.iter().find(|a| a.name == word).and_then(|a| a.g.as_deref());
        let graph = graph.ok_or_else(|| Refusal::invalid(format!("it has no `{word}`")))?;
        if graph.output.len() < node.output.len() {
            return Err(Refusal::invalid(format!("its `{word}` has {} outputs", graph.output.len())));
        }
        let order = sorted(graph).map_err(|e| Refusal::invalid(e.to_string()))?;
        let nodes: Vec<(&NodeProto, bool)> = order.iter().copied().zip(live_nodes(graph, &order)).collect();
        let names: Vec<&str> = own_names(graph).collect();
        let hidden = walk.hide(&names);
        self.read.extend(names_read(graph, &nodes));
        let outer: Vec<_> = graph.initializer.iter().map(|t| (t, self.initializers.insert(&t.name, t))).collect();
        self.depth += 1;
        walk.nodes(self, &nodes);
        let mut outputs = Vec::new();
        for (port, name) in graph.output.iter().zip(&node.output) {
            outputs.push((name.as_str(), walk.named(self, &port.name)));
        }
        self.depth -= 1;
        for (t, outer) in outer {
            match outer {
                Some(outer) => self.initializers.insert(&t.name, outer),
                None => self.initializers.remove(t.name.as_str()),
            };
        }
        walk.restore(hidden);
        let outputs = outputs.into_iter().filter(|(name, _)| !name.is_empty());
        let outputs = outputs.map(|(name, value)| (name, value.map(|v| walk.g.named(v, name)))).collect();
        Ok(Emitted { outputs, why: "its condition is known, and so is the branch that is taken" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::AttributeProto;
    use super::super::tests::{Model, bytes, floats};

    fn branches() -> [AttributeProto; 2] {
        let one = floats("one", &[1], &[1.0]);
        let yes = Model::new(17, &[2])
            .constant(one.clone())
            .node("Add", "m one > t", &[])
            .graph_attribute("then_branch", &["t"]);
        let two = floats("one", &[1], &[2.0]);
        let no =
            Model::new(17, &[2]).constant(two).node("Mul", "m one > t", &[]).graph_attribute("else_branch", &["t"]);
        [yes, no]
    }

    fn model(condition: i32) -> Model {
        Model::new(17, &[2])
            .constant(bytes("c", 9, &[], &[condition]))
            .node("If", "c > a", &branches())
            .node("Neg", "x > m", &[])
            .node("If", "c > b", &branches())
            .node("Concat", "a b > y", &[super::super::tests::int("axis", 0)])
    }

    #[test]
    fn the_branch_of_a_known_condition_is_part_of_the_model() {
        assert_eq!(model(1).run(&[1.0, 2.0]).1, [0.0, -1.0, 0.0, -1.0]);
        assert_eq!(model(0).run(&[1.0, 2.0]).1, [-2.0, -4.0, -2.0, -4.0]);
    }

    #[test]
    fn names_of_a_branch_hide_names_only_inside() {
        let m = model(1).constant(floats("one", &[2], &[7.0, 7.0])).node("Mul", "y one > z", &[]);
        let m = Model { graph: super::super::proto::GraphProto { output: vec![], ..m.graph.clone() }, ..m };
        let mut graph = m.graph.clone();
        graph.node.iter_mut().filter(|n| n.op_type == "Concat").for_each(|n| n.input.truncate(1));
        graph.output = vec![super::super::proto::ValueInfoProto { name: "z".into(), r#type: None }];
        assert_eq!(Model { graph, ..m }.run(&[1.0, 2.0]).1, [0.0, -7.0]);
    }

    #[test]
    fn a_computed_condition_is_refused() {
        let zero = floats("zero", &[1], &[0.0]);
        let m = Model::new(17, &[1]).constant(zero).node("Less", "x zero > c", &[]).node("Neg", "x > m", &[]);
        let reason = m.node("If", "c > y", &branches()).import(&Default::default()).unwrap_err()[0].to_string();
        assert!(reason.contains("computed by the model"), "{reason}");
    }
}
