//! Calibration: runs the float model on samples and keeps what a method has to know of every tensor's values, and how much of its
//! signal 8 bits in the range that comes out hold.
//!
//! The model is compiled in its canonical form with every float tensor as an output, so observing costs little more
//! than running. Each thread has an [`Observer`] of its own; what they saw is merged in the end.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use qc_compiler::{Compiler, ModelFile};
//! let file = ModelFile::open("resnet50.onnx".as_ref(), None)?;
//! let calibrator = Compiler::default().calibrator(&file)?;
//! let mut observer = calibrator.observer(Default::default())?;
//! observer.input_mut(0)?.fill(0.5);
//! observer.observe(0)?;
//! let ranges = calibrator.ranges(observer.seen(), 1, None);
//! std::fs::write("ranges.json", ranges.to_json())?;
//! # Ok(()) }
//! ```

use crate::ranges::{MinMax, Range, Ranges, SCHEMA, is_quantized};
use crate::seen::{Run, Seen};
use crate::{CompileError, CompileOptions, Compiled, Compiler, ModelFile, Precision, Program, pipeline, ports};
use qc_calibration::Method;
use qc_codegen::image::Port;
use qc_dialects::graph::{Constant, Linear, Scan};
use qc_frontend::Shapes;
use qc_ir::{Elem, Memo, Module, NoSink, RegionId, TensorTy, Type, Use, ValueId};
use qc_passes::quant::noise;
use qc_runtime::{Context, ContextOptions, IoInfo, Predictor, RunError};
use std::collections::BTreeMap;

/// A float model whose tensors can be watched.
pub struct Calibrator {
    predictor: Predictor,
    /// The model in its canonical form.
    model: Module,
    /// The dims under which products see its tensors, by name.
    seen_as: BTreeMap<String, Vec<usize>>,
    sha256: [u8; 32],
    inputs: Vec<String>,
    /// Ranges that no sample changes: those of constants that data is combined with.
    constants: MinMax,
}

/// One caller of a [`Calibrator`], with memory of its own.
pub struct Observer<'c> {
    calibrator: &'c Calibrator,
    context: Context,
    seen: Seen,
}

impl Compiler {
    /// Compiles a float model for calibration, at the first of its shapes. Of the options, `params`, `shapes`, `data`,
    /// `values`, `limits` and `target` are used.
    ///
    /// # Errors
    /// As [`Compiler::compile`], and when the model is quantized already.
    pub fn calibrator(&self, file: &ModelFile) -> Result<Calibrator, CompileError> {
        let compiler = self.of_floats();
        let first = compiler.shapes(file)?.into_iter().next().unwrap_or_default();
        compiler.calibrator_at(file, &first, &Memo::default())
    }

    /// As [`Compiler::calibrator`], for each of the model's shapes. What they see belongs together: tensors have the same
    /// names at every shape, so their ranges are merged.
    ///
    /// # Errors
    /// As [`Compiler::calibrator`].
    pub fn calibrators(&self, file: &ModelFile) -> Result<Vec<Calibrator>, CompileError> {
        let (compiler, memo) = (self.of_floats(), Memo::default());
        compiler.shapes(file)?.iter().map(|at| compiler.calibrator_at(file, at, &memo)).collect()
    }

    fn of_floats(&self) -> Compiler {
        let own = &self.options;
        let options = CompileOptions {
            params: own.params.clone(),
            shapes: own.shapes.clone(),
            data: own.data.clone(),
            values: own.values.clone(),
            target: own.target.clone(),
            limits: own.limits.clone(),
            manager: own.manager.clone(),
            ..CompileOptions::default()
        };
        Compiler::new(CompileOptions { precision: Precision::Auto, ..options }).timed()
    }

