//! Paddle 3 programs: JSON in the vocabulary of Paddle's new dialects, read as the program that they stand for.
//!
//! ```text
//! before  {"#": "p", "A": [.., "w"], "O": {"%": 1}}                      a parameter
//!         {"#": "1.full_int_array", "A": [value = [2, 2]], "O": [%8]}
//!         {"#": "1.pool2d", "A": [..], "I": [%7, %8], "O": [%9]}
//! after   variable w, persistable
//!         assign_value(int64_values = [2, 2]) -> Out = full_int_array.8
//!         pool2d(X = relu.7, KernelSize = full_int_array.8, ..) -> Out = pool2d.9
//! ```
//!
//! Lists of tensors (`builtin.combine`, `split`, `slice`) become slots with several variables, and vanish. From here on
//! there is one importer for all generations of Paddle.

mod file;
pub(crate) mod ops;
pub(crate) mod row;
#[cfg(test)]
pub(crate) mod tests;

use super::Program;
use super::program::{BlockDesc, LoDTensorDesc, OpAttr, OpDesc, OpVar, TensorDesc, VarDesc, VarType};
use crate::error::{ImportError, ImportErrors};
use crate::walk::Label;
use file::{File, NewValue, Node, dense, list_len, tagged, type_number};
use serde_json::Value;
use std::collections::HashMap;

/// Programs of this format have the meaning of ops of this Paddle version.
const VERSION_3: i64 = 3_000_000;
/// How often a program may name variables: hundred times what large ones do.
const MAX_NAMED: usize = 1 << 20;
/// The kind of variable that is a dense tensor.
const DENSE: i32 = 7;

/// Reads a program.
///
/// # Errors
/// When the file is no such program, with the place where it breaks.
pub(super) fn read(bytes: &[u8]) -> Result<Program, ImportErrors> {
    let broken = |reason: String| ImportErrors::from(ImportError::Broken { reason });
    let file: File = serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()))?;
    if file.base_code.magic != "pir" {
        return Err(broken(format!("the magic word is {:?}, not \"pir\"", file.base_code.magic)));
    }
    let main = file.program.regions.first().and_then(|r| r.blocks.first());
    let main = main.ok_or_else(|| broken("the program has no block".into()))?;
    let mut t = Translation::default();
    for node in &main.ops {
        t.node(node).map_err(|reason| broken(format!("op {} ({})", describe(node), reason)))?;
    }
    Ok(Program {
        block: BlockDesc { vars: t.vars, ops: t.ops },
        labels: t.labels,
        inner: t.inner,
        version: VERSION_3,
        format: format!("Paddle 3 program, format version {}", file.base_code.version),
        separate: false,
    })
}

/// An op for messages about the file: its full name and its first result.
fn describe(node: &Node) -> String {
    let id = node.results.list().first().map_or(0, |r| r.id);
    format!("{} %{id}", full_name(&node.name))
}

/// `1.conv2d` as `pd_op.conv2d`.
fn full_name(name: &str) -> String {
    let Some((dialect, op)) = name.split_once('.') else { return name.into() };
    let dialect = match dialect {
        "0" => "builtin",
        "1" => "pd_op",
        "2" => "cf",
        "3" => "custom_op",
        "4" => "pd_dist",
        other => other,
    };
    format!("{dialect}.{op}")
}

/// The program made so far.
#[derive(Default)]
struct Translation {
    vars: Vec<VarDesc>,
    ops: Vec<OpDesc>,
    labels: Vec<Label>,
    /// Ops in the bodies of control flow.
    inner: Vec<Label>,
    /// The variables that each value stands for: several for a list.
    names: HashMap<i64, Vec<String>>,
    feeds: i32,
    /// Variables written as operands so far. A list counts each time it is used.
    named: usize,
}

