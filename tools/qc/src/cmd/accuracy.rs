//! `qc accuracy`: how often a model is right on labelled samples, alone or beside its float and its emulated form.

mod answers;
mod report;
mod samples;
mod testers;

use super::profile;
use crate::args::{ModelArgs, PrecisionArg};
use crate::failure::{CHECK, Failure, MODEL, Outcome};
use crate::metric::Metric;
use crate::model::{Model, classes, is_folder, is_shared_object, open};
use crate::paths::Paths;
use crate::pictures::{default_threads, read_text};
use crate::ui::{JsonArgs, Ui};
use answers::{Best, Form, KEPT, Question};
use clap::Args;
use qc_compiler::batch::Data;
use qc_compiler::{CompileOptions, Compiler};
use report::{Against, Graded, Grader, Truth, percent};
use samples::{DataArgs, Loaded, Samples};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testers::{Target, Testers};

/// How long each model is profiled.
const PROFILED: Duration = Duration::from_secs(1);

/// Measure accuracy over labelled samples, of one model or of several side by side.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc accuracy resnet50.so --data val_list.txt --image-dir val/ --preprocess imagenet
  qc accuracy digits.so --data test.npz
  qc accuracy resnet50.so --data int8_full_val.bin
  qc accuracy int8.so --ref float.onnx --qat qat_model/ --data val.bin --max-drop 0.5
  qc accuracy int8.so --data val/list.txt --preprocess imagenet --compare float.txt --min-top1 76
  qc accuracy --quant_model=qat/ --fp32_model=fp32/ --infer_data=int8_full_val.bin --batch_size=50 --batch_num=1000 \\
      --acc_diff_threshold=0.01 --ops_to_quantize=conv2d,pool2d
  qc accuracy --quant_model=ernie_qat/ --infer_data=1.8w.bs1 --labels=label.xnli.dev --batch_size=50 --acc_diff_threshold=0.01

Models that are compared run on the same samples in turns. A drop is that of the metric against the first line of the table, with the 95 %
interval of matched pairs (Agresti and Min 2005). Latency is the median of runs of -b samples; throughput that of all --threads.")]
pub struct Accuracy {
    /// A model, compiled in this process, or a compiled .so
    #[arg(required_unless_present_any = ["model_option", "quant_model"])]
    model: Option<PathBuf>,
    /// The same as an option
    #[arg(long = "model", id = "model_option", value_name = "MODEL", aliases = ["infer_model", "int8_model"],
          conflicts_with_all = ["model", "quant_model"])]
    model_option: Option<PathBuf>,
    /// Compare with this model in floats: a model, whose quantization is removed, or a compiled .so
    #[arg(long = "ref", value_name = "MODEL", alias = "fp32_model")]
    reference: Option<PathBuf>,
    /// Compare with this model computed as its fake-quant ops or pairs are written, in floats
    #[arg(long, value_name = "MODEL", conflicts_with = "quant_model")]
    qat: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// How answers are graded: `top1`, `f1` and `ctc` by labels, `cosine` and `snr` by the outputs of --ref or --qat
    #[arg(long, value_enum, default_value_t = Metric::Top1)]
    metric: Metric,
    /// Which score is that of no symbol, for --metric ctc
    #[arg(long, value_name = "N", default_value_t = 0)]
    blank: usize,
    /// Which accuracies to report, up to 5
    #[arg(long, value_name = "K,...", value_delimiter = ',', default_value = "1,5",
          value_parser = clap::value_parser!(u8).range(1..=5))]
    topk: Vec<u8>,
    /// Samples per run
    #[arg(short, long, value_name = "N", default_value_t = 8, aliases = ["batch_size", "batch-size"],
          value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Samples worked on at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Number of the first class among the outputs: 1 for models with a background class
    #[arg(long, value_name = "N", default_value_t = 0)]
    class_offset: u32,
    /// The output with the scores; the first with more than one value by default
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Write lines of `<file> <class> <best five classes>`
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Report how often the best class is that of a file written with --predictions. Quantized scores are often equal;
    /// a picture agrees if the file's class has the best score, alone or with others
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Fail with status 1 below this top-1 accuracy in percent
    #[arg(long, value_name = "PERCENT")]
    min_top1: Option<f64>,
    /// Fail with status 1 below this agreement in percent, with --compare or else with --ref or --qat
    #[arg(long, value_name = "PERCENT")]
    min_agreement: Option<f64>,
    /// Fail with status 1 if the metric is more than POINTS below that of --ref, or of --qat where that is not given
    #[arg(long, value_name = "POINTS")]
    max_drop: Option<f64>,
    #[command(flatten)]
    options: ModelArgs,
    #[command(flatten)]
    testers: Testers,
    #[command(flatten)]
    json: JsonArgs,
}

