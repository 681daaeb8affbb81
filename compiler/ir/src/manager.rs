//! The pass manager: runs a pipeline, verifies, dumps, times, checks, and leaves a reproducer when a pass fails.

use crate::check::{SAMPLES, check, samples};
use crate::diag::{Diag, Severity};
use crate::id::LocId;
use crate::limits::Deadline;
use crate::module::Module;
use crate::opdef::Registry;
use crate::parse::parse;
use crate::pass::{PassCx, Step, print_pipeline};
use crate::print::{PrintOptions, print, sidecar};
use crate::verify::verify;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Where dumps go; the driver supplies files and a terminal.
pub trait Sink {
    /// Text for the user's terminal.
    fn text(&mut self, text: &str);
    /// A file with a name relative to the dump directory.
    fn file(&mut self, name: &str, bytes: &[u8]);
}

/// A sink that drops everything.
pub struct NoSink;

impl Sink for NoSink {
    fn text(&mut self, _: &str) {}
    fn file(&mut self, _: &str, _: &[u8]) {}
}

/// Which passes a flag concerns.
#[derive(Clone, Debug, Default)]
pub enum Select {
    /// None.
    #[default]
    None,
    /// Every pass.
    All,
    /// These passes.
    These(Vec<String>),
}

impl Select {
    fn hits(&self, pass: &str) -> bool {
        match self {
            Select::None => false,
            Select::All => true,
            Select::These(names) => names.iter().any(|n| n == pass),
        }
    }
}

/// What the manager does besides running passes.
#[derive(Clone, Debug)]
pub struct ManagerOptions {
    /// Print the module before these passes.
    pub print_before: Select,
    /// Print the module after these passes.
    pub print_after: Select,
    /// After every pass that changed something, print the changed lines.
    pub print_after_change: bool,
    /// Give every state of the module to the sink as a file.
    pub tree: bool,
    /// Print the time of every pass.
    pub timing: bool,
    /// Print ops before and after, and applications per pattern.
    pub statistics: bool,
    /// Verify after every pass.
    pub verify_each: bool,
    /// Run the interpreter around every pass and compare.
    pub check_each: bool,
    /// Rewrites that may be applied in all, for searching a guilty one.
    pub rewrite_limit: usize,
    /// When the passes have to be done.
    pub deadline: Option<Deadline>,
}

impl Default for ManagerOptions {
    fn default() -> ManagerOptions {
        ManagerOptions {
            print_before: Select::None,
            print_after: Select::None,
            print_after_change: false,
            tree: false,
            timing: false,
            statistics: false,
            verify_each: cfg!(debug_assertions),
            check_each: false,
            rewrite_limit: usize::MAX,
            deadline: None,
        }
    }
}

/// What one pass did.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// Name of the pass.
    pub pass: &'static str,
    /// Time it took.
    pub time: Duration,
    /// Ops before and after.
    pub ops: (usize, usize),
    /// Applications per pattern.
    pub hits: BTreeMap<&'static str, usize>,
    /// What it says about ops, by location.
    pub remarks: Vec<(LocId, String)>,
}

/// Runs `steps` on `m`.
///
/// # Errors
/// What a pass or the verifier says; a panic inside a pass becomes a `Bug`. With a `Bug`, the sink gets
/// `reproducer.qir` and `reproducer.consts`: the module before the failing pass, with the rest of the pipeline in the
/// first line.
pub fn run(
    m: &mut Module,
    steps: &[Step],
    registry: &Registry,
    options: &ManagerOptions,
    sink: &mut dyn Sink,
) -> Result<Vec<PassReport>, Diag> {
    let mut reports = Vec::new();
    let mut left = options.rewrite_limit;
    if options.tree {
        dump_file(m, sink, 0, "import");
        sink.file("pipeline.txt", print_pipeline(steps).as_bytes());
    }
    let mut inputs: Option<Vec<Vec<crate::HostTensor>>> = None;
    // What a defective pass began with is made again from here; only what compares the states needs each of them.
    let start = m.clone();
    let compares = options.check_each || options.print_after_change;
    for (n, step) in steps.iter().enumerate() {
        let pass = step.pass;
        if !pass.from.is_empty() && pass.from != m.phase {
            return Err(Diag::error(format!("pass `{}` needs phase `{}`, not `{}`", pass.name, pass.from, m.phase)));
        }
        if options.print_before.hits(pass.name) {
            sink.text(&format!("// ---- before {:03} {}\n{}", n + 1, pass.name, print(m, PrintOptions::default())));
        }
        let before = compares.then(|| m.clone());
        let ops_before = m.op_count();
        let started = Instant::now();
        let result = run_step(m, step, left, registry, options);
        let time = started.elapsed();
        let PassCx { hits, remarks, .. } = match result {
            Ok(done) => done,
            Err(diag) if diag.severity != Severity::Bug => return Err(diag),
            Err(diag) => {
                let before = before.map_or_else(|| again(start, &steps[..n], registry, options), Ok)?;
                return Err(reproduce(&before, &steps[n..], sink, diag));
            }
        };
        left = left.saturating_sub(hits.values().sum());
        let report = PassReport { pass: pass.name, time, ops: (ops_before, m.op_count()), hits, remarks };
        show(m, before.as_ref(), n + 1, &report, options, sink);
        if let Some(before) = before.filter(|_| options.check_each) {
            let inputs = inputs.get_or_insert_with(|| samples(&before, SAMPLES));
            if let Err(diag) = check(&before, m, pass.keeps, inputs, registry) {
                let diag = diag.note(format!("pass `{}` ({:03}) changed the results", pass.name, n + 1));
                return Err(reproduce(&before, &steps[n..], sink, diag));
            }
        }
        reports.push(report);
    }
    summarize(&reports, options, sink);
    Ok(reports)
}