impl Translation {
    fn node(&mut self, node: &Node) -> Result<(), String> {
        match node.name.as_str() {
            "p" | "0.parameter" => self.parameter(node),
            "0.combine" => {
                let all = self.operands(node)?;
                if all.iter().any(|names| names.len() != 1) {
                    return Err("a part of it is no tensor".into());
                }
                self.name(node, 0, all.concat())
            }
            "0.split" => {
                let all = self.operands(node)?.concat();
                let parts = all.into_iter().enumerate();
                parts.take(node.results.list().len()).try_for_each(|(i, name)| self.name(node, i, vec![name]))
            }
            "0.slice" => {
                let all = self.operands(node)?.concat();
                let index = attr(node, "index").and_then(Value::as_u64).ok_or("it has no index")?;
                let part = usize::try_from(index).ok().and_then(|i| all.get(i)).ok_or("its index is outside")?;
                self.name(node, 0, vec![part.clone()])
            }
            "1.data" | "1.feed" => self.feed(node),
            "1.fetch" => self.fetch(node),
            _ => self.op(node),
        }
    }

    fn parameter(&mut self, node: &Node) -> Result<(), String> {
        let plain = node.attrs.get(3).and_then(Value::as_str);
        let name = plain.or_else(|| attr(node, "parameter_name").and_then(Value::as_str)).ok_or("it has no name")?;
        let ty = &node.results.list().first().ok_or("it has no result")?.ty;
        // What is not stored, such as the random state of a dropout, is left out where it is an operand.
        if node.others.first().is_some_and(|stored| stored.as_u64() == Some(0)) {
            return self.name(node, 0, Vec::new());
        }
        self.vars.push(var(name, dense(ty), true));
        self.name(node, 0, vec![name.into()])
    }

    /// `data` inputs are in the order of their ops, `feed` inputs have columns.
    fn feed(&mut self, node: &Node) -> Result<(), String> {
        let name = attr(node, "name").and_then(Value::as_str).ok_or("it has no name")?;
        let ty = &node.results.list().first().ok_or("it has no result")?.ty;
        self.vars.push(var(name, dense(ty), false));
        let column = attr(node, "col").and_then(Value::as_i64).and_then(|c| i32::try_from(c).ok());
        self.push_port(
            "feed",
            slot("X", vec!["feed".into()]),
            slot("Out", vec![name.into()]),
            column.unwrap_or(self.feeds),
        );
        self.feeds = self.feeds.saturating_add(1);
        self.name(node, 0, vec![name.into()])
    }

    /// A `fetch` names what it takes.
    fn fetch(&mut self, node: &Node) -> Result<(), String> {
        let taken = self.operands(node)?.concat();
        let name = attr(node, "name").and_then(Value::as_str).ok_or("it has no name")?;
        let column = attr(node, "col").and_then(Value::as_i64).and_then(|c| i32::try_from(c).ok());
        let column = column.ok_or("it has no column")?;
        let ty = node.results.list().first().map_or(&Value::Null, |r| &r.ty);
        self.vars.push(var(name, dense(ty), false));
        self.labels.push(Label { node: format!("fetch:{name}"), op_type: full_name(&node.name) });
        self.ops.push(OpDesc {
            inputs: vec![slot("X", taken)],
            outputs: vec![slot("Out", vec![name.into()])],
            r#type: "assign".into(),
            attrs: Vec::new(),
        });
        self.push_port("fetch", slot("X", vec![name.into()]), slot("Out", vec!["fetch".into()]), column);
        Ok(())
    }

