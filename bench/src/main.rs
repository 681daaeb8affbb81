//! Models against peer engines, measured side by side, and the machine's own peak.
//!
//! Every measurement is a process of its own, pinned to the same cores where `taskset` exists; engines take turns, round
//! by round, so that what else the machine does hits all alike. What counts are the ratios within a round.

mod peers;
mod report;
mod worker;

use clap::Parser;
use qc_compiler::{CompileOptions, Compiler, Precision, ShapeSpec, TargetCpu, write_artefact};
use qc_kernels::Tier;
use report::{Report, Row};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Measures models on qc and on peer engines in turns.
#[derive(Parser)]
struct Cli {
    /// ONNX models.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// A Python that has the peers (onnxruntime, openvino, numpy).
    #[arg(long)]
    python: Option<PathBuf>,
    /// A virtual environment with the peers; it is made and filled if it does not exist.
    #[arg(long, value_name = "DIR", conflicts_with = "python")]
    venv: Option<PathBuf>,
    /// Peers: ov (OpenVINO), ort (ONNX Runtime). They need --python or --venv, without which only qc is measured.
    #[arg(long, value_delimiter = ',', default_value = "ov,ort")]
    peers: Vec<String>,
    /// Threads of every engine.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds per measurement.
    #[arg(short = 't', long, default_value_t = 2.0)]
    seconds: f64,
    /// First core to pin to.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// The shape of an input, such as `input_ids[1,128]`, for each input that leaves dims open.
    #[arg(long, value_name = "NAME[DIMS]", value_parser = ShapeSpec::from_str)]
    shape: Vec<ShapeSpec>,
    /// Let qc compute in f32 and give the peak of f32; peers compute what the model says.
    #[arg(long)]
    fp32: bool,
    /// Hold engines to an instruction tier, by its name. OpenVINO follows; ONNX Runtime cannot be
    /// held and is left out.
    #[arg(long)]
    cpu: Option<String>,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table in Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Compare the ratios with those of an earlier --json report.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Measure one compiled model in this process and print one line.
    #[arg(long, hide = true)]
    worker: bool,
}

/// One measurement.
#[derive(Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Median time of a run.
    pub median_ms: f64,
    /// Time of the fastest run.
    pub min_ms: f64,
    /// Runs.
    pub runs: usize,
    /// From the file on disk to the first result, the engine's code being loaded.
    pub load_ms: f64,
    /// Growth of resident memory from before the engine was loaded to the end.
    pub memory_mb: f64,
    /// Files needed at run time: model and engine.
    pub files_mb: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    if cli.worker {
        let sample = worker::measure(&cli.models[0], cli.seconds, cli.threads)?;
        println!("{}", serde_json::to_string(&sample)?);
        return Ok(());
    }
    let python = match &cli.venv {
        Some(dir) => Some(peers::environment(dir)?),
        None => cli.python.clone(),
    };
    let baseline = cli.compare.as_deref().map(Report::read).transpose()?;
    let target = cli.cpu.as_deref().map_or(Ok(TargetCpu::Host), TargetCpu::parse)?;
    let tier = target.tiers().last().copied().unwrap_or(Tier::Scalar);
    let mut report = Report::new(tier.name(), cli.fp32, cli.threads, worker::peak_gmacs(tier, cli.fp32));
    for model in &cli.models {
        report.rows.extend(measure_model(&cli, &target, python.as_deref(), model)?);
    }
    println!("{}", report.table(baseline.as_ref()));
    if let Some(path) = &cli.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    if let Some(path) = &cli.markdown {
        std::fs::write(path, report.markdown())?;
    }
    Ok(())
}

/// Measures one model on all engines.
fn measure_model(
    cli: &Cli,
    target: &TargetCpu,
    python: Option<&Path>,
    model: &Path,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("qc-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let artefact = folder.join("model.so");
    let precision = if cli.fp32 { Precision::Fp32 } else { Precision::Auto };
    let shapes = cli.shape.clone();
    let options = CompileOptions { target: target.clone(), precision, shapes, ..CompileOptions::default() };
    let compiled = Compiler::new(options).compile(model)?;
    write_artefact(&compiled, &artefact)?;
    let mut engines = vec!["qc".to_string()];
    if python.is_some() {
        let held = |peer: &&String| cli.cpu.is_none() || *peer == "ov";
        engines.extend(cli.peers.iter().filter(held).cloned());
    }
    let process = peers::Process {
        seconds: cli.seconds,
        threads: cli.threads,
        core: cli.core,
        cpu: cli.cpu.as_deref(),
        shapes: &cli.shape,
        python,
    };
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); engines.len()];
    for _ in 0..cli.rounds {
        for (engine, own) in engines.iter().zip(&mut samples) {
            let file = if engine == "qc" { artefact.as_path() } else { model };
            own.push(process.run(engine, file)?);
        }
    }
    std::fs::remove_dir_all(&folder)?;
    let name = model.parent().and_then(|p| p.file_name()).map_or("", |n| n.to_str().unwrap_or(""));
    let file = model.file_name().map_or("", |n| n.to_str().unwrap_or(""));
    let name = format!("{name}/{file}");
    let gmacs = compiled.account.macs().1 as f64 / 1e9;
    Ok(engines.iter().zip(&samples).map(|(engine, own)| Row::new(&name, engine, gmacs, own, &samples[0])).collect())
}
