//! Models against peer engines, measured side by side, and the machine's own peak.
//!
//! Every measurement is a process of its own, pinned to the same cores where `taskset` exists; engines take turns, round
//! by round, so that what else the machine does hits all alike. What counts are the ratios within a round.

mod worker;

use clap::Parser;
use qc_compiler::TargetCpu;
use qc_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Measures models on qc and on peer engines in turns.
#[derive(Parser)]
struct Cli {
    /// ONNX models.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// A Python that has the peers (onnxruntime, openvino, numpy); without it only qc is measured.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Peers: ov (OpenVINO), ort (ONNX Runtime).
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
    /// Let qc compute in f32 and give the peak of f32; peers compute what the model says.
    #[arg(long)]
    fp32: bool,
    /// Hold engines to an instruction tier: scalar, avx2, avxvnni, avx512vnni. OpenVINO follows; ONNX Runtime cannot be
    /// held and is left out.
    #[arg(long)]
    cpu: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Measure one model in this process and print one line.
    #[arg(long, hide = true)]
    worker: bool,
}

/// One measurement.
#[derive(Clone, Serialize, Deserialize)]
struct Sample {
    median_ms: f64,
    min_ms: f64,
    runs: usize,
}

/// All rounds of one engine on one model.
#[derive(Serialize)]
struct Row {
    model: String,
    engine: String,
    median_ms: f64,
    min_ms: f64,
    /// Engine time over qc time in the same round: median, smallest, largest.
    ratio: [f64; 3],
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cli = Cli::parse();
    let target = cli.cpu.as_deref().map_or(Ok(TargetCpu::Host), TargetCpu::parse)?;
    let isa = target.tiers().last().copied().unwrap_or(Isa::Scalar);
    if cli.worker {
        let sample = worker::measure(&cli.models[0], cli.seconds, cli.threads, target, cli.fp32)?;
        println!("{}", serde_json::to_string(&sample)?);
        return Ok(());
    }
    let peak = worker::peak_gmacs(isa, cli.fp32);
    let mut rows = Vec::new();
    for model in &cli.models {
        rows.extend(measure_model(&cli, model)?);
    }
    if cli.json {
        println!("{}", serde_json::json!({ "schema": "qc.bench-peers/1", "peak_gmacs": peak, "rows": rows }));
        return Ok(());
    }
    let arithmetic = if cli.fp32 { "f32" } else { "int8" };
    println!("peak of one core, {arithmetic}, {}: {peak:.0} GMAC/s", isa.name());
    let mut table = comfy_table::Table::new();
    table.set_header(["model", "engine", "median ms", "min ms", "time / qc time (smallest .. largest)"]);
    for r in &rows {
        let [median, low, high] = r.ratio;
        table.add_row([
            r.model.clone(),
            r.engine.clone(),
            format!("{:.3}", r.median_ms),
            format!("{:.3}", r.min_ms),
            format!("{median:.2} ({low:.2} .. {high:.2})"),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn measure_model(cli: &Cli, model: &Path) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let mut engines = vec!["qc".to_string()];
    if cli.python.is_some() {
        let held = |peer: &&String| cli.cpu.is_none() || *peer == "ov";
        engines.extend(cli.peers.iter().filter(held).cloned());
    }
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); engines.len()];
    for _ in 0..cli.rounds {
        for (engine, own) in engines.iter().zip(&mut samples) {
            own.push(run_worker(cli, engine, model)?);
        }
    }
    let name = model.parent().and_then(|p| p.file_name()).map_or("", |n| n.to_str().unwrap_or(""));
    let file = model.file_name().map_or("", |n| n.to_str().unwrap_or(""));
    let row = |(engine, own): (&String, &Vec<Sample>)| {
        let ratios = own.iter().zip(&samples[0]).map(|(a, b)| a.median_ms / b.median_ms).collect();
        Row {
            model: format!("{name}/{file}"),
            engine: engine.clone(),
            median_ms: median(own.iter().map(|s| s.median_ms).collect())[0],
            min_ms: own.iter().map(|s| s.min_ms).fold(f64::INFINITY, f64::min),
            ratio: median(ratios),
        }
    };
    Ok(engines.iter().zip(&samples).map(row).collect())
}

fn median(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[values.len() / 2], values[0], values[values.len() - 1]]
}

/// One measurement in a process of its own.
fn run_worker(cli: &Cli, engine: &str, model: &Path) -> Result<Sample, Box<dyn std::error::Error>> {
    let cores = format!("{}-{}", cli.core, cli.core + cli.threads as usize - 1);
    let pinned = Command::new("taskset").arg("--version").output().is_ok();
    let mut words: Vec<String> = if pinned { vec!["taskset".into(), "-c".into(), cores] } else { vec![] };
    if engine == "qc" {
        words.push(std::env::current_exe()?.display().to_string());
        words.extend(["--worker".into(), model.display().to_string()]);
        words.extend(["-t".into(), cli.seconds.to_string(), "--threads".into(), cli.threads.to_string()]);
        words.extend(cli.fp32.then(|| "--fp32".to_string()));
        words.extend(cli.cpu.iter().flat_map(|cpu| ["--cpu".to_string(), cpu.clone()]));
    } else {
        let python = cli.python.as_ref().ok_or("a peer needs --python")?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers.py");
        words.extend([python.display().to_string(), script.into(), engine.into()]);
        words.extend([model.display().to_string(), cli.seconds.to_string(), cli.threads.to_string()]);
    }
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("OMP_NUM_THREADS", cli.threads.to_string());
    if let Some(cpu) = &cli.cpu {
        command.env("ONEDNN_MAX_CPU_ISA", onednn_name(cpu));
    }
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rfind(|l| l.starts_with('{'));
    let line = line.ok_or_else(|| format!("{engine}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(serde_json::from_str(line)?)
}

/// What oneDNN, which OpenVINO is built on, calls a tier.
fn onednn_name(cpu: &str) -> &str {
    match cpu {
        "scalar" => "SSE41",
        "avx2" => "AVX2",
        "avxvnni" => "AVX2_VNNI",
        "avx512vnni" => "AVX512_CORE_VNNI",
        _ => "DEFAULT",
    }
}
