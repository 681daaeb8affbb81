//! A model as an ONNX file for other engines: quantized as it would be compiled, or its optimized floats.
//!
//! What is written is the canonical graph, with pairs where they are to be run as integers. The batch stays open where items of a
//! batch never meet. That is followed through the very module that is written, at a batch that no dim happens to be: what is the
//! same for all items has to have the shapes that it has at batch 1.

use crate::variants::ImportShape;
use crate::{CompileError, Compiler, ModelFile, Precision, batch, pipeline, ranges};
use qc_dialects::graph::{Dequantize, Linear, Quantize};
use qc_frontend::{Imported, Interface, Port, Unwritten, Written, write_onnx};
use qc_ir::{Follow, Items, Memo, Module, NoSink, OpId, ValueId};

/// A model in the form that other engines read.
#[derive(Debug)]
pub struct Portable {
    /// The files.
    pub written: Written,
    /// Quantize/dequantize pairs of activations.
    pub pairs: usize,
    /// Convolutions and matrix products, and how many of them read integers.
    pub products: [usize; 2],
    /// The batch and the reason, if the file is for one only.
    pub fixed_batch: Option<(usize, String)>,
}

/// The module to write.
struct Form {
    model: Imported,
    /// How items go through it, if the batch stays open.
    items: Option<Follow>,
    /// The one batch that it is for, and why.
    fixed: Option<(usize, String)>,
}

impl Compiler {
    /// Writes a model as ONNX, for one batch if it is given. Weights that do not fit into the file go to one called `data_file`
    /// beside it.
    ///
    /// # Errors
    /// As [`Compiler::compile`]; ops that ONNX cannot express; a model without quantization, unless its floats are asked for.
    pub fn portable(&self, file: &ModelFile, fixed: Option<usize>, data_file: &str) -> Result<Portable, CompileError> {
        let timed = self.timed();
        let shapes = timed.shapes(file)?;
        let [at] = &shapes[..] else {
            let text = "an ONNX file that qc writes is for one shape; state one size per dim in --shape";
            return Err(CompileError::Option(text.into()));
        };
        let memo = Memo::default();
        let import: &ImportShape<'_> = &|batch| {
            let mut imported = timed.import_at(file, at, batch)?;
            imported.module.consts.memo = memo.clone();
            Ok(imported)
        };
        let Form { model, items, fixed } = timed.form(import, fixed)?;
        timed.has_pairs(&model.module)?;
        timed.written(file, (&model, items.as_ref()), data_file, fixed)
    }

    /// The files of a module; `items` says how items of a batch go through it, where the batch stays open.
    pub(crate) fn written(
        &self,
        file: &ModelFile,
        (model, items): (&Imported, Option<&Follow>),
        data_file: &str,
        fixed_batch: Option<(usize, String)>,
    ) -> Result<Portable, CompileError> {
        let names = model.inputs.iter().chain(&model.outputs).map(|port: &Port| port.name.clone()).collect();
        let interface = Interface { names, items, data_file: data_file.into() };
        let written = write_onnx(&model.module, &interface).map_err(|all| unwritten(file, &all))?;
        let (pairs, products) = counts(&model.module);
        Ok(Portable { written, pairs, products, fixed_batch })
    }

    /// The module to write.
    fn form(&self, import: &ImportShape<'_>, fixed: Option<usize>) -> Result<Form, CompileError> {
        if let Some(n) = fixed {
            let model = self.portable_module(import(Some(n))?)?;
            return Ok(Form { model, items: None, fixed: Some((n, "as --batch says".into())) });
        }
        let plan = self.plan(import)?;
        let batched = plan.first.inputs.iter().any(|port| port.batched);
        let model = self.portable_module(plan.first)?;
        let why = match plan.whole {
            _ if !batched => return Ok(Form { model, items: None, fixed: None }),
            Some(why) => why,
            None => match self.open(import, &model)? {
                Ok(form) => return Ok(form),
                Err(why) => why,
            },
        };
        Ok(Form { model, items: None, fixed: Some((plan.own, why)) })
    }

    /// The module at a batch that no dim of it is; or why its file cannot leave the batch open.
    fn open(&self, import: &ImportShape<'_>, own: &Imported) -> Result<Result<Form, String>, CompileError> {
        for batch in batch::PROBES {
            let Ok(probe) = import(Some(batch)) else { continue };
            let model = self.portable_module(probe)?;
            let flags: Vec<bool> = model.inputs.iter().map(|port| port.batched).collect();
            let items = Follow::through(&model.module, batch, &flags);
            return Ok(match differs(&own.module, &model.module, &items) {
                None => Ok(Form { model, items: Some(items), fixed: None }),
                Some(node) => Err(format!("{node} has the size of the batch in its constants or attributes")),
            });
        }
        Ok(Err("its nodes can be computed for some batches only".into()))
    }

    /// The form of an imported model that is written.
    fn portable_module(&self, mut model: Imported) -> Result<Imported, CompileError> {
        self.run(&mut model.module, &pipeline::float(&self.options), &mut NoSink)?;
        self.as_pairs(&mut model)?;
        Ok(model)
    }

    /// Makes of a canonical module what is written of it.
    pub(crate) fn as_pairs(&self, model: &mut Imported) -> Result<(), CompileError> {
        if self.options.precision != Precision::Fp32 {
            self.attach(&mut model.module)?;
            self.run(&mut model.module, &pipeline::portable(&self.options), &mut NoSink)?;
        }
        Ok(())
    }

    fn has_pairs(&self, m: &Module) -> Result<(), CompileError> {
        if self.options.precision == Precision::Fp32 || ranges::is_quantized(m) {
            return Ok(());
        }
        let text = match self.options.ranges {
            None => {
                "the model has no quantization; give --ranges from `qc calibrate`, or write its floats with --precision fp32"
            }
            Some(_) => "no tensor of the model can be quantized by these ranges; --precision fp32 writes its floats",
        };
        Err(CompileError::Model { text: text.into() })
    }
}

