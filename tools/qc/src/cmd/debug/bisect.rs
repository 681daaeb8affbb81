//! `qc debug bisect`: the first op from which on a model in INT8 is wrong.
//!
//! Floats go on from the tensors of the integers: of the tensors that both have, in order, the first ones are as the model in INT8 has
//! them, and the float model computes the rest. With none it is right, with all it is the model in INT8, and between there is a
//! first one with which it is wrong.

use crate::args::ModelArgs;
use crate::arrays;
use crate::checker::{Checker, Verdict};
use crate::cmd::compare::{cause_text, decibels, nodes_text};
use crate::failure::{Failure, INTERNAL, Outcome};
use crate::metric::{Metric, Tally};
use crate::pair::{Compared, Contexts, Line, Pair, input};
use crate::paths::Paths;
use crate::pictures::in_parallel;
use crate::samples::{Part, SampleArgs};
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::cut::{self, Cut};
use qc_compiler::{Context, ContextOptions, ModelFile};
use qc_ir::HostTensor;
use serde_json::json;
use std::path::PathBuf;

/// Name the first op from which on a model in INT8 is wrong.
#[derive(Args, Debug)]
#[command(after_help = "\
The tensors of the model are taken from INT8 up to an op, and floats go on from there; halving finds the first op with which outputs
are wrong. What is wrong is said by a metric and the least that it may be, or by a command: it is given an .npz file of the outputs
on all samples in the place of {outputs}, and its status is 0 for right, 125 for what it cannot tell, anything else for wrong. Without
either, the op is named with which outputs have half of the noise that they have in the end.")]
pub struct Bisect {
    /// A float model with --ranges, or one that is quantized
    model: PathBuf,
    /// The model whose floats are right; the model's own, without quantization, by default
    #[arg(long = "ref", value_name = "MODEL")]
    reference: Option<PathBuf>,
    #[command(flatten)]
    samples: SampleArgs,
    /// How outputs are compared with those of the floats
    #[arg(long, value_enum, requires = "least")]
    metric: Option<Metric>,
    /// Which score is that of no symbol, for --metric ctc
    #[arg(long, value_name = "N", default_value_t = 0)]
    blank: usize,
    /// The least score that is right, in percent of the cosine or of another --metric, or decibels of snr
    #[arg(long, value_name = "X", conflicts_with = "check")]
    least: Option<f64>,
    /// A command that says whether the outputs in {outputs} are right
    #[arg(long, value_name = "CMD")]
    check: Option<String>,
    #[command(flatten)]
    options: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// Samples that are used unless the user says how many.
const FEW: u32 = 16;

/// The word that stands for outputs in a command.
const OUTPUTS: &str = "{outputs}";

/// Outputs of each run.
type Runs = Vec<Vec<Vec<f32>>>;

/// A search.
struct Search<'a> {
    args: &'a Bisect,
    data: SampleArgs,
    right: &'a ModelFile,
    parts: Vec<Part<Pair>>,
    /// Right outputs of each part.
    wanted: Vec<Runs>,
    checker: Option<Checker<'a>>,
    metric: Metric,
    /// The least score that is right.
    least: f64,
    dir: tempfile::TempDir,
}

/// Outputs with some tensors of INT8: their score, if a metric says it, and whether they are right.
#[derive(Clone, Copy)]
struct Seen {
    score: Option<f64>,
    right: bool,
}

