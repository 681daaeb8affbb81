//! The public API of the qc compiler.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use qc_compiler::{CompileOptions, Compiler};
//! let compiled = Compiler::new(CompileOptions::default()).compile("resnet50.onnx".as_ref())?;
//! let predictor = compiled.jit()?;
//! let mut context = predictor.context(&Default::default())?;
//! context.input_mut::<f32>(0, 1)?.fill(0.0);
//! context.run()?;
//! let probabilities: &[f32] = context.output(0)?;
//! # Ok(()) }
//! ```
//!
//! [`Compiler::compile`] runs a model through all phases up to planned loop code, once per batch variant;
//! [`Compiled::jit`] and [`Compiled::shared_object`] make the two ends from it.

pub mod any_shape;
mod artefact;
pub mod batch;
pub mod biases;
pub mod caches;
pub mod calibrate;
pub mod compare;
pub mod cut;
mod demands;
mod error;
pub mod inside;
pub mod mixed;
pub mod options;
pub mod output;
pub mod pipeline;
mod portable;
pub mod ranges;
pub mod report;
pub mod seen;
mod source;
mod variants;
mod watched;

pub use any_shape::{AnyShape, AnyShapeOptions};
pub use artefact::{check_artefact, write_artefact};
pub use calibrate::{Calibrator, Observer};
pub use error::CompileError;
pub use inside::Inside;
pub use options::{CompileOptions, Guard, Precision, Quantize, Sums, TargetCpu};
pub use output::{check_output, write_together, write_whole};
pub use portable::Portable;
pub use qc_calibration::{METHODS, Method};
pub use qc_dialects::{REGISTRY, interpret};
pub use qc_frontend::{DimSpec, ImportError, ImportErrors, ShapeSpec, Shapes};
pub use qc_runtime::{Context, ContextOptions, Predictor};
pub use ranges::Ranges;
pub use report::{Account, Fate, OpAccount};
pub use source::ModelFile;
pub(crate) use variants::Program;

use qc_codegen::image::{ImageInput, Port, VariantInput};
use qc_codegen::weights::{WeightStore, Weights};
use qc_codegen::{CodegenError, Target};
use qc_dialects::loops::Parallel;
use qc_frontend::{Imported, Options};
use qc_ir::{HostTensor, Module, NoSink, PassReport, Sink, Step};
use qc_kernels::Tier;
use qc_passes::quant::masks::coarse_scores;
use qc_runtime::note::{IoNote, Note, OpNote};
use std::collections::BTreeSet;
use std::path::Path;

/// Compiles models.
#[derive(Clone, Debug, Default)]
pub struct Compiler {
    options: CompileOptions,
}

/// A model in planned loop code, ready to become machine code.
pub struct Compiled {
    /// Name, the prefix of exported functions.
    pub name: String,
    /// What became of every op of the model.
    pub account: Account,
    /// Format and writer of the model.
    pub format: String,
    /// Time per pass of the first variant.
    pub passes: Vec<PassReport>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    whole_batches: Option<String>,
    sha256: [u8; 32],
    tiers: Vec<Tier>,
    /// Programs with selected kernels, by tier.
    variants: Vec<(Tier, Program)>,
    record: std::collections::BTreeMap<String, String>,
    limits: qc_ir::Limits,
}

impl Compiler {
    /// A compiler with these options.
    pub fn new(options: CompileOptions) -> Compiler {
        Compiler { options }
    }

    /// Its options.
    pub fn options(&self) -> &CompileOptions {
        &self.options
    }

    /// Imports a model for one batch size, at the first of its shapes.
    ///
    /// # Errors
    /// Everything that keeps it from being imported.
    pub fn import(&self, file: &ModelFile, batch: Option<usize>) -> Result<Imported, CompileError> {
        let first = self.shapes(file)?.into_iter().next().unwrap_or_default();
        self.import_at(file, &first, batch)
    }

    /// The names of a model's inputs, in its order.
    ///
    /// # Errors
    /// A file that is no model.
    pub fn input_names(&self, file: &ModelFile) -> Result<Vec<String>, CompileError> {
        let found = qc_frontend::input_names(&file.source(), &self.import_options(file));
        found.map_err(|errors| import_error(file, errors, String::new()))
    }