/// The module after `steps`, which went well once.
fn again(mut m: Module, steps: &[Step], registry: &Registry, options: &ManagerOptions) -> Result<Module, Diag> {
    let mut left = options.rewrite_limit;
    let options = ManagerOptions { verify_each: false, deadline: None, ..options.clone() };
    for step in steps {
        let done = run_step(&mut m, step, left, registry, &options)?;
        left = left.saturating_sub(done.hits.values().sum());
    }
    Ok(m)
}

/// Runs one pass, and the verifier behind it.
pub(crate) fn run_step(
    m: &mut Module,
    step: &Step,
    left: usize,
    registry: &Registry,
    options: &ManagerOptions,
) -> Result<PassCx, Diag> {
    let mut cx = PassCx::new(step.options.clone(), left);
    cx.deadline = options.deadline;
    cx.check_time()?;
    let outcome = catch_unwind(AssertUnwindSafe(|| (step.pass.run)(m, &mut cx)));
    let pass = step.pass.name;
    outcome.map_err(|panic| Diag::bug(format!("pass `{pass}` panicked: {}", panic_text(&*panic))))??;
    let moved = !step.pass.to.is_empty();
    if moved {
        m.phase = step.pass.to;
    }
    if options.verify_each || moved {
        let mut errors = verify(m, registry);
        if !errors.is_empty() {
            let more = errors.len() - 1;
            let mut first = errors.swap_remove(0).note(format!("found by the verifier after pass `{pass}`"));
            first.severity = crate::Severity::Bug;
            return Err(if more > 0 { first.note(format!("and {more} more errors")) } else { first });
        }
    }
    Ok(cx)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_string()
}

fn reproduce(before: &Module, rest: &[Step], sink: &mut dyn Sink, diag: Diag) -> Diag {
    let text = format!("// pipeline: {}\n{}", print_pipeline(rest), print(before, PrintOptions::default()));
    sink.file("reproducer.qir", text.as_bytes());
    sink.file("reproducer.consts", &sidecar(before));
    diag.note("the module before the failing pass is kept as a reproducer; `qc opt` replays it")
}

/// The pipeline in the first line of a reproducer.
pub fn reproducer_pipeline(text: &str) -> Option<&str> {
    text.lines().next()?.strip_prefix("// pipeline: ")
}

fn dump_file(m: &Module, sink: &mut dyn Sink, n: usize, name: &str) {
    sink.file(&format!("{n:03}_{name}.qir"), print(m, PrintOptions::default()).as_bytes());
    sink.file(&format!("{n:03}_{name}.consts"), &sidecar(m));
}

fn show(m: &Module, before: Option<&Module>, n: usize, r: &PassReport, options: &ManagerOptions, sink: &mut dyn Sink) {
    let hits: usize = r.hits.values().sum();
    let head = format!("// ---- after {n:03} {} ({hits} hits, {:.1} ms)", r.pass, r.time.as_secs_f64() * 1e3);
    if options.print_after.hits(r.pass) {
        sink.text(&format!("{head}\n{}", print(m, PrintOptions::default())));
    }
    if let Some(before) = before.filter(|_| options.print_after_change) {
        let (old, new) = (print(before, PrintOptions::default()), print(m, PrintOptions::default()));
        if old != new {
            let diff = similar::TextDiff::from_lines(&old, &new);
            sink.text(&format!("{head}\n{}", diff.unified_diff().context_radius(2)));
        }
    }
    if options.tree {
        dump_file(m, sink, n, r.pass);
    }
}

fn summarize(reports: &[PassReport], options: &ManagerOptions, sink: &mut dyn Sink) {
    if options.timing {
        let total: f64 = reports.iter().map(|r| r.time.as_secs_f64()).sum();
        for r in reports {
            let t = r.time.as_secs_f64();
            sink.text(&format!("{:>10.3} ms {:>5.1} %  {}\n", t * 1e3, 100.0 * t / total.max(1e-9), r.pass));
        }
        sink.text(&format!("{:>10.3} ms total\n", total * 1e3));
    }
    if options.statistics {
        for r in reports {
            sink.text(&format!("{:<24} {:>5} -> {:<5} ops\n", r.pass, r.ops.0, r.ops.1));
            for (pattern, count) in &r.hits {
                sink.text(&format!("  {count:>6} {pattern}\n"));
            }
        }
    }
}

/// Whether a printed module parses and prints to the same text.
///
/// # Errors
/// What the parser says, or the first line that differs.
pub fn round_trips(m: &Module, registry: &Registry) -> Result<(), Diag> {
    let text = print(m, PrintOptions::default());
    let again = parse(&text, registry, &crate::parse::read_sidecar(&sidecar(m)))?;
    let printed = print(&again, PrintOptions::default());
    match text.lines().zip(printed.lines()).find(|(a, b)| a != b) {
        None if text.len() == printed.len() => Ok(()),
        None => Err(Diag::bug("the text changes its length when parsed and printed")),
        Some((a, b)) => Err(Diag::bug(format!("`{a}` becomes `{b}`"))),
    }
}
