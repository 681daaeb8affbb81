//! Calibration: runs the float model on samples and keeps what a method has to know of every tensor's values, and how much of its
//! signal 8 bits in the range that comes out hold.
//!
//! The model is compiled in its canonical form so that every float tensor can be looked at where it lies, so observing costs little
//! more than running, in time and in memory. Each thread has an [`Observer`] of its own; what they saw is merged in the end.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use qc_compiler::{Compiler, ModelFile};
//! let file = ModelFile::open("resnet50.onnx".as_ref(), None)?;
//! let calibrator = Compiler::default().calibrator(&file)?;
//! let mut observer = calibrator.observer(Default::default())?;
//! observer.input_mut(0)?.fill(0.5);
//! observer.observe(0)?;
//! let ranges = calibrator.ranges(&observer.seen(), 1, None);
//! std::fs::write("ranges.json", ranges.to_json())?;
//! # Ok(()) }
//! ```

use crate::ranges::{MinMax, Ranges, SCHEMA, is_quantized};
use crate::seen::{Run, Seen, Weights};
use crate::watched::{Watched, Watcher};
use crate::{CompileError, CompileOptions, Compiler, ModelFile, Precision, pipeline};
use qc_calibration::Method;
use qc_dialects::graph::{Constant, Linear};
use qc_frontend::Shapes;
use qc_ir::{Module, NoSink, RegionId, Use, ValueId};
use qc_passes::quant::channels::Order;
use qc_passes::quant::noise;
use qc_passes::quant::quantize::needs_no_range;
use qc_runtime::{Context, Elem, IoInfo, RunError};
use std::collections::BTreeMap;

/// A float model whose tensors can be watched.
pub struct Calibrator {
    watched: Watched,
    /// How channels lie in the inputs.
    inputs: Vec<Order>,
    sha256: [u8; 32],
    /// Ranges that no sample changes: those of constants that data is combined with.
    constants: MinMax,
}

/// One caller of a [`Calibrator`], with memory of its own.
pub struct Observer<'c> {
    calibrator: &'c Calibrator,
    watcher: Watcher<'c>,
    seen: Seen,
}

impl Compiler {
    /// Compiles a float model for calibration, at the first of its shapes. Of the options, `params`, `shapes`, `data`,
    /// `values`, `limits` and `target` are used.
    ///
    /// # Errors
    /// As [`Compiler::compile`], and when the model is quantized already.
    pub fn calibrator(&self, file: &ModelFile) -> Result<Calibrator, CompileError> {
        let first = self.of_floats().shapes(file)?.into_iter().next().unwrap_or_default();
        self.calibrator_at(file, &first)
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

    /// As [`Compiler::calibrator`], at one of the shapes of [`Compiler::shapes`]. What is seen at several of them belongs together:
    /// tensors have the same names at every shape.
    ///
    /// # Errors
    /// As [`Compiler::calibrator`].
    pub fn calibrator_at(&self, file: &ModelFile, at: &Shapes) -> Result<Calibrator, CompileError> {
        let compiler = self.of_floats();
        let mut imported = compiler.import_at(file, at, None)?;
        compiler.run(&mut imported.module, &pipeline::float(&compiler.options), &mut NoSink)?;
        if is_quantized(&imported.module) {
            return Err(CompileError::Model {
                text: format!(
                    "{}: the model is quantized already and needs no ranges; compile it as it is, or calibrate its \
                     float original",
                    file.path.display()
                ),
            });
        }
        hide_accumulators(&mut imported.module);
        let m = &imported.module;
        let (constants, seen_as) = (constants(m), seen_as(m));
        let watched = compiler.watched(file, imported, &|name| seen_as.get(name).cloned())?;
        let own = watched.inputs.iter().zip(watched.predictor.inputs());
        let inputs = own.map(|(name, io)| Order::rows(seen_as.get(name).unwrap_or(&io.shape))).collect();
        Ok(Calibrator { watched, inputs, sha256: file.sha256(), constants })
    }
}

/// Takes the names of tensors whose ranges nobody asks for, so that they are not watched: half of the bytes of a network with ReLUs.
fn hide_accumulators(m: &mut Module) {
    for op in m.walk(m.body()) {
        for v in m.results(op).to_vec() {
            if needs_no_range(m, v) && !is_result(m, v) {
                m.clear_name(v);
            }
        }
    }
}

fn is_result(m: &Module, v: ValueId) -> bool {
    m.uses(v).iter().any(|u| matches!(u, Use::Return(..)))
}

/// The dims under which products see the named tensors of a module; those of a scan are the ones of a step.
fn seen_as(m: &Module) -> BTreeMap<String, Vec<usize>> {
    let seen = noise::Seen::of(m);
    let regions = m.regions_in(m.body());
    let results = |region: RegionId| m.ops(region).iter().flat_map(|&op| m.results(op)).copied();
    let values = regions.into_iter().flat_map(|region| m.args(region).iter().copied().chain(results(region)));
    values.filter_map(|v| Some((m.name(v)?.to_string(), seen.dims(v).to_vec()))).collect()
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
        self.watched.predictor.inputs()
    }

