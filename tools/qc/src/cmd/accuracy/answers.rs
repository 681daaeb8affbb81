//! What models answer on the same samples, a few at a time, one model after the other.

use super::samples::Samples;
use crate::arrays;
use crate::failure::{Failure, MODEL, Outcome};
use crate::metric::{Apart, Metric, greedy};
use crate::model::{Model, top};
use crate::pictures::in_parallel;
use crate::ui::Ui;
use qc_ir::{Data, HostTensor};
use qc_runtime::{Context, Elem};
use std::path::Path;
use std::time::Instant;

/// Classes of each answer that are kept.
pub const KEPT: usize = 5;

/// A model, and what it is in the comparison.
pub struct Form<'a> {
    /// `ref`, `qat` or `model`.
    pub name: &'static str,
    /// The file.
    pub path: &'a Path,
    /// The model.
    pub model: Model,
    /// Which output is judged; none where the metric is of the numbers of all.
    pub output: Option<usize>,
    /// Which tensor each input reads.
    pub wiring: Vec<usize>,
    /// Samples per run.
    pub rows: usize,
}

/// What is asked of every model.
pub struct Question<'a> {
    /// How answers are judged.
    pub metric: Metric,
    /// Answers for each sample.
    pub per: usize,
    /// Number of the first class among the outputs.
    pub offset: i64,
    /// The score of no symbol.
    pub blank: usize,
    /// Where samples are from.
    pub data: &'a Path,
    /// Threads of each run.
    pub threads: u32,
    /// Runs at once.
    pub workers: usize,
    /// Samples that are run before times count.
    pub skip: usize,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Best {
    /// Classes, best first and equal scores by class; of a sequence its symbols.
    pub classes: Vec<i64>,
    /// All classes that have the best score.
    pub tied: Vec<i64>,
}

/// All that one model answered.
#[derive(Default)]
pub struct Answers {
    /// Of each sample in turn; nothing where the metric is of numbers.
    pub best: Vec<Best>,
    /// How far its outputs are from those of the first model.
    pub apart: Apart,
    /// Samples of a run, and its seconds.
    pub runs: Vec<(usize, f64)>,
}

/// What a model answered on a part of the samples.
#[derive(Default)]
struct Part {
    answers: Answers,
    /// Its float outputs, where they are compared.
    outputs: Vec<Vec<f32>>,
}

impl Question<'_> {
    /// Answers for each sample.
    pub fn answers_each(&self) -> usize {
        if self.metric == Metric::Ctc { 1 } else { self.per }
    }

    /// What all `forms` answer on all samples.
    ///
    /// # Errors
    /// I/O, a run that fails, and scores that are no numbers.
    pub fn ask(&self, forms: &[Form], samples: &Samples, ui: Ui) -> Outcome<Vec<Answers>> {
        let n = samples.names.len();
        let rows = forms.iter().map(|form| form.rows).max().unwrap_or(1);
        let bar = ui.progress(n, "accuracy");
        let make = || forms.iter().map(|form| form.model.context(Some(self.threads))).collect::<Outcome<Vec<_>>>();
        let work = |contexts: &mut Vec<Context>, chunk: usize| {
            let from = chunk * rows;
            let count = rows.min(n - from);
            let tensors = samples.part(from, count, self.data)?;
            let asked = forms.iter().zip(contexts).map(|(form, context)| {
                let names = &samples.names[from..from + count];
                self.part(form, context, &tensors, names).map(|mut part| {
                    part.answers.runs.retain(|_| from >= self.skip);
                    part
                })
            });
            let mut parts = asked.collect::<Outcome<Vec<Part>>>()?;
            if let Some((first, rest)) = parts.split_first_mut() {
                rest.iter_mut().for_each(|part| part.answers.apart.observe(&first.outputs, &part.outputs));
            }
            bar.inc(count as u64);
            Ok(parts.into_iter().map(|part| part.answers).collect::<Vec<_>>())
        };
        let (chunks, _) = in_parallel(n.div_ceil(rows), self.workers, make, work)?;
        bar.finish_and_clear();
        let mut all: Vec<Answers> = forms.iter().map(|_| Answers::default()).collect();
        for chunk in chunks {
            for (sum, part) in all.iter_mut().zip(chunk) {
                sum.best.extend(part.best);
                sum.apart.merge(&part.apart);
                sum.runs.extend(part.runs);
            }
        }
        Ok(all)
    }

    /// The answers on samples of these tensors, as many runs as it takes.
    fn part(&self, form: &Form, context: &mut Context, tensors: &[HostTensor], names: &[String]) -> Outcome<Part> {
        let mut part = Part::default();
        let mut from = 0;
        while from < names.len() {
            let n = form.next(names.len() - from);
            let run = form.feed(context, tensors, (from, n), names.len())?;
            let start = Instant::now();
            context.run()?;
            part.answers.runs.push((n, start.elapsed().as_secs_f64()));
            if self.metric.is_of_numbers() {
                collect(context, n, run, &mut part.outputs)?;
            }
            if let Some(output) = form.output {
                let values = context.output::<f32>(output)?;
                let each = values.len() / run;
                let steps = context.output_shape(output)?.last().copied().unwrap_or(1);
                for (values, name) in values.chunks_exact(each).take(n).zip(&names[from..]) {
                    self.read(values, steps, &mut part.answers.best)
                        .map_err(|text| form.refusal(output, name, text))?;
                }
            }
            from += n;
        }
        Ok(part)
    }

    /// The answers to one sample; `scores` are those of a step of a sequence.
    fn read(&self, values: &[f32], scores: usize, best: &mut Vec<Best>) -> Result<(), &'static str> {
        if values.iter().any(|x| x.is_nan()) {
            return Err("holds NaN, so none of its classes is the best");
        }
        if self.metric == Metric::Ctc {
            let classes = greedy(values.chunks_exact(scores.max(1)), self.blank);
            best.push(Best { classes, tied: Vec::new() });
            return Ok(());
        }
        let class = |i: usize| i as i64 - self.offset;
        for row in values.chunks_exact(values.len() / self.per) {
            let classes = top(row, KEPT);
            let most = classes.first().map_or(f32::NEG_INFINITY, |(_, score)| *score);
            let tied = row.iter().enumerate().filter(|(_, score)| **score == most).map(|(i, _)| class(i)).collect();
            best.push(Best { classes: classes.into_iter().map(|(i, _)| class(i)).collect(), tied });
        }
        Ok(())
    }
}

