//! The walk over a model's nodes: one for all front ends.
//!
//! A front end decodes a file and says what its nodes are called, what they read and how each is lowered ([`FrontEnd`]).
//! The walk keeps what names stand for, names nodes in locations, reports what becomes of each, collects what is wrong,
//! and gives the module its inputs and outputs. A node that is refused makes its outputs fail; their users are left out
//! without a word, so that one cause is one finding.

use crate::emit::{Graph, Value};
use crate::error::{ImportError, ImportErrors, MAX_ERRORS, Refusal};
use crate::inputs::{self, Shapes};
use crate::options::{Disposition, Imported, NodeReport, Port};
use qc_ir::{Counted, Deadline, Elem, HostTensor};
use std::collections::{BTreeMap, HashMap};

/// What a node is called for people.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub node: String,
    pub op_type: String,
}

impl Label {
    /// Why this node cannot be imported.
    pub fn error(&self, refusal: Refusal) -> ImportError {
        let Refusal { reason, remedy, .. } = refusal;
        ImportError::Node { node: self.node.clone(), op_type: self.op_type.clone(), reason, remedy, needs: Vec::new() }
    }
}

/// What a node gave.
pub(crate) struct Emitted<'a, T> {
    /// Names with their tensors; none for an output that is not computed.
    pub outputs: Vec<(&'a str, Option<T>)>,
    /// Why it needs no op, if it needs none.
    pub why: &'static str,
}

/// A kind of model.
pub(crate) trait FrontEnd<'a> {
    /// A node of the model.
    type Node: Copy;
    /// How nodes of a type are lowered.
    type Operator;
    /// What a name stands for.
    type Tensor: Clone;

    /// Whether an empty name stands for an input that is left out.
    const EMPTY_IS_LEFT_OUT: bool;
    /// What is said of a name that nothing defines.
    const UNDEFINED: &'static str;

    fn label(&self, node: Self::Node) -> Label;

    /// How the node is lowered.
    ///
    /// # Errors
    /// When its operator is not known.
    fn operator(&self, node: Self::Node) -> Result<Self::Operator, Refusal>;

    /// The tensors that a node reads, by slot. Of a slot, what follows a name that fails is not looked at.
    fn reads(&self, node: Self::Node) -> Vec<&'a [String]>;

    /// All names that a node writes.
    fn writes(&self, node: Self::Node) -> impl Iterator<Item = &'a str>;

    /// The constant of the model that has this name.
    fn constant(&self, g: &mut Graph, name: &str) -> Option<Result<Self::Tensor, ImportError>>;

    /// Lowers a node whose tensors, by slot, are `inputs`.
    ///
    /// # Errors
    /// What is wrong with it.
    fn emit(
        &mut self,
        walk: &mut Walk<'a, Self::Tensor>,
        node: Self::Node,
        operator: Self::Operator,
        inputs: Vec<Vec<Option<Self::Tensor>>>,
    ) -> Result<Emitted<'a, Self::Tensor>, Refusal>;

    /// What a tensor is made of.
    fn value(tensor: &Self::Tensor) -> &Value;

    /// The value of a tensor that the model gives back.
    ///
    /// # Errors
    /// When it has none.
    fn output(&mut self, g: &mut Graph, tensor: Self::Tensor) -> Result<Value, Refusal>;

    /// What is wrong with a model that gives back what nothing defines.
    fn undefined_output(name: &str) -> ImportError;
}

/// What a name stands for.
enum Slot<T> {
    Ready(T),
    /// Its producer was refused; users are not reported again.
    Failed,
}

/// What names stood for outside a graph.
pub(crate) struct Hidden<'a, T>(Vec<(&'a str, Option<Slot<T>>)>);

/// A walk under way; `T` is what a name stands for.
pub(crate) struct Walk<'a, T> {
    pub g: Graph,
    env: HashMap<&'a str, Slot<T>>,
    pub errors: Vec<ImportError>,
    report: Vec<NodeReport>,
    inputs: Vec<Port>,
    deadline: Option<Deadline>,
}

/// What is wrong with live nodes that can be told without shapes: that their operators are not known.
pub(crate) fn unknown<'a, F: FrontEnd<'a>>(front: &F, nodes: &[(F::Node, bool)]) -> Vec<ImportError> {
    let live = nodes.iter().filter(|(_, live)| *live);
    live.filter_map(|&(node, _)| Some(front.label(node).error(front.operator(node).err()?))).collect()
}

