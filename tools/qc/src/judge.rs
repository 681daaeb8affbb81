//! How good a model is on samples, against floats that are right: one place for searches, comparisons and their kin.

use crate::failure::{Failure, Outcome};
use crate::measure::{Command, Measure};
use crate::metric::{Metric, Tally, answers, of_scores};
use crate::pair::Compared;
use crate::pictures::in_parallel;
use crate::samples::{Part, Program, SampleArgs, Samples, Turn, turns};
use crate::ui::Ui;
use qc_compiler::{CompileOptions, Compiler, Context, ContextOptions, ModelFile, Predictor, Shapes};
use qc_ir::HostTensor;
use qc_runtime::{Elem, IoInfo};
use std::collections::BTreeMap;
use std::time::Instant;

/// A model as it is run.
pub struct Whole {
    pub predictor: Predictor,
    /// The shape it was compiled for.
    pub at: Shapes,
    /// Inputs that are constants of it.
    values: BTreeMap<String, HostTensor>,
}

impl Whole {
    /// A model with other options, for the same samples.
    ///
    /// # Errors
    /// As the compiler.
    pub fn with(&self, options: &CompileOptions, file: &ModelFile) -> Outcome<Whole> {
        let compiler = Compiler::new(CompileOptions { values: self.values.clone(), ..options.clone() });
        Whole::make(&compiler, file, &self.at)
    }
}

impl Program for Whole {
    fn make(compiler: &Compiler, file: &ModelFile, at: &Shapes) -> Outcome<Whole> {
        let values = compiler.options().values.clone();
        Ok(Whole { predictor: compiler.jit_at(file, at)?, at: at.clone(), values })
    }

    fn inputs(&self) -> &[IoInfo] {
        self.predictor.inputs()
    }
}

/// Float outputs of each run.
type Results = Vec<Vec<Vec<f32>>>;

/// Floats that are right, with samples: what models in integers are judged by.
pub struct Judge<'a> {
    by: By,
    samples: &'a SampleArgs,
    what: Compared<'a>,
    parts: Vec<Part<Whole>>,
    /// By program, in the order of [`turns`].
    right: Vec<Results>,
}

/// What it judges by.
enum By {
    /// A metric, and the score that is no symbol, of [`Metric::Ctc`].
    Metric(Metric, usize),
    /// The classes of samples, in the order of all.
    Classes(Vec<i64>),
    Command(Command),
}

