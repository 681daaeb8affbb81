//! `qc check`: whether a model can be compiled, everything that keeps it from that, and what of it would be float.

use super::compile::{account_table, float_table, shapes_text, summary};
use crate::args::ModelArgs;
use crate::failure::{Failure, MODEL, Outcome};
use crate::model::is_shared_object;
use crate::paths::Paths;
use crate::table::{cut, table};
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::{CompileError, CompileOptions, Compiled, Compiler, Fate, ImportError};
use qc_ir::NoSink;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Say whether a model can be compiled: all problems at once, and what of it would be float and why.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit status: 0 when the model can be compiled, 3 when it cannot, 5 when it goes beyond a limit.

Examples:
  qc check model.onnx
  qc check model.onnx --ranges ranges.json --json")]
pub struct Check {
    /// A model, or a compiled .so, whose checksums are compared with its contents
    model: PathBuf,
    #[command(flatten)]
    options: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// One thing that keeps a model from being compiled.
struct Problem {
    kind: &'static str,
    name: String,
    /// Op type of a node; element type, shape and size of a parameter.
    about: String,
    reason: String,
    remedy: String,
}

impl Problem {
    fn of(e: &ImportError) -> Problem {
        let problem = |kind, name: &str, about: &str, reason: &str, remedy: &str| Problem {
            kind,
            name: name.into(),
            about: about.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        };
        match e {
            ImportError::Node { node, op_type, reason, remedy, .. } => problem("node", node, op_type, reason, remedy),
            ImportError::Parameter { name, expected, reason } => problem("parameter", name, expected, reason, ""),
            ImportError::Port { name, reason, remedy } => problem("input or output", name, "", reason, remedy),
            ImportError::NotAModel { reason, remedy } => problem("file", "", "", reason, remedy),
            ImportError::Broken { reason } => problem("file", "", "", reason, ""),
            other => problem("model", "", "", &other.to_string(), ""),
        }
    }

    fn json(&self) -> Value {
        json!({"kind": self.kind, "name": self.name, "about": self.about, "reason": self.reason, "remedy": self.remedy})
    }
}

impl Check {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        Paths::default().reads([&self.model]).reads(self.options.files()).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        if is_shared_object(&self.model)? {
            return self.shared_object(ui);
        }
        let options = self.options.options()?;
        let file = self.options.open(&self.model, &options)?;
        let compiler = Compiler::new(CompileOptions { batches: vec![1], ..options });
        match compiler.compile_file(&file, &mut NoSink) {
            Ok(compiled) => self.passed(&compiled, ui),
            Err(CompileError::Import { errors, .. }) => {
                self.failed(&errors.list.iter().map(Problem::of).collect::<Vec<_>>(), ui)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn shared_object(&self, ui: Ui) -> Outcome {
        self.options.none_for(&self.model)?;
        let note = qc_runtime::note::check_file(&self.model, self.options.check())?.note;
        qc_runtime::check_tiers(&self.model, &note.tiers)?;
        let json = || json!({"schema": "qc.check/1", "model": self.model, "ok": true, "problems": [], "tiers": note.tiers, "shapes": note.shapes()});
        ui.report(&self.json, json, || {
            format!("ok       whole and as it was written; {} of them runs here\n", note.tiers.join(", "))
        })
    }

    fn passed(&self, compiled: &Compiled, ui: Ui) -> Outcome {
        let account = &compiled.account;
        let (int8, macs) = account.macs();
        account.warnings.iter().for_each(|text| ui.warn(text));
        let float: Vec<Value> = account
            .ops
            .iter()
            .filter_map(|o| match &o.fate {
                Fate::Float(reason) => {
                    Some(json!({"node": o.node, "op_type": o.op_type, "reason": reason, "macs": o.macs}))
                }
                _ => None,
            })
            .collect();
        let json = || {
            json!({
                "schema": "qc.check/1", "model": self.model, "format": compiled.format, "ok": true, "problems": [],
                "ops": account.ops.len(), "int8_macs": int8, "macs": macs, "float": float,
                "warnings": account.warnings,
                "shapes": compiled.note().shapes(),
            })
        };
        ui.report(&self.json, json, || {
            let mut text = format!("model    {}\n", compiled.format);
            text += &summary(account);
            text += &shapes_text(&compiled.note());
            text += "\n";
            text += &account_table(account);
            text += &float_table(account, ui.verbose);
            text += &format!("\nok       all {} ops can be compiled\n", account.ops.len());
            text
        })
    }

    fn failed(&self, problems: &[Problem], ui: Ui) -> Outcome {
        let json = || {
            let all: Vec<Value> = problems.iter().map(Problem::json).collect();
            json!({"schema": "qc.check/1", "model": self.model, "ok": false, "problems": all})
        };
        ui.report(&self.json, json, || {
            let line = |p: &Problem| {
                vec![p.kind.to_string(), cut(&p.name, 48, ui.verbose), cut(&p.about, 48, ui.verbose), p.reason.clone()]
            };
            let mut text = table(&["problem", "name", "type", "why"], problems.iter().map(line));
            let mut remedies: BTreeMap<&str, usize> = BTreeMap::new();
            for p in problems.iter().filter(|p| !p.remedy.is_empty()) {
                *remedies.entry(&p.remedy).or_default() += 1;
            }
            for (remedy, count) in remedies {
                text += &format!("\nremedy   {remedy}  (for {count} of {})", problems.len());
            }
            text + "\n"
        })?;
        let (model, n) = (self.model.display(), problems.len());
        let things = if n == 1 { "one problem keeps".into() } else { format!("{n} problems keep") };
        Err(Failure::new(MODEL, format!("{model}: {things} this model from being compiled")))
    }
}
