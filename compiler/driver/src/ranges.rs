//! Ranges of activations, as calibration found them: a small file that people can read, edit and compare.

use crate::biases::{self, Biases};
use crate::caches;
use crate::inside::Names;
use crate::{CompileError, ModelFile};
use qc_dialects::graph::{Conversion, Dequantize, Observe, Quantize};
use qc_ir::{Attrs, Builder, Diag, Elem, HostTensor, Module, Quant, Store, TensorTy, Type, Use, ValueId};
use qc_passes::graph::bounds::{Bounds, known};
use qc_passes::quant::quantize::activation_format;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The range of one tensor.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Range {
    /// Smallest value that is told from smaller ones.
    pub min: f32,
    /// Largest value that is told from larger ones.
    pub max: f32,
    /// Decibels between the signal and the noise of 8 bits over this range, as the ops behind see it; where it is left
    /// out, the tensor is quantized whatever its noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snr: Option<f32>,
    /// Smallest and largest value seen, where the range leaves some of them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<[f32; 2]>,
}

impl Range {
    /// A range of which nothing but its ends is known.
    pub fn new(min: f32, max: f32) -> Range {
        Range { min, max, snr: None, seen: None }
    }
}

/// Ranges by tensor name, and how they were found.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ranges {
    /// Version of this format.
    pub schema: String,
    /// The program that made the file.
    pub generator: String,
    /// SHA-256 of the model.
    pub model_sha256: String,
    /// How ranges were derived from values.
    pub method: String,
    /// How inputs were prepared, if they were pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<String>,
    /// Number of samples.
    pub samples: usize,
    /// Nodes that stay in f32, as `--keep-fp32` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_fp32: Vec<String>,
    /// Of a model that is quantized already: ranges of tensors whose own formats do not fit their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rescaled: BTreeMap<String, Range>,
    /// What is added to biases, by the tensors that come out right with it.
    #[serde(default, skip_serializing_if = "Biases::is_empty")]
    pub biases: Biases,
    /// The ranges.
    pub tensors: BTreeMap<String, Range>,
}

/// The format this version writes and reads.
pub const SCHEMA: &str = "qc.ranges/1";

impl Ranges {
    /// What a search on `samples` samples says of a quantized model: nothing yet.
    pub fn of_quantized(file: &ModelFile, samples: usize) -> Ranges {
        Ranges {
            schema: SCHEMA.into(),
            generator: format!("qc {}", env!("CARGO_PKG_VERSION")),
            model_sha256: file.sha256().iter().map(|b| format!("{b:02x}")).collect(),
            method: "of the model".into(),
            preprocess: None,
            samples,
            keep_fp32: Vec::new(),
            rescaled: BTreeMap::new(),
            biases: Biases::new(),
            tensors: BTreeMap::new(),
        }
    }