impl<'a> Judge<'a> {
    /// Runs the floats on the samples.
    ///
    /// # Errors
    /// As running samples.
    pub fn new(
        (measure, blank): (Measure, usize),
        samples: &'a SampleArgs,
        what: Compared<'a>,
        ui: Ui,
    ) -> Outcome<Judge<'a>> {
        let floats = in_floats(what.options);
        let right = what.reference.unwrap_or(what.file);
        let make = |compiler: &Compiler, _: &ModelFile, at: &Shapes| Whole::make(compiler, right, at);
        let parts: Vec<Part<Whole>> = samples.parts_by(&floats, what.file, &make, ui)?;
        let by = By::Metric(Metric::default(), blank);
        let mut judge = Judge { by, samples, what, parts, right: Vec::new() };
        judge.right = judge.by_program(|program, turns| run_turns(&program.predictor, turns, samples))?;
        judge.by = match &measure {
            Measure::Metric(metric) => match judge.classes()?.filter(|_| *metric == Metric::Top1) {
                Some(classes) => By::Classes(classes),
                None => By::Metric(*metric, blank),
            },
            Measure::Command(text) => By::Command(Command::new(text, &judge.arrays(&judge.right)?)?),
        };
        Ok(judge)
    }

    /// The classes of all samples, if each has one and the first output is a row of scores for each.
    fn classes(&self) -> Outcome<Option<Vec<i64>>> {
        let mut all = Vec::new();
        for part in &self.parts {
            let Some(labels) = part.samples.labels()? else { return Ok(None) };
            let shape = of_scores(first_of_floats(part.program.predictor.outputs()));
            let Some((&scores, _)) =
                shape.split_last().filter(|(_, items)| items.iter().product::<usize>() == part.rows())
            else {
                return Ok(None);
            };
            if let Some(label) = labels.iter().find(|&&label| usize::try_from(label).map_or(true, |l| l >= scores)) {
                let text = format!("has class {label}, and the model scores classes 0 to {}", scores.saturating_sub(1));
                return Err(Failure::content(&self.samples.data, text));
            }
            all.extend(labels.into_iter().take(part.count()?));
        }
        Ok(Some(all))
    }

    /// The part of samples whose largest score is that of their class, in percent.
    fn accuracy(&self, classes: &[i64], got: &[Results]) -> Outcome<f64> {
        let (mut right, mut n, mut results) = (0, 0, got.iter());
        self.by_program(|program, turns| {
            let shape = first_of_floats(program.predictor.outputs());
            for (turn, outputs) in turns.iter().zip(results.next().into_iter().flatten()) {
                let Some(values) = outputs.first() else { continue };
                let given = answers(Metric::Top1, values, shape, 0).into_iter().flatten().take(turn.samples);
                right += given.zip(&classes[turn.first..]).filter(|(got, class)| got == *class).count();
                n += turn.samples;
            }
            Ok(())
        })?;
        Ok(100.0 * right as f64 / n.max(1) as f64)
    }

    /// What `one` makes of each program and its runs.
    fn by_program<R>(&self, mut one: impl FnMut(&Whole, &[Turn<'_, Whole>]) -> Outcome<R>) -> Outcome<Vec<R>> {
        let groups = turns(&self.parts, self.samples.limit())?;
        let program = |group: &[Turn<'_, Whole>]| group.first().map(|turn| turn.part.program.clone());
        groups.iter().filter_map(|group| Some(one(&*program(group)?, group))).collect()
    }

    /// The options of the model, with these nodes in f32.
    pub fn keeping(&self, kept: &[String]) -> CompileOptions {
        let keep_fp32 = self.what.options.keep_fp32.iter().chain(kept).cloned().collect();
        CompileOptions { keep_fp32, ..self.what.options.clone() }
    }

    /// Whether scores are counted in the command's own unit rather than in percent.
    pub fn is_command(&self) -> bool {
        matches!(self.by, By::Command(_))
    }

    /// The score of the floats themselves.
    ///
    /// # Errors
    /// A command that fails.
    pub fn of_floats(&self) -> Outcome<f64> {
        match &self.by {
            By::Metric(..) => Ok(100.0),
            By::Classes(classes) => self.accuracy(classes, &self.right),
            By::Command(command) => command.score(None),
        }
    }

    /// The score of the model with these options.
    ///
    /// # Errors
    /// As compiling and running it; a command that fails.
    pub fn score(&self, options: &CompileOptions) -> Outcome<f64> {
        let got = self.by_program(|program, turns| {
            run_turns(&program.with(options, self.what.file)?.predictor, turns, self.samples)
        })?;
        let (metric, blank) = match &self.by {
            By::Metric(metric, blank) => (*metric, *blank),
            By::Classes(classes) => return self.accuracy(classes, &got),
            By::Command(command) => return command.score(Some(&self.arrays(&got)?)),
        };
        let (mut tally, mut both) = (Tally::new(metric, blank), got.iter().zip(&self.right));
        self.by_program(|program, _| {
            let shape = first_of_floats(program.predictor.outputs());
            for (got, right) in both.next().into_iter().flat_map(|(got, right)| got.iter().zip(right)) {
                tally.observe(right, got, shape);
            }
            Ok(())
        })?;
        Ok(tally.score())
    }

    /// The float outputs of all runs as arrays: one for each output, with the runs in its first dim, where their shapes allow that, else
    /// one for each run, whose name ends in its number.
    fn arrays(&self, all: &[Results]) -> Outcome<Vec<(String, HostTensor)>> {
        let mut programs = all.iter();
        let mut runs: Vec<Vec<(String, HostTensor)>> = Vec::new();
        self.by_program(|program, _| {
            let floats = program.predictor.outputs().iter().filter(|io| io.elem == Elem::F32);
            let ios: Vec<&IoInfo> = floats.collect();
            for run in programs.next().into_iter().flatten() {
                let named = ios.iter().zip(run);
                runs.push(
                    named
                        .map(|(io, values)| (io.name.clone(), HostTensor::f32(io.shape.clone(), values.clone())))
                        .collect(),
                );
            }
            Ok(())
        })?;
        Ok(stacked(&runs))
    }

    /// What the model with these options costs on the first sample, with one thread.
    ///
    /// # Errors
    /// As [`Judge::score`].
    pub fn cost(&self, options: &CompileOptions) -> Outcome<Cost> {
        let Some((mut context, seconds)) = self.timed(options)? else {
            return Ok(Cost { seconds: f64::INFINITY, steps: Vec::new() });
        };
        let mut profile = context.profile();
        for _ in 0..RUNS {
            context.run_profiled(&mut profile)?;
        }
        let total = profile.total_ns().max(1) as f64;
        let steps = profile.rows().map(|row| (row.name.to_string(), row.ns as f64 / total)).collect();
        Ok(Cost { seconds, steps })
    }

    /// The seconds of [`Judge::cost`] in integers, with some nodes in f32, and in floats.
    ///
    /// # Errors
    /// As [`Judge::score`].
    pub fn times(&self, kept: &[String]) -> Outcome<Times> {
        let one = |options: &CompileOptions| -> Outcome<f64> {
            Ok(self.timed(options)?.map_or(f64::INFINITY, |(_, seconds)| seconds))
        };
        let int8 = one(self.what.options)?;
        let mixed = if kept.is_empty() { int8 } else { one(&self.keeping(kept))? };
        Ok(Times { int8, mixed, f32: one(&in_floats(self.what.options))? })
    }

    /// A caller of the model with these options that has run the first sample, and the seconds of the fastest run; nothing without
    /// samples.
    fn timed(&self, options: &CompileOptions) -> Outcome<Option<(Context, f64)>> {
        let Some(part) = self.parts.first() else { return Ok(None) };
        let whole = part.program.with(options, self.what.file)?;
        let mut context = whole.predictor.context(&ContextOptions { threads: Some(1), ..ContextOptions::default() })?;
        part.samples.fill(&mut context, 0, part.rows())?;
        let mut seconds = f64::INFINITY;
        for _ in 0..RUNS {
            let start = Instant::now();
            context.run()?;
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        Ok(Some((context, seconds)))
    }
}

/// Arrays of runs, joined along the first dim where the others agree.
fn stacked(runs: &[Vec<(String, HostTensor)>]) -> Vec<(String, HostTensor)> {
    let mut all = Vec::new();
    for (i, (name, first)) in runs.first().into_iter().flatten().enumerate() {
        let own = || runs.iter().filter_map(|run| run.get(i)).map(|(_, t)| t);
        let inner = first.dims().get(1..).unwrap_or_default();
        if !first.dims().is_empty() && own().all(|t| t.dims().get(1..) == Some(inner)) {
            let rows = own().map(|t| t.dims()[0]).sum();
            let dims: Vec<usize> = std::iter::once(rows).chain(inner.iter().copied()).collect();
            let values = own().filter_map(HostTensor::as_f32).flatten().copied().collect();
            all.push((name.clone(), HostTensor::f32(dims, values)));
        } else {
            all.extend(own().enumerate().map(|(run, t)| (format!("{name}.{run}"), t.clone())));
        }
    }
    all
}

/// The options of the floats of a model.
fn in_floats(options: &CompileOptions) -> CompileOptions {
    Compiler::new(options.clone()).in_floats().options().clone()
}

/// Runs that a time is taken of; the fastest counts.
const RUNS: usize = 10;

/// Seconds of a model in three forms.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub int8: f64,
    /// With some nodes in f32.
    pub mixed: f64,
    pub f32: f64,
}

/// What a model costs.
pub struct Cost {
    /// Of one run.
    pub seconds: f64,
    /// Nodes of each step, separated by `+`, and its share of the time.
    pub steps: Vec<(String, f64)>,
}

/// What `look` makes of every run of a model on `n` samples, of which a run has `rows`.
///
/// # Errors
/// As filling and running.
pub fn run_on<R: Send>(
    predictor: &Predictor,
    (samples, rows): (&Samples, usize),
    n: usize,
    args: &SampleArgs,
    look: impl Fn(&mut Context) -> Outcome<R> + Sync,
) -> Outcome<Vec<R>> {
    let make = || Ok(predictor.context(&ContextOptions { threads: Some(1), ..ContextOptions::default() })?);
    let work = |context: &mut Context, run: usize| {
        samples.fill(context, run, rows)?;
        context.run()?;
        look(context)
    };
    Ok(in_parallel(n.div_ceil(rows), args.threads(), make, work)?.0)
}

/// The float outputs of a model on runs of a program whose inputs are its own.
fn run_turns(predictor: &Predictor, turns: &[Turn<'_, Whole>], args: &SampleArgs) -> Outcome<Results> {
    let make = || Ok(predictor.context(&ContextOptions { threads: Some(1), ..ContextOptions::default() })?);
    let work = |context: &mut Context, i: usize| {
        let Turn { part, run, .. } = &turns[i];
        part.samples.fill(context, *run, part.rows())?;
        context.run()?;
        outputs(context)
    };
    Ok(in_parallel(turns.len(), args.threads(), make, work)?.0)
}

/// The shape of the first float output.
pub fn first_of_floats(outputs: &[IoInfo]) -> &[usize] {
    outputs.iter().find(|io| io.elem == Elem::F32).map_or(&[], |io| &io.shape)
}

/// The float outputs of the last run.
pub fn outputs(context: &mut Context) -> Outcome<Vec<Vec<f32>>> {
    let float = |i: &usize| context.outputs()[*i].elem == Elem::F32;
    let one = |i: usize| Ok(context.output::<f32>(i)?.to_vec());
    (0..context.outputs().len()).filter(float).map(one).collect()
}
