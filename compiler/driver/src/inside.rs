//! Programs that show what is inside of a model: every float tensor that has a name is an output, and every quantized one as the floats
//! that it stands for.
//!
//! What is shown is added to a module whose ops are chosen already, so nothing else is computed than without it.

use crate::{CompileError, CompileOptions, Compiled, Compiler, ModelFile, Program, Ranges, pipeline, ports, ranges};
use qc_codegen::image::Port;
use qc_dialects::graph::{Constant, Dequantize, Quantize, Scan};
use qc_frontend::{Imported, Shapes};
use qc_ir::{Attrs, Builder, Diag, Elem, Memo, Module, NoSink, RegionId, Step, TensorTy, Type, ValueId};
use qc_runtime::Predictor;
use std::collections::{BTreeMap, HashMap};

/// A program with its tensors as outputs.
pub struct Inside {
    /// What runs it.
    pub predictor: Predictor,
    /// The module whose tensors are shown, as it was before.
    pub module: Module,
    /// Names of the inputs' tensors, in model order.
    pub inputs: Vec<String>,
    /// For each tensor that an op computes, the nodes of the model that the op stands for.
    pub nodes: BTreeMap<String, Vec<String>>,
    names: Names,
}

/// Names that tensors have in the float model, by those of their quantized forms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    /// Those of the pairs of a canonical module. Quantized tensors without a name get one, so that what is made of them is found
    /// again.
    pub(crate) fn of(m: &mut Module) -> Names {
        let mut floats: HashMap<ValueId, String> = HashMap::new();
        let mut names = Names::default();
        for op in m.walk(m.body()) {
            let pair = Quantize::of(m, op).map(|q| (q.x(m), q.out(m)));
            let pair = pair.or_else(|| Dequantize::of(m, op).map(|d| (d.q(m), d.out(m))));
            let Some((from, to)) = pair else { continue };
            let float = floats.get(&from).cloned().or_else(|| m.name(from).map(str::to_string));
            let Some(float) = float else { continue };
            match m.name(to) {
                Some(name) => drop(names.0.insert(name.to_string(), float.clone())),
                None => m.set_name(to, &format!("{float}.q")),
            }
            floats.insert(to, float);
        }
        names
    }

    /// The name in the float model; that of what the ranges quantize ends in `.q`.
    pub(crate) fn float<'a>(&'a self, name: &'a str) -> &'a str {
        let plain = name.strip_suffix(".q").unwrap_or(name);
        self.0.get(plain).map_or(plain, |name| name)
    }
}

impl Inside {
    /// Whether an op computes something in integers.
    pub fn is_quantized(&self) -> bool {
        let m = &self.module;
        let quantized = |&v: &ValueId| m.ty(v).tensor().is_some_and(|t| matches!(t.elem, Elem::Quant(_)));
        m.walk(m.body()).into_iter().any(|op| !m.is(op, Constant::DEF) && m.results(op).iter().any(quantized))
    }

    /// The name that a tensor has in the float model.
    pub fn float_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.names.float(name)
    }
}

