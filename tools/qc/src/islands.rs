//! Islands of integer ops that this machine computes faster in f32, for `--guard measured`.
//!
//! An island is what quantized tensors connect; its borders are conversions, so it is kept or computed in f32 as a whole. The steps of the
//! program with everything in INT8 and of that in f32 are timed with one thread, those that conversions take included, and each step
//! counts for the island whose nodes it computes. What was found is measured once more as a whole, since neighbours of an island that
//! goes have other steps then.

use crate::cmd::bench::fill_random;
use crate::failure::Outcome;
use qc_compiler::{CompileOptions, Compiler, ContextOptions, Guard, ModelFile, Shapes};
use qc_dialects::graph::Constant;
use qc_ir::{DisjointSets, Elem, Module, ValueId};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Runs of which the fastest counts, step by step.
const RUNS: usize = 20;

/// Nodes of an island.
type Island = BTreeSet<String>;

/// What was found.
pub struct Measured {
    /// Nodes that are computed in f32, as `--keep-fp32` takes them.
    pub kept: Vec<String>,
    /// How many islands these are, and of how many.
    pub islands: [usize; 2],
    /// Nanoseconds of a run with everything in INT8, and with these nodes in f32.
    pub ns: [u64; 2],
}

/// Nanoseconds of steps, each with the nodes it computes, separated by `+`.
type Steps = Vec<(String, u64)>;

/// Times the model at its first shape.
///
/// # Errors
/// As compiling and running it.
pub fn measured(options: &CompileOptions, file: &ModelFile) -> Outcome<Measured> {
    let integers = Compiler::new(CompileOptions { guard: Guard::None, ..options.clone() });
    let at = integers.shapes(file)?.into_iter().next().unwrap_or_default();
    let islands = islands(&integers.inside(file, &at)?.module);
    let int8 = steps(&integers, file, &at)?;
    let slower = slower(&islands, &int8, &steps(&integers.in_floats(), file, &at)?);
    let kept: Vec<String> = slower.iter().flat_map(|island| island.iter().cloned()).collect();
    let ns = total(&int8);
    let none = Measured { kept: Vec::new(), islands: [0, islands.len()], ns: [ns; 2] };
    if kept.is_empty() {
        return Ok(none);
    }
    let keep_fp32 = options.keep_fp32.iter().chain(&kept).cloned().collect();
    let with = Compiler::new(CompileOptions { guard: Guard::None, keep_fp32, ..options.clone() });
    let mixed = total(&steps(&with, file, &at)?);
    Ok(if mixed < ns { Measured { kept, islands: [slower.len(), islands.len()], ns: [ns, mixed] } } else { none })
}

impl Measured {
    /// For people.
    pub fn text(&self) -> String {
        let ([slower, all], ms) = (self.islands, self.ns.map(|ns| ns as f64 / 1e6));
        if slower == 0 {
            return format!("guard    {all} islands of integer ops, none of which is faster in f32 here\n");
        }
        let rules: Vec<String> = self.kept.iter().map(|node| format!("--keep-fp32 '{node}'")).collect();
        format!(
            "guard    {slower} of {all} islands of integer ops are faster in f32 here: {:.3} ms instead of {:.3}\nrules    {}\n",
            ms[1],
            ms[0],
            rules.join(" ")
        )
    }

    /// For other programs.
    pub fn json(&self) -> Value {
        let ms = self.ns.map(|ns| ns as f64 / 1e6);
        json!({ "keep_fp32": self.kept, "islands": self.islands[1], "slower": self.islands[0], "int8_ms": ms[0], "ms": ms[1] })
    }
}

/// Nodes of ops that quantized tensors connect, in a fused module. Ops without one stay f32 anyway.
fn islands(m: &Module) -> Vec<Island> {
    let mut groups = DisjointSets::default();
    let ops = || m.walk(m.body()).into_iter().filter(|&op| !m.is(op, Constant::DEF));
    let computed = |v: &ValueId| m.producer(*v).is_none_or(|op| !m.is(op, Constant::DEF));
    let quantized = |op| {
        let all = m.operands(op).iter().flatten().chain(m.results(op)).copied().filter(computed);
        all.filter(|v| m.ty(*v).tensor().is_some_and(|t| matches!(t.elem, Elem::Quant(_)))).collect::<Vec<_>>()
    };
    for op in ops() {
        quantized(op).windows(2).for_each(|pair| groups.join(pair[0], pair[1]));
    }
    let mut found: BTreeMap<ValueId, Island> = BTreeMap::new();
    for op in ops() {
        let Some(&v) = quantized(op).first() else { continue };
        let nodes = m.locs.nodes(m.loc(op)).into_iter().map(|node| node.name.to_string());
        found.entry(groups.root(v)).or_default().extend(nodes);
    }
    found.into_values().collect()
}

/// The islands that take longer in integers.
fn slower<'i>(islands: &'i [Island], int8: &Steps, f32: &Steps) -> Vec<&'i Island> {
    let of = |steps: &Steps, island: &Island| -> u64 {
        steps.iter().filter(|(nodes, _)| nodes.split('+').any(|node| island.contains(node))).map(|(_, ns)| ns).sum()
    };
    islands.iter().filter(|island| of(int8, island) > of(f32, island)).collect()
}

fn total(steps: &Steps) -> u64 {
    steps.iter().map(|(_, ns)| ns).sum()
}

/// The fastest time of each step.
fn steps(compiler: &Compiler, file: &ModelFile, at: &Shapes) -> Outcome<Steps> {
    let predictor = compiler.jit_at(file, at)?;
    let mut context = predictor.context(&ContextOptions { threads: Some(1), ..ContextOptions::default() })?;
    fill_random(&mut context, 1, 0)?;
    let mut profile = context.profile();
    let mut fastest: Steps = profile.rows().map(|row| (row.name.to_string(), u64::MAX)).collect();
    for _ in 0..RUNS {
        profile.clear();
        context.run_profiled(&mut profile)?;
        fastest.iter_mut().zip(profile.rows()).for_each(|(step, row)| step.1 = step.1.min(row.ns));
    }
    Ok(fastest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn island(nodes: &[&str]) -> Island {
        nodes.iter().map(ToString::to_string).collect()
    }

    fn steps(all: &[(&str, u64)]) -> Steps {
        all.iter().map(|(nodes, ns)| (nodes.to_string(), *ns)).collect()
    }

    #[test]
    fn islands_that_take_longer_in_integers_go_as_a_whole() {
        let islands = [island(&["a", "b"]), island(&["c"]), island(&["d"])];
        let int8 = steps(&[("x", 9), ("a", 2), ("b", 7), ("c", 5), ("d", 3)]);
        let f32 = steps(&[("x", 1), ("a+b", 8), ("c", 6), ("d", 3)]);
        assert_eq!(slower(&islands, &int8, &f32), [&islands[0]]);
    }
}