    /// The text of the file, ending in a newline.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        text + "\n"
    }

    /// Reads a file.
    ///
    /// # Errors
    /// I/O, or a file that is no ranges file.
    pub fn read(path: &Path) -> Result<Ranges, CompileError> {
        let text = std::fs::read(path).map_err(|source| CompileError::Io { path: path.into(), source })?;
        Ranges::parse(&text).map_err(|reason| CompileError::Ranges { path: path.into(), reason })
    }

    /// Refuses ranges that were found on another model than `file`, read from `path`.
    ///
    /// # Errors
    /// A sentence with the remedy.
    pub fn check_model(&self, path: &Path, file: &ModelFile) -> Result<(), CompileError> {
        let own: String = file.sha256().iter().map(|b| format!("{b:02x}")).collect();
        if self.model_sha256.is_empty() || self.model_sha256 == own {
            return Ok(());
        }
        let short = |sha256: &str| sha256.chars().take(12).collect::<String>();
        let (theirs, own) = (short(&self.model_sha256), short(&own));
        let reason = format!(
            "these ranges are of another model (SHA-256 {theirs}.., this one has {own}..); calibrate this very model, or \
             give --foreign-ranges to match tensors by name alone"
        );
        Err(CompileError::Ranges { path: path.into(), reason })
    }

    /// Reads the bytes of a file, which may be one of another tool (`caches.rs`).
    ///
    /// # Errors
    /// A sentence: no ranges file, another format, or a range that is no interval.
    pub fn parse(text: &[u8]) -> Result<Ranges, String> {
        if let Some(of_others) = caches::read(text) {
            return of_others;
        }
        let ranges: Ranges = serde_json::from_slice(text)
            .map_err(|e| format!("not a ranges file of qc calibrate, nor a calibration cache: {e}"))?;
        if ranges.schema != SCHEMA {
            return Err(format!("has format `{}`, this version reads `{SCHEMA}`", ranges.schema));
        }
        let all = || ranges.tensors.iter().chain(&ranges.rescaled);
        let bad = |r: &Range| !(r.min.is_finite() && r.max.is_finite() && r.min <= r.max);
        let no_ratio = |r: &Range| r.snr.is_some_and(|snr| !snr.is_finite());
        if let Some((name, _)) = all().find(|(_, r)| no_ratio(r)) {
            return Err(format!("the `snr` of \"{name}\" is no finite number of decibels"));
        }
        if let Some((name, _)) = ranges.biases.iter().find(|(_, b)| !b.iter().all(|x| x.is_finite())) {
            return Err(format!("the bias of \"{name}\" has a number that is infinite or none"));
        }
        match all().find(|(_, r)| bad(r)) {
            Some((name, r)) => Err(format!("the range {}..{} of \"{name}\" is no interval", r.min, r.max)),
            None => Ok(ranges),
        }
    }
}

/// Whether a module has quantize/dequantize pairs of its own.
pub(crate) fn is_quantized(m: &Module) -> bool {
    m.walk(m.body()).iter().any(|&op| Conversion::is(m, op))
}

/// The smallest and largest value of every float tensor of a model, merged over samples.
#[derive(Clone, Default, Debug)]
pub struct MinMax {
    seen: BTreeMap<String, Range>,
}

impl MinMax {
    /// Takes in one tensor; NaN is left out.
    pub fn observe(&mut self, name: &str, tensor: &HostTensor) {
        let Some(values) = tensor.as_f32() else { return };
        let (mut lo, mut hi) = (f32::INFINITY, f32::NEG_INFINITY);
        for &x in values.iter().filter(|x| x.is_finite()) {
            lo = lo.min(x);
            hi = hi.max(x);
        }
        self.widen(name, (lo <= hi).then_some(Range::new(lo, hi)));
    }

    /// Takes in the range of one tensor, if it has one.
    pub fn widen(&mut self, name: &str, range: Option<Range>) {
        if let Some(o) = range {
            let r = self.seen.entry(name.to_string()).or_insert(o);
            *r = Range::new(r.min.min(o.min), r.max.max(o.max));
        }
    }

    /// Takes in what another observer saw.
    pub fn merge(&mut self, other: &MinMax) {
        for (name, o) in &other.seen {
            self.widen(name, Some(*o));
        }
    }

    /// The range of a tensor.
    pub fn get(&self, name: &str) -> Option<Range> {
        self.seen.get(name).copied()
    }

    /// The ranges.
    pub fn into_tensors(self) -> BTreeMap<String, Range> {
        self.seen
    }
}

/// Runs a canonical float module on `inputs` and takes in all its tensors.
///
/// # Errors
/// As the interpreter.
pub fn observe(m: &Module, inputs: &[HostTensor], seen: &mut MinMax) -> Result<(), Diag> {
    for (&v, input) in m.args(m.body()).iter().zip(inputs) {
        seen.observe(m.name(v).unwrap_or(""), input);
    }
    qc_ir::run_region(m, m.body(), inputs, &mut |_, v, t| {
        if let Some(name) = m.name(v) {
            seen.observe(name, t);
        }
    })?;
    Ok(())
}