impl Compiler {
    /// Whether a model says itself how its tensors are quantized.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn states_scales(&self, file: &ModelFile) -> Result<bool, CompileError> {
        let at = self.shapes(file)?.into_iter().next().unwrap_or_default();
        Ok(ranges::is_quantized(&self.import_at(file, &at, None)?.module))
    }

    /// The inside of a model in integers, at the shapes `at`: with the options' ranges, or its own quantization.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn inside(&self, file: &ModelFile, at: &Shapes) -> Result<Inside, CompileError> {
        let mut imported = self.import_at(file, at, None)?;
        imported.module.consts.memo = Memo::default();
        self.run(&mut imported.module, &pipeline::float(&self.options), &mut NoSink)?;
        self.attach(&mut imported.module)?;
        let names = Names::of(&mut imported.module);
        self.run(&mut imported.module, &pipeline::int8(&self.options), &mut NoSink)?;
        let module = imported.module.clone();
        let outputs = show_all(&mut imported.module, &names).map_err(|d| CompileError::from_diag(&d, &module))?;
        Ok(Inside { nodes: nodes(&module, &names), names, ..self.shown(file, imported, module, outputs)? })
    }

    /// The inside of a model in floats, without its quantization: what the inside in integers is compared with.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn float_inside(&self, file: &ModelFile, at: &Shapes) -> Result<Inside, CompileError> {
        let compiler = self.in_floats();
        let mut imported = compiler.import_at(file, at, None)?;
        compiler.run(&mut imported.module, &pipeline::float(&compiler.options), &mut NoSink)?;
        compiler.inside_of_floats(file, imported)
    }

    /// Whether a model has quantize/dequantize pairs of its own.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn is_quantized(&self, file: &ModelFile) -> Result<bool, CompileError> {
        Ok(ranges::is_quantized(&self.canonical(file)?.module))
    }

    /// A compiler of floats, without quantization.
    pub fn in_floats(&self) -> Compiler {
        Compiler::new(CompileOptions {
            precision: crate::Precision::Fp32,
            ranges: None,
            keep_fp32: Vec::new(),
            quantize_ops: Vec::new(),
            ..self.options.clone()
        })
    }

    /// The inside of a canonical float module.
    pub(crate) fn inside_of_floats(&self, file: &ModelFile, mut imported: Imported) -> Result<Inside, CompileError> {
        let module = imported.module.clone();
        let outputs = show_floats(&mut imported.module);
        self.run(&mut imported.module, &pipeline::plain(pipeline::INT8), &mut NoSink)?;
        self.shown(file, imported, module, outputs)
    }

    /// Attaches the options' ranges to a canonical float module.
    pub(crate) fn attach(&self, m: &mut Module) -> Result<(), CompileError> {
        let Some(ranges) = self.options.ranges.as_ref().filter(|_| self.options.precision != crate::Precision::Fp32)
        else {
            return Ok(());
        };
        if ranges::is_quantized(m) {
            // What a search has found for a quantized model is in a file without ranges of tensors.
            if ranges.tensors.is_empty() {
                return give_formats(m, ranges);
            }
            let text = "the model is quantized already, and ranges are for float models; leave --ranges out";
            return Err(CompileError::Option(text.into()));
        }
        if !ranges.rescaled.is_empty() {
            let text = "the ranges file is of a model that is quantized already, and this one is not; calibrate this very model";
            return Err(CompileError::Option(text.into()));
        }
        if !ranges.biases.is_empty() {
            // What stays in f32 is right without a correction.
            let marks: Vec<Step> = pipeline::keep_float(&self.options).into_iter().collect();
            self.run(m, &marks, &mut NoSink)?;
        }
        let known = ranges::attach(m, ranges).map_err(|d| CompileError::from_diag(&d, m))?;
        // A model without float tensors has a file without ranges.
        if known == 0 && !ranges.tensors.is_empty() {
            let text = "the ranges file names no tensor of this model; calibrate this very model";
            return Err(CompileError::Option(text.into()));
        }
        Ok(())
    }

    /// Machine code of a module whose outputs were added to `module`.
    pub(crate) fn shown(
        &self,
        file: &ModelFile,
        imported: Imported,
        module: Module,
        outputs: Vec<Port>,
    ) -> Result<Inside, CompileError> {
        let (inputs, mut m) = (ports(&imported.inputs), imported.module);
        let names = m.args(m.body()).iter().map(|&v| m.name(v).unwrap_or_default().to_string()).collect();
        self.run(&mut m, &pipeline::loops(), &mut NoSink)?;
        let predictor = self.in_process(file, imported.format, (inputs, outputs), m)?;
        let nodes = nodes(&module, &Names::default());
        Ok(Inside { predictor, module, inputs: names, nodes, names: Names::default() })
    }

    /// Machine code of a planned module, for this process.
    pub(crate) fn in_process(
        &self,
        file: &ModelFile,
        format: String,
        (inputs, outputs): (Vec<Port>, Vec<Port>),
        mut m: Module,
    ) -> Result<Predictor, CompileError> {
        self.check_planned(&m)?;
        let tiers = self.options.target.tiers();
        let shapes: Vec<Vec<usize>> = inputs.iter().chain(&outputs).map(|p: &Port| p.dims.clone()).collect();
        let mut variants = Vec::new();
        m.consts.memo = Memo::default();
        for &tier in &tiers {
            let mut selected = m.clone();
            self.run(&mut selected, &pipeline::select(tier), &mut NoSink)?;
            variants.push((tier, Program { shape: 0, batch: 1, module: selected, shapes: shapes.clone() }));
        }
        let compiled = Compiled {
            name: "inside".into(),
            account: Default::default(),
            format,
            passes: Vec::new(),
            inputs,
            outputs,
            whole_batches: Some("tensors are shown per run".into()),
            sha256: file.sha256(),
            tiers,
            variants,
            record: Default::default(),
            limits: self.options.limits.clone(),
        };
        compiled.jit()
    }
}

