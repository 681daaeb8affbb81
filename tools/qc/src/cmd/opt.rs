//! `qc opt`: passes over a model or a module in text form; replays reproducers.

use crate::args::{DebugArgs, ModelArgs};
use crate::failure::{CHECK, Failure, MODEL, Outcome};
use crate::model::is_folder;
use crate::paths::Paths;
use crate::sink::Dumps;
use crate::table::table;
use crate::ui::Ui;
use clap::Args;
use qc_compiler::{CompileError, CompileOptions, Compiler, Precision, REGISTRY, pipeline, ranges};
use qc_ir::{Culprit, Module, PrintOptions, Sink, Step, print, read_sidecar, reproducer_pipeline, sidecar};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Run passes over a model or a module in text form.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc opt model.onnx --to fused | less
  qc opt in.qir --pass-pipeline 'canonicalize,const-fold' -o out.qir
  qc opt reproducer.qir                      (replays the pipeline in its first line)")]
pub struct Opt {
    /// A module in text form (- for stdin), or a model. Large constants are read from the .consts file beside it
    #[arg(value_name = "IN.qir|MODEL", required_unless_present = "list_passes")]
    input: Option<PathBuf>,
    /// The module after the passes, and a .consts file beside it; - for stdout
    #[arg(short, long, value_name = "OUT.qir", default_value = "-")]
    out: PathBuf,
    /// Passes to run, as 'a,b{x=1},c'
    #[arg(long, value_name = "PASSES", conflicts_with = "to", alias = "passes")]
    pass_pipeline: Option<String>,
    /// Run the compiler's own passes up to this phase
    #[arg(long, value_name = "PHASE",
          value_parser = ["imported", "canonical", "quantized", "fused", "loops", "planned"])]
    to: Option<String>,
    /// Find the first pass, and the first rewrite in it, after which the interpreter gives other results than the pass
    /// keeps; exit status 1 when there is one
    #[arg(long, conflicts_with = "out")]
    bisect: bool,
    /// List all passes
    #[arg(long)]
    list_passes: bool,
    /// Where large constants of the input are, if not beside it
    #[arg(long, value_name = "FILE")]
    consts: Option<PathBuf>,
    #[command(flatten)]
    options: ModelArgs,
    #[command(flatten)]
    debug: DebugArgs,
}

impl Opt {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let consts = (self.out.as_os_str() != "-").then(|| self.out.with_extension("consts"));
        let read = self.input.iter().chain(&self.consts).chain(self.options.files());
        Paths::default().reads(read).writes([&self.out]).writes(&consts).writes(self.debug.files())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        if self.list_passes {
            let arrow = |p: &qc_ir::Pass| match (p.from, p.to) {
                (_, "") => p.from.to_string(),
                (from, to) => format!("{from} -> {to}"),
            };
            let line = |p: &qc_ir::Pass| vec![p.name.to_string(), arrow(p), p.summary.to_string()];
            return ui.out(&table(&["pass", "phase", "what it does"], qc_passes::ALL.iter().map(line)));
        }
        if let Some(passes) = &self.pass_pipeline {
            let checked = qc_ir::parse_pipeline(passes, qc_passes::ALL);
            checked.map_err(|d| Failure::usage(format!("--pass-pipeline: {}; --list-passes lists all", d.message)))?;
        }
        let Some(input) = &self.input else { return Err(Failure::usage("the input is missing")) };
        let options = CompileOptions { manager: self.debug.manager()?, ..self.options.options()? };
        if self.bisect {
            return self.find(input, &options, ui);
        }
        let mut dumps = Dumps::new(&self.debug);
        let result = self.transform(input, &options, &mut dumps);
        let module = dumps.finish(result)?;
        self.write(&module, ui)
    }

    fn transform(&self, input: &Path, options: &CompileOptions, sink: &mut dyn Sink) -> Outcome<Module> {
        let compiler = Compiler::new(options.clone());
        let mut run = |m: &mut Module, steps: &[Step]| compiler.run(m, steps, sink).map(|_| ()).map_err(Failure::from);
        self.each_part(input, options, self.to.as_deref(), &mut run)
    }

    /// Searches the pipeline, by default the whole of it, for what changes results.
    fn find(&self, input: &Path, options: &CompileOptions, ui: Ui) -> Outcome {
        let mut before = 0;
        let mut found = None;
        let mut run = |m: &mut Module, steps: &[Step]| {
            let refuse = |d: qc_ir::Diag, m: &Module| Failure::from(CompileError::from_diag(&d, m));
            if let Some(culprit) = qc_ir::bisect(m, steps, &REGISTRY).map_err(|d| refuse(d, m))? {
                let text = explain(&culprit, before, m);
                found = Some(text.clone());
                return Err(Failure::new(CHECK, text));
            }
            before += steps.len();
            Ok(())
        };
        let phase = self.to.as_deref().or(Some("planned"));
        let outcome = self.each_part(input, options, phase, &mut run);
        match found {
            Some(text) => Err(Failure::new(CHECK, text)),
            None => {
                outcome?;
                ui.out("ok       no pass changes the results by more than it keeps\n")
            }
        }
    }

    /// Reads the input and gives it to `run` with every part of the pipeline.
    fn each_part(
        &self,
        input: &Path,
        options: &CompileOptions,
        phase: Option<&str>,
        run: &mut dyn FnMut(&mut Module, &[Step]) -> Outcome,
    ) -> Outcome<Module> {
        let compiler = Compiler::new(options.clone());
        let text = module_text(input)?;
        let (mut m, own) = match &text {
            Some(text) => (self.parse(input, text)?, reproducer_pipeline(text)),
            None => {
                let file = self.options.open(input, options)?;
                let module = compiler.import(&file, None)?.module;
                self.paths().reads(&file.files_read()).check()?;
                (module, None)
            }
        };
        let passes = self.pass_pipeline.as_deref().or(own.filter(|_| self.to.is_none()));
        match (passes, phase) {
            (Some(passes), _) => {
                let steps = qc_ir::parse_pipeline(passes, qc_passes::ALL);
                let steps = steps.map_err(|d| CompileError::from_diag(&d, &m))?;
                run(&mut m, &steps)?;
            }
            (None, Some(phase)) => lower_to(options, &mut m, phase, run)?,
            (None, None) => {}
        }
        Ok(m)
    }

    fn parse(&self, input: &Path, text: &str) -> Outcome<Module> {
        let beside = input.with_extension("consts");
        let consts = self.consts.clone().or(Some(beside).filter(|p| input.as_os_str() != "-" && p.is_file()));
        let bytes = match &consts {
            Some(path) => std::fs::read(path).map_err(|e| Failure::io(path, &e))?,
            None => Vec::new(),
        };
        let refuse = |d: qc_ir::Diag, m: Option<&Module>| {
            let text = m.map_or_else(|| d.to_string(), |m| d.render(m));
            Failure::new(MODEL, format!("{}: {}", input.display(), text.trim_start_matches("error: ")))
        };
        let m = qc_ir::parse(text, &REGISTRY, &read_sidecar(&bytes)).map_err(|d| refuse(d, None))?;
        match qc_ir::verify(&m, &REGISTRY).into_iter().next() {
            Some(d) => Err(refuse(d, Some(&m))),
            None => Ok(m),
        }
    }

    fn write(&self, m: &Module, ui: Ui) -> Outcome {
        let text = print(m, PrintOptions::default());
        if self.out.as_os_str() == "-" {
            return ui.out(&text);
        }
        let consts = self.out.with_extension("consts");
        Ok(qc_compiler::write_together(&[(&self.out, text.as_bytes()), (&consts, &sidecar(m))])?)
    }
}