impl Bisect {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let read = self.options.files().chain([&self.model, &self.samples.data]).chain(&self.reference);
        Paths::default().reads(read).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let options = self.options.options()?;
        let file = self.options.open(&self.model, &options)?;
        let open = |path: &PathBuf| ModelFile::open_within(path, None, &options.limits);
        let reference = self.reference.as_ref().map(open).transpose()?;
        let what = Compared { options: &options, file: &file, reference: reference.as_ref() };
        let data = if self.samples.take.n.is_some() { self.samples.clone() } else { self.samples.first(FEW) };
        let checker = self.check.as_deref().map(|text| Checker::new("--check", text, &[OUTPUTS])).transpose()?;
        let parts = what.parts(&data, ui)?;
        let count = parts.first().map_or(0, |part| part.program.common.len());
        let dir = tempfile::tempdir().map_err(|e| Failure::io(&std::env::temp_dir(), &e))?;
        let right = reference.as_ref().unwrap_or(&file);
        let by_half = self.least.is_none() && checker.is_none();
        let metric = self.metric.unwrap_or(if by_half { Metric::Snr } else { Metric::Cosine });
        let least = self.least.unwrap_or(f64::NEG_INFINITY);
        let mut search = Search { args: self, data, right, parts, wanted: Vec::new(), checker, metric, least, dir };
        search.wanted = search.outputs(0)?;
        let (floats, mut integers) = (search.see(0)?, search.see(count)?);
        if let Some(score) = integers.score.filter(|score| by_half && score.is_finite()) {
            // Half of the power of the noise.
            search.least = score + 10.0 * 2f64.log10();
            integers.right = false;
        }
        if !floats.right {
            return Err(Failure::usage(
                "the outputs of the floats are wrong already by this check; nothing is found by it",
            ));
        }
        if integers.right {
            let score = integers.score.map_or(String::new(), |score| format!(": {}", search.text(score)));
            return ui.report(
                &self.json,
                || json!({"schema": "qc.debug.bisect/1", "model": self.model, "node": null, "score": integers.score}),
                || format!("ok       the model in INT8 is right by this check{score}\n"),
            );
        }
        let (good, bad, before, after) = search.halve(count, floats, integers, ui)?;
        let name = search.parts[0].program.common[bad - 1].0.clone();
        let (_, lines) = what.lines(&search.data.first(1), 1, ui)?;
        let line = lines.iter().find(|line| line.name == name);
        let line = line.ok_or_else(|| Failure::new(INTERNAL, format!("the tensor {name} was lost")))?;
        self.report(&search, line, (good, count), (before, after, integers), ui)
    }

    fn report(
        &self,
        search: &Search<'_>,
        line: &Line,
        (good, count): (usize, usize),
        seen: (Seen, Seen, Seen),
        ui: Ui,
    ) -> Outcome {
        let (before, after, whole) = seen;
        let cause = line.cause().map(cause_text);
        let json = || {
            json!({
                "schema": "qc.debug.bisect/1",
                "model": self.model,
                "ref": self.reference,
                "node": line.nodes.first(),
                "nodes": line.nodes,
                "readers": line.readers,
                "tensor": line.name,
                "place": good,
                "tensors": count,
                "score_before": before.score,
                "score": after.score,
                "score_of_int8": whole.score,
                "sqnr_alone": line.alone.map(|alone| alone.sqnr()).filter(|x| x.is_finite()),
                "by": cause,
            })
        };
        ui.report(&self.json, json, || {
            let nodes = nodes_text(&line.nodes, &line.name, true);
            let mut text = format!("broken   {nodes}  (tensor {}, {} of {count})\n", line.name, good + 1);
            if let (Some(before), Some(after), Some(whole)) = (before.score, after.score, whole.score) {
                let (name, unit) = (search.metric.name(), search.metric.unit());
                text += &format!(
                    "{name:<9}{before:.2} {unit} with INT8 up to here, {after:.2} with this op, {whole:.2} with all\n"
                );
            }
            let alone = line.alone.map_or("-".into(), |alone| decibels(alone.sqnr()));
            text += &format!("alone    {alone} dB, by {}\n", cause.as_deref().unwrap_or("nothing"));
            if !line.readers.is_empty() {
                text += &format!("read by  {}\n", line.readers.join(" "));
            }
            text + &format!("samples  {}\n", search.wanted.iter().flatten().count())
        })
    }
}

