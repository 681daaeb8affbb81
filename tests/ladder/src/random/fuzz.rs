//! One seed from model to finding: climbs the ladder, and makes small what falls off.

use super::{Recipe, shrink};
use crate::ladder::{Failure, Levels, climb_module, options_of};
use crate::shapes::Outcome;
use qc_compiler::REGISTRY;
use qc_dialects::graph::GRAPH;
use qc_dialects::quant::QUANT;
use qc_ir::Quant;
use std::collections::{BTreeMap, HashMap};

/// A model on which two rungs of the ladder differ.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed it came from.
    pub seed: u64,
    /// What the model of the seed does.
    pub failure: Failure,
    /// The smallest model found that falls off the same rung.
    pub small: Recipe,
    /// What the small model does.
    pub small_failure: Failure,
    /// The small model as a file test.
    pub text: String,
    /// Whether the file test fails as well. It may not: names and places are all that is lost, but a defect can hang on
    /// the exact value of a range.
    pub text_fails: bool,
}

impl Finding {
    /// A name for the file test.
    pub fn file_name(&self) -> String {
        format!("random_{}_{}.qir", self.small.mode.name(), self.seed)
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {} ({}): {}\n  made small: {}",
            self.seed,
            self.small.mode.name(),
            self.failure,
            self.small_failure
        )?;
        if self.text_fails { Ok(()) } else { write!(f, "\n  its text form alone does not fail") }
    }
}

/// What the models that held were made of; each is counted once under a name.
#[derive(Clone, Default, Debug)]
pub struct Coverage {
    /// Models by mode.
    pub modes: BTreeMap<&'static str, u64>,
    /// Models by op of the graph and quant dialects: as made, canonical, with pairs, fused.
    pub ops: BTreeMap<&'static str, u64>,
    /// Models by quantized type, as `u8` or `i8 per channel with zero points`, of the model as made or fused.
    pub types: BTreeMap<String, u64>,
    /// Models of which an op is computed in integers.
    pub integer: u64,
    /// Models that were compared at several shapes.
    pub shapes: u64,
}

impl Coverage {
    /// Takes in what another saw.
    pub fn merge(&mut self, other: Coverage) {
        fn add<K: Ord>(to: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            from.into_iter().for_each(|(name, n)| *to.entry(name).or_default() += n);
        }
        add(&mut self.modes, other.modes);
        add(&mut self.ops, other.ops);
        add(&mut self.types, other.types);
        self.integer += other.integer;
        self.shapes += other.shapes;
    }

    /// Declared ops that no model had.
    pub fn missing(&self) -> Vec<&'static str> {
        let declared = GRAPH.iter().chain(QUANT).map(|d| d.name);
        declared.filter(|name| !self.ops.contains_key(name)).collect()
    }

    fn of(recipe: &Recipe, levels: &Levels) -> Coverage {
        let mut seen = Coverage::default();
        seen.modes.insert(recipe.mode.name(), 1);
        for m in [&super::build(recipe, 1), &levels.canonical, &levels.observed, &levels.paired, &levels.fused] {
            for &op in m.ops(m.body()) {
                seen.ops.insert(m.def(op).name, 1);
                let quantized = m.results(op).iter().filter_map(|&v| m.quant_of(v));
                seen.types.extend(quantized.map(|q| (type_name(q), 1)));
            }
        }
        seen.integer = u64::from(seen.ops.keys().any(|name| name.starts_with("quant.")));
        seen
    }
}

/// What distinguishes a quantized type but for its numbers.
fn type_name(q: &Quant) -> String {
    let mut name = format!("{:?}", q.store).to_lowercase();
    if q.axis.is_some() {
        name += " per channel";
    }
    if q.zeros.iter().any(|&z| z != 0) {
        name += " with zero points";
    }
    if (q.lo, q.hi) != q.store.bounds() {
        name += ", narrow";
    }
    name
}

/// Climbs the ladder with the model of a seed.
///
/// # Errors
/// What was found.
pub fn climb(seed: u64) -> Result<Coverage, Box<Finding>> {
    let recipe = Recipe::of_seed(seed);
    // Seeds take turns in their modes, so some of each are compared at several shapes.
    let at_shapes = (seed / 4).is_multiple_of(SHAPES_EVERY);
    let failure = match check(&recipe, at_shapes) {
        Ok(coverage) => return Ok(coverage),
        Err(failure) => failure,
    };
    let check = |r: &Recipe| check(r, at_shapes).err();
    let small = shrink::shrink(&recipe, &|r| check(r).is_some_and(|f| f.kind() == failure.kind()));
    let small_failure = check(&small).unwrap_or_else(|| failure.clone());
    let text = small.to_qir();
    let text_fails = text_falls_off(&text);
    Err(Box::new(Finding { seed, failure, small, small_failure, text, text_fails }))
}

/// One model in so many is compared at several shapes.
const SHAPES_EVERY: u64 = 8;

/// Climbs the ladder with a model, and compares it at several shapes if asked for.
fn check(recipe: &Recipe, at_shapes: bool) -> Result<Coverage, Failure> {
    let levels = recipe.check()?;
    let mut coverage = Coverage::of(recipe, &levels);
    if at_shapes {
        coverage.shapes = u64::from(recipe.check_shapes()? == Outcome::Agree);
    }
    Ok(coverage)
}

fn text_falls_off(text: &str) -> bool {
    let words = text.lines().next().and_then(|l| l.split_once("ladder(")).and_then(|(_, rest)| rest.split_once(')'));
    let Ok(options) = options_of(words.map_or("", |(words, _)| words)) else { return false };
    let Ok(m) = qc_ir::parse(text, &REGISTRY, &HashMap::new()) else { return true };
    let climb = || climb_module(&m, options).is_err();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(climb)).unwrap_or(true)
}