    fn calibrator_at(&self, file: &ModelFile, at: &Shapes, memo: &Memo) -> Result<Calibrator, CompileError> {
        let compiler = self;
        let mut imported = compiler.import_at(file, at, None)?;
        imported.module.consts.memo = memo.clone();
        compiler.run(&mut imported.module, &pipeline::float(&compiler.options), &mut NoSink)?;
        let (inputs, mut m) = (ports(&imported.inputs), imported.module);
        if is_quantized(&m) {
            return Err(CompileError::Model {
                text: format!(
                    "{}: the model is quantized already and needs no ranges; compile it as it is, or calibrate its \
                     float original",
                    file.path.display()
                ),
            });
        }
        let (constants, model, seen_as) = (constants(&m), m.clone(), seen_as(&m));
        let args: Vec<Option<String>> = m.args(m.body()).iter().map(|&v| m.name(v).map(str::to_string)).collect();
        let outputs = watch(&mut m);
        compiler.run(&mut m, &pipeline::plain(pipeline::INT8), &mut NoSink)?;
        compiler.run(&mut m, &pipeline::loops(), &mut NoSink)?;
        compiler.check_planned(&m)?;
        let tiers = compiler.options.target.tiers();
        let shapes: Vec<Vec<usize>> = inputs.iter().chain(&outputs).map(|p: &Port| p.dims.clone()).collect();
        let mut variants = Vec::new();
        m.consts.memo = Memo::default();
        for &tier in &tiers {
            let mut selected = m.clone();
            compiler.run(&mut selected, &pipeline::select(tier), &mut NoSink)?;
            variants.push((tier, Program { shape: 0, batch: 1, module: selected, shapes: shapes.clone() }));
        }
        let names = args.into_iter().map(|name| name.unwrap_or_default()).collect();
        let compiled = Compiled {
            name: "calibration".into(),
            account: Default::default(),
            format: imported.format,
            passes: Vec::new(),
            inputs,
            outputs,
            whole_batches: Some("ranges are observed per sample".into()),
            sha256: file.sha256(),
            tiers,
            variants,
            record: Default::default(),
            limits: compiler.options.limits.clone(),
        };
        Ok(Calibrator { predictor: compiled.jit()?, model, seen_as, sha256: file.sha256(), inputs: names, constants })
    }
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

/// The dims under which products see the named tensors of a module; those of a scan are the ones of a step.
fn seen_as(m: &Module) -> BTreeMap<String, Vec<usize>> {
    let seen = noise::Seen::of(m);
    let regions = m.regions_in(m.body());
    let results = |region: RegionId| m.ops(region).iter().flat_map(|&op| m.results(op)).copied();
    let values = regions.into_iter().flat_map(|region| m.args(region).iter().copied().chain(results(region)));
    values.filter_map(|v| Some((m.name(v)?.to_string(), seen.dims(v).to_vec()))).collect()
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

/// Makes every float tensor that has a name a result of the module; returns them.
fn watch(m: &mut Module) -> Vec<Port> {
    let body = m.body();
    for op in m.ops(body).to_vec() {
        if let Some(scan) = Scan::of(m, op) {
            show_steps(m, scan);
        }
    }
    let watched = computed(m, body);
    let port = |v: &ValueId| {
        let name = m.name(*v).unwrap_or_default().to_string();
        Port { name, elem: Elem::F32, dims: m.dims(*v).to_vec(), batched: false, counted: None }
    };
    let ports: Vec<Port> = watched.iter().map(port).collect();
    m.set_returns(body, &watched);
    let main = m.funcs().next().map(|(id, _)| id);
    if let Some(main) = main {
        m.func_mut(main).outputs = ports.iter().map(|p| p.name.as_str().into()).collect();
    }
    ports
}

/// Ranges of the float constants that are data rather than weights.
fn constants(m: &Module) -> MinMax {
    let mut seen = MinMax::default();
    for op in m.walk(m.body()) {
        let Some(constant) = Constant::of(m, op) else { continue };
        let v = m.result(op);
        let is_data = |u: &Use| match *u {
            Use::Operand(op, i) => i == 0 || !Linear::is(m, op),
            Use::Return(..) => false,
        };
        if let Some(name) = m.name(v).filter(|_| m.uses(v).iter().any(is_data)) {
            seen.observe(name, &m.consts.get(constant.value(m)).tensor);
        }
    }
    seen
}

impl Calibrator {
    /// Inputs in model order; a sample fills each completely.
    pub fn inputs(&self) -> &[IoInfo] {
        self.predictor.inputs()
    }

    /// Ranges of what no sample changes, which [`Calibrator::ranges`] adds.
    pub fn constants(&self) -> &MinMax {
        &self.constants
    }

    /// Samples in a run.
    pub fn samples(&self) -> usize {
        self.predictor.inputs().first().and_then(|io| io.shape.first().copied()).unwrap_or(1).max(1)
    }

    /// Number of tensors that are watched.
    pub fn tensors(&self) -> usize {
        self.predictor.outputs().len() + self.inputs.len()
    }

    /// A caller for one thread, which keeps what `method` has to know.
    ///
    /// # Errors
    /// When memory is short or the environment caps the instruction set below what was compiled.
    pub fn observer(&self, method: Method) -> Result<Observer<'_>, RunError> {
        let options = ContextOptions { threads: Some(1), ..ContextOptions::default() };
        Ok(Observer { calibrator: self, context: self.predictor.context(&options)?, seen: Seen::of(method) })
    }

    /// The ranges file of what was seen over `samples` samples; `preprocess` says how they were made.
    pub fn ranges(&self, mut seen: Seen, samples: usize, preprocess: Option<String>) -> Ranges {
        seen.ranges.merge(&self.constants);
        let mut tensors = seen.found();
        let snr = seen.ratios(&self.model, &tensors);
        for (name, range) in &mut tensors {
            range.snr = snr.get(name).copied();
        }
        Ranges {
            schema: SCHEMA.into(),
            generator: format!("qc {}", env!("CARGO_PKG_VERSION")),
            model_sha256: self.sha256.iter().map(|b| format!("{b:02x}")).collect(),
            method: seen.method().to_string(),
            preprocess,
            samples,
            tensors,
        }
    }
}

impl Observer<'_> {
    /// Elements of a float input, to be filled with a sample.
    ///
    /// # Errors
    /// Unknown input or one that is not f32.
    pub fn input_mut(&mut self, input: usize) -> Result<&mut [f32], RunError> {
        self.context.input_mut(input, 1)
    }

