//! `qc bench`: latency and throughput of one caller, and where the time goes.

use super::{profile, trace};
use crate::args::ModelArgs;
use crate::arrays;
use crate::cmd::run::InputArg;
use crate::failure::{Failure, Outcome};
use crate::model::{Model, is_shared_object, open};
use crate::paths::Paths;
use crate::table::bytes;
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_runtime::{Context, Elem};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Fewest measured runs.
const LEAST_RUNS: usize = 5;
/// Variation above which the user is warned.
const NOISE: f64 = 0.05;

/// Measure latency and throughput.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qc bench resnet50.so -b 1 --threads 1 -t 5
  qc bench resnet50.onnx --ranges ranges.json --pc --json=bench.json
  qc bench encoder.so --shape 'ids[?,128]'           (one of its shapes; all by default)")]
pub struct Bench {
    /// A model, compiled in this process, or a compiled .so
    model: PathBuf,
    /// Batch
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Threads; by default as the environment and the machine say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Option<u32>,
    /// Seconds to measure
    #[arg(short, long, value_name = "SECONDS", default_value = "3", value_parser = parse_seconds)]
    time: Duration,
    /// Data of inputs, as for `qc run`; by default the same random numbers every time
    #[arg(short, long, value_name = "[NAME:]FILE", value_parser = InputArg::parse)]
    pub input: Vec<InputArg>,
    /// Show the time of every step, in order of execution or from the longest
    #[arg(long, value_name = "ORDER", num_args = 0..=1, require_equals = true, default_missing_value = "order",
          value_parser = ["order", "sort"])]
    pc: Option<String>,
    /// Write the timeline of a few more runs to FILE, for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE")]
    export_trace: Option<PathBuf>,
    #[command(flatten)]
    pub options: ModelArgs,
    #[command(flatten)]
    json: JsonArgs,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.trim_end_matches('s').parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    match seconds > 0.0 && seconds <= 86_400.0 {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("give more than 0 and at most 86400 seconds".into()),
    }
}

impl Bench {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        let read = self.input.iter().map(|input| &input.path).chain(self.options.files());
        Paths::default().reads([&self.model]).reads(read).writes(&self.export_trace).writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let given = InputArg::read_all(&self.input)?;
        let model = self.open()?;
        let start = Instant::now();
        let mut context = model.context(self.threads)?;
        let created = start.elapsed();
        let batch = self.batch(&model);
        if batch != usize::from(self.batch) && self.items(&model, batch) != usize::from(self.batch) {
            ui.note(&format!("note: the model's batch is fixed; -b {} is not used", self.batch));
        }
        let mut shapes = Vec::new();
        if given.is_empty() {
            let chosen = self.shapes(&model)?;
            // The first comes last, so that steps and timeline are of the shape whose time stands in front.
            for &shape in chosen.iter().rev() {
                fill_random(&mut context, batch, shape)?;
                shapes.push((model.shape_name(shape), self.stats(&mut context, chosen.len())?));
            }
            shapes.reverse();
        } else {
            for (i, tensor) in arrays::assign(model.predictor.inputs(), given)?.iter().enumerate() {
                let n = arrays::feed(&mut context, i, tensor)?;
                if n != batch && context.inputs()[i].batched {
                    return Err(Failure::usage(format!("the data has batch {n}, -b says {batch}")));
                }
            }
            shapes.push((String::new(), self.stats(&mut context, 1)?));
        }
        let steps = match &self.pc {
            None => None,
            Some(order) => {
                Some(profile::steps(&mut context, model.note.weights_bytes, self.time / 2, order == "sort")?)
            }
        };
        if let Some(path) = &self.export_trace {
            trace::export(&mut context, path)?;
        }
        let batch = self.items(&model, batch);
        let done = Done { model: &model, context: &context, batch, shapes, created, steps };
        ui.result(&self.json, || done.json(), || done.text(ui.verbose))?;
        let variation = done.shapes.iter().map(|(_, stats)| stats.variation).fold(0.0, f64::max);
        if variation > NOISE {
            ui.note(&format!(
                "note: runs vary by {:.0} %; other load or changing clocks disturb this measurement",
                100.0 * variation
            ));
        }
        Ok(())
    }

    /// The model. For a `.so`, `--shape` says which of its shapes are measured.
    fn open(&self) -> Outcome<Model> {
        let mut options = self.options.clone();
        if is_shared_object(&self.model)? {
            options.shape.clear();
        }
        open(&self.model, &options, usize::from(self.batch), Vec::new())
    }

    /// The shapes to measure, by number.
    fn shapes(&self, model: &Model) -> Outcome<Vec<usize>> {
        let stated = &self.options.shape;
        let count = model.predictor.inputs().iter().map(|io| io.choices.len()).max().unwrap_or(0).max(1);
        if model.is_jit || stated.is_empty() {
            return Ok((0..count).collect());
        }
        let fits = |shape: usize| {
            stated.iter().all(|spec| {
                let io = model.predictor.inputs().iter().find(|io| io.name == spec.name);
                io.is_some_and(|io| spec.holds(io.choices.get(shape).unwrap_or(&io.shape)))
            })
        };
        let found: Vec<usize> = (0..count).filter(|&shape| fits(shape)).collect();
        match found.is_empty() {
            false => Ok(found),
            true => {
                let known: Vec<String> = (0..count).map(|shape| model.shape_name(shape)).collect();
                let model = self.model.display();
                Err(Failure::usage(format!("{model} has no such shape; it has {}", known.join("; "))))
            }
        }
    }

    /// Measures what is bound, in its part of the time.
    fn stats(&self, context: &mut Context, parts: usize) -> Outcome<Stats> {
        warm_up(context)?;
        let times = measure(self.time / parts as u32, || Ok(context.run()?))?;
        Ok(Stats::of(times))
    }

    /// Pictures per run: the batch, or what a model of fixed shapes has in the first dimension of all it reads and writes.
    fn items(&self, model: &Model, batch: usize) -> usize {
        let ports = || model.predictor.inputs().iter().chain(model.predictor.outputs());
        let rows = |io: &qc_runtime::IoInfo| io.shape.first().copied().unwrap_or(1);
        let first = ports().next().map_or(1, rows).max(1);
        match ports().all(|io| rows(io) == first) {
            true => batch * first,
            false => batch,
        }
    }

    /// The batch that runs: the one asked for, or one that the model runs.
    fn batch(&self, model: &Model) -> usize {
        let open = model.predictor.inputs().iter().any(|io| io.batched);
        model.predictor.batch_near(if open { usize::from(self.batch) } else { 1 })
    }
}

