//! A predictor that compiles a model for a shape when it first sees it.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use qc_compiler::{AnyShapeOptions, Compiler, ModelFile};
//! let file = ModelFile::open("encoder.onnx".as_ref(), None)?;
//! let mut encoder = Compiler::default().any_shape(file, &AnyShapeOptions::default());
//! for ids in [vec![7i64; 12], vec![7i64; 90]] {
//!     let context = encoder.context(&[("ids", &[1, ids.len()])])?;
//!     context.input_shaped::<i64>("ids", &[1, ids.len()])?.copy_from_slice(&ids);
//!     context.run()?;
//!     println!("{:?}", context.output_shape(0)?);
//! }
//! # Ok(()) }
//! ```
//!
//! All shapes share one copy of the weights, one context with its threads, and one working memory, which is as large as the
//! largest shape so far needs. Of the compiled programs a bounded number is kept; the one that was not used for longest goes.

use crate::variants::Program;
use crate::{CompileError, Compiled, Compiler, ModelFile, ports};
use qc_codegen::weights::WeightStore;
use qc_frontend::{Imported, Shapes};
use qc_ir::{Memo, NoSink};
use qc_runtime::{Context, ContextOptions, Predictor};

/// How an [`AnyShape`] works.
#[derive(Clone, Debug)]
pub struct AnyShapeOptions {
    /// Compiled shapes that are kept, at least one: 16.
    pub kept: usize,
    /// How its context is made.
    pub context: ContextOptions,
}

impl Default for AnyShapeOptions {
    fn default() -> AnyShapeOptions {
        AnyShapeOptions { kept: 16, context: ContextOptions::default() }
    }
}

/// A model that runs any shape that it can be compiled for; see the [module documentation](self).
pub struct AnyShape {
    compiler: Compiler,
    name: String,
    import: Box<ImportAt>,
    options: AnyShapeOptions,
    memo: Memo,
    store: WeightStore,
    /// The least recently used first.
    kept: Vec<Kept>,
    context: Option<Context>,
    /// Shapes compiled so far.
    compiled: usize,
}

/// Input shapes by name.
type Given = [(String, Vec<usize>)];
/// Imports a model at shapes of its inputs, batch included.
type ImportAt = dyn Fn(&Compiler, &Given) -> Result<Imported, CompileError> + Send;

/// A compiled shape.
struct Kept {
    shapes: Vec<(String, Vec<usize>)>,
    predictor: Predictor,
}

impl Compiler {
    /// A predictor of a model for any shape. Of the options, `shapes`, `batches` and `data` are not used.
    pub fn any_shape(&self, file: ModelFile, options: &AnyShapeOptions) -> AnyShape {
        let name = file.stem();
        let import = move |compiler: &Compiler, given: &Given| {
            let at = compiler.exact_shapes(&file, given)?;
            compiler.import_at(&file, &at, None)
        };
        self.any_shape_imported(&name, options, import)
    }

    /// As [`Compiler::any_shape`], of a model that another front end, or the caller itself, brings: `import` gives it at
    /// shapes of its inputs.
    pub fn any_shape_imported(
        &self,
        name: &str,
        options: &AnyShapeOptions,
        import: impl Fn(&Compiler, &[(String, Vec<usize>)]) -> Result<Imported, CompileError> + Send + 'static,
    ) -> AnyShape {
        let mut compiler = self.clone();
        compiler.options.shapes.clear();
        AnyShape {
            compiler,
            name: name.into(),
            import: Box::new(import),
            options: options.clone(),
            memo: Memo::default(),
            store: WeightStore::default(),
            kept: Vec::new(),
            context: None,
            compiled: 0,
        }
    }
}

