//! What a calibration saw of a model's tensors.

use crate::ranges::{MinMax, Range};
use qc_calibration::{Method, Sample, WHOLE};
use qc_ir::{Module, ValueId};
use qc_passes::quant::channels::{Channels, Order};
use qc_passes::quant::noise::{self, Known};
use qc_passes::quant::quantize::activation_format;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Ranges of tensors, what a method has to know of their values, and what their channels are like, by name.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    /// Smallest and largest values.
    pub ranges: MinMax,
    methods: Vec<Method>,
    weights: Arc<Weights>,
    /// By method.
    values: BTreeMap<String, Vec<qc_calibration::Seen>>,
    channels: BTreeMap<String, Channels>,
}

/// How much channels and samples of tensors count, by name. What is not named counts evenly.
///
/// Gains (`noise.rs`) are powers, of noise that nothing correlates, seen in few runs. A range that clips is wrong on one side, and a
/// channel may be silent in those runs. So weights are roots of gains, and no channel counts less than a tenth of the first one:
/// without the one or the other, text recognition (PP-OCR v4) reads nothing in INT8.
#[derive(Default, Debug)]
pub struct Weights(BTreeMap<String, Weight>);

#[derive(Default, Debug)]
struct Weight {
    channels: Vec<u32>,
    /// The median over runs of a tensor's mean square.
    power: f64,
}

/// The weight of the channel that counts most, and the least share of it that a channel has.
const MOST: f64 = 20.0;
const LEAST: f64 = 0.1;
/// A sample counts at most as much as this many usual ones. Its square error is as large as its values; without a limit, one that is
/// out of proportion would set the range of all.
const USUAL: f64 = 4.0;

impl Weights {
    /// By what was seen of some runs, each for itself, of a canonical module.
    pub(crate) fn of(m: &Module, runs: &[Seen]) -> Weights {
        let mut all = Seen::default();
        runs.iter().for_each(|run| all.merge(run));
        let mut channels: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let ranges = all.ranges.clone().into_tensors();
        for (v, gains) in noise::gains(m, &all.all_known(m, &ranges)) {
            // Values that are one tensor in several places have one range: the place where it counts most decides.
            let slot = channels.entry(m.name(v).unwrap_or_default().to_string()).or_insert_with(|| gains.clone());
            slot.iter_mut().zip(&gains).for_each(|(a, b)| *a = a.max(*b));
        }
        let whole = |gains: &Vec<f64>| -> Vec<u32> {
            let most = gains.iter().copied().fold(0.0, f64::max);
            let one = |g: &f64| ((g / most).sqrt().max(LEAST) * MOST).round() as u32;
            if most > 0.0 { gains.iter().map(one).collect() } else { Vec::new() }
        };
        let weight = |name: &String| Weight {
            channels: channels.get(name).map_or_else(Vec::new, whole),
            power: median(runs.iter().filter_map(|run| run.channels.get(name)?.power()).collect()),
        };
        Weights(all.channels.keys().map(|name| (name.clone(), weight(name))).collect())
    }

    /// Of the channels of a tensor, if it has as many, and of a sample.
    fn get(&self, name: &str, channels: usize, power: f64) -> (&[u32], u32) {
        let Some(weight) = self.0.get(name) else { return (&[], WHOLE) };
        let of_channels = if weight.channels.len() == channels { &weight.channels[..] } else { &[] };
        let usual = USUAL * weight.power;
        // Samples of which the first were silent are all usual.
        let share = if usual > 0.0 && power > usual { usual / power } else { 1.0 };
        (of_channels, (share * f64::from(WHOLE)).round().max(1.0) as u32)
    }
}

/// The middle of numbers; 0 of none.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

/// One run of the model.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Its number among all runs.
    pub number: usize,
    /// How many samples it holds.
    pub samples: usize,
}

impl Seen {
    /// What these methods have to know, where the channels of tensors have `weights`.
    pub fn of(methods: &[Method], weights: Arc<Weights>) -> Seen {
        Seen { methods: methods.to_vec(), weights, ..Seen::default() }
    }

    /// The same without anything seen.
    pub fn of_nothing(&self) -> Seen {
        Seen::of(&self.methods, self.weights.clone())
    }

    /// Takes in the elements of one tensor over one run.
    pub fn observe(&mut self, name: &str, order: Order, values: &[f32], run: Run) {
        let ends = qc_calibration::ends(values);
        self.ranges.widen(name, ends.map(|(low, high)| Range::new(low, high)));
        let power = self.channels.entry(name.to_string()).or_default().observe(order, values);
        let inside = self.methods.iter().any(Method::looks_inside);
        let Some(ends) = ends.filter(|_| inside) else { return };
        let sample = Sample::new(run.number, run.samples, values);
        let (weights, weight) = self.weights.get(name, order.channels, power);
        let sample = Sample { weights, weight, beside: order.beside, ..sample };
        let all = self.values.entry(name.to_string()).or_default();
        all.resize_with(self.methods.len(), Default::default);
        self.methods.iter().zip(all).for_each(|(method, seen)| seen.observe(*method, &sample, ends));
    }