impl Accuracy {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let models = [&self.model, &self.model_option, &self.reference, &self.qat, &self.testers.quant_model];
        let read = self.data.files().chain(&self.compare).chain(self.options.files());
        let read = read.chain(models.into_iter().flatten());
        Paths::default().reads(read).writes(&self.predictions).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        self.testers.check(ui)?;
        let baseline = self.compare.as_deref().map(read_predictions).transpose()?;
        let loaded = self.data.load()?;
        let mut forms = self.forms(&loaded, ui)?;
        self.check_options(&forms)?;
        let numbers = self.metric.is_of_numbers();
        let first = forms.first().ok_or_else(nothing)?;
        let most = self.testers.most(usize::from(self.batch));
        let samples = self.data.samples(loaded, &first.model, !numbers, most, ui)?;
        for form in &mut forms {
            form.wiring = samples.wiring(&form.model, self.data.path())?;
            if !numbers {
                form.output = Some(form.model.scores_output(self.output.as_deref())?);
                self.check_classes(form, &samples)?;
            }
        }
        let start = Instant::now();
        let question = self.question(&samples);
        let answers = question.ask(&forms, &samples, ui)?;
        let seconds = start.elapsed().as_secs_f64();
        let truth = Truth::of(self.metric, &samples);
        let grader = Grader { metric: self.metric, truth: &truth, topk: &self.topk, workers: question.workers };
        let all = grader.all(&forms, &answers);
        let agreement = baseline.map(|known| self.agreement(&samples, &all, &known)).transpose()?;
        if let (Some(path), Some(last)) = (&self.predictions, all.last()) {
            qc_compiler::write_whole(path, predictions(&samples, question.answers_each(), last).as_bytes())?;
        }
        let done = Done { grader: &grader, all: &all, samples: samples.names.len(), agreement, seconds };
        let lines = || self.testers.lines(&grader, &all, question.threads, self.data.labels_beside().is_some());
        ui.result(&self.json, || done.json(), || done.text() + &lines())?;
        if self.testers.profiles() {
            self.profile(&question, &forms, &samples, ui)?;
        }
        self.check(&done)?;
        self.testers.verdict(&all)
    }

    /// The models, the one that others are compared with first.
    fn forms(&self, loaded: &Loaded, ui: Ui) -> Outcome<Vec<Form<'_>>> {
        let main = self.model.as_ref().or(self.model_option.as_ref()).or(self.testers.quant_model.as_ref());
        let qat = self.qat.as_ref().or(self.testers.quant_model.as_ref());
        let plain = ModelArgs {
            shape: self.options.shape.clone(),
            constant: self.options.constant.clone(),
            limits: self.options.limits.clone(),
            ..ModelArgs::default()
        };
        let params = if self.testers.quant_model.is_some() { self.options.params.clone() } else { None };
        let emulated = ModelArgs { exact_qdq: true, params, ..plain.clone() };
        let floats = ModelArgs { precision: PrecisionArg::Fp32, ..plain };
        let given = [
            ("ref", self.reference.as_ref(), &floats, Target::Fp32),
            ("qat", qat, &emulated, Target::Quant),
            ("model", main, &self.options, Target::Int8),
        ];
        let mut forms = Vec::new();
        for (name, path, args, target) in given {
            let Some(path) = path.filter(|_| self.testers.wants(target)) else { continue };
            let found = compiled_in(path)?;
            let is_compiled = is_shared_object(&found)?;
            let none = ModelArgs { skip_weights_check: self.options.skip_weights_check, ..ModelArgs::default() };
            // Options of the other models are no demand on one that is compiled.
            let args = if is_compiled && name != "model" { &none } else { args };
            if name == "qat" && is_compiled {
                return Err(compiled_already(path));
            }
            let (model, shapes) = self.form(&found, args, is_compiled, loaded)?;
            if name == "qat" && !states_scales(path, args, shapes)? {
                let text = "states no scale for any tensor, so what is emulated of it are its floats";
                ui.warn(&format!("{}: {text}", path.display()));
            }
            let rows = match model.predictor.inputs() {
                [io, ..] if !io.batched => io.shape.first().copied().unwrap_or(1).max(1),
                _ => model.predictor.batch_near(usize::from(self.batch)),
            };
            forms.push(Form { name, path, model, output: None, wiring: Vec::new(), rows });
        }
        Ok(forms)
    }

    /// A model, and the shapes of the data if it leaves open what they say.
    fn form(&self, path: &Path, args: &ModelArgs, is_compiled: bool, loaded: &Loaded) -> Outcome<(Model, Data)> {
        let batch = usize::from(self.batch);
        let alone = open(path, args, batch, Vec::new());
        match alone {
            Err(e) if !is_compiled && e.status == MODEL => {
                let options = args.options()?;
                let names = Compiler::new(options.clone()).input_names(&args.open(path, &options)?)?;
                match loaded.shapes(&names, batch) {
                    shapes if shapes.is_empty() => Err(e),
                    shapes => Ok((open(path, args, batch, shapes.clone())?, shapes)),
                }
            }
            other => Ok((other?, Data::new())),
        }
    }

    /// Refuses options that ask for what is not there.
    fn check_options(&self, forms: &[Form<'_>]) -> Outcome {
        if forms.is_empty() {
            return Err(nothing());
        }
        let several = forms.len() > 1 && forms.last().is_some_and(|form| form.name == "model");
        let refuse = |text: &str| Err(Failure::usage(text));
        if !several && self.metric.is_of_numbers() {
            return refuse("--metric cosine and snr compare outputs; give the model to compare with by --ref or --qat");
        }
        if !several && self.max_drop.is_some() {
            return refuse("--max-drop is a drop against another model; give it by --ref or --qat");
        }
        if !several && self.testers.acc_diff_threshold.is_some() && self.testers.targets.is_empty() {
            return refuse("--acc_diff_threshold needs --quant_model, --qat or --ref to compare with");
        }
        if self.metric == Metric::Snr && self.max_drop.is_some() {
            return refuse("--max-drop is in points of a percentage; --metric snr is in decibels");
        }
        if !several && self.min_agreement.is_some() && self.compare.is_none() {
            return refuse("--min-agreement needs --compare, --ref or --qat");
        }
        if self.metric != Metric::Top1 && (self.min_top1.is_some() || self.compare.is_some()) {
            return refuse("--min-top1 and --compare are for --metric top1");
        }
        if self.min_top1.is_some() && !self.topk.contains(&1) {
            return refuse("--min-top1 needs 1 among --topk");
        }
        if self.predictions.is_some() && self.metric.is_of_numbers() {
            return refuse("--predictions writes classes; --metric cosine and snr have none");
        }
        Ok(())
    }

    /// What is asked of all models.
    fn question<'a>(&'a self, samples: &Samples) -> Question<'a> {
        let per = samples.labels.as_ref().map_or(1, |labels| labels.per);
        let workers = match self.testers.num_threads {
            Some(_) => 1,
            None => self.threads.map_or_else(default_threads, usize::from),
        };
        Question {
            metric: self.metric,
            per,
            offset: i64::from(self.class_offset),
            blank: self.blank,
            data: self.data.path(),
            threads: self.testers.num_threads.unwrap_or(1),
            workers,
            skip: self.testers.skip_batch_num.map_or(0, |n| n as usize * usize::from(self.batch)),
        }
    }

    /// Refuses labels that the model does not have: no answer could be right.
    fn check_classes(&self, form: &Form<'_>, samples: &Samples) -> Outcome {
        let Some((output, labels)) = form.output.zip(samples.labels.as_ref()) else { return Ok(()) };
        let io = &form.model.predictor.outputs()[output];
        let data = self.data.path();
        let n = match self.metric {
            Metric::Ctc => io.shape.last().copied().unwrap_or(1),
            _ if classes(io).is_multiple_of(labels.per) => classes(io) / labels.per,
            _ => {
                let text = format!("holds {} labels for each sample, output '{}' is {io}", labels.per, io.name);
                return Err(Failure::content(data, text));
            }
        };
        if self.metric == Metric::Ctc && (self.blank >= n || io.shape.len() < 3) {
            let text = format!(
                "output '{}' is {io}; --metric ctc needs [n, steps, scores] with --blank below scores",
                io.name
            );
            return Err(Failure::usage(text));
        }
        let first = -i64::from(self.class_offset);
        let known = first..first + n as i64;
        for (i, name) in samples.names.iter().enumerate() {
            if let Some(class) = labels.of(i).flatten().find(|class| !known.contains(class)) {
                let text =
                    format!("`{name}` is of class {class}; the model's classes are {first} to {}", known.end - 1);
                return Err(Failure::content(data, format!("{text}; --class-offset says where they begin")));
            }
        }
        Ok(())
    }

    /// Agreements of the last model with stored predictions, and pictures compared.
    fn agreement(
        &self,
        samples: &Samples,
        all: &[Graded<'_>],
        known: &HashMap<String, i64>,
    ) -> Outcome<(usize, usize)> {
        let best = all.last().map_or(&[][..], |graded| &graded.answers.best);
        let known = samples.names.iter().zip(best).filter_map(|(name, best)| Some((known.get(name)?, best)));
        let pairs: Vec<(&i64, &Best)> = known.collect();
        if let (true, Some(path)) = (pairs.is_empty(), &self.compare) {
            return Err(Failure::content(path, "names no picture of the list"));
        }
        Ok((pairs.iter().filter(|(class, best)| best.tied.contains(class)).count(), pairs.len()))
    }

    /// Steps of every model on the first samples.
    fn profile(&self, question: &Question<'_>, forms: &[Form<'_>], samples: &Samples, ui: Ui) -> Outcome {
        for form in forms {
            let mut context = form.model.context(Some(question.threads))?;
            let n = form.rows.min(samples.names.len());
            form.feed(&mut context, &samples.part(0, n, question.data)?, (0, n), n)?;
            context.run()?;
            let steps = profile::steps(&mut context, form.model.note.weights_bytes, PROFILED, true)?;
            ui.note(&format!("\n{}\n{}", form.path.display(), steps.text(ui.verbose)));
        }
        Ok(())
    }

    /// Whether what was found is as good as asked for.
    fn check(&self, done: &Done<'_>) -> Outcome {
        let Some(last) = done.all.last() else { return Ok(()) };
        let failed = |text: String| Err(Failure::new(CHECK, format!("FAILED: {text}")));
        let top1 = last.right.iter().find(|(k, _)| *k == 1).map(|(_, n)| percent(*n, last.n));
        if let Some((least, top1)) = self.min_top1.zip(top1).filter(|(least, top1)| top1 < least) {
            return failed(format!("top-1 {top1:.2} % is below {least} %"));
        }
        let stored = done.agreement.map(|(same, n)| percent(same, n));
        let agreement = stored.or(last.against.and_then(|against| against.agreement));
        if let Some((least, same)) = self.min_agreement.zip(agreement).filter(|(least, same)| same < least) {
            return failed(format!("agreement {same:.2} % is below {least} %"));
        }
        if let (Some(most), Some(Against { points: Some(points), interval, .. })) = (self.max_drop, last.against)
            && points > most
        {
            let within = interval.map_or(String::new(), |[low, high]| format!(" (95 %: {low:.2} to {high:.2})"));
            return failed(format!("{} drops by {points:.2} points{within}, more than {most}", self.metric.name()));
        }
        Ok(())
    }
}