impl AnyShape {
    /// The context, ready to be given inputs of these shapes, batch included; inputs whose shape the model fixes need not be
    /// named. Compiles the model when it has not seen the shapes, or not for long. What the context was bound to is gone when
    /// the shapes are others than those of the call before.
    ///
    /// # Errors
    /// Shapes that do not fit the model or one another, and as [`Compiler::compile`] and [`Predictor::context`].
    pub fn context(&mut self, shapes: &[(&str, &[usize])]) -> Result<&mut Context, CompileError> {
        let wanted: Vec<(String, Vec<usize>)> = shapes.iter().map(|(n, dims)| (n.to_string(), dims.to_vec())).collect();
        let found = self.kept.iter().position(|kept| kept.shapes == wanted);
        let is_current = found.is_some_and(|at| at + 1 == self.kept.len());
        match found {
            // The most recently used is the last.
            Some(at) => self.kept[at..].rotate_left(1),
            None => {
                let predictor = self.compile(&wanted)?;
                let excess = (self.kept.len() + 1).saturating_sub(self.options.kept.max(1));
                self.kept.drain(..excess);
                self.kept.push(Kept { shapes: wanted, predictor });
            }
        }
        let predictor = &self.kept[self.kept.len() - 1].predictor;
        match &mut self.context {
            Some(_) if is_current => {}
            Some(context) => context.adopt(predictor)?,
            None => self.context = Some(predictor.context(&self.options.context)?),
        }
        self.context.as_mut().ok_or_else(|| CompileError::Bug { text: "there is no context".into() })
    }

    /// Shapes that were compiled so far, those that were dropped and compiled again counted each time.
    pub fn compiled(&self) -> usize {
        self.compiled
    }

    fn compile(&mut self, wanted: &Given) -> Result<Predictor, CompileError> {
        let compiler = self.compiler.timed();
        let imported = (self.import)(&compiler, wanted)?;
        let compiled = compiler.compile_exact(&self.name, imported, &self.memo)?;
        self.compiled += 1;
        let predictor = compiled.jit_within(Some(&self.store));
        self.memo.end_round();
        predictor
    }
}

impl Compiler {
    /// The shapes of all inputs, given those that the model leaves open.
    fn exact_shapes(&self, file: &ModelFile, wanted: &Given) -> Result<Shapes, CompileError> {
        let named = |(name, dims): &(String, Vec<usize>)| (Some(name.clone()).filter(|n| !n.is_empty()), dims.clone());
        let given: Vec<(Option<String>, Vec<usize>)> = wanted.iter().map(named).collect();
        let found = qc_frontend::exact(&file.source(), &self.import_options(file), &given);
        found.map_err(|errors| crate::import_error(file, errors, String::new()))
    }

    /// Compiles a program as it was imported, for its shapes and no others.
    pub(crate) fn compile_exact(&self, name: &str, imported: Imported, memo: &Memo) -> Result<Compiled, CompileError> {
        let report = imported.report.clone();
        let mut imported = imported;
        imported.module.consts.memo = memo.clone();
        let fixed =
            |p: Vec<qc_codegen::image::Port>| p.into_iter().map(|p| qc_codegen::image::Port { batched: false, ..p });
        let inputs: Vec<_> = fixed(ports(&imported.inputs)).collect();
        let outputs: Vec<_> = fixed(ports(&imported.outputs)).collect();
        let shapes = imported.inputs.iter().chain(&imported.outputs).map(|p| p.dims.clone()).collect();
        let format = imported.format.clone();
        let (account, passes, mut module) = self.lower(imported, &report, &mut NoSink)?;
        module.consts.memo = Memo::default();
        let tiers = self.options.target.tiers();
        let program = Program { shape: 0, batch: 1, module, shapes };
        Ok(Compiled {
            name: qc_codegen::header::c_identifier(name),
            account,
            format,
            passes,
            inputs,
            outputs,
            whole_batches: Some("it was compiled for these shapes".into()),
            // What this is for, a file, is not made of it.
            sha256: [0; 32],
            variants: self.selected(&tiers, vec![program])?,
            tiers,
            record: self.options.record(),
            limits: self.options.limits.clone(),
        })
    }
}
