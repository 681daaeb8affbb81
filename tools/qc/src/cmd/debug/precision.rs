//! `qc debug precision`: what every op computes in and why, the format of its result, and what that clips and loses.

use crate::args::ModelArgs;
use crate::arrays;
use crate::cmd::compare::{cause_text, decibels};
use crate::failure::{Failure, Outcome};
use crate::pair::{Compared, Line};
use crate::paths::Paths;
use crate::samples::SampleArgs;
use crate::table::{cut, table};
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::{CompileOptions, Fate, ModelFile, OpAccount};
use qc_ir::{HostTensor, NoSink};
use qc_runtime::IoInfo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// List for every op what it computes in and why, the format of its result, and what that clips and loses.
#[derive(Args, Debug)]
#[command(after_help = "\
`holds` is what the format of the result holds, `seen` the values that floats have there, `clipped` the part of them outside, `alone`
what the op loses on right operands in decibels. Ops of the model that are part of others or of constants are left out without -v. The
first tensor with infinities or what is no number is named.")]
pub struct Precision {
    /// A float model with --ranges, or one that is quantized
    model: PathBuf,
    /// The model whose floats are right; the model's own, without quantization, by default
    #[arg(long = "ref", value_name = "MODEL")]
    reference: Option<PathBuf>,
    #[command(flatten)]
    samples: SampleArgs,
    /// Write every tensor of the first run by its name: as INT8 has it, and as NAME.float what the floats have
    #[arg(long, value_name = "FILE.npz")]
    save_all_tensors: Option<PathBuf>,
    #[command(flatten)]
    options: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

impl Precision {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let read = self.options.files().chain([&self.model, &self.samples.data]).chain(&self.reference);
        Paths::default().reads(read).writes(&self.save_all_tensors).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let options = self.options.options()?;
        let file = self.options.open(&self.model, &options)?;
        let open = |path: &PathBuf| ModelFile::open_within(path, None, &options.limits);
        let reference = self.reference.as_ref().map(open).transpose()?;
        let what = Compared { options: &options, file: &file, reference: reference.as_ref() };
        self.paths().reads(&file.files_read()).check()?;
        let (samples, lines) = what.lines(&self.samples, 1, ui)?;
        let parts = what.parts(&self.samples.first(1), ui)?;
        let part = parts.first().ok_or_else(|| Failure::content(&self.samples.data, "holds no samples"))?;
        let single = CompileOptions { batches: vec![1], ..options.clone() };
        let ops = self.samples.compiler_of_first(&single, &file)?.compile_file(&file, &mut NoSink)?.account.ops;
        if let Some(path) = &self.save_all_tensors {
            let mut contexts = part.program.contexts()?;
            part.samples.fill(&mut contexts.floats, 0, part.rows())?;
            part.samples.fill(&mut contexts.integers, 0, part.rows())?;
            contexts.floats.run()?;
            contexts.integers.run()?;
            let mut all = BTreeMap::new();
            let name = |io: &IoInfo| part.program.integers.float_name(&io.name).to_string();
            for (i, io) in part.program.integers.predictor.outputs().iter().enumerate() {
                let tensor = HostTensor::f32(io.shape.clone(), contexts.integers.output::<f32>(i)?.to_vec());
                all.insert(name(io), tensor);
            }
            for (i, io) in part.program.floats.predictor.outputs().iter().enumerate() {
                let tensor = HostTensor::f32(io.shape.clone(), contexts.floats.output::<f32>(i)?.to_vec());
                all.insert(format!("{}.float", name(io)), tensor);
            }
            arrays::write_npz(path, &all.into_iter().collect::<Vec<_>>())?;
        }
        let order = part.program.common.iter().map(|(name, ..)| name);
        let broken =
            order.filter_map(|name| lines.iter().find(|l| l.name == *name)).find(|l| l.rounding.not_finite > 0);
        let rows: Vec<(&OpAccount, Option<&Line>)> = ops.iter().map(|op| (op, line_of(&lines, op))).collect();
        let json = || {
            json!({
                "schema": "qc.debug.precision/1", "model": self.model, "samples": samples,
                "not_finite": broken.map(|line| &line.name),
                "ops": rows.iter().map(|(op, line)| one(op, *line)).collect::<Vec<_>>(),
            })
        };
        ui.report(&self.json, json, || {
            let mut text = text(&rows, ui.verbose);
            if let Some(line) = broken {
                let (count, of) = (line.rounding.not_finite, line.rounding.elements);
                text += &format!(
                    "note     the first tensor with infinities or no numbers is {} of {}: {count} of {of}\n",
                    line.name,
                    line.nodes.first().unwrap_or(&line.name)
                );
            }
            if let Some(path) = &self.save_all_tensors {
                text += &format!("wrote    {}  every tensor\n", path.display());
            }
            text
        })
    }
}

/// The tensor that an op makes: of several nodes it is the result of the last, and named after the first that works.
fn line_of<'a>(lines: &'a [Line], op: &OpAccount) -> Option<&'a Line> {
    lines.iter().find(|line| line.nodes.first() == Some(&op.node))
}

/// What an op computes in, and why.
fn fate(op: &OpAccount) -> (&'static str, &str) {
    match &op.fate {
        Fate::Int8 => ("INT8", ""),
        Fate::Float(reason) => ("f32", reason),
        Fate::Folded(reason) => ("-", reason),
    }
}

fn one(op: &OpAccount, line: Option<&Line>) -> Value {
    let (computes, reason) = fate(op);
    let rounding = line.map(|line| line.rounding);
    json!({
        "node": op.node, "type": op.op_type, "computes": computes, "reason": reason,
        "tensor": line.map(|line| &line.name),
        "holds": rounding.and_then(|r| r.holds), "seen": rounding.and_then(|r| r.seen),
        "clipped": rounding.map(|r| r.clipped as f64 / r.elements.max(1) as f64),
        "sqnr_alone": line.map(Line::lost).filter(|x| x.is_finite()),
        "by": line.and_then(Line::cause).map(cause_text),
    })
}

fn text(rows: &[(&OpAccount, Option<&Line>)], verbose: bool) -> String {
    let range = |range: Option<[f32; 2]>| range.map_or("-".into(), |[low, high]| format!("{low:.3}..{high:.3}"));
    let line = |(op, line): &(&OpAccount, Option<&Line>)| {
        let (computes, reason) = fate(op);
        let rounding = line.map(|line| line.rounding);
        let clipped =
            rounding.filter(|r| r.holds.is_some()).map(|r| 100.0 * r.clipped as f64 / r.elements.max(1) as f64);
        let alone = line.and_then(|line| line.alone).map_or("-".into(), |alone| decibels(alone.sqnr()));
        let by = line.and_then(Line::cause).map_or(String::new(), cause_text);
        vec![
            cut(&op.node, 40, verbose),
            op.op_type.clone(),
            computes.into(),
            range(rounding.and_then(|r| r.holds)),
            range(rounding.and_then(|r| r.seen)),
            clipped.map_or("-".into(), |part| format!("{part:.2}")),
            alone,
            if reason.is_empty() { by } else { cut(reason, 60, verbose) },
        ]
    };
    let shown = rows.iter().filter(|(op, _)| verbose || !matches!(op.fate, Fate::Folded(_)));
    let head = ["node", "type", "in", ">holds", ">seen", ">% clipped", ">alone dB", "by, or why it is f32"];
    table(&head, shown.map(line))
}
