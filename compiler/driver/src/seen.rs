//! What a calibration saw of a model's tensors.

use crate::ranges::{MinMax, Range};
use qc_ir::{Module, ValueId};
use qc_passes::quant::channels::Channels;
use qc_passes::quant::noise::{self, Known};
use qc_passes::quant::quantize::activation_format;
use std::collections::{BTreeMap, HashMap};

/// Ranges of tensors, and what their channels are like, by name.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    /// The ranges.
    pub ranges: MinMax,
    channels: BTreeMap<String, Channels>,
}

impl Seen {
    /// Takes in the elements of one tensor over one sample, and their range.
    pub fn observe(&mut self, name: &str, dims: &[usize], values: &[f32], range: Option<Range>) {
        self.ranges.widen(name, range);
        self.channels.entry(name.to_string()).or_default().observe(dims, values);
    }

    /// Takes in what another observer saw.
    pub fn merge(&mut self, other: &Seen) {
        self.ranges.merge(&other.ranges);
        for (name, channels) in &other.channels {
            self.channels.entry(name.clone()).or_default().merge(channels);
        }
    }

    /// Decibels between signal and noise of the tensors of a canonical module, to a tenth.
    pub(crate) fn ratios(&self, m: &Module) -> BTreeMap<String, f32> {
        let mut known: HashMap<ValueId, Known> = HashMap::new();
        for region in m.regions_in(m.body()) {
            let results = m.ops(region).iter().flat_map(|&op| m.results(op));
            for &v in m.args(region).iter().chain(results) {
                known.extend(m.name(v).and_then(|name| self.known(name)).map(|known| (v, known)));
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

    fn known(&self, name: &str) -> Option<Known> {
        let range = self.ranges.get(name)?;
        let format = activation_format((range.min, range.max))?;
        let moments = self.channels.get(name)?.moments()?;
        Some(Known { step: f64::from(format.scale(0)), moments })
    }
}