    /// Makes constants of those of `arrays`, by the names of inputs, without whose values the model cannot be imported, such as
    /// shapes that it is given. Gives their names.
    ///
    /// # Errors
    /// None of its own: what keeps the model from being imported besides is said by whatever imports it next.
    pub fn take_values(&mut self, file: &ModelFile, arrays: &[(String, HostTensor)]) -> Vec<String> {
        let mut names = Vec::new();
        while let Err(CompileError::Import { errors, .. }) = self.import(file, None) {
            let before = names.len();
            for name in errors.needed_values() {
                let array = arrays.iter().find(|(n, _)| n == name);
                if let Some((_, t)) = array.filter(|_| !self.options.values.contains_key(name)) {
                    self.options.values.insert(name.into(), t.clone());
                    names.push(name.to_string());
                }
            }
            if names.len() == before {
                break;
            }
        }
        names
    }

    /// The shapes that a model is compiled for: every combination of what the options state, or what fits their data.
    ///
    /// # Errors
    /// Statements that do not fit the model, and more combinations than the limit.
    pub fn shapes(&self, file: &ModelFile) -> Result<Vec<Shapes>, CompileError> {
        let (stated, data) = (&self.options.shapes, &self.options.data);
        let found = qc_frontend::combinations(&file.source(), &self.import_options(file), stated, data);
        found.map_err(|errors| import_error(file, errors, String::new()))
    }

    /// Imports a model for one shape and batch size.
    ///
    /// # Errors
    /// As [`Compiler::import`].
    pub fn import_at(&self, file: &ModelFile, at: &Shapes, batch: Option<usize>) -> Result<Imported, CompileError> {
        let options = Options { batch: batch.map(|b| b as i64), shapes: at.clone(), ..self.import_options(file) };
        file.start_reading();
        let several = self.options.shapes.iter().any(ShapeSpec::is_open);
        let suffix = || if several { format!(" for {}", text_of(at)) } else { String::new() };
        let imported = qc_frontend::import(&file.source(), &options);
        imported.map_err(|errors| import_error(file, errors, suffix()))
    }

    fn import_options(&self, file: &ModelFile) -> Options {
        let (limits, deadline) = (self.options.limits.clone(), self.options.manager.deadline);
        let values = self.options.values.clone();
        Options { batch: None, shapes: Shapes::new(), values, limits, deadline, constants: file.constants.clone() }
    }

