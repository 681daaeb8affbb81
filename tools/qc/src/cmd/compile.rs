//! `qc compile`: a model to a shared object, and the account of what became of its ops.

mod converter;

use crate::args::{DebugArgs, GuardArg, ModelArgs, PrecisionArg};
use crate::failure::{Failure, Outcome};
use crate::islands::{Measured, measured};
use crate::paths::Paths;
use crate::sink::Dumps;
use crate::table::{bytes, cut, percent, table};
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use converter::{Converter, Job};
use qc_compiler::{
    Account, CompileOptions, Compiled, Compiler, Fate, OpAccount, TargetCpu, check_artefact, write_artefact,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use converter::SAVED;

/// Float ops that are listed without `-v`.
const LISTED: usize = 12;

/// Compile a model to a self-contained shared object, which needs nothing but libc, and its C header.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc compile resnet50.onnx -o resnet50.so
  qc compile mobilenet/ -o mobilenet.so --ranges ranges.json --target-cpu fat
  qc compile --quant_model_path=qat/ --int8_model_save_path=int8/ --ops_to_quantize=conv2d,pool2d")]
pub struct Compile {
    /// An .onnx or .pdmodel file, or a Paddle directory
    #[arg(required_unless_present = "quant_model_path")]
    model: Option<PathBuf>,
    /// The shared object; the header is written beside it
    #[arg(short, long, value_name = "OUT.so",
          required_unless_present_any = ["int8_model_save_path", "fp32_model_save_path"])]
    out: Option<PathBuf>,
    #[command(flatten)]
    options: ModelArgs,
    /// Instruction tiers
    #[arg(long, help = target_help(), value_name = "CPU", default_value = "host", value_parser = TargetCpu::parse, help_heading = "Compilation")]
    target_cpu: TargetCpu,
    /// Batch sizes with code of their own; any batch runs, unless items of a batch meet in the model
    #[arg(long, value_name = "N,...", value_delimiter = ',', help_heading = "Compilation",
          value_parser = clap::value_parser!(u16).range(1..))]
    batch: Vec<u16>,
    /// Prefix of the exported functions; the model's file name by default
    #[arg(long, value_name = "SYM", help_heading = "Compilation")]
    name: Option<String>,
    #[command(flatten)]
    debug: DebugArgs,
    #[command(flatten)]
    converter: Converter,
    #[command(flatten)]
    json: JsonArgs,
}

/// The words of `--target-cpu`.
fn target_help() -> String {
    let tiers = qc_kernels::Tier::ALL.iter().map(|tier| tier.name()).collect::<Vec<_>>().join(", ");
    format!("Instruction tiers: host, {tiers}, or fat for all, chosen when the file is loaded")
}

impl Compile {
    /// What is compiled to where.
    fn jobs(&self) -> Vec<Job> {
        let own = self.out.iter().map(|out| Job { out: out.clone(), said: None, options: self.options.clone() });
        own.chain(self.converter.jobs(&self.options)).collect()
    }

    fn model(&self) -> PathBuf {
        self.model.clone().or_else(|| self.converter.model()).unwrap_or_default()
    }

    /// What the command reads and writes. Nothing that is read can be in a folder that is not there yet.
    pub fn paths(&self) -> Paths {
        let (model, jobs) = (self.model(), self.jobs());
        let there = |job: &&Job| job.said.is_none() || job.out.parent().is_some_and(Path::is_dir);
        let files = jobs.iter().filter(there).flat_map(|job| [job.out.clone(), job.out.with_extension("h")]);
        let files: Vec<PathBuf> = files.collect();
        let read = std::iter::once(&model).chain(jobs.iter().flat_map(|job| job.options.files()));
        Paths::default().reads(read).writes(files.iter().chain(self.debug.files()).chain(self.json.file()))
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        self.converter.check()?;
        self.jobs().iter().try_for_each(|job| self.one(job, ui))
    }

