//! Makes a failing recipe small: leaves steps out, halves sizes, zeroes choices, as long as the same rung fails.

use super::Recipe;

/// A policy by which nothing stays float on purpose and nothing has to pay.
const PLAIN: u32 = 4 * 7 + 1;

/// The smallest recipe found for which `fails` still holds.
pub fn shrink(recipe: &Recipe, fails: &dyn Fn(&Recipe) -> bool) -> Recipe {
    let mut best = recipe.clone();
    loop {
        match candidates(&best).into_iter().find(|c| fails(c)) {
            Some(smaller) => best = smaller,
            None => return best,
        }
    }
}

/// Recipes that are simpler by one change, most effective first.
fn candidates(r: &Recipe) -> Vec<Recipe> {
    let mut out = Vec::new();
    for i in (0..r.steps.len()).rev() {
        let mut c = r.clone();
        c.steps.remove(i);
        out.push(c);
    }
    for d in 0..3 {
        if r.input[d] > 1 {
            let mut c = r.clone();
            c.input[d] /= 2;
            out.push(c);
        }
    }
    if r.policy != PLAIN {
        out.push(Recipe { policy: PLAIN, ..r.clone() });
    }
    if r.second != 0 {
        out.push(Recipe { second: 0, ..r.clone() });
    }
    for (i, step) in r.steps.iter().enumerate() {
        for (k, pick) in step.picks.iter().enumerate() {
            if *pick != 0 {
                let mut c = r.clone();
                c.steps[i].picks[k] = 0;
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Mode, Recipe};
    use super::shrink;

    #[test]
    fn keeps_what_matters() {
        let r = Recipe::random(5, Mode::Float);
        let wide = |r: &Recipe| r.input[0] >= 2 && !r.steps.is_empty();
        let r = Recipe { input: [16, 8, 8], ..r };
        let small = shrink(&r, &wide);
        assert_eq!((small.input, small.steps.len()), ([2, 1, 1], 1));
        assert_eq!(small.steps[0].picks, [0; 10]);
    }
}