/// What was found, with the pipeline's first `before` passes being right.
fn explain(c: &Culprit, before: usize, m: &Module) -> String {
    let text =
        |d: &qc_ir::Diag| d.render(m).trim_start_matches("internal error: ").trim_start_matches("error: ").to_string();
    let mut out = format!("FAILED: pass `{}` ({:03}) changes the results\n", c.pass, before + c.position);
    out += &format!("  {}\n", text(&c.diag));
    match &c.rewrite {
        None => out += "  it is wrong as a whole, not by one of its rewrites",
        Some(r) => {
            let of = if r.of == 0 { String::new() } else { format!(" of {}", r.of) };
            let pattern = r.pattern.map_or(String::new(), |p| format!(", pattern `{p}`"));
            out += &format!("  first by rewrite {}{of}{pattern}: {}\n", r.number, text(&r.diag));
            out += &format!(
                "  --rewrite-limit {} is right within this pass; the rewrite changes\n{}",
                r.number - 1,
                r.change
            );
        }
    }
    out
}

/// The text of a module, or `None` for something else. Modules begin with a comment or the word `module`.
fn module_text(input: &Path) -> Outcome<Option<String>> {
    let fail = |e: std::io::Error| Failure::io(input, &e);
    let mut bytes = Vec::new();
    if input.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(fail)?;
    } else if !is_folder(input)? {
        bytes = std::fs::read(input).map_err(fail)?;
    }
    let start = bytes.trim_ascii_start();
    if !start.starts_with(b"//") && !start.starts_with(b"module ") {
        return match input.as_os_str() == "-" {
            true => Err(Failure::new(MODEL, "stdin holds no module in text form; name model files instead")),
            false => Ok(None),
        };
    }
    String::from_utf8(bytes).map(Some).map_err(|_| Failure::new(MODEL, format!("{}: not UTF-8", input.display())))
}

/// Runs the compiler's own passes from the phase of `m` to `phase`.
fn lower_to(
    options: &CompileOptions,
    m: &mut Module,
    phase: &str,
    run: &mut dyn FnMut(&mut Module, &[Step]) -> Outcome,
) -> Outcome {
    let order = ["imported", "canonical", "quantized", "fused", "loops", "planned"];
    let at = |name: &str| order.iter().position(|p| *p == name).unwrap_or(0);
    let (from, to) = (at(m.phase), at(phase));
    if to < from {
        return Err(Failure::usage(format!("the module is in phase {} already, past {phase}", m.phase)));
    }
    if from < at("canonical") && to >= at("canonical") {
        run(m, &pipeline::float(options))?;
        if let Some(found) = options.ranges.as_ref().filter(|_| options.precision != Precision::Fp32) {
            ranges::attach(m, found).map_err(|d| CompileError::from_diag(&d, m))?;
        }
    }
    let parts = [(pipeline::int8(options), "canonical", "quantized"), (pipeline::loops(), "fused", "loops")];
    for (steps, start, middle) in parts {
        // A pipeline may move through two phases; it is cut behind the pass that reaches the wanted one.
        if at(m.phase) != at(start) || to <= at(start) {
            continue;
        }
        // In the middle phase, up to its last pass: before the pass that leaves it.
        let leaves = |s: &Step| s.pass.from == phase && !s.pass.to.is_empty();
        let end = steps.iter().position(leaves).filter(|_| to == at(middle)).unwrap_or(steps.len());
        run(m, &steps[..end])?;
    }
    Ok(())
}