    /// The canonical float graph of a model at the batch it was made for, or 1: what calibration observes.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn canonical(&self, file: &ModelFile) -> Result<Imported, CompileError> {
        let mut imported = self.import(file, None)?;
        self.run(&mut imported.module, &pipeline::float(&self.options), &mut NoSink)?;
        Ok(imported)
    }

    /// Compiles the model at `path`.
    ///
    /// # Errors
    /// I/O, what is wrong with the model, or a defect of qc.
    pub fn compile(&self, path: &Path) -> Result<Compiled, CompileError> {
        let file = ModelFile::open_within(path, self.options.params.as_deref(), &self.options.limits)?;
        self.compile_file(&file, &mut NoSink)
    }

    /// Compiles a model whose files are in memory; `sink` receives dumps.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn compile_file(&self, file: &ModelFile, sink: &mut dyn Sink) -> Result<Compiled, CompileError> {
        let timed = self.timed();
        let shapes = timed.shapes(file)?;
        let import = |shape: usize, batch| timed.import_at(file, &shapes[shape], batch);
        timed.compile_variants(&file.stem(), file.sha256(), (&import, shapes.len()), sink)
    }

    /// Compiles a model at one of the shapes of [`Compiler::shapes`], for runs of the batch that it was made for, or 1.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn jit_at(&self, file: &ModelFile, at: &Shapes) -> Result<Predictor, CompileError> {
        let options = CompileOptions { data: Default::default(), batches: vec![1], ..self.options.clone() };
        let compiler = Compiler::new(options);
        let import = |batch| compiler.import_at(file, at, batch);
        compiler.compile_imported(&file.stem(), file.sha256(), &import, &mut NoSink)?.jit()
    }

    /// This compiler with a deadline, unless it has one.
    pub(crate) fn timed(&self) -> Compiler {
        let mut timed = self.clone();
        timed.options.manager.deadline.get_or_insert_with(|| self.options.limits.deadline());
        timed
    }

    /// Compiles a model that another front end, or the caller itself, brings: `import` gives it for one batch size, or
    /// for its own with `None`. `name` and `sha256` are what the artefact says about its source.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn compile_imported(
        &self,
        name: &str,
        sha256: [u8; 32],
        import: &dyn Fn(Option<usize>) -> Result<Imported, CompileError>,
        sink: &mut dyn Sink,
    ) -> Result<Compiled, CompileError> {
        let timed = self.timed();
        timed.compile_variants(name, sha256, (&|_, batch| import(batch), 1), sink)
    }

    /// As [`Compiler::compile_imported`], of a model of several shapes: `import` gives it at each of them, by number.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn compile_shapes(
        &self,
        name: &str,
        sha256: [u8; 32],
        shapes: usize,
        import: &dyn Fn(usize, Option<usize>) -> Result<Imported, CompileError>,
        sink: &mut dyn Sink,
    ) -> Result<Compiled, CompileError> {
        if shapes == 0 {
            return Err(CompileError::Option("a model is compiled for one shape at least".into()));
        }
        self.timed().compile_variants(name, sha256, (import, shapes), sink)
    }

    /// Runs an imported model down to planned loop code.
    pub(crate) fn lower(
        &self,
        imported: Imported,
        report: &[qc_frontend::NodeReport],
        sink: &mut dyn Sink,
    ) -> Result<(Account, Vec<PassReport>, Module), CompileError> {
        let mut m = imported.module;
        let work = report::Work::in_module(&m);
        let mut passes = self.run(&mut m, &pipeline::float(&self.options), sink)?;
        self.attach(&mut m)?;
        let coarse = coarse_scores(&m);
        passes.extend(self.run(&mut m, &pipeline::int8(&self.options), sink)?);
        let all_float = match (self.options.precision, self.options.exact_qdq) {
            (Precision::Fp32, _) => Some("everything is f32 (--precision fp32)"),
            (_, true) => Some("pairs are computed as written (--exact-qdq)"),
            _ => None,
        };
        let account = Account::of(report, (&work, &coarse), &m, all_float, &passes);
        demands::check(&self.options, &account)?;
        if self.options.precision == Precision::Int8 && account.macs().0 == 0 {
            let text = match self.options.ranges {
                None => "the model has no quantization; give ranges from `qc calibrate`, or use --precision auto",
                Some(_) => "no multiply-accumulate of the model can be INT8; the table of --precision auto says why",
            };
            return Err(CompileError::Model { text: text.into() });
        }
        passes.extend(self.run(&mut m, &pipeline::loops(), sink)?);
        self.check_planned(&m)?;
        Ok((account, passes, m))
    }

    /// Whether working memory and packed weights of a planned module are within the limits; neither exists yet but for
    /// the packed weights themselves.
    pub(crate) fn check_planned(&self, m: &Module) -> Result<(), CompileError> {
        let limits = &self.options.limits;
        let arena = qc_dialects::phase::arena_bytes(m) as u64;
        let weights = m.consts.iter().map(|c| (c.tensor.len() * m.elem_bytes(c.tensor.data().elem())) as u64).sum();
        limits
            .check(qc_ir::Limit::Memory, arena, || "the compiled model needs working memory of".into())
            .and_then(|()| limits.check(qc_ir::Limit::Artefact, weights, || "the shared object would need".into()))
            .map_err(|e| CompileError::limit(&m.name, &e))
    }

    /// Runs a pipeline on a module.
    ///
    /// # Errors
    /// What a pass says.
    pub fn run(&self, m: &mut Module, steps: &[Step], sink: &mut dyn Sink) -> Result<Vec<PassReport>, CompileError> {
        qc_ir::run(m, steps, &REGISTRY, &self.options.manager, sink).map_err(|d| CompileError::from_diag(&d, m))
    }
}

fn import_error(file: &ModelFile, errors: ImportErrors, suffix: String) -> CompileError {
    match file.exceeded().as_ref().or(errors.limit()) {
        Some(exceeded) => CompileError::limit(file.path.display(), exceeded),
        None => CompileError::Import { file: file.path.display().to_string() + &suffix, errors },
    }
}

