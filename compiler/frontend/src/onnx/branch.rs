//! `If`. Where its condition is known at import, the branch that is taken is part of the model, and the other one is not there.
//! Where the model computes it, both branches are computed and the condition chooses between what they give; but for settings,
//! single integers such as a sample rate, which are to be constants rather than cost a branch for nothing.

use super::Importer;
use super::proto::{GraphProto, NodeProto};
use crate::emit::Value;
use crate::error::{ImportError, Refusal};
use crate::walk::{Emitted, Walk};

/// The branch of this name.
fn named<'a>(node: &'a NodeProto, word: &str) -> Result<&'a GraphProto, Refusal> {
    let graph = node.attribute.iter().find(|a| a.name == word).and_then(|a| a.g.as_deref());
    let graph = graph.ok_or_else(|| Refusal::invalid(format!("it has no `{word}`")))?;
    match graph.output.len() < node.output.len() {
        true => Err(Refusal::invalid(format!("its `{word}` has {} outputs", graph.output.len()))),
        false => Ok(graph),
    }
}

impl<'a> Importer<'a> {
    /// Lowers an `If`.
    ///
    /// # Errors
    /// Branches that are not there, and those of a computed condition between whose results it cannot choose.
    pub(super) fn branch(
        &mut self,
        walk: &mut Walk<'a, Value>,
        node: &'a NodeProto,
        condition: Option<Value>,
    ) -> Result<Emitted<'a, Value>, Refusal> {
        let condition = condition.ok_or_else(|| Refusal::invalid("it has no condition"))?;
        let [yes, no] = [named(node, "then_branch"), named(node, "else_branch")];
        let known = condition.known().filter(|t| t.len() == 1).and_then(|t| t.int(0));
        let outputs = match known {
            Some(taken) => {
                let graph = if taken != 0 { yes? } else { no? };
                self.inside(walk, graph, Vec::new())?
            }
            None if walk.g.is_of_settings(&condition) => {
                return Err(Refusal::unsupported("its condition is computed from inputs that are settings")
                    .remedy("export the model with the condition as a constant")
                    .of_computed(&condition));
            }
            None => {
                let computed = |reason: String| {
                    Refusal::unsupported(format!("its condition is computed by the model, and {reason}"))
                        .remedy("export the model without control flow, or with the condition as a constant")
                        .of_computed(&condition)
                };
                let (yes, no) = (self.both(walk, yes?).map_err(computed)?, self.both(walk, no?).map_err(computed)?);
                self.chosen(walk, node, &condition, [yes, no]).map_err(computed)?
            }
        };
        let outputs = node.output.iter().zip(outputs).filter(|(name, _)| !name.is_empty());
        let outputs = outputs.map(|(name, v)| (name.as_str(), v.map(|v| walk.g.named(v, name)))).collect();
        Ok(Emitted { outputs, why: "its condition is known, and so is the branch that is taken" })
    }

    /// What a branch gives that is computed whether it is taken or not.
    fn both(&mut self, walk: &mut Walk<'a, Value>, graph: &'a GraphProto) -> Result<Vec<Option<Value>>, String> {
        let (mark, checks) = (walk.mark(), walk.g.checks());
        let given = self.inside(walk, graph, Vec::new()).map_err(|refusal| refusal.reason)?;
        if walk.mark()[0] > mark[0] {
            let first = walk.back_to(mark).into_iter().next();
            return Err(match first {
                Some(ImportError::Node { node, op_type, reason, .. }) => {
                    format!("a branch has the node \"{node}\" ({op_type}): {reason}")
                }
                first => first.map_or_else(String::new, |e| e.to_string()),
            });
        }
        match walk.g.checks() == checks {
            true => Ok(given),
            false => Err("a branch reads by an index that may be out of range where it is not taken".into()),
        }
    }

    /// Of the results of two branches, those that the condition chooses.
    fn chosen(
        &self,
        walk: &mut Walk<'a, Value>,
        node: &NodeProto,
        condition: &Value,
        [yes, no]: [Vec<Option<Value>>; 2],
    ) -> Result<Vec<Option<Value>>, String> {
        let g = &mut walk.g;
        let condition = g.reshape(condition, &[]).map_err(|_| "it is not one truth value")?;
        let mut outputs = Vec::new();
        for ((name, yes), no) in node.output.iter().zip(yes).zip(no) {
            let (Some(yes), Some(no)) = (yes, no) else {
                outputs.push(None);
                continue;
            };
            if !self.read.contains(name.as_str()) {
                outputs.push(Some(yes));
                continue;
            }
            let [a, b] = [&yes, &no].map(|v| (g.dims(v), g.elem(v)));
            if a != b {
                return Err(format!("its branches give \"{name}\" the shapes {:?} and {:?} or other types", a.0, b.0));
            }
            outputs.push(Some(g.select(&condition, &yes, &no).map_err(|refusal| refusal.reason)?));
        }
        Ok(outputs)
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

    /// A model that takes one of two branches by the sign of its input.
    fn by_sign(branches: &[AttributeProto]) -> Model {
        let zero = floats("zero", &[1], &[0.0]);
        let m = Model::new(17, &[1]).constant(zero).node("Less", "x zero > c", &[]).node("Neg", "x > m", &[]);
        m.node("If", "c > y", branches)
    }

    #[test]
    fn a_computed_condition_chooses_between_results() {
        let m = by_sign(&branches());
        assert_eq!((m.run(&[-3.0]).1, m.run(&[3.0]).1), (vec![4.0], vec![-6.0]));
    }

    #[test]
    fn a_setting_is_to_be_a_constant() {
        let m = Model::new(17, &[1]).constant(super::super::tests::longs("rate", &[16000]));
        let m = m.constant(floats("one", &[1], &[1.0])).node("Identity", "one > m", &[]);
        let mut m = m.node("Equal", "x rate > c", &[]).node("If", "c > y", &branches());
        m.graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = 7;
        let reason = m.reasons().remove(0);
        assert!(reason.contains("inputs that are settings") && reason.contains("`--input x=VALUE`"), "{reason}");
    }

    #[test]
    fn results_between_which_nothing_can_choose_are_refused() {
        let refused = |no: Model, part: &str| {
            let [yes, _] = branches();
            let reason = by_sign(&[yes, no.graph_attribute("else_branch", &["t"])]).reasons().remove(0);
            assert!(reason.contains("computed by the model") && reason.contains(part), "{reason}");
            assert!(reason.contains("`--input x=VALUE`"), "{reason}");
        };
        let pair = |m: &str| Model::new(17, &[2]).node("Concat", m, &[super::super::tests::int("axis", 0)]);
        refused(pair("m m > t"), "the shapes [1] and [2]");
        refused(Model::new(17, &[2]).node("Reshape", "m m > t", &[]), "a branch has the node \"Reshape:t\"");
        let at = Model::new(17, &[2]).node("Cast", "x > i", &[super::super::tests::int("to", 7)]);
        refused(at.node("Gather", "m i > t", &[]), "may be out of range");
    }
}
