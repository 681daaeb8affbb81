//! `qc inspect`: what a model or a `.so` is. Nothing of it is executed.

use super::compile::{account_table, complete_table, float_table, summary};
use crate::args::ModelArgs;
use crate::failure::Outcome;
use crate::model::is_shared_object;
use crate::paths::Paths;
use crate::table::{bytes, cut, table};
use crate::ui::{JsonArgs, Ui};
use clap::{Args, ValueEnum};
use qc_compiler::{CompileError, CompileOptions, Compiled, Compiler, ModelFile, pipeline, ranges};
use qc_ir::{Elem, Module, NoSink};
use qc_runtime::Note;
use qc_runtime::note::IoNote;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Show what a model or a compiled .so is, without executing it.
#[derive(Args, Debug)]
pub struct Inspect {
    /// A model or a compiled .so
    model: PathBuf,
    /// What to show
    #[arg(long, value_name = "WHAT,...", value_delimiter = ',', value_enum, default_value = "io,tier")]
    show: Vec<Show>,
    #[command(flatten)]
    options: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// A part of the report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Show {
    /// Inputs and outputs
    Io,
    /// What is computed, and how
    Ops,
    /// Constants of the model
    Params,
    /// Scales and zero points
    Quant,
    /// Sizes of weights and working memory
    Memory,
    /// Instruction tiers and batches
    Tier,
}

/// Parts of the report, as JSON and as text.
#[derive(Default)]
struct Report {
    json: Map<String, Value>,
    text: String,
}

impl Report {
    fn add(&mut self, key: &str, json: Value, text: &str) {
        self.json.insert(key.into(), json);
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text += text;
    }
}

impl Inspect {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        Paths::default().reads([&self.model]).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let mut report = Report::default();
        report.json.insert("schema".into(), json!("qc.inspect/1"));
        if is_shared_object(&self.model)? {
            self.options.none_for(&self.model)?;
            self.shared_object(&mut report, ui.verbose)?;
        } else {
            self.model(&mut report, ui.verbose)?;
        }
        ui.result(&self.json, || Value::Object(report.json.clone()), || report.text.clone())
    }

    fn shared_object(&self, report: &mut Report, verbose: bool) -> Outcome {
        let note = qc_runtime::note::check_file(&self.model, self.options.check())?.note;
        let size = std::fs::metadata(&self.model).map_or(0, |m| m.len());
        let options: Vec<String> = note.options.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        let head = format!(
            "compiled {}  by {}, format {}\nsource   sha256 {}\noptions  {}\n",
            note.name,
            note.generator,
            note.format,
            note.model_sha256,
            if options.is_empty() { "as by default".into() } else { options.join(", ") }
        );
        let about = json!({
            "kind": "shared object", "name": note.name, "generator": note.generator, "format": note.format,
            "model_sha256": note.model_sha256, "options": note.options,
        });
        report.add("about", about, &head);
        for show in &self.show {
            match show {
                Show::Io => add_io(report, &note),
                Show::Ops => {
                    let line = |o: &qc_runtime::note::OpNote| {
                        let kernel = o.kernel.clone().unwrap_or_else(|| "loops".into());
                        vec![
                            cut(&o.name, 64, verbose),
                            cut(&o.op, 32, verbose),
                            kernel,
                            o.steps.to_string(),
                            o.macs.to_string(),
                        ]
                    };
                    let text = table(&["nodes", "ops", "kernel", ">steps", ">macs"], note.ops.iter().map(line));
                    report.add("ops", json!(note.ops), &text);
                }
                Show::Params | Show::Quant => {
                    let text = "the .so keeps weights packed and scales in code; inspect the model for them\n";
                    report.add(if *show == Show::Params { "params" } else { "quant" }, Value::Null, text);
                }
                Show::Memory => {
                    let text = format!("file     {}\nweights  {}\n", bytes(size), bytes(note.weights_bytes));
                    report.add("memory", json!({"file_bytes": size, "weights_bytes": note.weights_bytes}), &text);
                }
                Show::Tier => add_tier(report, &note),
            }
        }
        Ok(())
    }

    fn model(&self, report: &mut Report, verbose: bool) -> Outcome {
        let options = self.options.options()?;
        let file = self.options.open(&self.model, &options)?;
        let compiler = Compiler::new(CompileOptions { batches: vec![1], ..options.clone() });
        let compiled = compiler.compile_file(&file, &mut NoSink)?;
        let note = compiled.note();
        let head = format!("model    {}\nsource   sha256 {}\n", compiled.format, note.model_sha256);
        let about = json!({"kind": "model", "format": compiled.format, "model_sha256": note.model_sha256});
        report.add("about", about, &head);
        for show in &self.show {
            match show {
                Show::Io => add_io(report, &note),
                Show::Ops => add_ops(report, &compiled, verbose),
                Show::Params => add_params(report, &compiler.import(&file, None)?.module),
                Show::Quant => add_quant(report, &fused(&compiler, &options, &file)?, verbose),
                Show::Memory => {
                    let arenas: Vec<Value> = compiled.arenas().map(|(b, n)| json!({"batch": b, "bytes": n})).collect();
                    let mut text = format!("weights  {} packed\n", bytes(note.weights_bytes));
                    for (batch, n) in compiled.arenas() {
                        text += &format!("arena    {} at batch {batch}\n", bytes(n as u64));
                    }
                    report.add("memory", json!({"weights_bytes": note.weights_bytes, "arenas": arenas}), &text);
                }
                Show::Tier => {
                    let names: Vec<&str> = qc_kernels::Tier::ALL.iter().map(|t| t.name()).collect();
                    let text = format!("tiers    can be compiled for {}\n", names.join(", "));
                    report.add("tier", json!({"tiers": names}), &text);
                }
            }
        }
        Ok(())
    }
}