/// Gives pairs other formats, as a ranges file says.
fn give_formats(m: &mut Module, ranges: &Ranges) -> Result<(), CompileError> {
    let left = ranges::refit(m, ranges).map_err(CompileError::Option)?;
    match left.first() {
        None => Ok(()),
        Some(name) => {
            let text =
                format!("`rescaled` of the ranges file: no pair of the model alone rounds \"{name}\"; leave it out");
            Err(CompileError::Option(text))
        }
    }
}

/// Nodes by the tensors that are computed for them.
fn nodes(m: &Module, floats: &Names) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for op in m.walk(m.body()).into_iter().filter(|&op| !m.is(op, Constant::DEF)) {
        let names: Vec<String> = m.locs.nodes(m.loc(op)).iter().map(|node| node.name.to_string()).collect();
        for name in m.results(op).iter().filter_map(|&v| m.name(v)) {
            found.insert(floats.float(name).to_string(), names.clone());
        }
    }
    found
}

/// The named float tensors that the ops of a region compute.
fn computed(m: &Module, region: RegionId) -> Vec<ValueId> {
    let ops = m.ops(region).iter().filter(|op| !m.is(**op, Constant::DEF));
    let values = ops.flat_map(|&op| m.results(op)).copied();
    values.filter(|v| is_watched(m, *v)).collect()
}

fn is_watched(m: &Module, v: ValueId) -> bool {
    m.ty(v).tensor().is_some_and(|t| t.elem == Elem::F32) && m.name(v).is_some()
}

/// Makes what a scan computes and carries, in all steps, results of it, under the same names.
fn show_steps(m: &mut Module, scan: Scan) {
    let (body, steps) = (scan.body(m), scan.steps(m) as usize);
    for op in m.ops(body).to_vec() {
        if let Some(inner) = Scan::of(m, op) {
            show_steps(m, inner);
        }
    }
    let carried = m.args(body)[..scan.counts(m)[0]].iter().copied().filter(|&v| is_watched(m, v));
    let inside: Vec<ValueId> = carried.chain(computed(m, body)).collect();
    let returns = [m.returns(body), &inside].concat();
    m.set_returns(body, &returns);
    for v in inside {
        let dims: Vec<usize> = std::iter::once(steps).chain(m.dims(v).iter().copied()).collect();
        let shown = m.add_result(scan.0, Type::Tensor(TensorTy::new(Elem::F32, dims)));
        let name = m.name(v).unwrap_or_default().to_string();
        m.set_name(shown, &name);
    }
}

/// Makes every float tensor that has a name a result of a canonical module; returns them.
pub(crate) fn show_floats(m: &mut Module) -> Vec<Port> {
    let body = m.body();
    for op in m.ops(body).to_vec() {
        if let Some(scan) = Scan::of(m, op) {
            show_steps(m, scan);
        }
    }
    let named = |v: ValueId| (m.name(v).unwrap_or_default().to_string(), v);
    let shown = computed(m, body).into_iter().map(named).collect();
    returned(m, shown)
}

/// Makes every named tensor of a fused module a result of it, quantized ones as floats; returns them.
fn show_all(m: &mut Module, names: &Names) -> Result<Vec<Port>, Diag> {
    let body = m.body();
    let mut shown: Vec<(String, ValueId)> = Vec::new();
    for op in m.ops(body).to_vec() {
        if m.is(op, Constant::DEF) {
            continue;
        }
        for v in m.results(op).to_vec() {
            let Some(name) = m.name(v).map(|name| names.float(name).to_string()) else { continue };
            let Some(elem) = m.ty(v).tensor().map(|t| t.elem) else { continue };
            let floats = match elem {
                Elem::F32 => v,
                Elem::Quant(_) => Dequantize::build(&mut Builder::at_end(m, body), &[Some(v)], Attrs::new())?.out(m),
                _ => continue,
            };
            // A tensor and its quantized form have one name; the integers are what is looked at.
            shown.retain(|(other, _)| *other != name);
            shown.push((name, floats));
        }
    }
    Ok(returned(m, shown))
}

/// Makes named values the results of a module.
fn returned(m: &mut Module, shown: Vec<(String, ValueId)>) -> Vec<Port> {
    let body = m.body();
    let port = |(name, v): &(String, ValueId)| Port {
        name: name.clone(),
        elem: Elem::F32,
        dims: m.dims(*v).to_vec(),
        batched: false,
        counted: None,
    };
    let ports: Vec<Port> = shown.iter().map(port).collect();
    let values: Vec<ValueId> = shown.into_iter().map(|(_, v)| v).collect();
    m.set_returns(body, &values);
    let main = m.funcs().next().map(|(id, _)| id);
    if let Some(main) = main {
        m.func_mut(main).outputs = ports.iter().map(|p| p.name.as_str().into()).collect();
    }
    ports
}