    /// Takes in what another observer of the same methods saw in other runs.
    pub fn merge(&mut self, other: &Seen) {
        self.ranges.merge(&other.ranges);
        self.methods.clone_from(&other.methods);
        for (name, values) in &other.values {
            let all = self.values.entry(name.clone()).or_default();
            all.resize_with(values.len(), Default::default);
            all.iter_mut().zip(values).for_each(|(seen, other)| seen.merge(other));
        }
        for (name, channels) in &other.channels {
            self.channels.entry(name.clone()).or_default().merge(channels);
        }
    }

    /// The methods.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// Bytes that it takes to remember values.
    pub fn bytes(&self) -> usize {
        self.values.values().flatten().map(qc_calibration::Seen::bytes).sum()
    }

    /// The ranges that a method finds; what no sample changes has that of its values, `constants`.
    pub(crate) fn found(&self, method: Method, constants: &MinMax) -> BTreeMap<String, Range> {
        let at = self.methods.iter().position(|m| *m == method);
        let mut ranges = self.ranges.clone();
        ranges.merge(constants);
        let mut tensors = ranges.into_tensors();
        for (name, range) in &mut tensors {
            let seen = self.values.get(name).zip(at).and_then(|(values, at)| values.get(at));
            let Some(found) = seen.and_then(|seen| seen.range(method)) else { continue };
            let clipped = found.low > range.min || found.high < range.max;
            let seen = clipped.then_some([range.min, range.max]);
            *range = Range { min: found.low, max: found.high, snr: None, seen };
        }
        tensors
    }

    /// Decibels between signal and noise of the tensors of a canonical module, to a tenth.
    pub(crate) fn ratios(&self, m: &Module, ranges: &BTreeMap<String, Range>) -> BTreeMap<String, f32> {
        let mut ratios: BTreeMap<String, f32> = BTreeMap::new();
        for (v, decibels) in noise::ratios(m, &self.all_known(m, ranges)) {
            let rounded = ((decibels * 10.0).round() / 10.0) as f32;
            let slot = ratios.entry(m.name(v).unwrap_or_default().to_string()).or_insert(rounded);
            *slot = slot.min(rounded);
        }
        ratios
    }

    fn all_known(&self, m: &Module, ranges: &BTreeMap<String, Range>) -> HashMap<ValueId, Known> {
        let mut known: HashMap<ValueId, Known> = HashMap::new();
        for region in m.regions_in(m.body()) {
            let results = m.ops(region).iter().flat_map(|&op| m.results(op));
            for &v in m.args(region).iter().chain(results) {
                known.extend(m.name(v).and_then(|name| self.known(name, ranges)).map(|known| (v, known)));
            }
        }
        known
    }

    fn known(&self, name: &str, ranges: &BTreeMap<String, Range>) -> Option<Known> {
        let range = ranges.get(name)?;
        let format = activation_format((range.min, range.max))?;
        let moments = self.channels.get(name)?.moments()?;
        Some(Known { step: f64::from(format.scale(0)), moments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qc_ir::parse;

    const PRODUCT: &str = "module \"m\" phase canonical
const @w : tensor<2x2xf32> = [1.0, 0.0, 0.0, 0.001]
func @main(%x : tensor<2x2xf32>) outputs [\"y\"] {
%w = graph.constant() {value = @w}
%y = graph.matmul(%x, %w)
return(%y)
}
";

    /// What was seen of a run on these rows, which the second result makes small.
    fn run(number: usize, x: [f32; 4]) -> Seen {
        let mut seen = Seen::default();
        let run = Run { number, samples: 1 };
        seen.observe("x", Order::rows(&[2, 2]), &x, run);
        seen.observe("y", Order::rows(&[2, 2]), &[x[0], x[1] * 0.001, x[2], x[3] * 0.001], run);
        seen
    }

    #[test]
    fn channels_count_by_the_weights_behind_them_but_none_is_forgotten() {
        let m = parse(PRODUCT, &qc_dialects::REGISTRY, &HashMap::new()).unwrap();
        // Both results vary as much as their operands: 8 bits of the second operand are of the same use as of the first.
        let even = Weights::of(&m, &[run(0, [1.0, 1.0, -1.0, -1.0])]);
        assert_eq!(even.get("x", 2, 1.0).0, [20, 20]);
        // Steps that suit the second operand are a thousandth of the first one's signal.
        let uneven = Weights::of(&m, &[run(0, [1.0, 1000.0, -1.0, -1000.0])]);
        assert_eq!(uneven.get("x", 2, 1.0).0, [20, 2]);
        assert_eq!((uneven.get("x", 3, 1.0).0, uneven.get("other", 2, 1.0).0), (&[][..], &[][..]));
    }

    #[test]
    fn a_sample_out_of_proportion_counts_as_a_few_others() {
        let m = parse(PRODUCT, &qc_dialects::REGISTRY, &HashMap::new()).unwrap();
        let runs = [1.0, 300.0, 1.1].map(|x| run(0, [x, x, -x, -x]));
        let weights = Weights::of(&m, &runs);
        let usual = 1.1f32 * 1.1;
        assert_eq!(weights.get("x", 2, f64::from(usual * 4.0)).1, WHOLE);
        assert_eq!(weights.get("x", 2, f64::from(usual * 40.0)).1, WHOLE.div_ceil(10));
        assert_eq!(weights.get("x", 2, 1e30).1, 1);
    }
}