    /// Bytes of any input, to be filled with a sample.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.context
    }

    /// Runs the model on the inputs and takes in all its tensors; `number` is that of the run among all.
    ///
    /// # Errors
    /// When an input has no data.
    pub fn observe(&mut self, number: usize) -> Result<(), RunError> {
        self.context.run()?;
        let run = Run { number, samples: self.calibrator.samples() };
        for i in 0..self.context.outputs().len() {
            let values = self.context.output::<f32>(i)?;
            let io = &self.context.outputs()[i];
            let dims = self.calibrator.seen_as.get(&io.name).unwrap_or(&io.shape);
            self.seen.observe(&io.name, dims, values, range_of(values), run);
        }
        // Only now: asking for an input's buffer discards the results.
        for (i, name) in self.calibrator.inputs.iter().enumerate() {
            if self.context.inputs()[i].elem == qc_runtime::Elem::F32 {
                let dims = self.calibrator.seen_as.get(name).map_or(&[][..], |dims| dims);
                let values = self.context.input_mut::<f32>(i, 1)?;
                let range = range_of(values);
                self.seen.observe(name, dims, values, range, run);
            }
        }
        Ok(())
    }

    /// What was seen so far.
    pub fn seen(self) -> Seen {
        self.seen
    }
}

/// Smallest and largest finite value; `None` if there is none.
fn range_of(values: &[f32]) -> Option<Range> {
    const LANES: usize = 16;
    let (mut lo, mut hi) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lo[i] = lo[i].min(chunk[i]);
            hi[i] = hi[i].max(chunk[i]);
        }
    }
    let min = lo.iter().chain(rest).fold(f32::INFINITY, |m, x| m.min(*x));
    let max = hi.iter().chain(rest).fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    if min.is_finite() && max.is_finite() {
        return Some(Range::new(min, max));
    }
    let finite = || values.iter().copied().filter(|x| x.is_finite());
    let (min, max) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
    (min <= max).then_some(Range::new(min, max))
}
