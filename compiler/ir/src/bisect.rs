//! Finds the rewrite that changes what a module computes: the first pass that does, then within it, by halving, the
//! number of rewrites after which the results are wrong.

use crate::check::{SAMPLES, check, samples, seeded_inputs};
use crate::diag::{Diag, Severity};
use crate::manager::{ManagerOptions, run_step};
use crate::module::Module;
use crate::opdef::Registry;
use crate::pass::Step;
use crate::print::{PrintOptions, print};
use std::collections::BTreeMap;

/// A pass that changes results by more than it keeps, panics or leaves an invalid module.
#[derive(Clone, Debug)]
pub struct Culprit {
    /// Its position in the pipeline, from 1.
    pub position: usize,
    /// Its name.
    pub pass: &'static str,
    /// What is wrong behind it.
    pub diag: Diag,
    /// The rewrite, where the pass works by rewrites and stopping before one of them helps.
    pub rewrite: Option<GuiltyRewrite>,
}

/// One application of a pattern.
#[derive(Clone, Debug)]
pub struct GuiltyRewrite {
    /// Its number within the pass, from 1.
    pub number: usize,
    /// The number of rewrites that the pass does in all; 0 when it does not come to its end.
    pub of: usize,
    /// The pattern, unless it does not come to its end.
    pub pattern: Option<&'static str>,
    /// What is wrong after it, but not before.
    pub diag: Diag,
    /// The lines of the module that it changes.
    pub change: String,
}

/// Runs `steps` on `m` until the first pass whose result is wrong; `None` when none is. `m` ends up before that pass.
///
/// # Errors
/// What a pass says about a module it does not take, and what the interpreter says about the module as given.
pub fn bisect(m: &mut Module, steps: &[Step], registry: &Registry) -> Result<Option<Culprit>, Diag> {
    let inputs = seeded_inputs(m);
    (registry.interpret)(m, &inputs)?;
    for (n, step) in steps.iter().enumerate() {
        let from = step.pass.from;
        if !from.is_empty() && from != m.phase {
            return Err(Diag::error(format!("pass `{}` needs phase `{from}`, not `{}`", step.pass.name, m.phase)));
        }
        let trial = |limit: usize| attempt(m, step, limit, registry);
        let done = trial(usize::MAX);
        match done.wrong {
            None => *m = done.after,
            Some(diag) if diag.severity != Severity::Bug => return Err(diag),
            Some(diag) => {
                let rewrite = guilty(&trial, done.hits.values().sum());
                return Ok(Some(Culprit { position: n + 1, pass: step.pass.name, diag, rewrite }));
            }
        }
    }
    Ok(None)
}

/// What a pass does when it may apply so many rewrites.
struct Trial {
    after: Module,
    hits: BTreeMap<&'static str, usize>,
    /// What is wrong with the result.
    wrong: Option<Diag>,
}

fn attempt(m: &Module, step: &Step, limit: usize, registry: &Registry) -> Trial {
    let mut after = m.clone();
    let options = ManagerOptions { verify_each: true, ..ManagerOptions::default() };
    let (hits, wrong) = match run_step(&mut after, step, limit, registry, &options) {
        Ok(done) => {
            let checked = check(m, &after, step.pass.keeps, &samples(m, SAMPLES), registry);
            (done.hits, checked.err().map(|d| Diag { severity: Severity::Bug, ..d }))
        }
        Err(diag) => (BTreeMap::new(), Some(diag)),
    };
    Trial { after, hits, wrong }
}

/// The first rewrite after which a pass is wrong, as it is without a limit. `None` when it is wrong without rewrites.
fn guilty(trial: &dyn Fn(usize) -> Trial, of: usize) -> Option<GuiltyRewrite> {
    let mut before = trial(0);
    before.wrong.is_none().then_some(())?;
    // The smallest power of two that is wrong bounds the search from above.
    let (mut right, mut wrong) = (0, 1);
    let mut after = trial(wrong);
    while after.wrong.is_none() {
        (after.hits.values().sum::<usize>() >= wrong).then_some(())?;
        (before, right, wrong) = (after, wrong, wrong * 2);
        after = trial(wrong);
    }
    while wrong - right > 1 {
        let middle = right + (wrong - right) / 2;
        let done = trial(middle);
        if done.wrong.is_none() {
            (before, right) = (done, middle);
        } else {
            (after, wrong) = (done, middle);
        }
    }
    let more = after.hits.iter().find(|(name, n)| before.hits.get(*name).copied().unwrap_or(0) < **n);
    let pattern = more.map(|(name, _)| *name);
    let diag = after.wrong?;
    Some(GuiltyRewrite { number: wrong, of, pattern, diag, change: lines(&before.after, &after.after) })
}

fn lines(a: &Module, b: &Module) -> String {
    let (old, new) = (print(a, PrintOptions::default()), print(b, PrintOptions::default()));
    similar::TextDiff::from_lines(&old, &new).unified_diff().context_radius(2).to_string()
}