    /// Compiles to one file.
    fn one(&self, job: &Job, ui: Ui) -> Outcome {
        let start = Instant::now();
        let (out, args, model) = (&job.out, &job.options, self.model());
        if job.said.is_none() || out.parent().is_some_and(Path::is_dir) {
            check_artefact(out)?;
        }
        let mut options = CompileOptions {
            target: self.target_cpu.clone(),
            batches: self.batch.iter().map(|&b| usize::from(b)).collect(),
            name: self.name.clone(),
            manager: self.debug.manager()?,
            ..args.options_to_measure()?
        };
        let file = args.open(&model, &options)?;
        let measured = match args.guard {
            GuardArg::Measured => Some(measured(&options, &file)?),
            GuardArg::NeverSlower | GuardArg::None => None,
        };
        options.keep_fp32.extend(measured.iter().flat_map(|found| found.kept.iter().cloned()));
        let mut dumps = Dumps::new(&self.debug);
        let compiled = Compiler::new(options).compile_file(&file, &mut dumps);
        let compiled = dumps.finish(compiled)?;
        self.paths().reads(&file.files_read()).check()?;
        if let (Some(_), Some(folder)) = (job.said, out.parent().filter(|folder| !folder.as_os_str().is_empty())) {
            std::fs::create_dir_all(folder).map_err(|e| Failure::io(folder, &e))?;
        }
        let header = write_artefact(&compiled, out)?;
        let can_be_int8 = args.ranges.is_none() && args.precision == PrecisionArg::Auto;
        let done = Done {
            measured,
            compiled: &compiled,
            model: &model,
            out,
            header: &header,
            time: start.elapsed(),
            can_be_int8: can_be_int8 && compiled.account.macs().0 == 0,
        };
        compiled.account.warnings.iter().for_each(|text| ui.warn(text));
        let said = || job.said.map_or(String::new(), |said| format!("{said} {}\n", out.display()));
        ui.report(&self.json, || done.json(), || done.text(ui.verbose) + &said())
    }
}

/// What a compilation has to say.
struct Done<'a> {
    measured: Option<Measured>,
    compiled: &'a Compiled,
    model: &'a Path,
    out: &'a Path,
    header: &'a Path,
    time: Duration,
    /// Whether ranges are all that a float model lacks.
    can_be_int8: bool,
}

impl Done<'_> {
    fn json(&self) -> Value {
        let note = self.compiled.note();
        let (int8, all) = self.compiled.account.macs();
        json!({
            "schema": "qc.compile/1",
            "out": self.out,
            "header": self.header,
            "format": self.compiled.format,
            "name": note.name,
            "tiers": note.tiers,
            "batches": note.batches,
            "whole_batches": note.whole_batches,
            "measured": self.measured.as_ref().map(Measured::json),
            "file_bytes": size_of_file(self.out),
            "weights_bytes": note.weights_bytes,
            "time_ms": self.time.as_secs_f64() * 1e3,
            "int8_macs": int8,
            "macs": all,
            "inputs": note.inputs,
            "outputs": note.outputs,
            "ops": self.compiled.account.ops,
            "warnings": self.compiled.account.warnings,
        })
    }

    fn text(&self, verbose: bool) -> String {
        let note = self.compiled.note();
        let out = self.out.display();
        let mut text = format!("import   {}\n", self.compiled.format);
        text += &summary(&self.compiled.account);
        text += &self.measured.as_ref().map_or(String::new(), Measured::text);
        text += &format!("runs     {}\n", note.runs());
        text += &shapes_text(&note);
        text += "\n";
        text += &account_table(&self.compiled.account);
        text += &float_table(&self.compiled.account, verbose);
        if verbose {
            text += "\n";
            text += &complete_table(&self.compiled.account);
        }
        let size = size_of_file(self.out);
        let tiers = note.tiers.join(", ");
        text +=
            &format!("\nwrote    {out}  {}, of which weights {}; {tiers}\n", bytes(size), bytes(note.weights_bytes));
        text += &format!("         {}  in {:.2} s\n", self.header.display(), self.time.as_secs_f64());
        if self.can_be_int8 {
            let model = self.model.display();
            text += &format!(
                "int8     qc calibrate {model} --data SAMPLES -o ranges.json  gives the ranges for --ranges\n"
            );
        }
        text += &format!("next     qc bench {out}  or  qc run {out} -i ");
        text += &match note.inputs.as_slice() {
            [_] => "INPUT.npy -o OUT.npz\n".to_string(),
            several => format!("{}:INPUT.npy ... -o OUT.npz\n", several.first().map_or("NAME", |io| &io.name)),
        };
        text
    }
}