/// Fills inputs with the same numbers on every machine: floats from -1 to 1; 0 and 1 as integers, which are
/// indices of the smallest tables, and what masks hold. Offsets of sequences deal the rows out evenly.
///
/// # Errors
/// Inputs that cannot be bound.
pub fn fill_random(context: &mut Context, batch: usize, shape: usize) -> Outcome {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32
    };
    for i in 0..context.inputs().len() {
        let io = &context.inputs()[i];
        let mut dims = io.choices.get(shape).unwrap_or(&io.shape).clone();
        dims.iter_mut().take(usize::from(io.batched)).for_each(|rows| *rows *= batch);
        match io.elem {
            Elem::F32 => {
                context.input_shaped::<f32>(i, &dims)?.fill_with(|| next() as f32 / (1u32 << 23) as f32 - 1.0);
            }
            Elem::U8 => context.input_shaped::<u8>(i, &dims)?.fill_with(|| next() as u8),
            Elem::I8 => context.input_shaped::<i8>(i, &dims)?.fill_with(|| next() as i8),
            Elem::I32 => context.input_shaped::<i32>(i, &dims)?.fill_with(|| (next() % 2) as i32),
            Elem::I64 => match rows_of(context, i, shape) {
                Some(rows) => {
                    let offsets = context.input_shaped::<i64>(i, &dims)?;
                    let sequences = offsets.len().saturating_sub(1).max(1);
                    offsets.iter_mut().enumerate().for_each(|(k, offset)| *offset = (rows * k / sequences) as i64);
                }
                None => context.input_shaped::<i64>(i, &dims)?.fill_with(|| i64::from(next() % 2)),
            },
        }
    }
    Ok(())
}

/// How many rows the input has whose sequences' offsets are in input `i`, if that is what it holds.
fn rows_of(context: &Context, i: usize, shape: usize) -> Option<usize> {
    let inputs = context.inputs();
    let name = inputs[i].name.strip_suffix(".offsets")?;
    let ragged = inputs.iter().find(|io| io.name == name)?;
    ragged.choices.get(shape).unwrap_or(&ragged.shape).first().copied()
}

/// Runs until five runs in a row agree within 2 %, but at least a tenth and at most half a second.
fn warm_up(context: &mut Context) -> Outcome {
    let start = Instant::now();
    let mut last: Vec<f64> = Vec::new();
    loop {
        let one = Instant::now();
        context.run()?;
        last.push(one.elapsed().as_secs_f64());
        let elapsed = start.elapsed();
        let recent = &last[last.len().saturating_sub(5)..];
        let (least, most) = recent.iter().fold((f64::INFINITY, 0.0f64), |(a, b), &t| (a.min(t), b.max(t)));
        let stable = recent.len() == 5 && most <= 1.02 * least;
        if elapsed >= Duration::from_millis(500) || (stable && elapsed >= Duration::from_millis(100)) {
            return Ok(());
        }
    }
}

/// Times of single runs over `time`, in seconds.
fn measure(time: Duration, mut run: impl FnMut() -> Outcome) -> Outcome<Vec<f64>> {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < LEAST_RUNS || start.elapsed() < time {
        let one = Instant::now();
        run()?;
        times.push(one.elapsed().as_secs_f64());
    }
    Ok(times)
}

