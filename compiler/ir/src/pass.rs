//! Passes and pipelines.

use crate::diag::Diag;
use crate::id::{LocId, RegionId};
use crate::limits::Deadline;
use crate::module::Module;
use crate::rewrite::{Pattern, rewrite};
use std::collections::BTreeMap;

/// What a pass keeps: what `--check-each` and the tests demand of the results before and after it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Keeps {
    /// Results are bit-identical.
    Exact,
    /// Results differ by float rounding, at most this fraction of the largest magnitude.
    F32Rounding(f32),
    /// Results differ as if single roundings went the other way: no more than all roundings of pairs do.
    OneStep,
    /// Roundings of pairs go, their clamps stay: results differ no more than those roundings explain.
    Clamps,
    /// The lossy step: results keep this signal-to-noise ratio.
    Decibels(f32),
}

/// A transformation of a module.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Name in pipelines, in kebab case, as the file is called in snake case.
    pub name: &'static str,
    /// One line of what it does.
    pub summary: &'static str,
    /// The phase it needs; empty for any.
    pub from: &'static str,
    /// The phase it leaves behind; empty for the same.
    pub to: &'static str,
    /// What it keeps.
    pub keeps: Keeps,
    /// The transformation.
    pub run: fn(&mut Module, &mut PassCx) -> Result<(), Diag>,
}

/// What a running pass may use besides the module.
pub struct PassCx {
    /// Memory for work lists and maps; gone after the pass.
    pub scratch: bumpalo::Bump,
    /// Applications per pattern, for statistics.
    pub hits: BTreeMap<&'static str, usize>,
    /// How many rewrites may still be applied.
    pub rewrites_left: usize,
    /// What the user is told about ops, by location.
    pub remarks: Vec<(LocId, String)>,
    /// When the pass has to be done.
    pub deadline: Option<Deadline>,
    options: Vec<(String, String)>,
}

impl PassCx {
    /// A context with the options of one pipeline entry.
    pub fn new(options: Vec<(String, String)>, rewrites_left: usize) -> PassCx {
        PassCx {
            scratch: bumpalo::Bump::new(),
            hits: BTreeMap::new(),
            rewrites_left,
            remarks: Vec::new(),
            deadline: None,
            options,
        }
    }

    /// The option `name` of this pass, as written in the pipeline.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether the option `name` is set to `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.option(name) == Some("true")
    }

    /// Refuses to go on once the time is over; for passes whose work is not in proportion to the module.
    ///
    /// # Errors
    /// [`crate::Severity::Limit`].
    pub fn check_time(&self) -> Result<(), Diag> {
        self.deadline.map_or(Ok(()), |d| d.check()).map_err(|e| Diag::limit(&e))
    }

    /// Applies patterns to the body of every function and to the regions in it.
    ///
    /// # Errors
    /// As `rewrite`.
    pub fn rewrite(&mut self, m: &mut Module, patterns: &[Pattern]) -> Result<(), Diag> {
        let bodies: Vec<RegionId> = m.funcs().flat_map(|(_, f)| m.regions_in(f.body)).collect();
        for body in bodies {
            rewrite(m, body, patterns, &mut self.hits, &mut self.rewrites_left, self.deadline)?;
        }
        Ok(())
    }

    /// Tells the user something about the op at `loc`.
    pub fn remark(&mut self, loc: LocId, text: impl Into<String>) {
        self.remarks.push((loc, text.into()));
    }

    /// Counts one change under `name`.
    pub fn count(&mut self, name: &'static str) {
        *self.hits.entry(name).or_default() += 1;
    }
}

/// One entry of a pipeline: a pass and its options.
#[derive(Clone)]
pub struct Step {
    /// The pass.
    pub pass: Pass,
    /// Options as `name=value`.
    pub options: Vec<(String, String)>,
}

/// Parses `a,b{x=1 y=2},c`.
///
/// # Errors
/// An unknown pass, with those that exist, or a malformed option.
pub fn parse_pipeline(text: &str, passes: &[Pass]) -> Result<Vec<Step>, Diag> {
    let mut steps = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find([',', '{']).unwrap_or(rest.len());
        let name = rest[..end].trim();
        let mut options = Vec::new();
        rest = &rest[end..];
        if let Some(inner) = rest.strip_prefix('{') {
            let (inside, after) = inner.split_once('}').ok_or_else(|| Diag::error("pipeline: `{` is not closed"))?;
            for option in inside.split_whitespace() {
                let (n, v) = option
                    .split_once('=')
                    .ok_or_else(|| Diag::error(format!("pipeline: `{option}` is not `name=value`")))?;
                options.push((n.to_string(), v.to_string()));
            }
            rest = after;
        }
        let known = || passes.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
        let pass = passes
            .iter()
            .find(|p| p.name == name)
            .ok_or_else(|| Diag::error(format!("unknown pass `{name}`")).help(format!("passes are: {}", known())))?;
        steps.push(Step { pass: *pass, options });
        rest = rest.trim_start().strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Ok(steps)
}

/// The text of a pipeline, as [`parse_pipeline`] reads it.
pub fn print_pipeline(steps: &[Step]) -> String {
    let one = |s: &Step| {
        if s.options.is_empty() {
            return s.pass.name.to_string();
        }
        let options: Vec<String> = s.options.iter().map(|(n, v)| format!("{n}={v}")).collect();
        format!("{}{{{}}}", s.pass.name, options.join(" "))
    };
    steps.iter().map(one).collect::<Vec<_>>().join(",")
}
