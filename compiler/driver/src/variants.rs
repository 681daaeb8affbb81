//! The variants of a compilation: which batches get code, and the programs for them.

use crate::report::Account;
use crate::{CompileError, Compiled, Compiler, batch, ports};
use qc_codegen::image::Port;
use qc_frontend::{Imported, NodeReport};
use qc_ir::{Module, NoSink, PassReport, Sink};
use qc_kernels::Tier;
use std::collections::BTreeSet;

/// Batch sizes that get code of their own unless the options say otherwise.
const DEFAULT_BATCHES: [usize; 2] = [1, 8];

/// A model in planned loop code for one batch.
#[derive(Clone)]
pub(crate) struct Program {
    pub batch: usize,
    pub module: Module,
    /// Shapes of inputs, then outputs.
    pub shapes: Vec<Vec<usize>>,
}

/// Imports a model for one batch size, or for its own with `None`.
pub(crate) type Import<'a> = dyn Fn(Option<usize>) -> Result<Imported, CompileError> + 'a;

/// What is compiled.
struct Plan {
    /// The batch of `first`.
    own: usize,
    first: Imported,
    /// Why only whole batches can be computed, if so.
    whole: Option<String>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    batches: BTreeSet<usize>,
}

impl Compiler {
    pub(crate) fn compile_variants(
        &self,
        name: &str,
        sha256: [u8; 32],
        import: &Import<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Compiled, CompileError> {
        let Plan { own, first, whole, inputs, mut outputs, batches } = self.plan(import)?;
        let format = first.format.clone();
        let (account, passes, programs) = self.programs(import, (own, first), &batches, sink)?;
        if whole.is_some() {
            let shapes = |i: usize| programs.iter().map(move |p| &p.shapes[i]);
            for (i, port) in outputs.iter_mut().enumerate().map(|(i, port)| (inputs.len() + i, port)) {
                port.dims.clone_from(&programs[0].shapes[i]);
                port.batched = shapes(i).any(|shape| *shape != port.dims);
            }
        }
        let tiers = self.options.target.tiers();
        let stem = self.options.name.clone().unwrap_or_else(|| name.to_string());
        Ok(Compiled {
            name: qc_codegen::header::c_identifier(&stem),
            account,
            format,
            passes,
            inputs,
            outputs,
            whole_batches: whole,
            sha256,
            variants: self.selected(&tiers, programs)?,
            tiers,
            record: self.options.record(),
            limits: self.options.limits.clone(),
        })
    }

    /// Decides which batches get code.
    fn plan(&self, import: &Import<'_>) -> Result<Plan, CompileError> {
        let (own, first) = self.first_import(import)?;
        let data = batch::of_data(&first.inputs, own, &self.options.data);
        let (whole, has_items) = self.items(import, own, &first)?;
        let (mut inputs, mut outputs) = (ports(&first.inputs), ports(&first.outputs));
        inputs.iter_mut().filter(|p| p.batched).for_each(|p| p.dims[0] /= own);
        outputs.iter_mut().zip(has_items).for_each(|(p, batched)| p.batched = batched);
        let open = inputs.iter().any(|p| p.batched);
        let wanted = if self.options.batches.is_empty() { &DEFAULT_BATCHES[..] } else { &self.options.batches };
        let mut batches: BTreeSet<usize> = match (&whole, data) {
            (Some(_), Some(batch)) => [batch].into(),
            (Some(_), None) => batch::WHOLE_BATCHES.chain(wanted.iter().copied()).collect(),
            (None, _) => wanted.iter().copied().chain([own]).collect(),
        };
        batches.retain(|&b| open || b == own);
        Ok(Plan { own, first, whole, inputs, outputs, batches })
    }

    /// A program for each batch whose nodes can be computed, with the account and the passes of the first.
    fn programs(
        &self,
        import: &Import<'_>,
        (own, first): (usize, Imported),
        batches: &BTreeSet<usize>,
        sink: &mut dyn Sink,
    ) -> Result<(Account, Vec<PassReport>, Vec<Program>), CompileError> {
        let report: Vec<NodeReport> = first.report.clone();
        let (mut result, mut programs, mut refused) = (None, Vec::new(), None);
        let mut first = Some(first);
        for &batch in batches {
            let imported = match first.take_if(|_| batch == own) {
                Some(first) => Ok(first),
                None => import(Some(batch)),
            };
            let imported = match imported {
                Ok(imported) => imported,
                Err(e) if batch::may_fit_another(&e) => {
                    refused = Some((batch, e));
                    continue;
                }
                Err(e) => return Err(e),
            };
            let shapes = imported.inputs.iter().chain(&imported.outputs).map(|p| p.dims.clone()).collect();
            let sink: &mut dyn Sink = if result.is_none() { &mut *sink } else { &mut NoSink };
            let (account, passes, module) = self.lower(imported, &report, sink)?;
            programs.push(Program { batch, module, shapes });
            result.get_or_insert((account, passes));
        }
        match (result, refused) {
            (Some((account, passes)), _) => Ok((account, passes, programs)),
            (None, Some((batch, e))) => Err(CompileError::Model { text: format!("for batch {batch}: {e}") }),
            (None, None) => Err(CompileError::Bug { text: "no batch is left to compile for".into() }),
        }
    }

    /// The programs with kernels for every tier.
    fn selected(&self, tiers: &[Tier], programs: Vec<Program>) -> Result<Vec<(Tier, Program)>, CompileError> {
        let copies = vec![programs; tiers.len()];
        let mut variants = Vec::new();
        for (&tier, programs) in tiers.iter().zip(copies) {
            for mut program in programs {
                self.run(&mut program.module, &crate::pipeline::select(tier), &mut NoSink)?;
                variants.push((tier, program));
            }
        }
        Ok(variants)
    }

    /// The model at its own batch, or at the smallest for which its nodes can be computed.
    fn first_import(&self, import: &Import<'_>) -> Result<(usize, Imported), CompileError> {
        let error = match import(None) {
            Ok(imported) => return Ok((1, imported)),
            Err(e) if batch::may_fit_another(&e) => e,
            Err(e) => return Err(e),
        };
        let given = self.options.data.iter().filter_map(|(_, dims)| dims.first());
        let candidates: BTreeSet<usize> =
            batch::WHOLE_BATCHES.chain(self.options.batches.iter().copied()).chain(given.copied()).collect();
        let found = candidates.into_iter().filter(|&b| b > 1).find_map(|b| Some((b, import(Some(b)).ok()?)));
        found.ok_or(error)
    }

    fn is_late(&self) -> bool {
        self.options.manager.deadline.is_some_and(|d| d.check().is_err())
    }

    /// Why only whole batches of a model can be computed, if so; and which outputs have items.
    fn items(
        &self,
        import: &Import<'_>,
        own: usize,
        first: &Imported,
    ) -> Result<(Option<String>, Vec<bool>), CompileError> {
        let whole = |why: String| Ok((Some(why), vec![true; first.outputs.len()]));
        if first.fixed_batch.is_some() || first.inputs.iter().all(|p| !p.batched) {
            return Ok((Some("the shapes that the model fixes".into()), vec![false; first.outputs.len()]));
        }
        if own != 1 {
            return whole(format!("its nodes cannot be computed for batch 1, the least is {own}"));
        }
        for batch in batch::PROBES {
            match import(Some(batch)) {
                // What a batch is too large for, or does not fit, may do for a smaller one; time that is over does not return.
                Err(e @ CompileError::Limit { .. }) if self.is_late() => return Err(e),
                Err(CompileError::Import { .. } | CompileError::Limit { .. }) => {}
                Err(e) => return Err(e),
                Ok(probe) => {
                    return match batch::apart(first, &probe, batch) {
                        Ok(outputs) => Ok((None, outputs)),
                        Err(why) => whole(why),
                    };
                }
            }
        }
        whole("its nodes can be computed for some batches only".into())
    }
}
