//! Judging small models of the shared folder by arrays: imported with what has to be constant as such, run by the interpreter.

use crate::{ImportError, Imported, NoFiles, Options, Port, Source, import};
use qc_ir::{Data, HostTensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file or folder of the shared ones, if it is there.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let found = std::env::var_os("QC_SHARED").map_or(beside, PathBuf::from).join(path);
    let there = found.exists();
    if !there {
        println!("SKIPPED 1: {} is not there (QC_SHARED)", found.display());
    }
    there.then_some(found)
}

/// Why a case is not equal.
pub(crate) enum Not {
    Refused(String),
    Wrong(String),
}

/// Imports a model whose inputs have these values; those on which shapes depend become constants.
fn imported(model: &[u8], values: &BTreeMap<String, HostTensor>, constant: &[String]) -> Result<Imported, Not> {
    let mut options = Options::default();
    options.values.extend(constant.iter().map(|name| (name.clone(), values[name].clone())));
    // How many sequences there are is part of a shape.
    let offsets = values.iter().filter(|(name, _)| name.ends_with(".offsets"));
    options.shapes.extend(offsets.map(|(name, t)| (name.clone(), vec![t.len() as i64])));
    loop {
        let source = Source { name: "case".into(), model: model.to_vec().into(), params: None, files: &NoFiles };
        let refused = match import(&source, &options) {
            Ok(imported) => return Ok(imported),
            Err(refused) => refused,
        };
        let needs = refused.list.iter().flat_map(|e| match e {
            ImportError::Node { needs, .. } => needs.as_slice(),
            _ => &[],
        });
        let new: Vec<&String> = needs.filter(|name| !options.values.contains_key(*name)).collect();
        if new.is_empty() {
            return Err(Not::Refused(refused.to_string()));
        }
        let new: Vec<(String, HostTensor)> = new.into_iter().map(|name| (name.clone(), values[name].clone())).collect();
        options.values.extend(new);
    }
}

/// The part of an output that a run fills.
fn filled(port: &Port, outputs: &[HostTensor], t: &HostTensor) -> HostTensor {
    let Some(counted) = port.counted else { return t.clone() };
    let by = &outputs[counted.by];
    let count = (0..by.len()).map(|i| by.int(i).unwrap() as usize).sum();
    let mut dims = t.dims().to_vec();
    let (size, run) = (dims[counted.axis], dims[counted.axis + 1..].iter().product::<usize>());
    dims[counted.axis] = count;
    let bytes = t.data().to_bytes();
    let row = size * run * (bytes.len() / t.len());
    let kept: Vec<u8> = bytes.chunks(row).flat_map(|all| &all[..row / size * count]).copied().collect();
    HostTensor::new(dims, Data::from_bytes(t.data().elem(), &kept).unwrap()).unwrap()
}

/// Compares what a model makes of `values` with `want`, given by name.
pub(crate) fn judge(
    model: &[u8],
    values: &BTreeMap<String, HostTensor>,
    want: &[(String, HostTensor)],
) -> Result<(), Not> {
    judge_with(model, values, want, &[])
}

/// As [`judge`], with these of the values as constants.
pub(crate) fn judge_with(
    model: &[u8],
    values: &BTreeMap<String, HostTensor>,
    want: &[(String, HostTensor)],
    constant: &[String],
) -> Result<(), Not> {
    let imported = imported(model, values, constant)?;
    let found = qc_ir::verify(&imported.module, &qc_dialects::REGISTRY);
    if let Some(diag) = found.first() {
        return Err(Not::Wrong(diag.render(&imported.module)));
    }
    let inputs: Vec<HostTensor> = imported.inputs.iter().map(|p| values[&p.name].clone()).collect();
    let outputs = qc_dialects::interpret(&imported.module, &inputs).map_err(|e| Not::Wrong(e.message))?;
    for (name, want) in want {
        let found = imported.outputs.iter().zip(&outputs).find(|(port, _)| port.name == *name);
        let Some((port, ours)) = found else { return Err(Not::Wrong(format!("there is no output {name}"))) };
        if let Some(why) = difference(&filled(port, &outputs, ours), want) {
            return Err(Not::Wrong(format!("{name}: {why}")));
        }
    }
    Ok(())
}

/// Why two tensors differ.
fn difference(ours: &HostTensor, want: &HostTensor) -> Option<String> {
    let number = |t: &HostTensor, i| t.as_f32().map_or_else(|| t.int(i).unwrap() as f64, |v| f64::from(v[i]));
    if ours.dims() != want.dims() {
        return Some(format!("shape {:?}, not {:?}", ours.dims(), want.dims()));
    }
    let far =
        |&(a, b): &(f64, f64)| !(a == b || (a - b).abs() <= 2e-5 * b.abs().max(1.0) || (a.is_nan() && b.is_nan()));
    let found = (0..ours.len()).map(|i| (number(ours, i), number(want, i))).find(far);
    found.map(|(a, b)| format!("{a} instead of {b}"))
}

/// What became of the cases of a folder.
#[derive(Default)]
pub(crate) struct Tally {
    equal: usize,
    wrong: Vec<String>,
    refused: BTreeMap<String, usize>,
    left_out: usize,
}

impl Tally {
    /// A case that is not tried.
    pub fn leave_out(&mut self) {
        self.left_out += 1;
    }

    /// Notes the result of a case; `known` are those that differ, and why.
    pub fn note(&mut self, case: &str, op: &str, result: Result<(), Not>, known: &[(&str, &str)]) {
        match result {
            Ok(()) => self.equal += 1,
            Err(Not::Refused(why)) => {
                println!("{case}: {why}");
                *self.refused.entry(op.into()).or_default() += 1;
            }
            Err(Not::Wrong(why)) => match known.iter().find(|(name, _)| *name == case) {
                Some((_, because)) => println!("{case}: {why}, {because}"),
                None => self.wrong.push(format!("{case}: {why}")),
            },
        }
    }

    /// At least `least` were equal, and none was wrong that is not known.
    pub fn finish(self, folder: &str, least: usize) {
        let Tally { equal, wrong, refused, left_out } = self;
        println!("{folder}: {equal} equal, {} wrong, {left_out} left out, refused {refused:?}", wrong.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(equal >= least, "only {equal} cases of {folder} are equal");
    }
}
