//! Mixed precision: the fewest ops in f32 with which a model in INT8 is as good as it is asked to be.
//!
//! Ops are ordered by what they lose alone, and a search over that order finds how many of the worst have to be floats; then those that
//! are not needed are taken back, the cheapest loss first. Every step is judged by what a caller measures on the whole model, so
//! what counts is the model's own result, and the order only makes the search short.

use std::time::Instant;

/// An op that may stay in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The nodes of the model that it stands for.
    pub nodes: Vec<String>,
    /// Decibels between signal and error that it makes alone.
    pub alone: f64,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Nodes that stay in f32, in the order of the choices.
    pub kept: Vec<String>,
    /// How many ops they are.
    pub ops: usize,
    /// What was measured with them.
    pub score: f64,
    /// What was measured with none.
    pub without: f64,
    /// Whether the score is as good as was asked for.
    pub reached: bool,
    /// Whether the time was up before the search ended.
    pub cut_off: bool,
    /// How many times the model was measured.
    pub measured: usize,
}

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// The least score that is good enough; larger scores are better.
    pub least: f64,
    /// When to stop with what was found so far.
    pub until: Instant,
}

/// The state of a search.
struct Search<'a, E> {
    choices: &'a [Choice],
    goal: Goal,
    measure: &'a mut dyn FnMut(&[String]) -> Result<f64, E>,
    measured: usize,
    /// The smallest set that is good enough, or else the set with the best score.
    best: (Vec<usize>, f64),
    cut_off: bool,
}

/// Searches among `choices`; `measure` gives the score of the model with these nodes in f32.
///
/// # Errors
/// What `measure` says.
pub fn search<E>(
    choices: &[Choice],
    goal: Goal,
    measure: &mut dyn FnMut(&[String]) -> Result<f64, E>,
) -> Result<Found, E> {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by(|&a, &b| choices[a].alone.total_cmp(&choices[b].alone).then(a.cmp(&b)));
    let without = measure(&[])?;
    let mut search = Search { choices, goal, measure, measured: 1, best: (Vec::new(), without), cut_off: false };
    if without < goal.least {
        let worst = search.least_number(&order)?;
        search.take_back(&order[..worst])?;
    }
    let (mut kept, score) = search.best;
    kept.sort_unstable();
    Ok(Found {
        ops: kept.len(),
        kept: kept.into_iter().flat_map(|i| choices[i].nodes.clone()).collect(),
        score,
        without,
        reached: score >= goal.least,
        cut_off: search.cut_off,
        measured: search.measured,
    })
}