/// Whether there is anything to emulate in a model of these shapes.
fn states_scales(path: &Path, args: &ModelArgs, data: Data) -> Outcome<bool> {
    let options = CompileOptions { data, ..args.options()? };
    let file = args.open(path, &options)?;
    Ok(Compiler::new(options).states_scales(&file)?)
}

/// The refusal of targets without a model.
fn nothing() -> Failure {
    Failure::usage("none of the --targets has a model; quant and int8 are of --quant_model, fp32 of --fp32_model")
}

/// The refusal of a `.so` whose fake-quant graph is wanted.
fn compiled_already(path: &Path) -> Failure {
    let text =
        "is compiled already, so its pairs cannot be computed as written; give the model that it was compiled of";
    Failure::usage(format!("{} {text}", path.display()))
}

/// The `.so` of a folder that `qc compile --int8_model_save_path` wrote, or the path itself.
fn compiled_in(path: &Path) -> Outcome<PathBuf> {
    let inside = path.join(super::compile::SAVED);
    Ok(if is_folder(path)? && inside.is_file() { inside } else { path.into() })
}

/// The best class by file of a file written with `--predictions`.
fn read_predictions(path: &Path) -> Outcome<HashMap<String, i64>> {
    let text = read_text(path)?;
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_string(), words.nth(1)?.parse().ok()?))
    };
    let lines = text.lines().filter(|l| !l.trim().is_empty());
    let all: Option<HashMap<String, i64>> = lines.map(parse).collect();
    all.ok_or_else(|| Failure::content(path, "lines must be `<file> <class> <best classes>`"))
}

