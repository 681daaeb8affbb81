//! Parts of a model: what is computed from some of its tensors, which are given, up to others.
//!
//! A part is cut out of a canonical module, in which tensors have the names of the model. It serves a search for the op that
//! breaks a model, in which floats go on from the tensors of the integers, and makes a small model of a large one.

use crate::inside::Names;
use crate::{CompileError, Compiler, ModelFile, Portable, pipeline};
use qc_dialects::graph::{Constant, Dequantize};
use qc_frontend::{Imported, Port, Shapes};
use qc_ir::{Elem, Module, NoSink, ValueId};
use qc_runtime::Predictor;
use std::collections::BTreeSet;

/// Which part of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cut {
    /// Tensors that are given instead of computed. Those that the part does not need are no inputs of it.
    pub given: Vec<String>,
    /// Tensors that it computes; none of them is given.
    pub wanted: Vec<String>,
}

/// A part of a model as floats.
pub struct Part {
    /// What runs it.
    pub predictor: Predictor,
    /// Names of its inputs: tensors that are given, and inputs of the model that it still reads.
    pub inputs: Vec<String>,
}

impl Compiler {
    /// Compiles a part of a model in floats, without quantization.
    ///
    /// # Errors
    /// As [`Compiler::compile`]; a tensor that the model does not have.
    pub fn float_part(&self, file: &ModelFile, at: &Shapes, cut: &Cut) -> Result<Part, CompileError> {
        let compiler = self.in_floats();
        let mut imported = compiler.import_at(file, at, None)?;
        compiler.run(&mut imported.module, &pipeline::float(&compiler.options), &mut NoSink)?;
        cut_out(&mut imported, cut)?;
        let outputs = imported.outputs.iter().map(crate::port).collect();
        let module = imported.module.clone();
        compiler.run(&mut imported.module, &pipeline::plain(pipeline::INT8), &mut NoSink)?;
        let inside = compiler.shown(file, imported, module, outputs)?;
        Ok(Part { predictor: inside.predictor, inputs: inside.inputs })
    }

    /// Writes a part of a model as ONNX, with its pairs, or those that the options' ranges make of it. Gives the names of its inputs, too.
    ///
    /// # Errors
    /// As [`Compiler::portable`]; a tensor that the model does not have.
    pub fn portable_part(
        &self,
        file: &ModelFile,
        at: &Shapes,
        cut: &Cut,
        data_file: &str,
    ) -> Result<(Portable, Vec<String>), CompileError> {
        let mut model = self.import_at(file, at, None)?;
        self.run(&mut model.module, &pipeline::float(&self.options), &mut NoSink)?;
        cut_out(&mut model, cut)?;
        let batch = model.inputs.first().and_then(|port| port.dims.first().copied()).unwrap_or(1);
        self.as_pairs(&mut model)?;
        let inputs = model.inputs.iter().map(|port| port.name.clone()).collect();
        let why = "it is a part of a model".into();
        Ok((self.written(file, (&model, None), data_file, Some((batch, why)))?, inputs))
    }
}

/// The float value of each tensor of a canonical module, by the name that it has in the float model: where a pair rounds it, what is
/// before it and what is behind.
fn named(m: &mut Module) -> Vec<(String, ValueId)> {
    let names = Names::of(m);
    let mut found = Vec::new();
    for op in m.ops(m.body()).iter().copied().filter(|&op| !m.is(op, Constant::DEF)) {
        for &v in m.results(op).iter().filter(|&&v| m.ty(v).tensor().is_some_and(|t| t.elem == Elem::F32)) {
            let q = Dequantize::of(m, op).map(|d| d.q(m));
            let name = m.name(v).or_else(|| q.and_then(|q| m.name(q)));
            found.extend(name.map(|name| (names.float(name).to_string(), v)));
        }
    }
    found
}

/// Leaves of a model what a part needs.
fn cut_out(model: &mut Imported, cut: &Cut) -> Result<(), CompileError> {
    let m = &mut model.module;
    let (body, all) = (m.body(), named(m));
    let missing = |name: &String| CompileError::Option(format!("the model has no tensor \"{name}\""));
    // Of a tensor and what its pair makes of it: the first is given, so that it is rounded; the last is what is wanted.
    let last = |name: &String| all.iter().rev().find(|(n, _)| n == name).map(|(_, v)| *v).ok_or_else(|| missing(name));
    let wanted: Vec<ValueId> = cut.wanted.iter().map(last).collect::<Result<_, _>>()?;
    let given: Vec<(&String, ValueId)> = cut
        .given
        .iter()
        .map(|name| Ok((name, all.iter().find(|(n, _)| n == name).ok_or_else(|| missing(name))?.1)))
        .collect::<Result<_, CompileError>>()?;
    m.set_returns(body, &wanted);
    let reached = reached(m, &wanted, &given.iter().map(|(_, v)| *v).collect());
    let mut free: Vec<usize> = (0..m.args(body).len()).filter(|&i| !reached.contains(&m.args(body)[i])).collect();
    free.reverse();
    for (name, v) in given.into_iter().filter(|(_, v)| reached.contains(v)) {
        let (ty, dims) = (m.ty(v).clone(), m.dims(v).to_vec());
        let port = Port { name: name.clone(), elem: Elem::F32, batched: false, dims, counted: None };
        // An input that nothing reads any more makes room; what still reads it is dead.
        let arg = match free.pop() {
            Some(i) => {
                let arg = m.args(body)[i];
                m.set_type(arg, ty);
                model.inputs[i] = port;
                arg
            }
            None => {
                model.inputs.push(port);
                m.add_arg(body, ty)
            }
        };
        m.set_name(arg, name);
        m.replace_uses(v, arg);
    }
    qc_ir::remove_dead(m, body);
    let output = |(name, v): (&String, &ValueId)| Port {
        name: name.clone(),
        elem: Elem::F32,
        dims: m.dims(*v).to_vec(),
        batched: false,
        counted: None,
    };
    model.outputs = cut.wanted.iter().zip(m.returns(body)).map(output).collect();
    let main = m.funcs().next().map(|(id, _)| id);
    if let Some(main) = main {
        m.func_mut(main).outputs = cut.wanted.iter().map(|name| name.as_str().into()).collect();
    }
    Ok(())
}

/// What of `given` and of the model's inputs `wanted` is computed from.
fn reached(m: &Module, wanted: &[ValueId], given: &BTreeSet<ValueId>) -> BTreeSet<ValueId> {
    let (mut left, mut seen) = (wanted.to_vec(), BTreeSet::new());
    while let Some(v) = left.pop() {
        if !seen.insert(v) || given.contains(&v) {
            continue;
        }
        left.extend(m.producer(v).into_iter().flat_map(|op| m.operands(op).iter().flatten().copied()));
    }
    seen
}