/// One line: the shapes that have code; nothing for a model of one.
pub fn shapes_text(note: &qc_runtime::Note) -> String {
    match &note.shapes()[..] {
        [] => String::new(),
        [first, .., last] => format!("shapes   {}, from {first} to {last}\n", note.shapes().len()),
        [one] => format!("shapes   {one}\n"),
    }
}

fn size_of_file(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

/// One line: how much of the model is computed in integers.
pub fn summary(account: &Account) -> String {
    let (int8, all) = account.macs();
    let number = |f: fn(&Fate) -> bool| account.ops.iter().filter(|o| f(&o.fate)).count();
    let integer = number(|f| matches!(f, Fate::Int8));
    let float = number(|f| matches!(f, Fate::Float(_)));
    let folded = number(|f| matches!(f, Fate::Folded(_)));
    let macs = percent(int8, all);
    format!("int8     {macs} of multiply-accumulates; {integer} ops int8, {float} float, {folded} folded\n")
}

/// Ops by type.
pub fn account_table(account: &Account) -> String {
    #[derive(Default)]
    struct Row {
        int8: usize,
        float: usize,
        folded: usize,
        macs: u64,
    }
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for op in &account.ops {
        let row = rows.entry(&op.op_type).or_default();
        match op.fate {
            Fate::Int8 => row.int8 += 1,
            Fate::Float(_) => row.float += 1,
            Fate::Folded(_) => row.folded += 1,
        }
        row.macs += op.macs;
    }
    let all = account.macs().1;
    let mut rows: Vec<(&str, Row)> = rows.into_iter().collect();
    rows.sort_by_key(|(name, row)| (std::cmp::Reverse(row.macs), *name));
    let number = |n: usize| if n == 0 { "-".to_string() } else { n.to_string() };
    let line = |(name, r): &(&str, Row)| {
        let share = if r.macs == 0 { "-".into() } else { percent(r.macs, all) };
        vec![name.to_string(), number(r.int8), number(r.float), number(r.folded), share]
    };
    table(&["op", ">int8", ">float", ">folded", ">macs"], rows.iter().map(line))
}

/// The float ops with their reasons; nothing if there are none.
pub fn float_table(account: &Account, verbose: bool) -> String {
    let mut float: Vec<(&OpAccount, &str)> = account
        .ops
        .iter()
        .filter_map(|o| match &o.fate {
            Fate::Float(reason) => Some((o, reason.as_str())),
            _ => None,
        })
        .collect();
    if float.is_empty() {
        return String::new();
    }
    float.sort_by_key(|(o, _)| std::cmp::Reverse(o.macs));
    let shown = if verbose { float.len() } else { float.len().min(LISTED) };
    let all = account.macs().1;
    let line = |(o, reason): &(&OpAccount, &str)| {
        let share = if o.macs == 0 { "-".into() } else { percent(o.macs, all) };
        vec![cut(&o.node, 48, verbose), o.op_type.clone(), share, reason.to_string()]
    };
    let mut text = "\n".to_string() + &table(&["float op", "type", ">macs", "why"], float[..shown].iter().map(line));
    if shown < float.len() {
        text += &format!("and {} more; -v lists all\n", float.len() - shown);
    }
    text
}

/// Every op of the model.
pub fn complete_table(account: &Account) -> String {
    let line = |o: &OpAccount| {
        let (fate, why) = match &o.fate {
            Fate::Int8 => ("int8", ""),
            Fate::Float(why) => ("float", why.as_str()),
            Fate::Folded(why) => ("folded", why.as_str()),
        };
        let macs = if o.macs == 0 { "-".into() } else { o.macs.to_string() };
        vec![o.node.clone(), o.op_type.clone(), fate.into(), macs, why.into()]
    };
    table(&["node", "type", "fate", ">macs", "why"], account.ops.iter().map(line))
}
