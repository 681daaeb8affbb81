//! One seed from model to finding: climbs the ladder, and makes small what falls off.

use super::{Recipe, shrink};
use crate::ladder::{Failure, climb_module, options_of};
use qc_compiler::REGISTRY;
use std::collections::HashMap;

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

/// Climbs the ladder with the model of a seed; `None` when it holds.
pub fn climb(seed: u64) -> Option<Finding> {
    let recipe = Recipe::of_seed(seed);
    let failure = recipe.check().err()?;
    let small = shrink::shrink(&recipe, &|r| r.check().is_err_and(|f| f.kind() == failure.kind()));
    let small_failure = small.check().err().unwrap_or_else(|| failure.clone());
    let text = small.to_qir();
    let text_fails = text_falls_off(&text);
    Some(Finding { seed, failure, small, small_failure, text, text_fails })
}

fn text_falls_off(text: &str) -> bool {
    let words = text.lines().next().and_then(|l| l.split_once("ladder(")).and_then(|(_, rest)| rest.split_once(')'));
    let Ok(options) = options_of(words.map_or("", |(words, _)| words)) else { return false };
    let Ok(m) = qc_ir::parse(text, &REGISTRY, &HashMap::new()) else { return true };
    let climb = || climb_module(&m, options).is_err();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(climb)).unwrap_or(true)
}
