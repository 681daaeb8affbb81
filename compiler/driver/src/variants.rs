//! The variants of a compilation: which shapes and batches get code, and the programs for them.

use crate::report::Account;
use crate::{CompileError, Compiled, Compiler, batch, ports};
use qc_codegen::image::Port;
use qc_frontend::{Imported, NodeReport};
use qc_ir::{Memo, Module, NoSink, PassReport, Sink};
use qc_kernels::Tier;
use std::collections::BTreeSet;

/// Batch sizes that get code of their own unless the options say otherwise.
const DEFAULT_BATCHES: [usize; 2] = [1, 8];

/// A model in planned loop code for one shape and batch.
#[derive(Clone)]
pub(crate) struct Program {
    /// Number of the shape.
    pub shape: usize,
    pub batch: usize,
    pub module: Module,
    /// Shapes of inputs, then outputs.
    pub shapes: Vec<Vec<usize>>,
}

/// Imports a model for one shape and one batch size, or for its own with `None`.
pub(crate) type Import<'a> = dyn Fn(usize, Option<usize>) -> Result<Imported, CompileError> + 'a;
/// As [`Import`], of one shape.
pub(crate) type ImportShape<'a> = dyn Fn(Option<usize>) -> Result<Imported, CompileError> + 'a;

/// What is compiled of one shape.
pub(crate) struct Plan {
    /// The batch of `first`.
    pub own: usize,
    pub first: Imported,
    /// Why only whole batches can be computed, if so.
    pub whole: Option<String>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// The batch of the data that the model is going to be run with.
    data: Option<usize>,
}