impl<'a, T: Clone> Walk<'a, T> {
    /// A walk over a model called `name`.
    pub fn new(name: &str, deadline: Option<Deadline>) -> Walk<'a, T> {
        let mut g = Graph::new(name);
        g.deadline = deadline;
        Walk { g, env: HashMap::new(), errors: Vec::new(), report: Vec::new(), inputs: Vec::new(), deadline }
    }

    /// Says what a name stands for.
    pub fn define(&mut self, name: &'a str, tensor: T) {
        self.env.insert(name, Slot::Ready(tensor));
    }

    /// What a name stands for so far.
    pub fn get(&self, name: &str) -> Option<&T> {
        match self.env.get(name) {
            Some(Slot::Ready(tensor)) => Some(tensor),
            Some(Slot::Failed) | None => None,
        }
    }

    /// Forgets what names stand for, since a graph inside has names of its own; [`Walk::restore`] remembers it.
    pub fn hide(&mut self, names: &[&'a str]) -> Hidden<'a, T> {
        Hidden(names.iter().map(|&name| (name, self.env.remove(name))).collect())
    }

    /// Gives names back what they stood for.
    pub fn restore(&mut self, hidden: Hidden<'a, T>) {
        for (name, slot) in hidden.0.into_iter().rev() {
            self.env.remove(name);
            self.env.extend(slot.map(|slot| (name, slot)));
        }
    }

    /// How far the lists of errors and of nodes are.
    pub fn mark(&self) -> [usize; 2] {
        [self.errors.len(), self.report.len()]
    }

    /// Forgets what was found behind a mark; the errors are given back.
    pub fn back_to(&mut self, mark: [usize; 2]) -> Vec<ImportError> {
        self.report.truncate(mark[1]);
        self.errors.split_off(mark[0].min(self.errors.len()))
    }

    /// What a name stands for that a graph inside gives back; `None` if it failed.
    pub fn named<F: FrontEnd<'a, Tensor = T>>(&mut self, front: &F, name: &'a str) -> Option<T> {
        self.lookup(front, name, || F::undefined_output(name))
    }

    /// Makes the model's inputs, given with their element types, of these shapes.
    ///
    /// Those of `values` are constants instead.
    pub fn inputs(
        &mut self,
        ports: impl Iterator<Item = (&'a str, Result<Elem, ImportError>)>,
        shapes: &Shapes,
        values: &BTreeMap<String, HostTensor>,
    ) where
        T: From<Value>,
    {
        for ((name, elem), (dims, batched)) in ports.zip(&shapes.inputs) {
            match elem {
                Ok(elem) if values.contains_key(name) => match inputs::constant(name, &values[name], elem, dims) {
                    Ok(constant) => self.define(name, Value::from(constant).named(name).into()),
                    Err(e) => self.fail(name, e),
                },
                Ok(elem) => {
                    let value = self.g.input(name, elem, dims);
                    self.define(name, value.into());
                    let (name, dims, batched) = (name.into(), dims.clone(), *batched);
                    self.inputs.push(Port { name, elem, dims, batched, counted: None });
                }
                Err(e) => self.fail(name, e),
            }
        }
    }

    /// Notes why nothing is known of a name.
    fn fail(&mut self, name: &'a str, e: ImportError) {
        self.errors.push(e);
        self.env.insert(name, Slot::Failed);
    }

    /// Lowers the nodes, each given with whether an output of the model depends on it, in their order.
    pub fn nodes<F: FrontEnd<'a, Tensor = T>>(&mut self, front: &mut F, nodes: &[(F::Node, bool)]) {
        for &(node, live) in nodes {
            if self.errors.len() >= MAX_ERRORS {
                break;
            }
            let label = front.label(node);
            let id = self.g.at_node(&label.node, &label.op_type);
            let disposition = if live {
                self.node(front, node, &label)
            } else {
                Some(Disposition::Folded("no output of the model depends on it"))
            };
            if let Some(disposition) = disposition {
                let Label { node, op_type } = label;
                self.report.push(NodeReport { id, node, op_type, disposition });
            }
            if let Some(Err(over)) = self.deadline.map(|d| d.check()) {
                self.errors.push(over.into());
                break;
            }
        }
    }

    /// Lowers one node; `None` when it was refused.
    fn node<F: FrontEnd<'a, Tensor = T>>(
        &mut self,
        front: &mut F,
        node: F::Node,
        label: &Label,
    ) -> Option<Disposition> {
        let operator = front.operator(node).map_err(|refusal| self.errors.push(label.error(refusal))).ok();
        let inputs = self.resolve(front, node, label);
        let before = self.g.made();
        let emitted = operator.zip(inputs).and_then(|(operator, inputs)| {
            let counted = inputs.iter().flatten().flatten().any(|t| self.g.rows_of(F::value(t)).is_some());
            let emitted = front.emit(self, node, operator, inputs).and_then(|emitted| {
                let made = emitted.outputs.iter().filter_map(|(_, t)| t.as_ref().map(F::value));
                if counted {
                    self.g.expect_counted(made)?
                }
                Ok(emitted)
            });
            emitted.map_err(|refusal| self.refuse(label, refusal)).ok()
        });
        let Some(Emitted { outputs, why }) = emitted else {
            self.env.extend(front.writes(node).map(|name| (name, Slot::Failed)));
            return None;
        };
        self.env.extend(outputs.into_iter().map(|(name, tensor)| (name, tensor.map_or(Slot::Failed, Slot::Ready))));
        Some(if self.g.made() > before { Disposition::Mapped } else { Disposition::Folded(why) })
    }

    /// Notes why a node cannot be imported, and the inputs of the model that would have to be constants for it to be.
    fn refuse(&mut self, label: &Label, refusal: Refusal) {
        let from = refusal.computed.map(|v| self.g.inputs_behind(v)).unwrap_or_default();
        let mut error = label.error(refusal);
        if let (ImportError::Node { remedy, needs, .. }, false) = (&mut error, from.is_empty()) {
            let options: Vec<String> = from.iter().map(|name| format!("`--input {name}=VALUE`")).collect();
            *remedy = format!("compile it for one value of its input with {}, or {remedy}", options.join(" and "));
            *needs = from;
        }
        self.errors.push(error);
    }

    /// The tensors that a node reads; `None` if one comes from a refused node or is itself at fault.
    fn resolve<F: FrontEnd<'a, Tensor = T>>(
        &mut self,
        front: &F,
        node: F::Node,
        label: &Label,
    ) -> Option<Vec<Vec<Option<T>>>> {
        let mut slots = Some(Vec::new());
        for names in front.reads(node) {
            let one = |name: &'a String| match F::EMPTY_IS_LEFT_OUT && name.is_empty() {
                true => Some(None),
                false => {
                    let reason = || format!("\"{name}\" is neither an input, {}", F::UNDEFINED);
                    self.lookup(front, name, || label.error(Refusal::invalid(reason()))).map(Some)
                }
            };
            let tensors: Option<Vec<Option<T>>> = names.iter().map(one).collect();
            slots = slots.zip(tensors).map(|(mut list, tensors)| {
                list.push(tensors);
                list
            });
        }
        slots
    }

    /// What a name stands for; the first time that nothing defines it, `undefined` is reported.
    fn lookup<F: FrontEnd<'a, Tensor = T>>(
        &mut self,
        front: &F,
        name: &'a str,
        undefined: impl FnOnce() -> ImportError,
    ) -> Option<T> {
        match self.env.get(name) {
            Some(Slot::Ready(tensor)) => return Some(tensor.clone()),
            Some(Slot::Failed) => return None,
            None => {}
        }
        match front.constant(&mut self.g, name).unwrap_or_else(|| Err(undefined())) {
            Ok(tensor) => {
                self.define(name, tensor.clone());
                Some(tensor)
            }
            Err(e) => {
                self.fail(name, e);
                None
            }
        }
    }

    /// Says which outputs a run fills in part, by which others; numbers of rows that are no output yet become one, `NAME.rows`.
    fn counted_outputs(&mut self, values: &mut Vec<(String, Value)>, ports: &mut Vec<Port>) {
        for i in 0..values.len() {
            let Some(rows) = self.g.rows_of(&values[i].1) else { continue };
            if ports[i].dims[rows.axis] != rows.room {
                let reason = format!("its dim {} has several numbers for each row that a run finds", rows.axis);
                let remedy = "export the model with an output that has a dim for the rows alone".into();
                self.errors.push(ImportError::Port { name: ports[i].name.clone(), reason, remedy });
                continue;
            }
            let same = |(_, v): &(String, Value)| matches!(v, Value::Runtime(v) if *v == rows.counts);
            let by = values.iter().position(same).unwrap_or_else(|| {
                let (name, counts) = (format!("{}.rows", ports[i].name), Value::Runtime(rows.counts));
                let (dims, elem) = (self.g.dims(&counts), self.g.elem(&counts));
                ports.push(Port { name: name.clone(), elem, dims, batched: false, counted: None });
                values.push((name, counts));
                values.len() - 1
            });
            ports[i].counted = Some(Counted { axis: rows.axis, by });
        }
    }

    /// Gives back the module, whose outputs have these names.
    ///
    /// # Errors
    /// Everything that was found.
    pub fn finish<F: FrontEnd<'a, Tensor = T>>(
        mut self,
        front: &mut F,
        outputs: impl Iterator<Item = &'a str>,
        fixed_batch: Option<i64>,
        format: String,
    ) -> Result<Imported, ImportErrors> {
        let (mut values, mut ports) = (Vec::new(), Vec::new());
        for name in outputs {
            let Some(tensor) = self.lookup(front, name, || F::undefined_output(name)) else { continue };
            match front.output(&mut self.g, tensor) {
                Ok(value) => {
                    let (dims, elem) = (self.g.dims(&value), self.g.m.storage(self.g.elem(&value)));
                    ports.push(Port { name: name.into(), elem, dims, batched: false, counted: None });
                    values.push((name.to_string(), value));
                }
                Err(Refusal { reason, remedy, .. }) => {
                    self.errors.push(ImportError::Port { name: name.into(), reason, remedy });
                }
            }
        }
        self.counted_outputs(&mut values, &mut ports);
        if !self.errors.is_empty() {
            return Err(ImportErrors { list: self.errors });
        }
        let module = self.g.finish(&values);
        Ok(Imported { module, inputs: self.inputs, outputs: ports, report: self.report, fixed_batch, format })
    }
}