/// Answers as lines; each sample has `each` of them.
fn predictions(samples: &Samples, each: usize, graded: &Graded<'_>) -> String {
    let line = |(i, best): (usize, &Best)| {
        let (sample, step) = (i / each, i % each);
        let label = samples.labels.as_ref().and_then(|labels| labels.of(sample).nth(step)).flatten();
        let classes: Vec<String> = label.iter().chain(best.classes.iter().take(KEPT)).map(i64::to_string).collect();
        format!("{} {}\n", samples.names[sample], classes.join(" "))
    };
    graded.answers.best.iter().enumerate().map(line).collect()
}

/// What was found.
struct Done<'a> {
    grader: &'a Grader<'a>,
    /// The model that is asked about is the last.
    all: &'a [Graded<'a>],
    samples: usize,
    /// Agreements with stored predictions, and pictures compared.
    agreement: Option<(usize, usize)>,
    seconds: f64,
}

impl Done<'_> {
    fn per_second(&self) -> f64 {
        self.samples as f64 / self.seconds.max(1e-9)
    }

    /// The model against the emulated one, where the first is another.
    fn against_qat(&self) -> Option<Against> {
        match self.all {
            [_, qat, model] if qat.form.name == "qat" => Some(self.grader.against(qat, model)),
            _ => None,
        }
    }

    fn json(&self) -> Value {
        let Some(last) = self.all.last() else { return Value::Null };
        let mut all = self.grader.json(last);
        all["schema"] = json!("qc.accuracy/1");
        all["images"] = json!(self.samples);
        if let Truth::Classes(_) = self.grader.truth {
            all["ties"] = json!(last.ties);
            all["top1_drawn"] = json!(100.0 * last.drawn / last.n.max(1) as f64);
        }
        if let Some((same, n)) = self.agreement {
            all["agreement"] = json!(percent(same, n));
            all["compared"] = json!(n);
        }
        if self.all.len() > 1 {
            all["models"] = self.all.iter().map(|graded| self.grader.json(graded)).collect();
            all["against_qat"] = json!(self.against_qat().map(|against| against.json()));
        }
        all["images_per_s"] = json!(self.per_second());
        all
    }

    fn text(&self) -> String {
        let mut text = format!("pictures   {}  ({:.0}/s)\n", self.samples, self.per_second());
        let Some(last) = self.all.last() else { return text };
        if self.all.len() > 1 {
            text += "\n";
            text += &self.grader.table(self.all);
            if let Some(against) = self.against_qat() {
                text += &format!("\nmodel against qat: {}\n", against.text());
            }
        } else if self.grader.metric == Metric::Top1 {
            text.extend(last.right.iter().map(|(k, n)| format!("top-{k}      {:.2} %\n", percent(*n, last.n))));
        } else {
            text += &format!("{:<9}  {:.2} %\n", self.grader.metric.name(), last.score.unwrap_or(0.0));
        }
        if let Some((same, n)) = self.agreement {
            text += &format!("agreement  {:.2} %  ({} of {n} differ)\n", percent(same, n), n - same);
        }
        if last.ties > 0 {
            let drawn = 100.0 * last.drawn / last.n.max(1) as f64;
            let what = "pictures have several best classes, of which the first counts";
            text += &format!("ties       {} {what}; one drawn at random: top-1 {drawn:.2} %\n", last.ties);
        }
        text
    }
}
