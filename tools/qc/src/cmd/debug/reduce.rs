//! `qc debug reduce`: a small part of a model that still fails a check, with its input and the command, to run again.

use crate::args::ModelArgs;
use crate::arrays;
use crate::checker::{Checker, Verdict};
use crate::failure::{CHECK, Failure, Outcome};
use crate::pair::{Compared, Pair, input};
use crate::paths::Paths;
use crate::samples::SampleArgs;
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::ModelFile;
use qc_compiler::cut::Cut;
use qc_ir::HostTensor;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Cut a model to a small part that still fails a check.
#[derive(Args, Debug)]
#[command(after_help = "\
The part ends as early and begins as late as the command still fails with the status that it has for the whole model. It is given an
ONNX file in the place of {model}, with the pairs of the model or those of --ranges, and in the place of {input} an .npz file of its
inputs: those of the first sample, or tensors that the floats make of it. Its status is 0 for right and 125 for what it cannot tell.
In DIR are model.onnx, input.npz and replay.sh, which runs the command on both.

Example:
  qc debug reduce qdq.onnx --data samples.npz -o small/ --check 'qc compare {model} --data {input} --least 30'")]
pub struct Reduce {
    /// A float model with --ranges, or one that is quantized
    model: PathBuf,
    #[command(flatten)]
    samples: SampleArgs,
    /// The command that fails
    #[arg(long, value_name = "CMD")]
    check: String,
    /// Where the part is written
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    options: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// Words that stand for files in a command.
const WORDS: [&str; 2] = ["{model}", "{input}"];

/// Names of the files.
const FILES: [&str; 2] = ["model.onnx", "input.npz"];

/// A reduction.
struct Reduction<'a> {
    file: &'a ModelFile,
    pair: &'a Pair,
    /// Tensors that floats make of the first sample, and the inputs.
    right: BTreeMap<String, HostTensor>,
    checker: Checker<'a>,
    dir: &'a Path,
}

impl Reduce {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let read = self.options.files().chain([&self.model, &self.samples.data]);
        let written: Vec<PathBuf> = FILES.iter().chain(&["replay.sh"]).map(|name| self.out.join(name)).collect();
        let paths = Paths::default().reads(read).writes(self.json.file());
        // A folder that is not there yet holds nothing that could be overwritten.
        if self.out.is_dir() { paths.writes(&written) } else { paths }
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let options = self.options.options()?;
        let file = self.options.open(&self.model, &options)?;
        let checker = Checker::new("--check", &self.check, &WORDS)?;
        let what = Compared { options: &options, file: &file, reference: None };
        let data = self.samples.first(1);
        let parts = what.parts(&data, ui)?;
        let part = parts.first().ok_or_else(|| Failure::content(&data.data, "holds no samples"))?;
        let mut contexts = part.program.contexts()?;
        part.samples.fill(&mut contexts.floats, 0, part.rows())?;
        let right = tensors(&part.program, &mut contexts)?;
        let dir = tempfile::tempdir().map_err(|e| Failure::io(&std::env::temp_dir(), &e))?;
        let reduction = Reduction { file: &file, pair: &part.program, right, checker, dir: dir.path() };
        let (cut, status, tried) = reduction.reduce(ui)?;
        std::fs::create_dir_all(&self.out).map_err(|e| Failure::io(&self.out, &e))?;
        let inputs = reduction.write(&cut, &self.out)?;
        let at = FILES.map(|name| self.out.join(name));
        let line = reduction.checker.line(&[(WORDS[0], &at[0]), (WORDS[1], &at[1])]);
        let replay = format!("#!/bin/sh\n# Fails with status {status}.\n{line}\n");
        qc_compiler::write_whole(&self.out.join("replay.sh"), replay.as_bytes())?;
        let nodes: Vec<&String> = self.nodes(&reduction, &cut);
        let json = || {
            json!({
                "schema": "qc.debug.reduce/1", "model": self.model, "out": self.out, "inputs": inputs,
                "outputs": cut.wanted, "nodes": nodes, "status": status, "tries": tried,
            })
        };
        ui.report(&self.json, json, || {
            let list = nodes.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(" ");
            let out = self.out.display();
            format!(
                "part     {} to {}  ({tried} tries)\nnodes    {list}\nwrote    {out}  model.onnx, input.npz\nnext     sh {out}/replay.sh\n",
                inputs.join(" "),
                cut.wanted.join(" ")
            )
        })
    }

    /// The nodes of the model between what is given and what is wanted.
    fn nodes<'a>(&self, reduction: &Reduction<'a>, cut: &Cut) -> Vec<&'a String> {
        let nodes = &reduction.pair.integers.nodes;
        let place = |name: &String| reduction.pair.common.iter().position(|(own, ..)| own == name);
        let from = cut.given.iter().filter_map(place).max().map_or(0, |at| at + 1);
        let to = cut.wanted.iter().filter_map(place).max().map_or(0, |at| at + 1);
        let between = reduction.pair.common.get(from..to).unwrap_or_default();
        between.iter().filter_map(|(name, ..)| nodes.get(name)?.first()).collect()
    }
}