/// The first node of which more than the dim along which items lie is another one at the batch of `probe`.
fn differs(own: &Module, probe: &Module, items: &Follow) -> Option<String> {
    let (a, b) = (own.ops(own.body()), probe.ops(probe.body()));
    let named = |op: OpId| {
        let node = probe.locs.nodes(probe.loc(op)).first().map(|node| node.name.to_string());
        node.unwrap_or_else(|| probe.def(op).name.to_string())
    };
    let mut pairs = a.iter().zip(b);
    let other = |(x, y): &(&OpId, &OpId)| own.def(**x) != probe.def(**y) || !same_shapes(own, **x, probe, **y, items);
    let found = pairs.find(other).map(|(_, &y)| named(y));
    found.or_else(|| (a.len() != b.len()).then(|| "the model".into()))
}

fn same_shapes(own: &Module, x: OpId, probe: &Module, y: OpId, items: &Follow) -> bool {
    let alike = |(&v, &w): (&ValueId, &ValueId)| {
        let (a, b) = (own.dims(v), probe.dims(w));
        let grows = match items.of(w) {
            Items::Same => None,
            Items::Along(axis) => Some(axis),
            Items::Met(_) => return false,
        };
        let dim = |(d, (&a, &b)): (usize, (&usize, &usize))| match grows {
            Some(axis) if axis == d => a * items.batch() == b,
            _ => a == b,
        };
        a.len() == b.len() && a.iter().zip(b).enumerate().all(dim)
    };
    let (a, b) = (own.results(x), probe.results(y));
    a.len() == b.len() && a.iter().zip(b).all(alike)
}

fn counts(m: &Module) -> (usize, [usize; 2]) {
    let ops = m.walk(m.body());
    let pairs = ops.iter().filter(|&&op| m.is(op, Quantize::DEF)).count();
    let products: Vec<Linear> = ops.iter().filter_map(|&op| Linear::of(m, op)).collect();
    let stored = |v| Dequantize::producing(m, v).is_some();
    let integer = products.iter().filter(|p| stored(p.input(m)) && stored(p.weight(m))).count();
    (pairs, [products.len(), integer])
}

/// All ops that cannot be written, as one error.
fn unwritten(file: &ModelFile, all: &[Unwritten]) -> CompileError {
    let mut text = format!("{}: ", file.path.display());
    match all {
        [one] => text += &one.to_string(),
        _ => {
            text += &format!("{} ops cannot be written to ONNX", all.len());
            all.iter().for_each(|one| text += &format!("\n  {one}"));
        }
    }
    CompileError::Model { text }
}
