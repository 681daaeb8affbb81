//! Ends of a range that a function does not tell apart.
//!
//! A gelu is 0 below -4 and a sigmoid 1 above 6, whatever comes in. Steps that a format spends there are lost: with -10.9..23
//! as the input of a gelu, a fifth of them.

use qc_dialects::graph::activation::Function;

/// Points at which a function is looked at, as many as a format of 8 bits has numbers.
const POINTS: usize = 256;

/// The part of `lo..=hi` outside which the function stays within half of `step` of its value at the end of the part.
pub fn without_flat_ends(function: Function, (lo, hi): (f32, f32), step: f32) -> (f32, f32) {
    let at = |i: usize| lo + (hi - lo) * (i as f32 / POINTS as f32);
    let values: Vec<f32> = (0..=POINTS).map(|i| function.value(at(i))).collect();
    if !values.iter().all(|v| v.is_finite()) || step <= 0.0 {
        return (lo, hi);
    }
    let begin = flat(values.iter().copied(), step);
    let end = flat(values.iter().rev().copied(), step);
    if begin + end >= POINTS { (lo, hi) } else { (at(begin), at(POINTS - end)) }
}

/// How many steps from the first of `values` the last is that lies within half of `step` of all before it.
fn flat(values: impl Iterator<Item = f32>, step: f32) -> usize {
    let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
    let within = |v: f32| {
        (least, most) = (least.min(v), most.max(v));
        (v - least).max(most - v) <= 0.5 * step
    };
    values.map(within).take_while(|&w| w).count().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::without_flat_ends;
    use qc_dialects::graph::activation::Function;

    #[test]
    fn what_a_function_does_not_tell_apart_is_cut_off() {
        let (lo, hi) = without_flat_ends(Function::Gelu { tanh: false }, (-10.0, 6.0), 6.0 / 255.0);
        assert!((-3.0..-2.0).contains(&lo) && hi == 6.0, "{lo} {hi}");
        let (lo, hi) = without_flat_ends(Function::Sigmoid, (-20.0, 20.0), 1.0 / 255.0);
        assert!((-7.0..-5.0).contains(&lo) && (5.0..7.0).contains(&hi), "{lo} {hi}");
        // Finer steps tell more apart.
        let (finer, _) = without_flat_ends(Function::Sigmoid, (-20.0, 20.0), 1e-4);
        assert!(finer < lo - 2.0, "{finer}");
    }

    #[test]
    fn what_is_told_apart_or_nothing_at_all_stays() {
        assert_eq!(without_flat_ends(Function::Abs, (-3.0, 5.0), 0.01), (-3.0, 5.0));
        assert_eq!(without_flat_ends(Function::Tanh, (9.0, 12.0), 0.01), (9.0, 12.0));
        assert_eq!(without_flat_ends(Function::Sqrt, (-1.0, 4.0), 0.1), (-1.0, 4.0));
        assert_eq!(without_flat_ends(Function::Tanh, (-9.0, 9.0), 0.0), (-9.0, 9.0));
    }
}