impl Compiler {
    /// Compiles a model for every shape; `import` gives it at each of as many shapes as said.
    pub(crate) fn compile_variants(
        &self,
        name: &str,
        sha256: [u8; 32],
        (import, count): (&Import<'_>, usize),
        sink: &mut dyn Sink,
    ) -> Result<Compiled, CompileError> {
        let memo = Memo::default();
        let import: &Import<'_> = &|shape, batch| {
            let mut imported = import(shape, batch)?;
            imported.module.consts.memo = memo.clone();
            Ok(imported)
        };
        let mut plans = (0..count).map(|s| self.plan(&|batch| import(s, batch))).collect::<Result<Vec<Plan>, _>>()?;
        let whole = whole_of(&plans)?;
        let batches: Vec<BTreeSet<usize>> = plans.iter().map(|plan| self.batches(plan, whole.is_some())).collect();
        let programs = batches.iter().map(|b| b.len() as u64).sum();
        let within = self.options.limits.check(qc_ir::Limit::Variants, programs, || "shapes times batches are".into());
        within.map_err(|e| CompileError::limit(name, &e))?;
        let (format, inputs) = (plans[0].first.format.clone(), std::mem::take(&mut plans[0].inputs));
        let mut outputs = std::mem::take(&mut plans[0].outputs);
        let (account, passes, programs) = self.all_programs(import, plans, &batches, sink)?;
        if whole.is_some() {
            for (i, port) in outputs.iter_mut().enumerate().map(|(i, port)| (inputs.len() + i, port)) {
                port.dims.clone_from(&programs[0].shapes[i]);
                let first = |p: &Program| {
                    programs.iter().find(|q| q.shape == p.shape).is_some_and(|q| q.shapes[i] == p.shapes[i])
                };
                port.batched = !programs.iter().all(first);
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

    /// Looks at one shape: which batches can be run.
    pub(crate) fn plan(&self, import: &ImportShape<'_>) -> Result<Plan, CompileError> {
        let (own, first) = self.first_import(import)?;
        let data = batch::of_data(&first.inputs, own, &self.options.data);
        let (whole, has_items) = self.items(import, own, &first)?;
        let (mut inputs, mut outputs) = (ports(&first.inputs), ports(&first.outputs));
        inputs.iter_mut().filter(|p| p.batched).for_each(|p| p.dims[0] /= own);
        outputs.iter_mut().zip(has_items).for_each(|(p, batched)| p.batched = batched);
        Ok(Plan { own, first, whole, inputs, outputs, data })
    }

    /// The batches that get code in one shape.
    fn batches(&self, plan: &Plan, whole: bool) -> BTreeSet<usize> {
        let open = plan.inputs.iter().any(|p| p.batched);
        let wanted = if self.options.batches.is_empty() { &DEFAULT_BATCHES[..] } else { &self.options.batches };
        let mut batches: BTreeSet<usize> = match (whole, plan.data) {
            (true, Some(batch)) => [batch].into(),
            (true, None) => batch::WHOLE_BATCHES.chain(wanted.iter().copied()).collect(),
            (false, _) => wanted.iter().copied().chain([plan.own]).collect(),
        };
        batches.retain(|&b| open || b == plan.own);
        batches
    }

    /// The programs of all shapes, with the account and the passes of the first.
    fn all_programs(
        &self,
        import: &Import<'_>,
        plans: Vec<Plan>,
        batches: &[BTreeSet<usize>],
        sink: &mut dyn Sink,
    ) -> Result<(Account, Vec<PassReport>, Vec<Program>), CompileError> {
        let (mut result, mut all) = (None, Vec::new());
        for (shape, (plan, batches)) in plans.into_iter().zip(batches).enumerate() {
            let import = |batch| import(shape, batch);
            let sink: &mut dyn Sink = if result.is_none() { &mut *sink } else { &mut NoSink };
            let (account, passes, programs) = self.programs(&import, (plan.own, plan.first), batches, sink)?;
            result.get_or_insert((account, passes));
            all.extend(programs.into_iter().map(|p| Program { shape, ..p }));
        }
        let (account, passes) = result.ok_or_else(|| CompileError::Bug { text: "there is no shape".into() })?;
        Ok((account, passes, all))
    }

    /// A program for each batch whose nodes can be computed, with the account and the passes of the first.
    fn programs(
        &self,
        import: &ImportShape<'_>,
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
            let (account, passes, mut module) = self.lower(imported, &report, sink)?;
            module.consts.memo = Memo::default();
            programs.push(Program { shape: 0, batch, module, shapes });
            result.get_or_insert((account, passes));
        }
        match (result, refused) {
            (Some((account, passes)), _) => Ok((account, passes, programs)),
            (None, Some((batch, e))) => Err(CompileError::Model { text: format!("for batch {batch}: {e}") }),
            (None, None) => Err(CompileError::Bug { text: "no batch is left to compile for".into() }),
        }
    }

    /// The programs with kernels for every tier.
    pub(crate) fn selected(
        &self,
        tiers: &[Tier],
        programs: Vec<Program>,
    ) -> Result<Vec<(Tier, Program)>, CompileError> {
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
    fn first_import(&self, import: &ImportShape<'_>) -> Result<(usize, Imported), CompileError> {
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
        import: &ImportShape<'_>,
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

/// Why only whole batches can be computed at some shape of a model, if so.
///
/// # Errors
/// Outputs that are described otherwise at another shape.
fn whole_of(plans: &[Plan]) -> Result<Option<String>, CompileError> {
    let first = &plans[0];
    for plan in &plans[1..] {
        let same = |a: &[Port], b: &[Port]| {
            let alike = |(a, b): (&Port, &Port)| (&a.name, a.elem, a.batched) == (&b.name, b.elem, b.batched);
            a.len() == b.len() && a.iter().zip(b).all(alike)
        };
        if !same(&first.inputs, &plan.inputs) || first.outputs.len() != plan.outputs.len() {
            let text = "the model has other inputs or outputs at another shape; compile them apart";
            return Err(CompileError::Model { text: text.into() });
        }
    }
    for (one, other) in plans[1..].iter().flat_map(|plan| first.outputs.iter().zip(&plan.outputs)) {
        if one.dims.len() != other.dims.len() || one.elem != other.elem || one.name != other.name {
            let (name, a, b) = (&one.name, &one.dims, &other.dims);
            let text = format!("output \"{name}\" is {a:?} at one shape and {b:?} at another; compile them apart");
            return Err(CompileError::Model { text });
        }
    }
    let whole = plans.iter().find_map(|plan| plan.whole.clone());
    let flags = |plan: &Plan| plan.outputs.iter().map(|p| p.batched).collect::<Vec<bool>>();
    let differ = plans.iter().any(|plan| flags(plan) != flags(first));
    Ok(whole.or(differ.then(|| "what its outputs have of a batch depends on the shape".into())))
}