/// Tensors that the floats make, and the inputs, by name.
fn tensors(pair: &Pair, contexts: &mut crate::pair::Contexts) -> Outcome<BTreeMap<String, HostTensor>> {
    let floats = &mut contexts.floats;
    floats.run()?;
    let mut right = BTreeMap::new();
    for i in 0..floats.outputs().len() {
        let io = floats.outputs()[i].clone();
        let name = pair.integers.float_name(&io.name).to_string();
        right.insert(name, HostTensor::f32(io.shape, floats.output::<f32>(i)?.to_vec()));
    }
    for (i, name) in pair.floats.inputs.iter().enumerate() {
        right.insert(name.clone(), input(floats, i)?);
    }
    Ok(right)
}

impl Reduction<'_> {
    /// The smallest part that still fails, the status with which it does, and how many were tried.
    fn reduce(&self, ui: Ui) -> Outcome<(Cut, i32, usize)> {
        let names: Vec<&String> = self.pair.common.iter().map(|(name, ..)| name).collect();
        let bar = ui.progress(2 * names.len().max(1).ilog2() as usize + 2, "reduce");
        let mut tried = 1;
        let whole = Cut { given: Vec::new(), wanted: self.pair.returned() };
        let Verdict::Wrong(status) = self.verdict(&whole)? else {
            let text = "--check says that the whole model is right on its first sample; begin with one that fails";
            return Err(Failure::new(CHECK, text));
        };
        let mut fails = |cut: &Cut| {
            tried += 1;
            bar.inc(1);
            // A part that cannot be written is none.
            Ok::<bool, Failure>(matches!(self.verdict(cut), Ok(Verdict::Wrong(own)) if own == status))
        };
        let to = |i: usize| Cut { given: Vec::new(), wanted: vec![names[i].clone()] };
        // The first tensor that fails as the only output.
        let (mut good, mut bad) = (0, names.len());
        while good < bad {
            let middle = good + (bad - good) / 2;
            if fails(&to(middle))? { bad = middle } else { good = middle + 1 }
        }
        let last = bad.min(names.len().saturating_sub(1));
        let base = if bad < names.len() { to(bad) } else { whole };
        let from = |j: usize| Cut { given: names[..j].iter().map(|name| name.to_string()).collect(), ..base.clone() };
        // As many tensors in front as can be given.
        let (mut bad, mut good) = (0, last + 1);
        while good - bad > 1 {
            let middle = bad + (good - bad) / 2;
            if fails(&from(middle))? { bad = middle } else { good = middle }
        }
        bar.finish_and_clear();
        Ok((from(bad), status, tried))
    }

    fn verdict(&self, cut: &Cut) -> Outcome<Verdict> {
        self.write(cut, self.dir)?;
        let at = FILES.map(|name| self.dir.join(name));
        self.checker.run(&[(WORDS[0], &at[0]), (WORDS[1], &at[1])])
    }

    /// Writes a part and its input; returns the names of its inputs.
    fn write(&self, cut: &Cut, dir: &Path) -> Outcome<Vec<String>> {
        let data_file = format!("{}.data", FILES[0]);
        let (portable, inputs) = self.pair.compiler.portable_part(self.file, &self.pair.at, cut, &data_file)?;
        let given = inputs.iter().filter_map(|name| Some((name.clone(), self.right.get(name)?.clone())));
        arrays::write_npz(&dir.join(FILES[1]), &given.collect::<Vec<_>>())?;
        let (model, beside) = (dir.join(FILES[0]), dir.join(&data_file));
        let data = portable.written.data.as_ref().map(|data| (beside.as_path(), &data[..]));
        let files: Vec<_> = [(model.as_path(), &portable.written.model[..])].into_iter().chain(data).collect();
        qc_compiler::write_together(&files)?;
        Ok(inputs)
    }
}