fn add_io(report: &mut Report, note: &Note) {
    let line = |kind: &str, io: &IoNote| vec![kind.to_string(), io.name.clone(), io.elem.to_string(), io.shape_text()];
    let rows = note.inputs.iter().map(|io| line("input", io)).chain(note.outputs.iter().map(|io| line("output", io)));
    let mut text = table(&["", "name", "type", "shape"], rows) + "runs " + &note.runs() + "\n";
    let shapes = note.shapes();
    shapes.iter().for_each(|shape| text += &format!("shape    {shape}\n"));
    let mut json = json!({"inputs": note.inputs, "outputs": note.outputs, "whole_batches": note.whole_batches});
    if !shapes.is_empty() {
        json["shapes"] = json!(shapes);
    }
    report.add("io", json, &text);
}

fn add_tier(report: &mut Report, note: &Note) {
    let batches: Vec<String> = note.batches.iter().map(u32::to_string).collect();
    let text = format!("tiers    {}\nbatches  code for {}\n", note.tiers.join(", "), batches.join(", "));
    report.add("tier", json!({"tiers": note.tiers, "batches": note.batches}), &text);
}

fn add_ops(report: &mut Report, compiled: &Compiled, verbose: bool) {
    let account = &compiled.account;
    let mut text = summary(account) + "\n" + &account_table(account) + &float_table(account, verbose);
    if verbose {
        text += "\n";
        text += &complete_table(account);
    }
    report.add("ops", json!(account.ops), &text);
}

/// The constants of an imported model.
fn add_params(report: &mut Report, m: &Module) {
    let mut rows = Vec::new();
    for &op in m.ops(m.body()) {
        if let Some(c) = qc_dialects::graph::Constant::of(m, op) {
            let v = m.result(op);
            let tensor = &m.consts.get(c.value(m)).tensor;
            let name = m.name(v).unwrap_or("").to_string();
            rows.push((name, format!("{:?}", tensor.data().elem()).to_lowercase(), tensor.dims().to_vec()));
        }
    }
    let all: Vec<Value> = rows.iter().map(|(n, e, d)| json!({"name": n, "elem": e, "shape": d})).collect();
    let line = |(n, e, d): &(String, String, Vec<usize>)| vec![n.clone(), e.clone(), format!("{d:?}")];
    report.add("params", all.into(), &table(&["parameter", "type", "shape"], rows.iter().map(line)));
}

/// The module in which integer ops and their formats are explicit.
fn fused(compiler: &Compiler, options: &CompileOptions, file: &ModelFile) -> Outcome<Module> {
    let mut m = compiler.canonical(file)?.module;
    if let Some(found) = &options.ranges {
        ranges::attach(&mut m, found).map_err(|d| CompileError::from_diag(&d, &m))?;
    }
    compiler.run(&mut m, &pipeline::int8(options), &mut NoSink)?;
    Ok(m)
}

/// Formats of all quantized tensors.
fn add_quant(report: &mut Report, m: &Module, verbose: bool) {
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for &v in m.ops(m.body()).iter().flat_map(|&op| m.results(op)) {
        let Some(Elem::Quant(id)) = m.ty(v).tensor().map(|t| t.elem) else { continue };
        let (q, name) = (m.quant(id), m.name(v).unwrap_or("").to_string());
        let store = format!("{:?}", q.store).to_lowercase();
        let spread = q.scales.iter().fold((f32::INFINITY, 0.0f32), |(a, b), &s| (a.min(s), b.max(s)));
        let scale = match (&q.scales[..], q.axis) {
            ([one], None) => format!("{one}"),
            (several, axis) => {
                format!("{} along axis {}: {} to {}", several.len(), axis.unwrap_or(0), spread.0, spread.1)
            }
        };
        let zero = if q.zeros.iter().all(|z| *z == q.zeros[0]) { q.zeros[0].to_string() } else { "several".into() };
        rows.push(vec![cut(&name, 56, verbose), store.clone(), zero, format!("{:?}", m.dims(v)), scale]);
        all.push(json!({
            "name": name, "store": store, "axis": q.axis, "scales": &q.scales[..], "zeros": &q.zeros[..],
            "shape": m.dims(v),
        }));
    }
    let text = match rows.is_empty() {
        true => "nothing is quantized; give ranges from `qc calibrate`\n".to_string(),
        false => table(&["tensor", "store", ">zero", "shape", "scale"], rows),
    };
    report.add("quant", all.into(), &text);
}
