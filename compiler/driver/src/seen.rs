//! What a calibration saw of a model's tensors.

use crate::ranges::{MinMax, Range};
use qc_calibration::Method;
use qc_ir::{Module, ValueId};
use qc_passes::quant::channels::Channels;
use qc_passes::quant::noise::{self, Known};
use qc_passes::quant::quantize::activation_format;
use std::collections::{BTreeMap, HashMap};

/// Ranges of tensors, what a method has to know of their values, and what their channels are like, by name.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    /// Smallest and largest values.
    pub ranges: MinMax,
    method: Method,
    values: BTreeMap<String, qc_calibration::Seen>,
    channels: BTreeMap<String, Channels>,
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
    /// What `method` has to know.
    pub fn of(method: Method) -> Seen {
        Seen { method, ..Seen::default() }
    }

    /// Takes in the elements of one tensor over one run, and their range.
    pub fn observe(&mut self, name: &str, dims: &[usize], values: &[f32], range: Option<Range>, run: Run) {
        self.ranges.widen(name, range);
        self.channels.entry(name.to_string()).or_default().observe(dims, values);
        if self.method != Method::default() {
            self.values.entry(name.to_string()).or_default().observe(self.method, run.number, run.samples, values);
        }
    }

    /// Takes in what another observer of the same method saw in other runs.
    pub fn merge(&mut self, other: &Seen) {
        self.ranges.merge(&other.ranges);
        self.method = other.method;
        for (name, values) in &other.values {
            self.values.entry(name.clone()).or_default().merge(values);
        }
        for (name, channels) in &other.channels {
            self.channels.entry(name.clone()).or_default().merge(channels);
        }
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Bytes that is takes to remember values.
    pub fn bytes(&self) -> usize {
        self.values.values().map(qc_calibration::Seen::bytes).sum()
    }

    /// The ranges that the method finds; what no sample changes has that of its values.
    pub(crate) fn found(&self) -> BTreeMap<String, Range> {
        let mut tensors = self.ranges.clone().into_tensors();
        for (name, range) in &mut tensors {
            let Some(found) = self.values.get(name).and_then(|values| values.range(self.method)) else { continue };
            let clipped = found.low > range.min || found.high < range.max;
            let seen = clipped.then_some([range.min, range.max]);
            *range = Range { min: found.low, max: found.high, snr: None, seen };
        }
        tensors
    }

    /// Decibels between signal and noise of the tensors of a canonical module, to a tenth.
    pub(crate) fn ratios(&self, m: &Module, ranges: &BTreeMap<String, Range>) -> BTreeMap<String, f32> {
        let mut known: HashMap<ValueId, Known> = HashMap::new();
        for region in m.regions_in(m.body()) {
            let results = m.ops(region).iter().flat_map(|&op| m.results(op));
            for &v in m.args(region).iter().chain(results) {
                known.extend(m.name(v).and_then(|name| self.known(name, ranges)).map(|known| (v, known)));
            }
        }
        let mut ratios: BTreeMap<String, f32> = BTreeMap::new();
        for (v, decibels) in noise::ratios(m, &known) {
            let rounded = ((decibels * 10.0).round() / 10.0) as f32;
            let slot = ratios.entry(m.name(v).unwrap_or_default().to_string()).or_insert(rounded);
            *slot = slot.min(rounded);
        }
        ratios
    }

    fn known(&self, name: &str, ranges: &BTreeMap<String, Range>) -> Option<Known> {
        let range = ranges.get(name)?;
        let format = activation_format((range.min, range.max))?;
        let moments = self.channels.get(name)?.moments()?;
        Some(Known { step: f64::from(format.scale(0)), moments })
    }
}