/// Statistics of run times, in milliseconds.
struct Stats {
    runs: usize,
    min: f64,
    mean: f64,
    median: f64,
    p90: f64,
    p99: f64,
    /// Spread of the middle half of the runs over the median; unlike the standard deviation it ignores a few outliers.
    variation: f64,
}

impl Stats {
    fn of(mut seconds: Vec<f64>) -> Stats {
        seconds.sort_by(f64::total_cmp);
        let n = seconds.len();
        let at = |q: f64| 1e3 * seconds[((q * n as f64).ceil() as usize).clamp(1, n) - 1];
        let mean = 1e3 * seconds.iter().sum::<f64>() / n as f64;
        let variation = (at(0.75) - at(0.25)) / at(0.5);
        Stats { runs: n, min: at(0.0), mean, median: at(0.5), p90: at(0.9), p99: at(0.99), variation }
    }
}

/// What was measured.
struct Done<'a> {
    model: &'a Model,
    context: &'a Context,
    batch: usize,
    /// Per shape, its name, which is empty where there is only one; there is at least one.
    shapes: Vec<(String, Stats)>,
    created: Duration,
    steps: Option<profile::Steps>,
}

impl Done<'_> {
    fn images_per_s(&self, stats: &Stats) -> f64 {
        1e3 * self.batch as f64 / stats.mean
    }

    fn json(&self) -> Value {
        let s = &self.shapes[0].1;
        let ready = self.model.ready_in.as_secs_f64() * 1e3;
        let mut all = json!({
            "schema": "qc.bench/1",
            "name": self.model.predictor.name(),
            "tier": self.context.tier(),
            "threads": self.context.threads(),
            "batch": self.batch,
            "runs": s.runs,
            "median_ms": s.median,
            "p90_ms": s.p90,
            "p99_ms": s.p99,
            "min_ms": s.min,
            "mean_ms": s.mean,
            "variation": s.variation,
            "images_per_s": self.images_per_s(s),
            "load_ms": if self.model.is_jit { None } else { Some(ready) },
            "compile_ms": if self.model.is_jit { Some(ready) } else { None },
            "context_ms": self.created.as_secs_f64() * 1e3,
            "arena_bytes": self.context.arena_bytes(),
            "weights_bytes": self.model.note.weights_bytes,
        });
        if self.shapes.len() > 1 {
            let one = |(shape, s): &(String, Stats)| {
                json!({
                    "shape": shape, "runs": s.runs, "median_ms": s.median, "p90_ms": s.p90, "p99_ms": s.p99,
                    "min_ms": s.min, "mean_ms": s.mean, "variation": s.variation, "images_per_s": self.images_per_s(s),
                })
            };
            all["shapes"] = self.shapes.iter().map(one).collect();
        }
        if let Some(steps) = &self.steps {
            all["peak_int8_gops"] = json!(steps.peak_int8);
            all["peak_f32_gops"] = json!(steps.peak_f32);
            all["bandwidth_gbs"] = json!(steps.memory.speeds);
            all["steps"] = steps.json();
        }
        all
    }

    fn text(&self, verbose: bool) -> String {
        let mut text = format!(
            "{}  {}, batch {}, {} thread{}\n",
            self.model.predictor.name(),
            self.context.tier(),
            self.batch,
            self.context.threads(),
            if self.context.threads() == 1 { "" } else { "s" }
        );
        for (shape, s) in &self.shapes {
            if !shape.is_empty() {
                text += &format!("shape    {shape}\n");
            }
            text += &format!("median   {:.3} ms   p90 {:.3}   p99 {:.3}   min {:.3}\n", s.median, s.p90, s.p99, s.min);
            text += &format!("speed    {:.1} images/s over {} runs\n", self.images_per_s(s), s.runs);
        }
        let ready = if self.model.is_jit { "compiled" } else { "loaded" };
        let (ms, arena) = (self.model.ready_in.as_secs_f64() * 1e3, bytes(self.context.arena_bytes()));
        text += &format!("memory   {arena} arena, {} weights\n", bytes(self.model.note.weights_bytes));
        text += &format!("start    {ready} in {ms:.1} ms, context in {:.1} ms\n", self.created.as_secs_f64() * 1e3);
        if let Some(steps) = &self.steps {
            text += "\n";
            text += &steps.text(verbose);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let s = Stats::of((1..=100).rev().map(|n| f64::from(n) / 1e3).collect());
        assert_eq!((s.min, s.median, s.p90, s.p99, s.runs), (1.0, 50.0, 90.0, 99.0, 100));
        let one = Stats::of(vec![0.002]);
        assert_eq!((one.min, one.median, one.p99, one.variation), (2.0, 2.0, 2.0, 0.0));
    }

    #[test]
    fn seconds() {
        assert_eq!(parse_seconds("0.5s"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "inf", "x", "1e9"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