impl Form<'_> {
    /// How many of the samples that are left the next run takes.
    fn next(&self, left: usize) -> usize {
        let batched = self.model.predictor.inputs().first().is_none_or(|io| io.batched);
        let most = self.rows.min(left);
        if batched { self.model.predictor.batch_near(most).clamp(1, left) } else { most }
    }

    /// Fills the inputs with `n` samples from `from` on of the `all` that the tensors hold; returns how many a run has, which are more for
    /// a model of one batch: the first one fills up.
    pub fn feed(
        &self,
        context: &mut Context,
        tensors: &[HostTensor],
        (from, n): (usize, usize),
        all: usize,
    ) -> Outcome<usize> {
        let batched = context.inputs().first().is_none_or(|io| io.batched);
        let run = if batched { n } else { self.rows };
        for (i, &at) in self.wiring.iter().enumerate() {
            let (tensor, shape) = (&tensors[at], &context.inputs()[i].shape);
            let bytes = tensor.data().to_bytes();
            let stride = bytes.len() / all;
            let (part, first) = (&bytes[from * stride..(from + n) * stride], &bytes[from * stride..][..stride]);
            let filled = [part, &first.repeat(run - n)].concat();
            let mut dims = match tensor.dims().len() == shape.len() {
                true => tensor.dims().to_vec(),
                false => std::iter::once(all).chain(shape.iter().skip(1).copied()).collect(),
            };
            dims[0] = dims[0] / all * run;
            let data = Data::from_bytes(tensor.data().elem(), &filled).and_then(|data| HostTensor::new(dims, data));
            let data = data.ok_or_else(|| Failure::usage("the data of an input has another length than its shape"))?;
            arrays::feed_rows(context, i, &data, 0, if batched { run } else { 1 })?;
        }
        Ok(run)
    }

    fn refusal(&self, output: usize, sample: &str, text: &str) -> Failure {
        let name = &self.model.predictor.outputs()[output].name;
        let remedy = "`qc run` shows all outputs, and `qc compare` which op breaks";
        Failure::new(MODEL, format!("{}: output '{name}' of sample `{sample}` {text}; {remedy}", self.path.display()))
    }
}

/// Adds the float outputs of the first `n` of the `run` samples of a run.
fn collect(context: &Context, n: usize, run: usize, to: &mut Vec<Vec<f32>>) -> Outcome {
    let floats = (0..context.outputs().len()).filter(|&i| context.outputs()[i].elem == Elem::F32);
    for (place, i) in floats.enumerate() {
        let values = context.output::<f32>(i)?;
        // What has no part for each sample is compared once a run.
        let kept = if values.len().is_multiple_of(run) { values.len() / run * n } else { values.len() };
        to.resize(to.len().max(place + 1), Vec::new());
        to[place].extend_from_slice(&values[..kept]);
    }
    Ok(())
}