    /// Ranges of what no sample changes, which [`Calibrator::ranges`] adds.
    pub fn constants(&self) -> &MinMax {
        &self.constants
    }

    /// Samples in a run.
    pub fn samples(&self) -> usize {
        self.watched.predictor.inputs().first().and_then(|io| io.shape.first().copied()).unwrap_or(1).max(1)
    }

    /// Number of tensors that are watched.
    pub fn tensors(&self) -> usize {
        self.watched.tensors()
    }

    /// How much channels and samples count, judged by what was seen of some runs, each for itself, with [`Method::min_max`]: what a
    /// method that weighs them wants to know before it sees values. All observers whose findings are merged need the same.
    pub fn weights(&self, runs: &[Seen]) -> Weights {
        Weights::of(&self.watched.module, runs)
    }

    /// A caller for one thread, which keeps what `method` has to know.
    ///
    /// # Errors
    /// When memory is short or the environment caps the instruction set below what was compiled.
    pub fn observer(&self, method: Method) -> Result<Observer<'_>, RunError> {
        self.observer_of(Seen::of(&[method], Default::default()))
    }

    /// A caller for one thread, which goes on with what `seen` has.
    ///
    /// # Errors
    /// As [`Calibrator::observer`].
    pub fn observer_of(&self, seen: Seen) -> Result<Observer<'_>, RunError> {
        Ok(Observer { calibrator: self, watcher: self.watched.watcher()?, seen })
    }

    /// The ranges file of what was seen over `samples` samples; `preprocess` says how they were made.
    pub fn ranges(&self, seen: &Seen, samples: usize, preprocess: Option<String>) -> Ranges {
        let method = seen.methods().first().copied().unwrap_or_default();
        self.ranges_by(method, seen, samples, preprocess)
    }

    /// As [`Calibrator::ranges`], by one of the methods for which values were seen.
    pub fn ranges_by(&self, method: Method, seen: &Seen, samples: usize, preprocess: Option<String>) -> Ranges {
        let mut tensors = seen.found(method, &self.constants);
        let snr = seen.ratios(&self.watched.module, &tensors);
        for (name, range) in &mut tensors {
            range.snr = snr.get(name).copied();
        }
        Ranges {
            schema: SCHEMA.into(),
            generator: format!("qc {}", env!("CARGO_PKG_VERSION")),
            model_sha256: self.sha256.iter().map(|b| format!("{b:02x}")).collect(),
            method: method.to_string(),
            preprocess,
            samples,
            keep_fp32: Vec::new(),
            rescaled: BTreeMap::new(),
            biases: Default::default(),
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
        self.context_mut().input_mut(input, 1)
    }

    /// Bytes of any input, to be filled with a sample.
    pub fn context_mut(&mut self) -> &mut Context {
        self.watcher.context_mut()
    }

    /// Runs the model on the inputs and takes in all its tensors; `number` is that of the run among all.
    ///
    /// # Errors
    /// When an input has no data.
    pub fn observe(&mut self, number: usize) -> Result<(), RunError> {
        let run = Run { number, samples: self.calibrator.samples() };
        let (watched, seen) = (&self.calibrator.watched, &mut self.seen);
        for (i, name) in watched.inputs.iter().enumerate() {
            if self.watcher.context_mut().inputs()[i].elem == Elem::F32 {
                let values = self.watcher.context_mut().input_mut::<f32>(i, 1)?;
                seen.observe(name, self.calibrator.inputs[i], values, run);
            }
        }
        self.watcher.run(&mut |name, order, values| seen.observe(name, order, values, run))?;
        Ok(())
    }

    /// What was seen so far.
    pub fn seen(self) -> Seen {
        self.seen
    }

    /// What was seen so far, which is forgotten.
    pub fn take(&mut self) -> Seen {
        let none = self.seen.of_nothing();
        std::mem::replace(&mut self.seen, none)
    }
}