/// Gives the pairs of a quantized module that round tensors of `ranges.rescaled` formats of those ranges; returns the names of tensors
/// that no pair rounds, or whose bytes something else reads than the end of the pair.
///
/// # Errors
/// A range that is too small for a format.
pub fn refit(m: &mut Module, ranges: &Ranges) -> Result<Vec<String>, String> {
    let names = Names::of(m);
    let mut left: BTreeMap<&String, &Range> = ranges.rescaled.iter().collect();
    for op in m.walk(m.body()) {
        let Some(q) = Quantize::of(m, op) else { continue };
        let (x, out) = (q.x(m), q.out(m));
        let name = m.name(x).or(m.name(out)).map(|name| names.float(name).to_string());
        let Some((name, range)) = name.as_ref().and_then(|name| left.get_key_value(name)).map(|(n, r)| (*n, **r))
        else {
            continue;
        };
        let ends = |u: &Use| matches!(u, Use::Operand(reader, _) if m.is(*reader, Dequantize::DEF));
        let Some(own) = m.quant_of(out).cloned().filter(|_| m.uses(out).iter().all(ends)) else { continue };
        let format = activation_format((range.min, range.max)).ok_or_else(|| {
            format!("the range {:e}..{:e} of \"{name}\" is too small for a scale", range.min, range.max)
        })?;
        let zero = if own.store == Store::I8 { format.zero(0) - 128 } else { format.zero(0) };
        let id = m.intern_quant(Quant::per_tensor(own.store, format.scale(0), zero));
        m.set_attr(op, "quant", id);
        let dims = m.dims(out).to_vec();
        m.set_type(out, Type::Tensor(TensorTy::new(Elem::Quant(id), dims)));
        left.remove(name);
    }
    Ok(left.into_keys().cloned().collect())
}

/// Corrects biases, and puts a `graph.observe` behind every tensor of a canonical module that has a range and an op behind it;
/// returns how many tensors have one.
///
/// # Errors
/// A defect in the module; a correction that does not fit.
pub fn attach(m: &mut Module, ranges: &Ranges) -> Result<usize, Diag> {
    biases::correct(m, &ranges.biases)?;
    let mut values: Vec<(ValueId, Option<qc_ir::OpId>)> = Vec::new();
    for region in m.regions_in(m.body()) {
        let ops = m.ops(region).to_vec();
        values.extend(m.args(region).iter().map(|&v| (v, ops.first().copied())));
        for (i, &op) in ops.iter().enumerate() {
            values.extend(m.results(op).iter().map(|&v| (v, ops.get(i + 1).copied())));
        }
    }
    let mut count = 0;
    for (v, next) in values {
        let float = m.ty(v).tensor().is_some_and(|t| t.elem == Elem::F32);
        let range = m.name(v).and_then(|n| ranges.tensors.get(n)).copied();
        let Some(range) = range.filter(|_| float) else { continue };
        count += 1;
        let range = signed(range, known(m, v));
        let Some(next) = next else { continue };
        let uses: Vec<Use> = m.uses(v).to_vec();
        let attrs = Attrs::new().with("min", range.min).with("max", range.max);
        let attrs = range.snr.map_or(attrs.clone(), |snr| attrs.with("snr", snr));
        let observed = Observe::build(&mut Builder::before(m, next), &[Some(v)], attrs)?.out(m);
        for u in uses {
            if let Use::Operand(op, i) = u {
                m.set_operand(op, i, Some(observed));
            }
        }
    }
    Ok(count)
}

/// A range that is nothing but a threshold of magnitudes, of a tensor that is known to be of one sign: 0 is an end of it.
fn signed(range: Range, known: Bounds) -> Range {
    match range.min == -range.max {
        true if known.min >= 0.0 => Range { min: 0.0, ..range },
        true if known.max <= 0.0 => Range { max: 0.0, ..range },
        _ => range,
    }
}