impl Search<'_> {
    fn text(&self, score: f64) -> String {
        format!("{} {score:.2} {}", self.metric.name(), self.metric.unit())
    }

    /// Halves between right floats and wrong integers: how many tensors of INT8 are still right, how many are wrong, and both scores.
    fn halve(&self, count: usize, floats: Seen, integers: Seen, ui: Ui) -> Outcome<(usize, usize, Seen, Seen)> {
        let (mut good, mut bad, mut before, mut after) = (0, count, floats, integers);
        let bar = ui.progress(count.max(1).ilog2() as usize + 1, "bisect");
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            let seen = self.see(middle)?;
            bar.inc(1);
            match seen.right {
                true => (good, before) = (middle, seen),
                false => (bad, after) = (middle, seen),
            }
        }
        bar.finish_and_clear();
        Ok((good, bad, before, after))
    }

    /// Whether outputs are right with the first `k` tensors of INT8.
    fn see(&self, k: usize) -> Outcome<Seen> {
        let outputs = self.outputs(k)?;
        let Some(checker) = &self.checker else {
            let mut tally = Tally::new(self.metric, self.args.blank);
            for ((part, right), got) in self.parts.iter().zip(&self.wanted).zip(&outputs) {
                let shape = part.program.results().into_iter().next().map_or(Vec::new(), |result| result.dims);
                right.iter().zip(got).for_each(|(right, got)| tally.observe(right, got, &shape));
            }
            let score = tally.score();
            return Ok(Seen { score: Some(score), right: score >= self.least });
        };
        let path = self.dir.path().join("outputs.npz");
        arrays::write_npz(&path, &self.named(&outputs))?;
        match checker.run(&[(OUTPUTS, &path)])? {
            Verdict::Right => Ok(Seen { score: None, right: true }),
            Verdict::Wrong(_) => Ok(Seen { score: None, right: false }),
            Verdict::Untested => {
                let text = format!("--check cannot tell (status 125) with the first {k} tensors in INT8");
                Err(Failure::usage(text))
            }
        }
    }

    /// Outputs of all runs as arrays, one behind the other along the first dim.
    fn named(&self, outputs: &[Runs]) -> Vec<(String, HostTensor)> {
        let results = self.parts.first().map_or(Vec::new(), |part| part.program.results());
        let one = |(i, result): (usize, &Result)| {
            let values: Vec<f32> = outputs.iter().flatten().flat_map(|run| run[i].iter().copied()).collect();
            let rest: usize = result.dims.iter().skip(1).product();
            let dims: Vec<usize> = match result.dims.is_empty() {
                true => vec![values.len()],
                false => [values.len() / rest.max(1)].into_iter().chain(result.dims[1..].iter().copied()).collect(),
            };
            (result.name.clone(), HostTensor::f32(dims, values))
        };
        results.iter().enumerate().map(one).collect()
    }

    /// Outputs of all runs of each part with the first `k` tensors of INT8.
    fn outputs(&self, k: usize) -> Outcome<Vec<Runs>> {
        self.parts.iter().map(|part| self.on(part, k)).collect()
    }

    fn on(&self, part: &Part<Pair>, k: usize) -> Outcome<Runs> {
        let pair = &*part.program;
        let results = pair.results();
        let own = |of_floats: usize| pair.floats.predictor.outputs()[of_floats].name.clone();
        let given: Vec<(String, usize)> =
            pair.common.iter().take(k).map(|(_, right, got)| (own(*right), *got)).collect();
        let is_given = |name: &String| given.iter().any(|(own, _)| own == name);
        let wanted: Vec<String> = results.iter().map(|r| r.own.clone()).filter(|name| !is_given(name)).collect();
        let cut = Cut { given: given.iter().map(|(name, _)| name.clone()).collect(), wanted };
        let rest = match cut.wanted.is_empty() {
            true => None,
            false => Some(pair.compiler.float_part(self.right, &pair.at, &cut)?),
        };
        let one_thread = ContextOptions { threads: Some(1), ..ContextOptions::default() };
        let make = || {
            let rest = rest.as_ref().map(|rest| rest.predictor.context(&one_thread)).transpose()?;
            Ok((pair.contexts()?, rest))
        };
        let rows = part.rows();
        let n = part.count()?.min(self.data.limit());
        let work = |(contexts, context): &mut (Contexts, Option<Context>), run: usize| {
            part.samples.fill(&mut contexts.integers, run, rows)?;
            contexts.integers.run()?;
            let integers = &contexts.integers;
            let of_int8 = |name: &String| {
                let got = given.iter().rev().find(|(own, _)| own == name).map(|(_, got)| *got);
                got.map(|got| integers.output::<f32>(got).map(<[f32]>::to_vec)).transpose()
            };
            let from_int8 = results.iter().map(|r| of_int8(&r.own)).collect::<std::result::Result<Vec<_>, _>>()?;
            let computed = match (&rest, context) {
                (Some(rest), Some(context)) => {
                    let fed = rest.inputs.iter().map(of_int8).collect::<std::result::Result<Vec<_>, _>>()?;
                    go_on(pair, contexts, rest, context, fed)?
                }
                _ => Vec::new(),
            };
            let mut computed = computed.into_iter();
            Ok(from_int8.into_iter().filter_map(|values| values.or_else(|| computed.next())).collect())
        };
        Ok(in_parallel(n.div_ceil(rows), self.data.threads(), make, work)?.0)
    }
}

/// Runs the rest of a float model on tensors that are `fed`, and on the model's inputs where they are not.
fn go_on(
    pair: &Pair,
    contexts: &mut Contexts,
    rest: &cut::Part,
    context: &mut Context,
    fed: Vec<Option<Vec<f32>>>,
) -> Outcome<Vec<Vec<f32>>> {
    for (i, (name, values)) in rest.inputs.iter().zip(fed).enumerate() {
        match values {
            Some(values) => context.input_mut::<f32>(i, 1)?.copy_from_slice(&values),
            None => {
                let own = pair.floats.inputs.iter().position(|input| input == name);
                let own = own.ok_or_else(|| Failure::new(INTERNAL, format!("nothing feeds {name}")))?;
                arrays::feed_rows(context, i, &input(&mut contexts.integers, own)?, 0, 1)?;
            }
        }
    }
    context.run()?;
    (0..context.outputs().len()).map(|i| Ok(context.output::<f32>(i)?.to_vec())).collect()
}

/// A float result of a model.
pub struct Result {
    /// The name of the tensor, and the one that it has in the module of the floats.
    pub name: String,
    own: String,
    dims: Vec<usize>,
}

impl Pair {
    /// The float results, in the model's order.
    fn results(&self) -> Vec<Result> {
        let (m, outputs) = (&self.floats.module, self.floats.predictor.outputs());
        let one = |v: &qc_ir::ValueId| {
            let own = m.name(*v)?;
            let io = outputs.iter().rev().find(|io| io.name == own)?;
            Some(Result { name: self.integers.float_name(own).into(), own: own.into(), dims: io.shape.clone() })
        };
        m.returns(m.body()).iter().filter_map(one).collect()
    }
}