impl<E> Search<'_, E> {
    /// Whether a set is good enough; nothing where the time is up.
    fn good(&mut self, set: &[usize]) -> Result<Option<bool>, E> {
        if Instant::now() >= self.goal.until {
            self.cut_off = true;
            return Ok(None);
        }
        let mut sorted = set.to_vec();
        sorted.sort_unstable();
        let nodes: Vec<String> = sorted.iter().flat_map(|&i| self.choices[i].nodes.clone()).collect();
        let score = (self.measure)(&nodes)?;
        self.measured += 1;
        let (good, had) = (score >= self.goal.least, self.best.1 >= self.goal.least);
        let better = match (good, had) {
            (true, true) => set.len() < self.best.0.len(),
            (true, false) => true,
            (false, true) => false,
            (false, false) => score > self.best.1,
        };
        if better {
            self.best = (set.to_vec(), score);
        }
        Ok(Some(good))
    }

    /// How many of the worst make the model good enough: twice as many each time, then by halves. All where even all do not.
    fn least_number(&mut self, order: &[usize]) -> Result<usize, E> {
        let (mut bad, mut good) = (0, order.len());
        let mut n = 1;
        while n < order.len() {
            match self.good(&order[..n])? {
                Some(true) => {
                    good = n;
                    break;
                }
                Some(false) => bad = n,
                None => return Ok(0),
            }
            n *= 2;
        }
        if good == order.len() && self.good(order)? != Some(true) {
            return Ok(0);
        }
        while good - bad > 1 {
            let middle = bad + (good - bad) / 2;
            match self.good(&order[..middle])? {
                Some(true) => good = middle,
                Some(false) => bad = middle,
                None => break,
            }
        }
        Ok(good)
    }

    /// Takes back to integers what is not needed, from what loses least alone, many at once where that is good
    /// enough, else by halves.
    fn take_back(&mut self, kept: &[usize]) -> Result<(), E> {
        let mut kept = kept.to_vec();
        // The last one is needed: the model was not good enough with all but it.
        let all_but_it = 0..kept.len().saturating_sub(1);
        let mut left = Vec::from([all_but_it]);
        while let Some(part) = left.pop() {
            if part.is_empty() {
                continue;
            }
            // What lies behind the part has been tried, so its places have not moved.
            let fewer = [&kept[..part.start], &kept[part.end..]].concat();
            match self.good(&fewer)? {
                Some(true) => kept = fewer,
                Some(false) if part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    left.extend([part.start..middle, middle..part.end]);
                }
                Some(false) => {}
                None => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::time::Duration;

    fn choices(alone: &[f64]) -> Vec<Choice> {
        let one = |(i, &alone): (usize, &f64)| Choice { nodes: vec![format!("n{i}")], alone };
        alone.iter().enumerate().map(one).collect()
    }

    fn goal(least: f64) -> Goal {
        Goal { least, until: Instant::now() + Duration::from_secs(60) }
    }

    /// A model whose score is 40 less what ops lose that are not kept.
    fn found(losses: &[f64], alone: &[f64], least: f64) -> Found {
        let mut measure = |kept: &[String]| {
            let lost = |(i, loss): (usize, &f64)| if kept.contains(&format!("n{i}")) { 0.0 } else { *loss };
            Ok::<f64, Infallible>(40.0 - losses.iter().enumerate().map(lost).sum::<f64>())
        };
        search(&choices(alone), goal(least), &mut measure).unwrap()
    }

    #[test]
    fn nothing_is_kept_where_integers_are_good_enough() {
        let f = found(&[1.0, 2.0], &[30.0, 20.0], 37.0);
        assert_eq!((f.kept, f.reached, f.measured), (vec![], true, 1));
    }

    #[test]
    fn exactly_the_layer_that_broke_is_kept() {
        let mut losses = vec![0.1; 20];
        losses[13] = 30.0;
        let mut alone: Vec<f64> = (0..20).map(|i| 30.0 + f64::from(i)).collect();
        alone[13] = 2.0;
        let f = found(&losses, &alone, 35.0);
        assert_eq!((f.kept, f.reached), (vec!["n13".to_string()], true));
    }

    #[test]
    fn what_the_order_put_in_front_for_nothing_is_taken_back() {
        let mut losses = vec![0.0; 12];
        (losses[3], losses[8]) = (10.0, 10.0);
        // Three ops look worse than the two that count.
        let mut alone = vec![40.0; 12];
        (alone[0], alone[1], alone[2], alone[3], alone[8]) = (1.0, 2.0, 3.0, 4.0, 5.0);
        let f = found(&losses, &alone, 39.0);
        assert_eq!((f.kept, f.reached), (vec!["n3".to_string(), "n8".to_string()], true));
        assert!(f.measured <= 12, "{}", f.measured);
    }

    #[test]
    fn what_is_needed_for_nothing_is_taken_back_in_few_tries() {
        let mut losses = vec![0.0; 200];
        (losses[2], losses[150]) = (10.0, 10.0);
        let alone: Vec<f64> = (0..200).map(f64::from).collect();
        let f = found(&losses, &alone, 39.0);
        assert_eq!((f.kept, f.reached), (vec!["n2".to_string(), "n150".to_string()], true));
        assert!(f.measured <= 40, "{}", f.measured);
    }

    #[test]
    fn the_best_is_given_where_no_set_is_good_enough() {
        let f = found(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0], 50.0);
        assert_eq!((f.reached, f.score, f.kept.len()), (false, 40.0, 3));
        assert_eq!(f.without, 34.0);
    }

    #[test]
    fn time_that_is_up_leaves_what_was_found() {
        let mut measure = |kept: &[String]| Ok::<f64, Infallible>(kept.len() as f64);
        let goal = Goal { least: 2.0, until: Instant::now() };
        let f = search(&choices(&[1.0, 2.0, 3.0]), goal, &mut measure).unwrap();
        assert_eq!((f.kept.len(), f.reached, f.cut_off, f.measured), (0, false, true, 1));
    }
}