/// Shapes as the option states them: `ids[?,16] mask[?,16]`.
fn text_of(shapes: &Shapes) -> String {
    let dim = |&n: &i64| if n < 0 { "?".into() } else { n.to_string() };
    let one =
        |(name, dims): (&String, &Vec<i64>)| format!("{name}[{}]", dims.iter().map(dim).collect::<Vec<_>>().join(","));
    shapes.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn ports(ports: &[qc_frontend::Port]) -> Vec<Port> {
    ports.iter().map(port).collect()
}

fn port(p: &qc_frontend::Port) -> Port {
    let batched = p.batched && !p.dims.is_empty();
    Port { name: p.name.clone(), elem: p.elem, dims: p.dims.clone(), batched, counted: p.counted }
}

impl Compiled {
    /// The metadata of the artefact.
    pub fn note(&self) -> Note {
        let io = |ports: &[Port], first: usize| -> Vec<IoNote> {
            let one = |(i, p): (usize, &Port)| IoNote {
                name: p.name.clone(),
                elem: runtime_elem(p.elem),
                shape: p.dims.iter().map(|&d| d as i64).collect(),
                batched: p.batched,
                shapes: Default::default(),
                choices: self.choices(first + i, p),
                counted: p.counted.map(|c| qc_runtime::note::Counted { axis: c.axis, by: c.by }),
            };
            ports.iter().enumerate().map(one).collect()
        };
        let mut outputs = io(&self.outputs, self.inputs.len());
        if self.whole_batches.is_some() {
            for (i, out) in outputs.iter_mut().enumerate().filter(|(_, out)| out.batched) {
                let shape = |p: &Program| p.shapes[self.inputs.len() + i].iter().map(|&d| d as i64).collect();
                let first = self.variants.iter().filter(|(_, p)| p.shape == 0);
                out.shapes = first.map(|(_, p)| (p.batch as u32, shape(p))).collect();
            }
        }
        let batches: BTreeSet<u32> = self.variants.iter().map(|(_, p)| p.batch as u32).collect();
        let weights = Weights::collect(&self.inputs_of_variants()).0.len();
        Note {
            format: qc_embed::abi::ABI_VERSION,
            name: self.name.clone(),
            generator: format!("qc {}", env!("CARGO_PKG_VERSION")),
            tiers: self.tiers.iter().map(|t| t.name().to_string()).collect(),
            batches: batches.into_iter().collect(),
            whole_batches: self.whole_batches.clone(),
            model_sha256: self.sha256.iter().map(|b| format!("{b:02x}")).collect(),
            options: self.record.clone(),
            inputs: io(&self.inputs, 0),
            outputs,
            ops: self.step_notes(),
            weights_bytes: weights as u64,
        }
    }

    /// Of several shapes, what one item of port `index`, inputs first, is in each.
    fn choices(&self, index: usize, port: &Port) -> Vec<Vec<i64>> {
        let mut items: Vec<Vec<i64>> = Vec::new();
        let dealt = port.batched && (index < self.inputs.len() || self.whole_batches.is_none());
        for (_, p) in &self.variants {
            if p.shape == items.len() {
                let mut item: Vec<i64> = p.shapes[index].iter().map(|&d| d as i64).collect();
                item.iter_mut().take(usize::from(dealt)).for_each(|rows| *rows /= p.batch as i64);
                items.push(item);
            }
        }
        if items.len() > 1 { items } else { Vec::new() }
    }

    /// The steps of the first variant; those that follow one another for the same nodes are one, so that a name is not
    /// written for each of the thousands of steps that one node may be.
    fn step_notes(&self) -> Vec<OpNote> {
        let Some((_, Program { module: m, .. })) = self.variants.first() else { return Vec::new() };
        let steps = m.ops(m.body()).iter().filter_map(|&op| Parallel::of(m, op).map(|p| (op, p)));
        let one = |(op, p): (qc_ir::OpId, Parallel)| {
            let nodes = m.locs.nodes(m.loc(op));
            let join = |f: fn(&qc_ir::Node) -> &str| nodes.iter().map(|&n| f(n)).collect::<Vec<_>>().join("+");
            let inner = m.regions(op).iter().flat_map(|&r| m.walk(r));
            let mut kernel =
                inner.filter_map(|o| qc_dialects::loops::Ukernel::of(m, o)).map(|k| k.kernel(m).to_string());
            OpNote {
                name: join(|n| &n.name),
                op: join(|n| &n.op_type),
                kernel: kernel.next_back(),
                macs: p.macs(m) as u64,
                steps: 1,
            }
        };
        let mut notes: Vec<OpNote> = Vec::new();
        for step in steps.map(one) {
            match notes.last_mut().filter(|last| last.name == step.name && last.op == step.op) {
                Some(last) => {
                    (last.macs, last.steps) = (last.macs + step.macs, last.steps + 1);
                    last.kernel = step.kernel.or(last.kernel.take());
                }
                None => notes.push(step),
            }
        }
        notes
    }

    fn inputs_of_variants(&self) -> Vec<VariantInput<'_>> {
        fn one((tier, p): &(Tier, Program)) -> VariantInput<'_> {
            VariantInput { module: &p.module, features: tier.needs(), shapes: &p.shapes, batch: p.batch }
        }
        self.variants.iter().map(one).collect()
    }

    /// The image, ready for either end.
    fn with_image<T>(&self, f: impl FnOnce(&ImageInput<'_>) -> Result<T, CodegenError>) -> Result<T, CodegenError> {
        let json = serde_json::to_string(&self.note()).unwrap_or_default();
        f(&ImageInput {
            target: Target::host()?,
            name: &self.name,
            json: &json,
            sha256: self.sha256,
            inputs: &self.inputs,
            outputs: &self.outputs,
            whole_batches: self.whole_batches.is_some(),
            variants: &self.inputs_of_variants(),
            deadline: self.limits.deadline(),
        })
    }

    /// Working memory in bytes by batch size, for the first tier and the shape that needs most.
    pub fn arenas(&self) -> impl Iterator<Item = (usize, usize)> {
        let first = self.tiers.first().copied();
        let mut most: std::collections::BTreeMap<usize, usize> = Default::default();
        for (_, p) in self.variants.iter().filter(|(tier, ..)| Some(*tier) == first) {
            let bytes = most.entry(p.batch).or_default();
            *bytes = qc_dialects::phase::arena_bytes(&p.module).max(*bytes);
        }
        most.into_iter()
    }

    /// Machine code in this process.
    ///
    /// # Errors
    /// A defect of qc.
    pub fn jit(&self) -> Result<Predictor, CompileError> {
        self.jit_within(None)
    }

    /// As [`Compiled::jit`], with weights in a store.
    pub(crate) fn jit_within(&self, store: Option<&WeightStore>) -> Result<Predictor, CompileError> {
        let model = self.with_image(|image| qc_codegen::jit::jit(image, store, None))?;
        Ok(qc_codegen::jit::predictor(model)?)
    }

    /// The bytes of a self-contained shared object called `soname`.
    ///
    /// # Errors
    /// The limit on its size, or a defect of qc.
    pub fn shared_object(&self, soname: &str) -> Result<Vec<u8>, CompileError> {
        let bytes = self.with_image(|image| qc_codegen::shared_object::shared_object(image, soname, None))?;
        let within = self.limits.check(qc_ir::Limit::Artefact, bytes.len() as u64, || "the shared object has".into());
        within.map_err(|e| CompileError::limit(&self.name, &e))?;
        Ok(bytes)
    }

    /// The C99 header of the shared object.
    pub fn c_header(&self) -> String {
        qc_codegen::header::c_header(&self.note())
    }

    /// The generated code of all steps in Cranelift's text form.
    ///
    /// # Errors
    /// A defect of qc.
    pub fn clif(&self) -> Result<String, CompileError> {
        let mut text = String::new();
        self.with_image(|image| qc_codegen::jit::jit(image, None, Some(&mut text)))?;
        Ok(text)
    }
}

fn runtime_elem(elem: qc_ir::Elem) -> qc_runtime::Elem {
    match elem {
        qc_ir::Elem::F32 | qc_ir::Elem::Quant(_) => qc_runtime::Elem::F32,
        qc_ir::Elem::U8 | qc_ir::Elem::Bool => qc_runtime::Elem::U8,
        qc_ir::Elem::I8 => qc_runtime::Elem::I8,
        qc_ir::Elem::I32 => qc_runtime::Elem::I32,
        qc_ir::Elem::I64 => qc_runtime::Elem::I64,
    }
}
