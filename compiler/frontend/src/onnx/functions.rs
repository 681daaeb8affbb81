//! Functions of the model's own, written out where they are called.
//!
//! A node that calls one becomes the nodes of its body: names of the body get the caller's in front, inputs and outputs are
//! those of the caller, attributes that the body refers to are the caller's or the function's defaults. So nothing behind this
//! knows of functions.

use super::node_name;
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use crate::error::{ImportError, ImportErrors};
use qc_ir::{Limit, Limits};
use std::collections::HashMap;

/// How deep functions may call one another.
const MAX_DEPTH: usize = 16;

/// Nodes that functions may be written out to, besides one for some bytes of the model. A call takes fifty bytes or more, and
/// the functions that exporters make have around ten nodes.
const BASE_NODES: u64 = 4096;
/// The bytes.
const BYTES_PER_NODE: u64 = 6;

/// Functions by domain and name.
type Functions<'a> = HashMap<(&'a str, &'a str), &'a FunctionProto>;

/// The model without calls of functions.
///
/// # Errors
/// Functions that call themselves, of another operator set than the model's, or that write out to more nodes than a model may
/// have.
pub(super) fn written_out(mut model: ModelProto, bytes: usize, limits: &Limits) -> Result<ModelProto, ImportErrors> {
    let functions = std::mem::take(&mut model.functions);
    if functions.is_empty() {
        return Ok(model);
    }
    let version = |sets: &[super::proto::OperatorSetIdProto]| {
        sets.iter().filter(|o| o.domain.is_empty() || o.domain == "ai.onnx").map(|o| o.version).max()
    };
    let own = version(&model.opset_import);
    let table: Functions<'_> = functions.iter().map(|f| ((f.domain.as_str(), f.name.as_str()), f)).collect();
    let most = (BASE_NODES + bytes as u64 / BYTES_PER_NODE).min(limits.get(Limit::Nodes));
    let mut writer = Writer { table, most, nodes: 0, used: Vec::new() };
    if let Some(graph) = &mut model.graph {
        writer.graph(graph, 0)?;
    }
    for f in writer.used {
        if let (Some(own), Some(other)) = (own, version(&f.opset_import))
            && own != other
        {
            let reason = format!("the function \"{}\" is of operator set {other}, the model of {own}", f.name);
            let remedy = "export it with one operator set, or convert it with onnx.version_converter".into();
            return Err(ImportError::NotAModel { reason, remedy }.into());
        }
    }
    Ok(model)
}

struct Writer<'a> {
    table: Functions<'a>,
    most: u64,
    nodes: u64,
    used: Vec<&'a FunctionProto>,
}

impl Writer<'_> {
    fn graph(&mut self, graph: &mut GraphProto, depth: usize) -> Result<(), ImportErrors> {
        let mut out = Vec::with_capacity(graph.node.len());
        for mut node in std::mem::take(&mut graph.node) {
            for inner in node.attribute.iter_mut().filter_map(|a| a.g.as_deref_mut()) {
                self.graph(inner, depth)?;
            }
            self.node(node, depth, &mut out)?;
        }
        graph.node = out;
        Ok(())
    }

    /// Adds a node, or what it calls.
    fn node(&mut self, node: NodeProto, depth: usize, out: &mut Vec<NodeProto>) -> Result<(), ImportErrors> {
        let Some(&f) = self.table.get(&(node.domain.as_str(), node.op_type.as_str())) else {
            self.nodes += 1;
            out.push(node);
            if self.nodes <= self.most {
                return Ok(());
            }
            let reason = format!("its functions, written out, have more than {} nodes", self.most);
            let remedy = "write the functions out before compiling (onnx.inliner), or simplify the model".into();
            return Err(ImportError::NotAModel { reason, remedy }.into());
        };
        if depth == MAX_DEPTH {
            let reason = format!("functions call one another more than {MAX_DEPTH} deep, or \"{}\" itself", f.name);
            return Err(ImportError::Broken { reason }.into());
        }
        self.used.push(f);
        let call = Call::new(f, &node);
        for inner in &f.node {
            let mut inner = inner.clone();
            call.rename(&mut inner);
            for graph in inner.attribute.iter_mut().filter_map(|a| a.g.as_deref_mut()) {
                self.graph(graph, depth + 1)?;
            }
            self.node(inner, depth + 1, out)?;
        }
        Ok(())
    }
}