    fn push_port(&mut self, kind: &str, from: OpVar, to: OpVar, column: i32) {
        let attrs = vec![OpAttr { name: "col".into(), kind: 0, i: Some(column), ..Default::default() }];
        self.ops.push(OpDesc { inputs: vec![from], outputs: vec![to], r#type: kind.into(), attrs });
        self.labels.push(Label { node: String::new(), op_type: String::new() });
    }

    fn op(&mut self, node: &Node) -> Result<(), String> {
        let row = node.name.strip_prefix("1.").and_then(ops::find);
        let mut inputs = Vec::new();
        for (i, names) in self.operands(node)?.into_iter().enumerate().filter(|(_, names)| !names.is_empty()) {
            let name = match row {
                Some(row) => *row.inputs.get(i).ok_or_else(|| format!("operand {i} is not known"))?,
                None => "X",
            };
            inputs.push(slot(name, names));
        }
        let (mut results, mut outputs) = (Vec::new(), Vec::new());
        for (i, result) in node.results.list().iter().enumerate().filter(|(_, r)| r.id != 0) {
            let names = result_names(node, result);
            if i == 0 || row.is_none() {
                results.extend(names.clone());
            } else if let Some(more) = row.and_then(|row| row.more.get(i - 1)) {
                outputs.push(slot(more, names.clone()));
            }
            self.name(node, i, names)?;
        }
        outputs.insert(0, slot(row.map_or("Out", |r| r.output), results));
        let r#type = row.map_or_else(|| full_name(&node.name), |r| r.program.to_string());
        let mut attrs = Vec::new();
        if let Some(row) = row {
            for pair in &node.attrs {
                attrs.extend(program_attr(pair, row));
            }
            constants(node, row, &mut attrs);
        }
        self.labels.push(label(node));
        self.ops.push(OpDesc { inputs, outputs, r#type, attrs });
        let mut bodies: Vec<&Node> = nodes(&node.regions).collect();
        while let Some(inner) = bodies.pop() {
            if inner.name.starts_with("1.") && inner.name.strip_prefix("1.").and_then(ops::find).is_none() {
                self.inner.push(label(inner));
            }
            bodies.extend(nodes(&inner.regions));
        }
        Ok(())
    }

    /// The variables of every operand; none for one that was left out.
    fn operands(&mut self, node: &Node) -> Result<Vec<Vec<String>>, String> {
        let mut all = Vec::new();
        for o in &node.operands {
            let names = match (o.id, self.names.get(&o.id)) {
                (0, _) => Vec::new(),
                (_, Some(names)) => names.clone(),
                (id, None) => return Err(format!("operand %{id} is not defined before it")),
            };
            self.named += names.len();
            if self.named > MAX_NAMED {
                return Err(format!("the program names its variables more than {MAX_NAMED} times"));
            }
            all.push(names);
        }
        Ok(all)
    }

    fn name(&mut self, node: &Node, result: usize, names: Vec<String>) -> Result<(), String> {
        let id = node.results.list().get(result).ok_or("it has no result")?.id;
        match self.names.insert(id, names) {
            None => Ok(()),
            Some(_) => Err(format!("the value %{id} is defined twice")),
        }
    }
}

fn nodes(regions: &[file::Region]) -> impl Iterator<Item = &Node> {
    regions.iter().flat_map(|r| &r.blocks).flat_map(|b| &b.ops)
}

/// The module path that Paddle notes, the op and its first result: what finds an op in the source and in the file.
fn label(node: &Node) -> Label {
    let path = attr(node, "struct_name").and_then(Value::as_str).unwrap_or("").trim_matches('/');
    let op = op_word(node);
    let id = node.results.list().first().map_or(0, |r| r.id);
    let join = if path.is_empty() { "" } else { "/" };
    Label { node: format!("{path}{join}{op}:%{id}"), op_type: full_name(&node.name) }
}

/// Variables are named after the op and the value: `conv2d.12`, or `split.7.0` for a part of a list.
fn result_names(node: &Node, result: &NewValue) -> Vec<String> {
    let (op, id) = (op_word(node), result.id);
    match list_len(&result.ty) {
        None => vec![format!("{op}.{id}")],
        Some(len) => (0..len).map(|i| format!("{op}.{id}.{i}")).collect(),
    }
}

fn op_word(node: &Node) -> &str {
    node.name.split_once('.').map_or(node.name.as_str(), |(_, op)| op)
}

fn slot(parameter: &str, arguments: Vec<String>) -> OpVar {
    OpVar { parameter: parameter.into(), arguments }
}

fn var(name: &str, ty: Option<(i32, Vec<i64>)>, persistable: bool) -> VarDesc {
    let tensor = ty.map(|(data_type, dims)| LoDTensorDesc { tensor: TensorDesc { data_type, dims }, lod_level: None });
    VarDesc { name: name.into(), r#type: VarType { kind: DENSE, tensor }, persistable: Some(persistable) }
}

/// The payload of an attribute.
fn attr<'a>(node: &'a Node, name: &str) -> Option<&'a Value> {
    let found = node.attrs.iter().find(|a| a.get("N").and_then(Value::as_str) == Some(name))?;
    tagged(found.get("AT")?).map(|(_, payload)| payload)
}

/// An attribute as a program has it; `None` for one that no op reads.
fn program_attr(pair: &Value, row: &row::Row) -> Option<OpAttr> {
    let own = pair.get("N")?.as_str()?;
    let name = row.renamed.iter().find(|(from, _)| *from == own).map_or(own, |(_, to)| to);
    let (tag, payload) = tagged(pair.get("AT")?)?;
    let blank = |kind: i32| OpAttr { name: name.into(), kind, ..Default::default() };
    Some(match tag {
        "a_bool" => OpAttr { b: payload.as_bool().or_else(|| payload.as_i64().map(|i| i != 0)), ..blank(6) },
        "a_i32" => OpAttr { i: payload.as_i64().and_then(|i| i32::try_from(i).ok()), ..blank(0) },
        "a_i64" | "a_index" => OpAttr { l: payload.as_i64(), ..blank(9) },
        "a_f32" | "a_f64" => OpAttr { float64: number(payload), ..blank(15) },
        "a_str" | "a_layout" => OpAttr { s: Some(payload.as_str()?.as_bytes().to_vec().into()), ..blank(2) },
        "a_dtype" => OpAttr { i: Some(type_number(payload.as_str()?)?), ..blank(0) },
        "a_intarray" => OpAttr { longs: payload.as_array()?.iter().filter_map(Value::as_i64).collect(), ..blank(11) },
        "a_scalar" => OpAttr { float64: number(payload.as_array()?.get(1)?), ..blank(15) },
        "a_array" => list(payload.as_array()?, blank)?,
        _ => return None,
    })
}

fn list(items: &[Value], blank: impl Fn(i32) -> OpAttr) -> Option<OpAttr> {
    let inner: Vec<(&str, &Value)> = items.iter().filter_map(tagged).collect();
    let floats = inner.iter().any(|(tag, _)| matches!(*tag, "a_f32" | "a_f64"));
    if floats {
        return Some(OpAttr { float64s: inner.iter().filter_map(|(_, v)| number(v)).collect(), ..blank(12) });
    }
    let int = |v: &Value| v.as_i64().or_else(|| v.as_bool().map(i64::from));
    let longs: Vec<i64> = inner.iter().filter_map(|(_, v)| int(v)).collect();
    (longs.len() == items.len()).then(|| OpAttr { longs, ..blank(11) })
}

/// A number; what JSON cannot write is a word.
fn number(v: &Value) -> Option<f64> {
    v.as_f64().or_else(|| match v.as_str()? {
        "NAN" => Some(f64::NAN),
        "INF" => Some(f64::INFINITY),
        "-INF" => Some(f64::NEG_INFINITY),
        _ => None,
    })
}

/// Puts the values of ops that make constants where a program has them.
fn constants(node: &Node, row: &row::Row, attrs: &mut Vec<OpAttr>) {
    let find = |attrs: &[OpAttr], name: &str| attrs.iter().position(|a| a.name == name);
    match (row.name, find(attrs, "value"), find(attrs, "values")) {
        // Integers beyond 2^24 do not survive as floats; a program writes them as text.
        ("full", Some(at), _) if !is_float(attr(node, "dtype")) => {
            let text = attrs[at].float64.map(|v| format!("{}", v as i64)).unwrap_or_default();
            attrs.push(OpAttr {
                name: "str_value".into(),
                kind: 2,
                s: Some(text.into_bytes().into()),
                ..Default::default()
            });
        }
        ("full_int_array", Some(at), _) => {
            let longs = attrs[at].longs.clone();
            let shape =
                OpAttr { name: "shape".into(), kind: 11, longs: vec![longs.len() as i64], ..Default::default() };
            attrs[at].name = "int64_values".into();
            attrs.push(shape);
        }
        ("assign_value", _, Some(at)) => {
            attrs[at].name = if attrs[at].float64s.is_empty() { "int64_values" } else { "fp64_values" }.into();
        }
        _ => {}
    }
}

fn is_float(dtype: Option<&Value>) -> bool {
    let word = dtype.and_then(Value::as_str).unwrap_or("float32");
    word.starts_with("float") || word.starts_with("bfloat")
}