/// One call of a function.
struct Call<'a> {
    /// Name of the caller, in front of all names of the body.
    prefix: String,
    /// What inputs and outputs of the function are called by the caller; an input that is left out has an empty name.
    ports: HashMap<&'a str, &'a str>,
    attributes: HashMap<&'a str, &'a AttributeProto>,
}

impl<'a> Call<'a> {
    fn new(f: &'a FunctionProto, node: &'a NodeProto) -> Call<'a> {
        let given = node.input.iter().map(String::as_str).chain(std::iter::repeat(""));
        let inputs = f.input.iter().map(String::as_str).zip(given);
        // An output that is left out keeps a name of the body.
        let outputs = f.output.iter().zip(&node.output).filter(|(_, given)| !given.is_empty());
        let outputs = outputs.map(|(own, given)| (own.as_str(), given.as_str()));
        let attributes = f.attribute_proto.iter().chain(&node.attribute).map(|a| (a.name.as_str(), a)).collect();
        Call { prefix: format!("{}/", node_name(node)), ports: inputs.chain(outputs).collect(), attributes }
    }

    fn name(&self, name: &mut String) {
        if name.is_empty() {
            return;
        }
        *name = match self.ports.get(name.as_str()) {
            Some(given) => (*given).to_string(),
            None => format!("{}{name}", self.prefix),
        };
    }

    fn rename(&self, node: &mut NodeProto) {
        node.input.iter_mut().chain(&mut node.output).for_each(|name| self.name(name));
        node.name = format!("{}{}", self.prefix, node_name(node));
        node.attribute.retain_mut(|a| {
            if a.ref_attr_name.is_empty() {
                return true;
            }
            let Some(&given) = self.attributes.get(a.ref_attr_name.as_str()) else { return false };
            *a = AttributeProto { name: std::mem::take(&mut a.name), ..given.clone() };
            true
        });
        for graph in node.attribute.iter_mut().filter_map(|a| a.g.as_deref_mut()) {
            self.rename_graph(graph);
        }
    }

    /// Names of a graph inside the body are names of the body.
    fn rename_graph(&self, graph: &mut GraphProto) {
        graph.node.iter_mut().for_each(|node| self.rename(node));
        graph.initializer.iter_mut().for_each(|t| self.name(&mut t.name));
        graph.input.iter_mut().chain(&mut graph.output).for_each(|v| self.name(&mut v.name));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Model;

    fn calling(depth_of_a_circle: bool) -> Model {
        let mut inner = Model::new(17, &[2]).node("Neg", "a > t", &[]).node("Relu", "t > b", &[]);
        if depth_of_a_circle {
            inner = inner.node_of("own", "F", "b > c", &[]);
        }
        Model::new(17, &[2])
            .function("own", "F", "a > b", inner)
            .node_of("own", "F", "x > m", &[])
            .node_of("own", "F", "m > n", &[])
            .node("Add", "m n > y", &[])
    }

    #[test]
    fn a_function_is_written_out_at_each_call() {
        assert_eq!(calling(false).run(&[-1.0, 2.0]).1, [1.0, 0.0]);
    }

    #[test]
    fn functions_that_multiply_are_refused() {
        let mut model = Model::new(17, &[2]).node_of("own", "f11", "x > y", &[]);
        for i in 1..12 {
            let below = format!("f{}", i - 1);
            let body = Model::new(17, &[2]).node_of("own", &below, "a > t", &[]).node_of("own", &below, "t > u", &[]);
            let body = body.node_of("own", &below, "u > b", &[]);
            model = model.function("own", &format!("f{i}"), "a > b", body);
        }
        let leaf = Model::new(17, &[2]).node("Neg", "a > b", &[]);
        let reason = model.function("own", "f0", "a > b", leaf).import(&Default::default()).unwrap_err()[0].to_string();
        assert!(reason.contains("written out"), "{reason}");
    }

    #[test]
    fn a_function_that_calls_itself_is_refused() {
        let reason = calling(true).import(&Default::default()).unwrap_err()[0].to_string();
        assert!(reason.contains("call one another"), "{reason}");
    }
}
